"""The room of chunked bodies: bytes in as they come, the body out. No IO.

Source: RFC 9112, section 7.1. Extensions and trailers are read over.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from .body import Body
from .http_head import ProtocolError

if TYPE_CHECKING:
    from collections.abc import Callable

_MAX_LINE = 4096
_MAX_TRAILERS = 64 * 1024
_MAX_HEX_DIGITS = 12
_is_trailer = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\r\n\0]*").fullmatch
_HEX = frozenset(b"0123456789abcdefABCDEF")


class ChunkedBody(Body):
    """Collects at most `limit` bytes; done once the last chunk and its trailers are in."""

    __slots__ = ("_left", "_limit", "_line", "_take_line", "_trailers")

    body: bytearray

    def __init__(self, limit: int) -> None:
        super().__init__(bytearray())
        self._limit = limit
        self._left = 0  # bytes that the chunk still has; lines are read between chunks
        self._line = b""
        self._take_line: Callable[[bytes], None] = self._take_size
        self._trailers = 0

    def feed(self, data: memoryview) -> int:
        position = 0
        while position < len(data) and not (self.done or self.overflowed):
            feed = self._feed_chunk if self._left else self._feed_line
            position += feed(data[position:])
        return position

    def _feed_chunk(self, data: memoryview) -> int:
        piece = data[: self._left]
        room = self._limit - len(self.body)
        self.body += piece[:room]
        self.overflowed = len(piece) > room
        self._left -= len(piece)
        return len(piece)

    def _feed_line(self, data: memoryview) -> int:
        piece = bytes(data[:_MAX_LINE])
        end = piece.find(b"\n") + 1
        self._line += piece[:end] if end else piece
        if len(self._line) > _MAX_LINE:
            raise ProtocolError("a line without an end between chunks")
        if end:
            line, self._line = self._line, b""
            if not line.endswith(b"\r\n"):
                raise ProtocolError("a bare line end between chunks")
            self._take_line(line[:-2])
        return end or len(piece)

    def _take_size(self, line: bytes) -> None:
        digits = line.partition(b";")[0].rstrip(b" \t")
        if not digits or len(digits) > _MAX_HEX_DIGITS or not _HEX.issuperset(digits):
            raise ProtocolError(f"not a chunk size: {line[:40]!r}")
        self._left = int(digits, 16)
        self._take_line = self._take_end if self._left else self._take_trailer

    def _take_end(self, line: bytes) -> None:
        if line:
            raise ProtocolError("a chunk longer than it said")
        self._take_line = self._take_size

    def _take_trailer(self, line: bytes) -> None:
        self.done = not line
        if line and not _is_trailer(line):
            raise ProtocolError(f"not a trailer: {line[:40]!r}")
        self._trailers += len(line)
        if self._trailers > _MAX_TRAILERS:
            raise ProtocolError("trailers without an end")
