"""Rechunking plans: within the memory bound, covering every cell once; `Marks` behaves as a set."""

from __future__ import annotations

from math import prod
from unittest import mock

import numpy as np
from hypothesis import example, given
from hypothesis import strategies as st

from zarr_s3_async.streams import stored
from zarr_s3_async.streams.boxes import Box, cell, cells, coords_in, is_aligned, n_cells, whole
from zarr_s3_async.streams.rechunk import Direct, TwoStages, n_pieces, plan_rechunk
from zarr_s3_async.streams.stored import Marks

sides = st.integers(1, 12)


@given(st.integers(0, 30), sides, sides, st.integers(0, 60))
def test_the_pieces_in_which_two_grids_cut_an_axis_are_counted(offset: int, one: int, other: int, n: int) -> None:
    lines = {x for x in range(n) if x == 0 or x % other == 0 or (x + offset) % one == 0}
    assert n_pieces(offset, one, other, n) == len(lines)


@st.composite
def cases(draw: st.DrawFn) -> tuple[Box, tuple[int, ...], tuple[int, ...], int]:
    ndim = draw(st.integers(1, 3))
    start = draw(st.tuples(*[st.integers(0, 20)] * ndim))
    shape = draw(st.tuples(*[st.integers(1, 40)] * ndim))
    source, target = draw(st.tuples(*[sides] * ndim)), draw(st.tuples(*[sides] * ndim))
    return Box(start, tuple(map(sum, zip(start, shape, strict=True)))), source, target, draw(st.integers(1, 5000))


@given(cases())
def test_boxes_stay_within_the_memory_bound_and_hold_whole_objects(
    case: tuple[Box, tuple[int, ...], tuple[int, ...], int],
) -> None:
    region, source, target, box_bytes = case
    shape, itemsize = region.shape, 4
    match plan_rechunk(region, source, target, shape, itemsize, box_bytes):
        case Direct(box=box, amplification=times):
            assert all(side % unit == 0 for side, unit in zip(box, target, strict=True))
            assert prod(box) * itemsize <= max(box_bytes, prod(target) * itemsize)
            reads = 0
            for part in cells(whole(shape), box):
                there = Box(*(tuple(map(sum, zip(region.start, edge, strict=True))) for edge in part))
                reads += n_cells(there, source)
            assert reads == round(times * n_cells(region, source))
            assert times <= 2
        case TwoStages(read=read, write=write, pieces=pieces):
            assert all(side % unit == 0 for side, unit in zip(read, source, strict=True))
            assert all(side % unit == 0 for side, unit in zip(write, target, strict=True))
            assert prod(read) * itemsize <= max(box_bytes, prod(source) * itemsize)
            assert prod(write) * itemsize <= max(box_bytes, prod(target) * itemsize)
            count = 0
            for part in cells(whole(shape), write):
                there = Box(*(tuple(map(sum, zip(region.start, edge, strict=True))) for edge in part))
                count += n_cells(there, read)
            assert count == pieces


def test_rechunking_rows_to_columns_takes_two_stages_with_few_pieces() -> None:
    side = 2**15
    plan = plan_rechunk(whole((side, side)), (1, side), (side, 1), (side, side), 4, 64 * 2**20)
    assert plan == TwoStages(read=(512, side), write=(side, 512), pieces=64 * 64)


def test_aligned_grids_take_one_stage_and_read_each_chunk_once() -> None:
    plan = plan_rechunk(whole((4096, 4096)), (512, 64), (64, 512), (4096, 4096), 4, 2**22)
    assert isinstance(plan, Direct)
    assert plan.amplification == 1


@given(cases())
def test_cells_cover_a_box_exactly_once(case: tuple[Box, tuple[int, ...], tuple[int, ...], int]) -> None:
    box, side, _, _ = case
    seen = np.zeros(box.stop, int)
    parts = list(cells(box, side))
    for part, coords in zip(parts, coords_in(box, side), strict=True):
        seen[part.place] += 1
        assert part == cell(coords, side).intersection(box)
    assert (seen[box.place] == 1).all()
    assert seen.sum() == box.size
    assert len(parts) == n_cells(box, side)
    assert is_aligned(whole(box.stop), side, box.stop)


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 9))))
def test_marks_behave_as_a_set(added: list[tuple[int, int]]) -> None:
    marks = Marks((7, 10))
    for coords in added:
        marks.add(coords)
    assert list(marks) == sorted(set(added))
    assert marks.n == len(set(added))
    assert all((coords in marks) == (coords in set(added)) for coords in np.ndindex(7, 10))


def test_marks_of_a_huge_grid_take_memory_only_for_marked_positions() -> None:
    marks = Marks((10**9, 10**9))
    marks.add((10**9 - 1, 5))
    marks.add((0, 3))
    assert list(marks) == [(0, 3), (10**9 - 1, 5)]
    assert (5, 5) not in marks


@given(
    st.sets(st.integers(0, 2**17 - 1) | st.integers(0, 40)),
    st.lists(st.integers(0, 60), min_size=2, max_size=2).map(sorted),
)
@example({*range(10), *range(2**16, 2**16 + 30)}, [2, 5])
def test_marks_are_split_into_parts_that_contain_each_mark_once(wanted: set[int], cuts: list[int]) -> None:
    limits = {"_MAX_BITS": 2**16, "_SKIPPED": 16}  # so that examples have blocks to skip, and positions beyond the bits
    with mock.patch.multiple(stored, **limits):
        marks = Marks((2**8, 2**9))
        for flat in wanted:
            marks.add(divmod(flat, 2**9))
        everything = [divmod(flat, 2**9) for flat in sorted(wanted)]
        assert list(marks) == everything
        start, stop = cuts
        assert list(marks.between(start, stop)) == everything[start:stop]
    every = stored.AllMarks((5, 9))
    assert list(every.between(start, stop)) == list(every)[start:stop] == list(np.ndindex(5, 9))[start:stop]
