"""Buckets and objects in memory, and S3's responses to requests. No sockets.

Operations: S3 API reference. Signatures are not checked; conditional requests are honoured.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from hashlib import md5
from html import escape, unescape
from typing import NamedTuple
from urllib.parse import unquote

from .s3_messages import (
    LONG_AGO,
    NAMESPACE,
    Buffer,
    Request,
    Response,
    document,
    empty,
    error,
    head_of,
    listing,
    operation_of,
)

_PARTS_OF_DOCUMENT = re.compile(rb"<PartNumber>(\d+)</PartNumber>")
_KEYS_OF_DOCUMENT = re.compile(rb"<Key>(.*?)</Key>", re.DOTALL)


@dataclass(slots=True)
class _Object:
    body: Buffer
    etag: str
    modified: str
    extra: str
    """Header lines that a PUT left for every GET: content type and user metadata."""
    head: bytes = field(init=False)
    """The head of a plain GET response, created once."""

    def __post_init__(self) -> None:
        self.head = self.head_of(200, self.size)

    @property
    def size(self) -> int:
        return len(memoryview(self.body))

    def head_of(self, status: int, length: int | None, more: str = "") -> bytes:
        lines = f"ETag: {self.etag}\r\nLast-Modified: {self.modified}\r\nAccept-Ranges: bytes\r\n"
        return head_of(status, length, lines + self.extra + more)


class _Upload(NamedTuple):
    headers: Mapping[str, str]
    """Headers of the request that started it; the object keeps them."""
    parts: dict[int, bytes]


class Objects:
    """Buckets of objects. `answer` carries out one request."""

    def __init__(self, buckets: tuple[str, ...]) -> None:
        self._buckets: dict[str, dict[str, _Object]] = {name: {} for name in buckets}
        self._sorted: dict[str, list[str]] = {}
        self._everywhere: list[tuple[str, str, _Object]] = []
        self._uploads: dict[str, _Upload] = {}
        self.hashed_etags = False
        """ETags are hashes of the bytes, as on S3: if the same bytes are stored again, the ETag is the same again."""
        self._numbers = itertools.count(1)

    def answer(self, request: Request) -> Response:
        """Carry the request out. Returns the response that S3 would send."""
        objects = self._buckets.get(request.bucket)
        if not request.key:
            return self._bucket(request, objects)
        if objects is None:
            return error(404, "NoSuchBucket", operation_of(request), bodiless=request.method == "HEAD")
        if "uploadId" in request.query or "uploads" in request.query:
            return self._multipart(request, objects)
        match request.method:
            case "GET" | "HEAD":
                return self._get(request, objects)
            case "PUT":
                return self._put(request, objects)
            case "DELETE":
                return self._delete(request, objects)
        return error(501, "NotImplemented", operation_of(request))

    def uploads(self) -> int:
        """Number of multipart uploads that are neither completed nor aborted."""
        return len(self._uploads)

    def put_everywhere(self, bucket: str, prefix: str, body: Buffer) -> None:
        """Serve `body` for every key under `prefix` that has no object; such keys are not listed."""
        self._everywhere.append((bucket, prefix, self._new(bytes(body), {})))

    # Objects

    def _get(self, request: Request, objects: dict[str, _Object]) -> Response:
        name, headers, bodiless = operation_of(request), request.headers, request.method == "HEAD"
        found = objects.get(request.key) or self._anywhere(request)
        if found is None:
            return error(404, "NoSuchKey", name, bodiless=bodiless)
        if "if-match" in headers and not _is(found, headers["if-match"]):
            return error(412, "PreconditionFailed", name, bodiless=bodiless)
        if "if-none-match" in headers and _is(found, headers["if-none-match"]):
            return Response(304, found.head_of(304, None), b"", name)
        if "range" in headers:
            return _ranged(request, found)
        return Response(200, found.head, b"" if bodiless else found.body, name)

    def _anywhere(self, request: Request) -> _Object | None:
        for bucket, prefix, found in self._everywhere:
            if request.bucket == bucket and request.key.startswith(prefix):
                return found
        return None

    def _put(self, request: Request, objects: dict[str, _Object]) -> Response:
        refused = _refused(request, objects.get(request.key), "PutObject")
        if refused is not None:
            return refused
        if "x-amz-copy-source" in request.headers:
            return self._copy(request)
        stored = self._new(request.body, request.headers)
        self._store(request, stored)
        return empty(200, "PutObject", f"ETag: {stored.etag}\r\n")

    def _copy(self, request: Request) -> Response:
        bucket, _, key = unquote(request.headers["x-amz-copy-source"]).lstrip("/").partition("/")
        found = self._buckets.get(bucket, {}).get(key)
        if found is None:
            return error(404, "NoSuchKey", "CopyObject")
        if not _is(found, request.headers.get("x-amz-copy-source-if-match", "*")):
            return error(412, "PreconditionFailed", "CopyObject")
        copy = self._new(found.body, {})
        self._store(request, _Object(found.body, copy.etag, copy.modified, found.extra))
        return document(
            "CopyObject",
            f"<CopyObjectResult {NAMESPACE}><ETag>{escape(copy.etag)}</ETag>"
            f"<LastModified>{LONG_AGO}</LastModified></CopyObjectResult>",
        )

    def _delete(self, request: Request, objects: dict[str, _Object]) -> Response:
        refused = _refused(request, objects.get(request.key), "DeleteObject")
        if refused is not None:
            return refused
        if objects.pop(request.key, None) is not None:
            self._sorted.pop(request.bucket, None)
        return empty(204, "DeleteObject")

    def _new(self, body: Buffer, headers: Mapping[str, str]) -> _Object:
        # Otherwise not an MD5: like the ETag of a multipart upload, it cannot be mistaken for one.
        number = f"{next(self._numbers):032x}-1"
        etag = f'"{md5(body, usedforsecurity=False).hexdigest() if self.hashed_etags else number}"'
        kept = [f"Content-Type: {headers.get('content-type', 'binary/octet-stream')}\r\n"]
        kept += [f"{name}: {value}\r\n" for name, value in headers.items() if name.startswith("x-amz-meta-")]
        return _Object(body, etag, formatdate(usegmt=True), "".join(kept))

    def _store(self, request: Request, stored: _Object) -> None:
        objects = self._buckets[request.bucket]
        if request.key not in objects:
            self._sorted.pop(request.bucket, None)
        objects[request.key] = stored

    # Multipart uploads

    def _multipart(self, request: Request, objects: dict[str, _Object]) -> Response:
        if "uploads" in request.query:
            return self._begin_upload(request)
        upload = request.query["uploadId"]
        if upload not in self._uploads:
            return error(404, "NoSuchUpload", operation_of(request))
        match request.method:
            case "PUT":
                part = int(request.query["partNumber"])
                self._uploads[upload].parts[part] = bytes(request.body)
                return empty(200, "UploadPart", f'ETag: "{part:032x}"\r\n')
            case "DELETE":
                del self._uploads[upload]
                return empty(204, "AbortMultipartUpload")
        return self._complete_upload(request, objects)

    def _begin_upload(self, request: Request) -> Response:
        number = f"{next(self._numbers):032x}"
        self._uploads[number] = _Upload(dict(request.headers), {})
        return document(
            "CreateMultipartUpload",
            f"<InitiateMultipartUploadResult {NAMESPACE}><Bucket>{request.bucket}</Bucket>"
            f"<Key>{escape(request.key)}</Key><UploadId>{number}</UploadId></InitiateMultipartUploadResult>",
        )

    def _complete_upload(self, request: Request, objects: dict[str, _Object]) -> Response:
        refused = _refused(request, objects.get(request.key), "CompleteMultipartUpload")
        if refused is not None:
            return refused
        headers, parts = self._uploads[request.query["uploadId"]]
        named = [int(number) for number in _PARTS_OF_DOCUMENT.findall(bytes(request.body))]
        if not named or named != sorted(named) or not parts.keys() >= set(named):
            return error(400, "InvalidPart", "CompleteMultipartUpload")
        del self._uploads[request.query["uploadId"]]
        stored = self._new(b"".join(parts[number] for number in named), headers)
        self._store(request, stored)
        return document(
            "CompleteMultipartUpload",
            f"<CompleteMultipartUploadResult {NAMESPACE}><Bucket>{request.bucket}</Bucket>"
            f"<Key>{escape(request.key)}</Key><ETag>{escape(stored.etag)}</ETag></CompleteMultipartUploadResult>",
        )

    # Buckets

    def _bucket(self, request: Request, objects: dict[str, _Object] | None) -> Response:
        if request.method == "PUT":
            self._buckets.setdefault(request.bucket, {})
            return empty(200, "CreateBucket")
        if objects is None:
            return error(404, "NoSuchBucket", operation_of(request), bodiless=request.method == "HEAD")
        if request.method == "HEAD":
            return empty(200, "HeadBucket", "x-amz-bucket-region: us-east-1\r\n")
        if request.method == "POST" and "delete" in request.query:
            return self._delete_many(request, objects)
        if request.method != "GET":
            return error(501, "NotImplemented", operation_of(request))
        if "location" in request.query:
            return document("GetBucketLocation", f"<LocationConstraint {NAMESPACE}/>")
        return self._list(request, objects)

    def _delete_many(self, request: Request, objects: dict[str, _Object]) -> Response:
        text = bytes(request.body)
        keys = [unescape(found.decode()) for found in _KEYS_OF_DOCUMENT.findall(text)]
        for key in keys:
            objects.pop(key, None)
        self._sorted.pop(request.bucket, None)
        quiet = b"<Quiet>true</Quiet>" in text
        gone = "" if quiet else "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
        return document("DeleteObjects", f"<DeleteResult {NAMESPACE}>{gone}</DeleteResult>")

    def _list(self, request: Request, objects: dict[str, _Object]) -> Response:
        keys = self._sorted.get(request.bucket)
        if keys is None:
            keys = self._sorted[request.bucket] = sorted(objects)
        return listing(request, keys, lambda key: (objects[key].etag, objects[key].size))


def _ranged(request: Request, found: _Object) -> Response:
    name, bodiless = operation_of(request), request.method == "HEAD"
    span = _span(request.headers["range"], found.size)
    if span is None:
        return error(416, "InvalidRange", name, bodiless=bodiless)
    start, stop = span
    head = found.head_of(206, stop - start, f"Content-Range: bytes {start}-{stop - 1}/{found.size}\r\n")
    return Response(206, head, b"" if bodiless else memoryview(found.body)[start:stop], name)


def _span(text: str, size: int) -> tuple[int, int] | None:
    first, _, last = text.removeprefix("bytes=").partition("-")
    if first:
        start, stop = int(first), min(size, int(last) + 1) if last else size
    else:
        start, stop = max(0, size - int(last)), size
    return (start, stop) if start < stop else None


def _is(found: _Object, etag: str) -> bool:
    """Whether a precondition names this object's version; S3 accepts ETags with and without quotes."""
    return etag == "*" or etag.strip('"') == found.etag.strip('"')


def _refused(request: Request, found: _Object | None, name: str) -> Response | None:
    """The response to a write whose precondition fails; None if it holds."""
    if "if-none-match" in request.headers and found is not None:
        return error(412, "PreconditionFailed", name)
    if "if-match" in request.headers:
        if found is None:
            return error(404, "NoSuchKey", name)
        if not _is(found, request.headers["if-match"]):
            return error(412, "PreconditionFailed", name)
    return None
