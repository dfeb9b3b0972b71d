"""Zarr v3 `data_type` members and NumPy types, both ways.

Zarr v3 core specification, "Data types"; zarr-extensions, `data-types/`; zarr-python's own `raw_bytes`,
`null_terminated_bytes` and `variable_length_bytes`, which no specification has yet.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np

from .._types import JSON
from . import ml
from .dtypes import BYTES, STRING, DataType, DType, record, sized
from .dtypes_v2 import MAX_SCALE, time_type
from .fields import Named, items, mapping, member, named, one_of, only, text, whole
from .problems import Invalid, Unknown, shown

_CORE = {
    name: np.dtype(name)
    for name in (
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64", "complex64", "complex128"),
    )
} | {"complex_float32": np.dtype("complex64"), "complex_float64": np.dtype("complex128")}
_VARIABLE = {"string": STRING, "bytes": BYTES, "variable_length_bytes": BYTES}
_RAW = re.compile(r"r([1-9][0-9]{0,9})")
_TIME_KINDS = {"numpy.datetime64": "M", "numpy.timedelta64": "m"}

Unit = Literal["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "μs", "ns", "ps", "fs", "as", "generic"]


def read(value: JSON) -> DataType:
    """The data type that a `data_type` member names.

    Raises:
        Invalid: The member breaks the rules of the data type that it names.
        Unknown: No such data type is known here.
    """
    kind = named(value, "'data_type'")
    if kind.name in _BY_CONFIGURATION:
        return DataType(_BY_CONFIGURATION[kind.name](kind))
    only(kind.configuration, f"the configuration of 'data_type' {shown(kind.name)}", ())
    if kind.name in _VARIABLE:
        return _VARIABLE[kind.name]
    if match := _RAW.fullmatch(kind.name):
        return DataType(_raw_bits(int(match[1]), kind.name), v3_name=kind.name)
    return DataType(_plain(kind.name))


def is_raw(name: str) -> bool:
    """True for `r8`, `r16`, …"""
    return _RAW.fullmatch(name) is not None


def _plain(name: str) -> DType:
    if name in _CORE:
        return _CORE[name]
    if name in ml.NAMES:
        return ml.lookup(name)
    raise Unknown(f"the data type {shown(name)} is not known")


def _raw_bits(bits: int, name: str) -> DType:
    if bits % 8:
        raise Invalid(f"the data type {name!r} must have a multiple of 8 bits")
    return sized("V", bits // 8, name)


def _length(kind: Named, unit: int) -> int:
    where = f"the configuration of 'data_type' {kind.name!r}"
    only(kind.configuration, where, ("length_bytes",))
    length = whole(member(kind.configuration, "length_bytes"), f"'length_bytes' of {kind.name!r}", least=unit)
    if length % unit:
        raise Invalid(f"'length_bytes' of {kind.name!r} must be a multiple of {unit}, not {length}")
    return length // unit


def _time(kind: Named) -> DType:
    where = f"the configuration of 'data_type' {kind.name!r}"
    only(kind.configuration, where, ("unit", "scale_factor"))
    unit = one_of(member(kind.configuration, "unit"), f"'unit' of {kind.name!r}", get_args(Unit))
    scale = whole(
        member(kind.configuration, "scale_factor"),
        f"'scale_factor' of {kind.name!r}",
        least=1,
        most=MAX_SCALE,
    )
    return time_type(_TIME_KINDS[kind.name], unit, scale, kind.name)


def _struct(kind: Named) -> DType:
    only(kind.configuration, f"the configuration of 'data_type' {kind.name!r}", ("fields",))
    fields = items(member(kind.configuration, "fields"), f"'fields' of {kind.name!r}")
    return record([_field(item) for item in fields], kind.configuration)


def _field(value: JSON) -> tuple[str, DType]:
    if isinstance(value, list) and len(value) == 2:  # the form of the legacy "structured"
        name, inner = value
    else:
        field = mapping(value, "a field of a structured 'data_type'")
        only(field, "a field of a structured 'data_type'", ("name", "data_type"))
        name, inner = member(field, "name"), member(field, "data_type")
    data_type = read(inner)
    if data_type.variable:
        raise Invalid(f"the field {shown(name)} has no fixed length")
    return text(name, "the name of a field"), data_type.dtype


_BY_CONFIGURATION: dict[str, Callable[[Named], DType]] = {
    "fixed_length_utf32": lambda kind: sized("U", _length(kind, 4), kind.name),
    "null_terminated_bytes": lambda kind: sized("S", _length(kind, 1), kind.name),
    "raw_bytes": lambda kind: sized("V", _length(kind, 1), kind.name),
    "numpy.datetime64": _time,
    "numpy.timedelta64": _time,
    "struct": _struct,
    "structured": _struct,
}


def write(data_type: DataType) -> JSON:
    """The `data_type` member for a data type, as zarr-python spells it."""
    if data_type.v3_name:
        return data_type.v3_name
    match data_type.variable:
        case "string":
            return "string"
        case "bytes":
            return "variable_length_bytes"
        case "array":
            raise Invalid("Zarr v3 has no data type for arrays of varying length; use zarr_format=2")
    return _spelling(data_type.dtype)


def _spelling(dtype: DType) -> JSON:
    if ml.is_ml(dtype) or dtype.kind in "biufc":
        return dtype.name
    if dtype.names is not None:
        return _configured("struct", fields=[_spell_field(name, dtype[name]) for name in dtype.names])
    match dtype.kind:
        case "M" | "m":
            unit, scale = np.datetime_data(dtype)
            name = "numpy.datetime64" if dtype.kind == "M" else "numpy.timedelta64"
            return _configured(name, unit=unit, scale_factor=scale)
        case "S":
            return _configured("null_terminated_bytes", length_bytes=dtype.itemsize)
        case "U":
            return _configured("fixed_length_utf32", length_bytes=dtype.itemsize)
    return _configured("raw_bytes", length_bytes=dtype.itemsize)


def _spell_field(name: str, inner: DType) -> dict[str, JSON]:
    if inner.subdtype is not None:
        raise Invalid(f"the field {shown(name)} is a sub-array, which Zarr v3 does not have; use zarr_format=2")
    return {"name": name, "data_type": _spelling(inner)}


def _configured(name: str, **configuration: Any) -> dict[str, JSON]:
    return {"name": name, "configuration": configuration}
