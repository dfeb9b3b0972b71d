"""Permutations are permutations, differ by key, spread well, and never change."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarr_s3_async.loader import permutation
from zarr_s3_async.loader.permutation import Permutation, key_of

BIG = 2**18 + 1
"""The first size that has no table."""


@given(n=st.integers(0, 3000), key=st.integers(0, 2**64 - 1), computed=st.booleans())
def test_a_permutation_contains_each_element_once(n: int, key: int, computed: bool) -> None:
    with pytest.MonkeyPatch.context() as patch:
        if computed:
            patch.setattr(permutation, "_TABLE_SIZE", 0)
        found = Permutation(n, key).at(np.arange(n))
    assert np.array_equal(np.sort(found), np.arange(n))


def test_a_large_computed_permutation_contains_each_element_once() -> None:
    assert np.array_equal(np.sort(Permutation(BIG, 5).at(np.arange(BIG))), np.arange(BIG))


@pytest.mark.parametrize("n", [2**18, BIG])
def test_elements_move_as_far_as_in_a_random_permutation(n: int) -> None:
    found = Permutation(n, key_of(1, 2)).at(np.arange(n))
    # |i - p(i)| of a random permutation is n/3 in the mean, with a deviation of n / sqrt(18 n): ten are allowed.
    assert abs(np.abs(found - np.arange(n)).mean() / n - 1 / 3) < 10 / np.sqrt(18 * n)
    # In the mean, two pairs of neighbours stay neighbours (a Poisson distribution).
    assert np.count_nonzero(np.abs(np.diff(found)) == 1) < 20


@pytest.mark.parametrize("n", [1000, BIG])
def test_permutations_of_different_keys_are_unrelated(n: int) -> None:
    one, other = (Permutation(n, key_of(7, epoch)).at(np.arange(n)) for epoch in (0, 1))
    assert np.count_nonzero(one == other) < 12  # the mean is one
    assert abs(np.corrcoef(one, other)[0, 1]) < 6 / np.sqrt(n)


def test_keys_depend_on_the_order_of_their_parts() -> None:
    keys = {key_of(1, 2), key_of(2, 1), key_of(1), key_of(1, 2, 0), key_of(-1), key_of(2**64 - 2)}
    assert len(keys) == 6


def test_permutations_are_the_same_in_every_release() -> None:
    """States of loaders are kept for years: a change here changes what a resumed epoch reads."""
    assert key_of(1, 2, 3) == KEY
    assert Permutation(10, 42).at(np.arange(10)).tolist() == SMALL
    assert Permutation(10**9, 42).at(np.arange(4)).tolist() == LARGE


KEY = 2543667143946353192
SMALL = [1, 2, 0, 8, 5, 6, 7, 3, 9, 4]
LARGE = [156741415, 632320192, 441438978, 110159399]
