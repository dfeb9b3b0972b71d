"""numcodecs' filters, as Zarr v2 names them and as zarr-python registers them for v3 (`numcodecs.*`).

numcodecs' documentation, "Filters", describes what they compute. They are written here in NumPy, so that reading their
data imports nothing else, and so that untrusted configurations reach no code that was not written for them.
"""

from __future__ import annotations

import math
from math import prod
from typing import Any, Final

import numpy as np

from ..errors import MetadataError
from .base import Array, Bytes, ChunkSpec, Cost, Options
from .scalars import plain_dtype

_DIGITS: Final = 300
_MANTISSA_BITS: Final = {"f2": 10, "f4": 23, "f8": 52}
_NUMBERS: Final = "biufcmM"
_TEXTS: Final = ("|O", "O", "object")


class _Filter:
    """Computes on the elements in C order: of dtype `self._decoded` before, and `self._encoded` after encoding."""

    kind: Final = "array->array"
    cost: Cost = "parallel"

    def __init__(self, options: Options, spec: ChunkSpec, decoded: np.dtype[Any], encoded: np.dtype[Any]) -> None:
        self._shape = self._encoded_shape = spec.shape
        self._dtype = spec.dtype
        self._decoded = decoded
        self._encoded = encoded
        if decoded.itemsize != spec.dtype.itemsize:
            # Like numcodecs: the chunk's memory is reinterpreted as elements of the type in the filter's configuration.
            count, rest = divmod(prod(spec.shape) * spec.dtype.itemsize, decoded.itemsize)
            if rest or spec.dtype.hasobject:
                raise MetadataError(f"codec {options.codec!r} takes elements of {decoded}, and is given {spec.dtype}")
            self._encoded_shape = (count,)

    def encoded(self, spec: ChunkSpec) -> ChunkSpec:
        with np.errstate(all="ignore"):
            fill = np.array(0 if spec.fill_value is None else spec.fill_value, spec.dtype)
            if self._encoded_shape != spec.shape:
                fill = np.zeros((), self._decoded)  # one fill value may be several of these elements
            return ChunkSpec(self._encoded_shape, self._encoded, fill.astype(self._encoded)[()])

    def encode(self, chunk: Array) -> Array:
        flat = np.ascontiguousarray(chunk).reshape(-1).view(self._decoded)
        # Casts to a smaller type may overflow, about which NumPy would warn; numcodecs stores the same values.
        with np.errstate(all="ignore"):
            return self._encode(flat).reshape(self._encoded_shape)

    def decode(self, chunk: Array) -> Array:
        flat = np.ascontiguousarray(chunk).reshape(-1)
        with np.errstate(all="ignore"):
            return self._decode(flat).view(self._dtype).reshape(self._shape)

    def _encode(self, flat: Array) -> Array:
        raise NotImplementedError

    def _decode(self, flat: Array) -> Array:
        raise NotImplementedError


class _Typed(_Filter):
    """A filter with the options `dtype`, before encoding, and `astype`, after it."""

    def __init__(self, options: Options, spec: ChunkSpec, kinds: str = _NUMBERS) -> None:
        decoded = plain_dtype(options, "dtype", spec.dtype)
        encoded = plain_dtype(options, "astype", decoded)
        if decoded.kind not in kinds or encoded.kind not in kinds or spec.dtype.hasobject:
            raise MetadataError(f"codec {options.codec!r} does not compute with {spec.dtype}, {decoded} and {encoded}")
        super().__init__(options, spec, decoded, encoded)


class Delta(_Typed):
    """The first element, then the differences of neighbours."""

    def __init__(self, options: Options, spec: ChunkSpec) -> None:
        super().__init__(options, spec)

    def _encode(self, flat: Array) -> Array:
        encoded = np.empty(flat.shape, self._encoded)
        # Slices instead of indices: a chunk may have no elements.
        encoded[:1] = flat[:1]
        encoded[1:] = np.diff(flat)
        return encoded

    def _decode(self, flat: Array) -> Array:
        decoded = np.empty(flat.shape, self._decoded)
        # `out` fixes the data type of the sum, so that integers wrap as they did while encoding.
        np.cumsum(flat, out=decoded)
        return decoded


class FixedScaleOffset(_Typed):
    """(x - offset) * scale, rounded to integers."""

    def __init__(self, options: Options, spec: ChunkSpec) -> None:
        super().__init__(options, spec, "biuf")
        self._offset = options.number("offset")
        self._scale = options.number("scale")
        if self._scale == 0:
            raise options.fail("scale", "must not be 0")

    def _encode(self, flat: Array) -> Array:
        return np.around((flat - self._offset) * self._scale).astype(self._encoded, copy=False)

    def _decode(self, flat: Array) -> Array:
        return (flat / self._scale + self._offset).astype(self._decoded, copy=False)


class Quantize(_Typed):
    """Numbers rounded to multiples of the power of two that keeps `digits` decimal digits. Lossy."""

    def __init__(self, options: Options, spec: ChunkSpec) -> None:
        super().__init__(options, spec, "f")
        digits = options.to_encode(options.integer, "digits", -_DIGITS, _DIGITS) or 0
        exponent = math.log10(10.0**-digits)
        exponent = math.floor(exponent) if exponent < 0 else math.ceil(exponent)
        self._scale = 2.0 ** math.ceil(math.log2(10.0**-exponent))

    def _encode(self, flat: Array) -> Array:
        return (np.around(self._scale * flat) / self._scale).astype(self._encoded, copy=False)

    def _decode(self, flat: Array) -> Array:
        return flat.astype(self._decoded, copy=False)


class AsType(_Filter):
    """Another dtype, by NumPy's own casts."""

    def __init__(self, options: Options, spec: ChunkSpec) -> None:
        encoded = plain_dtype(options, "encode_dtype")
        decoded = plain_dtype(options, "decode_dtype", spec.dtype)
        if spec.dtype.hasobject or encoded.kind == "V" or decoded.kind == "V":
            raise MetadataError(f"codec {options.codec!r} does not cast {spec.dtype}, {decoded} and {encoded}")
        super().__init__(options, spec, decoded, encoded)

    def _encode(self, flat: Array) -> Array:
        return flat.astype(self._encoded)

    def _decode(self, flat: Array) -> Array:
        return flat.astype(self._decoded)


class BitRound(_Filter):
    """Numbers rounded to `keepbits` bits of the mantissa, ties to even. Lossy."""

    def __init__(self, options: Options, spec: ChunkSpec) -> None:
        if spec.dtype.hasobject:
            raise MetadataError(f"codec {options.codec!r} does not round {spec.dtype}")
        bits = _MANTISSA_BITS.get(spec.dtype.str[1:])
        if bits is None:
            wrong = f"codec {options.codec!r} rounds float16, float32 and float64, not {spec.dtype}"
            options.cannot_encode(MetadataError(wrong))
        super().__init__(options, spec, spec.dtype, spec.dtype)
        kept = options.to_encode(options.integer, "keepbits", 0, bits or 0)
        self._dropped = 0 if bits is None or kept is None else bits - kept
        self._integers = np.dtype(f"i{spec.dtype.itemsize}")

    def _encode(self, flat: Array) -> Array:
        if not self._dropped:
            return flat
        numbers = flat.astype(flat.dtype.newbyteorder("=")).view(self._integers)
        # Round half to even in integer arithmetic: add just under half of the last kept bit, plus 1 if that bit is odd.
        odd = numbers >> self._dropped & 1
        numbers += odd + ((1 << (self._dropped - 1)) - 1)
        numbers &= np.array(-1, self._integers) << self._dropped
        return numbers.view(flat.dtype.newbyteorder("=")).astype(flat.dtype, copy=False)

    def _decode(self, flat: Array) -> Array:
        return flat


class PackBits(_Filter):
    """Eight booleans per byte, after one byte with the number of padding bits in the last."""

    def __init__(self, options: Options, spec: ChunkSpec) -> None:
        if spec.dtype.kind != "b":
            raise MetadataError(f"codec {options.codec!r} packs booleans, not {spec.dtype}")
        super().__init__(options, spec, spec.dtype, np.dtype(np.uint8))
        self._count = prod(spec.shape)

    def encoded(self, spec: ChunkSpec) -> ChunkSpec:
        return ChunkSpec((1 + -(-self._count // 8),), self._encoded, np.uint8(bool(spec.fill_value)))

    def encode(self, chunk: Array) -> Array:
        packed = np.packbits(np.ascontiguousarray(chunk).reshape(-1))
        return np.concatenate((np.array([-self._count % 8], np.uint8), packed))

    def _decode(self, flat: Array) -> Array:
        padding = int(flat[0])
        if padding != -self._count % 8:
            raise ValueError(f"claims {padding} bits of padding, but a chunk has {-self._count % 8}")
        return np.unpackbits(flat[1:], count=self._count)


class Categorize(_Filter):
    """Texts as their number in a list of labels, counted from 1; 0 is any other text and is read as ""."""

    cost: Cost = "blocking"

    def __init__(self, options: Options, spec: ChunkSpec) -> None:
        if spec.dtype.kind not in "OUT":
            raise MetadataError(f"codec {options.codec!r} takes texts, not {spec.dtype}")
        labels = options.take("labels")
        if not isinstance(labels, list | tuple) or not all(isinstance(label, str) for label in labels):
            raise options.fail("labels", "must be a list of texts")
        if options.take("dtype", "|O") not in _TEXTS and spec.dtype.kind != "U":
            raise options.fail("dtype", f"must be '|O': the elements are {spec.dtype}")
        encoded = plain_dtype(options, "astype", np.dtype(np.uint8))
        if encoded.kind not in "iu" or len(labels) > np.iinfo(encoded).max:
            raise options.fail("astype", f"must be an integer type that counts to {len(labels)}, not {encoded}")
        super().__init__(options, spec, spec.dtype, encoded)
        self._labels = np.array(["", *labels], object)
        self._numbers = {label: number for number, label in enumerate(labels, 1)}

    def encoded(self, spec: ChunkSpec) -> ChunkSpec:
        return ChunkSpec(spec.shape, self._encoded, self._encoded.type(self._numbers.get(spec.fill_value, 0)))

    def encode(self, chunk: Array) -> Array:
        numbers = [self._numbers.get(text, 0) for text in chunk.reshape(-1).tolist()]
        return np.array(numbers, self._encoded).reshape(self._shape)

    def decode(self, chunk: Array) -> Array:
        # Untrusted input: an index of NumPy below 0 would count from the end.
        known = (chunk >= 0) & (chunk < len(self._labels))
        return self._labels[np.where(known, chunk, 0)].astype(self._dtype, copy=False)


class Shuffle:
    """The first bytes of all elements, then the second bytes of all, and so on."""

    kind: Final = "bytes->bytes"
    cost: Final = "parallel"

    def __init__(self, options: Options, spec: ChunkSpec) -> None:
        self._element = max(1, options.integer("elementsize", 0, 2**16, spec.dtype.itemsize))

    def encoded_size(self, size: int) -> int:
        return size

    def encode(self, data: Bytes) -> Bytes:
        shuffled = np.empty(self._elements(data) * self._element, np.uint8)
        np.copyto(shuffled.reshape(self._element, -1), np.frombuffer(data, np.uint8).reshape(-1, self._element).T)
        return shuffled

    def decode(self, data: Bytes, size: int | None, limit: int, out: Array | None = None) -> Bytes:
        if len(data) != size and (size is not None or len(data) > limit):
            raise ValueError(f"{len(data)} bytes, but at most {limit} are possible")
        memory = np.empty(self._elements(data) * self._element, np.uint8) if out is None else out
        elements = memory.reshape(-1).view(np.uint8).reshape(-1, self._element)
        np.copyto(elements, np.frombuffer(data, np.uint8).reshape(self._element, -1).T)
        return memory

    def _elements(self, data: Bytes) -> int:
        count, rest = divmod(len(data), self._element)
        if rest:
            raise ValueError(f"{len(data)} bytes are not a multiple of the element size {self._element}")
        return count
