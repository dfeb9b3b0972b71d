"""Zarr v2 `dtype` members and NumPy types, both ways.

Zarr v2 specification, "Data type encoding". The small types of ml_dtypes go by name, as in tensorstore.
"""

from __future__ import annotations

import re
from typing import Any

import numpy as np

from .._types import JSON
from . import ml
from .dtypes import ARRAY, BYTES, STRING, DataType, DType, Variable, record, sized
from .fields import text, wholes
from .problems import Invalid, Unknown, shown

_ONE_BYTE = {"b1": np.bool_, "i1": np.int8, "u1": np.uint8}
_WIDE = frozenset({"i2", "i4", "i8", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"})
_SIMPLE = re.compile(r"([<>|])([biufcSUV])([0-9]{1,10})", re.ASCII)
_TIME = re.compile(r"([<>])([mM])8(?:\[([0-9]{0,10})(Y|M|W|D|h|m|s|ms|us|μs|ns|ps|fs|as|generic)\])?")
_OBJECTS: dict[Variable, DataType] = {"string": STRING, "bytes": BYTES, "array": ARRAY}

MAX_SCALE = 2**31 - 1


def read(value: JSON, variable: Variable | None) -> DataType:
    """The data type that a `dtype` member names.

    Args:
        value: The member.
        variable: What the object codec of the array makes of objects; None where there is no object codec.

    Raises:
        Invalid: Not a data type of the specification; objects without an object codec.
        Unknown: A data type of the specification that is not supported.
    """
    if value == "|O":
        if variable is None:
            raise Invalid(
                "'dtype' is '|O', and 'filters' has no object codec such as 'vlen-utf8' to store objects with"
            )
        return _OBJECTS[variable]
    return DataType(_fixed(value))


def _fixed(value: JSON) -> DType:
    if isinstance(value, list):
        return record([_field(item) for item in value], value)
    name = text(value, "'dtype'")
    if name in ml.NAMES:
        return ml.lookup(name)
    if match := _TIME.fullmatch(name):
        return _time(match, name)
    if match := _SIMPLE.fullmatch(name):
        return _simple(match, name)
    raise Unknown(f"the data type {shown(name)} is not known")


def _time(match: re.Match[str], name: str) -> DType:
    order, kind, scale, unit = match.groups()
    if unit is None:
        return np.dtype(f"{order}{kind}8")
    return _ordered(time_type(kind, unit, int(scale or 1), name), order)


def _ordered(dtype: DType, order: str) -> DType:
    return dtype.newbyteorder(">" if order == ">" else "<")


def time_type(kind: str, unit: str, scale: int, what: object) -> DType:
    """`datetime64` (M) or `timedelta64` (m) that counts `scale` units."""
    if not 1 <= scale <= MAX_SCALE:
        raise Invalid(f"the data type {shown(what)} counts units by {scale}; 1 to {MAX_SCALE} are allowed")
    return np.dtype(f"{kind}8[{scale}{unit}]")


def _simple(match: re.Match[str], name: str) -> DType:
    order, kind, digits = match.groups()
    code = kind + digits
    # A byte order means nothing for single bytes; netCDF-C, jzarr and Zarr.jl write one all the same.
    if code in _ONE_BYTE:
        return np.dtype(_ONE_BYTE[code])
    if kind in ("S", "V"):
        return sized("S" if kind == "S" else "V", int(digits), name)
    if order == "|":
        raise Invalid(f"the data type {shown(name)} does not say its byte order")
    if kind == "U":
        return _ordered(sized("U", int(digits), name), order)
    if code not in _WIDE:
        raise Unknown(f"the data type {shown(name)} is not supported")
    return np.dtype(order + code)


def _field(value: JSON) -> tuple[Any, ...]:
    if not isinstance(value, list) or len(value) not in (2, 3):
        raise Invalid(f"a field of a structured 'dtype' is [name, type] or [name, type, shape], not {shown(value)}")
    name = text(value[0], "the name of a field")
    inner = _fixed(value[1])
    return (
        (name, inner, wholes(value[2], f"the shape of the field {shown(name)}", least=1))
        if value[2:]
        else (name, inner)
    )


def write(data_type: DataType) -> JSON:
    """The `dtype` member for a data type, as zarr-python spells it."""
    return "|O" if data_type.variable else _spelling(data_type.dtype)


def _spelling(dtype: DType) -> JSON:
    if ml.is_ml(dtype):
        return dtype.name
    if dtype.names is not None:
        return [_spell_field(name, dtype[name]) for name in dtype.names]
    if dtype.kind in "mM" and np.datetime_data(dtype)[0] == "generic" and np.datetime_data(dtype)[1] != 1:
        return f"{dtype.str}[{np.datetime_data(dtype)[1]}generic]"
    return dtype.str


def _spell_field(name: str, inner: DType) -> list[JSON]:
    if inner.subdtype is not None:
        base, shape = inner.subdtype
        return [name, _spelling(base), list(shape)]
    return [name, _spelling(inner)]
