"""zarr-python through its asynchronous API, over obstore and over s3fs, and with the codec pipeline of zarrs."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Any

import numpy as np
import zarr
import zarr.api.asynchronous
from zarr.abc.store import Store

from ..workload import Region
from .base import Library, Place

if TYPE_CHECKING:
    from obstore.store import ClientConfig  # not a name at run time


def obstore_store(place: Place, prefix: str) -> Any:
    """An obstore S3 store; certificates are not verified, since obstore accepts no CA file."""
    from obstore.store import S3Store

    client: ClientConfig = {"allow_http": True}
    if place.ca_bundle is not None:
        client["allow_invalid_certificates"] = True
    return S3Store(
        place.bucket,
        prefix=prefix,
        endpoint=place.endpoint_url,
        region=place.region,
        access_key_id=place.access_key_id,
        secret_access_key=place.secret_access_key,
        virtual_hosted_style_request=False,
        client_options=client,
    )


class ZarrPython(Library):
    """Base class of the stores."""

    def make_store(self) -> Store:
        """Rooted at the array."""
        raise NotImplementedError

    def configure(self) -> None:
        """The tuned setting limits requests in flight; threads follow zarr's default."""
        if self.task.in_flight is not None:
            zarr.config.set({"async.concurrency": self.task.in_flight})

    async def open(self) -> None:
        self.configure()
        self._array = await zarr.api.asynchronous.open_array(store=self.make_store(), mode="r+")

    async def read(self, region: Region) -> np.ndarray[Any, Any]:
        return np.asarray(await self._array.getitem(region))

    async def write(self, region: Region, data: np.ndarray[Any, Any]) -> None:
        await self._array.setitem(region, data)


class OverObstore(ZarrPython):
    """`zarr.storage.ObjectStore`."""

    def make_store(self) -> Store:
        return zarr.storage.ObjectStore(obstore_store(self.task.place, self.task.path))


class OverZarrs(OverObstore):
    """The same store, its chunks fetched and decoded in Rust."""

    def configure(self) -> None:
        super().configure()
        zarr.config.set({"codec_pipeline.path": "zarrs.ZarrsCodecPipeline"})
        if self.task.in_flight is not None:
            workers = self.task.in_flight
            os.environ["RAYON_NUM_THREADS"] = str(workers)
            zarr.config.set(
                {
                    "threading.max_workers": workers,
                    "codec_pipeline.chunk_concurrent_minimum": workers,
                    "codec_pipeline.chunk_concurrent_maximum": workers,
                }
            )


class OverS3fs(ZarrPython):
    """`zarr.storage.FsspecStore` on an asynchronous `s3fs.S3FileSystem`."""

    def make_store(self) -> Store:
        import s3fs

        place = self.task.place
        client: dict[str, Any] = {"region_name": place.region}
        if place.ca_bundle is not None:
            client["verify"] = place.ca_bundle
        pool = {} if self.task.in_flight is None else {"max_pool_connections": self.task.in_flight}
        system = s3fs.S3FileSystem(
            key=place.access_key_id,
            secret=place.secret_access_key,
            endpoint_url=place.endpoint_url,
            client_kwargs=client,
            config_kwargs=pool,
            asynchronous=True,
            skip_instance_cache=True,
        )
        return zarr.storage.FsspecStore(system, path=f"{place.bucket}/{self.task.path}")


class OverOurs(ZarrPython):
    """Our own store for zarr-python."""

    def make_store(self) -> Store:
        from zarr_s3_async.adapters.zarr import ZarrStore

        from .ours import s3_config

        place = self.task.place
        return ZarrStore(f"s3://{place.bucket}/{self.task.path}", s3=s3_config(place))
