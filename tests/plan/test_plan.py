"""For random arrays, grids and selections of every kind, a plan reads and writes as NumPy does."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import event, given, settings
from hypothesis import strategies as st

from zarr_s3_async._plan.plan import ObjectParts, covers_object, plan
from zarr_s3_async._plan.selection import basic, blocks, by_name, orthogonal, region, vectorized
from zarr_s3_async.errors import SelectionError

from .simulated import ChunkedArray, assign, cells, check_plan, numbered
from .strategies import basic_item, grids, keys, masks, orthogonal_item, regions


def check(selection, grid, expected, data):
    """Check that reading gives `expected`, and that writing changes exactly those positions, in order."""
    shape, chunks, shards = grid
    made = plan(selection, shape, chunks, shards)
    check_plan(made, shape, chunks, shards, expected)
    values = np.arange(expected.size).reshape(expected.shape) + 1000
    kind = data.draw(st.sampled_from(["full", "scalar", "reversed", "fortran"]))
    if kind == "scalar":
        values = np.int64(77)
    elif kind == "reversed":
        values = values[(slice(None, None, -1),) * values.ndim]
    elif kind == "fortran":
        values = np.array(values, order="F")
    array = ChunkedArray(numbered(shape), chunks, shards)
    array.write(made, values)
    assert np.array_equal(array.whole(), assign(numbered(shape), expected, values))


def outer(array, key):
    """`array` indexed along one axis after the other, which is the meaning of oindex."""
    key = list(key) if isinstance(key, tuple) else [key]
    dims = sum(item is not None and item is not Ellipsis for item in key)
    at = next((i for i, item in enumerate(key) if item is Ellipsis), None)
    missing = [slice(None)] * (array.ndim - dims)
    key = [*key, *missing] if at is None else [*key[:at], *missing, *key[at + 1 :]]
    axis = 0
    for item in key:
        if item is None:
            array = np.expand_dims(array, axis)
        elif isinstance(item, list):
            item = np.array(item, int)
        array = array[(slice(None),) * axis + (item,)] if item is not None else array
        axis += item is None or isinstance(item, slice) or np.ndim(item) > 0
    return array


@settings(deadline=None)
@given(st.data())
def test_a_region_equals_the_slice(data):
    """A strict region selects the same as the slice with the same numbers."""
    grid = data.draw(grids())
    start, stop, step = data.draw(regions(grid[0]))
    key = tuple(map(slice, start, grid[0] if stop is None else stop, step or (1,) * len(start)))
    check(region(start, stop, step, grid[0]), grid, numbered(grid[0])[key], data)


@settings(deadline=None)
@given(st.data())
def test_basic_selections_equal_numpys(data):
    """array[...] takes integers, slices with any step, ellipses and new axes."""
    grid = data.draw(grids())
    key = data.draw(keys(grid[0], basic_item))
    made = basic(key, grid[0])
    check(made, grid, np.asarray(numbered(grid[0])[key]), data)
    assert plan(made, *grid).basic


@settings(deadline=None)
@given(st.data())
def test_orthogonal_selections_equal_one_selection_per_axis(data):
    """oindex selects along each axis independently."""
    grid = data.draw(grids())
    key = data.draw(keys(grid[0], orthogonal_item))
    check(orthogonal(key, grid[0]), grid, outer(numbered(grid[0]), key), data)


@settings(deadline=None)
@given(st.data())
def test_coordinates_equal_numpys(data):
    """vindex pairs broadcast coordinates, as NumPy does."""
    grid = data.draw(grids(min_dims=1).filter(lambda grid: 0 not in grid[0]))
    full = data.draw(st.sampled_from([(), (1,), (0,), (7,), (40,), (3, 4), (2, 1, 3), (2, 0, 3)]))
    key = []
    for n in grid[0]:
        shape = data.draw(st.sampled_from([full, full[1:], (*full[:-1], 1) if full and full[-1] else full]))
        size = int(np.prod(shape))
        values = data.draw(st.lists(st.integers(-n, n - 1), min_size=size, max_size=size))
        key.append(np.array(values, int).reshape(shape))
    made = vectorized(tuple(key), grid[0])
    check(made, grid, np.asarray(numbered(grid[0])[tuple(key)]), data)


@settings(deadline=None)
@given(st.data())
def test_a_mask_selects_in_row_major_order(data):
    """A mask of the whole array gives its true elements through vindex and array[...]."""
    grid = data.draw(grids(min_dims=1))
    size = int(np.prod(grid[0]))
    mask = data.draw(masks(size)).reshape(grid[0])
    make = data.draw(st.sampled_from([vectorized, basic]))
    check(make(mask, grid[0]), grid, numbered(grid[0])[mask], data)


@settings(deadline=None)
@given(st.data())
def test_blocks_select_whole_chunks(data):
    """blocks selects whole chunks by their coordinates in the grid, and keeps all axes."""
    grid = data.draw(grids())
    shape, chunks, _ = grid
    key, wanted = [], []
    for n, spans in zip(shape, map(cells, chunks, shape), strict=True):
        blocks_ = len(spans)
        numbers = list(range(blocks_))
        if numbers and data.draw(st.booleans()):
            item = data.draw(st.integers(-blocks_, blocks_ - 1))
            picked = [numbers[item]]
        else:
            low, high = (data.draw(st.none() | st.integers(-blocks_ - 1, blocks_ + 1)) for _ in range(2))
            item = slice(low, high)
            picked = numbers[item]
        key.append(item)
        wanted.append(np.array([i for b in picked for i in range(spans[b][0], min(n, sum(spans[b])))], int))
    expected = numbered(shape)[np.ix_(*wanted)] if shape else numbered(shape)
    made = blocks(tuple(key), shape, chunks)
    check(made, grid, expected, data)
    assert plan(made, shape, chunks).partly_covered() == 0


@settings(deadline=None)
@given(st.data())
def test_index_arrays_equal_numpys_or_are_refused(data):
    """Only those are accepted whose meaning is unambiguous."""
    grid = data.draw(grids(min_dims=1))
    key = data.draw(keys(grid[0], orthogonal_item))
    try:
        made = basic(key, grid[0])
    except SelectionError as error:
        event(str(error)[:40])
        return
    check(made, grid, np.asarray(numbered(grid[0])[key]), data)


@pytest.mark.parametrize(
    "key",
    [
        np.s_[[3, 0, 3]],
        np.s_[[3, 0, 3], :, ::-1],
        np.s_[:, [True, False, True], 1:],
        np.s_[1, [2, 0], :],
        np.s_[..., [2, 0], 1],
        np.s_[None, [2, 0]],
        np.s_[[3, 0], [1, 1], [0, 4]],
        np.s_[[[3], [0]], 1, [0, 4, 4]],
        np.ones((4, 3, 5), bool),
    ],
)
def test_unambiguous_index_arrays_are_accepted(key):
    """array[...] accepts one index array with slices, coordinates of all dimensions, or a mask of the array."""
    grid = ((4, 3, 5), (2, 2, 2), (4, 2, 2))
    check_plan(plan(basic(key, grid[0]), *grid), *grid, numbered(grid[0])[key])


def test_a_mask_of_one_dimension_may_be_combined_with_a_new_axis():
    """In one dimension, a mask of the array is treated as an index array."""
    grid, mask = ((5,), (2,), None), np.array([True, False, True, True, False])
    check_plan(plan(basic((mask, None), grid[0]), *grid), *grid, numbered(grid[0])[mask, None])


def test_dimensions_can_be_selected_by_name():
    """sel selects along the named dimensions and takes the others whole."""
    grid = ((4, 5, 6), (2, 2, 4), None)
    made = by_name({"x": [5, 0, 0], "t": 1}, ("t", "y", "x"), grid[0])
    check_plan(plan(made, *grid), *grid, numbered(grid[0])[1][:, [5, 0, 0]])


def test_an_array_without_dimensions_is_one_part():
    """It has one object with one part, which is covered."""
    for made in (region((), None, None, ()), basic((), ()), basic(..., ()), vectorized((), ())):
        assert list(plan(made, (), ()).objects()) == [((), ((0, (...,), (...,), True),))]
    assert plan(basic(None, ()), (), (), ()).out_shape == (1,)


def test_a_sharded_object_has_lazy_parts():
    """Parts of a shard can be counted, indexed from both ends, sliced, and iterated repeatedly."""
    made = plan(region((3, 0), (11, 12), None, (16, 12)), (16, 12), (2, 3), (8, 6))
    for _, parts in made.objects():
        assert isinstance(parts, ObjectParts)
        listed = list(parts)
        assert [parts[i] for i in range(len(parts))] == listed == list(parts)
        assert parts[-1] == listed[-1]
        assert list(parts[1:3]) == listed[1:3]
        assert not covers_object(parts)
        for index in (len(parts), -len(parts) - 1):
            with pytest.raises(IndexError, match=f"part {index} of {len(parts)}"):
                parts[index]


@settings(deadline=None)
@given(st.data())
def test_parts_can_be_indexed(data):
    """parts[i] equals the i-th part of the iteration, also for index arrays and points."""
    grid = data.draw(grids(min_dims=1).filter(lambda grid: grid[2] and 0 not in grid[0]))
    if data.draw(st.booleans()):
        made = orthogonal(data.draw(keys(grid[0], orthogonal_item)), grid[0])
    else:
        made = vectorized(tuple(np.arange(30) * (i + 3) % n for i, n in enumerate(grid[0])), grid[0])
    for _, parts in plan(made, *grid).objects():
        for index, part in enumerate(parts):
            assert parts[index - len(parts)].slot == part.slot
            again = parts[index]
            assert (again.slot, again.whole) == (part.slot, part.whole)
            assert all(map(np.array_equal, map(_listed, again.take), map(_listed, part.take)))


def _listed(index):
    return np.arange(1000)[index]


def test_a_covered_chunk_is_contiguous_in_the_result():
    """A covered chunk of full rows is a contiguous view of the result, so that it can be decoded directly into it."""
    made = plan(region((0, 0), (8, 6), None, (8, 6)), (8, 6), (2, 6))
    out = np.empty(made.buffer_shape)
    for _, (part,) in made.objects():
        contiguous_parts = out[part.put]
        assert part.whole
        assert contiguous_parts.base is out
        assert contiguous_parts.flags.c_contiguous
    backwards = plan(basic(np.s_[::-1], (8, 6)), (8, 6), (2, 6))
    assert not any(out[part.put].flags.c_contiguous for _, (part,) in backwards.objects())


@settings(deadline=None)
@given(st.data())
def test_the_buffer_is_a_view_of_the_result(data):
    """Any memory of the caller can be reshaped from `out_shape` to `buffer_shape` without a copy."""
    grid = data.draw(grids(min_dims=1).filter(lambda grid: 0 not in grid[0]))
    if data.draw(st.booleans()):
        chosen = orthogonal(data.draw(keys(grid[0], orthogonal_item)), grid[0])
    else:
        chosen = vectorized(tuple(np.arange(12).reshape(3, 4) % n for n in grid[0]), grid[0])
    scattered = np.zeros([2 * n for n in chosen.out_shape])[(*[np.s_[::2]] * len(chosen.out_shape), ...)]
    buffer = scattered.reshape(chosen.buffer_shape)
    buffer[...] = 1
    assert np.all(scattered == 1)


def test_a_selection_of_another_shape_is_refused():
    """A plan needs the shape with which the selection was checked."""
    with pytest.raises(ValueError, match=r"made for an array of shape \(4,\), not \(5,\)"):
        plan(region(0, 2, None, (4,)), (5,), (2,))
