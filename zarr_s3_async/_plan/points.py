"""The plan of a selection of single elements: one stable sort groups them, one Part per touched chunk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from .._types import Coords, Shape
from .grouping import Ints, bounds, row_major_order, rows
from .parts import ObjectParts, Part
from .selection import Points, Selection


class Groups:
    """The points sorted by object and slot, one group per chunk, and one run of groups per object."""

    __slots__ = ("coords", "covered", "local", "objects", "places", "slots", "starts", "stops")

    def __init__(self, points: Points, shape: Shape, out_shape: Shape, chunks: Shape, inner_grid: Shape) -> None:
        numbers = [axis // chunk for axis, chunk in zip(points, chunks, strict=True)]
        keys = _keys(numbers, inner_grid)
        local = [axis - number * chunk for axis, number, chunk in zip(points, numbers, chunks, strict=True)]
        order = row_major_order(keys)
        if order is not None:
            keys, numbers, local = (_picked(columns, order) for columns in (keys, numbers, local))
        self.local = local
        self.places = _places(order, points[0].size, out_shape)
        edges = bounds(*keys)
        self.starts, self.stops = edges[:-1], edges[1:]
        *coords, self.slots = _picked(keys, self.starts)
        self.objects = bounds(*coords)
        self.coords = _picked(coords, self.objects[:-1])
        self.covered = self._find_covered(_picked(numbers, self.starts), shape, chunks)

    @property
    def n(self) -> int:
        """How many groups, that is touched chunks, there are."""
        return self.starts.size

    def _find_covered(self, numbers: list[Ints], shape: Shape, chunks: Shape) -> NDArray[np.bool_]:
        sizes = _inside(numbers, shape, chunks)
        counts = self.stops - self.starts
        covered: NDArray[np.bool_] = counts >= sizes
        # Repeats count once. Where a chunk has one element there is nothing to count.
        unsure = covered & (sizes > 1)
        if unsure.any():
            extents = [np.minimum(c, n - number * c) for number, n, c in zip(numbers, shape, chunks, strict=True)]
            covered &= self._distinct(unsure, counts, extents) >= sizes
        return covered

    def _distinct(self, chosen: NDArray[np.bool_], counts: Ints, extents: list[Ints]) -> Ints:
        """How many different points each chosen group has, and how many points each other one."""
        group = np.repeat(np.arange(self.n), counts)
        wanted = chosen[group]
        group = group[wanted]
        element = np.zeros(group.size, np.int64)
        for local, extent in zip(self.local, extents, strict=True):
            element = element * extent[group] + local[wanted]
        order = np.lexsort((element, group))
        firsts = bounds(group[order], element[order])[:-1]
        distinct = np.bincount(group[order][firsts], minlength=self.n)
        return np.where(chosen, distinct, counts).astype(np.int64, copy=False)

    def parts(self, start: int, stop: int) -> Iterator[Part]:
        """The parts of a run of groups."""
        local, places = self.local, self.places
        for low, high, slot, whole in rows(start, stop, self.starts, self.stops, self.slots, self.covered):
            put = (slice(low, high),) if places is None else tuple([axis[low:high] for axis in places])
            yield Part(slot, tuple([axis[low:high] for axis in local]), put, whole)


class PointsPlan:
    """Holds a few integers per point and per touched chunk."""

    __slots__ = ("_groups", "_selection", "_whole")

    basic = False

    def __init__(self, selection: Selection, points: Points, chunks: Shape, shards: Shape | None) -> None:
        self._selection = selection
        objects = chunks if shards is None else shards
        inner_grid = tuple(shard // chunk for shard, chunk in zip(objects, chunks, strict=True))
        self._groups = Groups(points, selection.shape, selection.buffer_shape, chunks, inner_grid)
        self._whole = None if shards is None else self._covered_objects(chunks, inner_grid)

    def _covered_objects(self, chunks: Shape, inner_grid: Shape) -> NDArray[np.bool_]:
        groups = self._groups
        if groups.n == 0:
            return np.zeros(0, np.bool_)
        grid = tuple(-(-size // chunk) for size, chunk in zip(self._selection.shape, chunks, strict=True))
        covered: NDArray[np.bool_] = np.add.reduceat(groups.covered, groups.objects[:-1], dtype=np.int64) == _inside(
            groups.coords, grid, inner_grid
        )
        return covered

    @property
    def out_shape(self) -> Shape:
        """Shape of the result."""
        return self._selection.out_shape

    @property
    def buffer_shape(self) -> Shape:
        """Shape that `Part.put` indexes into."""
        return self._selection.buffer_shape

    @property
    def n_objects(self) -> int:
        """How many objects are touched."""
        return self._groups.objects.size - 1

    @property
    def n_chunks(self) -> int:
        """How many chunks are touched, over all objects."""
        return self._groups.n

    def partly_covered(self) -> int:
        """How many touched chunks have an element inside the array that is not selected."""
        return self.n_chunks - int(np.count_nonzero(self._groups.covered))

    def objects(self) -> Iterator[tuple[Coords, Sequence[Part]]]:
        """Object coordinates with their parts, one object at a time, in row-major order."""
        groups = self._groups
        coords = rows(0, self.n_objects, *groups.coords)
        if self._whole is None:
            return zip(coords, ((part,) for part in groups.parts(0, groups.n)), strict=True)
        return zip(coords, self._object_parts(self._whole), strict=True)

    def _object_parts(self, whole: NDArray[np.bool_]) -> Iterator[Sequence[Part]]:
        edges = self._groups.objects
        for start, stop, covered in rows(0, self.n_objects, edges[:-1], edges[1:], whole):
            yield PointParts(self._groups, start, stop, covered)


class PointParts(ObjectParts):
    """The parts of one object, made from its run of groups."""

    __slots__ = ("_groups", "_start", "_stop", "_whole")

    def __init__(self, groups: Groups, start: int, stop: int, whole: bool) -> None:
        self._groups = groups
        self._start = start
        self._stop = stop
        self._whole = whole

    @property
    def whole(self) -> bool:
        """True where the parts cover every element of the object that lies inside the array."""
        return self._whole

    def __len__(self) -> int:
        return self._stop - self._start

    def __iter__(self) -> Iterator[Part]:
        return self._groups.parts(self._start, self._stop)

    def _part(self, index: int) -> Part:
        return next(self._groups.parts(self._start + index, self._start + index + 1))


def _keys(numbers: list[Ints], inner_grid: Shape) -> list[Ints]:
    """Per point, the object's coordinates and the slot inside it."""
    if all(extent == 1 for extent in inner_grid):
        return [*numbers, np.zeros(numbers[0].size, np.int64)]
    coords: list[Ints] = []
    slot = np.zeros(numbers[0].size, np.int64)
    for number, extent in zip(numbers, inner_grid, strict=True):
        coords.append(number // extent)
        slot = slot * extent + number % extent
    return [*coords, slot]


def _places(order: Ints | None, n: int, out_shape: Shape) -> tuple[Ints, ...] | None:
    """Where each point goes in the result; None where that is its number."""
    if len(out_shape) == 1:
        return None if order is None else (order,)
    return np.unravel_index(np.arange(n) if order is None else order, out_shape)


def _picked(columns: list[Ints], index: Ints) -> list[Ints]:
    return [column[index] for column in columns]


def _inside(coords: list[Ints], size: Shape, cell: Shape) -> NDArray[np.float64]:
    """How much of each cell lies inside the array. Floats: no count comes near 2**53."""
    inside = np.ones(coords[0].size)
    for number, n, length in zip(coords, size, cell, strict=True):
        inside *= np.minimum(length, n - number * length)
    return inside
