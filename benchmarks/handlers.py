"""`python -m benchmarks.handlers`: the least that the row "100 handlers, 256 KiB zstd" can cost, beside what it costs.

A hundred concurrent reads overlap on 140 of 144 chunks. Whatever library serves them must fetch and decode each chunk,
and copy its parts into the results; the parts are measured one by one, with our wire and numcodecs. CPU time of the
process, medians of interleaved rounds. Page faults are printed because they depend on what the process has allocated
before, and cost a few milliseconds.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import os
import resource
from collections.abc import Awaitable, Callable
from statistics import median
from typing import Any

import numpy as np
from numcodecs.zstd import decompress

import zarr_s3_async as zs
from zarr_s3_async.testing import LocalS3

from .libraries import CONTENDERS
from .libraries.base import IN_FLIGHT, Task
from .matrix import full
from .memory import cpu_seconds
from .service import place_of
from .workload import DTYPE, Region

_ROW = "100 handlers, 256 KiB zstd"


def parts_of(region: Region, edge: int) -> list[tuple[tuple[int, int], Region, Region]]:
    """The chunks under a region, each with its slices of the result and of the chunk."""
    axes = []
    for part in region:
        found = []
        for cell in range(part.start // edge, -(-part.stop // edge)):
            low, high = max(part.start, cell * edge), min(part.stop, (cell + 1) * edge)
            put = slice(low - part.start, high - part.start)
            found.append((cell, put, slice(low - cell * edge, high - cell * edge)))
        axes.append(found)
    return [((i, j), (put, put_), (take, take_)) for i, put, take in axes[0] for j, put_, take_ in axes[1]]


async def measure(rounds: int) -> None:
    """Print the table."""
    workload = next(row.workload for row in full() if row.workload.name == _ROW)
    data = workload.dataset
    edge, regions = data.chunk[0], workload.regions()
    parts = [parts_of(region, edge) for region in regions]
    with LocalS3() as server:
        os.environ.update(server.environment())
        url, path = f"s3://{server.bucket}", "handlers"
        async with zs.Session(s3=server.s3_config()) as session:
            codecs = ["bytes", {"name": "zstd", "configuration": {"level": 1}}]
            array = await session.create_array(
                f"{url}/{path}", shape=data.shape, chunks=data.chunk, dtype=DTYPE, codecs=codecs
            )
            await array.set_slice(data.values(data.full), (0, 0))
            store = session.store(url)
            keys = [f"{path}/c/{i}/{j}" for i, j in sorted({cell for found in parts for cell, _, _ in found})]
            encoded = [bytes(blob.data) for blob in await asyncio.gather(*map(store.get, keys)) if blob is not None]
            chunk = np.empty(data.chunk, DTYPE)

            async def fetch() -> None:
                await asyncio.gather(*map(store.get, keys))

            async def decode() -> None:
                for body in encoded:
                    decompress(body, chunk)

            async def copy() -> None:
                results = [np.empty([part.stop - part.start for part in region], DTYPE) for region in regions]
                for result, found in zip(results, parts, strict=True):
                    for _, put, take in found:
                        result[put] = chunk[take]

            works: dict[str, Callable[[], Awaitable[Any]]] = {
                f"{len(keys)} GETs, by our wire and store": fetch,
                f"{len(keys)} chunks decoded, in one thread": decode,
                f"{sum(map(len, parts))} parts copied to 100 results": copy,
            }
            for library in ("zarr_s3_async", "tensorstore"):
                in_flight = None if library == "zarr_s3_async" else IN_FLIGHT
                task = Task(workload=workload, place=place_of(server), path=path, in_flight=in_flight, library=library)
                contender = CONTENDERS[library].load(task)
                await contender.open()

                async def read(contender: Any = contender) -> None:
                    await asyncio.gather(*map(contender.read, regions))

                works[f"the row, {library}"] = read
            await compare(works, rounds)


async def compare(works: dict[str, Callable[[], Awaitable[Any]]], rounds: int) -> None:
    """Run all works in each round, and print the medians."""
    taken: dict[str, list[tuple[float, float]]] = {name: [] for name in works}
    for number in range(rounds + 1):
        for name, work in works.items():
            gc.collect()
            before, faults = cpu_seconds(), resource.getrusage(resource.RUSAGE_SELF).ru_minflt
            await work()
            if number:  # the first round opens connections
                now = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
                taken[name].append(((cpu_seconds() - before) * 1e3, now - faults))
    print("| | CPU ms | page faults |\n|---|---:|---:|")
    for name, values in taken.items():
        print(f"| {name} | {median(cpu for cpu, _ in values):.1f} | {median(n for _, n in values):,.0f} |")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=25)
    asyncio.run(measure(parser.parse_args().rounds))
