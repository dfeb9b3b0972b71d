"""Table of the small floats and integers of the ml_dtypes package, which is imported when one is used.

Names as registered in zarr-extensions (`data-types/`); `float8_e4m3fn` as tensorstore writes it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any, Final

import numpy as np

_FLOAT_BITS: Final = {
    "bfloat16": 16,
    "float4_e2m1fn": 4,
    "float6_e2m3fn": 6,
    "float6_e3m2fn": 6,
    "float8_e3m4": 8,
    "float8_e4m3": 8,
    "float8_e4m3b11fnuz": 8,
    "float8_e4m3fn": 8,
    "float8_e4m3fnuz": 8,
    "float8_e5m2": 8,
    "float8_e5m2fnuz": 8,
    "float8_e8m0fnu": 8,
}
_INTEGER_BITS: Final = {"int2": 2, "int4": 4, "uint2": 2, "uint4": 4}

BITS: Final = {**_FLOAT_BITS, **_INTEGER_BITS}
"""Bits per element, by name of the type. Elements of fewer than 8 bits are stored in one byte each."""
INTEGERS: Final = frozenset(_INTEGER_BITS)


def package() -> Any:
    """The module ml_dtypes."""
    return import_module("ml_dtypes")


def lookup(name: str) -> np.dtype[Any]:
    """The NumPy type of one of `BITS`.

    Raises:
        ImportError: ml_dtypes is not installed, or too old to have the type. The message names the package to install.
    """
    try:
        module = package()
    except ImportError as error:
        raise ImportError(f"the data type {name!r} needs the package ml_dtypes: pip install ml_dtypes") from error
    if not hasattr(module, name):
        raise ImportError(f"ml_dtypes {module.__version__} has no {name!r}: pip install -U ml_dtypes")
    dtype: np.dtype[Any] = np.dtype(getattr(module, name))
    return dtype


def is_ml(dtype: np.dtype[Any]) -> bool:
    """True for the types of ml_dtypes. NumPy knows neither their byte order nor their buffer format."""
    return dtype.type.__module__ == "ml_dtypes"


def is_integer(dtype: np.dtype[Any]) -> bool:
    """True for the integers among them."""
    return dtype.name in INTEGERS


def bounds(dtype: np.dtype[Any]) -> tuple[int, int]:
    """Least and greatest value of one of the integers."""
    info = package().iinfo(dtype)
    return int(info.min), int(info.max)


def check_range(numbers: np.ndarray[Any, Any], dtype: np.dtype[Any]) -> None:
    """Reject numbers outside the range of an ml_dtypes integer; ml_dtypes itself would wrap them.

    Raises:
        OverflowError: A number is out of range.
    """
    low, high = bounds(dtype)
    if numbers.dtype.kind in "biuf" and numbers.size and not (numbers.min() >= low and numbers.max() <= high):
        raise OverflowError(f"Python numbers from {numbers.min()} to {numbers.max()} out of bounds for {dtype.name}")
