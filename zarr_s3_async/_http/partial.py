"""The part of a body that was received into its final memory, contiguous or strided, before it broke."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .._types import Buffer

Bytes: TypeAlias = NDArray[np.uint8]


@dataclass(slots=True)
class PartialBody:
    """The bytes received of a truncated body whose length was announced."""

    headers: Mapping[str, str]
    memory: memoryview
    """Memory of the whole body; it may be strided."""
    received: int
    """Number of bytes received."""

    @property
    def size(self) -> int:
        """Bytes of the whole body."""
        return self.memory.nbytes

    def add(self, data: memoryview, *, in_place: bool) -> None:
        """Append `data`. With `in_place`, the memory already holds it; otherwise it is copied there."""
        if not self.memory.c_contiguous:
            copy_strided(self.memory, self.received, data)
        elif not in_place:
            self.memory[self.received : self.received + len(data)] = data
        self.received += len(data)


def copy_strided(target: memoryview, at: int, data: Buffer) -> None:
    """Copy `data` to strided memory of two dimensions or more, from byte `at` of its C order on."""
    source = np.frombuffer(data, np.uint8)
    for plane, offset, size in _planes(np.asarray(target), at, len(source)):
        _copy_to_plane(plane, offset, source[:size])
        source = source[size:]


def _planes(target: NDArray[Any], at: int, count: int) -> Iterator[tuple[Bytes, int, int]]:
    """The planes that `count` bytes from `at` on fall into: each with the offset and the number of bytes in it."""
    if target.ndim == 2:
        yield target, at, count
        return
    *outer, height, width = target.shape
    plane_size = height * width
    while count:
        number, offset = divmod(at, plane_size)
        size = min(count, plane_size - offset)
        yield target[np.unravel_index(number, outer)], offset, size
        at, count = at + size, count - size


def _copy_to_plane(plane: Bytes, offset: int, source: Bytes) -> None:
    width = plane.shape[1]
    row, column = divmod(offset, width)
    if column:
        # The piece may start within a row: complete that row, then copy whole rows at once, then the start of the last
        # one.
        first = source[: width - column]
        plane[row, column : column + len(first)] = first
        source = source[width - column :]
        row += 1
    n_rows = len(source) // width
    if n_rows:
        plane[row : row + n_rows] = source[: n_rows * width].reshape(n_rows, width)
        source = source[n_rows * width :]
    if len(source):
        plane[row + n_rows, : len(source)] = source
