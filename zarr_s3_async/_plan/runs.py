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
"""Limit of listed runs: a part with more of them costs about as much as its whole chunk."""


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


def runs_of(take: tuple[Any, ...], shape: Shape, order: Sequence[int], itemsize: int) -> Runs | None:
    """The runs for `chunk[take]`, or None where they are too many to list.

    Args:
        take: As a `Part` has it: per axis an integer, a slice with a step of at least 1, or an index array.
        shape: The chunk's.
        order: Its axes in the order in which they vary in storage, the slowest first.
        itemsize: Bytes of a stored element.
    """
    index = take[: len(shape)]
    if len(index) > 1 and all(isinstance(item, np.ndarray) and item.ndim == 1 for item in index):
        return _of_points(index, shape, order, itemsize)
    positions, inside = zip(*map(_positions, index, shape), strict=True) if index else ((), ())
    return _of_box(positions, (*inside, *take[len(shape) :]), shape, order, itemsize)


def _positions(item: Any, n: int) -> tuple[range | Ints, Any]:
    """The distinct positions of an axis that an index item needs, ascending, and the item as an index into them."""
    if isinstance(item, slice):
        chosen = range(*item.indices(n))
        return chosen, slice(0, len(chosen))
    if isinstance(item, np.ndarray):
        distinct, inverse = np.unique(item, return_inverse=True)
        return distinct.astype(np.int64, copy=False), inverse.reshape(item.shape)
    return range(item, item + 1), 0


def _of_box(
    positions: Sequence[range | Ints], take: tuple[Any, ...], shape: Shape, order: Sequence[int], itemsize: int
) -> Runs | None:
    """Runs of the outer product of positions per axis. From the fastest axis on, fully selected axes join one run."""
    box = tuple(len(chosen) for chosen in positions)
    starts, length, stride = np.zeros(1, np.int64), itemsize, itemsize
    is_run = True
    for axis in reversed(order):
        chosen = positions[axis]
        # Everything on the faster axes is one run: a dense range of this axis makes that run longer.
        if is_run:
            is_dense = isinstance(chosen, range) and chosen.step == 1
            if is_dense:
                starts += chosen[0] * stride
                length *= len(chosen)
            is_run = is_dense and len(chosen) == shape[axis]
            if is_dense:
                stride *= shape[axis]
                continue
        # From here on each chosen position of this axis is a run (or a set of runs) of its own.
        if starts.size * len(chosen) > _MAX_RUNS:
            return None
        offsets = np.asarray(chosen, np.int64) * stride
        starts = (offsets[:, None] + starts[None, :]).reshape(-1)
        stride *= shape[axis]
    return Runs(box, take, starts, length)


def _of_points(index: tuple[Ints, ...], shape: Shape, order: Sequence[int], itemsize: int) -> Runs | None:
    """Single elements: a box of as many, along the slowest axis."""
    flat = np.zeros(index[0].size, np.int64)
    for axis in order:
        flat = flat * shape[axis] + index[axis]
    distinct, inverse = np.unique(flat, return_inverse=True)
    if distinct.size > _MAX_RUNS:
        return None
    slowest = order[0]
    box = tuple(distinct.size if axis == slowest else 1 for axis in range(len(shape)))
    take = tuple(inverse.reshape(-1) if axis == slowest else 0 for axis in range(len(shape)))
    return Runs(box, take, distinct * itemsize, itemsize)


def whole_chunk(shape: Shape, itemsize: int, take: tuple[Any, ...]) -> Runs:
    """All of a chunk, as one run."""
    return Runs(shape, take, np.zeros(1, np.int64), prod(shape) * itemsize)
