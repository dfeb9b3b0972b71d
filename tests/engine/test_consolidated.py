"""Consolidated metadata: edits of this session update it, and outdated entries are not used."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import random
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async.testing import Fault, FaultyStore

FORMATS = pytest.mark.parametrize("zarr_format", [2, 3])


@pytest.fixture
def store() -> zs.MemoryStore:
    return zs.MemoryStore()


async def consolidated(session: zs.Session, store: Any, zarr_format: Any) -> zs.Group:
    group = await session.create_group(store, zarr_format=zarr_format)
    await group.create_array("a", shape=(4,), dtype="i4", attributes={"n": 1})
    await group.create_array("deep/er/b", shape=(4,), dtype="i4")
    await group.consolidate()
    return group


async def stored_copy(store: zs.MemoryStore, zarr_format: int) -> dict[str, Any]:
    blob = await store.get({2: ".zmetadata", 3: "zarr.json"}[zarr_format])
    assert blob is not None
    document: dict[str, Any] = json.loads(bytes(blob.data))
    return (document if zarr_format == 2 else document["consolidated_metadata"])["metadata"]  # type: ignore[no-any-return]


async def assert_up_to_date(session: zs.Session, store: zs.MemoryStore, zarr_format: int) -> None:
    """Check that the consolidated copy equals a newly consolidated one."""
    before = await stored_copy(store, zarr_format)
    await (await session.open_group(store, zarr_format=zarr_format)).consolidate()  # type: ignore[arg-type]  # 2 or 3
    assert before == await stored_copy(store, zarr_format)


@FORMATS
async def test_every_edit_of_the_session_updates_consolidated_metadata(
    session: zs.Session, store: zs.MemoryStore, zarr_format: Any
) -> None:
    group = await consolidated(session, store, zarr_format)
    array = await session.open_array(store, path="deep/er/b")  # not through the group
    await array.resize((2,))
    await assert_up_to_date(session, store, zarr_format)
    await array.append(np.ones(3, "i4"))
    await assert_up_to_date(session, store, zarr_format)
    await array.update_attributes({"units": "km"})
    await assert_up_to_date(session, store, zarr_format)
    await (await session.open_group(store, path="deep")).update_attributes({"x": 1})
    await assert_up_to_date(session, store, zarr_format)
    await group.update_attributes({"title": "t"})
    await assert_up_to_date(session, store, zarr_format)
    await session.create_array(store, path="new/in/c", shape=(1,), dtype="i4", zarr_format=zarr_format)
    await assert_up_to_date(session, store, zarr_format)
    await session.create_array(store, path="a", shape=(4,), dtype="f4", zarr_format=zarr_format, overwrite=True)
    await assert_up_to_date(session, store, zarr_format)
    await session.create_array(store, path="new", shape=(4,), dtype="f4", zarr_format=zarr_format, overwrite=True)
    await assert_up_to_date(session, store, zarr_format)
    await session.delete(store, path="deep")
    await assert_up_to_date(session, store, zarr_format)
    assert (await stored_copy(store, zarr_format)).keys() == (
        {"a", "new"} if zarr_format == 3 else {".zgroup", ".zattrs", "a/.zarray", "new/.zarray"}
    )


async def test_consolidated_metadata_above_the_root_of_the_store_is_updated(session: zs.Session) -> None:
    group = await session.create_group("memory://above/g")
    await group.create_array("x/a", shape=(4,), dtype="i4")
    await group.consolidate()
    array = await session.open_array("memory://above/g/x/a")
    await array.append(np.ones(2, "i4"))
    again = await session.open_group("memory://above/g")
    assert (await again.open("x/a")).metadata.shape == (6,)  # type: ignore[union-attr]  # it is an array


@FORMATS
async def test_consolidated_metadata_contains_all_concurrent_edits(
    session: zs.Session, store: zs.MemoryStore, zarr_format: Any
) -> None:
    group = await consolidated(session, store, zarr_format)
    array = await session.open_array(store, path="a")
    await asyncio.gather(
        *(group.create_array(f"n{n}", shape=(n,), dtype="i4") for n in range(1, 8)),
        *((array.append(np.ones(1, "i4"))) for _ in range(5)),
        group.delete("deep"),
    )
    await assert_up_to_date(session, store, zarr_format)


@FORMATS
async def test_a_handle_from_before_an_edit_does_not_use_cached_metadata(
    session: zs.Session, store: zs.MemoryStore, zarr_format: Any
) -> None:
    await consolidated(session, store, zarr_format)
    group = await session.open_group(store)
    deep = await group.open("deep")
    assert isinstance(deep, zs.Group)
    await session.delete(store, path="deep/er/b")
    await session.create_array(store, path="a", shape=(4,), dtype="f4", zarr_format=zarr_format, overwrite=True)
    with pytest.raises(zs.NodeNotFound):
        await group.open("deep/er/b")
    with pytest.raises(zs.NodeNotFound):
        await deep.open("er/b")
    assert not await group.contains("deep/er/b")
    assert (await group.open("a")).metadata.dtype == "f4"  # type: ignore[union-attr]  # it is an array
    await session.create_group(store, path="z", zarr_format=zarr_format)
    assert [name async for name, _ in group.members()] == ["a", "deep", "z"]


async def test_a_walk_sees_an_edit_made_during_it(store: zs.MemoryStore) -> None:
    async with zs.Session(limits=zs.Limits(requests=1)) as session:
        group = await consolidated(session, store, 3)
        await group.create_array("z", shape=(4,), dtype="i4")
        members = (await session.open_group(store)).arrays()
        assert (await anext(members))[0] == "a"
        await session.create_array(store, path="z", shape=(4,), dtype="f8", overwrite=True)
        assert [array.metadata.dtype async for _, array in members] == [np.dtype("f8")]  # type: ignore[union-attr]


@FORMATS
async def test_edits_of_others_are_read_and_reported_on_request(
    session: zs.Session, store: zs.MemoryStore, zarr_format: Any, caplog: pytest.LogCaptureFixture
) -> None:
    group = await consolidated(session, store, zarr_format)
    await group.create_array("gone", shape=(1,), dtype="i4")
    async with zs.Session() as other:
        name = {2: ".zmetadata", 3: "zarr.json"}[zarr_format]
        old = await store.get(name)
        assert old is not None
        await (await other.open_array(store, path="a")).resize((9,))
        await other.create_array(store, path="new", shape=(1,), dtype="i4", zarr_format=zarr_format)
        await other.delete(store, path="gone")
        await store.put(name, old.data)  # as after an edit by a program that does not update it
    async with zs.Session() as reader:
        trusting = await reader.open_group(store)
        assert (await trusting.open("a")).metadata.shape == (4,)  # type: ignore[union-attr]  # documented
        for how in (False, "check"):
            group = await reader.open_group(store, consolidated=how)  # type: ignore[arg-type]  # both values are valid
            with caplog.at_level(logging.WARNING, logger="zarr_s3_async"):
                caplog.clear()
                assert [n async for n, _ in group.members()] == ["a", "deep", "new"]
                assert (await group.open("a")).metadata.shape == (9,)  # type: ignore[union-attr]  # it is an array
                assert (await group.open("deep/er/b")).metadata.shape == (4,)  # type: ignore[union-attr]  # likewise
            warned = [record.getMessage() for record in caplog.records]
            assert all("is outdated" in line for line in warned)
            assert {n for n in ("'a'", "'new'", "'gone'", "'deep'") if any(n in line for line in warned)} == (
                {"'a'", "'new'", "'gone'"} if how == "check" else set()
            )
    with pytest.raises(zs.ConfigError, match="did you mean 'check'"):
        await session.open_group(store, consolidated="chek")  # type: ignore[arg-type]  # a typo


async def test_write_protected_consolidated_metadata_is_reported_and_the_edit_succeeds(
    session: zs.Session, store: zs.MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    await consolidated(session, store, 3)
    write_protected = FaultyStore(
        store, Fault(verb="put", key="zarr.json", times=None, error=lambda: zs.AccessDenied("no"))
    )
    array = await session.open_array(write_protected, path="a")
    with caplog.at_level(logging.WARNING, logger="zarr_s3_async"):
        await array.resize((7,))
    assert "consolidated metadata that is outdated now" in caplog.text
    assert (await session.open_array(store, path="a")).shape == (7,)


async def test_consolidated_metadata_in_an_unknown_state_raises_an_error_with_a_remedy(
    session: zs.Session, store: zs.MemoryStore
) -> None:
    await consolidated(session, store, 3)
    broken = FaultyStore(store, Fault(verb="put", key="zarr.json", times=None, error=lambda: zs.NetworkError("reset")))
    array = await session.open_array(broken, path="a")
    with pytest.raises(zs.NetworkError) as caught:
        await array.resize((7,))
    assert "consolidate()" in "".join(caught.value.__notes__)


async def test_a_member_with_an_unknown_codec_hides_no_sibling(session: zs.Session, store: zs.MemoryStore) -> None:
    group = await consolidated(session, store, 3)
    blob = await store.get("a/zarr.json")
    assert blob is not None
    document = json.loads(bytes(blob.data))
    document["codecs"] = [document["codecs"][0], {"name": "nope"}]
    await store.put("b/zarr.json", json.dumps(document).encode())
    await group.consolidate()
    for copies in (True, False):
        opened = await session.open_group(store, consolidated=copies)
        found = {name: node async for name, node in opened.members()}
        assert list(found) == ["a", "b", "deep"]
        assert isinstance(found["b"], zs.UnreadableNode)
        assert found["b"].kind == "array"
        assert f"{store.url}/b" in str(found["b"].error)
        assert "'nope'" in str(found["b"].error)
        assert [name async for name, _ in opened.arrays()] == ["a", "b"]


UNREADABLE = {
    "type": (b'{"zarr_format": 3, "node_type": "array", "shape": [2], "data_type": "quaternion"}', "array"),
    "member": (b'{"zarr_format": 3, "node_type": "group", "x": {"must_understand": true}}', "group"),
    "damaged": (b"no JSON at all", None),
}


async def with_unreadable(session: zs.Session, store: zs.MemoryStore) -> zs.Group:
    group = await session.create_group(store)
    await group.create_array("a", shape=(1,), dtype="i4")
    await group.create_group("z")
    for name, (document, _) in UNREADABLE.items():
        await store.put(f"{name}/zarr.json", document)
    return group


async def test_an_unreadable_member_hides_no_sibling(session: zs.Session, store: zs.MemoryStore) -> None:
    group = await with_unreadable(session, store)
    found = {name: node async for name, node in group.members()}
    assert list(found) == ["a", "damaged", "member", "type", "z"]
    for name, (_, kind) in UNREADABLE.items():
        node = found[name]
        assert isinstance(node, zs.UnreadableNode)
        assert node.kind == kind
        assert f"{store.url}/{name}" in str(node.error)
        with pytest.raises(type(node.error)):
            await group.open(name)
    assert [name async for name, _ in group.arrays()] == ["a", "type"]
    assert [name async for name, _ in group.groups()] == ["member", "z"]
    tree = str(await group.tree())
    assert "damaged (unreadable:" in tree
    assert tree.endswith("z")


async def test_a_group_with_unreadable_members_is_consolidated(
    session: zs.Session, store: zs.MemoryStore, caplog: pytest.LogCaptureFixture
) -> None:
    group = await with_unreadable(session, store)
    with caplog.at_level(logging.WARNING, logger="zarr_s3_async"):
        await group.consolidate()
    assert "damaged/zarr.json" in caplog.text
    assert list(await stored_copy(store, 3)) == ["a", "member", "type", "z"]
    again = await session.open_group(store)
    found = {name: node async for name, node in again.members()}
    assert isinstance(found["type"], zs.UnreadableNode)
    assert isinstance(found["a"], zs.Array)


async def test_a_member_without_read_permission_is_reported_and_hides_no_sibling(
    session: zs.Session, store: zs.MemoryStore
) -> None:
    await consolidated(session, store, 3)
    write_protected = FaultyStore(store, Fault(verb="get", key="a/*", times=None, error=lambda: zs.AccessDenied("no")))
    group = await session.open_group(write_protected, consolidated=False)
    found = {name: node async for name, node in group.members()}
    assert isinstance(found["a"], zs.UnreadableNode)
    assert isinstance(found["deep"], zs.Group)
    with pytest.raises(zs.AccessDenied):
        await group.consolidate()


async def test_listing_the_members_of_a_big_group_yields_to_the_loop(
    session: zs.Session, store: zs.MemoryStore
) -> None:
    group = await session.create_group(store)
    for n in range(0, 600, 100):
        await asyncio.gather(*(group.create_array(f"a{i:03}", shape=(1,), dtype="i4") for i in range(n, n + 100)))
    await group.consolidate()
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counter = asyncio.create_task(count())  # noqa: TID251, RUF100  # tests may start tasks
    await asyncio.sleep(0)
    before = turns
    assert len([name async for name, _ in group.members()]) == 600
    counter.cancel()
    assert turns - before >= 600 // 64


@pytest.mark.integration
@FORMATS
async def test_edits_and_removals_update_consolidated_metadata_on_an_s3_server(
    seaweed: Any, s3_url: str, zarr_format: Any
) -> None:
    async with zs.Session(s3=seaweed.s3_config()) as session:
        group = await session.create_group(f"{s3_url}/g", zarr_format=zarr_format)
        array = await session.create_array(f"{s3_url}/g/a", shape=(4,), dtype="i4", zarr_format=zarr_format)
        await group.create_array("deep/b", shape=(4,), dtype="i4")
        await group.consolidate()
        await array.append(np.ones(2, "i4"))
        await session.store(f"{s3_url}/g").put("notes.txt", b"mine")
        again = await session.open_group(f"{s3_url}/g")
        assert (await again.open("a")).metadata.shape == (6,)  # type: ignore[union-attr]  # it is an array
        await again.delete("deep")
        assert [name async for name, _ in (await session.open_group(f"{s3_url}/g")).members()] == ["a"]
        await session.delete(f"{s3_url}/g")
        with pytest.raises(zs.NodeNotFound, match=r"notes\.txt"):
            await session.delete(f"{s3_url}/g")
        assert [entry.key async for entry in session.store(f"{s3_url}/g").list_prefix()] == ["notes.txt"]


@FORMATS
async def test_consolidated_metadata_is_correct_after_an_append_and_a_shrink_that_fail(
    session: zs.Session, store: zs.MemoryStore, zarr_format: Any
) -> None:
    await consolidated(session, store, zarr_format)
    broken = FaultyStore(
        store,
        Fault(verb="put", key="a/*0*", times=None, error=lambda: zs.NetworkError("reset")),
        Fault(verb="delete_many", times=None, error=lambda: zs.NetworkError("reset")),
    )
    array = await session.open_array(broken, path="a")
    with pytest.raises(zs.NetworkError):
        await array.append(np.ones(40, "i4"))
    await assert_up_to_date(session, store, zarr_format)
    await (await session.open_array(store, path="a")).append(np.ones(40, "i4"))
    await array.refresh()
    with pytest.raises(zs.NetworkError):
        await array.resize((0,))
    assert (await session.open_array(store, path="a")).shape == (0,)
    await assert_up_to_date(session, store, zarr_format)


async def change_at_random(session: zs.Session, store: zs.MemoryStore, rng: random.Random) -> None:
    path = rng.choice(["x", "y", "g/x", "g/y"])
    kind = rng.random()
    with contextlib.suppress(zs.NodeError, zs.ConcurrentModification):  # another session was first, or removed it
        if kind < 0.3:
            dtype, overwrite = rng.choice(["i4", "f4"]), rng.random() < 0.5
            await session.create_array(store, path=path, shape=(2,), chunks=(2,), dtype=dtype, overwrite=overwrite)
        elif kind < 0.55:
            await session.delete(store, path=path)
        elif kind < 0.8:
            await (await session.open_array(store, path=path)).append(np.ones(1))
        else:
            await (await session.open_array(store, path=path)).update_attributes({"k": rng.random()})


@pytest.mark.parametrize("seed", range(12))
async def test_concurrent_edits_of_two_sessions_leave_consolidated_metadata_correct(
    store: zs.MemoryStore, seed: int
) -> None:
    rng = random.Random(seed)
    async with zs.Session() as one, zs.Session() as other:
        group = await one.create_group(store)
        await group.create_array("s", shape=(2,), dtype="i4")
        await group.consolidate()

        async def work(session: zs.Session) -> None:
            for _ in range(12):
                await change_at_random(session, store, rng)

        await asyncio.gather(*(work(session) for session in (one, other) for _ in range(3)))
        copy_of = await stored_copy(store, 3)
        await (await one.open_group(store)).consolidate()
        stored = await stored_copy(store, 3)
    assert copy_of == stored
