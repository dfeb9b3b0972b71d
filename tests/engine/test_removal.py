"""Deleting and overwriting nodes: their objects are removed, others stay, and no old object is adopted."""

from __future__ import annotations

import asyncio
import logging
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs
from tests.servers import faults
from tests.servers.fault_server import FaultServer
from zarr_s3_async.testing import Fault, FaultyStore

FORMATS = pytest.mark.parametrize("zarr_format", [2, 3])


async def keys(store: zs.MemoryStore) -> list[str]:
    return [entry.key async for entry in store.list_prefix()]


async def ones(session: zs.Session, store: Any, **options: Any) -> zs.Array:
    array = await session.create_array(store, shape=(4,), chunks=(2,), dtype="i4", **options)
    await array.set_slice(np.ones(4, "i4"), start=0)
    return array


async def test_a_prefix_without_a_node_is_not_deleted(session: zs.Session) -> None:
    store = zs.MemoryStore()
    await store.put("data/precious.csv", b"1")
    with pytest.raises(zs.NodeNotFound, match=r"precious.csv.*everything=True"):
        await session.delete(store, path="data")
    with pytest.raises(zs.NodeNotFound, match=r"data/precious.csv"):
        await session.delete(store)
    assert await keys(store) == ["data/precious.csv"]
    await session.delete(store, path="data", everything=True)
    assert await keys(store) == []
    await session.delete(store, path="data")  # an empty prefix is no error


async def test_overwrite_does_not_remove_a_prefix_without_a_node(session: zs.Session) -> None:
    store = zs.MemoryStore()
    await store.put("data/precious.csv", b"1")
    for create in (
        session.create_array(store, path="data", shape=(1,), dtype="i4", overwrite=True),
        session.create_group(store, path="data", overwrite=True),
    ):
        with pytest.raises(zs.NodeExists, match=r"precious.csv"):
            await create
    assert await keys(store) == ["data/precious.csv"]


@FORMATS
async def test_delete_keeps_and_reports_objects_that_belong_to_no_node(
    session: zs.Session, caplog: pytest.LogCaptureFixture, zarr_format: Any
) -> None:
    store = zs.MemoryStore()
    group = await session.create_group(store, path="g", zarr_format=zarr_format)
    await ones(session, store, path="g/a", zarr_format=zarr_format)
    await group.create_group("deep/er")
    others = ["g/a/README.md", "g/notes/zarr.txt", "g/notes/2024.01", "other/x"]
    for key in others:
        await store.put(key, b"x")
    with caplog.at_level(logging.WARNING, logger="zarr_s3_async"):
        await session.delete(store, path="g")
    document = "zarr.json" if zarr_format == 3 else ".zgroup"
    assert await keys(store) == sorted([document, *others])
    assert "g/a/README.md" in caplog.text


class Bucket(zs.MemoryStore):
    """A store whose root is the root of a bucket."""

    @property
    def url(self) -> str:
        return "s3://bucket"


async def test_the_root_of_an_access_point_is_treated_as_a_whole_bucket(session: zs.Session) -> None:
    point = "arn:aws:s3:eu-west-1:123456789012:accesspoint/mine"
    for url in (f"s3://{point}", f"s3://{point}/", "s3://bucket", "s3://bucket/"):
        with pytest.raises(zs.ConfigError, match="whole bucket"):
            await session.delete(url)


async def test_the_objects_of_a_whole_bucket_are_deleted_only_node_by_node(session: zs.Session) -> None:
    store = Bucket()
    await ones(session, store, path="a")  # with a group at the root
    before = await keys(store)
    with pytest.raises(zs.ConfigError, match="whole bucket"):
        await session.delete(store)
    with pytest.raises(zs.ConfigError, match="whole bucket"):
        await session.create_group(store, overwrite=True)
    with pytest.raises(zs.ConfigError, match="everything"):
        await session.delete(store, everything="yes")  # type: ignore[arg-type]  # not a bool
    assert await keys(store) == before
    await session.delete(store, everything=True)
    assert await keys(store) == []
    await ones(session, store)
    await ones(session, store, overwrite=True)  # an array contains no other objects


@FORMATS
async def test_folder_markers_are_deleted_with_the_node_and_are_not_a_node(
    session: zs.Session, zarr_format: Any
) -> None:
    store = zs.MemoryStore()
    for key in ("a/", "a/c/", "a/0/"):
        await store.put(key, b"")
    assert not await session.exists(store, path="a")
    await session.delete(store, path="a")  # only folder markers: the node is absent
    await ones(session, store, path="a", zarr_format=zarr_format)
    again = await session.create_array(store, path="a", shape=(4,), dtype="i4", overwrite=True, zarr_format=zarr_format)
    assert (await again[:]).tolist() == [0] * 4
    await session.create_group(store, path="g", zarr_format=zarr_format)
    await store.put("g/", b"")
    await store.put("g/folder/", b"")
    assert [name async for name, _ in (await session.open_group(store, path="g")).members()] == []
    for path in ("a", "g"):
        await session.delete(store, path=path)
    assert not [key for key in await keys(store) if "/" in key]


@pytest.mark.parametrize("fault", [None, faults.refuse(501, "NotImplemented")], ids=["many at once", "one by one"])
@pytest.mark.parametrize("transport", ["wire", "sdk"])
async def test_a_marker_of_the_folder_that_the_url_names_is_no_foreign_object(transport: Any, fault: Any) -> None:
    """Consoles store one when a folder is created; its key is the store's prefix and a slash."""
    with FaultServer() as server:
        if fault is not None:
            server.cue("DeleteObjects", fault, times=100)
        server.put("data", "g/a/", b"")
        async with zs.Session(s3=server.s3_config(transport=transport)) as session:
            url = "s3://data/g/a"
            assert not await session.exists(url)
            array = await session.create_array(url, shape=(4,), dtype="i4", overwrite=True)
            await array[:].set(1)
            await session.delete(url)
            assert server.get("data", "g/a/") is None
            for _ in range(2):
                server.put("data", "g/a/", b"")
                server.put("data", "g/a/other", b"x")
                await session.delete(url, everything=True)
                assert server.get("data", "g/a/") is None
                assert server.get("data", "g/a/other") is None


STOPS: list[tuple[str, Any]] = [
    ("refused", lambda: zs.AccessDenied("no")),
    ("reset", lambda: zs.NetworkError("reset")),
    ("cancelled", asyncio.CancelledError),
]


@FORMATS
@pytest.mark.parametrize("error", [stop[1] for stop in STOPS], ids=[stop[0] for stop in STOPS])
async def test_a_delete_that_fails_half_way_leaves_no_readable_node_and_explains_how_to_continue(
    session: zs.Session, zarr_format: Any, error: Any
) -> None:
    inner = zs.MemoryStore()
    await ones(session, inner, path="a", zarr_format=zarr_format)
    store = FaultyStore(inner, Fault(verb="delete_many", nth=2, times=None, error=error))
    with pytest.raises((zs.StoreError, asyncio.CancelledError)) as caught:
        await session.delete(store, path="a")
    assert "everything=True" in "".join(caught.value.__notes__)
    left = [key for key in await keys(inner) if key.startswith("a/")]
    assert left
    assert not await session.exists(inner, path="a")
    with pytest.raises(zs.NodeExists, match="everything=True"):
        await session.create_array(inner, path="a", shape=(4,), chunks=(2,), dtype="i4", zarr_format=zarr_format)
    await session.delete(inner, path="a", everything=True)
    array = await session.create_array(inner, path="a", shape=(4,), chunks=(2,), dtype="i4", zarr_format=zarr_format)
    assert (await array[:]).tolist() == [0] * 4


@FORMATS
async def test_a_group_delete_that_fails_half_way_leaves_no_array_without_its_chunks(
    session: zs.Session, zarr_format: Any
) -> None:
    inner = zs.MemoryStore()
    group = await session.create_group(inner, path="g", zarr_format=zarr_format)
    for name in ("a", "deep/b"):
        await ones(session, inner, path=f"g/{name}", zarr_format=zarr_format)
    await group.consolidate()
    total = 12
    for nth in range(1, total):
        copy = zs.MemoryStore()
        for key in await keys(inner):
            blob = await inner.get(key)
            assert blob is not None
            await copy.put(key, blob.data)
        store = FaultyStore(copy, Fault(verb="delete_many", nth=nth, times=None, error=lambda: zs.AccessDenied("no")))
        try:
            await session.delete(store, path="g")
        except zs.AccessDenied:
            pass
        else:
            break
        if await session.exists(copy, path="g"):
            seen = await session.open_group(copy, path="g")
            for name in ("a", "deep/b"):
                if await seen.contains(name):
                    assert (await (await seen.open(name))[:]).tolist() == [1] * 4  # type: ignore[union-attr, index]
        await session.delete(copy, path="g", everything=True)
        assert not [key for key in await keys(copy) if key.startswith("g/")]
    else:
        raise AssertionError(f"more than {total} deletes")


@FORMATS
@pytest.mark.parametrize("chunk", [{}, {"chunk_key_encoding": "v2"}], ids=["default", "v2-keys"])
async def test_chunks_of_an_earlier_array_are_not_adopted(session: zs.Session, zarr_format: Any, chunk: Any) -> None:
    options = chunk if zarr_format == 3 else {"dimension_separator": "/"} if chunk else {}
    store = zs.MemoryStore()
    await ones(session, store, zarr_format=zarr_format, **options)
    for name in ("zarr.json", ".zarray", ".zattrs"):
        await store.delete(name)
    with pytest.raises(zs.NodeExists, match="but chunks such as"):
        await session.create_array(store, shape=(8,), dtype="i4", zarr_format=zarr_format, **options)
    with pytest.raises(zs.NodeExists):
        await session.create_array(store, shape=(8,), dtype="i4", zarr_format=zarr_format, overwrite=True, **options)
    await store.put("README", b"x")
    await session.delete(store, everything=True)
    await store.put("README", b"x")  # not a chunk of any array
    await session.create_array(store, shape=(8,), dtype="i4", zarr_format=zarr_format, **options)


async def test_creating_a_node_lists_one_page(session: zs.Session) -> None:
    store = FaultyStore(zs.MemoryStore())
    await session.create_array(store, shape=(4,), dtype="i4")
    assert store.count("list_prefix") == 1
    assert store.count("list_dir") == 0


@pytest.mark.parametrize("what", ["array", "group"])
@FORMATS
async def test_nothing_is_created_below_an_array_by_its_full_url(
    session: zs.Session, zarr_format: Any, what: str
) -> None:
    await session.create_array("memory://b/x/a", shape=(1,), dtype="i4", zarr_format=zarr_format)
    for url in ("memory://b/x/a/b", "memory://b/x/a/b/c/d"):
        made = session.create_array(url, shape=(1,), dtype="i4") if what == "array" else session.create_group(url)
        with pytest.raises(zs.NodeExists, match="x/a is an array"):
            await made
    await session.create_array("memory://b/x/b", shape=(1,), dtype="i4")


async def test_an_unreadable_parent_folder_does_not_prevent_creating_an_array(session: zs.Session) -> None:
    class WithUnreadableParent(zs.MemoryStore):
        def parent(self) -> Any:
            return FaultyStore(zs.MemoryStore(), Fault(times=None, error=lambda: zs.AccessDenied("no"))), "mine"

    await session.create_array(WithUnreadableParent(), shape=(1,), dtype="i4")


UNKNOWN = [
    b'{"zarr_format": 3, "node_type": "array", "shape": [2], "data_type": "quaternion"}',
    b'{"zarr_format": 3, "node_type": "group", "attributes": {}, "must": {"must_understand": true}}',
    b"no JSON at all",
]


@pytest.mark.parametrize("document", UNKNOWN, ids=["type", "member", "damaged"])
async def test_a_node_of_an_unsupported_type_exists(session: zs.Session, document: bytes) -> None:
    store = zs.MemoryStore()
    group = await session.create_group(store)
    await store.put("x/zarr.json", document)
    assert await session.exists(store, path="x")
    assert await group.contains("x")
    with pytest.raises(zs.NodeExists):
        await session.create_array(store, path="x", shape=(1,), dtype="i4")
    with pytest.raises(zs.NodeExists):
        await group.create_group("x")
    await group.create_array("x", shape=(1,), dtype="i4", overwrite=True)
    assert (await group.open("x")).metadata.zarr_format == 3


async def test_creating_below_an_array_of_an_unsupported_type_is_refused(session: zs.Session) -> None:
    store = zs.MemoryStore()
    await store.put("x/zarr.json", UNKNOWN[0])
    with pytest.raises(zs.NodeExists, match="array that cannot be read here"):
        await session.create_array(store, path="x/below", shape=(1,), dtype="i4")


async def test_attributes_set_while_a_v2_array_is_created_are_kept(session: zs.Session) -> None:
    store = FaultyStore(zs.MemoryStore())

    async def set_one() -> None:
        other = await session.open_array(store.inner)
        await other.update_attributes({"theirs": 1, "both": "theirs"})

    store.add(Fault(verb="put", key=".zattrs", meanwhile=set_one))
    await session.create_array(store, shape=(1,), dtype="i4", zarr_format=2, attributes={"ours": 2, "both": "ours"})
    opened = await session.open_array(store.inner)
    assert dict(opened.attrs) == {"theirs": 1, "both": "theirs", "ours": 2}


async def test_attributes_that_an_earlier_v2_array_left_are_not_adopted(session: zs.Session) -> None:
    for attributes in (None, {"a": 1}):
        store = zs.MemoryStore()
        await store.put(".zattrs", b'{"left": true}')
        await session.create_array(store, shape=(1,), dtype="i4", zarr_format=2, attributes=attributes)
        assert dict((await session.open_array(store)).attrs) == (attributes or {})


def act_of(session: zs.Session, store: zs.MemoryStore, what: str, zarr_format: Any) -> Any:
    new = {"shape": (4,), "chunks": (2,), "dtype": "f8", "zarr_format": zarr_format, "attributes": {"a": 1}}
    match what:
        case "delete":
            return session.delete(store, path="g/a")
        case "delete group":
            return session.delete(store, path="g")
        case "delete everything":
            return session.delete(store, path="g", everything=True)
        case "overwrite":
            return session.create_array(store, path="g/a", overwrite=True, **new)
    return session.create_array(store, path="new/c", **new)


@pytest.mark.parametrize(
    ("what", "zarr_format"),
    [("delete", 3), ("delete group", 2), ("delete everything", 3), ("overwrite", 2), ("create", 2)],
)
async def test_a_removal_cancelled_at_any_await_leaves_no_wrong_data_and_no_outdated_metadata(
    session: zs.Session, zarr_format: Any, what: str
) -> None:
    for turns in range(200):
        store = zs.MemoryStore()
        group = await session.create_group(store, zarr_format=zarr_format)
        for path in ("g/a", "g/deep/b"):
            await ones(session, store, path=path, zarr_format=zarr_format)
        await group.consolidate()
        acting = asyncio.ensure_future(act_of(session, store, what, zarr_format))
        for _ in range(turns):
            await asyncio.sleep(0)
        ended = acting.done()
        acting.cancel()
        await asyncio.wait([acting])
        for copies in (True, False):
            seen = await session.open_group(store, zarr_format=zarr_format, consolidated=copies)
            for path in ("g/a", "g/deep/b", "new/c"):
                if not await seen.contains(path):
                    continue
                assert await session.exists(store, path=path)
                array = await seen.open(path)
                assert isinstance(array, zs.Array)
                assert (await array[:]).tolist() == ([1] * 4 if array.dtype == "i4" else [0] * 4)
        if ended:
            return
    raise AssertionError("it did not end")


async def test_a_node_created_during_the_removal_of_the_old_one_is_kept(session: zs.Session) -> None:
    inner = zs.MemoryStore()
    await session.create_array(inner, path="a", shape=(4,), dtype="i4")
    store = FaultyStore(inner)

    async def create() -> None:
        async with zs.Session() as other:
            await other.create_array(inner, path="a", shape=(7,), dtype="f8")

    store.add(Fault(verb="list_prefix", key="a/*", meanwhile=create))  # the documents are already deleted
    await session.delete(store, path="a")
    assert (await session.open_array(inner, path="a")).shape == (7,)
