"""The same selections mean the same to zarr-python."""

from __future__ import annotations

import numpy as np
import pytest

from zarr_s3_async._plan.plan import plan
from zarr_s3_async._plan.selection import basic, blocks, orthogonal, vectorized

from .simulated import ChunkedArray, numbered

zarr = pytest.importorskip("zarr")

SHAPE, CHUNKS = (11, 7, 10), (4, 3, 3)
MASK = numbered(SHAPE) % 3 == 1


@pytest.fixture(scope="module")
def theirs():
    """zarr-python's array of row-major positions, in memory."""
    array = zarr.create_array({}, shape=SHAPE, chunks=CHUNKS, dtype="int64", compressors=None)
    array[...] = numbered(SHAPE)
    return array


def ours(selection):
    """The same array, read through a plan."""
    return ChunkedArray(numbered(SHAPE), CHUNKS).read(plan(selection, SHAPE, CHUNKS))


@pytest.mark.parametrize(
    "key",
    [
        np.s_[[5, 1, 1, -1], :, [9, 0]],
        np.s_[3, [2, 0], [4, 4, 8]],
        np.s_[[1, 10], 2, 3:9],
        np.s_[0, :, [1, 9, 2]],
        np.s_[MASK[:, 0, 0], ::2, MASK[0, 0]],
        np.s_[..., [3, 3]],
        np.s_[[4]],
        np.s_[2, 3, 4],
    ],
)
def test_oindex(theirs, key):
    """Orthogonal selections, with integers, arrays, masks and steps."""
    expected = theirs.oindex[key]
    assert np.array_equal(ours(orthogonal(key, SHAPE)), expected)
    assert orthogonal(key, SHAPE).out_shape == np.shape(expected)


@pytest.mark.parametrize(
    "key",
    [
        np.s_[[5, 1, 1, -1], [0, 6, 6, 2], [9, 0, 0, 4]],
        np.s_[[[5], [1]], 3, [[0, 1, 2]]],
        MASK,
        np.zeros(SHAPE, bool),
    ],
    ids=["points", "broadcast", "mask", "nothing"],
)
def test_vindex(theirs, key):
    """Coordinates and masks."""
    assert np.array_equal(ours(vectorized(key, SHAPE)), theirs.vindex[key])


@pytest.mark.parametrize("key", [np.s_[1], np.s_[-1, :2, 1:], np.s_[..., 3], np.s_[0, 0, 0]])
def test_blocks(theirs, key):
    """Blocks of the chunk grid."""
    assert np.array_equal(ours(blocks(key, SHAPE, CHUNKS)), theirs.blocks[key])


@pytest.mark.parametrize("key", [MASK, np.s_[[1, 2], [3, 4], [5, 6]], np.s_[:, [5, 0]], np.s_[2:9:3, 1, ...]], ids=str)
def test_subscript(theirs, key):
    """array[...], with the index arrays that it takes."""
    assert np.array_equal(ours(basic(key, SHAPE)), theirs[key])
