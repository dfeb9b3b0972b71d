"""Encoded chunks in stored objects: where an object is, getting slots of it, replacing slots of it.

A plain array keeps one chunk in an object, so its only slot is 0. Sharded arrays get their own class of the same
protocol; nobody else asks whether an array is sharded.
"""

from __future__ import annotations

from collections.abc import Container, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol, TypeAlias

import numpy as np

from .._model.metadata import ArrayMeta
from .._types import Buffer, Coords, Sink, Version
from ..codecs.shard_format import Encoded
from ..errors import ChunkDecodeError, ObjectTooLarge
from ..stores.base import Store

Changes: TypeAlias = Mapping[int, Encoded | None]
"""Encoded chunks by slot; None empties one. What is an array is copied by its elements, where objects hold many."""
_NOTHING: Final[Mapping[int, Buffer]] = MappingProxyType({})


class Fetched(NamedTuple):
    """Encoded slots of one state of one object."""

    buffers: Sequence[Buffer | None]
    """One per slot asked for; None where the chunk is absent."""
    version: Version | None
    """None where the whole object is absent."""
    stored: Mapping[int, Buffer] = _NOTHING
    """Where it was fetched to be changed: the chunks of the object by slot, but for those that are replaced."""


class Cost(NamedTuple):
    """What a fetch would ask of the store."""

    requests: int
    nbytes: int
    """Bytes of the answers; of compressed chunks whose length is not known, their decoded bytes."""
    is_known: bool = True
    """False where the requests depend on an index that is not here: they are those of a shard that has all its chunks,
    each of full size, one after the other."""


class Chunks(Protocol):
    """What the engine reads from and writes to."""

    def locate(self, coords: Coords) -> str:
        """Key of the object at these grid coordinates."""
        ...

    async def fetch(self, key: str, slots: Sequence[int], *, sinks: Sequence[Sink | None] | None = None) -> Fetched:
        """The encoded slots; each is received into its sink where it has one."""
        ...

    async def fetch_for_update(self, key: str, slots: Sequence[int], replaced: Container[int] = ()) -> Fetched:
        """The encoded slots with all that `replace` needs to store the object anew.

        Args:
            key: The object.
            slots: Those that will change.
            replaced: Those of them whose old bytes nobody needs: they need not be fetched, and come as None then.
        """
        ...

    def fetch_cost(self, coords: Coords, slots: Sequence[int]) -> Cost:
        """What `fetch` would ask for, of an object that is stored."""
        ...

    def update_cost(self, coords: Coords, replaced: Container[int] = ()) -> Cost:
        """What `fetch_for_update` would ask for, of an object that is stored."""
        ...

    def forget(self, key: str) -> None:
        """Whatever is remembered of this object: the next fetch asks for all of it."""
        ...

    async def replace(self, key: str, changes: Changes, base: Fetched | None) -> Version | None:
        """Store these slots; None empties one.

        Args:
            key: The object.
            changes: Encoded chunks by slot. Without a base they are the whole object.
            base: Replace exactly the state that was fetched, else `Conflict`. None: whatever is there.
        """
        ...


class PlainChunks:
    """One chunk per object."""

    __slots__ = ("_encode", "_max_bytes", "_nbytes", "_prefix", "_store")

    def __init__(self, store: Store, path: str, meta: ArrayMeta, max_bytes: int) -> None:
        """
        Args:
            store: Holds the objects.
            path: Of the array.
            meta: Of the array.
            max_bytes: Upper bound on the size of an encoded chunk; larger objects are rejected before they are read.
        """
        self._store = store
        self._max_bytes = max_bytes
        self._nbytes = meta.object_nbytes
        self._prefix = path + "/" if path else ""
        self._encode = meta.keys.encode

    def locate(self, coords: Coords) -> str:
        """See `Chunks.locate`."""
        return self._prefix + self._encode(coords)

    async def fetch(self, key: str, slots: Sequence[int], *, sinks: Sequence[Sink | None] | None = None) -> Fetched:
        """One GET; see `Chunks.fetch`."""
        del slots  # there is one
        try:
            blob = await self._store.get(key, sink=None if sinks is None else sinks[0], max_bytes=self._max_bytes)
        except ObjectTooLarge as error:
            raise ChunkDecodeError(
                f"{self._store.url}/{key} is no chunk of this array: no encoded chunk has more than "
                f"{self._max_bytes:,} bytes",
                key=key,
            ) from error
        if blob is None:
            return Fetched((None,), None)
        return Fetched((blob.data,), blob.version)

    async def fetch_for_update(self, key: str, slots: Sequence[int], replaced: Container[int] = ()) -> Fetched:
        """One GET; see `Chunks.fetch_for_update`."""
        del replaced  # whoever replaces the only slot needs no base
        return await self.fetch(key, slots)

    def fetch_cost(self, coords: Coords, slots: Sequence[int]) -> Cost:
        """One GET; see `Chunks.fetch_cost`."""
        del coords, slots  # all objects are alike
        return Cost(1, self._nbytes)

    def update_cost(self, coords: Coords, replaced: Container[int] = ()) -> Cost:
        """One GET; see `Chunks.update_cost`."""
        del coords, replaced  # see `fetch_for_update`
        return Cost(1, self._nbytes)

    def forget(self, key: str) -> None:
        """Nothing is remembered; see `Chunks.forget`."""

    async def replace(self, key: str, changes: Changes, base: Fetched | None) -> Version | None:
        """One PUT, or a DELETE for an emptied chunk; see `Chunks.replace`."""
        data = changes[0]
        assert not isinstance(data, np.ndarray)  # noqa: S101  # there is nobody to copy it here
        if data is None:
            if base is None:
                await self._store.delete(key)
            elif base.version is not None:
                await self._store.delete(key, when=base.version)
            return None
        if base is None:
            return await self._store.put(key, data)
        return await self._store.put(key, data, when=base.version or "absent")
