"""Stopping a BatchLoader, at any point and in any way, leaves no task, request or lease, and loses no batch."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest

import zarr_s3_async as zs

from ..streams.cancelling import WAYS, at_every_turn
from .conftest import Watched, batches_of, collect, other_tasks, rows, settle, stored


@pytest.mark.parametrize("taken", [0, 1, 3])
async def test_leaving_an_epoch_early_leaves_no_task_and_no_lease(session: zs.Session, taken: int) -> None:
    store = Watched(2)
    array = await stored(session, store, rows(400, 3), chunks=(4, 3))
    loader = zs.BatchLoader(array, batch_size=8, shuffle="chunks", buffer_bytes=2000)
    async with loader.epoch() as epoch:
        for _ in range(taken):
            await anext(epoch)
    assert (other_tasks(), store.in_flight, session._leases.held) == ([], 0, 0)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shuffle", [None, "chunks", "global"])
async def test_an_epoch_cancelled_at_any_await_leaves_nothing_and_the_next_one_is_complete(
    session: zs.Session, way: str, shuffle: Any
) -> None:
    store = Watched(4)
    array = await stored(session, store, rows(48, 3), chunks=(4, 3))
    options: Any = {"window": zs.Window(3), "shuffle": shuffle, "buffer_bytes": 700, "prefetch_bytes": 300}
    loader = zs.BatchLoader(array, batch_size=8, **options)

    async def call() -> None:
        async with loader.epoch() as epoch:
            async for batch in epoch:
                assert np.array_equal(batch[..., 0], batch[:, :1, 0] + np.arange(3))
                await asyncio.sleep(0)

    async def check() -> None:
        assert (other_tasks(), store.in_flight, session._leases.held) == ([], 0, 0)

    assert await at_every_turn(way, call, check) > 10
    found = np.concatenate(await batches_of(loader))[:, 0, 0]
    assert sorted(found.tolist()) == list(range(46))


async def test_a_failed_read_ends_the_epoch_which_can_be_resumed(session: zs.Session) -> None:
    store = Watched(6)
    array = await stored(session, store, rows(400, 10), chunks=(10, 10))
    loader = zs.BatchLoader(array, batch_size=16, window=zs.Window(8), shuffle="chunks", buffer_bytes=8000)
    wanted = np.concatenate(await batches_of(loader, 0))
    for broken in range(0, 40, 3):
        taken: list[Any] = []
        store.broken = {f"c/{broken}/0"}
        with pytest.raises(zs.NetworkError, match="no answer"):
            await asyncio.wait_for(collect(loader.epoch(0), taken), 10)
        assert (other_tasks(), session._leases.held) == ([], 0)
        store.broken = set()
        loader.restore(loader.state())
        assert np.array_equal(np.concatenate([*taken, *await batches_of(loader, 0)]), wanted)


async def test_breaking_out_of_the_loop_stops_reading_ahead(session: zs.Session) -> None:
    store = Watched(2)
    array = await stored(session, store, rows(400, 3), chunks=(4, 3))
    loader = zs.BatchLoader(array, batch_size=8, buffer_bytes=2000)
    async for _ in loader.epoch():
        break
    await settle()
    assert (other_tasks(), store.in_flight, session._leases.held) == ([], 0, 0)
    fetched = store.gets.total()
    await settle()
    assert store.gets.total() == fetched < 100


async def test_an_epoch_that_waits_for_a_silent_store_can_be_stopped(session: zs.Session) -> None:
    store = Watched()
    array = await stored(session, store, rows(400, 3), chunks=(4, 3))
    store.hangs_from = 10
    loader = zs.BatchLoader(array, batch_size=8, buffer_bytes=2000)
    async with loader.epoch() as epoch:
        with anyio.move_on_after(0.05) as scope:
            async for _ in epoch:
                pass
        assert scope.cancelled_caught
    assert (other_tasks(), store.in_flight, session._leases.held) == ([], 0, 0)


async def test_a_cancelled_wait_consumes_no_batch(session: zs.Session) -> None:
    array = await stored(session, Watched(5), rows(100, 3), chunks=(4, 3))
    loader = zs.BatchLoader(array, batch_size=8, buffer_bytes=2000)
    epoch, found, cancelled = loader.epoch(), [], 0
    while len(found) < 13:
        for turns in range(12):
            waiting = asyncio.ensure_future(anext(epoch, None))
            for _ in range(turns):
                await asyncio.sleep(0)
            waiting.cancel()
            await asyncio.wait([waiting])
            cancelled += waiting.cancelled()
            if not waiting.cancelled() and waiting.result() is not None:
                found.append(waiting.result())
        batch = await anext(epoch, None)
        if batch is not None:
            found.append(batch)
    assert cancelled > 3
    assert np.array_equal(np.concatenate(found), rows(100, 3))


async def test_another_iteration_ends_the_running_one(session: zs.Session) -> None:
    array = await stored(session, zs.MemoryStore(), rows(100, 3), chunks=(4, 3))
    loader = zs.BatchLoader(array, batch_size=8)
    first, second = loader.epoch(0), loader.epoch(1)
    await anext(first)
    await anext(second)
    with pytest.raises(zs.StateError, match="another iteration was started"):
        await anext(first)
    assert len([batch async for batch in second]) == 12


async def test_of_iterations_that_start_at_the_same_time_one_continues(tmp_path: Path) -> None:
    async with zs.Session() as session:
        await stored(session, f"file://{tmp_path}/a", rows(100, 3), chunks=(4, 3))
    loader = zs.BatchLoader(f"file://{tmp_path}/a", batch_size=8)

    async def iterate() -> int | str:
        try:
            return len(await batches_of(loader))
        except zs.StateError:
            return "stopped"

    assert sorted(await asyncio.gather(*(iterate() for _ in range(3))), key=str) == [13, "stopped", "stopped"]
    assert loader.state()["epoch"] == 3


async def test_an_epoch_cancelled_while_opening_its_arrays_can_be_started_again(tmp_path: Path) -> None:
    async with zs.Session() as session:
        await stored(session, f"file://{tmp_path}/a", rows(100, 3), chunks=(4, 3))
    before, cancelled = other_tasks(), 0
    for turns in range(60):
        options = {"limits": zs.Limits(requests=4)}  # so the loader has its own session, which it must close
        loader = zs.BatchLoader(f"file://{tmp_path}/a", batch_size=8, buffer_bytes=2000, session_options=options)
        epoch = loader.epoch()
        waiting = asyncio.ensure_future(anext(epoch))
        for _ in range(turns):
            await asyncio.sleep(0)
        waiting.cancel()
        await asyncio.wait([waiting])
        cancelled += waiting.cancelled()
        first = [] if waiting.cancelled() else [waiting.result()]
        assert np.array_equal(np.concatenate([*first, *[batch async for batch in epoch]]), rows(100, 3))
        assert other_tasks() == before
    assert cancelled > 20


async def test_closing_the_loader_raises_an_error_in_its_epoch(session: zs.Session) -> None:
    array = await stored(session, zs.MemoryStore(), rows(100, 3), chunks=(4, 3))
    loader = zs.BatchLoader(array, batch_size=8, prefetch_bytes=1)
    epoch = loader.epoch()
    await anext(epoch)
    loader.close()
    with pytest.raises(zs.StateError, match="its loader was closed"):
        await collect(epoch, [])
    assert len(await batches_of(loader)) == 13  # and it may be used again
    await epoch.aclose()
    assert await anext(epoch, None) is None


async def test_two_loaders_of_one_session_do_not_block_each_other(session: zs.Session) -> None:
    array = await stored(session, Watched(1), rows(400, 3), chunks=(4, 3))
    one, other = (zs.BatchLoader(array, batch_size=8, shuffle=s, buffer_bytes=500) for s in ("chunks", "global"))
    first, second = one.epoch(), other.epoch()
    async with asyncio.timeout(20):
        async for _ in first:  # the second loader stays idle with full buffers
            break
        found = [batch async for batch in second]
        found += [await array.get_slice((0, 0), (400, 3))]
        await first.aclose()
    assert len(found) == 51


async def test_closing_the_session_during_an_epoch_is_an_error_and_leaves_nothing_running() -> None:
    async with zs.Session() as session:
        array = await stored(session, Watched(1), rows(400, 3), chunks=(4, 3))
        epoch = zs.BatchLoader(array, batch_size=8, buffer_bytes=1000).epoch()
        await anext(epoch)
    with pytest.raises(zs.SessionClosed):
        async for _ in epoch:
            pass
    await settle()
    assert not other_tasks()
