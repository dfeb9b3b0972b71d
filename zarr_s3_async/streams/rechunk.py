"""Plans of rechunkings within a memory limit. Pure arithmetic.

The algorithm is that of rechunker (pangeo-data/rechunker, `algorithm.py`): chunks are consolidated into larger boxes as
far as memory allows. If no box suits both the reads and the writes, the array goes through an intermediate array in two
stages, so that every chunk is read and written once, however large the array is. The package itself is not used: it
needs dask and zarr < 3. There is one difference: the intermediate array has one chunk for every intersection of a read
box and a write box, so that no two writers share a chunk.
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
"""How often one stage may read the source. Two stages read it once, and write and read the intermediate array."""
_PIECE = 8 * 2**20
"""Maximum bytes of a box that is enlarged only to have fewer boxes."""
_MAX_AXES = 4
"""Maximum number of dimensions for which every order of axes is tried."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Direct:
    """One stage: each box consists of whole target objects, and is read from the source directly."""

    box: Sequence[Axis]
    """The grid of the boxes, in the target's coordinates."""
    amplification: float
    """How often each source chunk is read on average."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TwoStages:
    """Two stages: read boxes (of whole source chunks) are cut into pieces; write boxes (of whole target objects) are
    assembled from the pieces."""

    read: Shape
    """Shape of the read boxes, whole source chunks."""
    write: Shape
    """Shape of the write boxes, whole target objects."""
    pieces: int
    """Number of pieces: the chunks of the intermediate array."""


def plan_rechunk(
    region: Box, source: Shape, target: Shape, shape: Shape, itemsize: int, box_bytes: int
) -> Direct | TwoStages:
    """The cheapest plan with boxes of at most `box_bytes`, or of one source chunk or target object if that is more.

    Args:
        region: The region to copy, in the source's coordinates.
        source: Shape of the source's chunks.
        target: Shape of the target's objects.
        shape: Shape of the target, which is that of the region.
        itemsize: Bytes of an element.
        box_bytes: Maximum decoded bytes of one box.
    """
    times, _, box = min(
        _direct(region, source, target, shape, itemsize, box_bytes, order) for order in _orders(len(shape))
    )
    # Reading some chunks twice is cheaper than writing and reading all elements once more.
    if times <= _AMPLIFICATION:
        box = _extended(region, source, box, target, shape, itemsize, min(box_bytes, _PIECE))
        return Direct(box=box, amplification=_amplification(region, source, box, shape))
    return min(_two_stages(region, source, target, shape, itemsize, box_bytes), key=lambda plan: plan.pieces)


def _orders(ndim: int) -> Iterator[tuple[int, ...]]:
    axes = tuple(range(ndim))
    # The number of orders grows as the factorial of the dimensions.
    yield from permutations(axes) if ndim <= _MAX_AXES else (axes, axes[::-1])


def _grow(sides: Shape, unit: Shape, axis: int, wanted: int, itemsize: int, max_bytes: int) -> Shape:
    """The box enlarged along one axis, in whole units: to at most `wanted` elements and `max_bytes` bytes."""
    across = max(1, prod(sides) // sides[axis] * itemsize) * unit[axis]
    count = max(sides[axis] // unit[axis], min(-(-wanted // unit[axis]), max_bytes // across))
    return (*sides[:axis], count * unit[axis], *sides[axis + 1 :])


def _direct(
    region: Box, source: Shape, target: Shape, shape: Shape, itemsize: int, max_bytes: int, order: Sequence[int]
) -> tuple[float, int, Shape]:
    """The best box that is found by enlarging axes in this order: its amplification, its size, and the box."""
    box = target
    for axis in order:
        best = _axis_reads(region, source, box, shape, axis)
        grown = _grow(box, target, axis, max(1, shape[axis]), itemsize, max_bytes)[axis] // target[axis]
        # Of the boxes with the fewest reads the smallest is best: it leaves memory for the other axes.
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
    """Number of reads of source chunks along one axis; a chunk that several boxes touch is counted for each."""
    return n_pieces(region.start[axis], source[axis], box[axis], shape[axis])


def _counts(unit: int, chunk: int, max_count: int) -> list[int]:
    """Numbers of units to try: small ones, powers of two, and those whose box ends at a chunk border."""
    aligned = lcm(unit, chunk) // unit
    tried = {
        max_count,
        *range(1, 17),
        *(2**power for power in range(4, 40)),
        *range(aligned, min(max_count, 16 * aligned), aligned),
    }
    return sorted(count for count in tried if count <= max_count)


def n_pieces(offset: int, one: int, other: int, n: int) -> int:
    """Number of pieces into which two regular grids together cut the range 0 to n.

    Args:
        offset: Distance from a grid line of the first grid to 0.
        one: Length of the first grid's cells.
        other: Length of the second grid's cells; one of them starts at 0.
        n: Length of the axis.
    """
    if n == 0:
        return 0
    ones = (offset + n - 1) // one - offset // one + 1
    others = -(-n // other)
    # Positions where cells of both grids start count once: 0, and each k * other + offset that is a multiple of `one`.
    common, shared = 1, gcd(one, other)
    if offset % shared == 0:
        period = one // shared
        first = -(offset // shared) * pow(other // shared, -1, period) % period if period > 1 else 0
        common = max(0, -(-(others - first) // period)) + (first > 0)
    return ones + others - common


def _extended(
    region: Box, source: Shape, box: Shape, unit: Shape, shape: Shape, itemsize: int, max_bytes: int
) -> Shape:
    """The box enlarged to more objects along each axis where that causes no additional read."""
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
