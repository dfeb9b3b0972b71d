"""Reading an array as a stream of blocks: read ahead in the background, under a bound of bytes."""

from __future__ import annotations

from asyncio import Event
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import chain
from math import prod
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeAlias

import numpy as np

from .._concurrency.background import Background
from .._concurrency.limiter import Limiter, bulk_unless_named
from .._concurrency.workers import run_workers
from .._engine import operations
from .._engine.explain import Explanation, explain
from .._engine.runtime import Layout, Runtime
from .._grid import Axis, longest
from .._options import check_choice, check_count, check_missing
from .._plan import selection
from .._types import Missing, Shape
from ..errors import ConfigError, StateError
from .boxes import Box, cells, n_cells, region_of
from .progress import Progress, ProgressOption, check_progress, metered

Data: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Order: TypeAlias = Literal["C", "chunks", "any"]
ORDERS: Final = ("C", "chunks", "any")


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """A part of an array, with its place there."""

    place: tuple[slice, ...]
    """Where it is: `whole_array[block.place]` is `block.data`."""
    data: Data
    """Its elements; the memory belongs to whoever takes the block."""


class BlockStream:
    """Blocks of an array, each read once: `async with array.stream() as blocks:` and `async for block in blocks:`.

    Several tasks may iterate over one stream at once; each block goes to one of them. Leaving the `async with` cancels
    what is still being read, and returns when that has ended.
    """

    __slots__ = (
        "_ahead",
        "_background",
        "_boxes",
        "_changed",
        "_closing",
        "_ended",
        "_failure",
        "_in_order",
        "_layout",
        "_meter",
        "_missing",
        "_next",
        "_progress",
        "_ready",
        "_region",
        "_runtime",
        "_size",
        "_total",
    )

    def __init__(
        self,
        runtime: Runtime,
        layout: Layout,
        region: Box,
        boxes: Iterator[Box],
        total: int,
        *,
        largest: int,
        in_order: bool,
        ahead_bytes: int,
        missing: Missing,
        progress: ProgressOption,
    ) -> None:
        """
        Args:
            runtime: The session's.
            layout: Of the array.
            region: What is streamed.
            boxes: Its blocks, in the order in which they are read.
            total: How many there are.
            largest: Bytes of the largest.
            in_order: They are handed out in this order, too.
            ahead_bytes: Decoded bytes that wait to be taken, at most; a block above that is read alone.
            missing: What absent chunks are.
            progress: Told of every block that is taken.
        """
        self._runtime = runtime
        self._layout = layout
        self._region = region
        self._boxes = boxes
        self._total = total
        self._in_order = in_order
        self._missing: Missing = missing
        self._progress: ProgressOption = progress
        self._size = min(runtime.limits.requests, total, max(1, ahead_bytes // max(1, largest)))
        # A bound of this stream's own: were ready blocks to hold leases of the session, a consumer that reads something
        # else before it takes them would wait for itself.
        self._ahead = Limiter(ahead_bytes)
        self._ready: dict[int, Block] = {}
        self._next = 0
        self._changed = Event()
        self._background: Background | None = None
        self._closing = ExitStack()
        self._ended = False
        self._failure: BaseException | None = None

    def __repr__(self) -> str:
        return f"<BlockStream of {self._layout.url}, {self._next} of {self._total} blocks taken>"

    def __len__(self) -> int:
        """Number of blocks."""
        return self._total

    @property
    def progress(self) -> Progress:
        """How far it is: blocks that were taken, and their decoded bytes."""
        self._require_open()
        return self._meter.state

    def explain(self) -> Explanation:
        """What the stream costs, with no request."""
        box, shape = self._region, self._layout.meta.shape
        return explain(self._runtime, self._layout, selection.region(box.start, box.stop, None, shape))

    async def __aenter__(self) -> Self:
        self._runtime.guard()
        if self._background is not None or self._ended:
            raise StateError("a stream is entered once; make another one")
        self._meter = self._closing.enter_context(metered(self._progress, self._total, "stream"))
        with bulk_unless_named():  # the task has the priority that stands here
            work = run_workers(self._size, iter(enumerate(self._boxes)), self._read)
            self._background = Background(work, self._finish)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End what is being read; returns when it has ended. Again is fine."""
        background, self._background = self._background, None
        self._ended = True
        try:
            if background is not None:
                await background.aclose()
        finally:
            self._ready.clear()
            self._changed.set()
            self._closing.close()

    async def _read(self, item: tuple[int, Box]) -> None:
        number, box = item
        nbytes = self._nbytes(box.shape)
        # First come, first served: an earlier block never waits for memory that a later one holds.
        await self._ahead.acquire(nbytes)
        try:
            chosen = selection.region(box.start, box.stop, None, self._layout.meta.shape)
            data = await operations.get(self._runtime, self._layout, chosen, missing=self._missing)
        except BaseException:
            self._ahead.release(nbytes)
            raise
        self._ready[number] = Block(box.place, data)
        if not self._in_order or number == self._next:
            self._changed.set()

    def _finish(self, failure: BaseException | None) -> None:
        self._failure = failure
        self._changed.set()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Block:
        while True:
            self._require_open()
            block = self._take()
            if block is not None:
                return block
            if self._failure is not None:
                raise self._failure
            if self._next == self._total:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()

    def _take(self) -> Block | None:
        if self._in_order:
            block = self._ready.pop(self._next, None)
        else:
            block = self._ready.pop(next(iter(self._ready))) if self._ready else None
        if block is not None:
            self._next += 1
            self._ahead.release(self._nbytes(block.data.shape))
            if self._next in self._ready or self._next == self._total:
                self._changed.set()  # for the other tasks that wait
            self._meter.add(1, block.data.nbytes)
        return block

    def _require_open(self) -> None:
        if self._background is None:
            state = "was left" if self._ended else "was not entered"
            raise StateError(f"this stream {state}; iterate inside `async with array.stream(...) as blocks:`")

    def _nbytes(self, shape: Shape) -> int:
        return max(1, prod(shape) * self._layout.meta.dtype.itemsize)


class SliceStream:
    """Slabs of an array along one axis, in order; otherwise as `BlockStream`. Each chunk is read once."""

    __slots__ = ("_at", "_axis", "_bands", "_parts", "_region", "_size")

    def __init__(self, bands: BlockStream, region: Box, axis: int, size: int) -> None:
        self._bands = bands
        self._region = region
        self._axis = axis
        self._size = size
        self._at = region.start[axis]
        self._parts: deque[Block] = deque()
        """Bands that hold what comes next."""

    def __repr__(self) -> str:
        return f"<SliceStream along axis {self._axis}, {self._size} at a time, at {self._at}>"

    def __len__(self) -> int:
        """Number of slabs."""
        return -(-self._region.shape[self._axis] // self._size) if self._region.size else 0

    def explain(self) -> Explanation:
        """What the stream costs, with no request."""
        return self._bands.explain()

    async def __aenter__(self) -> Self:
        await self._bands.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """End what is being read; returns when it has ended. Again is fine."""
        try:
            await self._bands.aclose()
        finally:
            self._parts.clear()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Block:
        end = self._region.stop[self._axis]
        while self._at < end:
            stop = min(self._at + self._size, end)
            if self._parts and self._parts[-1].place[self._axis].stop >= stop:
                return self._cut(stop)
            self._parts.append(await self._bands.__anext__())
        raise StopAsyncIteration

    def _cut(self, stop: int) -> Block:
        axis, start = self._axis, self._at
        pieces = []
        for part in self._parts:
            low, high = part.place[axis].start, part.place[axis].stop
            inside = [slice(None)] * part.data.ndim
            inside[axis] = slice(max(start, low) - low, min(stop, high) - low)
            pieces.append(part.data[tuple(inside)])
        whole = len(pieces) == 1 and pieces[0].shape == self._parts[0].data.shape
        # Copied, but for a whole band: a view would keep all of the band in memory, and share it with the next slab.
        data = self._parts[0].data if whole else np.concatenate(pieces, axis=axis)
        while self._parts and self._parts[0].place[axis].stop <= stop:
            self._parts.popleft()
        self._at = stop
        place = [slice(a, b) for a, b in zip(self._region.start, self._region.stop, strict=True)]
        place[axis] = slice(start, stop)
        return Block(tuple(place), data)


def stream(
    runtime: Runtime,
    layout: Layout,
    region: Any,
    *,
    order: Order,
    ahead_bytes: int,
    missing: Missing,
    progress: ProgressOption,
) -> BlockStream:
    """See `Array.stream`."""
    check_choice("order", order, ORDERS)
    check_count("ahead_bytes", ahead_bytes)
    check_progress(progress)
    check_missing(missing)
    box = region_of(region, layout.meta.shape)
    sides, largest = block_sides(layout, ahead_bytes)
    return BlockStream(
        runtime,
        layout,
        box,
        _by_object(layout, box, sides) if order == "chunks" else cells(box, sides),
        n_cells(box, sides),
        largest=largest,
        in_order=order != "any",
        ahead_bytes=ahead_bytes,
        missing=missing,
        progress=progress,
    )


def stream_slices(
    runtime: Runtime,
    layout: Layout,
    axis: int,
    size: int,
    region: Any,
    *,
    ahead_bytes: int,
    missing: Missing,
    progress: ProgressOption,
) -> SliceStream:
    """See `Array.stream_slices`."""
    check_count("size", size)
    check_count("ahead_bytes", ahead_bytes)
    check_progress(progress)
    check_missing(missing)
    meta = layout.meta
    check_count("axis", axis, least=-meta.ndim)
    if axis >= meta.ndim:
        raise ConfigError(f"axis must be one of the array's {meta.ndim} dimensions, not {axis!r}")
    axis %= meta.ndim
    box = region_of(region, meta.shape)
    sides, largest = _band_axes(layout, box, axis, ahead_bytes)
    bands = BlockStream(
        runtime,
        layout,
        box,
        cells(box, sides),
        n_cells(box, sides),
        largest=largest,
        in_order=True,
        ahead_bytes=ahead_bytes,
        missing=missing,
        progress=progress,
    )
    return SliceStream(bands, box, axis, size)


def block_sides(layout: Layout, ahead_bytes: int) -> tuple[tuple[Axis, ...], int]:
    """The grid of the blocks, and bytes of the largest: stored objects, or rows of the chunks of shards where a shard
    exceeds a quarter of the bound."""
    meta = layout.meta
    axes, sides = list(meta.object_axes), list(meta.object_shape)
    for axis, chunk in enumerate(meta.chunks):
        if meta.shards is None or prod(sides) * meta.dtype.itemsize * 4 <= ahead_bytes:
            break
        axes[axis] = sides[axis] = chunk
    return tuple(axes), prod(sides) * meta.dtype.itemsize


def _by_object(layout: Layout, region: Box, axes: Sequence[Axis]) -> Iterator[Box]:
    """The blocks, those of one stored object after the other."""
    return chain.from_iterable(cells(box, axes) for box in cells(region, layout.meta.object_axes))


def _band_axes(layout: Layout, region: Box, axis: int, ahead_bytes: int) -> tuple[tuple[Axis, ...], int]:
    """All across, and along the axis a stored object, or a chunk where that is a large part of the bound; and bytes of
    the largest."""
    meta = layout.meta
    across = region.size // max(1, region.shape[axis]) * meta.dtype.itemsize
    fits = across * meta.object_shape[axis] * 2 <= ahead_bytes
    along = (meta.object_axes if fits else meta.chunk_axes)[axis]
    axes: list[Axis] = [max(1, n) for n in meta.shape]
    axes[axis] = along
    return tuple(axes), across * longest(along)
