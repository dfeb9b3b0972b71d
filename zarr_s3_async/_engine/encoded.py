"""Single chunks in encoded form: get, put and erase them, and decode encoded bytes."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import datetime
from functools import partial
from typing import Any, Literal, NamedTuple, TypeAlias

import numpy as np

from .._grid import cell_at, grid_shape, place
from .._types import Buffer, Coords, Version
from ..errors import ChunkDecodeError, ConfigError, Conflict, SelectionError, UnsupportedFeature
from ..stores.base import parse_modified
from ..stores.optional import check_condition, stat
from .chunks import Changes, Fetched
from .compare_and_swap import retry_conflicts
from .cpu import runs_inline
from .read import Result, fetch_lease
from .runtime import Layout, Runtime, store_for_chunks
from .write import update_lease

_COPIED_INLINE = 2**20
"""Maximum size of a chunk that is copied on the event loop: up to it, a thread would cost more."""

Expected: TypeAlias = Version | Literal["absent"] | None
"""Condition on the stored state: this version, absent, or None for any state."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class EncodedChunk:
    """A stored chunk in encoded form: the result of `Array.chunk_at`."""

    coords: Coords
    """Its position in the grid of chunks."""
    key: str
    """Key of the object that contains it, relative to the store's root: its own, or a shard's."""
    data: bytes
    """The encoded bytes."""
    version: Version
    """Version of the object: with it, `put_chunk` and `erase_chunk` change exactly this state."""
    modified: datetime | None
    """When the object was last changed, in UTC. None if the store does not know it, or if a shard was rewritten before
    its time could be read."""
    _decode: Callable[[], Result] = field(repr=False)

    @property
    def size(self) -> int:
        """Encoded bytes."""
        return len(self.data)

    def decode(self) -> np.ndarray[Any, Any]:
        """Decode the chunk into newly allocated memory, including elements beyond the array's edge.

        It runs in the calling thread: use `await asyncio.to_thread(chunk.decode)` for a large chunk.

        Raises:
            ChunkDecodeError: The bytes are not a chunk of this array.
        """
        return self._decode()

    def __repr__(self) -> str:
        return f"<EncodedChunk {self.coords} of {self.size:,} bytes, key {self.key!r}, version {self.version}>"


class _Place(NamedTuple):
    """Where a chunk is stored."""

    coords: Coords
    layout: Layout
    """Layout of the object that contains it."""
    key: str
    slot: int


def _locate(layout: Layout, coords: Coords) -> _Place:
    """Find the object and the slot of a chunk.

    Raises:
        SelectionError: The array has no such chunk.
    """
    meta = layout.meta
    grid = grid_shape(layout.chunk_axes, meta.shape)
    if len(coords) != len(grid) or not all(0 <= at < n for at, n in zip(coords, grid, strict=True)):
        raise SelectionError(f"{layout.url} has no chunk {coords}: its grid has {grid} chunks, counted from 0")
    if meta.shards is None:
        there = layout.at(coords)
        return _Place(coords, there, there.chunks.locate(coords), 0)
    # Chunks inside shards all have one shape, so a chunk's start is a multiple of it; shards may differ in shape.
    starts = [at * chunk for at, chunk in zip(coords, meta.chunks, strict=True)]
    objects = tuple([cell_at(axis, start) for axis, start in zip(meta.object_axes, starts, strict=True)])
    there = layout.at(objects)
    slot = 0
    for axis, at, start, chunk, length in zip(
        meta.object_axes, objects, starts, meta.chunks, there.meta.object_shape, strict=True
    ):
        # Horner's scheme: the row-major index of the chunk in its shard.
        slot = slot * (length // chunk) + (start - place(axis, at)[0]) // chunk
    return _Place(coords, there, there.chunks.locate(objects), slot)


async def get_encoded(runtime: Runtime, layout: Layout, coords: Coords) -> EncodedChunk | None:
    """See `Array.chunk_at`."""
    at = _locate(layout, coords)
    there, store = at.layout, store_for_chunks(runtime)
    lease = fetch_lease(there, at.key, 1)
    await runtime.leases.acquire(lease)
    try:
        if there.shard_axes is None:
            blob = await store.get(at.key, max_bytes=there.pipeline.max_encoded_nbytes)
            if blob is None:
                return None
            found, version, modified = blob.data, blob.version, blob.modified
        else:
            fetched = await there.readable.fetch(at.key, [at.slot])
            if fetched.buffers[0] is None:  # a cached index may be older than the chunk
                there.readable.forget(at.key)
                fetched = await there.readable.fetch(at.key, [at.slot])
            if fetched.buffers[0] is None or fetched.version is None:
                return None
            found, version = fetched.buffers[0], fetched.version
            entry = await stat(store, at.key)  # range responses of a shard do not include its time
            modified = entry.modified if entry is not None and entry.version == version else None
        data = await _as_bytes(runtime, found)
    finally:
        runtime.leases.release(lease)
    return EncodedChunk(
        coords=coords,
        key=at.key,
        data=data,
        version=version,
        modified=parse_modified(modified),
        _decode=partial(_decoded, there, data, coords, version),
    )


async def _as_bytes(runtime: Runtime, data: Buffer) -> bytes:
    if isinstance(data, bytes):
        return data
    if memoryview(data).nbytes <= _COPIED_INLINE:
        return bytes(data)
    return await runtime.cpu.run(partial(bytes, data))


def decode_encoded(layout: Layout, data: Any, coords: Coords | None) -> Result:
    """See `Array.decode_chunk`."""
    if coords is not None:
        return _decoded(_locate(layout, coords).layout, _checked_bytes(data), coords)
    if layout.of_shape is not None and layout.meta.shards is None:
        raise ConfigError(f"chunks of {layout.url} differ in shape: pass coords= of this one")
    return _decoded(layout, _checked_bytes(data), None)


def _decoded(layout: Layout, data: Buffer, coords: Coords | None, version: Version | None = None) -> Result:
    pipeline = layout.pipeline
    size = memoryview(data).nbytes
    which = "a chunk" if coords is None else f"chunk {coords}"
    try:
        if size > pipeline.max_encoded_nbytes:
            raise ChunkDecodeError(f"no encoded chunk has more than {pipeline.max_encoded_nbytes:,} bytes")
        return pipeline.decode_to_copy(data)
    except ChunkDecodeError as error:
        raise ChunkDecodeError(
            f"these {size:,} bytes do not decode to {which} of {layout.url}: {error}",
            array=layout.url,
            chunk=coords,
            version=version,
            codec=error.codec,
        ) from error
    except UnsupportedFeature as error:
        raise UnsupportedFeature(f"{which} of {layout.url} cannot be decoded here: {error}", url=layout.url) from error


def _checked_bytes(data: Any) -> Buffer:
    if isinstance(data, bytes | bytearray):
        return data
    if isinstance(data, memoryview) and data.c_contiguous:
        return data.cast("B")
    hint = " (elements are written with set_slice)" if isinstance(data, np.ndarray) else ""
    raise ConfigError(
        f"an encoded chunk must be bytes, a bytearray or a contiguous memoryview, not {type(data).__name__}{hint}"
    )


def _check_expected(version: Any) -> None:
    if version is None or (isinstance(version, str) and version not in ("", "always")):
        return
    raise ConfigError(f"version must be a chunk's version, 'absent', or None for any state, not {version!r}")


async def put_encoded(
    runtime: Runtime, layout: Layout, coords: Coords, encoded: Any, *, version: Expected, validate: bool
) -> Version:
    """See `Array.put_chunk`."""
    _check_expected(version)
    at, data = _locate(layout, coords), _checked_bytes(encoded)
    if validate:
        await _validate(runtime, at, data)
    if at.layout.shard_axes is None:
        async with runtime.locks.hold(runtime.name_of(at.key)):
            when = "always" if version is None else version
            await check_condition(runtime.store, at.key, when)
            try:
                return await runtime.store.put(at.key, data, when=when)
            finally:
                runtime.decoded.forget(runtime.name_of(at.key))
    stored = await _change_shard(runtime, at, data, version)
    assert stored is not None  # noqa: S101  # a shard with a chunk is not deleted
    return stored


async def _validate(runtime: Runtime, at: _Place, data: Buffer) -> None:
    pipeline = at.layout.pipeline
    decode = partial(_decoded, at.layout, data, at.coords)
    await runtime.leases.acquire(at.layout.lease)
    try:
        if runs_inline(pipeline.nbytes, pipeline.cost):
            decode()
        else:
            await runtime.cpu.run(decode)
    finally:
        runtime.leases.release(at.layout.lease)


async def erase_encoded(runtime: Runtime, layout: Layout, coords: Coords, *, version: Expected) -> None:
    """See `Array.erase_chunk`."""
    _check_expected(version)
    if version == "absent":
        raise ConfigError("an absent chunk cannot be erased: version must be a stored chunk's version, or None")
    at = _locate(layout, coords)
    if at.layout.shard_axes is not None:
        await _change_shard(runtime, at, None, version)
        return
    async with runtime.locks.hold(runtime.name_of(at.key)):
        if version is not None:
            await check_condition(runtime.store, at.key, version)
        try:
            await runtime.store.delete(at.key, when="always" if version is None else version)
        finally:
            runtime.decoded.forget(runtime.name_of(at.key))


async def _change_shard(runtime: Runtime, at: _Place, data: Buffer | None, version: Expected) -> Version | None:
    """Replace or remove one chunk of a shard, on condition of the version that was read; others are copied as bytes."""
    there, name = at.layout, runtime.name_of(at.key)
    if there.encode_error is not None:  # the index has to be encoded too
        raise there.not_writable()
    # The old chunk is fetched only if its absence or presence decides: to erase it, or to require its absence.
    is_fetched = data is None or version == "absent"
    changes: Changes = {at.slot: data}

    async def attempt() -> Version | Conflict | None:
        base = await there.chunks.fetch_for_update(at.key, [at.slot], () if is_fetched else {at.slot})
        refusal = _refusal(runtime, at, base, version)
        if refusal is not None:
            return refusal
        # The chunk is absent already: storing the shard again would only change its version.
        if data is None and base.stored.get(at.slot) is None:
            return base.version
        return await there.chunks.replace(at.key, changes, base, encode_fill=_no_fill)

    def given_up(attempts: int) -> str:
        return (
            f"the shard of chunk {at.coords} of {there.url} was changed by others during all of {attempts} attempts; "
            "write whole shards, or raise RetryPolicy.conflict_attempts"
        )

    lease = update_lease(there, at.key)
    await runtime.leases.acquire(lease)
    try:
        async with runtime.locks.hold(name):
            if version is None or version == "absent":
                found = await retry_conflicts(runtime, at.key, attempt, given_up)
            else:  # the caller's version is gone after a conflict: another attempt cannot succeed
                found = await attempt()
    finally:
        runtime.decoded.forget(name)
        runtime.leases.release(lease)
    if isinstance(found, Conflict):
        raise found
    return found


def _refusal(runtime: Runtime, at: _Place, base: Fetched, version: Expected) -> Conflict | None:
    if version is None:
        return None
    where = f"chunk {at.coords} of {at.layout.url}"
    if version == "absent":
        there = base.stored.get(at.slot) is not None
        return Conflict(f"{where} is stored already, in {runtime.store.url}/{at.key}", key=at.key) if there else None
    if base.version == version:
        return None
    state = "absent" if base.version is None else f"at version {base.version}"
    return Conflict(f"the shard of {where} is {state}, not at version {version}", key=at.key)


async def _no_fill() -> Buffer:
    raise AssertionError  # never called: an empty shard that cannot be deleted is stored as an empty index
