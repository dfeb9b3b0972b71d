"""Answers of a good status that are wrong all the same: found per attempt, so that `Steady` asks again."""

from __future__ import annotations

import re

from ...errors import StoreError
from .errors import unexpected
from .request import Request, Response

_CONTENT_RANGE = re.compile(r"bytes (\d+)-(\d+)/(\d+)")
_ERROR_BODY = re.compile(rb"\s*(<\?xml[^>]*\?>)?\s*<Error[\s>]")
_NEEDS_ETAG = frozenset({"GetObject", "PutObject", "UploadPart"})


def parse_content_range(header: str) -> tuple[int, int, int] | None:
    """(first, last + 1, size of the whole object) of a 206, or None where it is not one."""
    match = _CONTENT_RANGE.fullmatch(header.strip())
    if match is None:
        return None
    first, last, size = (int(group) for group in match.groups())
    return (first, last + 1, size) if first <= last < size else None


def fault_of(request: Request, response: Response) -> StoreError | None:
    """Why this good-looking answer must not be used, or None."""
    if not response.ok or request.operation not in _NEEDS_ETAG:
        return None
    if "etag" not in response.headers:
        # Only without an ETag: a chunk may well hold text that looks like an error.
        if _ERROR_BODY.match(bytes(memoryview(response.body)[:256])):
            return unexpected(request, response, "its body is an S3 error document")
        return unexpected(request, response, "without an ETag")
    if response.status == 206:
        return _range_fault(request, response)
    return None


def _range_fault(request: Request, response: Response) -> StoreError | None:
    asked = request.headers.get("range")
    if asked is None:
        return unexpected(request, response, "no range was asked for")
    got = parse_content_range(response.headers.get("content-range", ""))
    if got is None:
        return unexpected(request, response, "its Content-Range says nothing")
    first, stop, size = got
    if (first, stop) != expected_span(asked, size) or len(memoryview(response.body)) != stop - first:
        return unexpected(request, response, f"with bytes {first}-{stop - 1} of {size}, and {asked} was asked for")
    return None


def expected_span(asked: str, size: int) -> tuple[int, int]:
    """(start, stop) that a `Range: bytes=…` of ours means for an object of `size` bytes."""
    first, last = asked.removeprefix("bytes=").split("-")
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(int(last) + 1, size)
