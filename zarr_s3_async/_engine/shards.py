"""Sharded arrays: many chunks in one object. One range brings an index, few ranges bring the chunks.

All ranges of one fetch are pinned to the version that the index came from, so that a shard rewritten in between is
noticed: then its index is read anew, a bounded number of times. What comes back is one state of the shard, never two.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from .._model.metadata import ArrayMeta
from .._types import Buffer, Coords, Sink, Version
from ..byte_range import Span, coalesce
from ..codecs.shard_format import ShardLayout
from ..config import Limits
from ..errors import AccessDenied, ChunkDecodeError, ConcurrentModification, Conflict, Unsupported
from ..stores.base import Blob, Store
from .cache import Entries, IndexCache, ShardIndex
from .chunks import Fetched
from .locks import KeyedLocks
from .tasks import together

_ATTEMPTS = 8
"""Times that a shard may be rewritten under a reader before it gives up."""
_NEARLY_WHOLE = 0.75
"""From this share of its chunks on, a shard that fits into one range is fetched whole: one request, not two or more."""


class ShardedChunks:
    """See `Chunks`; a slot is the row-major index of a chunk in its shard."""

    __slots__ = ("_encode", "_indexes", "_layout", "_limits", "_locks", "_prefix", "_shard_nbytes", "_store")

    def __init__(
        self,
        store: Store,
        path: str,
        meta: ArrayMeta,
        layout: ShardLayout,
        *,
        indexes: IndexCache,
        locks: KeyedLocks,
        limits: Limits,
    ) -> None:
        self._store = store
        self._prefix = path + "/" if path else ""
        self._encode = meta.keys.encode
        self._layout = layout
        self._shard_nbytes = meta.object_nbytes
        self._indexes = indexes
        self._locks = locks
        self._limits = limits

    def locate(self, coords: Coords) -> str:
        """See `Chunks.locate`."""
        return self._prefix + self._encode(coords)

    async def fetch(self, key: str, slots: Sequence[int], *, sinks: Sequence[Sink | None] | None = None) -> Fetched:
        """A request for the index unless it is known, then few parallel ranges; see `Chunks.fetch`."""
        if self._wants_whole(len(slots)):
            stored, version = await self._whole(key)
            return Fetched([stored.get(slot) for slot in slots], version)
        for _ in range(_ATTEMPTS):
            index = await self._index(key)
            if index is None:
                return Fetched([None] * len(slots), None)
            try:
                return await self._ranges(key, slots, sinks, index)
            except Conflict:
                self._indexes.forget(self._name(key))
        raise ConcurrentModification(
            f"the shard {self._name(key)} was rewritten during all of {_ATTEMPTS} attempts to read it; try again later",
            key=key,
            attempts=_ATTEMPTS,
        )

    async def fetch_to_change(self, key: str, slots: Sequence[int]) -> Fetched:
        """The whole shard in one request: what does not change is copied as the bytes that it is."""
        stored, version = await self._whole(key)
        return Fetched([stored.get(slot) for slot in slots], version, stored)

    async def replace(self, key: str, changes: Mapping[int, Buffer | None], base: Fetched | None) -> Version | None:
        """One PUT of the shard, or a DELETE where it holds nothing; see `Chunks.replace`."""
        chunks = {**(base.stored if base else {}), **changes}
        present = {slot: data for slot, data in chunks.items() if data is not None}
        name = self._name(key)
        self._indexes.forget(name)
        if not present and await self._is_deleted(key, base):
            return None  # where it is not, an index of nothing is stored
        body = b"".join(self._layout.assemble(present))
        return await self._store.put(key, body, when="always" if base is None else base.version or "absent")

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

    def _name(self, key: str) -> str:
        return f"{self._store.url}/{key}"

    def _wants_whole(self, n_slots: int) -> bool:
        return (
            n_slots >= _NEARLY_WHOLE * self._layout.n_chunks
            and self._shard_nbytes + self._layout.index_nbytes <= self._limits.range_bytes
        )

    async def _whole(self, key: str) -> tuple[dict[int, Buffer], Version | None]:
        """Every stored chunk, with the index taken from the same bytes."""
        blob = await self._store.get(key)
        if blob is None:
            return {}, None
        body = memoryview(blob.data)
        n = self._layout.index_nbytes
        raw = body[:n] if self._layout.index_location == "start" else body[-n:]
        index = ShardIndex(self._decoded(key, raw, blob), blob.version)
        self._indexes.put(self._name(key), index)
        spans = ((slot, self._layout.span(index.entries, slot)) for slot in range(self._layout.n_chunks))
        return {slot: body[span.start : span.stop] for slot, span in spans if span is not None}, blob.version

    def _decoded(self, key: str, raw: Buffer, blob: Blob) -> Entries:
        try:
            return self._layout.decode_index(raw, blob.size)
        except ChunkDecodeError as error:
            raise ChunkDecodeError(
                f"the index of shard {self._name(key)} does not decode: {error}; restore the object, or write it whole",
                key=key,
                version=blob.version,
                codec=error.codec,
            ) from error

    async def _index(self, key: str) -> ShardIndex | None:
        """From the cache, or by one request, which all who want it at once share; None where there is no shard."""
        name = self._name(key)
        index = self._indexes.get(name)
        if index is not None:
            return index
        async with self._locks.hold("index of " + name):  # where the one who asks is cancelled, the next one asks
            index = self._indexes.get(name)
            if index is None:
                blob = await self._store.get(key, range=self._layout.index_range)
                if blob is None:
                    return None
                index = ShardIndex(self._decoded(key, blob.data, blob), blob.version)
                self._indexes.put(name, index)
            return index

    async def _ranges(
        self, key: str, slots: Sequence[int], sinks: Sequence[Sink | None] | None, index: ShardIndex
    ) -> Fetched:
        wanted: dict[Span, list[int]] = {}
        for position, slot in enumerate(slots):
            span = self._layout.span(index.entries, slot)
            if span is not None:
                wanted.setdefault(span, []).append(position)
        buffers: list[Buffer | None] = [None] * len(slots)

        async def receive(request: Span, members: Sequence[Span]) -> None:
            only = wanted[members[0]] if len(members) == 1 else ()
            sink = sinks[only[0]] if sinks is not None and len(only) == 1 and request == members[0] else None
            blob = await self._store.get(key, range=request, version=index.version, sink=sink)
            if blob is None or len(blob.data) != request.stop - request.start:
                raise Conflict(f"the shard {self._name(key)} is shorter than its index says", key=key)
            body = memoryview(blob.data)
            for span in members:
                for position in wanted[span]:
                    buffers[position] = body[span.start - request.start : span.stop - request.start]

        groups = coalesce(sorted(wanted), max_gap=self._limits.gap_bytes, max_size=self._limits.range_bytes)
        await together(*(receive(request, members) for request, members in groups))
        return Fetched(buffers, index.version)
