"""Medians of repeats, and ratios to the best peer. Pure: a results document in, figures out."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from statistics import median
from typing import Any, Literal, TypeAlias

from .libraries import ADAPTED, CONTENDERS, NULL, OURS
from .matrix import Entry
from .workload import Workload

Metric: TypeAlias = Literal["cpu", "wall"]


@dataclass(frozen=True, slots=True)
class Figure:
    """One contender in one setting on one workload: medians."""

    entry: Entry
    workload: Workload
    cpu: float
    wall: float
    repeats: int
    requests: int | None
    peak_bytes: int | None

    @property
    def cpu_per_chunk(self) -> float:
        """Seconds."""
        return self.cpu / self.workload.chunks()

    @property
    def cpu_per_mib(self) -> float:
        """Seconds."""
        return self.cpu / (self.workload.nbytes() / 2**20)

    @property
    def is_ours(self) -> bool:
        """True for this library, with any loop or transport."""
        return self.entry.library.startswith(OURS) or self.entry.library in ADAPTED

    @property
    def is_peer(self) -> bool:
        """True for another library: neither ours nor a bare loop."""
        return not self.is_ours and not CONTENDERS[self.entry.library].bare


class Results:
    """A results document, by workload."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        workloads = [Workload.from_json(w) for w in document["workloads"]]
        self.workloads = {w.name: w for w in workloads}
        self.figures: dict[str, list[Figure]] = {w.name: [] for w in workloads}
        self.skipped: list[tuple[str, str, str]] = []
        """Workload, contender, reason."""
        for result in document["results"]:
            self._take(result)

    def _take(self, result: dict[str, Any]) -> None:
        entry = Entry(result["library"], result["in_flight"])
        name = result["workload"]
        if result["note"] is not None or not result["cpu"]:
            self.skipped.append((name, entry.label, result["note"] or "no repeat was made"))
            return
        self.figures[name].append(
            Figure(
                entry=entry,
                workload=self.workloads[name],
                cpu=median(result["cpu"]),
                wall=median(result["wall"]),
                repeats=len(result["cpu"]),
                requests=result["requests"],
                peak_bytes=result["peak_bytes"],
            )
        )

    def of_group(self, group: str) -> Iterator[Workload]:
        """Workloads of one table, in order."""
        return (w for w in self.workloads.values() if w.group == group)

    def groups(self) -> list[str]:
        """In order of appearance."""
        return list(dict.fromkeys(w.group for w in self.workloads.values()))

    def ours(self, name: str) -> Figure | None:
        """This library at its defaults; if a workload sets the requests in flight, with that number.

        In the rows of adapters another library over our stores."""
        mine = (OURS, *sorted(ADAPTED))
        return next((f for f in self.figures[name] if f.entry.library in mine), None)

    def noise(self, name: str, metric: Metric) -> float:
        """Relative difference between two processes of ours on this workload, at least the median of the run."""
        apart = {n: found for n in self.figures if (found := self._apart(n, metric)) is not None}
        usual = median(apart.values()) if apart else 0.0
        return max(apart.get(name, 0.0), usual)

    def _apart(self, name: str, metric: Metric) -> float | None:
        again = next((f for f in self.figures[name] if f.entry.library == NULL), None)
        ours = self.ours(name)
        if again is None or ours is None:
            return None
        return abs(float(getattr(ours, metric) / getattr(again, metric)) - 1)

    def best(self, name: str, metric: Metric, accept: Callable[[Figure], bool] | None = None) -> Figure | None:
        """The best peer, in the better of its settings."""
        found = [f for f in self.figures[name] if f.is_peer and (accept is None or accept(f))]
        return min(found, key=lambda f: getattr(f, metric), default=None)

    def ratio(self, figure: Figure, metric: Metric) -> float | None:
        """A contender's figure over the best peer's."""
        best = self.best(figure.workload.name, metric)
        return None if best is None else getattr(figure, metric) / getattr(best, metric)
