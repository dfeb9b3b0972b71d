"""Orthogonal indices in NumPy's terms."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from zarr_s3_async._plan.parts import mesh

index = (
    st.integers(0, 5)
    | st.sampled_from([slice(0, 4), slice(1, 6, 2), slice(5, None, -2), slice(3, 1, -1)])
    | st.lists(st.integers(0, 5), max_size=4).map(lambda v: np.array(v, int))
)


@settings(deadline=None)
@given(st.lists(index, max_size=4).map(tuple))
def test_a_mesh_equals_indexing_one_axis_after_the_other(items):
    """For any combination of items, the result has the kept axes in their order."""
    array = np.arange(6 ** len(items)).reshape((6,) * len(items))
    expected, axis = array, 0
    for item in items:
        expected = expected[(slice(None),) * axis + (item,)]
        axis += not isinstance(item, int)
    got = array[mesh(items)]
    assert isinstance(got, np.ndarray)
    assert got.shape == np.shape(expected)
    assert np.array_equal(got, expected)


def test_slices_outside_of_index_arrays_stay_slices():
    """Only slices between arrays and integers become index arrays: others are copied in runs."""
    made = mesh((slice(0, 2), np.array([1, 3]), slice(0, 3), 2, slice(0, 5)))
    assert made[0] == slice(0, 2)
    assert made[4] == slice(0, 5)
    assert made[1].shape == (2, 1)
    assert made[2].shape == (3,)


def test_a_single_element_stays_an_array():
    """An object array's element is not unpacked, and a single element of the result can be assigned to."""
    array = np.empty((2, 2), object)
    array[1, 1] = [1, 2]
    out = np.empty((), object)
    out[mesh(())] = array[mesh((1, 1))]
    assert out[()] == [1, 2]
