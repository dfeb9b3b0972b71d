"""S3Store composes requests and reads their answers; how they travel is below, in `Steady`.

Operations: S3 API reference, pages GetObject, HeadObject, PutObject, DeleteObject, DeleteObjects, ListObjectsV2.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from itertools import islice
from typing import Any, Literal

from ..._types import Buffer, Sink, Version, When
from ...byte_range import ByteRange, Span, Suffix, checked, resolve
from ...config import S3Config
from ...errors import ConfigError, StoreError
from ..base import Blob, Entry, Listing
from .errors import error_of, is_conflict, is_missing_key
from .faults import parse_content_range
from .listing import Pages, entry_of
from .request import ErrorDocument, Request, Response
from .steady import Steady

_BATCH = 1000
"""Keys that one DeleteObjects takes."""
_MAX_KEY_BYTES = 1024


class S3Store:
    """The objects below one prefix of one bucket. Made by `Session.s3()` or an `s3://` URL; owns nothing to close."""

    __slots__ = ("_put_headers", "_read_headers", "_steady", "bucket", "config", "prefix")

    def __init__(self, bucket: str, prefix: str = "", *, steady: Steady, config: S3Config) -> None:
        self.bucket = bucket
        self.prefix = normalized_prefix(prefix)
        self.config = config
        self._steady = steady
        self._read_headers = {"x-amz-request-payer": "requester"} if config.requester_pays else {}
        self._put_headers = self._read_headers | _storage_headers(config)

    @property
    def url(self) -> str:
        """`s3://bucket/prefix`, without a trailing slash."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    def __repr__(self) -> str:
        return f"S3Store({self.url!r})"

    async def get(
        self,
        key: str,
        *,
        range: ByteRange | None = None,  # noqa: A002  # the protocol's name
        version: Version | None = None,
        sink: Sink | None = None,
    ) -> Blob | None:
        """GetObject; see `Readable.get`."""
        headers = self._read_headers
        if range is not None or version is not None:
            headers = headers | _read_conditions(range, version)
        request = Request("GetObject", self.bucket, self._key(key), headers, sink=sink)
        response, attempts = await self._steady.send(request)
        if response.ok:
            return _blob(response, range)
        if version is None and is_missing_key(response):
            return None
        if response.status == 416:
            return await self._empty_range(key, version)
        raise self._error(request, response, attempts)

    async def _empty_range(self, key: str, version: Version | None) -> Blob | None:
        """A range that starts past the end: no bytes, of an object whose size and version a HEAD tells."""
        request = Request("HeadObject", self.bucket, self._key(key), self._read_headers)
        response, attempts = await self._steady.send(request)
        if not response.ok:
            raise self._error(request, response, attempts)
        found = Version(response.headers["etag"])
        if version is not None and found != version:
            return await self.get(key, version=version)  # changed meanwhile: let S3 say so
        return Blob(b"", found, int(response.headers["content-length"]))

    async def put(self, key: str, data: Buffer, *, when: When = "always") -> Version:
        """PutObject; see `Writable.put`."""
        if self.config.conditional_writes == "off":
            when = "always"
        headers = self._put_headers
        if when == "absent":
            headers = headers | {"if-none-match": "*"}
        elif when != "always":
            headers = headers | {"if-match": when}
        request = Request("PutObject", self.bucket, self._key(key), headers, payload=data)
        response = await self._succeed(request, conditional=when != "always")
        return Version(response.headers["etag"])

    async def delete(self, key: str, *, when: Version | Literal["always"] = "always") -> None:
        """DeleteObject; see `Writable.delete`."""
        if self.config.conditional_writes == "off":
            when = "always"
        headers = self._read_headers if when == "always" else self._read_headers | {"if-match": when}
        request = Request("DeleteObject", self.bucket, self._key(key), headers)
        response, attempts = await self._steady.send(request)
        if response.ok or (when == "always" and is_missing_key(response)):
            return
        raise self._error(request, response, attempts, conditional=when != "always")

    async def delete_many(self, keys: Iterable[str]) -> None:
        """DeleteObjects, 1,000 keys at a time; see `Writable.delete_many`."""
        remaining: Iterator[str] = iter(keys)
        while batch := list(islice(remaining, _BATCH)):
            document = {"Objects": [{"Key": self._key(key)} for key in batch], "Quiet": True}
            request = Request("DeleteObjects", self.bucket, "", self._read_headers, document=document)
            response = await self._succeed(request)
            failed = (response.document or {}).get("Errors") or []
            if failed:
                raise self._not_deleted(failed)

    def list_prefix(self, prefix: str = "") -> Pages:
        """ListObjectsV2, page by page; see `Listable.list_prefix`."""
        return Pages(self._list, self._root, self._root + prefix)

    async def list_dir(self, prefix: str = "") -> Listing:
        """ListObjectsV2 with a delimiter; see `Listable.list_dir`."""
        folder = self._root + (prefix.rstrip("/") + "/" if prefix.strip("/") else "")
        dirs: list[str] = []
        entries: list[Entry] = []
        token: str | None = None
        while True:
            page = await self._list(folder, token, delimiter="/")
            dirs += [p["Prefix"][len(self._root) :].rstrip("/") for p in page.get("CommonPrefixes", ())]
            entries += [entry_of(c, self._root) for c in page.get("Contents", ()) if c["Key"] != folder]
            token = page.get("NextContinuationToken")
            if token is None:
                return Listing(tuple(sorted(dirs)), tuple(sorted(entries, key=lambda e: e.key)))

    async def _list(self, prefix: str, token: str | None, *, delimiter: str | None = None) -> Mapping[str, Any]:
        query = {"prefix": prefix}
        if token is not None:
            query["continuation-token"] = token
        if delimiter is not None:
            query["delimiter"] = delimiter
        response = await self._succeed(Request("ListObjectsV2", self.bucket, "", self._read_headers, query))
        return response.document or {}

    async def _succeed(self, request: Request, *, conditional: bool = False) -> Response:
        response, attempts = await self._steady.send(request)
        if not response.ok:
            raise self._error(request, response, attempts, conditional=conditional)
        return response

    def _error(
        self, request: Request, response: Response, attempts: int, *, conditional: bool | None = None
    ) -> StoreError:
        if conditional is None:
            conditional = "if-match" in request.headers
        if conditional and is_conflict(response):
            return _conflict(request, response, attempts)
        return error_of(request, response, attempts)

    def _not_deleted(self, failed: list[Mapping[str, str]]) -> StoreError:
        first = failed[0]
        request = Request("DeleteObjects", self.bucket, first.get("Key", ""))
        said = ErrorDocument(first.get("Code", ""), first.get("Message", ""))
        error = error_of(request, Response(200, {}, error=said))
        error.args = (f"{error.args[0]} ({len(failed)} key(s) were not deleted)",)
        return error

    @property
    def _root(self) -> str:
        return self.prefix + "/" if self.prefix else ""

    def _key(self, key: str) -> str:
        whole = self._root + key
        if not key or len(whole.encode()) > _MAX_KEY_BYTES:
            raise ConfigError(f"S3 keys have 1 to {_MAX_KEY_BYTES} bytes; {whole[:80]!r}… has {len(whole.encode())}")
        return whole


def normalized_prefix(prefix: str) -> str:
    """Without slashes at either end."""
    return prefix.strip("/")


def _storage_headers(config: S3Config) -> dict[str, str]:
    named = {
        "x-amz-server-side-encryption": config.sse,
        "x-amz-server-side-encryption-aws-kms-key-id": config.sse_kms_key_id,
        "x-amz-storage-class": config.storage_class,
    }
    return {name: value for name, value in named.items() if value is not None}


def _read_conditions(byte_range: ByteRange | None, version: Version | None) -> dict[str, str]:
    headers: dict[str, str] = {}
    match checked(byte_range):
        case Span(start, stop):
            headers["range"] = f"bytes={start}-{stop - 1}"
        case Suffix(length):
            headers["range"] = f"bytes=-{length}"
    if version is not None:
        headers["if-match"] = version
    return headers


def _blob(response: Response, byte_range: ByteRange | None) -> Blob:
    version = Version(response.headers["etag"])
    if response.status == 206:
        span = parse_content_range(response.headers["content-range"])
        assert span is not None  # noqa: S101  # faults.py let it through
        return Blob(response.body, version, span[2])
    size = len(memoryview(response.body))
    if byte_range is None:
        return Blob(response.body, version, size)
    # The server ignored the range and sent everything: cut it here.
    start, stop = resolve(byte_range, size)
    return Blob(memoryview(response.body)[start:stop], version, size)


def _conflict(request: Request, response: Response, attempts: int) -> StoreError:
    # If-Match on an absent key is 404 on AWS and 412 elsewhere; both mean that somebody was first.
    if response.status not in (409, 412):
        response = replace(response, status=412, error=ErrorDocument("PreconditionFailed", "the key is absent"))
    return error_of(request, response, attempts)
