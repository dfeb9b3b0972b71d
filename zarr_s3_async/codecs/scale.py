"""The `scale_offset` codec of zarr-extensions: (x - offset) * scale, in the array's own arithmetic."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from .._ml_dtypes import is_ml
from ..errors import MetadataError
from .base import Array, ChunkSpec, Options
from .scalars import RealType, real_scalar


class ScaleOffset:
    """Integers are exact or refused; floating-point numbers follow IEEE 754."""

    kind: Final = "array->array"
    cost: Final = "parallel"

    def __init__(self, options: Options, spec: ChunkSpec) -> None:
        real = RealType.of(spec.dtype)
        if real is None:
            raise MetadataError(f"codec {options.codec!r} computes with real numbers, not {spec.dtype}")
        self._codec = options.codec
        self._real = real
        offset = real_scalar(options, "offset", options.take("offset", 0), real)
        scale = real_scalar(options, "scale", options.take("scale", 1), real)
        # NumPy computes with ml_dtypes' integers, but does not compare them.
        self._dtype: np.dtype[Any] = (
            np.dtype(np.int16) if real.is_integer and is_ml(spec.dtype) else spec.dtype.newbyteorder("=")
        )
        if is_ml(spec.dtype) and not real.is_integer:
            self._dtype = spec.dtype
        self._offset, self._scale = offset.astype(self._dtype)[()], scale.astype(self._dtype)[()]
        if self._scale == 0:
            raise options.fail("scale", "must not be 0")

    def encoded(self, spec: ChunkSpec) -> ChunkSpec:
        fill = np.zeros(1, spec.dtype) if spec.fill_value is None else np.array([spec.fill_value], spec.dtype)
        try:
            return ChunkSpec(spec.shape, spec.dtype, self.encode(fill)[0])
        except ValueError as error:
            raise MetadataError(f"codec {self._codec!r} cannot encode the fill value: {error}") from error

    def encode(self, chunk: Array) -> Array:
        # NumPy's functions turn arrays without dimensions into scalars.
        numbers = np.atleast_1d(chunk).astype(self._dtype, copy=False)
        if self._real.is_integer and numbers.size:
            # Both steps are monotonic, so checking the extremes is enough.
            extremes = [int(numbers.min()) - int(self._offset), int(numbers.max()) - int(self._offset)]
            self._require(extremes)
            self._require([extreme * int(self._scale) for extreme in extremes])
        with np.errstate(all="ignore"):
            encoded: Array = (numbers - self._offset) * self._scale
        return encoded.astype(chunk.dtype, copy=False).reshape(chunk.shape)

    def decode(self, chunk: Array) -> Array:
        # NumPy's functions turn arrays without dimensions into scalars.
        numbers = np.atleast_1d(chunk).astype(self._dtype, copy=False)
        if self._real.is_integer and numbers.size:
            if np.remainder(numbers, self._scale).any():
                raise ValueError(f"a number is not a multiple of the scale {self._scale}")
            extremes = [int(extreme) // int(self._scale) for extreme in (numbers.min(), numbers.max())]
            self._require(extremes)
            self._require([extreme + int(self._offset) for extreme in extremes])
        with np.errstate(all="ignore"):
            quotient: Array = numbers // self._scale if self._real.is_integer else numbers / self._scale
            quotient = quotient + self._offset
        return quotient.astype(chunk.dtype, copy=False).reshape(chunk.shape)

    def _require(self, extremes: list[int]) -> None:
        if min(extremes) < self._real.low or max(extremes) > self._real.high:
            raise ValueError(f"{min(extremes)} to {max(extremes)} exceeds the range of {self._real.dtype}")
