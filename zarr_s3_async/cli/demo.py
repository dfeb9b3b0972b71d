"""`zarr-s3 demo`: a local S3 server, real and generated data, what it cost, and a picture of it."""

from __future__ import annotations

import shlex
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.text import Text

from .._session import Session
from ..testing import LocalS3
from . import demo_steps as steps
from . import units
from .demo_data import Elevation, Landscape, jacksboro
from .meter import Meter, table_of
from .options import Call
from .picture import Frame, draw
from .serve import describe
from .terminal import NO, err, fail, out, say_line

BUCKET = "zarr-s3-demo"
_ROWS_PER_MEBIBYTE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """What the user chose."""

    mebibytes: int
    picture: Path
    keep: Path | None
    """Where the server keeps its data, if that shall stay."""


async def demo(
    call: Call,
    size: Annotated[int, typer.Option(metavar="MIB", help="Mebibytes of generated data.", min=1, max=65536)] = 128,
    picture: Annotated[Path, typer.Option(metavar="FILE", help="Where the picture goes.", dir_okay=False)] = Path(
        "zarr-s3-demo.png"
    ),
    keep: Annotated[bool, typer.Option("--keep", help="Keep what was stored, and say how to look at it.")] = False,
    folder: Annotated[Path, typer.Option(metavar="FOLDER", help="Where --keep keeps it.", file_okay=False)] = Path(
        "zarr-s3-demo-data"
    ),
) -> None:
    """Store real and generated data on a local S3 server, read it back concurrently, check it, draw it."""
    if not picture.absolute().parent.is_dir():
        fail(f"--picture {picture}: its folder does not exist")
    import_module("matplotlib")  # before any work, if it is missing

    await _demo(call, Options(mebibytes=size, picture=picture, keep=folder if keep else None))


async def _demo(call: Call, options: Options) -> None:
    """Run all steps; a difference from NumPy ends it with status 1."""
    model, landscape = jacksboro(), Landscape(options.mebibytes * _ROWS_PER_MEBIBYTE)
    async with AsyncExitStack() as stack:
        with err.status("starting a local S3 server …"):
            server = await stack.enter_async_context(LocalS3(BUCKET, keep=options.keep))
        if not call.as_json:
            describe(server)
        is_kept = options.keep is not None and server.kind != "moto"
        session = await stack.enter_async_context(Session(s3=server.s3_config()))
        meter = Meter(session.metrics)
        window = await _steps(session, f"s3://{server.bucket}", model, landscape, meter)
        call.show(_fields(server, options, meter), lambda: out.print(table_of(meter.steps), ""))
        if any(step.agrees is False for step in meter.steps):
            fail("what was read differs from what NumPy says", status=NO)
        _draw(window, model, options.picture)
        if not call.as_json:
            _say_picture(options.picture)
        with err.status("stopping the server …"):
            await stack.aclose()
    if options.keep is not None and is_kept and not call.as_json:
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


def _say_picture(path: Path) -> None:
    text = Text.assemble("picture   ", (str(path), "bold"), f"  ({units.size(path.stat().st_size)})")
    out.print(text, soft_wrap=True)


def _fields(server: LocalS3, options: Options, meter: Meter) -> dict[str, Any]:
    steps = [
        {
            "name": step.name,
            "nbytes": step.nbytes,
            "seconds": step.seconds,
            "wire": step.wire,
            "requests": dict(step.requests),
            "equal": step.agrees,
        }
        for step in meter.steps
    ]
    return {"server": server.kind, "bucket": server.bucket, "picture": str(options.picture), "steps": steps}


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
