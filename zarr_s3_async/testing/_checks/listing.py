"""Checks of listings."""

# ruff: noqa: S101  # a check is a list of assertions

from __future__ import annotations

from functools import partial

from ...stores.base import Listing, Store
from .common import at_once, content, listed

_MANY = 1100


async def _fill(store: Store, keys: list[str]) -> None:
    async def put(part: int) -> None:
        for key in keys[part::32]:
            await store.put(key, key.encode())

    await at_once([partial(put, p) for p in range(32)])


async def check_many_keys_are_listed_and_deleted(store: Store) -> None:
    """1,100 keys, more than a page or batch of S3, are listed and deleted.

    The listing has each key once, in order, with its size. `delete_many` accepts any iterable, absent keys and
    duplicates, and keeps all other objects.
    """
    keys = [f"bulk/{n % 3}/{n:x}" for n in range(_MANY)]
    await _fill(store, [*keys, "bulk/stays"])
    entries = await listed(store, "bulk/")
    assert [entry.key for entry in entries] == sorted([*keys, "bulk/stays"])
    assert all(entry.size == len(entry.key) for entry in entries)
    assert len({entry.version for entry in entries}) > 1
    assert (await anext(store.list_prefix("bulk/"))).key == min(keys)  # iteration may stop early
    await store.delete_many(iter([*keys, "bulk/never-there", keys[0]]))
    assert [entry.key for entry in await listed(store, "bulk/")] == ["bulk/stays"]
    await store.delete_many([])
    await store.delete_many(["bulk/stays"])
    assert await listed(store, "bulk/") == []


async def check_listing_order_is_that_of_the_whole_keys(store: Store) -> None:
    """Listings are sorted by whole keys, not by folder: `a.b` comes before `a/b`, which comes before `a0`."""
    keys = ["order/a.b", "order/a-b", "order/a0", "order/a/b/c", "order/a/d", "order/b", "order/B"]
    await _fill(store, keys)
    assert [entry.key for entry in await listed(store, "order/")] == sorted(keys)


async def check_a_prefix_is_a_plain_string(store: Store) -> None:
    """A prefix may end inside a name; with a slash it is a folder; if no key starts with it, nothing is listed."""
    keys = ["plain/ab/1", "plain/abc", "plain/abd/2/3", "plain/b"]
    await _fill(store, keys)
    for prefix in (
        "plain/",
        "plain/a",
        "plain/ab",
        "plain/ab/",
        "plain/abd/2",
        "plain/abd/2/3",
        "plain/zz",
        "pl",
    ):
        expected = sorted(key for key in keys if key.startswith(prefix))
        assert [entry.key for entry in await listed(store, prefix)] == expected, prefix
    assert await listed(store, "no/such/folder/") == []
    assert set(keys) <= {entry.key for entry in await listed(store)}


async def check_a_listing_gives_the_versions_of_reads(store: Store) -> None:
    """A listing has the same version as a get and as the put before."""
    version = await store.put("listed/version", b"x")
    blob = await store.get("listed/version")
    assert blob is not None
    entries = await listed(store, "listed/")
    assert [(e.key, e.size, e.version) for e in entries] == [("listed/version", 1, version)]
    assert blob.version == version


async def check_one_level(store: Store) -> None:
    """`list_dir` returns folders and objects directly below a folder, with full keys, sorted."""
    keys = ["tree/z", "tree/a", "tree/sub/1", "tree/sub/2/3", "tree/sub.x/4", "tree/empty.txt"]
    await _fill(store, keys)
    for prefix in ("tree", "tree/"):
        listing = await store.list_dir(prefix)
        assert listing.dirs == ("tree/sub", "tree/sub.x")
        assert [entry.key for entry in listing.entries] == ["tree/a", "tree/empty.txt", "tree/z"]
        assert [entry.size for entry in listing.entries] == [6, 14, 6]
    inner = await store.list_dir("tree/sub")
    assert inner.dirs == ("tree/sub/2",)
    assert [entry.key for entry in inner.entries] == ["tree/sub/1"]


async def check_one_level_of_the_root(store: Store) -> None:
    """The empty prefix is the root; names of its folders have no slash."""
    await _fill(store, ["rootfile", "rootdir/x"])
    root = await store.list_dir()
    assert "rootdir" in root.dirs
    assert "rootfile" in [entry.key for entry in root.entries]
    assert await store.list_dir("/") == root


async def check_one_level_of_nothing(store: Store) -> None:
    """There is nothing below an absent folder, the key of an object, or a part of a name."""
    await _fill(store, ["level/name", "level/folder/x"])
    for prefix in ("no/such/folder", "level/name", "level/fol"):
        assert await store.list_dir(prefix) == Listing((), ()), prefix


async def check_a_wide_level(store: Store) -> None:
    """`list_dir` of 520 folders and 520 objects, more than one page."""
    names = [f"{n:04}" for n in range(520)]
    keys = [f"wide/d{name}/x" for name in names] + [f"wide/f{name}" for name in names]
    await _fill(store, keys)
    listing = await store.list_dir("wide")
    assert listing.dirs == tuple(f"wide/d{name}" for name in names)
    assert [entry.key for entry in listing.entries] == [f"wide/f{name}" for name in names]
    await store.delete_many(keys)


async def check_deleted_objects_are_not_listed(store: Store) -> None:
    """Deleted objects are listed neither by `list_prefix` nor by `list_dir`."""
    await _fill(store, ["left/a/b/c", "left/d", "left/e"])
    await store.delete("left/a/b/c")
    await store.delete_many(["left/d"])
    assert [entry.key for entry in await listed(store, "left/")] == ["left/e"]
    assert [entry.key for entry in (await store.list_dir("left")).entries] == ["left/e"]


async def check_folders_that_hold_nothing_are_not_listed(store: Store) -> None:
    """A folder is only a common prefix of keys, so it disappears with its last object."""
    await _fill(store, ["emptied/a/b/c", "emptied/d"])
    await store.delete("emptied/a/b/c")
    assert (await store.list_dir("emptied")).dirs == ()


async def check_a_listing_bears_changes_meanwhile(store: Store) -> None:
    """Objects that are created or deleted during a listing may be missed; all others are listed once."""
    keys = [f"moving/{n:03}" for n in range(60)]
    await _fill(store, keys)
    seen = []
    async for entry in store.list_prefix("moving/"):
        seen.append(entry.key)
        if len(seen) == 5:
            await store.delete(keys[50])
            await store.put("moving/1000", content(3))
    stayed = [key for key in keys if key != keys[50]]
    assert [key for key in seen if key in stayed] == stayed
