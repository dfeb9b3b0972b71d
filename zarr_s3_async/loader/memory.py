"""Memory for decoded rows, used again: fresh pages cost more than the bytes that are decoded into them."""

from __future__ import annotations

from math import prod
from typing import Any, TypeAlias

import numpy as np

from .._types import Shape

Block: TypeAlias = np.ndarray[Any, np.dtype[Any]]

_KEPT = 4
"""Free blocks that are kept at most."""


class RowMemory:
    """Blocks of one epoch. Those that are lent and those that are free take `limit` bytes at most.

    One block may be larger than `limit` where it is lent alone.
    """

    __slots__ = ("_free", "_lent", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lent = 0
        self._free: list[Block] = []

    def lend(self, shape: Shape, dtype: np.dtype[Any]) -> Block:
        """Memory with anything in it."""
        if dtype.hasobject:
            return np.empty(shape, dtype)
        nbytes = prod(shape) * dtype.itemsize
        fitting = [block for block in self._free if nbytes <= block.nbytes <= nbytes + nbytes // 8 + 4096]
        if fitting:
            block = min(fitting, key=lambda one: one.nbytes)
            self._free = [other for other in self._free if other is not block]
        else:
            self._make_place(nbytes)
            block = np.empty(nbytes, np.uint8)
        self._lent += block.nbytes
        view: Block = block[:nbytes].view(dtype).reshape(shape)
        return view

    def give_back(self, view: Block) -> None:
        """Only once nothing looks at it any more."""
        if view.dtype.hasobject:
            return
        block = view
        while isinstance(block.base, np.ndarray):
            block = block.base
        self._lent -= block.nbytes
        if len(self._free) < _KEPT and self._lent + block.nbytes + self._free_bytes() <= self._limit:
            self._free.append(block)

    def _free_bytes(self) -> int:
        return sum(block.nbytes for block in self._free)

    def _make_place(self, nbytes: int) -> None:
        while self._free and self._lent + nbytes + self._free_bytes() > self._limit:
            del self._free[0]
