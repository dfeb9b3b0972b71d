"""Detect invalid responses with a success status, per attempt, so that `RetryingTransport` retries them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import unquote, unquote_plus

from ..._http.head import parse_content_range
from ..._types import Buffer
from ...errors import StoreError
from .errors import is_transient_code, looks_like_error, unexpected
from .request import ErrorDocument, Operation, Request, Response


def takes_sink(request: Request, status: int, headers: Mapping[str, str]) -> bool:
    """True if the body is what was requested (the range, or else the object) and has an ETag.

    Only then it is received into the request's sink.
    """
    return request.sink is not None and status == (206 if "range" in request.headers else 200) and "etag" in headers


def answer_error(request: Request, response: Response) -> StoreError | None:
    """Why the response must not be used, or None: a success that S3 cannot have sent, or the absence of another key."""
    if response.status == 200 and request.operation == "GetObject" and response.headers.get("etag"):
        return None  # what `_get_fault` would find: nearly every response comes by here
    if not response.ok:
        return _misaddressed(request, response) if response.status == 404 else None
    find = _FINDERS.get(request.operation)
    what = None if find is None else find(request, response)
    return None if what is None else unexpected(request, response, what)


def _misaddressed(request: Request, response: Response) -> StoreError | None:
    """NoSuchKey makes a chunk read as fill: if it names a key, that must be the requested one."""
    error = response.error
    if error is None or error.code != "NoSuchKey" or not error.key or _is_key(error.key, request):
        return None
    return unexpected(request, response, f"its error is about another key, {error.key[:200]!r}")


def _is_key(named: str, request: Request) -> bool:
    """True for the request's key in any form that servers use: percent-encoded, after a slash, after the bucket."""
    key = request.key.strip()  # as the text of an XML element is
    meant = {key, f"{request.bucket}/{key}"}
    if request.operation == "CopyObject":  # Amazon names the source, SeaweedFS the target
        source = request.headers["x-amz-copy-source"].strip()
        meant |= {source, source.partition("/")[2]}
    spellings = (named, unquote(named), unquote_plus(named))
    return any(spelling.removeprefix("/") in meant for spelling in spellings)


def _has_body(response: Response) -> bool:
    return memoryview(response.body).nbytes > 0 or response.headers.get("content-length", "0") != "0"


def _object_fault(_: Request, response: Response) -> str | None:
    if response.headers.get("etag"):
        return None
    # Only without an ETag: a chunk may contain text that looks like an error.
    return "its body is an S3 error document" if looks_like_error(response.body) else "without an ETag"


def _get_fault(request: Request, response: Response) -> str | None:
    fault = _object_fault(request, response)
    if fault is not None or response.status == 200:
        return fault
    # 204 and 205 have no body, 203 means that a proxy changed it: none of them is the object.
    return _range_fault(request, response) if response.status == 206 else "S3 answers a GET only with 200 or 206"


def _range_fault(request: Request, response: Response) -> str | None:
    requested = request.headers.get("range")
    if requested is None:
        return "no range was requested"
    got = parse_content_range(response.headers.get("content-range", ""))
    if got is None:
        return "its Content-Range is invalid"
    first, stop, size = got
    if (first, stop) != expected_span(requested, size) or memoryview(response.body).nbytes != stop - first:
        return f"with bytes {first}-{stop - 1} of {size}, but {requested} was requested"
    return None


def whole_for_range(request: Request, status: int, headers: Mapping[str, str]) -> bool:
    """True if the response is the whole object although a range was requested: the server ignores ranges."""
    return status == 200 and "range" in request.headers and request.operation == "GetObject" and "etag" in headers


def part_of(request: Request, size: int) -> tuple[int, int]:
    """(start, stop) of the requested range within an object of this size; may be empty."""
    start, stop = expected_span(request.headers["range"], size)
    return min(start, size), max(min(start, size), stop)


def as_range(request: Request, headers: Mapping[str, str], body: Buffer, size: int) -> Response:
    """Convert a whole-object response, of which the requested part was received, to the response for a range."""
    start, stop = part_of(request, size)
    if start == stop:
        return Response(416, headers, error=ErrorDocument("InvalidRange"))
    changed = {"content-range": f"bytes {start}-{stop - 1}/{size}", "content-length": str(stop - start)}
    return Response(206, {**headers, **changed}, body)


def longest_answer(request: Request) -> int | None:
    """Maximum length of the requested range in bytes; None without a range, or for one without an end."""
    first, dash, last = request.headers.get("range", "").removeprefix("bytes=").partition("-")
    if not dash or not last:
        return None
    return int(last) - int(first) + 1 if first else int(last)


def too_much(request: Request, headers: Mapping[str, str]) -> StoreError:
    """The error for a 206 with more bytes than the requested range."""
    what = f"with more bytes than the requested {request.headers.get('range')}"
    return unexpected(request, Response(206, headers), what)


def unbounded(request: Request, headers: Mapping[str, str]) -> StoreError:
    """The error for a long whole-object response without a length, instead of a range."""
    return unexpected(request, Response(200, headers), "it sends the whole object for a range, without its length")


def expected_span(requested: str, size: int) -> tuple[int, int]:
    """(start, stop) of one of our `Range: bytes=…` headers in an object of `size` bytes."""
    first, last = requested.removeprefix("bytes=").split("-")
    if not first:
        return max(0, size - int(last)), size
    return int(first), min(int(last) + 1, size) if last else size


def _head_fault(_: Request, response: Response) -> str | None:
    if response.status != 200:
        return "S3 answers a HEAD only with 200"
    if response.headers.get("etag") and response.headers.get("content-length", "").isdecimal():
        return None
    return "without the object's ETag and size"


def _stored_fault(request: Request, response: Response) -> str | None:
    # 202 guarantees nothing, 203 and 206 are not valid for a PUT; a body with an ETag was sent by a proxy.
    if response.status != 200:
        return "S3 confirms a stored object only with 200"
    fault = _object_fault(request, response)
    return fault or ("with a body that S3 does not send" if _has_body(response) else None)


def _deletion_fault(_: Request, response: Response) -> str | None:
    # S3 confirms a deletion with 204, some S3-compatible servers with an empty 200.
    if response.status == 204 or (response.status == 200 and not _has_body(response)):
        return None
    return "S3 confirms a deletion only with 204, and without a body"


def _document_of(response: Response) -> Mapping[str, Any] | str:
    """The parsed document of a control operation, or the problem with its status."""
    return (response.document or {}) if response.status == 200 else "S3 answers it only with 200"


def _listing_fault(request: Request, response: Response) -> str | None:
    page = _document_of(response)
    if isinstance(page, str):
        return page
    if not isinstance(page.get("IsTruncated"), bool):
        return "its body is not a listing"
    token = page.get("NextContinuationToken")
    if (page["IsTruncated"] and not token) or not isinstance(token, str | None):
        return "it is truncated without a continuation token"
    if token is not None and token == request.query.get("continuation-token"):
        return "it repeats the same continuation token"
    if not all(_is_entry(found) for found in page.get("Contents", ())):
        return "some objects have no ETag or no valid size"
    return _stray_fault(page, request.query.get("prefix", ""))


def _is_entry(found: Mapping[str, Any]) -> bool:
    etag = found.get("ETag")
    size = found.get("Size")
    return isinstance(size, int) and size >= 0 and isinstance(etag, str) and bool(etag)


def _stray_fault(page: Mapping[str, Any], prefix: str) -> str | None:
    """The problem if a name lies outside the prefix: callers cut the prefix off by its length."""
    names = [found.get("Key") for found in page.get("Contents", ())]
    names += [found.get("Prefix") for found in page.get("CommonPrefixes", ())]
    for name in names:
        if not isinstance(name, str) or not name or not name.startswith(prefix):
            return f"it contains {name!r}, which does not start with {prefix!r}"
    return None


def _deletions_fault(request: Request, response: Response) -> str | None:
    answer = _document_of(response)
    if isinstance(answer, str):
        return answer
    refused, deleted = answer.get("Errors") or [], answer.get("Deleted") or []
    if not all(isinstance(found.get("Key"), str | None) for found in (*deleted, *refused)):
        return "it contains an invalid key"
    transient = [error for error in refused if is_transient_code(str(error.get("Code")))]
    if transient:
        return f"{len(transient)} key(s) were not deleted, the first because of {transient[0].get('Code')}"
    confirmed = {found.get("Key") for found in (*deleted, *refused)}
    nameless = sum(not found.get("Key") for found in deleted)  # JuiceFS confirms without naming the keys
    unconfirmed = sum(wanted["Key"] not in confirmed for wanted in (request.document or {}).get("Objects", ()))
    unconfirmed -= nameless
    return f"it does not mention {unconfirmed} key(s)" if unconfirmed > 0 else None


def _needs(name: str) -> Callable[[Request, Response], str | None]:
    def fault(_: Request, response: Response) -> str | None:
        answer = _document_of(response)
        if isinstance(answer, str):
            return answer
        value = answer.get(name)
        return None if isinstance(value, str) and value else f"without {name}"

    return fault


def _copy_fault(_: Request, response: Response) -> str | None:
    answer = _document_of(response)
    if isinstance(answer, str):
        return answer
    result = answer.get("CopyObjectResult")
    etag = result.get("ETag") if isinstance(result, Mapping) else None
    return None if isinstance(etag, str) and etag else "without the ETag of the copy"


_FINDERS: dict[Operation, Callable[[Request, Response], str | None]] = {
    "GetObject": _get_fault,
    "PutObject": _stored_fault,
    "UploadPart": _stored_fault,
    "HeadObject": _head_fault,
    "DeleteObject": _deletion_fault,
    "DeleteObjects": _deletions_fault,
    "ListObjectsV2": _listing_fault,
    "CreateMultipartUpload": _needs("UploadId"),
    "CompleteMultipartUpload": _needs("ETag"),
    "AbortMultipartUpload": _deletion_fault,
    "CopyObject": _copy_fault,
}
