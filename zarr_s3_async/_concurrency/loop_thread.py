"""An event loop in a background thread, for blocking callers."""

from __future__ import annotations

import asyncio
import atexit
import os
import sys
from collections.abc import Callable, Coroutine
from concurrent.futures import Future
from contextlib import suppress
from threading import Lock, Thread, get_ident
from typing import Any, Generic, TypeVar

from ..errors import StateError

T = TypeVar("T")


class LoopThread:
    """A running event loop to which any number of threads submit coroutines.

    The thread is a daemon: a program that does not call `close` can still exit.

    Args:
        name: Name of the thread.
    """

    __slots__ = ("_closed", "_loop", "_pid", "_stop", "_thread")

    def __init__(self, name: str = "zarr-s3-loop") -> None:
        if sys.is_finalizing():  # a thread that is started now never runs, and is waited for without end
            raise _exiting()
        self._pid = os.getpid()
        self._closed = False
        started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]] = Future()
        self._thread = Thread(target=_run_loop, args=(started,), name=name, daemon=True)
        try:
            self._thread.start()
        except RuntimeError as error:
            raise _exiting() from error
        self._loop, self._stop = started.result()

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop that runs in the thread."""
        return self._loop

    @property
    def usable(self) -> bool:
        """False after `close`, when the thread has died, when it stands still because the interpreter exits, and in a
        forked child, which does not inherit threads."""
        return not self._closed and self._pid == os.getpid() and self._thread.is_alive() and not sys.is_finalizing()

    def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Run a coroutine on the loop and wait for its result.

        The coroutine sees the caller's context variables. When the waiting thread is interrupted (Ctrl-C, or any other
        asynchronous exception), the coroutine is cancelled, and this raises only once it has ended, so that it cannot
        touch its arguments afterwards.

        Raises:
            StateError: Called on the loop's own thread, which would deadlock; after `close`; or in a forked child.
        """
        if get_ident() == self._thread.ident:
            work.close()
            raise StateError("a blocking call on the event loop's own thread would wait for itself; await it there")
        call = _Call(work)
        try:
            self._schedule(call.start)
            return call.answer.result()
        except BaseException:
            if not call.answer.done():
                self._cancelled(call)
            raise

    def submit(self, work: Coroutine[Any, Any, object]) -> None:
        """Run a coroutine on the loop without waiting, for finalizers. If the loop is not usable, it never runs."""
        call = _Call(work)
        try:
            self._schedule(call.start)
        except StateError:
            call.discard()

    def close(self) -> None:
        """Cancel running coroutines, close the loop's async generators, end the thread. Idempotent."""
        if not self.usable:
            return
        self._closed = True
        with suppress(RuntimeError):  # the loop is closed already
            self._loop.call_soon_threadsafe(self._stop.set)
        # The loop has closed its generators by then, so connections are closed when this returns.
        self._thread.join()

    def _schedule(self, callback: Callable[[], object]) -> None:
        if not self.usable:
            raise StateError("the background event loop was closed, or belongs to the process that forked this one")
        try:
            self._loop.call_soon_threadsafe(callback)
        except RuntimeError as error:  # closed since
            raise StateError("the background event loop was closed") from error

    def _cancelled(self, call: _Call[Any]) -> None:
        """Cancel a call and wait until it has ended, however often this is interrupted again."""
        while True:
            try:  # around every call: an interrupt may be raised at the return of any of them
                if call.answer.done():
                    return
                self._schedule(call.cancel)
                call.answer.exception()
            except StateError:
                call.discard()
                return
            except BaseException:  # noqa: BLE001, S110  # the first interrupt is the one that is raised
                pass


class _Call(Generic[T]):
    """One coroutine that was submitted to the loop."""

    __slots__ = ("_task", "_work", "answer")

    def __init__(self, work: Coroutine[Any, Any, T]) -> None:
        self._work: Coroutine[Any, Any, T] | None = work
        self._task: asyncio.Task[T] | None = None
        self.answer: Future[T] = Future()

    def start(self) -> None:
        """Runs on the loop."""
        work, self._work = self._work, None
        if work is None:
            return  # discarded
        try:
            self._task = asyncio.get_running_loop().create_task(work)
        except BaseException as error:  # noqa: BLE001  # raised to the waiting thread
            self.answer.set_exception(error)
        else:
            self._task.add_done_callback(self._finish)

    def cancel(self) -> None:
        """Runs on the loop, once: a second cancellation would interrupt the cleanup after the first."""
        if self._task is None:
            self.discard()
        elif not self._task.cancelling():
            self._task.cancel()

    def discard(self) -> None:
        """Fail a call that never started."""
        work, self._work = self._work, None
        if work is not None:
            work.close()
        if not self.answer.done():
            self.answer.set_exception(StateError("the call was given up before it started"))

    def _finish(self, task: asyncio.Task[T]) -> None:
        if task.cancelled():
            self.answer.set_exception(StateError("the background event loop was closed while this call ran"))
        elif (error := task.exception()) is not None:
            self.answer.set_exception(error)
        else:
            self.answer.set_result(task.result())
        self._task = None  # breaks the reference cycle between a failed task and its traceback


def _exiting() -> StateError:
    return StateError("the interpreter is exiting, and blocking calls need a thread: call before the program ends")


def finish_generators(loop: asyncio.AbstractEventLoop, seconds: float) -> None:
    """Finish the asynchronous generators of a loop that runs in another thread, as `asyncio.run` does at its end.

    Args:
        loop: It must be running.
        seconds: How long to wait.

    Raises:
        TimeoutError: They did not finish in time.
    """
    asyncio.run_coroutine_threadsafe(loop.shutdown_asyncgens(), loop).result(seconds)


def _run_loop(started: Future[tuple[asyncio.AbstractEventLoop, asyncio.Event]]) -> None:
    async def serve() -> None:
        stop = asyncio.Event()
        started.set_result((asyncio.get_running_loop(), stop))
        await stop.wait()

    try:
        asyncio.run(serve())  # cancels remaining tasks and closes async generators
    except BaseException as error:
        if started.done():
            raise
        started.set_exception(error)


_background: LoopThread | None = None
_lock = Lock()
_inherited: list[LoopThread | None] = []


def background_loop() -> LoopThread:
    """The loop that all blocking callers of this process share, started at its first use.

    A forked child starts its own. It is closed when the interpreter exits.
    """
    global _background  # noqa: PLW0603  # one per process
    found = _background
    if found is not None and found.usable:
        return found
    with _lock:
        if _background is None or not _background.usable:
            if _background is None:
                atexit.register(_close_at_exit)
            _background = LoopThread()
        return _background


def _close_at_exit() -> None:
    if _background is not None:
        _background.close()


def _forget_parent() -> None:
    """Reset the state in a forked child, where the thread is missing and another thread may have held the lock.

    The old loop is kept, unused: collecting it would close file descriptors that the parent still uses.
    """
    global _background, _lock  # as above
    _inherited.append(_background)
    _background, _lock = None, Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_parent)
