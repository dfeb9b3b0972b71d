"""The room of response bodies: where their bytes go, and when they are whole. No IO."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .error_document import MAX_ERROR_BODY

if TYPE_CHECKING:
    from ..._types import Buffer

_TAIL = 32 * 1024
"""The last bytes of a long body do not go straight to their place: only beyond its end is there room to see
that it is longer than it said."""
_DIRECT = 2 * _TAIL


class Body:
    """One body while it comes in.

    Attributes:
        body: What is there of it.
        done: All of it is there.
        overflowed: There is more of it than is of interest.
        scratch: Memory for the bytes that it is fed, where the connection's own is too small.
    """

    __slots__ = ("body", "done", "overflowed")

    body: Buffer
    scratch: memoryview | None = None

    def __init__(self, body: Buffer) -> None:
        self.body = body
        self.done = False
        self.overflowed = False

    def feed(self, data: memoryview) -> int:
        """Take what belongs to the body, and say how many bytes that were; those that are left follow it."""
        raise NotImplementedError

    def direct(self) -> memoryview | None:
        """Memory to receive the next bytes into, or None where they shall be fed."""
        return None

    def advance(self, count: int) -> None:
        """So many bytes were received into `direct()`."""
        raise NotImplementedError

    def ends_with_stream(self) -> bool:
        """True where the end of the connection is the end of the body."""
        return False

    def unfinished(self) -> tuple[memoryview, int] | None:
        """Memory of the whole body and how many bytes of it came, where the rest could be asked for."""
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


class SmallBody(Body):
    """An error or a short confirmation: its first 64 KiB, up to its length or, without one, to the end."""

    __slots__ = ("_length",)

    body: bytearray

    def __init__(self, length: int | None) -> None:
        super().__init__(bytearray())
        self.done = length == 0
        self._length = length

    def feed(self, data: memoryview) -> int:
        wanted = len(data) if self._length is None else self._length - len(self.body)
        count = min(wanted, len(data), MAX_ERROR_BODY - len(self.body))
        self.body += data[:count]
        self.done = len(self.body) == self._length
        self.overflowed = len(self.body) == MAX_ERROR_BODY and not self.done
        return count

    def ends_with_stream(self) -> bool:
        return self._length is None
