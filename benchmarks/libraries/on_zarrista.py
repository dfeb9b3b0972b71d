"""zarrista: zarrs behind an asynchronous API, over obstore."""

from __future__ import annotations

from typing import Any

import numpy as np
import zarrista

from ..workload import Region
from .base import Library
from .on_zarr import obstore_store


class Zarrista(Library):
    """Whole chunks are written by `store_chunks`, which never reads."""

    async def open(self) -> None:
        self._array = await zarrista.AsyncArray.open(obstore_store(self.task.place, self.task.path), "/")
        self._cache = self._array.shard_cache() if self.task.dataset.shard else None
        workers = self.task.in_flight
        self._options = {} if workers is None else {"concurrent_target": workers, "chunk_concurrent_minimum": workers}

    async def read(self, region: Region) -> np.ndarray[Any, Any]:
        values: np.ndarray[Any, Any] = (await self._array.retrieve_array_subset(region, **self._options)).to_numpy()
        return values

    async def read_chunk(self, i: int, j: int) -> np.ndarray[Any, Any]:
        if self._cache is None:
            tensor = await self._array.retrieve_chunk([i, j], **self._options)
        else:
            tensor = await self._array.retrieve_subchunk([i, j], shard_cache=self._cache, **self._options)
        values: np.ndarray[Any, Any] = tensor.to_numpy()
        return values

    async def write(self, region: Region, data: np.ndarray[Any, Any]) -> None:
        if not data.flags.c_contiguous:
            # It takes nothing else: one row of objects after the other is made contiguous for it.
            for part in self.task.dataset.slabs(region):
                slab = np.ascontiguousarray(data[part[0].start - region[0].start : part[0].stop - region[0].start])
                await self._array.store_array_subset(part, slab, **self._options)
        elif region == self.task.dataset.full:
            await self._array.store_chunks(..., data, **self._options)
        else:
            await self._array.store_array_subset(region, data, **self._options)
