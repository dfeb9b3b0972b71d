"""Encoded chunks in stored objects: locate an object, fetch slots of it, replace slots of it.

A slot is the position of a chunk in its object. A plain array stores one chunk per object, in slot 0. Sharded arrays
have their own implementation of the same protocol; no other code depends on whether an array is sharded.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from types import MappingProxyType
from typing import Final, NamedTuple, Protocol, TypeAlias

import numpy as np

from .._model.metadata import ArrayMeta
from .._plan.runs import Runs
from .._policy.backoff import PINNED_ATTEMPTS
from .._types import Buffer, Coords, Sink, Version
from ..codecs.shard_format import Encoded
from ..config import Limits
from ..errors import AccessDenied, ChunkDecodeError, Conflict, ObjectTooLarge, Unsupported
from ..stores.base import Store, Unchanged
from ..stores.optional import get_unless
from .elements import Wanted
from .ranges import Ranges

Changes: TypeAlias = Mapping[int, Encoded | None]
"""Encoded chunks by slot; None deletes one. In shards, a NumPy array stands for its raw bytes, copied on assembly."""
_NOTHING: Final[Mapping[int, Buffer]] = MappingProxyType({})


class Fetched(NamedTuple):
    """Encoded slots of one version of an object."""

    buffers: Sequence[Buffer | None]
    """One per requested slot; None for an absent chunk."""
    version: Version | None
    """None if the object is absent."""
    stored: Mapping[int, Buffer] = _NOTHING
    """If fetched for an update: all chunks of the object by slot, except those that are overwritten."""


class FetchCost(NamedTuple):
    """Number of requests and bytes of a fetch."""

    requests: int
    nbytes: int
    """Bytes of the responses; compressed chunks of unknown length count with their decoded bytes."""
    is_known: bool = True
    """False if the requests depend on an index that is not cached: then a full shard is assumed, with all its chunks at
    full size, one after the other."""
    dense: int = 0
    """Chunks that are fetched whole for few elements: see `Elements.dense`."""


class Chunks(Protocol):
    """Access to the encoded chunks of one array."""

    def locate(self, coords: Coords) -> str:
        """Key of the object at these grid coordinates."""
        ...

    async def fetch(self, key: str, slots: Sequence[int], *, sinks: Sequence[Sink | None] | None = None) -> Fetched:
        """Fetch encoded slots; a slot with a sink is received into its memory."""
        ...

    async def fetch_unless(self, key: str, slots: Sequence[int], version: Version) -> Fetched | None:
        """Like `fetch`, but None if the object still has this version: then it is one request without a body."""
        ...

    async def fetch_runs(self, key: str, wanted: Sequence[Wanted]) -> Fetched | None:
        """Fetch byte runs of uncompressed chunks, all of one version of the object, into given memory.

        Args:
            key: The object.
            wanted: Slots, each with the byte runs to fetch and the memory to receive them.

        Returns:
            The memory of each slot; None for absent chunks. None instead of a result if the chunks must be read whole
            with `fetch`: one has an unexpected length, or the object kept changing.
        """
        ...

    async def fetch_for_update(self, key: str, slots: Sequence[int], overwritten: Container[int] = ()) -> Fetched:
        """Fetch encoded slots and everything else that `replace` needs to store the object again.

        Args:
            key: The object.
            slots: The slots that will change.
            overwritten: Those of them whose old bytes are not needed. They may be returned as None without being
                fetched.
        """
        ...

    def fetch_cost(self, coords: Coords, slots: Sequence[int]) -> FetchCost:
        """Cost of `fetch` for a stored object."""
        ...

    def runs_cost(self, coords: Coords, runs: Sequence[tuple[int, Runs]]) -> FetchCost:
        """Cost of `fetch_runs` for a stored object; `runs` holds slots with their runs."""
        ...

    def update_cost(self, coords: Coords, overwritten: Container[int] = ()) -> FetchCost:
        """Cost of `fetch_for_update` for a stored object."""
        ...

    def overhead(self, key: str) -> int:
        """Bytes that a fetch of the object may hold in memory in addition to its chunks."""
        ...

    def forget(self, key: str) -> None:
        """Invalidate everything cached of this object."""
        ...

    async def replace(
        self, key: str, changes: Changes, base: Fetched | None, *, encode_fill: EncodeFill
    ) -> Version | None:
        """Store slots; None deletes one. An object without chunks is deleted if possible.

        Args:
            key: The object.
            changes: Encoded chunks by slot. Without `base` they are the whole object.
            base: Replace exactly the version that was fetched, else raise `Conflict`. None: replace any version.
            encode_fill: Returns an encoded chunk of fill values, for an empty object that cannot be deleted.
        """
        ...


EncodeFill: TypeAlias = Callable[[], Awaitable[Encoded]]


async def delete_emptied(store: Store, key: str, base: Fetched | None) -> bool:
    """Delete an object that contains no chunks any more.

    Args:
        store: The store.
        key: The object.
        base: Delete exactly the version that was fetched, else raise `Conflict`. None: delete any version.

    Returns:
        False if the object cannot be deleted conditionally: the server does not support it, or permission is missing.
        Then the caller must replace the object by one that contains fill values.
    """
    if base is None:
        await store.delete(key)
    elif base.version is not None:
        try:
            await store.delete(key, when=base.version)
        # Permission to put does not imply permission to delete, and few servers support conditional deletes.
        except (Unsupported, AccessDenied):
            return False
    return True


class PlainChunks:
    """Chunks of a plain array: one per object."""

    __slots__ = ("_encode", "_max_bytes", "_nbytes", "_prefix", "_ranges", "_store")

    def __init__(self, store: Store, path: str, meta: ArrayMeta, max_bytes: int, limits: Limits) -> None:
        """
        Args:
            store: The store of the objects.
            path: Path of the array.
            meta: Metadata of the array.
            max_bytes: Upper bound on the size of an encoded chunk; larger objects are rejected before they are read.
            limits: Limits on byte ranges.
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
        del slots  # there is only slot 0
        try:
            blob = await self._store.get(key, sink=None if sinks is None else sinks[0], max_bytes=self._max_bytes)
        except ObjectTooLarge as error:
            raise self._too_large(key) from error
        if blob is None:
            return Fetched((None,), None)
        return Fetched((blob.data,), blob.version)

    async def fetch_unless(self, key: str, slots: Sequence[int], version: Version) -> Fetched | None:
        """One conditional GET; see `Chunks.fetch_unless`."""
        del slots  # there is only slot 0
        try:
            blob = await get_unless(self._store, key, version, max_bytes=self._max_bytes)
        except ObjectTooLarge as error:
            raise self._too_large(key) from error
        if blob is Unchanged.UNCHANGED:
            return None
        return Fetched((None,), None) if blob is None else Fetched((blob.data,), blob.version)

    def _too_large(self, key: str) -> ChunkDecodeError:
        return ChunkDecodeError(
            f"{self._store.url}/{key} is not a chunk of this array: an encoded chunk has at most "
            f"{self._max_bytes:,} bytes",
            key=key,
        )

    async def fetch_runs(self, key: str, wanted: Sequence[Wanted]) -> Fetched | None:
        """One range, whose response gives the version, then the others in parallel, pinned to it; see `Chunks`."""
        (chunk,) = wanted
        pieces = chunk.pieces()
        # The first range is not pinned: its response says which version the others must have.
        request, number = self._ranges.first([span for span, _ in pieces])
        for _ in range(PINNED_ATTEMPTS):
            blob = await self._store.get(key, range=request)
            if blob is None:
                return Fetched((None,), None)
            # Not an uncompressed chunk of this array, or a truncated response: reading it whole produces the right
            # error.
            if blob.size != self._nbytes or len(blob.data) != request.stop - request.start:
                return None
            body = memoryview(blob.data)
            for span, memory in pieces[:number]:
                memory[:] = body[span.start - request.start : span.stop - request.start]
            try:
                await self._ranges.fetch_into(key, blob.version, pieces[number:])
            except Conflict:
                continue  # the object changed between two ranges
            return Fetched((chunk.memory,), blob.version)
        return None

    async def fetch_for_update(self, key: str, slots: Sequence[int], overwritten: Container[int] = ()) -> Fetched:
        """One GET; see `Chunks.fetch_for_update`."""
        del overwritten  # a write that covers the only slot does not fetch at all
        return await self.fetch(key, slots)

    def fetch_cost(self, coords: Coords, slots: Sequence[int]) -> FetchCost:
        """One GET; see `Chunks.fetch_cost`."""
        del coords, slots  # the same for every object
        return FetchCost(1, self._nbytes)

    def runs_cost(self, coords: Coords, runs: Sequence[tuple[int, Runs]]) -> FetchCost:
        """The ranges; see `Chunks.runs_cost`."""
        del coords  # the same for every object
        spans = runs[0][1].spans()
        first, number = self._ranges.first(spans)
        requests, nbytes = self._ranges.cost(spans[number:])
        return FetchCost(1 + requests, first.stop - first.start + nbytes)

    def update_cost(self, coords: Coords, overwritten: Container[int] = ()) -> FetchCost:
        """One GET; see `Chunks.update_cost`."""
        del coords, overwritten  # see `fetch_for_update`
        return FetchCost(1, self._nbytes)

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
        # The whole object is new, so no state of it needs to be protected.
        if base is None:
            return await self._store.put(key, data)
        # The version was fetched together with the merged data: anything stored since is not overwritten.
        return await self._store.put(key, data, when=base.version or "absent")
