"""The thread pool that codecs run in; completed calls are collected, and one wake-up of the loop serves many.

`ThreadPoolExecutor` wakes the loop for every call, through two futures and a lock each, at twice the cost
(`python benchmarks/hops.py`).
"""

from __future__ import annotations

from asyncio import AbstractEventLoop, CancelledError, Event, Future, get_running_loop
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import count
from queue import Empty, SimpleQueue
from threading import Thread
from typing import Any, Generic, TypeVar
from weakref import finalize

from ..errors import session_closed
from .blocking import wait_despite_cancellation
from .limiter import NORMAL, PRIORITIES, PRIORITY, next_class

T = TypeVar("T")


class CodecThreads:
    """At most `limit` threads for one event loop, started on demand."""

    __slots__ = ("__weakref__", "_back", "_closed", "_jobs", "_limit", "_outstanding", "_threads")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._jobs = _Jobs()
        self._threads: list[Thread] = []
        self._outstanding = 0
        self._back: _LoopNotifier | None = None
        self._closed = False
        finalize(self, _end, self._jobs, self._threads)  # in case `close` is never called

    async def run(self, work: Callable[[], T], on_cancel: Callable[[], None] | None = None) -> T:
        """Run `work` in a thread and return its result. Calls wait for a thread in the order of their `PRIORITY`.

        When cancelled, it returns once the thread has finished, or immediately if the work never started, so that the
        thread cannot write to memory that the caller has freed. `on_cancel` is called first; it may make the thread
        finish sooner.
        """
        if self._closed:
            raise session_closed()
        answer: Future[T] = get_running_loop().create_future()
        job = _Job(work, answer)
        self._outstanding += 1
        # Threads start when calls wait for one: a session that decodes little has few.
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
        # Daemon threads: a program that does not call `close` can still exit.
        thread = Thread(target=_serve, args=(self._jobs, self._back), name="zarr-s3-codec", daemon=True)
        self._threads.append(thread)
        thread.start()

    def close(self) -> None:
        """Start no further work: queued calls fail with `SessionClosed`; threads end after their current call."""
        self._closed = True
        for job in self._jobs.drain():
            job.refuse(session_closed())
        _end(self._jobs, self._threads)

    async def aclose(self) -> None:
        """`close`, and return when the threads have ended, without blocking the event loop. Idempotent."""
        self.close()
        if self._back is not None:
            await self._back.all_ended(len(self._threads))
        for thread in self._threads:
            thread.join()  # returns immediately: the thread has reported its end
        self._threads.clear()
        self._back = None


class _Job(Generic[T]):
    """One call. Either the thread or a cancelled caller pops `work` from its list, and owns the call then."""

    __slots__ = ("_late", "_settled", "answer", "error", "number", "result", "work")

    result: T
    number: int
    """Order of arrival, over all priorities."""

    def __init__(self, work: Callable[[], T], answer: Future[T]) -> None:
        # A list, because `list.pop` is atomic: it decides between the thread and a cancelled caller without a lock.
        self.work = [work]
        self.answer = answer
        self.error: BaseException | None = None
        self._late: Future[None] | None = None
        self._settled = False

    def run(self) -> None:
        """Runs in the thread."""
        try:
            work = self.work.pop()
        except IndexError:
            return  # the caller was cancelled
        try:
            self.result = work()
        except (StopIteration, CancelledError) as error:
            # A future refuses the first, so that the caller would wait forever, and takes the second for its own
            # cancellation.
            self.error = RuntimeError(f"a function in a thread raised {type(error).__name__}")
            self.error.__cause__ = error
        except BaseException as error:  # noqa: BLE001  # raised to the caller
            self.error = error

    def refuse(self, error: Exception) -> None:
        """Runs on the loop: fail a call that no thread has started."""
        with suppress(IndexError):
            self.work.pop()
            self.error = error
            self.settle()

    def settle(self) -> None:
        """Runs on the loop: complete the future once the thread has finished."""
        self._settled = True
        if self._late is not None:
            self._late.set_result(None)
        elif not self.answer.done():
            if self.error is None:
                self.answer.set_result(self.result)
            else:
                self.answer.set_exception(self.error)

    async def ended(self, cancelled: CancelledError) -> CancelledError:
        """Wait until no thread works on this call; return the cancellation to raise."""
        if not self.answer.cancelled():
            self.answer.exception()  # marks the exception as retrieved: the caller gets the cancellation
        if self._settled:
            return cancelled
        try:
            self.work.pop()
        except IndexError:
            self._late = self.answer.get_loop().create_future()
            return await wait_despite_cancellation(self._late, cancelled)
        return cancelled


class _Jobs:
    """Calls that no thread has started yet, and how threads are told to end."""

    __slots__ = ("_arrivals", "_classes", "_tokens", "_turns")

    def __init__(self) -> None:
        self._classes: tuple[deque[_Job[Any]], ...] = tuple(deque() for _ in PRIORITIES)
        self._tokens: SimpleQueue[bool] = SimpleQueue()
        """True for each call, False for each thread that shall end."""
        self._arrivals = count()
        self._turns = count()

    def put(self, job: _Job[Any]) -> None:
        """Add a call of the current priority."""
        priority = PRIORITY.get()
        job.number = next(self._arrivals)
        self._classes[NORMAL if priority is None else priority].append(job)
        self._tokens.put(True)

    def put_end(self) -> None:
        """Let one thread end once no call waits that was added before."""
        self._tokens.put(False)

    def get(self) -> _Job[Any] | None:
        """Runs in a thread: wait for the call that comes next; None: end."""
        # The token says that there is a call; which one is decided now, by priority, not when it was queued.
        return self._next() if self._tokens.get() else None

    def drain(self) -> Iterator[_Job[Any]]:
        """Remove and return all calls, without waiting."""
        with suppress(Empty):
            while True:
                if self._tokens.get_nowait():
                    yield self._next()

    def _next(self) -> _Job[Any]:
        turn = next(self._turns)
        while True:  # there is a call for each token, though other threads may take one from the class looked at
            with suppress(IndexError):
                return next_class([jobs for jobs in self._classes if jobs], turn, _first_number).popleft()


def _first_number(jobs: deque[_Job[Any]]) -> int:
    return jobs[0].number


class _LoopNotifier:
    """Reports completed calls from the threads to the loop."""

    __slots__ = ("_done", "_ended", "_loop", "_one_ended", "_woken")

    def __init__(self, loop: AbstractEventLoop) -> None:
        self._loop = loop
        self._done: deque[_Job[Any]] = deque()
        self._woken = False
        self._ended = 0
        self._one_ended: Event = Event()

    async def all_ended(self, count: int) -> None:
        """Wait until `count` threads have ended."""
        while self._ended < count:
            self._one_ended.clear()
            await self._one_ended.wait()

    def ended(self) -> None:
        """Called by a thread as its last action."""
        self._loop.call_soon_threadsafe(self._count_ended)

    def _count_ended(self) -> None:
        self._ended += 1
        self._one_ended.set()

    def done(self, job: _Job[Any]) -> None:
        """Called by a thread when it has finished a call."""
        self._done.append(job)
        # Read after the append: `_settle` clears the flag before it reads the list, so no job is missed.
        if not self._woken:
            self._woken = True
            self._loop.call_soon_threadsafe(self._settle)

    def _settle(self) -> None:
        self._woken = False
        while self._done:
            self._done.popleft().settle()


def _serve(jobs: _Jobs, back: _LoopNotifier) -> None:
    while (job := jobs.get()) is not None:
        job.run()
        try:
            back.done(job)
        except RuntimeError:
            return  # the loop was closed before the session; no caller waits any more
        del job  # releases its data before the next one arrives
    with suppress(RuntimeError):
        back.ended()


def _end(jobs: _Jobs, threads: list[Thread]) -> None:
    for _ in threads:
        jobs.put_end()
