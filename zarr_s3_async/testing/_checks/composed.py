"""Checks of `stores.optional`, whose functions work for every store: by its own method, or composed from others."""

# ruff: noqa: S101  # a check is a list of assertions

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

from ...byte_range import ByteRange, Offset, Span, Suffix
from ...stores import optional
from ...stores.base import Store, SupportsRef, parse_modified
from .common import conflicts, content, listed

_MANY = optional.BATCH + 30
_SKEW = timedelta(days=1)
"""Tolerance for the store's clock; a wrong year or a wrong unit is still detected."""


async def check_stat(store: Store) -> None:
    """A stat has the size and version that a read and a listing have, and is None for an absent object."""
    for size in (0, 1, 5000):
        version = await store.put("stat/object", content(size, size))
        entry = await optional.stat(store, "stat/object")
        assert entry is not None
        assert (entry.key, entry.size, entry.version) == ("stat/object", size, version)
    assert [(e.size, e.version) for e in await listed(store, "stat/")] == [(5000, version)]
    assert await optional.stat(store, "stat") is None
    await store.delete("stat/object")
    assert await optional.stat(store, "stat/object") is None
    assert await optional.stat(store, "no/such/folder/object") is None


async def check_times_are_those_of_the_last_put(store: Store) -> None:
    """If a store reports modification times, reads, stats and listings agree on them, to the second."""
    await store.put("times", b"x")
    blob, entry, found = (
        await store.get("times"),
        await optional.stat(store, "times"),
        (await listed(store, "times"))[0],
    )
    assert blob is not None
    assert entry is not None
    times = [parse_modified(source.modified) for source in (blob, entry, found)]
    known = [time for time in times if time is not None]
    assert len(known) in (0, len(times)), f"only some of the calls return a time: {times}"
    assert all(abs(time - datetime.now(UTC)) < _SKEW for time in known)
    assert all(abs(time - known[0]) <= timedelta(seconds=1) for time in known)


async def check_pages(store: Store) -> None:
    """Pages contain the entries of the listing, in order, and are not empty; `after` skips keys up to that one."""
    keys = sorted(f"paged/{n % 7}-{n:04}" for n in range(60))
    for key in keys:
        await store.put(key, key.encode())
    expected = await listed(store, "paged/")
    for after in ("", keys[0], "paged/3", "paged/3-zzz", keys[-1], "zzz"):
        pages = [page async for page in optional.list_pages(store, "paged/", after=after)]
        assert all(pages)
        found = [(entry.key, entry.size, entry.version) for page in pages for entry in page]
        assert found == [(e.key, e.size, e.version) for e in expected if e.key > after], after
    assert [page async for page in optional.list_pages(store, "no/such/folder/")] == []
    async for page in optional.list_pages(store, "paged/"):  # iteration may stop early
        assert page[0].key == keys[0]
        break


async def check_a_stream_of_keys_is_deleted(store: Store) -> None:
    """More keys than fit into one request are deleted, from any iterable and from a running listing."""
    for name in ("stream/first", "stream/second", "stream/stays"):
        await store.put(name, b"x")
    absent = (f"stream/absent/{n}" for n in range(_MANY))
    assert await optional.delete_stream(store, ("stream/first", *absent)) == _MANY + 1
    assert [entry.key for entry in await listed(store, "stream/")] == ["stream/second", "stream/stays"]

    async def keys() -> AsyncIterator[str]:
        async for entry in store.list_prefix("stream/se"):
            yield entry.key

    assert await optional.delete_stream(store, keys()) == 1
    assert [entry.key for entry in await listed(store, "stream/")] == ["stream/stays"]
    assert await optional.delete_stream(store, []) == 0


async def check_ranges_of_one_version(store: Store) -> None:
    """Many ranges in one call return bytes of one version; None for an absent object."""
    data = content(5000, 20)
    version = await store.put("ranges", data)
    wanted = [Span(4000, 4100), None, Span(0, 10), Span(15, 20), Suffix(7), Offset(4990), Span(9, 9), Span(4990, 6000)]
    expected = [data[4000:4100], data, data[:10], data[15:20], data[-7:], data[4990:], b"", data[4990:]]
    for max_gap, at_once in ((0, 1), (4096, 8)):
        blobs = await optional.get_ranges(store, "ranges", wanted, max_gap=max_gap, at_once=at_once)
        assert blobs is not None
        assert [bytes(blob.data) for blob in blobs] == expected
        assert {(blob.version, blob.size) for blob in blobs} == {(version, 5000)}
    assert await optional.get_ranges(store, "ranges", wanted, version=version) is not None
    await store.put("ranges", content(5000, 21))
    assert await conflicts(optional.get_ranges(store, "ranges", wanted, version=version))
    await store.delete("ranges")
    assert await optional.get_ranges(store, "ranges", wanted) is None


async def check_several_objects_at_once(store: Store) -> None:
    """Several objects are returned in the requested order, with None for absent ones."""
    for number in range(5):
        await store.put(f"several/{number}", content(100, number))
    wanted: list[tuple[str, ByteRange | None]] = [(f"several/{number}", Span(0, 10)) for number in (4, 9, 0, 4)]
    found = await optional.get_many(store, [*wanted, ("several/2", None)])
    expected = [content(100, 4)[:10], None, content(100, 0)[:10], content(100, 4)[:10], content(100, 2)]
    assert [None if blob is None else bytes(blob.data) for blob in found] == expected


async def check_a_reference_says_where(store: Store) -> None:
    """If a store has a reference, it contains the store's URL and no secret, and is always equal."""
    if not isinstance(store, SupportsRef):
        return
    ref = store.ref
    assert ref.url == store.url
    assert ref == store.ref
    assert not {"access_key_id", "secret_access_key", "session_token"} & set(ref.config)


async def check_a_store_equals_itself(store: Store) -> None:
    """A store equals itself, and is not equal to an object that is not a store."""
    itself: object = store
    assert store == itself
    other: object = store.url
    assert store != other
