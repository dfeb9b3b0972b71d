"""Capabilities of S3 servers: conditional writes, which Amazon's servers support and all others are probed for.

Some S3-compatible servers silently ignore preconditions and respond 200, so each capability must be tested. Each of the
four is probed when it is first needed (the two of PutObject together), on a temporary key beside the object, with a
precondition that must fail (a server that ignores it executes the write), and with one that must hold (some servers
reject the version that they returned).

A probe that is refused (403, and other responses that depend on permissions or transient conditions) is inconclusive
and not cached: the next write that needs the capability probes again.
"""

from __future__ import annotations

import logging
import warnings
from asyncio import Lock
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import replace
from typing import Literal, TypeAlias

from ..._types import Version
from ...errors import AccessDenied, Conflict, StoreError, UnexpectedResponse, Unsupported
from ..base import PROBE
from .errors import error_of, is_missing_key, is_precondition_failed, is_unsupported, where
from .request import Request, Response
from .retry import RetryingTransport
from .sdk.endpoint import is_amazon
from .write_ids import if_match, new_id, version_of

log: logging.Logger = logging.getLogger("zarr_s3_async")

Capability: TypeAlias = Literal["put-absent", "put-match", "delete-match", "multipart-complete"]

_ACCEPT_ATTEMPTS = 4
"""Maximum number of attempts to have a server accept its own version, if responses are inconclusive."""
_OF_PUT: tuple[Capability, ...] = ("put-absent", "put-match")
_MAX_SKIPPED = 63
"""Maximum number of writes without a new probe after probes were refused repeatedly."""
_STORAGE_HEADERS = ("x-amz-server-side-encryption", "x-amz-storage-class", "x-amz-request-payer")
"""Headers of a write that its probes send, too."""
_NO_ETAG = '"00000000000000000000000000000000"'


class Capabilities:
    """The capabilities of one bucket's server, for one S3Config.

    Args:
        endpoint_url: Returns the URL that requests go to; called once.
        transport: Sends the probes.
    """

    __slots__ = (
        "_amazon",
        "_deletes_many",
        "_endpoint_url",
        "_known",
        "_probing",
        "_refusals",
        "_skip",
        "_transport",
        "_warned",
        "refusal",
    )

    def __init__(self, endpoint_url: Callable[[], Awaitable[str]], transport: RetryingTransport) -> None:
        self._endpoint_url = endpoint_url
        self._transport = transport
        self._amazon: bool | None = None
        self._deletes_many = True
        self._known: dict[Capability, bool] = {}
        self._probing = Lock()
        self._warned: set[str] = set()
        self._refusals = 0
        self._skip = 0
        self.refusal: str = ""
        """The response to the last refused probe."""

    def __repr__(self) -> str:
        return f"<Capabilities {self._known}>"

    async def endpoint_url(self) -> str:
        """The URL of the server that requests are sent to."""
        return await self._endpoint_url()

    async def amazon(self) -> bool:
        """True if the bucket is on Amazon S3."""
        if self._amazon is None:
            self._amazon = is_amazon(await self._endpoint_url())
        return self._amazon

    async def have(self, capability: Capability, near: Request, *, now: bool = False) -> bool | None:
        """Whether the server has a capability; None if the probe was refused (see `refusal`).

        Args:
            capability: The capability.
            near: The request that needs it; the probe uses a key beside its key, and its headers.
            now: Probe again after refusals in any case; otherwise increasingly rarely.

        Raises:
            StoreError: The probe got no response. The next call probes again.
        """
        if await self.amazon():
            return True
        known = self._known.get(capability)
        if known is None:
            async with self._probing:
                # Concurrent writers wait here for one probe, which may have found the answer meanwhile.
                known = self._known.get(capability)
                if known is None and (now or not self._skips()):
                    known = await self._find_out(capability, near)
        return known

    async def _find_out(self, capability: Capability, near: Request) -> bool | None:
        # One temporary object serves the probes of both preconditions of PutObject.
        together = _OF_PUT if capability in _OF_PUT else (capability,)
        verdicts = await self._probe(together, near)
        self._known.update({name: verdict for name, verdict in verdicts.items() if verdict is not None})
        if verdicts[capability] is None:
            # A refusal is usually a missing permission, which stays: a probe per write would double the requests.
            self._skip = min(2**self._refusals - 1, _MAX_SKIPPED)
            self._refusals += 1
        else:
            self._refusals = self._skip = 0
        return verdicts[capability]

    def _skips(self) -> bool:
        """True if this write is sent without a new probe, since earlier ones were refused."""
        self._skip -= 1
        return self._skip >= 0

    def is_known(self, capability: Capability) -> bool:
        """True if the server is known to have the capability."""
        return bool(self._amazon) or self._known.get(capability) is True

    def lacks(self, capability: Capability) -> None:
        """Record that the server rejected a write for lack of the capability."""
        self._known[capability] = False

    @property
    def deletes_many(self) -> bool:
        """False once the server has rejected DeleteObjects as unsupported."""
        return self._deletes_many

    def lacks_delete_many(self) -> None:
        """Record that the server does not support DeleteObjects."""
        self._deletes_many = False

    async def completes_atomically(self) -> bool:
        """True if of several concurrent completions with one precondition exactly one succeeds.

        Amazon documents it. A probe cannot detect it: SeaweedFS 4.48 evaluates the precondition of a completion, but
        sometimes lets two of four concurrent ones succeed, which does not happen with PutObject.
        """
        return await self.amazon()

    def warn_lacking(self, bucket: str) -> None:
        """Warn once that writes are not safe from other processes here."""
        self._warn(
            f"the S3 server of bucket {bucket!r} has no conditional writes: tasks of one session do not lose each "
            "other's updates, but other processes and sessions may; conditional_writes='require' refuses to "
            "write, 'off' silences this"
        )

    def warn_refused(self, bucket: str) -> None:
        """Warn once that it is unknown whether writes are safe from other processes here."""
        self._warn(
            f"it is unknown whether the S3 server of bucket {bucket!r} has conditional writes, since a probe was "
            f"refused ({self.refusal}): if it ignores them, other processes and sessions may lose updates; allow "
            f"PutObject and DeleteObject of keys that contain {PROBE!r}; conditional_writes='require' refuses to "
            "write meanwhile, 'off' silences this"
        )

    def _warn(self, text: str) -> None:
        kind = text[:12]
        if kind not in self._warned:
            self._warned.add(kind)
            warnings.warn(text, RuntimeWarning, stacklevel=3)

    async def _probe(self, capabilities: tuple[Capability, ...], near: Request) -> dict[Capability, bool | None]:
        # Beside the object: permissions often cover a prefix only.
        folder = near.key.rpartition("/")[0]
        key = f"{folder}/{PROBE}{new_id()}" if folder else PROBE + new_id()
        plain = {name: value for name, value in near.headers.items() if name.startswith(_STORAGE_HEADERS)}
        put = Request("PutObject", near.bucket, key, plain, payload=b"probe")
        response, attempts = await self._transport.send(put)
        if not response.ok:
            self._note_refusal(put, response, attempts)
            return dict.fromkeys(capabilities)
        try:
            return {capability: await self._is_refused(capability, put) for capability in capabilities}
        finally:
            await self._clean_up(Request("DeleteObject", near.bucket, key, _payer(plain)))

    async def _clean_up(self, request: Request) -> None:
        """Delete a probe's key; failures are only logged, since a remaining key is harmless."""
        try:
            response, _ = await self._transport.send(request)
            problem = "" if response.ok or response.status == 404 else f"it answered {response.status}"
        except StoreError as error:
            problem = str(error)
        if problem:
            log.warning("%s: a probe's key could not be deleted (%s)", where(request), problem)

    def _note_refusal(self, request: Request, response: Response, attempts: int) -> None:
        """Record the refusal of a probe for messages; raise errors that would stop the write itself too."""
        error = error_of(request, response, attempts)
        passes = isinstance(error, AccessDenied | Conflict | Unsupported) or is_missing_key(response)
        if not passes and not (type(error) is UnexpectedResponse and 400 <= response.status < 500):
            raise error
        self.refusal = f"{where(request)} answered {response.status} {error.code or ''}".rstrip()

    async def _is_refused(self, capability: Capability, put: Request) -> bool | None:
        """Send a write whose precondition must fail, since the key exists."""
        if capability == "multipart-complete":
            # Both are tested: moto 5.2 evaluates the first and ignores the second.
            conditions = ({"if-none-match": "*"}, {"if-match": _NO_ETAG})
            verdicts = [await self._is_completion_refused(put, condition) for condition in conditions]
            if verdicts[0] is False:  # as below, another writer may have deleted the key
                verdicts[0] = await self._is_completion_refused(put, conditions[0])
            return False if False in verdicts else None if None in verdicts else True
        request = _CONDITIONAL[capability](put, _NO_ETAG)
        response, attempts = await self._transport.send(request)
        if response.ok:
            # The precondition was ignored, or it held, because another writer has deleted the folder with the key. The
            # first decides about every later write, so it must happen twice.
            again, attempts = await self._transport.send(put)
            if not again.ok:
                self._note_refusal(put, again, attempts)
                return None
            response, attempts = await self._transport.send(request)
        verdict = self._verdict(request, response, attempts)
        return await self._accepts(capability, put) if verdict and capability != "put-absent" else verdict

    async def _accepts(self, capability: Capability, put: Request) -> bool | None:
        """Send a write whose precondition must hold: some servers, or proxies, reject the version that they
        returned."""
        for _ in range(_ACCEPT_ATTEMPTS):
            version = await self._version_of_probe(put)
            if version is None:
                return True  # without permission to read it cannot be tested; a write will show it
            request = _CONDITIONAL[capability](put, if_match(version))
            response, attempts = await self._transport.send(request)
            if response.ok:
                return True
            if response.status == 412 and attempts == 1:
                if await self._version_of_probe(put) == version:
                    return False
                continue  # another writer has deleted the key
            if not (is_precondition_failed(response) or is_missing_key(response)):
                self._note_refusal(request, response, attempts)
                return None
            # A 409 means: try again. After an attempt without a response, our own success may cause the rejection.
            if attempts > 1 and await self._version_of_probe(put) != version:
                return True
        self.refusal = f"{where(request)} answered {response.status} {_ACCEPT_ATTEMPTS} times"
        return None

    async def _version_of_probe(self, put: Request) -> Version | None:
        response, _ = await self._transport.send(Request("GetObject", put.bucket, put.key, _payer(put.headers)))
        return version_of(response.headers) if response.ok else None

    def _verdict(self, request: Request, response: Response, attempts: int) -> bool | None:
        if is_precondition_failed(response):
            return True
        if response.ok or is_unsupported(response):
            return False
        self._note_refusal(request, response, attempts)
        return None

    async def _is_completion_refused(self, put: Request, condition: Mapping[str, str]) -> bool | None:
        begin = Request("CreateMultipartUpload", put.bucket, put.key, put.headers)
        begun, attempts = await self._transport.send(begin)
        if not begun.ok:
            return self._verdict(begin, begun, attempts)
        upload, payer = {"uploadId": str((begun.document or {})["UploadId"])}, _payer(put.headers)
        try:
            part = Request("UploadPart", put.bucket, put.key, payer, {**upload, "partNumber": "1"}, payload=b"probe")
            uploaded, attempts = await self._transport.send(part)
            if not uploaded.ok:
                return self._verdict(part, uploaded, attempts)
            parts = {"Parts": [{"PartNumber": 1, "ETag": uploaded.headers["etag"]}]}
            headers = {**payer, **condition}
            complete = Request("CompleteMultipartUpload", put.bucket, put.key, headers, upload, document=parts)
            completed, attempts = await self._transport.send(complete)
            return self._verdict(complete, completed, attempts)
        finally:
            await self._clean_up(Request("AbortMultipartUpload", put.bucket, put.key, payer, upload))


_CONDITIONAL: dict[str, Callable[[Request, str], Request]] = {
    "put-absent": lambda put, _: replace(put, headers={**put.headers, "if-none-match": "*"}, payload=b"ignored"),
    "put-match": lambda put, etag: replace(put, headers={**put.headers, "if-match": etag}, payload=b"ignored"),
    "delete-match": lambda put, etag: Request(
        "DeleteObject", put.bucket, put.key, {**_payer(put.headers), "if-match": etag}
    ),
}
"""The conditional request that is to be refused, made from the put that stored the object and a version."""


def _payer(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name == "x-amz-request-payer"}
