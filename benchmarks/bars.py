"""The bars that this library is built against, and how far a run is from each. Every ratio is of one run."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from .figures import Figure, Metric, Results
from .matrix import FAR, READ_OVER_HTTP, READ_OVER_TLS, WRITE
from .workload import Workload

_SMALL, _MIDDLE, _BIG = 16 * 2**10, 256 * 2**10, 4 * 2**20
BEST = "the best peer"


@dataclass(frozen=True, slots=True)
class Bar:
    """At most `limit` times what `against` needs."""

    group: str
    action: str
    chunk_bytes: tuple[int, ...]
    codecs: tuple[str, ...]
    metric: Metric
    against: str
    limit: float
    defaults_only: bool = False

    def applies(self, workload: Workload) -> bool:
        """Whether this workload is what the bar is about."""
        data = workload.dataset
        return (
            (workload.group, workload.action) == (self.group, self.action)
            and data.chunk_bytes in self.chunk_bytes
            and data.codec in self.codecs
            and (self.group != FAR or (workload.latency, data.grid) == (0.02, (32, 32)))
        )


@dataclass(frozen=True, slots=True)
class Verdict:
    """A bar on one workload of a run."""

    bar: Bar
    workload: Workload
    ours: Figure
    other: Figure

    @property
    def ratio(self) -> float:
        """Ours over theirs."""
        return float(getattr(self.ours, self.bar.metric) / getattr(self.other, self.bar.metric))

    @property
    def met(self) -> bool:
        """Whether it stands."""
        return self.ratio <= self.bar.limit


def _small(group: str) -> Iterator[Bar]:
    for library, limit in (("zarrista", 1.3), ("tensorstore", 0.5), ("zarr + obstore", 0.25)):
        yield Bar(group, "read", (_SMALL,), ("raw", "zstd", "blosc"), "cpu", library, limit)


BARS = (
    *_small(READ_OVER_HTTP),
    *_small(READ_OVER_TLS),
    Bar(READ_OVER_HTTP, "read", (_MIDDLE, _BIG), ("raw",), "cpu", BEST, 0.7),
    Bar(READ_OVER_HTTP, "read", (_MIDDLE, _BIG), ("zstd",), "cpu", BEST, 1.0),
    Bar(FAR, "read", (8 * 2**10,), ("raw",), "wall", BEST, 0.6, defaults_only=True),
    Bar(WRITE, "write", (_SMALL, _MIDDLE, _BIG), ("raw", "zstd"), "cpu", "zarr + obstore", 0.5),
)


def verdicts(results: Results) -> Iterator[Verdict]:
    """Every bar on every workload of the run that it is about."""
    for bar in BARS:
        for workload in filter(bar.applies, results.workloads.values()):
            ours, other = results.ours(workload.name), _other(results, workload, bar)
            if ours is not None and other is not None:
                yield Verdict(bar, workload, ours, other)


def _other(results: Results, workload: Workload, bar: Bar) -> Figure | None:
    def accept(figure: Figure) -> bool:
        if bar.defaults_only and figure.entry.in_flight is not None:
            return False
        return bar.against in (BEST, figure.entry.library)

    return results.best(workload.name, bar.metric, accept)
