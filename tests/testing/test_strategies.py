"""The strategies draw valid values, and all kinds of them."""

import subprocess
import sys
from math import prod

import numpy as np
from hypothesis import find, given
from hypothesis import strategies as st

from zarr_s3_async.testing import strategies


@given(st.data())
def test_grids_fit_and_are_bounded(data):
    shape, chunks = data.draw(strategies.grids(max_chunks=50))
    assert len(chunks) == len(shape)
    assert all(side >= 1 for side in chunks)
    assert prod(-(-n // c) for n, c in zip(shape, chunks, strict=True)) <= 50
    shards = data.draw(strategies.shards_for(chunks))
    assert all(shard % chunk == 0 for shard, chunk in zip(shards, chunks, strict=True))


@given(st.data())
def test_contents_have_the_shape_and_the_type(data):
    shape = data.draw(strategies.shapes())
    dtype = data.draw(strategies.dtypes())
    array = data.draw(strategies.contents(shape, dtype))
    assert (array.shape, array.dtype) == (shape, dtype)
    assert array.flags.writeable
    repr(array)  # every element is a value


@given(st.data())
def test_drawn_selections_are_valid(data):
    shape = data.draw(strategies.shapes(min_dims=1))
    start, stop = data.draw(strategies.regions(shape))
    assert all(0 <= a <= b <= n for a, b, n in zip(start, stop, shape, strict=True))
    np.zeros(shape)[data.draw(strategies.basic_selections(shape))]


def test_edge_cases_are_drawn():
    assert find(strategies.shapes(), lambda shape: shape == ()) == ()
    assert 0 in find(strategies.shapes(), lambda shape: 0 in shape and len(shape) > 1)
    assert find(strategies.dtypes(), lambda dtype: dtype.str.startswith(">")).str.startswith(">")
    assert find(strategies.dtypes(), lambda dtype: dtype.fields is not None).fields
    floats = strategies.contents((3,), np.dtype("f8"))
    assert np.isnan(find(floats, lambda array: bool(np.isnan(array).any()))).any()
    times = strategies.contents((3,), np.dtype("M8[s]"))
    assert np.isnat(find(times, lambda array: bool(np.isnat(array).any()))).any()


def test_importing_the_strategies_imports_neither_hypothesis_nor_pytest():
    heavy = {"hypothesis", "pytest", "cryptography", "botocore"}
    imports = "import sys, zarr_s3_async.testing, zarr_s3_async.testing.strategies"
    command = [sys.executable, "-c", f"{imports}; print(sorted({heavy} & set(sys.modules)))"]
    assert subprocess.run(command, capture_output=True, text=True, check=True).stdout.strip() == "[]"
