"""Cost of decompressing a zstd chunk: zstandard, which reuses its context, compared with numcodecs, in microseconds.

`--compress`: the same for compressing at the default level, and for data with less structure.
`--large`: cost of decompressing large chunks in interruptible pieces, and duration of codecs without interruption.
"""

import statistics
import sys
import time
from collections.abc import Callable
from typing import Any

import numpy as np
import zstandard
from numcodecs import blosc, lz4, zstd

from benchmarks.workload import Dataset
from zarr_s3_async.codecs.compress import ZstdFrames

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


def compressing() -> None:
    """Interleaved rounds, medians."""
    compressor, noise = zstandard.ZstdCompressor(level=0), np.random.default_rng(0)
    for edge in (16, 32, 64, 128, 256, 512, 724, 1024):
        data = Dataset(chunk=(edge, edge), grid=(2, 2))
        smooth = np.sin(np.arange(edge) / 99) + noise.integers(0, 64, (edge, edge)) / 1024
        for name, values in (("", data.values(data.chunk_region(1, 1))), (" with noise", smooth.astype("f4"))):
            chunk = np.ascontiguousarray(values)
            ways = (lambda: zstd.compress(chunk, 0, False), lambda: compressor.compress(chunk.data))  # noqa: B023  # called in this very round
            rounds = [[measured(way) for way in ways] for _ in range(ROUNDS)]
            theirs, kept = (statistics.median(column) for column in zip(*rounds, strict=True))
            print(
                f"{chunk.nbytes:9,} bytes{name}: numcodecs {theirs:7.1f} µs, zstandard {kept:7.1f} µs, "
                f"ratio {kept / theirs:.2f}"
            )


def large() -> None:
    """256 MiB of a random walk, CPU time on one core."""
    random, frames = np.random.default_rng(0), ZstdFrames()
    chunk = np.cumsum(random.integers(-3, 4, 2**26, "i4"), dtype="i4").view("u1")
    out, encoded = np.empty_like(chunk), zstd.compress(chunk, 1)
    ways = (lambda: zstd.decompress(encoded, out), lambda: frames.decode_in_pieces(encoded, out))
    rounds = [[measured(way) / 1e3 for way in ways] for _ in range(ROUNDS)]
    whole, pieces = (statistics.median(column) for column in zip(*rounds, strict=True))
    print(f"zstd, 256 MiB: at once {whole:.0f} ms, in pieces {pieces:.0f} ms, ratio {pieces / whole:.2f}")
    several = {"lz4": (lz4.compress(chunk, 1), lz4.decompress)}
    for name in ("lz4", "zstd", "zlib"):
        several[f"blosc, {name}"] = blosc.compress(chunk, name.encode(), 1, 1, 0), blosc.decompress
    for name, (data, decompress) in several.items():
        seconds = [measured(lambda: decompress(data, out)) / 1e6 for _ in range(5)]  # noqa: B023  # called in this very round
        print(f"{name}: {4 * statistics.median(seconds):.2f} s per GiB")


if __name__ == "__main__":
    {"--large": large, "--compress": compressing}.get("".join(sys.argv[1:2]), main)()
