"""Groups contain arrays and groups: members are listed once, opened concurrently, and consolidated into one request."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from typing import Any

import pytest

import zarr_s3_async as zs

FORMATS = pytest.mark.parametrize("zarr_format", [2, 3])


class Counting(zs.MemoryStore):
    """Counts gets and listings."""

    def __init__(self) -> None:
        super().__init__()
        self.calls: Counter[str] = Counter()

    async def get(self, key: str, **options: Any) -> Any:  # type: ignore[override]  # handed on as it is
        self.calls["get"] += 1
        return await super().get(key, **options)

    async def list_dir(self, prefix: str = "") -> zs.Listing:
        self.calls["list"] += 1
        return await super().list_dir(prefix)


@FORMATS
async def test_members_are_sorted_and_have_their_kinds(session: zs.Session, zarr_format: Any) -> None:
    group = await session.create_group("memory://g", attributes={"title": "x"}, zarr_format=zarr_format)
    await group.create_array("b", shape=(3,), dtype="i4", fill_value=1)
    await group.create_group("a")
    await group.create_array("deep/er/c", shape=(3,), dtype="i4")
    assert [(name, type(node).__name__) async for name, node in group.members()] == [
        ("a", "Group"),
        ("b", "Array"),
        ("deep", "Group"),
    ]
    assert [name async for name, _ in group.arrays()] == ["b"]
    assert [name async for name, _ in group.groups()] == ["a", "deep"]
    again = await session.open_group("memory://g")
    assert dict(again.attrs) == {"title": "x"}
    array = await again.open("deep/er/c")
    assert isinstance(array, zs.Array)
    assert array.metadata.zarr_format == zarr_format
    assert await group.contains("deep/er")
    assert not await group.contains("nothing")
    await group.delete("deep")
    assert not await group.contains("deep/er/c")


@FORMATS
async def test_the_members_of_a_big_group_are_listed_once(session: zs.Session, zarr_format: Any) -> None:
    store = Counting()
    group = await session.create_group(store, zarr_format=zarr_format)
    await asyncio.gather(*(group.create_array(f"a{n:03}", shape=(2,), dtype="i4") for n in range(150)))
    store.calls.clear()
    assert len([name async for name, _ in group.arrays()]) == 150
    assert store.calls["list"] == 1


@FORMATS
async def test_a_consolidated_group_of_100_arrays_takes_one_request(session: zs.Session, zarr_format: Any) -> None:
    store = Counting()
    group = await session.create_group(store, zarr_format=zarr_format)
    for n in range(100):
        await group.create_array(f"g{n % 3}/a{n:03}", shape=(n + 1,), dtype="i4", attributes={"n": n})
    await group.consolidate()
    store.calls.clear()
    again = await session.open_group(store, zarr_format=zarr_format)
    assert sum(store.calls.values()) == 1
    found = {}
    async for _, below in again.groups():
        async for name, array in below.arrays():
            found[name] = (array.shape, dict(array.attrs))
    assert found == {f"a{n:03}": ((n + 1,), {"n": n}) for n in range(100)}
    await again.open("g0/a000")
    assert sum(store.calls.values()) == 1


async def test_members_missing_in_consolidated_metadata_are_looked_up(session: zs.Session) -> None:
    group = await session.create_group("memory://g")
    await group.create_array("old", shape=(2,), dtype="i4")
    await group.consolidate()
    store = session.store("memory://g")
    old = await store.get("zarr.json")
    assert old is not None
    await group.create_array("new", shape=(2,), dtype="i4")
    await store.put("zarr.json", old.data)  # as after an edit by a program that does not update it
    again = await session.open_group("memory://g")
    assert [name async for name, _ in again.members()] == ["old"]
    assert (await again.open("new")).path == "new"
    await again.consolidate()
    assert [name async for name, _ in again.members()] == ["new", "old"]


@FORMATS
async def test_an_edit_of_attributes_updates_consolidated_metadata(session: zs.Session, zarr_format: Any) -> None:
    group = await session.create_group("memory://g", zarr_format=zarr_format)
    await group.create_array("a", shape=(2,), dtype="i4")
    await group.consolidate()
    others = [await session.open_group("memory://g") for _ in range(4)]
    await asyncio.gather(*(other.update_attributes({f"k{n}": n}) for n, other in enumerate(others)))
    again = await session.open_group("memory://g")
    assert set(again.metadata.consolidated or ()) == {"a"}
    await again.refresh()
    assert dict(again.attrs) == {f"k{n}": n for n in range(4)}


@FORMATS
async def test_concurrent_calls_of_require_group_all_get_the_group(session: zs.Session, zarr_format: Any) -> None:
    group = await session.create_group("memory://g", zarr_format=zarr_format)
    found = await asyncio.gather(*(group.require_group("a/b") for _ in range(10)))
    assert {g.path for g in found} == {"a/b"}
    await group.create_array("x", shape=(1,), dtype="i4")
    with pytest.raises(zs.NodeExists, match="is an array"):
        await group.require_group("x")
    with pytest.raises(zs.NodeExists):
        await group.create_array("x/below", shape=(1,), dtype="i4")


@FORMATS
async def test_a_folder_without_metadata_is_not_a_group(session: zs.Session, zarr_format: Any) -> None:
    store = zs.MemoryStore()
    group = await session.create_group(store, zarr_format=zarr_format)
    await store.put("folder/file.txt", b"no node")
    assert [name async for name, _ in group.members()] == []
    with pytest.raises(zs.NodeNotFound):
        await group.open("folder")


async def test_invalid_node_names_are_refused(session: zs.Session, caplog: pytest.LogCaptureFixture) -> None:
    store = zs.MemoryStore()
    group = await session.create_group(store)
    for name in ("..", "a/../b", "a//b", "", "a\\b", "zarr.json", "__x"):
        with pytest.raises(zs.ConfigError):
            await group.create_array(name, shape=(1,), dtype="i4")
    await store.put("back\\slash/zarr.json", b"{}")
    with caplog.at_level(logging.WARNING, logger="zarr_s3_async"):
        assert [name async for name, _ in group.members()] == []
    assert "slash" in caplog.text


async def test_open_returns_an_array_or_a_group(session: zs.Session) -> None:
    await session.create_group("memory://g")
    await session.create_array("memory://g", path="a", shape=(1,), dtype="i4")
    assert isinstance(await session.open("memory://g"), zs.Group)
    assert isinstance(await session.open("memory://g", path="a"), zs.Array)
    with pytest.raises(zs.NodeNotFound, match="no array"):
        await session.open_array("memory://g")
    with pytest.raises(zs.NodeNotFound, match="no group"):
        await session.open_group("memory://g", path="a")


async def test_a_tree_is_shown_as_text_and_html(session: zs.Session) -> None:
    group = await session.create_group("memory://g")
    await group.create_array("b", shape=(3, 4), dtype="f4")
    await group.create_array("a/<x>", shape=(2,), dtype="i4")
    await group.create_group("a/deep")
    tree = await group.tree()
    assert str(tree) == "/\n├── a\n│   ├── <x> (2,) int32\n│   └── deep\n└── b (3, 4) float32"
    assert "<details open><summary>a</summary>" in tree._repr_html_()
    assert "&lt;x&gt;" in tree._repr_html_()


async def test_concurrent_updates_of_a_groups_attributes_are_both_kept(session: zs.Session) -> None:
    for zarr_format in (2, 3):
        url = f"memory://u{zarr_format}"
        await session.create_group(url, zarr_format=zarr_format)  # type: ignore[arg-type]  # 2 and 3
        groups = [await session.open_group(url) for _ in range(6)]
        await asyncio.gather(*(group.update_attributes({f"k{n}": n}) for n, group in enumerate(groups)))
        assert dict((await session.open_group(url)).attrs) == {f"k{n}": n for n in range(6)}
