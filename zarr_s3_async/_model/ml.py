"""Small floats and integers of the ml_dtypes package, imported where a document or a user names one.

Names as registered in zarr-extensions (`data-types/`); `float8_e4m3fn` as tensorstore writes it.
"""

from __future__ import annotations

from importlib import import_module
from typing import Any

import numpy as np

from .problems import Invalid, MissingPackage, Unknown

FLOATS = frozenset(
    {
        "bfloat16",
        "float4_e2m1fn",
        "float6_e2m3fn",
        "float6_e3m2fn",
        "float8_e3m4",
        "float8_e4m3",
        "float8_e4m3b11fnuz",
        "float8_e4m3fn",
        "float8_e4m3fnuz",
        "float8_e5m2",
        "float8_e5m2fnuz",
        "float8_e8m0fnu",
    }
)
INTEGERS = frozenset({"int2", "int4", "uint2", "uint4"})
NAMES = FLOATS | INTEGERS


def _package(name: str) -> Any:
    try:
        return import_module("ml_dtypes")
    except ImportError as problem:
        raise MissingPackage(f"the data type {name!r} needs the package ml_dtypes: pip install ml_dtypes") from problem


def lookup(name: str) -> np.dtype[Any]:
    """The NumPy type of one of NAMES.

    Raises:
        MissingPackage: ml_dtypes is not installed.
        Unknown: The ml_dtypes that is installed is too old to have it.
    """
    package = _package(name)
    if not hasattr(package, name):
        raise Unknown(f"this ml_dtypes ({package.__version__}) has no {name!r}: pip install -U ml_dtypes")
    dtype: np.dtype[Any] = np.dtype(getattr(package, name))
    return dtype


def is_ml(dtype: np.dtype[Any]) -> bool:
    """True for the types of ml_dtypes. (Their `kind` is V for most, and f for one.)"""
    return dtype.type.__module__ == "ml_dtypes"


def supported(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """The type itself, or Invalid for one of ml_dtypes that Zarr has no name for."""
    if dtype.name not in NAMES:
        raise Invalid(f"Zarr has no data type for {dtype.name}")
    return dtype


def is_integer(dtype: np.dtype[Any]) -> bool:
    """True for the integers among them."""
    return dtype.name in INTEGERS


def bounds(dtype: np.dtype[Any]) -> tuple[int, int]:
    """Least and greatest value of one of the integers."""
    info = _package(dtype.name).iinfo(dtype)
    return int(info.min), int(info.max)
