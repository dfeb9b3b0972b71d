"""Permutations that depend only on a key: the same on every machine and with every version of NumPy.

NumPy's generators are not used: their streams may change between versions, and a permutation of all positions as a
table takes 8 bytes per position.
"""

from __future__ import annotations

from typing import TypeAlias

import numpy as np
from numpy.typing import NDArray

Ints: TypeAlias = NDArray[np.int64]
_Words: TypeAlias = NDArray[np.uint64]

_TABLE_SIZE = 2**18
"""Maximum number of elements of a permutation stored as a table (2 MiB); a larger one is computed per element."""
_ROUNDS = 8
_MASK = 2**64 - 1


def key_of(*parts: int) -> int:
    """A 64-bit key derived from several integers and their order."""
    key = 0x9E3779B97F4A7C15
    for part in parts:
        key = int(_mixed(np.array([part & _MASK], np.uint64), key)[0])
    return key


def _mixed(words: _Words, key: int) -> _Words:
    """The finaliser of splitmix64: each bit of the result depends on each bit of the word and of the key."""
    z: _Words = (words + np.uint64(key & _MASK)) * np.uint64(0x9E3779B97F4A7C15)
    z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
    z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
    return z ^ (z >> np.uint64(31))


class Permutation:
    """A permutation of 0 … n-1.

    Args:
        n: Number of elements.
        key: Which permutation; see `key_of`.
    """

    __slots__ = ("_half", "_keys", "_table", "n")

    def __init__(self, n: int, key: int) -> None:
        self.n: int = n
        self._table: Ints | None = None
        if n <= _TABLE_SIZE:
            words = _mixed(np.arange(n, dtype=np.uint64), key)
            self._table = np.argsort(words, kind="stable")
            return
        # A Feistel network over an even number of bits, of at most 4 n values.
        self._half = np.uint64(((n - 1).bit_length() + 1) // 2)
        self._keys = [key_of(key, number) for number in range(_ROUNDS)]

    def at(self, positions: Ints) -> Ints:
        """The elements at these positions, which are in 0 … n-1."""
        if self._table is not None:
            return self._table[positions]
        found = self._encrypt(positions.astype(np.uint64))
        outside = np.flatnonzero(found >= self.n)
        while outside.size:  # cycle walking: repeating the cipher until the value is below n gives a permutation of n
            found[outside] = self._encrypt(found[outside])
            outside = outside[found[outside] >= self.n]
        return found.astype(np.int64)

    def _encrypt(self, words: _Words) -> _Words:
        half = self._half
        mask = (np.uint64(1) << half) - np.uint64(1)
        left, right = words >> half, words & mask
        for key in self._keys:
            left, right = right, left ^ (_mixed(right, key) & mask)
        return (left << half) | right
