"""Writes docs/benchmarks.md: what was run and how, the bars, a table per group, what was skipped, every figure."""

from __future__ import annotations

import json
import subprocess
from collections import Counter
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from .bars import verdicts
from .figures import Figure, Results
from .plots import draw
from .tried import tried
from .workload import Workload

_HOW = """\
Made by the harness in `benchmarks/`; do not edit. `nox -s bench` makes it again in half an hour. `nox -s bench --
--quick` takes three and writes into `build/bench/`; `-- --list` tells the rows, `-- --only TEXT` runs some of them.

**How to read it.** Every contender is a process of its own. It opens the array, reads it once, and checks every
value against what is stored. Then the repeats of all contenders are interleaved, and the tables show medians. *CPU*
is user and system time of the client process, all its threads, without the server's. *Requests* are the server's
own count of one pass. *Peak* is resident memory at most during the first pass above what was resident before it,
the result included. A peer stands in the tables at its defaults and with 64 requests in flight (our default);
ratios are to the better of the two. A *bare* loop fetches the same objects and decodes and places nothing: a floor,
not a competitor. *Noise* is how far two processes of ours are apart in the same row, at least the median of the
run: a bar is met or missed only outside of it. In the rows of adapters "our" means zarr-python or dask over our
stores, "the best peer" the same over obstore's. Copies run in a local folder; a cold start is a process of its own,
from its begin to its end. SeaweedFS and all clients share the machine's cores, so wall times over SeaweedFS say how
fast that server is here, and CPU times are what to compare.
"""


def committed_run() -> dict[str, Any] | None:
    """The results that git has of the last full run."""
    command = ["git", "show", "HEAD:docs/benchmarks/results.json"]
    shown = subprocess.run(command, cwd=Path(__file__).parents[1], capture_output=True, text=True, check=False)
    return None if shown.returncode else json.loads(shown.stdout)


def write_report(document: dict[str, Any], folder: Path, last: dict[str, Any] | None = None) -> None:
    """`benchmarks.md` in the folder, and pictures in `benchmarks/` beside it.

    Args:
        document: A run.
        folder: Where to.
        last: The run that it is compared with.
    """
    results = Results(document)
    before = None if last is None else Results(last)
    pictures = draw(results, folder / "benchmarks")
    parts = [
        "# Benchmarks\n",
        _HOW,
        *_machine(document),
        *_changes(results, before),
        *_bars(results),
        *(f"![{title}](benchmarks/{name})\n" for name, title in pictures),
        *(part for group in results.groups() for part in _group(results, group, before)),
        *_lost(results),
        *_skipped(results),
        *_everything(results),
    ]
    (folder / "benchmarks.md").write_text("\n".join(parts))


def _table(head: Iterable[str], rows: Iterable[Iterable[str]]) -> str:
    columns = list(head)
    lines = [columns, ["---"] + ["---:"] * (len(columns) - 1), *map(list, rows)]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines) + "\n"


def _machine(document: dict[str, Any]) -> Iterator[str]:
    machine = document["machine"]
    loads = machine.get("load", ())
    load = f"; load {loads[0]} when it began, {loads[-1]} when it ended" if loads else ""
    yield "## This run\n"
    yield f"`{document['command']}`, {document['minutes']} minutes.\n"
    yield (
        f"{machine['cores']} cores of {machine['cpu']}, {machine['memory_gib']} GiB, {machine['system']}, "
        f"{machine['python']}{load}.\n"
    )
    yield ", ".join(f"{name} {version}" for name, version in sorted(document["versions"].items())) + ".\n"


def _bars(results: Results) -> Iterator[str]:
    found = list(verdicts(results))
    rows = [
        (
            v.ours.workload.name,
            "CPU" if v.bar.metric == "cpu" else "wall, defaults on both sides",
            f"{v.bar.against}" if v.bar.against == v.other.entry.label else f"{v.bar.against} ({v.other.entry.label})",
            f"{v.bar.limit:g}",
            f"**{v.ratio:.2f}**",
            f"{v.noise:.0%}",
            v.outcome,
        )
        for v in found
    ]
    if rows:
        counts = Counter(v.outcome for v in found)
        yield "## Bars\n"
        yield (
            "Ours over theirs, in this run: at most the bar. "
            f"Of {len(rows)} bars {counts['met']} are met, {counts['missed']} missed, and "
            f"{counts['within the noise']} cannot be told from the noise.\n"
        )
        yield _table(("workload", "what", "against", "bar", "ratio", "noise", ""), rows)


def _changes(results: Results, before: Results | None) -> Iterator[str]:
    """Rows that became dearer since the last run, first of all."""
    if before is None:
        return
    compared = {name: change for name in results.workloads if (change := _change(results, before, name)) is not None}
    worse = sorted((name for name in compared if compared[name] > _REGRESSION), key=lambda name: -compared[name])
    yield "## Since the last run\n"
    yield (
        "Our CPU over the best peer's, divided by the same of the run that was committed before; where there is no "
        f"peer, our CPU over our CPU. {len(worse)} of {len(compared)} rows are more than "
        f"{_REGRESSION - 1:.0%} dearer.\n"
    )
    if worse:
        rows = [(name, f"**{compared[name]:.2f}**", f"{results.noise(name, 'cpu'):.0%}") for name in worse]
        yield _table(("workload", "now over then", "noise"), rows)


_REGRESSION = 1.05


def _change(results: Results, before: Results, name: str) -> float | None:
    """How much dearer a row is than it was."""
    if name not in before.workloads:
        return None
    now, then = results.ours(name), before.ours(name)
    if now is None or then is None:
        return None
    ratios = results.ratio(now, "cpu"), before.ratio(then, "cpu")
    if ratios[0] is None or ratios[1] is None:
        return now.cpu / then.cpu
    return ratios[0] / ratios[1]


def _lost(results: Results) -> Iterator[str]:
    """Rows in which a peer needs less CPU, where the time goes, and what was tried."""
    found = []
    for name in results.workloads:
        ours = results.ours(name)
        ratio = None if ours is None else results.ratio(ours, "cpu")
        if ratio is not None and ratio > 1:
            found.append((ratio, name))
    if not found:
        return
    yield "## Rows in which a peer needs less CPU\n"
    yield (
        "With the functions in which the thread of our event loop spends most of a pass (`cProfile`, which makes small "
        "functions look dearer than they are), and what was tried.\n"
    )
    rows = []
    for ratio, name in sorted(found, reverse=True):
        profile = self_time(results.document.get("profiles", {}).get(name, []))
        rows.append((name, f"**{ratio:.2f}**", f"{results.noise(name, 'cpu'):.0%}", profile, tried(name)))
    yield _table(("workload", "ratio", "noise", "where", "tried"), rows)


def self_time(profile: list[tuple[str, float]]) -> str:
    """For a cell of a table."""
    return ", ".join(f"{_escaped(name)} {share:.0%}" for name, share in profile[:5])


def _group(results: Results, group: str, before: Results | None) -> Iterator[str]:
    rows = [_line(results, workload, before) for workload in results.of_group(group)]
    found = [row for row in rows if row is not None]
    if found:
        yield f"## {group}\n"
        head = (
            "workload",
            "our CPU",
            "best peer's",
            "ratio",
            "noise",
            "was",
            "our wall",
            "best peer's",
            "ratio",
            "requests",
            "peak",
        )
        yield _table(head, found)


def _line(results: Results, workload: Workload, before: Results | None) -> tuple[str, ...] | None:
    ours = results.ours(workload.name)
    if ours is None:
        return None
    was = None
    if before is not None and workload.name in before.workloads and (then := before.ours(workload.name)) is not None:
        was = before.ratio(then, "cpu")
    cpu, wall = results.best(workload.name, "cpu"), results.best(workload.name, "wall")
    return (
        workload.name,
        _per_unit(ours),
        "" if cpu is None else f"{_per_unit(cpu)} ({cpu.entry.label})",
        "" if cpu is None else f"**{ours.cpu / cpu.cpu:.2f}**",
        f"{results.noise(workload.name, 'cpu'):.0%}",
        "" if was is None else f"{was:.2f}",
        _time(ours.wall),
        "" if wall is None else f"{_time(wall.wall)} ({wall.entry.label})",
        "" if wall is None else f"**{ours.wall / wall.wall:.2f}**",
        _count(ours.requests),
        _mib(ours.peak_bytes),
    )


def _per_unit(figure: Figure) -> str:
    """Per chunk where chunks are small, per MiB where they are big."""
    if figure.workload.dataset.chunk_bytes <= 2**16:
        return f"{figure.cpu_per_chunk * 1e6:.1f} µs/chunk"
    return f"{figure.cpu_per_mib * 1e6:.0f} µs/MiB"


def _time(seconds: float) -> str:
    return f"{seconds:.2f} s" if seconds >= 1 else f"{seconds * 1e3:.1f} ms"


def _count(number: int | None) -> str:
    return "?" if number is None else f"{number:,}"


def _mib(size: int | None) -> str:
    return "?" if size is None else f"{size / 2**20:.1f} MiB"


def _skipped(results: Results) -> Iterator[str]:
    if results.skipped:
        yield "## Not measured\n"
        by_reason: dict[tuple[str, str], list[str]] = {}
        for workload, contender, reason in results.skipped:
            by_reason.setdefault((contender, reason), []).append(workload)
        rows = [
            (contender, _escaped(reason), str(len(names)) + f" ({names[0]}{', …' if len(names) > 1 else ''})")
            for (contender, reason), names in by_reason.items()
        ]
        yield _table(("contender", "why", "workloads"), rows)


def _escaped(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")[:200]


def _everything(results: Results) -> Iterator[str]:
    yield "## Every figure\n"
    for name, figures in results.figures.items():
        if not figures:
            continue
        workload = results.workloads[name]
        mib = workload.nbytes() / 2**20
        yield f"### {workload.group}: {name}\n"
        yield f"{workload.chunks():,} chunks of {workload.dataset.chunk_bytes / 1024:g} KiB, {mib:.1f} MiB.\n"
        head = ("contender", "CPU/chunk", "CPU/MiB", "CPU ratio", "wall", "wall ratio", "requests", "peak", "repeats")
        yield _table(head, (_full_line(results, f) for f in sorted(figures, key=lambda f: f.cpu)))


def _full_line(results: Results, figure: Figure) -> tuple[str, ...]:
    ratios = (results.ratio(figure, "cpu"), results.ratio(figure, "wall"))
    cpu_ratio, wall_ratio = ("" if ratio is None else f"{ratio:.2f}" for ratio in ratios)
    label = figure.entry.label
    return (
        f"**{label}**" if figure.is_ours else label,
        f"{figure.cpu_per_chunk * 1e6:.1f} µs",
        f"{figure.cpu_per_mib * 1e3:.2f} ms",
        cpu_ratio,
        _time(figure.wall),
        wall_ratio,
        _count(figure.requests),
        _mib(figure.peak_bytes),
        str(figure.repeats),
    )
