"""`zarr-s3 demo`: store real and generated data on a local S3 server, and show the costs and a picture."""

from __future__ import annotations

import shlex
from contextlib import AsyncExitStack
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Annotated, Any, NamedTuple

import numpy as np
import typer
from rich.text import Text

from .._session import Session
from ..testing import LocalS3
from . import demo_steps as steps
from . import units
from .demo_data import Elevation, Landscape, jacksboro
from .demo_steps import Meter, table_of
from .options import Call
from .serve import describe
from .terminal import NO, err, fail, out, print_line

BUCKET = "zarr-s3-demo"
_ROWS_PER_MEBIBYTE = 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Options:
    """The user's options."""

    mebibytes: int
    picture: Path
    keep: Path | None
    """Folder in which the server's data is kept; None: it is deleted."""


async def demo(
    call: Call,
    size: Annotated[int, typer.Option(metavar="MIB", help="Mebibytes of generated data.", min=1, max=65536)] = 128,
    picture: Annotated[Path, typer.Option(metavar="FILE", help="File of the picture.", dir_okay=False)] = Path(
        "zarr-s3-demo.png"
    ),
    keep: Annotated[bool, typer.Option("--keep", help="Keep the stored data, and show how to look at it.")] = False,
    folder: Annotated[Path, typer.Option(metavar="FOLDER", help="Folder for --keep.", file_okay=False)] = Path(
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
        # Before the picture: wrong data must not be drawn.
        if any(step.agrees is False for step in meter.steps):
            fail("the data that was read differs from NumPy's result", status=NO)
        _draw(window, model, options.picture)
        if not call.as_json:
            text = Text.assemble(
                "picture   ", (str(options.picture), "bold"), f"  ({units.size(options.picture.stat().st_size)})"
            )
            out.print(text, soft_wrap=True)
        with err.status("stopping the server …"):
            # Here, and not at the end of the block, so that the status line is shown while the server stops.
            await stack.aclose()
    if options.keep is not None and is_kept and not call.as_json:
        print_line(f"data      kept in {options.keep}; serve it again:")
        _commands(f"serve --bucket {BUCKET} --keep {shlex.quote(str(options.keep))}")
        print_line("and in another terminal, after the export lines that this prints:")
        _commands(f"ls s3://{BUCKET}", f"info s3://{BUCKET}/{steps.ELEVATION}")


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


def _commands(*commands: str) -> None:
    out.print()
    for command in commands:
        print_line(f"  zarr-s3 {command}", style="bold")
    out.print()


_METRES_PER_DEGREE = 111_200.0
_INK, _PAPER = "#1b1b1b", "#ffffff"


class Frame(NamedTuple):
    """Position of the heights on the map, in degrees, and the chunk borders of their array."""

    west: float
    east: float
    south: float
    north: float
    row_cuts: tuple[int, ...]
    """Rows of the picture at which a chunk begins."""
    column_cuts: tuple[int, ...]


def draw(heights: np.ndarray[Any, np.dtype[Any]], frame: Frame, *, title: str, note: str, path: Path) -> None:
    """Write the picture. Without pyplot, which has global state and needs a display."""
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 8), dpi=120, facecolor=_PAPER, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    extent = (frame.west, frame.east, frame.south, frame.north)
    middle = np.radians((frame.south + frame.north) / 2)
    axes.imshow(_shaded(heights, frame), extent=extent, aspect=float(1 / np.cos(middle)), interpolation="bilinear")
    _cuts(axes, frame, heights.shape)
    axes.set_title(title, loc="left", fontsize=13, color=_INK)
    axes.set_xlabel("longitude, degrees")
    axes.set_ylabel("latitude, degrees")
    _scale(figure, axes, heights)
    axes.annotate(note, (0, -0.11), xycoords="axes fraction", fontsize=9, color="#666666")
    figure.savefig(path, bbox_inches="tight", pad_inches=0.2)


def _land() -> Any:
    """matplotlib's gist_earth without its seas."""
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap

    return ListedColormap(colormaps["gist_earth"](np.linspace(0.28, 1, 256)))


def _shaded(heights: np.ndarray[Any, np.dtype[Any]], frame: Frame) -> Any:
    from matplotlib.colors import LightSource

    rows, columns = heights.shape
    dy = _METRES_PER_DEGREE * (frame.north - frame.south) / rows
    dx = _METRES_PER_DEGREE * (frame.east - frame.west) / columns * np.cos(np.radians(frame.south))
    sun = LightSource(azdeg=315, altdeg=40)
    return sun.shade(heights, cmap=_land(), blend_mode="soft", vert_exag=2.5, dx=dx, dy=dy)


def _cuts(axes: Any, frame: Frame, shape: tuple[int, ...]) -> None:
    """The borders of the chunks, one GET each."""
    rows, columns = shape
    style = {"color": _PAPER, "linewidth": 0.8, "alpha": 0.7}
    for row in frame.row_cuts:
        axes.axhline(frame.north - (frame.north - frame.south) * row / rows, **style)
    for column in frame.column_cuts:
        axes.axvline(frame.west + (frame.east - frame.west) * column / columns, **style)


def _scale(figure: Any, axes: Any, heights: np.ndarray[Any, np.dtype[Any]]) -> None:
    from matplotlib.cm import ScalarMappable
    from matplotlib.colors import Normalize

    colours = ScalarMappable(Normalize(float(heights.min()), float(heights.max())), _land())
    bar = figure.colorbar(colours, ax=axes, shrink=0.7, aspect=30, pad=0.02)
    bar.set_label("metres above sea level")
    bar.outline.set_visible(False)
