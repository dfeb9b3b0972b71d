"""Iterating over an epoch: with `async for`, and with a plain `for` that a background loop serves."""

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
"""Starts the epoch in the running loop. Arrays are opened in the session; None: open arrays are used as they are."""


class Epoch:
    """The batches of one epoch: an asynchronous iterator. Make one with `BatchLoader.epoch`."""

    __slots__ = ("__weakref__", "_begin", "_run", "_took")

    def __init__(self, begin: Begin, took: Callable[[EpochRun], None]) -> None:
        """
        Args:
            begin: Called for the first batch.
            took: Told of each batch that was taken.
        """
        self._begin = begin
        self._took = took
        self._run: EpochRun | None = None

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Any:
        return await self.take(None)

    async def take(self, session: Session | None) -> Any:
        """The next batch.

        Args:
            session: Where arrays are opened by their references; None: open arrays are used as they are.

        Raises:
            StopAsyncIteration: There are no more.
        """
        if self._run is None:
            self._run = await self._begin(session)
        batch = await self._run.take()
        self._took(self._run)
        return batch

    def take_now(self) -> Any:
        """The next batch where one is ready, else `NOT_READY`: for another thread than the loop's."""
        if self._run is None:
            return NOT_READY
        batch = self._run.take_now()
        if batch is not NOT_READY:
            self._took(self._run)
        return batch

    async def aclose(self) -> None:
        """Stop reading ahead, and return when nothing of it is left. Again is fine."""
        if self._run is not None:
            await self._run.end()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.aclose()

    def __del__(self) -> None:
        # Whoever breaks out of the loop has nothing left to close it with.
        if self._run is not None:
            self._run.abandon()


class BlockingEpoch:
    """An epoch for callers that block: it runs on the background loop of this process."""

    __slots__ = ("_epoch", "_pid", "_session")

    def __init__(self, epoch: Epoch, session: BlockingSession) -> None:
        self._epoch = epoch
        self._session = session
        self._pid = os.getpid()

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> Any:
        if self._pid != os.getpid():
            raise StateError("this iteration was begun before a fork; begin one in this process")
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
    """The session of plain iteration: on the background loop of this process, for as long as the loader."""

    __slots__ = ("__weakref__", "_finalizer", "_loop", "_pid", "_session", "_sources", "_stack")

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._session: Session | None = None
        self._stack = AsyncExitStack()
        self._loop: LoopThread | None = None
        self._finalizer: finalize[Any, BlockingSession] | None = None
        self._pid = 0

    async def get(self) -> Session:
        """Return the session, opened if need be. Called on the background loop."""
        # A forked child leaves the parent's alone; the loop's shared session may have been closed by others.
        if self._session is None or self._pid != os.getpid() or self._session.closed:
            self._stack = AsyncExitStack()
            self._session = await self._sources.session(self._stack)
            self._pid, self._loop = os.getpid(), background_loop()
            # For a loader that is never closed. Not `__del__`: where loader and session are in one reference cycle, the
            # session could be collected first; the finalizer keeps it alive until it is closed.
            self._forget_finalizer()
            self._finalizer = finalize(self, _close_without_waiting, self._loop, self._stack)
            self._finalizer.atexit = False  # the background loop ends what is left
        return self._session

    def close(self) -> None:
        """Close the session. Called from any thread but the loop's."""
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
