"""The steps of the demo and their costs: store, read concurrently, and merge writes into shared chunks.

NumPy checks each step.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter
from typing import Any, NamedTuple

import anyio
import anyio.to_thread
import numpy as np
from rich import box
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from .._array import Array
from .._group import Group
from .._session import Session
from ..events import Metrics
from . import units
from .demo_data import CHUNK, COLUMNS, Elevation, Landscape
from .terminal import err

ELEVATION, LANDSCAPE = "elevation", "landscape"
ELEVATION_CHUNK = 80
WINDOW_START, WINDOW_STOP = (40, 60), (320, 380)
_WRITERS = 4
_REGIONS, _REGION = 48, 700
_STRIPES = 8


class Span(NamedTuple):
    """A region."""

    start: tuple[int, int]
    stop: tuple[int, int]


async def prepare(session: Session, url: str, meter: Meter) -> Group:
    """Send the first request; then create the group, or empty one that an earlier demo kept."""
    with err.status("connecting …"):
        with meter.step("connect", 0):
            is_there = await session.exists(url)
        if not is_there:
            return await session.create_group(url, attributes={"title": "zarr-s3 demo"})
        for name in (ELEVATION, LANDSCAPE):
            await session.delete(url, path=name)
        return await session.open_group(url)


async def store_elevation(group: Group, model: Elevation, meter: Meter) -> Array:
    """Store the real data: one call writes all chunks concurrently."""
    with meter.step("store elevation", model.heights.nbytes):
        array = await group.create_array(
            ELEVATION,
            shape=model.heights.shape,
            chunks=(ELEVATION_CHUNK, ELEVATION_CHUNK),
            dtype=model.heights.dtype,
            dimension_names=("latitude", "longitude"),
            attributes={
                "title": "Jacksboro fault, Tennessee: digital elevation model",
                "source": "matplotlib sample data, jacksboro_fault_dem.npz",
                "units": "metres",
                "extent": [model.west, model.east, model.south, model.north],
            },
        )
        await array.set_slice(model.heights, start=(0, 0))
    return array


async def store_landscape(group: Group, landscape: Landscape, meter: Meter) -> Array:
    """Store the generated data: a few writers generate and store bands of chunks, which needs little memory."""
    with meter.step("store landscape", landscape.nbytes), progress("chunks") as bar:
        array = await group.create_array(
            LANDSCAPE,
            shape=landscape.shape,
            chunks=(CHUNK, CHUNK),
            dtype="float32",
            attributes={"title": "random ridges", "units": "metres"},
        )
        done = bar.add_task("storing", total=array.nchunks)
        bands = iter(range(0, landscape.shape[0], CHUNK))

        async def write_bands() -> None:
            for first in bands:
                last = min(first + CHUNK, landscape.shape[0])
                # In a thread, so that other bands are stored while this one is computed.
                band = await anyio.to_thread.run_sync(landscape.region, (first, 0), (last, COLUMNS))
                await array.set_slice(band, start=(first, 0))
                bar.advance(done, COLUMNS // CHUNK)

        async with anyio.create_task_group() as writers:
            for _ in range(_WRITERS):
                writers.start_soon(write_bands)
    return array


async def read_window(array: Array, model: Elevation, meter: Meter) -> np.ndarray[Any, np.dtype[Any]]:
    """Read one region across chunk borders."""
    rows, columns = (b - a for a, b in zip(WINDOW_START, WINDOW_STOP, strict=True))
    with meter.step("read one region", rows * columns * array.dtype.itemsize) as step:
        window = await array.get_slice(WINDOW_START, WINDOW_STOP)
    slices = tuple(map(slice, WINDOW_START, WINDOW_STOP))
    step.agrees = bool(np.array_equal(window, model.heights[slices]))
    return window


async def read_at_once(array: Array, landscape: Landscape, meter: Meter) -> None:
    """Read many regions concurrently, on the session's connections."""
    spans = list(random_spans(landscape.shape, _REGIONS, _REGION))
    got: dict[Span, np.ndarray[Any, np.dtype[Any]]] = {}
    nbytes = sum((b[0] - a[0]) * (b[1] - a[1]) for a, b in spans) * array.dtype.itemsize
    with (
        meter.step(f"read {len(spans)} regions", nbytes) as step,
        progress("regions") as bar,
    ):
        done = bar.add_task("reading", total=len(spans))

        async def read(span: Span) -> None:
            got[span] = await array.get_slice(*span)
            bar.advance(done)

        async with anyio.create_task_group() as readers:
            for span in spans:
                readers.start_soon(read, span)
    await _compare(got, landscape, step)


async def _compare(got: dict[Span, np.ndarray[Any, np.dtype[Any]]], landscape: Landscape, step: Step) -> None:
    def equal() -> bool:
        return all(np.array_equal(region, landscape.region(*span)) for span, region in got.items())

    with err.status("checking with NumPy …"):
        step.agrees = await anyio.to_thread.run_sync(equal)


async def merge_stripes(array: Array, model: Elevation, meter: Meter) -> None:
    """Write different columns of the same chunks concurrently: each writer merges by a conditional write."""
    expected = model.heights.copy()
    expected[:, : _STRIPES * 2] += 1000
    nbytes = expected[:, : _STRIPES * 2].nbytes

    async def write(stripe: int) -> None:
        columns = slice(2 * stripe, 2 * stripe + 2)
        await array.set_slice(expected[:, columns], start=(0, columns.start))

    with meter.step(f"merge {_STRIPES} writers", nbytes) as step:
        async with anyio.create_task_group() as writers:
            for stripe in range(_STRIPES):
                writers.start_soon(write, stripe)
    step.agrees = bool(np.array_equal(await array.get_slice((0, 0), array.shape), expected))
    await array.set_slice(model.heights, start=(0, 0))


def random_spans(shape: tuple[int, int], n: int, length: int) -> Iterator[Span]:
    """The same regions in every run."""
    random = np.random.default_rng(7)
    for _ in range(n):
        top, left = (int(random.integers(0, max(1, axis - length))) for axis in shape)
        yield Span((top, left), (min(top + length, shape[0]), min(left + length, shape[1])))


def progress(unit: str) -> Progress:
    """A progress bar on stderr that is erased at the end."""
    return Progress(
        TextColumn("[cyan]{task.description}"),
        BarColumn(bar_width=40),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        console=err,
        transient=True,
    )


_COLUMNS = {"GetObject": "GET", "PutObject": "PUT"}


@dataclass(slots=True)
class Step:
    """One row of the table."""

    name: str
    nbytes: int
    """Bytes of array data that it read or wrote."""
    requests: Counter[str] = field(default_factory=Counter)
    wire: int = 0
    """Bytes of request and response bodies."""
    seconds: float = 0.0
    agrees: bool | None = None
    """Whether NumPy's result is equal; None if nothing was read."""


class Meter:
    """Measures each step by the difference of the session's counters."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.steps: list[Step] = []

    @contextmanager
    def step(self, name: str, nbytes: int) -> Iterator[Step]:
        """Count everything that the session does inside the block to this step."""
        step = Step(name, nbytes)
        requests, wire, start = self._metrics.requests.copy(), self._wire(), perf_counter()
        yield step
        step.seconds = perf_counter() - start
        step.wire = self._wire() - wire
        step.requests = self._metrics.requests - requests
        self.steps.append(step)

    def _wire(self) -> int:
        return self._metrics.bytes_sent + self._metrics.bytes_received


def table_of(steps: Sequence[Step]) -> Table:
    """Steps as rows, requests by verb; it fits into 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.caption = "bytes sent and received; data and MB/s of the arrays; all on this machine"
    table.caption_justify = "left"
    table.add_column("step")
    requests = [_by_verb(step.requests) for step in steps]
    verbs = sorted(set().union(*requests))
    for name in (*verbs, "bytes", "data", "s", "MB/s"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("NumPy", justify="center", no_wrap=True)
    for step, counts in zip(steps, requests, strict=True):
        table.add_row(step.name, *(f"{counts[verb]:,}" if counts[verb] else "" for verb in verbs), *_cost(step))
    return table


def _cost(step: Step) -> Iterator[str]:
    yield units.size(step.wire) if step.wire else ""
    yield units.size(step.nbytes) if step.nbytes else ""
    yield f"{step.seconds:.2f}"
    yield units.rate(step.nbytes, step.seconds) if step.nbytes else ""
    yield {None: "", True: "[bold green]equal[/]", False: "[bold red]differs[/]"}[step.agrees]


def _by_verb(operations: Counter[str]) -> Counter[str]:
    verbs: Counter[str] = Counter()
    for operation, n in operations.items():
        verbs[_COLUMNS.get(operation, "other")] += n
    return verbs
