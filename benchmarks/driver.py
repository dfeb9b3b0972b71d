"""Run the rows: start servers and child processes, interleave the repeats, count the requests."""

from __future__ import annotations

import asyncio
import json
import os
import re
import sys
import time
from collections.abc import Callable, Iterable
from contextlib import suppress
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

from .child import PROFILE
from .libraries import CONTENDERS, OURS
from .matrix import Entry, Row
from .servers import Server, Servers, Stand
from .workload import Workload

_PATIENCE = 60.0
"""Timeout in seconds of one response of a child process; then it is killed, which the table notes."""
_LEAST_ROUNDS = 3
_OVERTIME = 120.0
"""Seconds after the planned end of a run during which remaining rows get one repeat each; later ones are skipped."""
_NO_TIME_LEFT = 1.0
_SLOW = 8
"""A contender that takes more than one such part of a row's time is not repeated."""


@dataclass(slots=True)
class Measured:
    """Results of one entry of a row."""

    workload: str
    library: str
    in_flight: int | None
    wall: list[float] = field(default_factory=list)
    """Seconds of each repeat."""
    cpu: list[float] = field(default_factory=list)
    """CPU seconds (user and system) of the client in each repeat."""
    requests: int | None = None
    """Requests of one repeat, counted by the server."""
    peak_bytes: int | None = None
    """Peak resident bytes during the first pass, relative to those before it."""
    note: str | None = None
    """Reason why there are no figures."""


class Contestant:
    """One child process."""

    def __init__(self, entry: Entry, result: Measured, process: asyncio.subprocess.Process) -> None:
        self.entry = entry
        self.result = result
        self._process = process

    @classmethod
    async def start(cls, entry: Entry, result: Measured, order: dict[str, Any], folder: Path | None) -> Contestant:
        """Start it in a folder (None: this one), and wait until it has opened its array and read it once."""
        process = await asyncio.create_subprocess_exec(
            sys.executable,
            "-m",
            "benchmarks.child",
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=None if os.environ.get("BENCH_VERBOSE") else asyncio.subprocess.DEVNULL,
            env=_environment(order["place"]),
            limit=2**20,
            cwd=folder,  # Python imports modules from there first
        )
        child = cls(entry, result, process)
        try:
            answer = await child._ask(json.dumps(order))
            result.peak_bytes = answer.get("peak")
            if folder is not None and child.runs and not Path(answer["package"]).is_relative_to(folder):
                raise RuntimeError(f"{entry.label} runs the package in {answer['package']}, not the one of the commit")
        except BaseException:
            await child.stop()
            raise
        return child

    @property
    def runs(self) -> bool:
        """False once it has failed."""
        return self.result.note is None

    async def measure(self) -> None:
        """One repeat."""
        answer = await self._ask("")
        if self.runs:
            self.result.wall.append(answer["wall"])
            self.result.cpu.append(answer["cpu"])

    async def profile(self) -> list[tuple[str, float]]:
        """The functions in which a pass spends most time, with their shares."""
        answer = await self._ask(PROFILE)
        self.result.note = None  # its figures stay valid if only the profile failed
        return [(name, share) for name, share in answer.get("profile", [])]

    async def _ask(self, line: str) -> dict[str, Any]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        try:
            self._process.stdin.write(line.encode() + b"\n")
            said = await asyncio.wait_for(self._process.stdout.readline(), _PATIENCE)
        except (TimeoutError, OSError):
            self.result.note = f"no answer within {_PATIENCE:g} s"
            return {}
        answer: dict[str, Any] = json.loads(said) if said else {"failed": "the process died"}
        if "cannot" in answer:
            self.result.note = answer["cannot"]
        elif "failed" in answer:
            self.result.note = "FAILED: " + answer["failed"].strip().splitlines()[-1]
        return answer

    async def stop(self) -> None:
        """Stop the process; kill it if it does not end."""
        assert self._process.stdin is not None
        with suppress(OSError):
            self._process.stdin.close()
        try:
            await asyncio.wait_for(self._process.wait(), 5)
        except TimeoutError:
            self._process.kill()
            await self._process.wait()


class Driver:
    """One run over many rows."""

    def __init__(self, *, rounds: int, seconds: float, say: Callable[[str], None], before: Path | None = None) -> None:
        """A run of at most so many rounds and about so many seconds.

        `before` is the folder of another version of this library, for the contenders that run with it."""
        self._before = before
        self._rounds = rounds
        self._deadline = time.monotonic() + seconds
        self._say = say
        self._prepared: set[tuple[str, str]] = set()

    async def run(self, rows: list[Row], keep: Callable[[list[Measured]], None]) -> dict[str, list[tuple[str, float]]]:
        """Run every row in order. A failed row is noted, and the next one starts with a new server.

        Args:
            rows: The rows to run.
            keep: Called with all results so far after each row.

        Returns:
            For each row in which a peer needs less CPU, the functions in which our library spends its time.
        """
        results: list[Measured] = []
        profiles: dict[str, list[tuple[str, float]]] = {}
        async with Servers() as servers:
            for number, row in enumerate(rows):
                left = self._deadline - time.monotonic()
                share = max(_NO_TIME_LEFT, left / (len(rows) - number))
                self._say(f"[{number + 1}/{len(rows)}] {row.workload.group}: {row.workload.name}")
                found = [Measured(row.workload.name, entry.library, entry.in_flight) for entry in row.entries]
                try:
                    if left < -_OVERTIME:
                        raise TimeoutError("no time left")
                    server = await servers.get(row.workload.server)
                    await self._row(row, server, share, found, profiles)
                except Exception as error:
                    self._say(f"    FAILED: {error!r}")
                    for result in found:
                        if result.note is None and not result.cpu:
                            result.note = f"FAILED: {error!r}"
                    if left >= -_OVERTIME:
                        servers.discard(row.workload.server)
                results += found
                keep(results)
        return profiles

    async def _row(
        self,
        row: Row,
        server: Server,
        seconds: float,
        results: list[Measured],
        profiles: dict[str, list[tuple[str, float]]],
    ) -> None:
        began = time.monotonic()
        present = []
        for entry, result in zip(row.entries, results, strict=True):
            missing = CONTENDERS[entry.library].missing()
            if missing is None:
                present.append((entry, result))
            else:
                result.note = f"{missing} is not installed"
        await server.behave(replace(row.workload, latency=0.0, bandwidth=None, rate=None))
        present = await self._prepare(row.workload, server, present)
        await server.behave(row.workload)
        children = await self._start(row.workload, server, present)
        try:
            await self._repeat(children, server, began, seconds)
            if is_lost(results):
                profiles[row.workload.name] = await children[0].profile()
        finally:
            for child in children:
                await child.stop()
        for result in results:
            self._tell(row.workload, result)

    async def _start(
        self, workload: Workload, server: Server, present: list[tuple[Entry, Measured]]
    ) -> list[Contestant]:
        # First passes run in parallel, unless the server throttles: they would affect each other.
        gate = asyncio.Semaphore(1 if workload.rate else os.cpu_count() or 1)

        async def start(entry: Entry, result: Measured) -> Contestant:
            order = {
                "library": entry.library,
                "in_flight": entry.in_flight,
                "workload": workload.to_json(),
                "place": server.place.to_json(),
                "path": path_of(workload, entry),
            }
            async with gate:
                folder = self._before if CONTENDERS[entry.library].before else None
                return await Contestant.start(entry, result, order, folder)

        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(start(entry, result)) for entry, result in present]
        return [task.result() for task in tasks]

    async def _repeat(self, children: list[Contestant], server: Server, began: float, seconds: float) -> None:
        """Interleaved rounds, each in a different order; very slow contenders are measured once."""
        least = _LEAST_ROUNDS if seconds > _NO_TIME_LEFT else 1
        for number in range(self._rounds):
            if number >= least and time.monotonic() > began + seconds:
                return
            # Shuffled, since the preceding contender affects caches and free pages.
            for child in Random(number).sample(children, len(children)):
                if not child.runs or child.result.wall[:1] > [seconds / _SLOW]:
                    continue
                before = await server.requests() if number == 0 else None
                await child.measure()
                if before is not None and (after := await server.requests()) is not None:
                    child.result.requests = after - before

    async def _prepare(
        self, workload: Workload, server: Server, present: list[tuple[Entry, Measured]]
    ) -> list[tuple[Entry, Measured]]:
        """Store missing arrays; contenders whose array could not be stored are dropped, with a note."""
        if workload.action in ("plan", "copy"):
            return present
        ready = []
        for kind in (False, True):
            chosen = [(entry, result) for entry, result in present if (entry.library == "icechunk") is kind]
            problem = await self._store(workload, server, {path_of(workload, entry) for entry, _ in chosen}, kind)
            for _, result in chosen if problem else ():
                result.note = f"{'' if kind else 'FAILED: '}its array could not be stored: {problem}"
            ready += [] if problem else chosen
        return [pair for pair in present if pair in ready]

    async def _store(self, workload: Workload, server: Server, paths: set[str], are_repositories: bool) -> str | None:
        url = server.place.endpoint_url
        new = sorted(path for path in paths if (url, path) not in self._prepared)
        if not new:
            return None
        order = {
            "place": server.place.to_json(),
            "workload": workload.to_json(),
            "paths": [] if are_repositories else new,
            "repositories": new if are_repositories else [],
            "fill": not (workload.dataset.uniform or workload.action in ("write", "streamed")),
        }
        problem = await _run_module("benchmarks.prepare", order)
        if problem is None and workload.dataset.uniform:
            assert isinstance(server, Stand)
            body = workload.dataset.values(workload.dataset.chunk_region(0, 0)).tobytes()
            for path in new:
                await server.put_everywhere(f"{path}/c/", body)
        self._prepared |= {(url, path) for path in new if problem is None}
        return problem

    def _tell(self, workload: Workload, result: Measured) -> None:
        label = Entry(result.library, result.in_flight).label
        if result.note is not None or not result.cpu:
            self._say(f"    SKIPPED {label}: {result.note}")
            return
        cpu, wall = sorted(result.cpu)[len(result.cpu) // 2], sorted(result.wall)[len(result.wall) // 2]
        self._say(
            f"    {label:34} {cpu / workload.chunks() * 1e6:9.1f} µs CPU/chunk  {wall * 1e3:9.1f} ms  "
            f"{result.requests if result.requests is not None else '?':>7} requests"
        )


def is_lost(results: list[Measured]) -> bool:
    """True if a peer needs less CPU than our library, which is the first result."""
    first, *others = results
    if OURS not in first.library or not first.cpu:
        return False
    peers = [r for r in others if r.cpu and OURS not in r.library and not CONTENDERS[r.library].bare]
    return any(median(peer.cpu) < median(first.cpu) for peer in peers)


def path_of(workload: Workload, entry: Entry) -> str:
    """Path of the array of this entry: readers share one, each writer has its own."""
    folder = "repositories" if entry.library == "icechunk" else "arrays"
    if not workload.writes:
        return f"{folder}/{workload.dataset.name}"
    return f"{folder}/written/{_slug(workload.name)}/{_slug(entry.label)}"


def _slug(text: str) -> str:
    return re.sub(r"[^a-z0-9]+", "-", text.lower()).strip("-")


async def _run_module(name: str, order: dict[str, Any]) -> str | None:
    """Run a module; returns None, or the last line of its error output."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        name,
        stdin=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=_environment(order["place"]),
    )
    try:
        said = await asyncio.wait_for(process.communicate(json.dumps(order).encode() + b"\n"), _PATIENCE)
    except TimeoutError:
        process.kill()
        await process.wait()
        return f"not done within {_PATIENCE:g} s"
    if process.returncode == 0:
        return None
    return (said[1].decode().strip().splitlines() or [f"it ended with {process.returncode}"])[-1]


def _environment(place: dict[str, Any]) -> dict[str, str]:
    """Environment with credentials, for libraries that read them only there; instance metadata is disabled."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    environment |= {
        "AWS_ACCESS_KEY_ID": place["access_key_id"],
        "AWS_SECRET_ACCESS_KEY": place["secret_access_key"],
        "AWS_REGION": place["region"],
        "AWS_EC2_METADATA_DISABLED": "true",
    }
    if place["ca_bundle"]:
        environment["SSL_CERT_FILE"] = place["ca_bundle"]
    return environment


def to_json(results: Iterable[Measured]) -> list[dict[str, Any]]:
    """For `results.json`."""
    return [asdict(result) for result in results]
