"""The walk over a listing: its cost, its limits, its pages, and which grid positions are stored."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarr_s3_async as zs
from zarr_s3_async._verify import folders, walk
from zarr_s3_async._verify.folders import StoredPositions
from zarr_s3_async.testing import FaultyStore

from ..peak_limiter import watch_leases
from .test_verify import grid, kinds, node
from .test_verify_groups import hierarchy


async def test_the_cost_of_a_huge_grid_depends_only_on_the_stored_objects(session: zs.Session) -> None:
    store = FaultyStore(zs.MemoryStore())
    array = await session.create_array(store, shape=(10**12, 10), chunks=(1, 10), dtype="i1")
    for at in (0, 5, 10**12 - 1):
        await array.set_slice(np.ones((1, 10)), (at, 0))
    store.clear()
    report = await array.verify(max_findings=7)
    assert store.count() < 10
    assert report.counts["missing"] == 10**12 - 3
    assert [finding.position for finding in report.of("missing")] == [(n, 0) for n in (1, 2, 3, 4, 6, 7, 8)]
    assert node(report).chunks == 3


@pytest.mark.parametrize(("objects", "at_most"), [(100, 8), (2, 2)])
async def test_verify_keeps_to_the_limits_of_the_session(objects: int, at_most: int) -> None:
    store = FaultyStore(zs.MemoryStore())
    size = 900  # a chunk of 800 bytes, and less than 100 encoded
    async with zs.Session(limits=zs.Limits(requests=8, bytes=objects * size)) as session:
        leases = watch_leases(session)
        array = await session.create_array(store, shape=(250, 100), chunks=(1, 100), dtype="f8")
        await array[...].set(1)
        store.clear()
        leases.peak = 0
        store.latency = 0.0005
        report = await array.verify(strict=True)
        assert report.ok
        assert at_most <= store.peak <= at_most + 1  # the listing beside them
        assert 0 < leases.peak <= objects * size
    assert store.count("get", "c/*") == 250


async def test_listed_objects_are_read_while_the_next_page_is_awaited(session: zs.Session) -> None:
    class Slow(zs.MemoryStore):
        """Yields the second page when all objects of the first were read."""

        read = 0
        all_read = asyncio.Event()

        def list_prefix(self, prefix: str = "") -> Any:
            async def entries() -> AsyncIterator[zs.Entry]:
                listed = 0
                async for entry in zs.MemoryStore.list_prefix(self, prefix):
                    if listed == 1000:
                        await asyncio.wait_for(self.all_read.wait(), 10)
                    listed += 1
                    yield entry

            return entries()

        async def get(self, key: str, **options: Any) -> Any:  # type: ignore[override]  # handed on
            self.read += key.startswith("c/")
            if self.read == 1000:
                self.all_read.set()
            return await super().get(key, **options)

    store = Slow()
    array = await session.create_array(store, shape=(1500,), chunks=(1,), dtype="i1", compressor=None)
    await array[...].set(1)
    store.read = 0
    assert (await array.verify(strict=True)).ok


async def test_listings_of_many_pages_are_pulled_lazily(session: zs.Session) -> None:
    class Paged(zs.MemoryStore):
        """Counts listed and read objects."""

        listed = read = ahead = 0

        def list_prefix(self, prefix: str = "") -> Any:
            async def entries() -> AsyncIterator[zs.Entry]:
                async for entry in zs.MemoryStore.list_prefix(self, prefix):
                    self.listed += 1
                    self.ahead = max(self.ahead, self.listed - self.read)
                    yield entry

            return entries()

        async def get(self, key: str, **options: Any) -> Any:  # type: ignore[override]  # handed on
            self.read += 1
            return await super().get(key, **options)

    store = Paged()
    array = await session.create_array(store, shape=(5000,), chunks=(1,), dtype="i1", compressor=None)
    await array[...].set(1)
    store.read = 0
    report = await array.verify()
    assert report.ok
    assert report.objects == 5001
    assert store.ahead <= 1000 + 2 * 64


@pytest.mark.parametrize("page", [1, 2, 3, 5, 7])
async def test_the_result_does_not_depend_on_where_pages_of_the_listing_end(
    session: zs.Session, store: zs.MemoryStore, page: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    group = await hierarchy(session, store)
    await group.create_array("deep/last", shape=(9,), chunks=(3,), shards=(3,), dtype="i4")
    await group.consolidate()
    for key in ("a/c/9", "a-b/x", "a/x", "deep.er/x", "deep/er/b/c/1", "raw/deep/x", "deep/zz/y", "zz"):
        await store.put(key, b"")
    whole = await session.verify(store)
    assert whole.problems == 8
    monkeypatch.setattr(walk, "_PAGE", page)
    report = await session.verify(store)
    assert report.nodes == whole.nodes
    assert (report.objects, report.nbytes) == (whole.objects, whole.nbytes)


@pytest.mark.parametrize("repeat", ["next to each other", "at the end"])
async def test_keys_that_a_listing_repeats_are_counted_once(session: zs.Session, repeat: str) -> None:
    """Counted twice, a chunk would hide another one that is missing, or make the number of missing ones negative."""

    class Repeating(zs.MemoryStore):
        def list_prefix(self, prefix: str = "") -> Any:
            async def entries() -> AsyncIterator[zs.Entry]:
                found = [entry async for entry in zs.MemoryStore.list_prefix(self, prefix)]
                again = [entry for entry in found if entry.key.startswith("c/")]
                for entry in sorted([*found, *found]) if repeat == "next to each other" else [*found, *again]:
                    yield entry

            return entries()

    store = Repeating("v")
    array = await grid(session, store)
    await store.delete("c/0/1")
    await store.put("c/1/1", b"")
    await store.put("notes.txt", b"x")
    report = await array.verify()
    assert kinds(report) == {"missing": ["c/0/1"], "corrupt": ["c/1/1"], "foreign": ["notes.txt"]}
    assert report.counts["missing"] == report.counts["corrupt"] == report.counts["foreign"] == 1
    assert (node(report).objects, node(report).chunks) == (5, 4)


async def test_findings_are_listed_up_to_a_limit_and_counted_beyond_it(
    session: zs.Session, store: zs.MemoryStore
) -> None:
    array = await session.create_array(store, shape=(100,), chunks=(1,), dtype="i1")
    await array[...].set(1)
    for n in range(100):
        await store.put(f"c/{n}", b"")
    report = await array.verify(max_findings=30)
    assert report.counts["corrupt"] == report.problems == 100
    assert len(report.of("corrupt")) == 30
    assert "… and 80 more" in str(report)


async def test_progress_ends_at_the_figures_of_the_report(session: zs.Session, store: zs.MemoryStore) -> None:
    group = await hierarchy(session, store)
    await store.put("a/c/0", b"")
    seen: list[zs.VerifyProgress] = []
    report = await group.verify(progress=seen.append)
    last = seen[-1]
    assert (last.objects, last.nbytes, last.findings) == (report.objects, report.nbytes, 1)
    assert last.listed == len(store._objects)
    assert [one.objects for one in seen] == sorted(one.objects for one in seen)
    assert len(seen) >= 4


async def test_a_cancelled_verify_leaves_no_task_and_no_lease(session: zs.Session) -> None:
    store = FaultyStore(zs.MemoryStore())
    array = await grid(session, store)
    for turns in range(300):
        task = asyncio.create_task(array.verify())
        for _ in range(turns):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        assert session._leases.held == 0
        assert store.in_flight == 0
        if not task.cancelled():
            assert task.result().ok
            break
    else:
        raise AssertionError("it never ended")


@given(st.lists(st.integers(0, 7), max_size=3).map(tuple), st.data())
def test_stored_positions_list_the_absent_ones(grid: Any, data: Any) -> None:
    whole = list(np.ndindex(*grid))
    there = data.draw(st.lists(st.sampled_from(whole), unique=True)) if whole else []
    seen = StoredPositions(grid)
    for position in there:
        seen.add(position)
    assert list(seen.absent()) == [position for position in whole if position not in set(there)]


def test_stored_positions_ignore_positions_beyond_their_limit(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(folders, "_BITS", 64)
    seen = StoredPositions((10**30,))
    seen.add((10**29,))
    seen.add((63,))
    seen.add((0,))
    assert list(seen.absent()) == [(n,) for n in range(1, 63)]
    assert len(seen._bits) == 8
