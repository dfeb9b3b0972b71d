"""What a session remembers of shard indexes: the least recently used are forgotten first, under a bound of bytes."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, Self, TypeAlias

import numpy as np

from .._types import Version

Entries: TypeAlias = np.ndarray[Any, np.dtype[Any]]


@dataclass(frozen=True, slots=True)
class ShardIndex:
    """The decoded index of one state of one shard."""

    entries: Entries
    """(chunks, 2): offset and length."""
    version: Version
    """The state that it describes: ranges are asked for under it."""


class IndexCache:
    """Shard indexes by store and key."""

    __slots__ = ("_indexes", "_loads", "limit", "nbytes")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.nbytes = 0
        self._indexes: OrderedDict[str, ShardIndex] = OrderedDict()
        self._loads: dict[str, list[Load]] = {}

    def __len__(self) -> int:
        return len(self._indexes)

    def get(self, name: str) -> ShardIndex | None:
        """The index, which thereby is the most recently used."""
        index = self._indexes.get(name)
        if index is not None:
            self._indexes.move_to_end(name)
        return index

    def load(self, name: str) -> Load:
        """While this context is entered, an index of that name is being read: `Load.keep` remembers it."""
        return Load(self, name)

    def put(self, name: str, index: ShardIndex) -> None:
        """Remember it, and forget others for it; one above the bound is not remembered."""
        self._drop(name)
        if index.entries.nbytes > self.limit:
            return
        self._indexes[name] = index
        self.nbytes += index.entries.nbytes
        while self.nbytes > self.limit:
            self._drop(next(iter(self._indexes)))

    def forget(self, name: str) -> None:
        """Forget one, and what is being read of it; not known is fine."""
        self._drop(name)
        for load in self._loads.get(name, ()):
            load.stale = True

    def forget_below(self, prefix: str) -> None:
        """Forget all whose name starts with `prefix`."""
        for name in [name for name in (*self._indexes, *self._loads) if name.startswith(prefix)]:
            self.forget(name)

    def _drop(self, name: str) -> None:
        index = self._indexes.pop(name, None)
        if index is not None:
            self.nbytes -= index.entries.nbytes

    def _began(self, load: Load) -> None:
        self._loads.setdefault(load.name, []).append(load)

    def _ended(self, load: Load) -> None:
        loads = self._loads[load.name]
        loads.remove(load)
        if not loads:
            del self._loads[load.name]


class Load:
    """An index on its way. Where it is forgotten meanwhile, it is read, and not remembered: it may be the old one."""

    __slots__ = ("_cache", "name", "stale")

    def __init__(self, cache: IndexCache, name: str) -> None:
        self._cache = cache
        self.name = name
        self.stale = False

    def __enter__(self) -> Self:
        self._cache._began(self)  # noqa: SLF001  # one room
        return self

    def __exit__(self, *_: object) -> None:
        self._cache._ended(self)  # noqa: SLF001  # one room

    def keep(self, index: ShardIndex) -> None:
        """Remember what was read."""
        if not self.stale:
            self._cache.put(self.name, index)
