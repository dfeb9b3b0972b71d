"""A session's LRU caches of shard indexes and decoded chunks, each bounded in bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Generic, NamedTuple, Self, TypeAlias, TypeVar

import numpy as np

from .._types import Version

Entries: TypeAlias = np.ndarray[Any, np.dtype[Any]]
DecodedChunks: TypeAlias = Mapping[int, np.ndarray[Any, np.dtype[Any]] | None]
"""Decoded chunks of one object by slot; None where the chunk is absent."""
T = TypeVar("T")

_PER_CHUNK = 200
"""Approximate overhead in bytes of a cached chunk besides its elements; all that an absent one takes."""
_times = count(1)
"""A logical clock that orders fetches and openings of handles, over all sessions."""


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """The decoded index of one version of a shard."""

    entries: Entries
    """uint64, (chunks, 2): offset and length of each chunk."""
    version: Version
    """The version that it describes; range requests are pinned to it."""


class Reader(NamedTuple):
    """Identifies one handle in cache lookups."""

    owner: Hashable = None
    """Identity of the credentials: data fetched by one owner is not given to another, who may have fewer
    permissions."""
    since: int = 0
    """When the handle was opened: chunks found absent before that may have been written since by another session."""


class _Opened:
    """When a handle was opened last."""

    time = 0


def new_reader(owner: Hashable) -> Reader:
    """A reader for a handle opened now: chunks found absent earlier are fetched again."""
    _Opened.time = next(_times)
    return Reader(owner, _Opened.time)


class _CacheEntry(NamedTuple, Generic[T]):
    value: T
    nbytes: int
    owner: Hashable
    time: int
    """When its fetch started."""


class Cache(Generic[T]):
    """An LRU cache by object name (`Runtime.name_of`). Of each object, only the latest fetch of one owner is kept."""

    __slots__ = ("_entries", "_pending", "_size_of", "limit", "nbytes")

    def __init__(self, limit: int, size_of: Callable[[T], int]) -> None:
        self.limit: int = limit
        self.nbytes: int = 0
        self._size_of = size_of
        self._entries: OrderedDict[str, _CacheEntry[T]] = OrderedDict()
        self._pending: dict[str, list[PendingEntry[T]]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, name: str, reader: Reader = Reader()) -> T | None:  # noqa: B008  # it is immutable
        """The value, as far as this reader may use it; marks it as most recently used."""
        value = self.peek(name, reader)
        if value is not None:
            self._entries.move_to_end(name)
        return value

    def peek(self, name: str, reader: Reader = Reader()) -> T | None:  # noqa: B008  # likewise
        """The result of `get`, without marking the value as used."""
        entry = self._entries.get(name)
        if entry is None or (entry.owner is not reader.owner and entry.owner != reader.owner):
            return None
        return entry.value if entry.time > reader.since else self._from_before(entry.value)

    def _from_before(self, value: T) -> T | None:  # noqa: ARG002  # caches that can use a part of it do
        """The part of a value that a handle may use which was opened after the value was fetched."""
        return None

    def fetching(self, name: str, reader: Reader = Reader()) -> PendingEntry[T]:  # noqa: B008  # likewise
        """A context to enter during a fetch; `PendingEntry.keep` caches the result unless it was invalidated
        meanwhile."""
        return PendingEntry(self, name, reader.owner)

    def put(self, name: str, value: T, owner: Hashable = None, time: int | None = None) -> None:
        """Cache a value, evicting others if necessary; a value larger than the cache is not cached.

        Args:
            name: Name of the object.
            value: The fetched value.
            owner: Owner of the credentials that fetched it.
            time: When the fetch started; default: now.
        """
        self._drop(name)
        size = self._size_of(value)
        if size > self.limit:
            return
        self._entries[name] = _CacheEntry(value, size, owner, next(_times) if time is None else time)
        self.nbytes += size
        while self.nbytes > self.limit:
            self._drop(next(iter(self._entries)))

    def forget(self, name: str) -> None:
        """Invalidate a value, including one that is being fetched. Unknown names are ignored."""
        self._drop(name)
        for pending in self._pending.get(name, ()):
            pending.is_stale = True

    def forget_below(self, prefix: str) -> None:
        """Invalidate all values whose name starts with `prefix`."""
        for name in [name for name in (*self._entries, *self._pending) if name.startswith(prefix)]:
            self.forget(name)

    def _drop(self, name: str) -> None:
        entry = self._entries.pop(name, None)
        if entry is not None:
            self.nbytes -= entry.nbytes

    def _begin(self, pending: PendingEntry[T]) -> None:
        self._pending.setdefault(pending.name, []).append(pending)

    def _end(self, pending: PendingEntry[T]) -> None:
        fetches = self._pending[pending.name]
        fetches.remove(pending)
        if not fetches:
            del self._pending[pending.name]


class IndexCache(Cache[ShardIndex]):
    """A cache of shard indexes."""

    __slots__ = ()

    def __init__(self, limit: int) -> None:
        super().__init__(limit, lambda index: index.entries.nbytes)


class ChunkCache(Cache[DecodedChunks]):
    """A cache of decoded chunks, shared by all readers, which must not modify them."""

    __slots__ = ()

    def __init__(self, limit: int) -> None:
        super().__init__(limit, _nbytes_of)

    def add(self, pending: PendingEntry[DecodedChunks], chunks: DecodedChunks) -> None:
        """Add chunks to the entry of their object; replace the entry if it would become too large."""
        entry = self._entries.get(pending.name)
        others: DecodedChunks = {}
        if entry is not None and entry.owner == pending.owner:
            # The merged entry counts as fetched now. Absences found earlier must be dropped if a handle was opened
            # since.
            others = entry.value if entry.time > _Opened.time else self._from_before(entry.value)
        together = {**others, **chunks}
        pending.keep(together if _nbytes_of(together) <= self.limit else chunks)

    def _from_before(self, value: DecodedChunks) -> DecodedChunks:
        return {slot: chunk for slot, chunk in value.items() if chunk is not None}


def _nbytes_of(chunks: DecodedChunks) -> int:
    return sum(_PER_CHUNK + (0 if chunk is None else chunk.nbytes) for chunk in chunks.values())


class PendingEntry(Generic[T]):
    """A fetch in progress.

    If its key is invalidated before it completes, the result is returned to the caller but not cached.
    """

    __slots__ = ("_cache", "_time", "is_stale", "name", "owner")

    def __init__(self, cache: Cache[T], name: str, owner: Hashable) -> None:
        self._cache = cache
        self.name: str = name
        self.owner: Hashable = owner
        self._time = next(_times)
        self.is_stale: bool = False

    def __enter__(self) -> Self:
        self._cache._begin(self)  # noqa: SLF001  # both classes are one unit
        return self

    def __exit__(self, *_: object) -> None:
        self._cache._end(self)  # noqa: SLF001  # likewise

    def keep(self, value: T) -> None:
        """Cache the fetched value, unless it was invalidated."""
        if not self.is_stale:
            self._cache.put(self.name, value, self.owner, self._time)
