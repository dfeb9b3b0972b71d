"""Requests, responses and S3's response documents, for the S3 servers of the tests. No I/O.

Documents: S3 API reference.
"""

from __future__ import annotations

import base64
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Mapping, Sequence
from html import escape
from typing import NamedTuple, TypeAlias
from urllib.parse import quote

Buffer: TypeAlias = bytes | bytearray | memoryview
NAMESPACE = 'xmlns="http://s3.amazonaws.com/doc/2006-03-01/"'
LONG_AGO = "2026-01-01T00:00:00.000Z"
"""The modification time of every object in response documents."""

_XML = '<?xml version="1.0" encoding="UTF-8"?>'
_REASONS = {
    200: "OK",
    204: "No Content",
    206: "Partial Content",
    304: "Not Modified",
    400: "Bad Request",
    404: "Not Found",
    411: "Length Required",
    412: "Precondition Failed",
    416: "Range Not Satisfiable",
    501: "Not Implemented",
    503: "Slow Down",
}
_AFTER_ALL = "\U0010ffff"
_PAGE = 1000


class Request(NamedTuple):
    """One request, decoded: `key` is unquoted, header names are lower-case."""

    method: str
    bucket: str
    key: str
    query: Mapping[str, str]
    headers: Mapping[str, str]
    body: Buffer


class Response(NamedTuple):
    """One response. `head` is complete: from the status line to the empty line."""

    status: int
    head: bytes
    body: Buffer
    operation: str


def operation_of(request: Request) -> str:
    """The S3 API name of an operation."""
    return request.method.capitalize() + ("Object" if request.key else "Bucket")


def head_of(status: int, length: int | None, more: str = "") -> bytes:
    """A response head. `length` is None for a status without a body and without Content-Length."""
    size = "" if length is None else f"Content-Length: {length}\r\n"
    first = f"HTTP/1.1 {status} {_REASONS[status]}\r\n"
    return f"{first}{size}{more}x-amz-request-id: 0000000000000000\r\n\r\n".encode()


def empty(status: int, operation: str, more: str = "") -> Response:
    """A response without a body."""
    return Response(status, head_of(status, None if status in (204, 304) else 0, more), b"", operation)


def document(operation: str, text: str) -> Response:
    """200 with an XML document."""
    body = (_XML + text).encode()
    return Response(200, head_of(200, len(body), "Content-Type: application/xml\r\n"), body, operation)


def error(status: int, code: str, operation: str, *, bodiless: bool = False) -> Response:
    """A response with S3's `<Error>` document; without the body if `bodiless`, as for HEAD."""
    body = f"{_XML}<Error><Code>{code}</Code><Message>{code}</Message><RequestId>0</RequestId></Error>".encode()
    head = head_of(status, len(body), "Content-Type: application/xml\r\n")
    return Response(status, head, b"" if bodiless else body, operation)


def listing(request: Request, keys: Sequence[str], describe: Callable[[str], tuple[str, int]]) -> Response:
    """One page of ListObjectsV2.

    Args:
        request: The request.
        keys: All keys of the bucket, sorted.
        describe: ETag and size of a key.
    """
    query = request.query
    limit = min(_PAGE, int(query.get("max-keys", _PAGE)))
    prefix, delimiter = query.get("prefix", ""), query.get("delimiter", "")
    page = _page(keys, prefix, delimiter, _start(query), limit)
    encoded = query.get("encoding-type") == "url"
    body = [f"<ListBucketResult {NAMESPACE}><Name>{request.bucket}</Name><Prefix>{_spelt(prefix, encoded)}</Prefix>"]
    body.append(f"<KeyCount>{len(page.keys) + len(page.groups)}</KeyCount><MaxKeys>{limit}</MaxKeys>")
    body.append(f"<IsTruncated>{str(page.more is not None).lower()}</IsTruncated>")
    if encoded:
        body.append("<EncodingType>url</EncodingType>")
    if page.more is not None:
        token = base64.urlsafe_b64encode(page.more.encode()).decode()
        body.append(f"<NextContinuationToken>{token}</NextContinuationToken>")
    for key in page.keys:
        etag, size = describe(key)
        body.append(f"<Contents><Key>{_spelt(key, encoded)}</Key><LastModified>{LONG_AGO}</LastModified>")
        body.append(f"<ETag>{escape(etag)}</ETag><Size>{size}</Size><StorageClass>STANDARD</StorageClass></Contents>")
    body.extend(f"<CommonPrefixes><Prefix>{_spelt(g, encoded)}</Prefix></CommonPrefixes>" for g in page.groups)
    return document("ListObjectsV2", "".join(body) + "</ListBucketResult>")


def _start(query: Mapping[str, str]) -> str:
    token = query.get("continuation-token")
    return query.get("start-after", "") if token is None else base64.urlsafe_b64decode(token).decode()


class _Page(NamedTuple):
    keys: list[str]
    groups: list[str]
    more: str | None
    """The name after which the next page starts."""


def _page(keys: Sequence[str], prefix: str, delimiter: str, after: str, limit: int) -> _Page:
    found: list[str] = []
    groups: list[str] = []
    here = max(bisect_left(keys, prefix), bisect_right(keys, after) if after else 0)
    last = after
    while here < len(keys) and keys[here].startswith(prefix):
        if len(found) + len(groups) == limit:
            return _Page(found, groups, last)
        key = keys[here]
        name, cut, _ = key[len(prefix) :].partition(delimiter) if delimiter else (key, "", "")
        if cut:
            groups.append(prefix + name + cut)
            last = groups[-1] + _AFTER_ALL
            here = bisect_right(keys, last)
        else:
            found.append(key)
            last = key
            here += 1
    return _Page(found, groups, None)


def _spelt(text: str, encoded: bool) -> str:
    return quote(text, safe="/") if encoded else escape(text)
