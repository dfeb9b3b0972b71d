"""An event loop whose clock jumps to the next timer when nothing is ready: waits take no real time."""

from __future__ import annotations

import asyncio
import selectors
from collections.abc import Callable
from typing import Any


async def elapse(seconds: float, when: Callable[[], bool]) -> None:
    """Move the clock of the running loop of asyncio forward once `when` is true, so that its timeouts expire.

    For tests with real servers: the timeout may be longer than any machine takes, and the test does not wait for it.
    """
    while not when():
        await asyncio.sleep(0.001)
    loop: Any = asyncio.get_running_loop()
    real = loop.time
    loop.time = lambda: real() + seconds


class JumpingLoop(asyncio.SelectorEventLoop):
    """For programs without other threads and sockets: raises an error if all tasks wait forever."""

    def __init__(self) -> None:
        self._now = 0.0
        super().__init__(_Jumping(self))

    def time(self) -> float:
        """Virtual seconds since the loop was created."""
        return self._now

    def jump(self, seconds: float) -> None:
        """Advance the clock by this time."""
        self._now += seconds


class _Jumping(selectors.DefaultSelector):
    def __init__(self, loop: JumpingLoop) -> None:
        super().__init__()
        self._loop = loop

    def select(self, timeout: float | None = None) -> list[Any]:
        """Return what is ready now; otherwise advance the clock by the timeout."""
        ready = super().select(0)
        if not ready and timeout is None:
            raise RuntimeError("deadlock: every task waits, and nothing will wake any of them")
        if not ready and timeout:
            self._loop.jump(timeout)
        return ready
