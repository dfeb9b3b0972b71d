"""`zarr-s3 plot URL REGION`: a plane as a picture, in a file or in the terminal, and the grid of stored chunks."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from rich.color import Color
from rich.style import Style
from rich.text import Text

from .._array import Array
from ..errors import ConfigError
from . import files, units
from .nodes import is_chunk
from .options import Call, Url, parse_region
from .terminal import err, out, print_line

_SHADES = " .:-=+*#%@"
_ROWS = 24
_ON_SCREEN, _IN_A_FILE = 640, 4096
"""Maximum elements along a side of the picture, if no region was given."""
_BAD = (90, 90, 90)
_STOPS = np.array([(68, 1, 84), (59, 82, 139), (33, 145, 140), (94, 201, 98), (253, 231, 37)], float)
"""Colours of viridis, from low to high."""


async def plot(
    call: Call,
    url: Url,
    part: Annotated[
        str, typer.Argument(metavar="[REGION]", help="A plane: 0,:,: of three dimensions. Default: the first one.")
    ] = "",
    target: Annotated[
        str | None, typer.Option("--out", "-o", metavar="FILE.png", help="Default: the terminal.")
    ] = None,
    grid: Annotated[
        bool, typer.Option("--grid", help="Show which chunks are stored, instead of their values.")
    ] = False,
) -> None:
    """Draw a plane of an array, or the grid of its stored chunks."""
    if target is not None and Path(target).suffix.lower() != ".png":
        raise ConfigError(f"--out {target}: pictures are written as png only")
    async with call.session() as session:
        array = await session.open_array(url)
        with err.status("reading …"):
            if grid:
                plane = await _stored(session.store(url), array)
            else:
                plane = await _plane(array, part, _ON_SCREEN if target is None else _IN_A_FILE)
    fields: dict[str, Any] = {"url": array.url, "shape": list(plane.shape), "file": target}
    fields |= {"low": _finite(plane, np.min), "high": _finite(plane, np.max)}
    if target is not None:
        with Path(target).open("wb") as file:
            files.write(plane, file, "png")
        call.show(fields, lambda: print_line(f"{target}  {units.shape(plane.shape)}"))
        return
    call.show(fields, lambda: _draw(plane, fields, is_grid=grid))


async def _plane(array: Array, part: str, max_length: int) -> np.ndarray[Any, Any]:
    """Two dimensions of numbers: those that the region leaves, or the last two at index 0 of all others.

    Without a region, every n-th element is read, so that no side is longer than `max_length`.
    """
    if not part.strip():
        # A picture has no room for more elements; steps also read fewer chunks if these are small.
        thin = [slice(None, None, max(1, -(-length // max_length))) for length in array.shape[-2:]]
        selection: Any = (*([0] * (array.ndim - 2)), *thin)
    else:
        selection = parse_region(part)
    data = np.asarray(await array[selection])
    if data.dtype.kind not in "biuf":
        raise ConfigError(f"{array.url} has elements of {data.dtype}: only numbers can be drawn")
    data = data[np.newaxis] if data.ndim == 1 else data
    if data.ndim != 2:  # a plane
        raise ConfigError(f"the region {part!r} leaves {data.ndim} dimensions: leave two, like 0,:,:")
    if 0 in data.shape:
        raise ConfigError(f"the region {part!r} is empty")
    return data.astype(float)


async def _stored(store: Any, array: Array) -> np.ndarray[Any, Any]:
    """1 where the object of a chunk (or shard) is stored, 0 elsewhere; dimensions before the last two are summed up."""
    lengths = array.metadata.grid_shape
    counts = np.zeros(lengths or (1,), float)
    if counts.size > 10**8:  # 800 MB of memory
        raise ConfigError(f"{units.count(counts.size, 'chunk')}: too many to draw")
    async for entry in store.list_prefix():
        if is_chunk(entry.key, array):
            coords = array.metadata.keys.decode(entry.key, array.ndim)
            counts[coords or (0,)] = 1
    while counts.ndim > 2:  # a plane
        counts = counts.mean(axis=0)
    return counts[np.newaxis] if counts.ndim == 1 else counts


def _finite(plane: np.ndarray[Any, Any], function: Any) -> float | None:
    good = plane[np.isfinite(plane)]
    return float(function(good)) if good.size else None


def _draw(plane: np.ndarray[Any, Any], fields: dict[str, Any], *, is_grid: bool) -> None:
    columns = max(8, min(out.width, 160) - 1)
    in_colour = out.color_system is not None and not out.options.ascii_only
    rows = _ROWS * (2 if in_colour else 1)
    # A character is about twice as high as wide; in colour it holds two rows.
    ratio = plane.shape[0] / plane.shape[1] * (1 if in_colour else 0.5)
    wide = min(columns, plane.shape[1] if is_grid else columns)
    cells = _shrunk(plane, max(1, min(rows, round(wide * ratio))), wide)
    low, high = (0.0, 1.0) if is_grid else (fields["low"] or 0.0, fields["high"] or 0.0)
    scaled = np.clip((cells - low) / ((high - low) or 1.0), 0, 1)
    for line in _coloured(scaled) if in_colour else _shaded(scaled):
        out.print(line, soft_wrap=True)
    if is_grid:
        share = float(plane.mean())
        print_line(f"{units.shape(plane.shape)} chunks; {share:.1%} of them are stored")
    else:
        print_line(f"{units.shape(plane.shape)}; from {fields['low']} to {fields['high']}")


def _shrunk(plane: np.ndarray[Any, Any], rows: int, columns: int) -> np.ndarray[Any, Any]:
    """The nearest elements: stored values are drawn, never means."""
    down = (np.arange(rows) + 0.5) * plane.shape[0] / rows
    across = (np.arange(columns) + 0.5) * plane.shape[1] / columns
    picked: np.ndarray[Any, Any] = plane[down.astype(int)[:, None], across.astype(int)]
    return picked


def _shaded(scaled: np.ndarray[Any, Any]) -> list[Text]:
    last = len(_SHADES) - 1
    return [Text("".join("?" if np.isnan(v) else _SHADES[round(v * last)] for v in row)) for row in scaled]


def _coloured(scaled: np.ndarray[Any, Any]) -> list[Text]:
    """Two rows per line: the upper half of each character has the foreground colour, the lower one the background."""
    lines = []
    for top in range(0, len(scaled), 2):
        line = Text()
        for column in range(scaled.shape[1]):
            ink = _colour(scaled[top, column])
            paper = _colour(scaled[top + 1, column]) if top + 1 < len(scaled) else None
            line.append("\N{UPPER HALF BLOCK}", Style(color=ink, bgcolor=paper))
        lines.append(line)
    return lines


def _colour(value: float) -> Color:
    if np.isnan(value):
        return Color.from_rgb(*_BAD)
    at = float(value) * (len(_STOPS) - 1)
    left = min(int(at), len(_STOPS) - 2)
    red, green, blue = _STOPS[left] + (_STOPS[left + 1] - _STOPS[left]) * (at - left)
    return Color.from_rgb(red, green, blue)
