"""A session's LRU caches of shard indexes and decoded chunks, each bounded in bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterable, Mapping
from itertools import count, takewhile
from time import monotonic
from types import MappingProxyType
from typing import Any, Final, Generic, NamedTuple, Self, TypeAlias, TypeVar

import numpy as np

from .._types import Version

Entries: TypeAlias = np.ndarray[Any, np.dtype[Any]]
DecodedChunks: TypeAlias = Mapping[int, np.ndarray[Any, np.dtype[Any]] | None]
"""Decoded chunks of one object by slot; None where the chunk is absent."""


class ObjectChunks(dict[int, np.ndarray[Any, np.dtype[Any]] | None]):
    """Decoded chunks of one version of one object, by slot."""

    __slots__ = ("decoder", "version")

    def __init__(
        self, version: Version | None, chunks: DecodedChunks = MappingProxyType({}), decoder: object = None
    ) -> None:
        super().__init__(chunks)
        self.version: Version | None = version
        """None where the whole object is absent."""
        self.decoder: object = decoder
        """`Layout.fetches` of the layout that decoded them: other codecs decode the same bytes to other elements."""


T = TypeVar("T")

_PER_CHUNK = 200
"""Approximate overhead in bytes of a cached chunk besides its elements; all that an absent one takes."""
_times = count(1)
"""A logical clock that orders fetches and openings of handles, over all sessions."""


class ShardIndex(NamedTuple):
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
    max_age: float | None = None
    """Maximum age of a decoded chunk in seconds, since the request that fetched or confirmed it was sent. 0: it must be
    confirmed after the read has started. None: the handle does not cache decoded chunks."""


class _Opened:
    """When a handle was opened last."""

    time = 0


def new_reader(owner: Hashable, max_age: float | None = None) -> Reader:
    """A reader for a handle opened now: chunks found absent earlier are fetched again."""
    # A class attribute: `ChunkCache.add` needs the last opening of any handle, not of one.
    _Opened.time = next(_times)
    return Reader(owner, _Opened.time, max_age)


class _CacheEntry(NamedTuple, Generic[T]):
    value: T
    nbytes: int
    owner: Hashable
    time: int
    """When its fetch started."""
    checked: float = 0.0
    """When the fetch started, or the last confirmation of its version, in seconds of `monotonic`."""


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

    def _from_before(self, value: T) -> T | None:  # noqa: ARG002  # overridden by a cache that can use a part of it
        """The part of a value that a handle may use if it was opened after the value was fetched."""
        return None

    def fetching(self, name: str, reader: Reader = Reader()) -> PendingEntry[T]:  # noqa: B008  # likewise
        """A context to enter during a fetch; `PendingEntry.keep` caches the result unless it was invalidated
        meanwhile."""
        return PendingEntry(self, name, reader.owner)

    def put(
        self, name: str, value: T, owner: Hashable = None, time: int | None = None, checked: float | None = None
    ) -> None:
        """Cache a value, evicting others if necessary; a value larger than the cache is not cached.

        Args:
            name: Name of the object.
            value: The fetched value.
            owner: Owner of the credentials that fetched it.
            time: When the fetch started; default: now.
            checked: The same in seconds of `monotonic`.
        """
        self._drop(name)
        size = self._size_of(value)
        if size > self.limit:
            return
        time = next(_times) if time is None else time
        # With the time at which the fetch started: the data may be as old as that.
        self._entries[name] = _CacheEntry(value, size, owner, time, monotonic() if checked is None else checked)
        self.nbytes += size
        while self.nbytes > self.limit:
            self._drop(next(iter(self._entries)))

    def forget(self, name: str) -> None:
        """Invalidate a value, including one that is being fetched. Unknown names are ignored."""
        self._drop(name)
        # A fetch in progress may have read the object before the change that invalidates it.
        for pending in self._pending.get(name, ()):
            pending.is_stale = True

    def forget_below(self, prefix: str) -> None:
        """Invalidate all values whose name starts with `prefix`."""
        # Also names that are only being fetched; a list, because `forget` changes the tables.
        for name in [name for name in (*self._names(), *self._pending) if name.startswith(prefix)]:
            self.forget(name)

    def _names(self) -> Iterable[str]:
        return self._entries

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


_HOT_SHARE: Final = 0.8
"""Maximum share of the cache's bytes for hot entries."""


class ChunkCache(Cache[ObjectChunks]):
    """A cache of decoded chunks, shared by all readers, which must not modify them.

    Entries that were used again after they were fetched are hot, and only other hot entries evict them: a read of a
    whole array, which uses each chunk once, evicts no hot entry.
    """

    __slots__ = ("_hot", "_hot_nbytes")

    nbytes: int

    def __init__(self, limit: int) -> None:
        super().__init__(limit, _nbytes_of)
        self._hot: OrderedDict[str, _CacheEntry[ObjectChunks]] = OrderedDict()
        self._hot_nbytes = 0

    def __len__(self) -> int:
        return len(self._entries) + len(self._hot)

    def get(self, name: str, reader: Reader = Reader(), asked: float | None = None) -> ObjectChunks | None:  # noqa: B008  # it is immutable
        """The chunks, as far as this reader may use them; they become hot.

        Args:
            name: Name of the object.
            reader: The reader.
            asked: When the read started, in seconds of `monotonic`: chunks older than `Reader.max_age` then are not
                returned.
        """
        entry = self._entry(name, reader)
        if entry is None or (asked is not None and not _is_fresh(entry, reader, asked)):
            return None
        self._use(name)
        return entry.value if entry.time > reader.since else self._from_before(entry.value)

    def peek(self, name: str, reader: Reader = Reader()) -> ObjectChunks | None:  # noqa: B008  # likewise
        """The result of `get` now, without marking the value as used."""
        entry = self._entry(name, reader)
        if entry is None or (reader.max_age is not None and not _is_fresh(entry, reader, monotonic())):
            return None
        return entry.value if entry.time > reader.since else self._from_before(entry.value)

    def stale(self, name: str, reader: Reader) -> ObjectChunks | None:
        """The cached chunks of an existing object, however old: a conditional request may confirm them."""
        entry = self._entry(name, reader)
        return None if entry is None or entry.value.version is None else entry.value

    def _entry(self, name: str, reader: Reader) -> _CacheEntry[ObjectChunks] | None:
        entry = self._hot.get(name) or self._entries.get(name)
        if entry is None or (entry.owner is not reader.owner and entry.owner != reader.owner):
            return None
        return entry

    def _use(self, name: str) -> None:
        entry = self._entries.pop(name, None)
        if entry is None:
            self._hot.move_to_end(name)
            return
        self._hot[name] = entry
        self._hot_nbytes += entry.nbytes
        # Demoted, not evicted: without this limit, hot entries could fill the cache and no new chunk could be kept.
        while self._hot_nbytes > self.limit * _HOT_SHARE:
            cooled, entry = self._hot.popitem(last=False)
            self._hot_nbytes -= entry.nbytes
            self._entries[cooled] = entry

    def put(
        self,
        name: str,
        value: ObjectChunks,
        owner: Hashable = None,
        time: int | None = None,
        checked: float | None = None,
    ) -> None:
        """See `Cache.put`; a hot entry stays hot."""
        # `put` replaces the entry, which would lose its rank: a confirmed chunk must not cool down.
        was_hot = name in self._hot
        super().put(name, value, owner, time, checked)
        if was_hot and name in self._entries:
            self._use(name)

    def _drop(self, name: str) -> None:
        entry = self._hot.pop(name, None)
        if entry is None:
            super()._drop(name)
        else:
            self._hot_nbytes -= entry.nbytes
            self.nbytes -= entry.nbytes

    def _names(self) -> Iterable[str]:
        return (*self._entries, *self._hot)

    def add(self, pending: PendingEntry[ObjectChunks], chunks: ObjectChunks) -> None:
        """Add chunks to the entry of their object and version; replace the entry if it would become too large."""
        entry = self._hot.get(pending.name) or self._entries.get(pending.name)
        others: DecodedChunks = {}
        if (
            entry is not None
            and entry.owner == pending.owner
            and entry.value.version == chunks.version
            and entry.value.decoder is chunks.decoder
        ):
            # The merged entry counts as fetched now. Absences found earlier must be dropped if a handle was opened
            # since.
            others = entry.value if entry.time > _Opened.time else self._from_before(entry.value)
        together = ObjectChunks(chunks.version, {**others, **chunks}, chunks.decoder)
        pending.keep(together if _nbytes_of(together) <= self.limit else chunks)

    def confirm(self, pending: PendingEntry[ObjectChunks], chunks: ObjectChunks) -> None:
        """Mark cached chunks as checked: the object was found to have their version still."""
        # Not if another fetch has replaced the entry meanwhile: its chunks are newer.
        if self.stale(pending.name, Reader(pending.owner)) is chunks:
            pending.keep(chunks)

    def _from_before(self, value: ObjectChunks) -> ObjectChunks:
        stored = {slot: chunk for slot, chunk in value.items() if chunk is not None}
        return ObjectChunks(value.version, stored, value.decoder)


def _is_fresh(entry: _CacheEntry[Any], reader: Reader, asked: float) -> bool:
    # With `max_age` 0, only entries that were checked after the read started.
    return reader.max_age is not None and asked - entry.checked < reader.max_age


def _nbytes_of(chunks: DecodedChunks) -> int:
    return sum(_PER_CHUNK + (0 if chunk is None else chunk.nbytes) for chunk in chunks.values())


class PendingEntry(Generic[T]):
    """A fetch in progress.

    If its key is invalidated before it completes, the result is returned to the caller but not cached.
    """

    __slots__ = ("_cache", "_checked", "_time", "is_stale", "name", "owner")

    def __init__(self, cache: Cache[T], name: str, owner: Hashable) -> None:
        self._cache = cache
        self.name: str = name
        self.owner: Hashable = owner
        self._time = next(_times)
        self._checked = monotonic()
        self.is_stale: bool = False

    def __enter__(self) -> Self:
        self._cache._begin(self)  # noqa: SLF001  # both classes are one unit
        return self

    def __exit__(self, *_: object) -> None:
        self._cache._end(self)  # noqa: SLF001  # likewise

    def keep(self, value: T) -> None:
        """Cache the fetched value, unless it was invalidated."""
        if not self.is_stale:
            self._cache.put(self.name, value, self.owner, self._time, self._checked)


_KEPT = 4096
"""Maximum number of nodes whose last edit is recorded. A handle older than a dropped record uses no earlier
metadata."""


class Edits:
    """Logical times of the last edits, by the name of the node (`Runtime.name_of`)."""

    __slots__ = ("_dropped", "_last", "_now")

    def __init__(self) -> None:
        self._now = 0
        self._dropped = 0
        self._last: OrderedDict[str, int] = OrderedDict()

    def now(self) -> int:
        """Logical time of the latest edit."""
        return self._now

    def note(self, name: str) -> None:
        """Record that the node was created, edited or removed."""
        self._now += 1
        self._last[name] = self._now
        self._last.move_to_end(name)
        # Bounded: a dropped record makes all handles opened before it ask the store again, which is correct but slower.
        if len(self._last) > _KEPT:
            self._dropped = self._last.popitem(last=False)[1]

    def touched(self, name: str, since: int) -> bool:
        """True if the node, or a node above it, may have been edited after `since`."""
        if self._now == since:
            return False
        return self._dropped > since or any(self._last.get(above, 0) > since for above in _upwards(name))

    def touched_below(self, name: str, since: int) -> bool:
        """True if the node, or a node below it, may have been edited after `since`."""
        if self._now == since:
            return False
        if self._dropped > since:
            return True
        prefix = name + "/"
        # Newest first, and it stops at the first edit that is too old: usually after none or one.
        later = takewhile(lambda edit: edit[1] > since, reversed(self._last.items()))
        return any(edited == name or edited.startswith(prefix) for edited, _ in later)


def _upwards(name: str) -> list[str]:
    parts = name.split("/")
    return ["/".join(parts[:n]) for n in range(len(parts), 0, -1)]
