"""Whether a chunk contains only the fill value, and so need not be stored."""

from __future__ import annotations

import numpy as np

from .base import Array

_BITS = {1: "u1", 2: "u2", 4: "u4", 8: "u8"}


def is_fill(chunk: Array, fill: Array) -> bool:
    """True where every element is the fill value bit by bit: NaN is NaN, and -0.0 is not 0.0."""
    if chunk.dtype.hasobject:
        return all(element == fill[()] for element in chunk.flat)
    bits = _BITS.get(chunk.dtype.itemsize)
    if bits is not None:
        wanted = fill.view(bits)[()]
        # Compared as integers: two NaN, or 0.0 and -0.0, are compared bit by bit.
        words = chunk.view(bits)
        # Most chunks with other values differ in their first element, which spares comparing all.
        return words.size == 0 or bool(words.flat[0] == wanted and (words == wanted).all())
    size = chunk.dtype.itemsize
    if size == 0:
        return True
    rows = np.ascontiguousarray(chunk).reshape(-1).view(np.uint8).reshape(-1, size)
    return bool((rows == np.frombuffer(fill.tobytes(), np.uint8)).all())
