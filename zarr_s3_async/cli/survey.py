"""What is stored of an array: its objects counted and summed from a listing, without reading one."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from .._array import Array
from ..stores.base import Store

ObjectKind: TypeAlias = Literal["chunk", "metadata", "other"]

_DOCUMENTS = frozenset({".zarray", ".zattrs", ".zgroup", ".zmetadata", "zarr.json"})


@dataclass(slots=True)
class Tally:
    """Objects and their bytes."""

    objects: int = 0
    nbytes: int = 0

    def add(self, nbytes: int) -> None:
        """One more."""
        self.objects += 1
        self.nbytes += nbytes


def kind_of_object(key: str, array: Array | None) -> ObjectKind:
    """What the object at `key`, relative to the array, is to it."""
    if key in _DOCUMENTS:
        return "metadata"
    if array is not None and is_chunk(key, array):
        return "chunk"
    return "other"


def is_chunk(key: str, array: Array) -> bool:
    """True for the key of a chunk (or shard) that lies inside the array."""
    coords = array.metadata.keys.decode(key, array.ndim)
    return coords is not None and all(i < n for i, n in zip(coords, array.metadata.grid_shape, strict=True))


@dataclass(frozen=True, slots=True)
class Survey:
    """What was counted below an array."""

    tallies: dict[ObjectKind, Tally]
    is_whole: bool
    """False where counting ended at its limit, before the listing did."""


async def survey(store: Store, array: Array, *, limit: int | None = None) -> Survey:
    """Count what is below the array's prefix, `limit` objects at most."""
    tallies: dict[ObjectKind, Tally] = {"chunk": Tally(), "metadata": Tally(), "other": Tally()}
    if limit == 0:
        return Survey(tallies, is_whole=False)
    counted = 0
    async for entry in store.list_prefix():
        if counted == limit:
            return Survey(tallies, is_whole=False)
        counted += 1
        tallies[kind_of_object(entry.key, array)].add(entry.size)
    return Survey(tallies, is_whole=True)
