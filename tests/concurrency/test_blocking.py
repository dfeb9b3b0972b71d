"""Blocking calls of stores and codecs: however a call ends, its thread has finished before."""

import asyncio
import gc
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import anyio
import pytest

from zarr_s3_async._concurrency.blocking import run_blocking
from zarr_s3_async._concurrency.threads import CodecThreads
from zarr_s3_async.errors import StateError

Run = Callable[[Callable[[], Any]], Any]


@pytest.fixture(params=["a store's", "a codec's"])
def run(request: pytest.FixtureRequest) -> Any:
    """Runs a blocking call in a thread."""
    if request.param == "a store's":
        yield run_blocking
        return
    threads = CodecThreads(1)
    yield threads.run
    threads.close()


class Work:
    """A blocking call that runs until the test releases it."""

    def __init__(self) -> None:
        self.began = threading.Event()
        self.may_end = threading.Event()
        self.ended = False

    def __call__(self) -> str:
        self.began.set()
        assert self.may_end.wait(30)
        self.ended = True
        return "done"

    async def until_begun(self) -> None:
        while not self.began.is_set():
            await asyncio.sleep(0.001)


async def _spin(cycles: int = 5) -> None:
    for _ in range(cycles):
        await asyncio.sleep(0)


async def test_a_blocking_call_returns_the_result_of_its_function(run: Run):
    assert await run(lambda: divmod(17, 5)) == (3, 2)


async def test_a_blocking_call_runs_in_another_thread(run: Run):
    assert await run(threading.get_ident) != threading.get_ident()


async def test_an_error_of_the_function_is_raised(run: Run):
    with pytest.raises(ValueError, match="invalid literal"):
        await run(lambda: int("x"))


@pytest.mark.parametrize("times", [1, 2, 5])
async def test_a_cancellation_propagates_after_the_thread_has_ended(run: Run, times):
    work = Work()
    task = asyncio.create_task(run(work))
    await work.until_begun()
    for _ in range(times):
        task.cancel()
        await _spin()
        assert not task.done()
    work.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.ended


async def test_a_cancellation_when_the_thread_ends_propagates(run: Run):
    """The loop is notified of the end before the cancelled caller resumes."""
    ended = threading.Event()
    task = asyncio.create_task(run(ended.set))
    await asyncio.sleep(0)
    assert ended.wait(30)
    time.sleep(0.05)  # the thread has notified the loop, which is blocked here
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asyncio.wait_for(task, 30)


async def _timeout(run: Run, work: Work) -> None:
    async with asyncio.timeout(0.005):
        await run(work)


async def _wait_for(run: Run, work: Work) -> None:
    await asyncio.wait_for(run(work), 0.005)


async def _fail_after(run: Run, work: Work) -> None:
    with anyio.fail_after(0.005):
        await run(work)
        await anyio.sleep(0)  # anyio cancels at the next checkpoint at the latest


@pytest.mark.parametrize("call", [_timeout, _wait_for, _fail_after])
async def test_a_timeout_is_raised_after_the_thread_has_ended(run: Run, call: Callable):
    work = Work()
    loop = asyncio.get_running_loop()
    loop.call_later(0.05, work.may_end.set)
    with pytest.raises(TimeoutError):
        await call(run, work)
    assert work.ended == work.began.is_set(), "on a busy machine the call may not have started"


async def test_a_cancelled_scope_does_not_keep_the_loop_busy(run: Run, monkeypatch):
    """anyio repeats a cancellation in every loop iteration; the shield must keep it from this call."""
    work = Work()
    loop = asyncio.get_running_loop()
    cycles = 0
    call_soon = loop.call_soon

    def counting(*args, **kwargs):
        nonlocal cycles
        cycles += 1
        return call_soon(*args, **kwargs)

    with anyio.CancelScope() as scope:
        loop.call_later(0.02, scope.cancel)
        loop.call_later(0.1, work.may_end.set)
        monkeypatch.setattr(loop, "call_soon", counting)
        await run(work)
        await anyio.sleep(0)
    assert scope.cancelled_caught
    assert work.ended
    assert cycles < 100


async def test_a_task_cancellation_inside_a_cancelled_scope_is_not_swallowed(run: Run):
    work = Work()

    async def within_a_scope() -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await run(work)

    scopes: list[anyio.CancelScope] = []
    task = asyncio.create_task(within_a_scope())
    await work.until_begun()
    scopes[0].cancel()
    await _spin()
    task.cancel()
    await _spin()
    work.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_a_cancelled_call_that_waits_for_a_thread_never_runs():
    """This concerns only the bounded pool, where calls wait for a thread."""
    work, never, threads = Work(), Work(), CodecThreads(1)
    first = asyncio.create_task(threads.run(work))
    await work.until_begun()
    second = asyncio.create_task(threads.run(never))
    await _spin()
    second.cancel()
    with pytest.raises(asyncio.CancelledError):
        await second
    work.may_end.set()
    assert await first == "done"
    threads.close()
    assert not never.began.is_set()


async def test_an_error_of_a_cancelled_call_is_not_logged(run: Run):
    """The caller gets the cancellation; asyncio logs no exception that was never retrieved."""
    began, may_end = threading.Event(), threading.Event()

    def fail() -> None:
        began.set()
        may_end.wait(30)
        raise ValueError("nobody asks")

    noise: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
    task = asyncio.create_task(run(fail))
    while not began.is_set():
        await asyncio.sleep(0.001)
    task.cancel()
    await _spin()
    may_end.set()
    await asyncio.wait([task])
    assert task.cancelled()
    del task
    gc.collect()  # asyncio logs it when the future is collected
    await _spin()
    assert noise == []


async def test_an_error_is_raised_when_python_starts_no_more_threads() -> None:
    """Python does so at interpreter exit while other threads still run."""
    loop = asyncio.get_running_loop()
    executor = ThreadPoolExecutor(1)
    loop.set_default_executor(executor)
    executor.shutdown()
    with pytest.raises(StateError, match="exiting"):
        await run_blocking(int)
