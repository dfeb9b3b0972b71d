"""Fill values: from documents, from users, and into documents.

Zarr v3 data types, "Permitted fill values"; Zarr v2, "Fill value encoding"; zarr-extensions. Forms that zarr-python
accepts beyond them are read too: `"42"` and `42.0` for integers, `"1e3"` for floats.
"""

from __future__ import annotations

import binascii
import re
import sys
from base64 import b64decode, b64encode
from collections.abc import Callable, Mapping, Sequence
from datetime import date, timedelta
from math import isfinite, isinf, isnan
from typing import Any, Literal, TypeAlias

import numpy as np

from .. import _ml_dtypes
from .._types import JSON, strict_json
from .document import plain
from .dtypes import DataType, DType, field_names, zero
from .problems import Invalid, short_repr

ByteOrder: TypeAlias = Literal["<", ">"] | None

# Of bounded length, because documents are not trusted; every number of a data type has fewer digits.
_INTEGER = r"[-+]?[0-9]{1,40}"
_DECIMAL = r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][-+]?[0-9]{1,5})?"
_HEX = r"0x[0-9a-fA-F]+"
_NAMED_FLOATS = {"nan": float("nan"), "inf": float("inf"), "infinity": float("inf")}
_NAMED_FLOATS |= {sign + name: float(sign + name) for name in _NAMED_FLOATS for sign in "+-"}
NAT = -(2**63)


def read(value: JSON, data_type: DataType, *, zarr_format: Literal[2, 3], byte_order: ByteOrder = None) -> Any:
    """The scalar that a `fill_value` member represents; None for null.

    Args:
        value: The member.
        data_type: Type of the array.
        zarr_format: v2 also allows the number 0 for text, bytes and records.
        byte_order: Byte order of v3 records in base64; None where the fields have their own, as in v2.

    Raises:
        Invalid: It is not a value of the type.
    """
    if value is None:  # not in the v3 specification, but GDAL and zarrita.js write it
        return None if data_type.variable is None else zero(data_type)
    # zarr-python 2 writes 0 as the default of every type.
    takes_zero = data_type.variable in ("bytes", "array") or data_type.dtype.kind in "SUV"
    if zarr_format == 2 and takes_zero and type(value) in (int, float) and value == 0:
        if _ml_dtypes.is_ml(data_type.dtype):
            return _read_ml(value, data_type.dtype)
        return zero(data_type)
    try:
        return _read(value, data_type, byte_order)
    except OverflowError as problem:
        raise Invalid(f"'fill_value' {short_repr(value)} is too large for {short_repr(data_type.dtype)}") from problem


def _read(value: JSON, data_type: DataType, byte_order: ByteOrder) -> Any:
    match data_type.variable:
        case "string":
            if isinstance(value, bool) or not isinstance(value, str | int | float):
                raise _wrong(value, "a string")
            return str(value)  # zarr-python 2 wrote the number 0
        case "bytes":
            return _bytes(value)
        case "array":
            if value not in ("", []):
                raise _wrong(value, "null or empty: arrays of variable length have no other fill value")
            return None
        case "any":
            return value
    return read_fixed(value, data_type.dtype, byte_order)


def read_fixed(value: JSON, dtype: DType, byte_order: ByteOrder = None) -> Any:
    """The scalar of a type of fixed length. Raises OverflowError where the value is too large for NumPy."""
    if _ml_dtypes.is_ml(dtype):
        return _read_ml(value, dtype)
    if dtype.names is not None:
        return _read_record(value, dtype, byte_order)
    return _READERS[dtype.kind](value, dtype)


def _wrong(value: JSON, wanted: str) -> Invalid:
    return Invalid(f"'fill_value' must be {wanted}, not {short_repr(value)}")


def _read_bool(value: JSON, _dtype: DType) -> Any:
    if isinstance(value, bool) or (type(value) in (int, float) and value in (0, 1)):
        return np.bool_(value)
    raise _wrong(value, "true or false")


def _read_integer(value: JSON, dtype: DType) -> Any:
    info = np.iinfo(dtype)
    return dtype.type(_integer(value, int(info.min), int(info.max)))


def _integer(value: JSON, minimum: int, maximum: int) -> int:
    if not _is_integer(value) or not minimum <= int(value) <= maximum:
        raise _wrong(value, f"an integer from {minimum} to {maximum}")
    return int(value)


def _is_integer(value: JSON) -> bool:
    match value:
        case bool():
            return False
        case float():
            return value.is_integer()
        case str():
            return re.fullmatch(_INTEGER, value) is not None
    return isinstance(value, int)


def _read_float(value: JSON, dtype: DType) -> Any:
    if isinstance(value, str) and re.fullmatch(_HEX, value):
        return _from_bits(value, dtype)
    with np.errstate(over="ignore"):  # a number is rounded to the nearest value, which may be infinity
        return dtype.type(_float(value))


def _float(value: JSON) -> float:
    if isinstance(value, str):
        if value.lower() in _NAMED_FLOATS:
            return _NAMED_FLOATS[value.lower()]
        if re.fullmatch(_DECIMAL, value):
            return float(value)
    elif isinstance(value, int | float) and not isinstance(value, bool):
        return float(value)
    raise _wrong(value, "a number, 'NaN', 'Infinity', '-Infinity' or '0x' and the bits")


def _from_bits(value: str, dtype: DType) -> Any:
    if len(value) != 2 + 2 * dtype.itemsize:
        raise _wrong(value, f"'0x' and {2 * dtype.itemsize} digits for {dtype}")
    # The specification spells the bits as a number, most significant digit first, whatever order they are stored in.
    raw = int(value, 16).to_bytes(dtype.itemsize, sys.byteorder)
    return np.frombuffer(raw, dtype=dtype.newbyteorder("="))[0]


def _read_ml(value: JSON, dtype: DType) -> Any:
    if _ml_dtypes.is_integer(dtype):
        return dtype.type(_integer(value, *_ml_dtypes.bounds(dtype)))
    if isinstance(value, str) and re.fullmatch(_HEX, value):
        return _from_bits(value, dtype)
    number = _float(value)
    # The smallest types have no infinity or no NaN and silently turn it into another value: checked below.
    scalar = dtype.type(number)
    if number == 0 and isnan(float(scalar)):  # float8_e8m0fnu has no zero: its smallest value is the nearest
        return np.zeros((), dtype=dtype)[()]
    if isnan(number) != isnan(float(scalar)) or (isinf(number) and not isinf(float(scalar))):
        raise Invalid(f"'fill_value' {short_repr(value)} is not among the values of {dtype.name}")
    return scalar


def _read_complex(value: JSON, dtype: DType) -> Any:
    part = np.dtype(f"f{dtype.itemsize // 2}")
    if not isinstance(value, list) or len(value) != 2:
        if isinstance(value, str | bool) or not isinstance(value, int | float):
            raise _wrong(value, "a pair of numbers")
        value = [value, 0]
    # Each part is assigned by itself, so that the bits of a NaN are kept.
    scalar = np.empty(1, dtype=dtype.newbyteorder("="))
    scalar.real, scalar.imag = _read_float(value[0], part), _read_float(value[1], part)
    return scalar[0]


def _read_time(value: JSON, dtype: DType) -> Any:
    count = NAT if value == "NaT" else _integer(value, NAT, 2**63 - 1)
    return np.int64(count).view(dtype.newbyteorder("="))


def _read_fixed_bytes(value: JSON, dtype: DType) -> Any:
    return np.bytes_(_at_most(_bytes(value), dtype.itemsize, "bytes"))


def _read_text(value: JSON, dtype: DType) -> Any:
    if not isinstance(value, str):
        raise _wrong(value, "a string")
    return np.str_(_at_most(value, dtype.itemsize // 4, "characters"))


def _at_most(value: Any, length: int, unit: str) -> Any:
    if len(value) > length:
        raise _wrong(value, f"at most {length} {unit} long")
    return value


def _read_raw(value: JSON, dtype: DType) -> Any:
    return np.void(_exactly(_bytes(value), dtype.itemsize))


def _exactly(data: bytes, length: int) -> bytes:
    if len(data) != length:
        raise Invalid(f"'fill_value' must hold {length} bytes, not {len(data)}")
    return data


def _read_record(value: JSON, dtype: DType, byte_order: ByteOrder) -> Any:
    if isinstance(value, dict):
        return _read_fields(value, dtype, byte_order)
    # The bytes of a v3 record are those of a stored element, in the order that the codec `bytes` names.
    stored = dtype.newbyteorder(byte_order) if byte_order else dtype
    return np.frombuffer(_exactly(_bytes(value), dtype.itemsize), dtype=stored).astype(dtype)[0]


def _read_fields(value: dict[str, JSON], dtype: DType, byte_order: ByteOrder) -> Any:
    names = field_names(dtype)
    if set(value) != set(names):
        raise Invalid(
            f"'fill_value' must have the fields {', '.join(map(short_repr, names[:8]))}, not {short_repr(value)}"
        )
    record = np.zeros(1, dtype=dtype)
    for name in names:
        record[name] = read_fixed(value[name], dtype[name], byte_order)
    return record[0]


def _bytes(value: JSON) -> bytes:
    if isinstance(value, list) and all(type(item) is int and 0 <= item <= 255 for item in value):
        return bytes(value)
    if isinstance(value, str) and value.isascii():
        try:
            return b64decode(value, validate=True)
        except binascii.Error as problem:
            raise _wrong(value, "base64") from problem
    raise _wrong(value, "base64 or a list of bytes")


_READERS: dict[str, Callable[[JSON, DType], Any]] = {
    "b": _read_bool,
    "i": _read_integer,
    "u": _read_integer,
    "f": _read_float,
    "c": _read_complex,
    "m": _read_time,
    "M": _read_time,
    "S": _read_fixed_bytes,
    "U": _read_text,
    "V": _read_raw,
}


def cast(value: Any, data_type: DataType) -> Any:
    """The user's value as a scalar of the type. The forms of JSON (`"NaN"`, `"0x7fc00000"`) are accepted too.

    Raises:
        Invalid: It is not a value of the type, or the conversion would change it.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    try:
        match data_type.variable:
            case "string":
                # Not the method of a subclass, such as `numpy.str_`, which documents cannot contain.
                return str.__str__(_kind_of(value, str))
            case "bytes":
                return bytes(_kind_of(value, bytes | bytearray | memoryview))
            case "any":
                return plain(value, "fill_value", strict=True)
            case "array":
                raise Invalid("arrays of variable length can only have the fill value None")
        return _cast_fixed(value, data_type.dtype)
    except (OverflowError, TypeError, ValueError) as problem:
        if isinstance(problem, Invalid):
            raise
        raise Invalid(f"fill_value={short_repr(value)} is not a value of {data_type.dtype}: {problem}") from problem


def _kind_of(value: Any, wanted: Any) -> Any:
    if not isinstance(value, wanted):
        raise Invalid(f"fill_value must be {getattr(wanted, '__name__', wanted)}, not {short_repr(value)}")
    return value


def _cast_fixed(value: Any, dtype: DType) -> Any:
    if _ml_dtypes.is_ml(dtype) or dtype.kind in "biufc":
        return _cast_number(value, dtype)
    if dtype.kind in "mM":
        return _cast_time(value, dtype)
    if dtype.names is not None:
        return _cast_record(value, dtype)
    if dtype.kind == "U":
        return read_fixed(str.__str__(_kind_of(value, str)), dtype)
    if isinstance(value, str) and dtype.kind == "S":
        data = value.encode("ascii")
    elif isinstance(value, np.void):
        data = value.tobytes()
    else:
        data = bytes(_kind_of(value, bytes | bytearray | memoryview))
    return read_fixed(list(data), dtype)


def _cast_number(value: Any, dtype: DType) -> Any:
    if isinstance(value, complex | np.complexfloating) and dtype.kind == "c":
        scalar = np.empty(1, dtype=dtype.newbyteorder("="))
        scalar.real, scalar.imag = (_cast_number(part, scalar.real.dtype) for part in (value.real, value.imag))
        return scalar[0]
    # NaN: the only value that is not equal to itself.
    if isinstance(value, float | np.generic) and value != value:
        return _cast_nan(value, dtype)
    if isinstance(value, np.generic):
        value = float(value) if _ml_dtypes.is_ml(value.dtype) or isinstance(value, np.floating) else value.item()
    scalar = read_fixed(value, dtype)
    # A finite number must not become infinite: the user would read back another fill value.
    if isinstance(value, int | float) and isfinite(value) and not np.isfinite(complex(scalar)):
        raise Invalid(f"fill_value={short_repr(value)} is too large for {dtype}")
    return scalar


def _cast_nan(value: Any, dtype: DType) -> Any:
    """A NaN with all its bits: sign and payload."""
    given = np.asarray(value)
    if given.dtype == dtype.newbyteorder("="):
        return given[()]
    scalar = read_fixed("NaN", dtype)
    plain = np.asarray(float("nan"), given.dtype)
    if given.tobytes() != plain.tobytes():
        raise Invalid(f"fill_value is a NaN of {given.dtype} with a payload that {dtype} cannot represent")
    return scalar


def _cast_time(value: Any, dtype: DType) -> Any:
    given = _time(value, dtype)
    if given is None:  # NaT, or a count of the type's own unit
        return read_fixed(value.item() if isinstance(value, np.integer) else value, dtype)
    scalar = given.astype(dtype.newbyteorder("="))
    # A round trip changes times that are too fine for the unit, or beyond 64 bits.
    if not np.isnat(given) and scalar.astype(given.dtype) != given:
        raise Invalid(f"fill_value={short_repr(value)} cannot be represented in the unit of {dtype}")
    return scalar


def _time(value: Any, dtype: DType) -> Any:
    if value == "NaT":
        return None
    if dtype.kind == "M" and isinstance(value, np.datetime64 | str | date):
        return np.datetime64(value)
    if dtype.kind == "m" and isinstance(value, np.timedelta64 | timedelta):
        return np.timedelta64(value)
    if isinstance(value, np.datetime64 | np.timedelta64):
        raise Invalid(f"fill_value={short_repr(value)} is not a value of {dtype}")
    return None


def _cast_record(value: Any, dtype: DType) -> Any:
    if isinstance(value, bytes | bytearray):
        return np.frombuffer(read_fixed(list(value), np.dtype(f"V{dtype.itemsize}")).tobytes(), dtype=dtype)[0]
    names = field_names(dtype)
    record = np.zeros(1, dtype=dtype)
    for name, item in zip(names, _in_order(value, names), strict=True):
        record[name] = _cast_field(item, dtype[name])
    return record[0]


def _in_order(value: Any, names: tuple[str, ...]) -> Sequence[Any]:
    """The values of a record's fields in order, from a NumPy record, a mapping, a list or a tuple."""
    if isinstance(value, np.void):
        value = {name: value[name] for name in value.dtype.names} if value.dtype.names else value
    if isinstance(value, Mapping) and set(value) == set(names):
        return [value[name] for name in names]
    if not isinstance(value, list | tuple) or len(value) != len(names):
        raise Invalid(f"fill_value must have the fields {', '.join(names)}, not {short_repr(value)}")
    return value


def _cast_field(value: Any, dtype: DType) -> Any:
    if dtype.subdtype is not None:
        return np.asarray(value, dtype=dtype.subdtype[0])
    return _cast_fixed(value, dtype)


def write(value: Any, data_type: DataType, *, zarr_format: Literal[2, 3]) -> JSON:
    """The `fill_value` member for a scalar of the type, in zarr-python's form; null for None in v2."""
    if value is None:
        return None
    match data_type.variable:
        case "string":
            return str(value)
        case "bytes":
            return b64encode(value).decode()
        case "any":
            return value
    # `r16` and its kin: the specification gives their fill value as a list of bytes.
    if data_type.v3_name and zarr_format == 3:
        return list(value.tobytes())
    return _write_fixed(value, data_type.dtype, zarr_format)


def _write_fixed(value: Any, dtype: DType, zarr_format: Literal[2, 3]) -> JSON:
    if _ml_dtypes.is_ml(dtype):
        return int(value) if _ml_dtypes.is_integer(dtype) else _spell_float(value, dtype, zarr_format)
    if dtype.names is not None and zarr_format == 3:
        return {name: _write_fixed(value[name], dtype[name], 3) for name in dtype.names}
    match dtype.kind:
        case "b":
            return bool(value)
        case "i" | "u":
            return int(value)
        case "f":
            return _spell_float(value, dtype, zarr_format)
        case "c":
            part = np.dtype(f"f{dtype.itemsize // 2}")
            return [_spell_float(each, part, zarr_format) for each in (value.real, value.imag)]
        case "m" | "M":
            # The count of units; for NaT this is the smallest integer.
            return int(value.view("i8"))
        case "U":
            return str(value)
        case "S":
            return b64encode(bytes(value)).decode()
    return b64encode(np.asarray(value, dtype=dtype).tobytes()).decode()


def _spell_float(value: Any, dtype: DType, zarr_format: Literal[2, 3]) -> JSON:
    number = float(value)
    if isnan(number):
        return _spell_nan(value, dtype, zarr_format)
    return strict_json(number)


def _spell_nan(value: Any, dtype: DType, zarr_format: Literal[2, 3]) -> JSON:
    """The JSON form of a NaN: "NaN" for the default bit pattern, otherwise the bits in hex, which only v3 allows."""
    native = dtype.newbyteorder("=")
    bits = int.from_bytes(np.asarray(value, native).tobytes(), sys.byteorder)
    if bits == int.from_bytes(np.asarray(float("nan"), native).tobytes(), sys.byteorder):
        return "NaN"
    spelled = f"0x{bits:0{2 * dtype.itemsize}x}"
    if zarr_format == 2:
        raise Invalid(
            f"fill_value is the NaN {spelled}, Zarr v2 has only the plain one: give float('nan'), or take zarr_format=3"
        )
    return spelled
