"""Sharded arrays: many chunks in one object. One range brings an index, few ranges bring the chunks.

All ranges of one fetch are pinned to the version that the index came from, so that a shard rewritten in between is
noticed: then its index is read anew, a bounded number of times. What comes back is one state of the shard, never two.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from functools import partial
from math import ceil
from typing import NamedTuple

import numpy as np

from .._concurrency.locks import KeyedLocks
from .._grid import place
from .._model.metadata import ArrayMeta
from .._types import Buffer, Coords, Sink, Version
from ..byte_range import ByteRange, Span, Suffix
from ..codecs.shard_format import MISSING, Encoded, ShardLayout, joined, nbytes_of
from ..config import Limits
from ..errors import AccessDenied, ChunkDecodeError, ConcurrentModification, Conflict, Unsupported
from ..stores.base import Blob, Store
from ..stores.optional import place_of
from .cache import Entries, IndexCache, Load, ShardIndex
from .chunks import Changes, Cost, Fetched
from .cpu import Cpu
from .ranges import Ranges

_ATTEMPTS = 8
"""Times that a shard may be rewritten under a reader before it gives up."""
_NEARLY_WHOLE = 0.75
"""From this share of its chunks on a shard is fetched whole, the index taken from the same bytes."""
_JOINED_INLINE = 2**20
"""Bytes of a shard up to which putting it together costs less than a thread."""


class _Opened(NamedTuple):
    """An index, and what came along with it."""

    state: ShardIndex
    start: int = 0
    data: memoryview = memoryview(b"")
    """The object's bytes from `start` on, as far as they are here."""


class ShardedChunks:
    """See `Chunks`; a slot is the row-major index of a chunk in its shard."""

    __slots__ = (
        "_base",
        "_chunk_nbytes",
        "_cpu",
        "_encode",
        "_indexes",
        "_layout",
        "_limits",
        "_locks",
        "_many",
        "_meta",
        "_prefix",
        "_ranges",
        "_shard_nbytes",
        "_store",
    )

    def __init__(
        self,
        store: Store,
        path: str,
        meta: ArrayMeta,
        layout: ShardLayout,
        *,
        chunk_nbytes: int,
        indexes: IndexCache,
        locks: KeyedLocks,
        limits: Limits,
        cpu: Cpu,
    ) -> None:
        self._store = store
        self._base = place_of(store) + "/"
        self._prefix = path + "/" if path else ""
        self._encode = meta.keys.encode
        self._layout = layout
        self._meta = meta
        self._chunk_nbytes = chunk_nbytes
        self._shard_nbytes = meta.object_nbytes
        self._many = ceil(_NEARLY_WHOLE * layout.n_chunks)
        self._indexes = indexes
        self._locks = locks
        self._limits = limits
        self._ranges = Ranges(store, limits)
        self._cpu = cpu

    def locate(self, coords: Coords) -> str:
        """See `Chunks.locate`."""
        return self._prefix + self._encode(coords)

    async def fetch(self, key: str, slots: Sequence[int], *, sinks: Sequence[Sink | None] | None = None) -> Fetched:
        """A request for the index unless it is known, then few parallel ranges; see `Chunks.fetch`."""
        many = len(slots) >= self._many
        if len(slots) == 1 and not many:
            state = self._known(self._base + key)
            if state is not None:
                try:
                    return await self._lone(key, slots[0], None if sinks is None else sinks[0], state)
                except Conflict:
                    self._indexes.forget(self._base + key)
        for _ in range(_ATTEMPTS):
            try:
                opened = await (self._most(key) if many else self._index(key))
                if opened is None:
                    return Fetched([None] * len(slots), None)
                return await self._chunks(key, slots, sinks, opened)
            except Conflict:
                self._indexes.forget(self._base + key)
        raise self._restless(key)

    async def fetch_for_update(self, key: str, slots: Sequence[int], replaced: Container[int] = ()) -> Fetched:
        """What stays or is merged, or the whole shard where that is cheaper; see `Chunks.fetch_for_update`.

        What does not change is copied as the bytes that it is.
        """
        kept = [slot for slot in range(self._layout.n_chunks) if slot not in replaced]
        for _ in range(_ATTEMPTS):
            known = self._known(self._base + key) is not None
            try:
                opened = await (self._most(key) if self._is_cheaper_whole(kept, known) else self._index(key))
                if opened is None:
                    return Fetched([None] * len(slots), None)
                fetched = await self._chunks(key, kept, None, opened)
            except Conflict:
                self._indexes.forget(self._base + key)
                continue
            stored = {slot: data for slot, data in zip(kept, fetched.buffers, strict=True) if data is not None}
            if stored or opened.data or not known:
                return Fetched([stored.get(slot) for slot in slots], fetched.version, stored)
            # No request has shown that the index is still the shard's: others may have added chunks since.
            self._indexes.forget(self._base + key)
        raise self._restless(key)

    def fetch_cost(self, coords: Coords, slots: Sequence[int]) -> Cost:
        """See `Chunks.fetch_cost`; the index is asked for where it is not known."""
        index = self._current(self._indexes.peek(self._base + self.locate(coords)))
        return self._cost(coords, slots, index, whole=len(slots) >= self._many)

    def update_cost(self, coords: Coords, replaced: Container[int] = ()) -> Cost:
        """See `Chunks.update_cost`; decides as `fetch_for_update` does."""
        kept = [slot for slot in range(self._layout.n_chunks) if slot not in replaced]
        index = self._current(self._indexes.peek(self._base + self.locate(coords)))
        if index is not None and not any(self._layout.spans(index.entries, kept)):
            # There is nothing to fetch that would show whether the index is still the shard's: it is asked for again.
            whole = self._is_cheaper_whole(kept, known=False)
            return Cost(1, self._shard_nbytes if whole else self._layout.index_nbytes)
        return self._cost(coords, kept, index, whole=self._is_cheaper_whole(kept, index is not None))

    def _cost(self, coords: Coords, slots: Sequence[int], index: ShardIndex | None, *, whole: bool) -> Cost:
        """Of `_chunks`, behind `_most` where `whole`, else behind `_index`."""
        layout, limit = self._layout, self._limits.range_bytes
        entries = self._full_index(coords) if index is None else index.entries
        size = self._size(entries)
        if whole and self._shard_nbytes + layout.index_nbytes <= limit:
            return Cost(1, size)
        requests, nbytes, here = 0, 0, range(0)
        if index is None:
            requests, nbytes = 1, layout.index_nbytes
            if whole:
                nbytes = min(max(limit, layout.index_nbytes), size)
                here = range(nbytes) if layout.index_location == "start" else range(size - nbytes, size)
        spans = [span for span in layout.spans(entries, slots) if span is not None]
        missing = [span for span in spans if not (here.start <= span.start and span.stop <= here.stop)]
        more, more_nbytes = self._ranges.cost(missing)
        return Cost(requests + more, nbytes + more_nbytes, index is not None)

    def _size(self, entries: Entries) -> int:
        """Bytes of a shard with this index."""
        present = entries[entries[:, 1] != MISSING]
        end = int(present.sum(axis=1).max(initial=0))
        return (
            end + self._layout.index_nbytes
            if self._layout.index_location == "end"
            else max(end, self._layout.index_nbytes)
        )

    def _full_index(self, coords: Coords) -> Entries:
        """The index of a shard that has all chunks that lie inside the array."""
        meta, layout = self._meta, self._layout
        inner = tuple(n // chunk for n, chunk in zip(meta.object_shape, meta.chunks, strict=True))
        inside = np.ones(inner, bool)
        for axis, (grid, at, chunk, n) in enumerate(
            zip(meta.object_axes, coords, meta.chunks, meta.shape, strict=True)
        ):
            held = -(-(n - place(grid, at)[0]) // chunk)
            inside[(slice(None),) * axis + (slice(held, None),)] = False
        slots = np.flatnonzero(inside)
        first = layout.index_nbytes if layout.index_location == "start" else 0
        entries = np.full((layout.n_chunks, 2), MISSING, np.uint64)
        entries[slots, 0] = first + np.arange(slots.size) * self._chunk_nbytes
        entries[slots, 1] = self._chunk_nbytes
        return entries

    def forget(self, key: str) -> None:
        """Its index; see `Chunks.forget`."""
        self._indexes.forget(self._base + key)

    async def replace(self, key: str, changes: Changes, base: Fetched | None) -> Version | None:
        """One PUT of the shard, or a DELETE where it holds nothing; see `Chunks.replace`."""
        chunks: dict[int, Encoded | None] = {**(base.stored if base else {}), **changes}
        present = {slot: data for slot, data in chunks.items() if data is not None}
        try:
            if not present and await self._is_deleted(key, base):
                return None  # where it is not, an index of nothing is stored
            body = await self._joined(present)
            return await self._store.put(key, body, when="always" if base is None else base.version or "absent")
        finally:
            self._indexes.forget(self._base + key)  # also one that a reader has got meanwhile

    async def _is_deleted(self, key: str, base: Fetched | None) -> bool:
        """Delete a shard that holds nothing. False where this one version cannot be deleted here, or not by us."""
        if base is None:
            await self._store.delete(key)
        elif base.version is not None:
            try:
                await self._store.delete(key, when=base.version)
            except (Unsupported, AccessDenied):
                return False
        return True

    async def _joined(self, present: Mapping[int, Encoded]) -> Buffer:
        parts = self._layout.assemble(present)
        if sum(map(nbytes_of, parts)) <= _JOINED_INLINE:
            return joined(parts)
        return await self._cpu.run(partial(joined, parts))

    def _is_cheaper_whole(self, kept: Sequence[int], known: bool) -> bool:
        """True where leaving out what is replaced saves less than asking for the index first costs."""
        if len(kept) >= self._many:
            return True
        spared = self._shard_nbytes * (self._layout.n_chunks - len(kept)) // self._layout.n_chunks
        return not known and spared <= self._limits.gap_bytes

    async def _index(self, key: str) -> _Opened | None:
        """From the cache, or by one request, which all who want it at once share; None where there is no shard."""
        name = self._base + key
        index = self._known(name)
        if index is not None:
            return _Opened(index)
        async with self._locks.hold("index of " + name):  # where the one who asks is cancelled, the next one asks
            index = self._known(name)
            if index is not None:
                return _Opened(index)
            with self._indexes.load(name) as load:
                return await self._open(key, self._layout.index_range, load)

    def _known(self, name: str) -> ShardIndex | None:
        return self._current(self._indexes.get(name))

    def _current(self, index: ShardIndex | None) -> ShardIndex | None:
        # One of another length was an overwritten array's.
        return index if index is not None and len(index.entries) == self._layout.n_chunks else None

    async def _most(self, key: str) -> _Opened | None:
        """The whole shard where it fits into one range, else its index and all that one range brings with it."""
        name, most = self._base + key, self._limits.range_bytes
        wanted: ByteRange | None = None
        if self._shard_nbytes + self._layout.index_nbytes > most:
            index = self._known(name)
            if index is not None:
                return _Opened(index)
            length = max(most, self._layout.index_nbytes)
            wanted = Span(0, length) if self._layout.index_location == "start" else Suffix(length)
        with self._indexes.load(name) as load:
            return await self._open(key, wanted, load)

    async def _open(self, key: str, wanted: ByteRange | None, load: Load[ShardIndex]) -> _Opened | None:
        """One request for an end of the shard that holds its index."""
        blob = await self._store.get(key, range=wanted)
        if blob is None:
            return None
        data, n = memoryview(blob.data), self._layout.index_nbytes
        at_start = self._layout.index_location == "start"
        index = ShardIndex(self._decoded(key, data[:n] if at_start else data[-n:], blob), blob.version)
        load.keep(index)
        return _Opened(index, 0 if at_start else blob.size - len(data), data)

    def _decoded(self, key: str, raw: Buffer, blob: Blob) -> Entries:
        try:
            # A copy: what is remembered must not keep the bytes that it came with.
            return self._layout.decode_index(raw, blob.size).copy()
        except ChunkDecodeError as error:
            raise ChunkDecodeError(
                f"the index of shard {self._store.url}/{key} does not decode: {error}; "
                "restore the object, or write it whole",
                key=key,
                version=blob.version,
                codec=error.codec,
            ) from error

    async def _chunks(
        self, key: str, slots: Sequence[int], sinks: Sequence[Sink | None] | None, opened: _Opened
    ) -> Fetched:
        """The chunks of one state of the shard: those that are here already, and the others by ranges."""
        entries, version = opened.state.entries, opened.state.version
        start, here = opened.start, opened.data
        stop = start + len(here)
        buffers: list[Buffer | None] = [None] * len(slots)
        missing: list[tuple[Span, int]] = []
        for position, span in enumerate(self._layout.spans(entries, slots)):
            if span is None:
                continue
            if start <= span.start and span.stop <= stop:
                buffers[position] = here[span.start - start : span.stop - start]
            else:
                missing.append((span, position))
        if missing:
            await self._ranges.fetch(key, version, missing, buffers, sinks)
        return Fetched(buffers, version)

    async def _lone(self, key: str, slot: int, sink: Sink | None, state: ShardIndex) -> Fetched:
        """One chunk of a shard whose index is known: what is asked for most often."""
        span = self._layout.span(state.entries, slot)
        if span is None:
            return Fetched((None,), state.version)
        return Fetched((await self._ranges.one(key, state.version, span, sink),), state.version)

    def _restless(self, key: str) -> ConcurrentModification:
        return ConcurrentModification(
            f"the shard {self._store.url}/{key} was rewritten during all of {_ATTEMPTS} attempts to read it; "
            "try again later",
            key=key,
            attempts=_ATTEMPTS,
        )
