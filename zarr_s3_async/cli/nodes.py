"""Short descriptions of arrays and groups, as JSON and as text; and counts of an array's stored objects."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import zarr_s3_async as zs

from .._array import Array
from ..stores.base import Store
from . import units

Node: TypeAlias = "zs.Array | zs.Group | zs.UnreadableNode"


def described(node: Node) -> dict[str, Any]:
    """The properties of a node as JSON, without its stored objects."""
    if isinstance(node, zs.UnreadableNode):
        return {"kind": "unreadable", "error": " ".join(str(node.error).split())}
    if isinstance(node, zs.Group):
        return {"kind": "group", "zarr_format": node.metadata.zarr_format}
    meta = node.metadata
    return {
        "kind": "array",
        "zarr_format": meta.zarr_format,
        "shape": list(node.shape),
        "dtype": str(node.dtype),
        "chunks": list(meta.chunk_axes),
        "shards": list(meta.object_axes) if meta.shards else None,
    }


def about(array: zs.Array) -> str:
    """A short description of an array."""
    meta = array.metadata
    shards = f", shards {units.cells(meta.object_axes)}" if meta.shards else ""
    return f"{array.dtype}  {units.shape(array.shape)}  chunks {units.cells(meta.chunk_axes)}{shards}"


def in_words(node: Node) -> str:
    """A short description of a member of a group."""
    if isinstance(node, zs.UnreadableNode):
        return f"unreadable: {' '.join(str(node.error).split())}"
    return about(node) if isinstance(node, zs.Array) else "group"


async def below(group: zs.Group, prefix: str = "") -> AsyncIterator[tuple[str, Node]]:
    """(path, node) of all nodes below a group, parents first."""
    async for name, node in group.members():
        path = f"{prefix}{name}"
        yield path, node
        if isinstance(node, zs.Group):
            async for found in below(node, f"{path}/"):
                yield found


ObjectKind: TypeAlias = Literal["chunk", "metadata", "other"]

_DOCUMENTS = frozenset({".zarray", ".zattrs", ".zgroup", ".zmetadata", "zarr.json"})


@dataclass(slots=True)
class Tally:
    """Objects and their bytes."""

    objects: int = 0
    nbytes: int = 0

    def add(self, nbytes: int) -> None:
        """Count one more object."""
        self.objects += 1
        self.nbytes += nbytes


def kind_of_object(key: str, array: Array | None) -> ObjectKind:
    """The kind of the object at `key`, relative to the array."""
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
    """The counts of objects below an array."""

    tallies: dict[ObjectKind, Tally]
    is_whole: bool
    """False if counting stopped at its limit, before the end of the listing."""


async def survey(store: Store, array: Array, *, limit: int | None = None) -> Survey:
    """Count the objects below the array's prefix, at most `limit`."""
    tallies: dict[ObjectKind, Tally] = {"chunk": Tally(), "metadata": Tally(), "other": Tally()}
    if limit == 0:
        return Survey(tallies, is_whole=False)
    counted = 0
    async for entry in store.list_prefix():
        # One more entry exists, so the count is incomplete.
        if counted == limit:
            return Survey(tallies, is_whole=False)
        counted += 1
        tallies[kind_of_object(entry.key, array)].add(entry.size)
    return Survey(tallies, is_whole=True)
