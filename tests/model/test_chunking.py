"""Chunk shapes that users request, and the default ones."""

from math import prod

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarr_s3_async._model import chunking
from zarr_s3_async._model.dtypes import STRING, DataType
from zarr_s3_async._model.problems import Invalid

F8 = DataType(np.dtype("f8"))


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ((5, 2), (5, 2)),
        ([5, 2], (5, 2)),
        (np.array([5, 2]), (5, 2)),
        ((np.int8(5), np.uint64(2)), (5, 2)),
        (3, (3, 3)),
        ((5, -1), (5, 4)),
        ((None, 2), (10, 2)),
        (-1, (10, 4)),
        ((100, 100), (100, 100)),
    ],
    ids=str,
)
def test_chunks_are_accepted_in_every_form(option, expected):
    assert chunking.chunks(option, (10, 4), F8, None) == expected


@pytest.mark.parametrize(
    "option", [(5,), (5, 2, 1), (0, 2), (-2, 2), (5, 2.0), (5, True), "big", None.__class__, True, (5, "2")]
)
def test_invalid_chunks_are_refused(option):
    with pytest.raises(Invalid, match="chunks"):
        chunking.chunks(option, (10, 4), F8, None)


def test_a_dimension_of_length_zero_has_chunks_of_one():
    assert chunking.chunks("auto", (0, 4), F8, None) == (1, 4)
    assert chunking.chunks(-1, (0, 4), F8, None) == (1, 4)


def test_a_scalar_has_a_chunk_of_no_dimensions():
    assert chunking.chunks("auto", (), F8, None) == ()
    assert chunking.chunks(5, (), F8, None) == ()


@pytest.mark.parametrize(
    ("option", "expected"),
    [(5, (5,)), ((5, 2), (5, 2)), ([], ()), (np.int16(3), (3,)), (np.zeros((2, 3)).shape, (2, 3))],
)
def test_shapes_are_accepted_in_every_form(option, expected):
    assert chunking.shape(option) == expected


@pytest.mark.parametrize("option", [-1, (2, -1), 2.0, "12", None, True, (True,), (2**63,), {3: 4}, b"ab", [[1]]])
def test_invalid_shapes_are_refused(option):
    with pytest.raises(Invalid, match="shape"):
        chunking.shape(option)


EXTENTS = st.lists(st.integers(0, 2**40), max_size=6).map(tuple)
TYPES = st.sampled_from([F8, DataType(np.dtype("?")), DataType(np.dtype("c16")), DataType(np.dtype("S100000")), STRING])


@given(EXTENTS, TYPES)
def test_automatic_chunks_are_about_a_mebibyte(extents, data_type):
    chunks = chunking.chunks("auto", extents, data_type, None)
    assert len(chunks) == len(extents)
    assert all(1 <= chunk <= max(extent, 1) for chunk, extent in zip(chunks, extents, strict=True))
    size = prod(chunks) * (32 if data_type.variable else data_type.dtype.itemsize)
    assert size <= chunking.TARGET_BYTES or prod(chunks) == 1
    if prod(max(extent, 1) for extent in extents) > prod(
        chunks
    ):  # the array has several chunks: then none is much smaller than the target
        assert size > chunking.TARGET_BYTES // 4 or prod(chunks) == 1


@given(st.lists(st.integers(1, 5000), max_size=4).map(tuple), TYPES)
def test_automatic_chunks_divide_their_shard(shard, data_type):
    chunks = chunking.chunks("auto", shard, data_type, shard)
    assert all(edge % chunk == 0 for edge, chunk in zip(shard, chunks, strict=True))
    size = prod(chunks) * (32 if data_type.variable else data_type.dtype.itemsize)
    assert size <= chunking.TARGET_BYTES or prod(chunks) == 1


def test_automatic_chunks_of_a_shard_with_a_huge_prime_length_are_found():
    assert chunking.chunks("auto", (2**61 - 1,), F8, (2**61 - 1,)) == (1,)
