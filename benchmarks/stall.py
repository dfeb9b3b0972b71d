"""Print the import time of the package, and the longest stall of the event loop while a session opens and reads."""

import asyncio
import os
import subprocess
import sys
import time

import zarr_s3_async as zs

IMPORT = "from time import perf_counter as w, process_time as c; a, b = w(), c(); import {}; print(w() - a, c() - b)"


def import_seconds(modules: str, runs: int = 11) -> tuple[float, float]:
    """Wall and CPU seconds of an import with compiled bytecode: minimum of several runs."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", IMPORT.format(modules)]
    outputs = [subprocess.check_output(command, env=environment).split() for _ in range(runs)]
    wall, cpu = (min(map(float, column)) for column in zip(*outputs, strict=True))
    return wall, cpu


async def longest_stall(work: asyncio.Task[None]) -> float:
    """The longest time between two iterations of the event loop while `work` runs, in seconds."""
    worst, last = 0.0, time.perf_counter()  # an iteration is due every millisecond
    while not work.done():
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        worst, last = max(worst, now - last), now
    await work
    return worst


async def open_session() -> None:
    """Everything up to the first answer: client, endpoint rules, connection (refused: no server listens on port 9)."""
    keys = zs.S3Config(access_key_id="nobody", secret_access_key="nothing")
    retry = zs.RetryPolicy(attempts=1)
    async with zs.Session(endpoint_url="http://127.0.0.1:9", retry=retry, s3=keys) as session:
        try:
            await session.open_array("s3://some-bucket/array")
        except zs.NetworkError:
            return
    raise AssertionError("there was a response on port 9")


async def main() -> None:
    """Print both figures."""
    for modules in ("numpy", "numpy, asyncio", "zarr_s3_async"):
        wall, cpu = import_seconds(modules)
        print(f"import {modules}: {wall * 1e3:.0f} ms, {cpu * 1e3:.0f} ms of CPU")
    print(
        f"longest stall while a session opens: {await longest_stall(asyncio.create_task(open_session())) * 1e3:.1f} ms"
    )


if __name__ == "__main__":
    asyncio.run(main())
