"""The benchmark harness: what it measures is right, and what it prints follows from what it measured."""

import json
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from benchmarks import matrix
from benchmarks.actions import Work, WrongValues
from benchmarks.bars import BARS, verdicts
from benchmarks.figures import Results
from benchmarks.libraries import CONTENDERS, OURS
from benchmarks.libraries.base import Library
from benchmarks.report import write_report
from benchmarks.workload import Dataset, Workload

ROOT = Path(__file__).parents[2]
DATA = Dataset(chunk=(8, 8), grid=(3, 4))


def workload(action="read", data=DATA, **more) -> Workload:
    return Workload(
        name=more.pop("name", "a row"), group=more.pop("group", "a group"), action=action, dataset=data, **more
    )


class Perfect(Library):
    """Holds the array in memory."""

    def __init__(self, data: Dataset) -> None:
        self.values = data.values(data.full)
        self.data = data
        self.calls = []

    async def read(self, region):
        self.calls.append(region)
        return self.values[region].copy()

    async def read_chunk(self, i, j):
        return await self.read(self.data.chunk_region(i, j))

    async def write(self, region, data):
        self.calls.append(region)
        self.values[region] = data


class Careless(Perfect):
    """One element is wrong."""

    async def read(self, region):
        found = await super().read(region)
        found[-1, -1] += 1
        return found


READS = ("read", "slices", "chunks", "inner", "handlers")


@pytest.mark.parametrize("action", READS)
async def test_a_read_that_is_right_passes_the_check_and_a_wrong_one_does_not(action):
    await Work(workload(action), Perfect(DATA)).once(check=True)
    with pytest.raises(WrongValues):
        await Work(workload(action), Careless(DATA)).once(check=True)


@pytest.mark.parametrize("action", ["write", "partial", "streamed"])
async def test_what_was_written_is_read_back(action):
    library = Perfect(DATA)
    library.values[...] = 0
    work = Work(workload(action), library)
    with pytest.raises(WrongValues):
        await work.check_written()
    await work.once()
    await work.check_written()


@pytest.mark.parametrize("action", [*READS, "write", "partial", "streamed"])
async def test_chunks_and_bytes_of_a_pass_are_those_that_it_touches(action):
    library = Perfect(DATA)
    await Work(workload(action), library).once()
    assert workload(action).chunks() == sum(len(list(DATA.touched(region))) for region in library.calls)
    assert workload(action).nbytes() == sum(library.values[region].nbytes for region in library.calls)


def test_a_partial_write_covers_no_chunk():
    for rows, _ in workload("partial").regions():
        assert 0 < rows.stop - rows.start < DATA.chunk[0]
        assert rows.start // DATA.chunk[0] == (rows.stop - 1) // DATA.chunk[0]


def test_any_part_of_a_dataset_is_a_part_of_the_whole():
    whole = DATA.values(DATA.full)
    region = slice(3, 17), slice(9, 30)
    assert np.array_equal(DATA.values(region), whole[region])
    uniform = Dataset(chunk=(8, 8), grid=(3, 4), uniform=True)
    assert np.array_equal(uniform.values(uniform.full), np.tile(uniform.values(uniform.chunk_region(0, 0)), (3, 4)))


def test_a_streamed_write_holds_one_row_and_covers_everything_slab_by_slab():
    data = Dataset(chunk=(8, 8), grid=(6, 4), shard=(4, 2), alike=True)
    source = data.source(data.full)
    assert source.base.nbytes == 8 * 4 * 4
    assert np.array_equal(source, data.values(data.full))
    assert [rows for rows, _ in data.slabs(data.full)] == [slice(0, 32), slice(32, 48)]


def test_a_workload_goes_to_a_child_and_back():
    for row in [*matrix.full(), *matrix.quick()]:
        assert Workload.from_json(json.loads(json.dumps(row.workload.to_json()))) == row.workload


def test_the_rows_have_names_of_their_own_and_known_contenders():
    for rows in (matrix.full(), matrix.quick()):
        names = [row.workload.name for row in rows]
        assert len(set(names)) == len(names)
        assert {entry.library for row in rows for entry in row.entries} <= CONTENDERS.keys()


def test_every_bar_is_about_some_row():
    workloads = [row.workload for row in matrix.full()]
    for bar in BARS:
        assert any(bar.applies(w) for w in workloads), bar


def document(*results, **workload_options):
    rows = [workload(**workload_options)]
    lines = [
        {
            "workload": "a row",
            "library": library,
            "in_flight": in_flight,
            "cpu": cpu,
            "wall": [2 * value for value in cpu],
            "requests": 12,
            "peak_bytes": 2**20,
            "note": None if cpu else "it does not",
        }
        for library, in_flight, cpu in results
    ]
    return {
        "command": "nox -s bench",
        "minutes": 1.0,
        "machine": {"cores": 2, "cpu": "a processor", "memory_gib": 8, "system": "a system", "python": "CPython"},
        "versions": {"numpy": "2"},
        "workloads": [w.to_json() for w in rows],
        "results": lines,
    }


MADE_UP = (
    (OURS, None, [0.3, 0.1, 0.2]),
    ("zarrista", None, [0.5]),
    ("zarrista", 64, [0.4]),
    ("tensorstore", None, [0.8]),
    ("bare wire", None, [0.01]),
    ("icechunk", None, []),
)


def test_figures_are_medians_and_ratios_are_to_the_best_setting_of_a_peer_never_to_a_bare_loop():
    results = Results(document(*MADE_UP))
    ours = results.ours("a row")
    assert ours.cpu == 0.2
    assert ours.cpu_per_chunk == 0.2 / 12
    best = results.best("a row", "cpu")
    assert (best.entry.library, best.entry.in_flight) == ("zarrista", 64)
    assert results.ratio(ours, "cpu") == 0.5
    assert results.skipped == [("a row", "icechunk", "it does not")]


def test_a_bar_is_met_or_missed_by_the_ratio_to_whom_it_names():
    data = Dataset(chunk=(64, 64), grid=(2, 2))
    results = Results(document(*MADE_UP, group=matrix.READ_OVER_HTTP, data=data))
    found = {verdict.bar.against: (verdict.ratio, verdict.met) for verdict in verdicts(results)}
    assert found == {"zarrista": (0.5, True), "tensorstore": (0.25, True)}


def test_a_bar_on_defaults_looks_at_no_tuned_peer():
    data = Dataset(chunk=(32, 64), grid=(32, 32))
    options = {"group": matrix.FAR, "data": data, "server": "stand-in", "latency": 0.02}
    results = Results(document(*MADE_UP, **options))
    (verdict,) = verdicts(results)
    assert (verdict.other.entry.in_flight, verdict.ratio, verdict.met) == (None, 0.4, True)


def test_the_report_names_who_was_skipped_and_why(tmp_path):
    write_report(document(*MADE_UP, group=matrix.READ_OVER_HTTP), tmp_path)
    text = (tmp_path / "benchmarks.md").read_text()
    assert "| icechunk | it does not |" in text
    assert "`nox -s bench`" in text
    assert (tmp_path / "benchmarks" / "read.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_smallest_run_goes_through_the_whole_harness(tmp_path):
    """One child per contender, a server, counted requests, tables: nothing but the size differs from a real run."""
    if find_spec("zarr") is None:
        pytest.skip("zarr-python, which makes the arrays that are read, is not installed")
    peer = next(name for name in ("tensorstore", "bare aiobotocore") if CONTENDERS[name].missing() is None)
    command = [
        sys.executable,
        "-m",
        "benchmarks",
        "--smoke",
        "--libraries",
        f"{OURS},{peer}",
        "--output",
        str(tmp_path),
    ]
    run = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stdout + run.stderr
    written = (tmp_path / "benchmarks" / "results.json").read_text()
    document = json.loads(written)
    lines = written.splitlines()
    assert all(json.dumps(result) in (line.rstrip(",") for line in lines) for result in document["results"])
    by_library = {result["library"]: result for result in document["results"]}
    assert by_library.keys() == {OURS, peer}
    for result in by_library.values():
        assert result["note"] is None
        assert result["requests"] == 16
        assert len(result["cpu"]) == len(result["wall"]) == 2
        assert min(result["cpu"]) > 0
    assert document["command"] == shlex.join(["nox", "-s", "bench", "--", *command[3:-2]])
    assert not re.search(r"/(home|root|tmp|usr|work)/|://", written + (tmp_path / "benchmarks.md").read_text())
