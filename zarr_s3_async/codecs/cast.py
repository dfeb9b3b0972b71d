"""The codecs of zarr-extensions that compute with numbers.

`cast_value`: each number becomes the same number in another data type.
A cast is exact where the target can represent the number. Otherwise the number is rounded first, as if the target had
no bounds, and then compared with the bounds.

`scale_offset`: (x - offset) * scale, in the array's own arithmetic.
"""

from __future__ import annotations

from typing import Any, Final, Literal, TypeAlias, cast

import numpy as np

from .._ml_dtypes import is_ml
from .._types import JSON
from ..errors import MetadataError
from .base import Array, ChunkSpec, Options
from .scalars import RealType, real_dtype, real_scalar


class _ScalarMap:
    """Explicit mappings of numbers, applied before any rule. Of equal keys the first counts."""

    def __init__(self, pairs: list[tuple[Array, Array]], source: RealType, target: RealType) -> None:
        # 64 bits of the source's kind hold every number of it exactly, so that keys compare without rounding.
        wide = np.float64 if not source.is_integer else np.int64 if source.low < 0 else np.uint64
        self._comparable: np.dtype[Any] = np.dtype(wide)
        keys = np.array([key.astype(self._comparable) for key, _ in pairs], self._comparable)
        values = np.array([value for _, value in pairs], target.dtype)
        # `return_index` gives the first of equal keys, which is the one that counts.
        self._keys, first = np.unique(keys, return_index=True)
        self._values = values[first]

    def find(self, numbers: Array) -> tuple[Array, Array]:
        """(where a number is a key, the value of each key found there)."""
        comparable = numbers.astype(self._comparable, copy=False)
        at = np.minimum(np.searchsorted(self._keys, comparable), len(self._keys) - 1)
        keys = self._keys[at]
        hits = keys == comparable
        if self._comparable.kind == "f":
            # NaN does not equal itself, but a map may have NaN as a key.
            hits |= np.isnan(keys) & np.isnan(comparable)
        return hits, self._values[at[hits]]


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
        # The fill value is stored in metadata and read back: it must survive the way there and back.
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
            return convert(numbers, source, target, self._rounding, self._beyond).reshape(shape)
        hits, values = special.find(numbers)
        # Mapped numbers are replaced by 1, which every type has, so that no rule can refuse them.
        ordinary = np.where(hits, np.ones(1, source.dtype), numbers)
        result = convert(ordinary, source, target, self._rounding, self._beyond)
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


Rounding: TypeAlias = Literal["nearest-even", "towards-zero", "towards-positive", "towards-negative", "nearest-away"]
OutOfRange: TypeAlias = Literal["clamp", "wrap"]

ROUNDINGS: Final = ("nearest-even", "towards-zero", "towards-positive", "towards-negative", "nearest-away")
_EXACT_BITS: Final = 53
"""float64 represents integers of up to this many bits exactly."""


def convert(values: Array, source: RealType, target: RealType, rounding: Rounding, beyond: OutOfRange | None) -> Array:
    """The values as `target.dtype`.

    Args:
        values: Array of `source.dtype`.
        source: Type of the values.
        target: Type to cast to.
        rounding: Rounding of values that the target cannot represent exactly.
        beyond: Handling of finite values outside the target's bounds; None raises.

    Raises:
        ValueError: A value that the rules do not cover.
    """
    with np.errstate(all="ignore"):
        if target.is_integer:
            cast_to = _integer_to_integer if source.is_integer else _float_to_integer
            return cast_to(values, source, target, rounding, beyond).astype(target.dtype)
        if rounding == "nearest-even" and not is_ml(target.dtype):
            return _natively(values, target, beyond)
        if source.is_integer:
            # Rounding twice can differ from rounding once, so integers of more than 53 bits need care.
            values = _integer_to_float64(_plain(values, source), rounding, exact=target.bits == _EXACT_BITS)
        return _float_to_float(values.astype(np.float64, copy=False), target, rounding, beyond)


def _plain(values: Array, source: RealType) -> Array:
    """Integers that NumPy itself can compare: those of ml_dtypes become int8 or uint8."""
    return values.astype(_base(source)) if is_ml(values.dtype) else values


def _base(target: RealType) -> np.dtype[Any]:
    """The NumPy integer type that holds an integer type."""
    return np.dtype(f"{'i' if target.low < 0 else 'u'}{max(1, target.bits // 8)}")


def _integer_to_integer(
    values: Array, source: RealType, target: RealType, _rounding: Rounding, beyond: OutOfRange | None
) -> Array:
    values = _plain(values, source)
    # Both bounds fit the source's type, so that the comparison is exact.
    low, high = (values.dtype.type(bound) for bound in (max(source.low, target.low), min(source.high, target.high)))
    outside = (values < low) | (values > high)
    if not outside.any():
        return values.astype(_base(target))
    if beyond == "clamp":
        return np.clip(values, low, high).astype(_base(target))
    _refuse_unless_wrapping(beyond, values[outside], target)
    return _wrapped(values.astype(np.uint64), target)


def _float_to_integer(
    values: Array, _source: RealType, target: RealType, rounding: Rounding, beyond: OutOfRange | None
) -> Array:
    numbers = values.astype(np.float64, copy=False)
    finite = np.isfinite(numbers)
    if not finite.all():
        raise ValueError(f"{target.dtype} cannot represent {numbers[~finite].flat[0]}")
    rounded = np.copysign(_rounded(np.abs(numbers), numbers < 0, rounding), numbers)
    # `high + 1` is a power of two, which float64 has exactly; `high` of 64 bits it has not.
    below, above = rounded < float(target.low), rounded >= float(target.high + 1)
    outside = below | above
    result: Array = np.where(outside, 0.0, rounded).astype(_base(target))
    if not outside.any():
        return result
    if beyond == "clamp":
        result[below], result[above] = target.low, target.high
        return result
    _refuse_unless_wrapping(beyond, numbers[outside], target)
    # Wrapping takes the value modulo 2**bits; the low 64 bits are enough, and two's complement negates them.
    magnitude = np.fmod(np.abs(rounded), 2.0**64).astype(np.uint64)
    return _wrapped(np.where(rounded < 0, np.negative(magnitude), magnitude), target)


def _refuse_unless_wrapping(beyond: OutOfRange | None, outside: Array, target: RealType) -> None:
    if beyond != "wrap" or not target.is_integer:
        raise ValueError(f"{outside.flat[0]} is outside the range of {target.dtype}")


def _wrapped(values: Array, target: RealType) -> Array:
    """The low bits of uint64 values, interpreted as the target type."""
    base = _base(target)
    low_bits = values.astype(f"u{base.itemsize}")
    if target.bits >= 8:
        return low_bits.view(base)
    low_bits &= np.uint8(2**target.bits - 1)
    if target.low == 0:
        return low_bits
    # Sign extension of a type with fewer than 8 bits: flip the sign bit, then subtract its weight.
    sign = np.uint8(2 ** (target.bits - 1))
    return ((low_bits ^ sign) - sign).view(np.int8)


def _natively(values: Array, target: RealType, beyond: OutOfRange | None) -> Array:
    """Cast with NumPy, which follows IEEE 754: to nearest, ties to even, overflow to infinity."""
    result = values.astype(target.dtype)
    if beyond != "clamp":
        overflown = np.isinf(result)
        if overflown.any():
            overflown &= np.isfinite(values.astype(np.float64))
        if overflown.any():
            _refuse_unless_wrapping(None, values[overflown], target)
    return result


def _float_to_float(numbers: Array, target: RealType, rounding: Rounding, beyond: OutOfRange | None) -> Array:
    finite = np.isfinite(numbers)
    if not target.has_nan and np.isnan(numbers).any():
        raise ValueError(f"{target.dtype} cannot represent NaN")
    if not target.has_infinity and np.isinf(numbers).any():
        raise ValueError(f"{target.dtype} cannot represent infinity")
    rounded = np.where(finite, _to_precision(numbers, target, rounding), numbers)
    outside = finite & ((rounded < target.low) | (rounded > target.high))
    if outside.any():
        if beyond != "clamp":
            _refuse_unless_wrapping(beyond, numbers[outside], target)
        low, high = (-np.inf, np.inf) if target.has_infinity else (target.low, target.high)
        rounded = np.where(outside, np.where(rounded < target.low, low, high), rounded)
    return rounded.astype(target.dtype)


def _to_precision(numbers: Array, target: RealType, rounding: Rounding) -> Array:
    """float64 values rounded to the target's precision, without an upper bound, so that the cast is exact."""
    # The target is float64, which the numbers are already.
    if target.bits == _EXACT_BITS:
        return numbers
    magnitude = np.abs(numbers)
    # Exponent of the last significant bit; below the smallest subnormal the target has no bits.
    last_place = np.maximum(np.frexp(magnitude)[1] - target.bits, target.step)
    units = np.ldexp(magnitude, -last_place)
    rounded: Array = np.ldexp(_rounded(units, np.signbit(numbers), rounding), last_place)
    signed: Array = np.copysign(rounded, numbers)
    return signed


def _rounded(magnitude: Array, negative: Array, rounding: Rounding) -> Array:
    """Non-negative float64 values rounded to integers; `negative` is the sign of the numbers that they come from."""
    floor: Array = np.floor(magnitude)
    match rounding:
        case "nearest-even":
            whole: Array = np.rint(magnitude)
        case "nearest-away":
            whole = floor + (magnitude - floor >= 0.5)
        case "towards-zero":
            whole = floor
        case "towards-positive":
            whole = np.where(negative, floor, np.ceil(magnitude))
        case "towards-negative":
            whole = np.where(negative, np.ceil(magnitude), floor)
    return whole


def _integer_to_float64(values: Array, rounding: Rounding, *, exact: bool) -> Array:
    """float64 values that round, to any target, as the integers would.

    Args:
        values: NumPy integers.
        rounding: Rounding to float64, used where that is the target.
        exact: Whether float64 is the target. Otherwise values of more than 53 bits are rounded to odd, after which
            rounding to fewer bits gives the same as a single rounding.
    """
    # float64 holds every integer of 32 bits exactly.
    if values.dtype.itemsize <= 4:
        return values.astype(np.float64)
    negative = values < 0
    magnitude = np.where(negative, np.negative(values.astype(np.uint64)), values.astype(np.uint64))
    extra = np.zeros(values.shape, np.uint64)
    for bit in range(_EXACT_BITS, 64):
        extra += (magnitude >> np.uint64(bit)) != 0
    kept, rest = magnitude >> extra, magnitude & ((np.uint64(1) << extra) - np.uint64(1))
    # The dropped bits decide the last bit that is kept: by the rounding mode, or as a sticky bit.
    kept = kept + _rounds_up(rest, extra, negative, rounding) if exact else kept | (rest != 0)
    result = np.ldexp(kept.astype(np.float64), extra.astype(np.int32))
    return np.where(negative, -result, result)


def _rounds_up(rest: Array, extra: Array, negative: Array, rounding: Rounding) -> Array:
    """Which magnitudes are rounded up because of the `extra` bits `rest` that are dropped below them.

    For all rounding modes but `nearest-even`, which `_natively` does.
    """
    inexact: Array = rest != 0
    if rounding == "nearest-away":
        half = np.where(extra > 0, np.uint64(1) << (np.maximum(extra, 1) - np.uint64(1)), np.uint64(1))
        inexact &= rest >= half
    elif rounding == "towards-zero":
        inexact &= False
    else:
        inexact &= negative == (rounding == "towards-negative")
    return inexact


class ScaleOffset:
    """`scale_offset`: (x - offset) * scale. Integers are exact or refused; floating-point numbers follow IEEE 754."""

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
