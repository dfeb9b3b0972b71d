"""One axis selected by an array of indices: any order, repeats allowed, grouped by chunk with one sort."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from .grid import Entry
from .grouping import Ints, bounds, even_or_indices, even_steps, rows, stable_order


class IndexAxis:
    """As `StrideAxis`; holds a few integers per index and per touched chunk."""

    __slots__ = (
        "_bounds",
        "_chunk",
        "_covered",
        "_local",
        "_numbers",
        "_order",
        "_per_object",
        "_put_steps",
        "_size",
        "_take_steps",
    )

    def __init__(self, indices: Ints, size: int, chunk: int, shard: int | None) -> None:
        numbers = indices // chunk
        order = stable_order(numbers)
        if order is not None:
            indices, numbers = indices[order], numbers[order]
        edges = bounds(numbers)
        self._size = size
        self._chunk = chunk
        self._per_object = 1 if shard is None else shard // chunk
        self._order = order
        self._bounds = edges
        self._local = indices - numbers * chunk
        self._numbers = numbers[edges[:-1]]
        self._take_steps = even_steps(self._local, edges)
        self._put_steps = np.ones_like(self._take_steps) if order is None else even_steps(order, edges)
        self._covered = self._find_covered(indices)

    def _find_covered(self, indices: Ints) -> NDArray[np.bool_]:
        starts = self._numbers * self._chunk
        lengths = np.minimum(self._chunk, self._size - starts)
        covered = np.diff(self._bounds) >= lengths
        # Evenly spaced indices have no repeats: their number says it all. Others are counted without repeats.
        unsure = covered & (self._take_steps == 0)
        if unsure.any():
            distinct = np.unique(indices)
            found = np.searchsorted(distinct, starts + lengths) - np.searchsorted(distinct, starts)
            covered &= found == lengths
        return covered

    @property
    def n_chunks(self) -> int:
        """Touched chunks along this axis."""
        return self._numbers.size

    @property
    def n_objects(self) -> int:
        """Touched objects along this axis."""
        return self._object_bounds().size - 1

    def n_covered(self) -> int:
        """Touched chunks that are covered along this axis."""
        return int(np.count_nonzero(self._covered))

    def _object_bounds(self) -> Ints:
        return bounds(self._numbers // self._per_object)

    def entry(self, cell: int) -> Entry:
        """A touched chunk: its place in the grid, what to take of it, where that goes, if it is covered."""
        return next(self.entries(cell, cell + 1))

    def entries(self, start: int, stop: int) -> Iterator[Entry]:
        """The entries of a run of touched chunks."""
        local, order, edges = self._local, self._order, self._bounds
        columns = (edges[:-1], edges[1:], self._numbers, self._take_steps, self._put_steps, self._covered)
        for low, high, number, take_step, put_step, covered in rows(start, stop, *columns):
            take = even_or_indices(local, low, high, take_step)
            put = slice(low, high) if order is None else even_or_indices(order, low, high, put_step)
            yield (number,), (take,), (put,), covered

    def objects(self) -> Iterator[tuple[int, int, int, bool]]:
        """Touched objects: place in the grid, run of touched chunks inside (start, stop), whether covered."""
        edges = self._object_bounds()
        if edges.size == 1:
            return
        numbers = self._numbers[edges[:-1]] // self._per_object
        inside = np.minimum(self._per_object, -(-self._size // self._chunk) - numbers * self._per_object)
        covered = np.add.reduceat(self._covered, edges[:-1], dtype=np.int64) == inside
        yield from rows(0, numbers.size, numbers, edges[:-1], edges[1:], covered)
