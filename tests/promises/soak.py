"""A long mix of reads, writes and cancellations in its own process; `python soak.py JOB` prints a report.

Sixteen tasks share the chunks of a plain array and the shards of a sharded one; each owns every sixteenth row, and must
read there what it has written, whatever the others write.
"""

from __future__ import annotations

import asyncio
import gc
import json
import resource
import sys
import threading
from dataclasses import asdict, dataclass
from pathlib import Path
from random import Random
from time import monotonic
from typing import Any

import numpy as np

import zarr_s3_async as zs

TASKS, ROWS, COLUMNS = 16, 64, 192
Region = tuple[np.ndarray, slice]
UNIT = 1024 if sys.platform == "linux" else 1
RETRY = zs.RetryPolicy(attempts=12, base_delay=0.01)
LIMITS = zs.Limits(requests=12, bytes=2**20)


@dataclass
class Level:
    """Resources that the process holds."""

    descriptors: int
    threads: int
    tasks: int

    @classmethod
    def now(cls) -> Level:
        # The loop's default executor keeps its threads until the loop ends.
        threads = [thread for thread in threading.enumerate() if not thread.name.startswith("asyncio_")]
        return cls(len(list(Path("/dev/fd").iterdir())), len(threads), len(asyncio.all_tasks()))


@dataclass
class Report:
    """What the process prints at its end."""

    start: Level
    end: Level
    operations: int
    cancelled: int
    crowded_out: int
    """Number of reads of a shard that failed because it was rewritten all the time."""
    peaks: list[int]
    """Peak memory in bytes up to the end of each quarter of the run."""
    objects: list[int]
    """Number of Python objects at the end of each quarter."""
    held: list[int]
    """Leases, request slots and locks held after the run."""
    metrics: str
    equal: bool
    """Whether the arrays hold at the end what their owners wrote."""


class Owner:
    """One task of the mix."""

    def __init__(self, arrays: list[zs.Array], number: int, seed: int) -> None:
        self.rng = Random(seed * 1000 + number)
        self.arrays = arrays
        self.mine = range(number, ROWS, TASKS)
        self.models = [np.zeros((ROWS, COLUMNS), "i4") for _ in arrays]
        self.operations = self.cancelled = self.crowded_out = 0

    async def run(self, until: float) -> None:
        while monotonic() < until:
            which = self.rng.randrange(len(self.arrays))
            array, model = self.arrays[which], self.models[which]
            rows = np.array(sorted(self.rng.sample(self.mine, 2)))
            start = self.rng.randrange(COLUMNS)
            act = self.write if self.rng.random() < 0.4 else self.read
            patience = 0.02 * self.rng.random() if self.rng.random() < 0.1 else None
            try:
                async with asyncio.timeout(patience):
                    await act(array, model, (rows, slice(start, start + 40)))
            except TimeoutError:
                self.cancelled += 1
                await self.settle(array, model)
            except zs.ConcurrentModification:
                assert act == self.read, "a write never gives up: each conflict means that another write has succeeded"
                self.crowded_out += 1
            self.operations += 1

    async def write(self, array: zs.Array, model: np.ndarray, region: Region) -> None:
        value = self.rng.choice([0, self.rng.randrange(1, 1000)])
        model[region[0], region[1]] = value  # settle() corrects it if the write is cancelled
        await array.oindex[region].set(value)

    async def read(self, array: zs.Array, model: np.ndarray, region: Region) -> None:
        found = await array.oindex[region].get()
        assert np.array_equal(found, model[region[0], region[1]]), f"{array} did not show what its reader had written"

    async def settle(self, array: zs.Array, model: np.ndarray) -> None:
        """Read the owned rows again: after a cancellation each object is old or new, and only the store knows which."""
        model[self.mine] = await array.oindex[np.array(self.mine), :].get()


async def create(session: zs.Session, url: str) -> list[zs.Array]:
    """Create a plain and a sharded array, with rows of all tasks in every object."""
    plain = await session.create_array(
        f"{url}/plain", shape=(ROWS, COLUMNS), chunks=(32, 32), dtype="i4", zarr_format=2, compressor="zstd"
    )
    sharded = await session.create_array(
        f"{url}/sharded", shape=(ROWS, COLUMNS), chunks=(8, 16), shards=(32, 48), dtype="i4"
    )
    return [plain, sharded]


def peak() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * UNIT


def held(session: zs.Session) -> list[int]:
    return [session._leases.held, session._context.requests.held, len(session._locks)]


async def main(url: str, options: dict[str, Any], seconds: float, seed: int) -> None:
    """Run the mix in four quarters, and print the report."""
    config = zs.S3Config(**options)
    async with zs.Session(s3=config, retry=RETRY) as session:  # so that all modules are imported
        await create(session, f"{url}/first")
    start = Level.now()
    peaks, objects = [], []
    async with zs.Session(s3=config, retry=RETRY, limits=LIMITS) as session:
        arrays = await create(session, f"{url}/mix")
        owners = [Owner(arrays, number, seed) for number in range(TASKS)]
        for _ in range(4):
            until = monotonic() + seconds / 4
            async with asyncio.TaskGroup() as group:
                for owner in owners:
                    group.create_task(owner.run(until))
            gc.collect()
            peaks.append(peak())
            objects.append(len(gc.get_objects()))
        equal = True
        for which, array in enumerate(arrays):
            stored = await array[...]
            equal &= all(np.array_equal(stored[owner.mine], owner.models[which][owner.mine]) for owner in owners)
        left = held(session)
    await asyncio.sleep(0)  # closed transports release their sockets in the next iteration
    report = Report(
        start=start,
        end=Level.now(),
        operations=sum(owner.operations for owner in owners),
        cancelled=sum(owner.cancelled for owner in owners),
        crowded_out=sum(owner.crowded_out for owner in owners),
        peaks=peaks,
        objects=objects,
        held=left,
        metrics=repr(session.metrics),
        equal=equal,
    )
    sys.stdout.write(json.dumps(asdict(report)))


if __name__ == "__main__":
    asyncio.run(main(*json.loads(sys.argv[1])))
