"""One fetch for many readers of a chunk, without making any of them read what was old when it asked.

An answer is as fresh as the moment at which its request left. A reader may therefore join a fetch that has not been
sent yet, and never one that has: it waits until that one has ended, and joins the next. So of each object at most one
plain read is in flight, and one is next.
"""

from __future__ import annotations

from asyncio import Future, get_running_loop
from collections.abc import Hashable
from copy import copy
from enum import Enum
from typing import Final, Literal, TypeAlias
from weakref import WeakValueDictionary

from .cache import Chunks as Decoded
from .chunks import Chunks


class _Left(Enum):
    """What readers that joined are told when the one that leads has left before there was an answer."""

    LEADER = 0


_Outcome: TypeAlias = Decoded | Exception | Literal[_Left.LEADER]


class SharedFetch:
    """One fetch, led by the reader that began it.

    Attributes:
        is_sent: Its request may have left: who asks from now on waits for its end, and does not get its answer.
        source: Where to fetch from: the view of the newest handle among its readers, which trusts no older absence.
        joined: What the other readers wait for; None while there is no other.
    """

    __slots__ = ("_late", "_since", "is_sent", "joined", "source")

    def __init__(self, source: Chunks, since: int) -> None:
        self.is_sent: bool = False
        self.source: Chunks = source
        self._since = since
        self.joined: list[Future[_Outcome]] | None = None  # most fetches have no second reader
        self._late: list[Future[None]] | None = None

    @property
    def is_awaited(self) -> bool:
        """True where other readers wait for its answer, or for its end."""
        return self.joined is not None or self._late is not None

    async def join(self, source: Chunks, since: int) -> _Outcome:
        """Wait for the answer of a fetch that is not sent yet."""
        if since > self._since:
            self.source = source
            self._since = since
        waiter: Future[_Outcome] = get_running_loop().create_future()
        if self.joined is None:
            self.joined = []
        self.joined.append(waiter)
        return await waiter

    async def end(self) -> None:
        """Wait for the end of a fetch that is sent."""
        waiter: Future[None] = get_running_loop().create_future()
        if self._late is None:
            self._late = []
        self._late.append(waiter)
        await waiter

    def finish(self, outcome: _Outcome) -> None:
        """Wake every reader."""
        for waiter in self.joined or ():
            if not waiter.done():
                waiter.set_result(outcome)
        for late in self._late or ():
            if not late.done():
                late.set_result(None)


class SharedFetches(dict[Hashable, SharedFetch]):
    """The fetches of one array that are under way, for all handles of a session that read it alike.

    A reader that finds none of its name stores one, without an `await` since it looked; whatever comes of it, it calls
    `end`.
    """

    __slots__ = ("__weakref__",)

    __hash__ = object.__hash__  # type: ignore[assignment]  # an identity, for the table of weak references

    def end(self, name: Hashable, fetch: SharedFetch, outcome: Decoded | Exception | None) -> None:
        """Hand the outcome to the readers that joined; None: the leader left, and one of them leads a new one."""
        del self[name]
        if fetch.is_awaited:
            fetch.finish(_Left.LEADER if outcome is None else outcome)

    async def follow(self, name: Hashable, source: Chunks, since: int) -> Decoded | None:
        """The chunks of a fetch that was sent after this call.

        Returns:
            None where none is under way any more: the caller is to begin one.

        Raises:
            Exception: What the fetch failed with.
        """
        while (fetch := self.get(name)) is not None:
            if fetch.is_sent:
                await fetch.end()
                continue
            outcome = await fetch.join(source, since)
            if isinstance(outcome, Exception):
                # A copy: each reader adds its own traceback, and may note something of its own.
                raise copy(outcome) from outcome.__cause__
            if outcome is not _Left.LEADER:
                return outcome
        return None


class FetchTable:
    """The `SharedFetches` of a session's arrays, by what makes two handles read alike; each lives as its handles."""

    __slots__ = ("_by_array",)

    def __init__(self) -> None:
        self._by_array: Final[WeakValueDictionary[Hashable, SharedFetches]] = WeakValueDictionary()

    def of(self, array: Hashable) -> SharedFetches:
        """Of one array."""
        fetches = self._by_array.get(array)
        if fetches is None:
            fetches = self._by_array[array] = SharedFetches()
        return fetches
