"""One fetch for concurrent readers of a chunk, without returning data older than any of the reads.

A response is only as fresh as the moment at which its request was sent. A reader may therefore join a fetch that has
not been sent yet, but not one that has: it waits until that one has ended, and joins the next one. So per object at
most one plain read is in flight, and one is pending.
"""

from __future__ import annotations

from asyncio import Future, get_running_loop
from collections.abc import Callable, Hashable
from copy import copy
from enum import Enum
from functools import partial
from typing import Final, Literal, TypeAlias
from weakref import WeakValueDictionary

from .cache import ObjectChunks
from .chunks import Chunks


class Left(Enum):
    """The outcome for joined readers if the leader was cancelled before there was a response."""

    LEADER = 0


Outcome: TypeAlias = ObjectChunks | Exception | Literal[Left.LEADER]


class SharedFetch:
    """One fetch, led by the reader that started it.

    Attributes:
        is_sent: The request may have been sent: later readers wait for its end, and do not get its response.
        source: Chunks to fetch from: those of the most recently opened handle among the readers, which ignores cached
            absences from before it was opened.
        joined: Called with the outcome, for each of the other readers; None if there are none.
        late: Futures of those that came when it was sent; None if there are none.
    """

    __slots__ = ("_since", "is_sent", "joined", "late", "source")

    def __init__(self, source: Chunks, since: int) -> None:
        self.is_sent: bool = False
        self.source: Chunks = source
        self._since = since
        self.joined: list[Callable[[Outcome], None]] | None = None  # most fetches have no second reader
        self.late: list[Future[None]] | None = None

    def join(self, source: Chunks, since: int, take: Callable[[Outcome], None]) -> None:
        """Join a fetch that is not sent yet.

        Args:
            source: Chunks of the reader's handle.
            since: When that was opened; see `Reader.since`.
            take: Is called with the outcome, on the loop; it must not raise.
        """
        # The most recently opened handle has the strictest view of cached absences, so its chunks serve all readers.
        if since > self._since:
            self.source = source
            self._since = since
        if self.joined is None:
            self.joined = []
        self.joined.append(take)

    async def end(self) -> None:
        """Wait for the end of a fetch that was sent."""
        waiter: Future[None] = get_running_loop().create_future()
        if self.late is None:
            self.late = []
        self.late.append(waiter)
        await waiter

    def finish(self, outcome: Outcome) -> None:
        """Wake all readers."""
        # Callbacks, not futures: a read of many objects joins many fetches with one task.
        for take in self.joined or ():
            take(outcome)
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
        # Before the readers are woken: each of them looks for the next fetch by this name.
        del self[name]
        if fetch.joined is not None or fetch.late is not None:
            fetch.finish(Left.LEADER if outcome is None else outcome)

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
            waiter: Future[Outcome] = get_running_loop().create_future()
            fetch.join(source, since, partial(_settle, waiter))
            outcome = await waiter
            if isinstance(outcome, Exception):
                raise own_copy(outcome) from outcome.__cause__
            if outcome is not Left.LEADER:
                return outcome
        return None


def _settle(waiter: Future[Outcome], outcome: Outcome) -> None:
    if not waiter.done():  # else its reader was cancelled
        waiter.set_result(outcome)


def own_copy(error: Exception) -> Exception:
    """An error of a shared fetch for one of its readers, each of which adds its own traceback and notes."""
    return copy(error)


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
