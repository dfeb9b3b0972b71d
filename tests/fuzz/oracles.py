"""What holds whatever comes in: errors of ours alone, and memory by what was expected, not by what was claimed."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

Run: TypeAlias = Callable[[bytes], None]

SLACK = 2 * 2**20
"""Bytes that anything may take: buffers and tables of fixed size."""


@contextmanager
def watching_memory() -> Iterator[None]:
    """Around all `bounded` ones: to switch it on and off costs more than a run."""
    if tracemalloc.is_tracing():
        yield
        return
    tracemalloc.start()
    try:
        yield
    finally:
        tracemalloc.stop()


@contextmanager
def bounded(nbytes: int) -> Iterator[None]:
    """At most so many bytes more at once, and the slack."""
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    yield
    peak = tracemalloc.get_traced_memory()[1] - before
    assert peak <= nbytes + SLACK, f"{peak} bytes at once, where {nbytes} and a slack of {SLACK} should do"


def named(data: bytes) -> tuple[str, bytes]:
    """A seed's first line says what the rest is."""
    name, _, rest = data.partition(b"\n")
    return name.decode("latin-1"), rest
