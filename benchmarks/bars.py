"""Performance targets (bars) of this library, and the ratio to each in one run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

from .figures import Figure, Metric, Results

BEST = "the best peer"


@dataclass(frozen=True, slots=True)
class Bar:
    """A target: at most `limit` times the cost of `against`, on each of these workloads."""

    rows: tuple[str, ...]
    metric: Metric
    against: str
    limit: float
    defaults_only: bool = False


@dataclass(frozen=True, slots=True)
class Verdict:
    """The result of a bar on one workload of a run."""

    bar: Bar
    ours: Figure
    other: Figure
    noise: float
    """Relative difference between two processes of ours."""

    @property
    def ratio(self) -> float:
        """Our cost divided by theirs."""
        return float(getattr(self.ours, self.bar.metric) / getattr(self.other, self.bar.metric))

    @property
    def outcome(self) -> Literal["met", "missed", "within the noise"]:
        """`met` or `missed` only if the difference exceeds the noise."""
        if self.ratio * (1 + self.noise) <= self.bar.limit:
            return "met"
        return "missed" if self.ratio > self.bar.limit * (1 + self.noise) else "within the noise"


def _rows(text: str, *values: str) -> tuple[str, ...]:
    return tuple(text.format(value) for value in values)


_SIZES = ("16 KiB", "256 KiB", "4 MiB")
_SMALL = ("read 16 KiB raw", "read 16 KiB zstd", "read 16 KiB blosc", "read 16 KiB raw v2", "read 16 KiB raw, TLS")
_WRITES = (*_rows("write {} raw", *_SIZES), *_rows("write {} zstd", *_SIZES[:2]))
_BUSY = ("1,024 chunks of 8 KiB, 5 ms, 503 above 2,000/s",)
_SHARDS = ("full read, 4 shards of 256 chunks", "full read, 4 shards of 256 chunks, 20 ms")

BARS = (
    Bar(_SMALL, "cpu", "zarrista", 1.3),
    Bar(_SMALL, "cpu", "tensorstore", 0.5),
    Bar(_SMALL, "cpu", "zarr + obstore", 0.25),
    Bar(("read 256 KiB raw",), "cpu", BEST, 0.7),
    Bar(("read 4 MiB raw", "read 4 MiB raw, slab"), "cpu", BEST, 0.6),
    Bar(("read 256 KiB zstd", "read 256 KiB blosc", "read 256 KiB zstd v2"), "cpu", BEST, 0.9),
    Bar(("read 4 MiB zstd",), "cpu", BEST, 1.0),
    Bar(("read 256 KiB raw, TLS", "read 4 MiB raw, TLS"), "cpu", BEST, 0.9),
    Bar(_WRITES, "cpu", "zarr + obstore", 0.5),
    Bar(_WRITES, "cpu", BEST, 1.0),
    Bar((*_rows("partial write, {}", *_SIZES[:2]), "partial write of a shard"), "cpu", BEST, 1.0),
    Bar(_SHARDS, "cpu", BEST, 0.9),
    Bar(("random slices, 256 KiB zstd",), "cpu", BEST, 0.9),
    Bar(("100 handlers, 256 KiB zstd",), "cpu", BEST, 0.8),
    Bar(_rows("read 1,024 chunks of 8 KiB, {} ms", "5", "20", "50"), "cpu", BEST, 1.0),
    Bar(("read 1,024 chunks of 8 KiB, 20 ms",), "wall", BEST, 0.6, defaults_only=True),
    Bar(("write 1,024 chunks of 8 KiB, 20 ms",), "cpu", BEST, 1.0),
    Bar(_BUSY, "cpu", BEST, 1.0),
    Bar(_BUSY, "wall", BEST, 0.9),
    Bar(_rows("read {} chunks", "100", "1,024", "10,000"), "cpu", BEST, 1.0),
    Bar(_rows("process to first chunk of 16 KiB, {}", "signed", "anonymous"), "cpu", BEST, 1.0),
    Bar(_rows("zarr-python reads {} raw", *_SIZES), "cpu", "zarr + obstore", 1.0),
    Bar(_rows("zarr-python writes {} raw", *_SIZES), "cpu", "zarr + obstore", 1.0),
    Bar(_rows("epoch, {}", "plain", "shuffled", "plain, 20 ms", "shuffled, 20 ms"), "cpu", BEST, 1.0),
    Bar(_rows("copy of 32 MiB, {}", "moved", "recoded", "cut", "across"), "cpu", BEST, 1.0),
)


def verdicts(results: Results) -> Iterator[Verdict]:
    """The verdict of every bar on each of its workloads in the run."""
    for bar in BARS:
        for name in bar.rows:
            if name not in results.workloads:
                continue
            ours, other = results.ours(name), _other(results, name, bar)
            if ours is not None and other is not None:
                yield Verdict(bar, ours, other, results.noise(name, bar.metric))


def _other(results: Results, name: str, bar: Bar) -> Figure | None:
    def accept(figure: Figure) -> bool:
        if bar.defaults_only and figure.entry.in_flight is not None:
            return False
        return bar.against in (BEST, figure.entry.library)

    return results.best(name, bar.metric, accept)
