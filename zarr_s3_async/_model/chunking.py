"""Chunk and shard shapes: checks of those that a user gives, and the automatic ones."""

from __future__ import annotations

from math import prod
from operator import index
from typing import Any

from .._types import Shape
from .document import MAX_EXTENT
from .dtypes import DataType
from .problems import Invalid, Unknown, short_repr

TARGET_BYTES = 2**20
"""Decoded bytes of a chunk of `chunks="auto"`.

At S3's latency and bandwidth a request of about 1 MiB takes as long for its latency as for its bytes. With smaller
chunks the requests dominate; with larger ones a small read fetches bytes that it does not need.
"""
MAX_CHUNK_BYTES = 2**34
MAX_NDIM = 32
"""NumPy's limit before version 2."""
_MAX_FACTOR = 2**16
"""A shard edge without a smaller factor is treated as a prime, and divided into edges of 1."""
_OBJECT_BYTES = 32
"""Assumed size of an element of varying length, in bytes."""


def shape(option: Any) -> Shape:
    """The shape of an array: integers of at least 0, or one integer for a one-dimensional array."""
    return _integers(option, "shape", minimum=0) if _is_sequence(option) else (_integer(option, "shape", minimum=0),)


def chunks(option: Any, extents: Shape, data_type: DataType, within: Shape | None) -> Shape:
    """The chunk shape.

    Args:
        option: `"auto"`, one number for every dimension, or one per dimension, where -1 or None is the whole dimension.
        extents: Shape of the array.
        data_type: Type of its elements.
        within: Shape of the shards, which an automatic chunk shape must divide.
    """
    if isinstance(option, str):
        if option != "auto":
            raise Invalid(f"chunks must be 'auto' or integers, not {option!r}")
        return _divisors(within, data_type) if within else _halves(extents, data_type)
    return _edges(option, "chunks", extents)


def shards(option: Any, extents: Shape) -> Shape | None:
    """The shard shape, or None for an array without shards."""
    return None if option is None else _edges(option, "shards", extents)


def _edges(option: Any, where: str, extents: Shape) -> Shape:
    edges = option if _is_sequence(option) else (option,) * len(extents)
    if len(edges) != len(extents):
        raise Invalid(f"{where}={short_repr(option)} has {len(edges)} dimensions, and the array has {len(extents)}")
    lengths = tuple(
        # A chunk has at least one element, also along an empty dimension.
        max(extent, 1) if (edge is None or (not isinstance(edge, str) and bool(edge == -1))) else edge
        for edge, extent in zip(edges, extents, strict=True)
    )
    return _integers(lengths, where, minimum=1)


def _is_sequence(option: Any) -> bool:
    return hasattr(option, "__len__") and not isinstance(option, str | bytes | dict)


def _integers(values: Any, where: str, *, minimum: int) -> Shape:
    return tuple(_integer(value, where, minimum=minimum) for value in values)


def _integer(value: Any, where: str, *, minimum: int) -> int:
    try:
        number = index(value)
    except TypeError:
        number = minimum - 1
    if isinstance(value, bool) or not minimum <= number <= MAX_EXTENT:
        raise Invalid(f"{where} must hold integers of at least {minimum}, not {short_repr(value)}")
    return number


def _elements(data_type: DataType) -> int:
    size = _OBJECT_BYTES if data_type.variable else data_type.dtype.itemsize
    return max(1, TARGET_BYTES // size)


def _halves(extents: Shape, data_type: DataType) -> Shape:
    """Halve the longest edge until a chunk is small enough: the result is near a cube, which suits slices along any
    axis equally."""
    edges = [max(extent, 1) for extent in extents]
    wanted = _elements(data_type)
    while prod(edges) > wanted:
        longest = edges.index(max(edges))
        edges[longest] = -(-edges[longest] // 2)
    return tuple(edges)


def _divisors(shard: Shape, data_type: DataType) -> Shape:
    """Divide the longest edge by its smallest factor until a chunk is small enough, so that chunks fill the shard."""
    edges = list(shard)
    wanted = _elements(data_type)
    while prod(edges) > wanted:
        longest = edges.index(max(edges))
        edges[longest] //= _smallest_factor(edges[longest])
    return tuple(edges)


def _smallest_factor(number: int) -> int:
    factor = 2
    while factor * factor <= number and factor < _MAX_FACTOR:
        if number % factor == 0:
            return factor
        factor += 1 if factor == 2 else 2
    return number


def check(extents: Shape, chunk: Shape, object_shape: Shape, data_type: DataType) -> None:
    """Check the limits that every array has, new or stored.

    Raises:
        Invalid: The numbers of dimensions differ.
        Unknown: More dimensions than NumPy supports, or chunks larger than MAX_CHUNK_BYTES.
    """
    for name, edges in (("chunks", chunk), ("stored objects", object_shape)):
        if len(edges) != len(extents):
            raise Invalid(f"the array has {len(extents)} dimensions, its {name} have {len(edges)}")
    if len(extents) > MAX_NDIM:
        raise Unknown(f"the array has {len(extents)} dimensions; {MAX_NDIM} is the maximum")
    size = prod(chunk) * data_type.dtype.itemsize
    if size > MAX_CHUNK_BYTES:
        raise Unknown(f"a chunk takes {size} bytes decoded; {MAX_CHUNK_BYTES} is the maximum")


def resized(extents: Shape, option: Any) -> Shape:
    """The checked new shape of an array of shape `extents`.

    Raises:
        Invalid: It has another number of dimensions, or is not a shape.
    """
    new = shape(option)
    if len(new) != len(extents):
        raise Invalid(
            f"shape={new} has {len(new)} dimensions, but the array has {len(extents)}, which a resize cannot change"
        )
    return new
