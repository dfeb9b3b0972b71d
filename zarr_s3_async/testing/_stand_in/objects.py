"""The objects of the S3 stand-in: what S3 answers to a request, in memory. No socket.

Operations: S3 API reference. Signatures are not looked at; conditional requests are honoured.
"""

from __future__ import annotations

import itertools
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from email.utils import formatdate
from html import escape, unescape
from typing import NamedTuple
from urllib.parse import unquote

from .answers import (
    LONG_AGO,
    NAMESPACE,
    Answer,
    Ask,
    Buffer,
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
    """The head of a plain GET, made once."""

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
    """Of its beginning: what the object keeps."""
    parts: dict[int, bytes]


class Objects:
    """Buckets of objects. `answer` does one request."""

    def __init__(self, buckets: tuple[str, ...]) -> None:
        self._buckets: dict[str, dict[str, _Object]] = {name: {} for name in buckets}
        self._sorted: dict[str, list[str]] = {}
        self._everywhere: list[tuple[str, str, _Object]] = []
        self._uploads: dict[str, _Upload] = {}
        self._numbers = itertools.count(1)

    def answer(self, ask: Ask) -> Answer:
        """What S3 would say."""
        objects = self._buckets.get(ask.bucket)
        if not ask.key:
            return self._bucket(ask, objects)
        if objects is None:
            return error(404, "NoSuchBucket", operation_of(ask), bodiless=ask.method == "HEAD")
        if "uploadId" in ask.query or "uploads" in ask.query:
            return self._multipart(ask, objects)
        match ask.method:
            case "GET" | "HEAD":
                return self._get(ask, objects)
            case "PUT":
                return self._put(ask, objects)
            case "DELETE":
                return self._delete(ask, objects)
        return error(501, "NotImplemented", operation_of(ask))

    def uploads(self) -> int:
        """Uploads in parts that are neither completed nor aborted."""
        return len(self._uploads)

    def put_everywhere(self, bucket: str, prefix: str, body: Buffer) -> None:
        """Let every key under the prefix without an object of its own read as this body; never listed."""
        self._everywhere.append((bucket, prefix, self._new(bytes(body), {})))

    # Objects

    def _get(self, ask: Ask, objects: dict[str, _Object]) -> Answer:
        name, headers, bodiless = operation_of(ask), ask.headers, ask.method == "HEAD"
        found = objects.get(ask.key) or self._anywhere(ask)
        if found is None:
            return error(404, "NoSuchKey", name, bodiless=bodiless)
        if "if-match" in headers and not _is(found, headers["if-match"]):
            return error(412, "PreconditionFailed", name, bodiless=bodiless)
        if "if-none-match" in headers and _is(found, headers["if-none-match"]):
            return Answer(304, found.head_of(304, None), b"", name)
        if "range" in headers:
            return _ranged(ask, found)
        return Answer(200, found.head, b"" if bodiless else found.body, name)

    def _anywhere(self, ask: Ask) -> _Object | None:
        for bucket, prefix, found in self._everywhere:
            if ask.bucket == bucket and ask.key.startswith(prefix):
                return found
        return None

    def _put(self, ask: Ask, objects: dict[str, _Object]) -> Answer:
        refused = _refused(ask, objects.get(ask.key), "PutObject")
        if refused is not None:
            return refused
        if "x-amz-copy-source" in ask.headers:
            return self._copy(ask)
        stored = self._new(ask.body, ask.headers)
        self._store(ask, stored)
        return empty(200, "PutObject", f"ETag: {stored.etag}\r\n")

    def _copy(self, ask: Ask) -> Answer:
        bucket, _, key = unquote(ask.headers["x-amz-copy-source"]).lstrip("/").partition("/")
        found = self._buckets.get(bucket, {}).get(key)
        if found is None:
            return error(404, "NoSuchKey", "CopyObject")
        if not _is(found, ask.headers.get("x-amz-copy-source-if-match", "*")):
            return error(412, "PreconditionFailed", "CopyObject")
        copy = self._new(found.body, {})
        self._store(ask, _Object(found.body, copy.etag, copy.modified, found.extra))
        return document(
            "CopyObject",
            f"<CopyObjectResult {NAMESPACE}><ETag>{escape(copy.etag)}</ETag>"
            f"<LastModified>{LONG_AGO}</LastModified></CopyObjectResult>",
        )

    def _delete(self, ask: Ask, objects: dict[str, _Object]) -> Answer:
        refused = _refused(ask, objects.get(ask.key), "DeleteObject")
        if refused is not None:
            return refused
        if objects.pop(ask.key, None) is not None:
            self._sorted.pop(ask.bucket, None)
        return empty(204, "DeleteObject")

    def _new(self, body: Buffer, headers: Mapping[str, str]) -> _Object:
        # Not an MD5: like the ETag of a multipart upload, it cannot be mistaken for one.
        etag = f'"{next(self._numbers):032x}-1"'
        kept = [f"Content-Type: {headers.get('content-type', 'binary/octet-stream')}\r\n"]
        kept += [f"{name}: {value}\r\n" for name, value in headers.items() if name.startswith("x-amz-meta-")]
        return _Object(body, etag, formatdate(usegmt=True), "".join(kept))

    def _store(self, ask: Ask, stored: _Object) -> None:
        objects = self._buckets[ask.bucket]
        if ask.key not in objects:
            self._sorted.pop(ask.bucket, None)
        objects[ask.key] = stored

    # Multipart uploads

    def _multipart(self, ask: Ask, objects: dict[str, _Object]) -> Answer:
        if "uploads" in ask.query:
            return self._begin_upload(ask)
        upload = ask.query["uploadId"]
        if upload not in self._uploads:
            return error(404, "NoSuchUpload", operation_of(ask))
        match ask.method:
            case "PUT":
                part = int(ask.query["partNumber"])
                self._uploads[upload].parts[part] = bytes(ask.body)
                return empty(200, "UploadPart", f'ETag: "{part:032x}"\r\n')
            case "DELETE":
                del self._uploads[upload]
                return empty(204, "AbortMultipartUpload")
        return self._complete_upload(ask, objects)

    def _begin_upload(self, ask: Ask) -> Answer:
        number = f"{next(self._numbers):032x}"
        self._uploads[number] = _Upload(dict(ask.headers), {})
        return document(
            "CreateMultipartUpload",
            f"<InitiateMultipartUploadResult {NAMESPACE}><Bucket>{ask.bucket}</Bucket>"
            f"<Key>{escape(ask.key)}</Key><UploadId>{number}</UploadId></InitiateMultipartUploadResult>",
        )

    def _complete_upload(self, ask: Ask, objects: dict[str, _Object]) -> Answer:
        refused = _refused(ask, objects.get(ask.key), "CompleteMultipartUpload")
        if refused is not None:
            return refused
        headers, parts = self._uploads[ask.query["uploadId"]]
        named = [int(number) for number in _PARTS_OF_DOCUMENT.findall(bytes(ask.body))]
        if not named or named != sorted(named) or not parts.keys() >= set(named):
            return error(400, "InvalidPart", "CompleteMultipartUpload")
        del self._uploads[ask.query["uploadId"]]
        stored = self._new(b"".join(parts[number] for number in named), headers)
        self._store(ask, stored)
        return document(
            "CompleteMultipartUpload",
            f"<CompleteMultipartUploadResult {NAMESPACE}><Bucket>{ask.bucket}</Bucket>"
            f"<Key>{escape(ask.key)}</Key><ETag>{escape(stored.etag)}</ETag></CompleteMultipartUploadResult>",
        )

    # Buckets

    def _bucket(self, ask: Ask, objects: dict[str, _Object] | None) -> Answer:
        if ask.method == "PUT":
            self._buckets.setdefault(ask.bucket, {})
            return empty(200, "CreateBucket")
        if objects is None:
            return error(404, "NoSuchBucket", operation_of(ask), bodiless=ask.method == "HEAD")
        if ask.method == "HEAD":
            return empty(200, "HeadBucket", "x-amz-bucket-region: us-east-1\r\n")
        if ask.method == "POST" and "delete" in ask.query:
            return self._delete_many(ask, objects)
        if ask.method != "GET":
            return error(501, "NotImplemented", operation_of(ask))
        if "location" in ask.query:
            return document("GetBucketLocation", f"<LocationConstraint {NAMESPACE}/>")
        return self._list(ask, objects)

    def _delete_many(self, ask: Ask, objects: dict[str, _Object]) -> Answer:
        text = bytes(ask.body)
        keys = [unescape(found.decode()) for found in _KEYS_OF_DOCUMENT.findall(text)]
        for key in keys:
            objects.pop(key, None)
        self._sorted.pop(ask.bucket, None)
        quiet = b"<Quiet>true</Quiet>" in text
        gone = "" if quiet else "".join(f"<Deleted><Key>{escape(key)}</Key></Deleted>" for key in keys)
        return document("DeleteObjects", f"<DeleteResult {NAMESPACE}>{gone}</DeleteResult>")

    def _list(self, ask: Ask, objects: dict[str, _Object]) -> Answer:
        keys = self._sorted.get(ask.bucket)
        if keys is None:
            keys = self._sorted[ask.bucket] = sorted(objects)
        return listing(ask, keys, lambda key: (objects[key].etag, objects[key].size))


def _ranged(ask: Ask, found: _Object) -> Answer:
    name, bodiless = operation_of(ask), ask.method == "HEAD"
    span = _span(ask.headers["range"], found.size)
    if span is None:
        return error(416, "InvalidRange", name, bodiless=bodiless)
    start, stop = span
    head = found.head_of(206, stop - start, f"Content-Range: bytes {start}-{stop - 1}/{found.size}\r\n")
    return Answer(206, head, b"" if bodiless else memoryview(found.body)[start:stop], name)


def _span(text: str, size: int) -> tuple[int, int] | None:
    first, _, last = text.removeprefix("bytes=").partition("-")
    if first:
        start, stop = int(first), min(size, int(last) + 1) if last else size
    else:
        start, stop = max(0, size - int(last)), size
    return (start, stop) if start < stop else None


def _is(found: _Object, etag: str) -> bool:
    """Whether a precondition names this object's version; S3 takes an ETag with and without its quotes."""
    return etag == "*" or etag.strip('"') == found.etag.strip('"')


def _refused(ask: Ask, found: _Object | None, name: str) -> Answer | None:
    """The answer to a write whose precondition fails; None where it holds."""
    if "if-none-match" in ask.headers and found is not None:
        return error(412, "PreconditionFailed", name)
    if "if-match" in ask.headers:
        if found is None:
            return error(404, "NoSuchKey", name)
        if not _is(found, ask.headers["if-match"]):
            return error(412, "PreconditionFailed", name)
    return None
