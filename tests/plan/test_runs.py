"""The byte runs of a part of a raw chunk, against NumPy: what they bring is what indexing takes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zarr_s3_async._plan.parts import mesh
from zarr_s3_async._plan.runs import runs_of


@st.composite
def takes(draw, shape):
    """What parts take of a chunk."""
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
def test_runs_bring_what_is_taken(data):
    """Their bytes in order are a chunk of the box's shape, stored alike; within it, `take` finds what was wanted."""
    shape = tuple(data.draw(st.lists(st.integers(1, 6), min_size=0, max_size=4)))
    order = data.draw(st.permutations(range(len(shape))))
    take = data.draw(takes(shape))
    chunk = np.random.default_rng(1).integers(0, 2**31, shape, np.int32)
    stored = np.ascontiguousarray(chunk.transpose(order)).tobytes()
    runs = runs_of(take, shape, order, 4)
    starts = runs.starts.tolist()
    assert starts == sorted(set(starts))
    assert all(a + runs.length <= b for a, b in pairwise(starts))
    body = b"".join(stored[start : start + runs.length] for start in starts)
    assert len(body) == runs.nbytes
    box = np.frombuffer(body, np.int32).reshape([runs.box[axis] for axis in order])
    np.testing.assert_array_equal(box.transpose(np.argsort(order))[runs.take], chunk[take])


def test_neighbours_in_storage_are_one_run():
    """A row is one run; a column is one per row; whole planes are one run."""
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


def test_too_many_runs_are_not_listed():
    """Elements one by one of a chunk of millions of rows."""
    assert runs_of(np.s_[0 : 2**20, 0:1], (2**20, 16), (0, 1), 4) is None
