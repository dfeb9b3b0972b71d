"""Prints the import time of the package, and the longest stall of the event loop while a session opens and reads."""

import asyncio
import subprocess
import sys
import time

import zarr_s3_async as zs

IMPORT = "import time; t = time.perf_counter(); import zarr_s3_async; print(time.perf_counter() - t)"


async def longest_stall(work: asyncio.Task[None]) -> float:
    """The longest time between two turns of the loop, in seconds, while `work` runs."""
    worst, last = 0.0, time.perf_counter()  # a turn is due every millisecond
    while not work.done():
        await asyncio.sleep(0.001)
        now = time.perf_counter()
        worst, last = max(worst, now - last), now
    await work
    return worst


async def open_session() -> None:
    """Everything up to the first answer: client, endpoint rules, connection (refused: nobody listens on port 9)."""
    keys = {"access_key_id": "nobody", "secret_access_key": "nothing"}
    retry = zs.RetryPolicy(attempts=1)
    async with zs.Session(endpoint_url="http://127.0.0.1:9", retry=retry, s3=zs.S3Config(**keys)) as session:
        try:
            await session.open_array("s3://some-bucket/array")
        except zs.NetworkError:
            return
    raise AssertionError("somebody answered on port 9")


async def main() -> None:
    """Both figures."""
    imports = [float(subprocess.check_output([sys.executable, "-c", IMPORT])) for _ in range(5)]
    print(f"import zarr_s3_async: {min(imports):.3f} s (best of 5, NumPy included)")
    print(
        f"longest stall while a session opens: {await longest_stall(asyncio.create_task(open_session())) * 1e3:.1f} ms"
    )


if __name__ == "__main__":
    asyncio.run(main())
