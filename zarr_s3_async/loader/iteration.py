"""Iterating over an epoch: with `async for`, and with a plain `for`, which uses the background loop."""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from types import TracebackType
from typing import Any, Self, TypeAlias
from weakref import finalize

from .._concurrency.loop_thread import LoopThread, background_loop
from .._session import Session
from ..errors import StateError
from .run import NOT_READY, EpochRun
from .sources import Sources

Begin: TypeAlias = Callable[[Session | None], Awaitable[EpochRun]]
"""Starts the epoch in the running loop. Arrays are opened in the session; None: the user's open arrays are used."""


class Epoch:
    """The batches of one epoch: an asynchronous iterator. Make one with `BatchLoader.epoch`."""

    __slots__ = ("__weakref__", "_begin", "_on_taken", "_run")

    def __init__(self, begin: Begin, on_taken: Callable[[EpochRun], None]) -> None:
        """
        Args:
            begin: Starts the epoch; called for the first batch.
            on_taken: Called after each batch that was taken.
        """
        self._begin = begin
        self._on_taken = on_taken
        self._run: EpochRun | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return await self.take(None)

    async def take(self, session: Session | None) -> Any:
        """The next batch.

        Args:
            session: The session in which arrays are opened by their refs; None: the user's open arrays are used.

        Raises:
            StopAsyncIteration: There are no more batches.
        """
        if self._run is None:
            self._run = await self._begin(session)
        batch = await self._run.take()
        self._on_taken(self._run)
        return batch

    def take_now(self) -> Any:
        """The next batch if it is ready, else `NOT_READY`. For threads other than the loop's."""
        if self._run is None:
            return NOT_READY
        batch = self._run.take_now()
        if batch is not NOT_READY:
            self._on_taken(self._run)
        return batch

    async def aclose(self) -> None:
        """Stop reading ahead, and wait until its tasks and requests have ended. Calling it again does nothing."""
        if self._run is not None:
            await self._run.end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # After a `break` in `async for batch in loader.epoch()` the caller has no reference to close.
        if self._run is not None:
            self._run.abandon()


class BlockingEpoch:
    """An epoch for blocking callers: it runs on the background loop of this process."""

    __slots__ = ("_epoch", "_pid", "_session")

    def __init__(self, epoch: Epoch, session: BlockingSession) -> None:
        self._epoch = epoch
        self._session = session
        self._pid = os.getpid()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        if self._pid != os.getpid():
            raise StateError("this iteration was started before a fork; start one in this process")
        batch = self._epoch.take_now()
        if batch is not NOT_READY:
            return batch
        try:
            return background_loop().run(self._take())
        except StopAsyncIteration:
            raise StopIteration from None

    async def _take(self) -> Any:
        return await self._epoch.take(await self._session.get())


class BlockingSession:
    """The session of plain iteration. It belongs to the background loop, and lives as long as the loader."""

    __slots__ = ("__weakref__", "_finalizer", "_loop", "_pid", "_session", "_sources", "_stack")

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._session: Session | None = None
        self._stack = AsyncExitStack()
        self._loop: LoopThread | None = None
        self._finalizer: finalize[Any, BlockingSession] | None = None
        self._pid = 0

    async def get(self) -> Session:
        """Return the session, opening it if necessary. Called on the background loop."""
        # A forked child must not use the parent's session; other code may have closed the loop's shared session.
        if self._session is None or self._pid != os.getpid() or self._session.closed:
            self._stack = AsyncExitStack()
            self._session = await self._sources.session(self._stack)
            self._pid, self._loop = os.getpid(), background_loop()
            # For a loader that is never closed. Not `__del__`: where loader and session are in one reference cycle, the
            # session could be collected first; the finalizer keeps it alive until it is closed.
            self._forget_finalizer()
            self._finalizer = finalize(self, _close_without_waiting, self._loop, self._stack)
            self._finalizer.atexit = False  # at exit the background loop cleans up
        return self._session

    def close(self) -> None:
        """Close the session. Called from any thread except the loop's."""
        self._forget_finalizer()
        session, self._session = self._session, None
        if session is not None and self._loop is not None and self._loop.usable:
            self._loop.run(self._stack.aclose())

    def _forget_finalizer(self) -> None:
        if self._finalizer is not None:
            self._finalizer.detach()


def _close_without_waiting(loop: LoopThread, stack: AsyncExitStack) -> None:
    if loop.usable:
        loop.submit(stack.aclose())
