"""The words of S3 requests on objects: options, ranges and versions as headers, answers as blobs. Pure."""

from __future__ import annotations

from ..._types import Version
from ...byte_range import ByteRange, Offset, Span, Suffix, checked, resolve
from ...config import S3Config
from ..base import Blob
from .faults import parse_content_range
from .request import Response
from .write_ids import version_of


def normalized_prefix(prefix: str) -> str:
    """Without slashes at either end."""
    return prefix.strip("/")


def storage_headers(config: S3Config) -> dict[str, str]:
    """How objects are to be stored."""
    named = {
        "x-amz-server-side-encryption": config.sse,
        "x-amz-server-side-encryption-aws-kms-key-id": config.sse_kms_key_id,
        "x-amz-storage-class": config.storage_class,
    }
    return {name: value for name, value in named.items() if value is not None}


def read_conditions(byte_range: ByteRange | None, version: Version | None) -> dict[str, str]:
    """What a GET asks for."""
    headers: dict[str, str] = {}
    match checked(byte_range):
        case Span(start, stop):
            headers["range"] = f"bytes={start}-{stop - 1}"
        case Suffix(length):
            headers["range"] = f"bytes=-{length}"
        case Offset(start):
            headers["range"] = f"bytes={start}-"
    if version is not None:
        headers["if-match"] = version
    return headers


def blob_of(response: Response, byte_range: ByteRange | None) -> Blob:
    """What a GET got, cut to the range where the server ignored it."""
    headers = response.headers
    version, modified = version_of(headers), headers.get("last-modified")
    if response.status == 206:
        span = parse_content_range(headers["content-range"])
        assert span is not None  # noqa: S101  # faults.py let it through
        return Blob(response.body, version, span[2], modified)
    size = memoryview(response.body).nbytes
    if byte_range is None:
        return Blob(response.body, version, size, modified)
    # The server ignored the range and sent everything: cut it here.
    start, stop = resolve(byte_range, size)
    return Blob(memoryview(response.body)[start:stop], version, size, modified)
