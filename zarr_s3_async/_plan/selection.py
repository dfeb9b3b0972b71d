"""Subscripts and regions (start, stop, step), checked against an array's shape and normalised to a `Selection`.

Every SelectionError is raised here: a Selection always fits its array.
"""

from __future__ import annotations

import operator
import reprlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from types import EllipsisType
from typing import Any, NamedTuple, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .._grid import Axis, Ints, grid_shape, place
from .._types import Shape
from ..errors import SelectionError

Element: TypeAlias = int | slice | NDArray[Any] | None
"""One element of a subscript: an integer, a slice, a new axis, or an array of integers or booleans."""

_INT64_MAX = 2**63 - 1
_KINDS = "an integer, a slice, an ellipsis, np.newaxis, or an array of integers or booleans"
_VINDEX = "vindex takes one integer array per dimension, or one boolean mask of the array's shape"


class Stride(NamedTuple):
    """Positions `first + k * step` for 0 <= k < number, ascending: step >= 1, and 1 where number < 2."""

    first: int
    number: int
    step: int = 1
    reverse: bool = False
    """True where the result has them in descending order."""
    keep: bool = True
    """False where an integer selected the axis, which the result then lacks."""


AxisChoice: TypeAlias = Stride | Ints
"""What is selected of one axis: evenly spaced positions, or positions in any order."""


class Points(tuple[Ints, ...]):
    """Single elements: their positions, one flat array per dimension, all of one length."""

    __slots__ = ()


@dataclass(slots=True, eq=False)
class Selection:
    """Which elements of an array of `shape` are selected, in which order. The functions below make it.

    Treat it as immutable. The dataclass is not frozen because constructing a frozen one takes three times as long, and
    every read constructs one.
    """

    shape: Shape
    """Shape of the array."""
    wanted: tuple[AxisChoice, ...] | Points
    out_shape: Shape
    """Shape of the result: without the axes that integers select, with new axes."""
    buffer_shape: Shape
    """The same without new axes; reshaping between the two always gives a view."""


def region(
    start: Sequence[int] | int,
    stop: Sequence[int] | int | None,
    step: Sequence[int] | int | None,
    shape: Shape,
) -> Selection:
    """The block `start` to `stop`, every `step`-th element. Unlike slices, bounds outside the array are errors.

    Args:
        start: First position per dimension; a plain integer is enough for one dimension.
        stop: One past the last position per dimension; None is the array's end.
        step: At least 1 per dimension; None is 1.
        shape: The array's.
    """
    ndim = len(shape)
    starts = _per_axis(start, "start", ndim)
    stops = shape if stop is None else _per_axis(stop, "stop", ndim)
    if step is not None:
        return _stepped(starts, stops, _per_axis(step, "step", ndim), shape)
    wanted: list[Stride] = []
    out: list[int] = []
    # Nearly every read takes this path, and for one small chunk it is a tenth of the call: so no function per axis,
    # and no Python-level constructor.
    new = tuple.__new__
    for low, high, n in zip(starts, stops, shape, strict=True):
        if not (type(low) is type(high) is int and 0 <= low <= high <= n):
            return _stepped(starts, stops, (1,) * ndim, shape)
        wanted.append(new(Stride, (low, high - low, 1, False, True)))
        out.append(high - low)
    out_shape = tuple(out)
    return Selection(shape, tuple(wanted), out_shape, out_shape)


def _stepped(starts: Sequence[Any], stops: Sequence[Any], steps: Sequence[Any], shape: Shape) -> Selection:
    """A region with steps, with numbers of other integer types, or an invalid one."""
    wanted: list[Stride] = []
    for axis, n in enumerate(shape):
        low, high = integer(starts[axis], "start", axis), integer(stops[axis], "stop", axis)
        by = integer(steps[axis], "step", axis)
        if not 0 <= low <= high <= n or by < 1:
            raise _region_error(axis, low, high, by, shape)
        wanted.append(ascending(low, -(-(high - low) // by), by))
    out_shape = tuple(choice.number for choice in wanted)
    return Selection(shape, tuple(wanted), out_shape, out_shape)


def _region_error(axis: int, start: int, stop: int, step: int, shape: Shape) -> SelectionError:
    if step < 1:
        return SelectionError(
            f"step {step} of dimension {axis} must be 1 or more; array[...] takes negative ones as NumPy does"
        )
    return SelectionError(
        f"start {start} and stop {stop} of dimension {axis} must satisfy 0 <= start <= stop <= {shape[axis]} "
        f"for an array of shape {shape}"
    )


def _per_axis(value: Any, what: str, ndim: int) -> Sequence[Any]:
    """One item per dimension. The items themselves are not checked here."""
    if isinstance(value, tuple | list):
        items: Sequence[Any] = value
    elif isinstance(value, np.ndarray | range):
        # np.ndarray.tolist of a 0-d array is one number.
        listed = value.tolist() if isinstance(value, np.ndarray) else list(value)
        items = listed if isinstance(listed, list) else [listed]
    else:
        items = (value,)
    if len(items) != ndim:
        raise SelectionError(f"{what} needs one integer per dimension: {ndim}, not {len(items)}")
    return items


def basic(key: object, shape: Shape) -> Selection:
    """NumPy's `array[key]`: integers, slices, an ellipsis, new axes.

    Index arrays and masks are accepted where NumPy's result equals that of `oindex` or `vindex`: a mask of the whole
    array, one integer array per dimension, or one 1-d array among slices.
    """
    spelled = elements(key, shape)
    arrays = [item for item in spelled if isinstance(item, np.ndarray)]
    if not arrays:
        return _axes(spelled, shape)
    if len(arrays) == 1 and arrays[0].ndim == 1 and _stays_in_place(key):
        return _axes(spelled, shape)
    if arrays[0].dtype.kind == "b" and arrays[0].shape == shape:
        is_vectorized = not isinstance(key, tuple) or len(key) == 1
    else:
        no_masks = (isinstance(item, np.ndarray) and item.dtype.kind != "b" for item in spelled)
        is_vectorized = all(isinstance(item, int) or ok for item, ok in zip(spelled, no_masks, strict=True))
    if is_vectorized:
        return vectorized(key, shape)
    raise SelectionError(
        "array[...] does not take these index arrays, which NumPy combines by rules of its own: write "
        "array.oindex[...] to select along each axis independently, or array.vindex[...] to select single "
        "elements by coordinates"
    )


def _stays_in_place(key: object) -> bool:
    """True where NumPy keeps the index array's axis in its position: no slice separates the array from integers."""
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
            choice = stride(item, axis, shape[axis]) if isinstance(item, slice) else _axis_positions(item, axis, shape)
            count = choice.number if isinstance(choice, Stride) else choice.size
            wanted.append(choice)
            out.append(count)
            buffer.append(count)
    return Selection(shape, tuple(wanted), tuple(out), tuple(buffer))


def _axis_positions(item: NDArray[Any], axis: int, shape: Shape) -> Ints:
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
    # Integers only: one element, as in a basic selection.
    if not together or together[0].ndim == 0:
        return _axes([int(column) for column in together], shape)
    out_shape = together[0].shape
    return Selection(shape, Points(column.reshape(-1) for column in together), out_shape, out_shape)


def _mask(mask: NDArray[Any], shape: Shape) -> Selection:
    if mask.shape != shape or not shape:
        raise SelectionError(f"{_VINDEX}: the array has shape {shape}, the mask {mask.shape}")
    # `np.nonzero` returns integers of the machine's width.
    columns = [column.astype(np.int64, copy=False) for column in np.nonzero(mask)]
    out_shape = columns[0].shape
    return Selection(shape, Points(columns), out_shape, out_shape)


def blocks(key: object, shape: Shape, axes: Sequence[Axis]) -> Selection:
    """Whole chunks by their position in the grid: integers and slices of step 1. No axis is dropped.

    Args:
        key: Index into the grid of blocks, as in NumPy.
        shape: The array's.
        axes: The grid of chunks or of shards, per dimension.
    """
    grid = grid_shape(axes, shape)
    wanted: list[Stride] = []
    for item in elements(key, grid):
        axis = len(wanted)
        if isinstance(item, int):
            low, count = position(item, axis, grid), 1
        elif isinstance(item, slice) and item.step in (None, 1):
            low, count, *_ = stride(item, axis, grid[axis])
        else:
            raise SelectionError("blocks takes integers and slices of step 1")
        # An empty slice may begin behind the last block, which has no place in the grid.
        start = stop = 0
        if count:
            start = place(axes[axis], low)[0]
            last, length = place(axes[axis], low + count - 1)
            stop = min(last + length, shape[axis])
        wanted.append(ascending(start, stop - start, 1))
    out_shape = tuple(choice.number for choice in wanted)
    return Selection(shape, tuple(wanted), out_shape, out_shape)


def split_fields(key: object) -> tuple[str | list[str] | None, object]:
    """The field or fields that a subscript names, and the subscript without them.

    Args:
        key: A field's name or a list of names, alone or as one element of a tuple.

    Raises:
        SelectionError: It names fields in several elements.
    """
    if not isinstance(key, str | list | tuple):
        return None, key
    items = key if isinstance(key, tuple) else (key,)
    named = [item for item in items if _names_fields(item)]
    if not named:
        return None, key
    if len(named) > 1:
        raise SelectionError(f"several elements of {reprlib.repr(key)} name fields: give one list of them")
    rest = tuple(item for item in items if not _names_fields(item))
    return named[0], rest or Ellipsis


def _names_fields(item: object) -> bool:
    return isinstance(item, str) or (isinstance(item, list) and bool(item) and all(isinstance(n, str) for n in item))


def by_name(names: Mapping[str, object], dimension_names: Sequence[str | None] | None, shape: Shape) -> Selection:
    """As `orthogonal`, with dimensions given by name; dimensions that are not named are selected whole."""
    dimensions = tuple(dimension_names or ())
    key: list[object] = [slice(None)] * len(shape)
    for name, item in names.items():
        if dimensions.count(name) != 1:
            has = ", ".join(repr(n) for n in dimensions if n is not None) or "none"
            problem = "more than one dimension" if name in dimensions else "no dimension"
            raise SelectionError(f"{problem} is called {name!r}; the array's dimension names: {has}")
        if item is None or item is Ellipsis:
            raise SelectionError(f"{name}={item!r} selects nothing: write an integer, a slice or an index array")
        key[dimensions.index(name)] = item
    return orthogonal(tuple(key), shape)


def _listed(value: Sequence[int] | int, what: str) -> tuple[int, ...]:
    if isinstance(value, int):
        return (value,)
    try:
        return tuple(integer(item, what, axis) for axis, item in enumerate(value))
    except TypeError as error:
        raise SelectionError(
            f"{what} must be integers, one for each dimension, not {type(value).__name__} {reprlib.repr(value)}"
        ) from error


def stop_of(start: Sequence[int] | int, step: Sequence[int] | int | None, data_shape: Shape, shape: Shape) -> Shape:
    """The `stop` of a write of data of `data_shape`: one past its last element in every dimension.

    Leading dimensions that the data lacks are broadcast, and have no end of their own.
    """
    starts = _listed(start, "start")
    steps = (1,) * len(shape) if step is None else _listed(step, "step")
    if len(data_shape) != len(shape) or len(starts) != len(shape) or len(steps) != len(shape):
        raise SelectionError(
            f"data of shape {data_shape} at start={start!r} does not say where it ends in an array of shape {shape}: "
            "pass stop=, or data with one dimension for each of the array's"
        )
    # Of n elements every `by`-th, the last lies (n - 1) * by behind the first.
    return tuple(
        first + max(0, (n - 1) * by + 1) if n else first for first, n, by in zip(starts, data_shape, steps, strict=True)
    )


def elements(key: object, shape: Shape) -> list[Element]:
    """One element per dimension, and one None per new axis; the ellipsis and missing dimensions are written out."""
    items = key if isinstance(key, tuple) else (key,)
    spelled: list[Element | EllipsisType] = [item if item is Ellipsis else element(item) for item in items]
    dots = [at for at, item in enumerate(spelled) if item is Ellipsis]
    if len(dots) > 1:
        raise SelectionError("a selection can have one ellipsis ('...') only")
    # New axes consume no dimension of the array, and neither does an ellipsis.
    given = sum(item is not None for item in spelled) - len(dots)
    if given > len(shape):
        raise SelectionError(
            f"too many indices: the array has {len(shape)} dimensions (shape {shape}), the selection {given}"
        )
    at = dots[0] if dots else len(spelled)
    missing = [slice(None)] * (len(shape) - given)
    return [item for item in (*spelled[:at], *missing, *spelled[at + 1 :]) if not isinstance(item, EllipsisType)]


def element(item: object) -> Element:
    """One element of a subscript in its plain form.

    Raises:
        SelectionError: It is a boolean, a float, a string or another type that selects nothing.
    """
    # The usual types first: every subscript of every read is checked here.
    if item is None or type(item) is int or isinstance(item, slice):
        return item
    # Python takes a boolean for 0 or 1, NumPy for a mask without dimensions; here it is nearly always a mistake.
    if isinstance(item, bool | np.bool_):
        raise SelectionError(f"{item!r} is a boolean and no position: write an integer, or a boolean array as a mask")
    try:
        return operator.index(item)  # type: ignore[arg-type]  # raises TypeError for what is not an integer
    except TypeError:
        return _array(item)


def _array(item: object) -> NDArray[Any]:
    if isinstance(item, np.generic) or not (isinstance(item, list | tuple | range) or hasattr(item, "__array__")):
        raise SelectionError(f"a selection is made of {_KINDS}, not {type(item).__name__} {reprlib.repr(item)}")
    try:
        array = np.asarray(item)
    except (ValueError, TypeError, OverflowError) as error:
        raise SelectionError(f"{reprlib.repr(item)} is no array of indices: {error}") from error
    # NumPy makes an empty list an array of floats.
    if array.size == 0 and isinstance(item, list | tuple | range):
        return array.astype(np.int64)
    if array.dtype.kind not in "iub":
        raise SelectionError(f"an index array holds integers or booleans, not {array.dtype}")
    # NumPy would convert True to 1 without an error.
    if array.dtype.kind != "b" and isinstance(item, list | tuple) and _has_boolean(item):
        raise SelectionError(f"{reprlib.repr(item)} mixes integers and booleans")
    return array


def _has_boolean(items: Iterable[object]) -> bool:
    kinds = set(map(type, items))
    if bool in kinds or np.bool_ in kinds:
        return True
    return bool(kinds & {list, tuple}) and any(_has_boolean(item) for item in items if isinstance(item, list | tuple))


def integer(value: object, what: str, axis: int) -> int:
    """An int from any integer type, NumPy's included, but not from a boolean."""
    if type(value) is int:
        return value
    if not isinstance(value, bool | np.bool_):
        try:
            return operator.index(value)  # type: ignore[arg-type]  # raises TypeError for what is not an integer
        except TypeError:
            pass
    raise SelectionError(
        f"{what} of dimension {axis} must be an integer, not {type(value).__name__} {reprlib.repr(value)}"
    )


def position(index: int, axis: int, shape: Shape) -> int:
    """An integer index as a position, counted from the end where it is negative."""
    size = shape[axis]
    if not -size <= index < size:
        raise _out_of_bounds(index, axis, shape)
    return index if index >= 0 else index + size


def stride(item: slice, axis: int, size: int) -> Stride:
    """The positions that a slice selects along an axis, clipped to it as in Python."""
    parts = (item.start, item.stop, item.step)
    names = ("start", "stop", "step")
    checked = [None if p is None else integer(p, name, axis) for p, name in zip(parts, names, strict=True)]
    if checked[2] == 0:
        raise SelectionError(f"the step of dimension {axis} is 0")
    start, stop, step = slice(*checked).indices(size)
    if step > 0:
        return ascending(start, max(0, -(-(stop - start) // step)), step)
    count = max(0, -(-(start - stop) // -step))
    # Plans work on ascending positions: a negative step becomes its mirror image, and the result is reversed.
    return ascending(start + (count - 1) * step, count, -step, reverse=True)


def ascending(first: int, count: int, step: int, *, reverse: bool = False) -> Stride:
    """A Stride in normal form: step 1 and not reversed where fewer than two positions are selected."""
    return Stride(first, count, step, reverse) if count > 1 else Stride(first if count else 0, count)


def integers(item: NDArray[Any], axis: int, shape: Shape) -> Ints:
    """Checked positions of an index array, as a copy: later changes of the original have no effect."""
    size = shape[axis]
    if size > _INT64_MAX:
        raise SelectionError(f"dimension {axis} has size {size}, beyond what index arrays can hold: use slices")
    if item.size:
        low, high = int(item.min()), int(item.max())
        if low < -size or high >= size:
            raise _out_of_bounds(low if low < -size else high, axis, shape)
    positions = np.array(item, np.int64, order="C")
    positions[positions < 0] += size
    return positions


def mask_positions(item: NDArray[Any], axis: int, shape: Shape) -> Ints:
    """Positions of the true elements of a mask along one axis."""
    if item.shape != (shape[axis],):
        raise SelectionError(
            f"the boolean mask of dimension {axis} has shape {item.shape}; it must be ({shape[axis]},) for "
            f"an array of shape {shape}. A mask of the whole array goes to vindex"
        )
    return np.flatnonzero(item).astype(np.int64, copy=False)


def _out_of_bounds(index: int, axis: int, shape: Shape) -> SelectionError:
    return SelectionError(
        f"index {index} is out of bounds for dimension {axis} of size {shape[axis]} (array of shape {shape})"
    )
