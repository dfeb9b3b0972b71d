"""Each S3 error response raises its own error, whether chunks exist or not, and is never read as a fill value."""

from __future__ import annotations

import copy
import pickle
from dataclasses import replace

import numpy as np
import pytest

import zarr_s3_async as zs

from ..servers import faults
from ..servers.fault_server import FaultServer
from .conftest import Place

pytestmark = pytest.mark.integration
NO_RETRY = zs.RetryPolicy(attempts=1)


@pytest.mark.parametrize("stored", [True, False], ids=["chunks", "no-chunks"])
@pytest.mark.parametrize("fault", ["bucket", "key", "secret", "endpoint"])
async def test_an_error_is_never_a_fill_value(
    place: Place, session: zs.Session, fault: str, stored: bool, unused_tcp_port: int
) -> None:
    array = await session.create_array(place.url, shape=(20,), chunks=(10,), dtype="i4", zarr_format=2, fill_value=9)
    if stored:
        await array.set_slice(np.arange(20), 0)
    bucket, change, error = place.bucket, {}, zs.StoreError
    match fault:
        case "bucket":
            bucket, error = "no-such-bucket-here", zs.BucketNotFound
        case "key":
            change, error = {"access_key_id": "NOBODY"}, zs.AccessDenied
        case "secret":
            change, error = {"secret_access_key": "wrong"}, zs.AccessDenied
        case "endpoint":
            change, error = {"endpoint_url": f"http://127.0.0.1:{unused_tcp_port}"}, zs.NetworkError
    async with zs.Session(s3=replace(place.config, **change), retry=NO_RETRY) as broken:
        store = broken.s3(bucket, place.prefix)
        with pytest.raises(error):
            await broken.open_array(store)
        # The metadata is already loaded; only requests for chunks fail.
        blind = zs.Array(broken._runtime(store), "", array.metadata)
        with pytest.raises(error) as caught:
            await blind.get_slice(0, 20)
        with pytest.raises(error):
            await blind.set_slice([1, 2, 3], 4)
        with pytest.raises(error) as written:
            await blind.set_slice(np.arange(20), 0)
    assert pickle.loads(pickle.dumps(caught.value)).args == caught.value.args
    assert caught.value.key in (f"{place.prefix}/0", f"{place.prefix}/1")
    assert caught.value.bucket == bucket
    assert written.value.outcome is not None
    assert written.value.outcome.written == ()
    assert place.config.secret_access_key not in repr(caught.value)


async def test_a_missing_chunk_is_the_fill_value_or_an_error_as_requested(session: zs.Session, place: Place) -> None:
    array = await session.create_array(place.url, shape=(20,), chunks=(10,), dtype="f4", fill_value=float("nan"))
    await array.set_slice(np.ones(10), 0)
    assert np.isnan(await array.get_slice(10, 20)).all()
    with pytest.raises(zs.ChunkNotFound) as caught:
        await array.get_slice(0, 20, missing="raise")
    assert caught.value.chunk == (1,)
    strict = await session.open_array(place.url, missing="raise")
    with pytest.raises(zs.ChunkNotFound):
        await strict[...]
    assert np.isnan(await strict[...].get(missing="fill")).any()


async def test_the_error_of_a_damaged_chunk_names_it(session: zs.Session, place: Place) -> None:
    array = await session.create_array(place.url, shape=(20,), chunks=(10,), dtype="i4", zarr_format=2)
    await array.set_slice(np.arange(20), 0)
    store = session.s3(place.bucket, place.prefix)
    await store.put("1", b"this is no zstd frame")
    with pytest.raises(zs.ChunkDecodeError) as caught:
        await array.get_slice(0, 20)
    assert caught.value.chunk == (1,)
    assert caught.value.key == "1"
    assert caught.value.version is not None
    with pytest.raises(zs.ChunkDecodeError):
        await array.set_slice([1], 15)  # a merge must not drop what it cannot read
    await array.set_slice(np.arange(10), 10)  # a write of a whole chunk needs no read
    assert np.array_equal(await array.get_slice(10, 20), np.arange(10))


def test_every_error_class_pickles() -> None:
    def tree(cls: type) -> list[type]:
        return [cls, *(leaf for child in cls.__subclasses__() for leaf in tree(child))]

    for cls in tree(zs.ZarrS3Error):
        error = cls("what, where, what to do")
        error.extra = 7
        error.outcome = zs.WriteOutcome(written=((1, 2),))
        for unpickled in (pickle.loads(pickle.dumps(error)), copy.copy(error)):
            assert type(unpickled) is cls
            assert str(unpickled) == "what, where, what to do"
            assert unpickled.__dict__ == error.__dict__


@pytest.mark.parametrize("transport", ["sdk", "wire"])
async def test_missing_on_403_applies_to_chunk_reads_only(transport: str) -> None:
    with FaultServer(buckets=("bucket",)) as server:
        config = server.s3_config(transport=transport, missing_on_403=True)
        async with zs.Session(s3=config) as session:
            array = await session.create_array("s3://bucket/a", shape=(4,), chunks=(2,), dtype="i4", fill_value=7)
            await array.set_slice([1, 2, 3, 4], 0)
            server.cue("GetObject", faults.access_denied, times=1000)
            assert np.array_equal(await array.get_slice(0, 4), [7, 7, 7, 7])
            with pytest.raises(zs.AccessDenied):
                await array.set_slice([9], 1)  # the read of a merge
            with pytest.raises(zs.AccessDenied):
                await session.open_array("s3://bucket/a")
