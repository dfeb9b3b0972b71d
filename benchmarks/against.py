"""This library beside the same of another commit, in one interleaved run: `python -m benchmarks --against COMMIT`.

The package of the commit is unpacked into a temporary folder, with the harness of this checkout beside it: both
versions do the same work, and a commit whose harness was different, or had none, can be compared, too.
"""

from __future__ import annotations

import subprocess
import tarfile
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from math import sqrt
from pathlib import Path
from statistics import median, quantiles
from typing import NamedTuple

from .driver import Measured
from .libraries import ADAPTED, OURS, again, base_name, before
from .matrix import Entry, Row

ROUNDS = 15
"""Repeats of each contender, if there is time."""
_ROOT = Path(__file__).parents[1]
_SHARED = ("benchmarks", "tests")
"""Folders of this checkout that both versions run with; a cold start uses a server of the tests."""


class NoSuchCommit(Exception):
    """Git has no such commit, or it has no package."""


@contextmanager
def unpacked(commit: str) -> Iterator[Path]:
    """A temporary folder with the package as it was in a commit, and the harness of this checkout.

    Raises:
        NoSuchCommit: Git does not know the commit, or this is no checkout.
    """
    # `git archive`, not `git worktree`, which would leave an entry in .git if the run were killed.
    command = ["git", "archive", "--format=tar", commit, OURS]
    done = subprocess.run(command, cwd=_ROOT, capture_output=True, check=False)
    if done.returncode:
        raise NoSuchCommit(f"--against {commit}: {done.stderr.decode().strip()}")
    with tempfile.TemporaryDirectory(prefix="against-") as name:
        folder = Path(name).resolve()
        with tarfile.open(fileobj=BytesIO(done.stdout)) as archive:
            archive.extractall(folder, filter="data")
        for shared in _SHARED:
            (folder / shared).symlink_to(_ROOT / shared, target_is_directory=True)
        yield folder


def paired(row: Row) -> Row:
    """The row with our entries alone: each as it is, once more in another process, and with the other version."""
    ours = [entry for entry in row.entries if entry.library in {OURS, *ADAPTED}]
    return Row(
        row.workload,
        tuple(Entry(named(e.library), e.in_flight) for e in ours for named in (str, again, before)),
    )


class Comparison(NamedTuple):
    """One row and setting: medians over the rounds of this version's CPU time, divided by others of the same round."""

    name: str
    cpu: float
    """Seconds of a pass, with this version."""
    ratio: float
    """To the other version."""
    noise: float
    """Difference to another process with this version, at least the uncertainty of `ratio`."""
    requests: tuple[int | None, int | None]
    """Of a pass, with the other version and with this one."""


def compared(results: list[Measured]) -> list[Comparison]:
    """What both versions took, row by row, without those that have no figures of all three processes."""
    found = {(r.workload, r.library, r.in_flight): r for r in results if r.note is None and r.cpu}
    rows = []
    for (workload, library, in_flight), now in found.items():
        others = [found.get((workload, named(library), in_flight)) for named in (before, again)]
        if library != base_name(library) or None in others:
            continue
        then, null = (other for other in others if other is not None)
        ratios = _ratios(now, then)
        rows.append(
            Comparison(
                name=workload if library == OURS else f"{workload}: {Entry(library, in_flight).label}",
                cpu=median(now.cpu),
                ratio=median(ratios),
                noise=max(abs(median(_ratios(now, null)) - 1), _uncertainty(ratios)),
                requests=(then.requests, now.requests),
            )
        )
    return rows


def _ratios(one: Measured, other: Measured) -> list[float]:
    """By round: passes of a round are neighbours in time, so that what else the machine does affects both."""
    return [mine / theirs for mine, theirs in zip(one.cpu, other.cpu, strict=False)]


def _uncertainty(ratios: list[float]) -> float:
    """Half of the 95 % interval of their median, as the notch of a box plot shows it: 1.57 IQR / sqrt(n)."""
    if len(ratios) < 2:
        return 1.0
    low, _, high = quantiles(ratios, method="inclusive")
    return 1.57 * (high - low) / sqrt(len(ratios))


def table(results: list[Measured], commit: str) -> str:
    """Markdown: the ratio of each row, the noise, what exceeds it, and what has no figures."""
    rows = compared(results)
    usual = median(row.noise for row in rows) if rows else 0.0
    lines = [
        f"Client CPU of this checkout divided by that of {commit}: medians of the ratios of each round. The noise is",
        "the difference between two processes of this checkout or the uncertainty of the median, whichever is greater,",
        "at least the median of the run.",
        "",
        "| workload | ms | now / then | noise | | requests then, now |",
        "|---|---:|---:|---:|---|---|",
    ]
    for row in rows:
        noise = max(row.noise, usual)
        verdict = "within the noise" if abs(row.ratio - 1) <= noise else "dearer" if row.ratio > 1 else "cheaper"
        then, now = row.requests
        requests = f"{then}" if then == now else f"**{then}, {now}**"
        lines.append(f"| {row.name} | {row.cpu * 1e3:.1f} | {row.ratio:.3f} | {noise:.1%} | {verdict} | {requests} |")
    lines += [f"\n{r.workload}: {Entry(r.library, r.in_flight).label}: {r.note}" for r in results if r.note is not None]
    return "\n".join(lines)
