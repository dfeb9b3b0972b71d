"""A second networked store needs one module and one call of `register_store`; the session's limits apply to it."""

from __future__ import annotations

import asyncio
import pickle
from collections.abc import AsyncIterator

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async.testing.conformance import CHECKS, Check, check_name

from .toy import ToyServer, ToyStore


@pytest.fixture
async def server() -> AsyncIterator[ToyServer]:
    zs.register_store("toy", ToyStore)
    async with ToyServer() as server:
        yield server
    zs.unregister_store("toy")


@pytest.mark.parametrize("check", CHECKS, ids=check_name)
async def test_a_second_networked_store_passes_the_conformance_suite(server: ToyServer, check: Check) -> None:
    async with zs.Session(limits=zs.Limits(requests=8)) as session:
        await check(session.store(f"toy://127.0.0.1:{server.port}/some/prefix"))


async def test_requests_of_a_second_networked_store_count_against_the_sessions_limit(server: ToyServer) -> None:
    data = np.arange(1, 401).reshape(20, 20)
    async with zs.Session(limits=zs.Limits(requests=5)) as session:
        one, two = [
            await session.create_array(
                f"toy://127.0.0.1:{server.port}/{name}", shape=(20, 20), chunks=(2, 2), dtype="i8"
            )
            for name in ("one", "two")
        ]
        await one[...].set(data)
        await two[...].set(data)
        server.peak = 0
        for result in await asyncio.gather(one[...].get(), two[...].get()):
            np.testing.assert_array_equal(result, data)
    assert 1 < server.peak <= 5


async def test_failures_of_a_second_networked_store_are_retried_by_the_sessions_policy(server: ToyServer) -> None:
    async with zs.Session(retry=zs.RetryPolicy(attempts=3)) as session:
        array = await session.create_array(f"toy://127.0.0.1:{server.port}/a", shape=(4,), chunks=(4,), dtype="i8")
        await array[...].set([1, 2, 3, 4])
        server.breaks = 2
        assert (await array.get_slice(0, 4)).tolist() == [1, 2, 3, 4]
        assert session.metrics.retries == 2
        server.breaks = 3
        with pytest.raises(zs.NetworkError) as caught:
            await array.get_slice(0, 4)
        assert caught.value.attempts == 3


async def test_another_session_opens_arrays_of_a_second_networked_store_by_ref(server: ToyServer) -> None:
    async with zs.Session() as session:
        array = await session.create_array(
            f"toy://127.0.0.1:{server.port}/x", path="y/z", shape=(3,), chunks=(2,), dtype="i8"
        )
        await array[...].set([7, 8, 9])
        ref = pickle.loads(pickle.dumps(array.ref))
    async with zs.Session() as session:
        assert (await (await session.open_array(ref)).get_slice(0, 3)).tolist() == [7, 8, 9]


async def test_the_store_that_a_factory_returns_is_checked(server: ToyServer) -> None:
    zs.register_store("nothing", lambda url, context: object())
    try:
        async with zs.Session() as session:
            with pytest.raises(zs.ConfigError, match=r"factory of nothing:// returned .* lacks methods of a Store"):
                session.store("nothing://x")
    finally:
        zs.unregister_store("nothing")
