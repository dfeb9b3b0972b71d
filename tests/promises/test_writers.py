"""Writers of different parts of the same chunks, in two processes at once, lose nothing."""

from __future__ import annotations

import asyncio
import json
import sys

import numpy as np
import pytest

import zarr_s3_async as zs

from .conftest import Place

pytestmark = [pytest.mark.integration, pytest.mark.slow]

TASKS, PROCESSES, CHUNKS, WIDTH = 8, 2, 3, 160

WRITER = """
import asyncio, json, sys
import numpy as np
import zarr_s3_async as zs

async def main(url, options, conditional_writes, first, tasks, step, chunks, width):
    async with zs.Session(s3=zs.S3Config(**options, conditional_writes=conditional_writes)) as session:
        # A session per task would hide the in-process lock; one for all would hide the conflicts inside a process.
        array = await session.open_array(url)
        print("ready", flush=True)
        sys.stdin.readline()

        async def write(task):
            for chunk in range(chunks):
                for at in range(task, width, step):
                    position = chunk * width + at
                    await array.set_slice([position + 1], position)

        async with asyncio.TaskGroup() as group:
            for task in range(first, first + tasks):
                group.create_task(write(task))
        print(json.dumps({"conflicts": session.metrics.conflicts}), flush=True)

asyncio.run(main(*json.loads(sys.argv[1])))
"""


async def race(place: Place, conditional_writes: str) -> tuple[np.ndarray, int]:
    """The array after the race, and how many conflicts the writers met."""
    async with zs.Session(s3=place.config) as session:
        array = await session.create_array(
            place.url, shape=(CHUNKS * WIDTH,), chunks=(WIDTH,), dtype="int32", zarr_format=2
        )
        options = {
            "endpoint_url": place.config.endpoint_url,
            "access_key_id": place.config.access_key_id,
            "secret_access_key": place.config.secret_access_key,
            "region": place.config.region,
        }
        writers = [
            await asyncio.create_subprocess_exec(
                sys.executable,
                "-c",
                WRITER,
                json.dumps(
                    [
                        place.url,
                        options,
                        conditional_writes,
                        number * TASKS,
                        TASKS,
                        TASKS * PROCESSES,
                        CHUNKS,
                        WIDTH,
                    ]
                ),
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
            )
            for number in range(PROCESSES)
        ]
        for writer in writers:
            assert writer.stdout is not None
            assert (await writer.stdout.readline()).strip() == b"ready"
        outputs = await asyncio.gather(*(writer.communicate(b"go\n") for writer in writers))
        assert all(writer.returncode == 0 for writer in writers)
        conflicts = sum(json.loads(out)["conflicts"] for out, _ in outputs)
        return await array.get_slice(0, CHUNKS * WIDTH), conflicts


async def test_nothing_is_lost_and_conflicts_were_met(place: Place) -> None:
    result, conflicts = await race(place, "auto")
    assert np.array_equal(result, np.arange(1, CHUNKS * WIDTH + 1))
    assert conflicts > 0


async def test_the_same_race_loses_writes_without_compare_and_swap(place: Place) -> None:
    """The proof that the test above can fail."""
    result, conflicts = await race(place, "off")
    assert conflicts == 0
    assert not np.array_equal(result, np.arange(1, CHUNKS * WIDTH + 1))
