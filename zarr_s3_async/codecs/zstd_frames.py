"""Zstandard frames: what one says of its size, told without decompressing (RFC 8878, section 3.1), and small ones."""

from __future__ import annotations

from typing import Any, Final

from .base import Bytes

UNKNOWN: Final = -1
"""The frame does not say how long its content is."""
NO_FRAME: Final = -2
"""Not a frame that holds content: one to skip, or nothing of Zstandard's at all."""

_MAGIC: Final = b"\x28\xb5\x2f\xfd"
_SKIPPABLE: Final = 0x184D2A5
"""All but the last four bits of the magic numbers of frames that hold no content."""
_BLOCK_MAX: Final = 128 * 1024
_RLE: Final = 1
_RESERVED: Final = 3

END_OF_UNKNOWN_SIZE: Final = _MAGIC + b"\x00\x00" + b"\x01\x00\x00"
"""A frame with one empty block that does not say how long its content is."""


def _size_field(descriptor: int) -> tuple[int, int, int]:
    """(start, stop, what to add) of the content size in a frame whose header descriptor is this byte."""
    flag, single_segment = descriptor >> 6, descriptor >> 5 & 1
    start = 5 + (not single_segment) + (0, 1, 2, 4)[descriptor & 3]
    length = (single_segment, 2, 4, 8)[flag]
    return start, start + length, 256 if flag == 1 else 0


_SIZE_FIELDS: Final = tuple(map(_size_field, range(256)))


def content_size(data: Bytes) -> int:
    """Bytes that the first frame says it holds, or UNKNOWN, or NO_FRAME."""
    if bytes(data[:4]) != _MAGIC or len(data) < 6:
        return NO_FRAME
    start, stop, more = _SIZE_FIELDS[data[4]]
    return UNKNOWN if start == stop else int.from_bytes(data[start:stop], "little") + more


def bound(data: Bytes, limit: int) -> tuple[int, bool]:
    """How many bytes the frames hold at most, and whether that is exactly as many as they hold.

    Raises:
        ValueError: More than `limit`, or not Zstandard frames from beginning to end.
    """
    total, is_exact, at, view = 0, True, 0, memoryview(data)
    while at < len(view):
        size, end = _walk(view[at:])
        if size < 0:
            size, is_exact = -size, False
        total += size
        if total > limit:
            raise ValueError(f"claims {total} bytes or more, and at most {limit} can be")
        at += end
    return total, is_exact


def _walk(frame: memoryview) -> tuple[int, int]:
    """(content size, frame size); the content size is negative where it is only a bound."""
    claimed = content_size(frame)
    if claimed == NO_FRAME:
        return 0, _skipped(frame)
    descriptor = frame[4]
    at, most = _SIZE_FIELDS[descriptor][1], 0
    last = False
    while not last:
        header = int.from_bytes(frame[at : at + 3], "little")
        last, block_type, size = bool(header & 1), header >> 1 & 3, header >> 3
        if block_type == _RESERVED or at + 3 > len(frame):
            raise ValueError("the frame is cut off or corrupt")
        at += 3 + (1 if block_type == _RLE else size)
        most += size if block_type <= _RLE else _BLOCK_MAX
    at += 4 if descriptor & 4 else 0
    if at > len(frame):
        raise ValueError("the frame is cut off")
    return (-most if claimed == UNKNOWN else claimed), at


def _skipped(frame: memoryview) -> int:
    if len(frame) < 8 or int.from_bytes(frame[:4], "little") >> 4 != _SKIPPABLE:
        raise ValueError("not a Zstandard frame")
    return 8 + int.from_bytes(frame[4:8], "little")


class Decompressors:
    """Contexts of zstandard, each used by one thread at a time and kept for the next."""

    __slots__ = ("_error", "_idle", "_make")

    def __init__(self) -> None:
        from zstandard import ZstdDecompressor, ZstdError

        self._make = ZstdDecompressor
        self._error = ZstdError
        self._idle: list[Any] = []  # pop and append are atomic: no lock is needed

    def single_frame(self, data: Bytes) -> bytes | None:
        """The content of a frame that says its size, which bounds what is allocated.

        None where the bytes are not just one whole frame: who is asked next finds out what they are.
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
