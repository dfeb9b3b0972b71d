"""What a session remembers of objects: the least recently used are forgotten first, under a bound of bytes."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Generic, Self, TypeAlias, TypeVar

import numpy as np

from .._types import Version

Entries: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Chunks: TypeAlias = Mapping[int, np.ndarray[Any, np.dtype[Any]] | None]
"""Decoded chunks of one object by slot; None where the chunk is absent."""
T = TypeVar("T")

_PER_CHUNK = 200
"""Bytes that a remembered chunk takes beside its elements, and an absent one altogether; about."""


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """The decoded index of one state of one shard."""

    entries: Entries
    """(chunks, 2): offset and length."""
    version: Version
    """The state that it describes: ranges are asked for under it."""


class Cache(Generic[T]):
    """Values by the URL of their object."""

    __slots__ = ("_loads", "_size_of", "_values", "limit", "nbytes")

    def __init__(self, limit: int, size_of: Callable[[T], int]) -> None:
        self.limit = limit
        self.nbytes = 0
        self._size_of = size_of
        self._values: OrderedDict[str, T] = OrderedDict()
        self._loads: dict[str, list[Load[T]]] = {}

    def __len__(self) -> int:
        return len(self._values)

    def get(self, name: str) -> T | None:
        """The value, which thereby is the most recently used."""
        value = self._values.get(name)
        if value is not None:
            self._values.move_to_end(name)
        return value

    def peek(self, name: str) -> T | None:
        """The value, without using it."""
        return self._values.get(name)

    def load(self, name: str) -> Load[T]:
        """While this context is entered, a value of that name is being read: `Load.keep` remembers it."""
        return Load(self, name)

    def put(self, name: str, value: T) -> None:
        """Remember it, and forget others for it; one above the bound is not remembered."""
        self._drop(name)
        size = self._size_of(value)
        if size > self.limit:
            return
        self._values[name] = value
        self.nbytes += size
        while self.nbytes > self.limit:
            self._drop(next(iter(self._values)))

    def forget(self, name: str) -> None:
        """Forget one, and what is being read of it; not known is fine."""
        self._drop(name)
        for load in self._loads.get(name, ()):
            load.stale = True

    def forget_below(self, prefix: str) -> None:
        """Forget all whose name starts with `prefix`."""
        for name in [name for name in (*self._values, *self._loads) if name.startswith(prefix)]:
            self.forget(name)

    def _drop(self, name: str) -> None:
        value = self._values.pop(name, None)
        if value is not None:
            self.nbytes -= self._size_of(value)

    def _began(self, load: Load[T]) -> None:
        self._loads.setdefault(load.name, []).append(load)

    def _ended(self, load: Load[T]) -> None:
        loads = self._loads[load.name]
        loads.remove(load)
        if not loads:
            del self._loads[load.name]


class IndexCache(Cache[ShardIndex]):
    """Shard indexes."""

    __slots__ = ()

    def __init__(self, limit: int) -> None:
        super().__init__(limit, lambda index: index.entries.nbytes)


class ChunkCache(Cache[Chunks]):
    """Decoded chunks. Nobody may change one."""

    __slots__ = ()

    def __init__(self, limit: int) -> None:
        super().__init__(limit, _nbytes_of)

    def add(self, load: Load[Chunks], chunks: Chunks) -> None:
        """Remember these beside the others of their object, or alone where they are too many together."""
        together = {**(self.get(load.name) or {}), **chunks}
        load.keep(together if _nbytes_of(together) <= self.limit else chunks)


def _nbytes_of(chunks: Chunks) -> int:
    return sum(_PER_CHUNK + (0 if chunk is None else chunk.nbytes) for chunk in chunks.values())


class Load(Generic[T]):
    """A value on its way. Where it is forgotten meanwhile, it is read, and not remembered: it may be the old one."""

    __slots__ = ("_cache", "name", "stale")

    def __init__(self, cache: Cache[T], name: str) -> None:
        self._cache = cache
        self.name = name
        self.stale = False

    def __enter__(self) -> Self:
        self._cache._began(self)  # noqa: SLF001  # one room
        return self

    def __exit__(self, *_: object) -> None:
        self._cache._ended(self)  # noqa: SLF001  # one room

    def keep(self, value: T) -> None:
        """Remember what was read."""
        if not self.stale:
            self._cache.put(self.name, value)
