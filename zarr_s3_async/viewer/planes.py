"""Which elements a tile shows, and how they are read. A pixel of zoom z covers 2**z elements of the first level."""

from __future__ import annotations

from collections.abc import Sequence
from math import prod
from typing import Any, Final, NamedTuple, TypeAlias

import numpy as np

from .. import Array, SelectionError, UnsupportedFeature
from ..fastapi import ResponseTooLarge
from .sources import Level

Picks: TypeAlias = "range | np.ndarray[Any, np.dtype[np.int64]]"
"""Indices along a dimension, in ascending order."""
Data: TypeAlias = np.ndarray[Any, np.dtype[Any]]

TILE: Final = 256
"""Pixels along a side of a tile."""
MAX_ZOOM: Final = 62
_EXPLAINED_CHUNKS: Final = 256
"""Maximum number of chunks for which the bytes of a read are computed per chunk."""


class TileTooLarge(ResponseTooLarge):
    """The chunks that a tile covers have more bytes than the limit for one tile."""


class Plane(NamedTuple):
    """A plane of the first level."""

    y: int | None
    """The vertical dimension; None for a single row."""
    x: int | None
    """The horizontal dimension; None for a single column."""
    at: tuple[int, ...]
    """An index for each dimension; those of `y` and `x` are ignored."""


class Reading(NamedTuple):
    """The elements of a tile, and how they were read."""

    data: Data
    """Elements by row and column."""
    chunks: int
    """Number of chunks that were read."""
    skipped: int
    """Number of chunks that the tile covers and that were omitted because of the limit."""


def check_plane(plane: Plane, shape: Sequence[int]) -> None:
    """Check a plane against the shape of an array.

    Raises:
        SelectionError: The plane does not exist in the array.
    """
    ndim = len(shape)
    for name, axis in (("y", plane.y), ("x", plane.x)):
        if axis is not None and not 0 <= axis < ndim:
            raise SelectionError(f"{name}={axis} must be a dimension from 0 to {ndim - 1}, or `none`")
    if plane.y is not None and plane.y == plane.x:
        raise SelectionError(f"x and y are both dimension {plane.x}: they must differ")
    if len(plane.at) != ndim:
        raise SelectionError(f"at= has {len(plane.at)} indices and the array {ndim} dimensions: give one for each")
    for axis, (index, n) in enumerate(zip(plane.at, shape, strict=True)):
        if axis not in (plane.y, plane.x) and not 0 <= index < n:
            raise SelectionError(f"at= has index {index} for dimension {axis}, which has {n} elements")


def pixels(n: int, zoom: int) -> int:
    """Number of pixels of zoom `zoom` that cover n elements."""
    return -(-n >> zoom) if n else 0


def choose_level(levels: Sequence[Level], plane: Plane, zoom: tuple[int, int]) -> int:
    """The coarsest level whose elements are no larger than pixels of this zoom (down, across)."""
    best = 0
    for number, level in enumerate(levels):
        sizes = [(level.factors[a], z) for a, z in zip((plane.y, plane.x), zoom, strict=True) if a is not None]
        if all(factor <= 2**z * (1 + 1e-9) for factor, z in sizes):
            best = number
    return best


def picks(first: int, stop: int, zoom: int, factor: float, n: int) -> Picks:
    """The indices of a level that pixels `first` to `stop` show: each pixel shows its first element.

    Args:
        first: The first pixel.
        stop: One after the last pixel.
        zoom: Each pixel covers 2**zoom elements of the first level.
        factor: Elements of the first level per element of this one.
        n: Elements of this level.
    """
    step = 2**zoom / factor
    if step >= 1 and step == int(step) and (stop - 1) * int(step) < n:
        return range(first * int(step), (stop - 1) * int(step) + 1, int(step))
    exact = np.floor(np.arange(first, stop, dtype=np.float64) * step + 1e-9)
    found: np.ndarray[Any, np.dtype[np.int64]] = np.minimum(exact.astype(np.int64), n - 1)
    return found


def n_cells(chosen: Picks, length: int) -> int:
    """Number of chunks of this length that contain the indices."""
    if isinstance(chosen, range):
        return len(chosen) if chosen.step >= length else chosen[-1] // length - chosen[0] // length + 1
    return int(np.count_nonzero(np.diff(chosen // length))) + 1


def thinned(chosen: Picks, length: int, n: int, cells: int) -> Picks:
    """Move indices into `cells` chunks: of each group of neighbouring chunks only the middle one is read.

    Args:
        chosen: Indices along a dimension.
        length: Length of a chunk.
        n: Elements along the dimension.
        cells: Number of chunks to read; less than the number that contains the indices.
    """
    wanted = np.asarray(chosen, dtype=np.int64)
    _, rank = np.unique(wanted // length, return_inverse=True)
    total = int(rank[-1]) + 1
    group = rank * cells // total
    numbers = np.unique(wanted // length)
    moved = np.empty_like(wanted)
    for number in range(cells):
        mine = np.flatnonzero(group == number)
        ranks = np.flatnonzero(np.arange(total) * cells // total == number)
        begin = int(numbers[ranks[len(ranks) // 2]]) * length
        inside = min(length, n - begin)
        moved[mine] = begin + np.arange(len(mine)) * inside // len(mine)
    return moved


class Grid(NamedTuple):
    """A grid of elements of one level, by rows and columns."""

    down: Picks
    across: Picks
    at: tuple[int, ...]
    """An index in this level for each dimension."""


def grid_of(
    level: Level, shape: Sequence[int], plane: Plane, zoom: tuple[int, int], box: Sequence[int], full: Sequence[int]
) -> Grid:
    """The elements of a level for a box of pixels.

    Args:
        level: The level.
        shape: Shape of the level's array.
        plane: The plane, in coordinates of the first level.
        zoom: Vertical and horizontal zoom of the pixels.
        box: The pixels: top, bottom, left, right; bottom and right are exclusive. It is clipped at the plane's edge.
        full: Shape of the first level.

    Raises:
        SelectionError: The box is outside the plane.
    """
    top, bottom, left, right = box
    height = 1 if plane.y is None else pixels(full[plane.y], zoom[0])
    width = 1 if plane.x is None else pixels(full[plane.x], zoom[1])
    bottom, right = min(bottom, height), min(right, width)
    if not (0 <= top < bottom and 0 <= left < right):
        raise SelectionError(
            f"the tile is outside the plane, which has {height} by {width} pixels at zoom {zoom[0]},{zoom[1]}"
        )

    def along(axis: int | None, first: int, stop: int, z: int) -> Picks:
        return range(1) if axis is None else picks(first, stop, z, level.factors[axis], shape[axis])

    at = tuple(min(int(index / factor), n - 1) for index, factor, n in zip(plane.at, level.factors, shape, strict=True))
    return Grid(along(plane.y, top, bottom, zoom[0]), along(plane.x, left, right, zoom[1]), at)


async def read(
    array: Array, plane: Plane, grid: Grid, *, max_bytes: int, thin: bool = False, timeout: float | None = None
) -> Reading:
    """Read elements by row and column.

    Args:
        array: The array of a level.
        plane: The plane.
        grid: The elements to read.
        max_bytes: Maximum decoded bytes of the chunks that are read.
        thin: Omit chunks beyond `max_bytes` instead of raising. At least one chunk is read.
        timeout: Seconds until `DeadlineExceeded`.

    Raises:
        TileTooLarge: The chunks have more than `max_bytes`.
    """
    lengths = _chunk_lengths(array)
    if lengths is None:  # chunks differ in shape
        return Reading(await _elements(array, plane, grid, timeout, max_bytes), 0, 0)
    down = n_cells(grid.down, 1 if plane.y is None else lengths[plane.y])
    across = n_cells(grid.across, 1 if plane.x is None else lengths[plane.x])
    chunk_bytes = chunk_nbytes(array)
    if down * across * chunk_bytes <= max_bytes:
        return Reading(await _elements(array, plane, grid, timeout), down * across, 0)
    # Of uncompressed chunks only ranges are read, which may be little although the chunks are large.
    if down * across <= _EXPLAINED_CHUNKS and array.oindex[_key(plane, grid)].explain().read_bytes <= max_bytes:
        return Reading(await _elements(array, plane, grid, timeout), down * across, 0)
    if not thin or chunk_bytes > max_bytes:
        raise _too_large(array, down * across, down * across * chunk_bytes, max_bytes)
    budget = max(1, max_bytes // chunk_bytes)
    # The same share of rows and of columns, so that what remains is spread evenly over the tile.
    share = (budget / (down * across)) ** 0.5
    rows = max(1, min(down, int(down * share)))
    columns = max(1, min(across, budget // rows))
    rows = max(1, min(down, budget // columns))
    fewer = grid
    if rows < down and plane.y is not None:
        fewer = fewer._replace(down=thinned(grid.down, lengths[plane.y], array.shape[plane.y], rows))
    if columns < across and plane.x is not None:
        fewer = fewer._replace(across=thinned(grid.across, lengths[plane.x], array.shape[plane.x], columns))
    return Reading(await _elements(array, plane, fewer, timeout), rows * columns, down * across - rows * columns)


def chunk_nbytes(array: Array) -> int:
    """Decoded bytes of the largest chunk."""
    return prod(array.metadata.chunks) * array.dtype.itemsize


def _chunk_lengths(array: Array) -> tuple[int, ...] | None:
    try:
        return array.chunks
    except UnsupportedFeature:
        return None


def _key(plane: Plane, grid: Grid) -> tuple[Any, ...]:
    def one(axis: int) -> Any:
        chosen = grid.down if axis == plane.y else grid.across if axis == plane.x else None
        if chosen is None:
            return grid.at[axis]
        return slice(chosen.start, chosen.stop, chosen.step) if isinstance(chosen, range) else chosen

    return tuple(map(one, range(len(grid.at))))


async def _elements(
    array: Array, plane: Plane, grid: Grid, timeout: float | None, max_bytes: int | None = None
) -> Data:
    if max_bytes is None and isinstance(grid.down, range) and isinstance(grid.across, range):
        start, stop, step = list(grid.at), [index + 1 for index in grid.at], [1] * len(grid.at)
        for axis, chosen in ((plane.y, grid.down), (plane.x, grid.across)):
            if axis is not None:
                start[axis], stop[axis], step[axis] = chosen.start, chosen[-1] + 1, chosen.step
        found = await array.get_slice(start, stop, step, timeout=timeout)
    else:
        view = array.oindex[_key(plane, grid)]
        if max_bytes is not None:
            cost = view.explain()
            if cost.decoded_bytes > max_bytes < cost.read_bytes:
                raise _too_large(array, cost.chunks, cost.decoded_bytes, max_bytes)
        found = np.asarray(await view.get(timeout=timeout))
    if plane.y is not None and plane.x is not None and plane.y > plane.x:
        found = found.swapaxes(plane.y, plane.x) if found.ndim == array.ndim else found.T
    return found.reshape(len(grid.down), len(grid.across))


def _too_large(array: Array, chunks: int, nbytes: int, max_bytes: int) -> TileTooLarge:
    return TileTooLarge(
        f"this tile covers {chunks:,} chunks of {array.url} with {nbytes:,} bytes, more than the limit of "
        f"{max_bytes:,}: zoom in, store coarser levels beside the array, or increase max_tile_bytes="
    )
