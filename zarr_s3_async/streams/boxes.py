"""Boxes of an array: axis-parallel blocks, cut by regular grids. Pure arithmetic."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import islice, product
from math import prod
from typing import Any, NamedTuple

from .._grid import Axis, cell_at, place
from .._plan import selection
from .._plan.selection import Stride
from .._types import Coords, Shape
from ..errors import SelectionError


class Box(NamedTuple):
    """Elements `start` (inclusive) to `stop` (exclusive) of each dimension."""

    start: Shape
    stop: Shape

    def __str__(self) -> str:
        return "[" + ", ".join(f"{low}:{high}" for low, high in zip(self.start, self.stop, strict=True)) + "]"

    @property
    def shape(self) -> Shape:
        """Elements per dimension."""
        return tuple(high - low for low, high in zip(self.start, self.stop, strict=True))

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def place(self) -> tuple[slice, ...]:
        """As a NumPy index into the whole array."""
        return tuple(map(slice, self.start, self.stop))

    def within(self, origin: Shape) -> tuple[Any, ...]:
        """As a NumPy index into an array whose first element is the element `origin` of the whole: always a view."""
        # Without the ellipsis, an array of no dimension gives a scalar.
        return (*(slice(a - o, b - o) for a, b, o in zip(self.start, self.stop, origin, strict=True)), ...)

    def meets(self, other: Box) -> bool:
        """True where they have an element in common."""
        return self.intersection(other).size > 0

    def intersection(self, other: Box) -> Box:
        """What both have; of size 0 where that is nothing."""
        start = tuple(map(max, self.start, other.start))
        return Box(start, tuple(max(low, min(a, b)) for low, a, b in zip(start, self.stop, other.stop, strict=True)))

    def joined(self, other: Box) -> Box | None:
        """Both as one box, where they lie side by side and make one; else None."""
        differing = [
            axis
            for axis in range(len(self.start))
            if (self.start[axis], self.stop[axis]) != (other.start[axis], other.stop[axis])
        ]
        if len(differing) != 1:
            return None
        axis = differing[0]
        first, second = (self, other) if self.start[axis] < other.start[axis] else (other, self)
        return Box(first.start, second.stop) if first.stop[axis] == second.start[axis] else None


def whole(shape: Shape) -> Box:
    """All of an array."""
    return Box((0,) * len(shape), shape)


def region_of(key: Any, shape: Shape) -> Box:
    """The box that a NumPy index of slices means; None and `...` are the whole array.

    Raises:
        SelectionError: It is no such index, or holds an integer, a step or an index array.
    """
    if key is None:
        return whole(shape)
    if isinstance(key, Box):
        key = key.place
    chosen = selection.basic(key, shape)
    axes: list[tuple[int, int]] = []
    for axis in chosen.wanted:
        if not isinstance(axis, Stride) or axis.step != 1 or axis.reverse or not axis.keep:
            raise SelectionError(f"a region is made of slices without a step, one per dimension, unlike {key!r}")
        axes.append((axis.first, axis.first + axis.number))
    if len(chosen.out_shape) != len(shape):
        raise SelectionError(f"a region has no new axes, unlike {key!r}")
    return Box(tuple(low for low, _ in axes), tuple(high for _, high in axes))


def cells(box: Box, axes: Sequence[Axis], skip: int = 0) -> Iterator[Box]:
    """The box cut by a grid that begins at the array's origin, row-major, without the first `skip`. Nothing is listed
    ahead."""
    for coords in islice(coords_in(box, axes), skip, None):
        yield cell(coords, axes).intersection(box)


def n_cells(box: Box, axes: Sequence[Axis]) -> int:
    """How many `cells` there are."""
    return prod(len(_numbers(axis, low, high)) for axis, low, high in zip(axes, box.start, box.stop, strict=True))


def coords_in(box: Box, axes: Sequence[Axis]) -> Iterator[Coords]:
    """Grid coordinates of the cells that a box touches, row-major."""
    return product(*(_numbers(axis, low, high) for axis, low, high in zip(axes, box.start, box.stop, strict=True)))


def coords_between(box: Box, axes: Sequence[Axis], start: int, stop: int) -> Iterator[Coords]:
    """Those of `coords_in` from number `start` up to `stop` (exclusive), without going through the ones before."""
    numbers = [_numbers(axis, low, high) for axis, low, high in zip(axes, box.start, box.stop, strict=True)]
    for flat in range(start, min(stop, prod(map(len, numbers)))):
        rest, coords = flat, []
        for along in reversed(numbers):
            rest, at = divmod(rest, len(along))
            coords.append(along[at])
        yield tuple(reversed(coords))


def cells_at(position: Shape, axes: Sequence[Axis]) -> Coords:
    """Coordinates of the cell that holds a position."""
    return tuple(map(cell_at, axes, position))


def cell(coords: Coords, axes: Sequence[Axis]) -> Box:
    """A cell of a grid, in its full length."""
    places = [place(axis, at) for axis, at in zip(axes, coords, strict=True)]
    return Box(tuple(start for start, _ in places), tuple(start + length for start, length in places))


def _numbers(axis: Axis, low: int, high: int) -> range:
    return range(cell_at(axis, low), cell_at(axis, high - 1) + 1) if low < high else range(0)


def is_aligned(box: Box, axes: Sequence[Axis], shape: Shape) -> bool:
    """True where no cell of the grid is cut by the box, but by the array's edge."""
    if not box.size:
        return True
    for axis, low, high, n in zip(axes, box.start, box.stop, shape, strict=True):
        if place(axis, cell_at(axis, low))[0] != low or (
            high != n and sum(place(axis, cell_at(axis, high - 1))) != high
        ):
            return False
    return True
