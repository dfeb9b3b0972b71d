"""User attributes on their way into a document: plain JSON that any reader of Zarr can read back."""

from __future__ import annotations

from collections.abc import Mapping
from math import isfinite
from typing import Any

import numpy as np

from .._types import JSON
from .document import MAX_DEPTH
from .problems import Invalid, shown

_MAX_DEPTH = MAX_DEPTH - 10
"""Consolidated metadata wraps a few levels around it, and must be read back."""
_MAX_BITS = 4096
"""Of an integer: Python reads no more than 4,300 digits."""


def plain(value: Any, where: str, *, strict: bool = False, depth: int = 0) -> JSON:
    """A copy of JSON types only: tuples become lists, NumPy scalars and arrays their values.

    Args:
        value: What the user gave.
        where: For messages.
        strict: Refuse NaN, infinities and lone surrogates, which JSON does not have: readers choke on them.
        depth: Of `value` in the whole.

    Raises:
        Invalid: JSON cannot hold it.
    """
    if depth > _MAX_DEPTH:
        raise Invalid(f"{where} is nested more than {_MAX_DEPTH} levels deep")
    match value:
        case None | bool():
            return value
        case int() if value.bit_length() <= _MAX_BITS:
            return int(value)
        case float():
            return _number(float(value), where, strict=strict)
        case str():
            return _text(str.__str__(value), where, strict=strict)
        case Mapping():
            return {
                _key(key, where, strict=strict): plain(item, f"{where}[{shown(key)}]", strict=strict, depth=depth + 1)
                for key, item in value.items()
            }
        case list() | tuple():
            return [plain(item, where, strict=strict, depth=depth + 1) for item in value]
        case np.generic() | np.ndarray() if value.dtype.kind in "biufUO":
            return plain(value.tolist(), where, strict=strict, depth=depth + 1)
    raise Invalid(f"{where} holds {shown(value)}, which JSON cannot; give numbers, text, lists and mappings")


def _number(value: float, where: str, *, strict: bool) -> float:
    if strict and not isfinite(value):
        raise Invalid(f"{where} is {value!r}, which JSON does not have; give the text 'NaN' or None")
    return value


def _text(value: str, where: str, *, strict: bool) -> str:
    try:
        if strict:
            value.encode()
    except UnicodeEncodeError as problem:
        raise Invalid(f"{where} holds {shown(value)}, which is not valid Unicode") from problem
    return value


def _key(key: Any, where: str, *, strict: bool) -> str:
    if not isinstance(key, str):
        raise Invalid(f"the names in {where} must be strings, not {shown(key)}")
    return _text(key, where, strict=strict)


def new(attributes: Any, *, beside: Mapping[str, JSON] | None = None, zarr_format: int) -> dict[str, JSON]:
    """The attributes to store.

    NaN is refused in v3, where strict readers would lose the whole array over it; v2 keeps attributes in a
    document of their own, and has always had NaN in them. What another writer has put there already stays.

    Args:
        attributes: What the user gave; None is none.
        beside: The attributes that stand there now.
        zarr_format: 2 or 3.

    Raises:
        Invalid: Not a mapping, or JSON cannot hold it.
    """
    if attributes is None:
        return {}
    if not isinstance(attributes, Mapping):
        raise Invalid(f"attributes must be a mapping, not {shown(attributes)}")
    strict = zarr_format == 3 and not (beside and _is_loose(beside))
    result: dict[str, JSON] = plain(attributes, "attributes", strict=strict)
    return result


def _is_loose(attributes: Mapping[str, JSON]) -> bool:
    try:
        plain(attributes, "attributes", strict=True)
    except Invalid:
        return True
    return False
