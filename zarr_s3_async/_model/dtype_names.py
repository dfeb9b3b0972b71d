"""Names of data types in documents, v2 `dtype` and v3 `data_type`, converted from and to NumPy types.

Zarr v2 specification, "Data type encoding"; Zarr v3 core specification, "Data types"; zarr-extensions,
`data-types/`; `raw_bytes`, `null_terminated_bytes` and `variable_length_bytes` of zarr-python, which no
specification has yet. The small types of ml_dtypes go by name in v2 as well, as in tensorstore.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any, Literal, get_args

import numpy as np

from .. import _ml_dtypes
from .._types import JSON
from .document import Named, integer, integers, items, mapping, member, named, one_of, only, text
from .dtypes import ANY, ARRAY, BYTES, MAX_FIELDS, STRING, DataType, DType, Variable, ml_type, record, sized
from .problems import Invalid, Unknown, short_repr

_ONE_BYTE = {"b1": np.bool_, "i1": np.int8, "u1": np.uint8}
_WIDE = frozenset({"i2", "i4", "i8", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"})
_SIMPLE_V2 = r"(?a)([<>|])([biufcSUV])([0-9]{1,10})"
_TIME_V2 = r"([<>])([mM])8(?:\[([0-9]{0,10})(Y|M|W|D|h|m|s|ms|us|μs|ns|ps|fs|as|generic)\])?"
_OBJECTS: dict[Variable, DataType] = {"string": STRING, "bytes": BYTES, "array": ARRAY, "any": ANY}

MAX_SCALE = 2**31 - 1


def read_v2(value: JSON, variable: Variable | None) -> DataType:
    """The data type that a `dtype` member names.

    Args:
        value: The member.
        variable: Type of the elements that the array's object codec reads; None without an object codec.

    Raises:
        Invalid: Not a data type of the specification; objects without an object codec.
        Unknown: A data type of the specification that is not supported.
    """
    if value == "|O":
        if variable is None:
            raise Invalid("'dtype' is '|O', but 'filters' has no object codec such as 'vlen-utf8'")
        return _OBJECTS[variable]
    return DataType(_read_v2(value))


def _read_v2(value: JSON) -> DType:
    if isinstance(value, list):
        fields = items(value, "a structured 'dtype'", max_items=MAX_FIELDS)
        return record([_field_v2(item) for item in fields], value)
    name = text(value, "'dtype'")
    if name in _ml_dtypes.BITS:
        return ml_type(name)
    if match := re.fullmatch(_TIME_V2, name):
        return _time_v2(match, name)
    if match := re.fullmatch(_SIMPLE_V2, name):
        return _simple_v2(match, name)
    raise Unknown(f"the data type {short_repr(name)} is not known")


def _time_v2(match: re.Match[str], name: str) -> DType:
    order, kind, scale, unit = match.groups()
    if unit is None:
        return np.dtype(f"{order}{kind}8")
    return _ordered(time_type(kind, unit, int(scale or 1), name), order)


def _ordered(dtype: DType, order: str) -> DType:
    return dtype.newbyteorder(">" if order == ">" else "<")


def time_type(kind: str, unit: str, scale: int, what: object) -> DType:
    """`datetime64` (M) or `timedelta64` (m) that counts `scale` units."""
    if not 1 <= scale <= MAX_SCALE:
        raise Invalid(f"the data type {short_repr(what)} counts units by {scale}; 1 to {MAX_SCALE} are allowed")
    return np.dtype(f"{kind}8[{scale}{unit}]")


def _simple_v2(match: re.Match[str], name: str) -> DType:
    order, kind, digits = match.groups()
    code = kind + digits
    # Single bytes have no byte order, but netCDF-C, jzarr and Zarr.jl write one.
    if code in _ONE_BYTE:
        return np.dtype(_ONE_BYTE[code])
    if kind in ("S", "V"):
        return sized("S" if kind == "S" else "V", int(digits), name)
    # Numbers of several bytes without a byte order: guessing one could return wrong numbers.
    if order == "|":
        raise Invalid(f"the data type {short_repr(name)} has no byte order")
    if kind == "U":
        return _ordered(sized("U", int(digits), name), order)
    if code not in _WIDE:
        raise Unknown(f"the data type {short_repr(name)} is not supported")
    return np.dtype(order + code)


def _field_v2(value: JSON) -> tuple[Any, ...]:
    if not isinstance(value, list) or len(value) not in (2, 3):
        raise Invalid(
            f"a field of a structured 'dtype' is [name, type] or [name, type, shape], not {short_repr(value)}"
        )
    name = text(value[0], "the name of a field")
    inner = _read_v2(value[1])
    return (
        (name, inner, integers(value[2], f"the shape of the field {short_repr(name)}", minimum=1))
        if value[2:]
        else (name, inner)
    )


def write_v2(data_type: DataType) -> JSON:
    """The `dtype` member for a data type, as zarr-python spells it."""
    return "|O" if data_type.variable else _spell_v2(data_type.dtype)


def _spell_v2(dtype: DType) -> JSON:
    if _ml_dtypes.is_ml(dtype):
        return dtype.name
    if dtype.names is not None:
        return [_spell_field_v2(name, dtype[name]) for name in dtype.names]
    if dtype.kind in "mM" and np.datetime_data(dtype)[0] == "generic" and np.datetime_data(dtype)[1] != 1:
        return f"{dtype.str}[{np.datetime_data(dtype)[1]}generic]"
    return dtype.str


def _spell_field_v2(name: str, inner: DType) -> list[JSON]:
    if inner.subdtype is not None:
        base, shape = inner.subdtype
        return [name, _spell_v2(base), list(shape)]
    return [name, _spell_v2(inner)]


_CORE = {
    name: np.dtype(name)
    for name in (
        *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
        *("float16", "float32", "float64", "complex64", "complex128"),
    )
} | {"complex_float32": np.dtype("complex64"), "complex_float64": np.dtype("complex128")}
_VARIABLE = {"string": STRING, "bytes": BYTES, "variable_length_bytes": BYTES, "binary": BYTES}
_RAW = r"r([1-9][0-9]{0,9})"
_TIME_KINDS = {"numpy.datetime64": "M", "numpy.timedelta64": "m"}

Unit = Literal["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "μs", "ns", "ps", "fs", "as", "generic"]


def read_v3(value: JSON) -> DataType:
    """The data type that a `data_type` member names.

    Raises:
        Invalid: The member breaks the rules of the data type that it names.
        Unknown: The data type is unknown.
    """
    kind = named(value, "'data_type'")
    if kind.name in _BY_CONFIGURATION:
        return DataType(_BY_CONFIGURATION[kind.name](kind))
    only(kind.configuration, f"the configuration of 'data_type' {short_repr(kind.name)}", ())
    if kind.name in _VARIABLE:
        return _VARIABLE[kind.name]
    if match := re.fullmatch(_RAW, kind.name):
        bits = int(match[1])
        if bits % 8:
            raise Invalid(f"the data type {kind.name!r} must have a multiple of 8 bits")
        return DataType(sized("V", bits // 8, kind.name), v3_name=kind.name)
    return DataType(_plain_v3(kind.name))


def is_raw(name: str) -> bool:
    """True for `r8`, `r16`, …"""
    return re.fullmatch(_RAW, name) is not None


def _plain_v3(name: str) -> DType:
    if name in _CORE:
        return _CORE[name]
    if name in _ml_dtypes.BITS:
        return ml_type(name)
    raise Unknown(f"the data type {short_repr(name)} is not known")


def _length(kind: Named, unit: int) -> int:
    where = f"the configuration of 'data_type' {kind.name!r}"
    only(kind.configuration, where, ("length_bytes",))
    length = integer(member(kind.configuration, "length_bytes"), f"'length_bytes' of {kind.name!r}", minimum=unit)
    if length % unit:
        raise Invalid(f"'length_bytes' of {kind.name!r} must be a multiple of {unit}, not {length}")
    return length // unit


def _time_v3(kind: Named) -> DType:
    where = f"the configuration of 'data_type' {kind.name!r}"
    only(kind.configuration, where, ("unit", "scale_factor"))
    unit = one_of(member(kind.configuration, "unit"), f"'unit' of {kind.name!r}", get_args(Unit))
    scale = integer(
        member(kind.configuration, "scale_factor"),
        f"'scale_factor' of {kind.name!r}",
        minimum=1,
        maximum=MAX_SCALE,
    )
    return time_type(_TIME_KINDS[kind.name], unit, scale, kind.name)


def _struct(kind: Named) -> DType:
    only(kind.configuration, f"the configuration of 'data_type' {kind.name!r}", ("fields",))
    fields = items(member(kind.configuration, "fields"), f"'fields' of {kind.name!r}", max_items=MAX_FIELDS)
    return record([_field_v3(item) for item in fields], kind.configuration)


def _field_v3(value: JSON) -> tuple[str, DType]:
    if isinstance(value, list) and len(value) == 2:  # the form in the legacy type "structured"
        name, inner = value
    else:
        field = mapping(value, "a field of a structured 'data_type'")
        only(field, "a field of a structured 'data_type'", ("name", "data_type"))
        name, inner = member(field, "name"), member(field, "data_type")
    data_type = read_v3(inner)
    if data_type.variable:
        raise Invalid(f"the field {short_repr(name)} has no fixed length")
    return text(name, "the name of a field"), data_type.dtype


_BY_CONFIGURATION: dict[str, Callable[[Named], DType]] = {
    "fixed_length_utf32": lambda kind: sized("U", _length(kind, 4), kind.name),
    "null_terminated_bytes": lambda kind: sized("S", _length(kind, 1), kind.name),
    "raw_bytes": lambda kind: sized("V", _length(kind, 1), kind.name),
    "numpy.datetime64": _time_v3,
    "numpy.timedelta64": _time_v3,
    "struct": _struct,
    "structured": _struct,
}


def write_v3(data_type: DataType) -> JSON:
    """The `data_type` member for a data type, as zarr-python spells it."""
    if data_type.v3_name:
        return data_type.v3_name
    match data_type.variable:
        case "string":
            return "string"
        case "bytes":
            return "variable_length_bytes"
        case "array" | "any":
            raise Invalid("Zarr v3 has no data type for such objects; use dtype=str or dtype=bytes, or zarr_format=2")
    return _spell_v3(data_type.dtype)


def _spell_v3(dtype: DType) -> JSON:
    if _ml_dtypes.is_ml(dtype) or dtype.kind in "biufc":
        return dtype.name
    if dtype.names is not None:
        return _configured("struct", fields=[_spell_field_v3(name, dtype[name]) for name in dtype.names])
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


def _spell_field_v3(name: str, inner: DType) -> dict[str, JSON]:
    if inner.subdtype is not None:
        raise Invalid(f"the field {short_repr(name)} is a sub-array, which Zarr v3 does not have; use zarr_format=2")
    return {"name": name, "data_type": _spell_v3(inner)}


def _configured(name: str, **configuration: Any) -> dict[str, JSON]:
    return {"name": name, "configuration": configuration}
