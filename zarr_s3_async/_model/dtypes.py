"""Data types of elements, independent of the format, and the subset of NumPy's types that Zarr can store."""

from __future__ import annotations

from math import prod
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from .. import _ml_dtypes
from .._ml_dtypes import is_ml
from .._types import Shape
from .problems import Invalid, MissingPackage, Unknown, short_repr

DType: TypeAlias = np.dtype[Any]
Variable: TypeAlias = Literal["string", "bytes", "array", "any"]

MAX_ITEM_BYTES = 2**24
"""Bytes of one element at most: an untrusted `|S2000000000` must not allocate a scalar of 2 GB."""
MAX_FIELDS = 4096
MAX_FIELD_NDIM = 32


class DataType(NamedTuple):
    """A NumPy type, and for Python objects the kind of object."""

    dtype: DType
    variable: Variable | None = None
    """Set for variable-length elements, which NumPy stores as objects: str, bytes, arrays, or any JSON values."""
    v3_name: str | None = None
    """The Zarr v3 name where the document or the user chose one of several (`r16`)."""


STRING = DataType(np.dtype(object), "string")
BYTES = DataType(np.dtype(object), "bytes")
ARRAY = DataType(np.dtype(object), "array")
ANY = DataType(np.dtype(object), "any")


def ml_type(name: str) -> DType:
    """The NumPy type of one of ml_dtypes' names.

    Raises:
        MissingPackage: ml_dtypes is not installed, or too old.
    """
    try:
        return _ml_dtypes.lookup(name)
    except ImportError as error:
        raise MissingPackage(str(error)) from error


def sized(kind: Literal["S", "U", "V"], length: int, what: object) -> DType:
    """A type of fixed length: bytes, code points, raw bytes. Length zero is refused."""
    if length < 1:
        raise Invalid(f"the data type {short_repr(what)} has no length")
    # NumPy stores each character of text in four bytes.
    check_item(length * (4 if kind == "U" else 1), what)
    return np.dtype(f"{kind}{length}")


def check_item(size: int, what: object) -> None:
    """Refuse an element that is too large.

    Raises:
        Unknown: More than MAX_ITEM_BYTES.
    """
    if size > MAX_ITEM_BYTES:
        raise Unknown(f"an element of {short_repr(what)} takes {size} bytes; {MAX_ITEM_BYTES} is the maximum")


def record(fields: list[tuple[Any, ...]], what: object) -> DType:
    """A packed structured type of `(name, type)` and `(name, type, shape)` fields.

    Raises:
        Invalid: No fields, too many, or a name twice.
    """
    names = [field[0] for field in fields]
    if not 1 <= len(fields) <= MAX_FIELDS:
        raise Invalid(f"a structured data type has 1 to {MAX_FIELDS} fields, not {len(fields)}")
    if len(set(names)) != len(names):
        raise Invalid(f"a field name is duplicated in {short_repr(what)}")
    # Before NumPy checks them: it has other limits, and a different error for each.
    check_item(sum(_field_size(*field[1:]) for field in fields), what)
    return np.dtype(fields)


def _field_size(inner: DType, shape: Shape = ()) -> int:
    if len(shape) > MAX_FIELD_NDIM:
        raise Unknown(f"a field has {len(shape)} dimensions; {MAX_FIELD_NDIM} is the maximum")
    return inner.itemsize * prod(shape)


def packed(dtype: DType, *, native: bool) -> DType:
    """The type in the form that Zarr stores: structured types without padding; with `native`, in this machine's order.

    Raises:
        Invalid: Zarr has no such type: objects, long doubles, titles, a length of zero.
    """
    if is_ml(dtype):
        if dtype.name not in _ml_dtypes.BITS:
            raise Invalid(f"Zarr has no data type for {dtype.name}")
        return dtype
    if dtype.names is not None:
        return record([_field(dtype, name, native=native) for name in dtype.names], dtype)
    if dtype.subdtype is not None or dtype.kind not in "biufcmMSUV" or dtype.itemsize == 0:
        raise Invalid(f"Zarr cannot store elements of {dtype!r}; text and bytes need a length, or dtype=str or bytes")
    if dtype.kind in "fc" and dtype.itemsize > (8 if dtype.kind == "f" else 16):
        raise Invalid(f"Zarr cannot store {dtype!r}: its layout differs between machines; use float64 or complex128")
    check_item(dtype.itemsize, dtype)
    return dtype.newbyteorder("=") if native else dtype


def _field(dtype: DType, name: str, *, native: bool) -> tuple[Any, ...]:
    inner = dtype[name]
    if dtype.fields is not None and len(dtype.fields[name]) > 2:
        raise Invalid(f"Zarr cannot store the title of the field {short_repr(name)}")
    if inner.subdtype is not None:
        base, shape = inner.subdtype
        return name, packed(base, native=native), shape
    return name, packed(inner, native=native)


def field_names(dtype: DType) -> tuple[str, ...]:
    """Names of the fields of a structured type, in order; none for another."""
    return dtype.names or ()


def is_wide(dtype: DType) -> bool:
    """True where the byte order of the stored elements matters to the v3 `bytes` codec.

    As in zarr-python, any field of more than one byte makes a structured type wide, fixed-length bytes too.
    """
    if dtype.names is not None:
        return any(dtype[name].itemsize > 1 for name in dtype.names)
    if is_ml(dtype):
        return dtype.itemsize > 1
    return dtype.kind in "iufcmMU" and dtype.itemsize > 1


def zero(data_type: DataType) -> Any:
    """The element with all bits zero, the empty string, or None for arrays, which encode it as an empty array.

    A datetime without a unit can only be NaT in NumPy, so its zero is NaT.
    """
    match data_type.variable:
        case "string":
            return ""
        case "bytes":
            return b""
        case "array" | "any":
            return None
    if data_type.dtype.kind == "M" and np.datetime_data(data_type.dtype)[0] == "generic":
        return np.int64(-(2**63)).view(data_type.dtype.newbyteorder("="))
    return np.zeros((), dtype=data_type.dtype)[()]
