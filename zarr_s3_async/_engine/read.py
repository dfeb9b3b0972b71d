"""Read a plan: workers pull objects from it, fetch them under a memory lease, decode them and fill the result."""

from __future__ import annotations

from asyncio import Future, get_running_loop, sleep
from collections.abc import Callable, Coroutine, Hashable, Iterator, Sequence
from functools import partial
from math import inf
from time import monotonic, perf_counter
from typing import Any, Protocol, TypeAlias

import numpy as np

from .._concurrency.limiter import BULK, PRIORITY
from .._concurrency.workers import gather_all, run_workers
from .._grid import place
from .._plan.plan import Part
from .._plan.runs import Runs
from .._types import Buffer, Coords, Missing, Sink
from ..codecs.base import check_interrupt
from ..config import Limits
from ..errors import ChunkDecodeError, ChunkNotFound, UnsupportedFeature
from ..events import ChunksDecoded, ReadShared, has_hooks, report_cache_lookup
from .cache import ObjectChunks
from .chunks import Fetched
from .cpu import SPLIT_BYTES, runs_inline
from .elements import Choice, Elements, wanted
from .runtime import Layout, Runtime
from .sharing import Left, Outcome, SharedFetch, own_copy

Result: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Piece: TypeAlias = tuple[Part, Buffer | None]
"""A part, and the encoded chunk."""
_Item: TypeAlias = tuple[Coords, Sequence[Part], SharedFetch | None, Choice | None]
"""An object, the parts to read of it, and if any, the fetch that this read has announced for it, and the byte ranges to
fetch instead of whole chunks."""

_MIN_STRIDED = 64 * 2**10
"""Minimum bytes of a chunk that is received directly into a strided block; smaller ones are copied afterwards."""
_MIN_PLANE = 4 * 2**10
"""Minimum bytes of the block's last two dimensions for this: the store copies plane by plane."""
_MIN_SCRATCH = 64 * 2**10
BULK_BYTES = 64 * 2**20
"""Calls that read or write more are bulk, however few objects they touch."""
NOT_CACHED = np.empty(0)
"""A sentinel for a chunk that is not in the cache."""


class Touched(Protocol):
    """The objects that a read touches: a `Plan`, or a part of one."""

    @property
    def n_objects(self) -> int:
        """See `Plan.n_objects`."""
        ...

    @property
    def basic(self) -> bool:
        """See `Plan.basic`."""
        ...

    def objects(self) -> Iterator[tuple[Coords, Sequence[Part]]]:
        """See `Plan.objects`."""
        ...


async def read(runtime: Runtime, layout: Layout, plan: Touched, out: Result, missing: Missing) -> None:
    """Fill `out` (of the plan's buffer shape) with the elements that the plan selects."""
    turns, n_objects = runtime.turns, plan.n_objects
    workers = min(runtime.limits.requests, n_objects)
    small = n_objects == 1 and out.nbytes <= BULK_BYTES and PRIORITY.get() is None  # the common case, without a call
    bulk = not small and is_bulk(n_objects, out.nbytes, runtime.limits)
    # Other reads can join in the loop iteration before the request is sent. A read of several objects has such an
    # iteration anyway, before its tasks start. A read of more objects than slots does not wait for others to join,
    # which would cost 2 µs per object.
    reading = _Reading(runtime, layout, plan, out, missing, bulk, turns=1 if n_objects == 1 else 0)
    work = reading.read_with_one_refetch
    # Objects of different shapes need a layout each, and so a `_Reading` each.
    if layout.of_shape is not None:
        work = partial(_read_one_of_many_shapes, runtime, layout, plan, out, missing, bulk)
    # The plan is lazy and workers pull from it, so a call of millions of objects holds only those in flight.
    if bulk:
        with turns.bulk():  # it would occupy every slot until it ends: smaller reads go first
            await run_workers(workers, plan.objects(), work)
        return
    # Not a context manager: every read of one chunk would pay for it.
    turns.active += 1
    turns.short = True
    try:
        if n_objects == 1:
            for item in plan.objects():
                await work(item)
        # One task per object, so all fetches can be announced before the first of them is sent.
        elif n_objects == workers and not reading.caches and layout.of_shape is None:
            await reading.read_several(plan.objects())
        else:
            await run_workers(workers, plan.objects(), work)
    finally:
        turns.active -= 1
        turns.ended = monotonic()


async def _read_one_of_many_shapes(
    runtime: Runtime,
    layout: Layout,
    plan: Touched,
    out: Result,
    missing: Missing,
    bulk: bool,
    item: tuple[Coords, Sequence[Part]],
) -> None:
    # Other reads can join here too. A bulk read does not wait for them, as in `read`.
    reading = _Reading(runtime, layout.at(item[0]), plan, out, missing, bulk, turns=0 if bulk else 1)
    await reading.read_with_one_refetch(item)


def is_bulk(n_objects: int, nbytes: int, limits: Limits) -> bool:
    """True if the current call is bulk: by its `PRIORITY`, or by its size if it has none.

    Args:
        n_objects: Number of objects that it touches.
        nbytes: Bytes of its elements.
        limits: Limits of the session.
    """
    priority = PRIORITY.get()
    return n_objects > limits.requests or nbytes > BULK_BYTES if priority is None else priority == BULK


class _DirectSink:
    """A sink that receives an uncompressed chunk directly into its block of the result."""

    __slots__ = ("strided", "view")

    def __init__(self, block: Result, *, whole: bool) -> None:
        """
        Args:
            block: The block of the result.
            whole: The block is contiguous; otherwise it is strided.
        """
        self.view = memoryview(block.reshape(-1).view(np.uint8) if whole else block.view(np.uint8))
        self.strided = None if whole else self.view

    def __call__(self, length: int) -> memoryview:
        if self.strided is None and length == len(self.view):
            return self.view
        # If the length is wrong, the response is wrong: it must not reach the result.
        # An unexpected length, or a store without strided sinks: receive into other memory, and let the decoder
        # reject or copy it.
        return memoryview(bytearray(length))

    def has(self, data: Buffer | None) -> bool:
        """True if the data was received in place, so that nothing remains to be decoded."""
        return isinstance(data, memoryview) and data.obj is self.view.obj


class _Reading:
    """The read of one call."""

    __slots__ = (
        "_bulk",
        "_direct",
        "_fields",
        "_fill_value",
        "_layout",
        "_missing",
        "_out",
        "_runtime",
        "_strided",
        "_turns",
        "caches",
    )

    def __init__(
        self, runtime: Runtime, layout: Layout, plan: Touched, out: Result, missing: Missing, bulk: bool, turns: int = 0
    ) -> None:
        self._runtime = runtime
        self._layout = layout
        self._out = out
        self._missing = missing
        self._fields = layout.fields
        self._fill_value = layout.fill if layout.fields is None else layout.fill[layout.fields]
        # Only a basic selection maps each chunk to one block of the result. Other data types and fields need a cast or
        # a copy of the decoded chunk, and objects have no bytes to receive.
        self._direct = (
            layout.fields is None and plan.basic and out.dtype == layout.meta.dtype and not out.dtype.hasobject
        )
        # Elements of variable length have no size that the cache could account for.
        self.caches = layout.reader.max_age is not None and not layout.meta.dtype.hasobject
        self._strided = layout.strided_sinks
        self._bulk = bulk
        self._turns = turns
        """Number of further objects before whose request the reader yields to the loop, so that other reads can
        join."""

    async def read_with_one_refetch(self, item: tuple[Coords, Sequence[Part]]) -> None:
        """Read one object; if it does not decode, fetch it once more, as it may have been damaged in transit."""
        if self._bulk and self._runtime.turns.short:
            await self._runtime.turns.wait()
        try:
            await self.read_object(item)
        except ChunkDecodeError:
            await self.refetch(item)

    async def refetch(self, item: tuple[Coords, Sequence[Part]]) -> None:
        """Read an object again that did not decode."""
        # A cached shard index may be the reason why the bytes did not decode.
        self._layout.readable.forget(self._layout.readable.locate(item[0]))
        self._turns += 1  # lets the reads that shared the fetch share the second one too
        try:
            await self.read_object(item)
        except ChunkDecodeError as error:
            if error.chunk is None:  # the error concerns the whole object: a shard's index
                error.array, error.chunk = self._layout.url, item[0]
            raise

    async def read_several(self, objects: Iterator[tuple[Coords, Sequence[Part]]]) -> None:
        """Read a few objects concurrently.

        All fetches are announced before the first task starts, so that other calls of the same loop iteration can join
        them. Objects that other calls have announced need no task here: they are copied when they arrive.
        """
        joined = _JoinedReads(self, self._layout)
        items: list[_Item | None] = self._announced(objects, joined)
        try:
            if not items:
                await joined.wait()
                return
            if joined.pending:
                items.append(None)  # a task that waits for them, so that a failure on either side ends the other
            await run_workers(len(items), iter(items), partial(self._read_announced, joined))
        except BaseException:
            # The caller owns the result again: fetches of other calls must not write to it any more.
            joined.leave()
            fetches = self._layout.fetches
            for item in items:
                if item is not None and item[2] is not None:
                    name = self._name(self._layout.chunks.locate(item[0]), item[1])
                    if fetches.get(name) is item[2]:  # its task was cancelled before it began
                        fetches.end(name, item[2], None)
            raise

    def _announced(self, objects: Iterator[tuple[Coords, Sequence[Part]]], joined: _JoinedReads) -> list[_Item | None]:
        """Announce fetches of the objects that this call reads itself; add the others to `joined`."""
        layout = self._layout
        fetches, elements = layout.fetches, layout.elements
        items: list[_Item | None] = []
        for coords, lazy_parts in objects:
            parts = tuple(lazy_parts)
            chosen = None if elements is None else elements.choose(parts)
            # Byte ranges are not shared: other reads would have to want the same elements.
            if chosen is not None:
                items.append((coords, parts, None, chosen))
                continue
            key = layout.chunks.locate(coords)
            name = self._name(key, parts)
            fetch = fetches.get(name)
            if fetch is None:
                fetch = fetches[name] = SharedFetch(layout.readable, layout.reader.since)
                items.append((coords, parts, fetch, None))
            elif fetch.is_sent:  # its response may be older than this read, so it cannot be joined
                items.append((coords, parts, None, None))
            else:
                joined.add(fetch, coords, key, parts)
        return items

    async def _read_announced(self, joined: _JoinedReads, item: _Item | None) -> None:
        if item is None:
            await joined.wait()
            return
        coords, parts, fetch, chosen = item
        key = self._layout.chunks.locate(coords)
        try:
            if chosen is None or not await self._read_elements(chosen, coords, key, parts):
                await self._read_parts(coords, key, parts, fetch)
        except ChunkDecodeError:
            await self.refetch((coords, parts))

    def _name(self, key: str, parts: Sequence[Part]) -> Hashable:
        """Name of a fetch. Chunks of a shard are fetched together: only reads of the same chunks share a fetch."""
        return key if self._layout.n_slots == 1 else (key, *[part.slot for part in parts])

    async def read_object(self, item: tuple[Coords, Sequence[Part]]) -> None:
        """Read one object by the cheapest means: from the cache, by byte ranges of its elements, or by whole chunks."""
        coords, lazy_parts = item
        parts = tuple(lazy_parts)  # a plan computes its parts again in every iteration
        key = self._layout.chunks.locate(coords)
        # The cache holds whole chunks; byte ranges of elements would never fill it.
        if self.caches:
            await self._read_through_cache(coords, key, parts)
            return
        elements = self._layout.elements
        chosen = None if elements is None else elements.choose(parts)
        if chosen is None or not await self._read_elements(chosen, coords, key, parts):
            await self._read_parts(coords, key, parts)

    async def _read_elements(self, chosen: Choice, coords: Coords, key: str, parts: Sequence[Part]) -> bool:
        """Read byte ranges of the wanted elements; False if the chunks must be read whole instead."""
        layout, runtime = self._layout, self._runtime
        elements = layout.elements
        assert elements is not None  # noqa: S101  # they have chosen
        nbytes = sum([runs.nbytes for runs in chosen.runs])
        # The runs, and the responses that they are copied from; all are held until the elements are copied.
        lease = fetch_lease(layout, key, len(parts), nbytes + chosen.moved)
        await runtime.leases.acquire(lease)
        try:
            fetched = await layout.readable.fetch_runs(key, wanted(parts, chosen.runs))
            if fetched is None:
                return False
            place = partial(self._place_elements, elements, coords, key)
            pieces = list(zip(parts, chosen.runs, fetched.buffers, strict=True))
            if runs_inline(nbytes, layout.pipeline.cost):
                place(pieces)
            else:
                await runtime.cpu.each(place, pieces, split=nbytes >= SPLIT_BYTES)
        finally:
            runtime.leases.release(lease)
        return True

    def _place_elements(
        self, elements: Elements, coords: Coords, key: str, pieces: Sequence[tuple[Part, Runs, Buffer | None]]
    ) -> None:
        for part, runs, data in pieces:
            if len(pieces) > 1:
                check_interrupt()
            if data is None:
                self._fill(coords, key, part)
            else:
                taken = elements.decode(runs, data)
                self._out[part.put] = taken if self._fields is None else taken[self._fields]

    async def _read_parts(
        self, coords: Coords, key: str, parts: Sequence[Part], fetch: SharedFetch | None = None
    ) -> None:
        """Read whole chunks by one fetch that all concurrent reads of them share: lease, fetch, decode, copy.

        A read may join a fetch only before its request is sent: a later response could be older than the read.

        Args:
            coords: Grid coordinates of the object.
            key: Key of the object.
            parts: The parts to read of it.
            fetch: A fetch that this read has announced; None: join a fetch, or announce one.
        """
        # One function: another coroutine would cost a small chunk 1 % of its time.
        layout, leases = self._layout, self._runtime.leases
        name = key if layout.n_slots == 1 else self._name(key, parts)
        waits = fetch is None and name in layout.fetches
        if waits:
            chunks = await layout.fetches.follow(name, layout.readable, layout.reader.since)
            if chunks is not None:
                self.place_shared(coords, key, parts, chunks)
                return
        lease = fetch_lease(layout, key, len(parts))
        if fetch is None:
            fetch = layout.fetches[name] = SharedFetch(layout.readable, layout.reader.since)
        held = 0
        # Stays None if this read is cancelled: then one of the reads that joined sends the request instead.
        outcome: ObjectChunks | Exception | None = None
        try:
            if waits or self._turns:
                # Reads that start in the same loop iteration can still join. So can those that waited for the end of
                # one fetch, which all resume in this iteration: without this, each would send its own request.
                self._turns = max(0, self._turns - 1)
                await sleep(0)
            # Joined reads hold no lease while they wait for this one, so waiting for a lease cannot deadlock.
            if not leases.try_acquire(lease):
                await leases.acquire(lease)
            held = lease
            fetch.is_sent = True  # no read can join from here on: the request may be sent at any moment
            # Without other readers, decode directly into the result; with others, into memory that all copy from.
            if fetch.joined:
                # Not this handle's chunks: a reader that joined may have been opened later (see `SharedFetch.join`).
                fetched = await fetch.source.fetch(key, [part.slot for part in parts])
                chunks = outcome = await self._decoded(coords, key, parts, fetched)
                self._place_cached(coords, key, parts, chunks)
            else:
                # Only raw chunks can be received in place: the encoded bytes of others are not the elements.
                sinks = [self._sink(part) for part in parts] if layout.pipeline.raw else None
                fetched = await layout.readable.fetch(key, [part.slot for part in parts], sinks=sinks)
                pieces = _still_encoded(parts, sinks, fetched.buffers)
                if pieces:
                    await self._decode(key, pieces, partial(self._place, coords, key, fetched))
        except Exception as error:
            outcome = outcome or error  # keep the chunks if only this read failed, by `missing="raise"`
            raise
        finally:
            leases.release(held)
            layout.fetches.end(name, fetch, outcome)

    def place_shared(self, coords: Coords, key: str, parts: Sequence[Part], chunks: ObjectChunks) -> None:
        """Copy chunks that another read has fetched to the result."""
        self._runtime.emit(ReadShared(key=key))
        self._place_cached(coords, key, parts, chunks)

    async def _decoded(self, coords: Coords, key: str, parts: Sequence[Part], fetched: Fetched) -> ObjectChunks:
        """Decode whole chunks into newly allocated memory, which readers and the cache may share."""
        layout = self._layout
        chunks = ObjectChunks(fetched.version, decoder=layout.fetches)

        def decode(pieces: Sequence[Piece]) -> None:
            for part, data in pieces:
                if len(pieces) > 1:
                    check_interrupt()
                if data is None:
                    chunks[part.slot] = None
                else:
                    chunks[part.slot] = decode_chunk(layout, coords, part.slot, key, data, fetched, copy=True)

        await self._decode(key, list(zip(parts, fetched.buffers, strict=True)), decode)
        return chunks

    async def _read_through_cache(self, coords: Coords, key: str, parts: Sequence[Part]) -> None:
        """Read cached chunks, and the others by one fetch, which concurrent reads of the same chunks share.

        A read that waited for another one uses its fetch only if that was sent after this read had started.
        """
        cache, reader, name = self._runtime.decoded, self._layout.reader, self._runtime.name_of(key)
        asked = monotonic()
        parts = self._place_cached(coords, key, parts, cache.get(name, reader, asked))
        report_cache_lookup(self._runtime.emit, "chunks", hit=not parts)
        while parts:
            # One lock for these chunks, not for the object: readers of its other chunks need not wait.
            slots = ",".join([str(part.slot) for part in parts])
            # One caller leads and fetches, the others wait and look in the cache again; if the leader is cancelled,
            # the next one leads.
            async with self._runtime.locks.lead(f"chunks {slots} of {name}") as leads:
                if leads:
                    self._place_cached(coords, key, parts, await self._refreshed(coords, key, parts, name))
                    return
            parts = self._place_cached(coords, key, parts, cache.get(name, reader, asked))

    async def _refreshed(self, coords: Coords, key: str, parts: Sequence[Part], name: str) -> ObjectChunks:
        """The chunks that are stored now: the cached ones if a conditional request confirms them, else new ones."""
        layout, runtime = self._layout, self._runtime
        lease = fetch_lease(layout, key, len(parts))
        await runtime.leases.acquire(lease)
        try:
            if layout.reader.max_age == 0:
                await sleep(0)  # readers that start in the same iteration of the loop still share the request
            cache, slots = runtime.decoded, [part.slot for part in parts]
            with cache.fetching(name, layout.reader) as pending:
                known = cache.stale(name, layout.reader)
                if (
                    known is not None
                    and known.version is not None
                    and all(cached_chunk(layout, known, slot) is not NOT_CACHED for slot in slots)
                ):
                    # The version belongs to the whole object, so one conditional request confirms all these chunks.
                    fetched = await layout.readable.fetch_unless(key, slots, known.version)
                    if fetched is None:
                        cache.confirm(pending, known)
                        return known
                else:
                    if layout.n_slots > 1 and layout.reader.max_age != inf:
                        layout.readable.forget(key)  # a cached index may be older than `max_age` allows
                    fetched = await layout.readable.fetch(key, slots)
                chunks = await self._decoded(coords, key, parts, fetched)
                cache.add(pending, chunks)
                return chunks
        finally:
            runtime.leases.release(lease)

    def _place_cached(self, coords: Coords, key: str, parts: Sequence[Part], chunks: ObjectChunks | None) -> list[Part]:
        """Copy cached chunks to the result, and return the parts that are not cached."""
        others: list[Part] = []
        for part in parts:
            chunk = cached_chunk(self._layout, chunks, part.slot)
            if chunk is None:
                self._fill(coords, key, part)
            elif chunk is not NOT_CACHED:
                self._put(part, chunk)
            else:
                others.append(part)
        return others

    def _put(self, part: Part, chunk: Result) -> None:
        self._out[part.put] = (chunk if self._fields is None else chunk[self._fields])[part.take]

    async def _decode(self, key: str, pieces: Sequence[Piece], place: Callable[[Sequence[Piece]], None]) -> None:
        pipeline = self._layout.pipeline
        nbytes = pipeline.nbytes * len(pieces)
        # Decoding is timed only for sessions that have hooks: two calls of the clock cost a small chunk noticeable
        # time.
        start = 0.0 if pipeline.raw or not has_hooks(self._runtime.emit) else perf_counter()
        if runs_inline(nbytes, pipeline.cost):
            if self._bulk and self._runtime.turns.short:
                await self._runtime.turns.wait()
            place(pieces)
        else:
            await self._runtime.cpu.each(place, pieces, split=nbytes >= SPLIT_BYTES)
        if start:
            seconds = perf_counter() - start
            self._runtime.emit(ChunksDecoded(key=key, chunks=len(pieces), nbytes=nbytes, seconds=seconds))

    def _sink(self, part: Part) -> Sink | None:
        """A sink over the block of the result for this chunk, if its bytes can be received in place."""
        block = self._block(part)
        if block is None:
            return None
        if block.flags.c_contiguous:
            return _DirectSink(block, whole=True)
        # A store can copy a body to a strided block plane by plane, if rows are contiguous. Element by element it
        # would be slower than the copy that it saves, and so it would be for small planes, each of which takes some
        # microseconds.
        if not self._strided or block.ndim < 2 or block.strides[-1] != block.itemsize:
            return None
        plane = block.shape[-2] * block.shape[-1] * block.itemsize
        return _DirectSink(block, whole=False) if plane >= _MIN_PLANE and block.nbytes >= _MIN_STRIDED else None

    def _block(self, part: Part) -> Result | None:
        """The block of the result that this chunk fills completely, or None."""
        if not (self._direct and part.whole):
            return None
        block: Result = self._out[part.put]
        # A part is `whole` also if it covers all of a chunk that extends over the array's edge: then the block is
        # smaller than the chunk, and the chunk cannot be decoded into it.
        return block if block.size == self._layout.chunk_size else None

    def _place(self, coords: Coords, key: str, fetched: Fetched, pieces: Sequence[Piece]) -> None:
        batch = self._layout.pipeline.batch
        if batch > 1 and len(pieces) > 1:
            pieces = self._place_batches(pieces, batch)
        for part, data in pieces:
            if len(pieces) > 1:
                check_interrupt()
            if data is None:
                self._fill(coords, key, part)
            else:
                self._decode_into_result(coords, key, fetched, part, data)

    def _place_batches(self, pieces: Sequence[Piece], batch: int) -> list[Piece]:
        """Decode chunks in batches and copy them to the result; return those that remain to be decoded one by one."""
        pipeline = self._layout.pipeline
        remaining: list[Piece] = [piece for piece in pieces if piece[1] is None]
        parts = [part for part, data in pieces if data is not None]
        chunks = [data for _, data in pieces if data is not None]
        for at in range(0, len(parts), batch):
            check_interrupt()
            some = chunks[at : at + batch]
            decoded = self._runtime.cpu.scratch((len(some), *pipeline.chunk.shape), pipeline.chunk.dtype)
            if pipeline.decode_many(some, decoded):
                self._put_many(parts[at : at + batch], decoded)
            else:
                remaining += zip(parts[at : at + batch], some, strict=True)
        return remaining

    def _put_many(self, parts: Sequence[Part], chunks: Result) -> None:
        """Copy chunks to the result: those that are neighbours along its last axis together."""
        at = 0
        while at < len(parts):
            n = _neighbours(parts, at) if self._direct else 1
            if n > 1:
                *rows, last = parts[at].put
                block = self._out[(*rows, slice(last.start, parts[at + n - 1].put[-1].stop))]
                shape = chunks.shape[1:]
                # Not a block of another shape: chunks that extend over the array's edge, or integers in the selection.
                if block.shape == (*shape[:-1], n * shape[-1]):
                    # Splitting an axis needs no copy, also of a strided block.
                    block.reshape(*shape[:-1], n, shape[-1])[...] = np.moveaxis(chunks[at : at + n], 0, -2)
                    at += n
                    continue
            for part, chunk in zip(parts[at : at + n], chunks[at : at + n], strict=True):
                self._put(part, chunk)
            at += n

    def _decode_into_result(self, coords: Coords, key: str, fetched: Fetched, part: Part, data: Buffer) -> None:
        block = self._decodable(part)
        target = self._scratch() if block is None else block
        try:
            chunk = self._layout.pipeline.decode(data, target)
        except (ChunkDecodeError, UnsupportedFeature) as error:
            chunk_coords = chunk_of(self._layout, coords, part.slot)
            raise _with_location(error, self._layout, chunk_coords, key, fetched) from error
        if block is None or chunk is not block:
            self._put(part, chunk)

    def _decodable(self, part: Part) -> Result | None:
        """The block of the result to decode directly into, or None."""
        # Raw chunks are decoded as views of the received bytes, whatever the target is.
        block = None if self._layout.pipeline.raw else self._block(part)
        if block is None or not block.flags.c_contiguous:
            return None
        shape = self._layout.meta.chunks
        # Integers in a selection drop axes of the block, which the decoder's target needs.
        return block if block.shape == shape else block.reshape(shape)

    def _scratch(self) -> Result | None:
        """This thread's scratch memory to decode into; None for raw chunks, which are viewed in place, and for small
        chunks, whose memory the allocator reuses by itself."""
        pipeline = self._layout.pipeline
        if pipeline.raw or pipeline.nbytes < _MIN_SCRATCH or pipeline.chunk.dtype.hasobject:
            return None
        return self._runtime.cpu.scratch(pipeline.chunk.shape, pipeline.chunk.dtype)

    def _fill(self, coords: Coords, key: str, part: Part) -> None:
        if self._missing == "raise":
            coords = chunk_of(self._layout, coords, part.slot)
            raise ChunkNotFound(
                f"chunk {coords} of {self._layout.url} is not stored (key {key!r}); "
                "write it, or read with missing='fill'",
                array=self._layout.url,
                chunk=coords,
                key=key,
            )
        self._out[part.put] = self._fill_value


class _JoinedReads:
    """Objects of one call that other calls fetch. Their chunks are copied on arrival, without a task of this call."""

    __slots__ = ("_again", "_failure", "_layout", "_left", "_reading", "_woken", "pending")

    def __init__(self, reading: _Reading, layout: Layout) -> None:
        self._reading = reading
        self._layout = layout
        self.pending: int = 0
        """Objects that have not arrived."""
        self._again: list[Coroutine[Any, Any, None]] = []
        self._failure: Exception | None = None
        self._woken: Future[None] | None = None
        self._left = False

    def add(self, fetch: SharedFetch, coords: Coords, key: str, parts: Sequence[Part]) -> None:
        """Join a fetch that is not sent yet."""
        layout = self._layout
        fetch.join(layout.readable, layout.reader.since, partial(self._take, coords, key, parts))
        self.pending += 1

    def leave(self) -> None:
        """Copy nothing any more: the call has ended, and its result may belong to the caller again."""
        self._left = True
        for reading in self._again:
            # It was never awaited, about which Python would warn.
            reading.close()

    async def wait(self) -> None:
        """Wait until all objects are copied; read those again whose fetch the other call has abandoned.

        Raises:
            Exception: An error of a fetch.
        """
        while self._failure is None and (self.pending or self._again):
            # Before the next wait: these reads send requests, and the other objects arrive meanwhile.
            if self._again:
                again, self._again = self._again, []
                if len(again) == 1:  # without a task, this starts early enough to share the fetch of others
                    await again[0]
                else:
                    await gather_all(*again)
                continue
            self._woken = get_running_loop().create_future()
            await self._woken
        if self._failure is not None:
            raise self._failure

    def _take(self, coords: Coords, key: str, parts: Sequence[Part], outcome: Outcome) -> None:
        if self._left:
            return
        self.pending -= 1
        # The call that led was cancelled, which must not fail this one: it reads the object itself.
        if outcome is Left.LEADER:
            self._again.append(self._reading.read_with_one_refetch((coords, parts)))
        elif isinstance(outcome, ChunkDecodeError):
            self._again.append(self._reading.refetch((coords, parts)))
        elif isinstance(outcome, Exception):
            self._failure = own_copy(outcome)
            # A copied exception has no cause of its own.
            self._failure.__cause__ = outcome.__cause__
        else:
            try:
                self._reading.place_shared(coords, key, parts, outcome)
            except Exception as error:  # noqa: BLE001  # raised by `wait`: the fetch has other readers
                self._failure = error
        if self._woken is not None and not self._woken.done() and (not self.pending or self._again or self._failure):
            self._woken.set_result(None)


def _neighbours(parts: Sequence[Part], at: int) -> int:
    """Number of whole chunks of a basic selection, from `at` on, that are consecutive along the result's last axis."""
    if not parts[at].whole:
        return 1
    *rows, last = parts[at].put
    if last.step is not None:  # reversed, so that no forward slice covers several of them
        return 1
    n, stop = 1, last.stop
    for part in parts[at + 1 :]:
        *others, last = part.put
        if not part.whole or last.step is not None or last.start != stop or others != rows:
            break
        n, stop = n + 1, last.stop
    return n


def _still_encoded(
    parts: Sequence[Part], sinks: Sequence[Sink | None] | None, buffers: Sequence[Buffer | None]
) -> list[Piece]:
    """The chunks that were not received in place."""
    if sinks is None:
        return list(zip(parts, buffers, strict=True))
    return [
        (part, data)
        for part, sink, data in zip(parts, sinks, buffers, strict=True)
        if not (isinstance(sink, _DirectSink) and sink.has(data))
    ]


def fetch_lease(layout: Layout, key: str, n_chunks: int, at_most: int | None = None) -> int:
    """Bytes to hold while chunks of one object are fetched and decoded.

    Args:
        layout: Of the object.
        key: Of the object.
        n_chunks: Number of chunks that are fetched.
        at_most: Bytes of the chunks, if only parts of them are fetched.
    """
    lease = layout.lease * n_chunks
    if at_most is not None and at_most < lease:
        lease = at_most
    return lease + layout.chunks.overhead(key) if layout.has_big_index else lease


def cached_chunk(layout: Layout, chunks: ObjectChunks | None, slot: int) -> Result | None:
    """The decoded chunk in a cache entry of its object: None if cached as absent, `NOT_CACHED` if not cached."""
    # Chunks decoded by another layout belong to an array that was overwritten, or whose metadata was edited.
    return NOT_CACHED if chunks is None or chunks.decoder is not layout.fetches else chunks.get(slot, NOT_CACHED)


def chunk_of(layout: Layout, coords: Coords, slot: int) -> Coords:
    """Coordinates of a chunk in the grid of chunks, from its object's coordinates and its slot."""
    if layout.shard_axes is None:
        return coords
    meta = layout.meta
    inner = tuple(n // chunk for n, chunk in zip(meta.object_shape, meta.chunks, strict=True))
    # Slots count the chunks of a shard in C order.
    cells = np.unravel_index(slot, inner)
    starts = [place(axis, at)[0] for axis, at in zip(meta.object_axes, coords, strict=True)]
    return tuple(start // chunk + int(cell) for start, chunk, cell in zip(starts, meta.chunks, cells, strict=True))


def decode_chunk(
    layout: Layout, coords: Coords, slot: int, key: str, data: Buffer, fetched: Fetched, *, copy: bool = False
) -> Result:
    """Decode one chunk of the object at `coords`; errors name the array and the chunk.

    Args:
        layout: Layout of the object.
        coords: Its position in the grid of objects.
        slot: The chunk's slot in it.
        key: Key of the object, for errors.
        data: The encoded chunk.
        fetched: The response with it, for errors.
        copy: Decode into newly allocated memory; by default, the result may be a read-only view of `data`.
    """
    pipeline = layout.pipeline
    try:
        return pipeline.decode_to_copy(data) if copy else pipeline.decode(data)
    except (ChunkDecodeError, UnsupportedFeature) as error:
        raise _with_location(error, layout, chunk_of(layout, coords, slot), key, fetched) from error


def _with_location(
    error: ChunkDecodeError | UnsupportedFeature, layout: Layout, coords: Coords, key: str, fetched: Fetched
) -> ChunkDecodeError | UnsupportedFeature:
    if isinstance(error, UnsupportedFeature):  # the chunk is valid, but its codec is not supported
        return UnsupportedFeature(
            f"chunk {coords} of {layout.url} (key {key!r}) cannot be decoded here: {error}", url=layout.url
        )
    return ChunkDecodeError(
        f"chunk {coords} of {layout.url} (key {key!r}) does not decode: {error}; "
        "restore the object, or write the whole chunk again",
        array=layout.url,
        chunk=coords,
        key=key,
        version=fetched.version,
        codec=error.codec,
    )
