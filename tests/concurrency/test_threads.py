"""CodecThreads for codecs: few, started as needed, and one wake-up of the loop for many answers.

How a call is left is tested with the other way into a thread, in tests/concurrency/test_blocking.py.
"""

from __future__ import annotations

import asyncio
import gc
import threading
from collections import Counter

import pytest

from zarr_s3_async._concurrency.threads import CodecThreads


async def test_threads_are_started_as_they_are_needed_and_never_more_than_the_limit() -> None:
    threads, may_end = CodecThreads(3), threading.Event()
    assert threads._threads == []
    await threads.run(lambda: None)
    await threads.run(lambda: None)
    assert len(threads._threads) == 1, "one at a time needs one thread"
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(threads.run(may_end.wait)) for _ in range(8)]
        await asyncio.sleep(0)
        assert len(threads._threads) == 3
        may_end.set()
    assert all(task.result() for task in tasks)
    threads.close()


async def test_each_call_gets_its_own_answer_or_error() -> None:
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
    threads.close()


async def test_answers_that_come_while_the_loop_is_busy_wake_it_once(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, threads, ended = asyncio.get_running_loop(), CodecThreads(1), threading.Semaphore(0)
    wakes: Counter[str] = Counter()
    wake = loop.call_soon_threadsafe

    def counting(callback, *args, **kwargs):
        wakes["calls"] += 1
        return wake(callback, *args, **kwargs)

    monkeypatch.setattr(loop, "call_soon_threadsafe", counting)
    tasks = [asyncio.create_task(threads.run(ended.release)) for _ in range(20)]
    await asyncio.sleep(0)  # the tasks hand their work over
    for _ in tasks:
        ended.acquire()  # the loop is held up: nothing is settled meanwhile
    await asyncio.gather(*tasks)
    assert wakes["calls"] <= 2, "one, and one more where the last answer was not yet back"
    threads.close()


async def test_close_ends_the_threads() -> None:
    threads = CodecThreads(2)
    await asyncio.gather(threads.run(lambda: None), threads.run(lambda: None))
    started = list(threads._threads)
    threads.close()
    assert not any(thread.is_alive() for thread in started)
    threads.close()


async def test_threads_that_nobody_closed_end_when_they_are_forgotten() -> None:
    threads = CodecThreads(2)
    await threads.run(lambda: None)
    (started,) = threads._threads
    del threads
    gc.collect()
    await asyncio.to_thread(started.join, 30)
    assert not started.is_alive()


def test_a_loop_closed_under_a_call_ends_its_thread() -> None:
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
