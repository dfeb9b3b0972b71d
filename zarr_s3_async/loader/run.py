"""One epoch under way: fills are read ahead, batches are cut from them, and wait for whoever takes them."""

from __future__ import annotations

import asyncio
import os
from collections import deque
from collections.abc import Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from time import perf_counter
from typing import Any, Final, TypeAlias

from .._concurrency.background import Background
from .._concurrency.limiter import Limiter
from .._concurrency.threads import CodecThreads
from .._concurrency.workers import gather_all
from ..errors import StateError
from .batches import BatchMaker, Targets, gather
from .feeds import Feeds
from .memory import Block
from .order import Order, Rows, Share
from .permutation import Ints
from .reading import HeldFill, ReadableArray, ReadAhead
from .report import Meter

_INLINE = 2**22
"""Bytes of a batch up to which it is put together on the loop: that takes 0.1 ms, and a thread costs more."""

NOT_READY: Final = object()
Transform: TypeAlias = Callable[[Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EpochPlan:
    """All that one epoch of one process is."""

    order: Order
    share: Share
    skip: int
    """Batches of the share that were taken before, in an earlier run."""
    axis: int
    maker: BatchMaker
    buffer_bytes: int
    prefetch_bytes: int
    transform: Transform | None

    @property
    def feeds(self) -> Feeds:
        """What is read."""
        return self.order.feeds


class EpochRun:
    """Produces the batches of an epoch in a task of its own, from the first `take` to `end`.

    Args:
        plan: What is to be made.
        arrays: By number.
        closing: What was opened for this epoch, to be closed with it.
    """

    def __init__(self, plan: EpochPlan, arrays: Sequence[ReadableArray], closing: AsyncExitStack) -> None:
        self._plan = plan
        self._arrays = arrays
        self._closing = closing
        self.meter: Meter = Meter(plan.order.epoch, plan.order.shuffle)
        ring = plan.maker.buffers
        # Batches that are ready or being made: so many bytes, or all buffers but the one that the consumer has.
        self._places = Limiter(ring or plan.prefetch_bytes)
        self._weight = 1 if ring else max(1, plan.maker.sample_bytes * plan.share.batch_size)
        self._ready: deque[Any] = deque()
        self._more = asyncio.Event()
        self._with_consumer = False
        self._over = False
        """No batch comes behind those that are ready."""
        self._error: Exception | None = None
        self._complete = False
        """There were no more."""
        self._closed = False
        """By whoever iterates."""
        self._threads = CodecThreads(2)  # so that a slow transform does not keep the next fill from being planned
        self._loop, self._pid = asyncio.get_running_loop(), os.getpid()
        self.meter.start()
        self._task = Background(self._run(), _nothing)

    async def take(self) -> Any:
        """The next batch.

        A cancelled call takes none.

        Raises:
            StopAsyncIteration: There are no more.
            StateError: It was stopped, by another iteration of the loader for example.
            Exception: What failed: once, behind the batches before it.
        """
        started = perf_counter()
        if self._with_consumer:  # whoever asks for the next batch is done with the buffer of the last
            self._with_consumer = False
            self._places.release(self._weight)
        while not self._ready:
            if self._over:
                await self._task.wait()
                error, self._error = self._error, None
                if error is not None:
                    raise error
                if self._complete or self._closed:
                    raise StopAsyncIteration
                raise StateError(
                    "this iteration was stopped before its end: its loader was closed, or iterated over again; "
                    "use a loader for each of two iterations"
                )
            self._more.clear()
            await self._more.wait()
        batch = self._hand_out(started)
        if not self._with_consumer:
            self._places.release(self._weight)
        return batch

    def take_now(self) -> Any:
        """As `take`, in another thread than the loop's; `NOT_READY` where that would wait.

        Waking the loop, and being woken by it, costs ten times as much as this.
        """
        started = perf_counter()
        if not self._ready:
            return NOT_READY
        release = self._with_consumer
        self._with_consumer = False
        batch = self._hand_out(started)
        if release or not self._with_consumer:
            self._loop.call_soon_threadsafe(self._places.release, self._weight)
        return batch

    def _hand_out(self, started: float) -> Any:
        batch, samples, nbytes = self._ready.popleft()
        self._with_consumer = self._plan.maker.buffers > 0
        self.meter.taken(samples, nbytes, perf_counter() - started)
        return batch

    def abandon(self) -> None:
        """Stop without waiting; from any thread, and from a finalizer. In a forked child the parent's is left alone."""
        if self._pid == os.getpid():
            self._task.cancel()

    async def replace(self) -> None:
        """Another iteration begins: this one stops, and whoever still asks for a batch of it gets an error."""
        self._ready.clear()
        if self._pid == os.getpid() and self._loop is asyncio.get_running_loop():
            await self._stop()
        else:
            self.abandon()

    async def end(self) -> None:
        """Stop, and return when nothing of it is left: no task, no request, no lease."""
        self._closed = True
        await self._stop()

    async def _stop(self) -> None:
        self._over = True
        self._ready.clear()
        self._more.set()
        try:
            await self._task.aclose()
        finally:
            self._ready.clear()  # what was made until the task saw its cancellation
            await self._closing.aclose()  # where the task was cancelled before its first step
            await self._threads.aclose()

    # In the task

    async def _run(self) -> None:
        try:
            async with self._closing:
                await self._produce()
            self._complete = True
        except Exception as error:  # noqa: BLE001  # it belongs to the consumer, behind the batches before it
            self._error = error
        finally:
            self._threads.close()
            self._over = True
            self._more.set()

    async def _produce(self) -> None:
        plan = self._plan
        feed_dtypes = {f.feed: dtype for f, dtype in zip(plan.maker.fields, plan.maker.dtypes, strict=True)}
        reader = ReadAhead(
            self._arrays,
            plan.axis,
            plan.feeds,
            [feed_dtypes[number] for number in range(len(plan.feeds.feeds))],
            plan.order.fills(plan.share, plan.skip * plan.share.batch_size),
            buffer_bytes=plan.buffer_bytes,
            threads=self._threads,
            meter=self.meter,
        )
        if plan.share.batches > plan.skip:
            await gather_all(reader.run(), self._assemble(reader))

    async def _assemble(self, reader: ReadAhead) -> None:
        plan = self._plan
        resident = plan.order.resident_rows()
        await reader.read_resident(resident)
        held: HeldFill | None = None
        used = 0
        for number in range(plan.skip, plan.share.batches):
            started = perf_counter()
            await self._places.acquire(self._weight)
            self.meter.waited_for_consumer(perf_counter() - started)
            size = plan.share.size_of(number)
            targets = plan.maker.targets(number, size)
            filled = 0
            while filled < size:
                if held is None:
                    held, used = await reader.take(), 0
                    assert held is not None  # noqa: S101  # the fills have the share's samples
                count = min(size - filled, held.fill.samples.size - used)
                await self._copy(reader, held, resident, slice(used, used + count), [t[filled:] for t in targets])
                filled, used = filled + count, used + count
                if used == held.fill.samples.size:
                    reader.release(held)
                    held = None
            batch = await self._finished(number, size, targets)
            self._ready.append((batch, size, sum(target.nbytes for target in targets)))
            self._more.set()
            # The consumer comes between: a burst of batches would hold up the loop, and take fresh memory for each.
            await asyncio.sleep(0)

    async def _copy(
        self, reader: ReadAhead, held: HeldFill, resident: Sequence[Rows | None], part: slice, targets: Targets
    ) -> None:
        """Samples of a fill into a batch."""
        feeds = self._plan.feeds
        samples = held.fill.samples[part]
        jobs: list[tuple[Block, Block, Ints, int | None]] = []
        for field, target in zip(feeds.fields, targets, strict=True):
            feed = feeds.feeds[field.feed]
            rows = resident[field.feed] or held.fill.rows[field.feed]
            block = reader.resident[field.feed] if feed.resident else held.blocks[field.feed]
            assert rows is not None  # noqa: S101  # a feed is resident, or every fill has its rows
            assert block is not None  # noqa: S101  # likewise
            wanted = feed.first + field.offset + samples * feed.stride
            self.meter.touched(feed, wanted, field.length or 1)
            jobs.append((target[: samples.size], block, rows.places(wanted), field.length))
        work = partial(_gather_all, jobs)
        if sum(job[0].nbytes for job in jobs) <= _INLINE:
            work()
        else:
            await self._threads.run(work)

    async def _finished(self, number: int, size: int, targets: Targets) -> Any:
        batch = self._plan.maker.present(number, size, targets)
        transform = self._plan.transform
        if transform is None:
            return batch
        try:
            return await self._threads.run(partial(transform, batch))
        except Exception as error:
            error.add_note(f"raised by the transform of batch {number} of epoch {self._plan.order.epoch}")
            raise


def _nothing(failure: BaseException | None) -> None:
    """What fails is handed over behind the last batch."""


def _gather_all(jobs: Sequence[tuple[Block, Block, Ints, int | None]]) -> None:
    for target, block, places, length in jobs:
        gather(target, block, places, length)
