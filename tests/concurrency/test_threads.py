"""CodecThreads: a bounded number of threads, started as needed, and one wake-up of the loop for many results.

Cancellation of calls is tested for both kinds of threads in tests/concurrency/test_blocking.py.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from collections import Counter
from functools import partial
from typing import Any

import pytest

from zarr_s3_async._concurrency.limiter import BULK, FAIR_TURN, HIGH, NORMAL, at_priority
from zarr_s3_async._concurrency.threads import CodecThreads
from zarr_s3_async.errors import SessionClosed


async def test_threads_are_started_as_needed_up_to_the_limit() -> None:
    threads, may_end = CodecThreads(3), threading.Event()
    assert threads._threads == []
    await threads.run(lambda: None)
    await threads.run(lambda: None)
    assert len(threads._threads) == 1, "sequential calls need one thread"
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(threads.run(may_end.wait)) for _ in range(8)]
        await asyncio.sleep(0)
        assert len(threads._threads) == 3
        may_end.set()
    assert all(task.result() for task in tasks)
    await threads.aclose()


async def test_each_call_gets_its_own_result_or_error() -> None:
    threads = CodecThreads(4)

    def work(number: int) -> int:
        if number % 7 == 0:
            raise ValueError(number)
        return number * number

    async def one(number: int) -> int | str:
        try:
            return await threads.run(lambda: work(number))
        except ValueError as error:
            return f"error {error}"

    answers = await asyncio.gather(*map(one, range(500)))
    assert answers == [f"error {n}" if n % 7 == 0 else n * n for n in range(500)]
    await threads.aclose()


async def test_results_that_arrive_while_the_loop_is_blocked_wake_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, threads, ended = asyncio.get_running_loop(), CodecThreads(1), threading.Semaphore(0)
    wakes: Counter[str] = Counter()
    wake = loop.call_soon_threadsafe

    def counting(callback, *args, **kwargs):
        wakes["calls"] += 1
        return wake(callback, *args, **kwargs)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counting)
    tasks = [asyncio.create_task(threads.run(ended.release)) for _ in range(20)]
    await asyncio.sleep(0)  # the tasks submit their work
    for _ in tasks:
        ended.acquire()  # the loop is blocked: no result is delivered meanwhile
    await asyncio.gather(*tasks)
    assert wakes["calls"] <= 2, "one wake-up, and a second one if the last result was late"
    await threads.aclose()


async def test_closing_ends_the_threads() -> None:
    threads = CodecThreads(2)
    await asyncio.gather(threads.run(lambda: None), threads.run(lambda: None))
    started = list(threads._threads)
    await threads.aclose()
    assert not any(thread.is_alive() for thread in started)
    await threads.aclose()


async def test_closing_waits_for_running_threads_without_blocking_the_loop() -> None:
    """Running calls complete, waiting calls are refused, and the loop keeps running."""
    threads, begun, may_end = CodecThreads(1), threading.Event(), threading.Event()
    running = asyncio.create_task(threads.run(lambda: begun.set() or may_end.wait(30)))
    waiting = asyncio.create_task(threads.run(lambda: None))
    while not begun.is_set():
        await asyncio.sleep(0.001)
    closing = asyncio.create_task(threads.aclose())
    while not waiting.done():
        await asyncio.sleep(0)
    assert not closing.done()
    may_end.set()
    await closing
    assert await running is True
    with pytest.raises(SessionClosed):
        await waiting
    with pytest.raises(SessionClosed):
        await threads.run(lambda: None)


async def test_concurrent_closers_may_be_cancelled_independently() -> None:
    threads, may_end = CodecThreads(2), threading.Event()
    running = asyncio.create_task(threads.run(lambda: may_end.wait(30)))
    await asyncio.sleep(0)
    while threads._jobs._tokens.qsize():  # until the thread has taken it
        await asyncio.sleep(0.001)
    closing = [asyncio.create_task(threads.aclose()) for _ in range(3)]
    await asyncio.sleep(0)
    closing[0].cancel()
    await asyncio.wait((closing[0],))
    may_end.set()
    await asyncio.gather(*closing[1:])
    await running


async def test_a_cancelled_close_can_be_repeated() -> None:
    threads, may_end = CodecThreads(2), threading.Event()
    running = asyncio.create_task(threads.run(lambda: may_end.wait(30)))
    await asyncio.sleep(0)
    while threads._jobs._tokens.qsize():  # until the thread has taken it
        await asyncio.sleep(0.001)
    closing = asyncio.create_task(threads.aclose())
    await asyncio.sleep(0.01)
    closing.cancel()
    await asyncio.wait((closing,))
    may_end.set()
    await threads.aclose()
    assert threads._threads == []
    await running


async def test_threads_end_when_their_pool_is_garbage_collected() -> None:
    threads = CodecThreads(2)
    await threads.run(lambda: None)
    (started,) = threads._threads
    del threads
    gc.collect()
    await asyncio.to_thread(started.join, 30)
    assert not started.is_alive()


def test_a_thread_ends_if_the_loop_is_closed_during_its_call() -> None:
    loop, threads, may_end = asyncio.new_event_loop(), CodecThreads(1), threading.Event()
    task = loop.create_task(threads.run(may_end.wait))
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    (thread,) = threads._threads
    may_end.set()
    thread.join(30)
    assert not thread.is_alive()
    task._log_destroy_pending = False  # type: ignore[attr-defined]  # this loop was closed on purpose
    del task


async def order_of_calls(numbers: dict[int, int]) -> list[tuple[int, int]]:
    """The order in which one thread runs waiting calls, as (priority, number).

    Args:
        numbers: Number of calls of each priority; they arrive one priority after the other.
    """
    threads, begun, gate = CodecThreads(1), threading.Event(), threading.Event()
    order: list[tuple[int, int]] = []
    calls: list[asyncio.Future[Any]] = [asyncio.ensure_future(threads.run(lambda: begun.set() or gate.wait(30)))]
    while not begun.is_set():  # calls that arrive before could overtake it
        await asyncio.sleep(0.001)
    for priority, count in numbers.items():
        for number in range(count):
            with at_priority(priority):
                calls.append(asyncio.ensure_future(threads.run(partial(order.append, (priority, number)))))
    await asyncio.sleep(0)
    gate.set()
    await asyncio.gather(*calls)
    await threads.aclose()
    return order


async def test_calls_get_a_thread_by_priority_and_none_starves() -> None:
    order = await order_of_calls({BULK: 12, NORMAL: 12, HIGH: 12})
    left = {priority: list(range(12)) for priority in (HIGH, NORMAL, BULK)}
    expected = []
    for place in range(2, 38):  # the call that waits for the gate was the first
        classes = (BULK, NORMAL, HIGH) if place % FAIR_TURN == 0 else (HIGH, NORMAL, BULK)
        first = next(priority for priority in classes if left[priority])
        expected.append((first, left[first].pop(0)))
    assert order == expected


async def test_a_normal_call_does_not_starve_between_high_and_bulk_ones() -> None:
    order = await order_of_calls({NORMAL: 1, BULK: 40, HIGH: 40})
    assert order.index((NORMAL, 0)) < FAIR_TURN
    assert order.index((BULK, 0)) < 2 * FAIR_TURN


@pytest.mark.parametrize("error", [StopIteration, asyncio.CancelledError])
async def test_an_error_that_a_future_does_not_take_is_raised_as_the_cause_of_another(
    error: type[BaseException],
) -> None:
    """A StopIteration, as `next()` of a caller's function raises, left the call waiting forever."""
    threads = CodecThreads(1)

    def fails() -> None:
        raise error

    with pytest.raises(RuntimeError, match=error.__name__) as caught:
        await asyncio.wait_for(threads.run(fails), 30)
    assert isinstance(caught.value.__cause__, error)
    await threads.aclose()
