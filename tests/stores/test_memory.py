"""MemoryStore beyond the conformance suite: names, folders, errors."""

import asyncio

import numpy as np
import pytest

from zarr_s3_async.errors import ConfigError, StoreError
from zarr_s3_async.stores.memory import MemoryStore


def test_the_url_of_a_memory_store_contains_its_name():
    assert MemoryStore("mine").url == "memory://mine"
    assert MemoryStore("mine").below("a/b/").url == "memory://mine/a/b"


def test_memory_stores_without_a_name_have_different_urls():
    assert MemoryStore().url != MemoryStore().url


@pytest.mark.parametrize("name", ["", "a/b"])
def test_a_name_of_a_memory_store_is_one_word(name):
    with pytest.raises(ConfigError):
        MemoryStore(name)


async def test_stores_below_a_folder_share_its_objects():
    store = MemoryStore("mine")
    below = store.below("a").below("b")
    version = await below.put("x", b"1")
    blob = await store.get("a/b/x")
    assert blob is not None
    assert blob.version == version
    assert [entry.key async for entry in below.list_prefix()] == ["x"]
    await store.put("outside", b"2")
    assert [entry.key async for entry in below.list_prefix()] == ["x"]


async def test_versions_are_unique_across_folders():
    store = MemoryStore()
    assert await store.put("a/x", b"1") != await store.below("a").put("x", b"2")


@pytest.mark.parametrize("key", ["", "/absolute"])
async def test_keys_of_a_memory_store_are_relative_and_not_empty(key):
    store = MemoryStore()
    with pytest.raises(StoreError):
        await store.put(key, b"")
    with pytest.raises(StoreError):
        await store.get(key)


async def test_the_bytes_of_an_array_are_stored():
    store = MemoryStore()
    array = np.arange(6, dtype="<f8").reshape(2, 3)
    await store.put("array", array.data)
    blob = await store.get("array")
    assert blob is not None
    assert blob.data == array.tobytes()


async def test_a_read_of_a_whole_object_makes_no_copy():
    store = MemoryStore()
    data = bytes(1000)
    await store.put("x", data)
    blob = await store.get("x")
    assert blob is not None
    assert blob.data is data


@pytest.mark.parametrize(
    "call",
    [
        lambda store: store.get("x"),
        lambda store: store.put("x", b"new"),
        lambda store: store.delete("x"),
        lambda store: store.delete_many(["x"]),
        lambda store: store.list_dir(),
        lambda store: anext(store.list_prefix()),
    ],
)
async def test_every_method_yields_to_the_loop_before_it_acts(call):
    """So a call can be cancelled before it has any effect, as with a networked store."""
    store = MemoryStore()
    version = await store.put("x", b"old")
    task = asyncio.ensure_future(call(store))
    asyncio.get_running_loop().call_soon(task.cancel)
    with pytest.raises(asyncio.CancelledError):
        await task
    blob = await store.get("x")
    assert blob is not None
    assert blob.version == version


async def test_a_listing_skips_objects_deleted_meanwhile():
    store = MemoryStore()
    for key in "abc":
        await store.put(key, b"")
    listing = store.list_prefix()
    assert (await anext(listing)).key == "a"
    await store.delete("b")
    assert [entry.key async for entry in listing] == ["c"]
