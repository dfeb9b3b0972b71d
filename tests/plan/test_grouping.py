"""Sorting keys into groups, and finding the even ones."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from zarr_s3_async._plan.grouping import bounds, even_or_indices, even_steps, row_major_order, rows, stable_order

ints = st.integers(-5, 5) | st.integers(-(2**62), 2**62)
columns = st.lists(st.tuples(ints, ints, ints), max_size=30).map(lambda r: np.array(r, np.int64).reshape(-1, 3))


@settings(deadline=None)
@given(st.lists(ints, max_size=40).map(lambda v: np.array(v, np.int64)))
def test_the_order_of_equal_keys_is_stable(keys):
    """Equal keys keep their order, for close and distant keys; None means that the keys are sorted already."""
    order = stable_order(keys)
    expected = sorted(range(keys.size), key=lambda i: int(keys[i]))
    assert (list(range(keys.size)) if order is None else order.tolist()) == expected
    assert (order is None) == (expected == list(range(keys.size)))


@settings(deadline=None)
@given(columns)
def test_rows_are_sorted_in_row_major_order(table):
    """The first column is the most significant, even if the combined key does not fit into 64 bits."""
    order = row_major_order(list(table.T.copy()))
    expected = sorted(range(len(table)), key=lambda i: tuple(map(int, table[i])))
    assert (list(range(len(table))) if order is None else order.tolist()) == expected


@settings(deadline=None)
@given(st.lists(st.lists(st.integers(0, 6), min_size=1, max_size=6), max_size=6))
def test_evenly_spaced_groups_are_given_as_slices(groups):
    """Exactly the groups with evenly ascending indices are slices, and a slice selects the same as the indices."""
    values = np.array([v for group in groups for v in group], np.int64)
    edges = bounds(np.repeat(np.arange(len(groups)), [len(group) for group in groups]).astype(np.int64))
    steps = even_steps(values, edges)
    for group, start, stop, step in zip(groups, edges[:-1].tolist(), edges[1:].tolist(), steps.tolist(), strict=True):
        even = len(group) == 1 or (group[1] > group[0] and len(set(np.diff(group).tolist())) == 1)
        index = even_or_indices(values, start, stop, step)
        assert isinstance(index, slice) == even
        assert np.arange(7)[index].tolist() == group


def test_rows_are_python_integers_in_order():
    """Coordinates are used in keys and slices, so they must be plain integers."""
    numbers = np.arange(5000)
    listed = list(rows(3, 4500, numbers, numbers % 2 == 0))
    assert listed == [(i, i % 2 == 0) for i in range(3, 4500)]
    assert type(listed[0][0]) is int
