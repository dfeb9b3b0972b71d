"""Valid selections and their shapes, and the errors of invalid ones."""

from __future__ import annotations

import re

import numpy as np
import pytest

from zarr_s3_async._plan.plan import plan
from zarr_s3_async._plan.selection import basic, blocks, by_name, orthogonal, region, vectorized
from zarr_s3_async.errors import SelectionError

SHAPE = (10, 20)


def indices(selection, shape=SHAPE):
    """The elements that a selection reads from an array of row-major positions."""
    made = plan(selection, shape, shape)
    array = np.arange(int(np.prod(shape))).reshape(shape)
    out = np.full(made.buffer_shape, -1)
    for _, (part,) in made.objects():
        out[part.put] = array[part.take]
    return out.reshape(made.out_shape)


class TestRegion:
    """Strict regions, as in get_slice and set_slice."""

    def test_shape_and_defaults(self):
        """`stop=None` is the array's end, `step=None` is 1."""
        chosen = region((2, 5), None, None, SHAPE)
        assert chosen.shape == SHAPE
        assert chosen.out_shape == chosen.buffer_shape == (8, 15)
        assert region((2, 5), (9, 20), (3, 4), SHAPE).out_shape == (3, 4)
        assert region((2, 5), (2, 20), None, SHAPE).out_shape == (0, 15)

    @pytest.mark.parametrize(
        ("start", "stop"),
        [
            (3, 7),
            ([3], [7]),
            (np.array([3]), np.array([7], np.uint8)),
            (np.int64(3), np.array(7)),
            (range(3, 4), 7),
        ],
    )
    def test_integers_of_any_kind(self, start, stop):
        """For one dimension an integer is accepted; otherwise sequences, also of NumPy integers."""
        assert indices(region(start, stop, None, (10,)), (10,)).tolist() == [3, 4, 5, 6]

    @pytest.mark.parametrize(
        ("start", "stop", "step", "expected_message"),
        [
            (
                (0, 5),
                (10, 21),
                None,
                "start 5 and stop 21 of dimension 1 must satisfy 0 <= start <= stop <= 20 ",
            ),
            (
                (-1, 0),
                (10, 20),
                None,
                "start -1 and stop 10 of dimension 0 .* <= 10 for an array of shape (10, 20)",
            ),
            ((6, 0), (5, 20), None, "start 6 and stop 5 of dimension 0"),
            ((11, 0), None, None, "start 11 and stop 10 of dimension 0"),
            ((0, 0), (10, 20), (1, 0), "step 0 of dimension 1 must be 1 or more"),
            (
                (0, 0),
                (10, 20),
                (-1, 1),
                "step -1 of dimension 0 must be 1 or more; array[...] takes negative ones",
            ),
            ((0,), (10, 20), None, "start needs one integer per dimension: 2, not 1"),
            (0, (10, 20), None, "start needs one integer per dimension: 2, not 1"),
            ((0, 0), (10, 20, 30), None, "stop needs one integer per dimension: 2, not 3"),
            ((0, 0), (10, 20), 1, "step needs one integer per dimension: 2, not 1"),
            ((0, True), (10, 20), None, "start of dimension 1 must be an integer, not bool True"),
            ((0, 0), (10, np.True_), None, "stop of dimension 1 must be an integer, not bool"),
            ((0, 0), (10.0, 20), None, "stop of dimension 0 must be an integer, not float 10.0"),
            (np.zeros(2), (10, 20), None, "start of dimension 0 must be an integer, not float 0.0"),
            ((0, None), (10, 20), None, "start of dimension 1 must be an integer, not NoneType None"),
            (None, (10, 20), None, "start needs one integer per dimension: 2, not 1"),
            ("ab", (10, 20), None, "start needs one integer per dimension: 2, not 1"),
        ],
    )
    def test_invalid_ones_are_refused(self, start, stop, step, expected_message):
        """The message contains the dimension, the values, and the array's shape."""
        with pytest.raises(
            SelectionError, match=expected_message.replace("(", r"\(").replace(")", r"\)").replace("[", r"\[")
        ):
            region(start, stop, step, SHAPE)


class TestBasic:
    """array[...], as in NumPy."""

    def test_shapes(self):
        """Integers remove their axis; new axes are in the result but not in the buffer."""
        chosen = basic(np.s_[None, 3, ..., None, ::-3], SHAPE)
        assert chosen.out_shape == (1, 1, 7)
        assert chosen.buffer_shape == (7,)

    @pytest.mark.parametrize(
        ("key", "expected_message"),
        [
            (10, "index 10 is out of bounds for dimension 0 of size 10 (array of shape (10, 20))"),
            (np.s_[0, -21], "index -21 is out of bounds for dimension 1 of size 20"),
            (
                np.s_[0, 1, 2],
                "too many indices: the array has 2 dimensions (shape (10, 20)), the selection 3",
            ),
            (np.s_[..., 0, ...], "one ellipsis"),
            (np.s_[::0], "the step of dimension 0 is 0"),
            (np.s_[0, :2.5], "stop of dimension 1 must be an integer, not float 2.5"),
            (np.s_[True:], "start of dimension 0 must be an integer, not bool True"),
            (True, "True is a boolean"),
            (np.s_[0, np.False_], "is a boolean"),
            (1.0, "not float 1.0"),
            (np.float64(1), "not float64"),
            ("name", "not str 'name'"),
            ([0.5], "an index array holds integers or booleans, not float64"),
            ([[1], [1, 2]], "is no array of indices"),
            ([1, True], "[1, True] mixes integers and booleans"),
            ([[1, 2], [3, False]], "mixes integers and booleans"),
            ([10], "index 10 is out of bounds for dimension 0 of size 10"),
            ([3, -11], "index -11 is out of bounds for dimension 0 of size 10"),
            ([True, False], "the boolean mask of dimension 0 has shape (2,); it must be (10,)"),
            (np.s_[0, ::2, None, 0], "too many indices"),
        ],
    )
    def test_invalid_ones_are_refused(self, key, expected_message):
        """Each kind of invalid element has its own message."""
        with pytest.raises(SelectionError, match=re.escape(expected_message)):
            basic(key, SHAPE)

    @pytest.mark.parametrize(
        "key",
        [
            np.s_[[0, 1], :, [0, 1]],
            np.s_[0, :, [0, 1]],
            np.s_[[0, 1], ..., 0],
            np.s_[[0, 1], None, 0],
            np.s_[[[0, 1], [1, 0]]],
            np.s_[np.ones((3, 3), bool)],
            np.s_[[True, False, True], [True, False, True], 0],
        ],
    )
    def test_ambiguous_index_arrays_are_refused(self, key):
        """If NumPy's rule is neither that of oindex nor that of vindex, the message names both."""
        with pytest.raises(SelectionError, match=r"array\.oindex\[.*array\.vindex\["):
            basic(key, (3, 3, 3))


class TestOrthogonal:
    """array.oindex[...]."""

    @pytest.mark.parametrize(
        ("key", "expected_message"),
        [
            (np.s_[[[0, 1]], 0], "the index array of dimension 0 must be 1-d, not of shape (1, 2)"),
            (np.ones(SHAPE, bool), "the index array of dimension 0 must be 1-d"),
            (
                np.s_[:, np.ones(10, bool)],
                "the boolean mask of dimension 1 has shape (10,); it must be (20,)",
            ),
            (
                np.s_[:, np.array([2**63], np.uint64)],
                "index 9223372036854775808 is out of bounds for dimension 1",
            ),
            (np.s_[[2**70]], "an index array holds integers or booleans, not object"),
        ],
    )
    def test_invalid_ones_are_refused(self, key, expected_message):
        """Index arrays must be 1-d and inside the array, masks as long as their axis."""
        with pytest.raises(SelectionError, match=re.escape(expected_message)):
            orthogonal(key, SHAPE)

    def test_later_changes_of_the_index_array_have_no_effect(self):
        """A selection keeps a copy of its index arrays."""
        rows, mask, column = np.array([1, 2]), np.ones(20, bool), np.array([3, 4])
        made = orthogonal((rows, mask), SHAPE)
        points = vectorized((rows, column), SHAPE)
        before = indices(made), indices(points)
        rows[:], mask[:], column[:] = 7, False, 7
        assert np.array_equal(indices(made), before[0])
        assert np.array_equal(indices(points), before[1])

    def test_index_arrays_are_refused_for_an_axis_that_is_too_long(self):
        """Slices work for any length, index arrays up to 2**63 - 1."""
        shape = (2**70,)
        assert orthogonal(np.s_[-5:], shape).out_shape == (5,)
        with pytest.raises(SelectionError, match="use slices"):
            orthogonal([0], shape)


class TestVectorized:
    """array.vindex[...]."""

    def test_integers_alone_give_one_element(self):
        """No axis is left, as in NumPy."""
        assert vectorized((1, 2), SHAPE).out_shape == ()
        assert indices(vectorized((1, np.int8(-1)), SHAPE)) == 39

    @pytest.mark.parametrize(
        ("key", "expected_message"),
        [
            (np.s_[[0], :], "slices go to array[...] or oindex"),
            (np.s_[..., [0]], "slices go to array[...] or oindex"),
            (np.s_[[0]], "the array has shape (10, 20), the selection 1 item(s)"),
            (np.s_[[0], [0], [0]], "the selection 3 item(s)"),
            (np.s_[[True] * 10, [0]], "one boolean mask of the array's shape"),
            (np.ones((20, 10), bool), "the array has shape (10, 20), the mask (20, 10)"),
            (np.s_[[0, 1], [0, 1, 2]], "coordinate arrays of shapes (2,), (3,) do not broadcast together"),
            (np.s_[[0, 10], 0], "index 10 is out of bounds for dimension 0 of size 10"),
            (np.s_[0, 20], "index 20 is out of bounds for dimension 1 of size 20"),
            (np.s_[0, 1.5], "not float 1.5"),
        ],
    )
    def test_invalid_ones_are_refused(self, key, expected_message):
        """Accepted are one coordinate array per dimension or one mask; for slices the message names oindex."""
        with pytest.raises(SelectionError, match=re.escape(expected_message)):
            vectorized(key, SHAPE)

    def test_a_mask_of_no_dimensions_is_refused(self):
        """A 0-d array has nothing to select from."""
        with pytest.raises(SelectionError, match="the mask"):
            vectorized(np.array(True), ())


class TestBlocks:
    """array.blocks[...]."""

    def test_an_integer_keeps_its_axis(self):
        """A block is a region of the array; the last one ends with the array."""
        assert blocks(np.s_[-1, 1:3], SHAPE, (4, 6)).out_shape == (2, 12)

    @pytest.mark.parametrize(
        ("key", "expected_message"),
        [
            (3, "index 3 is out of bounds for dimension 0 of size 3"),
            (np.s_[::2], "blocks takes integers and slices of step 1"),
            (np.s_[[0, 1]], "blocks takes integers and slices of step 1"),
            (np.s_[None], "blocks takes integers and slices of step 1"),
        ],
    )
    def test_invalid_ones_are_refused(self, key, expected_message):
        """Block numbers are checked against the grid."""
        with pytest.raises(SelectionError, match=re.escape(expected_message)):
            blocks(key, SHAPE, (4, 6))


class TestByName:
    """array.sel(...)."""

    def test_the_named_dimension_is_selected(self):
        """The other dimensions are taken whole."""
        assert by_name({"x": slice(2, 4)}, ("t", "x"), SHAPE).out_shape == (10, 2)
        assert by_name({}, None, SHAPE).out_shape == SHAPE

    @pytest.mark.parametrize(
        ("names", "known", "expected_message"),
        [
            ({"y": 0}, ("t", "x"), "no dimension is called 'y'; the array's dimension names: 't', 'x'"),
            ({"y": 0}, ("t", None), "no dimension is called 'y'; the array's dimension names: 't'"),
            ({"y": 0}, None, "the array's dimension names: none"),
            ({"x": 0}, ("x", "x"), "more than one dimension is called 'x'"),
            ({"x": None}, ("t", "x"), "x=None selects nothing"),
            ({"x": 20}, ("t", "x"), "index 20 is out of bounds for dimension 1 of size 20"),
        ],
    )
    def test_invalid_ones_are_refused(self, names, known, expected_message):
        """A name must belong to exactly one dimension."""
        with pytest.raises(SelectionError, match=re.escape(expected_message)):
            by_name(names, known, SHAPE)


@pytest.mark.parametrize(
    "values",
    [[], (), [[]], np.zeros(0, int), np.zeros(0, np.uint8), range(0)],
    ids=repr,
)
def test_empty_index_arrays_select_nothing(values):
    """An empty list is an index array without indices."""
    if np.ndim(values) == 1:
        assert orthogonal((values,), SHAPE).out_shape == (0, 20)
    assert vectorized((values, 0), SHAPE).out_shape == np.shape(values)


def test_selection_error_is_an_index_error():
    """So code written for NumPy catches it."""
    with pytest.raises(IndexError):
        basic(99, SHAPE)
