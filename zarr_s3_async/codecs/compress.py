"""Compressors in C: zstd, lz4 and blosc, by numcodecs; smaller zstd frames by zstandard, which reuses its contexts.

Sizes in headers are untrusted: they are compared with the size of a chunk before a library allocates them.
"""

from __future__ import annotations

import struct
import sys
from collections.abc import Sequence
from typing import Any, Final, Literal, cast

import numpy as np

from .._types import Buffer
from ..errors import UnsupportedFeature
from .base import Array, Bytes, ChunkSpec, Cost, Options, check_interrupt, numcodecs_module

UNKNOWN: Final = -1
"""The frame's header has no content size."""
_NO_FRAME: Final = -2
"""Not a Zstandard frame."""
_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_SKIPPABLE: Final = 0x184D2A5
"""Magic number of skippable frames, which hold no content, without its last four bits."""
_BLOCK_MAX: Final = 128 * 1024
_RLE: Final = 1
_RESERVED: Final = 3
_MIN_FRAME: Final = 8
"""Bytes of the shortest header with a content size, except for the last two, and of a block's header."""
_BYTES_PER_BLOCK: Final = 256
"""Frames with more blocks than one per so many bytes of content, and two, are not decompressed together: the size of
an untrusted chunk does not limit its empty blocks, each of which takes longer here than in the library."""
_HEADER_SIZES: Final = tuple(
    5 + (not flags >> 5 & 1) + (0, 1, 2, 4)[flags & 3] + (flags >> 5 & 1, 2, 4, 8)[flags >> 6] for flags in range(256)
)
"""Bytes of a frame's header by its descriptor, the byte after the magic number."""
_MAX_JOINED: Final = 2**20
"""Maximum bytes of frames that are decompressed together: they are copied to be consecutive in memory."""
_END_OF_UNKNOWN_SIZE: Final = _MAGIC + b"\x00\x00" + b"\x01\x00\x00"
"""A frame with one empty block and no content size in its header."""


class ZstdFrames:
    """Inspects zstd frames and decompresses small ones, with contexts that are kept for the next call.

    Each context is used by one thread at a time.
    """

    __slots__ = ("_content_size", "_error", "_header_size", "_idle", "_make", "_parameters")

    def __init__(self) -> None:
        import zstandard

        self._make = zstandard.ZstdDecompressor
        self._error = zstandard.ZstdError
        self._content_size = zstandard.frame_content_size
        self._header_size = zstandard.frame_header_size
        self._parameters = zstandard.get_frame_parameters
        self._idle: list[Any] = []  # pop and append are atomic: no lock is needed

    def content_size(self, data: Bytes) -> int:
        """Content size in the first frame's header: 0 for a skippable one, UNKNOWN, or _NO_FRAME."""
        try:
            return self._content_size(cast("Buffer", data))
        except self._error:
            return _NO_FRAME

    def single_frame(self, data: Bytes) -> bytes | None:
        """The content of a frame with a content size in its header, which bounds the allocation.

        None where the bytes are not exactly one complete frame; the general path then finds out why.
        """
        try:
            context = self._idle.pop()
        except IndexError:
            context = self._make()
        try:
            content: bytes = context.decompress(data, allow_extra_data=False)
        except self._error:
            return None
        self._idle.append(context)
        return content

    def many_frames(self, frames: Sequence[Bytes], size: int, out: Array) -> bool:
        """Decompress frames of `size` bytes each into `out`, one after the other, by one call that releases the GIL.

        False where they are not exactly one complete frame of that size each, or are damaged. The library skips what
        follows a frame, and would continue a truncated one with the bytes of the next, so the blocks are walked first.
        """
        if sum(map(len, frames)) > _MAX_JOINED or not all(self._is_one_frame(frame, size) for frame in frames):
            return False
        try:
            context = self._idle.pop()
        except IndexError:
            context = self._make()
        memory = out.reshape(-1).view(np.uint8)
        try:
            # With complete frames and memory for all of them, it decompresses each in one step, without a buffer.
            count = context.stream_reader(b"".join(frames), read_across_frames=True).readinto(memory)
        except self._error:
            return False
        self._idle.append(context)
        return bool(count == memory.nbytes)

    def _is_one_frame(self, frame: Bytes, size: int) -> bool:
        """True if the bytes are exactly one frame whose header claims `size` bytes, by the headers of its blocks.

        False also for one of more blocks than encoders write.
        """
        # As `_walk`, without a call of the library for each field of the header: RFC 8878, section 3.1.1.1.
        length = len(frame)
        if length < _MIN_FRAME or self.content_size(frame) != size:
            return False
        flags = int(frame[4])
        has_checksum = flags >> 2 & 1
        at = _HEADER_SIZES[flags]
        for _ in range(2 + size // _BYTES_PER_BLOCK):
            if at + 3 > length:
                return False
            header = int(frame[at]) | int(frame[at + 1]) << 8 | int(frame[at + 2]) << 16
            last, block_type = header & 1, header >> 1 & 3
            if block_type == _RESERVED:
                return False
            at += 3 + (1 if block_type == _RLE else header >> 3)
            if last:
                return at + 4 * has_checksum == length
        return False

    def decode_in_pieces(self, data: Bytes, target: Array) -> bool:
        """Decompress a frame into `target` piece by piece, checking between pieces whether the caller was cancelled.

        False if it is not exactly one complete frame of that size with a window of at most `_MAX_WINDOW`: the general
        path then finds out why. The library accepts truncated frames, so the blocks are walked first.

        Raises:
            ZstdError: The content is damaged.
        """
        size, frame = target.nbytes, memoryview(data)
        try:
            parameters = self._parameters(frame)
        except self._error:
            return False
        if parameters.content_size != size or parameters.window_size > _MAX_WINDOW:
            return False
        _, end, _ = self._walk(frame)
        if end != len(frame):
            return False
        memory = memoryview(target.reshape(-1).view(np.uint8))
        reader = self._make().stream_reader(frame)
        at = 0
        while at < size:
            check_interrupt()
            count = reader.readinto(memory[at : at + _PIECE])
            if not count:
                raise ValueError(f"the frame ends after {at} of {size} bytes")
            at += count
        if reader.read(1):  # which also lets it compare the checksum
            raise ValueError(f"the frame goes on after {size} bytes")
        return True

    def bound(self, data: Bytes, limit: int) -> tuple[int, bool]:
        """Upper bound on the content of all frames in bytes, and whether it is exact.

        No library computes it without decompressing; the headers of the blocks give it (RFC 8878, section 3.1.1.2).

        Raises:
            ValueError: More than `limit`, or not Zstandard frames from beginning to end.
        """
        total, is_exact, at, view = 0, True, 0, memoryview(data)
        while at < len(view):
            size, end, exact = self._walk(view[at:])
            is_exact &= exact
            total += size
            if total > limit:
                raise ValueError(f"claims {total} bytes or more, but at most {limit} are possible")
            at += end
        return total, is_exact

    def _walk(self, frame: memoryview) -> tuple[int, int, bool]:
        """(content size, frame size, whether the content size is exact and not only a bound)."""
        if bytes(frame[:4]) != _MAGIC:
            if len(frame) < 8 or int.from_bytes(frame[:4], "little") >> 4 != _SKIPPABLE:
                raise ValueError("not a Zstandard frame")
            return 0, 8 + int.from_bytes(frame[4:8], "little"), True
        try:
            claimed, at = self._content_size(frame), self._header_size(frame)
            has_checksum = self._parameters(frame).has_checksum
        except self._error as error:
            raise ValueError("the frame is cut off or corrupt") from error
        size_bound, last = 0, False
        while not last:
            check_interrupt()  # blocks may be empty, and so there may be millions
            header = int.from_bytes(frame[at : at + 3], "little")
            last, block_type, size = bool(header & 1), header >> 1 & 3, header >> 3
            if block_type == _RESERVED or at + 3 > len(frame):
                raise ValueError("the frame is cut off or corrupt")
            # A run-length block stores one byte and `size` is its repetition; compressed blocks decode to _BLOCK_MAX at
            # most.
            at += 3 + (1 if block_type == _RLE else size)
            size_bound += size if block_type <= _RLE else _BLOCK_MAX
        at += 4 if has_checksum else 0
        if at > len(frame):
            raise ValueError("the frame is cut off")
        return (size_bound, at, False) if claimed == UNKNOWN else (claimed, at, True)


_INT_MAX: Final = 2**31 - 1
_LZ4_MAX_RATIO: Final = 255
_LZ4_HEADER: Final = 4
_SMALL: Final = 128 * 1024
"""Chunk size up to which decompressing into new memory costs less than creating a library context: numcodecs creates
one for every call, zstandard reuses it."""

_EARLY: Final = 16
"""Number of large chunks that are decompressed by zstandard and copied before numcodecs is imported."""
_EARLY_BYTES: Final = 4 * 2**20
"""Maximum size of such a chunk: during the copy it takes its memory twice."""

_IN_PIECES: Final = 256 * 2**20
"""Bytes from which on a zstd frame is decompressed in pieces, so that a timeout ends it: in one piece it takes 8 % less
CPU time, and 0.2 s for these."""
_PIECE: Final = 4 * 2**20
_MAX_WINDOW: Final = 8 * 2**20
"""Bytes of memory beside the chunk that pieces take; frames of zstd's levels up to 19 need no more."""

_BLOSC_QUICK: Final = ("blosclz", "lz4", "lz4hc")
_BLOSC_SHUFFLES: Final = ("noshuffle", "shuffle", "bitshuffle")
_BLOSC_MAX_OVERHEAD: Final = 16
_BLOSC_MAX_SPLITS: Final = 16
_BLOSC_HEADER: Final = struct.Struct("<BBBBIII")
_BLOSC_COPIED: Final = 0x02
_BLOSC_NOT_SPLIT: Final = 0x10
_BLOSC_SNAPPY: Final = 2
"""Its number in the upper three bits of a header's flags."""


_KEPT_LEVEL: Final = 5
"""Highest level whose contexts are kept: they take up to 4 MiB, those of higher levels 12 to 70."""
_KEPT_BYTES: Final = range(2**15, 2**20 + 1)
"""Chunk sizes for which a kept context costs less CPU time, 0.55 to 0.99: numcodecs creates one for every call. Smaller
contexts are reused by the allocator, and larger chunks take longer themselves (`benchmarks/zstd.py --compress`)."""
_MAX_IDLE: Final = 8
_MAX_KINDS: Final = 4


class ZstdCompressors:
    """Compresses smaller chunks, with contexts that are kept for the next call of any array of this process.

    Each context is used by one thread at a time.
    """

    __slots__ = ("_idle",)

    def __init__(self) -> None:
        self._idle: dict[tuple[int, bool], list[Any]] = {}  # get, pop and append are atomic: no lock is needed

    def compress(self, data: Bytes, level: int, checksum: bool) -> bytes:
        """One frame with the content size in its header."""
        idle = self._idle.get((level, checksum))
        if idle is None:
            if len(self._idle) >= _MAX_KINDS:
                self._idle.clear()
            idle = self._idle.setdefault((level, checksum), [])
        try:
            context = idle.pop()
        except IndexError:
            import zstandard

            context = zstandard.ZstdCompressor(level=level, write_checksum=checksum)
        encoded: bytes = context.compress(data)
        if len(idle) < _MAX_IDLE:
            idle.append(context)
        return encoded


_compressors: Final = ZstdCompressors()


class Zstd:
    """Writes one Zstandard frame; reads any number of frames, with or without a content size."""

    kind: Final = "bytes->bytes"
    cost: Final = "parallel"

    def __init__(self, options: Options, _spec: ChunkSpec) -> None:
        self._frames = ZstdFrames()
        self._loaded: Any = None
        self._early = 0
        self._level = options.to_encode(options.integer, "level", -131072, 22, 0)
        self._checksum = options.to_encode(options.boolean, "checksum", default=False)

    def encoded_size(self, size: int) -> None:  # noqa: ARG002  depends on the values, whatever the size
        return None

    def encode(self, data: Bytes) -> bytes:
        if self._level <= _KEPT_LEVEL and memoryview(data).nbytes in _KEPT_BYTES:
            return _compressors.compress(data, self._level, self._checksum)
        encoded: bytes = self._library().compress(data, self._level, self._checksum)
        return encoded

    def decode(self, data: Bytes, size: int | None, limit: int, out: Array | None = None) -> Bytes:
        if size is None:
            size_bound, is_exact = self._frames.bound(data, limit)
            return cast("Bytes", self._library().decompress(data, np.empty(size_bound, np.uint8) if is_exact else None))
        claimed = self._frames.content_size(data)
        # Refused before the library allocates what an untrusted header claims.
        if claimed > size:
            raise ValueError(f"claims {claimed} bytes, but a chunk has {size}")
        if claimed == size and (size <= _SMALL or self._is_early(size)):
            frame = self._frames.single_frame(data)
            if frame is not None:
                if out is None:
                    return frame
                out.reshape(-1).view(np.uint8)[:] = np.frombuffer(frame, np.uint8)
                return out
        if claimed == size and size >= _IN_PIECES:
            target = np.empty(size, np.uint8) if out is None else out
            if self._frames.decode_in_pieces(data, target):
                return target
        if claimed not in (size, UNKNOWN):
            # numcodecs would fill only a part of the memory, without an error. It compares the sizes only if one of
            # the frames has no content size; the frame appended here has none, and no content.
            data = bytes(data) + _END_OF_UNKNOWN_SIZE
        decoded: Bytes = self._library().decompress(data, np.empty(size, np.uint8) if out is None else out)
        return decoded

    def decode_many(self, chunks: Sequence[Bytes], size: int, out: Array) -> bool:
        """See `DecodesMany`."""
        return self._frames.many_frames(chunks, size, out)

    def _library(self) -> Any:
        if self._loaded is None:
            self._loaded = numcodecs_module("zstd")
        return self._loaded

    def _is_early(self, size: int) -> bool:
        """True for the first large chunks of a process that has not imported numcodecs, which takes 22 ms."""
        if size > _EARLY_BYTES or "numcodecs" in sys.modules:
            return False
        self._early += 1
        return self._early <= _EARLY


class LZ4:
    """An LZ4 block that follows its decoded size, as numcodecs writes it."""

    kind: Final = "bytes->bytes"
    max_input: Final = 0x7E000000
    cost: Final = "quick"

    def __init__(self, options: Options, _spec: ChunkSpec) -> None:
        lz4 = numcodecs_module("lz4")
        self._compress = lz4.compress
        self._decompress = lz4.decompress
        self._acceleration = options.to_encode(options.integer, "acceleration", -_INT_MAX, _INT_MAX, 1)

    def encoded_size(self, size: int) -> None:  # noqa: ARG002  depends on the values, whatever the size
        return None

    def encode(self, data: Bytes) -> bytes:
        encoded: bytes = self._compress(data, self._acceleration)
        return encoded

    def decode(self, data: Bytes, size: int | None, limit: int, out: Array | None = None) -> Bytes:
        claimed = int.from_bytes(data[:_LZ4_HEADER], "little")
        if claimed != size:
            # LZ4 cannot compress better than this, so a larger claim is wrong whatever the chunk's size.
            maximum = min(limit, _LZ4_MAX_RATIO * len(data))
            if size is not None or claimed > maximum:
                raise ValueError(f"claims {claimed} bytes, but at most {maximum} are possible")
        if not _LZ4_HEADER < len(data) <= _INT_MAX:
            raise ValueError(f"{len(data)} bytes are not an lz4 block")
        decoded: Bytes = self._decompress(data, out)
        return decoded


class Blosc:
    """Blosc, version 1."""

    kind: Final = "bytes->bytes"
    max_input: Final = _INT_MAX - _BLOSC_MAX_OVERHEAD

    def __init__(self, options: Options, item: int, shuffle: int | None, cname: Literal["lz4", "zstd"]) -> None:
        blosc = numcodecs_module("blosc")
        self._shuffle = shuffle
        if blosc.use_threads is None:
            # With Blosc's own threads, equal chunks are encoded to different bytes, and all our threads share one
            # global lock. zarr-python disables them as well.
            blosc.use_threads = False
        self._compress = blosc.compress
        self._decompress = blosc.decompress
        # Only where the metadata names snappy too: otherwise the header is damaged, which is another error.
        self._no_snappy = "snappy" not in blosc.list_compressors() and options.is_value("cname", "snappy")
        chosen = options.to_encode(options.choice, "cname", tuple(blosc.list_compressors()), cname)
        self._cname = None if chosen is None else chosen.encode()
        self.cost: Cost = "quick" if chosen in _BLOSC_QUICK else "parallel"
        self._level = options.to_encode(options.integer, "clevel", 0, 9, 5)
        self._blocksize = options.to_encode(options.integer, "blocksize", 0, _INT_MAX, 0)
        self._typesize = options.to_encode(options.integer, "typesize", 1, _INT_MAX, max(1, item))
        options.ignore("nthreads", "numThreads")  # of n5 and jzarr

    def encoded_size(self, size: int) -> None:  # noqa: ARG002  depends on the values, whatever the size
        return None

    def encode(self, data: Bytes) -> bytes:
        encoded: bytes = self._compress(
            data, self._cname, self._level, self._shuffle, self._blocksize, typesize=self._typesize
        )
        return encoded

    def decode(self, data: Bytes, size: int | None, limit: int, out: Array | None = None) -> Bytes:
        _, _, flags, typesize, nbytes, blocksize, cbytes = _BLOSC_HEADER.unpack_from(data)
        if self._no_snappy and flags >> 5 == _BLOSC_SNAPPY and not flags & _BLOSC_COPIED:
            raise UnsupportedFeature("blosc with snappy cannot be decoded: numcodecs is built without it")
        if nbytes != size and (size is not None or nbytes > limit):
            raise ValueError(f"claims {nbytes} bytes, but a chunk has at most {limit}")
        # The library trusts this number and would read beyond the end of a truncated chunk.
        if cbytes != len(data):
            raise ValueError(f"claims to be {cbytes} bytes long, but is {len(data)}")
        if (
            1 < typesize <= _BLOSC_MAX_SPLITS
            and blocksize % typesize
            and not flags & (_BLOSC_COPIED | _BLOSC_NOT_SPLIT)
        ):
            # C-Blosc would leave the last bytes of each block uninitialised, without an error.
            raise ValueError(f"blocks of {blocksize} bytes do not split into {typesize} streams")
        decoded: Bytes = self._decompress(data, out)
        return decoded


def blosc(options: Options, spec: ChunkSpec) -> Blosc:
    """The v3 codec, with zarr-python's defaults."""
    item = spec.dtype.itemsize
    default = "bitshuffle" if item == 1 else "shuffle"
    shuffle = options.to_encode(options.choice, "shuffle", _BLOSC_SHUFFLES, default)
    return Blosc(options, item, None if shuffle is None else _BLOSC_SHUFFLES.index(shuffle), "zstd")


def numcodecs_blosc(options: Options, spec: ChunkSpec) -> Blosc:
    """numcodecs' blosc: shuffles are numbers, and -1 chooses one by the item size."""
    return Blosc(options, spec.dtype.itemsize, options.to_encode(options.integer, "shuffle", -1, 2, 1), "lz4")
