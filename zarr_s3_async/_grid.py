"""The grid of one axis: where its cells (chunks or stored objects) start and how long they are.

An axis is an `int`, the length of every cell of a regular grid, or `Edges`, where lengths differ. Everything here is
arithmetic on one axis; which cells a selection touches is worked out in `_plan`.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

EdgeRun: TypeAlias = tuple[int, int]
"""Neighbouring cells of one length: the length, and how many cells there are."""
Ints: TypeAlias = NDArray[np.int64]

_SHOWN_RUNS = 6


class Edges:
    """Cell lengths that differ, as runs of equal ones: memory is of the order of the runs, not of the cells."""

    __slots__ = ("_cells", "_starts", "lengths", "n", "runs", "stop")

    runs: tuple[EdgeRun, ...]
    n: int
    """How many cells there are."""
    stop: int
    """Where the last one ends: at or beyond the array's end."""
    lengths: frozenset[int]
    """The different lengths."""

    def __init__(self, runs: Iterable[EdgeRun]) -> None:
        """
        Args:
            runs: At least one, of lengths and counts of at least 1, whose sum is below 2**63; neighbours of one length
                are joined.
        """
        joined: list[EdgeRun] = []
        for length, count in runs:
            before = joined.pop()[1] if joined and joined[-1][0] == length else 0
            joined.append((length, before + count))
        self.runs = tuple(joined)
        self.lengths = frozenset(length for length, _ in joined)
        self._cells = [0]
        self._starts = [0]
        for length, count in joined:
            self._cells.append(self._cells[-1] + count)
            self._starts.append(self._starts[-1] + length * count)
        self.n = self._cells[-1]
        self.stop = self._starts[-1]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Edges) and self.runs == other.runs

    def __hash__(self) -> int:
        return hash(self.runs)

    def __repr__(self) -> str:
        return f"Edges({self.runs})"

    def __str__(self) -> str:
        shown = [str(length) if count == 1 else f"{count}*{length}" for length, count in self.runs[:_SHOWN_RUNS]]
        return f"[{', '.join(shown)}{', …' * (len(self.runs) > _SHOWN_RUNS)}]"

    @property
    def longest(self) -> int:
        """The greatest length."""
        return max(self.lengths)

    def run_at(self, position: int) -> int:
        """Index of the run that holds a position below `stop`."""
        return bisect_right(self._starts, position) - 1

    def run_bounds(self, run: int) -> tuple[int, int, int]:
        """The number of a run's first cell, where it starts and where it ends."""
        return self._cells[run], self._starts[run], self._starts[run + 1]

    def cell_at(self, position: int) -> int:
        """Number of the cell that holds a position below `stop`."""
        run = self.run_at(position)
        return self._cells[run] + (position - self._starts[run]) // self.runs[run][0]

    def place(self, cell: int) -> tuple[int, int]:
        """Where a cell starts, and its length."""
        run = bisect_right(self._cells, cell) - 1
        length = self.runs[run][0]
        return self._starts[run] + (cell - self._cells[run]) * length, length

    def cells_at(self, positions: Ints) -> Ints:
        """`cell_at` of each of these."""
        starts, cells, lengths = self._tables()
        run = np.searchsorted(starts, positions, side="right") - 1
        return cells[run] + (positions - starts[run]) // lengths[run]

    def places(self, cells: Ints) -> tuple[Ints, Ints]:
        """`place` of each of these: starts and lengths."""
        starts, firsts, lengths = self._tables()
        run = np.searchsorted(firsts, cells, side="right") - 1
        return starts[run] + (cells - firsts[run]) * lengths[run], lengths[run]

    def _tables(self) -> tuple[Ints, Ints, Ints]:
        """Per run: where it starts, its first cell, its length. Not kept: index arrays are rare, and cost far more."""
        lengths = [length for length, _ in self.runs]
        return (
            np.array(self._starts[:-1], np.int64),
            np.array(self._cells[:-1], np.int64),
            np.array(lengths, np.int64),
        )

    def covering(self, extent: int, multiple: int = 1) -> Edges:
        """The grid of an axis of this length: where it ends earlier, one more cell covers the rest.

        Args:
            extent: Length of the axis.
            multiple: The new cell's length is rounded up to a multiple of it.
        """
        missing = extent - self.stop
        return self if missing <= 0 else Edges((*self.runs, (-(-missing // multiple) * multiple, 1)))


Axis: TypeAlias = int | Edges
"""The cells of one axis: the length of all of them, or the lengths of each."""


def is_continued(one: Axis, other: Axis) -> bool:
    """True where one of the two is the other with more cells behind its last."""
    if isinstance(one, int) and isinstance(other, int):
        return one == other
    # Cells of one length have no last one: only the first lengths can be compared.
    first, second = (((axis, 1),) if isinstance(axis, int) else axis.runs for axis in (one, other))
    shared = min(len(first), len(second)) - 1
    (length, count), (other_length, other_count) = first[shared], second[shared]
    # Where one list ends, the other may go on with the same length.
    ends = count == other_count or (count < other_count and len(first) == shared + 1)
    ends = ends or (other_count < count and len(second) == shared + 1)
    return first[:shared] == second[:shared] and length == other_length and ends


def n_cells(axis: Axis, extent: int) -> int:
    """How many cells an axis of this length touches."""
    if isinstance(axis, int):
        return -(-extent // axis)
    return axis.cell_at(extent - 1) + 1 if extent else 0


def cell_at(axis: Axis, position: int) -> int:
    """Number of the cell that holds a position."""
    return position // axis if isinstance(axis, int) else axis.cell_at(position)


def place(axis: Axis, cell: int) -> tuple[int, int]:
    """Where a cell starts, and its length."""
    return (cell * axis, axis) if isinstance(axis, int) else axis.place(cell)


def cells_at(axis: Axis, positions: Ints) -> Ints:
    """Numbers of the cells that hold these positions."""
    return positions // axis if isinstance(axis, int) else axis.cells_at(positions)


def places(axis: Axis, cells: Ints) -> tuple[Ints, Ints | int]:
    """Where these cells start, and their lengths."""
    return (cells * axis, axis) if isinstance(axis, int) else axis.places(cells)


def longest(axis: Axis) -> int:
    """Length of the longest cell."""
    return axis if isinstance(axis, int) else axis.longest


def even(axis: Axis) -> int:
    """Length of the chunks inside shards: it is one and the same, since it divides every shard."""
    assert isinstance(axis, int)  # noqa: S101  # the model refuses others
    return axis


def sizes(axis: Axis, extent: int) -> tuple[int, ...]:
    """Length of each touched cell as far as it lies inside an axis of this length: dask's form of chunks."""
    return tuple(_sizes(axis, extent))


def _sizes(axis: Axis, extent: int) -> Iterator[int]:
    for cell in range(n_cells(axis, extent)):
        start, length = place(axis, cell)
        yield min(length, extent - start)


def spelled(axes: Sequence[Axis]) -> str:
    """A shape for people, with lists of lengths where they differ."""
    return f"({', '.join(map(str, axes))}{',' * (len(axes) == 1)})"


def grid_shape(axes: Sequence[Axis], shape: Sequence[int]) -> tuple[int, ...]:
    """Cells per dimension of an array of this shape."""
    return tuple(map(n_cells, axes, shape))


def is_cut(axes: Sequence[Axis], shape: Sequence[int], coords: Sequence[int]) -> bool:
    """True where the array's edge goes through the cell at these coordinates."""
    for axis, n, at in zip(axes, shape, coords, strict=True):
        start, length = (at * axis, axis) if type(axis) is int else place(axis, at)
        if start + length > n:
            return True
    return False
