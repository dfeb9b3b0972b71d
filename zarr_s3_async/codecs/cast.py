"""The `cast_value` codec of zarr-extensions: each number becomes the same number in another data type."""

from __future__ import annotations

from typing import Any, Final, cast

import numpy as np

from .._types import JSON
from ..errors import MetadataError
from .base import Array, ChunkSpec
from .options import Options
from .rounding import ROUNDINGS, OutOfRange, Rounding
from .rounding import cast as cast_numbers
from .scalars import RealType, real_dtype, real_scalar


class _ScalarMap:
    """Numbers that become others by name, before any rule is asked. The first of equal keys counts."""

    def __init__(self, pairs: list[tuple[Array, Array]], source: RealType, target: RealType) -> None:
        self._comparable = np.dtype(np.float64) if not source.is_integer else np.dtype(f"{_sign(source)}8")
        keys = np.array([key.astype(self._comparable) for key, _ in pairs], self._comparable)
        values = np.array([value for _, value in pairs], target.dtype)
        self._keys, first = np.unique(keys, return_index=True)
        self._values = values[first]

    def find(self, numbers: Array) -> tuple[Array, Array]:
        """(where a number is a key, the value of each key found there)."""
        comparable = numbers.astype(self._comparable, copy=False)
        at = np.minimum(np.searchsorted(self._keys, comparable), len(self._keys) - 1)
        keys = self._keys[at]
        hits = keys == comparable
        if self._comparable.kind == "f":
            hits |= np.isnan(keys) & np.isnan(comparable)
        return hits, self._values[at[hits]]


def _sign(source: RealType) -> str:
    return "i" if source.low < 0 else "u"


class CastValue:
    """Casts to `data_type` on encoding and back on decoding, by the same rules."""

    kind: Final = "array->array"
    cost: Final = "parallel"

    def __init__(self, options: Options, spec: ChunkSpec) -> None:
        self._codec = options.codec
        source, target = RealType.of(spec.dtype), RealType.of(real_dtype(options, "data_type"))
        if source is None or target is None:
            raise MetadataError(f"codec {options.codec!r} casts real numbers, not {spec.dtype}")
        self._source, self._target = source, target
        self._rounding: Rounding = options.choice("rounding", ROUNDINGS, "nearest-even")
        self._beyond: OutOfRange | None = options.choice("out_of_range", ("clamp", "wrap"), None)
        if self._beyond == "wrap" and not target.is_integer:
            raise options.fail("out_of_range", "can be 'wrap' only where 'data_type' is an integer")
        maps = options.take("scalar_map", {})
        if not isinstance(maps, dict) or not set(maps) <= {"encode", "decode"}:
            raise options.fail("scalar_map", "must be an object of 'encode' and 'decode'")
        self._encoding = _read_map(options, maps.get("encode"), source, target)
        self._decoding = _read_map(options, maps.get("decode"), target, source)

    def encoded(self, spec: ChunkSpec) -> ChunkSpec:
        fill = np.zeros(1, spec.dtype) if spec.fill_value is None else np.array([spec.fill_value], spec.dtype)
        try:
            encoded = self.encode(fill)
            self.decode(encoded)
        except ValueError as error:
            raise MetadataError(f"codec {self._codec!r} cannot cast the fill value there and back: {error}") from error
        return ChunkSpec(spec.shape, self._target.dtype, encoded[0])

    def encode(self, chunk: Array) -> Array:
        return self._cast(chunk, self._source, self._target, self._encoding)

    def decode(self, chunk: Array) -> Array:
        return self._cast(chunk, self._target, self._source, self._decoding)

    def _cast(self, numbers: Array, source: RealType, target: RealType, special: _ScalarMap | None) -> Array:
        # NumPy's functions turn arrays without dimensions into scalars.
        shape, numbers = numbers.shape, np.atleast_1d(numbers)
        if special is None:
            return cast_numbers(numbers, source, target, self._rounding, self._beyond).reshape(shape)
        hits, values = special.find(numbers)
        # One is a number of every type: what the map decides, no rule can refuse.
        ordinary = np.where(hits, np.ones(1, source.dtype), numbers)
        result = cast_numbers(ordinary, source, target, self._rounding, self._beyond)
        result[hits] = values
        return result.reshape(shape)


def _read_map(options: Options, pairs: JSON, source: RealType, target: RealType) -> _ScalarMap | None:
    if pairs is None or pairs == []:
        return None
    if not isinstance(pairs, list | tuple) or not all(isinstance(p, list | tuple) and len(p) == 2 for p in pairs):
        raise options.fail("scalar_map", "must hold lists of pairs [number, number]")
    scalars = [
        (real_scalar(options, "scalar_map", key, source), real_scalar(options, "scalar_map", value, target))
        for key, value in cast("list[list[Any]]", pairs)
    ]
    return _ScalarMap(scalars, source, target)
