"""What a session remembers of shard indexes: the least recently used are forgotten first, under a bound of bytes."""

from __future__ import annotations

from collections import OrderedDict
from dataclasses import dataclass
from typing import Any, TypeAlias

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

    __slots__ = ("_indexes", "limit", "nbytes")

    def __init__(self, limit: int) -> None:
        self.limit = limit
        self.nbytes = 0
        self._indexes: OrderedDict[str, ShardIndex] = OrderedDict()

    def __len__(self) -> int:
        return len(self._indexes)

    def get(self, name: str) -> ShardIndex | None:
        """The index, which thereby is the most recently used."""
        index = self._indexes.get(name)
        if index is not None:
            self._indexes.move_to_end(name)
        return index

    def put(self, name: str, index: ShardIndex) -> None:
        """Remember it, and forget others for it; one above the bound is not remembered."""
        self.forget(name)
        if index.entries.nbytes > self.limit:
            return
        self._indexes[name] = index
        self.nbytes += index.entries.nbytes
        while self.nbytes > self.limit:
            _, oldest = self._indexes.popitem(last=False)
            self.nbytes -= oldest.entries.nbytes

    def forget(self, name: str) -> None:
        """Forget one; not known is fine."""
        index = self._indexes.pop(name, None)
        if index is not None:
            self.nbytes -= index.entries.nbytes

    def forget_below(self, prefix: str) -> None:
        """Forget all whose name starts with `prefix`."""
        for name in [name for name in self._indexes if name.startswith(prefix)]:
            self.forget(name)
