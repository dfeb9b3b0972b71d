"""Multipart uploads: created, sent as parallel parts, and completed with the put's precondition.

S3 User Guide, "Uploading and copying objects using multipart upload". An upload is invisible until it is completed. If
it is not completed for any reason, it is aborted, since its parts would be stored, and charged for.
"""

from __future__ import annotations

import logging
from asyncio import timeout
from collections.abc import Iterator, Mapping
from functools import partial
from typing import Any, Final

from ..._concurrency.blocking import run_to_completion
from ..._concurrency.workers import run_workers
from ..._types import Buffer, Version, When
from ...config import S3Config
from ...errors import StoreError
from .capabilities import Capability
from .checksums import checksum_of
from .conditional import ConditionalWrites
from .errors import error_of, is_missing_upload, must_restart_upload, where
from .request import Request
from .retry import RetryingTransport
from .write_ids import header_of, history_including, if_match, new_id, version_with_history

log: logging.Logger = logging.getLogger("zarr_s3_async")

MAX_PUT: Final = 5 * 2**30
"""Maximum bytes of an object in one PutObject."""
_MAX_PARTS = 10_000
_MIB = 2**20
_AT_ONCE = 8
"""Maximum parts of one object in flight: each takes a request slot, and the SDK copies its payload."""
_UPLOADS = 3
"""Attempts to upload an object if S3 requires all of its parts again."""
_ABORT_SECONDS = 10.0
_UNKNOWN = (405, 501)
"""Statuses of servers without this operation."""


class NoMultipart(Exception):
    """The server does not support multipart uploads. Internal to stores/s3."""


class _RestartUpload(Exception):
    """This upload cannot be completed any more, but a new one can."""

    def __init__(self, error: StoreError) -> None:
        super().__init__(error)
        self.error = error


class Multipart:
    """The multipart uploads of one store."""

    __slots__ = ("_above", "_conditional", "_missing", "_part_bytes", "_transport")

    def __init__(self, transport: RetryingTransport, conditional: ConditionalWrites, config: S3Config) -> None:
        self._transport = transport
        self._conditional = conditional
        self._above = config.multipart_bytes
        self._part_bytes = config.part_bytes
        self._missing = False

    def takes(self, payload: Buffer) -> bool:
        """True for an object to be uploaded in parts."""
        size = memoryview(payload).nbytes
        return size > self._above and not (self._missing and size <= MAX_PUT)

    async def condition(self, put: Request, when: When) -> When | None:
        """The precondition of the completion; None if the object must be stored by one PutObject to guarantee `when`.

        Raises:
            Unsupported: Neither can guarantee it, and the option requires it.
        """
        if when == "always" or await self._conditional.completes_atomically():
            return when
        single: Capability = "put-absent" if when == "absent" else "put-match"
        if memoryview(put.payload or b"").nbytes <= MAX_PUT and await self._conditional.has(single, put):
            return None
        return when if await self._conditional.applies("multipart-complete", put) else "always"

    async def put(self, put: Request, when: When, *, checksums: bool) -> Version:
        """Store the payload of a PutObject in parts.

        Args:
            put: The PutObject request that is replaced: key, storage headers, payload.
            when: The precondition of the completion.
            checksums: Send a checksum with every part.

        Raises:
            Conflict: The precondition failed, and nothing has changed.
            NoMultipart: The server does not support it, and the object fits into one PutObject.
        """
        error: StoreError | None = None
        for _ in range(_UPLOADS):
            try:
                return await _Upload(self._transport, self._conditional, put, when, self._part_bytes, checksums).run()
            except _RestartUpload as again:
                error = again.error
            except NoMultipart:
                self._missing = True
                raise
        assert error is not None  # noqa: S101  # the loop has returned, raised, or set it
        raise error


class _Upload:
    """One upload."""

    __slots__ = (
        "_checksums",
        "_conditional",
        "_failure",
        "_id",
        "_part",
        "_payer",
        "_put",
        "_sent",
        "_transport",
        "_view",
        "_when",
    )

    def __init__(
        self,
        transport: RetryingTransport,
        conditional: ConditionalWrites,
        put: Request,
        when: When,
        part_bytes: int,
        checksums: bool,
    ) -> None:
        self._transport = transport
        self._conditional = conditional
        self._put = put
        self._when = when
        self._checksums = checksums
        self._payer = {name: value for name, value in put.headers.items() if name == "x-amz-request-payer"}
        self._view = memoryview(put.payload or b"").cast("B")
        self._part = part_length(len(self._view), part_bytes)
        self._id: Mapping[str, str] | None = None
        self._sent: dict[int, dict[str, Any]] = {}
        self._failure: Exception | None = None

    async def run(self) -> Version:
        """Create the upload, send its parts, complete it; abort it on any failure."""
        writes = history_including(new_id(), self._when)
        try:
            # Even if cancelled: otherwise the id of the upload would be lost, and the upload could not be aborted.
            upload = await run_to_completion(self._begin(header_of(writes)))
            await run_workers(_AT_ONCE, self._numbers(), partial(self._try_part, upload))
            if self._failure is not None:
                raise self._failure
            # A cancellation between request and response would leave it unknown whether the object was replaced.
            return await run_to_completion(self._complete(upload, writes))
        except BaseException:
            if self._id is not None:
                # Also when cancelled: S3 charges for the parts of an upload until it is aborted.
                await run_to_completion(self._abort(self._id))
            raise

    def _request(self, operation: Any, more: Mapping[str, str], upload: Mapping[str, str], **rest: Any) -> Request:
        return Request(operation, self._put.bucket, self._put.key, {**self._payer, **more}, upload, **rest)

    async def _begin(self, ids: Mapping[str, str]) -> Mapping[str, str]:
        headers = {**self._put.headers, **ids}
        if self._checksums:
            name, _ = await checksum_of(b"")
            headers["x-amz-checksum-algorithm"] = name.rpartition("-")[2].upper()
        request = self._request("CreateMultipartUpload", headers, {})
        response, attempts = await self._transport.send(request)
        if response.status in _UNKNOWN and len(self._view) <= MAX_PUT:
            raise NoMultipart
        if not response.ok:
            raise error_of(request, response, attempts)
        self._id = {"uploadId": str((response.document or {})["UploadId"])}
        return self._id

    def _numbers(self) -> Iterator[int]:
        """Numbers of the parts. After a failure no further part is started, and those in flight finish."""
        for number in range(1, -(-len(self._view) // self._part) + 1):
            if self._failure is not None:
                return
            yield number

    async def _try_part(self, upload: Mapping[str, str], number: int) -> None:
        try:
            self._sent[number] = await self._send(number, upload)
        except Exception as error:  # noqa: BLE001  # raised by _send_parts, once the others have ended
            if self._failure is None:
                self._failure = error

    async def _send(self, number: int, upload: Mapping[str, str]) -> dict[str, Any]:
        """Send one part; returns its entry in the completion document."""
        piece = self._view[(number - 1) * self._part : number * self._part]
        headers: dict[str, str] = {}
        named: dict[str, Any] = {"PartNumber": number}
        if self._checksums:
            name, value = await checksum_of(piece)
            headers[name] = value
            named["Checksum" + name.rpartition("-")[2].upper()] = value
        request = self._request("UploadPart", headers, {**upload, "partNumber": str(number)}, payload=piece)
        response, attempts = await self._transport.send(request)
        if response.ok:
            return {**named, "ETag": response.headers["etag"]}
        error = error_of(request, response, attempts)
        # The upload was aborted meanwhile, by a lifecycle rule for example: its parts are lost, but the data is still
        # here.
        raise _RestartUpload(error) if must_restart_upload(response) else error

    async def _complete(self, upload: Mapping[str, str], writes: tuple[str, ...]) -> Version:
        parts = [self._sent[number] for number in sorted(self._sent)]
        request = self._request("CompleteMultipartUpload", self._condition(), upload, document={"Parts": parts})
        response, attempts = await self._transport.send(request)
        if response.ok:
            self._id = None
            etag = str((response.document or {})["ETag"]).strip('"')
            return version_with_history(
                f'"{etag}"',
                writes,  # quoted as in the ETag header; some servers' documents omit the quotes
            )
        if attempts > 1 and (is_missing_upload(response) or self._conditional.is_conflict(response)):
            # An attempt without a response may have been executed: then the upload does not exist, and the object is
            # ours.
            mine = await self._conditional.read_back(self._put, writes[0])
            if mine is not None:
                self._id = None
                return mine
        error = self._conditional.error(request, response, attempts)
        raise _RestartUpload(error) if must_restart_upload(response) else error

    def _condition(self) -> dict[str, str]:
        if self._when == "always":
            return {}
        return {"if-none-match": "*"} if self._when == "absent" else {"if-match": if_match(Version(self._when))}

    async def _abort(self, upload: Mapping[str, str]) -> None:
        """Abort an upload. A failure is logged, not raised: it would hide the error that ended the upload."""
        request = self._request("AbortMultipartUpload", {}, upload)
        try:
            async with timeout(_ABORT_SECONDS):
                response, _ = await self._transport.send(request)
            if response.ok or is_missing_upload(response):
                return
            problem = f"it answered {response.status}"
        except (StoreError, TimeoutError) as error:
            problem = str(error) or "no response in time"
        log.warning(
            "%s: upload %s could not be aborted (%s): its parts are kept until a lifecycle rule of the bucket ends it",
            where(request),
            upload["uploadId"],
            problem,
        )


def part_length(size: int, part_bytes: int) -> int:
    """Bytes of a part for an object of `size` bytes, increased in MiB if there would be too many parts."""
    min_length = -(-size // _MAX_PARTS)
    return part_bytes if min_length <= part_bytes else -(-min_length // _MIB) * _MIB
