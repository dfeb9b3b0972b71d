"""One try to read one file: opened, checked, read, and checked again."""

from __future__ import annotations

import os
import stat

from ..._types import Version
from ...byte_range import ByteRange, resolve
from ...errors import StoreError
from .files import Place, version_of

_FLAGS = os.O_RDONLY | os.O_NONBLOCK  # a named pipe that somebody left there must not hang the thread


class TornRead(Exception):
    """The file changed while it was read: some program writes in place."""


class Reading:
    """Its blocking parts, `begin` and `fill`, run in a thread; whoever made it closes it.

    What our own puts replace stays as it was under an open descriptor, so only a program that writes in
    place can tear a read.
    """

    __slots__ = ("_file", "_place", "_start", "_state", "_wanted", "data", "length")

    def __init__(self, place: Place, wanted: ByteRange | None) -> None:
        self._place = place
        self._wanted = wanted
        self._file = -1
        self._start = 0
        self._state: os.stat_result
        self.length: int = 0
        """Bytes of the range within the file."""
        self.data: bytes | None = None
        """The range, where `begin` has read it."""

    @property
    def path(self) -> str:
        """Of the file."""
        return self._place.path

    @property
    def key(self) -> str:
        """Of the object."""
        return self._place.key

    @property
    def version(self) -> Version:
        """Of the file as it was opened."""
        return version_of(self._state)

    @property
    def modified(self) -> float:
        """When the file was last written, in seconds since the epoch."""
        return self._state.st_mtime

    @property
    def size(self) -> int:
        """Bytes of the whole file."""
        return self._state.st_size

    def begin(self, version: Version | None, limit: int | None) -> bool:
        """Open the file and read the range if it has at most `limit` bytes. False where there is no file.

        Raises:
            Conflict: It is not at the version wanted.
            TornRead: Try again.
        """
        state = self._open()
        if version is not None:
            self._place.require(version, state)
        if state is None:
            return False
        self._state = state
        self._start, stop = resolve(self._wanted, state.st_size)
        self.length = stop - self._start
        if limit is None or self.length <= limit:
            self.data = self._read()
            self._check()
        return True

    def fill(self, memory: memoryview) -> None:
        """Read the range into memory of `length` bytes."""
        at = 0
        while at < self.length:
            count = os.preadv(self._file, [memory[at:]], self._start + at)
            if count == 0:
                raise TornRead
            at += count
        self._check()

    def close(self) -> None:
        """Close the file, if there is one."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _open(self) -> os.stat_result | None:
        try:
            self._file = os.open(self._place.path, _FLAGS)
        except (FileNotFoundError, NotADirectoryError):
            return None
        state = os.fstat(self._file)
        if stat.S_ISDIR(state.st_mode):
            return None
        if not stat.S_ISREG(state.st_mode):
            raise StoreError(f"{self._place.path} is neither a file nor a folder", key=self._place.key)
        return state

    def _read(self) -> bytes:
        parts = []
        at, stop = self._start, self._start + self.length
        while at < stop:
            part = os.pread(self._file, stop - at, at)
            if not part:
                raise TornRead
            parts.append(part)
            at += len(part)
        return parts[0] if len(parts) == 1 else b"".join(parts)

    def _check(self) -> None:
        # Not the change time: a put that replaces the file takes its name away, which changes that alone.
        now = os.fstat(self._file)
        if (now.st_size, now.st_mtime_ns) != (self._state.st_size, self._state.st_mtime_ns):
            raise TornRead
