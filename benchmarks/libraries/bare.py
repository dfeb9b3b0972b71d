"""Bare loops: workers fetch or put the objects of a region, without decoding. Lower bounds, not competitors."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import numpy as np

from ..workload import Region
from .base import CannotDo, Library

_NOTHING = np.empty(0, dtype="u1")


class Bare(Library):
    """Base class: lists the objects that a region touches, and runs workers over the list."""

    checks_values = False

    async def get(self, key: str) -> int:
        """Fetch an object and return its size in bytes."""
        raise NotImplementedError

    async def put(self, key: str, data: bytes) -> None:
        """Store an object."""
        raise NotImplementedError

    def _key(self, i: int, j: int) -> str:
        return f"{self.task.path}/{self.task.dataset.key(i, j)}"

    async def read(self, region: Region) -> np.ndarray[Any, Any]:
        if self.task.dataset.shard is not None:
            raise CannotDo("objects are shards, not chunks")
        keys = (self._key(i, j) for i, j in self.task.dataset.touched(region))
        await self._in_parallel(keys, self.get)
        return _NOTHING

    async def write(self, region: Region, data: np.ndarray[Any, Any]) -> None:
        dataset = self.task.dataset
        if self.task.workload.action != "write" or dataset.codec != "raw" or dataset.shard is not None:
            raise CannotDo("a bare put supports neither codecs nor parts of chunks")

        async def put_chunk(cell: tuple[int, int]) -> None:
            await self.put(self._key(*cell), data[dataset.chunk_region(*cell)].tobytes())

        await self._in_parallel(dataset.touched(region), put_chunk)

    async def _in_parallel(self, items: Iterator[Any], work: Callable[[Any], Awaitable[Any]]) -> None:
        async def pull() -> None:
            for item in items:
                await work(item)

        async with asyncio.TaskGroup() as group:
            for _ in range(self.task.workers):
                group.create_task(pull())


class Obstore(Bare):
    """`get_async` and `put_async`."""

    async def open(self) -> None:
        import obstore

        from .on_zarr import obstore_store

        self._api = obstore
        self._store = obstore_store(self.task.place, "")

    async def get(self, key: str) -> int:
        answer = await self._api.get_async(self._store, key)
        return len(await answer.bytes_async())

    async def put(self, key: str, data: bytes) -> None:
        await self._api.put_async(self._store, key, data)


class Aiobotocore(Bare):
    """`get_object` and `put_object`, with as many connections as requests and no payload hashes or checksums."""

    async def open(self) -> None:
        from aiobotocore.config import AioConfig
        from aiobotocore.session import AioSession

        place = self.task.place
        config = AioConfig(
            max_pool_connections=self.task.workers,
            request_checksum_calculation="when_required",
            response_checksum_validation="when_required",
            s3={"payload_signing_enabled": False, "addressing_style": "path"},
        )
        self._context = AioSession().create_client(
            "s3",
            endpoint_url=place.endpoint_url,
            region_name=place.region,
            aws_access_key_id=place.access_key_id,
            aws_secret_access_key=place.secret_access_key,
            verify=place.ca_bundle,
            config=config,
        )
        self._client = await self._context.__aenter__()

    async def get(self, key: str) -> int:
        answer = await self._client.get_object(Bucket=self.task.place.bucket, Key=key)
        async with answer["Body"] as body:
            return len(await body.read())

    async def put(self, key: str, data: bytes) -> None:
        await self._client.put_object(Bucket=self.task.place.bucket, Key=key, Body=data)

    async def close(self) -> None:
        await self._context.__aexit__(None, None, None)


class OurWire(Bare):
    """Our own transport, `stores/s3/wire.py`, without store, retries, plan or codec."""

    async def open(self) -> None:
        from urllib.parse import urlsplit

        from botocore.credentials import ReadOnlyCredentials

        from zarr_s3_async.stores.s3.request import Request
        from zarr_s3_async.stores.s3.sdk.endpoint import Endpoint
        from zarr_s3_async.stores.s3.wire import Wire

        place = self.task.place
        url = urlsplit(place.endpoint_url)
        endpoint = Endpoint(
            scheme=url.scheme,
            host=url.hostname or "",
            port=url.port or 0,
            path_prefix=f"/{place.bucket}",
            region=place.region,
        )
        frozen = ReadOnlyCredentials(place.access_key_id, place.secret_access_key, None)

        async def credentials() -> ReadOnlyCredentials:
            return frozen

        self._request = Request
        self._wire = Wire(endpoint, credentials, max_connections=self.task.workers, ca_bundle=place.ca_bundle)

    async def get(self, key: str) -> int:
        answer = await self._wire.send(self._request("GetObject", self.task.place.bucket, key))
        if answer.status != 200:
            raise RuntimeError(f"{key}: {answer.status}")
        return len(memoryview(answer.body))

    async def put(self, key: str, data: bytes) -> None:
        answer = await self._wire.send(self._request("PutObject", self.task.place.bucket, key, payload=data))
        if answer.status != 200:
            raise RuntimeError(f"{key}: {answer.status}")

    async def close(self) -> None:
        await self._wire.aclose()
