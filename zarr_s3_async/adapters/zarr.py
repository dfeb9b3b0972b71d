"""`ZarrStore`: zarr-python, xarray and what builds on them, over the stores of this library.

Writing through zarr-python is zarr-python's: it reads a chunk, changes a part of it and writes the whole, without a
precondition. The compare-and-swap of `zs.Array` is lost that way, and two writers of one chunk may lose an update.
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
from ..byte_range import ByteRange, Offset, Span, Suffix
from ..stores import optional
from ._place import Place, bucket_errors

if TYPE_CHECKING:
    from .._types import Version, When
    from ..stores.base import Entry

_CLOSING_SECONDS = 10
"""How long the interpreter's exit waits for connections to close."""
_read_version: ContextVar[tuple[Place, str, Version] | None] = ContextVar("_read_version", default=None)
"""Place, key and version of the last ranged read of this task: of a shard's index, where the next is of its chunks."""


class ZarrStore(Store):
    """A store of zarr-python over a store of this library.

    Every event loop that uses it does so through the session that the loop shares (`zs.shared_session`), so one
    `ZarrStore` serves zarr-python's own thread and any number of loops of the caller's. It pickles as a reference: URL
    and options without keys.

    Args:
        where: A URL (`s3://bucket/prefix`, `file:///folder`, `https://host/path`, …), a path, or a `zs.Store`.
        read_only: Refuse what changes the store.
        options: Of the session, with a URL only: `region=`, `endpoint_url=`, `anonymous=`, `limits=`, …

    Raises:
        ConfigError: The URL or an option cannot be.
    """

    def __init__(self, where: str | PathLike[str] | zs.Store, *, read_only: bool = False, **options: Any) -> None:
        if not isinstance(read_only, bool):
            raise zs.ConfigError(f"read_only is True or False, not {read_only!r}")
        super().__init__(read_only=read_only)
        self._place = Place(where, options)

    # What it is

    @property
    def url(self) -> str:
        """Where the store is, without a trailing slash."""
        return self._place.url

    @property
    def place(self) -> Place:
        """Where the store is, for other adapters."""
        return self._place

    def with_read_only(self, read_only: bool = False) -> Self:
        """The same store, which refuses changes or does not."""
        store = type(self).__new__(type(self))
        Store.__init__(store, read_only=read_only)
        store._place = self._place  # noqa: SLF001  # of this class
        return store

    def __eq__(self, other: object) -> bool:
        """Whether both are the same store, with the same options and as read-only as each other."""
        return isinstance(other, ZarrStore) and self.read_only == other.read_only and bool(self._place == other._place)

    def __hash__(self) -> int:
        return hash((self._place, self.read_only))

    def __str__(self) -> str:
        return self.url

    def __repr__(self) -> str:
        return f"ZarrStore({self.url!r}{', read_only=True' if self.read_only else ''})"

    def close(self) -> None:
        """Forget the store. Connections belong to the loop's shared session, which closes them with the loop."""
        super().close()
        self._place.forget()

    supports_writes = True
    supports_deletes = True
    supports_listing = True

    # Reads

    async def get(self, key: str, prototype: BufferPrototype, byte_range: ByteRequest | None = None) -> Buffer | None:
        """The object or a range of it, or None where it is absent; a missing bucket is an error, not absence.

        Raises:
            TypeError: The range is none of zarr-python's three kinds.
            StoreError: The store failed.
        """
        wanted = None if byte_range is None else _to_range(byte_range)
        with bucket_errors:
            blob = await self._place.store().get(key, range=wanted)
        if blob is None:
            return None
        if wanted is not None:
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
        """Many ranges of one object, all of one version of it.

        Where this task has just read a range of the same object, they are of the version that it read: so the chunks of
        a shard are those of the index that zarr-python read, or the read fails.

        Yields:
            All ranges at once, each with its position in `byte_ranges`.

        Raises:
            ExceptionGroup: Of one FileNotFoundError, where the object is absent: zarr-python looks for that.
            ConcurrentModification: It was rewritten since.
            StoreError: The store failed. It is raised as it is, which `except*` catches as well.
        """
        if not byte_ranges:
            return
        known = _read_version.get()
        version = known[2] if known is not None and known[0] is self._place and known[1] == key else None
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
        """Ranges of any objects, in their order; None for an absent one."""
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
        """Whether the object is there."""
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
        """Bytes of all objects below the folder `prefix`, by its listing."""
        return sum([entry.size async for page in self._pages(_folder(prefix)) for entry in page])

    async def _stat(self, key: str) -> Entry | None:
        with bucket_errors:
            return await optional.stat(self._place.store(), key)

    # Writes

    async def set(self, key: str, value: Buffer) -> None:
        """Store the object, whatever was there before."""
        await self._put(key, value, "always")

    async def set_if_not_exists(self, key: str, value: Buffer) -> None:
        """Store the object unless there is one: of many writers at once, one is first."""
        try:
            await self._put(key, value, "absent")
        except zs.Conflict:
            return

    async def _put(self, key: str, value: Buffer, when: When) -> None:
        self._check_writable()
        if not isinstance(value, Buffer):
            raise TypeError(f"a value is a zarr Buffer, not {type(value).__name__}")
        with bucket_errors:
            store = self._place.store()
            await optional.check_condition(store, key, when)
            await store.put(key, value.as_buffer_like(), when=when)

    async def delete(self, key: str) -> None:
        """Remove the object; an absent one is fine."""
        self._check_writable()
        with bucket_errors:
            await self._place.store().delete(key)

    async def delete_dir(self, prefix: str) -> None:
        """Remove every object below the folder `prefix`, in as few requests as the store can."""
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
    """Close the session of zarr-python's loop, as `asyncio.run` would: at exit, zarr-python just stops the loop."""
    loop = _zarr_sync.loop[0]
    if loop is not None and loop.is_running():
        with suppress(Exception):  # the interpreter is going, and nothing is left to do about it
            finish_generators(loop, _CLOSING_SECONDS)


# zarr-python registered its own when it was imported above, and the last one registered is called first.
atexit.register(_close_before_zarr)
