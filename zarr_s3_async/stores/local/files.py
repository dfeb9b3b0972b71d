"""Files as objects: valid keys, versions, and the atomic replacement of a file.

A version consists of a file's inode, modification time, change time and size. By themselves these repeat: ext4 reuses
the number of a replaced inode for the next file (1,998 of 2,000 replacements), and kernels before 6.13 round times to
the timer tick of some milliseconds, so a small counter written twice within a tick would get its old version again.
Therefore every put sets the modification time itself, in nanoseconds and later than that of the replaced file: a
version of a key never repeats, whatever the clock does. For files of other programs, versions are as good as their
time stamps; the change time, which no program can set, reveals a rewrite in place even if the modification time was
restored. A digest of the content would need no clock, but makes a read of 16 KiB cost 14 µs instead of 1, and a read
of one chunk of a shard would have to read the whole shard.

The lock is `flock` on the folder that contains the file. It needs no lock file, which other tools would see, and it is
the same lock for every store that contains the folder, whatever its root. Network file systems may enforce it within
one machine only.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress

from ..._types import Buffer, Version, When
from ...errors import AccessDenied, Conflict, StoreError, Unsupported

TEMPORARY = ".zarr-s3-"
"""Name prefix of temporary files: no key may contain such a part, and no listing returns one."""

_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
_NO_LOCKS = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL}
_TIME_STEPS = (1, 1_000, 1_000_000, 2_000_000_000)  # nanoseconds; file systems keep times to 1 ns … 2 s
_NOT_A_PART = ("", ".", "..")


def checked_key(key: str) -> str:
    """Return the key; raise StoreError if it is not a relative path below the root."""
    parts = key.split("/")
    if any(part in _NOT_A_PART or part.startswith(TEMPORARY) for part in parts) or not _encodes(key):
        raise StoreError(
            f"{key!r} cannot be a file: parts of a key must be valid UTF-8 without NUL, not empty, not . or .., "
            f"and must not start with {TEMPORARY}",
            key=key,
        )
    return key


def _encodes(key: str) -> bool:
    return "\0" not in key and (key.isascii() or key == key.encode("utf-8", "ignore").decode())


def version_of(state: os.stat_result) -> Version:
    """The version of the file in this state."""
    return Version(f"{state.st_mtime_ns:x}-{state.st_ctime_ns:x}-{state.st_ino:x}-{state.st_size:x}")


def translated(error: OSError, what: str, key: str | None) -> StoreError:
    """The StoreError for an error of the operating system."""
    code = errno.errorcode.get(error.errno or 0, type(error).__name__)
    cls = AccessDenied if error.errno in _DENIED else StoreError
    hint = ""
    if isinstance(error, NotADirectoryError | FileExistsError):
        hint = ": a part of the path is an object, which cannot contain others"
    elif isinstance(error, IsADirectoryError):
        hint = ": it is a folder, which contains other objects"
    return cls(f"{what}: {error.strerror or error}{hint}", key=key, code=code)


@contextmanager
def translating(what: str, target: ObjectFile) -> Iterator[None]:
    """Translate errors of the operating system; `what` is the operation that failed."""
    try:
        yield
    except OSError as error:
        raise translated(error, f"{what} {target.path}", target.key) from error


class ObjectFile:
    """Path and key of an object's file, which may not exist."""

    __slots__ = ("key", "name", "parent", "path")

    def __init__(self, path: str, key: str) -> None:
        self.path: str = path
        self.key: str = key
        parent, _, name = path.rpartition("/")
        self.parent: str = parent
        self.name: str = name

    def state(self, folder: int) -> os.stat_result | None:
        """The file's state in its open folder; None if it does not exist.

        Raises IsADirectoryError if it is a folder.
        """
        try:
            state = os.stat(self.name, dir_fd=folder)
        except FileNotFoundError:
            return None
        if stat.S_ISDIR(state.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), self.path)
        return state

    def require(self, when: When, state: os.stat_result | None) -> None:
        """Raise Conflict unless the precondition holds for a file in this state (None: absent)."""
        if when == "always":
            return
        if when == "absent":
            if state is not None:
                raise self.taken()
        elif state is None or version_of(state) != when:
            found = "absent" if state is None else f"at version {version_of(state)}"
            raise Conflict(f"{self.path} is {found}, not at version {when}", key=self.key)

    def taken(self) -> Conflict:
        """The error of a put on condition of absence if the file exists."""
        return Conflict(f"{self.path} exists already", key=self.key)


@contextmanager
def locked(folder: int, *, needed: bool) -> Iterator[None]:
    """Hold the folder's lock, which excludes other threads and processes.

    Args:
        folder: The open folder.
        needed: If the file system has no locks, raise Unsupported; otherwise continue without a lock.
    """
    try:
        fcntl.flock(folder, fcntl.LOCK_EX)
    except OSError as error:
        if error.errno not in _NO_LOCKS:
            raise
        if needed:
            raise Unsupported("this file system has no locks, which conditional writes need") from error
    try:
        yield
    finally:
        with suppress(OSError):  # the file system may have no locks
            fcntl.flock(folder, fcntl.LOCK_UN)  # closing is not enough: a forked child inherits the descriptor


@contextmanager
def temporary_file(folder: int, data: Buffer, *, sync: bool) -> Iterator[tuple[str, int]]:
    """Create a temporary file with `data` in the open folder; yields its name and descriptor.

    It is deleted afterwards unless it was renamed.
    """
    name = TEMPORARY + secrets.token_hex(8)
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=folder)
    try:
        view = memoryview(data)
        view = view.cast("B") if view.nbytes else memoryview(b"")  # memoryview cannot cast an empty array
        while view:
            view = view[os.write(file, view) :]
        if sync:
            os.fsync(file)
        yield name, file
    finally:
        os.close(file)
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)


def publish(target: ObjectFile, folder: int, temporary: str, file: int, when: When) -> Version:
    """Rename the temporary file to its final name if the precondition holds; return its version."""
    with locked(folder, needed=when != "always"):
        old = target.state(folder)
        target.require(when, old)
        _stamp(file, old)
        if when != "absent" or not _linked(target, folder, temporary):
            os.replace(temporary, target.name, src_dir_fd=folder, dst_dir_fd=folder)
        return version_of(os.fstat(file))


def _linked(target: ObjectFile, folder: int, temporary: str) -> bool:
    """Create the file with a hard link, which fails if another program that ignores the lock has created it."""
    try:
        os.link(temporary, target.name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError as error:
        raise target.taken() from error
    except OSError as error:
        if error.errno in _NO_LINKS:
            return False
        raise
    os.unlink(temporary, dir_fd=folder)  # before the version is computed: unlinking updates the change time
    return True


def _stamp(file: int, old: os.stat_result | None) -> None:
    """Set the file's modification time to now, or later if the replaced file's is not earlier."""
    now = time.time_ns()
    # A file system may round times, and so undo a small step: the next one is larger.
    for step in _TIME_STEPS:
        stamp = now if old is None else max(now, old.st_mtime_ns + step)
        os.utime(file, ns=(stamp, stamp))
        if old is None or os.fstat(file).st_mtime_ns > old.st_mtime_ns:
            return
