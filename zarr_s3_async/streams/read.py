"""Reading an array as a stream of blocks, which are read ahead in the background within a limit of bytes."""

from __future__ import annotations

from asyncio import Event
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from itertools import count
from math import prod
from types import TracebackType
from typing import Any, Final, Literal, Self, TypeAlias, cast

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
from .._types import JSON, Missing, Shape
from ..errors import ConfigError, StateError
from .boxes import Box, cells, n_cells, region_of
from .progress import Progress, ProgressOption, check_progress, metered
from .state import VERSION, Finished, check_state, name_of

Data: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Order: TypeAlias = Literal["C", "chunks", "any"]
ORDERS: Final = ("C", "chunks", "any")


@dataclass(frozen=True, slots=True, eq=False)
class Block:
    """A part of an array, with its location in the array."""

    place: tuple[slice, ...]
    """The location: `whole_array[block.place]` equals `block.data`."""
    data: Data
    """The elements; the receiver of the block owns the memory."""


class BlockStream:
    """Blocks of an array, each read once: `async with array.stream() as blocks:` and `async for block in blocks:`.

    Several tasks may iterate over one stream concurrently; each block goes to one of them. Leaving the `async with`
    cancels the reads in progress, and waits until they have ended.
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
        "_name",
        "_progress",
        "_ready",
        "_region",
        "_runtime",
        "_size",
        "_taken",
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
        taken: Finished,
        name: str,
        largest: int,
        in_order: bool,
        ahead_bytes: int,
        missing: Missing,
        progress: ProgressOption,
    ) -> None:
        """
        Args:
            runtime: The session's runtime.
            layout: The array's layout.
            region: The region to stream.
            boxes: The blocks, in the order in which they are read, starting with the first one that was not taken.
            total: Number of all blocks.
            taken: The blocks that an earlier stream has returned.
            name: Identifies the stream in its state, so that a state of another stream is rejected.
            largest: Bytes of the largest block.
            in_order: Whether blocks are returned in the order of `boxes`.
            ahead_bytes: Maximum decoded bytes of blocks that are read and not taken; a larger block is read alone.
            missing: How absent chunks are treated.
            progress: The user's `progress=`, called for every block that is taken.
        """
        self._runtime = runtime
        self._layout = layout
        self._region = region
        self._boxes = boxes
        self._total = total
        self._in_order = in_order
        self._missing: Missing = missing
        self._progress: ProgressOption = progress
        # No more blocks at a time than fit into the limit: others would only wait for memory.
        self._size = min(runtime.limits.requests, total, max(1, ahead_bytes // max(1, largest)))
        # The stream has a limit of its own. If ready blocks held leases of the session, a consumer that reads another
        # array before it takes them would deadlock.
        self._ahead = Limiter(ahead_bytes)
        self._ready: dict[int, Block] = {}
        self._taken = taken
        self._name = name
        self._changed = Event()
        self._background: Background | None = None
        self._closing = ExitStack()
        self._ended = False
        self._failure: BaseException | None = None

    def __repr__(self) -> str:
        return f"<BlockStream of {self._layout.url}, {len(self._taken)} of {self._total} blocks taken>"

    def __len__(self) -> int:
        """Number of blocks."""
        return self._total

    @property
    def progress(self) -> Progress:
        """The progress so far: blocks that were taken, and their decoded bytes."""
        self._require_open()
        return self._meter.state

    def state(self) -> dict[str, JSON]:
        """Which blocks were taken, as JSON-compatible values, for `stream(…, state=…)` of the same array anywhere."""
        return self._taken.state(self._name)

    def explain(self) -> Explanation:
        """What the stream costs, computed without a request. Blocks that an earlier stream returned are included."""
        box, shape = self._region, self._layout.meta.shape
        return explain(self._runtime, self._layout, selection.region(box.start, box.stop, None, shape))

    async def __aenter__(self) -> Self:
        self._runtime.guard()
        if self._background is not None or self._ended:
            raise StateError("a stream can be entered only once; create another one")
        self._meter = self._closing.enter_context(metered(self._progress, self._total, "stream"))
        if len(self._taken):
            self._meter.add(len(self._taken), 0)
        # `boxes` starts at the first block that was not taken, so numbers of blocks are the same in every stream.
        numbered = zip(count(self._taken.first), self._boxes, strict=False)
        above = frozenset(self._taken.above)
        left = (item for item in numbered if item[0] not in above)
        with bulk_unless_named():  # the background task inherits the priority that is set here
            work = run_workers(self._size, left, self._read)
            self._background = Background(work, self._finish)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel the reads in progress, and wait until they have ended. Calling it again does nothing."""
        background, self._background = self._background, None
        self._ended = True
        try:
            if background is not None:
                await background.aclose()
        finally:
            # Blocks that nobody can take any more must not keep their memory.
            self._ready.clear()
            self._changed.set()
            self._closing.close()

    async def _read(self, item: tuple[int, Box]) -> None:
        number, box = item
        nbytes = self._nbytes(box.shape)
        # The limiter is first come, first served, so an earlier block never waits for memory that a later one holds.
        await self._ahead.acquire(nbytes)
        try:
            chosen = selection.region(box.start, box.stop, None, self._layout.meta.shape)
            data = await operations.get(self._runtime, self._layout, chosen, missing=self._missing)
        except BaseException:
            self._ahead.release(nbytes)
            raise
        self._ready[number] = Block(box.place, data)
        # In order, only the next block lets the consumer go on.
        if not self._in_order or number == self._taken.first:
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
            # After the blocks that were read before the failure.
            if self._failure is not None:
                raise self._failure
            if len(self._taken) == self._total:
                raise StopAsyncIteration
            self._changed.clear()
            await self._changed.wait()

    def _take(self) -> Block | None:
        if not self._ready:
            return None
        number = self._taken.first if self._in_order else next(iter(self._ready))
        block = self._ready.pop(number, None)
        if block is not None:
            self._taken.add(number)
            # The consumer owns the memory now; what it keeps does not count.
            self._ahead.release(self._nbytes(block.data.shape))
            if self._taken.first in self._ready or len(self._taken) == self._total:
                self._changed.set()  # wakes other tasks that iterate over this stream
            self._meter.add(1, block.data.nbytes)
        return block

    def _require_open(self) -> None:
        if self._background is None:
            state = "was left" if self._ended else "was not entered"
            raise StateError(f"this stream {state}; iterate inside `async with array.stream(...) as blocks:`")

    def _nbytes(self, shape: Shape) -> int:
        return max(1, prod(shape) * self._layout.meta.dtype.itemsize)


class SliceStream:
    """Slabs of an array along one axis, in order; otherwise like `BlockStream`. Each chunk is read once."""

    __slots__ = ("_at", "_axis", "_bands", "_name", "_parts", "_region", "_size")

    def __init__(self, bands: BlockStream, region: Box, axis: int, size: int, at: int, name: str) -> None:
        self._bands = bands
        self._region = region
        self._axis = axis
        self._size = size
        self._at = at
        self._name = name
        self._parts: deque[Block] = deque()
        """Bands that contain the next elements."""

    def __repr__(self) -> str:
        return f"<SliceStream along axis {self._axis}, {self._size} at a time, at {self._at}>"

    def __len__(self) -> int:
        """Number of slabs."""
        return -(-self._region.shape[self._axis] // self._size) if self._region.size else 0

    def state(self) -> dict[str, JSON]:
        """The position behind the last slab that was taken, as JSON-compatible values.

        It is for `stream_slices(…, state=…)` of the same array in any process.
        """
        return {"version": VERSION, "stream": self._name, "at": self._at}

    def explain(self) -> Explanation:
        """What the stream costs, computed without a request."""
        return self._bands.explain()

    async def __aenter__(self) -> Self:
        await self._bands.__aenter__()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    async def aclose(self) -> None:
        """Cancel the reads in progress, and wait until they have ended. Calling it again does nothing."""
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
            # The bands in memory reach to the end of this slab.
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
        # Copied unless it is a whole band: a view would keep the band in memory, and share it with the next slab.
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
    state: Mapping[str, JSON] | None,
) -> BlockStream:
    """See `Array.stream`."""
    check_choice("order", order, ORDERS)
    check_count("ahead_bytes", ahead_bytes)
    check_progress(progress)
    check_missing(missing)
    box = region_of(region, layout.meta.shape)
    sides, largest = block_sides(layout, ahead_bytes)
    total = n_cells(box, sides)
    # Everything that numbers the blocks: a state of other blocks must not be continued.
    name = name_of("blocks", layout.meta.shape, box, sides, order == "chunks")
    taken = Finished()
    if state is not None:
        taken = Finished.of_state(state, name, total)
    return BlockStream(
        runtime,
        layout,
        box,
        _by_object(layout, box, sides, taken.first) if order == "chunks" else cells(box, sides, taken.first),
        total,
        taken=taken,
        name=name,
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
    state: Mapping[str, JSON] | None,
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
    name, at, rest = name_of("slabs", meta.shape, box, axis, size), box.start[axis], box
    if state is not None:
        check_state(state, name, "at")
        check_count("state['at']", state["at"], least=at)
        # The region may not be exceeded, whatever the state contains.
        at = min(cast("int", state["at"]), box.stop[axis])
        # Bands before this position need not be read again.
        rest = Box((*box.start[:axis], at, *box.start[axis + 1 :]), box.stop)
    sides, largest = _band_axes(layout, box, axis, ahead_bytes)
    bands = BlockStream(
        runtime,
        layout,
        rest,
        cells(rest, sides),
        n_cells(rest, sides),
        taken=Finished(),
        name=name,
        largest=largest,
        in_order=True,
        ahead_bytes=ahead_bytes,
        missing=missing,
        progress=progress,
    )
    return SliceStream(bands, box, axis, size, at, name)


def block_sides(layout: Layout, ahead_bytes: int) -> tuple[tuple[Axis, ...], int]:
    """The grid of the blocks, and the bytes of the largest one.

    A block is a stored object. If a shard exceeds a quarter of the limit, a block is a row of its chunks.
    """
    meta = layout.meta
    axes, sides = list(meta.object_axes), list(meta.object_shape)
    # The slowest axes first, so that what remains of a shard is contiguous in it.
    for axis, chunk in enumerate(meta.chunks):
        if meta.shards is None or prod(sides) * meta.dtype.itemsize * 4 <= ahead_bytes:
            break
        axes[axis] = sides[axis] = chunk
    return tuple(axes), prod(sides) * meta.dtype.itemsize


def _by_object(layout: Layout, region: Box, axes: Sequence[Axis], skip: int) -> Iterator[Box]:
    """The blocks, ordered by stored object, without the first `skip`."""
    for box in cells(region, layout.meta.object_axes):
        number = n_cells(box, axes)
        if skip < number:
            yield from cells(box, axes, skip)
        skip = max(0, skip - number)


def _band_axes(layout: Layout, region: Box, axis: int, ahead_bytes: int) -> tuple[tuple[Axis, ...], int]:
    """The grid of the bands, and the bytes of the largest one.

    A band covers all other dimensions. Along the axis it is one stored object long, or one chunk if bands of that
    length would take more than half of the limit.
    """
    meta = layout.meta
    across = region.size // max(1, region.shape[axis]) * meta.dtype.itemsize
    fits = across * meta.object_shape[axis] * 2 <= ahead_bytes
    along = (meta.object_axes if fits else meta.chunk_axes)[axis]
    axes: list[Axis] = [max(1, n) for n in meta.shape]
    axes[axis] = along
    return tuple(axes), across * longest(along)
