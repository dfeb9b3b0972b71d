"""`consistent=True`: its requests, its results and errors, and where it is unsupported."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarr_s3_async as zs


class Watched(zs.MemoryStore):
    """Counts requests for chunks and pages of listings; `then` runs after each get of a chunk."""

    def __init__(self) -> None:
        super().__init__()
        self.gets: list[str] = []
        self.pages = 0
        self.then: Any = None
        self.may_list = True

    async def get(self, key: str, **options: Any) -> Any:  # type: ignore[override]  # handed on as it is
        blob = await super().get(key, **options)
        if key.startswith("c"):
            self.gets.append(key)
            if self.then is not None:
                await self.then(key)
        return blob

    async def list_pages(self, prefix: str = "", *, after: str = "") -> AsyncIterator[list[zs.Entry]]:
        if not self.may_list:
            raise zs.AccessDenied("not for you")
        async for page in super().list_pages(prefix, after=after):
            self.pages += 1
            yield page

    def clear(self) -> None:
        self.gets, self.pages = [], 0


@pytest.fixture
def store() -> Watched:
    return Watched()


@pytest.fixture
async def session() -> AsyncIterator[zs.Session]:
    async with zs.Session(retry=zs.RetryPolicy(conflict_attempts=4)) as session:
        yield session


@pytest.mark.parametrize(
    ("region", "gets", "pages"),
    [
        ((slice(0, 1), slice(0, 1)), 1, 0),  # one object needs no check
        ((slice(0, 2), slice(0, 3)), 12, 0),  # checked one by one
        ((slice(0, 2), slice(0, 10)), 40, 0),  # one by one, too: two pages cost more than 20 requests
        ((slice(0, 3), slice(0, 10)), 30, 1),  # less than two pages: listing stops after the last of them
        ((slice(5, 6), slice(0, 40)), 40, 1),  # one page, although the array has 2,000 objects
        ((slice(0, 50), slice(3, 4)), 50, 2),
        ((slice(3, 3), slice(0, 9)), 0, 0),
    ],
)
async def test_the_cheaper_check_is_used_and_explain_predicts_it(
    session: zs.Session, store: Watched, region: Any, gets: int, pages: int
) -> None:
    array = await session.create_array(store, shape=(50, 40), chunks=(1, 1), dtype="u2")
    data = np.arange(2000, dtype="u2").reshape(50, 40)
    await array[...].set(data)
    explanation = array.explain(region)
    store.clear()
    np.testing.assert_array_equal(await array[region].get(consistent=True), data[region])
    assert (len(store.gets), store.pages) == (gets, pages)
    assert explanation.get_requests + explanation.check_get_requests == gets
    assert pages <= explanation.check_list_requests <= 2 * pages


async def test_explain_prints_the_requests_of_the_check(session: zs.Session, store: Watched) -> None:
    array = await session.create_array(store, shape=(30,), chunks=(1,), dtype="u2")
    for region, text in ((slice(0, 1), "nothing"), (slice(0, 2), "2 GET"), (slice(0, 30), "at most 1 LIST")):
        assert f"consistent=True: {text} more" in str(array.explain(region))


async def test_a_plain_read_makes_no_check_requests(session: zs.Session, store: Watched) -> None:
    array = await session.create_array(store, shape=(30,), chunks=(1,), dtype="u2")
    await array[...].set(1)
    store.clear()
    await array.get_slice(0, 30)
    assert (len(store.gets), store.pages) == (30, 0)


@st.composite
def chosen(draw: st.DrawFn) -> Any:
    """A key encoding, a grid of objects, and a region of it."""
    grid = draw(st.lists(st.sampled_from([1, 2, 11, 30]), min_size=1, max_size=3))
    low = [draw(st.integers(0, n - 1)) for n in grid]
    high = [draw(st.integers(a + 1, n)) for a, n in zip(low, grid, strict=True)]
    form = draw(st.sampled_from([(3, "/"), (2, "."), (2, "/")]))
    return form, grid, tuple(slice(a, b) for a, b in zip(low, high, strict=True)), draw(st.sampled_from(["", "a/b"]))


class Changing(zs.MemoryStore):
    """When `key` is set, changes that object right after its first read."""

    key = ""

    async def get(self, key: str, **options: Any) -> Any:  # type: ignore[override]  # handed on as it is
        blob = await super().get(key, **options)
        if key == self.key:
            self.key = ""
            await self.put(key, np.array(7, "<u2").tobytes())
        return blob


@given(chosen(), st.randoms(use_true_random=False))
async def test_objects_that_change_during_the_read_are_read_again(what: Any, random: Any) -> None:
    """With either kind of check, every object of the region is covered."""
    (form, separator), grid, region, path = what
    store = Changing()
    async with zs.Session() as session:
        options = {"dimension_separator": separator} if form == 2 else {}
        array = await session.create_array(
            store,
            path=path,
            shape=grid,
            chunks=[1] * len(grid),
            dtype="u2",
            compressor=None,
            zarr_format=form,
            **options,
        )
        data = np.ones([one.stop - one.start for one in region], "u2")
        await array[region].set(data)
        place = tuple(random.randrange(n) for n in data.shape)
        coords = tuple(at + one.start for at, one in zip(place, region, strict=True))
        store.key = f"{path}/{array.metadata.object_key(coords)}".removeprefix("/")
        if data.size > 1:  # a single object is consistent by itself, also in its earlier state
            data[place] = 7
        np.testing.assert_array_equal(await array[region].get(consistent=True), data)


@pytest.mark.parametrize("count", [3, 20])
async def test_an_object_that_always_changes_is_an_error_after_all_attempts(
    session: zs.Session, store: Watched, count: int
) -> None:
    array = await session.create_array(store, shape=(count,), chunks=(1,), dtype="u2", compressor=None)
    await array[...].set(1)
    number = iter(range(10_000))

    async def change(key: str) -> None:
        if key == "c/1":
            await store.put(key, np.array(next(number), "<u2").tobytes())

    store.then = change
    store.clear()
    with pytest.raises(zs.ConcurrentModification, match=f"all of 4 attempts.* 1 of its {count} objects"):
        await array.get_slice(0, count, consistent=True)
    reads = count + 3  # each object once, and the changed object three more times
    assert len(store.gets) == reads + (4 * count if count == 3 else 0)
    assert session.metrics.conflicts == 4
    store.then = None
    assert (await array.get_slice(0, count, consistent=True)).shape == (count,)


async def test_objects_created_or_deleted_during_the_read_are_detected(session: zs.Session, store: Watched) -> None:
    array = await session.create_array(store, shape=(3,), chunks=(1,), dtype="u2", compressor=None)
    await array.set_slice(5, 0, 1)

    async def swap(key: str) -> None:
        if key == "c/2":
            store.then = None
            await store.delete("c/0")
            await store.put("c/1", np.array(6, "<u2").tobytes())

    store.then = swap
    assert (await array.get_slice(0, 3, consistent=True)).tolist() == [0, 6, 0]


async def test_a_consistent_read_trusts_no_cache(store: Watched) -> None:
    """Neither cached chunks nor a cached shard index that is outdated."""
    async with zs.Session(cache=zs.CacheSize(chunks=2**20)) as session, zs.Session() as other:
        for name, options in {"chunks": {}, "shards": {"shards": (4,)}}.items():
            array = await session.create_array(store, path=name, shape=(8,), chunks=(2,), dtype="i4", **options)
            await array.set_slice(1, 0, 2)
            await array.get_slice(0, 8)
            writer = await other.open_array(store, path=name)
            await writer.set_slice(2, 0, 4)
            assert (await array.get_slice(0, 8, consistent=True)).tolist() == [2, 2, 2, 2, 0, 0, 0, 0]
            assert (await array.get_slice(0, 4, consistent=True)).tolist() == [2, 2, 2, 2]


async def test_each_object_is_checked_without_permission_to_list(session: zs.Session, store: Watched) -> None:
    array = await session.create_array(store, shape=(20,), chunks=(1,), dtype="u2")
    await array[...].set(3)
    store.may_list = False
    store.clear()
    assert (await array.get_slice(0, 20, consistent=True)).tolist() == [3] * 20
    assert len(store.gets) == 40


class Vague(zs.MemoryStore):
    def is_weak(self, version: str) -> bool:
        return True


async def test_stores_with_recurring_versions_are_refused(session: zs.Session) -> None:
    array = await session.create_array(Vague(), shape=(2,), chunks=(1,), dtype="u2")
    await array[...].set(3)
    assert (await array.get_slice(0, 1, consistent=True)).tolist() == [3]
    with pytest.raises(zs.Unsupported, match="weak ETags"):
        await array.get_slice(0, 2, consistent=True)


async def test_consistent_must_be_a_boolean(session: zs.Session, store: Watched) -> None:
    array = await session.create_array(store, shape=(2,), chunks=(1,), dtype="u2")
    for wrong in ("yes", 1, None):
        with pytest.raises(zs.ConfigError, match="consistent must be True or False"):
            await array.get_slice(0, 2, consistent=wrong)
        with pytest.raises(zs.ConfigError, match="consistent must be True or False"):
            await array[0:2].get(consistent=wrong)


async def test_a_consistent_read_takes_the_other_options_of_a_read(session: zs.Session, store: Watched) -> None:
    array = await session.create_array(store, shape=(20,), chunks=(2,), dtype=[("a", "i4"), ("b", "f4")])
    await array.set_slice(np.arange(4), 0, 4, fields="a")
    out = np.zeros(3, "i4")
    assert await array.get_slice(1, 6, 2, fields="a", out=out, consistent=True) is out
    assert out.tolist() == [1, 3, 0]
    with pytest.raises(zs.ChunkNotFound):
        await array.get_slice(0, 6, missing="raise", consistent=True)
    with pytest.raises(zs.DeadlineExceeded):
        await array.get_slice(0, 6, consistent=True, timeout=1e-9)


@pytest.mark.parametrize("count", [3, 20])
async def test_a_consistent_read_cancelled_at_any_await_holds_no_lease(
    session: zs.Session, store: Watched, count: int
) -> None:
    array = await session.create_array(store, shape=(count,), chunks=(1,), dtype="u2")
    await array[...].set(3)

    async def change(key: str) -> None:
        if key == "c/1":
            await store.put("c/0", b"changed")
            await store.delete("c/0")

    store.then = change
    for turns in range(40):
        task = asyncio.ensure_future(array.get_slice(0, count, consistent=True))
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
    store.then = None
    leases = array._runtime.leases  # all leases must be released
    assert leases.try_acquire(leases.limit)
    leases.release(leases.limit)
    assert (await array.get_slice(0, count, consistent=True)).tolist() == [0] + [3] * (count - 1)
