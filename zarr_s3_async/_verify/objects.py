"""Read the objects of an array and decode every chunk, bypassing all caches of the session."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache, partial
from math import prod
from typing import Any, Protocol, TypeAlias

import numpy as np

from .._concurrency.workers import run_workers
from .._engine.cpu import runs_inline
from .._engine.runtime import Runtime, fill_array
from .._grid import grid_shape, place
from .._model.metadata import ArrayMeta
from .._policy.backoff import PINNED_ATTEMPTS
from .._types import Buffer, Coords, Shape, Version
from ..byte_range import Span, coalesce
from ..codecs.base import ChunkSpec
from ..codecs.pipeline import VARIABLE_LIMIT, Pipeline, build_pipeline
from ..codecs.shard_format import ShardFormat, stored_slots, unused_bytes
from ..errors import ChunkDecodeError, ConcurrentModification, Conflict, ObjectTooLarge, UnsupportedFeature
from ..stores.base import Entry

_KEPT_SHAPES = 256
"""Number of object shapes whose readers are cached, where objects differ in shape."""

_INLINE_SLOTS = 128
"""Maximum number of chunks that are decoded on the event loop: each takes some microseconds, however small."""

Grid: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]
SlotSpans: TypeAlias = Sequence[tuple[int, Span]]
Bad: TypeAlias = list[tuple[Coords | None, ChunkDecodeError]]


@dataclass(slots=True, kw_only=True)
class CheckedObject:
    """The result of reading and decoding one object."""

    nbytes: int
    chunks: int = 0
    """Number of chunks that decode."""
    bad: Bad = field(default_factory=list)
    """Coordinates and errors of chunks that do not decode; None as coordinates stands for the whole object."""
    absent: Sequence[Coords] | Grid = ()
    """Coordinates of chunks that the shard does not contain."""
    unused: int = 0


class Objects(Protocol):
    """The objects of one array."""

    async def read(self, entry: Entry, position: Coords) -> CheckedObject | None:
        """Read and decode the object at a grid position; None if it does not exist any more.

        Raises:
            StoreError: The object cannot be read.
        """
        ...


async def check_object(objects: Objects, entry: Entry, position: Coords) -> CheckedObject | None:
    """See `Objects.read`; what is corrupt is read again, since it may have been damaged in transit."""
    checked = await objects.read(entry, position)
    if checked is not None and checked.bad:
        checked = await objects.read(entry, position)
    return checked


def objects_of(runtime: Runtime, meta: ArrayMeta) -> Objects:
    """The reader for an array; raises UnsupportedFeature or MetadataError for unknown or incompatible codecs."""
    if meta.edges is not None:
        return VaryingObjects(runtime, meta)
    return _objects_of_one_shape(runtime, meta)


def _objects_of_one_shape(runtime: Runtime, meta: ArrayMeta) -> Objects:
    fill = fill_array(meta)[()]
    nbytes = prod(meta.chunks) * meta.dtype.itemsize
    if nbytes > runtime.limits.max_chunk_bytes:
        raise UnsupportedFeature(
            f"a chunk has {nbytes:,} bytes, and Limits.max_chunk_bytes allows {runtime.limits.max_chunk_bytes:,}"
        )
    if meta.shards is None:
        return PlainObjects(runtime, build_pipeline(meta.codecs, ChunkSpec(meta.chunks, meta.dtype, fill)))
    return ShardObjects(runtime, meta, ShardFormat.from_spec(meta.codecs[0], ChunkSpec(meta.shards, meta.dtype, fill)))


class VaryingObjects:
    """Arrays whose objects differ in shape."""

    __slots__ = ("_axes", "_of_shape")

    def __init__(self, runtime: Runtime, meta: ArrayMeta) -> None:
        self._axes = meta.object_axes

        @lru_cache(maxsize=_KEPT_SHAPES)
        def of_shape(shape: Shape) -> Objects:
            of_objects = replace(meta, chunks=shape) if meta.shards is None else replace(meta, shards=shape)
            return _objects_of_one_shape(runtime, of_objects)

        self._of_shape = of_shape
        of_shape(meta.object_shape)  # fails early for incompatible codecs

    async def read(self, entry: Entry, position: Coords) -> CheckedObject | None:
        """See `Objects.read`."""
        shape = tuple([place(axis, at)[1] for axis, at in zip(self._axes, position, strict=True)])
        return await self._of_shape(shape).read(entry, position)


class PlainObjects:
    """Arrays with one chunk per object."""

    __slots__ = ("_max_bytes", "_pipeline", "_runtime")

    def __init__(self, runtime: Runtime, pipeline: Pipeline) -> None:
        self._runtime = runtime
        self._pipeline = pipeline
        # No codec doubles its input: a larger object cannot be a chunk, and is not fetched.
        self._max_bytes = max(runtime.limits.bytes, 2 * max(pipeline.nbytes, VARIABLE_LIMIT))

    async def read(self, entry: Entry, position: Coords) -> CheckedObject | None:
        """See `Objects.read`."""
        runtime, pipeline = self._runtime, self._pipeline
        if entry.size > self._max_bytes:
            problem = f"it has {entry.size:,} bytes, and a chunk decodes to {pipeline.nbytes:,}: it was not fetched"
            return CheckedObject(nbytes=0, bad=[(position, ChunkDecodeError(problem))])
        # The encoded object and the decoded chunk are in memory at once; a raw chunk is its object.
        lease = max(1, entry.size + (0 if pipeline.raw else pipeline.nbytes))
        await runtime.leases.acquire(lease)
        try:
            # Bounded again: the object may have been replaced by a larger one since it was listed.
            blob = await runtime.store.get(entry.key, max_bytes=self._max_bytes)
            if blob is None:
                return None
            decode = partial(_error_of, pipeline, blob.data)
            inline = runs_inline(pipeline.nbytes, pipeline.cost)
            error = decode() if inline else await runtime.cpu.run(decode)
        finally:
            runtime.leases.release(lease)
        if error is not None:
            return CheckedObject(nbytes=blob.size, bad=[(position, error)])
        return CheckedObject(nbytes=blob.size, chunks=1)


class ShardObjects:
    """Arrays with many chunks per object."""

    __slots__ = ("_axes", "_n_chunks", "_runtime", "_shard")

    def __init__(self, runtime: Runtime, meta: ArrayMeta, shard: ShardFormat) -> None:
        self._runtime = runtime
        self._shard = shard
        self._axes = meta.object_axes
        self._n_chunks = grid_shape(meta.chunk_axes, meta.shape)

    async def read(self, entry: Entry, position: Coords) -> CheckedObject | None:
        """See `Objects.read`. A small shard takes one request; a large one is read range by range to bound memory."""
        try:
            if entry.size <= self._runtime.limits.range_bytes:
                try:
                    return await self._whole(entry, position)
                except ObjectTooLarge:
                    pass  # another writer has replaced it by a larger one since it was listed
            for _ in range(PINNED_ATTEMPTS):
                try:
                    return await self._by_ranges(entry.key, position)
                except Conflict:
                    continue
        except ChunkDecodeError as error:  # of the index, without which no chunk can be located
            return CheckedObject(nbytes=entry.size, bad=[(None, error)])
        raise ConcurrentModification(
            f"it was rewritten during all of {PINNED_ATTEMPTS} attempts to read it",
            key=entry.key,
            attempts=PINNED_ATTEMPTS,
        )

    async def _whole(self, entry: Entry, position: Coords) -> CheckedObject | None:
        runtime, layout = self._runtime, self._shard.layout
        lease = max(1, entry.size + self._shard.inner.nbytes)
        await runtime.leases.acquire(lease)
        try:
            blob = await runtime.store.get(entry.key, max_bytes=max(1, entry.size))
            if blob is None:
                return None
            body, n = memoryview(blob.data), layout.index_nbytes
            index = layout.decode_index(body[:n] if layout.index_location == "start" else body[-n:], blob.size)
            unused = unused_bytes(layout, index, blob.size)
            bad = await self._decoded(body, 0, self._entries(index))
        finally:
            runtime.leases.release(lease)
        return self._checked(position, blob.size, index, bad, unused)

    async def _by_ranges(self, key: str, position: Coords) -> CheckedObject | None:
        """Read range by range, every request pinned to the version of the index."""
        limits, layout = self._runtime.limits, self._shard.layout
        head = await self._runtime.store.get(key, range=layout.index_range)
        if head is None:
            return None
        index = layout.decode_index(head.data, head.size)
        unused = unused_bytes(layout, index, head.size)
        # Spans identify slots here: `unused_bytes` has refused chunks that share bytes.
        slot_of = {span: slot for slot, span in self._entries(index)}
        bad: dict[int, ChunkDecodeError] = {}

        async def check(group: tuple[Span, list[Span]]) -> None:
            request, spans = group
            slots = [(slot_of[span], span) for span in spans]
            bad.update(await self._range(key, request, head.version, slots))

        gap = limits.gap_bytes
        ranges = coalesce(sorted(slot_of), max_gap=gap, small_gap=gap, max_size=limits.range_bytes)
        await run_workers(limits.requests, ranges, check)
        return self._checked(position, head.size, index, bad, unused)

    async def _range(self, key: str, request: Span, version: Version, slots: SlotSpans) -> dict[int, ChunkDecodeError]:
        runtime, size = self._runtime, request.stop - request.start
        lease = size + self._shard.inner.nbytes
        await runtime.leases.acquire(lease)
        try:
            blob = await runtime.store.get(key, range=request, version=version)
            if blob is None or len(blob.data) != size:
                # The shard may have been replaced since, so it is not corrupt yet: `read` fetches the index again.
                raise Conflict(f"{key} is shorter than its index says", key=key)
            return await self._decoded(memoryview(blob.data), request.start, slots)
        finally:
            runtime.leases.release(lease)

    def _entries(self, index: np.ndarray[Any, np.dtype[Any]]) -> list[tuple[int, Span]]:
        """The stored slots with their byte spans."""
        slots = stored_slots(index)
        return [
            (slot, Span(offset, offset + length))
            for slot, (offset, length) in zip(slots.tolist(), index[slots].tolist(), strict=True)
        ]

    async def _decoded(self, body: memoryview, start: int, slots: SlotSpans) -> dict[int, ChunkDecodeError]:
        """Errors of the slots that do not decode; `body` starts at byte `start` of the shard."""
        inner = self._shard.inner

        def decode() -> dict[int, ChunkDecodeError]:
            errors = ((slot, _error_of(inner, body[at - start : stop - start])) for slot, (at, stop) in slots)
            return {slot: error for slot, error in errors if error is not None}

        inline = len(slots) <= _INLINE_SLOTS and runs_inline(inner.nbytes * len(slots), inner.cost)
        return decode() if inline else await self._runtime.cpu.run(decode)

    def _checked(
        self,
        position: Coords,
        size: int,
        index: np.ndarray[Any, np.dtype[Any]],
        bad: dict[int, ChunkDecodeError],
        unused: int,
    ) -> CheckedObject:
        coords = self._chunk_coords(position)
        inside = (coords < np.array(self._n_chunks, np.int64)).all(axis=1)
        is_stored = np.zeros(len(coords), bool)
        is_stored[stored_slots(index)] = True
        # Slots of a shard that the array's edge cuts may lie outside the array: they are not chunks of it.
        is_well = is_stored & inside
        is_well[list(bad)] = False
        return CheckedObject(
            nbytes=size,
            chunks=int(is_well.sum()),
            bad=[(tuple(coords[slot].tolist()), bad[slot]) for slot in sorted(bad)],
            absent=coords[inside & ~is_stored],
            unused=unused,
        )

    def _chunk_coords(self, position: Coords) -> Grid:
        """Chunk coordinates in the array of each slot of this shard: int64, (slots, dimensions)."""
        grid = self._shard.grid
        if not grid:
            return np.zeros((1, 0), np.int64)
        within = np.stack(np.unravel_index(np.arange(self._shard.n_chunks), grid), axis=-1)
        starts = [place(axis, at)[0] for axis, at in zip(self._axes, position, strict=True)]
        return within.astype(np.int64) + np.array(starts, np.int64) // np.array(self._shard.chunk_shape, np.int64)


def _error_of(pipeline: Pipeline, data: Buffer) -> ChunkDecodeError | None:
    """The error of decoding the bytes, or None if they decode."""
    try:
        pipeline.decode(data)
    except ChunkDecodeError as error:
        return error
    return None
