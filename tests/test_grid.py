"""The grid of one axis: regular grids and run-length lists have the same results as a plain list of lengths."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarr_s3_async import _grid
from zarr_s3_async._grid import Edges

RUNS = st.lists(st.tuples(st.integers(1, 5), st.integers(1, 4)), min_size=1, max_size=6)


@given(RUNS, st.data())
def test_a_run_length_list_equals_its_plain_list(runs: list[tuple[int, int]], data: st.DataObject) -> None:
    edges = Edges(runs)
    lengths = [length for length, count in runs for _ in range(count)]
    starts = [sum(lengths[:cell]) for cell in range(len(lengths))]
    holder = [cell for cell, length in enumerate(lengths) for _ in range(length)]
    assert (edges.n, edges.stop, edges.longest) == (len(lengths), sum(lengths), max(lengths))
    assert [edges.place(cell) for cell in range(edges.n)] == list(zip(starts, lengths, strict=True))
    assert [edges.cell_at(position) for position in range(edges.stop)] == holder
    assert edges.cells_at(np.arange(edges.stop)).tolist() == holder
    assert [column.tolist() for column in edges.places(np.arange(edges.n))] == [starts, lengths]
    extent = data.draw(st.integers(0, edges.stop))
    assert _grid.n_cells(edges, extent) == len(set(holder[:extent]))
    assert sum(_grid.sizes(edges, extent)) == extent
    assert Edges([(length, 1) for length in lengths]) == edges


@given(st.integers(1, 7), st.integers(0, 30))
def test_a_regular_axis_equals_a_list_of_equal_lengths(length: int, extent: int) -> None:
    edges = Edges([(length, 40)])
    positions = np.arange(extent)
    assert _grid.n_cells(length, extent) == _grid.n_cells(edges, extent)
    assert _grid.sizes(length, extent) == _grid.sizes(edges, extent)
    assert _grid.cells_at(length, positions).tolist() == _grid.cells_at(edges, positions).tolist()
    for cell in range(4):
        assert _grid.place(length, cell) == _grid.place(edges, cell)
        assert _grid.is_cut((length,), (extent,), (cell,)) == _grid.is_cut((edges,), (extent,), (cell,))


@pytest.mark.parametrize(
    ("extent", "multiple", "runs"), [(6, 1, ((2, 3),)), (9, 1, ((2, 3), (3, 1))), (9, 2, ((2, 3), (4, 1)))]
)
def test_growth_beyond_the_last_cell_adds_one(extent: int, multiple: int, runs: object) -> None:
    assert Edges([(2, 3)]).covering(extent, multiple).runs == runs


@given(RUNS, RUNS)
def test_a_grid_with_additional_cells_at_its_end_is_a_continuation(
    runs: list[tuple[int, int]], more: list[tuple[int, int]]
) -> None:
    one, other = Edges(runs), Edges([*runs, *more])
    assert _grid.is_continued(one, other)
    assert _grid.is_continued(other, one)
    first = [length for length, count in one.runs for _ in range(count)]
    second = [length for length, count in Edges(more).runs for _ in range(count)]
    same = all(a == b for a, b in zip(first, second, strict=False))
    assert _grid.is_continued(one, Edges(more)) == _grid.is_continued(Edges(more), one) == same


def test_a_regular_axis_continues_only_itself() -> None:
    assert _grid.is_continued(3, 3)
    assert not _grid.is_continued(3, 4)
    assert _grid.is_continued(3, Edges([(3, 2), (4, 1)]))
    assert not _grid.is_continued(Edges([(4, 2), (3, 1)]), 3)
