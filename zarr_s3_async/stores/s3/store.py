"""S3Store composes requests and reads their responses; `RetryingTransport` sends them.

Operations: S3 API reference, pages GetObject, HeadObject, PutObject, DeleteObject, DeleteObjects, ListObjectsV2.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Mapping
from dataclasses import replace
from functools import partial
from itertools import islice
from typing import Any, Literal

from ..._concurrency.workers import run_workers
from ..._http.head import parse_content_range
from ..._options import is_unicode
from ..._types import Buffer, Sink, Version, When
from ...byte_range import ByteRange, Offset, Span, Suffix, checked, is_empty, resolve
from ...config import S3Config
from ...errors import ConfigError, StoreError, Unsupported
from ..base import Blob, Entry, Listing, Store, StoreRef, Unchanged
from .capabilities import Capabilities, Capability
from .checksums import MODE_HEADER, checksum_of
from .conditional import ConditionalWrites, conflict_of
from .errors import (
    error_of,
    is_bare_404,
    is_conflict,
    is_forbidden,
    is_missing_key,
    is_unsupported,
    version_mismatch_error,
)
from .listing import PageReader, Pages, entries_of
from .multipart import Multipart, NoMultipart
from .place import place_of_bucket, reader_of
from .request import ErrorDocument, Request, Response, normalized_prefix
from .retry import RetryingTransport
from .write_ids import if_match, is_same, version_of


def storage_headers(config: S3Config) -> dict[str, str]:
    """Headers that determine how objects are stored."""
    named = {
        "x-amz-server-side-encryption": config.sse,
        "x-amz-server-side-encryption-aws-kms-key-id": config.sse_kms_key_id,
        "x-amz-storage-class": config.storage_class,
    }
    return {name: value for name, value in named.items() if value is not None}


def read_conditions(byte_range: ByteRange | None, version: Version | None) -> dict[str, str]:
    """Headers of a GET for a range and a version."""
    headers: dict[str, str] = {}
    match checked(byte_range):
        case Span(start, stop):
            headers["range"] = f"bytes={start}-{stop - 1}"
        case Suffix(length):
            headers["range"] = f"bytes=-{length}"
        case Offset(start):
            headers["range"] = f"bytes={start}-"
    if version is not None:
        headers["if-match"] = if_match(version)
    return headers


def blob_of(response: Response, byte_range: ByteRange | None) -> Blob:
    """The result of a GET, cut to the range if the server ignored it."""
    headers = response.headers
    version, modified = version_of(headers), headers.get("last-modified")
    if response.status == 206:
        span = parse_content_range(headers["content-range"])
        assert span is not None  # noqa: S101  # checked by answer_checks.py
        return Blob(response.body, version, span[2], modified)
    size = memoryview(response.body).nbytes
    if byte_range is None:
        return Blob(response.body, version, size, modified)
    # The server ignored the range and sent the whole object.
    start, stop = resolve(byte_range, size)
    return Blob(memoryview(response.body)[start:stop], version, size, modified)


_BATCH = 1000
"""Maximum number of keys of one DeleteObjects."""
_DELETES_AT_ONCE = 32
"""Maximum number of single deletes of one call in flight, for servers without DeleteObjects."""
_MAX_KEY_BYTES = 1024
_NOT_MODIFIED = 304
_NOT_COPIED = frozenset({400, 405, 501})
"""Statuses of servers that do not support CopyObject, or not for objects of this size."""


class S3Store:
    """The objects below one prefix of one bucket, opened by `Session.s3()` or an `s3://` URL.

    It owns nothing that must be closed.
    """

    __slots__ = (
        "_capabilities",
        "_chunk_reads",
        "_conditional",
        "_multipart",
        "_owner",
        "_put_headers",
        "_read_headers",
        "_transport",
        "_whole_headers",
        "bucket",
        "config",
        "prefix",
    )

    def __init__(
        self,
        bucket: str,
        prefix: str = "",
        *,
        transport: RetryingTransport,
        config: S3Config,
        capabilities: Capabilities,
        chunk_reads: bool = False,
    ) -> None:
        """
        Args:
            bucket: Name of the bucket, or the ARN of an access point.
            prefix: Prefix of all keys.
            transport: Sends the requests.
            config: The options.
            capabilities: The capabilities of the bucket's server.
            chunk_reads: `missing_on_403` applies; see `for_chunk_reads`.
        """
        self.bucket: str = bucket
        self.prefix: str = normalized_prefix(prefix)
        _check_unicode(self.prefix)
        self.config: S3Config = config
        self._transport = transport
        self._capabilities = capabilities
        self._conditional = ConditionalWrites(transport, self._capabilities, config)
        self._multipart = Multipart(transport, self._conditional, config)
        self._chunk_reads = chunk_reads
        self._read_headers = {"x-amz-request-payer": "requester"} if config.requester_pays else {}
        verify = {MODE_HEADER: "ENABLED"} if config.checksums == "on" else {}
        # For whole objects only: a stored checksum cannot be compared with a range.
        self._whole_headers = self._read_headers | verify
        self._put_headers = self._read_headers | storage_headers(config)
        self._owner: S3Config | None = None

    @property
    def supports_strided_sinks(self) -> Literal[True]:
        """See `SupportsStridedSinks`."""
        return True

    @property
    def url(self) -> str:
        """`s3://bucket/prefix`, without a trailing slash."""
        return f"s3://{self.bucket}/{self.prefix}".rstrip("/")

    @property
    def ref(self) -> StoreRef:
        """See `SupportsRef.ref`. It contains no keys from the options: the other process needs its own."""
        return StoreRef(url=self.url, config=self.config.public())

    @property
    def place(self) -> str:
        """See `SupportsIdentity.place`: the endpoint, the bucket and the prefix."""
        return f"{place_of_bucket(self.bucket, self.config)}/{self.prefix}".rstrip("/")

    @property
    def owner(self) -> S3Config:
        """See `SupportsIdentity.owner`: the options that determine what a reader may see."""
        if self._owner is None:  # cached: it copies 26 checked fields, and every cache look-up needs it
            self._owner = reader_of(self.config)
        return self._owner

    def parent(self) -> tuple[S3Store, str] | None:
        """See `SupportsParent.parent`; None at the root of the bucket."""
        above, _, name = self.prefix.rpartition("/")
        return (self._view(above, chunk_reads=False), name) if name else None

    def __eq__(self, other: object) -> bool:
        """Whether both have the same bucket, prefix and options."""
        if not isinstance(other, S3Store):
            return NotImplemented
        return (self.bucket, self.prefix, self.config) == (other.bucket, other.prefix, other.config)

    def __hash__(self) -> int:
        return hash((self.bucket, self.prefix))

    def __repr__(self) -> str:
        return f"S3Store({self.url!r})"

    @property
    def for_chunk_reads(self) -> S3Store:
        """The same objects for pure reads of chunks, to which `S3Config.missing_on_403` applies.

        Never used for metadata or for the read of a merge: stored data would count as absent, and be overwritten.
        """
        if self._chunk_reads or not self.config.missing_on_403:
            return self
        return self._view(self.prefix, chunk_reads=True)

    def _view(self, prefix: str, *, chunk_reads: bool) -> S3Store:
        return S3Store(
            self.bucket,
            prefix,
            transport=self._transport,
            config=self.config,
            capabilities=self._capabilities,
            chunk_reads=chunk_reads,
        )

    async def get(
        self,
        key: str,
        *,
        range: ByteRange | None = None,  # noqa: A002  # the protocol's name
        version: Version | None = None,
        sink: Sink | None = None,
        max_bytes: int | None = None,
    ) -> Blob | None:
        """GetObject; see `Readable.get`."""
        if range is not None and is_empty(range):
            return await self._get_nothing(key, range, version)
        headers = self._whole_headers if range is None else self._read_headers
        if range is not None or version is not None:
            headers = headers | read_conditions(range, version)
        request = Request("GetObject", self.bucket, self._key(key), headers, sink=sink, max_bytes=max_bytes)
        response, attempts = await self._transport.send(request)
        if response.status == 416 and range is not None:
            empty = await self._empty_range(request, range)
            if empty is not None:
                return empty
            # The HEAD disagrees: the object may have changed. The second response is final.
            response, attempts = await self._transport.send(request)
        if response.ok:
            blob = blob_of(response, range)
            # A server that ignores `If-Match` responds 200 with whatever it has.
            if version is not None and not is_same(blob.version, version):
                raise version_mismatch_error(request, response, attempts)
            return blob
        # With a version, absence means that the object was deleted since: a conflict, not an absent chunk.
        if version is None and (self._is_missing(response) or (self._chunk_reads and is_forbidden(response))):
            return None
        raise self._error(request, response, attempts)

    async def get_unless(
        self,
        key: str,
        version: Version,
        *,
        range: ByteRange | None = None,  # noqa: A002  # the protocol's name
        max_bytes: int | None = None,
    ) -> Blob | Literal[Unchanged.UNCHANGED] | None:
        """GetObject with `If-None-Match`; see `SupportsUnless.get_unless`."""
        headers = (self._whole_headers if range is None else self._read_headers) | read_conditions(range, None)
        headers["if-none-match"] = if_match(version)
        request = Request("GetObject", self.bucket, self._key(key), headers, max_bytes=max_bytes)
        response, _ = await self._transport.send(request)
        if response.status == _NOT_MODIFIED:
            return Unchanged.UNCHANGED
        if response.ok:
            return blob_of(response, range)
        # Absence, empty ranges and errors are handled in `get` alone.
        return await self.get(key, range=range, max_bytes=max_bytes)

    async def _get_nothing(self, key: str, asked: ByteRange, version: Version | None) -> Blob | None:
        """An empty range. HTTP has none, so one byte is read, which reports absence and errors like any GET."""
        checked(asked)
        blob = await self.get(key, range=Span(asked[0], asked[0] + 1), version=version)
        return None if blob is None else blob._replace(data=b"")

    async def _empty_range(self, get: Request, asked: ByteRange) -> Blob | None:
        """A range that starts past the end: no bytes, with the size and version from a HEAD.

        None if the HEAD disagrees. It decides nothing else, since its response has no body with an error code.
        """
        head = Request("HeadObject", self.bucket, get.key, self._read_headers)
        response, _ = await self._transport.send(head)
        if not response.ok:
            return None
        size = int(response.headers["content-length"])
        start, stop = resolve(asked, size)
        version = version_of(response.headers)
        if start < stop or not is_same(Version(get.headers.get("if-match", version)), version):
            return None
        return Blob(b"", version, size, response.headers.get("last-modified"))

    def _is_missing(self, response: Response) -> bool:
        return is_missing_key(response) or (self.config.accept_bare_404 and is_bare_404(response))

    async def put(self, key: str, data: Buffer, *, when: When = "always") -> Version:
        """PutObject, or an upload in parts from `S3Config.multipart_bytes` on; see `Writable.put`."""
        request = Request("PutObject", self.bucket, self._key(key), self._put_headers, payload=data)
        if self._multipart.takes(data):
            version = await self._put_in_parts(request, when)
            if version is not None:
                return version
        if await self._sends_checksums():
            name, value = await checksum_of(data)
            request = replace(request, headers=self._put_headers | {name: value})
        if when != "always":
            needed: Capability = "put-absent" if when == "absent" else "put-match"
            if await self._conditional.applies(needed, request):
                return await self._conditional.put(request, when)
        return version_of((await self._succeed(request)).headers)

    async def _put_in_parts(self, request: Request, when: When) -> Version | None:
        """Upload in parts; None if the object must be, or can only be, stored by one request."""
        condition = await self._multipart.condition(request, when)
        if condition is None:
            return None
        try:
            return await self._multipart.put(request, condition, checksums=await self._sends_checksums())
        except NoMultipart:
            return None

    async def _sends_checksums(self) -> bool:
        match self.config.checksums:
            case "on":
                return True
            case "off":
                return False
        return await self._capabilities.amazon()

    async def endpoint_url(self) -> str:
        """The URL of the bucket's server."""
        return await self._capabilities.endpoint_url()

    async def send(self, request: Request) -> tuple[Response, int]:
        """Send any read, for diagnosis.

        Args:
            request: Sent with the headers of the store's reads, which its own headers replace.

        Returns:
            The unprocessed response, and the number of attempts.
        """
        return await self._transport.send(replace(request, headers={**self._read_headers, **request.headers}))

    async def keeps(self, key: str, when: Version | Literal["absent"]) -> bool:
        """See `SupportsUnkeptConditions.keeps`: False where the server ignores conditions, or they are off."""
        near = Request("PutObject", self.bucket, self._key(key), self._put_headers)
        return await self._conditional.has("put-absent" if when == "absent" else "put-match", near)

    async def honours_conditions(self) -> bool | None:
        """Whether the server honours conditional PUTs; None: the probe was refused. Writes temporary keys."""
        near = Request("PutObject", self.bucket, self._key("doctor"), self._put_headers)
        return await self._capabilities.have("put-match", near, now=True)

    def copies_from(self, source: Store) -> bool:
        """True for a store of the same service under the same options; see `SupportsCopy.copies_from`."""
        # The name of an access point as a source differs from its name as a target.
        named = not any(name.startswith("arn:") for name in (self.bucket, getattr(source, "bucket", "arn:")))
        return named and isinstance(source, S3Store) and source.config == self.config

    async def copy_from(self, source: Store, source_key: str, key: str) -> Version | None:
        """CopyObject; see `SupportsCopy.copy_from`. Amazon copies objects of up to 5 GiB."""
        assert isinstance(source, S3Store)  # noqa: S101  # checked by `copies_from`
        there = {"x-amz-copy-source": f"{source.bucket}/{source._key(source_key)}"}  # noqa: SLF001  # of this class
        request = Request("CopyObject", self.bucket, self._key(key), self._put_headers | there)
        response, attempts = await self._transport.send(request)
        if response.ok:
            return Version(str((response.document or {})["CopyObjectResult"]["ETag"]))
        if self._is_missing(response):
            return None
        error = error_of(request, response, attempts)
        if response.status in _NOT_COPIED:
            raise Unsupported(str(error), bucket=self.bucket, key=request.key, status=response.status) from error
        raise error

    async def delete(self, key: str, *, when: Version | Literal["always"] = "always") -> None:
        """DeleteObject; see `Writable.delete`.

        Raises:
            Unsupported: A version was given, but the server ignores it, and might delete what others wrote.
        """
        request = Request("DeleteObject", self.bucket, self._listed_key(key), self._read_headers)
        if when != "always" and await self._conditional.applies("delete-match", request):
            await self._conditional.delete(request, when)
            return
        response, attempts = await self._transport.send(request)
        # S3 responds 204 for an absent key; other servers respond 404.
        if not response.ok and not self._is_missing(response):
            raise self._error(request, response, attempts)

    async def delete_many(self, keys: Iterable[str]) -> None:
        """DeleteObjects, 1,000 keys at a time; see `Writable.delete_many`."""
        remaining: Iterator[str] = iter(keys)
        while batch := list(islice(remaining, _BATCH)):
            # Not quiet: each deleted key must be confirmed.
            document = {"Objects": [{"Key": self._listed_key(key)} for key in batch], "Quiet": False}
            request = Request("DeleteObjects", self.bucket, "", self._read_headers, document=document)
            if not self._capabilities.deletes_many:
                await self._delete_each(batch)
                continue
            response, attempts = await self._transport.send(request)
            # Remembered, so that later calls do not ask again.
            if is_unsupported(response):
                self._capabilities.lacks_delete_many()
                await self._delete_each(batch)
                continue
            if not response.ok:
                raise self._error(request, response, attempts)
            failed = (response.document or {}).get("Errors") or []
            # A 200 may contain errors of single keys.
            if failed:
                raise self._not_deleted(failed)

    async def _delete_each(self, keys: list[str]) -> None:
        """For servers without DeleteObjects (Google's S3 endpoint, some gateways); the session's limit is shared."""
        await run_workers(min(_DELETES_AT_ONCE, len(keys)), iter(keys), self.delete)

    def list_prefix(self, prefix: str = "") -> Pages:
        """ListObjectsV2, page by page; see `Listable.list_prefix`."""
        return Pages(self._pages(self._root + prefix), self._root)

    async def list_pages(self, prefix: str = "", *, after: str = "") -> AsyncIterator[list[Entry]]:
        """ListObjectsV2, a page at a time; see `SupportsPages.list_pages`."""
        root = self._root
        start_after: str | None = None
        if after and after.startswith(prefix):
            start_after = root + after
        elif after > prefix:
            return  # every key of the prefix is smaller; MinIO rejects such a request
        pages = self._pages(root + prefix, start_after=start_after)
        while (page := await pages.next()) is not None:
            if entries := entries_of(page, root):
                yield entries

    async def list_dir(self, prefix: str = "") -> Listing:
        """ListObjectsV2 with a delimiter; see `Listable.list_dir`."""
        folder = self._root + (prefix.rstrip("/") + "/" if prefix.strip("/") else "")
        dirs: list[str] = []
        entries: list[Entry] = []
        pages = self._pages(folder, delimiter="/")
        while (page := await pages.next()) is not None:
            dirs += [p["Prefix"][len(self._root) :].rstrip("/") for p in page.get("CommonPrefixes", ())]
            entries += [entry for entry in entries_of(page, self._root) if self._root + entry.key != folder]
        return Listing(tuple(sorted(dirs)), tuple(sorted(entries, key=lambda e: e.key)))

    def _pages(self, prefix: str, *, delimiter: str | None = None, start_after: str | None = None) -> PageReader:
        _check_unicode(prefix + (start_after or ""))
        fetch = partial(self._list, prefix, delimiter=delimiter, start_after=start_after)
        return PageReader(fetch, self.bucket, prefix)

    async def _list(
        self, prefix: str, token: str | None, *, delimiter: str | None = None, start_after: str | None = None
    ) -> Mapping[str, Any]:
        query = {"prefix": prefix}
        if start_after is not None:
            query["start-after"] = start_after
        if token is not None:
            query["continuation-token"] = token
        if delimiter is not None:
            query["delimiter"] = delimiter
        response = await self._succeed(Request("ListObjectsV2", self.bucket, "", self._read_headers, query))
        return response.document or {}

    async def _succeed(self, request: Request) -> Response:
        response, attempts = await self._transport.send(request)
        if not response.ok:
            raise self._error(request, response, attempts)
        return response

    def _error(self, request: Request, response: Response, attempts: int) -> StoreError:
        if "if-match" in request.headers and (is_conflict(response) or self._is_missing(response)):
            return conflict_of(request, response, attempts)
        return error_of(request, response, attempts)

    def _not_deleted(self, failed: list[Mapping[str, str]]) -> StoreError:
        first = failed[0]
        request = Request("DeleteObjects", self.bucket, first.get("Key", ""))
        # Each key has an error of its own in a 200 response; the first one is raised as if it were the response.
        document = ErrorDocument(first.get("Code", ""), first.get("Message", ""))
        error = error_of(request, Response(200, {}, error=document))
        error.args = (f"{error.args[0]} ({len(failed)} key(s) were not deleted)",)
        return error

    @property
    def _root(self) -> str:
        return self.prefix + "/" if self.prefix else ""

    def _listed_key(self, key: str) -> str:
        # Consoles store an empty object named as the store's own folder; a listing contains it as "".
        return self._key(key) if key else self._root or self._key(key)

    def _key(self, key: str) -> str:
        whole = f"{self.prefix}/{key}" if self.prefix else key
        if not whole.isascii():  # saves most keys two calls
            _check_unicode(whole)
        if not key or len(whole) * 4 > _MAX_KEY_BYTES < len(whole.encode()):
            raise ConfigError(f"S3 keys have 1 to {_MAX_KEY_BYTES} bytes; {whole[:80]!r}… has {len(whole.encode())}")
        return whole


def _check_unicode(text: str) -> None:
    if not is_unicode(text):
        raise ConfigError(f"S3 keys are UTF-8, but {text[:80]!r} contains a lone surrogate")
