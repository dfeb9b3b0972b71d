"""`python -m benchmarks`: run a matrix, write results.json, benchmarks.md and the plots.

A complete run of the full matrix writes to docs/; any other run writes to build/bench/. With `--against COMMIT` it
compares this library with that of the commit instead, and prints a table.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import shlex
import signal
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import against, matrix
from .driver import Driver, Measured, to_json
from .libraries import CONTENDERS
from .machine import machine, versions
from .report import committed_run, write_report

_ROOT = Path(__file__).parents[1]
_MATRICES = {"quick": matrix.quick, "full": matrix.full, "smoke": matrix.smoke}
_MINUTES = {"quick": 2.5, "full": 25.0, "smoke": 0.2}
_ROUNDS = {"quick": 5, "full": 7, "smoke": 2}


def _options(arguments: list[str]) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--quick", action="store_const", const="quick", default="full", dest="matrix")
    parser.add_argument("--smoke", action="store_const", const="smoke", dest="matrix", help=argparse.SUPPRESS)
    parser.add_argument("--only", default="", help="rows whose group or name contains this")
    parser.add_argument("--libraries", default="", help="comma-separated names; default: all")
    parser.add_argument("--rounds", type=int, help="maximum number of repeats")
    parser.add_argument(
        "--minutes", type=float, help="minutes of the whole run; the number of repeats is reduced to fit"
    )
    parser.add_argument("--output", type=Path, help="folder for benchmarks.md and benchmarks/")
    parser.add_argument(
        "--report", action="store_true", help="only write the page again, from the results of the last run"
    )
    parser.add_argument("--against", metavar="COMMIT", help="compare our own rows with the library of this commit")
    parser.add_argument("--list", action="store_true", help="list the rows and the contenders")
    options = parser.parse_args(arguments)
    if options.against and (options.libraries or options.report):
        parser.error("--against runs only this library: leave out --libraries and --report")
    if options.output is None:
        whole = options.matrix == "full" and not (options.only or options.libraries)
        options.output = _ROOT / ("docs" if whole else "build/bench")
    return options


def _command(arguments: list[str]) -> str:
    """The command as a reader would type it, without `--output`, which holds a path of this machine."""
    words = list(arguments)
    if "--output" in words:
        here = words.index("--output")
        del words[here : here + 2]
    return shlex.join(["nox", "-s", "bench", *(["--", *words] if words else [])])


def _rows(options: argparse.Namespace) -> list[matrix.Row]:
    rows = [r for r in _MATRICES[options.matrix]() if options.only in f"{r.workload.group}: {r.workload.name}"]
    if options.libraries:
        named = {name.strip() for name in options.libraries.split(",")}
        if unknown := named - CONTENDERS.keys():
            sys.exit(f"unknown library: {', '.join(sorted(unknown))}; known: {', '.join(CONTENDERS)}")
        rows = [matrix.Row(r.workload, tuple(e for e in r.entries if e.library in named)) for r in rows]
    if options.against:
        rows = [against.paired(row) for row in rows]
    return [row for row in rows if row.entries]


def _list(rows: list[matrix.Row]) -> None:
    for row in rows:
        print(f"{row.workload.group}: {row.workload.name} ({len(row.entries)} contenders)")
    for name in _libraries(rows):
        missing = CONTENDERS[name].missing()
        print(f"{name}: {'installed' if missing is None else f'SKIPPED, {missing} is not installed'}")


def _libraries(rows: list[matrix.Row]) -> list[str]:
    """The contenders of the rows, each once."""
    return list(dict.fromkeys(entry.library for row in rows for entry in row.entries))


def main(arguments: list[str]) -> int:
    """Run the benchmarks and write the page; returns 1 if something failed."""
    options = _options(arguments)
    rows = _rows(options)
    if options.list:
        _list(rows)
        return 0
    folder = options.output / "benchmarks"
    if options.report:
        write_report(json.loads((folder / "results.json").read_text()), options.output, committed_run())
        return 0
    for name in _libraries(rows):
        if missing := CONTENDERS[name].missing():
            print(f"SKIPPED everywhere: {name}, because {missing} is not installed", flush=True)
    if options.against:
        return _compare(options, rows)
    began = time.monotonic()
    driver = Driver(
        rounds=options.rounds or _ROUNDS[options.matrix],
        seconds=60 * (options.minutes or _MINUTES[options.matrix]),
        say=lambda line: print(line, flush=True),
    )
    last = committed_run()  # read before it is overwritten
    document: dict[str, Any] = {
        "command": _command(arguments),
        "minutes": 0.0,
        "machine": {**machine(), "load": [round(os.getloadavg()[0], 1)]},
        "versions": versions(),
        "workloads": [row.workload.to_json() for row in rows],
        "profiles": {},
        "results": [],
    }
    folder.mkdir(parents=True, exist_ok=True)
    results: list[Measured] = []

    def keep(found: list[Measured]) -> None:
        """Write the results so far, so that they are kept if the run fails."""
        results[:] = found
        document["minutes"] = round((time.monotonic() - began) / 60, 1)
        document["results"] = to_json(found)
        (folder / "results.json").write_text(_one_result_a_line(document))

    signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        document["profiles"] = asyncio.run(driver.run(rows, keep))
    except KeyboardInterrupt:
        print("interrupted: the page contains the completed rows")
    document["machine"]["load"].append(round(os.getloadavg()[0], 1))
    keep(list(results))
    write_report(document, options.output, last)
    print(f"{document['minutes']} minutes; see {options.output.name}/benchmarks.md")
    return int(any((result.note or "").startswith("FAILED") for result in results))


def _compare(options: argparse.Namespace, rows: list[matrix.Row]) -> int:
    """Run the rows with this library and with that of the commit, and print the table; returns 1 if one failed."""
    results: list[Measured] = []
    try:
        with against.unpacked(options.against) as folder:
            driver = Driver(
                rounds=options.rounds or against.ROUNDS,
                seconds=60 * (options.minutes or _MINUTES[options.matrix]),
                say=lambda line: print(line, flush=True),
                before=folder,
            )
            asyncio.run(driver.run(rows, lambda found: results.__setitem__(slice(None), found)))
    except against.NoSuchCommit as error:
        sys.exit(str(error))
    except KeyboardInterrupt:
        print("interrupted: the table contains the completed rows")
    print(f"\n{against.table(results, options.against)}")
    return int(any((result.note or "").startswith("FAILED") for result in results))


def _one_result_a_line(document: Mapping[str, Any]) -> str:
    """JSON with one list element per line, so that a diff shows which rows changed."""
    members = []
    for name, value in document.items():
        text = json.dumps(value)
        if isinstance(value, dict) and name == "profiles":
            text = "{\n" + ",\n".join(f"{json.dumps(k)}: {json.dumps(v)}" for k, v in value.items()) + "\n}"
        if isinstance(value, list):
            text = "[\n" + ",\n".join(json.dumps(element) for element in value) + "\n]"
        members.append(f"{json.dumps(name)}: {text}")
    return "{\n" + ",\n".join(members) + "\n}\n"


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
