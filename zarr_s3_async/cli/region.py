"""A region as it is written on the command line: NumPy's notation, `0:10,5,::2`, with or without brackets."""

from __future__ import annotations

import re
from types import EllipsisType
from typing import TypeAlias

from ..errors import SelectionError

Region: TypeAlias = tuple[int | slice | EllipsisType, ...]

_number = r"\s*([+-]?\d+)?\s*"
_is_slice = re.compile(f"{_number}:{_number}(?::{_number})?").fullmatch
_is_index = re.compile(r"\s*[+-]?\d+\s*").fullmatch


def parse_region(text: str | None) -> Region:
    """The selection; None and an empty text are all of an array.

    Raises:
        SelectionError: A part is neither a number, nor a slice, nor an ellipsis.
    """
    inner = (text or "").strip()
    if inner.startswith("[") and inner.endswith("]"):
        inner = inner[1:-1]
    if not inner.strip():
        return (Ellipsis,)
    return tuple(_part(part, text or "") for part in inner.split(","))


def _part(part: str, whole: str) -> int | slice | EllipsisType:
    if part.strip() == "...":
        return Ellipsis
    if _is_index(part):
        return int(part)
    if match := _is_slice(part):
        start, stop, step = (None if group is None else int(group) for group in match.groups())
        return slice(start, stop, step)
    raise SelectionError(f"{part.strip()!r} in the region {whole!r} is neither a number nor a slice; write 0:10,5,::2")


def parse_numbers(text: str) -> list[int]:
    """`100,200` or `100x200` as numbers.

    Raises:
        ValueError: It is something else.
    """
    return [int(part) for part in re.split(r"[,x\N{MULTIPLICATION SIGN}]", text.strip("()[] ")) if part.strip()]
