"""Diagnose one bucket: credentials, endpoint, connection, clock, permissions and conditional writes."""

from __future__ import annotations

from collections.abc import AsyncIterator
from time import time
from typing import Literal, NamedTuple, TypeAlias

from ..._policy.backoff import parse_http_date
from ...errors import AccessDenied, StoreError, ZarrS3Error
from .errors import error_of
from .request import Request, Response
from .sdk.describe import describe_credentials
from .sdk.endpoint import is_amazon
from .store import S3Store

Outcome: TypeAlias = Literal["ok", "warning", "failed", "skipped"]
_SKEW_SECONDS = 60.0
"""S3 refuses requests whose clock is off by 15 minutes; more than a minute should be corrected."""


class Finding(NamedTuple):
    """The result of one check."""

    name: str
    outcome: Outcome
    detail: str
    advice: str = ""


async def diagnose(store: S3Store, *, write: bool) -> AsyncIterator[Finding]:
    """Run the checks one by one; a failure ends the checks that depend on it.

    Args:
        store: The prefix to diagnose.
        write: Probe conditional writes too, with temporary keys below the prefix.
    """
    try:
        found = await describe_credentials(store.config)
    except ZarrS3Error as error:
        yield Finding("credentials", "failed", _text(error), "see docs/configuration.md for the order of the sources")
        return
    yield Finding("credentials", "ok", f"{found.source}{f', key {found.key}' if found.key else ''}")
    try:
        endpoint = await store.endpoint_url()
    except ZarrS3Error as error:
        advice = "an endpoint begins with http:// or https://" if "Invalid endpoint" in str(error) else ""
        yield Finding("endpoint", "failed", _text(error), advice)
        return
    kind = "Amazon's" if is_amazon(endpoint) else "an S3-compatible server"
    yield Finding("endpoint", "ok", f"{endpoint}, {kind}")
    request = Request(
        # A listing is the cheapest request that proves name, region, keys and permission at once.
        "ListObjectsV2",
        store.bucket,
        "",
        {},
        {"prefix": f"{store.prefix}/" if store.prefix else "", "max-keys": "1"},
    )
    try:
        response, attempts = await store.send(request)
    except StoreError as error:
        advice = "is the endpoint URL right, and does the server run?"
        if "WRONG_VERSION_NUMBER" in str(error):
            advice = "this port serves no TLS: does the endpoint URL begin with http:// instead of https://?"
        yield Finding("connection", "failed", _text(error), advice)
        return
    yield Finding(
        "connection", "ok", f"answered {response.status}" + (f" after {attempts} attempts" if attempts > 1 else "")
    )
    if (clock := _clock(response)) is not None:
        yield clock
    yield _listing(request, response, attempts)
    if not response.ok:
        yield Finding("conditional writes", "skipped", "the bucket cannot be listed")
    elif not write:
        yield Finding(
            "conditional writes",
            "skipped",
            "not requested: the probe writes temporary objects",
            "write=True probes them",
        )
    else:
        yield await _conditional(store)


def _clock(response: Response) -> Finding | None:
    date = parse_http_date(response.headers.get("date"))
    if date is None:
        return None
    ahead = time() - date
    if abs(ahead) <= _SKEW_SECONDS:
        return Finding("clock", "ok", "within a minute of the server's")
    where = "ahead of" if ahead > 0 else "behind"
    detail = f"{abs(ahead):,.0f} s {where} the server's; requests are signed with the server's time instead"
    return Finding("clock", "warning", detail, "set this machine's clock, or the server's")


def _listing(request: Request, response: Response, attempts: int) -> Finding:
    if response.ok:
        return Finding("bucket", "ok", f"{request.bucket} can be listed")
    error = error_of(request, response, attempts)
    advice = ""
    if isinstance(error, AccessDenied):
        advice = "wrong keys, or no s3:ListBucket, without which absent objects look forbidden (docs/iam.md)"
    return Finding("bucket", "failed", _text(error), advice)


async def _conditional(store: S3Store) -> Finding:
    name = "conditional writes"
    try:
        known = await store.honours_conditions()
    except StoreError as error:
        return Finding(name, "failed", _text(error))
    if known is None:
        return Finding(name, "warning", "the probe was refused: no s3:PutObject here, so arrays can be read only")
    if known:
        return Finding(name, "ok", "If-Match and If-None-Match are honoured")
    advice = "let one session write at a time to a chunk (docs/writers.md)"
    return Finding(name, "warning", "the server ignores If-Match or If-None-Match", advice)


def _text(error: Exception) -> str:
    return f"{' '.join(str(error).split())} ({type(error).__name__})"
