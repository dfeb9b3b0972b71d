"""Store the arrays to read and the empty arrays to write. Runs as a separate process.

Every contender reads the same bytes: zarr-python creates them in memory, and they are stored unchanged.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import warnings
from typing import Any

import zarr
import zarr.api.asynchronous
from zarr.codecs import BloscCodec, ZstdCodec
from zarr.core.buffer import default_buffer_prototype

import zarr_s3_async as zs

from .libraries.base import Place
from .libraries.ours import s3_config
from .workload import DTYPE, Dataset, Workload

_IN_FLIGHT = 32


def _layout(data: Dataset) -> dict[str, Any]:
    """Arguments of `create_array`, the same for every way of storing it."""
    layout: dict[str, Any] = {
        "shape": data.shape,
        "chunks": data.chunk,
        "dtype": DTYPE,
        "zarr_format": data.zarr_format,
        "compressors": _compressors(data),
        "fill_value": 0,
    }
    if data.shard is not None:
        layout["shards"] = tuple(c * s for c, s in zip(data.chunk, data.shard, strict=True))
    return layout


def _compressors(data: Dataset) -> Any:
    if data.codec == "raw":
        return None
    if data.zarr_format == 3:
        return ZstdCodec(level=1) if data.codec == "zstd" else BloscCodec(cname="lz4", clevel=5, shuffle="shuffle")
    import numcodecs

    return numcodecs.Zstd(level=1) if data.codec == "zstd" else numcodecs.Blosc(cname="lz4", clevel=5, shuffle=1)


async def _store(store: Any, data: Dataset, *, fill: bool) -> None:
    array = await zarr.api.asynchronous.create_array(store=store, overwrite=True, **_layout(data))
    if fill:
        await array.setitem(data.full, data.values(data.full))


async def _in_repository(place: Place, path: str, data: Dataset, *, fill: bool) -> None:
    import icechunk

    from .libraries.on_icechunk import repository_storage

    repository = await icechunk.Repository.create_async(repository_storage(place, path))
    session = await repository.writable_session_async("main")
    await _store(session.store, data, fill=fill)
    await session.commit_async("stored")


async def _upload(objects: zarr.storage.MemoryStore, place: Place, paths: list[str]) -> None:
    found = {key: await objects.get(key, default_buffer_prototype()) async for key in objects.list()}
    async with zs.Session(s3=s3_config(place)) as session:
        store = session.s3(place.bucket)
        items = ((f"{path}/{key}", data.to_bytes()) for path in paths for key, data in found.items() if data)

        async def pull() -> None:
            for key, data in items:
                await store.put(key, data)

        async with asyncio.TaskGroup() as group:
            for _ in range(_IN_FLIGHT):
                group.create_task(pull())


async def prepare(order: dict[str, Any]) -> None:
    """Store the arrays of one workload at the paths given by the driver."""
    place, data = Place(**order["place"]), Workload.from_json(order["workload"]).dataset
    zarr.config.set({"async.concurrency": _IN_FLIGHT})
    if order["paths"]:
        objects = zarr.storage.MemoryStore()
        await _store(objects, data, fill=order["fill"])
        await _upload(objects, place, order["paths"])
    for path in order["repositories"]:
        await _in_repository(place, path, data, fill=order["fill"])


if __name__ == "__main__":
    warnings.simplefilter("ignore")
    asyncio.run(prepare(json.loads(sys.stdin.readline())))
    os._exit(0)  # some native libraries crash while the interpreter ends
