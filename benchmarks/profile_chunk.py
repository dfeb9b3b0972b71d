"""Time of reading one chunk, layer by layer: configurations with one more layer each, and their differences.

No profiler is used: repeats of all configurations are interleaved, and figures are medians of CPU time in microseconds.
The rest that the differences do not explain is printed too.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
from collections.abc import Awaitable, Callable
from contextlib import AsyncExitStack
from statistics import median
from typing import Any

import zarr_s3_async as zs
from tests.servers.stand_in import StandIn
from zarr_s3_async._concurrency.limiter import Limiter
from zarr_s3_async._engine.operations import planned
from zarr_s3_async._plan import selection
from zarr_s3_async._types import Sink, Version
from zarr_s3_async.stores.s3.request import ErrorDocument, Request, Response
from zarr_s3_async.stores.s3.retry import RetryingTransport, Traced
from zarr_s3_async.stores.s3.service import S3Service

from .libraries.bare import OurWire
from .libraries.base import Place, Task
from .libraries.ours import s3_config
from .memory import cpu_seconds
from .workload import Dataset, Workload

Run = Callable[[], Awaitable[None]]


class InstantStore(zs.MemoryStore):
    """A store that responds immediately from a dictionary: measures the engine above the store."""

    def __init__(self, stored: dict[str, bytes]) -> None:
        super().__init__("instant")
        self._stored = stored

    async def get(self, key: str, *, sink: Sink | None = None, **_: Any) -> zs.Blob | None:
        """Return the object, in the sink's memory if there is one; no other option is used here."""
        body = self._stored.get(key)
        if body is None:
            return None
        if sink is None:
            return zs.Blob(body, Version("1"), len(body))
        memory = sink(len(body))
        memory[:] = body
        return zs.Blob(memory, Version("1"), len(body))


class Instant:
    """A transport that responds immediately from a dictionary: measures everything above the network."""

    def __init__(self, objects: dict[str, bytes]) -> None:
        self._objects = objects

    async def send(self, request: Request) -> Response:
        """GetObject, into the sink's memory if there is one; no other operation is used here."""
        body = self._objects.get(request.key)
        if body is None:
            return Response(404, {}, error=ErrorDocument("NoSuchKey"))
        headers = {"etag": '"1"', "content-length": str(len(body))}
        if request.sink is None:
            return Response(200, headers, body)
        memory = request.sink(len(body))
        memory[:] = body
        return Response(200, headers, memory)


class InstantService(S3Service):
    """The complete S3 stack down to the transport."""

    objects: dict[str, bytes]

    def _retrying(self, *arguments: Any) -> RetryingTransport:
        retrying = super()._retrying(*arguments)
        retrying._traced = Traced(Instant(self.objects), self._emit)
        return retrying


async def contents(store: zs.Store) -> dict[str, bytes]:
    """Every object of a store."""
    found = {}
    async for entry in store.list_prefix():
        blob = await store.get(entry.key)
        assert blob is not None
        found[entry.key] = bytes(blob.data)
    return found


async def filled(session: zs.Session, where: str | zs.Store, data: Dataset) -> zs.Array:
    """Store the array with this library."""
    codec = None if data.codec == "raw" else data.codec
    array = await session.create_array(
        where, shape=data.shape, chunks=data.chunk, dtype="<f4", compressor=codec, overwrite=False
    )
    await array.set_slice(data.values(data.full), (0, 0))
    return array


def reading(array: zs.Array) -> Run:
    """A full read."""

    async def run() -> None:
        await array.get_slice((0,) * array.ndim, array.shape)

    return run


def planning(array: zs.Array) -> Run:
    """Iterate over the plan of a full read."""

    async def run() -> None:
        chosen = selection.region((0,) * array.ndim, array.shape, None, array.shape)
        for _, parts in planned(array._runtime, array._layout, chosen).objects():
            for _ in parts:
                pass

    return run


async def configurations(data: Dataset, stack: AsyncExitStack) -> dict[str, Run]:
    """All configurations, from the plan alone to the complete stack."""
    server = await stack.enter_async_context(StandIn())
    place = Place(
        endpoint_url=server.endpoint_url,
        bucket=server.bucket,
        region=server.region,
        access_key_id=server.access_key_id,
        secret_access_key=server.secret_access_key,
    )
    session = await stack.enter_async_context(zs.Session(s3=s3_config(place)))
    sdk = await stack.enter_async_context(zs.Session(s3=s3_config(place, "sdk")))
    in_memory = await filled(session, "memory://chunks", data)
    service = InstantService(requests=Limiter(zs.Limits().requests), policy=zs.RetryPolicy(), emit=zs.Metrics())
    service.objects = await contents(session.store("memory://chunks"))
    stored: Any = InstantStore(service.objects)
    instant = await session.open_array(service.store("instant", "", s3_config(place)))
    everything = await filled(session, f"s3://{server.bucket}/chunks", data)
    work = Workload(name="profile", group="", action="read", dataset=data)
    wire = OurWire(Task(workload=work, place=place, path="chunks", in_flight=None))
    await wire.open()
    stack.push_async_callback(wire.close)

    async def wire_alone() -> None:
        await wire.read(data.full)

    return {
        "plan": planning(in_memory),
        "engine": reading(await session.open_array(stored)),
        "instant": reading(instant),
        "wire": wire_alone,
        "everything": reading(everything),
        "sdk": reading(await sdk.open_array(f"s3://{server.bucket}/chunks")),
    }


async def measure(runs: dict[str, Run], chunks: int, rounds: int) -> dict[str, float]:
    """Microseconds of processor time per chunk, medians of interleaved rounds; the first round is not counted."""
    taken: dict[str, list[float]] = {name: [] for name in runs}
    for number in range(rounds + 1):
        for name, run in runs.items():
            gc.collect()
            start = cpu_seconds()
            await run()
            if number:
                taken[name].append((cpu_seconds() - start) / chunks * 1e6)
    return {name: median(values) for name, values in taken.items()}


def rooms(us: dict[str, float]) -> list[tuple[str, float]]:
    """Cost of each layer, as differences between configurations."""
    return [
        ("plan (_plan)", us["plan"]),
        ("engine, codec, placing (_engine, codecs)", us["engine"] - us["plan"]),
        ("store, retries, slots, events (S3Store, RetryingTransport, Traced)", us["instant"] - us["engine"]),
        ("wire: signing, HTTP, sockets", us["wire"]),
        ("together more than their sum", us["everything"] - us["instant"] - us["wire"]),
        ("everything: get_slice over the stand-in", us["everything"]),
        ("the same with transport='sdk'", us["sdk"]),
    ]


async def profile(data: Dataset, rounds: int) -> list[tuple[str, float]]:
    """Layer and microseconds per chunk."""
    async with AsyncExitStack() as stack:
        runs = await configurations(data, stack)
        return rooms(await measure(runs, data.grid[0] * data.grid[1], rounds))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--edge", type=int, default=64, help="edge of a square float32 chunk; 64: 16 KiB")
    parser.add_argument("--chunks", type=int, default=256)
    parser.add_argument("--codec", choices=("raw", "zstd", "blosc"), default="raw")
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--uvloop", action="store_true")
    options = parser.parse_args()
    side = max(1, round(options.chunks**0.5))
    data = Dataset(chunk=(options.edge, options.edge), grid=(side, side), codec=options.codec)
    work = profile(data, options.rounds)
    if options.uvloop:
        import uvloop

        table = uvloop.run(work)
    else:
        table = asyncio.run(work)
    print(f"one chunk of {data.chunk_bytes / 1024:g} KiB, {data.codec}, of {side * side} in one get_slice; client CPU")
    for step, microseconds in table:
        print(f"{microseconds:9.1f} µs  {step}")


if __name__ == "__main__":
    main()
