"""`python -m benchmarks.race`: concurrent writers of chunks, shards and arrays in four processes, and the lost writes.

Each library is used as in an application: one array per process, with eight tasks. The parts that they write are
disjoint, so every missing part was lost. The output is a table.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections import Counter
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

import zarr_s3_async as zs
from zarr_s3_async.testing import LocalS3

from .libraries.base import Place
from .libraries.on_zarr import obstore_store
from .libraries.ours import s3_config
from .machine import versions

PROCESSES, TASKS = 4, 8
WRITERS = PROCESSES * TASKS
OBJECTS, PER_OBJECT = 3, 5 * WRITERS
SIZE = OBJECTS * PER_OBJECT
APPENDS = 4
"""Number of appends of each writer, one row each."""

LAYOUTS: dict[str, dict[str, Any]] = {
    "elements of the same chunks": {"shape": (SIZE,), "chunks": (PER_OBJECT,)},
    "elements of the same shards": {"shape": (SIZE,), "chunks": (PER_OBJECT // 5,), "shards": (PER_OBJECT,)},
    "appended rows": {"shape": (0,), "chunks": (5,)},
}
LIBRARIES = ("zarr-python with obstore", "zarr_s3_async")


@dataclass(frozen=True)
class Job:
    """The job of one process."""

    library: str
    race: str
    place: dict[str, Any]
    path: str
    number: int


@dataclass
class Outcome:
    """The result of one process, or of all of them."""

    errors: int = 0
    conflicts: int = 0


# Expected values


def wanted(race: str) -> Counter[int]:
    """Each value once: elements hold their position, rows their number, from 1."""
    return Counter(range(1, 1 + (WRITERS * APPENDS if race == "appended rows" else SIZE)))


def lost(race: str, stored: np.ndarray) -> int:
    """Number of expected values that are missing."""
    if race == "appended rows":
        return (wanted(race) - Counter(stored.tolist())).total()
    return int((stored != np.arange(1, SIZE + 1)).sum())


# A process


async def write_with_zarr(job: Job) -> Outcome:
    """Eight tasks on one `AsyncArray`."""
    import zarr.api.asynchronous

    store = zarr.storage.ObjectStore(obstore_store(Place(**job.place), job.path))
    array = await zarr.api.asynchronous.open_array(store=store, mode="r+")

    async def put(position: int) -> None:
        await array.setitem(slice(position, position + 1), np.array([position + 1], "i4"))

    async def append(number: int) -> None:
        await array.append(np.array([number + 1], "i4"))

    return Outcome(errors=await all_tasks(job, put, append))


async def write_with_ours(job: Job) -> Outcome:
    """Eight tasks on one `Array`."""
    place = Place(**job.place)
    async with zs.Session(s3=s3_config(place)) as session:
        array = await session.open_array(f"s3://{place.bucket}/{job.path}")

        async def put(position: int) -> None:
            await array.set_slice([position + 1], position)

        async def append(number: int) -> None:
            await array.append([number + 1])

        errors = await all_tasks(job, put, append)
        return Outcome(errors, session.metrics.conflicts)


async def all_tasks(job: Job, put: Any, append: Any) -> int:
    """Wait for the start, then write the part of this process; returns the number of exceptions."""
    sys.stdout.write("ready\n")
    sys.stdout.flush()
    sys.stdin.readline()
    appends = job.race == "appended rows"
    write, total = (append, WRITERS * APPENDS) if appends else (put, SIZE)

    async def one(writer: int) -> int:
        errors = 0
        for part in range(writer, total, WRITERS):
            try:
                await write(part)
            except Exception:
                errors += 1
        return errors

    first = job.number * TASKS
    return sum(await asyncio.gather(*(one(writer) for writer in range(first, first + TASKS))))


# The parent process


async def race(library: str, name: str, place: Place, path: str) -> tuple[int, Outcome]:
    """The number of lost parts, and the results of the processes."""
    url = f"s3://{place.bucket}/{path}"
    async with zs.Session(s3=s3_config(place)) as session:
        await session.create_array(url, dtype="i4", fill_value=0, **LAYOUTS[name])
        outcome = _run([Job(library, name, asdict(place), path, number) for number in range(PROCESSES)])
        array = await session.open_array(url)
        return lost(name, await array[...]), outcome


def _run(jobs: list[Job]) -> Outcome:
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "benchmarks.race", "--child"]
    processes = [
        subprocess.Popen([*command, json.dumps(asdict(job))], stdin=pipe, stdout=pipe, text=True) for job in jobs
    ]
    outcome = Outcome()
    try:
        for process in processes:
            assert process.stdout is not None
            assert process.stdout.readline() == "ready\n", "a writer did not start"
        for process in processes:
            assert process.stdin is not None
            process.stdin.write("go\n")
            process.stdin.flush()
        for process in processes:
            one = Outcome(**json.loads(process.communicate()[0]))
            outcome = Outcome(outcome.errors + one.errors, outcome.conflicts + one.conflicts)
    finally:
        for process in processes:
            process.kill()
            process.wait()
    return outcome


def table(found: dict[str, dict[str, tuple[int, Outcome]]]) -> str:
    """Markdown."""
    lines = ["| 32 writers in 4 processes | " + " | ".join(LIBRARIES) + " |", "|---|---|---|"]
    for name, results in found.items():
        total = wanted(name).total()
        cells = [_cell(*results[library], total) for library in LIBRARIES]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(missing: int, outcome: Outcome, total: int) -> str:
    merged = f", {outcome.conflicts} conflicts merged" if outcome.conflicts else ""
    failed = f", {outcome.errors} writes raised" if outcome.errors else ""
    return f"{missing} of {total} lost{merged}{failed}"


async def main() -> None:
    """Run every race with every library on one server."""
    found: dict[str, dict[str, tuple[int, Outcome]]] = {}
    async with LocalS3() as server:
        place = Place(
            endpoint_url=server.endpoint_url,
            bucket=server.bucket,
            access_key_id=server.access_key_id,
            secret_access_key=server.secret_access_key,
            region=server.region,
        )
        for number, name in enumerate(LAYOUTS):
            found[name] = {}
            for library in LIBRARIES:
                found[name][library] = await race(library, name, place, f"{library.split('-')[0]}/{number}")
    named = versions()
    sys.stdout.write(table(found) + "\n\n")
    sys.stdout.write(", ".join(f"{name} {named[name]}" for name in ("zarr", "obstore", "SeaweedFS") if name in named))
    sys.stdout.write("\n")


async def child(job: Job) -> None:
    """Write, and tell."""
    write = write_with_ours if job.library == "zarr_s3_async" else write_with_zarr
    sys.stdout.write(json.dumps(asdict(await write(job))))


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        asyncio.run(child(Job(**json.loads(sys.argv[2]))))
    else:
        asyncio.run(main())
