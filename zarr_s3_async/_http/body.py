"""Response bodies: where their bytes go, and when they are complete. No IO.

A body of known length is received into its final memory: contiguous (`ExactBody`), or strided (`StridedBody`), where
its bytes are copied into place while they are still in the CPU cache. Receiving a whole chunk first and copying it
afterwards takes twice its memory, and reads it after it has left the CPU cache.

Source: RFC 9112, sections 6 and 7.1.
"""

from __future__ import annotations

import re
from collections.abc import Callable

from .._types import Buffer
from .errors import ProtocolError
from .partial import copy_strided

MAX_SMALL_BODY = 64 * 1024
"""Maximum number of bytes that are read of an error document or a short confirmation."""
MAX_UNREQUESTED = 2**20
"""Maximum bytes of a whole object received instead of a range, if the response does not announce its length."""
MAX_OBJECT = 5 * 2**30
"""Maximum bytes of an object whose length neither the caller nor the response limits: what one PUT of S3 stores."""
_TAIL = 32 * 1024
"""The last bytes of a long body are not received in place: only memory beyond the body's end can show that the
server sends more than it announced."""
_DIRECT = 2 * _TAIL


class Body:
    """A response body while it is received.

    Attributes:
        body: The bytes received so far.
        done: True once all of it has been received.
        overflowed: True if it is longer than the limit; the rest is not read.
        scratch: Memory to receive into before `feed`, where the connection's own scratch buffer is too small.
    """

    __slots__ = ("body", "done", "overflowed")

    body: Buffer
    scratch: memoryview | None = None

    def __init__(self, body: Buffer) -> None:
        self.body = body
        self.done: bool = False
        self.overflowed: bool = False

    def feed(self, data: memoryview) -> int:
        """Consume the bytes that belong to the body and return their number; the others follow the body."""
        raise NotImplementedError

    def direct(self) -> memoryview | None:
        """Memory to receive the next bytes into, or None if they must go through `feed`."""
        return None

    def advance(self, count: int) -> None:
        """Count bytes that were received into `direct()`."""
        raise NotImplementedError

    def ends_with_stream(self) -> bool:
        """True where the end of the connection is the end of the body."""
        return False

    def unfinished(self) -> tuple[memoryview, int] | None:
        """Memory of the whole body and the number of bytes received so far, if the rest could be requested."""
        return None


class ExactBody(Body):
    """A body of known length, in memory of that length."""

    __slots__ = ("_left",)

    body: memoryview

    def __init__(self, memory: memoryview) -> None:
        super().__init__(memory)
        self.done = not memory
        self._left = memory

    def feed(self, data: memoryview) -> int:
        left = self._left
        count = min(len(left), len(data))
        left[:count] = data[:count]
        self.advance(count)
        return count

    def direct(self) -> memoryview | None:
        left = self._left
        return left[: len(left) - _TAIL] if len(left) > _DIRECT else None

    def advance(self, count: int) -> None:
        self._left = self._left[count:]
        self.done = not self._left

    def unfinished(self) -> tuple[memoryview, int] | None:
        return self.body, len(self.body) - len(self._left)


class SlicedBody(Body):
    """A slice of a body of known length; the other bytes are dropped as they arrive.

    If many bytes follow the slice, they are not read, and the connection is not reused.
    """

    __slots__ = ("_at", "_length", "_start", "_stop")

    body: memoryview

    def __init__(self, memory: memoryview, start: int, length: int) -> None:
        """
        Args:
            memory: Receives the slice.
            start: Offset of the slice in the body, in bytes.
            length: Bytes of the whole body.
        """
        super().__init__(memory)
        self._at = 0
        self._start, self._stop = start, start + len(memory)
        self._length = length
        self.done = length == 0

    def feed(self, data: memoryview) -> int:
        count = min(len(data), self._length - self._at)
        # The overlap of the received bytes with the slice, both as offsets in the body.
        first, last = max(self._at, self._start), min(self._at + count, self._stop)
        if first < last:
            self.body[first - self._start : last - self._start] = data[first - self._at : last - self._at]
        self._at += count
        self.done = self._at == self._length
        # Reading up to 64 KiB more is cheaper than a new connection.
        self.overflowed = not self.done and self._at >= self._stop and self._length - self._stop > MAX_SMALL_BODY
        return count


class SmallBody(Body):
    """The first 64 KiB of an error document or a short confirmation, up to its length or the end of the stream."""

    __slots__ = ("_length",)

    body: bytearray

    def __init__(self, length: int | None) -> None:
        super().__init__(bytearray())
        self.done = length == 0
        self._length = length

    def feed(self, data: memoryview) -> int:
        wanted = len(data) if self._length is None else self._length - len(self.body)
        count = min(wanted, len(data), MAX_SMALL_BODY - len(self.body))
        self.body += data[:count]
        self.done = len(self.body) == self._length
        # The beginning is enough for an error; the connection is closed rather than reading the rest.
        self.overflowed = len(self.body) == MAX_SMALL_BODY and not self.done
        return count

    def ends_with_stream(self) -> bool:
        return self._length is None


_MAX_LINE = 4096
_MAX_TRAILERS = 64 * 1024
_MAX_HEX_DIGITS = 12
_is_trailer = re.compile(rb"[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\r\n\0]*").fullmatch
_HEX = frozenset(b"0123456789abcdefABCDEF")


class ChunkedBody(Body):
    """A body in chunked transfer coding, of at most `limit` bytes; done after the last chunk and its trailers."""

    __slots__ = ("_left", "_limit", "_line", "_take_line", "_too_long", "_trailers")

    body: bytearray

    def __init__(self, limit: int, too_long: Exception | None = None) -> None:
        """
        Args:
            limit: Maximum number of bytes that are kept.
            too_long: Raised if there are more; None: the body is truncated there.
        """
        super().__init__(bytearray())
        self._limit = limit
        self._too_long = too_long
        self._left = 0  # bytes that remain of the current chunk; 0 between chunks, where lines are read
        self._line = b""
        self._take_line: Callable[[bytes], None] = self._take_size
        self._trailers = 0

    def feed(self, data: memoryview) -> int:
        """See `Body.feed`; raises `too_long` where the body exceeds its limit."""
        position = self._feed(data)
        if self.overflowed and self._too_long is not None:
            raise self._too_long
        return position

    def _feed(self, data: memoryview) -> int:
        position = 0
        while position < len(data) and not (self.done or self.overflowed):
            feed = self._feed_chunk if self._left else self._feed_line
            position += feed(data[position:])
        return position

    def _feed_chunk(self, data: memoryview) -> int:
        piece = data[: self._left]
        free = self._limit - len(self.body)
        self.body += piece[:free]
        self.overflowed = len(piece) > free
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
        # Stricter than `int(…, 16)`, which accepts signs, underscores and a prefix, and numbers of any length.
        if not digits or len(digits) > _MAX_HEX_DIGITS or not _HEX.issuperset(digits):
            raise ProtocolError(f"not a chunk size: {line[:40]!r}")
        self._left = int(digits, 16)
        self._take_line = self._take_end if self._left else self._take_trailer

    def _take_end(self, line: bytes) -> None:
        if line:
            raise ProtocolError("a chunk longer than its announced size")
        self._take_line = self._take_size

    def _take_trailer(self, line: bytes) -> None:
        self.done = not line
        if line and not _is_trailer(line):
            raise ProtocolError(f"not a trailer: {line[:40]!r}")
        self._trailers += len(line)
        if self._trailers > _MAX_TRAILERS:
            raise ProtocolError("trailers without an end")


class StridedBody(Body):
    """A body of known length whose bytes are copied to strided memory as they arrive."""

    __slots__ = ("_left", "scratch")

    body: memoryview

    def __init__(self, target: memoryview, scratch: memoryview) -> None:
        """
        Args:
            target: Final memory of the body: unsigned bytes in two dimensions or more, the last one contiguous.
            scratch: Receive buffer, shared by all connections of a loop: `feed` copies from it before any other
                connection receives.
        """
        super().__init__(target)
        self.scratch = scratch
        self._left = target.nbytes
        self.done = not self._left

    def feed(self, data: memoryview) -> int:
        count = min(self._left, len(data))
        copy_strided(self.body, self.body.nbytes - self._left, data[:count])
        self._left -= count
        self.done = not self._left
        return count

    def unfinished(self) -> tuple[memoryview, int] | None:
        return self.body, self.body.nbytes - self._left
