"""The grids of one axis: which cells an evenly spaced selection meets, by arithmetic alone.

An axis has two regular grids: of stored objects, and of the chunks inside them. Every cell has its full
length; only what lies inside the array is ever selected, so parts stop at the array's end by themselves.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple, TypeAlias

Entry: TypeAlias = tuple[Any, tuple[Any, ...], tuple[Any, ...], bool]
"""One axis' share of one cell: where (a 1-tuple or a number), take, put, covered. Axes combine by `+`."""


class Stride(NamedTuple):
    """Positions `first + k * step` for 0 <= k < number, ascending: step >= 1, and 1 where number < 2."""

    first: int
    number: int
    step: int = 1
    reverse: bool = False
    """True where the result has them in descending order."""
    keep: bool = True
    """False where an integer selected the axis, which the result then lacks."""


class Cells:
    """The cells of one regular grid that a Stride touches, counted from 0 in ascending order."""

    __slots__ = ("_count", "_first", "_low", "_size", "_sparse", "_step", "length", "n")

    def __init__(self, stride: Stride, size: int, length: int) -> None:
        first, count, step, _, _ = stride
        self.length = length
        self._size = size
        self._first = first
        self._count = count
        self._step = step
        # A step longer than a cell skips cells, and then no two positions share one.
        self._sparse = step > length
        self._low = first // length
        if self._sparse or count == 0:
            self.n = count
        else:
            self.n = (first + (count - 1) * step) // length - self._low + 1

    def number(self, cell: int) -> int:
        """Place of a touched cell in the grid."""
        return (self._first + cell * self._step) // self.length if self._sparse else self._low + cell

    def positions(self, cell: int) -> tuple[int, int]:
        """First and one past the last k of the positions inside a touched cell."""
        if self._sparse:
            return cell, cell + 1
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
        inner = self.n - 2 if self._step == 1 or self.length == 1 else 0
        return inner + self.covered(0) + self.covered(self.n - 1)


class StrideAxis:
    """An axis with an evenly spaced selection. O(1) to make and to hold, whatever its length."""

    __slots__ = ("_chunks", "_objects", "_size", "_stride")

    def __init__(self, stride: Stride, size: int, chunk: int, shard: int | None) -> None:
        self._stride = stride
        self._size = size
        self._chunks = Cells(stride, size, chunk)
        self._objects = self._chunks if shard is None else Cells(stride, size, shard)

    @property
    def n_chunks(self) -> int:
        """Touched chunks along this axis."""
        return self._chunks.n

    @property
    def n_objects(self) -> int:
        """Touched objects along this axis."""
        return self._objects.n

    def n_covered(self) -> int:
        """Touched chunks that are covered along this axis."""
        return self._chunks.n_covered()

    def entry(self, cell: int) -> Entry:
        """A touched chunk: its place in the grid, what to take of it, where that goes, if it is covered."""
        chunks = self._chunks
        first, count, step, reverse, keep = self._stride
        number = chunks.number(cell)
        start, stop = chunks.positions(cell)
        origin = number * chunks.length
        covered = stop - start == min(chunks.length, self._size - origin)
        low = first + start * step - origin
        if not keep:
            return (number,), (low,), (), covered
        high = low + (stop - start - 1) * step + 1
        take = slice(low, high) if step == 1 else slice(low, high, step)
        put = _descending(count - 1 - start, count - 1 - stop) if reverse else slice(start, stop)
        return (number,), (take,), (put,), covered

    def entries(self, start: int, stop: int) -> Iterator[Entry]:
        """The entries of a run of touched chunks."""
        if self._stride.step == 1 and self._stride.keep and not self._stride.reverse:
            return self._plain_entries(start, stop)
        return map(self.entry, range(start, stop))

    def _plain_entries(self, start: int, stop: int) -> Iterator[Entry]:
        """As `entries`, for the selection that is most common and touches the most chunks."""
        length = self._chunks.length
        low = self._chunks.number(0)
        first, count, *_ = self._stride
        everything = (slice(0, length),)
        for cell in range(start, stop):
            number = low + cell
            at = number * length - first
            end = at + length
            if at < 0 or end > count:
                yield self.entry(cell)
            else:
                yield (number,), everything, (slice(at, end),), True

    def objects(self) -> Iterator[tuple[int, int, int, bool]]:
        """Touched objects: place in the grid, run of touched chunks inside (start, stop), whether covered."""
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
