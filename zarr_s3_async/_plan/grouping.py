"""Groups of equal keys by one stable sort: which coordinates share a chunk, in the order they were given."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._grid import Ints

_INT64_MAX = 2**63 - 1
_BLOCK = 1024
"""Rows turned into Python scalars at a time: cheaper than one by one, and no list of all."""


def stable_order(keys: Ints) -> Ints | None:
    """The indices that sort the keys stably; None where they are sorted already."""
    if keys.size < 2 or bool((keys[1:] >= keys[:-1]).all()):
        return None
    low = int(np.min(keys))
    # NumPy sorts 16-bit keys by radix: several times faster.
    narrow: NDArray[Any] = (keys - low).astype(np.uint16) if int(np.max(keys)) - low < 1 << 16 else keys
    return np.argsort(narrow, kind="stable").astype(np.int64, copy=False)


def row_major_order(columns: list[Ints]) -> Ints | None:
    """As `stable_order`, for keys of several columns, the first the most significant."""
    if columns[0].size < 2:
        return None
    key, span = np.zeros_like(columns[0]), 1
    for column in columns:
        low = int(np.min(column))
        extent = int(np.max(column)) - low + 1
        span *= extent
        if span > _INT64_MAX:
            # The columns do not fit into one 64-bit key: sort by one column after the other.
            return np.lexsort(columns[::-1]).astype(np.int64, copy=False)
        # Mixed radix: one key whose order is the row-major order of the columns, so that one sort is enough.
        key = key * extent + (column - low)
    return stable_order(key)


def bounds(*columns: Ints) -> Ints:
    """Start of each run of equal rows, then the end of the last one. Rows must be sorted."""
    size = columns[0].size
    if size == 0:
        return np.zeros(1, np.int64)
    changed = columns[0][1:] != columns[0][:-1]
    for column in columns[1:]:
        changed |= column[1:] != column[:-1]
    return np.concatenate(([0], np.flatnonzero(changed) + 1, [size])).astype(np.int64, copy=False)


def even_steps(values: Ints, edges: Ints) -> Ints:
    """Distance between neighbours in each group: 1 for a group of one, 0 where it is uneven or below 1."""
    starts, sizes = edges[:-1], np.diff(edges)
    steps = np.ones(starts.size, np.int64)
    several = sizes > 1
    steps[several] = values[starts[several] + 1] - values[starts[several]]
    np.maximum(steps, 0, out=steps)
    if values.size > 1:
        uneven = np.diff(values) != np.repeat(steps, sizes)[1:]
        # The distance across the border of two groups belongs to neither.
        uneven[edges[1:-1] - 1] = False
        steps[np.searchsorted(edges, np.flatnonzero(uneven), side="right") - 1] = 0
    return steps


def even_or_indices(values: Ints, start: int, stop: int, step: int) -> slice | Ints:
    """`values[start:stop]` as a NumPy index: a slice where it can be one (views are cheaper)."""
    if step == 0:
        return values[start:stop]
    return slice(int(values[start]), int(values[stop - 1]) + 1, None if step == 1 else step)


def rows(start: int, stop: int, *columns: NDArray[Any]) -> Iterator[tuple[Any, ...]]:
    """The rows `start` to `stop` of a table, as Python scalars."""
    # `tolist` makes Python integers in C; iterating over an array would make a NumPy scalar for each element.
    for block in range(start, stop, _BLOCK):
        end = min(block + _BLOCK, stop)
        yield from zip(*(column[block:end].tolist() for column in columns), strict=True)
