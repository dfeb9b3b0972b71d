"""Reused memory for decoded rows and for batches: the kernel takes longer to map a new page than a copy into it."""

from __future__ import annotations

import sys
from collections import deque
from math import prod
from typing import Any, Final, TypeAlias

import numpy as np

from .._types import Shape

Block: TypeAlias = np.ndarray[Any, np.dtype[Any]]

_KEPT = 4
"""Maximum number of free blocks of rows that are kept."""
_MAX_BATCH_BLOCKS: Final = 64
"""Maximum number of blocks of batches that are tracked; each new batch searches them."""
_FEW_BLOCKS: Final = 3
"""The user has one, one is ready, and one is being filled."""
_SMALL: Final = 2**16
"""Below this number of bytes the allocator itself reuses memory."""
_probe: Final = deque([object()])
_UNREFERENCED: Final = sys.getrefcount(_probe[0])
"""Reference count of an object that only a deque refers to."""
_COUNTS_ARE_EXACT: Final = sys.implementation.name == "cpython" and getattr(sys, "_is_gil_enabled", lambda: True)()


class RowMemory:
    """Memory blocks of one epoch. Blocks in use and free blocks together have at most `limit` bytes.

    A single block may be larger than `limit` if no other block is in use.
    """

    __slots__ = ("_free", "_lent", "_limit")

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._lent = 0
        self._free: list[Block] = []

    def lend(self, shape: Shape, dtype: np.dtype[Any]) -> Block:
        """Uninitialized memory; the caller returns it with `give_back`."""
        if dtype.hasobject:
            return np.empty(shape, dtype)
        nbytes = prod(shape) * dtype.itemsize
        fitting = [block for block in self._free if nbytes <= block.nbytes <= nbytes + nbytes // 8 + 4096]
        if fitting:
            block = min(fitting, key=lambda one: one.nbytes)
            self._free = [other for other in self._free if other is not block]
        else:
            self._drop_free_blocks(nbytes)
            block = np.empty(nbytes, np.uint8)
        self._lent += block.nbytes
        view: Block = block[:nbytes].view(dtype).reshape(shape)
        return view

    def give_back(self, view: Block) -> None:
        """Return memory that `lend` returned. No view of it may be used afterwards."""
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

    def _drop_free_blocks(self, nbytes: int) -> None:
        """Drop free blocks until a new block of `nbytes` fits into the limit."""
        while self._free and self._lent + nbytes + self._free_bytes() > self._limit:
            del self._free[0]


class BatchMemory:
    """Memory for batches. A block is reused when the user has dropped the batch and all views: tensors, slices, DLPack.

    The reference count of the block shows this, because every view refers to the block that owns the memory.

    Args:
        limit: Maximum bytes of tracked blocks, in use or not; at least three blocks are tracked.
    """

    __slots__ = ("_blocks", "_limit")

    def __init__(self, limit: int) -> None:
        self._blocks: deque[Block] = deque()
        self._limit = limit

    def new(self, shape: Shape, dtype: np.dtype[Any]) -> Block:
        """An uninitialized array. Its memory is reused when no reference to the array or to a view of it is left."""
        nbytes = prod(shape) * dtype.itemsize
        if nbytes < _SMALL or dtype.hasobject or not _COUNTS_ARE_EXACT:
            return np.empty(shape, dtype)
        blocks = self._blocks
        for _ in range(len(blocks)):  # the oldest first: batches are dropped in the order in which they were taken
            blocks.rotate(-1)
            if sys.getrefcount(blocks[-1]) == _UNREFERENCED and blocks[-1].nbytes == nbytes:
                break
        else:
            # Stop tracking the oldest blocks: the user keeps these batches, and their memory is freed as usual.
            while len(blocks) >= _MAX_BATCH_BLOCKS or (
                len(blocks) >= _FEW_BLOCKS and nbytes + sum(block.nbytes for block in blocks) > self._limit
            ):
                blocks.popleft()
            blocks.append(np.empty(nbytes, np.uint8))
        view: Block = blocks[-1].view(dtype).reshape(shape)
        return view
