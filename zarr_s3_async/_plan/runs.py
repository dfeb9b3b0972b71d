"""Byte runs that a part needs of an uncompressed chunk, whose elements are stored one after the other.

All runs have one length. Concatenated in order they are the bytes of a *box*: the smallest chunk, stored in the same
way, that holds every element the part takes.
"""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, NamedTuple

import numpy as np

from .._grid import Ints
from .._types import Shape
from ..byte_range import Span

_MAX_RUNS = 2**15
"""Maximum number of runs; what would be more is one run, from the first byte to the last."""


class Runs(NamedTuple):
    """Bytes of a chunk."""

    box: Shape
    """Shape of the chunk that the concatenated runs are."""
    take: tuple[Any, ...]
    """`box[take]` equals `chunk[take]` of the part."""
    starts: Ints
    """Where the runs start, ascending."""
    length: int
    """Bytes of each."""

    @property
    def nbytes(self) -> int:
        """Bytes of all of them."""
        return self.starts.size * self.length

    def spans(self, start: int = 0) -> list[Span]:
        """The runs as byte ranges of an object in which the chunk starts at byte `start`."""
        return [Span(start + at, start + at + self.length) for at in self.starts.tolist()]


def runs_of(take: tuple[Any, ...], shape: Shape, order: Sequence[int], itemsize: int, max_gap: int = 0) -> Runs:
    """The runs for `chunk[take]`.

    Args:
        take: As a `Part` has it: per axis an integer, a slice with a step of at least 1, or an index array.
        shape: The chunk's.
        order: Its axes in the order in which they vary in storage, the slowest first.
        itemsize: Bytes of a stored element.
        max_gap: Elements with gaps of up to so many bytes between them are one run, the gaps included.
    """
    index = take[: len(shape)]
    if len(index) > 1 and all(isinstance(item, np.ndarray) and item.ndim == 1 for item in index):
        return _of_points(index, shape, order, itemsize, max_gap)
    box = _Box(index, shape, itemsize)
    for axis in reversed(order):
        box.extend(axis, max_gap)
    return Runs(tuple(map(len, box.positions)), (*box.take, *take[len(shape) :]), box.starts, box.length)


class _Box:
    """The outer product of what is needed of each axis, as runs; grows from the fastest axis on."""

    __slots__ = ("_axes", "_index", "_is_run", "_shape", "_stride", "length", "positions", "starts", "take")

    def __init__(self, index: tuple[Any, ...], shape: Shape, itemsize: int) -> None:
        self._index = index
        self._shape = shape
        self._axes: list[int] = []
        """The axes so far."""
        self._stride = self.length = itemsize
        self._is_run = True
        """True while there is one run that covers all axes so far."""
        self.starts = np.zeros(1, np.int64)
        self.positions: list[range | Ints] = []
        self.take: list[Any] = []
        for item, n in zip(index, shape, strict=True):
            positions, inside = _positions(item, n)
            self.positions.append(positions)
            self.take.append(inside)

    def extend(self, axis: int, max_gap: int) -> None:
        """Add the next slower axis."""
        chosen = self.positions[axis]
        self._axes.append(axis)
        if not (self._is_run and isinstance(chosen, range) and chosen.step == 1):
            if self._is_one_run(chosen, max_gap):
                chosen = self._fill_gaps(axis)
                self._is_run = True
            else:
                # Each chosen position of this axis is a run (or a set of runs) of its own.
                offsets = np.asarray(chosen, np.int64) * self._stride
                self.starts = (offsets[:, None] + self.starts[None, :]).reshape(-1)
                self._is_run = False
        # Everything on the faster axes is one run: a dense range of this axis makes that run longer.
        if self._is_run:
            self.starts = self.starts + chosen[0] * self._stride
            self.length *= len(chosen)
            self._is_run = len(chosen) == self._shape[axis]
        self._stride *= self._shape[axis]

    def _is_one_run(self, chosen: range | Ints, max_gap: int) -> bool:
        """True if the runs so far, repeated along an axis, are better fetched as one with all gaps between them."""
        if len(chosen) * self.starts.size > _MAX_RUNS:
            return True
        if self.starts.size > 1 or len(chosen) == 1:
            return False
        step = chosen.step if isinstance(chosen, range) else int(np.diff(chosen).max())
        # The one run starts and ends where the faster axes do: that may be as much again as one more gap.
        return len(chosen) * (step * self._stride - self.length) <= (len(chosen) - 1) * max_gap

    def _fill_gaps(self, axis: int) -> range:
        """Take the faster axes whole, and of this one everything from the first to the last position."""
        for faster in self._axes[:-1]:
            self.positions[faster] = range(self._shape[faster])
            self.take[faster] = self._index[faster]
        chosen, item = self.positions[axis], self._index[axis]
        first = int(chosen[0])
        filled = self.positions[axis] = range(first, int(chosen[-1]) + 1)
        if isinstance(item, slice):
            self.take[axis] = slice(0, len(filled), item.step)
        else:
            self.take[axis] = item - first
        self.starts = np.zeros(1, np.int64)
        self.length = self._stride
        return filled


def _positions(item: Any, n: int) -> tuple[range | Ints, Any]:
    """The distinct positions of an axis that an index item needs, ascending, and the item as an index into them."""
    if isinstance(item, slice):
        chosen = range(*item.indices(n))
        return chosen, slice(0, len(chosen))
    if isinstance(item, np.ndarray):
        # A repeated or unsorted index is fetched once, in ascending order; `inverse` restores what was asked for.
        distinct, inverse = np.unique(item, return_inverse=True)
        return distinct.astype(np.int64, copy=False), inverse.reshape(item.shape)
    return range(item, item + 1), 0


def _of_points(index: tuple[Ints, ...], shape: Shape, order: Sequence[int], itemsize: int, max_gap: int) -> Runs:
    """Single elements: a box of as many, along the slowest axis."""
    flat = np.zeros(index[0].size, np.int64)
    for axis in order:
        flat = flat * shape[axis] + index[axis]
    distinct, inverse = np.unique(flat, return_inverse=True)
    length, starts = itemsize, distinct * itemsize
    # Neighbours lie closer together than a request costs, or there would be too many requests: one run for all.
    if distinct.size > _MAX_RUNS or (np.diff(starts) - itemsize <= max_gap).all():
        first, last = int(distinct[0]), int(distinct[-1])
        distinct, inverse = np.arange(first, last + 1), flat - first
        length, starts = distinct.size * itemsize, starts[:1]
    slowest = order[0]
    box = tuple(distinct.size if axis == slowest else 1 for axis in range(len(shape)))
    take = tuple(inverse.reshape(-1) if axis == slowest else 0 for axis in range(len(shape)))
    return Runs(box, take, starts, length)


def whole_chunk(shape: Shape, itemsize: int, take: tuple[Any, ...]) -> Runs:
    """All of a chunk, as one run."""
    return Runs(shape, take, np.zeros(1, np.int64), prod(shape) * itemsize)
