"""Codecs of the standard library: gzip, zlib, bz2, lzma and base64.

Data is decompressed piece by piece, into the caller's memory where it is given, and decompression stops at the first
byte above the limit. Pieces are small so that joining them does not hold the GIL for milliseconds.
"""

from __future__ import annotations

import struct
import zlib
from base64 import b64decode, standard_b64encode
from collections.abc import Callable
from functools import partial
from importlib import import_module
from typing import Any, Final, Protocol

import numpy as np

from ..errors import UnsupportedFeature
from .base import Array, Bytes, ChunkSpec, Options, check_interrupt

_WINDOW: Final = 256 * 1024
"""Compressed bytes passed to a decompressor at once: it copies the input that it does not use."""
_PIECE: Final = 1024 * 1024
"""Decompressed bytes taken from a decompressor at once."""
_SMALL_WINDOW: Final = 4 * 1024
"""The same for all members but the first: there may be many small ones."""
_LZMA_MEMORY: Final = 256 * 1024 * 1024
"""Maximum memory of an lzma decoder, whose dictionary size is in the data; the strongest preset needs 65 MiB."""
_GZIP_EXTRA_FLAGS: Final = {1: 4, 9: 2}
_GZIP_UNKNOWN_SYSTEM: Final = 255


class _Decompressor(Protocol):
    """One member of a stream, as `zlib`, `bz2` and `lzma` have it."""

    @property
    def eof(self) -> bool: ...

    @property
    def unused_data(self) -> bytes: ...

    def decompress(self, data: Any, max_length: int, /) -> bytes: ...


class _Target:
    """Collects pieces: in memory of the exact size, or in a list where the size is unknown."""

    def __init__(self, size: int | None, limit: int, out: Array | None) -> None:
        self.left = limit
        self._out = out
        self._parts: list[bytes] = []
        self._memory: np.ndarray[Any, np.dtype[np.uint8]] | None = None
        if size is not None:
            self._memory = np.empty(size, np.uint8) if out is None else out.reshape(-1).view(np.uint8)
        self._at = 0

    def add(self, piece: bytes) -> None:
        self.left -= len(piece)
        if self.left < 0:
            raise ValueError("decodes to more bytes than a chunk has")
        if self._memory is None:
            self._parts.append(piece)
        elif piece:
            self._memory[self._at : self._at + len(piece)] = np.frombuffer(piece, np.uint8)
            self._at += len(piece)

    def finished(self) -> Bytes:
        if self._memory is None:
            return b"".join(self._parts)
        if self._at != len(self._memory):
            raise ValueError(f"decodes to {self._at} bytes, but a chunk has {len(self._memory)}")
        # `out` itself, not a view: the caller checks by identity whether it was used.
        return self._memory if self._out is None else self._out


class _Stream:
    """Common part of the four compressors. A subclass sets its decompressor, and whether several members may follow."""

    kind: Final = "bytes->bytes"
    cost: Final = "parallel"
    members = True
    _decompressor: Callable[[], _Decompressor]

    def encoded_size(self, size: int) -> None:  # noqa: ARG002  depends on the values, whatever the size
        return None

    def decode(self, data: Bytes, size: int | None, limit: int, out: Array | None = None) -> Bytes:
        # Small chunks in one call. `size + 1` bytes are requested, so that a longer stream is noticed below.
        if size is not None and size < _PIECE and len(data) < _WINDOW:
            decompressor = self._decompressor()
            decoded = decompressor.decompress(data, size + 1)
            # Anything else takes the general path, which finds out what is wrong.
            if decompressor.eof and len(decoded) == size and not decompressor.unused_data:
                return decoded
        view, target = memoryview(data), _Target(size, limit, out)
        at, window = 0, _WINDOW
        while True:
            at = self._decode_member(view, at, window, target)
            if at == len(view):
                return target.finished()
            if not self.members:
                raise ValueError(f"{len(view) - at} bytes follow the end of the stream")
            window = _SMALL_WINDOW

    def _decode_member(self, data: memoryview, at: int, window: int, target: _Target) -> int:
        """Decode the member that starts at `at`, and return where it ends."""
        decompressor = self._decompressor()
        while not decompressor.eof:
            pending = _pending(decompressor)
            ends = pending is None and at == len(data)
            if pending is None:
                pending = data[at : at + window]
                at += len(pending)
            piece = decompressor.decompress(pending, min(_PIECE, target.left + 1))
            if ends and not piece and not decompressor.eof:
                raise ValueError("the stream is cut off")
            target.add(piece)
            check_interrupt()  # a few bytes may decode to a gigabyte, which takes seconds
        return at - len(decompressor.unused_data)


def _pending(decompressor: Any) -> Bytes | None:
    """Input that the decompressor must receive before it takes more; None where it needs new input."""
    if hasattr(decompressor, "unconsumed_tail"):
        tail: bytes = decompressor.unconsumed_tail
        return tail or None
    return None if decompressor.needs_input else b""


class Zlib(_Stream):
    """One zlib stream."""

    members = False

    def __init__(self, options: Options, _spec: ChunkSpec) -> None:
        self._level = options.to_encode(options.integer, "level", -1, 9, 1)
        options.ignore("useZlib")  # of n5
        self._decompressor = partial(zlib.decompressobj, zlib.MAX_WBITS)

    def encode(self, data: Bytes) -> bytes:
        return zlib.compress(data, self._level)


class Gzip(_Stream):
    """Writes a gzip file of one member; reads any number of members.

    The time in the header is 0, so that equal chunks are encoded to equal bytes.
    """

    def __init__(self, options: Options, default_level: int, least_level: int) -> None:
        self._level = options.to_encode(options.integer, "level", least_level, 9, default_level)
        options.ignore("useZlib")  # of n5
        flags = _GZIP_EXTRA_FLAGS.get(self._level, 0)
        self._header = struct.pack("<BBBBIBB", 0x1F, 0x8B, zlib.DEFLATED, 0, 0, flags, _GZIP_UNKNOWN_SYSTEM)
        self._decompressor = partial(zlib.decompressobj, 16 + zlib.MAX_WBITS)

    def encode(self, data: Bytes) -> bytes:
        # Not `gzip.compress`: its header differs between versions of Python.
        deflate = zlib.compressobj(self._level, zlib.DEFLATED, -zlib.MAX_WBITS)
        trailer = struct.pack("<II", zlib.crc32(data), len(data) & 0xFFFFFFFF)
        return b"".join((self._header, deflate.compress(data), deflate.flush(), trailer))


def gzip(options: Options, _spec: ChunkSpec) -> Gzip:
    """The v3 codec."""
    return Gzip(options, 5, 0)


def numcodecs_gzip(options: Options, _spec: ChunkSpec) -> Gzip:
    """numcodecs' gzip: with its own default level, and with level -1 (zlib's default), which Java writers use."""
    return Gzip(options, 1, -1)


class BZ2(_Stream):
    """bzip2."""

    def __init__(self, options: Options, _spec: ChunkSpec) -> None:
        bz2 = _module(options, "bz2")
        self._level = options.to_encode(options.integer, "level", 1, 9, 1)
        self._compress = bz2.compress
        self._decompressor: Callable[[], _Decompressor] = bz2.BZ2Decompressor

    def encode(self, data: Bytes) -> bytes:
        encoded: bytes = self._compress(data, self._level)
        return encoded


class LZMA(_Stream):
    """xz, lzma and raw streams, with the options of Python's `lzma` module."""

    def __init__(self, options: Options, _spec: ChunkSpec) -> None:
        lzma = _module(options, "lzma")
        presets = (*range(10), *(level | lzma.PRESET_EXTREME for level in range(10)))
        self._format = options.integer("format", lzma.FORMAT_XZ, lzma.FORMAT_RAW, lzma.FORMAT_XZ)
        self._check = options.to_encode(options.integer, "check", -1, lzma.CHECK_ID_MAX, -1)
        self._preset: int | None = options.to_encode(options.choice, "preset", presets, None)
        options.ignore("delta")  # written by numcodecs' first releases; a stream contains its own filters
        raw = self._format == lzma.FORMAT_RAW
        # Only a raw stream does not contain its filters, so only there decoding needs the option.
        self._filters = _read_filters(options) if raw else options.to_encode(_read_filters, options)
        if self._check and self._check > lzma.CHECK_NONE and self._format != lzma.FORMAT_XZ:
            options.cannot_encode(options.fail("check", "can be set for the format xz only"))
        if raw and self._filters is None:
            raise options.fail("filters", "must be given for a raw stream")
        if self._filters is not None and self._preset is not None:
            options.cannot_encode(options.fail("filters", "cannot be combined with 'preset'"))
        # A raw stream has no header: its dictionary size is in the filters, and was checked with them.
        given = (self._format, None, self._filters) if raw else (self._format, _LZMA_MEMORY)
        self._decompressor: Callable[[], _Decompressor] = partial(lzma.LZMADecompressor, *given)
        self._compress = lzma.compress
        try:
            self._decompressor()
        except Exception as error:
            raise options.fail("filters", f"are refused by lzma: {error}") from error

    def encode(self, data: Bytes) -> bytes:
        encoded: bytes = self._compress(
            data, format=self._format, check=self._check, preset=self._preset, filters=self._filters
        )
        return encoded


def _read_filters(options: Options) -> list[dict[str, int]] | None:
    filters = options.take("filters", None)
    if filters is None:
        return None
    if not isinstance(filters, list | tuple) or not all(isinstance(entry, dict) for entry in filters):
        raise options.fail("filters", "must be a list of objects")
    if any(type(value) is not int for entry in filters for value in entry.values()):
        raise options.fail("filters", "must hold integers only")
    if any(entry.get("dict_size", 0) > _LZMA_MEMORY for entry in filters):
        raise options.fail("filters", f"may have a 'dict_size' of {_LZMA_MEMORY} at most")
    return list(filters)


def _module(options: Options, name: str) -> Any:
    """A module of the standard library that a Python may have been built without."""
    try:
        return import_module(name)
    except ImportError as error:
        raise UnsupportedFeature(f"codec {options.codec!r}: this Python was built without {name}") from error


class Base64:
    """The standard alphabet, with padding and without line breaks."""

    kind: Final = "bytes->bytes"
    cost: Final = "blocking"

    def __init__(self, _options: Options, _spec: ChunkSpec) -> None:
        pass

    def encoded_size(self, size: int) -> int:
        return -(-size // 3) * 4

    def encode(self, data: Bytes) -> bytes:
        return standard_b64encode(data)

    def decode(self, data: Bytes, size: int | None, limit: int, out: Array | None = None) -> Bytes:  # noqa: ARG002  nothing to write into
        if len(data) > self.encoded_size(limit):
            raise ValueError(f"{len(data)} characters, but at most {self.encoded_size(limit)} are possible")
        decoded = b64decode(data, validate=True)
        if size is not None and len(decoded) != size:
            raise ValueError(f"{len(decoded)} bytes, but a chunk has {size}")
        return decoded
