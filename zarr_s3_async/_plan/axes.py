"""The plan of a selection that chooses along each axis on its own: regions, basic and orthogonal indexing."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from functools import partial
from math import prod
from typing import TypeAlias

from .._types import Coords, Shape
from .grid import Entry, Stride, StrideAxis
from .index_axis import IndexAxis
from .mesh import mesh
from .parts import GridParts, Part, Replay, Run, combined
from .selection import AxisChoice, Selection

Axis: TypeAlias = StrideAxis | IndexAxis


class AxesPlan:
    """The product of independent axes. Holds O(ndim), and a few integers per index of an index array."""

    __slots__ = ("_axes", "_inner_grid", "_needs_mesh", "_selection", "basic")

    def __init__(
        self, selection: Selection, chosen: tuple[AxisChoice, ...], chunks: Shape, shards: Shape | None
    ) -> None:
        self._selection = selection
        self._inner_grid = None
        spans: tuple[int | None, ...] = (None,) * len(chosen)
        if shards is not None:
            self._inner_grid = tuple(shard // chunk for shard, chunk in zip(shards, chunks, strict=True))
            spans = shards
        self._axes = tuple(map(_axis, chosen, selection.shape, chunks, spans))
        index_axes = sum(type(axis) is IndexAxis for axis in self._axes)
        self.basic = index_axes == 0
        # One index array among slices means the same to NumPy; beside integers or other arrays it does not.
        kept = len(selection.buffer_shape)
        self._needs_mesh = index_axes > 1 or (index_axes == 1 and kept < len(chosen)) or kept == 0

    @property
    def out_shape(self) -> Shape:
        """Shape of the result."""
        return self._selection.out_shape

    @property
    def buffer_shape(self) -> Shape:
        """Shape that `Part.put` indexes into."""
        return self._selection.buffer_shape

    @property
    def n_objects(self) -> int:
        """How many objects are touched."""
        return prod(axis.n_objects for axis in self._axes)

    @property
    def n_chunks(self) -> int:
        """How many chunks are touched, over all objects."""
        return prod(axis.n_chunks for axis in self._axes)

    def partly_covered(self) -> int:
        """How many touched chunks have an element inside the array that is not selected."""
        return self.n_chunks - prod(axis.n_covered() for axis in self._axes)

    def objects(self) -> Iterator[tuple[Coords, Sequence[Part]]]:
        """Object coordinates with their parts, one object at a time, in row-major order."""
        if not self._axes:
            return iter([((), (Part(0, mesh(()), mesh(()), True),))])
        if any(axis.n_chunks == 0 for axis in self._axes):
            return iter(())
        if self._inner_grid is None:
            return self._plain_objects()
        return self._sharded_objects(self._inner_grid)

    def _plain_objects(self) -> Iterator[tuple[Coords, Sequence[Part]]]:
        first, *inner = self._axes
        entries = [Replay(partial(axis.entries, 0, axis.n_chunks), axis.n_chunks) for axis in inner]
        # Part(…) goes through a Python-level function, which is half of what a chunk costs here.
        new, needs_mesh = tuple.__new__, self._needs_mesh
        for coords, take, put, whole in combined([first.entries(0, first.n_chunks), *entries]):
            if needs_mesh:
                yield coords, (Part(0, mesh(take), mesh(put), whole),)
            else:
                yield coords, (new(Part, (0, take, put, whole)),)

    def _sharded_objects(self, inner_grid: Shape) -> Iterator[tuple[Coords, Sequence[Part]]]:
        strides = [prod(inner_grid[i + 1 :]) for i in range(len(inner_grid))]
        if self.n_objects == 1:
            yield self._only_object(inner_grid, strides)
            return
        makers = [partial(_runs, *row) for row in zip(self._axes, inner_grid, strides, strict=True)]
        inner = [Replay(make, axis.n_objects) for make, axis in zip(makers[1:], self._axes[1:], strict=True)]
        for coords, per_axis, _, whole in combined([makers[0](), *inner]):
            yield coords, GridParts(per_axis, whole, self._needs_mesh)

    def _only_object(self, inner_grid: Shape, strides: Sequence[int]) -> tuple[Coords, Sequence[Part]]:
        coords: Coords = ()
        runs: tuple[Run, ...] = ()
        covered = True
        for row in zip(self._axes, inner_grid, strides, strict=True):
            ((number, run, _, whole),) = _runs(*row)
            coords, runs, covered = coords + number, runs + run, covered and whole
        return coords, GridParts(runs, covered, self._needs_mesh)


def _axis(choice: AxisChoice, size: int, chunk: int, shard: int | None) -> Axis:
    if isinstance(choice, Stride):
        return StrideAxis(choice, size, chunk, shard)
    return IndexAxis(choice, size, chunk, shard)


def _runs(axis: Axis, per_object: int, stride: int) -> Iterator[Entry]:
    """Per touched object of an axis: its place in the grid, and the run of chunks inside as what to take."""
    for number, start, stop, whole in axis.objects():
        yield (number,), (Run(axis, start, stop, number * per_object, stride),), (), whole
