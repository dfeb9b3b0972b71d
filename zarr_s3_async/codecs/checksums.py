"""Checksums beside the data: `crc32c` of the Zarr v3 specification, and those of numcodecs.

CRC-32C comes from google-crc32c, which zarr-python and numcodecs use as well: hardware instructions, 13 GB/s.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from typing import Any, Final, Literal, TypeAlias

import numpy as np

from .base import Array, Bytes, ChunkSpec, Options, numcodecs_module

_Flat: TypeAlias = np.ndarray[Any, np.dtype[np.uint8]]
_Sum: TypeAlias = Callable[[_Flat], int]
_Location: TypeAlias = Literal["start", "end"]

_SIZE: Final = 4
_PLACES: Final = ("start", "end")


class Checksum:
    """Four bytes, least significant first, before or after the data."""

    kind: Final = "bytes->bytes"
    # The sums hold the GIL, but briefly: the other codecs of the chain determine its cost.
    cost: Final = "parallel"

    def __init__(self, algorithm: _Sum, location: _Location) -> None:
        self._sum = algorithm
        self._at_end = location == "end"

    def encoded_size(self, size: int) -> int:
        return size + _SIZE

    def encode(self, data: Bytes) -> Bytes:
        checksum = self._sum(np.frombuffer(data, np.uint8)).to_bytes(_SIZE, "little")
        return b"".join((data, checksum) if self._at_end else (checksum, data))

    def decode(self, data: Bytes, size: int | None, limit: int, out: Array | None = None) -> Bytes:  # noqa: ARG002  nothing to write
        length = len(data) - _SIZE
        if length != size and (size is not None or not 0 <= length <= limit):
            raise ValueError(f"{len(data)} bytes with the checksum, but at most {limit + _SIZE} are possible")
        flat: _Flat = np.frombuffer(data, np.uint8)
        content, checksum = (flat[:length], flat[length:]) if self._at_end else (flat[_SIZE:], flat[:_SIZE])
        stored = int.from_bytes(checksum, "little")
        computed = self._sum(content)
        if computed != stored:
            raise ValueError(f"the checksum of the data is {computed:#010x}, but {stored:#010x} is stored")
        return content


def crc32c(_options: Options, _spec: ChunkSpec) -> Checksum:
    """The v3 codec."""
    return Checksum(_crc32c_sum(), "end")


def numcodecs_crc32c(options: Options, _spec: ChunkSpec) -> Checksum:
    """numcodecs' CRC-32C."""
    return Checksum(_crc32c_sum(), options.choice("location", _PLACES, "end"))


def crc32(options: Options, _spec: ChunkSpec) -> Checksum:
    """numcodecs' CRC-32."""
    return Checksum(zlib.crc32, options.choice("location", _PLACES, "start"))


def adler32(options: Options, _spec: ChunkSpec) -> Checksum:
    """numcodecs' Adler-32."""
    return Checksum(zlib.adler32, options.choice("location", _PLACES, "start"))


def fletcher32(_options: Options, _spec: ChunkSpec) -> Checksum:
    """numcodecs' Fletcher-32, which is that of netCDF and HDF5."""
    encode = numcodecs_module("fletcher32").Fletcher32().encode
    # numcodecs has no function for the sum alone, and cannot take an empty buffer.
    return Checksum(lambda data: int.from_bytes(encode(data)[-_SIZE:], "little") if len(data) else 0, "end")


def jenkins_lookup3(options: Options, _spec: ChunkSpec) -> Checksum:
    """numcodecs' lookup3, which is that of HDF5."""
    lookup3 = numcodecs_module("jenkins").jenkins_lookup3
    initial = options.integer("initval", 0, 2**32 - 1, 0)
    if options.take("prefix", None) is not None:
        raise options.fail("prefix", "must be null: JSON cannot contain the bytes that numcodecs expects")
    return Checksum(lambda data: int(lookup3(data, initial)), "end")


def _crc32c_sum() -> _Sum:
    import google_crc32c

    value: _Sum = google_crc32c.value
    return value
