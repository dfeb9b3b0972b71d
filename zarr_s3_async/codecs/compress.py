"""Compressors in C: zstd, lz4 and blosc, by numcodecs; small zstd frames are decompressed by zstandard.

What the headers of hostile data claim is held against what a chunk can be, before a library believes it.
"""

from __future__ import annotations

import struct
from typing import Final, Literal

import numpy as np

from .base import Array, Bytes, ChunkSpec, Cost
from .options import Options
from .zstd_frames import END_OF_UNKNOWN_SIZE, UNKNOWN, Decompressors, bound, content_size

_INT_MAX: Final = 2**31 - 1
_LZ4_MAX_INPUT: Final = 0x7E000000
_LZ4_MAX_RATIO: Final = 255
_LZ4_HEADER: Final = 4
_SMALL: Final = 128 * 1024
"""Bytes up to which it costs less to decompress into new memory than to set a library's context up: numcodecs makes one
for every call, zstandard keeps it."""

BLOSC_COMPRESSORS: Final = ("blosclz", "lz4", "lz4hc", "snappy", "zlib", "zstd")
_BLOSC_QUICK: Final = ("blosclz", "lz4", "lz4hc")
_BLOSC_SHUFFLES: Final = ("noshuffle", "shuffle", "bitshuffle")
_BLOSC_MAX_OVERHEAD: Final = 16
_BLOSC_MAX_SPLITS: Final = 16
_BLOSC_HEADER: Final = struct.Struct("<BBBBIII")
_BLOSC_COPIED: Final = 0x02
_BLOSC_NOT_SPLIT: Final = 0x10


class Zstd:
    """One Zstandard frame; several are read, as are frames that do not say their size."""

    kind: Final = "bytes->bytes"
    cost: Final = "parallel"

    def __init__(self, options: Options, _spec: ChunkSpec) -> None:
        from numcodecs import zstd

        self._compress = zstd.compress
        self._decompress = zstd.decompress
        self._decompressors = Decompressors()
        self._level = options.integer("level", -131072, 22, 0)
        self._checksum = options.boolean("checksum", default=False)

    def encoded_size(self, size: int) -> None:  # noqa: ARG002  depends on the values, whatever the size
        return None

    def encode(self, data: Bytes) -> bytes:
        encoded: bytes = self._compress(data, self._level, self._checksum)
        return encoded

    def decode(self, data: Bytes, size: int | None, limit: int, out: Array | None = None) -> Bytes:
        if size is None:
            return self._decode_unknown(data, limit)
        claimed = content_size(data)
        if claimed > size:
            raise ValueError(f"claims {claimed} bytes, and a chunk has {size}")
        if claimed == size <= _SMALL:
            frame = self._decompressors.single_frame(data)
            if frame is not None:
                return frame if out is None else _copied(frame, out)
        if claimed not in (size, UNKNOWN):
            # numcodecs would fill a part of the memory and not say so. It checks the size only where a frame
            # of unknown size is among the frames; this one adds nothing.
            data = bytes(data) + END_OF_UNKNOWN_SIZE
        decoded: Bytes = self._decompress(data, np.empty(size, np.uint8) if out is None else out)
        return decoded

    def _decode_unknown(self, data: Bytes, limit: int) -> Bytes:
        most, is_exact = bound(data, limit)
        decoded: Bytes = self._decompress(data, np.empty(most, np.uint8) if is_exact else None)
        return decoded


def _copied(data: bytes, out: Array) -> Array:
    out.reshape(-1).view(np.uint8)[:] = np.frombuffer(data, np.uint8)
    return out


class LZ4:
    """An LZ4 block behind its decoded size, as numcodecs writes it."""

    kind: Final = "bytes->bytes"
    cost: Final = "quick"

    def __init__(self, options: Options, _spec: ChunkSpec) -> None:
        from numcodecs import lz4

        self._compress = lz4.compress
        self._decompress = lz4.decompress
        self._acceleration = options.integer("acceleration", -_INT_MAX, _INT_MAX, 1)

    def encoded_size(self, size: int) -> None:  # noqa: ARG002  depends on the values, whatever the size
        return None

    def encode(self, data: Bytes) -> bytes:
        if len(data) > _LZ4_MAX_INPUT:
            raise ValueError(f"lz4 takes at most {_LZ4_MAX_INPUT} bytes, not {len(data)}")
        encoded: bytes = self._compress(data, self._acceleration)
        return encoded

    def decode(self, data: Bytes, size: int | None, limit: int, out: Array | None = None) -> Bytes:
        claimed = int.from_bytes(data[:_LZ4_HEADER], "little")
        if claimed != size:
            most = min(limit, _LZ4_MAX_RATIO * len(data))
            if size is not None or claimed > most:
                raise ValueError(f"claims {claimed} bytes, and at most {most} can be")
        if not _LZ4_HEADER < len(data) <= _INT_MAX:
            raise ValueError(f"{len(data)} bytes are no lz4 block")
        decoded: Bytes = self._decompress(data, out)
        return decoded


class Blosc:
    """Blosc, version 1."""

    kind: Final = "bytes->bytes"

    def __init__(self, options: Options, item: int, shuffle: int, cname: Literal["lz4", "zstd"]) -> None:
        from numcodecs import blosc

        self._shuffle = shuffle
        if blosc.use_threads is None:
            # Blosc's own threads write the same chunk differently each time, and take one lock between all of
            # ours. zarr-python switches them off as well.
            blosc.use_threads = False
        self._compress = blosc.compress
        self._decompress = blosc.decompress
        chosen = options.choice("cname", BLOSC_COMPRESSORS, cname)
        self._cname = chosen.encode()
        self.cost: Cost = "quick" if chosen in _BLOSC_QUICK else "parallel"
        self._level = options.integer("clevel", 0, 9, 5)
        self._blocksize = options.integer("blocksize", 0, _INT_MAX, 0)
        self._typesize = options.integer("typesize", 1, _INT_MAX, max(1, item))

    def encoded_size(self, size: int) -> None:  # noqa: ARG002  depends on the values, whatever the size
        return None

    def encode(self, data: Bytes) -> bytes:
        if len(data) > _INT_MAX - _BLOSC_MAX_OVERHEAD:
            raise ValueError(f"blosc takes at most {_INT_MAX - _BLOSC_MAX_OVERHEAD} bytes, not {len(data)}")
        encoded: bytes = self._compress(
            data, self._cname, self._level, self._shuffle, self._blocksize, typesize=self._typesize
        )
        return encoded

    def decode(self, data: Bytes, size: int | None, limit: int, out: Array | None = None) -> Bytes:
        _, _, flags, typesize, nbytes, blocksize, cbytes = _BLOSC_HEADER.unpack_from(data)
        if nbytes != size and (size is not None or nbytes > limit):
            raise ValueError(f"claims {nbytes} bytes, and a chunk has at most {limit}")
        if cbytes != len(data):
            raise ValueError(f"claims to be {cbytes} bytes long, and is {len(data)}")
        if (
            1 < typesize <= _BLOSC_MAX_SPLITS
            and blocksize % typesize
            and not flags & (_BLOSC_COPIED | _BLOSC_NOT_SPLIT)
        ):
            # C-Blosc would leave the last bytes of each block as they were in memory, and not say so.
            raise ValueError(f"blocks of {blocksize} bytes do not split into {typesize} streams")
        decoded: Bytes = self._decompress(data, out)
        return decoded


def blosc(options: Options, spec: ChunkSpec) -> Blosc:
    """As the v3 specification has it, with zarr-python's defaults."""
    item = spec.dtype.itemsize
    shuffle = options.choice("shuffle", _BLOSC_SHUFFLES, "bitshuffle" if item == 1 else "shuffle")
    return Blosc(options, item, _BLOSC_SHUFFLES.index(shuffle), "zstd")


def numcodecs_blosc(options: Options, spec: ChunkSpec) -> Blosc:
    """As numcodecs has it: shuffles by number, of which -1 is the one that suits the size of an item."""
    return Blosc(options, spec.dtype.itemsize, options.integer("shuffle", -1, 2, 1), "lz4")
