"""Orthogonal indexing in NumPy's terms: indices of single axes become one of their outer product."""

from __future__ import annotations

from typing import Any

import numpy as np

_HUGE = 2**62


def mesh(index: tuple[Any, ...]) -> tuple[Any, ...]:
    """The same selection, with every axis independent of the others and kept axes in their order.

    NumPy pairs several index arrays up and moves their axes to the front where a slice stands between them.
    So from the first to the last array or integer all become arrays that broadcast; slices around them stay.
    """
    if all(isinstance(item, int) for item in index):
        # An ellipsis keeps a single element an array: a view, and no unpacking of what an object array holds.
        return (*index, Ellipsis)
    if not any(isinstance(item, np.ndarray) for item in index):
        return index
    advanced = [axis for axis, item in enumerate(index) if not isinstance(item, slice)]
    if len(advanced) == 1:
        return index
    first, last = advanced[0], advanced[-1] + 1
    return index[:first] + _opened(index[first:last]) + index[last:]


def _opened(items: tuple[Any, ...]) -> tuple[Any, ...]:
    kept = sum(not isinstance(item, int) for item in items)
    opened: list[Any] = []
    for item in items:
        if isinstance(item, int):
            opened.append(item)
            continue
        kept -= 1
        values = np.arange(*item.indices(_HUGE)) if isinstance(item, slice) else item
        opened.append(values.reshape(-1, *(1,) * kept))
    return tuple(opened)
