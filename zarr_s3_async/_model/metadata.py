"""The neutral model of an array and of a group, and the differences between two descriptions of one node.

v2 and v3 documents are converted to it when a node is opened; reads and writes do not depend on the format.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from math import prod
from typing import Any, Literal

import numpy as np

from .._grid import Axis, grid_shape
from .._types import JSON, CodecSpec, Coords, Shape
from .keys import KeyClass, KeyEncoding, classify_key


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class ArrayMeta:
    """Metadata of an array."""

    shape: Shape
    dtype: np.dtype[Any]
    """Dtype of the elements that a read returns."""
    chunks: Shape
    """Shape of the smallest part that can be decoded on its own."""
    shards: Shape | None = None
    """Shape of a stored object where it holds many chunks; None where each chunk is an object."""
    edges: tuple[Axis, ...] | None = None
    """Grid of the stored objects, per dimension, where they differ in shape; `shards` (or `chunks` without shards) then
    has the longest lengths. None where all have one shape."""
    codecs: tuple[CodecSpec, ...]
    """From array to stored object, in encoding order. Where `shards` is set: one `sharding_indexed` codec."""
    fill_value: Any
    """A NumPy scalar of `dtype`; for object dtypes a str or bytes, or None for elements that are arrays, where it means
    an empty array. For other dtypes None is the document's null: elements are read as zero, and times as NaT."""
    keys: KeyEncoding
    order: Literal["C", "F"] = "C"
    dimension_names: tuple[str | None, ...] | None = None
    attributes: Mapping[str, JSON] = field(default_factory=dict)
    zarr_format: Literal[2, 3]
    """Format of the documents; used for messages and edits, but not by reads and writes of chunks."""
    source: Mapping[str, JSON]
    """The document as it was read, so that edits keep members that this library does not use. In v2 the `.zarray`."""
    documents: tuple[str, ...] = ()
    """File names of the node's documents, the one that determines its kind first."""

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def object_shape(self) -> Shape:
        """Elements of one stored object per dimension: a shard, or a chunk where there are no shards; the longest ones
        where objects differ in shape."""
        return self.shards or self.chunks

    @property
    def object_axes(self) -> tuple[Axis, ...]:
        """Grid of the stored objects, per dimension."""
        return self.edges or self.object_shape

    @property
    def chunk_axes(self) -> tuple[Axis, ...]:
        """Grid of the chunks, per dimension; chunks inside shards all have one shape."""
        return self.object_axes if self.shards is None else self.chunks

    @property
    def grid_shape(self) -> Shape:
        """Stored objects per dimension."""
        return grid_shape(self.object_axes, self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def object_nbytes(self) -> int:
        """Decoded bytes of one stored object."""
        return prod(self.object_shape) * self.dtype.itemsize

    def object_key(self, coords: Coords) -> str:
        """Key of an object below the array's own prefix.

        Args:
            coords: Position in the grid of stored objects.

        Returns:
            The key, relative to the array's prefix.
        """
        return self.keys.encode(coords)

    def classify_key(self, key: str) -> KeyClass:
        """Classify the object at `key`, relative to the array's prefix.

        Args:
            key: Relative to the array's prefix; not the name of a metadata document.

        Returns:
            `chunk` or `extra` with the position, or `foreign`, with the reason.
        """
        return classify_key(key, self.keys, self.grid_shape)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class GroupMeta:
    """Metadata of a group."""

    attributes: Mapping[str, JSON] = field(default_factory=dict)
    zarr_format: Literal[2, 3]
    source: Mapping[str, JSON]
    """The document as it was read. In v2 the `.zgroup`."""
    consolidated: Mapping[str, Mapping[str, JSON]] | None = None
    """Documents of the nodes below, by path below this group and by file name, where the group has consolidated
    metadata. `formats.parse_node` takes the documents of one node."""
    documents: tuple[str, ...] = ()
    """File names of the node's documents, the one that determines its kind first; without consolidated metadata."""


_FIELDS = ("shape", "dtype", "chunks", "shards", "edges", "keys", "order", "dimension_names")


def differences(one: ArrayMeta | GroupMeta, other: ArrayMeta | GroupMeta) -> list[str]:
    """Names of the properties in which two descriptions differ; empty where readers of both get the same data.

    Different forms of one value, and codec options that only one of them names, are not differences.
    """
    if isinstance(one, ArrayMeta) and isinstance(other, ArrayMeta):
        return list(_of_arrays(one, other))
    if type(one) is not type(other):
        return ["node type"]
    return [] if same(one.attributes, other.attributes) else ["attributes"]


def _of_arrays(one: ArrayMeta, other: ArrayMeta) -> Iterator[str]:
    yield from (name for name in _FIELDS if getattr(one, name) != getattr(other, name))
    if len(one.codecs) != len(other.codecs) or not all(map(_agree, one.codecs, other.codecs)):
        yield "codecs"
    # With another data type the fill value differs in any case; naming both would be noise.
    if one.dtype == other.dtype and not _same_fill(one.fill_value, other.fill_value):
        yield "fill_value"
    if not same(one.attributes, other.attributes):
        yield "attributes"


def _agree(one: Any, other: Any) -> bool:
    """True where two values agree in all members that both have."""
    match _neutral(one), _neutral(other):
        case (Mapping() as first, Mapping() as second):
            return all(_agree(first[name], second[name]) for name in first.keys() & second.keys())
        case (list() | tuple() as first, list() | tuple() as second):
            return len(first) == len(second) and all(map(_agree, first, second))
        case (first, second):
            return same(first, second)


def _neutral(codec: Any) -> Any:
    """The long form of a codec; other values unchanged."""
    return {"name": codec.name, "configuration": codec.configuration} if isinstance(codec, CodecSpec) else codec


def _same_fill(one: Any, other: Any) -> bool:
    """Compare bit by bit: NaN equals itself, and -0.0 differs from 0.0."""
    if isinstance(one, np.generic) and isinstance(other, np.generic):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    return type(one) is type(other) and bool(one == other)


def same(one: JSON, other: JSON) -> bool:
    """True for equal JSON values; NaN equals itself, and true differs from 1."""
    match one, other:
        case (Mapping(), Mapping()):
            return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
        case (list() | tuple(), list() | tuple()):
            return len(one) == len(other) and all(map(same, one, other))
        case (float(), float()) if one != one and other != other:  # NaN
            return True
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
