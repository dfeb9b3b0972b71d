"""The room of the threads that codecs run in: one queue to them, and one way back that wakes the loop once for many.

The standard library's pool wakes the loop for every call, through two futures and a lock each, at twice the cost
(`python benchmarks/hops.py`).
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, CancelledError, Future, get_running_loop
from collections import deque
from collections.abc import Callable
from contextlib import suppress
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Generic, TypeVar
from weakref import finalize

from ..errors import session_closed
from .blocking import wait_despite_cancellation

T = TypeVar("T")


class CodecThreads:
    """At most `limit` threads of one event loop, started as they are needed."""

    __slots__ = ("__weakref__", "_back", "_closed", "_jobs", "_limit", "_outstanding", "_threads")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._jobs: SimpleQueue[_Job[Any] | None] = SimpleQueue()
        self._threads: list[Thread] = []
        self._outstanding = 0
        self._back: _LoopNotifier | None = None
        self._closed = False
        finalize(self, _end, self._jobs, self._threads)  # for whoever forgets `close`

    async def run(self, work: Callable[[], T], on_cancel: Callable[[], None] | None = None) -> T:
        """Run in a thread.

        Cancelled, it leaves when the thread has ended, or at once where it never began: what the thread writes to
        stays ours till then. `on_cancel` is called first, and may let the thread end sooner.
        """
        if self._closed:
            raise session_closed()
        answer: Future[T] = get_running_loop().create_future()
        job = _Job(work, answer)
        self._outstanding += 1
        if self._outstanding > len(self._threads) < self._limit:
            self._start()
        self._jobs.put(job)
        try:
            return await answer
        except CancelledError as error:
            if on_cancel is not None:
                on_cancel()
            raise await job.ended(error) from None
        finally:
            self._outstanding -= 1

    def _start(self) -> None:
        if self._back is None:
            self._back = _LoopNotifier(get_running_loop())
        # Daemons: whoever forgets `close` is not kept from ending the program.
        thread = Thread(target=_serve, args=(self._jobs, self._back), name="zarr-s3-codec", daemon=True)
        self._threads.append(thread)
        thread.start()

    def close(self) -> None:
        """Begin no further work: what waits for a thread gets `SessionClosed`, and threads end after what they do."""
        self._closed = True
        with suppress(Empty):
            while True:
                job = self._jobs.get_nowait()
                if job is not None:
                    job.refuse(session_closed())
        _end(self._jobs, self._threads)

    async def aclose(self) -> None:
        """`close`, and return when the threads have ended; the event loop goes on meanwhile. Again is fine."""
        self.close()
        if self._back is not None:
            await self._back.all_ended(len(self._threads))
        for thread in self._threads:
            thread.join()  # of threads that have said their last: at once
        self._threads.clear()
        self._back = None


class _Job(Generic[T]):
    """One call. Whoever takes `work` out of its list, the thread or a cancelled caller, has it."""

    __slots__ = ("_late", "_settled", "answer", "error", "result", "work")

    result: T

    def __init__(self, work: Callable[[], T], answer: Future[T]) -> None:
        self.work = [work]
        self.answer = answer
        self.error: BaseException | None = None
        self._late: Future[None] | None = None
        self._settled = False

    def run(self) -> None:
        """In the thread."""
        try:
            work = self.work.pop()
        except IndexError:
            return  # the caller has left
        try:
            self.result = work()
        except BaseException as error:  # noqa: BLE001  # it belongs to who waits
            self.error = error

    def refuse(self, error: Exception) -> None:
        """On the loop, for work that no thread has begun."""
        with suppress(IndexError):
            self.work.pop()
            self.error = error
            self.settle()

    def settle(self) -> None:
        """On the loop, once the thread is done with it."""
        self._settled = True
        if self._late is not None:
            self._late.set_result(None)
        elif not self.answer.done():
            if self.error is None:
                self.answer.set_result(self.result)
            else:
                self.answer.set_exception(self.error)

    async def ended(self, cancelled: CancelledError) -> CancelledError:
        """Wait until no thread works on this any more; the cancellation to raise then."""
        if not self.answer.cancelled():
            self.answer.exception()  # marked as seen: the caller gets the cancellation
        if self._settled:
            return cancelled
        try:
            self.work.pop()
        except IndexError:
            self._late = self.answer.get_loop().create_future()
            return await wait_despite_cancellation(self._late, cancelled)
        return cancelled


class _LoopNotifier:
    """From the threads to the loop."""

    __slots__ = ("_awaited", "_done", "_ended", "_expected", "_loop", "_woken")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._done: deque[_Job[Any]] = deque()
        self._woken = False
        self._ended = 0
        self._awaited: Future[None] | None = None
        self._expected = 0

    async def all_ended(self, count: int) -> None:
        """Wait until so many threads have ended."""
        self._expected = count
        if self._ended < count:
            self._awaited = self._loop.create_future()
            await self._awaited

    def ended(self) -> None:
        """Called by a thread, with its last breath."""
        self._loop.call_soon_threadsafe(self._count_ended)

    def _count_ended(self) -> None:
        self._ended += 1
        if self._awaited is not None and self._ended >= self._expected and not self._awaited.done():
            self._awaited.set_result(None)

    def done(self, job: _Job[Any]) -> None:
        """Called by a thread."""
        self._done.append(job)
        # Read after the append: `_settle` takes the mark away before it looks, so no job is left behind.
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        self._woken = False
        while self._done:
            self._done.popleft().settle()


def _serve(jobs: SimpleQueue[_Job[Any] | None], back: _LoopNotifier) -> None:
    while (job := jobs.get()) is not None:
        job.run()
        try:
            back.done(job)
        except RuntimeError:
            return  # the loop was closed under the session; nobody waits any more
        del job  # or it would keep its data until the next one comes
    with suppress(RuntimeError):
        back.ended()


def _end(jobs: SimpleQueue[_Job[Any] | None], threads: list[Thread]) -> None:
    for _ in threads:
        jobs.put(None)
