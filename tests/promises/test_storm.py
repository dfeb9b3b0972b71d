"""Many cancellations at random moments leave nothing locked, torn or running, on either transport.

`STORM_SECONDS=300 pytest -n 0 -s --timeout 0 tests/promises/test_storm.py` runs for five minutes on each, and prints
its figures.
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import Counter
from collections.abc import Awaitable, Callable
from random import Random
from time import monotonic
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs

from ..servers.fault_server import FaultServer

pytestmark = pytest.mark.slow

SECONDS = float(os.environ.get("STORM_SECONDS", "3"))
CHUNKS, HALF = 8, 8
"""A chunk has two halves; every write sets some halves to one value each."""
TASKS = 8
LAYOUTS: dict[str, dict[str, Any]] = {"plain": {}, "sharded": {"shards": (8 * HALF,)}}
Act = Callable[[zs.Array, Random, int], Awaitable[None]]


def halves(data: Any) -> Any:
    return np.asarray(data).reshape(-1, HALF)


def check(data: Any) -> None:
    """Check that no half mixes two writes."""
    assert (halves(data) == halves(data)[:, :1]).all(), f"torn: {halves(data).tolist()}"


async def read(array: zs.Array, rng: Random, _: int) -> None:
    first = rng.randrange(CHUNKS)
    check(await array.get_slice(first * 2 * HALF, rng.randint(first + 1, CHUNKS) * 2 * HALF))


async def read_of_one_moment(array: zs.Array, _: Random, __: int) -> None:
    check(await array.get_slice(0, array.shape[0], consistent=True))


async def merge(array: zs.Array, rng: Random, value: int) -> None:
    first = rng.randrange(2 * CHUNKS)
    await array.set_slice(value, first * HALF, rng.randint(first + 1, 2 * CHUNKS) * HALF)


async def stream(array: zs.Array, _: Random, __: int) -> None:
    async with array.stream() as blocks:
        async for block in blocks:
            check(block.data)


async def write_stream(array: zs.Array, _: Random, value: int) -> None:
    async with array.write_stream() as out:
        for at in range(0, array.shape[0], 3 * HALF):
            place = slice(at, min(at + 3 * HALF, array.shape[0]))
            await out.write((place,), np.full(place.stop - at, value, "i4"))


async def move_a_chunk(array: zs.Array, rng: Random, _: int) -> None:
    chunk = await array.chunk_at((rng.randrange(CHUNKS),))
    at = (rng.randrange(CHUNKS),)
    if chunk is None:
        await array.erase_chunk(at)
    else:
        await array.put_chunk(at, chunk.data)


ACTS: tuple[Act, ...] = (read, read, merge, merge, merge, read_of_one_moment, stream, write_stream, move_a_chunk)


async def cancel_some_time(task: asyncio.Task[None], rng: Random) -> None:
    """Cancel once or twice, after some iterations of the loop or some time."""
    if rng.random() < 0.5:
        for _ in range(rng.randrange(60)):
            await asyncio.sleep(0)
    else:
        await asyncio.sleep(0.02 * rng.random())
    task.cancel()
    if rng.random() < 0.2:
        await asyncio.sleep(0)
        task.cancel()


@pytest.mark.timeout(0 if "STORM_SECONDS" in os.environ else 120)
@pytest.mark.parametrize("transport", ["wire", "sdk"])
async def test_random_cancellations_leave_nothing_locked_torn_or_running(transport: Any) -> None:
    rng, ended = Random(1), Counter[str]()
    before = asyncio.all_tasks()
    with FaultServer(buckets=("data",)) as server:
        config = server.s3_config(transport=transport)
        async with zs.Session(s3=config, limits=zs.Limits(requests=6, bytes=2**14)) as session:
            arrays = [
                await session.create_array(
                    f"s3://data/{name}", shape=(2 * HALF * CHUNKS,), chunks=(2 * HALF,), dtype="i4", **layout
                )
                for name, layout in LAYOUTS.items()
            ]
            until, value = monotonic() + SECONDS, 0
            while (
                monotonic() < until or ended["cancelled"] <= 20
            ):  # on a slow machine, too, enough calls must be cancelled
                tasks = []
                for _ in range(TASKS):
                    value = value % 1000 + 1
                    tasks.append(asyncio.ensure_future(rng.choice(ACTS)(rng.choice(arrays), rng, value)))
                async with asyncio.TaskGroup() as group:
                    for task in tasks:
                        group.create_task(cancel_some_time(task, rng))
                done, running = await asyncio.wait(tasks, timeout=30)
                assert not running, f"these tasks are still running although they were cancelled: {running}"
                for task in done:
                    ended["cancelled" if task.cancelled() else "done"] += 1
                    if not task.cancelled():
                        task.result()
                assert (session._leases.held, session._context.requests.held, len(session._locks)) == (0, 0, 0)
            async with asyncio.timeout(10):
                for array in arrays:
                    check(await array[...])
        assert server.open_uploads() == 0
    assert asyncio.all_tasks() == before
    assert ended["cancelled"] > 20
    sys.stdout.write(f"{transport}: {dict(ended)} {session.metrics}\n")
