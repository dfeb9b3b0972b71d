"""`ZarrStore`: the stores of this library for zarr-python, xarray and the libraries that use them.

zarr-python writes a part of a chunk by reading the chunk, changing it, and writing it without a precondition. It does
not use the compare-and-swap of `zs.Array`, so two writers of one chunk may lose an update.
"""

from __future__ import annotations

import atexit
from collections.abc import AsyncGenerator, AsyncIterator, Iterable, Sequence
from contextlib import suppress
from contextvars import ContextVar
from os import PathLike
from typing import TYPE_CHECKING, Any, Self

try:
    from zarr.abc.store import (
        ByteRequest,
        OffsetByteRequest,
        RangeByteRequest,
        Store,
        SuffixByteRequest,
    )
    from zarr.core import sync as _zarr_sync
    from zarr.core.buffer import Buffer, BufferPrototype
except ImportError as _error:
    raise ImportError("ZarrStore needs zarr-python: pip install 'zarr-s3-async[zarr]'") from _error

import zarr_s3_async as zs

from .._concurrency.loop_thread import finish_generators
from .._options import check_names
from ..byte_range import ByteRange, Offset, Span, Suffix
from ..stores import optional
from ._place import Place, bucket_errors

if TYPE_CHECKING:
    from .._types import Version, When
    from ..stores.base import Entry

_CLOSING_SECONDS = 10
"""Maximum seconds that interpreter exit waits for connections to close."""
_read_version: ContextVar[tuple[Place, str, Version] | None] = ContextVar("_read_version", default=None)
"""Place, key and version of the last range that this task read: of a shard's index, before its chunks are read."""


class ZarrStore(Store):
    """A store of zarr-python over a store of this library.

    Each event loop uses it through the loop's shared session (`zs.shared_session`), so one `ZarrStore` works in
    zarr-python's thread and in any number of the caller's loops. It pickles as a reference: URL and options without
    keys.

    Args:
        where: A URL (`s3://bucket/prefix`, `file:///folder`, `https://host/path`, …), a path, or a `zs.Store`.
        read_only: Raise an error for every operation that changes the store.
        options: Options of the session, with a URL only: `region=`, `endpoint_url=`, `anonymous=`, `limits=`, …

    Raises:
        ConfigError: The URL or an option is invalid.
    """

    def __init__(self, where: str | PathLike[str] | zs.Store, *, read_only: bool = False, **options: Any) -> None:
        if not isinstance(read_only, bool):
            raise zs.ConfigError(f"read_only must be True or False, not {read_only!r}")
        super().__init__(read_only=read_only)
        check_names(options, {"read_only", *zs.SessionOptions.__annotations__}, "ZarrStore")
        self._place = Place(where, options)

    # Identity

    @property
    def url(self) -> str:
        """URL of the store, without a trailing slash."""
        return self._place.url

    @property
    def place(self) -> Place:
        """The location of the store, for other adapters."""
        return self._place

    def with_read_only(self, read_only: bool = False) -> Self:
        """The same store, read-only or writable."""
        store = type(self).__new__(type(self))
        Store.__init__(store, read_only=read_only)
        store._place = self._place  # noqa: SLF001  # of this class
        return store

    def __eq__(self, other: object) -> bool:
        """Whether both are the same store, with the same options and the same `read_only`."""
        return isinstance(other, ZarrStore) and self.read_only == other.read_only and bool(self._place == other._place)

    def __hash__(self) -> int:
        return hash((self._place, self.read_only))

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"ZarrStore({self.url!r}{', read_only=True' if self.read_only else ''})"

    def close(self) -> None:
        """Drop the store. Its connections belong to the loop's shared session, which closes them with the loop."""
        super().close()
        self._place.forget()

    supports_writes = True
    supports_deletes = True
    supports_listing = True

    # Reads

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """The object or a range of it; None if the object is absent. A missing bucket is an error.

        Raises:
            TypeError: The range is not of one of zarr-python's three kinds.
            StoreError: The store failed.
        """
        wanted = None if byte_range is None else _to_range(byte_range)
        with bucket_errors:
            blob = await self._place.store().get(key, range=wanted)
        if blob is None:
            return None
        if wanted is not None:
            # For `get_ranges`: zarr-python reads a shard's index by one call and its chunks by the next.
            _read_version.set((self._place, key, blob.version))
        return prototype.buffer.from_bytes(blob.data)

    async def get_ranges(
        self,
        key: str,
        byte_ranges: Sequence[ByteRequest | None],
        *,
        prototype: BufferPrototype,
        max_concurrency: int = 10,
        max_gap_bytes: int = 2**20,
        max_coalesced_bytes: int = 16 * 2**20,
    ) -> AsyncIterator[Sequence[tuple[int, Buffer | None]]]:
        """Read ranges of one object, all from the same version.

        If the last range that this task read is of the same object, the ranges are read from that version. So the
        chunks of a shard match the index that zarr-python has read, or the read fails.

        Yields:
            All ranges in one list, each with its position in `byte_ranges`.

        Raises:
            ExceptionGroup: The object is absent: a group of one FileNotFoundError, which zarr-python expects.
            ConcurrentModification: The object was rewritten after the earlier read.
            StoreError: The store failed. The error is not in a group; `except*` catches it as well.
        """
        if not byte_ranges:
            return
        known = _read_version.get()
        version = known[2] if known is not None and known[0] is self._place and known[1] == key else None
        # Used once: a later read of ranges without an index before it wants the current version.
        _read_version.set(None)
        try:
            with bucket_errors:
                found = await optional.get_ranges(
                    self._place.store(),
                    key,
                    [None if wanted is None else _to_range(wanted) for wanted in byte_ranges],
                    version=version,
                    max_gap=max_gap_bytes,
                    max_bytes=max_coalesced_bytes,
                    at_once=max_concurrency,
                )
        except zs.Conflict as error:
            raise zs.ConcurrentModification(
                f"{self.url}/{key} was rewritten after its index was read; read again", key=key
            ) from error
        if found is None:
            raise ExceptionGroup(f"{self.url}/{key} is absent", [FileNotFoundError(key)])
        from_bytes = prototype.buffer.from_bytes
        yield [(number, from_bytes(blob.data)) for number, blob in enumerate(found)]

    async def get_partial_values(
        self, prototype: BufferPrototype, key_ranges: Iterable[tuple[str, ByteRequest | None]]
    ) -> list[Buffer | None]:
        """Read ranges of several objects, in order; None for an absent object."""
        wanted = [(key, None if asked is None else _to_range(asked)) for key, asked in key_ranges]
        with bucket_errors:
            blobs = await optional.get_many(self._place.store(), wanted)
        return [None if blob is None else prototype.buffer.from_bytes(blob.data) for blob in blobs]

    async def _get_many(
        self, requests: Iterable[tuple[str, BufferPrototype, ByteRequest | None]]
    ) -> AsyncGenerator[tuple[str, Buffer | None], None]:
        asked = list(requests)
        wanted = [(key, None if byte_range is None else _to_range(byte_range)) for key, _, byte_range in asked]
        with bucket_errors:
            blobs = await optional.get_many(self._place.store(), wanted)
        for (key, prototype, _), blob in zip(asked, blobs, strict=True):
            yield key, None if blob is None else prototype.buffer.from_bytes(blob.data)

    async def exists(self, key: str) -> bool:
        """Whether the object exists."""
        return await self._stat(key) is not None

    async def getsize(self, key: str) -> int:
        """Bytes of the object.

        Raises:
            FileNotFoundError: It is absent.
        """
        entry = await self._stat(key)
        if entry is None:
            raise FileNotFoundError(key)
        return entry.size

    async def getsize_prefix(self, prefix: str) -> int:
        """Bytes of all objects below the folder `prefix`, from a listing."""
        return sum([entry.size async for page in self._pages(_folder(prefix)) for entry in page])

    async def _stat(self, key: str) -> Entry | None:
        with bucket_errors:
            return await optional.stat(self._place.store(), key)

    # Writes

    async def set(self, key: str, value: Buffer) -> None:
        """Store the object, replacing an existing one."""
        await self._put(key, value, "always")

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Store the object unless it exists. Of several concurrent writers, only the first one stores it."""
        try:
            await self._put(key, value, "absent")
        except zs.Conflict:
            return

    async def _put(self, key: str, value: Buffer, when: When) -> None:
        self._check_writable()
        if not isinstance(value, Buffer):
            raise TypeError(f"a value must be a zarr Buffer, not {type(value).__name__}")
        with bucket_errors:
            store = self._place.store()
            # On a server that ignores conditions, the put alone would overwrite the object.
            await optional.check_condition(store, key, when)
            await store.put(key, value.as_buffer_like(), when=when)

    async def delete(self, key: str) -> None:
        """Delete the object; an absent one is ignored."""
        self._check_writable()
        with bucket_errors:
            await self._place.store().delete(key)

    async def delete_dir(self, prefix: str) -> None:
        """Delete every object below the folder `prefix`, with as few requests as the store allows."""
        self._check_writable()
        with bucket_errors:
            await optional.delete_stream(self._place.store(), self.list_prefix(_folder(prefix)))

    # Listings

    async def _pages(self, prefix: str) -> AsyncIterator[Sequence[Entry]]:
        with bucket_errors:
            async for page in optional.list_pages(self._place.store(), prefix):
                yield page

    async def is_empty(self, prefix: str) -> bool:
        """Whether no object lies below the folder `prefix`."""
        async for _ in self.list_prefix(_folder(prefix)):
            return False
        return True

    def list(self) -> AsyncIterator[str]:
        """Every key, sorted."""
        return self.list_prefix("")

    async def list_prefix(self, prefix: str) -> AsyncIterator[str]:
        """Every key that starts with `prefix`, sorted."""
        async for page in self._pages(prefix):
            for entry in page:
                yield entry.key

    async def list_dir(self, prefix: str) -> AsyncIterator[str]:
        """Names of the folders and of the objects directly in the folder `prefix`."""
        with bucket_errors:
            listing = await self._place.store().list_dir(prefix)
        start = len(_folder(prefix))
        for name in listing.dirs:
            yield name[start:]
        for entry in listing.entries:
            yield entry.key[start:]


def _folder(prefix: str) -> str:
    return prefix if not prefix or prefix.endswith("/") else prefix + "/"


def _to_range(byte_range: ByteRequest) -> ByteRange:
    match byte_range:
        case RangeByteRequest(start, end):
            return Span(start, end)
        case SuffixByteRequest(length):
            return Suffix(length)
        case OffsetByteRequest(start):
            return Offset(start)
    raise TypeError(f"Unexpected byte_range, got {byte_range!r}")


def _close_before_zarr() -> None:
    """Close the session of zarr-python's loop, as `asyncio.run` would do. At exit, zarr-python only stops the loop."""
    loop = _zarr_sync.loop[0]
    if loop is not None and loop.is_running():
        with suppress(Exception):  # the interpreter exits, and an error could not be handled
            finish_generators(loop, _CLOSING_SECONDS)


# Exit handlers run in reverse order: this one runs before the one that zarr-python registered when it was imported.
atexit.register(_close_before_zarr)
