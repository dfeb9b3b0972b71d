"""Reads what a user writes between brackets, one element at a time, and says what is wrong with it."""

from __future__ import annotations

import operator
import reprlib
from collections.abc import Iterable
from types import EllipsisType
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from .._types import Shape
from ..errors import SelectionError
from .grid import Stride
from .grouping import Ints

Element: TypeAlias = int | slice | NDArray[Any] | None
"""One element of a subscript: an integer, a slice, a new axis, or an array of integers or booleans."""

_INT64_MAX = 2**63 - 1
_KINDS = "an integer, a slice, an ellipsis, np.newaxis, or an array of integers or booleans"


def elements(key: object, shape: Shape) -> list[Element]:
    """One element per dimension, and one None per new axis: the ellipsis and what is missing spelled out."""
    items = key if isinstance(key, tuple) else (key,)
    spelled: list[Element | EllipsisType] = [item if item is Ellipsis else element(item) for item in items]
    dots = [at for at, item in enumerate(spelled) if item is Ellipsis]
    if len(dots) > 1:
        raise SelectionError("a selection can have one ellipsis ('...') only")
    given = sum(item is not None for item in spelled) - len(dots)
    if given > len(shape):
        raise SelectionError(
            f"too many indices: the array has {len(shape)} dimensions (shape {shape}), the selection {given}"
        )
    at = dots[0] if dots else len(spelled)
    missing = [slice(None)] * (len(shape) - given)
    return [item for item in (*spelled[:at], *missing, *spelled[at + 1 :]) if not isinstance(item, EllipsisType)]


def element(item: object) -> Element:
    """An element in its plain form. Booleans, floats and strings are none."""
    if item is None or type(item) is int or isinstance(item, slice):
        return item
    if isinstance(item, bool | np.bool_):
        raise SelectionError(f"{item!r} is a boolean and no position: write an integer, or a boolean array as a mask")
    try:
        return operator.index(item)  # type: ignore[arg-type]  # this is the question
    except TypeError:
        return _array(item)


def _array(item: object) -> NDArray[Any]:
    if isinstance(item, np.generic) or not (isinstance(item, list | tuple | range) or hasattr(item, "__array__")):
        raise SelectionError(f"a selection is made of {_KINDS}, not {type(item).__name__} {reprlib.repr(item)}")
    try:
        array = np.asarray(item)
    except (ValueError, TypeError, OverflowError) as error:
        raise SelectionError(f"{reprlib.repr(item)} is no array of indices: {error}") from error
    if array.size == 0 and isinstance(item, list | tuple | range):
        return array.astype(np.int64)
    if array.dtype.kind not in "iub":
        raise SelectionError(f"an index array holds integers or booleans, not {array.dtype}")
    if array.dtype.kind != "b" and isinstance(item, list | tuple) and _has_boolean(item):
        raise SelectionError(f"{reprlib.repr(item)} mixes integers and booleans")
    return array


def _has_boolean(items: Iterable[object]) -> bool:
    kinds = set(map(type, items))
    if bool in kinds or np.bool_ in kinds:
        return True
    return bool(kinds & {list, tuple}) and any(_has_boolean(item) for item in items if isinstance(item, list | tuple))


def whole_number(value: object, what: str, axis: int) -> int:
    """An integer that is no boolean; NumPy's are fine."""
    if type(value) is int:
        return value
    if not isinstance(value, bool | np.bool_):
        try:
            return operator.index(value)  # type: ignore[arg-type]  # this is the question
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
    """The positions that a slice selects of an axis, cut at its ends as Python does."""
    parts = (item.start, item.stop, item.step)
    names = ("start", "stop", "step")
    checked = [None if p is None else whole_number(p, name, axis) for p, name in zip(parts, names, strict=True)]
    if checked[2] == 0:
        raise SelectionError(f"the step of dimension {axis} is 0")
    start, stop, step = slice(*checked).indices(size)
    if step > 0:
        return ascending(start, max(0, -(-(stop - start) // step)), step)
    count = max(0, -(-(start - stop) // -step))
    return ascending(start + (count - 1) * step, count, -step, reverse=True)


def ascending(first: int, count: int, step: int, *, reverse: bool = False) -> Stride:
    """A Stride in its one normal form."""
    return Stride(first, count, step, reverse) if count > 1 else Stride(first if count else 0, count)


def integers(item: NDArray[Any], axis: int, shape: Shape) -> Ints:
    """Checked positions of an index array, as a copy: changing the original later changes nothing."""
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
