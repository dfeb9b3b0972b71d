"""What a codec is: synchronous, pure, built once per array. The engine alone decides where it runs.

Three kinds, as in the Zarr v3 core specification, section "Codecs". A codec class is called once per array
with the codec's configuration and the `ChunkSpec` of what it will be given; `registry.register_codec` takes
such a class. Its methods are called from many threads at once, so a codec keeps no state between calls.
Whatever `encode` or `decode` raises, the pipeline turns into an error of this library that names the codec.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol, TypeAlias

import numpy as np

from .._types import Buffer, Shape

Array: TypeAlias = np.ndarray[Any, np.dtype[Any]]

Bytes: TypeAlias = Buffer | np.ndarray[Any, np.dtype[np.uint8]]
"""Flat bytes between two codecs: `len()` counts bytes, a slice is one of bytes."""

Cost: TypeAlias = Literal["view", "quick", "parallel", "blocking"]
"""What a codec costs a thread: nothing but a view; time without the GIL, at several GB/s when it decodes; more of it;
time with the GIL held."""

Kind: TypeAlias = Literal["array->array", "array->bytes", "bytes->bytes"]

COSTS: tuple[Cost, ...] = ("view", "quick", "parallel", "blocking")
KINDS: tuple[Kind, ...] = ("array->array", "array->bytes", "bytes->bytes")


@dataclass(frozen=True, slots=True)
class ChunkSpec:
    """What a codec is told of the chunk that it handles."""

    shape: Shape
    dtype: np.dtype[Any]
    fill_value: Any


class ArrayArrayCodec(Protocol):
    """Reorders or recomputes elements. Built with the spec of the array that `encode` is given."""

    @property
    def kind(self) -> Literal["array->array"]: ...

    @property
    def cost(self) -> Cost: ...

    def encoded(self, spec: ChunkSpec) -> ChunkSpec:
        """What comes out of `encode` for a chunk like this, the fill value included."""
        ...

    def encode(self, chunk: Array) -> Array: ...

    def decode(self, chunk: Array) -> Array: ...


class ArrayBytesCodec(Protocol):
    """Turns elements into bytes. Built with the spec of the array that `encode` is given."""

    @property
    def kind(self) -> Literal["array->bytes"]: ...

    @property
    def cost(self) -> Cost: ...

    def encoded_size(self) -> int | None:
        """Bytes that `encode` gives, or None where that depends on the values."""
        ...

    def encode(self, chunk: Array) -> Bytes:
        """The chunk's bytes; they may be a view of its memory."""
        ...

    def decode(self, data: Bytes, out: Array | None = None) -> Array:
        """The chunk, exactly as the spec says; it may be a read-only view of `data`.

        Args:
            data: Encoded bytes. A wrong number of them is a ValueError.
            out: Writable C-contiguous array of the spec's shape and dtype. A codec that has to write its
                result somewhere writes it there and returns this very array; one that can gives a view.
        """
        ...


class BytesBytesCodec(Protocol):
    """Compresses or checksums bytes.

    Built with the spec of the array whose elements the bytes are, or with one of bytes where they are not.
    """

    @property
    def kind(self) -> Literal["bytes->bytes"]: ...

    @property
    def cost(self) -> Cost: ...

    def encoded_size(self, size: int) -> int | None:
        """Bytes that `encode` gives for `size` bytes, or None where that depends on their values."""
        ...

    def encode(self, data: Bytes) -> Bytes: ...

    def decode(self, data: Bytes, size: int | None, limit: int, out: Array | None = None) -> Bytes:
        """The decoded bytes. Decoding stops with a ValueError at the first byte beyond `limit`.

        Args:
            data: Encoded bytes.
            size: Exact decoded size in bytes, or None where only the limit is known.
            limit: At most this many bytes come out; equal to `size` where that is known. Nothing that the
                data claims may make the codec allocate more.
            out: Writable contiguous array of `size` bytes in all, of any shape and dtype. A codec that can
                decode into it does so and returns this very array; the others ignore it.
        """
        ...


Codec: TypeAlias = ArrayArrayCodec | ArrayBytesCodec | BytesBytesCodec
