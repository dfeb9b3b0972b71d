"""`zarr-s3 demo`: a local S3 server, real and generated data, what it cost, and a picture of it."""

from __future__ import annotations

import shlex
from contextlib import AsyncExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from rich.text import Text

from .._session import Session
from ..testing import LocalS3
from . import demo_steps as steps
from . import units
from .demo_data import Elevation, Landscape, jacksboro
from .meter import Meter, table_of
from .picture import Frame, draw
from .serve import describe
from .terminal import err, fail, out, say_line

BUCKET = "zarr-s3-demo"
_ROWS_PER_MEBIBYTE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user chose."""

    mebibytes: int
    picture: Path
    keep: Path | None
    """Where the server keeps its data, if that shall stay."""


async def demo(options: Options) -> None:
    """Run all steps; a difference from NumPy ends it with status 1."""
    model, landscape = jacksboro(), Landscape(options.mebibytes * _ROWS_PER_MEBIBYTE)
    async with AsyncExitStack() as stack:
        with err.status("starting a local S3 server …"):
            server = await stack.enter_async_context(LocalS3(BUCKET, keep=options.keep))
        describe(server)
        is_kept = options.keep is not None and server.kind != "moto"
        session = await stack.enter_async_context(Session(s3=server.s3_config()))
        meter = Meter(session.metrics)
        window = await _steps(session, f"s3://{server.bucket}", model, landscape, meter)
        out.print(table_of(meter.steps), "")
        if any(step.agrees is False for step in meter.steps):
            fail("what was read differs from what NumPy says")
        _draw(window, model, options.picture)
        with err.status("stopping the server …"):
            await stack.aclose()
    if options.keep is not None and is_kept:
        _how_to_look(options.keep)


async def _steps(
    session: Session, bucket: str, model: Elevation, landscape: Landscape, meter: Meter
) -> np.ndarray[Any, np.dtype[Any]]:
    group = await steps.prepare(session, bucket, meter)
    elevation = await steps.store_elevation(group, model, meter)
    generated = await steps.store_landscape(group, landscape, meter)
    window = await steps.read_window(elevation, model, meter)
    await steps.read_at_once(generated, landscape, meter)
    await steps.merge_stripes(elevation, model, meter)
    return window


def _draw(window: np.ndarray[Any, np.dtype[Any]], model: Elevation, path: Path) -> None:
    (top, left), (bottom, right), cut = steps.WINDOW_START, steps.WINDOW_STOP, steps.ELEVATION_CHUNK
    down, across = model.step
    frame = Frame(
        west=model.west + across * left,
        east=model.west + across * right,
        south=model.north - down * bottom,
        north=model.north - down * top,
        row_cuts=tuple(row - top for row in range(-(-top // cut) * cut, bottom, cut)),
        column_cuts=tuple(column - left for column in range(-(-left // cut) * cut, right, cut)),
    )
    draw(
        window,
        frame,
        title="Jacksboro fault, Tennessee, as read back from S3",
        note=f"rows {top} to {bottom}, columns {left} to {right}; white lines: chunks, one GET each",
        path=path,
    )
    out.print(
        Text.assemble("picture   ", (str(path), "bold"), f"  ({units.size(path.stat().st_size)})"),
        soft_wrap=True,
    )


def _how_to_look(folder: Path) -> None:
    say_line(f"data      kept in {folder}; serve it again:")
    _commands(f"serve --bucket {BUCKET} --keep {shlex.quote(str(folder))}")
    say_line("and in another terminal, after the export lines that this prints:")
    _commands(f"ls s3://{BUCKET}", f"info s3://{BUCKET}/{steps.ELEVATION}")


def _commands(*commands: str) -> None:
    out.print()
    for command in commands:
        say_line(f"  zarr-s3 {command}", style="bold")
    out.print()
