"""zarr_s3_async, used as in an application."""

from __future__ import annotations

from typing import Any

import numpy as np

import zarr_s3_async as zs
from zarr_s3_async.config import Transport

from ..workload import Region
from .base import CannotDo, Library, Place


def s3_config(place: Place, transport: Transport = "auto") -> zs.S3Config:
    """The options under which a session uses a server."""
    return zs.S3Config(
        endpoint_url=place.endpoint_url,
        region=place.region,
        access_key_id=place.access_key_id,
        secret_access_key=place.secret_access_key,
        ca_bundle=place.ca_bundle,
        transport=transport,
    )


class Ours(Library):
    """This library with its defaults."""

    transport: Transport = "auto"
    cache = zs.CacheSize()

    async def open(self) -> None:
        place, in_flight = self.task.place, self.task.in_flight
        config = s3_config(place, self.transport)
        limits = zs.Limits() if in_flight is None else zs.Limits(requests=in_flight)
        self._session = await zs.Session(s3=config, limits=limits, cache=self.cache).__aenter__()
        if self.task.workload.action == "plan":
            await self._create_in_memory()
            return
        try:
            self._array = await self._session.open_array(f"s3://{place.bucket}/{self.task.path}")
        except zs.UnsupportedFeature as error:
            raise CannotDo(str(error)) from error

    async def _create_in_memory(self) -> None:
        data = self.task.dataset
        self._array = await self._session.create_array(
            "memory://plans", shape=data.shape, chunks=data.chunk, dtype="<f4", compressor=None
        )

    async def read(self, region: Region) -> np.ndarray[Any, Any]:
        rows, columns = region
        return await self._array.get_slice((rows.start, columns.start), (rows.stop, columns.stop))

    async def write(self, region: Region, data: np.ndarray[Any, Any]) -> None:
        rows, columns = region
        await self._array.set_slice(data, (rows.start, columns.start), (rows.stop, columns.stop))

    async def plan(self, region: Region) -> None:
        from zarr_s3_async._engine.operations import planned
        from zarr_s3_async._plan import selection

        array = self._array
        chosen = selection.basic(region, array.shape)
        for _, parts in planned(array._runtime, array._layout, chosen).objects():
            for _ in parts:
                pass

    async def close(self) -> None:
        await self._session.aclose()


class OnUvloop(Ours):
    """The child runs uvloop instead of asyncio's loop (`child.py`)."""


class OnSdk(Ours):
    """All requests through aiobotocore."""

    transport: Transport = "sdk"


class Remembering(Ours):
    """With a cache of decoded chunks for one pass: concurrent reads of a chunk share its request and decoding."""

    cache = zs.CacheSize(chunks=256 * 2**20)

    async def begin(self) -> None:
        await self._array.refresh()
