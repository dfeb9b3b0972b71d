"""HTML of handles for notebooks: a table of properties, and an array's grid of stored objects. Sends no request."""

from __future__ import annotations

from collections.abc import Container, Iterable

from ._types import Coords, Shape

_MOST_CELLS = 48
"""Maximum number of objects drawn per side; of longer sides, the first ones are drawn."""
_PIXELS = 200
_STORED, _ABSENT, _UNKNOWN = "#4c8bb5", "#f0f0f0", "#c9d8e4"


def facts_html(title: str, facts: Iterable[tuple[str, object]], below: str = "") -> str:
    """A table of names and values, with more HTML below it."""
    from html import escape  # only needed in notebooks

    rows = "".join(
        f'<tr><th style="text-align:left">{escape(name)}</th><td style="text-align:left">{escape(str(value))}</td></tr>'
        for name, value in facts
    )
    return f"<div><b>{escape(title)}</b><table>{rows}</table>{below}</div>"


def grid_html(grid: Shape, stored: Container[Coords] | None) -> str:
    """SVG of an array's grid of objects: its last two dimensions, at index 0 of the others.

    Args:
        grid: Objects per dimension.
        stored: Positions of the objects that exist; None if not known.
    """
    if not grid or 0 in grid:
        return ""
    rows, columns = (1, *grid)[-2:]
    others = (0,) * (len(grid) - 2)
    shown_rows, shown_columns = min(rows, _MOST_CELLS), min(columns, _MOST_CELLS)
    side = max(3, min(16, _PIXELS // max(shown_rows, shown_columns)))
    cells = "".join(
        f'<rect x="{x * side}" y="{y * side}" width="{side - 1}" height="{side - 1}" '
        f'fill="{_color((*others, y, x)[-len(grid) :], stored)}"/>'
        for y in range(shown_rows)
        for x in range(shown_columns)
    )
    svg = f'<svg width="{shown_columns * side}" height="{shown_rows * side}">{cells}</svg>'
    notes = [f"{' × '.join(f'{n:,}' for n in grid)} objects"]  # noqa: RUF001  # the multiplication sign
    if (shown_rows, shown_columns) != (rows, columns) or len(grid) > 2:  # only part of the grid is drawn
        notes.append(f"drawn: {shown_rows} by {shown_columns} of the last two dimensions, at index 0 of the others")
    if stored is not None:
        notes.append("blue: stored")
    return f"{svg}<div><small>{'; '.join(notes)}</small></div>"


def _color(position: Coords, stored: Container[Coords] | None) -> str:
    if stored is None:
        return _UNKNOWN
    return _STORED if position in stored else _ABSENT
