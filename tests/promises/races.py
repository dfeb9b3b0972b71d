"""A race: processes with eight tasks each write one array concurrently, each through a proxy that injects faults.

`Racers` starts the processes and runs one round after the other; between rounds, when no process writes, the caller
checks the array. The processes run this file, too: `python -m tests.promises.races JOB`.
"""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
from collections.abc import Awaitable, Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from typing import Any, Self

import numpy as np

import zarr_s3_async as zs

from ..servers.faulty_proxy import FaultyProxy

PROCESSES, TASKS = 4, 8
WRITERS = PROCESSES * TASKS
ROUNDS = 4 * int(os.environ.get("RACE_ROUNDS", "1"))
"""A multiple of four: rounds of values, of fill, of values, of both. RACE_ROUNDS=25 runs a hundred."""
PER_OBJECT = 2 * WRITERS
SHARED_BY_ALL, SHARED_BY_FOUR = 1, TASKS
"""Objects that all write, and objects that one task of each process writes: these become empty repeatedly."""
SIZE = (SHARED_BY_ALL + SHARED_BY_FOUR) * PER_OBJECT
FLIPS = 3
FAULTS = {"lost": 0.05, "refused": 0.03, "reset": 0.02, "conflict": 0.02}
# Ten per cent of all attempts fail: with five attempts, one request in 100,000 would fail.
RETRY = zs.RetryPolicy(attempts=12, base_delay=0.02)
_ROOT = Path(__file__).parents[2]


@dataclass(frozen=True)
class Job:
    """The parameters of one process."""

    number: int
    """Index of the process, from 0."""
    seed: int
    options: dict[str, Any]
    """Options of S3Config."""


@dataclass(frozen=True)
class Round:
    """What all processes write in one round."""

    kind: str
    """`elements`, `append` or `attributes`."""
    url: str
    number: int
    conditional_writes: str


@dataclass(frozen=True)
class Counts:
    """Counts that a process reports after a round, since its start; or the sum over processes."""

    conflicts: int = 0
    lost_writes: int = 0
    """Writes that were carried out but whose response was lost."""
    refused: int = 0
    injected_409: int = 0
    """Conditional writes that the proxy answered with 409, without a concurrent write."""
    requests: int = 0
    unseen: int = 0
    """Reads after a write that did not return what was written, although no other task writes there."""

    def __add__(self, other: Counts) -> Counts:
        return Counts(*(a + b for a, b in zip(asdict(self).values(), asdict(other).values(), strict=True)))

    def __sub__(self, other: Counts) -> Counts:
        return Counts(*(a - b for a, b in zip(asdict(self).values(), asdict(other).values(), strict=True)))


# What a writer writes: used by the processes and by the model


def value(round_number: int, writer: int) -> int:
    """In rounds of four: all values, all fill (0), all values, half of each."""
    fills = (round_number % 4 == 1) or (round_number % 4 == 3 and writer % 2 == 0)
    return 0 if fills else 1 + round_number * WRITERS + writer


def elements_shared_by_all(writer: int) -> list[slice]:
    """This writer's elements of the objects that all write: every 32nd."""
    return [slice(at * PER_OBJECT + writer, (at + 1) * PER_OBJECT, WRITERS) for at in range(SHARED_BY_ALL)]


def elements_shared_by_four(writer: int) -> slice:
    """This writer's elements of an object that four tasks write: every fourth."""
    first = (SHARED_BY_ALL + writer % TASKS) * PER_OBJECT
    return slice(first + writer // TASKS, first + PER_OBJECT, PROCESSES)


def model(round_number: int) -> np.ndarray:
    """The expected array after this round."""
    array = np.zeros(SIZE, "i4")
    for writer in range(WRITERS):
        for part in [*elements_shared_by_all(writer), elements_shared_by_four(writer)]:
            array[part] = value(round_number, writer)
    return array


def rows(round_number: int, writer: int) -> list[list[int]]:
    """The two rows that only this writer appends in this round."""
    first = 1 + 2 * (round_number * WRITERS + writer)
    return [[first] * 3, [first + 1] * 3]


async def write(array: zs.Array, turn: Round, writer: int, rng: Random) -> int:
    """Do one writer's part of one round. Returns how many of its writes a read afterwards did not show."""
    unseen = 0
    if turn.kind == "append":
        await array.append(np.array(rows(turn.number, writer), "i4"))
    elif turn.kind == "attributes":
        await array.update_attributes({f"writer-{writer}": turn.number, f"{turn.number}/{writer}": True})
    else:
        last = value(turn.number, writer)
        for flip in range(FLIPS):
            wanted = 0 if flip % 2 else 1 + last
            await _set(array, wanted, elements_shared_by_four(writer))
            unseen += not (await array[elements_shared_by_four(writer)] == wanted).all()
        for part in rng.sample([*elements_shared_by_all(writer), elements_shared_by_four(writer)], SHARED_BY_ALL + 1):
            await _set(array, last, part)
    return unseen


async def _set(array: zs.Array, value: int, part: slice) -> None:
    await array.set_slice(value, part.start, part.stop, part.step)


# The processes


class Racer:
    """One process: a session with conditional writes and one without, behind one proxy."""

    def __init__(self, job: Job, proxy: FaultyProxy, sessions: dict[str, zs.Session]) -> None:
        self._dice = Random(job.number)
        self._writers = range(job.number * TASKS, (job.number + 1) * TASKS)
        self._proxy = proxy
        self._sessions = sessions
        self._unseen = 0

    async def run_round(self, turn: Round) -> None:
        """Run the round with all tasks concurrently."""
        array = await self._sessions[turn.conditional_writes].open_array(turn.url)
        async with asyncio.TaskGroup() as group:
            tasks = [group.create_task(write(array, turn, writer, self._dice)) for writer in self._writers]
        self._unseen += sum(task.result() for task in tasks)

    def counts(self) -> Counts:
        """The counts so far."""
        return Counts(
            conflicts=sum(session.metrics.conflicts for session in self._sessions.values()),
            lost_writes=self._proxy.count("lost", "PUT", "DELETE"),
            refused=self._proxy.count("refused") + self._proxy.count("reset"),
            injected_409=self._proxy.count("conflict"),
            requests=self._proxy.count(),
            unseen=self._unseen,
        )


async def main(job: Job) -> None:
    """Run the rounds read from standard input, and print the counts after each."""
    with FaultyProxy(job.options["endpoint_url"], **FAULTS, seed=job.seed * 100 + job.number) as proxy:
        config = zs.S3Config(**{**job.options, "endpoint_url": proxy.endpoint_url})
        safe = zs.Session(s3=config, retry=RETRY)
        unsafe = zs.Session(s3=config.with_options(conditional_writes="off"), retry=RETRY)
        async with safe, unsafe:
            racer = Racer(job, proxy, {"auto": safe, "off": unsafe})
            while line := await asyncio.get_running_loop().run_in_executor(None, sys.stdin.readline):
                await racer.run_round(Round(**json.loads(line)))
                sys.stdout.write(json.dumps(asdict(racer.counts())) + "\n")
                sys.stdout.flush()


# The parent process


class Racers:
    """The processes; `with` starts and ends them."""

    def __init__(self, config: zs.S3Config, *, seed: int) -> None:
        names = ("endpoint_url", "access_key_id", "secret_access_key", "region")
        options = {name: getattr(config, name) for name in names}
        self._jobs = [Job(number, seed, options) for number in range(PROCESSES)]
        self._processes: list[subprocess.Popen[str]] = []
        self._counts = Counts()

    def __enter__(self) -> Self:
        for job in self._jobs:
            command = [sys.executable, "-m", "tests.promises.races", json.dumps(asdict(job))]
            pipe = subprocess.PIPE
            process = subprocess.Popen(command, cwd=_ROOT, stdin=pipe, stdout=pipe, text=True, bufsize=1)
            self._processes.append(process)
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.kill()
            process.communicate()

    def run(self, turn: Round) -> Counts:
        """Run one round in all processes. Returns the counts of this round."""
        before = self._counts
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(json.dumps(asdict(turn)) + "\n")
        self._counts = sum((self._read_counts(process) for process in self._processes), Counts())
        return self._counts - before

    def _read_counts(self, process: subprocess.Popen[str]) -> Counts:
        assert process.stdout is not None
        line = process.stdout.readline()
        assert line, "a writer failed; its traceback is on standard error"
        return Counts(**json.loads(line))

    async def race(
        self, kind: str, url: str, is_round_wrong: Callable[[int], Awaitable[bool]], *, conditional_writes: str
    ) -> tuple[int, Counts]:
        """Run all rounds. Returns after how many of them `is_round_wrong` found lost writes, and the total counts."""
        wrong, total = 0, Counts()
        for number in range(ROUNDS):
            total += self.run(Round(kind, url, number, conditional_writes))
            wrong += not await is_round_wrong(number)
        return wrong, total


if __name__ == "__main__":
    asyncio.run(main(Job(**json.loads(sys.argv[1]))))
