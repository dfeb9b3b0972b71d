"""A Plan says which objects a selection touches and, lazily, which part of each goes where in the result.

Two grids: an outer one of stored objects and an inner one of chunks inside an object. A plain array has both
equal: one slot per object.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Protocol

from .._types import Coords, Shape
from .axes import AxesPlan
from .parts import ObjectParts, Part, covers_object
from .points import PointsPlan
from .selection import Points, Selection

__all__ = ["ObjectParts", "Part", "Plan", "covers_object", "plan"]


class Plan(Protocol):
    """What the engine pulls from. Making one costs O(ndim) for basic selections; nothing is listed ahead.

    A read fills an array of `buffer_shape` and returns it reshaped to `out_shape`. A write broadcasts its
    values to `out_shape` and reshapes them to `buffer_shape`. The two differ by axes of length 1:
    both are views.
    """

    @property
    def out_shape(self) -> Shape:
        """Shape of the result."""
        ...

    @property
    def buffer_shape(self) -> Shape:
        """Shape that `Part.put` indexes into: the result's without new axes."""
        ...

    @property
    def basic(self) -> bool:
        """True where all indices are slices and integers: `result[put]` and `chunk[take]` then are views.

        A part that is whole may then be received or decoded straight into `result[put]`, if that is
        C-contiguous and has as many elements as a chunk.
        """
        ...

    @property
    def n_objects(self) -> int:
        """How many objects are touched."""
        ...

    @property
    def n_chunks(self) -> int:
        """How many chunks are touched, over all objects."""
        ...

    def partly_covered(self) -> int:
        """How many touched chunks have an unselected element inside the array. O(ndim) where `basic`."""
        ...

    def objects(self) -> Iterator[tuple[Coords, Sequence[Part]]]:
        """Object coordinates with their parts, one object at a time, in row-major order.

        The parts are in the order of their slots. Where objects hold many chunks they are `ObjectParts`, made
        anew each time they are run through.
        """
        ...


def plan(selection: Selection, shape: Shape, chunks: Shape, shards: Shape | None = None) -> Plan:
    """Lay a selection over an array's grids.

    Args:
        selection: Made for an array of this shape.
        shape: The array's.
        chunks: Elements of a chunk per dimension.
        shards: Elements of a stored object per dimension, multiples of the chunk's; None where chunks are.
    """
    if selection.shape != shape:
        raise ValueError(f"the selection was made for an array of shape {selection.shape}, not {shape}")
    wanted = selection.wanted
    if isinstance(wanted, Points):
        return PointsPlan(selection, wanted, chunks, shards)
    return AxesPlan(selection, wanted, chunks, shards)
