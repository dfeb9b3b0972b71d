"""Memory for decoded rows and for batches, used again: fresh pages cost more than the bytes that come into them."""

from __future__ import annotations

import sys
from collections import deque
from math import prod
from typing import Any, Final, TypeAlias

import numpy as np

from .._types import Shape

Block: TypeAlias = np.ndarray[Any, np.dtype[Any]]

_KEPT = 4
"""Free blocks of rows that are kept at most."""
_MAX_BATCH_BLOCKS: Final = 64
"""Blocks of batches that are remembered at most; each new batch looks through them."""
_FEW_BLOCKS: Final = 3
"""One is with the user, one is ready, one is filled."""
_SMALL: Final = 2**16
"""Bytes below which the allocator has memory at hand that was used before."""
_probe: Final = deque([object()])
_UNREFERENCED: Final = sys.getrefcount(_probe[0])
"""References that are counted of what only a deque holds."""
_COUNTS_ARE_EXACT: Final = sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()


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


class BatchMemory:
    """Memory for batches. What the user has dropped is used again, with all views of it: tensors, slices, DLPack.

    Whether a batch was dropped, its reference count tells: every view refers to the block that owns the memory.

    Args:
        limit: Bytes of blocks that are remembered, in use or not; three at least.
    """

    __slots__ = ("_blocks", "_limit")

    def __init__(self, limit: int) -> None:
        self._blocks: deque[Block] = deque()
        self._limit = limit

    def new(self, shape: Shape, dtype: np.dtype[Any]) -> Block:
        """An array with anything in it, which is the caller's until nothing refers to it any more."""
        nbytes = prod(shape) * dtype.itemsize
        if nbytes < _SMALL or dtype.hasobject or not _COUNTS_ARE_EXACT:
            return np.empty(shape, dtype)
        blocks = self._blocks
        for _ in range(len(blocks)):  # the oldest first: batches are dropped in the order in which they were taken
            blocks.rotate(-1)
            if sys.getrefcount(blocks[-1]) == _UNREFERENCED and blocks[-1].nbytes == nbytes:
                break
        else:
            # Of what a user keeps, and drops at some other time, nothing is remembered.
            while len(blocks) >= _MAX_BATCH_BLOCKS or (
                len(blocks) >= _FEW_BLOCKS and nbytes + sum(block.nbytes for block in blocks) > self._limit
            ):
                blocks.popleft()
            blocks.append(np.empty(nbytes, np.uint8))
        view: Block = blocks[-1].view(dtype).reshape(shape)
        return view
