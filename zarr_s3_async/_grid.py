"""The grid of one axis: where its cells (chunks or stored objects) start and how long they are.

An axis is an `int`, the length of every cell of a regular grid, or `Edges`, if lengths differ. Everything here is
arithmetic on one axis; `_plan` computes which cells a selection touches.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable, Iterator, Sequence
from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

EdgeRun: TypeAlias = tuple[int, int]
"""Adjacent cells of equal length: the length, and the number of cells."""
Ints: TypeAlias = NDArray[np.int64]

_SHOWN_RUNS = 6


class Edges:
    """Cell lengths that differ, stored as runs of equal lengths: memory grows with the runs, not with the cells."""

    __slots__ = ("_cells", "_starts", "lengths", "n", "runs", "stop")

    runs: tuple[EdgeRun, ...]
    n: int
    """Number of cells."""
    stop: int
    """End of the last cell: at or beyond the array's end."""
    lengths: frozenset[int]
    """The distinct lengths."""

    def __init__(self, runs: Iterable[EdgeRun]) -> None:
        """
        Args:
            runs: At least one run. Lengths and counts are at least 1, and the total length is below 2**63. Adjacent
                runs of equal length are joined.
        """
        # Joined, so that equal grids compare equal however their runs were written.
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
        """Index of the run that contains a position below `stop`."""
        return bisect_right(self._starts, position) - 1

    def run_bounds(self, run: int) -> tuple[int, int, int]:
        """Of a run: number of its first cell, start position, stop position."""
        return self._cells[run], self._starts[run], self._starts[run + 1]

    def cell_at(self, position: int) -> int:
        """Number of the cell that contains a position below `stop`."""
        run = self.run_at(position)
        return self._cells[run] + (position - self._starts[run]) // self.runs[run][0]

    def place(self, cell: int) -> tuple[int, int]:
        """Start position and length of a cell."""
        run = bisect_right(self._cells, cell) - 1
        length = self.runs[run][0]
        return self._starts[run] + (cell - self._cells[run]) * length, length

    def cells_at(self, positions: Ints) -> Ints:
        """`cell_at` for each position."""
        starts, cells, lengths = self._tables()
        run = np.searchsorted(starts, positions, side="right") - 1
        return cells[run] + (positions - starts[run]) // lengths[run]

    def places(self, cells: Ints) -> tuple[Ints, Ints]:
        """`place` for each cell: start positions and lengths."""
        starts, firsts, lengths = self._tables()
        run = np.searchsorted(firsts, cells, side="right") - 1
        return starts[run] + (cells - firsts[run]) * lengths[run], lengths[run]

    def _tables(self) -> tuple[Ints, Ints, Ints]:
        """Per run: start position, first cell, length. Not cached: index arrays are rare and far more costly."""
        lengths = [length for length, _ in self.runs]
        return (
            np.array(self._starts[:-1], np.int64),
            np.array(self._cells[:-1], np.int64),
            np.array(lengths, np.int64),
        )

    def covering(self, extent: int, multiple: int = 1) -> Edges:
        """A grid that covers an axis of length `extent`: if this one is shorter, one more cell is added at the end.

        Args:
            extent: Length of the axis.
            multiple: The new cell's length is rounded up to a multiple of it.
        """
        missing = extent - self.stop
        return self if missing <= 0 else Edges((*self.runs, (-(-missing // multiple) * multiple, 1)))


Axis: TypeAlias = int | Edges
"""The cells of one axis: one length for all cells, or the length of each."""


def is_continued(one: Axis, other: Axis) -> bool:
    """True if the two are equal, or one of them equals the other with cells added at its end."""
    if isinstance(one, int) and isinstance(other, int):
        return one == other
    # A regular grid has no end, so only its length can be compared with the other's first run.
    first, second = (((axis, 1),) if isinstance(axis, int) else axis.runs for axis in (one, other))
    shared = min(len(first), len(second)) - 1
    (length, count), (other_length, other_count) = first[shared], second[shared]
    # Where one list of runs ends, the other may continue with more cells of the same length.
    ends = count == other_count or (count < other_count and len(first) == shared + 1)
    ends = ends or (other_count < count and len(second) == shared + 1)
    return first[:shared] == second[:shared] and length == other_length and ends


def n_cells(axis: Axis, extent: int) -> int:
    """Number of cells that an axis of length `extent` touches."""
    if isinstance(axis, int):
        return -(-extent // axis)
    return axis.cell_at(extent - 1) + 1 if extent else 0


def cell_at(axis: Axis, position: int) -> int:
    """Number of the cell that contains a position."""
    return position // axis if isinstance(axis, int) else axis.cell_at(position)


def place(axis: Axis, cell: int) -> tuple[int, int]:
    """Start position and length of a cell."""
    return (cell * axis, axis) if isinstance(axis, int) else axis.place(cell)


def cells_at(axis: Axis, positions: Ints) -> Ints:
    """Numbers of the cells that contain these positions."""
    return positions // axis if isinstance(axis, int) else axis.cells_at(positions)


def places(axis: Axis, cells: Ints) -> tuple[Ints, Ints | int]:
    """Start positions and lengths of these cells."""
    return (cells * axis, axis) if isinstance(axis, int) else axis.places(cells)


def longest(axis: Axis) -> int:
    """Length of the longest cell."""
    return axis if isinstance(axis, int) else axis.longest


def even(axis: Axis) -> int:
    """Length of the chunks inside shards: always one length, since it divides every shard."""
    assert isinstance(axis, int)  # noqa: S101  # the model rejects others
    return axis


def sizes(axis: Axis, extent: int) -> tuple[int, ...]:
    """Length of each touched cell, cut at the end of an axis of length `extent`: the form of dask's `chunks`."""
    return tuple(_sizes(axis, extent))


def _sizes(axis: Axis, extent: int) -> Iterator[int]:
    for cell in range(n_cells(axis, extent)):
        start, length = place(axis, cell)
        yield min(length, extent - start)


def spelled(axes: Sequence[Axis]) -> str:
    """A cell shape as text, with lists of lengths where they differ."""
    return f"({', '.join(map(str, axes))}{',' * (len(axes) == 1)})"


def grid_shape(axes: Sequence[Axis], shape: Sequence[int]) -> tuple[int, ...]:
    """Number of cells per dimension of an array of this shape."""
    return tuple(map(n_cells, axes, shape))


def is_cut(axes: Sequence[Axis], shape: Sequence[int], coords: Sequence[int]) -> bool:
    """True if the cell at these coordinates extends beyond the array's edge."""
    for axis, n, at in zip(axes, shape, coords, strict=True):
        start, length = (at * axis, axis) if type(axis) is int else place(axis, at)
        if start + length > n:
            return True
    return False
