"""A running epoch: fills are read ahead, and batches are assembled from them and queued for the consumer."""

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
"""Maximum bytes of a batch that is assembled on the event loop: this takes 0.1 ms, less than the use of a thread."""

NOT_READY: Final = object()
Transform: TypeAlias = Callable[[Any], Any]


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EpochPlan:
    """The plan of one epoch for one process."""

    order: Order
    share: Share
    skip: int
    """Number of batches of the share that were taken in an earlier run."""
    axis: int
    maker: BatchMaker
    buffer_bytes: int
    prefetch_bytes: int
    transform: Transform | None

    @property
    def feeds(self) -> Feeds:
        """How the arrays are read."""
        return self.order.feeds


class EpochRun:
    """Produces the batches of an epoch in a background task, from its creation until `end`.

    Args:
        plan: The plan of the epoch.
        arrays: The arrays, by number.
        closing: Closes the session that was opened for this epoch, if any.
    """

    def __init__(self, plan: EpochPlan, arrays: Sequence[ReadableArray], closing: AsyncExitStack) -> None:
        self._plan = plan
        self._arrays = arrays
        self._closing = closing
        self.meter: Meter = Meter(plan.order.epoch, plan.order.shuffle)
        ring = plan.maker.buffers
        # Limits batches that are ready or in progress: by bytes, or by the number of the user's buffers.
        self._places = Limiter(ring or plan.prefetch_bytes)
        self._weight = 1 if ring else max(1, plan.maker.sample_bytes * plan.share.batch_size)
        self._ready: deque[Any] = deque()
        self._more = asyncio.Event()
        self._with_consumer = False
        self._over = False
        """No batch is made any more; ready ones can still be taken."""
        self._error: Exception | None = None
        self._complete = False
        """All batches were made."""
        self._closed = False
        """The consumer has called `end`."""
        self._threads = CodecThreads(2)  # so that a slow transform does not keep the next fill from being planned
        self._loop, self._pid = asyncio.get_running_loop(), os.getpid()
        self.meter.start()
        self._task = Background(self._run(), _nothing)

    async def take(self) -> Any:
        """The next batch.

        A cancelled call takes no batch.

        Raises:
            StopAsyncIteration: There are no more batches.
            StateError: The epoch was stopped, for example by another iteration of the loader.
            Exception: The error of making the next batch; raised once, after the batches before it.
        """
        started = perf_counter()
        if self._with_consumer:  # the consumer requests the next batch, so the buffer of the last one is free
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
                    "this iteration was stopped before its end: its loader was closed, or another iteration was "
                    "started; use one loader for each concurrent iteration"
                )
            self._more.clear()
            await self._more.wait()
        batch = self._hand_out(started)
        if not self._with_consumer:
            self._places.release(self._weight)
        return batch

    def take_now(self) -> Any:
        """Like `take`, for threads other than the loop's; `NOT_READY` if `take` would wait.

        It exists because a round trip to the loop's thread costs ten times as much.
        """
        started = perf_counter()
        if not self._ready:
            return NOT_READY
        release = self._with_consumer
        self._with_consumer = False
        batch = self._hand_out(started)
        if release or not self._with_consumer:
            # The limiter belongs to the loop's thread.
            self._loop.call_soon_threadsafe(self._places.release, self._weight)
        return batch

    def _hand_out(self, started: float) -> Any:
        batch, samples, nbytes = self._ready.popleft()
        self._with_consumer = self._plan.maker.buffers > 0
        self.meter.taken(samples, nbytes, perf_counter() - started)
        return batch

    def abandon(self) -> None:
        """Stop without waiting. Called from any thread, or from a finalizer; does nothing in a forked child."""
        if self._pid == os.getpid():
            self._task.cancel()

    async def replace(self) -> None:
        """Stop because another iteration starts: a later `take` of this one raises StateError."""
        self._ready.clear()
        if self._pid == os.getpid() and self._loop is asyncio.get_running_loop():
            await self._stop()
        else:
            self.abandon()

    async def end(self) -> None:
        """Stop, and wait until no task, request or lease of the epoch is left."""
        self._closed = True
        await self._stop()

    async def _stop(self) -> None:
        self._over = True
        self._ready.clear()
        self._more.set()
        try:
            await self._task.aclose()
        finally:
            self._ready.clear()  # batches that were made before the task was cancelled
            await self._closing.aclose()  # in case the task was cancelled before its first step
            await self._threads.aclose()

    # In the background task

    async def _run(self) -> None:
        try:
            async with self._closing:
                await self._produce()
            self._complete = True
        except Exception as error:  # noqa: BLE001  # raised to the consumer, after the batches before it
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
            # Before the batch is made: its memory counts from here on.
            await self._places.acquire(self._weight)
            self.meter.waited_for_consumer(perf_counter() - started)
            size = plan.share.size_of(number)
            targets = plan.maker.targets(number, size)
            filled = 0
            # A batch may take samples from several fills, and a fill may serve several batches.
            while filled < size:
                if held is None:
                    held, used = await reader.take(), 0
                    assert held is not None  # noqa: S101  # the fills contain all samples of the share
                count = min(size - filled, held.fill.samples.size - used)
                await self._copy(reader, held, resident, slice(used, used + count), [t[filled:] for t in targets])
                filled, used = filled + count, used + count
                if used == held.fill.samples.size:
                    reader.release(held)
                    held = None
            batch = await self._finished(number, size, targets)
            self._ready.append((batch, size, sum(target.nbytes for target in targets)))
            self._more.set()
            # Let the consumer run: a burst of batches would block the loop, and allocate new memory for each batch.
            await asyncio.sleep(0)

    async def _copy(
        self, reader: ReadAhead, held: HeldFill, resident: Sequence[Rows | None], part: slice, targets: Targets
    ) -> None:
        """Copy samples of a fill to a batch."""
        feeds = self._plan.feeds
        samples = held.fill.samples[part]
        jobs: list[tuple[Block, Block, Ints, int | None]] = []
        for field, target in zip(feeds.fields, targets, strict=True):
            feed = feeds.feeds[field.feed]
            rows = resident[field.feed] or held.fill.rows[field.feed]
            block = reader.resident[field.feed] if feed.resident else held.blocks[field.feed]
            assert rows is not None  # noqa: S101  # of a feed that is not resident, every fill has rows
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
    """Do nothing: `take` raises errors, after the last batch."""


def _gather_all(jobs: Sequence[tuple[Block, Block, Ints, int | None]]) -> None:
    for target, block, places, length in jobs:
        gather(target, block, places, length)
