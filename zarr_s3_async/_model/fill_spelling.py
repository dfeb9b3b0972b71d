"""Fill values on their way into a document: scalars are spelled exactly as zarr-python spells them."""

from __future__ import annotations

from base64 import b64encode
from math import isinf, isnan
from typing import Any, Literal

import numpy as np

from .._types import JSON
from . import ml
from .dtypes import DataType, DType


def write(value: Any, data_type: DataType, *, zarr_format: Literal[2, 3]) -> JSON:
    """The `fill_value` member for a scalar of the type, as zarr-python spells it; null for None in v2."""
    if value is None:
        return None
    match data_type.variable:
        case "string":
            return str(value)
        case "bytes":
            return b64encode(value).decode()
    if data_type.v3_name and zarr_format == 3:
        return list(value.tobytes())
    return _write_fixed(value, data_type.dtype, zarr_format)


def _write_fixed(value: Any, dtype: DType, zarr_format: Literal[2, 3]) -> JSON:
    if ml.is_ml(dtype):
        return int(value) if ml.is_integer(dtype) else _spell_float(float(value))
    if dtype.names is not None and zarr_format == 3:
        return {name: _write_fixed(value[name], dtype[name], 3) for name in dtype.names}
    match dtype.kind:
        case "b":
            return bool(value)
        case "i" | "u":
            return int(value)
        case "f":
            return _spell_float(float(value))
        case "c":
            return [_spell_float(float(value.real)), _spell_float(float(value.imag))]
        case "m" | "M":
            return int(value.view("i8"))
        case "U":
            return str(value)
        case "S":
            return b64encode(bytes(value)).decode()
    return b64encode(np.asarray(value, dtype=dtype).tobytes()).decode()


def _spell_float(value: float) -> JSON:
    if isnan(value):
        return "NaN"
    if isinf(value):
        return "Infinity" if value > 0 else "-Infinity"
    return value
