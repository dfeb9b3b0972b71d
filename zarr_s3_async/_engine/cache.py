"""What a session keeps of the objects it read: the least recently used are evicted first, under a bound of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Mapping
from dataclasses import dataclass
from itertools import count
from typing import Any, Generic, NamedTuple, Self, TypeAlias, TypeVar

import numpy as np

from .._types import Version

Entries: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Chunks: TypeAlias = Mapping[int, np.ndarray[Any, np.dtype[Any]] | None]
"""Decoded chunks of one object by slot; None where the chunk is absent."""
T = TypeVar("T")

_PER_CHUNK = 200
"""Bytes that a cached chunk takes beside its elements, and an absent one altogether; about."""
_times = count(1)
"""Of fetches and openings, in the order in which they begin, over all sessions."""


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """The decoded index of one state of one shard."""

    entries: Entries
    """(chunks, 2): offset and length."""
    version: Version
    """The state that it describes: ranges are asked for under it."""


class Reader(NamedTuple):
    """Who asks a cache, on behalf of one handle."""

    owner: Hashable = None
    """Whose credentials read: what one owner fetched is not given to another, who may be allowed to see less."""
    since: int = 0
    """When the handle was opened: what was absent before may have been written since, by another session."""


class _Opened:
    """When a handle was opened last."""

    time = 0


def new_reader(owner: Hashable) -> Reader:
    """A reader that trusts no absence that was found before now."""
    _Opened.time = next(_times)
    return Reader(owner, _Opened.time)


class _Entry(NamedTuple, Generic[T]):
    value: T
    nbytes: int
    owner: Hashable
    time: int
    """When its fetch began."""


class Cache(Generic[T]):
    """Values by the name of their object (`Runtime.name_of`); of each only what one owner fetched last."""

    __slots__ = ("_entries", "_pending", "_size_of", "limit", "nbytes")

    def __init__(self, limit: int, size_of: Callable[[T], int]) -> None:
        self.limit: int = limit
        self.nbytes: int = 0
        self._size_of = size_of
        self._entries: OrderedDict[str, _Entry[T]] = OrderedDict()
        self._pending: dict[str, list[PendingEntry[T]]] = {}

    def __len__(self) -> int:
        return len(self._entries)

    def get(self, name: str, reader: Reader = Reader()) -> T | None:  # noqa: B008  # it is immutable
        """The value, as far as this reader may use it; it becomes the most recently used."""
        value = self.peek(name, reader)
        if value is not None:
            self._entries.move_to_end(name)
        return value

    def peek(self, name: str, reader: Reader = Reader()) -> T | None:  # noqa: B008  # likewise
        """What `get` would give, without counting as a use."""
        entry = self._entries.get(name)
        if entry is None or (entry.owner is not reader.owner and entry.owner != reader.owner):
            return None
        return entry.value if entry.time > reader.since else self._from_before(entry.value)

    def _from_before(self, value: T) -> T | None:  # noqa: ARG002  # caches that can use a part of it do
        """What a handle may use of a value that was fetched before it was opened."""
        return None

    def fetching(self, name: str, reader: Reader = Reader()) -> PendingEntry[T]:  # noqa: B008  # likewise
        """While this context is entered, a value of that name is being fetched; `PendingEntry.keep` caches it."""
        return PendingEntry(self, name, reader.owner)

    def put(self, name: str, value: T, owner: Hashable = None, time: int | None = None) -> None:
        """Cache a value, and evict others for it; one above the bound is not cached.

        Args:
            name: Of the object.
            value: What was fetched.
            owner: Who fetched it.
            time: When the fetch began; default: now.
        """
        self._drop(name)
        size = self._size_of(value)
        if size > self.limit:
            return
        self._entries[name] = _Entry(value, size, owner, next(_times) if time is None else time)
        self.nbytes += size
        while self.nbytes > self.limit:
            self._drop(next(iter(self._entries)))

    def forget(self, name: str) -> None:
        """Drop a value, and do not cache what is being fetched of it; not known is fine."""
        self._drop(name)
        for pending in self._pending.get(name, ()):
            pending.is_stale = True

    def forget_below(self, prefix: str) -> None:
        """Forget all whose name starts with `prefix`."""
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
    """Shard indexes."""

    __slots__ = ()

    def __init__(self, limit: int) -> None:
        super().__init__(limit, lambda index: index.entries.nbytes)


class ChunkCache(Cache[Chunks]):
    """Decoded chunks. They are shared by all readers, who must not change them."""

    __slots__ = ()

    def __init__(self, limit: int) -> None:
        super().__init__(limit, _nbytes_of)

    def add(self, pending: PendingEntry[Chunks], chunks: Chunks) -> None:
        """Cache these beside the others of their object, or alone where they are too many together."""
        entry = self._entries.get(pending.name)
        others: Chunks = {}
        if entry is not None and entry.owner == pending.owner:
            # The entry will count as fetched now. Absences of before must not, if a handle was opened in between.
            others = entry.value if entry.time > _Opened.time else self._from_before(entry.value)
        together = {**others, **chunks}
        pending.keep(together if _nbytes_of(together) <= self.limit else chunks)

    def _from_before(self, value: Chunks) -> Chunks:
        return {slot: chunk for slot, chunk in value.items() if chunk is not None}


def _nbytes_of(chunks: Chunks) -> int:
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
        self._cache._begin(self)  # noqa: SLF001  # one thought, one file
        return self

    def __exit__(self, *_: object) -> None:
        self._cache._end(self)  # noqa: SLF001  # likewise

    def keep(self, value: T) -> None:
        """Cache what was fetched."""
        if not self.is_stale:
            self._cache.put(self.name, value, self.owner, self._time)
