"""run_blocking: however it is left, the thread has ended."""

import asyncio
import gc
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor

import anyio
import pytest

from zarr_s3_async.stores.threads import run_blocking


class Work:
    """A blocking call that the test lets go when it likes."""

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


async def test_it_returns_what_the_function_returns():
    assert await run_blocking(divmod, 17, 5) == (3, 2)


async def test_it_runs_in_another_thread():
    assert await run_blocking(threading.get_ident) != threading.get_ident()


async def test_an_error_of_the_function_is_raised():
    with pytest.raises(ValueError, match="invalid literal"):
        await run_blocking(int, "x")


@pytest.mark.parametrize("times", [1, 2, 5])
async def test_a_native_cancel_leaves_after_the_thread(times):
    work = Work()
    task = asyncio.create_task(run_blocking(work))
    await work.until_begun()
    for _ in range(times):
        task.cancel()
        await _spin()
        assert not task.done()
    work.may_end.set()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert work.ended


async def _timeout(work: Work) -> None:
    async with asyncio.timeout(0.005):
        await run_blocking(work)


async def _wait_for(work: Work) -> None:
    await asyncio.wait_for(run_blocking(work), 0.005)


async def _fail_after(work: Work) -> None:
    with anyio.fail_after(0.005):
        await run_blocking(work)
        await anyio.sleep(0)  # anyio cancels at the next checkpoint at the latest


@pytest.mark.parametrize("call", [_timeout, _wait_for, _fail_after])
async def test_a_timeout_is_a_timeout_and_comes_after_the_thread(call: Callable):
    work = Work()
    loop = asyncio.get_running_loop()
    loop.call_later(0.05, work.may_end.set)
    with pytest.raises(TimeoutError):
        await call(work)
    assert work.ended


async def test_a_cancelled_scope_does_not_keep_the_loop_busy(monkeypatch):
    """anyio repeats a cancellation in every cycle of the loop; within the shield it must not reach us."""
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
        await run_blocking(work)
        await anyio.sleep(0)
    assert scope.cancelled_caught
    assert work.ended
    assert cycles < 100


async def test_a_native_cancel_inside_a_cancelled_scope_is_not_swallowed():
    work = Work()

    async def within_a_scope() -> None:
        with anyio.CancelScope() as scope:
            scopes.append(scope)
            await run_blocking(work)

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


async def test_a_call_that_waits_for_a_thread_leaves_at_once_and_never_runs():
    work, never = Work(), Work()
    with ThreadPoolExecutor(1) as executor:
        first = asyncio.create_task(run_blocking(work, executor=executor))
        await work.until_begun()
        second = asyncio.create_task(run_blocking(never, executor=executor))
        await _spin()
        second.cancel()
        with pytest.raises(asyncio.CancelledError):
            await second
        work.may_end.set()
        assert await first == "done"
    assert not never.began.is_set()


async def test_an_error_of_a_cancelled_call_makes_no_noise():
    """The cancellation is what the caller gets; nobody is told of an exception that was never retrieved."""
    began, may_end = threading.Event(), threading.Event()

    def fail() -> None:
        began.set()
        may_end.wait(30)
        raise ValueError("nobody asks")

    noise: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: noise.append(context))
    task = asyncio.create_task(run_blocking(fail))
    while not began.is_set():
        await asyncio.sleep(0.001)
    task.cancel()
    await _spin()
    may_end.set()
    await asyncio.wait([task])
    assert task.cancelled()
    del task
    gc.collect()  # it is when a future goes that asyncio complains
    await _spin()
    assert noise == []
