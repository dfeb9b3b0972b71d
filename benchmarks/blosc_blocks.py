"""Estimate the gain of fetching only some blocks of a Blosc chunk, compared with all of it: requests, bytes, time.

A frame is a header of 16 bytes, the positions of its blocks, and the blocks, each decodable on its own. numcodecs has
no function for a part of a frame, so blocks are decoded here as frames of their own, with headers made for them.
"""

import statistics
import struct
import time
from typing import Any

import numpy as np
from numcodecs import blosc

from benchmarks.workload import DTYPE, Dataset
from zarr_s3_async._plan.runs import runs_of
from zarr_s3_async.byte_range import REQUEST_BYTES, Span, coalesce

HEADER = struct.Struct("<BBBBIII")
GAP = 256 * 1024
LATENCY, BANDWIDTH = 0.020, 85e6
SELECTIONS: dict[str, Any] = {
    "a row": np.s_[7, 100, 0:256],
    "a column": np.s_[0:64, 100, 9],
    "a plane": np.s_[7, 0:1024, 0:256],
    "a plane across": np.s_[0:64, 100, 0:256],
    "a point": np.s_[7, 100, 9],
}
SHAPES = {"64 MiB": (64, 1024, 256), "4 MiB": (16, 256, 256), "1 MiB": (4, 256, 256)}


def frame_of(frame: bytes, span: Span, nbytes: int) -> bytes:
    """A frame with only the block at `span`."""
    version, inner, flags, typesize, *_ = HEADER.unpack_from(frame)
    head = HEADER.pack(version, inner, flags, typesize, nbytes, nbytes, 20 + span.stop - span.start)
    return head + struct.pack("<I", 20) + frame[span.start : span.stop]


def rows(edge: str, shape: tuple[int, ...], cname: str) -> None:
    """Print one line per selection."""
    height = shape[0] * shape[1]
    data = Dataset(chunk=(height, shape[2]), grid=(1, 1))
    chunk = data.values(data.chunk_region(0, 0)).reshape(shape)
    frame = bytes(blosc.compress(chunk, cname.encode(), 5, blosc.SHUFFLE, 0, typesize=DTYPE.itemsize))
    nbytes, blocksize = HEADER.unpack_from(frame)[4:6]
    starts = np.frombuffer(frame, "<u4", -(-nbytes // blocksize), 16).astype(np.int64)
    by_place = np.argsort(starts)
    ends = np.empty_like(starts)
    ends[by_place] = [*starts[by_place][1:], len(frame)]
    whole_cpu = min(timed(lambda: blosc.decompress(frame)) for _ in range(3))
    whole = LATENCY + len(frame) / BANDWIDTH + whole_cpu
    for name, key in SELECTIONS.items():
        take = tuple(
            min(at, n - 1) if isinstance(at, int) else slice(*at.indices(n)) for at, n in zip(key, shape, strict=True)
        )
        runs = runs_of(take, shape, range(3), DTYPE.itemsize)
        touched = sorted({int(b) for a in runs.starts for b in (a // blocksize, (a + runs.length - 1) // blocksize)})
        touched = [*range(touched[0], touched[-1] + 1)] if runs.starts.size == 1 else touched
        spans = {block: Span(int(starts[block]), int(ends[block])) for block in touched}
        requests = [span for span, _ in coalesce(sorted(spans.values()), max_gap=GAP, small_gap=REQUEST_BYTES)]
        moved = 16 + 4 * starts.size + sum(stop - start for start, stop in requests)
        sizes = {block: min(blocksize, nbytes - block * blocksize) for block in touched}
        frames = [frame_of(frame, spans[block], sizes[block]) for block in touched if sizes[block] == blocksize]
        cpu = statistics.median(timed(lambda: [blosc.decompress(one) for one in frames]) for _ in range(3))  # noqa: B023
        first = np.frombuffer(blosc.decompress(frames[0]), DTYPE)
        at = touched[0] * blocksize // DTYPE.itemsize
        assert np.array_equal(first, chunk.reshape(-1)[at : at + first.size])
        blocks = 2 * LATENCY + moved / BANDWIDTH + cpu
        print(
            f"{edge}, {cname}, {name}: {starts.size} blocks of {blocksize // 1024} KiB, {len(touched)} touched; whole "
            f"1 request of {len(frame) / 2**20:.2f} MiB, {whole * 1e3:.0f} ms; blocks 1 + {len(requests)} requests of "
            f"{moved / 2**20:.2f} MiB, {blocks * 1e3:.0f} ms"
        )


def timed(call: Any) -> float:
    """CPU seconds of one call."""
    start = time.process_time()
    call()
    return time.process_time() - start


def main() -> None:
    """Measure chunks of three sizes with two compressors."""
    blosc.use_threads = False
    for edge, shape in SHAPES.items():
        for cname in ("lz4", "zstd"):
            rows(edge, shape, cname)


if __name__ == "__main__":
    main()
