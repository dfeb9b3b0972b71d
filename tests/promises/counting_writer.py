"""A process that counts up in its own row across all objects of an array, until its standard input ends.

`python -m tests.promises.counting_writer JOB`; see `test_consistent_reads.py`.
"""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from random import Random
from typing import Any

import zarr_s3_async as zs

PAUSE = 1.0
"""Seconds between two rounds, on average: long enough that at times none of four writers writes."""
_ROOT = Path(__file__).parents[2]


def order(columns: int) -> list[int]:
    """The order in which writers write their elements: first, last, second, last but one, and so on."""
    return sorted(range(columns), key=lambda at: (min(at, columns - 1 - at), at))


async def count_up(url: str, row: int, options: dict[str, Any]) -> None:
    random, n = Random(row), 0
    async with zs.Session(s3=zs.S3Config(**options)) as session:
        array = await session.open_array(url)
        while True:
            n += 1
            for column in order(array.shape[1]):
                await array.set_slice(n, (row, column), (row + 1, column + 1))
            await asyncio.sleep(random.expovariate(1 / PAUSE))


async def main(job: dict[str, Any]) -> None:
    counting = asyncio.ensure_future(count_up(**job))
    ended = asyncio.get_running_loop().run_in_executor(None, sys.stdin.read)
    await asyncio.wait([counting, ended], return_when=asyncio.FIRST_COMPLETED)
    counting.cancel()
    await asyncio.gather(counting, return_exceptions=ended.done())


@contextmanager
def writers(url: str, number: int, config: zs.S3Config) -> Iterator[list[subprocess.Popen[bytes]]]:
    """Run `number` of these processes, one for each row, inside the context."""
    names = ("endpoint_url", "access_key_id", "secret_access_key", "region")
    options = {name: getattr(config, name) for name in names}
    processes: list[subprocess.Popen[bytes]] = []
    try:
        for row in range(number):
            job = json.dumps({"url": url, "row": row, "options": options})
            command = [sys.executable, "-m", "tests.promises.counting_writer", job]
            processes.append(subprocess.Popen(command, cwd=_ROOT, stdin=subprocess.PIPE))
        yield processes
    finally:
        for process in processes:
            process.communicate()  # closes its standard input, and waits


if __name__ == "__main__":
    asyncio.run(main(json.loads(sys.argv[1])))
