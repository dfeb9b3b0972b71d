"""Plots of a run: bars by contender, and lines over the number of chunks and of requests in flight."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

from .figures import Figure, Results
from .libraries import CONTENDERS
from .matrix import COUNT, FAR, READ_OVER_HTTP, READ_OVER_TLS, WIDTH, WRITE
from .workload import Workload

_OURS, _PEER, _BARE = "#c8442b", "#4c6a92", "#b9b9b9"
_LINES = ("#c8442b", "#4c6a92", "#5a9367", "#8a6fb0", "#c9a227")


def draw(results: Results, folder: Path) -> list[tuple[str, str]]:
    """Write the plots for which the run has figures; returns their file names and titles."""
    import matplotlib as mpl

    mpl.use("agg")
    mpl.rcParams.update({"font.size": 8, "axes.spines.top": False, "axes.spines.right": False, "svg.hashsalt": "0"})
    folder.mkdir(parents=True, exist_ok=True)
    wanted: list[tuple[str, str, Callable[[Results, Path], bool]]] = [
        ("read.png", "CPU of a full read, by chunk size", _reads),
        ("write.png", "CPU of a full write, by chunk size", _writes),
        ("far.png", "Wall time over 20 ms of latency", _far),
        ("count.png", "Cost per chunk against the number of chunks", _counts),
        ("width.png", "Cost against requests in flight", _widths),
    ]
    return [(name, title) for name, title, paint in wanted if paint(results, folder / name)]


def _reads(results: Results, path: Path) -> bool:
    chosen = [w for w in _raw(results, READ_OVER_HTTP) if w.dataset.zarr_format == 3 and "slab" not in w.name]
    return _bar_panels(results, path, [*chosen, *_raw(results, READ_OVER_TLS)][:6], _cpu_per_chunk, "µs CPU per chunk")


def _writes(results: Results, path: Path) -> bool:
    return _bar_panels(results, path, list(_raw(results, WRITE)), _cpu_per_chunk, "µs CPU per chunk")


def _far(results: Results, path: Path) -> bool:
    chosen = [w for w in results.of_group(FAR) if w.latency == 0.02 and w.bandwidth is None]
    return _bar_panels(results, path, chosen, lambda f: f.wall * 1e3, "ms wall")


def _raw(results: Results, group: str) -> Iterable[Workload]:
    return (w for w in results.of_group(group) if w.dataset.codec == "raw")


def _cpu_per_chunk(figure: Figure) -> float:
    return figure.cpu_per_chunk * 1e6


def _bar_panels(
    results: Results, path: Path, workloads: list[Workload], value: Callable[[Figure], float], unit: str
) -> bool:
    workloads = [w for w in workloads if results.figures[w.name]]
    if not workloads:
        return False
    columns = min(3, len(workloads))
    rows = -(-len(workloads) // columns)
    most = max(len(results.figures[w.name]) for w in workloads)
    figure, axes = _subplots(rows, columns, (4.6 * columns, (0.8 + 0.19 * most) * rows))
    for axis, workload in zip(axes, workloads, strict=False):
        found = sorted(results.figures[workload.name], key=value, reverse=True)
        axis.barh([f.entry.label for f in found], [value(f) for f in found], color=[_color(f) for f in found])
        axis.set_title(workload.name, loc="left", fontweight="bold")
        axis.set_xlabel(unit)
        axis.bar_label(axis.containers[0], fmt="%.0f", padding=2, fontsize=7)
    for axis in axes[len(workloads) :]:
        axis.set_axis_off()
    _save(figure, path)
    return True


def _color(figure: Figure) -> str:
    if figure.is_ours:
        return _OURS
    return _BARE if CONTENDERS[figure.entry.library].bare else _PEER


def _counts(results: Results, path: Path) -> bool:
    workloads = list(results.of_group(COUNT))
    series = {
        "plan": [f for f in _figures(results, workloads) if f.workload.action == "plan"],
        "read": [f for f in _figures(results, workloads) if f.workload.action == "read"],
    }
    series = {name: found for name, found in series.items() if found}
    if not series:
        return False
    figure, axes = _subplots(1, len(series), (4.6 * len(series), 2.8))
    for axis, (name, found) in zip(axes, series.items(), strict=True):
        _lines(axis, found, lambda f: f.workload.chunks(), _cpu_per_chunk)
        axis.set(xscale="log", xlabel=f"chunks in one {name}", ylabel="µs CPU per chunk", ylim=(0, None))
    _save(figure, path)
    return True


def _widths(results: Results, path: Path) -> bool:
    found = list(_figures(results, list(results.of_group(WIDTH))))
    if not found:
        return False
    figure, axes = _subplots(1, 2, (9.2, 2.8))
    _lines(axes[0], found, lambda f: f.entry.in_flight or 0, _cpu_per_chunk)
    axes[0].set(xscale="log", xlabel="requests in flight", ylabel="µs CPU per chunk", ylim=(0, None))
    _lines(axes[1], found, lambda f: f.entry.in_flight or 0, lambda f: f.wall)
    axes[1].set(xscale="log", yscale="log", xlabel="requests in flight", ylabel="seconds wall")
    _save(figure, path)
    return True


def _figures(results: Results, workloads: list[Workload]) -> Iterable[Figure]:
    return (f for w in workloads for f in results.figures[w.name])


def _lines(axis: Any, found: list[Figure], x: Callable[[Figure], float], y: Callable[[Figure], float]) -> None:
    for library, color in zip(dict.fromkeys(f.entry.library for f in found), _LINES, strict=False):
        points = sorted((x(f), y(f)) for f in found if f.entry.library == library)
        axis.plot(*zip(*points, strict=True), marker="o", markersize=3, color=color, label=library)
    axis.legend(frameon=False)


def _subplots(rows: int, columns: int, size: tuple[float, float]) -> tuple[Any, list[Any]]:
    import matplotlib.pyplot as plt

    figure, axes = plt.subplots(rows, columns, figsize=size, squeeze=False, layout="constrained")
    return figure, list(axes.flat)


def _save(figure: Any, path: Path) -> None:
    import matplotlib.pyplot as plt

    figure.savefig(path, dpi=130, metadata={"Software": None})
    plt.close(figure)
