"""The plan of a selection that chooses along each axis on its own: regions, basic and orthogonal indexing.

An axis has two grids: of stored objects, and of the chunks inside them. Every cell has its full length; only what lies
inside the array is ever selected, so parts stop at the array's end by themselves. The cells that an evenly spaced
selection touches follow by arithmetic, whatever its length; an index array is grouped by chunk with one sort.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from functools import partial
from math import prod
from typing import NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .._grid import Axis, Edges, Ints, cells_at, even, place, places
from .._types import Coords, Shape
from .grouping import bounds, even_or_indices, even_steps, rows, stable_order
from .parts import Entry, GridParts, Part, Replay, Run, combined, mesh
from .selection import AxisChoice, Selection, Stride


class Cells:
    """The cells of a regular grid that a Stride touches, counted from 0 in ascending order."""

    __slots__ = ("_count", "_first", "_low", "_size", "_sparse", "_step", "length", "n")

    def __init__(self, stride: Stride, size: int, length: int) -> None:
        first, count, step, _, _ = stride
        self.length = length
        self._size = size
        self._first = first
        self._count = count
        self._step = step
        # A step longer than a cell skips cells, and then no two positions share one.
        # Sparse selections need no division by the cell: touched cell k holds position k alone.
        self._sparse = step > length
        self._low = first // length
        if self._sparse or count == 0:
            self.n = count
        else:
            self.n = (first + (count - 1) * step) // length - self._low + 1

    def number(self, cell: int) -> int:
        """Number of a touched cell in the grid."""
        return (self._first + cell * self._step) // self.length if self._sparse else self._low + cell

    def place(self, cell: int) -> tuple[int, int, int]:
        """A touched cell's number in the grid, where it starts, and its length."""
        number = self.number(cell)
        return number, number * self.length, self.length

    def positions(self, cell: int) -> tuple[int, int]:
        """First and one past the last k of the positions inside a touched cell."""
        if self._sparse:
            return cell, cell + 1
        # Distance from the first position to the cell's start; ceiling divisions turn distances into position numbers.
        ahead = (self._low + cell) * self.length - self._first
        step = self._step
        return max(0, -(-ahead // step)), min(self._count, -(-(ahead + self.length) // step))

    def holding(self, k: int) -> int:
        """The touched cell that position k is in."""
        return k if self._sparse else (self._first + k * self._step) // self.length - self._low

    def covered(self, cell: int) -> bool:
        """True where every element of the cell that lies inside the array is selected."""
        start, stop = self.positions(cell)
        return stop - start == min(self.length, self._size - self.number(cell) * self.length)

    def n_covered(self) -> int:
        """How many touched cells are covered."""
        if self.n <= 2:
            return sum(map(self.covered, range(self.n)))
        # All but the first and the last hold as many positions as fit, which is all of them at a step of 1.
        inner = self.n - 2 if self._step == 1 or self.length == 1 else 0
        return inner + self.covered(0) + self.covered(self.n - 1)


class _Segment(NamedTuple):
    """The touched cells of one run of equal edges, as a regular grid that starts where the run does."""

    cells: Cells
    number: int
    """Number of the run's first cell,"""
    start: int
    """and where it starts."""
    k: int
    """First position inside the run."""


class VaryingCells:
    """As `Cells`, of a grid whose cells differ in length. Holds a few integers per touched run of equal edges."""

    __slots__ = ("_first_cells", "_first_ks", "_segments", "n")

    def __init__(self, stride: Stride, size: int, edges: Edges) -> None:
        self._segments = list(_segments(stride, size, edges)) if stride.number else []
        self._first_ks = [segment.k for segment in self._segments]
        self._first_cells: list[int] = []
        self.n = 0
        for segment in self._segments:
            self._first_cells.append(self.n)
            self.n += segment.cells.n

    def _at(self, cell: int) -> tuple[_Segment, int]:
        at = bisect_right(self._first_cells, cell) - 1
        return self._segments[at], cell - self._first_cells[at]

    def number(self, cell: int) -> int:
        """Number of a touched cell in the grid."""
        segment, cell = self._at(cell)
        return segment.number + segment.cells.number(cell)

    def place(self, cell: int) -> tuple[int, int, int]:
        """A touched cell's number in the grid, where it starts, and its length."""
        segment, cell = self._at(cell)
        number, start, length = segment.cells.place(cell)
        return segment.number + number, segment.start + start, length

    def positions(self, cell: int) -> tuple[int, int]:
        """First and one past the last k of the positions inside a touched cell."""
        segment, cell = self._at(cell)
        start, stop = segment.cells.positions(cell)
        return segment.k + start, segment.k + stop

    def holding(self, k: int) -> int:
        """The touched cell that position k is in."""
        at = bisect_right(self._first_ks, k) - 1
        return self._first_cells[at] + self._segments[at].cells.holding(k - self._first_ks[at])

    def covered(self, cell: int) -> bool:
        """True where every element of the cell that lies inside the array is selected."""
        segment, cell = self._at(cell)
        return segment.cells.covered(cell)

    def n_covered(self) -> int:
        """How many touched cells are covered."""
        return sum(segment.cells.n_covered() for segment in self._segments)


def _segments(stride: Stride, size: int, edges: Edges) -> Iterator[_Segment]:
    first, count, step, _, _ = stride
    for run in range(edges.run_at(first), edges.run_at(first + (count - 1) * step) + 1):
        number, start, stop = edges.run_bounds(run)
        # First and one past the last position in this run: both bounds rounded up to whole steps.
        k = max(0, -(-(start - first) // step))
        end = min(count, -(-(stop - first) // step))
        if k < end:  # a step may be longer than a run
            # A Stride of one position has step 1 by definition.
            part = Stride(first + k * step - start, end - k, step if end - k > 1 else 1)
            yield _Segment(Cells(part, min(size, stop) - start, edges.runs[run][0]), number, start, k)


def _cells(stride: Stride, size: int, axis: Axis) -> Cells | VaryingCells:
    return Cells(stride, size, axis) if isinstance(axis, int) else VaryingCells(stride, size, axis)


class StrideAxis:
    """An axis with an evenly spaced selection. On a regular grid O(1) to make and to hold, whatever its length."""

    __slots__ = ("_chunks", "_objects", "_size", "_stride", "n_chunks", "n_objects")

    n_chunks: int
    """Touched chunks along this axis."""
    n_objects: int
    """Touched objects along this axis."""

    def __init__(self, stride: Stride, size: int, chunk: Axis, shard: Axis | None) -> None:
        self._stride = stride
        self._size = size
        self._chunks = _cells(stride, size, chunk)
        self._objects = self._chunks if shard is None else _cells(stride, size, shard)
        self.n_chunks = self._chunks.n
        self.n_objects = self._objects.n

    def n_covered(self) -> int:
        """Touched chunks that are covered along this axis."""
        return self._chunks.n_covered()

    def n_uncut(self) -> int:
        """Touched chunks that are covered along this axis, and end inside the array."""
        covered = self._chunks.n_covered()
        if covered == 0:
            return 0
        last = self.n_chunks - 1
        _, start, length = self._chunks.place(last)
        # Only the last chunk of a regular grid can reach past the array's end.
        return covered - (start + length > self._size and self._chunks.covered(last))

    def entry(self, cell: int) -> Entry:
        """A touched chunk: its number in the grid, what to take of it, where that goes, if it is covered."""
        first, count, step, reverse, keep = self._stride
        number, origin, length = self._chunks.place(cell)
        start, stop = self._chunks.positions(cell)
        covered = stop - start == min(length, self._size - origin)
        low = first + start * step - origin
        # An integer: the axis is dropped from the result, so there is nothing to index in it.
        if not keep:
            return (number,), (low,), (), covered
        high = low + (stop - start - 1) * step + 1
        take = slice(low, high) if step == 1 else slice(low, high, step)
        put = _descending(count - 1 - start, count - 1 - stop) if reverse else slice(start, stop)
        return (number,), (take,), (put,), covered

    def entries(self, start: int, stop: int) -> Iterator[Entry]:
        """The entries of touched chunks `start` to `stop`."""
        chunks, (_, _, step, reverse, keep) = self._chunks, self._stride
        if step == 1 and keep and not reverse and isinstance(chunks, Cells):
            return self._plain_entries(chunks, start, stop)
        return map(self.entry, range(start, stop))

    def _plain_entries(self, chunks: Cells, start: int, stop: int) -> Iterator[Entry]:
        """As `entries`, for the selection that is most common and touches the most chunks."""
        length = chunks.length
        low = chunks.number(0)
        first, count, *_ = self._stride
        # One tuple serves all fully covered chunks.
        everything = (slice(0, length),)
        for cell in range(start, stop):
            number = low + cell
            at = number * length - first
            end = at + length
            # Only the first and the last chunk may be covered in part.
            if at < 0 or end > count:
                yield self.entry(cell)
            else:
                yield (number,), everything, (slice(at, end),), True

    def objects(self) -> Iterator[tuple[int, int, int, bool]]:
        """Touched objects: number in the grid, run of touched chunks inside (start, stop), whether covered."""
        objects, chunks = self._objects, self._chunks
        for cell in range(objects.n):
            start, stop = objects.positions(cell)
            run = chunks.holding(start), chunks.holding(stop - 1) + 1
            yield objects.number(cell), *run, objects.covered(cell)


def _descending(start: int, stop: int) -> slice:
    if stop == start - 1:
        return slice(start, start + 1)
    # A stop of -1 would mean the last element.
    return slice(start, stop if stop >= 0 else None, -1)


class IndexAxis:
    """An axis selected by an array of indices, in any order and with repeats; otherwise as `StrideAxis`.

    Holds a few integers per index and per touched chunk.
    """

    __slots__ = (
        "_bounds",
        "_chunk",
        "_covered",
        "_local",
        "_numbers",
        "_object_bounds",
        "_object_numbers",
        "_order",
        "_put_steps",
        "_shard",
        "_size",
        "_take_steps",
        "n_chunks",
        "n_objects",
    )

    n_chunks: int
    """Touched chunks along this axis."""
    n_objects: int
    """Touched objects along this axis."""

    def __init__(self, indices: Ints, size: int, chunk: Axis, shard: Axis | None) -> None:
        numbers = cells_at(chunk, indices)
        order = stable_order(numbers)
        # `stable_order` returns None for sorted indices, the common case, which then are not copied.
        if order is not None:
            indices, numbers = indices[order], numbers[order]
        edges = bounds(numbers)
        self._size = size
        self._chunk = chunk
        self._shard = shard
        self._order = order
        self._bounds = edges
        self._local = indices - places(chunk, numbers)[0]
        self._numbers = numbers[edges[:-1]]
        self._take_steps = even_steps(self._local, edges)
        # Without reordering, each chunk fills one contiguous slice of the result.
        self._put_steps = np.ones_like(self._take_steps) if order is None else even_steps(order, edges)
        self._covered = self._find_covered(indices)
        # All chunks of a sharded array have one length, so a chunk's number says where it starts.
        self._object_numbers = self._numbers if shard is None else cells_at(shard, self._numbers * even(chunk))
        self._object_bounds = bounds(self._object_numbers)
        self.n_chunks = self._numbers.size
        self.n_objects = self._object_bounds.size - 1

    def _find_covered(self, indices: Ints) -> NDArray[np.bool_]:
        """Per touched chunk, whether the (sorted) indices select all of it that lies inside the array."""
        starts, lengths = places(self._chunk, self._numbers)
        inside = np.minimum(lengths, self._size - starts)
        covered = np.diff(self._bounds) >= inside
        # Evenly spaced indices have no repeats, so counting them is enough. In other chunks, repeats are counted once.
        unsure = covered & (self._take_steps == 0)
        if unsure.any():
            distinct = np.unique(indices)
            found = np.searchsorted(distinct, starts + inside) - np.searchsorted(distinct, starts)
            covered &= found == inside
        return covered

    def n_covered(self) -> int:
        """Touched chunks that are covered along this axis."""
        return int(np.count_nonzero(self._covered))

    def n_uncut(self) -> int:
        """Touched chunks that are covered along this axis, and end inside the array."""
        starts, lengths = places(self._chunk, self._numbers)
        return int(np.count_nonzero(self._covered & (starts + lengths <= self._size)))

    def entry(self, cell: int) -> Entry:
        """A touched chunk: its number in the grid, what to take of it, where that goes, if it is covered."""
        return next(self.entries(cell, cell + 1))

    def entries(self, start: int, stop: int) -> Iterator[Entry]:
        """The entries of touched chunks `start` to `stop`."""
        local, order, edges = self._local, self._order, self._bounds
        columns = (edges[:-1], edges[1:], self._numbers, self._take_steps, self._put_steps, self._covered)
        for low, high, number, take_step, put_step, covered in rows(start, stop, *columns):
            take = even_or_indices(local, low, high, take_step)
            # Sorted indices lie in the result in the same order, so each chunk fills one contiguous slice.
            put = slice(low, high) if order is None else even_or_indices(order, low, high, put_step)
            yield (number,), (take,), (put,), covered

    def objects(self) -> Iterator[tuple[int, int, int, bool]]:
        """Touched objects: number in the grid, run of touched chunks inside (start, stop), whether covered."""
        edges = self._object_bounds
        if edges.size == 1:
            return
        numbers = self._object_numbers[edges[:-1]]
        if self._shard is None:
            covered = self._covered
        else:
            chunk = even(self._chunk)
            starts, lengths = places(self._shard, numbers)
            # Chunks of the shard that begin inside the array; reduceat then counts the covered ones per shard.
            inside = np.minimum(lengths // chunk, -(-self._size // chunk) - starts // chunk)
            covered = np.add.reduceat(self._covered, edges[:-1], dtype=np.int64) == inside
        yield from rows(0, numbers.size, numbers, edges[:-1], edges[1:], covered)


_AnyAxis: TypeAlias = StrideAxis | IndexAxis


class AxesPlan:
    """The product of independent axes. Holds O(ndim), and a few integers per index of an index array."""

    __slots__ = (
        "_axes",
        "_chunks",
        "_needs_mesh",
        "_shards",
        "basic",
        "buffer_shape",
        "n_chunks",
        "n_objects",
        "out_shape",
    )

    out_shape: Shape
    """Shape of the result."""
    buffer_shape: Shape
    """Shape that `Part.put` indexes into."""
    basic: bool
    """True where all indices are slices and integers."""
    n_objects: int
    """How many objects are touched."""
    n_chunks: int
    """How many chunks are touched, over all objects."""

    def __init__(
        self,
        selection: Selection,
        chosen: tuple[AxisChoice, ...],
        chunks: Sequence[Axis],
        shards: Sequence[Axis] | None,
    ) -> None:
        self.out_shape = selection.out_shape
        self.buffer_shape = selection.buffer_shape
        self._chunks = chunks
        self._shards = shards
        outer: Sequence[Axis | None] = (None,) * len(chosen) if shards is None else shards
        self._axes: tuple[_AnyAxis, ...] = tuple(map(_axis, chosen, selection.shape, chunks, outer))
        self.n_chunks = self.n_objects = 1
        index_axes = 0
        for axis in self._axes:
            self.n_chunks *= axis.n_chunks
            self.n_objects *= axis.n_objects
            index_axes += type(axis) is IndexAxis
        self.basic = index_axes == 0
        # One index array among slices means the same to NumPy; beside integers or other arrays it does not.
        kept = len(selection.buffer_shape)
        self._needs_mesh = index_axes > 1 or (index_axes == 1 and kept < len(chosen)) or kept == 0

    def partly_covered(self) -> int:
        """How many touched chunks have an element inside the array that is not selected."""
        return self.n_chunks - prod(axis.n_covered() for axis in self._axes)

    def n_replaced(self) -> int:
        """How many touched chunks are selected to their very ends, which all lie inside the array."""
        return prod(axis.n_uncut() for axis in self._axes)

    def objects(self) -> Iterator[tuple[Coords, Sequence[Part]]]:
        """Object coordinates with their parts, one object at a time, in row-major order."""
        if not self._axes:
            # An array without dimensions is one chunk of one element.
            return iter([((), (Part(0, mesh(()), mesh(()), True),))])
        if self.n_chunks == 0:
            return iter(())
        if self._shards is None:
            return self._plain_objects()
        if any(isinstance(axis, Edges) for axis in self._shards):
            return self._varying_shards(self._shards)
        return self._even_shards(self._shards)

    def _plain_objects(self) -> Iterator[tuple[Coords, Sequence[Part]]]:
        # The first axis is iterated once; the inner ones once for each of its entries, so they are kept (`Replay`).
        first, *inner = self._axes
        entries = [Replay(partial(axis.entries, 0, axis.n_chunks), axis.n_chunks) for axis in inner]
        # Part(…) goes through a Python-level function, which takes half of the time per chunk in this loop.
        new, needs_mesh = tuple.__new__, self._needs_mesh
        for coords, take, put, whole in combined([first.entries(0, first.n_chunks), *entries]):
            if needs_mesh:
                yield coords, (Part(0, mesh(take), mesh(put), whole),)
            else:
                yield coords, (new(Part, (0, take, put, whole)),)

    def _even_shards(self, shards: Sequence[Axis]) -> Iterator[tuple[Coords, Sequence[Part]]]:
        """Shards of one shape: each axis contributes the same slot offsets in all shards, so its runs are made once."""
        inner = tuple(even(shard) // even(chunk) for shard, chunk in zip(shards, self._chunks, strict=True))
        makers = [partial(_runs, *row) for row in zip(self._axes, inner, _strides(inner), strict=True)]
        replayed = [Replay(make, axis.n_objects) for make, axis in zip(makers[1:], self._axes[1:], strict=True)]
        for coords, per_axis, _, whole in combined([makers[0](), *replayed]):
            yield coords, GridParts(per_axis, whole, self._needs_mesh)

    def _varying_shards(self, shards: Sequence[Axis]) -> Iterator[tuple[Coords, Sequence[Part]]]:
        """Shards of differing shapes: how many slots one step along an axis skips depends on the shard."""
        spans = [
            Replay(partial(_spans, axis, shard, even(chunk)), axis.n_objects)
            for axis, shard, chunk in zip(self._axes, shards, self._chunks, strict=True)
        ]
        for coords, per_axis, inner, whole in combined(spans):
            strides = _strides(inner)
            runs = tuple(
                [
                    Run(axis, start, stop, origin, stride)
                    for (axis, start, stop, origin), stride in zip(per_axis, strides, strict=True)
                ]
            )
            yield coords, GridParts(runs, whole, self._needs_mesh)


def _axis(choice: AxisChoice, size: int, chunk: Axis, shard: Axis | None) -> _AnyAxis:
    if isinstance(choice, Stride):
        return StrideAxis(choice, size, chunk, shard)
    return IndexAxis(choice, size, chunk, shard)


def _strides(inner: Shape) -> list[int]:
    """How many slots of a shard one chunk along each axis is."""
    return [prod(inner[at + 1 :]) for at in range(len(inner))]


def _runs(axis: _AnyAxis, per_object: int, stride: int) -> Iterator[Entry]:
    """Per touched object along an axis: its number in the grid, and the Run of its touched chunks as `take`."""
    for number, start, stop, whole in axis.objects():
        yield (number,), (Run(axis, start, stop, number * per_object, stride),), (), whole


def _spans(axis: _AnyAxis, shard: Axis, chunk: int) -> Iterator[Entry]:
    """As `_runs`, with the arguments of each Run but its stride in place of `take`, and the number of chunks in the
    object in place of `put`: the stride of one axis depends on these numbers of the axes behind it."""
    for number, start, stop, whole in axis.objects():
        origin, length = place(shard, number)
        yield (number,), ((axis, start, stop, origin // chunk),), (length // chunk,), whole
