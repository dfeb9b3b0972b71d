"""`python -m benchmarks.fairness`: reads of one chunk during a read of many chunks in the same session.

Each round measures small reads alone, then during a bulk read that never ends; medians over the rounds are printed.
`clock` is the time that a caller waits. `loop` is the CPU time of the event loop's thread during that wait. `on a core`
is the clock without the time in which the loop's thread or the server was ready to run and waited for a core, as the
kernel counts it (Linux only): what remains on a machine with enough cores. `bare GET` is a request of another process
to the same server during the bulk read: the share of the server and the machine.

The bar is printed for each case: p99 beside the bulk read is at most twice p99 alone, plus that of a bare GET.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import Any, NamedTuple

import numpy as np

import zarr_s3_async as zs
from tests.servers.stand_in import StandIn

_READS, _PAUSE, _PROBE_SECONDS = 200, 0.002, 1.0
_PROBE = """
import json, socket, sys, time
host, port, path, seconds = sys.argv[1], int(sys.argv[2]), sys.argv[3], float(sys.argv[4])
connection, taken, end = socket.create_connection((host, port)), [], time.monotonic() + seconds
request = f"GET {path} HTTP/1.1\\r\\nHost: x\\r\\n\\r\\n".encode()
while time.monotonic() < end:
    start, answer = time.perf_counter(), b""
    connection.sendall(request)
    while b"\\r\\n\\r\\n" not in answer:
        answer += connection.recv(65536)
    head, _, body = answer.partition(b"\\r\\n\\r\\n")
    missing = int(head.lower().partition(b"content-length:")[2].split()[0]) - len(body)
    while missing:
        missing -= len(connection.recv(min(missing, 65536)))
    taken.append(time.perf_counter() - start)
    time.sleep(0.002)
print(json.dumps(taken))
"""


class Case(NamedTuple):
    """The array of the bulk read."""

    name: str
    chunks: int
    edge: int
    """Edge of a square float32 chunk."""
    codec: str | None


CASES = (
    Case("10,000 chunks of 4 KiB, raw", 10_000, 32, None),
    Case("512 chunks of 256 KiB, zstd", 512, 256, "zstd"),
    Case("64 chunks of 4 MiB, zstd", 64, 1024, "zstd"),
    Case("64 chunks of 4 MiB, raw", 64, 1024, None),
)


class Figures(NamedTuple):
    """Milliseconds of small reads."""

    clock: list[float]
    loop: list[float]
    on_a_core: list[float]
    """Empty where the kernel does not count waits for a core."""


@contextmanager
def core_waits(server: int) -> Iterator[Callable[[], float] | None]:
    """A function that returns the milliseconds for which this thread and the server's have waited for a core so far.

    Args:
        server: Process ID of the server, which has one thread.
    """
    places = (Path("/proc/thread-self/schedstat"), Path(f"/proc/{server}/schedstat"))
    if not all(place.exists() for place in places):
        yield None
        return
    opened = [os.open(place, os.O_RDONLY) for place in places]
    try:
        yield lambda: sum(int(os.pread(file, 100, 0).split()[1]) for file in opened) / 1e6
    finally:
        for file in opened:
            os.close(file)


async def measure_reads(read: Callable[[int], Awaitable[Any]], server: int) -> Figures:
    """`_READS` reads, one after the other with pauses, as from handlers of a web service.

    Args:
        read: Reads a chunk by its number.
        server: Process ID of the server.
    """
    figures = Figures([], [], [])
    with core_waits(server) as waited:
        for number in range(_READS):
            before = waited() if waited else 0.0
            started, used = time.perf_counter(), time.thread_time()
            await read(number)
            clock = (time.perf_counter() - started) * 1e3
            figures.clock.append(clock)
            figures.loop.append((time.thread_time() - used) * 1e3)
            if waited:  # both may wait at the same time, which would be subtracted twice
                figures.on_a_core.append(max(0.0, clock - (waited() - before)))
            await asyncio.sleep(_PAUSE)
    return figures


async def probe(endpoint: str, path: str) -> list[float]:
    """Milliseconds of bare GETs by another process."""
    port = endpoint.rpartition(":")[2]
    arguments = ("-c", _PROBE, "127.0.0.1", port, path, str(_PROBE_SECONDS))
    process = await asyncio.create_subprocess_exec(sys.executable, *arguments, stdout=asyncio.subprocess.PIPE)
    output, _ = await process.communicate()
    return [seconds * 1e3 for seconds in json.loads(output)]


async def measure(case: Case, rounds: int) -> None:
    """Print the rows of one case."""
    rows: dict[str, list[tuple[float, float]]] = {}
    rates: list[float] = []

    def note(row: str, values: list[float]) -> None:
        rows.setdefault(row, []).append((float(np.percentile(values, 50)), float(np.percentile(values, 99))))

    async with StandIn() as server:
        keys = {name: getattr(server, name) for name in ("endpoint_url", "access_key_id", "secret_access_key")}
        async with zs.Session(**keys) as session:
            rng = np.random.default_rng(1)
            url, edge = f"s3://{server.bucket}", case.edge
            bulk = await session.create_array(
                f"{url}/bulk", shape=(case.chunks * edge, edge), chunks=(edge, edge), dtype="f4", compressor=case.codec
            )
            target = np.empty(bulk.shape, "f4")
            target[...] = rng.integers(0, 16, (edge, edge)).astype("f4")[np.arange(len(target)) % edge]
            await bulk.set_slice(target, start=(0, 0), stop=bulk.shape)
            small = await session.create_array(
                f"{url}/small", shape=(256 * 32, 32), chunks=(32, 32), dtype="f4", compressor=None
            )
            await small.set_slice(rng.random(small.shape, "f4"), start=(0, 0), stop=small.shape)

            async def read_small(number: int) -> None:
                row = number % 256 * 32
                await small.get_slice((row, 0), (row + 32, 32))

            read = 0

            async def read_bulk() -> None:
                nonlocal read
                while True:
                    await bulk.get_slice((0, 0), bulk.shape, out=target)
                    read += case.chunks

            for _ in range(rounds):
                alone = await measure_reads(read_small, server.pid)
                running = asyncio.ensure_future(read_bulk())
                await asyncio.sleep(0.1)
                beside = await measure_reads(read_small, server.pid)
                note("bare GET, clock, beside", await probe(server.endpoint_url, f"/{server.bucket}/small/c/9/0"))
                before, started = read, time.perf_counter()
                await asyncio.sleep(1.0)
                rates.append((read - before) / (time.perf_counter() - started))
                running.cancel()
                with suppress(asyncio.CancelledError):
                    await running
                for place, figures in (("alone", alone), ("beside", beside)):
                    note(f"small read, clock, {place}", figures.clock)
                    note(f"small read, loop, {place}", figures.loop)
                    if figures.on_a_core:
                        note(f"small read, on a core, {place}", figures.on_a_core)
    print(f"{case.name}; {median(rates):,.0f} chunks/s without small reads")
    late = {}
    for row in sorted(rows):
        p50, late[row] = (median(values) for values in zip(*rows[row], strict=True))
        print(f"  {row:<30} p50 {p50:7.2f} ms   p99 {late[row]:7.2f} ms")
    beside = late["small read, clock, beside"]
    bar = 2 * late["small read, clock, alone"] + late["bare GET, clock, beside"]
    print(f"  p99 beside it: {beside:.2f} ms; bar {bar:.2f}: {'met' if beside <= bar else 'missed'}")


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--only", default="", help="part of a case's name")
    options = parser.parse_args()
    for case in CASES:
        if options.only in case.name:
            asyncio.run(measure(case, options.rounds))


if __name__ == "__main__":
    main()
