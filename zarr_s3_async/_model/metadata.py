"""The neutral model of an array and of a group: v2 and v3 become this at open, and nobody asks again."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal

import numpy as np

from .._types import JSON, CodecSpec, Coords, Shape
from .keys import KeyEncoding


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ArrayMeta:
    """What an array is."""

    shape: Shape
    dtype: np.dtype[Any]
    """What a read returns."""
    chunks: Shape
    """The smallest part that decodes on its own."""
    shards: Shape | None = None
    """Shape of a stored object where it holds many chunks; None where each chunk is an object."""
    codecs: tuple[CodecSpec, ...]
    """From array to stored object, in encoding order. Where `shards` is set: one `sharding_indexed` codec."""
    fill_value: Any
    """A NumPy scalar of `dtype`; a str or bytes for object dtypes, or None for arrays of varying length,
    where it means an empty one. For other dtypes None is the null of v2: read as zero."""
    keys: KeyEncoding
    order: Literal["C", "F"] = "C"
    dimension_names: tuple[str | None, ...] | None = None
    attributes: Mapping[str, JSON] = field(default_factory=dict)
    zarr_format: Literal[2, 3]
    """Where it came from; for messages and edits of the source, never for a decision in a read or write."""
    source: Mapping[str, JSON]
    """The document as it was read, so that an edit keeps what others put there. In v2 the `.zarray`."""
    documents: tuple[str, ...] = ()
    """File names that this is stored under, the deciding one first."""

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def object_shape(self) -> Shape:
        """Elements of one stored object per dimension: a shard, or a chunk where there are no shards."""
        return self.shards or self.chunks

    @property
    def grid_shape(self) -> Shape:
        """Stored objects per dimension."""
        return tuple(-(-n // c) for n, c in zip(self.shape, self.object_shape, strict=True))

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def object_nbytes(self) -> int:
        """Decoded bytes of one stored object."""
        return prod(self.object_shape) * self.dtype.itemsize

    def object_key(self, coords: Coords) -> str:
        """Key of an object below the array's own prefix."""
        return self.keys.encode(coords)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GroupMeta:
    """What a group is."""

    attributes: Mapping[str, JSON] = field(default_factory=dict)
    zarr_format: Literal[2, 3]
    source: Mapping[str, JSON]
    """The document as it was read. In v2 the `.zgroup`."""
    consolidated: Mapping[str, Mapping[str, JSON]] | None = None
    """Documents of the nodes below where the group carries them: by path below this group, then by file name.

    Each is what `formats.parse_node` takes.
    """
    documents: tuple[str, ...] = ()
    """File names that this is stored under, the deciding one first; not those of consolidated metadata."""
