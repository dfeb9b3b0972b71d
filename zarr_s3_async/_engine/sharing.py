"""One fetch for concurrent readers of a chunk, without returning data older than any of the reads.

A response is only as fresh as the moment at which its request was sent. A reader may therefore join a fetch that has
not been sent yet, but not one that has: it waits until that one has ended, and joins the next one. So per object at
most one plain read is in flight, and one is pending.
"""

from __future__ import annotations

from asyncio import Future, get_running_loop
from collections.abc import Hashable
from copy import copy
from enum import Enum
from typing import Final, Literal, TypeAlias
from weakref import WeakValueDictionary

from .cache import ObjectChunks
from .chunks import Chunks


class _Left(Enum):
    """The outcome for joined readers if the leader was cancelled before there was a response."""

    LEADER = 0


_Outcome: TypeAlias = ObjectChunks | Exception | Literal[_Left.LEADER]


class SharedFetch:
    """One fetch, led by the reader that started it.

    Attributes:
        is_sent: The request may have been sent: later readers wait for its end, and do not get its response.
        source: Chunks to fetch from: those of the most recently opened handle among the readers, which ignores cached
            absences from before it was opened.
        joined: Futures of the other readers; None if there are none.
        late: Futures of those that came when it was sent; None if there are none.
    """

    __slots__ = ("_since", "is_sent", "joined", "late", "source")

    def __init__(self, source: Chunks, since: int) -> None:
        self.is_sent: bool = False
        self.source: Chunks = source
        self._since = since
        self.joined: list[Future[_Outcome]] | None = None  # most fetches have no second reader
        self.late: list[Future[None]] | None = None

    async def join(self, source: Chunks, since: int) -> _Outcome:
        """Wait for the response to a fetch that is not sent yet."""
        # The most recently opened handle has the strictest view of cached absences, so its chunks serve all readers.
        if since > self._since:
            self.source = source
            self._since = since
        waiter: Future[_Outcome] = get_running_loop().create_future()
        if self.joined is None:
            self.joined = []
        self.joined.append(waiter)
        return await waiter

    async def end(self) -> None:
        """Wait for the end of a fetch that was sent."""
        waiter: Future[None] = get_running_loop().create_future()
        if self.late is None:
            self.late = []
        self.late.append(waiter)
        await waiter

    def finish(self, outcome: _Outcome) -> None:
        """Wake all readers."""
        for waiter in self.joined or ():
            if not waiter.done():
                waiter.set_result(outcome)
        for late in self.late or ():
            if not late.done():
                late.set_result(None)


class SharedFetches(dict[Hashable, SharedFetch]):
    """The fetches of one array in progress, shared by all handles of a session with equal layouts.

    A reader that finds no fetch of its name adds one, without an `await` in between, and calls `end` in any case.
    """

    __slots__ = ("__weakref__",)

    __hash__ = object.__hash__  # type: ignore[assignment]  # hashed by identity, for the weak table

    def end(self, name: Hashable, fetch: SharedFetch, outcome: ObjectChunks | Exception | None) -> None:
        """Pass the outcome to the joined readers. None: the leader was cancelled, and one of them leads a new fetch."""
        del self[name]
        if fetch.joined is not None or fetch.late is not None:
            fetch.finish(_Left.LEADER if outcome is None else outcome)

    async def follow(self, name: Hashable, source: Chunks, since: int) -> ObjectChunks | None:
        """Wait for the chunks of a fetch that is sent after this call.

        Returns:
            The decoded chunks, shared with other readers; None if there is no fetch, and the caller must start one.

        Raises:
            Exception: The error of the fetch.
        """
        # A loop: by the time this reader runs again, another one may have started the next fetch.
        while (fetch := self.get(name)) is not None:
            if fetch.is_sent:
                await fetch.end()
                continue
            outcome = await fetch.join(source, since)
            if isinstance(outcome, Exception):
                # A copy, since each reader adds its own traceback and notes.
                raise copy(outcome) from outcome.__cause__
            if outcome is not _Left.LEADER:
                return outcome
        return None


class FetchTable:
    """The `SharedFetches` of a session's arrays, by layout key; each lives as long as its handles."""

    __slots__ = ("_by_array",)

    def __init__(self) -> None:
        self._by_array: Final[WeakValueDictionary[Hashable, SharedFetches]] = WeakValueDictionary()

    def of(self, array: Hashable) -> SharedFetches:
        """The fetches of one array."""
        fetches = self._by_array.get(array)
        if fetches is None:
            fetches = self._by_array[array] = SharedFetches()
        return fetches
