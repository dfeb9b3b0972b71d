"""Selections have the same meaning as in zarr-python."""

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
    """Read a selection of the same array through a plan."""
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
def test_orthogonal_selections_equal_zarr_pythons(theirs, key):
    """They have integers, arrays, masks and steps."""
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
def test_coordinates_and_masks_equal_zarr_pythons(theirs, key):
    """Both are given to vindex."""
    assert np.array_equal(ours(vectorized(key, SHAPE)), theirs.vindex[key])


@pytest.mark.parametrize("key", [np.s_[1], np.s_[-1, :2, 1:], np.s_[..., 3], np.s_[0, 0, 0]])
def test_blocks_equal_zarr_pythons(theirs, key):
    """Blocks are chunks of the grid."""
    assert np.array_equal(ours(blocks(key, SHAPE, CHUNKS)), theirs.blocks[key])


@pytest.mark.parametrize("key", [MASK, np.s_[[1, 2], [3, 4], [5, 6]], np.s_[:, [5, 0]], np.s_[2:9:3, 1, ...]], ids=str)
def test_subscripts_equal_zarr_pythons(theirs, key):
    """array[...] is used with the index arrays that both accept."""
    assert np.array_equal(ours(basic(key, SHAPE)), theirs[key])
