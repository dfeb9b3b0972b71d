"""The room of bytes that belong apart: a body is laid out row by row as it comes in, while its bytes are in cache.

To receive a chunk whole and to copy it into a result afterwards costs its memory twice, and reads it from where it
has long gone cold.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..._types import Buffer, Sink
from .body import Body

Bytes: TypeAlias = NDArray[np.uint8]


def rows_of(sink: Sink, length: int) -> memoryview | None:
    """Where a body of this length belongs in the end, if its sink says so (see `Sink`)."""
    rows: memoryview | None = getattr(sink, "rows", None)
    return rows if rows is not None and rows.nbytes == length else None


def place(rows: memoryview, at: int, data: Buffer) -> None:
    """Lay bytes out over rows (two dimensions or more), from byte `at` of their C order on."""
    source = np.frombuffer(data, np.uint8)
    for plane, offset, size in _planes(np.asarray(rows), at, len(source)):
        _place_in(plane, offset, source[:size])
        source = source[size:]


def _planes(rows: NDArray[Any], at: int, count: int) -> Iterator[tuple[Bytes, int, int]]:
    """The planes that so many bytes fall into: each with where they begin in it, and how many they are."""
    if rows.ndim == 2:
        yield rows, at, count
        return
    *outer, height, width = rows.shape
    plane_size = height * width
    while count:
        number, offset = divmod(at, plane_size)
        size = min(count, plane_size - offset)
        yield rows[np.unravel_index(number, outer)], offset, size
        at, count = at + size, count - size


def _place_in(plane: Bytes, offset: int, source: Bytes) -> None:
    width = plane.shape[1]
    row, column = divmod(offset, width)
    if column:
        begun = source[: width - column]
        plane[row, column : column + len(begun)] = begun
        source = source[width - column :]
        row += 1
    whole = len(source) // width
    if whole:
        plane[row : row + whole] = source[: whole * width].reshape(whole, width)
        source = source[whole * width :]
    if len(source):
        plane[row + whole, : len(source)] = source


class RowsBody(Body):
    """A body of known length that is laid out over rows."""

    __slots__ = ("_left", "scratch")

    body: memoryview

    def __init__(self, rows: memoryview, scratch: memoryview) -> None:
        """
        Args:
            rows: Takes the body.
            scratch: To receive into; its bytes are placed before anybody else receives there.
        """
        super().__init__(rows)
        self.scratch = scratch
        self._left = rows.nbytes
        self.done = not self._left

    def feed(self, data: memoryview) -> int:
        count = min(self._left, len(data))
        place(self.body, self.body.nbytes - self._left, data[:count])
        self._left -= count
        self.done = not self._left
        return count

    def unfinished(self) -> tuple[memoryview, int] | None:
        return self.body, self.body.nbytes - self._left
