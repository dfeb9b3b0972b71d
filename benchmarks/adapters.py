"""Compare zarr-python over `ZarrStore` with zarr-python over obstore, and with our own reader.

`python -m benchmarks.adapters`, or with words that select rows. Measurements are paired: each round runs both sides
on one server and event loop, in alternating order. Figures are CPU of the whole process, including obstore's threads,
and the ratio is the median of the rounds' ratios. Rows that exceed their limit are listed at the end.
"""

from __future__ import annotations

import asyncio
import gc
import sys
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from statistics import median
from typing import Any

import numpy as np
import zarr
import zarr.api.asynchronous as zarr_async
from zarr.core.buffer import default_buffer_prototype

import zarr_s3_async as zs
from zarr_s3_async.adapters.zarr import ZarrStore
from zarr_s3_async.testing import LocalS3

ROUNDS = 9
BAR = 1.0
"""Maximum ratio of our CPU to that over obstore."""
ENGINE_BAR = 2.0
"""Maximum ratio to the CPU of our own reader; above it, a separate xarray engine would be justified."""
IN_FLIGHT = 64

Side = Callable[[], Awaitable[Callable[[], Awaitable[object]]]]
"""Prepares one side, and returns the function to measure."""


@dataclass(frozen=True, slots=True)
class Row:
    """The same work on two sides."""

    name: str
    units: int
    """Number of units (chunks, keys) by which figures are divided."""
    ours: Side
    other: Side
    bar: float = BAR


class Rows:
    """All rows, on one server."""

    def __init__(self, server: LocalS3) -> None:
        self._config = server.s3_config()
        self._bucket = server.bucket
        self._random = np.random.default_rng(0)

    def ours(self, path: str) -> ZarrStore:
        return ZarrStore(f"s3://{self._bucket}/{path}", s3=self._config)

    def obstore(self, path: str) -> Any:
        from obstore.store import S3Store

        config = self._config
        store = S3Store(
            self._bucket,
            prefix=path,
            endpoint=config.endpoint_url,
            region="us-east-1",
            access_key_id=config.access_key_id,
            secret_access_key=config.secret_access_key,
            virtual_hosted_style_request=False,
            client_options={"allow_http": True},
        )
        return zarr.storage.ObjectStore(store)

    async def array(self, path: str, shape: tuple[int, int], chunk: int, **more: Any) -> None:
        """A stored array of random numbers."""
        array = await zarr_async.create_array(
            self.ours(path), shape=shape, chunks=(chunk, chunk), dtype="f4", overwrite=True, **more
        )
        await array.setitem(slice(None), self._random.random(shape, dtype="f4"))

    def both(self, name: str, units: int, path: str, work: Callable[[Any], Awaitable[object]]) -> Row:
        """A row that works on an opened array."""

        def side(make: Callable[[str], Any]) -> Side:
            async def ready() -> Callable[[], Awaitable[object]]:
                array = await zarr_async.open_array(store=make(path), mode="r+")
                return lambda: work(array)

            return ready

        return Row(name, units, side(self.ours), side(self.obstore))

    def stores(self, name: str, units: int, path: str, work: Callable[[Any], Awaitable[object]]) -> Row:
        """A row that works on a store."""

        def side(make: Callable[[str], Any]) -> Side:
            async def ready() -> Callable[[], Awaitable[object]]:
                store = make(path)
                return lambda: work(store)

            return ready

        return Row(name, units, side(self.ours), side(self.obstore))

    def engines(self, name: str, units: int, path: str, regions: list[Any]) -> Row:
        """A row that compares zarr-python over our store with our own reader."""

        async def through_store() -> Callable[[], Awaitable[object]]:
            array = await zarr_async.open_array(store=self.ours(path), mode="r")

            async def work() -> None:
                for region in regions:
                    await array.getitem(region)

            return work

        async def own() -> Callable[[], Awaitable[object]]:
            store = zs.shared_session().store(f"s3://{self._bucket}/{path}", s3=self._config)
            array = await zs.shared_session().open_array(store)

            async def work() -> None:
                for region in regions:
                    await array[region]

            return work

        return Row(name, units, through_store, own, ENGINE_BAR)

    def engine(self, name: str, units: int, path: str, regions: list[Any]) -> Row:
        """xarray with the engine `zarr_s3` beside xarray with its own engine, both over `ZarrStore`."""
        import xarray

        from zarr_s3_async.adapters.xarray import Engine

        def side(**how: Any) -> Side:
            async def ready() -> Callable[[], Awaitable[object]]:
                store: Any = self.ours(path)  # xarray takes zarr-python's stores, and does not declare it
                opened = await asyncio.to_thread(xarray.open_dataset, store, consolidated=False, **how)
                variable = opened["v"].variable

                async def work() -> None:
                    for region in regions:
                        await variable[region].load_async()

                return work

            return ready

        return Row(name, units, side(engine=Engine), side(engine="zarr"))

    async def all(self) -> list[Row]:
        """Store the arrays to read, and return the rows."""
        await self.array("small", (1024, 2048), 64, compressors=None)
        await self.array("middle", (2048, 2048), 256, compressors=None)
        await self.array("big", (3072, 3072), 1024, compressors=None)
        await self.array("shards", (2048, 2048), 64, shards=(1024, 1024))
        await self.array("set/v", (2048, 2048), 64, shards=(1024, 1024), dimension_names=("y", "x"))
        await zarr_async.create_group(store=self.ours("set"))
        cells = [
            tuple(slice(64 * int(n), 64 * int(n) + 64) for n in pair) for pair in self._random.integers(0, 32, (64, 2))
        ]
        bands = [slice(at, at + 64) for at in range(0, 2048, 64)]
        values = self._random.random((3072, 3072), dtype="f4")

        async def read(array: Any) -> None:
            await array.getitem(slice(None))

        def write(edge: int) -> Callable[[Any], Awaitable[object]]:
            return lambda array: array.setitem(slice(None), values[:edge, :edge])

        async def parts(array: Any) -> None:
            for at in range(32):
                await array.setitem((slice(at * 8, at * 8 + 4), slice(0, 32)), values[:4, :32])

        def each(regions: list[Any]) -> Callable[[Any], Awaitable[object]]:
            async def work(array: Any) -> None:
                for region in regions:
                    await array.getitem(region)

            return work

        async def listed(store: Any) -> None:
            assert len([key async for key in store.list_prefix("")]) == 513

        async def levels(store: Any) -> None:
            for number in range(16):
                assert len([name async for name in store.list_dir(f"c/{number}")]) == 32

        async def present(store: Any) -> None:
            for number in range(32):
                assert await store.exists(f"c/0/{number}")
                assert not await store.exists(f"c/0/{number + 100}")

        async def removed(store: Any) -> None:
            data = default_buffer_prototype().buffer.from_bytes(b"x")
            await store._set_many([(f"d/{number}", data) for number in range(200)])
            await store.delete_dir("d")

        for name, edge, chunk in (("w-small", 1024, 64), ("w-middle", 2048, 256), ("w-big", 3072, 1024)):
            await self.array(name, (edge, edge), chunk, compressors=None)
        return [
            self.both("read 512 chunks of 16 KiB", 512, "small", read),
            self.both("read 64 chunks of 256 KiB", 64, "middle", read),
            self.both("read 9 chunks of 4 MiB", 9, "big", read),
            self.both(
                "one chunk of 16 KiB at a time",
                64,
                "small",
                each([(slice(at, at + 64), bands[0]) for at in range(0, 1024, 16)][:64]),
            ),
            self.both("write 256 chunks of 16 KiB", 256, "w-small", write(1024)),
            self.both("write 64 chunks of 256 KiB", 64, "w-middle", write(2048)),
            self.both("write 9 chunks of 4 MiB", 9, "w-big", write(3072)),
            self.both("parts of chunks of 16 KiB", 32, "w-small", parts),
            self.both("read 4 shards of 256 chunks", 1024, "shards", read),
            self.both("single chunks of shards", 64, "shards", each(cells)),
            self.both("rows of chunks of shards", 32, "shards", each(bands)),
            self.both("columns of chunks of shards", 32, "shards", each([(slice(None), band) for band in bands])),
            self.stores("list 513 keys", 1, "small", listed),
            self.stores("one level of 32 objects", 16, "small", levels),
            self.stores("exists, and exists not", 64, "small", present),
            self.stores("200 puts, and delete_dir", 200, "d", removed),
            self.engines("read 4 shards of 256 chunks: store / own reader", 1024, "shards", [slice(None)]),
            self.engines("single chunks of shards: store / own reader", 64, "shards", cells),
            self.engines("rows of chunks of shards: store / own reader", 32, "shards", bands),
            self.engines("read 512 chunks of 16 KiB: store / own reader", 512, "small", [slice(None)]),
            self.engine(
                "xarray, 4 shards of 256 chunks: engine zarr_s3 / zarr", 1024, "set", [(slice(None), slice(None))]
            ),
            self.engine("xarray, single chunks of shards: engine zarr_s3 / zarr", 64, "set", cells),
            self.engine("xarray, rows of chunks of shards: engine zarr_s3 / zarr", 32, "set", bands),
        ]


async def measure(row: Row) -> float:
    """Measure one row, print it, and return its ratio."""
    ours, other = await row.ours(), await row.other()
    await ours()
    await other()
    seconds: dict[str, list[float]] = {"ours": [], "other": []}
    for number in range(ROUNDS):
        sides = [("ours", ours), ("other", other)]
        for name, work in sides if number % 2 else reversed(sides):
            gc.collect()
            start = time.process_time()
            await work()
            seconds[name].append(time.process_time() - start)
    ratio = median(mine / theirs for mine, theirs in zip(seconds["ours"], seconds["other"], strict=True))
    mine, theirs = (median(found) / row.units * 1e6 for found in seconds.values())
    print(f"| {row.name} | {mine:,.0f} | {theirs:,.0f} | {ratio:.2f} |", flush=True)
    return ratio


async def main(server: LocalS3, wanted: list[str]) -> None:
    """Measure every row whose name contains one of the words; without words, every row."""
    zarr.config.set({"async.concurrency": IN_FLIGHT})
    print("| row | µs | µs of the other side | ratio |\n|---|---|---|---|")
    lost = []
    for row in await Rows(server).all():
        if not wanted or any(word in row.name for word in wanted):
            ratio = await measure(row)
            if ratio > row.bar:
                lost.append(f"{row.name}: {ratio:.2f}, limit {row.bar}")
    print("\nabove the limit: " + ("; ".join(lost) if lost else "none"))


if __name__ == "__main__":
    with LocalS3() as server:
        asyncio.run(main(server, sys.argv[1:]))
