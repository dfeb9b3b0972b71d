"""Fill values that users give: Python and NumPy values become a scalar of the type, exactly or not at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import date, timedelta
from math import isfinite
from typing import Any

import numpy as np

from . import ml
from .dtypes import DataType, DType, field_names
from .fill_values import read_fixed
from .problems import Invalid, shown


def cast(value: Any, data_type: DataType) -> Any:
    """The scalar of the type that `value` is. JSON spellings (`"NaN"`, `"0x7fc00000"`) are values too.

    Raises:
        Invalid: It is no value of the type, or the type would change it.
    """
    if isinstance(value, np.ndarray) and value.ndim == 0:
        value = value[()]
    try:
        match data_type.variable:
            case "string":
                return _kind_of(value, str)
            case "bytes":
                return bytes(_kind_of(value, bytes | bytearray | memoryview))
            case "array":
                raise Invalid("elements of varying length have no fill value but None")
        return _cast_fixed(value, data_type.dtype)
    except (OverflowError, TypeError, ValueError) as problem:
        if isinstance(problem, Invalid):
            raise
        raise Invalid(f"fill_value={shown(value)} is no value of {data_type.dtype}: {problem}") from problem


def _kind_of(value: Any, wanted: Any) -> Any:
    if not isinstance(value, wanted):
        raise Invalid(f"fill_value must be {getattr(wanted, '__name__', wanted)}, not {shown(value)}")
    return value


def _cast_fixed(value: Any, dtype: DType) -> Any:
    if ml.is_ml(dtype) or dtype.kind in "biufc":
        return _cast_number(value, dtype)
    if dtype.kind in "mM":
        return _cast_time(value, dtype)
    if dtype.names is not None:
        return _cast_record(value, dtype)
    if dtype.kind == "U":
        return read_fixed(_kind_of(value, str), dtype)
    data = value.encode("ascii") if isinstance(value, str) and dtype.kind == "S" else _raw(value)
    return read_fixed(list(data), dtype)


def _raw(value: Any) -> bytes:
    return value.tobytes() if isinstance(value, np.void) else bytes(_kind_of(value, bytes | bytearray | memoryview))


def _cast_number(value: Any, dtype: DType) -> Any:
    if isinstance(value, np.generic):
        value = float(value) if ml.is_ml(value.dtype) or isinstance(value, np.floating) else value.item()
    if isinstance(value, complex) and dtype.kind == "c":
        value = [value.real, value.imag]
    scalar = read_fixed(value, dtype)
    if isinstance(value, int | float) and isfinite(value) and not np.isfinite(complex(scalar)):
        raise Invalid(f"fill_value={shown(value)} is too large for {dtype}")
    return scalar


def _cast_time(value: Any, dtype: DType) -> Any:
    given = _time(value, dtype)
    if given is None:  # NaT, or a count of the type's own unit
        return read_fixed(value.item() if isinstance(value, np.integer) else value, dtype)
    scalar = given.astype(dtype.newbyteorder("="))
    # There and back again: a time too fine for the unit, or too far for 64 bits, comes back as another.
    if not np.isnat(given) and scalar.astype(given.dtype) != given:
        raise Invalid(f"fill_value={shown(value)} cannot be counted in the unit of {dtype}")
    return scalar


def _time(value: Any, dtype: DType) -> Any:
    if value == "NaT":
        return None
    if dtype.kind == "M" and isinstance(value, np.datetime64 | str | date):
        return np.datetime64(value)
    if dtype.kind == "m" and isinstance(value, np.timedelta64 | timedelta):
        return np.timedelta64(value)
    if isinstance(value, np.datetime64 | np.timedelta64):
        raise Invalid(f"fill_value={shown(value)} is no value of {dtype}")
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
    """The values of a record's fields, of whatever kind of record."""
    if isinstance(value, np.void):
        value = dict(zip(value.dtype.names or (), value.tolist(), strict=False)) if value.dtype.names else value
    if isinstance(value, Mapping) and set(value) == set(names):
        return [value[name] for name in names]
    if not isinstance(value, list | tuple) or len(value) != len(names):
        raise Invalid(f"fill_value must have the fields {', '.join(names)}, not {shown(value)}")
    return value


def _cast_field(value: Any, dtype: DType) -> Any:
    if dtype.subdtype is not None:
        return np.asarray(value, dtype=dtype.subdtype[0])
    return _cast_fixed(value, dtype)
