"""Reading: objects are pulled from the plan by a crew, fetched under a lease, decoded and placed into the result."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import Any, TypeAlias

import numpy as np

from .._plan.plan import Part, Plan
from .._types import Buffer, Coords, Missing, Sink
from ..errors import ChunkDecodeError, ChunkNotFound
from .chunks import Fetched
from .cpu import SPLIT_BYTES, runs_inline
from .runtime import Layout, Runtime
from .tasks import crew

Result: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Piece: TypeAlias = tuple[Part, Result | None, Buffer | None]
"""A part, the block of the result to decode straight into where there is one, and the encoded chunk."""


async def read(runtime: Runtime, layout: Layout, plan: Plan, out: Result, missing: Missing) -> None:
    """Fill `out` (of the plan's buffer shape) with what the plan selects."""
    reading = _Reading(runtime, layout, plan, out, missing)
    await crew(min(runtime.limits.requests, plan.n_objects), plan.objects(), reading.read_object)


class _Landing:
    """A sink over a block of the result, for bytes that are the chunk itself."""

    __slots__ = ("memory",)

    def __init__(self, block: Result) -> None:
        self.memory = memoryview(block.reshape(-1).view(np.uint8))

    def __call__(self, length: int) -> memoryview:
        if length == len(self.memory):
            return self.memory
        # Not a chunk of this array: receive it aside, the decoder says what is wrong.
        return memoryview(bytearray(length))


def _sink(target: Result | None) -> Sink | None:
    return None if target is None else _Landing(target)


def _landed(sink: Sink | None, data: Buffer | None) -> bool:
    """True where these bytes lie in the result already, and are the chunk itself."""
    return isinstance(sink, _Landing) and isinstance(data, memoryview) and data.obj is sink.memory.obj


class _Reading:
    """One call's read."""

    __slots__ = ("_direct", "_layout", "_missing", "_out", "_runtime")

    def __init__(self, runtime: Runtime, layout: Layout, plan: Plan, out: Result, missing: Missing) -> None:
        self._runtime = runtime
        self._layout = layout
        self._out = out
        self._missing = missing
        self._direct = plan.basic and out.dtype == layout.meta.dtype and not out.dtype.hasobject

    async def read_object(self, item: tuple[Coords, Sequence[Part]]) -> None:
        """One object: lease, fetch, decode, place."""
        coords, lazy_parts = item
        parts = tuple(lazy_parts)  # they are made anew each time they are run through
        layout, runtime = self._layout, self._runtime
        lease = layout.lease * len(parts)
        await runtime.leases.acquire(lease)
        try:
            key = layout.chunks.locate(coords)
            targets = [self._target(part) for part in parts]
            sinks = [_sink(target) for target in targets] if layout.pipeline.raw else None
            fetched = await layout.readable.fetch(key, [part.slot for part in parts], sinks=sinks)
            pieces = list(zip(parts, targets, fetched.buffers, strict=True))
            if sinks is not None:
                pieces = [piece for piece, sink in zip(pieces, sinks, strict=True) if not _landed(sink, piece[2])]
            nbytes = layout.pipeline.nbytes * len(pieces)
            if runs_inline(nbytes, layout.pipeline.cost):
                self._place(coords, key, fetched, pieces)
            else:
                place = partial(self._place, coords, key, fetched)
                await runtime.cpu.each(place, pieces, split=nbytes >= SPLIT_BYTES)
        finally:
            runtime.leases.release(lease)

    def _target(self, part: Part) -> Result | None:
        """The block of the result that is exactly this chunk, where there is one to decode straight into."""
        if not (self._direct and part.whole):
            return None
        block: Result = self._out[part.put]
        chunk_shape = self._layout.meta.chunks
        if block.size != self._layout.chunk_size or not block.flags.c_contiguous:
            return None
        return block if block.shape == chunk_shape else block.reshape(chunk_shape)

    def _place(self, coords: Coords, key: str, fetched: Fetched, pieces: Sequence[Piece]) -> None:
        for part, target, data in pieces:
            if data is None:
                self._fill(coords, key, part)
                continue
            try:
                chunk = self._layout.pipeline.decode(data, target)
            except ChunkDecodeError as error:
                chunk_coords = chunk_of(self._layout, coords, part.slot)
                raise _with_place(error, self._layout, chunk_coords, key, fetched) from error
            if chunk is not target:
                self._out[part.put] = chunk[part.take]

    def _fill(self, coords: Coords, key: str, part: Part) -> None:
        if self._missing == "raise":
            coords = chunk_of(self._layout, coords, part.slot)
            raise ChunkNotFound(
                f"chunk {coords} of {self._layout.url} is not stored (key {key!r}); "
                "write it, or read with missing='fill'",
                array=self._layout.url,
                chunk=coords,
                key=key,
            )
        self._out[part.put] = self._layout.fill


def chunk_of(layout: Layout, coords: Coords, slot: int) -> Coords:
    """Coordinates of a chunk in the grid of all chunks, by those of its object and its slot there."""
    if layout.n_slots == 1:
        return coords
    inner = tuple(n // chunk for n, chunk in zip(layout.meta.object_shape, layout.meta.chunks, strict=True))
    cells = np.unravel_index(slot, inner)
    return tuple(at * n + int(cell) for at, n, cell in zip(coords, inner, cells, strict=True))


def decode_chunk(layout: Layout, coords: Coords, key: str, data: Buffer, fetched: Fetched) -> Result:
    """One chunk on its own; the error says which."""
    try:
        return layout.pipeline.decode(data)
    except ChunkDecodeError as error:
        raise _with_place(error, layout, coords, key, fetched) from error


def _with_place(
    error: ChunkDecodeError, layout: Layout, coords: Coords, key: str, fetched: Fetched
) -> ChunkDecodeError:
    return ChunkDecodeError(
        f"chunk {coords} of {layout.url} (key {key!r}) does not decode: {error}; "
        "restore the object, or write the whole chunk anew",
        array=layout.url,
        chunk=coords,
        key=key,
        version=fetched.version,
        codec=error.codec,
    )
