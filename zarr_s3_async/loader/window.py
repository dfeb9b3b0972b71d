"""Windows of several positions that make one sample."""

from __future__ import annotations

from dataclasses import dataclass

from .._options import check_count


@dataclass(frozen=True, slots=True)
class Window:
    """What a sample takes along the axis: sample `i` is the positions from `offset + i * stride`, `length` of them.

    Inputs and targets of a time series are two windows of one array: `Window(8)` and `Window(1, offset=8)`.

    Args:
        length: Positions of one sample; the batch has an axis of this length behind its first.
        stride: Positions from the start of one sample to the start of the next.
        offset: The position at which sample 0 starts.
    """

    length: int
    stride: int = 1
    offset: int = 0

    def __post_init__(self) -> None:
        check_count("Window.length", self.length)
        check_count("Window.stride", self.stride)
        check_count("Window.offset", self.offset, least=0)

    def samples(self, positions: int) -> int:
        """How many samples an axis of so many positions has."""
        return max(0, (positions - self.offset - self.length) // self.stride + 1)
