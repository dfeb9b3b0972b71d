"""Writing an array from blocks of any size in any order: each stored object is put once, when it is complete."""

from __future__ import annotations

from asyncio import CancelledError, Event, current_task, sleep
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, suppress
from functools import partial
from math import prod
from types import TracebackType
from typing import Any, Final, Self, TypeAlias

import numpy as np

from .._concurrency.background import Background
from .._concurrency.workers import Feed, run_workers_async
from .._engine.operations import as_array
from .._engine.runtime import Layout, Runtime
from .._engine.write import Writing
from .._options import check_count, check_flag
from .._plan import selection
from .._plan.parts import ObjectParts, Part
from .._plan.plan import Plan
from .._plan.plan import plan as make_plan
from .._types import JSON, Coords, Shape, Version
from ..codecs.base import is_fill
from ..errors import ConfigError, SelectionError, StateError, WriteOutcome
from .boxes import Box, cell, coords_between, coords_in, is_aligned, n_cells, number_in, region_of, whole
from .progress import Meter, Progress, ProgressOption, check_progress, metered
from .state import Finished, ObjectVersions, name_of
from .stored import Marks, list_stored

Data: TypeAlias = np.ndarray[Any, np.dtype[Any]]

_COPIED_INLINE: Final = 2**20
"""Maximum bytes that are copied on the event loop instead of in a thread: this takes 0.1 ms."""


class _Object:
    """A stored object that is being assembled from blocks."""

    __slots__ = ("box", "boxes", "claimed", "coords", "data", "left", "nbytes")

    def __init__(self, coords: Coords, box: Box, nbytes: int) -> None:
        self.coords = coords
        self.box = box
        """The part of the object inside the region."""
        self.data: Data | None = None
        self.boxes: list[Box] = []
        """The parts that have been written."""
        self.claimed: list[Box] = []
        """The parts that are being copied into it."""
        self.left = box.size
        """Number of missing elements."""
        self.nbytes = nbytes

    def claim(self, part: Box) -> None:
        """Reserve a part for one block. Raises SelectionError if some of its elements were written before."""
        for other in (*self.boxes, *self.claimed):
            if other.overlaps(part):
                raise SelectionError(f"elements {other.intersection(part)} are written twice")
        self.claimed.append(part)

    def complete(self, part: Box) -> None:
        """Record that the values of a claimed part were copied."""
        self.left -= part.size
        joined = part
        # Adjacent parts are joined, so that the check for overlaps stays short when an object is written row by row.
        for at in reversed(range(len(self.boxes))):
            both = self.boxes[at].joined(joined)
            if both is not None:
                joined = both
                del self.boxes[at]
        self.boxes.append(joined)


class WriteStream:
    """Accepts blocks that partition a region of an array: `async with array.write_stream() as out: await out.write(…)`.

    Each stored object is encoded and put once, when all of its elements inside the region have been written. Objects
    that are incomplete at the end of the `async with` are merged with the stored ones, under compare-and-swap. Several
    tasks may write concurrently.

    If an exception leaves the `async with`, no further object is put. Puts in flight are completed (or cancelled, if
    the exception is a cancellation), and the exception has the attribute `outcome`.
    """

    __slots__ = (
        "_background",
        "_closing",
        "_earlier",
        "_enqueued",
        "_failure",
        "_feed",
        "_finished",
        "_freed",
        "_held",
        "_layout",
        "_max_bytes",
        "_meter",
        "_name",
        "_on_put",
        "_open",
        "_path",
        "_pending",
        "_progress",
        "_region",
        "_resume",
        "_runtime",
        "_state",
        "_stored",
        "_unknown",
        "_versions",
        "_write_empty",
        "_written",
    )

    def __init__(
        self,
        runtime: Runtime,
        path: str,
        layout: Layout,
        region: Box,
        *,
        max_bytes: int,
        resume: bool,
        write_empty: bool,
        progress: ProgressOption,
        state: Mapping[str, JSON] | None,
    ) -> None:
        self._runtime = runtime
        self._path = path
        self._layout = layout
        self._region = region
        self._max_bytes = max_bytes
        self._resume = resume
        self._write_empty = write_empty
        self._progress: ProgressOption = progress
        self._meter: Meter | None = None
        self._closing = ExitStack()
        self._feed: Feed[_Object] = Feed()
        self._background: Background | None = None
        self._state = "was not entered"
        grid = layout.meta.grid_shape
        self._open: dict[Coords, _Object] = {}
        self._enqueued = Marks(grid)
        """Objects that were passed to the workers, complete or at the end of the stream."""
        self._written = Marks(grid)
        # Not the URL: the same bucket and prefix exist at other endpoints.
        self._name = name_of(
            "objects", runtime.name_of(path), layout.meta.shape, layout.meta.dtype, region, layout.meta.object_axes
        )
        self._earlier: Finished | None = None
        """The objects that an earlier stream had put completely when its state was taken, and that have not changed
        since; None without a state."""
        self._finished = Finished()
        """The objects that were put completely, by number: the state."""
        self._versions = ObjectVersions(self._total)
        """Their versions, of those that this stream writes alone: also the state."""
        if state is not None:
            self._finished = Finished.of_state(state, self._name, self._total, "versions")
            # A copy: objects that this stream puts are none of an earlier one, so a second block for them overlaps.
            self._earlier = Finished(self._finished.first, tuple(self._finished.above))
            self._versions = ObjectVersions.of_state(state["versions"], self._total)
        self._unknown: set[Coords] = set()
        self._stored: Marks | None = None
        """The objects that were stored when the stream was entered; None if they were not listed."""
        self._held = 0
        """Bytes of the objects that are being assembled, are queued, or are being put."""
        self._pending = 0
        """Number of objects that are queued or are being put."""
        self._freed = Event()
        self._failure: BaseException | None = None
        self._on_put: Callable[[], object] | None = None
        """Called after every put, when `state` contains it; `map_chunks` saves the state then."""

    def __repr__(self) -> str:
        return f"<WriteStream to {self._layout.url}, {self._written.n} of {self._total} objects written>"

    @property
    def _total(self) -> int:
        return n_cells(self._region, self._layout.meta.object_axes)

    @property
    def progress(self) -> Progress:
        """The progress so far: objects that were put, and their decoded bytes."""
        if self._meter is None:
            return Progress(done=0, total=self._total, bytes=0, seconds=0.0)
        return self._meter.state

    def outcome(self) -> WriteOutcome:
        """Which objects of the region are written so far, which are not, and for which this is unknown."""
        groups: tuple[list[Coords], list[Coords], list[Coords]] = ([], [], [])
        for coords in coords_in(self._region, self._layout.meta.object_axes):
            groups[0 if coords in self._written else 2 if coords in self._unknown else 1].append(coords)
        written, not_written, unknown = (tuple(group) for group in groups)
        return WriteOutcome(written=written, not_written=not_written, unknown=unknown)

    def state(self) -> dict[str, JSON]:
        """Which objects were put completely, as JSON-compatible values, for `write_stream(…, state=…)` in any process.

        Blocks of other objects have to be written again.
        """
        return {**self._finished.state(self._name), "versions": self._versions.state()}

    # Entering and leaving

    async def __aenter__(self) -> Self:
        self._runtime.guard()
        if self._state != "was not entered":
            raise StateError("a write stream can be entered only once; create another one")
        self._state = "is being entered"
        # Listed only to resume: otherwise it is unknown what is stored, and every object is put.
        if self._resume:
            self._stored = (await list_stored(self._runtime, self._path, self._layout.meta)).marks
        elif self._earlier is not None:
            await self._check_earlier()
        self._meter = self._closing.enter_context(metered(self._progress, self._total, "write"))
        size = max(1, min(self._runtime.limits.requests, self._total))
        self._background = Background(run_workers_async(size, self._feed, self._put), self._stop)
        self._state = "is open"
        return self

    async def _check_earlier(self) -> None:
        """List what is stored, and forget the finished objects that may have changed since the state was taken."""
        earlier, found = self._finished, ObjectVersions(self._total)

        def on_object(coords: Coords, version: Version) -> None:
            box = self._cell(coords)
            if box.size and self._is_alone(coords, box):
                number = self._number(coords)
                if number in earlier:
                    found.add(number, version)

        self._stored = (await list_stored(self._runtime, self._path, self._layout.meta, on_object)).marks
        changed = self._versions.differing(found)
        if not changed:
            return
        axes = self._layout.meta.object_axes
        aligned = is_aligned(self._region, axes, self._layout.meta.shape)
        kept = Finished()
        for at, number in enumerate(earlier):
            if at % 1000 == 0:
                await sleep(0)  # there may be millions
            if self._versions.group(number) in changed:
                continue
            # No version of an object that extends beyond the region is known. As others have changed, the array may
            # have been replaced, and this object stored by another stream alone.
            coords = () if aligned else next(coords_between(self._region, axes, number, number + 1))
            if aligned or self._is_alone(coords, self._cell(coords)):
                kept.add(number)
        for group in changed:
            self._versions.remove_group(group)
        self._finished, self._earlier = kept, Finished(kept.first, tuple(kept.above))

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        background, self._background = self._background, None
        if background is None:
            return
        self._state = "was left"
        try:
            await self._leave(background, error)
        except BaseException as failure:
            self._attach_outcome(failure)
            raise
        finally:
            self._open.clear()
            self._closing.close()
        if error is not None:
            self._attach_outcome(error)

    async def _leave(self, background: Background, error: BaseException | None) -> None:
        try:
            if error is None:
                for item in list(self._open.values()):
                    if item.boxes:  # else its first block is still being copied, and its `write` will raise
                        self._enqueue(item)
            elif isinstance(error, Exception):
                self._failure = self._failure or error  # workers start no further put
            self._feed.close()
            # Not after a cancellation: the caller wants to leave now, and `aclose` cancels what is in flight.
            if error is None or isinstance(error, Exception):
                await background.wait()
        finally:
            await background.aclose()
        if error is None and self._failure is not None:
            raise self._failure

    def _attach_outcome(self, error: BaseException) -> None:
        with suppress(AttributeError):  # a foreign exception class may allow no new attributes
            error.outcome = self.outcome()  # type: ignore[attr-defined]  # only errors of this library declare it

    def _stop(self, failure: BaseException | None) -> None:
        self._failure = self._failure or failure
        self._freed.set()

    # Blocks

    def is_stored(self, place: Any) -> bool:
        """Whether an earlier run has stored every object that a block at `place` touches.

        With `resume=True` or `state=`, `write` ignores such a block, so it does not need to be computed. The objects
        are counted as written.

        Args:
            place: The location of the block, as slices of the whole array.

        Returns:
            True if the block need not be written.
        """
        self._require_open()
        box = self._box(place)
        axes = self._layout.meta.object_axes
        cells = [(coords, self._cell(coords)) for coords in coords_in(box, axes)]
        if not all(self._is_skipped(coords, found) for coords, found in cells):
            return False
        for coords, found in cells:
            self._skip(coords, found)
        return True

    async def write(self, place: Any, data: Any, *, copy: bool = True) -> None:
        """Accept a block, and return when it is copied. Waits while `max_bytes` are in memory.

        Args:
            place: The location of the block, as slices of the whole array: `block.place` of a stream.
            data: The elements, of the shape of `place` or broadcast to it; cast as by NumPy's assignment.
            copy: False allows the stream to keep a reference to `data`, which must not change until the stream is
                left.

        Raises:
            DataError: A Python value does not fit the data type.
            DataOverflowError: A Python number is out of range for the data type.
            SelectionError: The block is outside the region, has another shape, or overlaps with an earlier block.
            ConfigError: The incomplete objects do not fit into `max_bytes`, because of the order of the blocks.
            ZarrS3Error: A put has failed.
        """
        self._require_open()
        check_flag("copy", copy)
        box = self._box(place)
        values = self._values(box, data)
        for coords in coords_in(box, self._layout.meta.object_axes):
            found = self._cell(coords)
            if self._is_skipped(coords, found):
                self._skip(coords, found)
                continue
            part = found.intersection(box)
            await self._add(coords, found, part, values[part.within(box.start)], copy=copy)

    def _require_open(self) -> None:
        if self._failure is not None:
            raise self._failure
        if self._state != "is open":
            raise StateError(f"this write stream {self._state}; write inside `async with array.write_stream() as out:`")

    def _box(self, place: Any) -> Box:
        box = region_of(place, self._layout.meta.shape)
        if box.intersection(self._region) != box and box.size:
            raise SelectionError(f"the block {box} is not inside the region {self._region} of this write stream")
        return box

    def _values(self, box: Box, data: Any) -> Data:
        values = as_array(self._layout, data)
        if values.shape == box.shape:
            return values
        try:
            return np.broadcast_to(values, box.shape)
        except ValueError as error:
            raise SelectionError(f"data of shape {values.shape} does not fit the block {box}") from error

    def _cell(self, coords: Coords) -> Box:
        """The part of an object inside the region."""
        return cell(coords, self._layout.meta.object_axes).intersection(self._region)

    def _is_skipped(self, coords: Coords, box: Box) -> bool:
        """True if an earlier run has stored the object completely."""
        if self._stored is None or coords not in self._stored:
            return False
        if self._earlier is not None:
            # An object that is not stored any more is written again: the array was deleted since, or the object was.
            return self._number(coords) in self._earlier
        return self._is_alone(coords, box)

    def _is_alone(self, coords: Coords, box: Box) -> bool:
        """True if no write to another region may store this object: it does not extend beyond the region."""
        meta = self._layout.meta
        return box == cell(coords, meta.object_axes).intersection(whole(meta.shape))

    def _number(self, coords: Coords) -> int:
        return number_in(coords, self._region, self._layout.meta.object_axes)

    def _skip(self, coords: Coords, box: Box) -> None:
        if coords not in self._written:
            self._written.add(coords)
            self._finished.add(self._number(coords))
            self._count(box)

    async def _add(self, coords: Coords, box: Box, part: Box, values: Data, *, copy: bool) -> None:
        item = await self._open_object(coords, box)
        try:
            item.claim(part)
        except SelectionError as error:
            raise SelectionError(f"{error} to {self._layout.url}: blocks may not overlap") from None
        try:
            await self._take(item, part, values, copy=copy)
        except BaseException:
            item.claimed.remove(part)
            self._drop_untouched(item)
            raise
        item.claimed.remove(part)
        if self._open.get(coords) is not item:  # the stream was left, and put the object without this part
            self._require_open()
        item.complete(part)
        if not item.left:
            self._enqueue(item)

    def _drop_untouched(self, item: _Object) -> None:
        """Free an object that was created for one block only, if that block was not accepted."""
        if not item.boxes and not item.claimed and self._open.get(item.coords) is item:
            del self._open[item.coords]
            self._held -= item.nbytes
            self._freed.set()

    async def _take(self, item: _Object, part: Box, values: Data, *, copy: bool) -> None:
        # The block is the whole object: no memory of our own is needed.
        if part == item.box and not copy:
            item.data = values
            return
        if item.data is None:
            item.data = np.empty(item.box.shape, self._layout.meta.dtype)
        target = item.data[part.within(item.box.start)]
        if values.nbytes > _COPIED_INLINE:
            # "unsafe" is the cast of NumPy's assignment, as in the other branch.
            await self._runtime.cpu.run(partial(np.copyto, target, values, "unsafe"))
        else:
            target[...] = values

    async def _open_object(self, coords: Coords, box: Box) -> _Object:
        while (item := self._open.get(coords)) is None:
            if coords in self._enqueued:
                raise SelectionError(
                    f"object {coords} of {self._layout.url} is complete already: blocks may not overlap"
                )
            self._require_open()
            nbytes = max(1, prod(box.shape) * self._layout.meta.dtype.itemsize)
            if not self._held or self._held + nbytes <= self._max_bytes:
                self._held += nbytes
                self._open[coords] = _Object(coords, box, nbytes)
                continue
            await self._wait_for_memory(nbytes)
        return item

    async def _wait_for_memory(self, nbytes: int) -> None:
        # No put is in progress that would free memory, so waiting would never end.
        if not self._pending:
            raise ConfigError(
                f"{len(self._open)} objects of {self._layout.url} are incomplete and hold {self._held:,} bytes; one "
                f"more of {nbytes:,} would exceed max_bytes={self._max_bytes:,}, and none of them can be put yet: "
                "write blocks in an order that completes objects sooner, raise max_bytes, or rechunk with zs.copy"
            )
        self._freed.clear()
        await self._freed.wait()

    # Objects

    def _enqueue(self, item: _Object) -> None:
        del self._open[item.coords]
        self._enqueued.add(item.coords)
        self._pending += 1
        self._feed.put(item)

    async def _put(self, item: _Object) -> None:
        try:
            if self._failure is None:
                version = await self._store(item)
                self._written.add(item.coords)
                if not item.left:
                    number = self._number(item.coords)
                    self._finished.add(number)
                    if version is not None and self._is_alone(item.coords, item.box):
                        self._versions.add(number, version)
                self._count(item.box)
                if self._on_put is not None:
                    self._on_put()
        except BaseException as error:
            self._note_unknown(error, item)
            task = current_task()
            # Raised by the next `write`, or when the stream is left. Also a CancelledError that a callback has raised:
            # it ends this worker alone, and the objects in the queue would be lost without an error.
            if not isinstance(error, CancelledError) or (task is not None and not task.cancelling()):
                self._failure = self._failure or error
            if not isinstance(error, Exception):
                raise
        finally:
            # Freed with its count: a reference in the queue would keep the memory.
            item.data = None
            self._held -= item.nbytes
            self._pending -= 1
            self._freed.set()

    def _note_unknown(self, error: BaseException, item: _Object) -> None:
        outcome = getattr(error, "outcome", None)
        if isinstance(outcome, WriteOutcome) and outcome.unknown:
            self._unknown.add(item.coords)

    async def _store(self, item: _Object) -> Version | None:
        assert item.data is not None  # noqa: S101  # `_put` drops it afterwards
        if self._is_absent_fill(item):
            return None
        meta = self._layout.meta
        plan: Plan = make_plan(
            selection.region(item.box.start, item.box.stop, None, meta.shape),
            meta.shape,
            self._layout.chunk_axes,
            self._layout.shard_axes,
        )
        if item.left:
            plan = _Incomplete(plan, item)
        writing = Writing(self._runtime, self._layout, plan, item.data, write_empty=self._write_empty)
        await writing.run()
        return writing.version

    def _is_absent_fill(self, item: _Object) -> bool:
        """True if the object is all fill and is known to be absent: this saves a DELETE request."""
        if self._stored is None or item.coords in self._stored or item.left or item.data is None:
            return False
        meta = self._layout.meta
        if item.data.dtype != meta.dtype:  # a block kept by `copy=False`, whose values are cast when it is encoded
            return False
        return not self._write_empty and meta.fill_value is not None and is_fill(item.data, self._layout.fill)

    def _count(self, box: Box) -> None:
        assert self._meter is not None  # noqa: S101  # it is entered
        self._meter.add(1, box.size * self._layout.meta.dtype.itemsize)


class _Incomplete:
    """The write plan of an incomplete object: one merge writes only the elements that are present."""

    __slots__ = ("_item", "_plan")

    basic = False
    n_objects = 1

    def __init__(self, plan: Plan, item: _Object) -> None:
        self._plan = plan
        self._item = item

    @property
    def out_shape(self) -> Shape:
        """Shape of the object's data."""
        return self._plan.out_shape

    @property
    def buffer_shape(self) -> Shape:
        """Shape of the object's data; the plan drops no axes."""
        return self._plan.buffer_shape

    @property
    def n_chunks(self) -> int:
        """Number of chunks of the object, including those without an element to write."""
        return self._plan.n_chunks

    def partly_covered(self) -> int:
        """Upper bound: all chunks."""
        return self.n_chunks

    def n_replaced(self) -> int:
        """Lower bound: none."""
        return 0

    def objects(self) -> Iterator[tuple[Coords, Sequence[Part]]]:
        """The one object."""
        for coords, parts in self._plan.objects():
            yield coords, _IncompleteParts(self._item, parts)


class _IncompleteParts(ObjectParts):
    """The parts of an object, each restricted to the elements that are present."""

    __slots__ = ("_parts",)

    def __init__(self, item: _Object, parts: Sequence[Part]) -> None:
        self._parts = [kept for part in parts if (kept := _restrict_to_present(item, part)) is not None]

    @property
    def whole(self) -> bool:
        """False: elements are missing."""
        return False

    def __len__(self) -> int:
        return len(self._parts)

    def _part(self, index: int) -> Part:
        return self._parts[index]


def _restrict_to_present(item: _Object, part: Part) -> Part | None:
    """The part restricted to the elements that are present; None if there are none."""
    here = Box(
        tuple(at.start + low for at, low in zip(part.put, item.box.start, strict=True)),
        tuple(at.stop + low for at, low in zip(part.put, item.box.start, strict=True)),
    )
    mask = np.zeros(here.shape, bool)
    for box in item.boxes:
        found = box.intersection(here)
        if found.size:
            mask[found.within(here.start)] = True
    # Most chunks of an incomplete object are complete, and keep their plain slices.
    if mask.all():
        return part
    if not mask.any():
        return None
    elements = np.nonzero(mask)
    take = tuple(index + at.start for index, at in zip(elements, part.take, strict=True))
    put = tuple(index + at.start for index, at in zip(elements, part.put, strict=True))
    return Part(part.slot, take, put, False)


def write_stream(
    runtime: Runtime,
    path: str,
    layout: Layout,
    region: Any,
    *,
    max_bytes: int,
    resume: bool,
    write_empty: bool,
    progress: ProgressOption,
    state: Mapping[str, JSON] | None,
) -> WriteStream:
    """See `Array.write_stream`."""
    check_count("max_bytes", max_bytes)
    check_flag("resume", resume)
    if resume and state is not None:
        raise ConfigError("resume=True trusts all stored objects, and state= those of one run: pass one of them")
    check_progress(progress)
    return WriteStream(
        runtime,
        path,
        layout,
        region_of(region, layout.meta.shape),
        max_bytes=max_bytes,
        resume=resume,
        write_empty=write_empty,
        progress=progress,
        state=state,
    )
