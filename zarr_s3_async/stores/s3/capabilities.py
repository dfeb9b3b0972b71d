"""What an S3 server can do: conditional writes, known of Amazon's servers and probed on all others.

Some S3-compatible servers ignore preconditions silently and answer 200, so a claim is not enough. Each of the four
capabilities is probed when it is first needed (the two of PutObject together: who creates soon replaces), on a
throwaway key beside the object in question, with a precondition that must fail: a server that ignores it carries the
write out.
"""

from __future__ import annotations

import warnings
from asyncio import Lock
from collections.abc import Awaitable, Callable, Mapping
from typing import Literal, TypeAlias

from ..base import PROBE
from .errors import error_of
from .request import Request, Response
from .retry import RetryingTransport
from .sdk.endpoint import is_amazon
from .write_ids import new_id

Capability: TypeAlias = Literal["put-absent", "put-match", "delete-match", "multipart-complete"]

_OF_PUT: tuple[Capability, ...] = ("put-absent", "put-match")
_NO_ETAG = '"00000000000000000000000000000000"'


class Capabilities:
    """Of one bucket, for one S3Config.

    Args:
        endpoint_url: Tells where requests go; asked once.
        transport: Sends the probes.
    """

    __slots__ = ("_amazon", "_endpoint_url", "_known", "_probing", "_transport", "_warned")

    def __init__(self, endpoint_url: Callable[[], Awaitable[str]], transport: RetryingTransport) -> None:
        self._endpoint_url = endpoint_url
        self._transport = transport
        self._amazon: bool | None = None
        self._known: dict[Capability, bool] = {}
        self._probing = Lock()
        self._warned = False

    def __repr__(self) -> str:
        return f"<Capabilities {self._known}>"

    async def amazon(self) -> bool:
        """True where the bucket is at Amazon's."""
        if self._amazon is None:
            self._amazon = is_amazon(await self._endpoint_url())
        return self._amazon

    async def have(self, capability: Capability, near: Request) -> bool:
        """True where the server has it.

        Args:
            capability: Which.
            near: The request that needs it: it lends its place and its headers to the probe.

        Raises:
            StoreError: It could not be told. The next who asks tries again.
        """
        if await self.amazon():
            return True
        known = self._known.get(capability)
        if known is None:
            async with self._probing:
                if capability not in self._known:
                    together = _OF_PUT if capability in _OF_PUT else (capability,)
                    self._known.update(await self._probe(together, near))
                known = self._known[capability]
        return known

    async def completes_atomically(self) -> bool:
        """True where one of several completions under one precondition wins, however close they come.

        Amazon documents it. No probe tells: SeaweedFS 4.48 heeds the precondition of a completion and lets, at times,
        two of four at once win, which it does not do with those of PutObject.
        """
        return await self.amazon()

    def warn(self, bucket: str) -> None:
        """Say once that writes are not safe from other processes here."""
        if not self._warned:
            self._warned = True
            warnings.warn(
                f"the S3 server of bucket {bucket!r} has no conditional writes: tasks of one session do not lose each "
                "other's updates, but other processes and sessions may; conditional_writes='require' refuses to "
                "write, 'off' silences this",
                RuntimeWarning,
                stacklevel=2,
            )

    async def _probe(self, capabilities: tuple[Capability, ...], near: Request) -> dict[Capability, bool]:
        folder = near.key.rpartition("/")[0]
        key = f"{folder}/{PROBE}{new_id()}" if folder else PROBE + new_id()
        plain = {name: value for name, value in near.headers.items() if _is_storage(name)}
        put = Request("PutObject", near.bucket, key, plain, payload=b"probe")
        response, attempts = await self._transport.send(put)
        if response.status in _UNSUPPORTED:
            return dict.fromkeys(capabilities, False)
        if not response.ok:
            raise error_of(put, response, attempts)
        try:
            return {capability: await self._is_refused(capability, put) for capability in capabilities}
        finally:
            await self._transport.send(Request("DeleteObject", near.bucket, key, _payer(plain)))

    async def _is_refused(self, capability: Capability, put: Request) -> bool:
        """Ask for what must fail now that the key exists."""
        if capability == "multipart-complete":
            # Both: moto 5.2 heeds the first and ignores the second.
            conditions = ({"if-none-match": "*"}, {"if-match": _NO_ETAG})
            return all([await self._is_completion_refused(put, condition) for condition in conditions])
        request = _CONDITIONAL[capability](put)
        response, attempts = await self._transport.send(request)
        return _verdict(request, response, attempts)

    async def _is_completion_refused(self, put: Request, condition: Mapping[str, str]) -> bool:
        begin = Request("CreateMultipartUpload", put.bucket, put.key, put.headers)
        begun, attempts = await self._transport.send(begin)
        if not begun.ok:
            return _verdict(begin, begun, attempts)
        upload, payer = {"uploadId": str((begun.document or {})["UploadId"])}, _payer(put.headers)
        try:
            part = Request("UploadPart", put.bucket, put.key, payer, {**upload, "partNumber": "1"}, payload=b"probe")
            uploaded, attempts = await self._transport.send(part)
            if not uploaded.ok:
                return _verdict(part, uploaded, attempts)
            parts = {"Parts": [{"PartNumber": 1, "ETag": uploaded.headers["etag"]}]}
            headers = {**payer, **condition}
            complete = Request("CompleteMultipartUpload", put.bucket, put.key, headers, upload, document=parts)
            completed, attempts = await self._transport.send(complete)
            return _verdict(complete, completed, attempts)
        finally:
            await self._transport.send(Request("AbortMultipartUpload", put.bucket, put.key, payer, upload))


class AllSupported(Capabilities):
    """Of a server that is known to have them all."""

    __slots__ = ()

    def __init__(self) -> None:
        self._known = {}

    async def amazon(self) -> bool:
        """Not of necessity."""
        return False

    async def completes_atomically(self) -> bool:
        """Always."""
        return True

    async def have(self, capability: Capability, near: Request) -> bool:  # noqa: ARG002  # whatever it is
        """Always."""
        return True


_UNSUPPORTED = frozenset({400, 403, 405, 501})


def _verdict(request: Request, response: Response, attempts: int) -> bool:
    if response.status in (409, 412):
        return True
    if response.ok or response.status in _UNSUPPORTED:
        return False
    raise error_of(request, response, attempts)


def _put_absent(put: Request) -> Request:
    return Request("PutObject", put.bucket, put.key, {**put.headers, "if-none-match": "*"}, payload=b"ignored")


def _put_match(put: Request) -> Request:
    return Request("PutObject", put.bucket, put.key, {**put.headers, "if-match": _NO_ETAG}, payload=b"ignored")


def _delete_match(put: Request) -> Request:
    return Request("DeleteObject", put.bucket, put.key, {**_payer(put.headers), "if-match": _NO_ETAG})


_CONDITIONAL: dict[str, Callable[[Request], Request]] = {
    "put-absent": _put_absent,
    "put-match": _put_match,
    "delete-match": _delete_match,
}


def _is_storage(name: str) -> bool:
    return name.startswith(("x-amz-server-side-encryption", "x-amz-storage-class", "x-amz-request-payer"))


def _payer(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name == "x-amz-request-payer"}
