"""Run a backup call in parallel when the first call is slow, and take the first accepted result."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Backup(NamedTuple, Generic[T]):
    """A second attempt that may start now."""

    work: Coroutine[Any, Any, T]
    release: Callable[[], None]
    """Called exactly once, when the attempt has ended or could not start: frees the resources that it holds."""


async def race_with_backup(
    first: Callable[[], Awaitable[T]],
    begin_backup: Callable[[], Backup[T] | None],
    delay: float,
    accepts: Callable[[T], bool],
) -> tuple[T, bool]:
    """Run `first` in the caller's task, and a backup in parallel once `delay` seconds have passed.

    Both have ended when this returns: the loser was cancelled and awaited.

    Args:
        first: The primary call. Its exception is raised to the caller; its result is used unless a result of the
            backup was accepted before.
        begin_backup: Returns the backup, or None where none may start now. An exception of the backup is dropped, and
            the outcome of `first` is used.
        delay: Seconds before the backup starts.
        accepts: True for a result that ends the race.

    Returns:
        The result, and whether it is the backup's.
    """
    return await _Race(first, begin_backup, accepts).run(delay)


class _Race(Generic[T]):
    __slots__ = ("_accepts", "_backup", "_begin_backup", "_expiry", "_first", "_won")

    def __init__(
        self,
        first: Callable[[], Awaitable[T]],
        begin_backup: Callable[[], Backup[T] | None],
        accepts: Callable[[T], bool],
    ) -> None:
        self._first = first
        self._begin_backup = begin_backup
        self._accepts = accepts
        self._expiry: asyncio.Timeout | None = None
        """Timeout scope around `first` while it runs: an accepted result of the backup makes it expire."""
        self._backup: asyncio.Task[None] | None = None
        self._won: list[T] = []

    async def run(self, delay: float) -> tuple[T, bool]:
        results: list[T] = []
        failure: Exception | None = None
        # A group, so that a cancellation of the caller ends the backup too.
        async with asyncio.TaskGroup() as group:
            timer = asyncio.get_running_loop().call_later(delay, self._start, group)
            try:
                async with asyncio.timeout(None) as self._expiry:
                    results.append(await self._first())
            except TimeoutError as error:
                # `first` may raise a TimeoutError of its own. Only an accepted result of the backup makes ours expire.
                failure = None if self._won else error
            except Exception as error:  # noqa: BLE001  # raised below as itself: here the group would wrap it
                failure = error
            finally:
                timer.cancel()
                self._expiry = None
            if self._backup is not None:
                # An unaccepted result of `first` (a 503, say) leaves the backup running: it may still succeed.
                if failure is not None or any(map(self._accepts, results)):
                    self._backup.cancel()
                # Both must have ended before this returns: they may receive into the same memory.
                await asyncio.wait((self._backup,))
        if failure is not None:
            raise failure
        if self._won and not any(map(self._accepts, results)):
            return self._won[0], True
        return results[0], False

    def _start(self, group: asyncio.TaskGroup) -> None:
        backup = self._begin_backup()
        if backup is not None:
            self._backup = group.create_task(self._run_backup(backup.work))
            # Not in a `finally` of the task: a task that is cancelled before its first step never runs one.
            self._backup.add_done_callback(lambda _: (backup.work.close(), backup.release()))

    async def _run_backup(self, work: Coroutine[Any, Any, T]) -> None:
        try:
            result = await work
        except Exception:  # noqa: BLE001  # `first` succeeds, or raises the error that the caller gets
            return
        if self._accepts(result):
            self._won.append(result)
            # Expiry instead of `task.cancel()`: `first` runs in the caller's task, which must not see a cancellation.
            if self._expiry is not None:
                self._expiry.reschedule(asyncio.get_running_loop().time())
