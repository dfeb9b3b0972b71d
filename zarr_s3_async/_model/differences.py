"""Where two descriptions of one node contradict each other, however each of them is spelled."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from .._types import JSON, CodecSpec
from .metadata import ArrayMeta, GroupMeta

_FIELDS = ("shape", "dtype", "chunks", "shards", "keys", "order", "dimension_names")


def differences(one: ArrayMeta | GroupMeta, other: ArrayMeta | GroupMeta) -> list[str]:
    """Names of what the two say differently; empty where a reader of either would do the same.

    Spellings and defaults do not count: a codec's option that only one of them names is no contradiction.
    """
    if isinstance(one, ArrayMeta) and isinstance(other, ArrayMeta):
        return list(_of_arrays(one, other))
    if type(one) is not type(other):
        return ["node type"]
    return [] if same(one.attributes, other.attributes) else ["attributes"]


def _of_arrays(one: ArrayMeta, other: ArrayMeta) -> Iterator[str]:
    yield from (name for name in _FIELDS if getattr(one, name) != getattr(other, name))
    if len(one.codecs) != len(other.codecs) or not all(map(_agree, one.codecs, other.codecs)):
        yield "codecs"
    if one.dtype == other.dtype and not _same_fill(one.fill_value, other.fill_value):
        yield "fill_value"
    if not same(one.attributes, other.attributes):
        yield "attributes"


def _agree(one: Any, other: Any) -> bool:
    """True where what both say is the same."""
    match _neutral(one), _neutral(other):
        case (Mapping() as first, Mapping() as second):
            return all(_agree(first[name], second[name]) for name in first.keys() & second.keys())
        case (list() | tuple() as first, list() | tuple() as second):
            return len(first) == len(second) and all(map(_agree, first, second))
        case (first, second):
            return same(first, second)


def _neutral(codec: Any) -> Any:
    """A codec as a document says it in full; everything else as it is."""
    return {"name": codec.name, "configuration": codec.configuration} if isinstance(codec, CodecSpec) else codec


def _same_fill(one: Any, other: Any) -> bool:
    """Bit by bit: NaN is NaN, and -0.0 is not 0.0."""
    if isinstance(one, np.generic) and isinstance(other, np.generic):
        return one.dtype == other.dtype and one.tobytes() == other.tobytes()
    return type(one) is type(other) and bool(one == other)


def same(one: JSON, other: JSON) -> bool:
    """True for equal JSON values; NaN equals itself, and true is not 1."""
    match one, other:
        case (Mapping(), Mapping()):
            return one.keys() == other.keys() and all(same(one[name], other[name]) for name in one)
        case (list() | tuple(), list() | tuple()):
            return len(one) == len(other) and all(map(same, one, other))
        case (float(), float()) if one != one and other != other:  # NaN
            return True
    return isinstance(one, bool) == isinstance(other, bool) and bool(one == other)
