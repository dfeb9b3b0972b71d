"""A hill-shaded picture of heights that were read back, as a PNG file."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

_METRES_PER_DEGREE = 111_200.0
_INK, _PAPER = "#1b1b1b", "#ffffff"


class Frame(NamedTuple):
    """Where the heights lie on the map, in degrees, and how the array that they come from is cut."""

    west: float
    east: float
    south: float
    north: float
    row_cuts: tuple[int, ...]
    """Rows of the picture at which a chunk begins."""
    column_cuts: tuple[int, ...]


def draw(heights: np.ndarray[Any, np.dtype[Any]], frame: Frame, *, title: str, note: str, path: Path) -> None:
    """Write the picture. No pyplot: nothing global, and no display is asked for."""
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
