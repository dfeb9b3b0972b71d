"""Dtypes and numbers inside codec configurations: v2 type strings, v3 type names, v3 fill values."""

from __future__ import annotations

import re
from dataclasses import dataclass
from reprlib import repr as short
from typing import Any, Final

import numpy as np

from .. import _ml_dtypes
from .._types import JSON
from ..errors import UnsupportedFeature
from .base import Array, Options

_INTEGERS: Final = tuple(f"{sign}int{bits}" for sign in ("", "u") for bits in (8, 16, 32, 64))
_FLOATS: Final = ("float16", "float32", "float64")
_NUMPY_NAMES: Final = frozenset({"bool", "complex64", "complex128", *_INTEGERS, *_FLOATS})
_TYPE_STRING: Final = re.compile(r"[<>|=]?(?:[biufcSUV][0-9]{1,5}|[mM]8(?:\[[0-9]{0,5}[YMWDhmsunpfa]s?\])?)", re.ASCII)
_SPECIAL: Final = {"NaN": np.nan, "Infinity": np.inf, "+Infinity": np.inf, "-Infinity": -np.inf}
_HEX: Final = re.compile(r"0x[0-9a-fA-F]{1,16}", re.ASCII)


def plain_dtype(options: Options, key: str, default: Any = None) -> np.dtype[Any]:
    """A dtype as numcodecs writes it (`<f4`, `float32`): of fixed size, without fields and without a shape."""
    value = options.take(key) if default is None else options.take(key, default)
    if isinstance(value, np.dtype):
        return value
    if isinstance(value, str) and (value in _NUMPY_NAMES or _TYPE_STRING.fullmatch(value)):
        try:
            return np.dtype(value)
        except TypeError as error:
            raise options.fail(key, f"is not a data type: {value!r}") from error
    raise options.fail(key, f"must be a plain data type such as '<f4', not {short(value)}")


def real_dtype(options: Options, key: str) -> np.dtype[Any]:
    """A v3 data type of integers or of floating-point numbers, those of ml_dtypes included."""
    value = options.take(key)
    if isinstance(value, dict) and set(value) <= {"name", "configuration"} and not value.get("configuration"):
        value = value.get("name")
    if isinstance(value, str):
        if value in _INTEGERS or value in _FLOATS:
            return np.dtype(value)
        if value in _ml_dtypes.BITS:
            try:
                return _ml_dtypes.lookup(value)
            except ImportError as error:
                raise UnsupportedFeature(f"codec {options.codec!r}: {error}") from error
    raise options.fail(key, f"must be a data type of integers or of floating-point numbers, not {short(value)}")


@dataclass(frozen=True, slots=True)
class RealType:
    """Properties of a dtype of real numbers that codecs compute with."""

    dtype: np.dtype[Any]
    is_integer: bool
    low: int | float
    """Least finite value."""
    high: int | float
    """Greatest finite value."""
    bits: int
    """Bits of an integer; significant bits of a floating-point number, the hidden one included."""
    step: int = 0
    """Exponent of two of the least positive number of a floating-point type."""
    has_infinity: bool = False
    has_nan: bool = False

    @classmethod
    def of(cls, dtype: np.dtype[Any]) -> RealType | None:
        """The properties of a dtype, or None where it is not one of real numbers."""
        if _ml_dtypes.is_ml(dtype):
            return cls._of_extension(dtype)
        if dtype.kind in "iu":
            info = np.iinfo(dtype)
            return cls(dtype, True, int(info.min), int(info.max), info.bits)
        if dtype.kind == "f" and dtype.itemsize <= 8:
            return cls._of_float(dtype, np.finfo(dtype))
        return None

    @classmethod
    def _of_extension(cls, dtype: np.dtype[Any]) -> RealType | None:
        package = _ml_dtypes.package()
        if _ml_dtypes.is_integer(dtype):
            info = package.iinfo(dtype)
            return cls(dtype, True, int(info.min), int(info.max), info.bits)
        return cls._of_float(dtype, package.finfo(dtype)) if dtype.name in _ml_dtypes.BITS else None

    @classmethod
    def _of_float(cls, dtype: np.dtype[Any], info: Any) -> RealType:
        # Types differ in which special values they have, and finfo does not tell: casting one shows it.
        with np.errstate(all="ignore"):
            specials = np.array([np.inf, np.nan]).astype(dtype).astype(np.float64)
        step = int(np.frexp(np.float64(info.smallest_subnormal))[1]) - 1
        return cls(
            dtype,
            False,
            float(info.min),
            float(info.max),
            int(info.nmant) + 1,
            step,
            bool(np.isinf(specials[0])),
            bool(np.isnan(specials[1])),
        )


def real_scalar(options: Options, key: str, value: JSON, real: RealType) -> Array:
    """A v3 fill value of a real type (specification, "Fill value"), as a 0-d array of its dtype."""
    if not isinstance(value, bool):
        if isinstance(value, int) and real.is_integer and real.low <= value <= real.high:
            return np.array(value).astype(real.dtype)
        if isinstance(value, int | float) and not real.is_integer and abs(value) <= real.high:
            return np.array(float(value)).astype(real.dtype)
        if isinstance(value, str) and not real.is_integer:
            scalar = _float_from_text(value, real)
            if scalar is not None:
                return scalar
    raise options.fail(key, f"holds {short(value)}, which is not a {real.dtype}")


def _float_from_text(text: str, real: RealType) -> Array | None:
    if text in _SPECIAL:
        known = real.has_nan if text == "NaN" else real.has_infinity
        return np.array(_SPECIAL[text]).astype(real.dtype) if known else None
    size = real.dtype.itemsize
    if _HEX.fullmatch(text) and len(text) == 2 + 2 * size:
        bits = np.array(int(text, 16), np.dtype(f"u{size}"))
        return bits.view(real.dtype.newbyteorder("=") if not _ml_dtypes.is_ml(real.dtype) else real.dtype)
    return None
