"""A Plan says which objects a selection touches and, lazily, which part of each goes where in the result.

Two grids: an outer one of stored objects and an inner one of chunks inside an object. A plain array has both
equal: one slot per object.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, Protocol

from .._grid import Axis
from .._types import Coords, Shape
from .axes import AxesPlan
from .parts import ObjectParts, Part, covers_object
from .points import PointsPlan
from .selection import AxisChoice, Points, Selection, Stride

__all__ = ["ObjectParts", "Part", "Plan", "covers_object", "plan"]


class Plan(Protocol):
    """The touched objects and parts of one selection. Making one costs O(ndim) for basic selections; objects and parts
    are computed while they are iterated.

    A read fills an array of `buffer_shape` and returns it reshaped to `out_shape`. A write broadcasts its
    values to `out_shape` and reshapes them to `buffer_shape`. The two differ by axes of length 1:
    both are views.
    """

    @property
    def out_shape(self) -> Shape:
        """Shape of the result."""
        ...

    @property
    def buffer_shape(self) -> Shape:
        """Shape that `Part.put` indexes into: the result's without new axes."""
        ...

    @property
    def basic(self) -> bool:
        """True where all indices are slices and integers: `result[put]` and `chunk[take]` then are views.

        A part that is whole may then be received or decoded straight into `result[put]`, if that is
        C-contiguous and has as many elements as a chunk.
        """
        ...

    @property
    def n_objects(self) -> int:
        """How many objects are touched."""
        ...

    @property
    def n_chunks(self) -> int:
        """How many chunks are touched, over all objects."""
        ...

    def partly_covered(self) -> int:
        """How many touched chunks have an unselected element inside the array. O(ndim) where `basic`."""
        ...

    def n_replaced(self) -> int:
        """How many touched chunks a write replaces without reading them: fully selected, and with no element outside
        the array. O(ndim) where `basic`."""
        ...

    def objects(self) -> Iterator[tuple[Coords, Sequence[Part]]]:
        """Object coordinates with their parts, one object at a time, in row-major order.

        The parts are in the order of their slots. Where objects hold many chunks they are `ObjectParts`, which
        computes the parts anew in each iteration.
        """
        ...


def plan(selection: Selection, shape: Shape, chunks: Sequence[Axis], shards: Sequence[Axis] | None = None) -> Plan:
    """Lay a selection over an array's grids.

    Args:
        selection: Made for an array of this shape.
        shape: The array's.
        chunks: Grid of the chunks, per dimension; a regular one in every dimension where there are shards.
        shards: Grid of the stored objects, whose lengths are multiples of the chunk's; None where chunks are objects.
    """
    if selection.shape != shape:
        raise ValueError(f"the selection was made for an array of shape {selection.shape}, not {shape}")
    wanted = selection.wanted
    if isinstance(wanted, Points):
        return PointsPlan(selection, wanted, chunks, shards)
    return _plan_in_one_chunk(selection, wanted, chunks, shards) or AxesPlan(selection, wanted, chunks, shards)


class OneChunkPlan:
    """The plan of a selection inside one chunk: the most frequent read, and cheaper to compute at once than lazily."""

    __slots__ = ("_coords", "_is_cut", "_parts", "buffer_shape", "out_shape")

    basic = True
    n_objects = 1
    n_chunks = 1

    def __init__(self, selection: Selection, coords: Coords, parts: Sequence[Part], is_cut: bool) -> None:
        self.out_shape = selection.out_shape
        self.buffer_shape = selection.buffer_shape
        self._coords = coords
        self._parts = parts
        self._is_cut = is_cut

    def partly_covered(self) -> int:
        """1 where the chunk has an element inside the array that is not selected."""
        return 0 if self._parts[0].whole else 1

    def n_replaced(self) -> int:
        """1 where all of the chunk is selected and lies inside the array."""
        return 1 if self._parts[0].whole and not self._is_cut else 0

    def objects(self) -> Iterator[tuple[Coords, Sequence[Part]]]:
        """The object with its part."""
        return iter(((self._coords, self._parts),))


class _OnePart(ObjectParts):
    """The part of a shard of which one chunk is touched."""

    __slots__ = ("_only", "_whole")

    def __init__(self, only: Part, whole: bool) -> None:
        self._only = only
        self._whole = whole

    @property
    def whole(self) -> bool:
        """True where the part covers every element of the object that lies inside the array."""
        return self._whole

    def __len__(self) -> int:
        return 1

    def __iter__(self) -> Iterator[Part]:
        return iter((self._only,))

    def _part(self, index: int) -> Part:
        del index  # there is one
        return self._only


def _plan_in_one_chunk(
    selection: Selection, wanted: tuple[AxisChoice, ...], chunks: Sequence[Axis], shards: Sequence[Axis] | None
) -> OneChunkPlan | None:
    """The plan of a selection that lies inside one chunk of a regular grid; None for all others."""
    coords: list[int] = []
    take: list[Any] = []
    put: list[Any] = []
    whole, is_cut, slot, covered = True, False, 0, True
    for axis, choice in enumerate(wanted):
        chunk, size = chunks[axis], selection.shape[axis]
        # `type(…) is` instead of isinstance: this runs for every read, and other types only mean the general plan.
        if type(choice) is not Stride or type(chunk) is not int or choice.number == 0:
            return None
        first, number, step, reverse, keep = choice
        at, low = divmod(first, chunk)
        high = low + number if step == 1 else low + (number - 1) * step + 1
        # It touches a second chunk: the general plan.
        if high > chunk:
            return None
        inside = size - at * chunk
        # `number` elements of a stride with a step above 1 are never all of a chunk, so this comparison is enough.
        whole = whole and number in (chunk, inside)
        is_cut = is_cut or inside < chunk
        if shards is not None:
            shard = shards[axis]
            if type(shard) is not int:
                return None
            per_shard = shard // chunk
            at, cell = divmod(at, per_shard)
            # Horner's scheme over the axes: the row-major index of the chunk in its shard.
            slot = slot * per_shard + cell
            covered = covered and number in (shard, size - at * shard)
        coords.append(at)
        if keep:
            take.append(slice(low, high) if step == 1 else slice(low, high, step))
            put.append(slice(number - 1, None, -1) if reverse else slice(0, number))
        else:
            take.append(low)
    if not put:  # all integers, or no dimension: see `mesh`
        take.append(Ellipsis)
        put.append(Ellipsis)
    part = tuple.__new__(Part, (slot, tuple(take), tuple(put), whole))  # half of what Part(…) costs
    parts: Sequence[Part] = (part,) if shards is None else _OnePart(part, covered)
    return OneChunkPlan(selection, tuple(coords), parts, is_cut)
