"""One attempt to read a file: open, check, read, check again."""

from __future__ import annotations

import os
import stat

from ..._types import Version
from ...byte_range import ByteRange, resolve
from ...errors import StoreError
from .files import ObjectFile, version_of

_FLAGS = os.O_RDONLY | os.O_NONBLOCK  # opening a named pipe must not block the thread


class TornRead(Exception):
    """The file changed while it was read: another program writes in place."""


class Reading:
    """An open file and the range to read. `begin` and `fill` block and run in a thread; the creator must call `close`.

    Puts of this library replace a file, whose old content stays readable through the open descriptor. Only a program
    that writes in place can tear a read.
    """

    __slots__ = ("_file", "_start", "_state", "_target", "_wanted", "data", "length")

    def __init__(self, target: ObjectFile, wanted: ByteRange | None) -> None:
        self._target = target
        self._wanted = wanted
        self._file = -1
        self._start = 0
        self._state: os.stat_result
        self.length: int = 0
        """Length of the range within the file, in bytes."""
        self.data: bytes | None = None
        """The bytes of the range, if `begin` has read them."""

    @property
    def path(self) -> str:
        """Path of the file."""
        return self._target.path

    @property
    def key(self) -> str:
        """Key of the object."""
        return self._target.key

    @property
    def version(self) -> Version:
        """Version of the file when it was opened."""
        return version_of(self._state)

    @property
    def modified(self) -> float:
        """Modification time in seconds since the epoch."""
        return self._state.st_mtime

    @property
    def size(self) -> int:
        """Size of the whole file in bytes."""
        return self._state.st_size

    def begin(self, version: Version | None, limit: int | None) -> bool:
        """Open the file, and read the range if it has at most `limit` bytes. False if there is no file.

        Raises:
            Conflict: The file is not at `version`.
            TornRead: The file changed meanwhile; try again.
        """
        state = self._open()
        if version is not None:
            self._target.require(version, state)
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
        """Close the file if it is open."""
        if self._file >= 0:
            os.close(self._file)
            self._file = -1

    def _open(self) -> os.stat_result | None:
        try:
            self._file = os.open(self._target.path, _FLAGS)
        except (FileNotFoundError, NotADirectoryError):
            return None
        state = os.fstat(self._file)
        if stat.S_ISDIR(state.st_mode):
            return None
        if not stat.S_ISREG(state.st_mode):
            raise StoreError(f"{self._target.path} is neither a file nor a folder", key=self._target.key)
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
        # Not the change time: a put that replaces the file unlinks it, which updates the change time only.
        now = os.fstat(self._file)
        if (now.st_size, now.st_mtime_ns) != (self._state.st_size, self._state.st_mtime_ns):
            raise TornRead
