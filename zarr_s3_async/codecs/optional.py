"""Codecs that need an optional package: pcodec and zfpy, as numcodecs writes them."""

from __future__ import annotations

from importlib import import_module
from math import prod
from typing import Final

import numpy as np

from ..errors import MetadataError, UnsupportedFeature
from .base import Array, Bytes, ChunkSpec, Options, numcodecs_module

_PCODEC_TYPES: Final = ("u2", "u4", "u8", "i2", "i4", "i8", "f2", "f4", "f8")
_PCODEC_DELTAS: Final = ("auto", "none", "no_op", "try_consecutive", "try_lookback")
_ZFP_TYPES: Final = ("i4", "i8", "f4", "f8")
_ZFP_BLOCK: Final = 4096
"""Maximum size in bytes of a zfp block of 4**d values: the stream's header gives the maximum number of bits in 15
bits."""
_ZFP_HEADER: Final = 32
_ZFP_MODES: Final = {2: "rate", 3: "precision", 4: "tolerance"}


def _missing(options: Options, package: str) -> UnsupportedFeature:
    return UnsupportedFeature(f"codec {options.codec!r} needs the package {package}: pip install {package}")


class PCodec:
    """Sequences of numbers, by pcodec."""

    kind: Final = "array->bytes"
    cost: Final = "parallel"

    def __init__(self, options: Options, spec: ChunkSpec) -> None:
        if spec.dtype.str[1:] not in _PCODEC_TYPES and spec.dtype.kind not in "mM":
            raise MetadataError(f"codec {options.codec!r} takes numbers of 16 to 64 bits, not {spec.dtype}")
        try:
            encoder = numcodecs_module("pcodec").PCodec
            standalone = import_module("pcodec").standalone
        except ImportError as error:
            raise _missing(options, "pcodec") from error
        self._shape, self._dtype = spec.shape, spec.dtype
        native = spec.dtype.newbyteorder("=")
        # Datetimes and timedeltas are stored as their 64-bit integers.
        self._stored = np.dtype(np.int64) if native.kind in "mM" else native
        self._decompress_into = standalone.simple_decompress_into
        self._encoder = encoder(
            level=options.to_encode(options.integer, "level", 0, 12, 8),
            mode_spec=options.to_encode(options.choice, "mode_spec", ("auto", "classic"), "auto"),
            delta_spec=options.to_encode(options.choice, "delta_spec", _PCODEC_DELTAS, "auto"),
            paging_spec=options.to_encode(options.choice, "paging_spec", ("equal_pages_up_to",), "equal_pages_up_to"),
            delta_encoding_order=options.to_encode(options.integer, "delta_encoding_order", 0, 7, None),
            equal_pages_up_to=options.to_encode(options.integer, "equal_pages_up_to", 1, 2**24, 2**18),
        )

    def encoded_size(self) -> None:
        return None

    def encode(self, chunk: Array) -> Bytes:
        native = np.ascontiguousarray(chunk.astype(self._dtype.newbyteorder("="), copy=False))
        encoded: bytes = self._encoder.encode(native.view(self._stored))
        return encoded

    def decode(self, data: Bytes, out: Array | None = None) -> Array:
        native = self._dtype.newbyteorder("=")
        chunk = np.empty(self._shape, native) if out is None or out.dtype != native else out
        self._decompress(bytes(data), chunk.reshape(-1).view(self._stored))
        return chunk.astype(self._dtype, copy=False)

    def _decompress(self, data: bytes, numbers: Array) -> None:
        try:
            progress = self._decompress_into(data, numbers)
        except BaseException as error:
            # A panic of the Rust library derives from BaseException.
            if type(error).__name__ == "PanicException":
                raise ValueError(f"pcodec panicked: {error}") from error
            raise
        if progress.n_processed != numbers.size or not progress.finished:
            raise ValueError(f"{progress.n_processed} numbers or more, but a chunk has {numbers.size}")


class ZFPY:
    """Blocks of numbers in one to four dimensions, by zfp."""

    kind: Final = "array->bytes"
    cost: Final = "blocking"

    def __init__(self, options: Options, spec: ChunkSpec) -> None:
        if spec.dtype.str[1:] not in _ZFP_TYPES or not 1 <= len(spec.shape) <= 4:
            raise MetadataError(
                f"codec {options.codec!r} takes numbers of 32 or 64 bits in one to four dimensions, "
                f"not {spec.dtype} in {len(spec.shape)}"
            )
        try:
            self._zfp = import_module("zfpy")
        except ImportError as error:
            raise _missing(options, "zfpy") from error
        self._shape, self._dtype = spec.shape, spec.dtype
        self._native = spec.dtype.newbyteorder("=")
        # Decoding takes mode and setting from the header before the data; these options are for encoding.
        mode = _ZFP_MODES.get(options.to_encode(options.integer, "mode", 2, 4, 4), "tolerance")
        values = {key: options.take(key, -1) for key in _ZFP_MODES.values()}
        options.ignore("compression_kwargs")
        if isinstance(values[mode], bool) or not isinstance(values[mode], int | float):
            options.cannot_encode(options.fail(mode, "must be a number"))
        self._setting = {mode: values[mode]}
        # zfp does not check for the end of its input, so the input is padded to the most that zfp can read.
        blocks = prod(-(-length // 4) for length in spec.shape)
        self._padding = bytes(_ZFP_HEADER + blocks * _ZFP_BLOCK)

    def encoded_size(self) -> None:
        return None

    def encode(self, chunk: Array) -> Bytes:
        native = np.ascontiguousarray(chunk.astype(self._native, copy=False))
        encoded: bytes = self._zfp.compress_numpy(native, write_header=True, **self._setting)
        return encoded

    def decode(self, data: Bytes, out: Array | None = None) -> Array:  # noqa: ARG002  zfpy allocates for itself
        padded = bytes(data) + self._padding
        # zfpy allocates what the header claims, so it is checked first.
        header = self._zfp.header(padded)
        lengths = tuple(header[key] for key in ("nx", "ny", "nz", "nw"))
        expected = (*reversed(self._shape), 0, 0, 0)[:4]
        if lengths != expected or np.dtype(header["type"]) != self._native:
            raise ValueError(f"claims {lengths} elements of {header['type']}, but a chunk has {expected}")
        numbers: Array = self._zfp.decompress_numpy(padded)
        return numbers.reshape(self._shape).astype(self._dtype, copy=False)
