"""Chunk grids of Zarr v3: documents and options are read as one axis per dimension, and axes written as documents.

`regular` of the core specification; `rectilinear` of zarr-extensions (kind `inline`, run-length pairs included), where
lengths are listed; `regular_bounded` of zarrs, a regular grid whose last chunks end where the array ends.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from operator import index
from typing import Any, TypeAlias

from .._grid import Axis, Edges, longest
from .._types import JSON, Shape
from .document import MAX_EXTENT, Named, integer, integers, items, member, one_of, only
from .problems import Invalid, Unknown, short_repr

Axes: TypeAlias = tuple[Axis, ...]

_BOUNDED = ("regular_bounded", "zarrs.regular_bounded")
"""The second is the name that zarrs uses until the extension is registered."""


def read(grid: Named, shape: Shape) -> Axes:
    """The axes that a document's `chunk_grid` defines for an array of this shape.

    Raises:
        Invalid: It breaks the rules, or does not fit the shape.
        Unknown: An unknown grid.
    """
    where = f"the configuration of the chunk grid {short_repr(grid.name)}"
    if grid.name == "rectilinear":
        return tuple(map(_simplified, _listed(grid, where, shape)))
    if grid.name != "regular" and grid.name not in _BOUNDED:
        raise Unknown(f"the chunk grid {short_repr(grid.name)} is not known")
    only(grid.configuration, where, ("chunk_shape",))
    chunk = integers(member(grid.configuration, "chunk_shape"), "'chunk_shape'", minimum=1)
    _check_ndim(len(chunk), shape)
    return chunk if grid.name == "regular" else tuple(map(_bounded, chunk, shape))


def _check_ndim(ndim: int, shape: Shape) -> None:
    if ndim != len(shape):
        raise Invalid(f"the array has {len(shape)} dimensions, its chunk grid has {ndim}")


def _listed(grid: Named, where: str, shape: Shape) -> Axes:
    """The axes as the document spells them: an integer, or a list."""
    only(grid.configuration, where, ("kind", "chunk_shapes"))
    one_of(member(grid.configuration, "kind"), "'kind' of the chunk grid", ("inline",))
    entries = items(member(grid.configuration, "chunk_shapes"), "'chunk_shapes'")
    _check_ndim(len(entries), shape)
    return tuple(_entry(entry, n, axis) for axis, (entry, n) in enumerate(zip(entries, shape, strict=True)))


def _entry(entry: JSON, extent: int, axis: int) -> Axis:
    where = f"'chunk_shapes' of dimension {axis}"
    if not isinstance(entry, list):
        return integer(entry, where, minimum=1)
    if not entry:
        raise Invalid(f"{where} is an empty list")
    edges = _edges((_run(item, where) for item in entry), where)
    if edges.stop < extent:
        raise Invalid(f"{where} covers {edges.stop} elements, and the array has {extent}")
    return edges


def _run(item: JSON, where: str) -> tuple[int, int]:
    """A length, or a pair of a length and its number of repetitions."""
    if not isinstance(item, list):
        return integer(item, where, minimum=1), 1
    if len(item) != 2:
        raise Invalid(f"{where} holds lengths and pairs of a length and a count, not {short_repr(item)}")
    return integer(item[0], where, minimum=1), integer(item[1], f"a count in {where}", minimum=1)


def _edges(runs: Iterator[tuple[int, int]], where: str) -> Edges:
    edges = Edges(runs)
    if edges.stop > MAX_EXTENT:
        raise Unknown(f"{where} reaches to {edges.stop}; {MAX_EXTENT} is the most")
    return edges


def _simplified(axis: Axis) -> Axis:
    """Equal lengths are a regular grid."""
    return axis if isinstance(axis, int) or len(axis.runs) > 1 else axis.longest


def _bounded(chunk: int, extent: int) -> Axis:
    full, rest = divmod(extent, chunk)
    if rest == 0:
        return chunk
    return _simplified(Edges([(chunk, full), (rest, 1)] if full else [(rest, 1)]))


def from_option(option: Any, name: str, extents: Shape) -> Axes | None:
    """The axes that a user gives as lists of lengths; None where the option lists none.

    Args:
        option: An option of `create_array`: per dimension a list of lengths or of pairs (length, count), an integer, or
            None or -1 for the whole dimension.
        name: Name of the option.
        extents: Shape of the array.

    Raises:
        Invalid: The lists are invalid, or their lengths do not add up to the array's.
    """
    if not _is_list(option) or not any(map(_is_list, option)):
        return None
    if len(option) != len(extents):
        raise Invalid(f"{name} has {len(option)} dimensions, and the array has {len(extents)}")
    return tuple(_option(entry, f"{name}[{at}]", n) for at, (entry, n) in enumerate(zip(option, extents, strict=True)))


def _is_list(option: Any) -> bool:
    return hasattr(option, "__len__") and not isinstance(option, str | bytes | Mapping)


def _option(entry: Any, where: str, extent: int) -> Axis:
    if not _is_list(entry):
        return max(extent, 1) if entry is None or entry == -1 else _positive(entry, where)
    if not len(entry):
        raise Invalid(f"{where} lists no lengths")
    runs = []
    for item in entry:
        if _is_list(item) and len(item) != 2:
            raise Invalid(f"{where} holds lengths and pairs of a length and a count, not {short_repr(item)}")
        length, count = item if _is_list(item) else (item, 1)
        runs.append((_positive(length, where), _positive(count, f"a count in {where}")))
    edges = _edges(iter(runs), where)
    # An empty axis may list the chunks that it will grow into.
    if edges.stop != extent and extent:
        raise Invalid(f"the lengths in {where} add up to {edges.stop}, and the array has {extent} there")
    return _simplified(edges)


def _positive(value: Any, where: str) -> int:
    try:
        number = index(value)
    except TypeError:
        number = 0
    if isinstance(value, bool) or not 1 <= number <= MAX_EXTENT:
        raise Invalid(f"{where} must hold integers of at least 1, not {short_repr(value)}")
    return number


def shape_of(axes: Sequence[Axis]) -> Shape:
    """The longest lengths: the shape that no cell exceeds."""
    return tuple(map(longest, axes))


def check_shards(axes: Sequence[Axis], chunk: Shape) -> None:
    """Check that chunks fill every shard exactly.

    Raises:
        Invalid: They do not fill one.
    """
    for axis, (edges, length) in enumerate(zip(axes, chunk, strict=True)):
        for edge in sorted(edges.lengths) if isinstance(edges, Edges) else (edges,):
            if edge % length:
                raise Invalid(f"shards of {edge} in dimension {axis} cannot be divided into chunks of {length}")


def write(axes: Sequence[Axis]) -> JSON:
    """The `chunk_grid` of these axes: `regular` where they are."""
    if all(isinstance(axis, int) for axis in axes):
        return {"name": "regular", "configuration": {"chunk_shape": list(axes)}}
    return _rectilinear([axis if isinstance(axis, int) else _spelled(axis) for axis in axes])


def _rectilinear(entries: list[JSON]) -> JSON:
    return {"name": "rectilinear", "configuration": {"kind": "inline", "chunk_shapes": entries}}


def _spelled(edges: Edges) -> list[JSON]:
    return [length if count == 1 else [length, count] for length, count in edges.runs]


def resized(source: JSON, grid: Named, shapes: tuple[Shape, Shape], multiples: Shape) -> JSON:
    """The `chunk_grid` document for another shape.

    A list that ends before the new shape is extended: equal lengths are repeated, others get one more cell. A list that
    covers the new shape is not changed.

    Args:
        source: The stored `chunk_grid` member.
        grid: The same, parsed.
        shapes: Shape before and after.
        multiples: Per dimension, the number that a new cell's length must be a multiple of.

    Raises:
        Invalid: The last chunks of a bounded grid would have to change their length.
    """
    before, after = shapes
    if grid.name in _BOUNDED:
        _check_bounded(grid, before, after)
    if grid.name != "rectilinear":
        return source
    axes = _listed(grid, "the chunk grid", before)
    if all(isinstance(axis, int) or axis.stop >= n for axis, n in zip(axes, after, strict=True)):
        return source
    spelled = [
        axis if isinstance(axis, int) else _spelled(_longer(axis, *row))
        for axis, *row in zip(axes, after, multiples, strict=True)
    ]
    return _rectilinear(spelled)


def _longer(edges: Edges, extent: int, multiple: int) -> Edges:
    if len(edges.runs) > 1:
        return edges.covering(extent, multiple)
    length = edges.longest
    return edges if edges.stop >= extent else Edges([(length, -(-extent // length))])


def _check_bounded(grid: Named, before: Shape, after: Shape) -> None:
    chunk = grid.configuration["chunk_shape"]
    for axis, (length, old, new) in enumerate(zip(chunk, before, after, strict=True)):
        if min(old, new) % length and old != new:
            raise Invalid(
                f"the chunk grid {grid.name!r} stores the chunks at the end of dimension {axis} at the length that the "
                f"array leaves them, and a resize from {old} to {new} would change it: resize at multiples of "
                f"{length}, or copy the array"
            )
