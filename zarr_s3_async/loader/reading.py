"""Reading ahead: fills are read side by side, into as much memory as the buffer may take, and handed on in order."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence
from time import perf_counter
from typing import Any, Protocol, Self, TypeAlias

import numpy as np

from .._concurrency.limiter import Limiter
from .._concurrency.threads import CodecThreads
from .._concurrency.workers import gather_all, run_workers, run_workers_async
from .feeds import Feed, Feeds
from .memory import Block, RowMemory
from .order import Fill, Rows, chunks_read, expand
from .report import Meter

_FILLS_AT_ONCE = 64
_CHUNKS_AT_ONCE = 256
"""Chunks of the fills that are read side by side: enough for a session's requests, and few that wait for a slot, since
each wait costs as much as a tenth of a request."""
_RANGES_AT_ONCE = 16
_SCATTERED = 64 * 2**10
"""Bytes of a range below which a fill of many is read by one call: a call costs more than placing by index."""


class ReadableView(Protocol):
    """What a loader needs of a view."""

    async def get(self, *, out: Block) -> Any: ...


class ReadableArray(Protocol):
    """What a loader needs of an array."""

    @property
    def shape(self) -> tuple[int, ...]: ...

    async def get_slice(self, start: Sequence[int], stop: Sequence[int], *, out: Block) -> Any: ...

    @property
    def oindex(self) -> Any: ...


class HeldFill:
    """A fill and its rows in memory."""

    __slots__ = ("blocks", "carried", "done", "error", "fill", "nbytes", "previous", "tails")

    def __init__(self, fill: Fill, nbytes: int, previous: HeldFill | None, carried: Sequence[int]) -> None:
        """
        Args:
            fill: What is read.
            nbytes: Its memory.
            previous: The fill before, from which its first rows are taken.
            carried: How many of its last rows the next fill takes, by feed.
        """
        self.fill: Fill = fill
        self.nbytes: int = nbytes
        self.previous: HeldFill | None = previous
        self.carried: Sequence[int] = carried
        self.blocks: list[Block | None] = [None] * len(fill.rows)
        """Rows by feed: the axis of the samples comes first."""
        self.tails: list[Block | None] = [None] * len(fill.rows)
        self.done: asyncio.Event = asyncio.Event()
        self.error: Exception | None = None

    def keep_tails(self) -> None:
        """Copy the rows that the next fill takes: it may come to that after this one's memory was given back."""
        for number, count in enumerate(self.carried):
            block = self.blocks[number]
            if count and block is not None:
                self.tails[number] = block[len(block) - count :].copy()


Source: TypeAlias = Iterator[Fill]


class ReadAhead:
    """Reads the fills of one epoch.

    Args:
        arrays: By number, as the feeds have them.
        axis: The one that samples lie along.
        feeds: How the arrays are read.
        dtypes: Of the rows in memory, by feed.
        fills: In order.
        buffer_bytes: Decoded rows in memory at most, those being read among them.
        threads: Where fills are planned.
        meter: What is read is counted there.
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
        self._budget = Limiter(max(1, buffer_bytes - feeds.resident_bytes))
        self._calls = Limiter(_CHUNKS_AT_ONCE)
        self._turn = asyncio.Lock()
        self._ahead: Fill | None = None
        self._begun = False
        self._failed = False
        self._last: HeldFill | None = None
        self._queue: asyncio.Queue[HeldFill | None] = asyncio.Queue()
        self.resident: list[Block | None] = [None] * len(feeds.feeds)
        """The rows of feeds that stay."""

    async def run(self) -> None:
        """Read all of them. A failure belongs to its fill and is raised where that is taken."""
        await run_workers_async(_FILLS_AT_ONCE, self, self._read)

    async def read_resident(self, rows: Sequence[Rows | None]) -> None:
        """Read what every fill needs."""
        for number, wanted in enumerate(rows):
            if wanted is not None:
                self.resident[number] = await self._read_rows(number, wanted)

    async def take(self) -> HeldFill | None:
        """The next fill in order, read; None behind the last.

        Raises:
            Exception: What its read raised.
        """
        held = await self._queue.get()
        if held is None:
            return None
        await held.done.wait()
        if held.error is not None:
            raise held.error
        return held

    def release(self, held: HeldFill) -> None:
        """Its samples are in batches: its memory is for another fill."""
        for block in held.blocks:
            if block is not None:
                self._memory.give_back(block)
        held.blocks = []
        self._budget.release(held.nbytes)

    # The fills, one for each worker that asks

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> HeldFill:
        async with self._turn:
            fill = None if self._failed else await self._plan()
            if fill is None:
                self._queue.put_nowait(None)
                raise StopAsyncIteration
            carried = [0 if rows is None else rows.carried for rows in self._ahead.rows] if self._ahead else []
            held = HeldFill(fill, max(1, fill.nbytes(self._feeds)), self._last, carried)
            self._last = held
            self._queue.put_nowait(held)
            started = perf_counter()
            await self._budget.acquire(held.nbytes)
            self._meter.buffer_was_full(perf_counter() - started)
            return held

    async def _plan(self) -> Fill | None:
        """The next fill; the one behind it is planned as well, so that it is known what that carries over."""
        if not self._begun:
            self._begun = True
            self._ahead = await self._threads.run(self._next_fill)
        fill = self._ahead
        if fill is not None:
            self._ahead = await self._threads.run(self._next_fill)
        return fill

    def _next_fill(self) -> Fill | None:
        return next(self._fills, None)

    # Reading one

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
            await self._carry_over(held)
            held.keep_tails()
        except Exception as error:  # noqa: BLE001  # raised where this fill is taken, after the batches before it
            # Nothing behind it is of use. A worker must not go on in any case: a group whose member failed in the very
            # turn in which it was cancelled raises the failure alone, and the cancellation is lost.
            held.error = error
            self._failed = True
        finally:
            held.previous = None
            held.done.set()

    async def _carry_over(self, held: HeldFill) -> None:
        previous = held.previous
        carried = [(number, rows.carried) for number, rows in enumerate(held.fill.rows) if rows and rows.carried]
        if previous is None or not carried:
            return
        await previous.done.wait()
        if previous.error is not None:
            raise previous.error
        for number, count in carried:
            block, tail = held.blocks[number], previous.tails[number]
            assert block is not None  # noqa: S101  # it was just read
            assert tail is not None  # noqa: S101  # the fill before knew what this one takes
            block[:count] = tail
            previous.tails[number] = None

    async def _read_rows(self, number: int, rows: Rows) -> Block:
        feed = self._feeds.feeds[number]
        shape = self._arrays[feed.source].shape
        rest = shape[: self._axis] + shape[self._axis + 1 :]
        block = self._memory.lend((rows.number, *rest), self._dtypes[number])
        target = np.moveaxis(block, 0, self._axis)
        first = int(rows.starts[0]) + rows.carried
        if rows.starts.size == 1:
            if first < rows.stops[0]:
                await self._read_range(feed, first, int(rows.stops[0]), self._along(target, rows.carried, None))
        elif self._is_scattered(feed, rows):
            key = [slice(None)] * len(shape)
            key[self._axis] = expand(rows.starts, rows.stops)  # type: ignore[call-overload]  # an index array
            await self._arrays[feed.source].oindex[tuple(key)].get(out=target)
            self._meter.read(feed, rows.starts, rows.stops)
        else:
            await self._read_ranges(feed, rows, target)
        return block

    def _is_scattered(self, feed: Feed, rows: Rows) -> bool:
        """True where ranges may share a chunk, or are so short that a call for each costs more than it saves."""
        if (rows.starts[1:] // feed.band == (rows.stops[:-1] - 1) // feed.band).any():
            return True
        return rows.number * feed.row_bytes < rows.starts.size * _SCATTERED

    async def _read_ranges(self, feed: Feed, rows: Rows, target: Block) -> None:
        offsets = np.cumsum(rows.stops - rows.starts) - (rows.stops - rows.starts)
        ranges = zip(rows.starts.tolist(), rows.stops.tolist(), offsets.tolist(), strict=True)

        async def read(one: tuple[int, int, int]) -> None:
            start, stop, offset = one
            await self._read_range(feed, start, stop, self._along(target, offset, offset + stop - start))

        await run_workers(min(_RANGES_AT_ONCE, rows.starts.size), ranges, read)

    async def _read_range(self, feed: Feed, start: int, stop: int, target: Block) -> None:
        array = self._arrays[feed.source]
        low, high = [0] * len(array.shape), list(array.shape)
        low[self._axis], high[self._axis] = start, stop
        await array.get_slice(low, high, out=target)
        self._meter.read(feed, np.array([start]), np.array([stop]))

    def _along(self, target: Block, start: int, stop: int | None) -> Block:
        view: Block = target[(slice(None),) * self._axis + (slice(start, stop),)]
        return view
