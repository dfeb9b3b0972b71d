"""A call that takes long gets a backup beside it; the first result that is accepted counts."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine
from typing import Any, Generic, NamedTuple, TypeVar

T = TypeVar("T")


class Backup(NamedTuple, Generic[T]):
    """A second attempt that may begin now."""

    work: Coroutine[Any, Any, T]
    release: Callable[[], None]
    """Called once, when the attempt has ended or was never begun: gives back what it holds."""


async def race_with_backup(
    first: Callable[[], Awaitable[T]],
    begin_backup: Callable[[], Backup[T] | None],
    delay: float,
    accepts: Callable[[T], bool],
) -> tuple[T, bool]:
    """Run `first` in the caller's own task, and a backup beside it once `delay` seconds have passed.

    Both have ended when this returns: the one that lost was cancelled.

    Args:
        first: Raises what the caller is to get; its result counts unless the backup's was accepted before.
        begin_backup: The backup, or None where none may begin now. What it raises is not seen: `first` decides then.
        delay: Seconds.
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
        """Of the first, while it runs: the backup's success ends it."""
        self._backup: asyncio.Task[None] | None = None
        self._won: list[T] = []

    async def run(self, delay: float) -> tuple[T, bool]:
        results: list[T] = []
        failure: Exception | None = None
        async with asyncio.TaskGroup() as group:
            timer = asyncio.get_running_loop().call_later(delay, self._start, group)
            try:
                async with asyncio.timeout(None) as self._expiry:
                    results.append(await self._first())
            except TimeoutError as error:
                # Ours is told apart by what it follows: an accepted result of the backup.
                failure = None if self._won else error
            except Exception as error:  # noqa: BLE001  # raised below as itself: here the group would wrap it
                failure = error
            finally:
                timer.cancel()
                self._expiry = None
            if self._backup is not None:
                if failure is not None or any(map(self._accepts, results)):
                    self._backup.cancel()
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
            # A task that is cancelled before it began runs no `finally` of its own.
            self._backup.add_done_callback(lambda _: (backup.work.close(), backup.release()))

    async def _run_backup(self, work: Coroutine[Any, Any, T]) -> None:
        try:
            result = await work
        except Exception:  # noqa: BLE001  # the first call says it better, or succeeds
            return
        if self._accepts(result):
            self._won.append(result)
            if self._expiry is not None:
                self._expiry.reschedule(asyncio.get_running_loop().time())
