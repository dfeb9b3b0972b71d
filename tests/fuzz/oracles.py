"""Properties for any input: only our errors are raised, and memory depends on expected sizes, not on claimed ones."""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import TypeAlias

Run: TypeAlias = Callable[[bytes], None]

SLACK = 2 * 2**20
"""Bytes that any run may take in addition: buffers and tables of fixed size."""


@contextmanager
def watching_memory() -> Iterator[None]:
    """Enable memory tracing for all `bounded` blocks inside: switching it on and off takes longer than a run."""
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
    """Check that the block allocates at most this many bytes at the peak, plus SLACK."""
    tracemalloc.reset_peak()
    before, _ = tracemalloc.get_traced_memory()
    yield
    peak = tracemalloc.get_traced_memory()[1] - before
    assert peak <= nbytes + SLACK, f"a peak of {peak} bytes, although {nbytes} and a slack of {SLACK} must be enough"


def named(data: bytes) -> tuple[str, bytes]:
    """Split a seed into its first line, which names its kind, and the rest."""
    name, _, rest = data.partition(b"\n")
    return name.decode("latin-1"), rest
