"""An event loop in a thread: results and errors, interrupts that cancel, forks, and closing."""

from __future__ import annotations

import asyncio
import contextvars
import os
import signal
import subprocess
import sys
import textwrap
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from zarr_s3_async._concurrency.loop_thread import LoopThread, background_loop
from zarr_s3_async.errors import StateError


@pytest.fixture
def thread() -> Iterator[LoopThread]:
    thread = LoopThread()
    yield thread
    thread.close()


async def double(value: int) -> int:
    await asyncio.sleep(0)
    return 2 * value


def test_results_and_errors_are_returned_to_the_calling_thread(thread: LoopThread) -> None:
    async def fail() -> None:
        raise LookupError("mine")

    with ThreadPoolExecutor(8) as pool:
        assert list(pool.map(lambda n: thread.run(double(n)), range(100))) == [2 * n for n in range(100)]
    with pytest.raises(LookupError, match="mine"):
        thread.run(fail())


def test_calls_of_several_threads_run_concurrently(thread: LoopThread) -> None:
    async def meet() -> None:
        nonlocal waiting
        waiting += 1
        if waiting == 3:
            everybody.set()
        await everybody.wait()

    waiting = 0
    everybody = asyncio.Event()
    with ThreadPoolExecutor(3) as pool:
        list(pool.map(lambda _: thread.run(meet()), range(3)))


def test_a_call_runs_in_the_context_of_its_caller(thread: LoopThread) -> None:
    variable = contextvars.ContextVar[str]("variable")
    variable.set("mine")

    async def read() -> str:
        return variable.get()

    assert thread.run(read()) == "mine"


def test_a_call_on_the_loops_own_thread_is_refused_instead_of_deadlocking(thread: LoopThread) -> None:
    async def block() -> None:
        thread.run(double(1))

    with pytest.raises(StateError, match="wait for itself"):
        thread.run(block())


def test_submit_does_not_wait_and_ignores_coroutines_after_closing() -> None:
    thread, ran = LoopThread(), threading.Event()

    async def work() -> None:
        ran.set()

    thread.submit(work())
    assert ran.wait(30)
    thread.close()
    ran.clear()
    thread.submit(work())  # neither an error, nor a coroutine that was never awaited
    assert not ran.is_set()


def test_closing_cancels_running_calls_and_refuses_new_ones() -> None:
    thread = LoopThread()
    started, ended = threading.Event(), threading.Event()

    async def hang() -> None:
        started.set()
        try:
            await asyncio.Event().wait()
        finally:
            ended.set()

    with ThreadPoolExecutor(1) as pool:
        call = pool.submit(lambda: thread.run(hang()))
        started.wait()
        thread.close()
        assert ended.is_set()
        with pytest.raises(StateError, match="closed while this call ran"):
            call.result()
    thread.close()
    with pytest.raises(StateError, match="was closed"):
        thread.run(double(1))


def test_closing_finishes_asynchronous_generators() -> None:
    thread = LoopThread()
    finished = []

    async def generate() -> Any:
        try:
            yield 1
        finally:
            await asyncio.sleep(0)
            finished.append(1)

    async def start() -> None:
        await generator.__anext__()

    generator = generate()
    thread.run(start())
    thread.close()
    assert finished == [1]


@pytest.mark.usefixtures("interrupts_raise")
@pytest.mark.parametrize("interrupts", [1, 2])
def test_an_interrupt_cancels_and_is_raised_after_the_coroutine_has_ended(thread: LoopThread, interrupts: int) -> None:
    events = []

    async def work() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        try:
            await asyncio.Event().wait()
        except asyncio.CancelledError:
            for _ in range(interrupts - 1):
                os.kill(os.getpid(), signal.SIGINT)
                await asyncio.sleep(0.05)  # the main thread waits again, or has returned
            events.append("ended")
            raise

    with pytest.raises(KeyboardInterrupt):
        thread.run(work())
    events.append("left")
    assert events == ["ended", "left"]
    assert thread.run(double(2)) == 4


def test_a_process_has_one_background_loop() -> None:
    with ThreadPoolExecutor(8) as pool:
        found = set(pool.map(lambda _: background_loop(), range(50)))
    assert len(found) == 1


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_gets_its_own_loop_and_the_parents_continues() -> None:
    program = """
        import asyncio, os
        from zarr_s3_async._concurrency.loop_thread import background_loop
        from zarr_s3_async.errors import StateError
        parent = background_loop()
        async def pid():
            await asyncio.sleep(0.01)
            return os.getpid()
        assert parent.run(pid()) == os.getpid()
        for _ in range(3):
            child = os.fork()
            if child == 0:
                try:
                    parent.run(pid())
                except StateError:
                    pass
                else:
                    os._exit(1)
                own = background_loop()
                os._exit(0 if own is not parent and own.run(pid()) == os.getpid() else 2)
            assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
            assert background_loop() is parent and parent.run(pid()) == os.getpid()
        print("fine")
    """
    assert _run(program) == "fine"


def test_the_interpreter_can_exit_while_calls_run() -> None:
    program = """
        import asyncio, threading
        from zarr_s3_async._concurrency.loop_thread import background_loop
        started = threading.Event()
        async def hang():
            started.set()
            try:
                await asyncio.Event().wait()
            finally:
                print("cancelled", flush=True)
        def call():
            try:
                background_loop().run(hang())
            except Exception as error:
                print(type(error).__name__, flush=True)
        threading.Thread(target=call, daemon=True).start()
        started.wait()
    """
    assert _run(program).split()[0] == "cancelled"


@pytest.mark.parametrize("first", ["unused before", "used at exit"])
def test_a_call_in_a_finalizer_during_interpreter_exit_is_refused(first: str) -> None:
    """Threads no longer run at that point: waiting for one would never end."""
    used = "atexit.register(use)" if first == "used at exit" else ""
    answer = _run(f"""
        import asyncio, atexit, sys
        from zarr_s3_async._concurrency.loop_thread import background_loop
        from zarr_s3_async.errors import StateError

        def use():
            try:
                background_loop().run(asyncio.sleep(0))
            except StateError:  # Python 3.12 starts no thread at exit
                assert sys.version_info[:2] == (3, 12)

        {used}
        background_loop().run(asyncio.sleep(0))  # registers its exit handler, which runs before the other one

        class Late:
            def __del__(self, sleep=asyncio.sleep):
                work = sleep(0)
                try:
                    background_loop().run(work)
                except StateError as error:
                    print(type(error).__name__)
                finally:
                    work.close()

        late = Late()
    """)
    assert answer == "StateError"


def _run(program: str) -> str:
    done = subprocess.run(
        [sys.executable, "-X", "dev", "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""
    return done.stdout.strip()
