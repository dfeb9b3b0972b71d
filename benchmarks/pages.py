"""Cost of the memory pages of a new result: `python benchmarks/pages.py`, µs of CPU per MiB for filling 64 MiB.

NumPy asks the kernel for huge pages (`madvise`) from 4 MiB on; `NUMPY_MADVISE_HUGEPAGE=0` turns that off.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable
from statistics import median

import numpy as np

SIZE, ROUNDS, HUGE = 64 * 2**20, 15, 2 * 2**20
_SOURCE = np.random.default_rng(0).integers(0, 255, 4 * 2**20, "u1")
_kept = np.ones(SIZE, "u1")


def fill(memory: np.ndarray) -> None:
    """Copy 4 MiB at a time, like response bodies."""
    for at in range(0, SIZE, _SOURCE.size):
        memory[at : at + _SOURCE.size] = _SOURCE


def mapped(advice: int) -> np.ndarray:
    """Anonymous memory, aligned to huge pages, with the given `madvise` option."""
    memory = mmap.mmap(-1, SIZE + HUGE, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(advice)
    data = np.frombuffer(memory, "u1")
    start = -data.ctypes.data % HUGE
    return data[start : start + SIZE]


WAYS: dict[str, Callable[[], np.ndarray]] = {
    "np.empty": lambda: np.empty(SIZE, "u1"),
    "huge pages": lambda: mapped(mmap.MADV_HUGEPAGE),
    "small pages": lambda: mapped(mmap.MADV_NOHUGEPAGE),
    "memory that is used again": lambda: _kept,
}


def once(make: Callable[[], np.ndarray]) -> float:
    """Seconds."""
    start = time.process_time()
    fill(make())
    return time.process_time() - start


if __name__ == "__main__":
    rounds = [[once(make) for make in WAYS.values()] for _ in range(ROUNDS)]
    for name, column in zip(WAYS, zip(*rounds, strict=True), strict=True):
        print(f"{name:26} {median(column) / SIZE * 2**20 * 1e6:5.0f} µs/MiB")
