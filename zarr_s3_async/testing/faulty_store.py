"""A store wrapper that injects errors, delays and damage, and records the calls that it receives."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable, Hashable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import Literal, Self, TypeAlias, TypeVar

import anyio

from .._types import Buffer, Sink, Version, When
from ..byte_range import ByteRange
from ..stores.base import Blob, Entry, Listing, Store
from ..stores.optional import owner_of, place_of

T = TypeVar("T")

Verb: TypeAlias = Literal["get", "put", "delete", "delete_many", "list_prefix", "list_dir"]


@dataclass(frozen=True, slots=True)
class Call:
    """One call that the store received."""

    verb: Verb
    key: str
    """The key or the prefix; of `delete_many` the keys, joined by spaces."""
    range: ByteRange | None = None
    version: Version | None = None
    when: When = "always"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """What happens to some calls, in this order: `meanwhile`, the delay, the call itself or the error.

    It strikes the matching calls number `nth` to `nth + times - 1`.
    """

    verb: Verb | None = None
    """None: any."""
    key: str = "*"
    """Pattern of `fnmatch`, where `*` stands for slashes too."""
    nth: int = 1
    times: int | None = 1
    """None: from the nth on, for ever."""
    error: Callable[[], Exception] | None = None
    """Makes the error that is raised, for example `lambda: NetworkError("reset")`."""
    lost_answer: bool = False
    """Do the call and raise the error then: what a caller sees whose answer was lost."""
    delay: float = 0.0
    """Seconds before the call."""
    damage: Callable[[bytes], bytes] | None = None
    """Changes the bytes that a get returns."""
    meanwhile: Callable[[], Awaitable[object]] | None = None
    """Runs before the call: what another writer does just then."""

    def __post_init__(self) -> None:
        if self.lost_answer and self.error is None:
            raise ValueError("a lost answer needs the error that the caller sees instead")

    def matches(self, call: Call) -> bool:
        """Whether it counts this call."""
        return self.verb in (None, call.verb) and fnmatchcase(call.key, self.key)

    def strikes(self, number: int) -> bool:
        """Whether it strikes the matching call of this number, the first being 1."""
        return number >= self.nth and (self.times is None or number < self.nth + self.times)


class FaultyStore:
    """Passes every operation to `inner`, with the given faults injected.

    Args:
        inner: The wrapped store.
        faults: In the order in which they apply; more may be added.
        latency: Seconds that every call waits.
        sleep: Waits that many seconds; tests with a clock of their own give theirs.
    """

    def __init__(
        self,
        inner: Store,
        *faults: Fault,
        latency: float = 0.0,
        sleep: Callable[[float], Awaitable[object]] = anyio.sleep,
    ) -> None:
        self.inner = inner
        self.latency = latency
        self.calls: list[Call] = []
        """Every call, in the order they came."""
        self.in_flight: int = 0
        self.peak: int = 0
        """The most calls that were in flight at once."""
        self._sleep = sleep
        self._faults: list[tuple[Fault, list[Call]]] = []
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault) -> None:
        """One more fault; its calls count from now."""
        self._faults.append((fault, []))

    def clear(self) -> None:
        """Forget the faults, the calls and the peak."""
        self._faults.clear()
        self.calls.clear()
        self.peak = self.in_flight

    def count(self, verb: Verb | None = None, key: str = "*") -> int:
        """How many calls there were of this verb whose key matches the pattern."""
        wanted = Fault(verb=verb, key=key)
        return sum(1 for call in self.calls if wanted.matches(call))

    @property
    def url(self) -> str:
        """The inner store's."""
        return self.inner.url

    @property
    def place(self) -> str:
        """The inner store's: both show the same objects."""
        return place_of(self.inner)

    @property
    def owner(self) -> Hashable:
        """The inner store's."""
        return owner_of(self.inner)

    def __repr__(self) -> str:
        return f"<FaultyStore {self.inner!r} faults={len(self._faults)} calls={len(self.calls)}>"

    async def get(
        self,
        key: str,
        *,
        range: ByteRange | None = None,  # noqa: A002  # the protocol's name
        version: Version | None = None,
        sink: Sink | None = None,
        max_bytes: int | None = None,
    ) -> Blob | None:
        """See `Readable.get`."""
        struck = self._record(Call("get", key, range, version))

        async def get() -> Blob | None:
            damages = [fault.damage for fault in struck if fault.damage is not None]
            if not damages:
                return await self.inner.get(key, range=range, version=version, sink=sink, max_bytes=max_bytes)
            blob = await self.inner.get(key, range=range, version=version, max_bytes=max_bytes)
            return blob and _damaged(blob, damages, sink)

        return await self._answer(struck, get)

    async def put(self, key: str, data: Buffer, *, when: When = "always") -> Version:
        """See `Writable.put`."""
        struck = self._record(Call("put", key, when=when))
        return await self._answer(struck, lambda: self.inner.put(key, data, when=when))

    async def delete(self, key: str, *, when: Version | Literal["always"] = "always") -> None:
        """See `Writable.delete`."""
        struck = self._record(Call("delete", key, when=when))
        await self._answer(struck, lambda: self.inner.delete(key, when=when))

    async def delete_many(self, keys: Iterable[str]) -> None:
        """See `Writable.delete_many`."""
        doomed = list(keys)
        struck = self._record(Call("delete_many", " ".join(doomed)))
        await self._answer(struck, lambda: self.inner.delete_many(doomed))

    def list_prefix(self, prefix: str = "") -> FaultyEntries:
        """See `Listable.list_prefix`.

        A fault strikes before the first entry, a lost answer after the last.
        """
        struck = self._record(Call("list_prefix", prefix))
        return FaultyEntries(self.inner.list_prefix(prefix), struck, self._before, self._flight)

    async def list_dir(self, prefix: str = "") -> Listing:
        """See `Listable.list_dir`."""
        struck = self._record(Call("list_dir", prefix))
        return await self._answer(struck, lambda: self.inner.list_dir(prefix))

    def _record(self, call: Call) -> list[Fault]:
        """Note the call; the faults that strike it."""
        self.calls.append(call)
        struck = []
        for fault, matching in self._faults:
            if fault.matches(call):
                matching.append(call)
                if fault.strikes(len(matching)):
                    struck.append(fault)
        return struck

    async def _answer(self, struck: list[Fault], act: Callable[[], Awaitable[T]]) -> T:
        with self._flight():
            await self._before(struck)
            result = await act()
            _raise_first(struck, lost_answer=True)
            return result

    @contextmanager
    def _flight(self) -> Iterator[None]:
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            yield
        finally:
            self.in_flight -= 1

    async def _before(self, struck: list[Fault]) -> None:
        for fault in struck:
            if fault.meanwhile is not None:
                await fault.meanwhile()
        delay = self.latency + sum(fault.delay for fault in struck)
        if delay:
            await self._sleep(delay)
        _raise_first(struck, lost_answer=False)


class FaultyEntries:
    """The async iterator of `FaultyStore.list_prefix`."""

    def __init__(
        self,
        inner: AsyncIterator[Entry],
        struck: list[Fault],
        before: Callable[[list[Fault]], Awaitable[None]],
        flight: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._inner = inner
        self._struck = struck
        self._before = before
        self._flight = flight
        self._begun = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Entry:
        with self._flight():
            if not self._begun:
                self._begun = True
                await self._before(self._struck)
            try:
                return await anext(self._inner)
            except StopAsyncIteration:
                _raise_first(self._struck, lost_answer=True)
                raise


def _raise_first(struck: list[Fault], *, lost_answer: bool) -> None:
    for fault in struck:
        if fault.error is not None and fault.lost_answer is lost_answer:
            raise fault.error()


def _damaged(blob: Blob, damages: list[Callable[[bytes], bytes]], sink: Sink | None) -> Blob:
    data = bytes(blob.data)
    for damage in damages:
        data = damage(data)
    if sink is None:
        return Blob(data, blob.version, blob.size, blob.modified)
    memory = sink(len(data))
    memory[:] = data
    return Blob(memory, blob.version, blob.size, blob.modified)
