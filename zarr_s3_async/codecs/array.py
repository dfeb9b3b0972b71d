"""Elements as they stand in memory: the `bytes` and `transpose` codecs of the Zarr v3 specification."""

from __future__ import annotations

from math import prod
from typing import Any, Final, Literal

import numpy as np

from .._ml_dtypes import BITS, is_ml
from ..errors import MetadataError
from .base import Array, Bytes, ChunkSpec, Cost, Options

_ORDERS: Final[dict[str, Literal["<", ">"]]] = {"little": "<", "big": ">"}

_OWN_ORDER: Final = frozenset("SUVMmb")
"""Kinds whose own byte order stands where `endian` is not given: v2 stores them as the dtype has it."""


def stored_dtype(dtype: np.dtype[Any], endian: Literal["little", "big"] | None) -> np.dtype[Any]:
    """The dtype whose memory is what the `bytes` codec stores."""
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
        self.as_is = self._stored == dtype and self._mask is None
        """True where the stored bytes are the elements as they stand in memory."""
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
        """Swap bytes. Extension types travel as unsigned integers, whose swapping NumPy understands."""
        if is_ml(now):
            return chunk.view(then.newbyteorder("=")).astype(then)
        if is_ml(then):
            return chunk.astype(now.newbyteorder("=")).view(then)
        return chunk.astype(then)

    def _masked(self, data: Bytes, mask: np.uint8, out: Array | None) -> Array:
        """Clear the upper bits: ml_dtypes takes them for part of the number."""
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
        self._order = order
        self._inverse = tuple(sorted(range(len(order)), key=order.__getitem__))
        self.identity = self._order == self._inverse == tuple(range(len(order)))

    def encoded(self, spec: ChunkSpec) -> ChunkSpec:
        return ChunkSpec(tuple(spec.shape[axis] for axis in self._order), spec.dtype, spec.fill_value)

    def encode(self, chunk: Array) -> Array:
        return chunk.transpose(self._order)

    def decode(self, chunk: Array) -> Array:
        return chunk.transpose(self._inverse)
