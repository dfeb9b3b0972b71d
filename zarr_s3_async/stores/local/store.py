"""A store over files below a folder, with atomic writes and conditional writes that hold between processes."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Iterable, Iterator
from contextlib import contextmanager, suppress
from itertools import islice
from pathlib import Path
from typing import Literal

from ..._concurrency.blocking import run_blocking
from ..._types import Buffer, Sink, Version, When
from ...byte_range import ByteRange, checked
from ...errors import ConcurrentModification, ConfigError, ObjectTooLarge, StoreError
from ..base import Blob, Entry, Listing, StoreRef
from .files import ObjectFile, checked_key, locked, publish, temporary_file, translated, translating
from .listing import LocalEntries, one_level
from .reading import Reading, TornRead

_ATTEMPTS = 100
"""Attempts of one call where other programs remove folders or rewrite files in place."""
_BATCH = 1000
"""Files deleted per call in a thread."""
_ONE_CALL = 256 * 1024
"""Maximum size of a body that is read before the sink is called: copying costs less than a second call in a thread."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY


class LocalStore:
    """A folder of files, one per object: the layout of zarr-python's LocalStore.

    A put writes a temporary file in the object's folder and renames it: readers see the complete old object or the
    complete new one, even if the writing process is killed. Conditional writes of this class are safe between all
    processes of one machine. Other programs may read and replace files too: a conditional write detects changes they
    made before it, but they do not respect its lock. Symbolic links are followed. Keys that differ in case only are one
    file on a case-insensitive file system.

    Args:
        root: The folder. The first put creates it.
        sync: Call fsync around the rename, so that a put survives a power failure. Without it (the default, as in
            zarr-python, obstore and TensorStore) the operating system decides when bytes reach the disk, and a power
            failure may leave objects of the last seconds truncated or empty.
    """

    __slots__ = ("_root", "_sync")

    def __init__(self, root: str | os.PathLike[str], *, sync: bool = False) -> None:
        self._root = str(Path(root).absolute())
        self._sync = sync

    @property
    def root(self) -> Path:
        """The root folder."""
        return Path(self._root)

    @property
    def url(self) -> str:
        """`file://` and the root folder, percent-encoded as by `Path.as_uri`."""
        return self.root.as_uri()

    @property
    def ref(self) -> StoreRef:
        """See `SupportsRef.ref`.

        Raises:
            ConfigError: The store was created with `sync=True`, which a URL cannot express.
        """
        if self._sync:
            raise ConfigError(f"{self!r} has no reference: a URL cannot express sync=True; create it where it is used")
        return StoreRef(url=self.url)

    @property
    def place(self) -> str:
        """See `SupportsIdentity.place`: the folder without symbolic links and `..`."""
        return Path(os.path.realpath(self._root)).as_uri()  # Path.resolve() raises for links in a circle

    @property
    def owner(self) -> None:
        """See `SupportsIdentity.owner`: all callers read with the permissions of the process."""

    def parent(self) -> tuple[LocalStore, str] | None:
        """See `SupportsParent.parent`; None at the root of the file system."""
        root = self.root
        return (LocalStore(root.parent, sync=self._sync), root.name) if root.name else None

    def __eq__(self, other: object) -> bool:
        """Whether both have the same root folder and the same options."""
        return isinstance(other, LocalStore) and (self._root, self._sync) == (other._root, other._sync)

    def __hash__(self) -> int:
        return hash((self._root, self._sync))

    def __repr__(self) -> str:
        return f"LocalStore({self._root!r}{', sync=True' if self._sync else ''})"

    async def get(
        self,
        key: str,
        *,
        range: ByteRange | None = None,  # noqa: A002  # the protocol's name
        version: Version | None = None,
        sink: Sink | None = None,
        max_bytes: int | None = None,
    ) -> Blob | None:
        """See `Readable.get`.

        The sink is called on the event loop; large ranges are read directly into its memory.
        """
        target, wanted = self._target(key), checked(range)
        for _ in _attempts():
            reading = Reading(target, wanted)
            try:
                return await _read(reading, version, sink, max_bytes)
            except TornRead:
                continue
            except OSError as error:
                raise translated(error, f"cannot read {target.path}", key) from error
            finally:
                reading.close()
        raise ConcurrentModification(f"{target.path} was rewritten in place during every read", key=key)

    async def put(self, key: str, data: Buffer, *, when: When = "always") -> Version:
        """See `Writable.put`."""
        return await run_blocking(self._put, self._target(key), data, when)

    async def delete(self, key: str, *, when: Version | Literal["always"] = "always") -> None:
        """See `Writable.delete`. Folders that become empty are removed."""
        await run_blocking(self._delete, [self._target(key)], when)

    async def delete_many(self, keys: Iterable[str]) -> None:
        """See `Writable.delete_many`. Files are deleted one by one; if one fails, the rest is kept."""
        remaining = iter([self._target(key) for key in keys])
        while batch := list(islice(remaining, _BATCH)):
            await run_blocking(self._delete, batch, "always")

    def list_prefix(self, prefix: str = "") -> LocalEntries:
        """See `Listable.list_prefix`. Objects created or deleted during the listing may or may not be included."""
        return LocalEntries(self._root, prefix)

    async def list_pages(self, prefix: str = "", *, after: str = "") -> AsyncIterator[list[Entry]]:
        """See `SupportsPages.list_pages`. One call in a thread per page."""
        entries = LocalEntries(self._root, prefix)
        while page := await entries.next_page():
            if kept := [entry for entry in page if entry.key > after] if after else page:
                yield kept

    async def list_dir(self, prefix: str = "") -> Listing:
        """See `Listable.list_dir`."""
        return await run_blocking(one_level, self._root, prefix.rstrip("/"))

    def _target(self, key: str) -> ObjectFile:
        return ObjectFile(f"{self._root}/{checked_key(key)}", key)

    def _put(self, target: ObjectFile, data: Buffer, when: When) -> Version:
        with translating("cannot write", target):
            for _ in _attempts():
                # A concurrent delete may remove the empty folder until the temporary file is in it.
                with (
                    suppress(FileNotFoundError),
                    self._folder(target.parent) as folder,
                    temporary_file(folder, data, sync=self._sync) as (temporary, file),
                ):
                    return publish(target, folder, temporary, file, when)
        raise StoreError(f"cannot write {target.path}: its folder was removed during every attempt", key=target.key)

    @contextmanager
    def _folder(self, path: str) -> Iterator[int]:
        """Open the folder, creating it if it is missing; yields its descriptor."""
        is_new = False
        try:
            folder = os.open(path, _FOLDER)
        except FileNotFoundError:
            is_new = True
            # FileExistsError: either a file has this name, or the folder existed and was removed. Opening it shows
            # which.
            with suppress(FileExistsError):
                Path(path).mkdir(parents=True, exist_ok=True)
            folder = os.open(path, _FOLDER)
        try:
            yield folder
            if self._sync:
                os.fsync(folder)
        finally:
            os.close(folder)
        if self._sync and is_new:
            self._sync_above(Path(path))

    def _sync_above(self, path: Path) -> None:
        """Call fsync for the parent folders of a new folder up to the root, so that its name reaches the disk."""
        for parent in path.parents:
            above = os.open(parent, _FOLDER)
            try:
                os.fsync(above)
            finally:
                os.close(above)
            if len(str(parent)) < len(self._root):
                break

    def _delete(self, targets: list[ObjectFile], when: When) -> None:
        for target in targets:
            with translating("cannot delete", target):
                _unlink(target, when)
            self._prune(target.parent)

    def _prune(self, folder: str) -> None:
        """Remove empty folders up to the root.

        A folder with a put in progress contains a temporary file, so it is not empty.
        """
        # A folder that is not empty cannot be removed: that is where this stops.
        with suppress(OSError):
            while len(folder) > len(self._root):
                os.rmdir(folder)  # noqa: PTH106  # a Path per deleted chunk costs more than the call
                folder = folder.rpartition("/")[0]


def _attempts() -> range:
    return range(_ATTEMPTS)


async def _read(reading: Reading, version: Version | None, sink: Sink | None, max_bytes: int | None) -> Blob | None:
    # With a sink, only small bodies are read in the first call; larger ones go straight into its memory.
    limit = max_bytes if sink is None else min(_ONE_CALL, _ONE_CALL if max_bytes is None else max_bytes)
    if not await run_blocking(reading.begin, version, limit):
        return None
    if max_bytes is not None and reading.length > max_bytes:
        raise ObjectTooLarge(f"{reading.path} has {reading.length:,} bytes, more than {max_bytes:,}", key=reading.key)
    data: Buffer | None = reading.data
    if sink is not None:
        memory = sink(reading.length)
        if data is None:
            await run_blocking(reading.fill, memory)
        else:
            memory[:] = data
        data = memory
    assert data is not None  # noqa: S101  # without a sink, `begin` has read everything
    return Blob(data, reading.version, reading.size, reading.modified)


def _unlink(target: ObjectFile, when: When) -> None:
    try:
        folder = os.open(target.parent, _FOLDER)
    except (FileNotFoundError, NotADirectoryError):
        target.require(when, None)
        return
    try:
        with locked(folder, needed=when != "always"):
            state = target.state(folder)
            target.require(when, state)
            if state is not None:
                os.unlink(target.name, dir_fd=folder)
    except IsADirectoryError:  # a folder is not an object
        target.require(when, None)
    finally:
        os.close(folder)
