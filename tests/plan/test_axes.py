"""The grids of one axis compared with counts: every evenly spaced selection of short axes."""

from __future__ import annotations

import pytest

from zarr_s3_async._grid import Edges
from zarr_s3_async._plan.axes import Cells, StrideAxis, VaryingCells
from zarr_s3_async._plan.selection import ascending


def strides(size):
    """Every evenly spaced ascending selection of an axis."""
    for first in range(size):
        for step in range(1, size + 1):
            for number in range(1, (size - 1 - first) // step + 2):
                yield ascending(first, number, step)


@pytest.mark.parametrize("size", range(1, 9))
@pytest.mark.parametrize("length", range(1, 6))
def test_touched_cells_and_their_positions_equal_counts(size, length):
    """Compared are the touched cells, the positions inside each, and which cells are covered."""
    for stride in strides(size):
        picked = [stride.first + k * stride.step for k in range(stride.number)]
        touched = sorted({position // length for position in picked})
        cells = Cells(stride, size, length)
        assert [cells.number(i) for i in range(cells.n)] == touched
        covered = 0
        for cell, number in enumerate(touched):
            inside = [k for k, position in enumerate(picked) if position // length == number]
            assert cells.positions(cell) == (inside[0], inside[-1] + 1)
            assert all(cells.holding(k) == cell for k in inside)
            full = len(inside) == len(range(number * length, min(size, number * length + length)))
            assert cells.covered(cell) == full
            covered += full
        assert cells.n_covered() == covered


@pytest.mark.parametrize("size", range(1, 11))
@pytest.mark.parametrize(
    "runs", [[(3, 4)], [(1, 2), (4, 3)], [(4, 1), (1, 3), (2, 2)], [(1, 1), (5, 1), (2, 1), (5, 1)]]
)
def test_cells_of_different_lengths_equal_counts(size, runs):
    """Every run of equal lengths is a separate grid."""
    edges = Edges(runs).covering(size)
    lengths = [length for length, count in edges.runs for _ in range(count)]
    holder = [number for number, length in enumerate(lengths) for _ in range(length)]
    starts = [holder.index(number) for number in range(len(lengths))]
    for stride in strides(size):
        picked = [stride.first + k * stride.step for k in range(stride.number)]
        touched = sorted({holder[position] for position in picked})
        cells = VaryingCells(stride, size, edges)
        assert [cells.place(i) for i in range(cells.n)] == [(n, starts[n], lengths[n]) for n in touched]
        assert [cells.number(i) for i in range(cells.n)] == touched
        covered = 0
        for cell, number in enumerate(touched):
            inside = [k for k, position in enumerate(picked) if holder[position] == number]
            assert cells.positions(cell) == (inside[0], inside[-1] + 1)
            assert all(cells.holding(k) == cell for k in inside)
            full = len(inside) == holder[:size].count(number)
            assert cells.covered(cell) == full
            covered += full
        assert cells.n_covered() == covered


@pytest.mark.parametrize("size", range(1, 9))
@pytest.mark.parametrize(("chunk", "shard"), [(1, 1), (1, 3), (2, 2), (2, 4), (3, 6), (4, 12)])
@pytest.mark.parametrize("reverse", [False, True], ids=["up", "down"])
def test_each_selected_element_is_taken_from_its_chunk(size, chunk, shard, reverse):
    """Elements taken from each chunk go to their position in the selection; objects contain their chunks in runs."""
    for stride in strides(size):
        axis = StrideAxis(stride._replace(reverse=reverse), size, chunk, shard)
        picked = [stride.first + k * stride.step for k in range(stride.number)]
        result = [None] * stride.number
        numbers = []
        for (number,), (take,), (put,), covered in axis.entries(0, axis.n_chunks):
            numbers.append(number)
            positions = [number * chunk + i for i in range(chunk)]
            assert covered == {p for p in positions if p < size}.issubset(picked)
            result[put] = positions[take]
        assert result == (picked[::-1] if reverse else picked)
        runs = [(number, numbers[start:stop]) for number, start, stop, _ in axis.objects()]
        assert runs == [(o, [n for n in numbers if n * chunk // shard == o]) for o, _ in runs]
        assert sum(len(run) for _, run in runs) == axis.n_chunks
        for number, _, _, covered in axis.objects():
            assert covered == set(range(number * shard, min(size, number * shard + shard))).issubset(picked)
