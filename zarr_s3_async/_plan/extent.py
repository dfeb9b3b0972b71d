"""Where a region ends when only its start and its data are known."""

from __future__ import annotations

from collections.abc import Sequence

from .._types import Shape
from ..errors import SelectionError


def stop_of(start: Sequence[int] | int, step: Sequence[int] | int | None, data_shape: Shape, shape: Shape) -> Shape:
    """The `stop` of a write of data of `data_shape`: one past its last element in every dimension.

    Leading dimensions that the data lacks are broadcast, and have no end of their own.
    """
    starts = (start,) if isinstance(start, int) else tuple(start)
    steps = (1,) * len(shape) if step is None else (step,) if isinstance(step, int) else tuple(step)
    if len(data_shape) != len(shape) or len(starts) != len(shape) or len(steps) != len(shape):
        raise SelectionError(
            f"data of shape {data_shape} at start={start!r} does not say where it ends in an array of shape {shape}: "
            "pass stop=, or data with one dimension for each of the array's"
        )
    # Of n elements every `by`-th, the last lies (n - 1) * by behind the first.
    return tuple(
        first + max(0, (n - 1) * by + 1) if n else first for first, n, by in zip(starts, data_shape, steps, strict=True)
    )
