"""Concurrent requests reach the limit and never exceed it; tasks and parts alive do not grow with the region."""

from __future__ import annotations

import asyncio
import gc
from collections import Counter
from dataclasses import replace

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async._plan.parts import Part
from zarr_s3_async._types import Version

from ..peak_limiter import watch_leases
from ..servers.latency_proxy import LatencyProxy
from .conftest import Place

LIMIT = 16


class Slow(zs.MemoryStore):
    """Every get takes 20 ms; records the peak of concurrent gets."""

    def __init__(self) -> None:
        super().__init__()
        self.now = self.peak = 0
        self.gets: Counter[str] = Counter()

    async def get(self, key: str, **options: object) -> zs.Blob | None:  # type: ignore[override]  # handed on as it is
        self.now += 1
        self.peak = max(self.peak, self.now)
        self.gets[key] += 1
        try:
            await asyncio.sleep(0.02)
            return await super().get(key, **options)  # type: ignore[arg-type]  # handed on as it is
        finally:
            self.now -= 1


async def test_concurrent_requests_reach_the_limit_and_never_exceed_it() -> None:
    store = Slow()
    async with zs.Session(limits=zs.Limits(requests=LIMIT)) as session:
        array = await session.create_array(store, shape=(100,), chunks=(1,), dtype="i4")
        store.peak = 0
        await array.get_slice(0, 100)
    assert store.peak == LIMIT


async def test_the_byte_limit_bounds_the_chunks_in_memory_and_the_requests_for_them() -> None:
    store = Slow()
    chunk = 1000 * 8
    async with zs.Session(limits=zs.Limits(requests=LIMIT, bytes=3 * 2 * chunk)) as session:
        leases = watch_leases(session)
        array = await session.create_array(store, shape=(20_000,), chunks=(1000,), dtype="f8")
        store.peak = 0
        await array.get_slice(0, 20_000)
        assert leases.peak <= 3 * 2 * chunk
    assert store.peak == 3, "decoded and encoded bytes of three chunks fit"


async def test_a_chunk_larger_than_the_byte_limit_is_read_alone() -> None:
    store = Slow()
    async with zs.Session(limits=zs.Limits(requests=LIMIT, bytes=100)) as session:
        array = await session.create_array(store, shape=(4000,), chunks=(1000,), dtype="f8")
        store.peak = 0
        await array.get_slice(0, 4000)
    assert store.peak == 1


def _parts_alive() -> int:
    return sum(type(o) is Part for o in gc.get_objects())


class Empty(zs.MemoryStore):
    """An empty store that samples the number of tasks and parts alive."""

    def __init__(self) -> None:
        super().__init__()
        self.calls = self.tasks = self.parts = 0
        gc.collect()
        self._of_others = _parts_alive()

    async def get(self, key: str, **options: object) -> zs.Blob | None:  # type: ignore[override]  # handed on as it is
        if not key.startswith("c/"):
            return await super().get(key, **options)  # type: ignore[arg-type]  # handed on as it is
        self.calls += 1
        if self.calls % 20_000 == 0:
            self.tasks = max(self.tasks, len(asyncio.all_tasks()))
            self.parts = max(self.parts, _parts_alive() - self._of_others)
        await asyncio.sleep(0)
        return None

    async def put(self, key: str, data: bytes, **options: object) -> Version:  # type: ignore[override]  # as it is
        return await super().put(key, data, **options)  # type: ignore[arg-type]  # handed on as it is


async def test_the_number_of_tasks_and_parts_does_not_grow_with_the_region() -> None:
    store = Empty()
    async with zs.Session(limits=zs.Limits(requests=LIMIT)) as session:
        array = await session.create_array(store, shape=(100_000,), chunks=(1,), dtype="u1", fill_value=7)
        result = await array.get_slice(0, 100_000)
    assert store.calls == 100_000
    assert (result == 7).all()
    assert store.tasks <= LIMIT + 4
    assert store.parts <= 4 * LIMIT + 512, "only short runs of an axis may be kept in memory"


async def test_a_selection_of_too_many_chunks_is_refused_before_the_first_request() -> None:
    store = Slow()
    async with zs.Session(limits=zs.Limits(max_chunks_per_call=1000)) as session:
        array = await session.create_array(store, shape=(10**12,), chunks=(1,), dtype="u1")
        store.gets.clear()
        with pytest.raises(zs.SelectionError, match=r"1,000,000,000,000 chunks.*max_chunks_per_call"):
            await array.get_slice(0, 10**12)
        assert not store.gets
        assert np.array_equal(await array.get_slice(10**12 - 3, 10**12), [0, 0, 0])


@pytest.mark.integration
@pytest.mark.parametrize("transport", ["sdk", "wire"])
async def test_concurrent_requests_to_a_real_server_reach_the_limit_and_never_exceed_it(
    place: Place, transport: str
) -> None:
    limit = 8
    with LatencyProxy(place.config.endpoint_url, latency=0.02) as proxy:
        config = replace(place.config, endpoint_url=proxy.endpoint_url, transport=transport)
        async with zs.Session(s3=config, limits=zs.Limits(requests=limit)) as session:
            array = await session.create_array(place.url, shape=(200,), chunks=(1,), dtype="i4")
            proxy.reset()
            proxy.crowd = limit  # the proxy answers none before this many wait, so the machine's speed does not matter
            await array.set_slice(np.arange(1, 201), 0)
            assert proxy.peak == limit
            proxy.reset()
            # Two concurrent calls share the session's limit.
            halves = await asyncio.gather(array.get_slice(0, 100), array.get_slice(100, 200))
            assert proxy.peak == limit
    assert np.array_equal(np.concatenate(halves), np.arange(1, 201))
