"""What each step of the demo cost, taken from the session's counters, and the table of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from time import perf_counter

from rich import box
from rich.table import Table

from ..events import Metrics
from . import units

_COLUMNS = {"GetObject": "GET", "PutObject": "PUT"}


@dataclass(slots=True)
class Step:
    """One row of the table."""

    name: str
    nbytes: int
    """Bytes of array data that it read or wrote."""
    requests: Counter[str] = field(default_factory=Counter)
    wire: int = 0
    """Bytes of request and response bodies."""
    seconds: float = 0.0
    agrees: bool | None = None
    """What NumPy said; None where nothing was read."""


class Meter:
    """Takes the difference of the counters around each step."""

    def __init__(self, metrics: Metrics) -> None:
        self._metrics = metrics
        self.steps: list[Step] = []

    @contextmanager
    def step(self, name: str, nbytes: int) -> Iterator[Step]:
        """Everything that the session does inside is counted to this step."""
        step = Step(name, nbytes)
        requests, wire, start = self._metrics.requests.copy(), self._wire(), perf_counter()
        yield step
        step.seconds = perf_counter() - start
        step.wire = self._wire() - wire
        step.requests = self._metrics.requests - requests
        self.steps.append(step)

    def _wire(self) -> int:
        return self._metrics.bytes_sent + self._metrics.bytes_received


def table_of(steps: Sequence[Step]) -> Table:
    """Steps as rows, requests by verb; it fits into 80 columns."""
    table = Table(box=box.SIMPLE_HEAD, header_style="bold", pad_edge=False)
    table.caption = "bytes sent and received; data and MB/s of the arrays; all on this machine"
    table.caption_justify = "left"
    table.add_column("step")
    requests = [_by_verb(step.requests) for step in steps]
    verbs = sorted(set().union(*requests))
    for name in (*verbs, "bytes", "data", "s", "MB/s"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("NumPy", justify="center", no_wrap=True)
    for step, counts in zip(steps, requests, strict=True):
        table.add_row(step.name, *(f"{counts[verb]:,}" if counts[verb] else "" for verb in verbs), *_cost(step))
    return table


def _cost(step: Step) -> Iterator[str]:
    yield units.size(step.wire) if step.wire else ""
    yield units.size(step.nbytes) if step.nbytes else ""
    yield f"{step.seconds:.2f}"
    yield units.rate(step.nbytes, step.seconds) if step.nbytes else ""
    yield {None: "", True: "[bold green]equal[/]", False: "[bold red]differs[/]"}[step.agrees]


def _by_verb(operations: Counter[str]) -> Counter[str]:
    verbs: Counter[str] = Counter()
    for operation, n in operations.items():
        verbs[_COLUMNS.get(operation, "other")] += n
    return verbs
