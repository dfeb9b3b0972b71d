"""Sharded arrays, with many chunks per object: one range request for the index, few for the chunks.

All ranges of one fetch are pinned to the version of the index, so that a shard that is rewritten in between is
detected. Then the index is read again, a bounded number of times, and finally the whole shard by one request. The
result is always from one version of the shard.
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
from .._plan.runs import Runs
from .._policy.backoff import PINNED_ATTEMPTS
from .._types import Buffer, Coords, Sink, Version
from ..byte_range import ByteRange, Span, Suffix
from ..codecs.shard_format import MISSING, Encoded, ShardLayout, joined, nbytes_of, refuse_overlaps
from ..config import Limits
from ..errors import ChunkDecodeError, ChunkError, ConcurrentModification, Conflict, ObjectTooLarge
from ..stores.base import Blob, Store, Unchanged
from ..stores.optional import get_unless, place_of
from .cache import Entries, IndexCache, PendingEntry, Reader, ShardIndex
from .chunks import Changes, EncodeFill, FetchCost, Fetched, delete_emptied
from .cpu import Cpu
from .elements import Wanted
from .ranges import Ranges

_NEARLY_WHOLE = 0.75
"""Share of a shard's chunks from which on the whole shard is fetched, including its index."""
_JOINED_INLINE = 2**20
"""Bytes of a shard up to which assembling it costs less than a call in a thread."""
BIG_INDEX = 2**20
"""Bytes of an index from which on leases include it; smaller ones are negligible beside a request's own memory."""
_WHOLE_LOCK = "whole shards that no lease covers"


class _Opened(NamedTuple):
    """An index, and other bytes of the shard in the same response."""

    state: ShardIndex
    start: int = 0
    data: memoryview = memoryview(b"")
    """The received bytes of the shard, from `start` on."""


class ShardedChunks:
    """Chunks of a sharded array, see `Chunks`. A slot is the row-major index of a chunk in its shard."""

    __slots__ = (
        "_chunk_nbytes",
        "_cpu",
        "_encode",
        "_indexes",
        "_layout",
        "_limits",
        "_locks",
        "_many",
        "_max_chunk_nbytes",
        "_meta",
        "_place",
        "_prefix",
        "_ranges",
        "_reader",
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
        max_chunk_nbytes: int,
        indexes: IndexCache,
        reader: Reader,
        locks: KeyedLocks,
        limits: Limits,
        cpu: Cpu,
    ) -> None:
        """
        Args:
            store: The store of the shards.
            path: Path of the array.
            meta: Metadata of the array.
            layout: Format of every shard.
            chunk_nbytes: Typical size of a chunk: encoded, or decoded if that is unknown.
            max_chunk_nbytes: Upper bound on an encoded chunk; an index with a longer entry is damaged.
            indexes: Cache of indexes.
            reader: The handle, for cache lookups.
            locks: Locks of the session.
            limits: Limits of the session.
            cpu: Codec threads of the session.
        """
        self._store = store
        self._place = place_of(store) + "/"
        self._prefix = path + "/" if path else ""
        self._encode = meta.keys.encode
        self._layout = layout
        self._meta = meta
        self._chunk_nbytes = chunk_nbytes
        self._shard_nbytes = meta.object_nbytes
        self._many = ceil(_NEARLY_WHOLE * layout.n_chunks)
        self._max_chunk_nbytes = max_chunk_nbytes
        self._indexes = indexes
        self._reader = reader
        self._locks = locks
        self._limits = limits
        self._ranges = Ranges(store, limits)
        self._cpu = cpu

    def locate(self, coords: Coords) -> str:
        """See `Chunks.locate`."""
        return self._prefix + self._encode(coords)

    @property
    def index_nbytes(self) -> int:
        """Size of an encoded index in bytes."""
        return self._layout.index_nbytes

    def overhead(self, key: str) -> int:
        """The index, encoded and decoded, unless it is cached; see `Chunks.overhead`."""
        return 0 if self._cached_index(self._place + key) is not None else 2 * self._layout.index_nbytes

    async def fetch(self, key: str, slots: Sequence[int], *, sinks: Sequence[Sink | None] | None = None) -> Fetched:
        """A request for the index unless it is cached, then few parallel ranges; see `Chunks.fetch`."""
        # Fast path: one chunk, and the index is cached. If the shard has changed since, the loop below fetches both.
        # For nearly all chunks, one request for the whole shard is cheaper than an index and many ranges.
        many = len(slots) >= self._many
        if len(slots) == 1 and not many:
            state = self._cached_index(self._place + key)
            if state is not None:
                try:
                    return await self._fetch_single(key, slots[0], None if sinks is None else sinks[0], state)
                except Conflict:
                    self._indexes.forget(self._place + key)
        for _ in range(PINNED_ATTEMPTS):
            try:
                opened = await (self._fetch_whole_or_tail(key) if many else self._index(key))
                if opened is None:
                    return Fetched([None] * len(slots), None)
                return await self._chunks(key, slots, sinks, opened)
            except Conflict:
                self._indexes.forget(self._place + key)
        opened = await self._fetch_unpinned(key)
        return Fetched([None] * len(slots), None) if opened is None else await self._chunks(key, slots, sinks, opened)

    async def fetch_runs(self, key: str, wanted: Sequence[Wanted]) -> Fetched | None:
        """A request for the index unless it is cached, then the ranges in parallel; see `Chunks.fetch_runs`."""
        for _ in range(PINNED_ATTEMPTS):
            opened = await self._index(key)
            if opened is None:
                return Fetched([None] * len(wanted), None)
            spans = self._layout.spans(opened.state.entries, [chunk.slot for chunk in wanted])
            # Runs are positions in uncompressed chunks of full length; another length means another codec or damage.
            if any(span is not None and span.stop - span.start != self._chunk_nbytes for span in spans):
                return None
            present = [(chunk, span) for chunk, span in zip(wanted, spans, strict=True) if span is not None]
            try:
                pieces = [piece for chunk, span in present for piece in chunk.pieces(span.start)]
                await self._ranges.fetch_into(key, opened.state.version, pieces)
            except Conflict:
                self._indexes.forget(self._place + key)
                continue
            memory = [None if span is None else chunk.memory for chunk, span in zip(wanted, spans, strict=True)]
            return Fetched(memory, opened.state.version)
        return None

    async def fetch_for_update(self, key: str, slots: Sequence[int], overwritten: Container[int] = ()) -> Fetched:
        """The chunks to keep or to merge, or the whole shard if that is cheaper; see `Chunks.fetch_for_update`.

        Unchanged chunks are copied without decoding.
        """
        kept = [slot for slot in range(self._layout.n_chunks) if slot not in overwritten]
        for _ in range(PINNED_ATTEMPTS):
            cached = self._cached_index(self._place + key) is not None
            try:
                whole = self._is_cheaper_whole(kept, cached=cached)
                opened = await (self._fetch_whole_or_tail(key) if whole else self._index(key))
                if opened is None:
                    return Fetched([None] * len(slots), None)
                fetched = await self._kept(key, kept, opened)
            except Conflict:
                self._indexes.forget(self._place + key)
                continue
            if fetched.stored or opened.data or not cached:
                return _with_slots(fetched, slots)
            # No request was pinned to the cached index, so it may be outdated: another writer may have added chunks.
            self._indexes.forget(self._place + key)
        opened = await self._fetch_unpinned(key)
        if opened is None:
            return Fetched([None] * len(slots), None)
        return _with_slots(await self._kept(key, kept, opened), slots)

    async def _kept(self, key: str, kept: Sequence[int], opened: _Opened) -> Fetched:
        """The chunks that the rewritten shard keeps, as `Fetched.stored`."""
        try:
            # Each entry is copied into the new shard: entries that share bytes would multiply its size.
            refuse_overlaps(opened.state.entries)
        except ChunkDecodeError as error:
            # Not a ChunkDecodeError, which would let a write that covers the shard replace it.
            # Chained with the cause, so that its byte positions are in the traceback.
            raise ChunkError(
                f"the shard {self._store.url}/{key} cannot be changed: {error}; write it whole",
                key=key,
                version=opened.state.version,
                codec=error.codec,
            ) from error
        fetched = await self._chunks(key, kept, None, opened)
        stored = {slot: data for slot, data in zip(kept, fetched.buffers, strict=True) if data is not None}
        return Fetched((), fetched.version, stored)

    def fetch_cost(self, coords: Coords, slots: Sequence[int]) -> FetchCost:
        """See `Chunks.fetch_cost`; includes the request for the index unless it is cached."""
        index = self._current(self._indexes.peek(self._place + self.locate(coords), self._reader))
        return self._cost(coords, slots, index, whole=len(slots) >= self._many)

    def runs_cost(self, coords: Coords, runs: Sequence[tuple[int, Runs]]) -> FetchCost:
        """The index unless it is cached, and the ranges; see `Chunks.runs_cost`."""
        index = self._current(self._indexes.peek(self._place + self.locate(coords), self._reader))
        entries = self._full_index(coords) if index is None else index.entries
        spans = self._layout.spans(entries, [slot for slot, _ in runs])
        present = [(of_chunk, span) for (_, of_chunk), span in zip(runs, spans, strict=True) if span is not None]
        requests, nbytes = self._ranges.cost([at for of_chunk, span in present for at in of_chunk.spans(span.start)])
        if index is None:
            requests, nbytes = requests + 1, nbytes + self._layout.index_nbytes
        return FetchCost(requests, nbytes, index is not None)

    def update_cost(self, coords: Coords, overwritten: Container[int] = ()) -> FetchCost:
        """See `Chunks.update_cost`; decides as `fetch_for_update` does."""
        kept = [slot for slot in range(self._layout.n_chunks) if slot not in overwritten]
        index = self._current(self._indexes.peek(self._place + self.locate(coords), self._reader))
        if index is not None and not any(self._layout.spans(index.entries, kept)):
            # Without any chunk to fetch, no pinned request validates the cached index: it is fetched again.
            whole = self._is_cheaper_whole(kept, cached=False)
            return FetchCost(1, self._shard_nbytes if whole else self._layout.index_nbytes)
        return self._cost(coords, kept, index, whole=self._is_cheaper_whole(kept, cached=index is not None))

    def _cost(self, coords: Coords, slots: Sequence[int], index: ShardIndex | None, *, whole: bool) -> FetchCost:
        """Cost of `_chunks` after `_fetch_whole_or_tail` (with `whole`) or `_index`."""
        layout, limit = self._layout, self._limits.range_bytes
        fits = self._shard_nbytes + layout.index_nbytes <= limit
        # Nothing is known of the shard, and all of it is wanted: the estimate is a full one.
        if whole and fits and index is None and len(slots) == layout.n_chunks:
            return FetchCost(1, layout.n_chunks * self._chunk_nbytes + layout.index_nbytes)
        entries = self._full_index(coords) if index is None else index.entries
        size = self._size(entries)
        if whole and fits:
            return FetchCost(1, size)
        requests, nbytes, here = 0, 0, range(0)
        if index is None:
            requests, nbytes = 1, layout.index_nbytes
            if whole:
                # The same range as in `_fetch_whole_or_tail`: the chunks inside it need no further request.
                nbytes = min(max(limit, layout.index_nbytes), size)
                here = range(nbytes) if layout.index_location == "start" else range(size - nbytes, size)
        spans = [span for span in layout.spans(entries, slots) if span is not None]
        missing = [span for span in spans if not (here.start <= span.start and span.stop <= here.stop)]
        more, more_nbytes = self._ranges.cost(missing)
        return FetchCost(requests + more, nbytes + more_nbytes, index is not None)

    def _size(self, entries: Entries) -> int:
        """Size in bytes of a shard with this index."""
        # Shards may have gaps, so the size is where the last chunk ends, not the sum of the lengths.
        present = entries[entries[:, 1] != MISSING]
        end = int(present.sum(axis=1).max(initial=0))
        return (
            end + self._layout.index_nbytes
            if self._layout.index_location == "end"
            else max(end, self._layout.index_nbytes)
        )

    def _full_index(self, coords: Coords) -> Entries:
        """The index of a shard with all its chunks inside the array, each at full size."""
        meta, layout = self._meta, self._layout
        inner = tuple(n // chunk for n, chunk in zip(meta.object_shape, meta.chunks, strict=True))
        inside = np.ones(inner, bool)
        for axis, (grid, at, chunk, n) in enumerate(
            zip(meta.object_axes, coords, meta.chunks, meta.shape, strict=True)
        ):
            # Chunks of this shard along the axis that begin inside the array.
            held = -(-(n - place(grid, at)[0]) // chunk)
            inside[(slice(None),) * axis + (slice(held, None),)] = False
        slots = np.flatnonzero(inside)
        first = layout.index_nbytes if layout.index_location == "start" else 0
        entries = np.full((layout.n_chunks, 2), MISSING, np.uint64)
        entries[slots, 0] = first + np.arange(slots.size) * self._chunk_nbytes
        entries[slots, 1] = self._chunk_nbytes
        return entries

    async def sizes(self, key: str) -> dict[int, int]:
        """Encoded bytes of the chunks that the shard holds now, by slot: one request, for the index."""
        self.forget(key)
        opened = await self._index(key)
        if opened is None:
            return {}
        lengths = opened.state.entries[:, 1]
        slots = np.flatnonzero(lengths != MISSING)
        return dict(zip(slots.tolist(), lengths[slots].tolist(), strict=True))

    def forget(self, key: str) -> None:
        """Invalidate the shard's index; see `Chunks.forget`."""
        self._indexes.forget(self._place + key)

    async def replace(
        self, key: str, changes: Changes, base: Fetched | None, *, encode_fill: EncodeFill
    ) -> Version | None:
        """One PUT of the shard, or a DELETE if it has no chunks; see `Chunks.replace`."""
        del encode_fill  # an empty shard that cannot be deleted is stored as an empty index
        chunks: dict[int, Encoded | None] = {**(base.stored if base else {}), **changes}
        present = {slot: data for slot, data in chunks.items() if data is not None}
        try:
            # A shard without chunks reads as fill, as an absent object does, but its readers fetch an index.
            if not present and await delete_emptied(self._store, key, base):
                return None
            body = await self._joined(present)
            return await self._store.put(key, body, when="always" if base is None else base.version or "absent")
        finally:
            self._indexes.forget(self._place + key)  # also an index that a concurrent reader has just fetched

    async def _joined(self, present: Mapping[int, Encoded]) -> Buffer:
        parts = self._layout.assemble(present)
        if sum(map(nbytes_of, parts)) <= _JOINED_INLINE:
            return joined(parts)
        return await self._cpu.run(partial(joined, parts))

    def _is_cheaper_whole(self, kept: Sequence[int], *, cached: bool) -> bool:
        """True if skipping the overwritten chunks saves less than a request for the index costs."""
        if len(kept) >= self._many:
            return True
        # An estimate: the real lengths are in the index, which is what would have to be fetched first.
        spared = self._shard_nbytes * (self._layout.n_chunks - len(kept)) // self._layout.n_chunks
        return not cached and spared <= self._limits.gap_bytes

    async def fetch_unless(self, key: str, slots: Sequence[int], version: Version) -> Fetched | None:
        """A conditional GET of one byte; if the shard has changed, `fetch` with its new index."""
        # A range, so that a server which has changed the shard sends one byte and not all of it.
        if await get_unless(self._store, key, version, range=Span(0, 1)) is Unchanged.UNCHANGED:
            return None
        self.forget(key)
        return await self.fetch(key, slots)

    async def _index(self, key: str) -> _Opened | None:
        """The index from the cache, or by one request that concurrent reads share; None if there is no shard."""
        name = self._place + key
        index = self._cached_index(name)
        if index is not None:
            return _Opened(index)
        async with self._locks.hold("index of " + name):  # if this read is cancelled, the next one sends the request
            index = self._cached_index(name)
            if index is not None:
                return _Opened(index)
            with self._indexes.fetching(name, self._reader) as pending:
                return await self._open(key, self._layout.index_range, pending)

    def _cached_index(self, name: str) -> ShardIndex | None:
        return self._current(self._indexes.get(name, self._reader))

    def _current(self, index: ShardIndex | None) -> ShardIndex | None:
        # An index of another length belongs to an earlier array that was overwritten.
        return index if index is not None and len(index.entries) == self._layout.n_chunks else None

    async def _fetch_whole_or_tail(self, key: str) -> _Opened | None:
        """Fetch the whole shard if it fits into one range, otherwise its index and the neighbouring bytes of one
        range."""
        name, longest = self._place + key, self._limits.range_bytes
        wanted: ByteRange | None = None
        if self._shard_nbytes + self._layout.index_nbytes > longest:
            index = self._cached_index(name)
            if index is not None:
                return _Opened(index)
            # The index is at one end of the shard, so one range gets it and as many chunks beside it as fit.
            length = max(longest, self._layout.index_nbytes)
            wanted = Span(0, length) if self._layout.index_location == "start" else Suffix(length)
        try:
            with self._indexes.fetching(name, self._reader) as pending:
                return await self._open(key, wanted, pending)
        except ObjectTooLarge:
            return await self._index(key)  # reads only the index and the chunks, not the unused bytes between them

    async def _fetch_unpinned(self, key: str) -> _Opened | None:
        """Fetch the whole shard by one request, which always returns one version, however often it is rewritten.

        No lease covers its memory: the caller already holds a lease, and waiting for a second one could deadlock.
        Therefore a session makes one such request at a time.

        Raises:
            ConcurrentModification: The shard is too large for this.
        """
        async with self._locks.hold(_WHOLE_LOCK):
            try:
                with self._indexes.fetching(self._place + key, self._reader) as pending:
                    return await self._open(key, None, pending)
            except (ObjectTooLarge, Conflict) as error:
                raise ConcurrentModification(
                    f"the shard {self._store.url}/{key} was rewritten during all of {PINNED_ATTEMPTS} attempts to "
                    "read it, and is too large to be read at once; try again later",
                    key=key,
                    attempts=PINNED_ATTEMPTS,
                ) from error

    async def _open(self, key: str, wanted: ByteRange | None, pending: PendingEntry[ShardIndex]) -> _Opened | None:
        """Fetch the shard, or the end of it that contains the index, by one request, and cache the index."""
        # The object is untrusted input: a larger one than any shard of this array is refused before it is received.
        longest = self._layout.n_chunks * self._max_chunk_nbytes + self._layout.index_nbytes
        blob = await self._store.get(key, range=wanted, max_bytes=longest if wanted is None else None)
        if blob is None:
            return None
        data, n = memoryview(blob.data), self._layout.index_nbytes
        at_start = self._layout.index_location == "start"
        index = ShardIndex(self._decoded(key, data[:n] if at_start else data[-n:], blob), blob.version)
        pending.keep(index)
        return _Opened(index, 0 if at_start else blob.size - len(data), data)

    def _decoded(self, key: str, raw: Buffer, blob: Blob) -> Entries:
        try:
            entries = self._layout.decode_index(raw, blob.size)
        except ChunkDecodeError as error:
            raise self._damaged_index_error(key, blob.version, error) from error
        # Copied, so that the cached index does not keep the whole response alive; not a large index that came alone.
        alone = len(raw) == memoryview(blob.data).nbytes
        return entries if alone and len(raw) >= BIG_INDEX else entries.copy()

    def _damaged_index_error(self, key: str, version: Version, error: ChunkDecodeError) -> ChunkDecodeError:
        return ChunkDecodeError(
            f"the index of shard {self._store.url}/{key} does not decode: {error}; "
            "restore the object, or write it whole",
            key=key,
            version=version,
            codec=error.codec,
        )

    async def _chunks(
        self, key: str, slots: Sequence[int], sinks: Sequence[Sink | None] | None, opened: _Opened
    ) -> Fetched:
        """The chunks of one version of the shard: those received with the index, and the others by ranges."""
        entries, version = opened.state.entries, opened.state.version
        start, here = opened.start, opened.data
        stop, longest = start + len(here), self._max_chunk_nbytes
        buffers: list[Buffer | None] = [None] * len(slots)
        missing: list[tuple[Span, int]] = []
        for position, span in enumerate(self._layout.spans(entries, slots)):
            if span is None:
                continue
            # An index is untrusted input: check the length before memory is allocated for it.
            if span.stop - span.start > longest:
                raise self._too_long_error(key, version, span)
            # Bytes received with the index are of the same version. A chunk that was received in part is fetched whole:
            # its remainder would take a request too.
            if start <= span.start and span.stop <= stop:
                buffers[position] = here[span.start - start : span.stop - start]
            else:
                missing.append((span, position))
        if missing:
            await self._ranges.fetch(key, version, missing, buffers, sinks)
        return Fetched(buffers, version)

    async def _fetch_single(self, key: str, slot: int, sink: Sink | None, state: ShardIndex) -> Fetched:
        """One chunk of a shard whose index is cached: a fast path for the most frequent read."""
        span = self._layout.span(state.entries, slot)
        if span is None:
            return Fetched((None,), state.version)
        if span.stop - span.start > self._max_chunk_nbytes:
            raise self._too_long_error(key, state.version, span)
        return Fetched((await self._ranges.one(key, state.version, span, sink),), state.version)

    def _too_long_error(self, key: str, version: Version, span: Span) -> ChunkDecodeError:
        """The error for an index entry longer than any chunk, for which no lease covers the memory."""
        problem = ChunkDecodeError(
            f"a chunk has {span.stop - span.start:,} bytes, more than the maximum of {self._max_chunk_nbytes:,}"
        )
        return self._damaged_index_error(key, version, problem)


def _with_slots(fetched: Fetched, slots: Sequence[int]) -> Fetched:
    return fetched._replace(buffers=[fetched.stored.get(slot) for slot in slots])
