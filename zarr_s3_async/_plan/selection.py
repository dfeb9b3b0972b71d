"""What a user wants of an array: checked and normalised once. A SelectionError leaves here or never."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .._types import Shape
from ..errors import SelectionError
from .grid import Stride
from .grouping import Ints
from .subscript import (
    Element,
    ascending,
    element,
    elements,
    integers,
    mask_positions,
    position,
    stride,
    whole_number,
)

AxisChoice: TypeAlias = Stride | Ints
"""What is selected of one axis: evenly spaced positions, or positions in any order."""


_VINDEX = "vindex takes one integer array per dimension, or one boolean mask of the array's shape"


class Points(tuple[Ints, ...]):
    """Single elements: their positions, one flat array per dimension, all of one length."""

    __slots__ = ()


@dataclass(frozen=True, slots=True, eq=False)
class Selection:
    """Which elements of an array of `shape` are wanted, in which order. Make one with the functions below."""

    shape: Shape
    """Shape of the array."""
    wanted: tuple[AxisChoice, ...] | Points
    out_shape: Shape
    """Shape of the result: without the axes that integers select, with new axes."""
    buffer_shape: Shape
    """The same without new axes: a reshape away, which is always a view."""


def region(
    start: Sequence[int] | int,
    stop: Sequence[int] | int | None,
    step: Sequence[int] | int | None,
    shape: Shape,
) -> Selection:
    """The block `start` to `stop`, every `step`-th element; nothing is cut, wrapped or dropped.

    Args:
        start: First position per dimension; a plain integer will do for one dimension.
        stop: One past the last position per dimension; None is the array's end.
        step: At least 1 per dimension; None is 1.
        shape: The array's.
    """
    ndim = len(shape)
    starts = _per_axis(start, "start", ndim)
    stops = shape if stop is None else _per_axis(stop, "stop", ndim)
    steps = (1,) * ndim if step is None else _per_axis(step, "step", ndim)
    wanted = []
    out: list[int] = []
    for axis, (low, high, by) in enumerate(zip(starts, stops, steps, strict=True)):
        if not 0 <= low <= high <= shape[axis] or by < 1:
            raise _bad_region(axis, low, high, by, shape)
        count = high - low if by == 1 else -(-(high - low) // by)
        wanted.append(Stride(low, count) if by == 1 else ascending(low, count, by))
        out.append(count)
    out_shape = tuple(out)
    return Selection(shape, tuple(wanted), out_shape, out_shape)


def _bad_region(axis: int, start: int, stop: int, step: int, shape: Shape) -> SelectionError:
    if step < 1:
        return SelectionError(
            f"step {step} of dimension {axis} must be 1 or more; array[...] takes negative ones as NumPy does"
        )
    return SelectionError(
        f"start {start} and stop {stop} of dimension {axis} must satisfy 0 <= start <= stop <= {shape[axis]} "
        f"for an array of shape {shape}"
    )


def _per_axis(value: object, what: str, ndim: int) -> Sequence[int]:
    if isinstance(value, tuple | list):
        items: Sequence[object] = value
    elif isinstance(value, np.ndarray | range):
        # np.ndarray.tolist of a 0-d array is one number.
        listed = value.tolist() if isinstance(value, np.ndarray) else list(value)
        items = listed if isinstance(listed, list) else [listed]
    else:
        items = (value,)
    if len(items) != ndim:
        raise SelectionError(f"{what} needs one integer per dimension: {ndim}, not {len(items)}")
    return [item if type(item) is int else whole_number(item, what, axis) for axis, item in enumerate(items)]


def basic(key: object, shape: Shape) -> Selection:
    """NumPy's `array[key]`: integers, slices, an ellipsis, new axes.

    Index arrays and masks are taken where NumPy means by them what `oindex` or `vindex` does: a mask of the
    whole array, one integer array per dimension, or one 1-d array among slices.
    """
    spelled = elements(key, shape)
    arrays = [item for item in spelled if isinstance(item, np.ndarray)]
    if not arrays:
        return _axes(spelled, shape)
    if len(arrays) == 1 and arrays[0].ndim == 1 and _stays_in_place(key):
        return _axes(spelled, shape)
    if _is_vectorized(key, spelled, arrays, shape):
        return vectorized(key, shape)
    raise SelectionError(
        "array[...] does not take these index arrays, which NumPy combines in a way of its own: write "
        "array.oindex[...] to select along each axis independently, or array.vindex[...] to select single "
        "elements by coordinates"
    )


def _is_vectorized(key: object, spelled: list[Element], arrays: list[NDArray[Any]], shape: Shape) -> bool:
    if arrays[0].dtype.kind == "b" and arrays[0].shape == shape:
        return not isinstance(key, tuple) or len(key) == 1
    return all(isinstance(item, int) or (isinstance(item, np.ndarray) and item.dtype.kind != "b") for item in spelled)


def _stays_in_place(key: object) -> bool:
    """True where NumPy leaves the array's axis in its place: only integers stand beside it, without a gap."""
    items = key if isinstance(key, tuple) else (key,)
    apart = [item is None or item is Ellipsis or isinstance(item, slice) for item in items]
    first, last = apart.index(False), len(apart) - apart[::-1].index(False)
    return not any(apart[first:last])


def orthogonal(key: object, shape: Shape) -> Selection:
    """The outer product of one selection per dimension: integers, slices, 1-d integer arrays and 1-d masks.

    An integer drops its axis; arrays may be unsorted and repeat.
    """
    return _axes(elements(key, shape), shape)


def _axes(spelled: list[Element], shape: Shape) -> Selection:
    wanted: list[AxisChoice] = []
    out: list[int] = []
    buffer: list[int] = []
    for item in spelled:
        axis = len(wanted)
        if item is None:
            out.append(1)
        elif isinstance(item, int):
            wanted.append(Stride(position(item, axis, shape), 1, keep=False))
        else:
            choice = stride(item, axis, shape[axis]) if isinstance(item, slice) else _along(item, axis, shape)
            count = choice.number if isinstance(choice, Stride) else choice.size
            wanted.append(choice)
            out.append(count)
            buffer.append(count)
    return Selection(shape, tuple(wanted), tuple(out), tuple(buffer))


def _along(item: NDArray[Any], axis: int, shape: Shape) -> Ints:
    if item.ndim != 1:
        raise SelectionError(
            f"the index array of dimension {axis} must be 1-d, not of shape {item.shape}: coordinates of "
            "single elements and masks of the whole array go to vindex"
        )
    return mask_positions(item, axis, shape) if item.dtype.kind == "b" else integers(item, axis, shape)


def vectorized(key: object, shape: Shape) -> Selection:
    """Single elements: integers or integer arrays, one per dimension, broadcast together, or one mask."""
    items = key if isinstance(key, tuple) else (key,)
    if any(item is None or item is Ellipsis or isinstance(item, slice) for item in items):
        raise SelectionError(f"{_VINDEX}; slices go to array[...] or oindex")
    arrays = [np.asarray(element(item)) for item in items]
    if len(arrays) == 1 and arrays[0].dtype.kind == "b":
        return _mask(arrays[0], shape)
    if len(arrays) != len(shape) or any(array.dtype.kind == "b" for array in arrays):
        raise SelectionError(f"{_VINDEX}: the array has shape {shape}, the selection {len(arrays)} item(s)")
    positions = [integers(array, axis, shape) for axis, array in enumerate(arrays)]
    try:
        together = np.broadcast_arrays(*positions)
    except ValueError as error:
        shapes = ", ".join(str(column.shape) for column in positions)
        raise SelectionError(f"coordinate arrays of shapes {shapes} do not broadcast together") from error
    if not together or together[0].ndim == 0:
        return _axes([int(column) for column in together], shape)
    out_shape = together[0].shape
    return Selection(shape, Points(column.reshape(-1) for column in together), out_shape, out_shape)


def _mask(mask: NDArray[Any], shape: Shape) -> Selection:
    if mask.shape != shape or not shape:
        raise SelectionError(f"{_VINDEX}: the array has shape {shape}, the mask {mask.shape}")
    columns = [column.astype(np.int64, copy=False) for column in np.nonzero(mask)]
    out_shape = columns[0].shape
    return Selection(shape, Points(columns), out_shape, out_shape)


def blocks(key: object, shape: Shape, chunks: Shape) -> Selection:
    """Whole chunks by their place in the grid: integers and slices of step 1. No axis is dropped.

    Args:
        key: What to select of the grid of chunks, as in NumPy.
        shape: The array's.
        chunks: Shape of what a block is: a chunk, or a shard.
    """
    grid = tuple(-(-size // chunk) for size, chunk in zip(shape, chunks, strict=True))
    wanted: list[Stride] = []
    for item in elements(key, grid):
        axis = len(wanted)
        if isinstance(item, int):
            low = position(item, axis, grid)
            high = low + 1
        elif isinstance(item, slice) and item.step in (None, 1):
            low, count, *_ = stride(item, axis, grid[axis])
            high = low + count
        else:
            raise SelectionError("blocks takes integers and slices of step 1")
        start, stop = low * chunks[axis], min(high * chunks[axis], shape[axis])
        wanted.append(ascending(start, stop - start, 1))
    out_shape = tuple(choice.number for choice in wanted)
    return Selection(shape, tuple(wanted), out_shape, out_shape)


def by_name(names: Mapping[str, object], dimension_names: Sequence[str | None] | None, shape: Shape) -> Selection:
    """As `orthogonal`, with dimensions called by name; those not named are taken whole."""
    known = tuple(dimension_names or ())
    key: list[object] = [slice(None)] * len(shape)
    for name, item in names.items():
        if known.count(name) != 1:
            has = ", ".join(repr(n) for n in known if n is not None) or "none"
            fault = "more than one dimension" if name in known else "no dimension"
            raise SelectionError(f"{fault} is called {name!r}; the array's dimension names: {has}")
        if item is None or item is Ellipsis:
            raise SelectionError(f"{name}={item!r} selects nothing: write an integer, a slice or an index array")
        key[known.index(name)] = item
    return orthogonal(tuple(key), shape)
