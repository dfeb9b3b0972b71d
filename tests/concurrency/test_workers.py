"""run_workers pulls items lazily, never runs more than `size` at once, and raises a worker's error itself."""

from __future__ import annotations

import asyncio
import weakref
from collections.abc import Iterator

import anyio
import pytest

from zarr_s3_async._concurrency.workers import gather_all, run_workers, run_workers_async


async def test_items_are_pulled_as_workers_become_free() -> None:
    pulled, done = 0, 0

    def source() -> Iterator[int]:
        nonlocal pulled
        for item in range(1000):
            pulled += 1
            assert pulled - done <= 4, "an item was pulled before a worker was free"
            yield item

    async def work(item: int) -> None:
        nonlocal done
        await asyncio.sleep(0)
        done += 1

    await run_workers(4, source(), work)
    assert done == 1000


async def test_several_workers_may_wait_for_an_asynchronous_source_at_once() -> None:
    class Source:
        asking = peak = made = 0

        def __aiter__(self) -> Source:
            return self

        async def __anext__(self) -> int:
            self.asking += 1
            self.peak = max(self.peak, self.asking)
            await asyncio.sleep(0)
            self.asking -= 1
            if self.made == 100:
                raise StopAsyncIteration
            self.made += 1
            return self.made

    source, done = Source(), []

    async def work(item: int) -> None:
        await asyncio.sleep(0)
        done.append(item)

    await run_workers_async(4, source, work)
    assert sorted(done) == list(range(1, 101))
    assert source.peak == 4


async def test_a_worker_waiting_for_an_item_keeps_no_reference_to_the_last_one() -> None:
    class Item:
        pass

    class Source:
        def __init__(self) -> None:
            self.made: list[weakref.ref[Item]] = []
            self.more = asyncio.Event()

        def __aiter__(self) -> Source:
            return self

        async def __anext__(self) -> Item:
            if len(self.made) == 4:
                await self.more.wait()
                raise StopAsyncIteration
            item = Item()
            self.made.append(weakref.ref(item))
            return item

    async def work(item: Item) -> None:
        await asyncio.sleep(0)

    source = Source()
    workers = asyncio.ensure_future(run_workers_async(4, source, work))
    for _ in range(20):
        await asyncio.sleep(0)
    assert [reference() for reference in source.made] == [None] * 4
    source.more.set()
    await workers


@pytest.mark.parametrize("size", [0, 1])
async def test_one_worker_needs_no_task(size: int) -> None:
    before = asyncio.current_task()
    seen = []

    async def work(item: int) -> None:
        seen.append((item, asyncio.current_task() is before))

    await run_workers(size, iter([1, 2]), work)
    assert seen == [(1, True), (2, True)]


async def test_a_failure_cancels_the_other_workers_and_is_raised_unchanged() -> None:
    cancelled = 0

    async def work(item: int) -> None:
        nonlocal cancelled
        if item == 3:
            raise KeyError("three")
        try:
            await asyncio.sleep(3600)
        except asyncio.CancelledError:
            cancelled += 1
            raise

    with pytest.raises(KeyError, match="three") as caught:
        await run_workers(4, iter(range(100)), work)
    assert cancelled == 3
    assert not isinstance(caught.value.__context__, BaseExceptionGroup)


@pytest.mark.parametrize("way", ["native", "anyio", "timeout", "wait_for", "double"])
async def test_cancellation_ends_every_worker_before_it_propagates(way: str) -> None:
    running = 0

    async def work(item: int) -> None:
        nonlocal running
        running += 1
        try:
            await asyncio.sleep(3600)
        finally:
            await asyncio.sleep(0)  # a worker that needs another loop iteration to clean up
            running -= 1

    call = run_workers(5, iter(range(100)), work)
    match way:
        case "native" | "double":
            task = asyncio.create_task(call)
            await asyncio.sleep(0.01)
            assert running == 5
            task.cancel()
            if way == "double":
                await asyncio.sleep(0)
                task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task
        case "anyio":
            with anyio.move_on_after(0.01) as scope:
                await call
            assert scope.cancelled_caught
        case "timeout":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.01):
                    await call
        case "wait_for":
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(call, 0.01)
    assert running == 0


async def test_gather_all_keeps_the_order() -> None:
    async def after(turns: int) -> int:
        for _ in range(turns):
            await asyncio.sleep(0)
        return turns

    assert await gather_all(after(3), after(1), after(2)) == [3, 1, 2]
    assert await gather_all() == []


async def test_gather_all_raises_the_error_unchanged() -> None:
    async def fail() -> None:
        raise LookupError("gone")

    with pytest.raises(LookupError, match="gone"):
        await gather_all(fail(), asyncio.sleep(3600))


@pytest.mark.parametrize("size", [2, 5])
async def test_a_failure_does_not_leave_the_parent_task_cancelled(size: int) -> None:
    """In Python 3.11 and 3.12, a failing TaskGroup does not undo the cancellation of its parent task."""
    task = asyncio.current_task()
    assert task is not None

    async def fail(item: int) -> None:
        await asyncio.sleep(0)
        raise KeyError(item)

    with pytest.raises(KeyError):
        await run_workers(size, iter(range(10)), fail)
    assert task.cancelling() == 0
    with pytest.raises(KeyError):
        await gather_all(*(fail(item) for item in range(size)))
    assert task.cancelling() == 0
    async with anyio.create_task_group() as group:
        group.start_soon(anyio.sleep, 3600)
        group.cancel_scope.cancel()


@pytest.mark.parametrize("size", [1, 3])
async def test_a_worker_that_ends_by_a_cancelled_error_of_its_work_does_not_end_unnoticed(size: int) -> None:
    async def work(item: int) -> None:
        if item == 2:
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        await run_workers(size, iter(range(5)), work)
