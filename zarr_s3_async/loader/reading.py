"""Reading ahead: fills are read concurrently, within the memory of the buffer, and returned in order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from itertools import pairwise
from time import perf_counter
from typing import Any, Protocol, Self, TypeAlias

import numpy as np

from .._concurrency.limiter import Limiter
from .._concurrency.threads import CodecThreads
from .._concurrency.workers import gather_all, run_workers, run_workers_async
from .feeds import Feed, Feeds
from .memory import Block, RowMemory
from .order import Fill, Rows, Span, chunks_read, expand
from .permutation import Ints
from .report import Meter

_FILLS_AT_ONCE = 64
_CHUNKS_AT_ONCE = 256
"""Maximum chunks of the fills that are read concurrently. It is enough to use all of a session's request slots; more
would only wait for a slot, and each wait takes a tenth of the CPU time of a request."""
_READS_AT_ONCE = 16
_SCATTERED = 512 * 2**10
"""Average bytes of a range below which many ranges are read by one call: for shorter ranges the overhead of a call each
exceeds that of indexing, by a fifth of the CPU time of an epoch with ranges of 64 KiB."""


class ReadableArray(Protocol):
    """The part of an array's interface that a loader uses."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    async def get_slice(self, start: Sequence[int], stop: Sequence[int], *, out: Block) -> Any: ...

    @property
    def oindex(self) -> Any: ...


_Name: TypeAlias = tuple[int, int]
"""Identifies kept rows: the number of the feed, and the name of the span."""


class HeldFill:
    """A fill, with its rows in memory once it is read."""

    __slots__ = ("blocks", "done", "error", "fill", "keepers", "kept", "nbytes")

    def __init__(self, fill: Fill, nbytes: int, keepers: dict[_Name, HeldFill]) -> None:
        """
        Args:
            fill: The fill to read.
            nbytes: Bytes of its rows.
            keepers: The earlier fills that keep rows for this one.
        """
        self.fill: Fill = fill
        self.nbytes: int = nbytes
        self.keepers: dict[_Name, HeldFill] = keepers
        self.blocks: list[Block | None] = [None] * len(fill.rows)
        """Rows by feed; the axis of the samples is the first one."""
        self.kept: dict[_Name, Block] = {}
        """Copies of the rows for later fills, which may take them after the memory of this fill was returned."""
        self.done: asyncio.Event = asyncio.Event()
        self.error: Exception | None = None

    def spans(self, *, kept: bool) -> Iterator[tuple[_Name, Span]]:
        """The spans that this fill keeps for later fills, or takes from earlier ones."""
        for number, rows in enumerate(self.fill.rows):
            for span in () if rows is None else rows.kept if kept else rows.taken:
                yield (number, span.name), span

    def memory_of(self, number: int, span: Span) -> Block:
        """The memory of a span of rows of a feed. The rows of a span are contiguous in memory."""
        rows, block = self.fill.rows[number], self.blocks[number]
        assert rows is not None  # noqa: S101  # resident feeds have no spans
        assert block is not None  # noqa: S101  # the fill has just been read
        first = int(rows.places(np.array([span.start]))[0])
        view: Block = block[first : first + span.stop - span.start]
        return view


Source: TypeAlias = Iterator[Fill]


class ReadAhead:
    """Reads the fills of one epoch.

    Args:
        arrays: The arrays, by the numbers that the feeds use.
        axis: The axis of the samples.
        feeds: How the arrays are read.
        dtypes: Dtypes of the rows in memory, by feed.
        fills: The fills, in order.
        buffer_bytes: Maximum bytes of decoded rows, including those being read.
        threads: The threads in which fills are planned.
        meter: Counts what is read.
    """

    def __init__(
        self,
        arrays: Sequence[ReadableArray],
        axis: int,
        feeds: Feeds,
        dtypes: Sequence[np.dtype[Any]],
        fills: Source,
        *,
        buffer_bytes: int,
        threads: CodecThreads,
        meter: Meter,
    ) -> None:
        self._arrays = arrays
        self._axis = axis
        self._feeds = feeds
        self._dtypes = dtypes
        self._fills = fills
        self._threads = threads
        self._meter = meter
        self._memory = RowMemory(buffer_bytes)
        self._budget = Limiter(max(1, buffer_bytes - feeds.resident_bytes - feeds.kept_bytes))
        self._calls = Limiter(_CHUNKS_AT_ONCE)
        self._turn = asyncio.Lock()
        self._failed = False
        self._keepers: dict[_Name, HeldFill] = {}
        """The fills that keep rows for later ones, by the rows."""
        self._queue: asyncio.Queue[HeldFill | None] = asyncio.Queue()
        self.resident: list[Block | None] = [None] * len(feeds.feeds)
        """The rows of resident feeds, by feed."""

    async def run(self) -> None:
        """Read all fills. If a fill fails, its error is raised when it is taken."""
        await run_workers_async(_FILLS_AT_ONCE, self, self._read)

    async def read_resident(self, rows: Sequence[Rows | None]) -> None:
        """Read the rows of the resident feeds."""
        for number, wanted in enumerate(rows):
            if wanted is not None:
                self.resident[number] = await self._read_rows(number, wanted)

    async def take(self) -> HeldFill | None:
        """Wait for the next fill in order; None after the last one.

        Raises:
            Exception: The error of reading the fill.
        """
        held = await self._queue.get()
        if held is None:
            return None
        await held.done.wait()
        if held.error is not None:
            raise held.error
        return held

    def release(self, held: HeldFill) -> None:
        """Return the memory of a fill whose samples were all copied to batches."""
        for block in held.blocks:
            if block is not None:
                self._memory.give_back(block)
        held.blocks = []
        self._budget.release(held.nbytes)

    # The iterator of fills, from which each worker takes the next one

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> HeldFill:
        # One worker at a time: fills get memory in their order, so an earlier one never waits for a later one.
        async with self._turn:
            # In a thread: planning a fill of many samples takes milliseconds.
            fill = None if self._failed else await self._threads.run(self._next_fill)
            if fill is None:
                self._queue.put_nowait(None)
                raise StopAsyncIteration
            held = HeldFill(fill, max(1, fill.nbytes(self._feeds)), {})
            held.keepers = {name: self._keepers.pop(name) for name, _ in held.spans(kept=False)}
            self._keepers.update((name, held) for name, _ in held.spans(kept=True))
            # Before waiting for memory, so that fills are taken in their order, whichever is read first.
            self._queue.put_nowait(held)
            started = perf_counter()
            await self._budget.acquire(held.nbytes)
            self._meter.buffer_was_full(perf_counter() - started)
            return held

    def _next_fill(self) -> Fill | None:
        return next(self._fills, None)

    # Reading one fill

    async def _read(self, held: HeldFill) -> None:
        try:
            wanted = [(number, rows) for number, rows in enumerate(held.fill.rows) if rows is not None]
            chunks = max(1, sum(chunks_read(self._feeds.feeds[number], rows) for number, rows in wanted))
            await self._calls.acquire(chunks)
            try:
                blocks = await gather_all(*(self._read_rows(number, rows) for number, rows in wanted))
            finally:
                self._calls.release(chunks)
            for (number, _), block in zip(wanted, blocks, strict=True):
                held.blocks[number] = block
            await self._take_kept(held)
            for name, span in held.spans(kept=True):
                held.kept[name] = held.memory_of(name[0], span).copy()
        except Exception as error:  # noqa: BLE001  # raised when this fill is taken, after the batches before it
            # Later fills are not needed, so no further one is started. The error is stored instead of raised: if a
            # member of a task group fails in the same turn of the loop in which the group is cancelled, the group
            # raises only the failure, and the cancellation is lost.
            held.error = error
            self._failed = True
        finally:
            held.keepers.clear()
            held.done.set()

    async def _take_kept(self, held: HeldFill) -> None:
        """Copy the rows that earlier fills keep for this one. No deadlock: fills wait only for earlier ones."""
        for name, span in held.spans(kept=False):
            keeper = held.keepers[name]
            await keeper.done.wait()
            if keeper.error is not None:
                raise keeper.error
            held.memory_of(name[0], span)[...] = keeper.kept.pop(name)

    async def _read_rows(self, number: int, rows: Rows) -> Block:
        feed = self._feeds.feeds[number]
        shape = self._arrays[feed.source].shape
        rest = shape[: self._axis] + shape[self._axis + 1 :]
        block = self._memory.lend((rows.number, *rest), self._dtypes[number])
        target = np.moveaxis(block, 0, self._axis)
        starts, stops = rows.to_read()
        if starts.size:
            places = rows.places(starts)
            if self._is_scattered(feed, starts, stops):
                # One read for each run of ranges that are adjacent in memory; kept rows of other fills lie between.
                begin = np.flatnonzero(np.r_[True, places[1:] != (places + stops - starts)[:-1]])
            else:
                begin = np.arange(starts.size)
            pieces = [slice(a, b) for a, b in pairwise((*begin.tolist(), starts.size))]

            async def read(piece: slice) -> None:
                await self._read_ranges(feed, starts[piece], stops[piece], target, int(places[piece.start]))

            await run_workers(min(_READS_AT_ONCE, len(pieces)), iter(pieces), read)
        return block

    def _is_scattered(self, feed: Feed, starts: Ints, stops: Ints) -> bool:
        """True if ranges may share a chunk, or are too short to be read by a call each."""
        if (starts[1:] // feed.band == (stops[:-1] - 1) // feed.band).any():
            return True
        return int((stops - starts).sum()) * feed.row_bytes < starts.size * _SCATTERED

    async def _read_ranges(self, feed: Feed, starts: Ints, stops: Ints, target: Block, place: int) -> None:
        """Read ranges of rows into contiguous memory, which starts at row `place` of the target."""
        array = self._arrays[feed.source]
        along: Block = target[(slice(None),) * self._axis + (slice(place, place + int((stops - starts).sum())),)]
        if starts.size == 1:
            low, high = [0] * len(array.shape), list(array.shape)
            low[self._axis], high[self._axis] = int(starts[0]), int(stops[0])
            await array.get_slice(low, high, out=along)
        else:
            key: list[Any] = [slice(None)] * len(array.shape)
            key[self._axis] = expand(starts, stops)
            await array.oindex[tuple(key)].get(out=along)
        self._meter.read(feed, starts, stops)
