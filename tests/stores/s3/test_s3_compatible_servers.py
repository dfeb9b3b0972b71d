"""S3-compatible servers in use: without DeleteObjects, without newer checksums, with weak ETags."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async._types import Version

from ...servers import faults
from ...servers.fault_server import FaultServer
from ...servers.faults import Fault

TRANSPORTS = pytest.mark.parametrize("transport", ["wire", "sdk"])
FOREVER = 10**6


@pytest.fixture
def server() -> Iterator[FaultServer]:
    with FaultServer() as running:
        yield running


def config(server: FaultServer, **options: Any) -> zs.S3Config:
    return zs.S3Config(
        **{
            "endpoint_url": server.endpoint_url,
            "region": "us-east-1",
            "access_key_id": "key",
            "secret_access_key": "secret",
            **options,
        }
    )


NO_BULK_DELETE = [
    faults.refuse(501, "NotImplemented"),
    faults.refuse(400, "NotImplemented"),
    faults.refuse(400, "InvalidArgument"),
    faults.refuse(405, "MethodNotAllowed"),
]


@TRANSPORTS
@pytest.mark.parametrize("refusal", NO_BULK_DELETE, ids=[fault.__name__ for fault in NO_BULK_DELETE])
async def test_without_delete_objects_keys_are_deleted_one_by_one_from_then_on(
    server: FaultServer, transport: Any, refusal: Fault
) -> None:
    server.cue("DeleteObjects", refusal, times=FOREVER)
    async with zs.Session(s3=config(server, transport=transport)) as session:
        store = session.s3("data", "p")
        keys = [f"k{n}" for n in range(70)]
        for key in keys:
            await store.put(key, b"x")
        await store.delete_many([*keys, "never there"])
        assert [entry.key async for entry in store.list_prefix()] == []
        assert server.count("DeleteObjects") == 1
        await session.s3("data", "q").delete_many(["k"])
        assert server.count("DeleteObjects") == 1
        array = await session.create_array(store, shape=(8,), chunks=(2,), dtype="i4")
        await array[:].set(1)
        await array.resize((2,))
        again = await session.create_array(store, shape=(8,), chunks=(2,), dtype="i4", overwrite=True)
        assert (await again[:]).tolist() == [0] * 8
        await session.delete(store)
        assert [entry.key async for entry in store.list_prefix()] == []


@TRANSPORTS
async def test_a_refusal_of_delete_objects_is_an_error_and_is_not_cached(server: FaultServer, transport: Any) -> None:
    server.cue("DeleteObjects", faults.access_denied)
    async with zs.Session(s3=config(server, transport=transport)) as session:
        store = session.s3("data")
        with pytest.raises(zs.AccessDenied):
            await store.delete_many(["k"])
        await store.delete_many(["k"])
        assert server.count("DeleteObjects") == 2
        assert server.count("DeleteObject") == 0


@TRANSPORTS
@pytest.mark.parametrize("checksums", ["auto", "off"])
async def test_no_operation_sends_checksum_headers_to_custom_endpoints(
    server: FaultServer, transport: Any, checksums: Any
) -> None:
    options = {"checksums": checksums, "multipart_bytes": 6 * 2**20, "part_bytes": 5 * 2**20}
    async with zs.Session(s3=config(server, transport=transport, **options)) as session:
        store = session.s3("data", "p")
        version = await store.put("k", b"x", when="absent")
        version = await store.put("k", b"xyz", when=version)
        await store.put("big", bytes(7 * 2**20))
        await store.get("k")
        await store.get("k", range=zs.Span(0, 2), version=version)
        await store.list_dir()
        await store.delete("k", when=version)
        await store.delete("big")
        await store.delete_many(["k"])
    seen = {received.operation for received in server.seen}
    assert seen >= {"PutObject", "GetObject", "ListObjectsV2", "DeleteObject", "DeleteObjects", "UploadPart"}
    for received in server.seen:
        names = {name.lower() for name in received.request.headers}
        newer = {name for name in names if name.startswith(("x-amz-checksum", "x-amz-sdk-checksum", "x-amz-trailer"))}
        assert not newer, received.operation
        assert ("content-md5" in names) == (received.operation == "DeleteObjects")


@TRANSPORTS
@pytest.mark.parametrize("kind", ["array", "group"])
async def test_forbidden_optional_documents_are_absent_with_the_option(
    server: FaultServer, transport: Any, kind: str
) -> None:
    async with zs.Session(s3=config(server, transport=transport)) as session:
        store = session.s3("data", "p")
        if kind == "array":
            array = await session.create_array(store, shape=(4,), chunks=(2,), dtype="i4", zarr_format=2)
            await array[:2].set(1)
        else:
            await session.create_group(store, zarr_format=2)
    absent = (".zattrs", ".zmetadata", "zarr.json", "/1", ".zgroup" if kind == "array" else ".zarray")
    for name in absent:  # without permission to list, S3 answers 403 for absent keys
        server.cue("GetObject", faults.access_denied, key=name, times=FOREVER)
    async with zs.Session(s3=config(server, transport=transport, missing_on_403=True)) as session:
        store = session.s3("data", "p")
        if kind == "array":
            opened = await session.open_array(store, zarr_format=2)
            assert (await opened[:]).tolist() == [1, 1, 0, 0]
            assert isinstance(await session.open(store, zarr_format=2), zs.Array)
        else:
            assert dict((await session.open_group(store, zarr_format=2)).attrs) == {}
            assert isinstance(await session.open(store, zarr_format=2), zs.Group)
        with pytest.raises(zs.AccessDenied):  # the required document is never taken for absent
            await session.open(store)
    async with zs.Session(s3=config(server, transport=transport)) as session:
        with pytest.raises(zs.AccessDenied):
            await session.open_array(session.s3("data", "p"), zarr_format=2)


@TRANSPORTS
async def test_forbidden_attributes_are_not_edited_as_if_they_were_absent(server: FaultServer, transport: Any) -> None:
    async with zs.Session(s3=config(server, transport=transport)) as session:
        store = session.s3("data", "p")
        await session.create_array(store, shape=(4,), dtype="i4", zarr_format=2, attributes={"kept": 1})
        server.cue("GetObject", faults.access_denied, key=".zattrs", times=4)
        async with zs.Session(s3=config(server, transport=transport, missing_on_403=True)) as lenient:
            array = await lenient.open_array(lenient.s3("data", "p"), zarr_format=2)
            with pytest.raises(zs.AccessDenied):
                await array.update_attributes({"new": 2})
        server.forget()
        assert dict((await session.open_array(store)).attrs) == {"kept": 1}


@TRANSPORTS
async def test_a_server_that_never_accepts_the_right_version_is_detected_by_the_probe(
    server: FaultServer, transport: Any
) -> None:
    """SeaweedFS 3.97, or a proxy that rewrites ETags: otherwise a merge would fail 32 times with a conflict."""

    def mismatch(exchange: Any) -> None:
        has_condition = "if-match" in exchange.request.headers
        (faults.precondition_failed if has_condition else type(exchange).reply)(exchange)

    server.cue("PutObject", mismatch, times=FOREVER)
    async with zs.Session(s3=config(server, transport=transport)) as session:
        store = session.s3("data", "p")
        array = await session.create_array(store, shape=(4,), chunks=(4,), dtype="i4", compressor=None)
        await array[0:1].set(1)
        with pytest.warns(RuntimeWarning, match="no conditional writes"):
            await array[1:2].set(7)
        await array[1:2].set(2)
        assert (await array[:]).tolist() == [1, 2, 0, 0]
        await array.update_attributes({"a": 1})
    async with zs.Session(s3=config(server, transport=transport, conditional_writes="require")) as session:
        array = await session.open_array(session.s3("data", "p"))
        with pytest.raises(zs.Unsupported):
            await array[0:1].set(5)


@TRANSPORTS
async def test_a_weak_etag_is_sent_back_as_a_strong_one(server: FaultServer, transport: Any) -> None:
    async with zs.Session(s3=config(server, transport=transport)) as session:
        store = session.s3("data", "p")
        version = await store.put("k", b"1")
        made_weak = Version(f"W/{version}")
        blob = await store.get("k", version=made_weak)
        assert blob is not None
        version = await store.put("k", b"2", when=made_weak)
        with pytest.raises(zs.Conflict):
            await store.put("k", b"3", when=made_weak)
        await store.delete("k", when=Version(f"W/{version}"))
        assert await store.get("k") is None


@TRANSPORTS
async def test_the_error_does_not_blame_other_writers_if_none_wrote(server: FaultServer, transport: Any) -> None:
    retry = zs.RetryPolicy(conflict_attempts=3, base_delay=0.001)
    async with zs.Session(s3=config(server, transport=transport), retry=retry) as session:
        array = await session.create_array(
            session.s3("data", "p"), shape=(4,), chunks=(4,), dtype="i4", compressor=None
        )
        await array[0:1].set(1)

        def mismatch(exchange: Any) -> None:
            has_condition = "if-match" in exchange.request.headers
            (faults.precondition_failed if has_condition else type(exchange).reply)(exchange)

        server.cue("PutObject", mismatch, times=FOREVER)
        for act in (lambda: array[1:2].set(np.int32(2)), lambda: array.update_attributes({"a": 1})):
            with pytest.raises(zs.ConcurrentModification, match=r"same version .* refuses the version that it gave"):
                await act()
