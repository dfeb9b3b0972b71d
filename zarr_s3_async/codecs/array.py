"""Codecs that store elements uncompressed: `bytes` and `transpose` of Zarr v3, `reshape` and `packbits` of
zarr-extensions."""

from __future__ import annotations

from math import prod
from reprlib import repr as short
from typing import Any, Final, Literal

import numpy as np

from .._ml_dtypes import BITS, is_ml
from .._types import JSON, Shape
from ..errors import MetadataError
from .base import Array, Bytes, ChunkSpec, Cost, Options

_ORDERS: Final[dict[str, Literal["<", ">"]]] = {"little": "<", "big": ">"}

_OWN_ORDER: Final = frozenset("SUVMmb")
"""Kinds that keep their dtype's byte order where `endian` is not given, as Zarr v2 stores them."""


def stored_dtype(dtype: np.dtype[Any], endian: Literal["little", "big"] | None) -> np.dtype[Any]:
    """The dtype whose memory layout equals what the `bytes` codec stores."""
    if is_ml(dtype):
        integers = np.dtype(f"u{dtype.itemsize}").newbyteorder(_ORDERS[endian or "little"])
        return dtype if integers.isnative else integers
    return dtype if endian is None or dtype.itemsize == 1 else dtype.newbyteorder(_ORDERS[endian])


class BytesCodec:
    """The elements in C order."""

    kind: Final = "array->bytes"

    def __init__(self, options: Options, spec: ChunkSpec) -> None:
        dtype = spec.dtype
        if dtype.hasobject:
            raise MetadataError(
                f"codec {options.codec!r} stores elements of a fixed size, and those of {dtype} have none: "
                "such an array needs an object codec, vlen-utf8, vlen-bytes or vlen-array"
            )
        endian = options.choice("endian", ("little", "big"), None)
        if endian is None and dtype.itemsize > 1 and dtype.kind not in _OWN_ORDER:
            raise options.fail("endian", f"is missing: elements of {dtype} have more than one byte")
        self._shape = spec.shape
        self._dtype = dtype
        self._nbytes = prod(spec.shape) * dtype.itemsize
        self._stored = stored_dtype(dtype, endian)
        bits = BITS[dtype.name] if is_ml(dtype) else 8 * dtype.itemsize
        # zarr-extensions: "the upper bits are ignored".
        self._mask = np.uint8(2**bits - 1) if bits < 8 else None
        self.as_is: bool = self._stored == dtype and self._mask is None
        """True where the stored bytes equal the elements in memory."""
        self.cost: Cost = "view" if self.as_is else "parallel"

    def encoded_size(self) -> int:
        return self._nbytes

    def encode(self, chunk: Array) -> Bytes:
        chunk = np.ascontiguousarray(chunk)
        if not self.as_is and self._mask is None:
            chunk = self._converted(chunk, self._dtype, self._stored)
        data: np.ndarray[Any, np.dtype[np.uint8]] = chunk.reshape(-1).view(np.uint8)
        return data if self._mask is None else data & self._mask

    def decode(self, data: Bytes, out: Array | None = None) -> Array:
        if len(data) != self._nbytes:
            raise ValueError(f"{len(data)} bytes, and a chunk has {self._nbytes}")
        # A view of the received bytes; the caller copies it where the memory must be writable.
        if self.as_is:
            return np.ndarray(self._shape, self._dtype, data)
        if self._mask is not None:
            return self._masked(data, self._mask, out)
        stored: Array = np.ndarray(self._shape, self._stored, data)
        if out is None:
            return self._converted(stored, self._stored, self._dtype)
        if is_ml(self._dtype):
            np.copyto(out.view(self._stored.newbyteorder("=")), stored)
        else:
            np.copyto(out, stored)
        return out

    @staticmethod
    def _converted(chunk: Array, now: np.dtype[Any], then: np.dtype[Any]) -> Array:
        """Swap bytes. NumPy cannot swap those of ml_dtypes' types, so these are viewed as unsigned integers first."""
        if is_ml(now):
            return chunk.view(then.newbyteorder("=")).astype(then)
        if is_ml(then):
            return chunk.astype(now.newbyteorder("=")).view(then)
        return chunk.astype(then)

    def _masked(self, data: Bytes, mask: np.uint8, out: Array | None) -> Array:
        """Clear the upper bits, which ml_dtypes would read as part of the number."""
        if out is None:
            out = np.empty(self._shape, self._dtype)
        raw: Array = np.ndarray(self._shape, np.uint8, data)
        np.bitwise_and(raw, mask, out=out.view(np.uint8))
        return out


class Transpose:
    """A permutation of the axes: axis i of the encoded chunk is axis `order[i]` of the chunk."""

    kind: Final = "array->array"
    cost: Final = "view"

    def __init__(self, options: Options, spec: ChunkSpec) -> None:
        order = options.integers("order")
        if sorted(order) != list(range(len(spec.shape))):
            raise options.fail("order", f"must be a permutation of the {len(spec.shape)} axes, not {order}")
        self.order = order
        self._inverse = tuple(sorted(range(len(order)), key=order.__getitem__))
        self.identity: bool = self.order == self._inverse == tuple(range(len(order)))

    def encoded(self, spec: ChunkSpec) -> ChunkSpec:
        return ChunkSpec(tuple(spec.shape[axis] for axis in self.order), spec.dtype, spec.fill_value)

    def encode(self, chunk: Array) -> Array:
        return chunk.transpose(self.order)

    def decode(self, chunk: Array) -> Array:
        return chunk.transpose(self._inverse)


class Reshape:
    """Another shape for the same elements in the same order: `reshape` of zarr-extensions."""

    kind: Final = "array->array"
    cost: Final = "view"

    def __init__(self, options: Options, spec: ChunkSpec) -> None:
        self._shape = spec.shape
        self._reshaped = _reshaped(options, options.take("shape"), spec.shape)

    def encoded(self, spec: ChunkSpec) -> ChunkSpec:
        return ChunkSpec(self._reshaped, spec.dtype, spec.fill_value)

    def encode(self, chunk: Array) -> Array:
        return chunk.reshape(self._reshaped)

    def decode(self, chunk: Array) -> Array:
        return chunk.reshape(self._shape)


class Squeeze(Reshape):
    """The chunk without its axes of length 1: `zarrs.squeeze`."""

    def __init__(self, options: Options, spec: ChunkSpec) -> None:  # noqa: ARG002  it has no options
        self._shape = spec.shape
        self._reshaped = tuple(length for length in spec.shape if length != 1)


def _reshaped(options: Options, edges: JSON, shape: Shape) -> Shape:
    """The shape that the option asks for: entries are lengths, -1 for the remaining length, or lists of joined axes."""
    if not isinstance(edges, list | tuple):
        raise options.fail("shape", f"must be a list, not {short(edges)}")
    joined: list[int] = []
    lengths: list[int] = []
    for edge in edges:
        axes = edge if isinstance(edge, list | tuple) else ()
        # `type`, because True is an int in Python.
        if any(type(axis) is not int or not 0 <= axis < len(shape) for axis in axes):
            raise options.fail("shape", f"joins axes {short(edge)}, and a chunk has {len(shape)}")
        joined += axes
        if axes or edge == []:
            lengths.append(prod(shape[axis] for axis in axes))
        elif type(edge) is int and (edge > 0 or edge == -1):
            lengths.append(edge)
        else:
            raise options.fail("shape", f"holds {short(edge)}, which is neither a length nor a list of axes")
    if joined != sorted(set(joined)):
        raise options.fail("shape", f"must join axes in their order, not {short(edges)}")
    if lengths.count(-1) == 1:
        rest = prod(length for length in lengths if length != -1)
        lengths[lengths.index(-1)] = prod(shape) // rest if rest else 0
    if prod(lengths) != prod(shape) or -1 in lengths:
        raise options.fail("shape", f"{short(edges)} does not hold the elements of a chunk of {shape}")
    _check_joined(options, edges, lengths, shape)
    return tuple(lengths)


def _check_joined(options: Options, edges: Any, lengths: list[int], shape: Shape) -> None:
    """Check that joined axes keep their elements: the product of the lengths before them must not change."""
    for at, edge in enumerate(edges):
        if isinstance(edge, list | tuple) and edge:
            first, last = edge[0], edge[-1]
            contiguous = list(edge) == list(range(first, last + 1))
            if not contiguous or prod(lengths[:at]) != prod(shape[:first]):
                raise options.fail("shape", f"{short(edges)} joins axes at another position than in a chunk of {shape}")


class PackBits:
    """Some bits of each element, one after the other, least significant first: `packbits` of zarr-extensions."""

    kind: Final = "array->bytes"
    cost: Final = "blocking"

    def __init__(self, options: Options, spec: ChunkSpec) -> None:
        dtype = spec.dtype
        if dtype.kind not in "biufc" and not is_ml(dtype):
            raise MetadataError(f"codec {options.codec!r} packs numbers and booleans, not {dtype}")
        # A complex number is packed as two real ones.
        parts = 2 if dtype.kind == "c" else 1
        bits = BITS[dtype.name] if is_ml(dtype) else 8 * dtype.itemsize // parts
        self._bits = 1 if dtype.kind == "b" else bits
        self._first = options.integer("first_bit", 0, self._bits - 1, 0)
        self._stop = 1 + options.integer("last_bit", self._first, self._bits - 1, self._bits - 1)
        self._padding = options.choice("padding_encoding", ("none", "first_byte", "last_byte"), "none")
        self._signed = dtype.kind == "i" or dtype.name in ("int2", "int4")
        self._elements = BytesCodec(Options("bytes", {"endian": "little"}), spec)
        self._nbytes = dtype.itemsize // parts
        self._count = prod(spec.shape) * parts

    def encoded_size(self) -> int:
        packed = -(-self._count * (self._stop - self._first) // 8)
        return packed if self._padding == "none" else packed + 1

    def encode(self, chunk: Array) -> Bytes:
        raw = np.frombuffer(self._elements.encode(chunk), np.uint8).reshape(self._count, self._nbytes)
        bits = np.unpackbits(raw, axis=1, bitorder="little")[:, self._first : self._stop]
        packed = np.packbits(bits.reshape(-1), bitorder="little")
        if self._padding == "none":
            return packed
        padding = np.array([-bits.size % 8], np.uint8)
        return np.concatenate((padding, packed) if self._padding == "first_byte" else (packed, padding))

    def decode(self, data: Bytes, out: Array | None = None) -> Array:
        if len(data) != self.encoded_size():
            raise ValueError(f"{len(data)} bytes, and a chunk has {self.encoded_size()}")
        packed, length = np.frombuffer(data, np.uint8), self._stop - self._first
        if self._padding != "none":
            padding, packed = (packed[0], packed[1:]) if self._padding == "first_byte" else (packed[-1], packed[:-1])
            if padding != -self._count * length % 8:
                raise ValueError(f"claims {padding} bits of padding, and a chunk has {-self._count * length % 8}")
        stored = np.unpackbits(packed, count=self._count * length, bitorder="little").reshape(self._count, length)
        bits = np.zeros((self._count, 8 * self._nbytes), np.uint8)
        bits[:, self._first : self._stop] = stored
        # Sign extension: the bits above the stored ones repeat the highest stored bit.
        if self._signed:
            bits[:, self._stop : self._bits] = stored[:, -1:]
        return self._elements.decode(np.packbits(bits, axis=1, bitorder="little").reshape(-1), out)
