"""The plan of a selection of single elements: one stable sort groups them, one Part per touched chunk."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from .._grid import Axis, Ints, cells_at, even, places
from .._types import Coords, Shape
from .grouping import bounds, row_major_order, rows
from .parts import ObjectParts, Part
from .selection import Points, Selection


class Groups:
    """The points sorted by object and slot: one group per touched chunk, one run of groups per touched object."""

    __slots__ = (
        "_chunks",
        "_numbers",
        "_shape",
        "coords",
        "covered",
        "local",
        "objects",
        "places",
        "slots",
        "starts",
        "stops",
    )

    def __init__(
        self, points: Points, shape: Shape, out_shape: Shape, chunks: Sequence[Axis], shards: Sequence[Axis] | None
    ) -> None:
        self._chunks = chunks
        self._shape = shape
        numbers = list(map(cells_at, chunks, points))
        # Without shards each object is one chunk, in slot 0.
        keys = [*numbers, np.zeros(numbers[0].size, np.int64)] if shards is None else _keys(numbers, chunks, shards)
        local = [axis - places(chunk, number)[0] for axis, number, chunk in zip(points, numbers, chunks, strict=True)]
        # One sort brings the points of a chunk together, and the chunks of an object.
        order = row_major_order(keys)
        if order is not None:
            keys, numbers, local = (_picked(columns, order) for columns in (keys, numbers, local))
        self.local = local
        self.places: tuple[Ints, ...] | None
        """Where each point goes in the result, per axis; None where point k goes to position k."""
        if len(out_shape) == 1:
            self.places = None if order is None else (order,)
        else:
            self.places = np.unravel_index(np.arange(points[0].size) if order is None else order, out_shape)
        edges = bounds(*keys)
        self.starts, self.stops = edges[:-1], edges[1:]
        *coords, self.slots = _picked(keys, self.starts)
        self.objects = bounds(*coords)
        self.coords = _picked(coords, self.objects[:-1])
        self._numbers = _picked(numbers, self.starts)
        self.covered = self._find_covered()

    @property
    def n(self) -> int:
        """How many groups, that is touched chunks, there are."""
        return self.starts.size

    def n_uncut(self) -> int:
        """How many groups cover their chunk, which lies inside the array."""
        uncut = self.covered.copy()
        for number, n, chunk in zip(self._numbers, self._shape, self._chunks, strict=True):
            starts, lengths = places(chunk, number)
            uncut &= starts + lengths <= n
        return int(np.count_nonzero(uncut))

    def _find_covered(self) -> NDArray[np.bool_]:
        """Per group, whether it has every element of its chunk that lies inside the array."""
        extents = []
        for number, n, chunk in zip(self._numbers, self._shape, self._chunks, strict=True):
            starts, lengths = places(chunk, number)
            extents.append(np.minimum(lengths, n - starts))
        sizes = _product(extents)
        counts = self.stops - self.starts
        covered: NDArray[np.bool_] = counts >= sizes
        # Repeated points must be counted once. A chunk of one element has no partial cover, so it needs no count.
        unsure = covered & (sizes > 1)
        if unsure.any():
            covered &= self._distinct(unsure, counts, extents) >= sizes
        return covered

    def _distinct(self, chosen: NDArray[np.bool_], counts: Ints, extents: list[Ints]) -> Ints:
        """Number of distinct points of each chosen group, and of all points of the others."""
        group = np.repeat(np.arange(self.n), counts)
        wanted = chosen[group]
        group = group[wanted]
        element = np.zeros(group.size, np.int64)
        for local, extent in zip(self.local, extents, strict=True):
            # Number of each point's element inside its chunk, so that repeats are equal numbers.
            element = element * extent[group] + local[wanted]
        # Sorted by group and element, repeated points are neighbours, and `bounds` counts each once.
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

    __slots__ = ("_groups", "_whole", "buffer_shape", "n_chunks", "n_objects", "out_shape")

    basic = False

    def __init__(
        self, selection: Selection, points: Points, chunks: Sequence[Axis], shards: Sequence[Axis] | None
    ) -> None:
        self.out_shape = selection.out_shape
        self.buffer_shape = selection.buffer_shape
        groups = self._groups = Groups(points, selection.shape, selection.buffer_shape, chunks, shards)
        self.n_objects = groups.objects.size - 1
        self.n_chunks = groups.n
        self._whole = None if shards is None else _covered_objects(groups, selection.shape, chunks, shards)

    def partly_covered(self) -> int:
        """How many touched chunks have an element inside the array that is not selected."""
        return self.n_chunks - int(np.count_nonzero(self._groups.covered))

    def n_replaced(self) -> int:
        """How many touched chunks are selected to their very ends, which all lie inside the array."""
        return self._groups.n_uncut()

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


def _keys(numbers: list[Ints], chunks: Sequence[Axis], shards: Sequence[Axis]) -> list[Ints]:
    """Per point, the shard's coordinates and the slot inside it."""
    coords: list[Ints] = []
    slot = np.zeros(numbers[0].size, np.int64)
    for number, chunk, shard in zip(numbers, chunks, shards, strict=True):
        length = even(chunk)
        coords.append(cells_at(shard, number * length))
        starts, lengths = places(shard, coords[-1])
        slot = slot * (lengths // length) + (number - starts // length)
    return [*coords, slot]


def _covered_objects(groups: Groups, shape: Shape, chunks: Sequence[Axis], shards: Sequence[Axis]) -> NDArray[np.bool_]:
    """Per touched shard, whether all of its chunks that lie inside the array are covered."""
    if groups.n == 0:
        return np.zeros(0, np.bool_)
    inside = []
    for number, n, chunk, shard in zip(groups.coords, shape, chunks, shards, strict=True):
        length = even(chunk)
        starts, lengths = places(shard, number)
        inside.append(np.minimum(lengths // length, -(-n // length) - starts // length))
    covered: NDArray[np.bool_] = np.add.reduceat(groups.covered, groups.objects[:-1], dtype=np.int64) == _product(
        inside
    )
    return covered


def _picked(columns: list[Ints], index: Ints) -> list[Ints]:
    return [column[index] for column in columns]


def _product(columns: list[Ints]) -> NDArray[np.float64]:
    """Product of each row, as floats: sizes of chunks may exceed 64 bits, and counts of points stay far below 2**53."""
    product = np.ones(columns[0].size)
    for column in columns:
        product *= column
    return product
