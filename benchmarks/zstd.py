"""What it costs to decompress a zstd chunk: zstandard, which keeps its context, against numcodecs, in microseconds."""

import statistics
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import zstandard
from numcodecs import zstd

from benchmarks.workload import Dataset

ROUNDS, SECONDS = 15, 0.05


def measured(call: Callable[[], Any]) -> float:
    """Microseconds per call."""
    calls, start = 0, time.process_time()
    while time.process_time() - start < SECONDS:
        call()
        calls += 1
    return (time.process_time() - start) / calls * 1e6


def main() -> None:
    """Interleaved rounds, medians."""
    decompressor = zstandard.ZstdDecompressor()
    for edge in (16, 64, 128, 256):
        data = Dataset(chunk=(edge, edge), grid=(8, 8))
        chunk = np.ascontiguousarray(data.values(data.chunk_region(1, 1)))
        encoded, out = zstd.compress(chunk, 0, False), np.empty_like(chunk)
        ways = (lambda: zstd.decompress(encoded, out), lambda: decompressor.decompress(encoded))  # noqa: B023  # called in this very round
        rounds = [[measured(way) for way in ways] for _ in range(ROUNDS)]
        theirs, kept = (statistics.median(column) for column in zip(*rounds, strict=True))
        print(
            f"{chunk.nbytes:8,} bytes: numcodecs {theirs:6.1f} µs, zstandard {kept:6.1f} µs, ratio {kept / theirs:.2f}"
        )


if __name__ == "__main__":
    main()
