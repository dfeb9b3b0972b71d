"""A store wrapper that injects errors, delays and corrupted data, and records its calls."""

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
    """The key or the prefix; for `delete_many` the keys, joined by spaces."""
    range: ByteRange | None = None
    version: Version | None = None
    when: When = "always"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fault:
    """A fault to inject: first `meanwhile` runs, then the delay, then the call itself or the error.

    It applies to the matching calls number `nth` to `nth + times - 1`.
    """

    verb: Verb | None = None
    """None: any verb."""
    key: str = "*"
    """Pattern of `fnmatch`; `*` matches slashes too."""
    nth: int = 1
    times: int | None = 1
    """None: all calls from the nth on."""
    error: Callable[[], Exception] | None = None
    """Creates the error to raise, for example `lambda: NetworkError("reset")`."""
    lost_answer: bool = False
    """Make the call and then raise the error, as if the response was lost."""
    delay: float = 0.0
    """Seconds before the call."""
    damage: Callable[[bytes], bytes] | None = None
    """Changes the bytes that a get returns, as corruption in transit would."""
    meanwhile: Callable[[], Awaitable[object]] | None = None
    """Runs before the call, to simulate another writer."""

    def __post_init__(self) -> None:
        if self.lost_answer and self.error is None:
            raise ValueError("lost_answer=True needs error=, the error that the caller gets")

    def matches(self, call: Call) -> bool:
        """True if the fault counts this call.

        Args:
            call: A call of a verb with its key.

        Returns:
            False for another verb or key.
        """
        return self.verb in (None, call.verb) and fnmatchcase(call.key, self.key)

    def strikes(self, number: int) -> bool:
        """True if the fault applies to the matching call of this number, counted from 1.

        Args:
            number: Number of the call among those that match.

        Returns:
            False before the `nth` call, and after `times` calls.
        """
        return number >= self.nth and (self.times is None or number < self.nth + self.times)


class FaultyStore:
    """Passes every operation to `inner`, with the given faults injected.

    Args:
        inner: The wrapped store.
        faults: Faults to inject, in the order in which they apply; `add` adds more.
        latency: Seconds that every call waits.
        sleep: Function to wait that many seconds; tests in virtual time pass their own.
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
        """All calls, in order."""
        self.in_flight: int = 0
        self.peak: int = 0
        """Maximum number of calls that were in flight at once."""
        self._sleep = sleep
        self._faults: list[tuple[Fault, list[Call]]] = []
        for fault in faults:
            self.add(fault)

    def add(self, fault: Fault) -> None:
        """Add a fault; it counts calls from now on.

        Args:
            fault: The fault.
        """
        self._faults.append((fault, []))

    def clear(self) -> None:
        """Remove the faults and the recorded calls, and reset the peak."""
        self._faults.clear()
        self.calls.clear()
        self.peak = self.in_flight

    def count(self, verb: Verb | None = None, key: str = "*") -> int:
        """Number of calls of this verb whose key matches the pattern.

        Args:
            verb: The verb; None: any.
            key: A pattern, as of `fnmatch`.

        Returns:
            Calls since the store was created or cleared.
        """
        wanted = Fault(verb=verb, key=key)
        return sum(1 for call in self.calls if wanted.matches(call))

    @property
    def url(self) -> str:
        """URL of the inner store."""
        return self.inner.url

    @property
    def place(self) -> str:
        """Place of the inner store, since both contain the same objects."""
        return place_of(self.inner)

    @property
    def owner(self) -> Hashable:
        """Owner of the inner store."""
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
        applied = self._record(Call("get", key, range, version))

        async def get() -> Blob | None:
            damages = [fault.damage for fault in applied if fault.damage is not None]
            if not damages:
                return await self.inner.get(key, range=range, version=version, sink=sink, max_bytes=max_bytes)
            # Without the sink: damage may change the length, and the caller's memory gets the damaged bytes.
            blob = await self.inner.get(key, range=range, version=version, max_bytes=max_bytes)
            return blob and _damaged(blob, damages, sink)

        return await self._run(applied, get)

    async def put(self, key: str, data: Buffer, *, when: When = "always") -> Version:
        """See `Writable.put`."""
        applied = self._record(Call("put", key, when=when))
        return await self._run(applied, lambda: self.inner.put(key, data, when=when))

    async def delete(self, key: str, *, when: Version | Literal["always"] = "always") -> None:
        """See `Writable.delete`."""
        applied = self._record(Call("delete", key, when=when))
        await self._run(applied, lambda: self.inner.delete(key, when=when))

    async def delete_many(self, keys: Iterable[str]) -> None:
        """See `Writable.delete_many`."""
        # Recorded and passed on: an iterator could be used only once.
        all_keys = list(keys)
        applied = self._record(Call("delete_many", " ".join(all_keys)))
        await self._run(applied, lambda: self.inner.delete_many(all_keys))

    def list_prefix(self, prefix: str = "") -> FaultyEntries:
        """See `Listable.list_prefix`.

        A fault applies before the first entry, a lost answer after the last.
        """
        applied = self._record(Call("list_prefix", prefix))
        return FaultyEntries(self.inner.list_prefix(prefix), applied, self._before, self._flight)

    async def list_dir(self, prefix: str = "") -> Listing:
        """See `Listable.list_dir`."""
        applied = self._record(Call("list_dir", prefix))
        return await self._run(applied, lambda: self.inner.list_dir(prefix))

    def _record(self, call: Call) -> list[Fault]:
        """Record the call and return the faults that apply to it."""
        self.calls.append(call)
        applied = []
        for fault, matching in self._faults:
            if fault.matches(call):
                matching.append(call)
                if fault.strikes(len(matching)):
                    applied.append(fault)
        return applied

    async def _run(self, applied: list[Fault], act: Callable[[], Awaitable[T]]) -> T:
        with self._flight():
            await self._before(applied)
            result = await act()
            _raise_first(applied, lost_answer=True)
            return result

    @contextmanager
    def _flight(self) -> Iterator[None]:
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)
        try:
            yield
        finally:
            self.in_flight -= 1

    async def _before(self, applied: list[Fault]) -> None:
        for fault in applied:
            if fault.meanwhile is not None:
                await fault.meanwhile()
        # After `meanwhile`, so that another writer has finished before the call goes on.
        delay = self.latency + sum(fault.delay for fault in applied)
        if delay:
            await self._sleep(delay)
        _raise_first(applied, lost_answer=False)


class FaultyEntries:
    """The async iterator of `FaultyStore.list_prefix`."""

    def __init__(
        self,
        inner: AsyncIterator[Entry],
        applied: list[Fault],
        before: Callable[[list[Fault]], Awaitable[None]],
        flight: Callable[[], AbstractContextManager[None]],
    ) -> None:
        self._inner = inner
        self._applied = applied
        self._before = before
        self._flight = flight
        self._begun = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Entry:
        with self._flight():
            if not self._begun:
                self._begun = True
                await self._before(self._applied)
            try:
                return await anext(self._inner)
            except StopAsyncIteration:
                _raise_first(self._applied, lost_answer=True)
                raise


def _raise_first(applied: list[Fault], *, lost_answer: bool) -> None:
    for fault in applied:
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
