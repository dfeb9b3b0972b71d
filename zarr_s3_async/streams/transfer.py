"""Copying one array: stored objects or encoded chunks without decoding, or decoded elements in one or two stages.

One worker puts each object of the target once and complete, and only if it is not stored yet: after a killed run, the
next one skips the stored objects. The metadata is stored last, so that an incomplete copy cannot be opened.
"""

from __future__ import annotations

from asyncio import Lock
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager
from copy import copy as shallow_copy
from dataclasses import dataclass, replace
from functools import partial
from itertools import product
from math import prod
from time import monotonic
from typing import Any, Final, Literal, NamedTuple, TypeAlias, TypeVar

import numpy as np

from .._array import Array
from .._concurrency.limiter import Limiter
from .._concurrency.workers import run_workers
from .._engine import creation, operations
from .._engine.nodes import join
from .._engine.runtime import Layout, Runtime, lay_out
from .._engine.write import Writing
from .._grid import Axis, longest
from .._model import formats
from .._model.metadata import ArrayMeta
from .._plan import selection
from .._plan.plan import plan as make_plan
from .._types import Buffer, CodecSpec, Coords, Shape
from ..codecs.base import ChunkSpec, is_fill
from ..codecs.pipeline import Pipeline, build_pipeline
from ..codecs.shard_format import Encoded
from ..errors import AccessDenied, ChunkDecodeError, ConcurrentModification, NodeExists, Unsupported
from ..stores.base import COPY_PIECE, SupportsCopy, SupportsForbiddenIsMissing
from ..stores.optional import delete_stream
from .access import internals
from .boxes import Box, cell, cells_at, coords_between, coords_in, n_cells, whole
from .conversion import inner_chain, moves_chunks, moves_objects
from .progress import Meter, Progress
from .rechunk import Direct, TwoStages, plan_rechunk
from .record import Claim, Record, make_record
from .stored import AllMarks, Marks, StoredObjects, list_stored

Data: TypeAlias = np.ndarray[Any, np.dtype[Any]]
Transfer: TypeAlias = "Callable[[ArrayCopy], Awaitable[None]]"
"""Runs the passes of a copy on other processes."""
Mode: TypeAlias = Literal["objects", "chunks", "decoded"]
T = TypeVar("T")

_ZSTD: Final = CodecSpec("zstd", {"level": 1, "checksum": True})
_MAX_BLOSC: Final = 2**31 - 2**16
"""Maximum bytes of a blosc buffer."""
_MAX_BLOSC_ITEM: Final = 255
_CHECKED_EVERY: Final = 10.0
"""Seconds between checks that no other copy has reserved the target."""
_BOXES: Final = 4
"""Number of boxes that fit into `max_bytes`: while one is read, others are written."""


class Pass(NamedTuple):
    """Work items of one kind, such as boxes to read and write. Any process may do them, in any order."""

    n: int
    """Number of items."""
    nbytes: int
    """Approximate bytes of one item."""
    items: Callable[[int, int], Iterator[Any]]
    """Generates the items from one number up to another (exclusive)."""
    work: Callable[[Any], Awaitable[None]]
    """Does one item, except for the parts that are stored already."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Stage:
    """One pass over the array."""

    what: str
    """Description of what is done with each box or object."""
    boxes: int
    """Number of boxes or objects."""
    box: Shape | None = None
    """Shape of the largest box; None if nothing is decoded."""
    get_requests: int = 0
    put_requests: int = 0
    copy_requests: int = 0
    """Copies inside the service, priced as PUT."""
    decoded_bytes: int = 0
    """Upper bound of the bytes decoded and encoded."""
    moved_bytes: int = 0
    """Stored bytes that this process transfers without decoding."""


class BoxMemory:
    """Memory for the boxes of a copy: at most `max_bytes` in use at a time, or one larger box.

    Memory is reused for boxes of the same size: allocating and freeing large blocks between small ones fragments the
    heap, and the process would grow.
    """

    __slots__ = ("_free", "limiter")

    def __init__(self, max_bytes: int) -> None:
        self.limiter: Limiter = Limiter(max_bytes)
        self._free: dict[int, list[np.ndarray[Any, np.dtype[np.uint8]]]] = {}
        """Free blocks by size."""

    @asynccontextmanager
    async def lend(self, shape: Shape, dtype: np.dtype[Any]) -> AsyncIterator[Data]:
        """An uninitialized array, once it fits into the limit."""
        nbytes = max(1, prod(shape) * dtype.itemsize)
        await self.limiter.acquire(nbytes)
        block = None
        try:
            if dtype.hasobject:
                yield np.empty(shape, dtype)
                return
            same = self._free.get(nbytes)
            # Blocks of other sizes are freed first: they would come on top of the memory that the limit counts.
            if not same:
                self._free.clear()
            block = same.pop() if same else np.empty(nbytes, np.uint8)
            yield block[: prod(shape) * dtype.itemsize].view(dtype).reshape(shape)
        finally:
            if block is not None:
                self._free.setdefault(nbytes, []).append(block)
            self.limiter.release(nbytes)

    def drop_free_blocks(self) -> None:
        """Free the blocks that are not in use."""
        self._free.clear()


class ArrayCopy:
    """The copy of one array: its plan, and its execution.

    Args:
        source: The array to copy.
        box: The region to copy.
        runtime: The runtime of the target's store.
        path: The path of the target.
        meta: The metadata of the target.
        stored: The stored objects of the source.
        state: A digest of the source's metadata and stored objects.
        max_bytes: Maximum bytes of all boxes in memory.
        overwrite: Remove another node at the target first.
    """

    __slots__ = (
        "_box",
        "_claim",
        "_joined",
        "_joining",
        "_layout",
        "_rechunk",
        "_source",
        "_source_layout",
        "_source_runtime",
        "_uncut",
        "existing",
        "max_bytes",
        "memory",
        "meta",
        "meter",
        "mode",
        "path",
        "pieces",
        "runtime",
        "stored",
    )

    def __init__(
        self,
        source: Array,
        box: Box,
        runtime: Runtime,
        path: str,
        meta: ArrayMeta,
        stored: StoredObjects,
        state: str,
        *,
        max_bytes: int,
        overwrite: bool,
    ) -> None:
        self._source = source
        self._source_runtime, _, self._source_layout = internals(source)
        self._box = box
        self.runtime: Runtime = runtime
        self.path: str = path
        self.meta: ArrayMeta = meta
        self.stored: StoredObjects = stored
        self.max_bytes: int = max_bytes
        """The limit that the user set; one chunk of the source and one object of the target may exceed it."""
        self._layout: Layout = lay_out(runtime, path, meta)
        # A layout whose shape ends at an object border: objects at the edge are written whole, without a merge with
        # stored elements beyond the edge, since a new copy has none.
        last = tuple(n - 1 for n in meta.grid_shape)
        reach = cell(last, meta.object_axes).stop if min(last, default=0) >= 0 else meta.shape
        self._uncut: Layout = lay_out(runtime, path, formats.with_shape(meta, reach))
        self._claim = Claim(
            runtime=runtime,
            path=path,
            record=make_record(source.url, state, meta, region=[list(box.start), list(box.stop)]),
            resume=True,
            overwrite=overwrite,
            refuse=self._refuse_leftovers,
            clear=self._delete_leftovers,
        )
        self.memory: BoxMemory = BoxMemory(max_bytes)
        """A group's copy replaces it by one that its arrays share."""
        self._joining = Lock()
        self._joined = False
        """Whether this process has listed the target, for the parts that it runs."""
        self.existing: Marks = Marks(meta.grid_shape)
        self.pieces: set[str] = set()
        """Keys of the stored pieces of a copy in two stages."""
        self.meter: Meter = Meter(None, 0)
        self._rechunk: Direct | TwoStages | None = None
        origin = self._source_layout.meta
        self.mode: Mode = "decoded"
        if moves_chunks(origin, box, meta):
            self.mode = "objects" if moves_objects(origin, box, meta) else "chunks"
        else:
            self._rechunk = self._planned(origin)

    def _planned(self, origin: ArrayMeta) -> Direct | TwoStages:
        if self.meta.edges is not None:  # boxes of several objects of different lengths would differ in shape
            return Direct(box=self.meta.object_axes, amplification=1.0)
        box_bytes = max(1, self.max_bytes // _BOXES)
        shape, itemsize = self.meta.shape, origin.dtype.itemsize
        return plan_rechunk(self._box, origin.chunks, self.meta.object_shape, shape, itemsize, box_bytes)

    def __repr__(self) -> str:
        return f"<ArrayCopy {self._source.url} to {self._layout.url}, {self.mode}>"

    # Costs

    @property
    def source(self) -> Array:
        """The array to copy."""
        return self._source

    @property
    def origin(self) -> ArrayMeta:
        """Metadata of the source at the time of planning."""
        return self._source_layout.meta

    @property
    def url(self) -> str:
        """URL of the target."""
        return self._layout.url

    @property
    def nbytes(self) -> int:
        """Decoded bytes of the copy."""
        return prod(self.meta.shape) * self.meta.dtype.itemsize

    @property
    def stored_bytes(self) -> int:
        """Stored (encoded) bytes of the source."""
        return self.stored.nbytes

    @property
    def memory_bytes(self) -> int:
        """Maximum bytes of memory in addition to those that the session's `Limits.bytes` bounds."""
        if self._rechunk is None:
            return 0
        return min(max(self.max_bytes, self._largest_box()), max(self.nbytes, self._largest_box()))

    def _largest_box(self) -> int:
        match self._rechunk:
            case Direct(box=box):
                return self.weight(tuple(map(longest, box)))
            case TwoStages(read=read, write=write):
                return max(self.weight(read), self.weight(write))
        return 0

    def units(self) -> int:
        """Number of units of its progress."""
        if self.mode == "objects":
            return sum(1 for _ in self._moved_objects(0, self.stored.marks.n))
        objects = prod(self.meta.grid_shape)
        return objects + (self._rechunk.pieces if isinstance(self._rechunk, TwoStages) else 0)

    def stages(self) -> list[Stage]:
        """The stages of the copy, with their costs if nothing is stored at the target yet."""
        objects, stored = prod(self.meta.grid_shape), self.stored.marks.n
        match self._rechunk:
            case None if self.mode == "objects":
                n = self.units()
                if self._copies_inside():
                    return [Stage(what="copy objects inside the service", boxes=n, copy_requests=n)]
                moved = self.stored.nbytes
                return [
                    Stage(what="move objects as they are", boxes=n, get_requests=n, put_requests=n, moved_bytes=moved)
                ]
            case None:
                return [
                    Stage(
                        what="move encoded chunks as they are",
                        boxes=objects,
                        get_requests=max(stored, objects) if stored else 0,
                        put_requests=min(objects, n_cells(self._box, self._source_layout.meta.chunk_axes)),
                        moved_bytes=self.stored.nbytes,
                    )
                ]
            case Direct(box=box, amplification=times):
                return [
                    Stage(
                        what="read and write",
                        boxes=n_cells(whole(self.meta.shape), box),
                        box=tuple(map(longest, box)),
                        # Objects at the border of two boxes are read by both: `amplification` counts them.
                        get_requests=int(times * n_cells(self._box, self._source_layout.meta.object_axes)),
                        put_requests=objects,
                        # Decoded as often as they are read, and encoded once.
                        decoded_bytes=int((times + 1) * self.nbytes),
                    )
                ]
            case TwoStages(read=read, write=write, pieces=pieces):
                return [
                    Stage(
                        what="read and cut into an intermediate array",
                        boxes=n_cells(self._box, read),
                        box=read,
                        get_requests=n_cells(self._box, self._source_layout.meta.object_axes),
                        put_requests=pieces,
                        decoded_bytes=2 * self.nbytes,
                    ),
                    Stage(
                        what="put together and write",
                        boxes=n_cells(whole(self.meta.shape), write),
                        box=write,
                        get_requests=pieces,
                        put_requests=objects,
                        decoded_bytes=2 * self.nbytes,
                    ),
                ]

    # The work

    async def run(self, meter: Meter, *, resume: bool, transfer: Transfer | None = None) -> Array:
        """Copy the missing objects, and return the copy.

        Args:
            meter: Counts the finished units.
            resume: Keep the objects that an interrupted run has stored.
            transfer: Runs the passes on other processes; None: this process runs them.

        Raises:
            NodeExists: Something other than this copy is stored at the target.
        """
        self.meter = meter
        complete = await self._prepare(resume=resume)
        try:
            if transfer is None:
                for one in self.passes():
                    await self.run_checked(one.items(0, one.n), one.work)
            else:
                await transfer(self)
        finally:
            self.memory.drop_free_blocks()
        # Stored last: without its metadata, an unfinished copy cannot be opened.
        if not complete:
            await self._publish()
        # After the metadata: if this run is killed before, the next one needs the pieces no more.
        await self._delete_pieces()
        self.runtime.forget_below(self.path)
        return Array(self.runtime, self.path, self.meta)

    def passes(self) -> list[Pass]:
        """The passes. Each must be complete before the next one starts."""
        meta, everything = self.meta, whole(self.meta.shape)
        match self._rechunk:
            case None if self.mode == "objects":
                n = self.stored.marks.n
                return [Pass(n, self.stored.nbytes // max(1, n), self._moved_objects, self._move_object)]
            case None:
                box, axes = everything, meta.object_axes
                work: Callable[[Coords], Awaitable[None]] = self._gather_chunks
                if self._layout.n_slots == 1 and self._source_layout.n_slots > 1:
                    # Iterate over the shards of the source, so that the chunks of a shard are fetched together.
                    box, axes, work = self._box, self._source_layout.meta.object_axes, self._scatter_chunks
                n = n_cells(box, axes)
                return [Pass(n, self.stored.nbytes // max(1, n), partial(coords_between, box, axes), work)]
            case Direct(box=sides):
                return [self._pass(everything, sides, self._copy_box)]
            case TwoStages() as plan:
                stages, region = _Stages(self, plan), self.in_source(everything)
                reads = partial(coords_between, region, plan.read)
                return [
                    Pass(n_cells(region, plan.read), self.weight(plan.read), reads, stages.cut),
                    self._pass(everything, plan.write, stages.assemble),
                ]

    def _pass(self, box: Box, axes: Sequence[Axis], work: Callable[[Box], Awaitable[None]]) -> Pass:
        def items(start: int, stop: int) -> Iterator[Box]:
            for coords in coords_between(box, axes, start, stop):
                yield cell(coords, axes).intersection(box)

        return Pass(n_cells(box, axes), self.weight(tuple(map(longest, axes))), items, work)

    async def run_part(self, record: Record, number: int, start: int, stop: int) -> Progress:
        """Run a part of a pass, in a process that has planned the same copy. Parts may run concurrently.

        Args:
            record: The record of the copy, as planned by the process that runs the copy.
            number: The number of the pass.
            start: The first item.
            stop: One after the last item.

        Raises:
            ConcurrentModification: The source has changed since that process planned the copy, or another copy has
                reserved the target.
        """
        own = self._claim.record
        if isinstance(self.stored.marks, AllMarks):  # without a listing, the digest of the source is random
            own = {**own, "state": record["state"]}
        if own != record:
            raise ConcurrentModification(
                f"{self._source.url} has changed since the copy of it was planned: plan it again", attempts=1
            )
        self._claim = replace(self._claim, record=record)
        await self._claim.check()
        async with self._joining:
            if not self._joined:
                await self._list_target()
                self._joined = True
        part = shallow_copy(self)  # the part has its own meter, and shares the memory limit with other parts
        part.meter = Meter(None, 0)
        one = part.passes()[number]
        await part.run_checked(one.items(start, stop), one.work)
        self.memory.drop_free_blocks()
        return part.meter.state

    @property
    def record(self) -> Record:
        """The record that is stored beside the target."""
        return self._claim.record

    async def run_checked(self, items: Iterator[T], work: Callable[[T], Awaitable[None]]) -> None:
        """Do items concurrently, and check periodically that the target is still reserved for this copy."""
        checked = monotonic()

        async def check_and_work(item: T) -> None:
            nonlocal checked
            # Set before the check: the other workers must not send the same request meanwhile.
            if monotonic() - checked > _CHECKED_EVERY:
                checked = monotonic()
                await self._claim.check()
            await work(item)

        await run_workers(self.runtime.limits.requests, items, check_and_work)

    async def _prepare(self, *, resume: bool) -> bool:
        """Reserve the target, and list the objects of an earlier run. Returns True if the copy is complete."""
        runtime, path = self.runtime, self.path
        self._claim = replace(self._claim, resume=resume)
        exists = await self._claim.make()
        runtime.forget_below(path)
        await self._list_target()
        return exists

    async def _list_target(self) -> None:
        """Find the objects that an earlier run has stored."""
        self.existing = (await list_stored(self.runtime, self.path, self.meta)).marks
        self.pieces.clear()
        if isinstance(self._rechunk, TwoStages):
            async for entry in self.runtime.store.list_prefix(join(self.path, COPY_PIECE)):
                self.pieces.add(entry.key)

    async def _refuse_leftovers(self) -> None:
        await creation.refuse_leftovers(self.runtime, self.path, self.meta)

    async def _delete_leftovers(self) -> None:
        await delete_stream(self.runtime.store, self._leftovers())

    async def _leftovers(self) -> AsyncIterator[str]:
        prefix = f"{self.path}/" if self.path else ""
        async for entry in self.runtime.store.list_prefix(prefix):
            name = entry.key.removeprefix(prefix)
            if name.startswith(COPY_PIECE) or self.meta.classify_key(name).kind == "chunk":
                yield entry.key

    async def _publish(self) -> None:
        await self._claim.check()
        try:
            await creation.create(self.runtime, self.path, self.meta, overwrite=False, adopts=True)
        except NodeExists:
            await self._claim.check()  # fine if a concurrent run of the same copy created it

    async def _delete_pieces(self) -> None:
        if isinstance(self._rechunk, TwoStages):
            entries = self.runtime.store.list_prefix(join(self.path, COPY_PIECE))
            await delete_stream(self.runtime.store, (entry.key async for entry in entries))

    # Stored objects, without decoding

    def _copies_inside(self) -> bool:
        """True if the service can copy objects of the source to the target itself."""
        store = self.runtime.store
        return isinstance(store, SupportsCopy) and store.copies_from(self._source_runtime.store)

    def _moved_objects(self, start: int, stop: int) -> Iterator[Coords]:
        """Coordinates, in the source's grid, of the stored objects with these numbers inside the region to copy."""
        axes = self._source_layout.meta.object_axes
        first = cells_at(self._box.start, axes)
        grid = self.meta.grid_shape
        for coords in self.stored.marks.between(start, stop):
            if all(0 <= at - low < n for at, low, n in zip(coords, first, grid, strict=True)):
                yield coords

    async def _move_object(self, coords: Coords) -> None:
        first = cells_at(self._box.start, self._source_layout.meta.object_axes)
        here = tuple(at - low for at, low in zip(coords, first, strict=True))
        if here in self.existing:
            self.meter.add(1, 0)
            return
        source_key, key = self._source_layout.chunks.locate(coords), self._layout.chunks.locate(here)
        store = self.runtime.store
        if isinstance(store, SupportsCopy) and self._copies_inside():
            try:
                await store.copy_from(self._source_runtime.store, source_key, key)
            except (Unsupported, AccessDenied):
                pass  # transfer the object through this process, which needs fewer permissions
            else:
                self.meter.add(1, 0)
                return
        lease = self._source_layout.lease * self._source_layout.n_slots
        await self.runtime.leases.acquire(lease)
        try:
            reading = self._source_runtime.store
            # A pure read of chunks: where the option allows it, a forbidden object counts as absent.
            if isinstance(reading, SupportsForbiddenIsMissing):
                reading = reading.for_chunk_reads
            blob = await reading.get(source_key, sink=_bounded(self._source_layout, source_key))
            if blob is not None:
                await store.put(key, blob.data)
                self.meter.add(1, blob.size)
            else:
                self.meter.add(1, 0)
        finally:
            self.runtime.leases.release(lease)

    # Encoded chunks

    async def _gather_chunks(self, coords: Coords) -> None:
        """Assemble one object of the target from encoded chunks of the source."""
        if coords in self.existing:
            self.meter.add(1, 0)
            return
        # By source object, so that the chunks of each shard are fetched together.
        wanted: dict[Coords, list[tuple[int, int]]] = {}
        for slot, chunk in _chunks_in(coords, self.meta):
            origin, source_slot = self._source_of(chunk)
            if origin in self.stored.marks:
                wanted.setdefault(origin, []).append((source_slot, slot))
        lease = self._layout.lease * max(1, sum(map(len, wanted.values())))
        await self.runtime.leases.acquire(lease)
        try:
            changes: dict[int, Encoded | None] = {}
            for origin, slots in wanted.items():
                key = self._source_layout.readable.locate(origin)
                fetched = await self._source_layout.readable.fetch(key, [slot for slot, _ in slots])
                for (_, slot), data in zip(slots, fetched.buffers, strict=True):
                    if data is not None:
                        changes[slot] = data
            if changes:
                await self._layout.chunks.replace(
                    self._layout.chunks.locate(coords), changes, None, encode_fill=_no_fill
                )
            self.meter.add(1, sum(len(data) for data in changes.values() if data is not None))
        finally:
            self.runtime.leases.release(lease)

    async def _scatter_chunks(self, origin: Coords) -> None:
        """Store each chunk of one shard of the source as an object of the target."""
        source, first = self._source_layout.meta, self._first_chunk()
        wanted: list[tuple[int, Coords]] = []
        for slot, chunk in _chunks_in(origin, source):
            here = tuple(at - low for at, low in zip(chunk, first, strict=True))
            if not all(0 <= at < n for at, n in zip(here, self.meta.grid_shape, strict=True)):
                continue
            # Nothing to copy: the shard is absent, or an earlier run has stored this chunk.
            if origin not in self.stored.marks or here in self.existing:
                self.meter.add(1, 0)
            else:
                wanted.append((slot, here))
        if not wanted:
            return
        lease = self._source_layout.lease * len(wanted)
        await self.runtime.leases.acquire(lease)
        try:
            key = self._source_layout.readable.locate(origin)
            # All chunks of the shard together, because neighbours share requests.
            fetched = await self._source_layout.readable.fetch(key, [slot for slot, _ in wanted])

            async def put(item: tuple[Coords, Buffer | None]) -> None:
                coords, data = item
                if data is not None:
                    await self._layout.chunks.replace(
                        self._layout.chunks.locate(coords), {0: data}, None, encode_fill=_no_fill
                    )
                self.meter.add(1, 0 if data is None else len(data))

            places = [coords for _, coords in wanted]
            size = min(self.runtime.limits.requests, len(wanted))
            await run_workers(size, zip(places, fetched.buffers, strict=True), put)
        finally:
            self.runtime.leases.release(lease)

    def _first_chunk(self) -> Coords:
        return tuple(low // side for low, side in zip(self._box.start, self.meta.chunks, strict=True))

    def _source_of(self, chunk: Coords) -> tuple[Coords, int]:
        """Where the source stores a chunk of the target: coordinates of the object, and the slot in it."""
        meta = self._source_layout.meta
        there = tuple(at + low for at, low in zip(chunk, self._first_chunk(), strict=True))
        inner = _inner_grid(meta)
        slot = 0
        for at, n in zip(there, inner, strict=True):
            slot = slot * n + at % n
        return tuple(at // n for at, n in zip(there, inner, strict=True)), slot

    # Decoded boxes

    def in_source(self, box: Box) -> Box:
        """Convert a box from the target's coordinates to the source's."""
        return Box(
            tuple(low + at for low, at in zip(self._box.start, box.start, strict=True)),
            tuple(low + at for low, at in zip(self._box.start, box.stop, strict=True)),
        )

    def is_blank(self, box: Box) -> bool:
        """True if no object of a box of the source is stored, and absent objects of the target read the same."""
        # Absent objects of the copy would read as another value, or as an undefined one.
        if not self._drops_fill or not self._same_fill:
            return False
        return not any(coords in self.stored.marks for coords in coords_in(box, self._source_layout.meta.object_axes))

    @property
    def _drops_fill(self) -> bool:
        return self.meta.fill_value is not None

    @property
    def _same_fill(self) -> bool:
        fill = self._source_layout.fill
        return is_fill(fill.astype(self.meta.dtype).reshape(1), self._layout.fill)

    @property
    def source_fill(self) -> Data:
        """The source's fill value as an array without dimensions."""
        return self._source_layout.fill

    async def read(self, box: Box, out: Data | None = None) -> Data:
        """Read a box of the source."""
        chosen = selection.region(box.start, box.stop, None, self._source_layout.meta.shape)
        return await operations.get(self._source_runtime, self._source_layout, chosen, out=out)

    def missing(self, box: Box) -> list[Coords]:
        """Objects of the target in a box that are not stored yet. Stored ones are counted as done."""
        absent = [coords for coords in coords_in(box, self.meta.object_axes) if coords not in self.existing]
        present = n_cells(box, self.meta.object_axes) - len(absent)
        if present:
            self.meter.add(present, 0)
        return absent

    async def _copy_box(self, box: Box) -> None:
        todo = self.missing(box)
        if not todo:
            return
        if self.is_blank(self.in_source(box)):
            self.meter.add(len(todo), 0)
            return
        # If an earlier run was interrupted in this box, only the regions of the missing objects are read.
        interrupted = len(todo) < n_cells(box, self.meta.object_axes)
        parts = [self.object_box(coords) for coords in todo] if interrupted else [box]
        for part in parts:
            async with self.memory.lend(part.shape, self.origin.dtype) as data:
                await self.read(self.in_source(part), data)
                await self.put_objects(part, data, list(coords_in(part, self.meta.object_axes)))

    def weight(self, shape: Shape) -> int:
        """Bytes of a box in memory."""
        return max(1, prod(shape) * self._source_layout.meta.dtype.itemsize)

    def object_box(self, coords: Coords) -> Box:
        """The part of an object of the target that is inside the array."""
        return cell(coords, self.meta.object_axes).intersection(whole(self.meta.shape))

    async def put_objects(self, box: Box, data: Data, todo: Sequence[Coords]) -> None:
        """Encode and put objects of the target. `data` contains the elements of `box`."""

        async def put(coords: Coords) -> None:
            part = self.object_box(coords)
            await self._put_object(coords, data[part.within(box.start)])
            self.meter.add(1, part.size * self.meta.dtype.itemsize)

        await run_workers(min(self.runtime.limits.requests, len(todo)), iter(todo), put)

    async def _put_object(self, coords: Coords, values: Data) -> None:
        meta, layout = self.meta, self._uncut
        if values.dtype != meta.dtype:
            values = values.astype(meta.dtype)
        if self._drops_fill and is_fill(values, layout.fill):
            return  # the object is absent, and reads as fill
        box = cell(coords, meta.object_axes)
        # An object at the edge: its chunks are stored complete, with fill values outside the array.
        if values.shape != box.shape:
            padded = np.full(box.shape, layout.fill[()], meta.dtype)
            padded[tuple(map(slice, values.shape))] = values
            values = padded
        region = selection.region(box.start, box.stop, None, layout.meta.shape)
        plan = make_plan(region, layout.meta.shape, layout.chunk_axes, layout.shard_axes)
        await Writing(self.runtime, layout, plan, values, write_empty=False).run()


class _Stages:
    """The two stages of a rechunking, with an intermediate array that has one object per piece."""

    __slots__ = ("_copy", "_pipelines", "_plan", "_prefix")

    def __init__(self, copy: ArrayCopy, plan: TwoStages) -> None:
        self._copy = copy
        self._plan = plan
        # Part of the key: pieces of a plan with other boxes must not be taken for pieces of this one.
        sides = "-".join(".".join(map(str, sides)) for sides in (plan.read, plan.write))
        self._prefix = f"{join(copy.path, COPY_PIECE)}{sides}-"
        self._pipelines: dict[Shape, Pipeline] = {}

    def _read_box(self, coords: Coords) -> Box:
        """A read box, in the target's coordinates."""
        copy = self._copy
        region = copy.in_source(whole(copy.meta.shape))
        box = cell(coords, self._plan.read).intersection(region)
        return Box(
            tuple(a - low for a, low in zip(box.start, region.start, strict=True)),
            tuple(a - low for a, low in zip(box.stop, region.start, strict=True)),
        )

    def _write_box(self, coords: Coords) -> Box:
        return cell(coords, self._plan.write).intersection(whole(self._copy.meta.shape))

    def _key(self, read: Coords, write: Coords) -> str:
        return f"{self._prefix}{'.'.join(map(str, read))}-{'.'.join(map(str, write))}"

    async def cut(self, coords: Coords) -> None:
        """Read a read box, and store its pieces. Pieces that an earlier run has stored are skipped."""
        copy, box = self._copy, self._read_box(coords)
        todo = []
        for other in coords_in(box, self._plan.write):
            key, target = self._key(coords, other), self._write_box(other)
            # A piece whose target objects are stored is not needed any more, and may have been deleted.
            if key in copy.pieces or all(at in copy.existing for at in coords_in(target, copy.meta.object_axes)):
                copy.meter.add(1, 0)
            else:
                todo.append((key, target.intersection(box)))
        if not todo:
            return
        if copy.is_blank(copy.in_source(box)):
            copy.meter.add(len(todo), 0)
            return
        async with copy.memory.lend(box.shape, copy.origin.dtype) as data:
            await copy.read(copy.in_source(box), data)

            async def put(item: tuple[str, Box]) -> None:
                key, piece = item
                await self._put_piece(key, data[piece.within(box.start)])
                copy.meter.add(1, copy.weight(piece.shape))

            await run_workers(min(copy.runtime.limits.requests, len(todo)), iter(todo), put)

    async def _put_piece(self, key: str, values: Data) -> None:
        runtime, pipeline = self._copy.runtime, self._pipeline(values.shape)
        lease = 3 * max(1, pipeline.nbytes)  # a contiguous copy, and an output buffer larger than the input
        await runtime.leases.acquire(lease)
        try:
            encoded = await runtime.cpu.run(lambda: pipeline.encode(np.ascontiguousarray(values)))
            await runtime.store.put(key, encoded)
        finally:
            runtime.leases.release(lease)

    async def assemble(self, box: Box) -> None:
        """Assemble a write box from its pieces, and store its objects."""
        copy = self._copy
        todo = copy.missing(box)
        if not todo:
            return
        region = copy.in_source(box)
        if copy.is_blank(region):
            copy.meter.add(len(todo), 0)
            return
        async with copy.memory.lend(box.shape, copy.origin.dtype) as data:
            (write,) = coords_in(box, self._plan.write)
            reads = list(coords_in(region, self._plan.read))

            async def get(read: Coords) -> None:
                piece = self._read_box(read).intersection(box)
                if not await self._get_piece(read, write, data[piece.within(box.start)]):
                    # A concurrent run of the same copy has finished, and deleted the piece.
                    data[piece.within(box.start)] = await copy.read(copy.in_source(piece))

            await run_workers(min(copy.runtime.limits.requests, len(reads)), iter(reads), get)
            await copy.put_objects(box, data, todo)

    async def _get_piece(self, read: Coords, write: Coords, out: Data) -> bool:
        """Decode a piece into `out`. Returns False if the piece is absent."""
        copy = self._copy
        runtime, key, pipeline = copy.runtime, self._key(read, write), self._pipeline(out.shape)
        if copy.is_blank(copy.in_source(self._read_box(read))):
            out[...] = copy.source_fill
            return True
        lease = 2 * max(1, pipeline.nbytes)
        await runtime.leases.acquire(lease)
        try:
            blob = await runtime.store.get(key)
            if blob is not None:
                await runtime.cpu.run(partial(_decode_into, pipeline, blob.data, out))
            return blob is not None
        finally:
            runtime.leases.release(lease)

    def _pipeline(self, shape: Shape) -> Pipeline:
        pipeline = self._pipelines.get(shape)
        if pipeline is None:
            meta = self._copy.source.metadata
            spec = ChunkSpec(shape, meta.dtype, self._copy.source_fill[()])
            nbytes = prod(shape) * meta.dtype.itemsize
            pipeline = self._pipelines[shape] = build_pipeline(_piece_codecs(meta, nbytes), spec)
        return pipeline


def _decode_into(pipeline: Pipeline, data: Buffer, out: Data) -> None:
    out[...] = pipeline.decode(data)


def _piece_codecs(meta: ArrayMeta, nbytes: int) -> list[CodecSpec]:
    """The codecs of a piece. Compression is fast rather than strong: a piece is written and read only once."""
    if meta.dtype.hasobject:
        names = [codec.name.removeprefix("numcodecs.") for codec in inner_chain(meta)]
        chain = next((name for name in names if name.startswith("vlen-")), "vlen-utf8")
        return [CodecSpec(chain), _ZSTD]
    order = {"<": "little", ">": "big"}.get(meta.dtype.str[0])
    to_bytes = CodecSpec("bytes", {"endian": order} if order and meta.dtype.kind in "iufc" else {})
    size = meta.dtype.itemsize
    # Beyond what one blosc buffer can hold.
    if size > _MAX_BLOSC_ITEM or nbytes > _MAX_BLOSC:
        return [to_bytes, _ZSTD]
    shuffle = "shuffle" if size > 1 else "noshuffle"
    options = {"typesize": size, "cname": "lz4", "clevel": 1, "shuffle": shuffle, "blocksize": 0}
    # Blosc has no checksum of its own, unlike zstd: a damaged piece must not become a damaged copy.
    return [to_bytes, CodecSpec("blosc", options), CodecSpec("crc32c")]


async def _no_fill() -> Encoded:
    raise AssertionError("a copied chunk is never replaced by fill")


def _chunks_in(coords: Coords, meta: ArrayMeta) -> Iterator[tuple[int, Coords]]:
    """Slots of an object with the coordinates of their chunks, for the chunks inside the array."""
    inner = _inner_grid(meta)
    for slot, cells_ in enumerate(product(*map(range, inner))):
        chunk = tuple(at * n + cell_ for at, n, cell_ in zip(coords, inner, cells_, strict=True))
        if all(at * side < n for at, side, n in zip(chunk, meta.chunks, meta.shape, strict=True)):
            yield slot, chunk


def _inner_grid(meta: ArrayMeta) -> Shape:
    return tuple(n // chunk for n, chunk in zip(meta.object_shape, meta.chunks, strict=True))


def _bounded(layout: Layout, key: str) -> Any:
    """A sink that allocates memory for an object, and rejects one larger than any valid object of the array."""
    limit = layout.pipeline.max_encoded_nbytes * layout.n_slots + 2**20

    def memory(length: int) -> memoryview:
        if length > limit:
            raise ChunkDecodeError(
                f"{layout.url}: the object {key} has {length:,} bytes, more than any valid object of this array",
                key=key,
            )
        return memoryview(bytearray(length))

    return memory
