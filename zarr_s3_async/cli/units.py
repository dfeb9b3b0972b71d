"""Formatting of numbers: decimal sizes, rates, shapes, and counts with a noun."""

from __future__ import annotations

from collections.abc import Sequence

_STEP = 1000
_PREFIXES = ("kB", "MB", "GB", "TB", "PB", "EB")


def size(nbytes: float) -> str:
    """`512 B`, `1.50 kB`, `134 MB`: three significant digits."""
    if nbytes < _STEP:
        return f"{nbytes:.0f} B"
    value = nbytes
    for prefix in _PREFIXES:
        value /= _STEP
        if value < _STEP - 0.5 or prefix == _PREFIXES[-1]:
            break
    digits = 2 if value < 9.995 else 1 if value < 99.95 else 0
    return f"{value:.{digits}f} {prefix}"


def rate(nbytes: float, seconds: float) -> str:
    """Megabytes per second, without the unit."""
    value = nbytes / _STEP**2 / seconds if seconds > 0 else 0.0
    digits = 0 if value >= 9.95 else 1 if value >= 0.995 else 2
    return f"{value:,.{digits}f}"


def shape(lengths: Sequence[int]) -> str:
    """`344`, a multiplication sign, `403`; a 0-d array is `scalar`."""
    return " \N{MULTIPLICATION SIGN} ".join(f"{n:,}" for n in lengths) or "scalar"


def cells(axes: Sequence[object]) -> str:
    """The shape of chunks, with lists of lengths where they differ."""
    return " \N{MULTIPLICATION SIGN} ".join(f"{n:,}" if isinstance(n, int) else str(n) for n in axes) or "scalar"


def count(n: int, noun: str, plural: str | None = None) -> str:
    """`1 chunk`, `20 chunks`."""
    return f"{n:,} {noun if n == 1 else plural or noun + 's'}"
