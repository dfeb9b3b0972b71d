"""Boxes of an array: axis-parallel blocks, and how grids divide them. Pure arithmetic."""

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
        """The box as a NumPy index into the whole array."""
        return tuple(map(slice, self.start, self.stop))

    def within(self, origin: Shape) -> tuple[Any, ...]:
        """The box as a NumPy index into an array that starts at element `origin` of the whole array.

        Indexing with it always gives a view.
        """
        # The ellipsis makes an array without dimensions give a view instead of a scalar.
        return (*(slice(a - o, b - o) for a, b, o in zip(self.start, self.stop, origin, strict=True)), ...)

    def overlaps(self, other: Box) -> bool:
        """True if the boxes have an element in common."""
        return self.intersection(other).size > 0

    def intersection(self, other: Box) -> Box:
        """The elements that both boxes contain: a box of size 0 if there are none."""
        start = tuple(map(max, self.start, other.start))
        return Box(start, tuple(max(low, min(a, b)) for low, a, b in zip(start, self.stop, other.stop, strict=True)))

    def joined(self, other: Box) -> Box | None:
        """The union of two adjacent boxes if it is a box, else None."""
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
    """The box of all elements of an array."""
    return Box((0,) * len(shape), shape)


def region_of(key: Any, shape: Shape) -> Box:
    """The box that a NumPy index of slices selects; None and `...` select the whole array.

    Raises:
        SelectionError: The index contains something other than slices of step 1.
    """
    if key is None:
        return whole(shape)
    if isinstance(key, Box):
        key = key.place
    chosen = selection.basic(key, shape)
    axes: list[tuple[int, int]] = []
    for axis in chosen.wanted:
        if not isinstance(axis, Stride) or axis.step != 1 or axis.reverse or not axis.keep:
            raise SelectionError(f"a region must be one slice without a step per dimension, not {key!r}")
        axes.append((axis.first, axis.first + axis.number))
    if len(chosen.out_shape) != len(shape):
        raise SelectionError(f"a region must not add axes, as {key!r} does")
    return Box(tuple(low for low, _ in axes), tuple(high for _, high in axes))


def cells(box: Box, axes: Sequence[Axis], skip: int = 0) -> Iterator[Box]:
    """The parts of a box in each cell of a grid, in row-major order, without the first `skip`.

    The grid starts at the array's origin. Cells are generated one at a time: a grid may have billions of them.
    """
    for coords in islice(coords_in(box, axes), skip, None):
        yield cell(coords, axes).intersection(box)


def n_cells(box: Box, axes: Sequence[Axis]) -> int:
    """The number of boxes that `cells` generates."""
    return prod(len(_numbers(axis, low, high)) for axis, low, high in zip(axes, box.start, box.stop, strict=True))


def coords_in(box: Box, axes: Sequence[Axis]) -> Iterator[Coords]:
    """Grid coordinates of the cells that a box intersects, in row-major order."""
    return product(*(_numbers(axis, low, high) for axis, low, high in zip(axes, box.start, box.stop, strict=True)))


def coords_between(box: Box, axes: Sequence[Axis], start: int, stop: int) -> Iterator[Coords]:
    """Items `start` to `stop` (exclusive) of `coords_in`, computed without iterating over the items before."""
    numbers = [_numbers(axis, low, high) for axis, low, high in zip(axes, box.start, box.stop, strict=True)]
    for flat in range(start, min(stop, prod(map(len, numbers)))):
        rest, coords = flat, []
        for along in reversed(numbers):
            rest, at = divmod(rest, len(along))
            coords.append(along[at])
        yield tuple(reversed(coords))


def number_in(coords: Coords, box: Box, axes: Sequence[Axis]) -> int:
    """The position of a cell in `coords_in`."""
    number = 0
    for at, axis, low, high in zip(coords, axes, box.start, box.stop, strict=True):
        along = _numbers(axis, low, high)
        number = number * len(along) + at - along.start
    return number


def cells_at(position: Shape, axes: Sequence[Axis]) -> Coords:
    """Coordinates of the cell that contains a position."""
    return tuple(map(cell_at, axes, position))


def cell(coords: Coords, axes: Sequence[Axis]) -> Box:
    """The box of a grid cell, which may extend beyond the array's edge."""
    places = [place(axis, at) for axis, at in zip(axes, coords, strict=True)]
    return Box(tuple(start for start, _ in places), tuple(start + length for start, length in places))


def _numbers(axis: Axis, low: int, high: int) -> range:
    return range(cell_at(axis, low), cell_at(axis, high - 1) + 1) if low < high else range(0)


def is_aligned(box: Box, axes: Sequence[Axis], shape: Shape) -> bool:
    """True if the box contains each cell of the grid completely or not at all, apart from cells at the array's edge."""
    if not box.size:
        return True
    for axis, low, high, n in zip(axes, box.start, box.stop, shape, strict=True):
        if place(axis, cell_at(axis, low))[0] != low or (
            high != n and sum(place(axis, cell_at(axis, high - 1))) != high
        ):
            return False
    return True
