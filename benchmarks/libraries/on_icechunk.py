"""icechunk: the same array in a separate repository, through zarr-python. A write ends with a commit."""

from __future__ import annotations

from typing import Any

import icechunk
import numpy as np
import zarr
import zarr.api.asynchronous

from ..workload import Region
from .base import CannotDo, Library, Place


def repository_storage(place: Place, prefix: str) -> icechunk.Storage:
    """Where the repository is. It trusts a test server's authority by SSL_CERT_FILE, which the driver sets."""
    return icechunk.s3_storage(
        bucket=place.bucket,
        prefix=prefix,
        region=place.region,
        endpoint_url=place.endpoint_url,
        allow_http=True,
        access_key_id=place.access_key_id,
        secret_access_key=place.secret_access_key,
        force_path_style=True,
    )


class Icechunk(Library):
    """Reads in a read-only session, writes in a writable one per write."""

    async def open(self) -> None:
        if self.task.dataset.zarr_format == 2:
            raise CannotDo("it stores Zarr format 3 only")
        if self.task.in_flight is not None:
            zarr.config.set({"async.concurrency": self.task.in_flight})
        self._repository = await icechunk.Repository.open_async(repository_storage(self.task.place, self.task.path))
        session = await self._repository.readonly_session_async("main")
        self._array = await zarr.api.asynchronous.open_array(store=session.store, mode="r")

    async def read(self, region: Region) -> np.ndarray[Any, Any]:
        return np.asarray(await self._array.getitem(region))

    async def write(self, region: Region, data: np.ndarray[Any, Any]) -> None:
        session = await self._repository.writable_session_async("main")
        array = await zarr.api.asynchronous.open_array(store=session.store, mode="r+")
        await array.setitem(region, data)
        await session.commit_async("written")
        # Later reads return the committed data.
        session = await self._repository.readonly_session_async("main")
        self._array = await zarr.api.asynchronous.open_array(store=session.store, mode="r")
