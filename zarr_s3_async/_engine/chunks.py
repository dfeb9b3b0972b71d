"""Encoded chunks in stored objects: where an object is, getting slots of it, replacing slots of it.

A plain array keeps one chunk in an object, so its only slot is 0. Sharded arrays get their own class of the same
protocol; nothing else asks whether an array is sharded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol, TypeAlias

import numpy as np

from .._model.metadata import ArrayMeta
from .._plan.runs import Runs
from .._types import Buffer, Coords, Sink, Version
from ..codecs.shard_format import Encoded
from ..config import Limits
from ..errors import AccessDenied, ChunkDecodeError, Conflict, ObjectTooLarge, Unsupported
from ..stores.base import Store
from .elements import Wanted
from .ranges import Ranges

Changes: TypeAlias = Mapping[int, Encoded | None]
"""Encoded chunks by slot; None empties one. What is an array is copied by its elements, where objects hold many."""
_PINNED_ATTEMPTS = 8
"""Times that an object may be rewritten under a reader of several of its ranges before it is read whole."""
_NOTHING: Final[Mapping[int, Buffer]] = MappingProxyType({})


class Fetched(NamedTuple):
    """Encoded slots of one state of one object."""

    buffers: Sequence[Buffer | None]
    """One per slot asked for; None where the chunk is absent."""
    version: Version | None
    """None where the whole object is absent."""
    stored: Mapping[int, Buffer] = _NOTHING
    """Where it was fetched to be changed: the chunks of the object by slot, but for those that are overwritten."""


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

    async def fetch_runs(self, key: str, wanted: Sequence[Wanted]) -> Fetched | None:
        """Bytes of uncompressed chunks, all of one state of the object, each into its memory, which comes back.

        Args:
            key: The object.
            wanted: Chunks by slot, with the runs of bytes that are wanted of each.

        Returns:
            The memory of each; None for absent chunks. None altogether where `fetch` must read the chunks whole: one
            has not the length that it should have, or the object kept changing.
        """
        ...

    async def fetch_for_update(self, key: str, slots: Sequence[int], overwritten: Container[int] = ()) -> Fetched:
        """The encoded slots with all that `replace` needs to store the object again.

        Args:
            key: The object.
            slots: Those that will change.
            overwritten: Those of them whose old bytes are not needed: they need not be fetched, and come as None then.
        """
        ...

    def fetch_cost(self, coords: Coords, slots: Sequence[int]) -> Cost:
        """What `fetch` would ask for, of an object that is stored."""
        ...

    def runs_cost(self, coords: Coords, runs: Sequence[tuple[int, Runs]]) -> Cost:
        """What `fetch_runs` would ask for, of an object that is stored; the runs with their slots."""
        ...

    def update_cost(self, coords: Coords, overwritten: Container[int] = ()) -> Cost:
        """What `fetch_for_update` would ask for, of an object that is stored."""
        ...

    def overhead(self, key: str) -> int:
        """Bytes that a fetch of the object may hold in memory beside its chunks."""
        ...

    def forget(self, key: str) -> None:
        """Whatever is cached of this object: the next fetch asks for all of it."""
        ...

    async def replace(
        self, key: str, changes: Changes, base: Fetched | None, *, encode_fill: EncodeFill
    ) -> Version | None:
        """Store these slots; None empties one. An object that holds nothing any more is deleted where it can be.

        Args:
            key: The object.
            changes: Encoded chunks by slot. Without a base they are the whole object.
            base: Replace exactly the state that was fetched, else `Conflict`. None: whatever is there.
            encode_fill: Gives an encoded chunk of fill, for an object that must stay though it is emptied.
        """
        ...


EncodeFill: TypeAlias = Callable[[], Awaitable[Encoded]]


async def delete_emptied(store: Store, key: str, base: Fetched | None) -> bool:
    """Delete an object that holds nothing any more.

    Args:
        store: Where it is.
        key: The object.
        base: Delete exactly the state that was fetched, else `Conflict`. None: whatever is there.

    Returns:
        False where this one version cannot be deleted: the server does not know how, or we are not allowed to. Then the
        object must be replaced by one that says fill.
    """
    if base is None:
        await store.delete(key)
    elif base.version is not None:
        try:
            await store.delete(key, when=base.version)
        except (Unsupported, AccessDenied):
            return False
    return True


class PlainChunks:
    """One chunk per object."""

    __slots__ = ("_encode", "_max_bytes", "_nbytes", "_prefix", "_ranges", "_store")

    def __init__(self, store: Store, path: str, meta: ArrayMeta, max_bytes: int, limits: Limits) -> None:
        """
        Args:
            store: Holds the objects.
            path: Of the array.
            meta: Of the array.
            max_bytes: Upper bound on the size of an encoded chunk; larger objects are rejected before they are read.
            limits: Bounds of byte ranges.
        """
        self._store = store
        self._max_bytes = max_bytes
        self._ranges = Ranges(store, limits)
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

    async def fetch_runs(self, key: str, wanted: Sequence[Wanted]) -> Fetched | None:
        """One range, which tells the version, then the others in parallel, pinned to it; see `Chunks.fetch_runs`."""
        (chunk,) = wanted
        pieces = chunk.pieces()
        request, number = self._ranges.first([span for span, _ in pieces])
        for _ in range(_PINNED_ATTEMPTS):
            blob = await self._store.get(key, range=request)
            if blob is None:
                return Fetched((None,), None)
            if blob.size != self._nbytes or len(blob.data) != request.stop - request.start:
                return None
            body = memoryview(blob.data)
            for span, memory in pieces[:number]:
                memory[:] = body[span.start - request.start : span.stop - request.start]
            try:
                await self._ranges.fetch_into(key, blob.version, pieces[number:])
            except Conflict:
                continue  # changed between two ranges
            return Fetched((chunk.memory,), blob.version)
        return None

    async def fetch_for_update(self, key: str, slots: Sequence[int], overwritten: Container[int] = ()) -> Fetched:
        """One GET; see `Chunks.fetch_for_update`."""
        del overwritten  # a write of the only slot needs no base
        return await self.fetch(key, slots)

    def fetch_cost(self, coords: Coords, slots: Sequence[int]) -> Cost:
        """One GET; see `Chunks.fetch_cost`."""
        del coords, slots  # all objects are alike
        return Cost(1, self._nbytes)

    def runs_cost(self, coords: Coords, runs: Sequence[tuple[int, Runs]]) -> Cost:
        """The ranges; see `Chunks.runs_cost`."""
        del coords  # all objects are alike
        spans = runs[0][1].spans()
        first, number = self._ranges.first(spans)
        requests, nbytes = self._ranges.cost(spans[number:])
        return Cost(1 + requests, first.stop - first.start + nbytes)

    def update_cost(self, coords: Coords, overwritten: Container[int] = ()) -> Cost:
        """One GET; see `Chunks.update_cost`."""
        del coords, overwritten  # see `fetch_for_update`
        return Cost(1, self._nbytes)

    def overhead(self, key: str) -> int:  # noqa: ARG002  # the same for every object
        """Nothing; see `Chunks.overhead`."""
        return 0

    def forget(self, key: str) -> None:
        """Nothing is cached; see `Chunks.forget`."""

    async def replace(
        self, key: str, changes: Changes, base: Fetched | None, *, encode_fill: EncodeFill
    ) -> Version | None:
        """One PUT, or a DELETE for an emptied chunk; see `Chunks.replace`."""
        data = changes[0]
        if data is None:
            if await delete_emptied(self._store, key, base):
                return None
            data = await encode_fill()
        assert not isinstance(data, np.ndarray)  # noqa: S101  # elements are copied only into shards
        if base is None:
            return await self._store.put(key, data)
        return await self._store.put(key, data, when=base.version or "absent")
