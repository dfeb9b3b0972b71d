"""HttpStore: the objects below one path of a web server."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable
from dataclasses import replace
from typing import Literal, NoReturn, Self
from urllib.parse import quote

from ..._http.head import parse_content_range
from ..._types import Buffer, Sink, Version, When
from ...byte_range import ByteRange, Offset, Span, Suffix, checked, is_empty, resolve
from ...errors import AccessDenied, ConfigError, Conflict, UnexpectedResponse, Unsupported
from ..base import Blob, Entry, Listing, StoreContext, StoreRef, Unchanged
from .client import Answer, HttpClient, HttpRequest, parse_origin, too_large, unexpected

_ABSENT = frozenset({404, 410})
_NOT_MODIFIED = 304
_NO_HEAD = frozenset({405, 501})
_SAFE = "/~!$&'()*+,;=:@"
"""Characters besides letters, digits and `-._` that a path may contain unencoded (RFC 3986, section 3.3)."""


class HttpStore:
    """The objects below one path of a web server, read-only, opened by an `https://` or `http://` URL.

    An object is absent if the server responds 404 or 410, with any body: a wrong path looks like an absent array. Its
    version is its ETag; without one, its Last-Modified and length; without these, its length alone, and then a read of
    a shard that is replaced meanwhile cannot be detected. Web servers have no listings: groups are opened by name, or
    with consolidated metadata. The store owns nothing that must be closed.

    Args:
        url: URL without user, query and fragment. Keys follow its path.
        client: Sends the requests.
        missing_on_403: In reads of chunks, 403 means absent: see `S3Config.missing_on_403`.
        for_chunks: This store is for reads of chunks.
    """

    __slots__ = ("_client", "_for_chunks", "_missing_on_403", "_origin", "_path")

    def __init__(self, url: str, client: HttpClient, *, missing_on_403: bool = False, for_chunks: bool = False) -> None:
        self._origin, self._path = parse_origin(url)
        self._client = client
        self._missing_on_403 = missing_on_403
        self._for_chunks = for_chunks

    @property
    def url(self) -> str:
        """The URL without a trailing slash."""
        return f"{self._origin.scheme}://{self._origin.authority}{self._path}"

    @property
    def ref(self) -> StoreRef:
        """See `SupportsRef.ref`."""
        return StoreRef(url=self.url, config={"missing_on_403": True} if self._missing_on_403 else {})

    @property
    def for_chunk_reads(self) -> Self:
        """See `SupportsForbiddenIsMissing`: public buckets without permission to list answer 403 for absent objects."""
        if self._for_chunks or not self._missing_on_403:
            return self
        return type(self)(self.url, self._client, missing_on_403=True, for_chunks=True)

    @property
    def place(self) -> str:
        """See `SupportsIdentity.place`: the URL."""
        return self.url

    @property
    def owner(self) -> bool:
        """See `SupportsIdentity.owner`: whether 403 means absent."""
        return self._missing_on_403

    def is_weak(self, version: Version) -> bool:
        """See `SupportsWeakVersions`: all versions but strong ETags; times have a precision of a second."""
        return not version.startswith('"')

    def parent(self) -> tuple[HttpStore, str] | None:
        """See `SupportsParent`: the folder above, whether it contains anything or not."""
        above, slash, name = self._path.rpartition("/")
        if not slash or not name:
            return None
        url = f"{self._origin.scheme}://{self._origin.authority}{above}"
        return HttpStore(url, self._client, missing_on_403=self._missing_on_403), name

    def __eq__(self, other: object) -> bool:
        """Whether both are the same path of the same server."""
        return isinstance(other, HttpStore) and self.ref == other.ref

    def __hash__(self) -> int:
        return hash((self._origin, self._path))

    def __repr__(self) -> str:
        return f"HttpStore({self.url!r})"

    # Reads

    async def get(
        self,
        key: str,
        *,
        range: ByteRange | None = None,  # noqa: A002  # the protocol's name
        version: Version | None = None,
        sink: Sink | None = None,
        max_bytes: int | None = None,
    ) -> Blob | None:
        """GET; see `Readable.get`."""
        wanted = checked(range)
        # HTTP has no empty ranges.
        if wanted is not None and is_empty(wanted):
            return await self._empty(self._compose("HEAD", key, wanted, version), wanted, version)
        request = self._compose("GET", key, wanted, version, sink=sink, max_bytes=max_bytes)
        answer = await self._client.send(request)
        if answer.status == 416 and wanted is not None:
            return await self._empty(request, wanted, version)
        if answer.status not in (200, 206):
            self._check_absent(request, answer, version)
            return None
        return _checked_version(request, _blob(request, answer), version)

    async def get_unless(
        self,
        key: str,
        version: Version,
        *,
        range: ByteRange | None = None,  # noqa: A002  # the protocol's name
        max_bytes: int | None = None,
    ) -> Blob | Literal[Unchanged.UNCHANGED] | None:
        """GET with `If-None-Match`; see `SupportsUnless.get_unless`. Without a strong ETag it is always read."""
        # Other versions cannot be sent in a condition: the object is read and compared here.
        if not version.startswith('"'):
            blob = await self.get(key, range=range, max_bytes=max_bytes)
            same = blob is not None and blob.version == version and not version.startswith("W/")
            return Unchanged.UNCHANGED if same else blob
        request = self._compose("GET", key, checked(range), None, max_bytes=max_bytes)
        request = replace(request, headers={**request.headers, "if-none-match": version})
        answer = await self._client.send(request)
        if answer.status == _NOT_MODIFIED:
            return Unchanged.UNCHANGED
        if answer.status in (200, 206):
            return _blob(request, answer)
        return await self.get(key, range=range, max_bytes=max_bytes)  # handles absence, empty ranges and errors

    def _compose(
        self,
        method: Literal["GET", "HEAD"],
        key: str,
        wanted: ByteRange | None,
        version: Version | None,
        *,
        sink: Sink | None = None,
        max_bytes: int | None = None,
    ) -> HttpRequest:
        if not key or key.startswith("/") or any(part in (".", "..") for part in key.split("/")):
            raise ConfigError(
                f"{key!r} cannot be a key on a web server: it must not start with / or have a part . or .."
            )
        try:
            target = f"{self._path}/{quote(key, safe=_SAFE)}"
        except UnicodeEncodeError as error:
            raise ConfigError(f"{key!r} cannot be a key on a web server: {error}") from error
        headers: dict[str, str] = {}
        match wanted:
            case Span(start, stop) if start < stop:
                headers["range"] = f"bytes={start}-{stop - 1}"
            case Suffix(length) if length:
                headers["range"] = f"bytes=-{length}"
            case Offset(start):
                headers["range"] = f"bytes={start}-"
        if version is not None and version.startswith('"'):  # a weak ETag never matches
            headers["if-match"] = version
        return HttpRequest(method, self._origin, target, key, headers, wanted, sink, max_bytes)

    async def _empty(self, request: HttpRequest, wanted: ByteRange, version: Version | None) -> Blob | None:
        """An empty range: a HEAD provides the size and the version."""
        answer = await self._client.send(self._compose("HEAD", request.key, None, version))
        length = answer.headers.get("content-length", "")
        if answer.status in _NO_HEAD or (answer.status == 200 and not (length.isascii() and length.isdecimal())):
            if not is_empty(wanted):
                raise unexpected(request, answer, "the response to a HEAD has no length")
            blob = await self.get(request.key, range=Span(0, 1), version=version)
            return None if blob is None else Blob(b"", blob.version, blob.size, blob.modified)
        if answer.status != 200:
            self._check_absent(request, answer, version)
            return None
        start, stop = resolve(wanted, int(length))
        if start < stop:
            raise unexpected(request, answer, f"it reports {wanted} of {length} bytes as empty")
        blob = Blob(b"", _version_of(answer, int(length)), int(length), answer.headers.get("last-modified"))
        return _checked_version(request, blob, version)

    def _check_absent(self, request: HttpRequest, answer: Answer, version: Version | None) -> None:
        """Raise unless the response means that the object is absent, and no version was requested."""
        missing = answer.status in _ABSENT or (answer.status == 403 and self._for_chunks)
        if answer.status == 412 or (missing and version is not None):
            raise Conflict(f"{request.url} is not at version {version}", key=request.key, status=answer.status)
        if missing:
            return
        error = AccessDenied if answer.status in (401, 403, 407) else UnexpectedResponse
        raise error(f"{request.url} answered {answer.status}", key=request.key, status=answer.status)

    # What a web server cannot do

    def _read_only(self, verb: str) -> NoReturn:
        raise Unsupported(f"cannot {verb} {self.url}: stores on web servers are read-only, and have no listings")

    async def put(self, key: str, data: Buffer, *, when: When = "always") -> Version:  # noqa: ARG002  # the protocol's
        """Unsupported."""
        self._read_only("write to")

    async def delete(self, key: str, *, when: Version | Literal["always"] = "always") -> None:  # noqa: ARG002  # likewise
        """Unsupported."""
        self._read_only("delete from")

    async def delete_many(self, keys: Iterable[str]) -> None:  # noqa: ARG002  # likewise
        """Unsupported."""
        self._read_only("delete from")

    def list_prefix(self, prefix: str = "") -> AsyncIterator[Entry]:  # noqa: ARG002  # likewise
        """Unsupported, when it is iterated over."""
        return _NoListing(self)

    async def list_dir(self, prefix: str = "") -> Listing:  # noqa: ARG002  # likewise
        """Unsupported."""
        self._read_only("list")


class _NoListing:
    """Fails where a listing would have its first entry."""

    __slots__ = ("_store",)

    def __init__(self, store: HttpStore) -> None:
        self._store = store

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Entry:
        self._store._read_only("list")  # noqa: SLF001  # of this module


def _blob(request: HttpRequest, answer: Answer) -> Blob:
    """The result of a GET, cut to the range if the server ignored it."""
    headers = answer.headers
    length = memoryview(answer.body).nbytes
    if request.max_bytes is not None and length > request.max_bytes:  # a chunked body, whose length was not announced
        raise too_large(request, length)
    start, stop, size = 0, length, length
    if answer.status == 206:
        span = parse_content_range(headers["content-range"])
        assert span is not None  # noqa: S101  # checked by the client
        size = span[2]
    elif answer.cut_from is not None:
        size = answer.cut_from
    elif request.byte_range is not None:
        start, stop = resolve(request.byte_range, length)  # the server ignored the range and sent everything, in chunks
    body: Buffer = answer.body
    if (start, stop) != (0, length):
        body = memoryview(body)[start:stop]
    if request.sink is not None and not answer.in_sink:
        memory = request.sink(stop - start)
        memory.cast("B")[:] = body
        body = memory
    return Blob(body, _version_of(answer, size), size, headers.get("last-modified"))


def _version_of(answer: Answer, size: int) -> Version:
    etag, modified = answer.headers.get("etag"), answer.headers.get("last-modified", "")
    return Version(etag or f"{modified} {size}".strip())


def _checked_version(request: HttpRequest, blob: Blob, version: Version | None) -> Blob:
    if version is not None and blob.version != version:
        raise Conflict(f"{request.url} is at version {blob.version}, not at {version}", key=request.key)
    return blob


def open_store(url: str, context: StoreContext) -> HttpStore:
    """The registry's factory for `https://` and `http://`."""
    client = context.shared.get(HttpClient)
    if client is None:
        client = context.shared[HttpClient] = HttpClient(context)
        context.closing.append(client.aclose)
    assert isinstance(client, HttpClient)  # noqa: S101  # the key is the class
    return HttpStore(url, client, missing_on_403=context.s3.missing_on_403)
