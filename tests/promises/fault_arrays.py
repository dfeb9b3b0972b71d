"""Arrays on a fault server, over each transport. Objects are stored without requests; each test has its own prefix."""

from __future__ import annotations

import json
import pickle
import traceback
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass
from itertools import count
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async.stores.s3.service import S3Service

from ..servers.fault_server import FaultServer

BUCKET, SECRET = "data", "do-not-tell"
FILL = -7
FOREVER = 10_000
STORED = np.arange(1, 17, dtype="i4")
"""The values of every array; none of them is the fill value."""

_LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
LAYOUTS: dict[str, dict[str, Any]] = {
    "raw": {"chunks": (4,), "codecs": ["bytes"]},
    "zstd": {"chunks": (4,)},
    "shard": {"chunks": (2,), "shards": (8,)},
    "shard, index first": {"chunks": (2,), "shards": (8,), "change": {"index_location": "start"}},
    "shard, no checksum": {"chunks": (2,), "shards": (8,), "change": {"index_codecs": [_LITTLE]}},
}
OBJECT = "c/0"
"""The object whose requests fail: elements 0 to 3, or 0 to 7 of a shard."""


async def _objects_of(layout: str) -> dict[str, bytes]:
    store = zs.MemoryStore()
    options = dict(LAYOUTS[layout])
    change = options.pop("change", None)
    async with zs.Session() as session:
        array = await session.create_array(store, shape=(16,), dtype="i4", fill_value=FILL, **options)
        if change is not None:
            document = json.loads(bytes((await store.get("zarr.json")).data))
            document["codecs"][0]["configuration"].update(change)
            await store.put("zarr.json", json.dumps(document).encode())
            array = await session.open_array(store)
        await array.set_slice(STORED, 0)
    return {entry.key: bytes((await store.get(entry.key)).data) async for entry in store.list_prefix()}


class Bench:
    """A server, and a session over one transport with very short waits between attempts."""

    def __init__(
        self, transport: str, server: FaultServer, session: zs.Session, objects: dict[str, dict[str, bytes]]
    ) -> None:
        self.transport = transport
        self.server = server
        self.session = session
        self._objects = objects
        self._numbers = count()
        self.prefix = ""

    async def array(self, layout: str) -> zs.Array:
        """Create a separate array without any counted request."""
        self.prefix = f"{next(self._numbers)}"
        for key, body in self._objects[layout].items():
            self.server.put(BUCKET, f"{self.prefix}/{key}", body)
        self._reset_penalties()
        array = await self.session.open_array(f"s3://{BUCKET}/{self.prefix}")
        self.server.forget()
        return array

    def _reset_penalties(self) -> None:
        """Reset the effects of earlier tests: the retry budget and the limits of throttled buckets."""
        service = self.session._context.shared.get(S3Service)
        if service is not None:
            for _ in range(200):
                service._budget.answered(2)
            service._slots.shares.clear()

    def stored(self, key: str = OBJECT) -> bytes | None:
        return self.server.get(BUCKET, f"{self.prefix}/{key}")

    def put(self, body: bytes, key: str = OBJECT) -> None:
        self.server.put(BUCKET, f"{self.prefix}/{key}", body)

    def count(self, operation: str) -> int:
        """Count requests for the object under test."""
        return self.server.count(operation, key=f"{self.prefix}/{OBJECT}")

    def cue(self, operation: str, fault: Any, **options: Any) -> None:
        self.server.cue(operation, fault, key=f"{self.prefix}/{OBJECT}", **options)

    async def values(self) -> list[int]:
        """What a new session reads, without caches and faults."""
        self.server.forget()
        array = await self.session.open_array(f"s3://{BUCKET}/{self.prefix}")
        await array.refresh()
        return (await array.get_slice(0, 16)).tolist()


@dataclass(frozen=True)
class Options:
    """Options of a `Bench`."""

    transport: str
    attempts: int = 3

    @property
    def retry(self) -> zs.RetryPolicy:
        return zs.RetryPolicy(attempts=self.attempts, base_delay=1e-9, max_delay=1e-9, conflict_attempts=4)


@asynccontextmanager
async def bench_of(options: Options, **config: Any) -> AsyncIterator[Bench]:
    objects = {layout: await _objects_of(layout) for layout in LAYOUTS}
    with FaultServer(buckets=(BUCKET,)) as server:
        s3 = zs.S3Config(
            endpoint_url=server.endpoint_url,
            region="us-east-1",
            access_key_id="AKIDTEST",
            secret_access_key=SECRET,
            addressing_style="path",
            transport=options.transport,  # type: ignore[arg-type]  # "wire" or "sdk"
            **config,
        )
        async with zs.Session(s3=s3, retry=options.retry) as session:
            yield Bench(options.transport, server, session, objects)


def checked(error: BaseException) -> zs.ZarrS3Error:
    """Check that an error is of the public classes, pickles, contains no secrets, and names its object."""
    assert isinstance(error, zs.ZarrS3Error)
    assert type(error).__module__ == "zarr_s3_async.errors"
    unpickled = pickle.loads(pickle.dumps(error))
    assert (unpickled.args, unpickled.outcome) == (error.args, error.outcome)
    assert SECRET not in "".join(traceback.format_exception(error)) + repr(vars(error))
    if isinstance(error, zs.StoreError) and not isinstance(error, zs.ConcurrentModification):
        assert error.bucket == BUCKET
    assert error.key is not None  # type: ignore[attr-defined]  # store and chunk errors have a key
    assert error.key.endswith(OBJECT)  # type: ignore[attr-defined]
    return error


async def failing(work: Any) -> zs.ZarrS3Error:
    """The error that `work` raises."""
    with pytest.raises(zs.ZarrS3Error) as caught:
        await work
    return checked(caught.value)
