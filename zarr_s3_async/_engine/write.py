"""Write a plan: fully covered objects are encoded and put; others are merged by a conditional write.

After a failure no further object is started, and those in flight may finish, so that the state of as few objects as
possible is unknown; the error's `outcome` lists which are written.
"""

from __future__ import annotations

from asyncio import CancelledError
from collections.abc import Callable, Container, Iterator, Sequence
from copy import copy
from functools import partial
from itertools import count
from time import monotonic
from typing import Any, TypeAlias, TypeVar

import numpy as np

from .._concurrency.workers import run_workers
from .._grid import is_cut
from .._plan.plan import Part, Plan, covers_object
from .._types import Buffer, Coords, Version
from ..codecs.base import check_interrupt, is_fill
from ..codecs.shard_format import Encoded
from ..errors import (
    ChunkDecodeError,
    ChunkError,
    ConcurrentModification,
    Conflict,
    DeadlineExceeded,
    NetworkError,
    SessionClosed,
    StoreError,
    WriteOutcome,
    ZarrS3Error,
)
from .chunks import Changes, Fetched
from .compare_and_swap import retry_conflicts
from .cpu import INLINE_BYTES, MIN_GATHERED, SPLIT_BYTES
from .read import chunk_of, decode_chunk, is_bulk
from .runtime import Layout, Runtime

Values: TypeAlias = np.ndarray[Any, np.dtype[Any]]
T = TypeVar("T")


class Writing:
    """The write of one call: `values`, broadcast to the plan's buffer shape."""

    __slots__ = (
        "_bulk",
        "_drop_fill",
        "_encode_chunk",
        "_failure",
        "_free",
        "_is_gathered",
        "_layout",
        "_plan",
        "_progress",
        "_runtime",
        "_values",
        "version",
    )

    def __init__(self, runtime: Runtime, layout: Layout, plan: Plan, values: Values, *, write_empty: bool) -> None:
        if layout.encode_error is not None:
            raise layout.not_writable()
        self._runtime = runtime
        self._plan = plan
        # Broadcast, not copied: an object's values are cast and copied when its chunk is encoded.
        self._values = values
        # With a null fill value, the content of absent chunks is undefined, so every chunk must be stored.
        self._drop_fill = not write_empty and layout.meta.fill_value is not None
        self._set_layout(layout)
        self._failure: Exception | None = None
        self._progress = Progress()
        self._bulk = False
        self.version: Version | None = None
        """The version of the object that was written last; None if it was deleted, because it contains only fill."""

    def _set_layout(self, layout: Layout) -> None:
        self._layout = layout
        pipeline = layout.pipeline
        # Shards are assembled by a copy, so their raw chunks need not be turned into bytes before.
        self._encode_chunk: Callable[[Values], Encoded] = (
            pipeline.encode if layout.n_slots == 1 else pipeline.encode_to_copy
        )
        self._is_gathered = pipeline.raw and layout.n_slots == 1
        # Encoding only makes a view then: it needs no thread, however large the chunk is.
        self._free = pipeline.cost == "view" and self._plan.basic and self._values.dtype == layout.meta.dtype

    def _at(self, coords: Coords) -> Writing:
        """The same write with the layout of the object at `coords`; its progress is shared."""
        if self._layout.of_shape is None:
            return self
        other = copy(self)
        other._set_layout(self._layout.at(coords))  # noqa: SLF001  # same class
        return other

    async def run(self) -> None:
        """Write everything; raise the first failure, or the cancellation, with its `outcome`."""
        n_objects, turns = self._plan.n_objects, self._runtime.turns
        work = run_workers(min(self._runtime.limits.requests, n_objects), self._until_failure(), self._guarded)
        try:
            if is_bulk(n_objects, self._values.nbytes, self._runtime.limits):
                self._bulk = True
                with turns.bulk():  # as for reads
                    await work
            else:
                turns.active += 1
                turns.short = True
                try:
                    await work
                finally:
                    turns.active -= 1
                    turns.ended = monotonic()
            if self._failure is not None:
                raise self._failure
        except BaseException as error:
            error.outcome = self.outcome()  # type: ignore[attr-defined]  # CancelledError and foreign errors lack it
            raise

    def outcome(self) -> WriteOutcome:
        """The outcome so far."""
        return self._progress.outcome(self._plan)

    def _until_failure(self) -> Iterator[tuple[Coords, Sequence[Part]]]:
        for item in self._plan.objects():
            if self._failure is not None:
                return
            yield item

    async def _guarded(self, item: tuple[Coords, Sequence[Part]]) -> None:
        if self._bulk and self._runtime.turns.short:
            await self._runtime.turns.wait()
        number = self._progress.begin()
        try:
            self.version = await self._at(item[0])._write_object(number, *item)  # noqa: SLF001  # same class
        except CancelledError:
            raise  # its state is unknown if a request may have been sent
        except Exception as error:  # noqa: BLE001  # raised by `run`, after the objects in flight have finished
            self._progress.mark_failed(number, error)
            self._failure = self._failure or error
        else:
            self._progress.mark_written(number)

    async def _write_object(self, number: int, coords: Coords, parts: Sequence[Part]) -> Version | None:
        covered = self._layout.fields is None and covers_object(parts)
        whole = covered and replaces_object(self._layout, coords, parts)
        key = self._layout.chunks.locate(coords)
        lease = update_lease(self._layout, key, len(parts) if whole else None)
        await self._runtime.leases.acquire(lease)
        try:
            if whole:
                return await self._replace_whole(number, key, parts)
            if covered:
                return await self._cover(number, coords, key, parts)
            # Merged, although all of the array is covered: its stored edge may have moved since this handle was opened.
            return await self._merge(number, coords, key, parts)
        except ChunkError as error:
            if type(error) is not ChunkError or error.array is not None:
                raise
            # Raised by an encoder, which knows neither the array nor the chunk.
            url = self._layout.url
            raise ChunkError(
                f"object {coords} of {url} (key {key!r}) is not written: {error}", array=url, key=key, codec=error.codec
            ) from error
        finally:
            # As `Runtime.name_of`, without a call for each chunk written; so is the name of the lock below.
            self._runtime.decoded.forget(f"{self._runtime.place}/{key}")
            self._runtime.leases.release(lease)

    async def _replace_whole(self, number: int, key: str, parts: Sequence[Part]) -> Version | None:
        # Encoded before `mark_sent`: an error of a codec certainly leaves the object unchanged.
        changes = await self._encoded(lambda batch: {p.slot: self._encode(self._fresh(p)) for p in batch}, parts)
        self._progress.mark_sent(number)
        return await self._layout.chunks.replace(key, changes, None, encode_fill=self._encoded_fill)

    async def _cover(self, number: int, coords: Coords, key: str, parts: Sequence[Part]) -> Version | None:
        """Write an object at the array's edge, to which others may have appended since the array was opened."""
        try:
            return await self._merge(number, coords, key, parts)
        except ChunkDecodeError as error:
            if self._layout.n_slots > 1 and error.chunk is not None:
                raise  # only one chunk of a shard is damaged: the others may contain data beyond the edge
            # Nothing of the object decodes, so nothing can be kept, and this write covers all of it inside the array.
            return await self._replace_whole(number, key, parts)

    async def _merge(self, number: int, coords: Coords, key: str, parts: Sequence[Part]) -> Version | None:
        """Fetch, merge, replace on condition of the version that was fetched; retry on a conflict."""
        read: list[Version | None] = []

        async def attempt() -> Version | None:
            try:
                base, changes = await self._fetch_and_merge(coords, key, parts)
            except ChunkDecodeError:  # may have been damaged in transit
                base, changes = await self._fetch_and_merge(coords, key, parts)
            if base.version is None and all(change is None for change in changes.values()):
                return None  # an absent object already reads as fill
            # Marked before the request: if this is cancelled from here on, the object's state is unknown.
            self._progress.mark_sent(number)
            # If all attempts read the same version, no other writer caused the conflicts: see `retry_conflicts`.
            read.append(base.version)
            try:
                return await self._layout.chunks.replace(key, changes, base, encode_fill=self._encoded_fill)
            except Conflict:
                # Rejected, so the object is certainly not written, even if the next attempt fails before its request.
                self._progress.mark_unchanged(number)
                raise

        def given_up(attempts: int) -> str:
            return (
                f"chunk {coords} of {self._layout.url} was changed by others during all of {attempts} attempts to "
                "merge; write whole chunks, or raise RetryPolicy.conflict_attempts"
            )

        # Serializes merges within the session, which would only conflict with each other.
        async with self._runtime.locks.hold(f"{self._runtime.place}/{key}"):
            return await retry_conflicts(self._runtime, key, attempt, given_up, read)

    async def _fetch_and_merge(self, coords: Coords, key: str, parts: Sequence[Part]) -> tuple[Fetched, Changes]:
        slots, overwritten = [part.slot for part in parts], replaced_slots(self._layout, coords, parts)
        base = await self._layout.chunks.fetch_for_update(key, slots, overwritten)
        pieces = list(zip(parts, base.buffers, strict=True))
        return base, await self._encoded(partial(self._merged, coords, key, base, overwritten), pieces)

    async def _encoded_fill(self) -> Encoded:
        """An encoded chunk of fill values, for an empty object that cannot be deleted."""
        encoded = await self._encoded(lambda _: {0: self._layout.pipeline.encode(self._blank())}, (None,))
        data = encoded[0]
        assert data is not None  # noqa: S101  # it was encoded just now
        return data

    async def _encoded(self, work: Callable[[Sequence[T]], Changes], items: Sequence[T]) -> Changes:
        pipeline = self._layout.pipeline
        nbytes = pipeline.nbytes * len(items)
        # No larger limit for quick codecs, as `runs_inline` has: they encode more slowly than they decode.
        if self._free or nbytes <= INLINE_BYTES:
            return work(items)
        batches = await self._runtime.cpu.each(work, items, split=nbytes >= SPLIT_BYTES)
        return {slot: data for batch in batches for slot, data in batch.items()}

    def _merged(
        self,
        coords: Coords,
        key: str,
        base: Fetched,
        overwritten: Container[int],
        pieces: Sequence[tuple[Part, Buffer | None]],
    ) -> Changes:
        changes: dict[int, Encoded | None] = {}
        for part, data in pieces:
            if len(pieces) > 1:
                check_interrupt()
            # Covered completely, so its old bytes were not needed and may not have been fetched.
            if part.slot in overwritten:
                changes[part.slot] = self._encode(self._fresh(part))
                continue
            chunk = self._blank() if data is None else self._stored(coords, part.slot, key, data, base)
            changed = chunk if self._layout.fields is None else chunk[self._layout.fields]  # always a view
            changed[part.take] = self._values[part.put]
            changes[part.slot] = self._encode(chunk)
        return changes

    def _stored(self, coords: Coords, slot: int, key: str, data: Buffer, base: Fetched) -> Values:
        chunk = decode_chunk(self._layout, coords, slot, key, data, base)
        # A raw chunk is decoded as a view of the response, which may be read-only memory.
        return chunk if chunk.flags.writeable else chunk.copy()

    def _fresh(self, part: Part) -> Values:
        """The whole chunk with the new values; fill values beyond the array's edge."""
        values: Values = self._values[part.put]
        meta = self._layout.meta
        # The caller's memory is encoded in place, without a copy.
        if self._plan.basic and values.size == self._layout.chunk_size and values.dtype == meta.dtype:
            return values.reshape(meta.chunks)
        chunk = self._blank()
        chunk[part.take] = values
        return chunk

    def _blank(self) -> Values:
        meta = self._layout.meta
        return np.full(meta.chunks, self._layout.fill[()], dtype=meta.dtype)

    def _encode(self, chunk: Values) -> Encoded | None:
        """Encode a chunk; None if it contains only fill values and such chunks are not stored."""
        if self._drop_fill and is_fill(chunk, self._layout.fill):
            return None
        # A strided view must be copied before it is sent; this copy reuses memory.
        if self._is_gathered and chunk.nbytes >= MIN_GATHERED and not chunk.flags.c_contiguous:
            return self._runtime.cpu.gathered(chunk)
        return self._encode_chunk(chunk)


def update_lease(layout: Layout, key: str, n_new: int | None = None) -> int:
    """Maximum memory of a write of one object in bytes, in addition to the caller's data.

    Args:
        layout: Of the object.
        key: Of the object.
        n_new: Number of chunks that make up the new object; None: they are merged into the stored one.
    """
    if layout.n_slots == 1:
        return layout.lease
    # Encoded chunks and the shard assembled from them; for a merge, also the fetched chunks.
    chunks = max(1, layout.pipeline.nbytes) * (3 * layout.n_slots if n_new is None else 2 * n_new)
    return chunks + (layout.chunks.overhead(key) if layout.has_big_index else 0)


def replaces_object(layout: Layout, coords: Coords, parts: Sequence[Part]) -> bool:
    """True if a write of these parts can replace the object without reading it.

    Not for writes of single fields. Not for objects at the array's edge either: others may have appended data beyond
    the edge since the array was opened.
    """
    return (
        layout.fields is None
        and covers_object(parts)
        and not is_cut(layout.meta.object_axes, layout.meta.shape, coords)
    )


def replaced_slots(layout: Layout, coords: Coords, parts: Sequence[Part]) -> set[int]:
    """The slots that a write of these parts replaces completely."""
    meta = layout.meta
    whole = {part.slot for part in parts if part.whole} if layout.fields is None else set()
    if not whole or not is_cut(meta.object_axes, meta.shape, coords):
        return whole
    # Beyond the edge, others may have appended to a cut chunk since the array was opened: it is merged.
    return {slot for slot in whole if not is_cut(meta.chunk_axes, meta.shape, chunk_of(layout, coords, slot))}


class Progress:
    """The states of a write's objects, by their number in the plan, which is the order in which they are started."""

    __slots__ = ("_beyond", "_doubtful", "_numbers", "_upto")

    def __init__(self) -> None:
        self._numbers = count()
        self._upto = 0
        """All objects below this number are written,"""
        self._beyond: set[int] = set()
        """and these above it."""
        self._doubtful: set[int] = set()

    def begin(self) -> int:
        """Start the next object and return its number."""
        return next(self._numbers)

    def mark_sent(self, number: int) -> None:
        """A request that changes the object may have been sent."""
        self._doubtful.add(number)

    def mark_unchanged(self, number: int) -> None:
        """The request was rejected: the object is unchanged."""
        self._doubtful.discard(number)

    def mark_written(self, number: int) -> None:
        """The object is written."""
        self._doubtful.discard(number)
        self._beyond.add(number)
        while self._upto in self._beyond:
            self._beyond.remove(self._upto)
            self._upto += 1

    def mark_failed(self, number: int, error: Exception) -> None:
        """The write of the object failed with this error."""
        if isinstance(error, ZarrS3Error) and not _leaves_doubt(error):  # the meaning of other errors is unknown
            self._doubtful.discard(number)

    def outcome(self, plan: Plan) -> WriteOutcome:
        """The outcome so far."""
        # The plan is computed again, so that writes which succeed need not record coordinates.
        groups: tuple[list[Coords], list[Coords], list[Coords]] = ([], [], [])
        for number, (coords, _) in enumerate(plan.objects()):
            done = number < self._upto or number in self._beyond
            groups[0 if done else 2 if number in self._doubtful else 1].append(coords)
        written, not_written, unknown = (tuple(group) for group in groups)
        return WriteOutcome(written=written, not_written=not_written, unknown=unknown)


def _leaves_doubt(error: ZarrS3Error) -> bool:
    """True if a request may have been executed in spite of the error.

    There was no response, a server error or an inconclusive response; or an earlier attempt preceded the rejection.
    """
    if isinstance(error, SessionClosed):
        return True  # closed during a request, or between two attempts
    if not isinstance(error, StoreError) or isinstance(error, ConcurrentModification):
        return False
    # A redirect or a 4xx response means that the request was not executed; a 5xx response does not.
    refused = error.status is not None and error.status // 100 in (3, 4)
    unanswered = error.status is None and not isinstance(error, NetworkError | DeadlineExceeded)
    return not (refused or unanswered) or (error.attempts or 1) > 1
