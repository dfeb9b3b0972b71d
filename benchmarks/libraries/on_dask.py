"""dask arrays, on their default scheduler of threads, over our store and over zarr-python with obstore."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from ..workload import Region
from .base import Library


class OverOurs(Library):
    """`adapters.dask.to_dask`."""

    async def open(self) -> None:
        self._array = await asyncio.to_thread(self.make)

    def make(self) -> Any:
        from zarr_s3_async.adapters.dask import to_dask

        place = self.task.place
        return to_dask(
            f"s3://{place.bucket}/{self.task.path}",
            endpoint_url=place.endpoint_url,
            region=place.region,
            access_key_id=place.access_key_id,
            secret_access_key=place.secret_access_key,
        )

    async def read(self, region: Region) -> np.ndarray[Any, Any]:
        return await asyncio.to_thread(self._array[region].compute)


class OverObstore(OverOurs):
    """`dask.array.from_zarr` on a store of obstore's."""

    def make(self) -> Any:
        import dask.array as da
        import zarr

        from .on_zarr import obstore_store

        if self.task.in_flight is not None:
            zarr.config.set({"async.concurrency": self.task.in_flight})
        store = zarr.storage.ObjectStore(obstore_store(self.task.place, self.task.path))
        return da.from_zarr(zarr.open_array(store=store, mode="r"))
