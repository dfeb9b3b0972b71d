"""`ObspecStore`: the protocols of obspec over the stores of this library, for libraries that use these protocols.

Implemented are the asynchronous protocols Get, GetRange, GetRanges, Head, Put, Copy, Delete, List and
ListWithDelimiter, all `…Async`, and the blocking protocols that read. obspec itself is not needed: its protocols are
structural.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Sequence
from datetime import datetime
from os import PathLike
from pathlib import Path
from typing import Any, TypedDict

import zarr_s3_async as zs

from .._concurrency.blocking import run_blocking
from .._concurrency.loop_thread import background_loop
from ..byte_range import ByteRange, Offset, Span, Suffix, resolve
from ..stores import optional
from ..stores.base import Blob, Entry, parse_modified
from ._place import Place, bucket_errors

_PIECE = 2**20
"""Bytes of one piece of a result that is iterated over."""
_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
"""Time of last modification for stores that report none: obspec requires one."""


# obspec's `map_exception` identifies errors by the names of their classes.


class NotFoundError(zs.StoreError, FileNotFoundError):
    """There is no object at this path."""


class AlreadyExistsError(zs.Conflict):
    """A put with the mode `create` found an object at this path."""


class PreconditionError(zs.Conflict):
    """The object is not at the required version."""


class NotSupportedError(zs.Unsupported):
    """An option of obspec that the stores of this library do not support."""


class ObjectMeta(TypedDict):
    """Metadata of an object, in the form of obspec."""

    path: str
    last_modified: datetime
    size: int
    e_tag: str | None
    version: str | None


class ListResult(TypedDict):
    """One level of keys, in the form of obspec."""

    common_prefixes: Sequence[str]
    objects: Sequence[ObjectMeta]


class GetResult:
    """An object, or a part of it, that was read. Its bytes are in memory."""

    __slots__ = ("_blob", "_path", "_wanted", "attributes")

    def __init__(self, path: str, blob: Blob, wanted: ByteRange | None) -> None:
        self._path = path
        self._blob = blob
        self._wanted = wanted
        self.attributes: dict[str, str] = {}
        """Always empty: the stores of this library do not return attributes."""

    @property
    def meta(self) -> ObjectMeta:
        """Path, size, time and ETag of the whole object."""
        return _meta(Entry(self._path, self._blob.size, self._blob.version, self._blob.modified))

    @property
    def range(self) -> tuple[int, int]:
        """(start, stop) of the bytes within the object."""
        return resolve(self._wanted, self._blob.size)

    def buffer(self) -> memoryview:
        """The bytes."""
        return memoryview(self._blob.data)

    async def buffer_async(self) -> memoryview:
        """The bytes."""
        return memoryview(self._blob.data)

    def __iter__(self) -> Iterator[memoryview]:
        body = memoryview(self._blob.data)
        for start in range(0, len(body), _PIECE):
            yield body[start : start + _PIECE]

    async def __aiter__(self) -> AsyncIterator[memoryview]:
        for piece in iter(self):
            yield piece


class ObspecStore:
    """obspec's protocols over a store of this library.

    Each event loop uses it through the loop's shared session; blocking calls use the process's background loop. It
    pickles as a reference: URL and options without keys.

    Args:
        where: A URL, a path, or a `zs.Store`.
        options: Options of the session, with a URL only.

    Raises:
        ConfigError: The URL or an option is invalid.
    """

    __slots__ = ("_place",)

    def __init__(self, where: str | PathLike[str] | zs.Store, **options: Any) -> None:
        self._place = where if isinstance(where, Place) else Place(where, options)

    @property
    def url(self) -> str:
        """URL of the store, without a trailing slash."""
        return self._place.url

    def __repr__(self) -> str:
        return f"ObspecStore({self.url!r})"

    def __eq__(self, other: object) -> bool:
        """Whether both are the same store, reached with the same options."""
        return self._place == other._place if isinstance(other, ObspecStore) else NotImplemented

    def __hash__(self) -> int:
        return hash(self._place)

    # Reads

    async def get_async(self, path: str, *, options: Any = None) -> GetResult:
        """obspec.GetAsync, with the options `range`, `if_match` and `head`.

        Raises:
            NotFoundError: The object does not exist.
            PreconditionError: It is not at the version of `if_match`.
            NotSupportedError: Another option was passed.
        """
        # None and False mean that an option is not used; any other value is used, or refused.
        asked = {name: value for name, value in (options or {}).items() if value is not None and value is not False}
        wanted, version = _range_of(asked.pop("range", None)), asked.pop("if_match", None)
        is_head = asked.pop("head", False)
        if asked:
            raise NotSupportedError(f"get of {path!r}: the option {min(asked)!r} is not supported")
        blob = await self._get(path, Span(0, 0) if is_head else wanted, version)
        return GetResult(path, blob, wanted)

    async def get_range_async(
        self, path: str, *, start: int, end: int | None = None, length: int | None = None
    ) -> memoryview:
        """obspec.GetRangeAsync: bytes `start` to `end`, or `length` of them."""
        (span,) = _spans([start], None if end is None else [end], None if length is None else [length])
        return memoryview((await self._get(path, span, None)).data)

    async def get_ranges_async(
        self,
        path: str,
        *,
        starts: Sequence[int],
        ends: Sequence[int] | None = None,
        lengths: Sequence[int] | None = None,
    ) -> list[memoryview]:
        """obspec.GetRangesAsync. All ranges are of one version of the object."""
        with bucket_errors:
            blobs = await optional.get_ranges(self._place.store(), path, _spans(starts, ends, lengths))
        if blobs is None:
            raise self._absent(path)
        return [memoryview(blob.data) for blob in blobs]

    async def head_async(self, path: str) -> ObjectMeta:
        """obspec.HeadAsync."""
        with bucket_errors:
            entry = await optional.stat(self._place.store(), path)
        if entry is None:
            raise self._absent(path)
        return _meta(entry)

    async def _get(self, path: str, wanted: ByteRange | None, version: Any) -> Blob:
        try:
            with bucket_errors:
                blob = await self._place.store().get(path, range=wanted, version=version)
        except zs.Conflict as error:
            raise PreconditionError(str(error), key=path, status=error.status, code=error.code) from error
        if blob is None:
            raise self._absent(path)
        return blob

    def _absent(self, path: str) -> NotFoundError:
        return NotFoundError(f"{self.url}/{path} does not exist", key=path)

    # Writes

    async def put_async(
        self,
        path: str,
        file: Any,
        *,
        attributes: Any = None,
        tags: Any = None,
        mode: Any = None,
        use_multipart: bool | None = None,  # noqa: ARG002  # obspec's hints: the store decides by the size
        chunk_size: int = 0,  # noqa: ARG002  # likewise
        max_concurrency: int = 0,  # noqa: ARG002  # likewise
    ) -> dict[str, str | None]:
        """obspec.PutAsync. The data of an iterator or a file is collected in memory before it is sent.

        Raises:
            AlreadyExistsError: The mode is `create`, and the object exists.
            PreconditionError: The mode is an `e_tag`, and the object is at another version.
            NotSupportedError: Attributes or tags were passed.
        """
        if attributes or tags:
            raise NotSupportedError(f"put of {path!r}: attributes and tags are not supported")
        when = _condition_of(mode)
        try:
            with bucket_errors:
                store, data = self._place.store(), await _bytes_of(file)
                await optional.check_condition(store, path, when)
                version = await store.put(path, data, when=when)
        except zs.Conflict as error:
            kind = AlreadyExistsError if when == "absent" else PreconditionError
            raise kind(str(error), key=path, status=error.status, code=error.code) from error
        return {"e_tag": version, "version": None}

    async def copy_async(self, from_: str, to: str, *, overwrite: bool = True) -> None:
        """obspec.CopyAsync. This process reads and writes the bytes."""
        blob = await self._get(from_, None, None)
        await self.put_async(to, blob.data, mode="overwrite" if overwrite else "create")

    async def delete_async(self, paths: str | Sequence[str]) -> None:
        """obspec.DeleteAsync. Absent objects are ignored, with every store."""
        with bucket_errors:
            if isinstance(paths, str):
                await self._place.store().delete(paths)
            else:
                await optional.delete_stream(self._place.store(), paths)

    # Listings

    async def list_async(
        self, prefix: str | None = None, *, offset: str | None = None
    ) -> AsyncIterator[list[ObjectMeta]]:
        """obspec.ListAsync: pages of the objects below the folder `prefix`, sorted, after the path `offset`."""
        with bucket_errors:
            async for page in optional.list_pages(self._place.store(), _folder(prefix), after=offset or ""):
                yield [_meta(entry) for entry in page]

    async def list_with_delimiter_async(self, prefix: str | None = None) -> ListResult:
        """obspec.ListWithDelimiterAsync: one level."""
        with bucket_errors:
            listing = await self._place.store().list_dir(prefix or "")
        return ListResult(common_prefixes=listing.dirs, objects=[_meta(entry) for entry in listing.entries])

    # Blocking reads

    def get(self, path: str, *, options: Any = None) -> GetResult:
        """obspec.Get; see `get_async`."""
        return background_loop().run(self.get_async(path, options=options))

    def get_range(self, path: str, *, start: int, end: int | None = None, length: int | None = None) -> memoryview:
        """obspec.GetRange; see `get_range_async`."""
        return background_loop().run(self.get_range_async(path, start=start, end=end, length=length))

    def get_ranges(
        self,
        path: str,
        *,
        starts: Sequence[int],
        ends: Sequence[int] | None = None,
        lengths: Sequence[int] | None = None,
    ) -> list[memoryview]:
        """obspec.GetRanges; see `get_ranges_async`."""
        return background_loop().run(self.get_ranges_async(path, starts=starts, ends=ends, lengths=lengths))

    def head(self, path: str) -> ObjectMeta:
        """obspec.Head; see `head_async`."""
        return background_loop().run(self.head_async(path))


def _meta(entry: Entry) -> ObjectMeta:
    return ObjectMeta(
        path=entry.key,
        last_modified=parse_modified(entry.modified) or _EPOCH,
        size=entry.size,
        e_tag=entry.version,
        version=None,
    )


def _folder(prefix: str | None) -> str:
    return prefix.rstrip("/") + "/" if prefix else ""


def _range_of(asked: Any) -> ByteRange | None:
    match asked:
        case None:
            return None
        case {"offset": int(start), **rest} if not rest:
            return Offset(start)
        case {"suffix": int(length), **rest} if not rest:
            return Suffix(length)
        case [int(start), int(stop)]:
            return Span(start, stop)
    raise TypeError(f"a range must be (start, end), {{'offset': start}} or {{'suffix': length}}, not {asked!r}")


def _spans(starts: Sequence[int], ends: Sequence[int] | None, lengths: Sequence[int] | None) -> list[Span]:
    if (ends is None) == (lengths is None):
        raise TypeError("a range needs either an end or a length")
    if ends is not None:
        return [Span(start, end) for start, end in zip(starts, ends, strict=True)]
    return [Span(start, start + length) for start, length in zip(starts, lengths or (), strict=True)]


def _condition_of(mode: Any) -> Any:
    match mode:
        case None | "overwrite":
            return "always"
        case "create":
            return "absent"
        case {"e_tag": str(version)}:
            return version
    raise TypeError(f"a mode must be 'overwrite', 'create' or {{'e_tag': …}}, not {mode!r}")


async def _bytes_of(file: Any) -> Any:
    if isinstance(file, Path):
        return await run_blocking(file.read_bytes)
    if hasattr(file, "read"):
        return await run_blocking(file.read)
    try:
        return memoryview(file).cast("B")
    except TypeError:
        pass
    if hasattr(file, "__aiter__"):
        return b"".join([bytes(piece) async for piece in file])
    return b"".join([bytes(piece) for piece in file])
