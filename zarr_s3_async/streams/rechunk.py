"""Plans of rechunkings that fit into a bound of memory. Pure arithmetic.

The plan is that of rechunker (pangeo-data/rechunker, `algorithm.py`): chunks are consolidated into larger boxes as far
as memory allows, and where no box serves both the reads and the writes, the array goes through an intermediate one in
two stages, so that every chunk is read and written once, however large the array is. The package itself needs dask and
zarr < 3. One thing differs: the intermediate has a chunk for every intersection of a box that is read and one that is
written, so that no two writers ever share one.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import permutations, product
from math import gcd, lcm, prod

from .._grid import Axis
from .._types import Shape
from .boxes import Box, n_cells

_AMPLIFICATION = 2.0
"""Times that the source may be read in one stage. Two stages read it once, and write and read the intermediate."""
_PIECE = 8 * 2**20
"""Bytes up to which boxes are made of several objects where that changes nothing but their number."""
_MAX_AXES = 4
"""Dimensions up to which every order of axes is tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Direct:
    """One stage: boxes of whole target objects, each read from the source."""

    box: Sequence[Axis]
    """In the target's grid."""
    amplification: float
    """How often a chunk of the source is read on average."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoStages:
    """Boxes of whole source chunks are cut into pieces, which are put together to boxes of whole target objects."""

    read: Shape
    """In the source's grid."""
    write: Shape
    """In the target's grid."""
    pieces: int
    """Chunks of the intermediate array."""


def plan_rechunk(
    region: Box, source: Shape, target: Shape, shape: Shape, itemsize: int, box_bytes: int
) -> Direct | TwoStages:
    """The cheapest plan whose boxes have at most `box_bytes`, or one source chunk or target object where that is more.

    Args:
        region: Of the source, in its coordinates; the target's first element is its first.
        source: Sides of the source's chunks.
        target: Sides of the target's objects.
        shape: The target's.
        itemsize: Bytes of an element.
        box_bytes: Of one box, decoded.
    """
    times, _, box = min(
        _direct(region, source, target, shape, itemsize, box_bytes, order) for order in _orders(len(shape))
    )
    if times <= _AMPLIFICATION:
        box = _extended(region, source, box, target, shape, itemsize, min(box_bytes, _PIECE))
        return Direct(box=box, amplification=_amplification(region, source, box, shape))
    return min(_two_stages(region, source, target, shape, itemsize, box_bytes), key=lambda plan: plan.pieces)


def _orders(ndim: int) -> Iterator[tuple[int, ...]]:
    axes = tuple(range(ndim))
    yield from permutations(axes) if ndim <= _MAX_AXES else (axes, axes[::-1])


def _grow(sides: Shape, unit: Shape, axis: int, wanted: int, itemsize: int, max_bytes: int) -> Shape:
    """The box with more units along one axis: up to `wanted` elements, and no more than the bytes allow."""
    across = max(1, prod(sides) // sides[axis] * itemsize) * unit[axis]
    count = max(sides[axis] // unit[axis], min(-(-wanted // unit[axis]), max_bytes // across))
    return (*sides[:axis], count * unit[axis], *sides[axis + 1 :])


def _direct(
    region: Box, source: Shape, target: Shape, shape: Shape, itemsize: int, max_bytes: int, order: Sequence[int]
) -> tuple[float, int, Shape]:
    """How often chunks are read on average with the best box of this order of axes, its size, and the box."""
    box = target
    for axis in order:
        best = _axis_reads(region, source, box, shape, axis)
        grown = _grow(box, target, axis, max(1, shape[axis]), itemsize, max_bytes)[axis] // target[axis]
        # The smallest number of units with the fewest reads: memory that is left serves the other axes.
        for count in _counts(target[axis], source[axis], grown):
            candidate = (*box[:axis], count * target[axis], *box[axis + 1 :])
            reads = _axis_reads(region, source, candidate, shape, axis)
            if reads < best:
                best, box = reads, candidate
    return _amplification(region, source, box, shape), prod(box), box


def _amplification(region: Box, source: Shape, box: Shape, shape: Shape) -> float:
    reads = prod(_axis_reads(region, source, box, shape, axis) for axis in range(len(shape)))
    return reads / max(1, n_cells(region, source))


def _axis_reads(region: Box, source: Shape, box: Shape, shape: Shape, axis: int) -> int:
    """Source chunks along an axis that its boxes touch, each counted as often as it is touched."""
    return n_pieces(region.start[axis], source[axis], box[axis], shape[axis])


def _counts(unit: int, chunk: int, most: int) -> list[int]:
    """Numbers of units to try: small ones, powers of two, and those that end where chunks do."""
    aligned = lcm(unit, chunk) // unit
    tried = {
        most,
        *range(1, 17),
        *(2**power for power in range(4, 40)),
        *range(aligned, min(most, 16 * aligned), aligned),
    }
    return sorted(count for count in tried if count <= most)


def n_pieces(offset: int, one: int, other: int, n: int) -> int:
    """Pieces into which two regular grids cut 0..n together.

    Args:
        offset: How far 0 lies behind a line of the first grid.
        one: Length of the first grid's cells.
        other: Length of the second grid's cells, of which one begins at 0.
        n: Length of the axis.
    """
    if n == 0:
        return 0
    ones = (offset + n - 1) // one - offset // one + 1
    others = -(-n // other)
    # Both grids begin a piece at 0, and wherever k * other + offset is a multiple of `one`.
    common, shared = 1, gcd(one, other)
    if offset % shared == 0:
        period = one // shared
        first = -(offset // shared) * pow(other // shared, -1, period) % period if period > 1 else 0
        common = max(0, -(-(others - first) // period)) + (first > 0)
    return ones + others - common


def _extended(
    region: Box, source: Shape, box: Shape, unit: Shape, shape: Shape, itemsize: int, max_bytes: int
) -> Shape:
    """The box made of more objects, where that reads no chunk more often."""
    for axis in reversed(range(len(shape))):
        larger = _grow(box, unit, axis, max(1, shape[axis]), itemsize, max_bytes)
        if _axis_reads(region, source, larger, shape, axis) <= _axis_reads(region, source, box, shape, axis):
            box = larger
    return box


def _two_stages(
    region: Box, source: Shape, target: Shape, shape: Shape, itemsize: int, box_bytes: int
) -> Iterator[TwoStages]:
    for write_order, read_order in product(_orders(len(shape)), repeat=2):
        write = target
        for axis in reversed(write_order):
            write = _grow(write, target, axis, max(1, shape[axis]), itemsize, box_bytes)
        read = source
        for axis in reversed(read_order):
            read = _grow(read, source, axis, min(write[axis], max(1, shape[axis])), itemsize, box_bytes)
        yield TwoStages(read=read, write=write, pieces=_all_pieces(region, read, write, shape))


def _all_pieces(region: Box, read: Shape, write: Shape, shape: Shape) -> int:
    return prod(n_pieces(region.start[axis], read[axis], write[axis], n) for axis, n in enumerate(shape))
