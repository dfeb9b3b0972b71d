"""A store in the memory of this process, for tests and experiments; the simplest implementation of the protocol."""

from __future__ import annotations

import asyncio
import itertools
import secrets
import time
from collections.abc import AsyncIterator, Callable, Iterable, Iterator
from typing import Literal, Self

from .._types import Buffer, Sink, Version, When
from ..byte_range import ByteRange, checked, resolve
from ..errors import ConfigError, Conflict, ObjectTooLarge, StoreError
from .base import Blob, Entry, Listing

_PAGE = 1000
_serials = itertools.count(1)
"""Serial numbers of sets of objects. Unlike `id()`, they are never reused."""


class MemoryStore:
    """A store over a dictionary of objects.

    Every operation yields to the event loop once before it does anything, so that a loop over this store can be
    cancelled as with any other store. After that it is atomic.

    Args:
        name: Host part of its URL; random by default, so that no two stores share a URL by accident.
    """

    __slots__ = ("_name", "_numbers", "_objects", "_root", "_serial")

    def __init__(self, name: str | None = None) -> None:
        self._name = secrets.token_hex(4) if name is None else name
        if not self._name or "/" in self._name:
            raise ConfigError(f"the name of a MemoryStore must be one word without a slash, not {name!r}")
        self._objects: dict[str, tuple[bytes, Version, float]] = {}
        self._numbers = itertools.count(1)
        self._root = ""
        self._serial = next(_serials)

    def below(self, path: str) -> MemoryStore:
        """A store over the same objects whose root is the folder `path`.

        Args:
            path: A folder, relative to this store's root.

        Returns:
            The store; both show each other's writes.
        """
        store = MemoryStore(self._name)
        store._objects, store._numbers, store._serial = self._objects, self._numbers, self._serial
        folder = path.strip("/")
        store._root = f"{self._root}{folder}/" if folder else self._root
        return store

    @property
    def url(self) -> str:
        """`memory://name` and the path of its root."""
        return f"memory://{self._name}/{self._root}".rstrip("/")

    @property
    def place(self) -> str:
        """See `SupportsIdentity.place`; stores of equal names may contain different objects."""
        return f"memory://{self._name}.{self._serial}/{self._root}".rstrip("/")

    @property
    def owner(self) -> None:
        """See `SupportsIdentity.owner`; there are no permissions."""

    def parent(self) -> tuple[MemoryStore, str] | None:
        """See `SupportsParent.parent`."""
        above, _, name = self._root.rstrip("/").rpartition("/")
        if not name:
            return None
        store = MemoryStore(self._name)
        store._objects, store._numbers, store._serial = self._objects, self._numbers, self._serial
        store._root = f"{above}/" if above else ""
        return store, name

    def __repr__(self) -> str:
        return f"<MemoryStore {self.url} objects={sum(1 for _ in self._keys(''))}>"

    def __eq__(self, other: object) -> bool:
        """Whether both are the same folder of the same objects. Equal names are not sufficient."""
        return isinstance(other, MemoryStore) and self._objects is other._objects and self._root == other._root

    def __hash__(self) -> int:
        return hash((id(self._objects), self._root))

    async def get(
        self,
        key: str,
        *,
        range: ByteRange | None = None,  # noqa: A002  # the protocol's name
        version: Version | None = None,
        sink: Sink | None = None,
        max_bytes: int | None = None,
    ) -> Blob | None:
        """See `Readable.get`. A range is a view of the stored object, not a copy."""
        full, wanted = self._full(key), checked(range)
        await asyncio.sleep(0)
        found = self._objects.get(full)
        if version is not None:
            self._require(key, version)
        if found is None:
            return None
        data, current, written = found
        start, stop = resolve(wanted, len(data))
        if max_bytes is not None and stop - start > max_bytes:
            raise ObjectTooLarge(f"{self.url}/{key} has {stop - start:,} bytes, more than {max_bytes:,}", key=key)
        part: Buffer = data if wanted is None else memoryview(data)[start:stop]
        if sink is not None:
            memory = sink(stop - start)
            memory[:] = part
            part = memory
        return Blob(part, current, len(data), written)

    async def put(self, key: str, data: Buffer, *, when: When = "always") -> Version:
        """See `Writable.put`. The data is copied, so that the caller may reuse its buffer."""
        full = self._full(key)
        await asyncio.sleep(0)
        if when == "absent":
            if full in self._objects:
                raise Conflict(f"{self.url}/{key} exists already", key=key)
        elif when != "always":
            self._require(key, when)
        version = Version(str(next(self._numbers)))
        self._objects[full] = bytes(data), version, time.time()
        return version

    async def delete(self, key: str, *, when: Version | Literal["always"] = "always") -> None:
        """See `Writable.delete`."""
        full = self._full(key)
        await asyncio.sleep(0)
        if when != "always":
            self._require(key, when)
        self._objects.pop(full, None)

    async def delete_many(self, keys: Iterable[str]) -> None:
        """See `Writable.delete_many`. Atomic."""
        doomed = [self._full(key) for key in keys]
        await asyncio.sleep(0)
        for full in doomed:
            self._objects.pop(full, None)

    async def list_pages(self, prefix: str = "", *, after: str = "") -> AsyncIterator[list[Entry]]:
        """See `SupportsPages.list_pages`."""
        await asyncio.sleep(0)
        keys = sorted(key for key in self._keys(prefix) if key > after)
        for start in range(0, len(keys), _PAGE):
            if page := [entry for key in keys[start : start + _PAGE] if (entry := self._entry(key)) is not None]:
                yield page
            await asyncio.sleep(0)

    def list_prefix(self, prefix: str = "") -> MemoryEntries:
        """See `Listable.list_prefix`. Objects created or deleted during the listing may or may not be included."""
        return MemoryEntries(lambda: sorted(self._keys(prefix)), self._entry)

    async def list_dir(self, prefix: str = "") -> Listing:
        """See `Listable.list_dir`."""
        await asyncio.sleep(0)
        folder = prefix.rstrip("/") + "/" if prefix.strip("/") else ""
        dirs: set[str] = set()
        entries = []
        for key in self._keys(folder):
            name, slash, _ = key[len(folder) :].partition("/")
            if slash:
                dirs.add(folder + name)
            elif name:
                entries.append(self._entry(key))
        return Listing(tuple(sorted(dirs)), tuple(sorted(filter(None, entries), key=lambda entry: entry.key)))

    def _full(self, key: str) -> str:
        if not key or key.startswith("/"):
            raise StoreError(f"a key must be relative and not empty, not {key!r}", key=key)
        return self._root + key

    def _require(self, key: str, version: Version) -> None:
        found = self._objects.get(self._root + key)
        if found is None or found[1] != version:
            state = "absent" if found is None else f"at version {found[1]}"
            raise Conflict(f"{self.url}/{key} is {state}, not at version {version}", key=key)

    def _keys(self, prefix: str) -> Iterator[str]:
        full, cut = self._root + prefix, len(self._root)
        return (key[cut:] for key in self._objects if key.startswith(full))

    def _entry(self, key: str) -> Entry | None:
        found = self._objects.get(self._root + key)
        return found and Entry(key, len(found[0]), found[1], found[2])


class MemoryEntries:
    """The async iterator of `MemoryStore.list_prefix`."""

    __slots__ = ("_entry", "_keys", "_seen", "_sorted_keys")

    def __init__(self, sorted_keys: Callable[[], list[str]], entry: Callable[[str], Entry | None]) -> None:
        self._sorted_keys = sorted_keys
        self._entry = entry
        self._keys: Iterator[str] | None = None
        self._seen = 0

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Entry:
        # As often as a listing by pages would wait, so that a long one does not block the loop.
        if self._seen % _PAGE == 0:
            await asyncio.sleep(0)
        self._seen += 1
        if self._keys is None:
            self._keys = iter(self._sorted_keys())
        # Objects may have been deleted since the names were sorted.
        for key in self._keys:
            if (entry := self._entry(key)) is not None:
                return entry
        raise StopAsyncIteration
