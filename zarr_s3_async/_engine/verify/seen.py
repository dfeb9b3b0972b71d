"""Which objects of a grid a listing has named, in bounded memory however large the grid is."""

from __future__ import annotations

from collections.abc import Iterator
from math import prod

import numpy as np

from ..._types import Coords, Shape

_BITS = 2**26
"""Positions of a grid that are remembered at most: 8 MiB."""
_BLOCK = 2**16


class Seen:
    """A bit per position, for the first ones of a huge grid, and no further than there are any."""

    __slots__ = ("_bits", "_grid")

    def __init__(self, grid: Shape) -> None:
        self._grid = grid
        self._bits = bytearray()

    def add(self, position: Coords) -> None:
        """This one is there."""
        flat = 0
        for at, n in zip(position, self._grid, strict=True):
            flat = flat * n + at
        byte, bit = divmod(flat, 8)
        if flat >= _BITS:
            return
        if byte >= len(self._bits):
            wanted = min(max(byte + 1, 2 * len(self._bits)), _BITS // 8)
            self._bits.extend(bytes(wanted - len(self._bits)))
        self._bits[byte] |= 1 << bit

    def absent(self) -> Iterator[Coords]:
        """Positions that are not there, in row-major order; none beyond those that are remembered."""
        end = min(prod(self._grid), _BITS)
        for at in range(0, len(self._bits), _BLOCK):
            block = np.frombuffer(self._bits[at : at + _BLOCK], np.uint8)
            gaps = np.flatnonzero(np.unpackbits(block, bitorder="little") == 0) + 8 * at
            for flat in gaps.tolist():
                if flat < end:
                    yield self._position(flat)
        for flat in range(8 * len(self._bits), end):
            yield self._position(flat)

    def _position(self, flat: int) -> Coords:
        position: list[int] = []
        for n in reversed(self._grid):
            flat, at = divmod(flat, n)
            position.append(at)
        return tuple(reversed(position))
