"""An event loop whose clock jumps to the next timer as soon as nothing else is to do: waits cost no time."""

from __future__ import annotations

import asyncio
import selectors
from typing import Any


class JumpingLoop(asyncio.SelectorEventLoop):
    """For programs that no other thread and no socket wakes up: where all wait for ever, it says so and stops."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        """Seconds since the loop was made, as far as anyone waits for them."""
        return self._now

    def jump(self, seconds: float) -> None:
        """Let that much time be over."""
        self._now += seconds


class _Jumping(selectors.DefaultSelector):
    def __init__(self, loop: JumpingLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        """What is ready now; else the timeout is over at once."""
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("deadlock: every task waits, and nothing will wake any of them")
        if not ready and timeout:
            self._loop.jump(timeout)
        return ready
