"""Files as objects: what a key may be, what a version is, and how one file takes another's place.

A version is a file's inode, modification time, change time and size. Alone they repeat: ext4 gives the
number of a replaced inode to the next file (1,998 of 2,000 in a run of replacements), and kernels before
6.13 stamp times with the timer tick, milliseconds wide; a small counter written twice within a tick would
have its old version back. So every put sets the modification time itself, to the nanosecond and later than
that of the file it replaces: the versions of a key never return, whatever the clock does. Files of other
programs have versions as good as their time stamps; the change time, which no program can set, tells a
rewrite in place even where the modification time was put back. A digest of the content would need no clock,
but costs a read of 16 KiB 14 µs instead of 1, and a read of one chunk of a shard the whole shard.

The lock is `flock` on the folder that holds the file: it needs no file of its own, which other tools would
see, and it is the same lock for every store that reaches the folder, whatever its root. Network file
systems may hold it on one machine only.
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
"""How the names of our unfinished files begin: no key has such a part and no listing shows one."""

_DENIED = {errno.EACCES, errno.EPERM, errno.EROFS}
_NO_LINKS = {errno.EPERM, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EMLINK, errno.EXDEV}
_NO_LOCKS = {errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.ENOLCK, errno.EINVAL}
_TIME_STEPS = (1, 1_000, 1_000_000, 2_000_000_000)  # nanoseconds; file systems keep times to 1 ns … 2 s
_NOT_A_PART = ("", ".", "..")


def checked_key(key: str) -> str:
    """The key, or StoreError where it is no relative path below a root."""
    parts = key.split("/")
    if any(part in _NOT_A_PART or part.startswith(TEMPORARY) for part in parts) or not _encodes(key):
        raise StoreError(
            f"{key!r} cannot be a file: a key's parts are not empty, not . or .., hold no NUL, "
            f"are UTF-8 and do not begin with {TEMPORARY}",
            key=key,
        )
    return key


def _encodes(key: str) -> bool:
    return "\0" not in key and (key.isascii() or key == key.encode("utf-8", "ignore").decode())


def version_of(state: os.stat_result) -> Version:
    """The version of the file in this state."""
    return Version(f"{state.st_mtime_ns:x}-{state.st_ctime_ns:x}-{state.st_ino:x}-{state.st_size:x}")


def translated(error: OSError, what: str, key: str | None) -> StoreError:
    """Our error for the operating system's."""
    code = errno.errorcode.get(error.errno or 0, type(error).__name__)
    cls = AccessDenied if error.errno in _DENIED else StoreError
    hint = ""
    if isinstance(error, NotADirectoryError | FileExistsError):
        hint = ": a part of the path is an object, and objects hold no others"
    elif isinstance(error, IsADirectoryError):
        hint = ": it is a folder, which holds other objects"
    return cls(f"{what}: {error.strerror or error}{hint}", key=key, code=code)


@contextmanager
def translating(what: str, place: Place) -> Iterator[None]:
    """Turn the operating system's errors into ours: `what` it was that cannot be done with the file."""
    try:
        yield
    except OSError as error:
        raise translated(error, f"{what} {place.path}", place.key) from error


class Place:
    """Where the file of one object is, or would be."""

    __slots__ = ("key", "name", "parent", "path")

    def __init__(self, path: str, key: str) -> None:
        self.path: str = path
        self.key: str = key
        parent, _, name = path.rpartition("/")
        self.parent: str = parent
        self.name: str = name

    def state(self, folder: int) -> os.stat_result | None:
        """The file's state in its open folder, None where there is none.

        A folder there is an IsADirectoryError.
        """
        try:
            state = os.stat(self.name, dir_fd=folder)
        except FileNotFoundError:
            return None
        if stat.S_ISDIR(state.st_mode):
            raise IsADirectoryError(errno.EISDIR, os.strerror(errno.EISDIR), self.path)
        return state

    def require(self, when: When, state: os.stat_result | None) -> None:
        """Conflict, unless the precondition holds for a file in this state (None: absent)."""
        if when == "always":
            return
        if when == "absent":
            if state is not None:
                raise self.taken()
        elif state is None or version_of(state) != when:
            found = "absent" if state is None else f"at version {version_of(state)}"
            raise Conflict(f"{self.path} is {found}, not at version {when}", key=self.key)

    def taken(self) -> Conflict:
        """What a put that wants absence meets."""
        return Conflict(f"{self.path} exists already", key=self.key)


@contextmanager
def locked(folder: int, *, needed: bool) -> Iterator[None]:
    """Hold the folder's lock against other threads and processes.

    Args:
        folder: The open folder.
        needed: Where the file system has no locks, raise Unsupported; else go on without.
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
        with suppress(OSError):  # there may be no lock
            fcntl.flock(folder, fcntl.LOCK_UN)  # closing is not enough: a forked child holds the descriptor too


@contextmanager
def unfinished(folder: int, data: Buffer, *, sync: bool) -> Iterator[tuple[str, int]]:
    """A new file in the open folder that holds `data`: its name and descriptor.

    Gone afterwards unless renamed.
    """
    name = TEMPORARY + secrets.token_hex(8)
    file = os.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o666, dir_fd=folder)
    try:
        view = memoryview(data)
        view = view.cast("B") if view.nbytes else memoryview(b"")  # an empty array cannot be cast
        while view:
            view = view[os.write(file, view) :]
        if sync:
            os.fsync(file)
        yield name, file
    finally:
        os.close(file)
        with suppress(FileNotFoundError):
            os.unlink(name, dir_fd=folder)


def publish(place: Place, folder: int, temporary: str, file: int, when: When) -> Version:
    """Give the unfinished file its name, if the precondition holds."""
    with locked(folder, needed=when != "always"):
        old = place.state(folder)
        place.require(when, old)
        _stamp(file, old)
        if when != "absent" or not _linked(place, folder, temporary):
            os.replace(temporary, place.name, src_dir_fd=folder, dst_dir_fd=folder)
        return version_of(os.fstat(file))


def _linked(place: Place, folder: int, temporary: str) -> bool:
    """Create the file such that even a program that ignores our lock cannot have created it meanwhile."""
    try:
        os.link(temporary, place.name, src_dir_fd=folder, dst_dir_fd=folder, follow_symlinks=False)
    except FileExistsError as error:
        raise place.taken() from error
    except OSError as error:
        if error.errno in _NO_LINKS:
            return False
        raise
    os.unlink(temporary, dir_fd=folder)  # before the version is read: it changes the change time
    return True


def _stamp(file: int, old: os.stat_result | None) -> None:
    """Make the file's modification time now, and later than that of the file it replaces."""
    now = time.time_ns()
    for step in _TIME_STEPS:
        stamp = now if old is None else max(now, old.st_mtime_ns + step)
        os.utime(file, ns=(stamp, stamp))
        if old is None or os.fstat(file).st_mtime_ns > old.st_mtime_ns:
            return
