"""The room of checksums at work: long bodies are summed up in a thread, and downloads compared with what S3 said."""

from __future__ import annotations

from ..._types import Buffer
from ...errors import ChecksumMismatch
from ..threads import run_blocking
from .checksum import MODE_HEADER, checksum_fault, upload_checksum
from .errors import where
from .hedging import Outcome
from .request import Request, Response

_INLINE = 2**20
"""Bytes up to which it costs less than a thread."""


async def checksum_of(payload: Buffer) -> tuple[str, str]:
    """Name and value of the header that an upload sums itself up with."""
    if memoryview(payload).nbytes <= _INLINE:
        return upload_checksum(payload)
    return await run_blocking(upload_checksum, payload)


async def verified(request: Request, outcome: Outcome) -> Outcome:
    """The outcome itself, or a ChecksumMismatch instead of an answer whose bytes are not what they were."""
    if not isinstance(outcome, Response) or outcome.status != 200 or MODE_HEADER not in request.headers:
        return outcome
    headers, body = outcome.headers, outcome.body
    if memoryview(body).nbytes <= _INLINE:
        fault = checksum_fault(headers, body)
    else:
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
