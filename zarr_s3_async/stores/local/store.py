"""Objects as files below a folder, with atomic writes and a compare-and-swap that holds between processes."""

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
from .files import Place, checked_key, locked, publish, translated, translating, unfinished
from .listing import LocalEntries, one_level
from .reading import Reading, TornRead

_ATTEMPTS = 100
"""Times that one call begins again because others removed a folder or rewrote a file in place."""
_BATCH = 1000
"""Files that one hop into a thread deletes."""
_ONE_HOP = 256 * 1024
"""Bytes up to which a body is read before its sink is asked: copying them costs less than a second hop."""
_FOLDER = os.O_RDONLY | os.O_DIRECTORY


class LocalStore:
    """A folder of files, one per object: the layout of zarr-python's LocalStore.

    A put writes a temporary file in the object's own folder and renames it, so that readers, and whoever
    comes after a killed process, find the old object or the new one, whole. Writers of this class, in any
    processes of one machine, never lose each other's conditional write. Other programs may read and replace
    files too: a conditional write notices what they did before it, but they do not wait for it. Symbolic
    links are followed. Keys that differ in case alone are one file where the file system says so.

    Args:
        root: The folder. The first put makes it.
        sync: Call fsync around the rename, so that what was put also outlives a power failure. Without it
            (the default, as in every peer) the operating system decides when bytes reach the disk, and a
            power failure may leave an object of the last seconds short or empty.
    """

    __slots__ = ("_root", "_sync")

    def __init__(self, root: str | os.PathLike[str], *, sync: bool = False) -> None:
        self._root = str(Path(root).absolute())
        self._sync = sync

    @property
    def root(self) -> Path:
        """The folder."""
        return Path(self._root)

    @property
    def url(self) -> str:
        """`file://` and the folder, percent-encoded as by `Path.as_uri`."""
        return self.root.as_uri()

    @property
    def ref(self) -> StoreRef:
        """See `SupportsRef.ref`.

        Raises:
            ConfigError: The store calls fsync, which no URL says.
        """
        if self._sync:
            raise ConfigError(f"{self!r} has no reference: no URL says sync=True; make it where it is used")
        return StoreRef(url=self.url)

    @property
    def place(self) -> str:
        """See `SupportsIdentity.place`: the folder without symbolic links and `..`."""
        return Path(os.path.realpath(self._root)).as_uri()  # noqa: PTH  # Path.resolve raises for links in a circle

    @property
    def owner(self) -> None:
        """See `SupportsIdentity.owner`: the process reads, whoever asks."""

    def parent(self) -> tuple[LocalStore, str] | None:
        """See `SupportsParent.parent`; None at the root of the file system."""
        root = self.root
        return (LocalStore(root.parent, sync=self._sync), root.name) if root.name else None

    def __eq__(self, other: object) -> bool:
        """Whether both are the same folder, used in the same way."""
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

        The sink is called on the event loop; big ranges are read right into its memory.
        """
        place, wanted = self._place(key), checked(range)
        for _ in _attempts():
            reading = Reading(place, wanted)
            try:
                return await _read(reading, version, sink, max_bytes)
            except TornRead:
                continue
            except OSError as error:
                raise translated(error, f"cannot read {place.path}", key) from error
            finally:
                reading.close()
        raise ConcurrentModification(f"{place.path} was rewritten in place during every read", key=key)

    async def put(self, key: str, data: Buffer, *, when: When = "always") -> Version:
        """See `Writable.put`."""
        return await run_blocking(self._put, self._place(key), data, when)

    async def delete(self, key: str, *, when: Version | Literal["always"] = "always") -> None:
        """See `Writable.delete`. Folders that it leaves empty go too."""
        await run_blocking(self._delete, [self._place(key)], when)

    async def delete_many(self, keys: Iterable[str]) -> None:
        """See `Writable.delete_many`. One by one: where one fails, the later ones stay."""
        remaining = iter([self._place(key) for key in keys])
        while batch := list(islice(remaining, _BATCH)):
            await run_blocking(self._delete, batch, "always")

    def list_prefix(self, prefix: str = "") -> LocalEntries:
        """See `Listable.list_prefix`. Objects that come and go meanwhile may or may not be seen."""
        return LocalEntries(self._root, prefix)

    async def list_pages(self, prefix: str = "", *, after: str = "") -> AsyncIterator[list[Entry]]:
        """See `SupportsPages.list_pages`: a page of entries per call in a thread."""
        entries = LocalEntries(self._root, prefix)
        while page := await entries.next_page():
            if kept := [entry for entry in page if entry.key > after] if after else page:
                yield kept

    async def list_dir(self, prefix: str = "") -> Listing:
        """See `Listable.list_dir`."""
        return await run_blocking(one_level, self._root, prefix.rstrip("/"))

    def _place(self, key: str) -> Place:
        return Place(f"{self._root}/{checked_key(key)}", key)

    def _put(self, place: Place, data: Buffer, when: When) -> Version:
        with translating("cannot write", place):
            for _ in _attempts():
                # Until the temporary file is in it, a delete that empties the folder may take the folder.
                with (
                    suppress(FileNotFoundError),
                    self._folder(place.parent) as folder,
                    unfinished(folder, data, sync=self._sync) as (temporary, file),
                ):
                    return publish(place, folder, temporary, file, when)
        raise StoreError(f"cannot write {place.path}: its folder was removed again and again", key=place.key)

    @contextmanager
    def _folder(self, path: str) -> Iterator[int]:
        """The folder, open; made where it is missing."""
        is_new = False
        try:
            folder = os.open(path, _FOLDER)
        except FileNotFoundError:
            is_new = True
            # Exists: a file does, or the folder did a moment ago and was emptied. Opening it tells which.
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
        """Let the name of a new folder reach the disk, and those of all above it up to the root's."""
        for parent in path.parents:
            above = os.open(parent, _FOLDER)
            try:
                os.fsync(above)
            finally:
                os.close(above)
            if len(str(parent)) < len(self._root):
                break

    def _delete(self, places: list[Place], when: When) -> None:
        for place in places:
            with translating("cannot delete", place):
                _unlink(place, when)
            self._prune(place.parent)

    def _prune(self, folder: str) -> None:
        """Remove folders that hold nothing, up to the root.

        One that somebody is putting into holds something.
        """
        with suppress(OSError):
            while len(folder) > len(self._root):
                os.rmdir(folder)  # noqa: PTH106  # a Path per deleted chunk costs more than the call
                folder = folder.rpartition("/")[0]


def _attempts() -> range:
    return range(_ATTEMPTS)


async def _read(reading: Reading, version: Version | None, sink: Sink | None, max_bytes: int | None) -> Blob | None:
    limit = max_bytes if sink is None else min(_ONE_HOP, _ONE_HOP if max_bytes is None else max_bytes)
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
    assert data is not None  # noqa: S101  # without a sink `begin` read all of it
    return Blob(data, reading.version, reading.size, reading.modified)


def _unlink(place: Place, when: When) -> None:
    try:
        folder = os.open(place.parent, _FOLDER)
    except (FileNotFoundError, NotADirectoryError):
        place.require(when, None)
        return
    try:
        with locked(folder, needed=when != "always"):
            state = place.state(folder)
            place.require(when, state)
            if state is not None:
                os.unlink(place.name, dir_fd=folder)
    except IsADirectoryError:  # a folder is no object
        place.require(when, None)
    finally:
        os.close(folder)
