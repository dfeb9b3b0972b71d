"""What `stores.optional` promises of every store, whether the store has the verb itself or it is composed."""

# ruff: noqa: S101  # a check is a list of assertions

from __future__ import annotations

from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

from ...stores import optional
from ...stores.base import Store, SupportsRef, parse_modified
from .common import content, listed

_MANY = optional.BATCH + 30
_SKEW = timedelta(days=1)
"""How far a store's clock may be from ours: a year or a unit that is wrong shows all the same."""


async def check_stat(store: Store) -> None:
    """Size and version of an object, those of a read and of a listing; None for an absent one."""
    for size in (0, 1, 5000):
        version = await store.put("stat/object", content(size, size))
        entry = await optional.stat(store, "stat/object")
        assert entry is not None
        assert (entry.key, entry.size, entry.version) == ("stat/object", size, version)
    assert [(e.size, e.version) for e in await listed(store, "stat/")] == [(5000, version)]
    await store.delete("stat/object")
    assert await optional.stat(store, "stat/object") is None
    assert await optional.stat(store, "no/such/folder/object") is None
    assert await optional.stat(store, "stat") is None


async def check_times_are_those_of_the_last_put(store: Store) -> None:
    """Where a store tells when an object was changed, reads, stats and listings tell the same time, to the second."""
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
    assert len(known) in (0, len(times)), f"some tell a time that others do not: {times}"
    assert all(abs(time - datetime.now(UTC)) < _SKEW for time in known)
    assert all(abs(time - known[0]) <= timedelta(seconds=1) for time in known)


async def check_pages(store: Store) -> None:
    """The entries of the listing, in its order, in pages that are not empty; `after` skips keys up to that one."""
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
    async for page in optional.list_pages(store, "paged/"):  # it may be left half-way
        assert page[0].key == keys[0]
        break


async def check_a_stream_of_keys_is_deleted(store: Store) -> None:
    """More keys than one request takes, from any iterable and from a listing that is still running."""
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


async def check_a_reference_says_where(store: Store) -> None:
    """Where a store has one, it names the store's URL, holds no secret, and is the same each time."""
    if not isinstance(store, SupportsRef):
        return
    ref = store.ref
    assert ref.url == store.url
    assert ref == store.ref
    assert not {"access_key_id", "secret_access_key", "session_token"} & set(ref.config)


async def check_a_store_equals_itself(store: Store) -> None:
    """And nothing that is no store."""
    itself: object = store
    assert store == itself
    other: object = store.url
    assert store != other
