"""The steps of the demo: store, read at once, merge writes into shared chunks. NumPy checks each."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import anyio
import anyio.to_thread
import numpy as np
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

from .._array import Array
from .._group import Group
from .._session import Session
from .demo_data import CHUNK, COLUMNS, Elevation, Landscape
from .meter import Meter, Step
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
    """The first request, which loads the AWS SDK; then a group without what an earlier demo kept."""
    with err.status("connecting …"):
        with meter.step("connect", 0):
            is_there = await session.exists(url)
        if not is_there:
            return await session.create_group(url, attributes={"title": "zarr-s3 demo"})
        for name in (ELEVATION, LANDSCAPE):
            await session.delete(url, path=name)
        return await session.open_group(url)


async def store_elevation(group: Group, model: Elevation, meter: Meter) -> Array:
    """The real data: one call writes all chunks at once."""
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
    """The generated data: a few writers make bands of chunks and store them, so memory stays small."""
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
                band = await anyio.to_thread.run_sync(landscape.region, (first, 0), (last, COLUMNS))
                await array.set_slice(band, start=(first, 0))
                bar.advance(done, COLUMNS // CHUNK)

        async with anyio.create_task_group() as writers:
            for _ in range(_WRITERS):
                writers.start_soon(write_bands)
    return array


async def read_window(array: Array, model: Elevation, meter: Meter) -> np.ndarray[Any, np.dtype[Any]]:
    """One region across chunk borders."""
    rows, columns = (b - a for a, b in zip(WINDOW_START, WINDOW_STOP, strict=True))
    with meter.step("read one region", rows * columns * array.dtype.itemsize) as step:
        window = await array.get_slice(WINDOW_START, WINDOW_STOP)
    slices = tuple(map(slice, WINDOW_START, WINDOW_STOP))
    step.agrees = bool(np.array_equal(window, model.heights[slices]))
    return window


async def read_at_once(array: Array, landscape: Landscape, meter: Meter) -> None:
    """Many regions concurrently, on the session's connections."""
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
    """Writers of different columns of the same chunks, at once: each merges under compare-and-swap."""
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
    """A bar on stderr that leaves nothing behind."""
    return Progress(
        TextColumn("[cyan]{task.description}"),
        BarColumn(bar_width=40),
        MofNCompleteColumn(),
        TextColumn(unit),
        TimeElapsedColumn(),
        console=err,
        transient=True,
    )
