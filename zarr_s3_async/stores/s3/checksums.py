"""Checksums of uploads, and verification of downloads; long bodies are processed in a thread."""

from __future__ import annotations

import hashlib
import zlib
from base64 import b64encode
from functools import cache
from typing import TYPE_CHECKING

from ..._concurrency.blocking import run_blocking
from ..._types import Buffer
from ...errors import ChecksumMismatch
from .errors import where
from .hedging import Outcome
from .request import Request, Response

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from ..._types import Buffer


MODE_HEADER = "x-amz-checksum-mode"
"""Header of a GET that requests the checksum; its value is ENABLED."""
_PREFIX = "x-amz-checksum-"


def upload_checksum(payload: Buffer) -> tuple[str, str]:
    """Header name and value: CRC-32C if a fast implementation is installed, otherwise CRC-32. S3 accepts either."""
    name = "crc32c" if "crc32c" in _algorithms() else "crc32"
    return _PREFIX + name, _encoded(_algorithms()[name](payload))


def checksum_fault(headers: Mapping[str, str], body: Buffer) -> str | None:
    """The mismatch of a whole object's checksum; None if it matches or there is none that can be verified."""
    # Computed over the parts of an upload, whose lengths a reader does not know.
    if headers.get("x-amz-checksum-type", "").upper() == "COMPOSITE":
        return None
    for name, algorithm in _algorithms().items():
        expected = headers.get(_PREFIX + name)
        if expected is not None and "-" not in expected:  # "…-3" is the checksum of the checksums of 3 parts
            found = _encoded(algorithm(body))
            return (
                None if found == expected else f"{_PREFIX}{name} is {expected}, but that of the received bytes {found}"
            )
    return None


@cache
def _algorithms() -> dict[str, Callable[[Buffer], bytes]]:
    """Implementations by S3's name, the cheapest first. CRC-64/NVME is not implemented, and not verified."""
    known: dict[str, Callable[[Buffer], bytes]] = {
        "crc32": _crc32,
        "sha1": lambda data: hashlib.sha1(data, usedforsecurity=False).digest(),
        "sha256": lambda data: hashlib.sha256(data).digest(),
    }
    try:
        from google_crc32c import value
    except ImportError:
        return known
    from numpy import frombuffer

    def crc32c(data: Buffer) -> bytes:
        # It accepts bytes and arrays, but no writable views.
        return int(value(frombuffer(data, "u1"))).to_bytes(4, "big")

    return {"crc32c": crc32c, **known}


def _crc32(data: Buffer) -> bytes:
    return zlib.crc32(data).to_bytes(4, "big")


def _encoded(digest: bytes) -> str:
    return b64encode(digest).decode()


_INLINE = 2**20
"""Maximum number of bytes for which computing a checksum costs less than a call in a thread."""


async def checksum_of(payload: Buffer) -> tuple[str, str]:
    """Name and value of an upload's checksum header."""
    if memoryview(payload).nbytes <= _INLINE:
        return upload_checksum(payload)
    return await run_blocking(upload_checksum, payload)


async def verified(request: Request, outcome: Outcome) -> Outcome:
    """The outcome, or a ChecksumMismatch if the bytes do not match their checksum."""
    if not isinstance(outcome, Response) or outcome.status != 200 or MODE_HEADER not in request.headers:
        return outcome
    headers, body = outcome.headers, outcome.body
    if memoryview(body).nbytes <= _INLINE:
        fault = checksum_fault(headers, body)
    else:  # in a thread, since hashing a large body would block the event loop
        fault = await run_blocking(checksum_fault, headers, body)
    if fault is None:
        return outcome
    return ChecksumMismatch(
        f"{where(request)}: {fault}; the object or its transport is damaged",
        bucket=request.bucket,
        key=request.key,
        status=200,
        request_id=headers.get("x-amz-request-id"),
    )
