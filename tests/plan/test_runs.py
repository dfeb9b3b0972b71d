"""The byte runs of a part of a raw chunk contain what NumPy's indexing selects."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zarr_s3_async._plan.parts import mesh
from zarr_s3_async._plan.runs import runs_of


@st.composite
def takes(draw, shape):
    """The selections of parts inside a chunk."""
    if len(shape) > 1 and draw(st.integers(0, 3)) == 0:
        number = draw(st.integers(1, 5))
        return tuple(np.array([draw(st.integers(0, n - 1)) for _ in range(number)]) for n in shape)
    items = []
    for n in shape:
        low = draw(st.integers(0, n - 1))
        match draw(st.sampled_from(["integer", "slice", "slice", "all", "array"])):
            case "integer":
                items.append(low)
            case "slice":
                items.append(slice(low, draw(st.integers(low + 1, n)), draw(st.sampled_from([None, 1, 2, 3]))))
            case "all":
                items.append(slice(0, n))
            case "array":
                items.append(np.array(draw(st.lists(st.integers(0, n - 1), min_size=1, max_size=5))))
    return mesh(tuple(items))


@given(st.data())
def test_runs_contain_the_selected_elements(data):
    """Their bytes in order are a chunk with the shape of the box, in which `take` selects the same elements."""
    shape = tuple(data.draw(st.lists(st.integers(1, 6), min_size=0, max_size=4)))
    order = data.draw(st.permutations(range(len(shape))))
    take = data.draw(takes(shape))
    chunk = np.random.default_rng(1).integers(0, 2**31, shape, np.int32)
    stored = np.ascontiguousarray(chunk.transpose(order)).tobytes()
    max_gap = data.draw(st.sampled_from([0, 0, 4, 8, 40, 200]))
    runs = runs_of(take, shape, order, 4, max_gap)
    starts = runs.starts.tolist()
    assert starts == sorted(set(starts))
    assert all(a + runs.length <= b for a, b in pairwise(starts))
    body = b"".join(stored[start : start + runs.length] for start in starts)
    assert len(body) == runs.nbytes
    box = np.frombuffer(body, np.int32).reshape([runs.box[axis] for axis in order])
    np.testing.assert_array_equal(box.transpose(np.argsort(order))[runs.take], chunk[take])


def test_adjacent_bytes_are_one_run():
    """A row is one run, a column has one run per row, and whole planes are one run."""
    shape = (8, 4, 16)
    in_order = (0, 1, 2)
    for take, number, length in (
        (np.s_[3, 2, 0:16], 1, 64),
        (np.s_[3, 2, 4:9], 1, 20),
        (np.s_[3:4, 1:3, 0:16], 1, 128),
        (np.s_[2:5, 0:4, 0:16], 1, 768),
        (np.s_[0:8, 1:2, 5:6], 8, 4),
        (np.s_[0:8, 0:4, 5], 32, 4),
        (np.s_[0:8:2, 0:4, 0:16], 4, 256),
    ):
        runs = runs_of(take, shape, in_order, 4)
        assert (runs.starts.size, runs.length) == (number, length)
    assert runs_of(np.s_[0:8, 0:4, 5], shape, (2, 1, 0), 4).starts.size == 1


def test_runs_with_small_gaps_are_joined():
    """Runs along an axis are joined together with the small gaps between them; large gaps are skipped."""
    shape = (8, 4, 16)
    for take, number, length in (
        (np.s_[3, 0:4, 5], 1, 256),
        (np.s_[3, 1:3, 2:14], 1, 128),
        (np.s_[0:8, 1:3, 5], 8, 128),
        (np.s_[0:8, 0:4, 0:16:2], 1, 2048),
        (np.s_[0:8, 1, 5], 8, 4),
        (np.s_[3, np.array([0, 3, 0]), 5], 2, 4),
        (np.s_[3, np.array([1, 3, 1, 2]), 5], 1, 192),
    ):
        runs = runs_of(take, shape, (0, 1, 2), 4, 120)
        assert (runs.starts.size, runs.length) == (number, length), take
    points = tuple(np.array(axis) for axis in ([3, 3, 3], [0, 1, 2], [5, 5, 5]))
    assert runs_of(points, shape, (0, 1, 2), 4, 60).nbytes == 132
    assert runs_of(points, shape, (0, 1, 2), 4, 59).nbytes == 12


def test_too_many_runs_are_replaced_by_one():
    """For single elements of a chunk with millions of rows, one run covers all from the first to the last."""
    runs = runs_of(np.s_[10 : 2**20, 0:1], (2**20, 16), (0, 1), 4)
    assert (runs.starts.tolist(), runs.length) == ([640], 64 * (2**20 - 10))
    assert runs.take == np.s_[0 : 2**20 - 10, 0:1]
    points = np.arange(100, 2**17, 2), np.zeros(2**16 - 50, np.int64)
    runs = runs_of(points, (2**20, 16), (0, 1), 4)
    assert (runs.starts.tolist(), runs.length) == ([6400], 4 * (points[0][-1] * 16 - 1599))
