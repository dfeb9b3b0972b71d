"""The benchmark harness: it checks what it measures, and its tables follow from the measurements."""

import asyncio
import json
import re
import shlex
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

from benchmarks import against, matrix
from benchmarks.actions import Work, WrongValues
from benchmarks.bars import BARS, verdicts
from benchmarks.driver import Driver, Measured, path_of
from benchmarks.figures import Results
from benchmarks.libraries import CONTENDERS, NULL, OURS
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
    """Returns the right data from memory."""

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


class Wrong(Perfect):
    """Returns one wrong element."""

    async def read(self, region):
        found = await super().read(region)
        found[-1, -1] += 1
        return found


READS = ("read", "slices", "chunks", "inner", "handlers")


@pytest.mark.parametrize("action", READS)
async def test_a_correct_read_passes_the_check_and_a_wrong_one_fails(action):
    await Work(workload(action), Perfect(DATA)).once(check=True)
    with pytest.raises(WrongValues):
        await Work(workload(action), Wrong(DATA)).once(check=True)


@pytest.mark.parametrize("action", ["write", "partial", "streamed"])
async def test_written_data_is_read_back_and_compared(action):
    library = Perfect(DATA)
    library.values[...] = 0
    work = Work(workload(action), library)
    with pytest.raises(WrongValues):
        await work.check_written()
    await work.once()
    await work.check_written()


@pytest.mark.parametrize("action", [*READS, "write", "partial", "streamed"])
async def test_the_chunks_and_bytes_of_a_pass_are_counted(action):
    library = Perfect(DATA)
    await Work(workload(action), library).once()
    assert workload(action).chunks() == sum(len(list(DATA.touched(region))) for region in library.calls)
    assert workload(action).nbytes() == sum(library.values[region].nbytes for region in library.calls)


def test_a_partial_write_covers_no_chunk():
    for rows, _ in workload("partial").regions():
        assert 0 < rows.stop - rows.start < DATA.chunk[0]
        assert rows.start // DATA.chunk[0] == (rows.stop - 1) // DATA.chunk[0]


def test_any_part_of_a_dataset_equals_that_part_of_the_whole():
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


def test_a_workload_survives_the_way_to_a_child_process():
    for row in [*matrix.full(), *matrix.quick()]:
        assert Workload.from_json(json.loads(json.dumps(row.workload.to_json()))) == row.workload


def test_rows_have_unique_names_and_known_contenders():
    for rows in (matrix.full(), matrix.quick()):
        names = [row.workload.name for row in rows]
        assert len(set(names)) == len(names)
        assert {entry.library for row in rows for entry in row.entries} <= CONTENDERS.keys()


def test_every_bar_refers_to_existing_rows():
    names = {row.workload.name for row in matrix.full()}
    for bar in BARS:
        assert set(bar.rows) <= names, set(bar.rows) - names


def document(*results, **workload_options):
    rows = [workload(**workload_options)]
    lines = [
        {
            "workload": rows[0].name,
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


def test_figures_are_medians_and_ratios_compare_with_the_best_setting_of_a_peer():
    results = Results(document(*MADE_UP))
    ours = results.ours("a row")
    assert ours.cpu == 0.2
    assert ours.cpu_per_chunk == 0.2 / 12
    best = results.best("a row", "cpu")
    assert (best.entry.library, best.entry.in_flight) == ("zarrista", 64)
    assert results.ratio(ours, "cpu") == 0.5
    assert results.skipped == [("a row", "icechunk", "it does not")]


def test_a_bar_is_met_or_missed_by_the_ratio_to_its_peer():
    results = Results(document(*MADE_UP, name="read 16 KiB raw"))
    found = {verdict.bar.against: (verdict.ratio, verdict.outcome) for verdict in verdicts(results)}
    assert found == {"zarrista": (0.5, "met"), "tensorstore": (0.25, "met")}


@pytest.mark.parametrize(
    ("again", "outcome"), [(0.2, "met"), (0.21, "met"), (0.26, "within the noise"), (0.16, "within the noise")]
)
def test_a_bar_is_met_only_outside_of_the_noise(again, outcome):
    results = Results(
        document((OURS, None, [0.2]), (NULL, None, [again]), ("tensorstore", None, [0.45]), name="read 16 KiB raw")
    )
    (verdict,) = verdicts(results)
    assert verdict.outcome == outcome


def test_a_bar_is_missed_only_outside_of_the_noise():
    results = Results(
        document((OURS, None, [0.3]), (NULL, None, [0.29]), ("tensorstore", None, [0.45]), name="read 16 KiB raw")
    )
    assert [verdict.outcome for verdict in verdicts(results)] == ["missed"]


def test_a_row_without_a_second_own_process_has_the_noise_of_the_run():
    one = document((OURS, None, [0.2]), (NULL, None, [0.25]), name="one")
    other = document((OURS, None, [0.2]), name="other")
    results = Results({**one, **{key: one[key] + other[key] for key in ("workloads", "results")}})
    assert results.noise("other", "cpu") == results.noise("one", "cpu") == pytest.approx(0.2)


def test_rows_slower_than_in_the_last_run_are_reported_first(tmp_path):
    now = document((OURS, None, [0.6]), ("zarrista", None, [0.5]))
    then = document((OURS, None, [0.2]), ("zarrista", None, [0.2]))
    write_report(now, tmp_path, then)
    text = (tmp_path / "benchmarks.md").read_text()
    assert "1 of 1 rows are more than 5% dearer" in text
    assert "| a row | **1.20** |" in text
    assert text.index("Since the last run") < text.index("## a group")
    write_report(then, tmp_path, now)
    assert "0 of 1 rows" in (tmp_path / "benchmarks.md").read_text()


def test_a_row_in_which_a_peer_is_faster_is_reported_with_its_profile(tmp_path):
    lost = document((OURS, None, [0.6]), ("zarrista", None, [0.5]))
    lost["profiles"] = {"a row": [["folder/file.py:function", 0.25]]}
    write_report(lost, tmp_path)
    assert "| a row | **1.20** | 0% | folder/file.py:function 25% |" in (tmp_path / "benchmarks.md").read_text()
    write_report(document(*MADE_UP), tmp_path)
    assert "needs less CPU" not in (tmp_path / "benchmarks.md").read_text()


async def test_a_failed_row_is_recorded_and_the_next_one_runs(monkeypatch):
    failing, fine = (
        matrix.Row(workload(name=name, server="stand-in"), (matrix.Entry(OURS),)) for name in ("bad", "good")
    )

    async def run_row(_, row, server, seconds, results, profiles):
        if row is failing:
            raise OSError("the server is gone")
        results[0].cpu.append(1.0)

    monkeypatch.setattr(Driver, "_row", run_row)
    monkeypatch.setattr("benchmarks.driver.Servers.get", lambda *_: asyncio.sleep(0))
    kept = []
    driver = Driver(rounds=1, seconds=60, say=lambda _: None)
    await driver.run([failing, fine], lambda found: kept.append([(one.workload, one.note) for one in found]))
    bad = ("bad", "FAILED: OSError('the server is gone')")
    assert kept == [[bad], [bad, ("good", None)]]


def test_a_bar_on_defaults_ignores_tuned_peers():
    results = Results(document(*MADE_UP, name="read 1,024 chunks of 8 KiB, 20 ms"))
    (verdict,) = (one for one in verdicts(results) if one.bar.defaults_only)
    assert (verdict.other.entry.in_flight, verdict.ratio, verdict.outcome) == (None, 0.4, "met")


def test_the_report_names_skipped_libraries_with_the_reason(tmp_path):
    write_report(document(*MADE_UP, group=matrix.READ_OVER_HTTP), tmp_path)
    text = (tmp_path / "benchmarks.md").read_text()
    assert "| icechunk | it does not |" in text
    assert "`nox -s bench`" in text
    assert (tmp_path / "benchmarks" / "read.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_smallest_run_uses_the_whole_harness(tmp_path):
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


def measured(library, *cpu, workload="a row", requests=4):
    return Measured(workload, library, None, wall=list(cpu), cpu=list(cpu), requests=requests)


@pytest.mark.parametrize(
    ("now", "again", "verdict"),
    [
        ((1.1, 2.2, 4.4, 8.8), (1.11, 2.22, 4.44, 8.88), "dearer"),
        ((0.9, 1.8, 3.6, 7.2), (0.89, 1.78, 3.56, 7.12), "cheaper"),
        ((1.1, 2.2, 4.4, 8.8), (0.95, 1.9, 3.8, 7.6), "within the noise"),  # other processes differ by more
        ((1.3, 1.6, 4.4, 12), (1.3, 1.6, 4.4, 12), "within the noise"),  # the rounds differ by more
    ],
)
def test_a_version_is_slower_only_beyond_the_noise(now, again, verdict):
    # The machine became slower from round to round: only ratios within one round are meaningful.
    results = [measured(OURS, *now), measured(against.again(OURS), *again), measured(against.before(OURS), 1, 2, 4, 8)]
    assert f"| {verdict} | 4 |" in against.table(results, "v1")


def test_other_requests_and_missing_figures_are_shown():
    then = measured(against.before(OURS), 1, 1, requests=6)
    failed = Measured("other", against.before(OURS), None, note="FAILED: no such name")
    results = [
        *(measured(name, 1, 1) for name in (OURS, against.again(OURS))),
        then,
        *(measured(name, 1, 1, workload="other") for name in (OURS, against.again(OURS))),
        failed,
    ]
    text = against.table(results, "v1")
    assert "| **6, 4** |" in text
    assert f"other: {OURS}, before: FAILED: no such name" in text
    assert text.count("\n| ") == 2, "a heading and one row"


def test_a_comparison_runs_our_contenders_three_times_and_no_others():
    for row in (against.paired(row) for row in matrix.full()):
        names = [entry.library for entry in row.entries]
        assert len(names) % 3 == 0
        assert len(names) > 0
        assert names.count(OURS) == sum(CONTENDERS[name].before for name in names) or OURS not in names
        assert all(OURS in name for name in names)
        paths = [path_of(row.workload, entry) for entry in row.entries]
        assert len(set(paths)) == (len(paths) if row.workload.writes else 1)


@pytest.mark.slow
def test_the_version_of_a_commit_is_measured_beside_this_one():
    if find_spec("zarr") is None or not (ROOT / ".git").exists():
        pytest.skip("zarr-python is not installed, or this is not a git checkout")
    command = [sys.executable, "-m", "benchmarks", "--smoke", "--against"]
    run = subprocess.run([*command, "HEAD"], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert run.returncode == 0, run.stdout + run.stderr
    assert re.search(r"\| smoke \| [0-9.]+ \| [0-9.]+ \| [0-9.]+% \| [a-z ]+ \| 16 \|", run.stdout), run.stdout
    wrong = subprocess.run([*command, "no-such-commit"], cwd=ROOT, capture_output=True, text=True, timeout=100)
    assert wrong.returncode == 1
    assert "no-such-commit" in wrong.stderr
    assert "Traceback" not in wrong.stderr


async def test_a_contender_of_another_version_that_runs_this_one_is_an_error(tmp_path, monkeypatch):
    """Such as with PYTHONSAFEPATH, or an option of Python that puts this checkout first."""
    for shared in ("benchmarks", "tests", OURS):
        (tmp_path / shared).symlink_to(ROOT / shared)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.setenv("PYTHONSAFEPATH", "1")
    found = []
    driver = Driver(rounds=1, seconds=60, say=lambda _: None, before=tmp_path)
    row = matrix.Row(workload("plan", name="plan", server="none"), (matrix.Entry(against.before(OURS)),))
    await driver.run([row], lambda results: found.extend(results))
    assert "not the one of the commit" in found[0].note
