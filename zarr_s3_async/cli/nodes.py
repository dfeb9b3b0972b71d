"""Arrays and groups as fields of JSON, and in a few words."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any, TypeAlias

import zarr_s3_async as zs

from . import units

Node: TypeAlias = "zs.Array | zs.Group | zs.UnreadableNode"


def described(node: Node) -> dict[str, Any]:
    """What a node is, without what is stored of it."""
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
    """An array in a few words."""
    meta = array.metadata
    shards = f", shards {units.cells(meta.object_axes)}" if meta.shards else ""
    return f"{array.dtype}  {units.shape(array.shape)}  chunks {units.cells(meta.chunk_axes)}{shards}"


def in_words(node: Node) -> str:
    """A member of a group in a few words."""
    if isinstance(node, zs.UnreadableNode):
        return f"unreadable: {' '.join(str(node.error).split())}"
    return about(node) if isinstance(node, zs.Array) else "group"


async def below(group: zs.Group, prefix: str = "") -> AsyncIterator[tuple[str, Node]]:
    """(path, node) of everything below a group, parents first."""
    async for name, node in group.members():
        path = f"{prefix}{name}"
        yield path, node
        if isinstance(node, zs.Group):
            async for found in below(node, f"{path}/"):
                yield found
