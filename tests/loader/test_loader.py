"""BatchLoader where a loop runs: what batches hold, what is fetched for them, and what is left when it is stopped."""

from __future__ import annotations

import asyncio
import json
import tracemalloc
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import zarr_s3_async as zs

from ..streams.cancelling import WAYS, at_every_turn
from .conftest import Watched, numbered, others, stored

SHUFFLES = (None, "chunks", "buffer", "global")


async def batches_of(loader: zs.BatchLoader, number: int | None = None, **part: int) -> list[Any]:
    return [batch async for batch in loader.epoch(number, **part)]


async def collect(epoch: Any, into: list[Any]) -> None:
    async for batch in epoch:
        into.append(batch)


async def order_of(loader: zs.BatchLoader, number: int | None = None, **part: int) -> list[int]:
    """Samples of an array whose rows hold their number."""
    batches = await batches_of(loader, number, **part)
    return np.concatenate(batches).reshape(sum(map(len, batches)), -1)[:, 0].tolist()


def rows(*shape: int) -> np.ndarray:
    """Each row holds its number."""
    return np.broadcast_to(np.arange(shape[0], dtype="i4").reshape(-1, *[1] * (len(shape) - 1)), shape).copy()


# What batches hold


@st.composite
def grids(draw: st.DrawFn) -> dict[str, Any]:
    shape = tuple(draw(st.integers(1, 24)) for _ in range(draw(st.integers(1, 3))))
    chunks = tuple(draw(st.integers(1, n)) for n in shape)
    options: dict[str, Any] = {"chunks": chunks, "zarr_format": draw(st.sampled_from([2, 3]))}
    if options["zarr_format"] == 3 and draw(st.booleans()):
        options["shards"] = tuple(c * draw(st.integers(1, 3)) for c in chunks)
    options["compressor"] = draw(st.sampled_from([None, "zstd", "gzip"]))
    return {"shape": shape, "dtype": draw(st.sampled_from(["u1", ">i4", "f8", "c8", "M8[s]", "S3"])), **options}


@given(
    grid=grids(),
    data=st.data(),
    shuffle=st.sampled_from(SHUFFLES),
    batch_size=st.integers(1, 20),
    buffer_bytes=st.sampled_from([200, 2000, 10**6]),
    prefetch_bytes=st.sampled_from([1, 10**6]),
)
def test_windows_are_slices_of_numpy(
    grid: dict[str, Any], data: Any, shuffle: Any, batch_size: int, buffer_bytes: int, prefetch_bytes: int
) -> None:
    axis = data.draw(st.integers(0, len(grid["shape"]) - 1))
    stride = data.draw(st.sampled_from([1, 1, 2, 7]))
    length = grid["shape"][axis]
    windows = {
        name: zs.Window(data.draw(st.integers(1, 5)), stride, data.draw(st.integers(0, 4))) for name in ("x", "y")
    }
    samples = min(window.samples(length) for window in windows.values())
    values = np.random.default_rng(0).integers(0, 100, grid["shape"]).astype(grid["dtype"])

    async def run() -> None:
        async with zs.Session() as session:
            array = await stored(
                session, zs.MemoryStore(), values, **{k: v for k, v in grid.items() if k not in ("shape", "dtype")}
            )
            try:
                loader = zs.BatchLoader(
                    {"x": array, "y": array}, batch_size=batch_size, axis=axis, window=windows, shuffle=shuffle,
                    buffer_bytes=buffer_bytes, prefetch_bytes=prefetch_bytes,
                )  # fmt: skip
            except zs.ConfigError:
                assume(False)
            assert loader.samples == samples
            batches = await batches_of(loader, 0)
            assert len(batches) == len(loader) == -(-samples // batch_size)
            moved = np.moveaxis(values, axis, 0)
            wanted = {
                name: np.array([moved[w.offset + i * stride :][: w.length] for i in range(samples)], values.dtype)
                for name, w in windows.items()
            }
            if not batches:
                return
            found = {name: np.concatenate([batch[name] for batch in batches]) for name in windows}
            if shuffle is None:
                for name in windows:
                    assert np.array_equal(found[name], wanted[name])
            else:
                assert sorted(map(_bytes, zip(found["x"], found["y"], strict=True))) == sorted(
                    map(_bytes, zip(wanted["x"], wanted["y"], strict=True))
                )

    asyncio.run(run())


def _bytes(pair: tuple[np.ndarray, np.ndarray]) -> bytes:
    return b"|".join(one.astype(one.dtype.newbyteorder("=")).tobytes() for one in pair)


async def test_arrays_of_different_chunks_stay_side_by_side(session: zs.Session) -> None:
    images = await stored(session, zs.MemoryStore(), rows(300, 8), chunks=(7, 8))
    masks = await stored(session, zs.MemoryStore(), rows(300, 5, 2), chunks=(20, 5, 1))
    labels = await stored(session, zs.MemoryStore(), rows(300), chunks=(300,))
    for shuffle in SHUFFLES:
        for buffer_bytes in (4000, 10**6):
            loader = zs.BatchLoader(
                {"x": images, "m": masks, "y": labels}, batch_size=16, shuffle=shuffle, buffer_bytes=buffer_bytes
            )
            seen = []
            async for batch in loader.epoch():
                assert (batch["x"] == batch["y"][:, None]).all()
                assert (batch["m"] == batch["y"][:, None, None]).all()
                seen += batch["y"].tolist()
            assert sorted(seen) == list(range(300))


async def test_strings_of_any_length_are_batches_of_objects(session: zs.Session) -> None:
    words = np.array([f"word {n}" for n in range(50)], object)
    array = await session.create_array(zs.MemoryStore(), shape=(50,), chunks=(7,), dtype=str)
    await array[...].set(words)
    loader = zs.BatchLoader(array, batch_size=8, shuffle="chunks")
    assert sorted(np.concatenate(await batches_of(loader))) == sorted(words)


async def test_absent_chunks_are_what_the_array_was_opened_with(session: zs.Session) -> None:
    store = zs.MemoryStore()
    await session.create_array(store, shape=(20,), chunks=(5,), dtype="i4", fill_value=7)
    lenient, strict = await session.open_array(store), await session.open_array(store, missing="raise")
    assert (np.concatenate(await batches_of(zs.BatchLoader(lenient, batch_size=3))) == 7).all()
    with pytest.raises(zs.ChunkNotFound):
        await batches_of(zs.BatchLoader(strict, batch_size=3))


# Orders


@pytest.mark.parametrize("shuffle", SHUFFLES)
async def test_the_order_is_the_same_whatever_the_scheduler_does(session: zs.Session, shuffle: Any) -> None:
    orders = set()
    for seed in range(6):
        array = await stored(session, Watched(seed), rows(200, 3), chunks=(7, 3))
        loader = zs.BatchLoader(array, batch_size=9, shuffle=shuffle, seed=4, buffer_bytes=800, world_size=2, rank=1)
        orders.add(tuple(await order_of(loader, 3)))
    assert len(orders) == 1


@pytest.mark.parametrize("shuffle", SHUFFLES[1:])
async def test_each_iteration_is_another_epoch(session: zs.Session, shuffle: Any) -> None:
    array = await stored(session, zs.MemoryStore(), rows(200, 3), chunks=(7, 3))
    loader = zs.BatchLoader(array, batch_size=9, shuffle=shuffle)
    orders = [await order_of(loader) for _ in range(3)]
    assert len(set(map(tuple, orders))) == 3
    assert orders[2] == await order_of(loader, 2)
    assert all(sorted(order) == list(range(200)) for order in orders)


@pytest.mark.parametrize("shuffle", SHUFFLES)
async def test_ranks_and_workers_share_the_samples(session: zs.Session, shuffle: Any) -> None:
    array = await stored(session, zs.MemoryStore(), rows(103, 3), chunks=(50, 3))
    found: list[int] = []
    for rank in range(3):
        loader = zs.BatchLoader(array, batch_size=4, shuffle=shuffle, rank=rank, world_size=3)
        for worker in range(5):  # more than there are chunks
            found += await order_of(loader, 0, worker=worker, workers=5)
    assert sorted(found) == list(range(103))


@pytest.mark.parametrize("shuffle", SHUFFLES)
async def test_an_empty_array_has_no_batch(session: zs.Session, shuffle: Any) -> None:
    array = await session.create_array(zs.MemoryStore(), shape=(0, 3), chunks=(4, 3), dtype="i4")
    loader = zs.BatchLoader(array, batch_size=8, shuffle=shuffle)
    assert (len(loader), await batches_of(loader), await batches_of(loader, 0, worker=1, workers=2)) == (0, [], [])
    assert loader.explain().chunks == 0


# Requests


@pytest.mark.parametrize("shuffle", [None, "chunks", "buffer"])
@pytest.mark.parametrize("buffer_bytes", [2000, 10**6])
async def test_an_epoch_fetches_each_chunk_once(session: zs.Session, shuffle: Any, buffer_bytes: int) -> None:
    store = Watched(1)
    array = await stored(session, store, rows(400, 10), chunks=(10, 5))
    loader = zs.BatchLoader(array, batch_size=32, shuffle=shuffle, buffer_bytes=buffer_bytes)
    assert sorted(await order_of(loader)) == list(range(400))
    assert len(store.gets) == 80
    assert set(store.gets.values()) == {1}
    assert loader.report().chunks == 80


@pytest.mark.parametrize("shuffle", [None, "buffer"])
@pytest.mark.parametrize("chunk", [4, 10])
async def test_windows_that_overlap_fetch_each_chunk_once(session: zs.Session, shuffle: Any, chunk: int) -> None:
    store = Watched(1)
    array = await stored(session, store, rows(400, 10), chunks=(chunk, 10))
    windows = {"x": zs.Window(8), "y": zs.Window(1, offset=8)}
    loader = zs.BatchLoader({"x": array, "y": array}, batch_size=32, window=windows, shuffle=shuffle, buffer_bytes=4000)
    assert len(await batches_of(loader)) == 13
    assert set(store.gets.values()) == {1}
    assert store.gets.total() == 400 // chunk


@pytest.mark.parametrize("options", [{}, {"shards": (50, 10)}, {"compressor": None}])
@pytest.mark.parametrize("windows", [{"x": zs.Window(8)}, {"x": zs.Window(8), "y": zs.Window(2, offset=11)}])
async def test_windows_that_overlap_in_permuted_chunks_fetch_each_chunk_once(
    session: zs.Session, windows: Any, options: Any
) -> None:
    store = Watched(2)
    array = await stored(session, store, rows(4000, 10), chunks=(10, 10), **options)
    loader = zs.BatchLoader(
        dict.fromkeys(windows, array), batch_size=32, window=windows, shuffle="chunks", buffer_bytes=40_000
    )
    samples = 4000 - max(window.length - 1 + window.offset for window in windows.values())
    for epoch in range(3):
        store.gets.clear()
        batches = await batches_of(loader, epoch)
        assert loader.report().chunks == loader.explain(epoch).chunks == 400
        if "shards" not in options:
            assert set(store.gets.values()) == {1}
        for name, window in windows.items():
            found = np.concatenate([batch[name] for batch in batches])[..., 0]
            first = found[:, 0] - window.offset
            assert np.array_equal(np.sort(first), np.arange(samples))
            assert np.array_equal(found, found[:, :1] + np.arange(window.length))
            assert (np.diff(first) < 0).sum() > samples / 3


async def test_ranks_and_resumed_epochs_fetch_what_lies_at_their_border_only(session: zs.Session) -> None:
    store = Watched()
    array = await stored(session, store, rows(4000, 10), chunks=(10, 10))
    options: Any = {"window": zs.Window(8), "shuffle": "chunks", "buffer_bytes": 40_000}
    found: list[int] = []
    for rank in range(2):
        loader = zs.BatchLoader(array, batch_size=32, rank=rank, world_size=2, **options)
        batches = await batches_of(loader, 3)
        found += np.concatenate(batches)[:, 0, 0].tolist()
        if rank == 1:
            store.gets.clear()
            loader.restore(loader.state_at(3, 30))
            again = await batches_of(loader, 3)
            assert np.array_equal(np.concatenate(again), np.concatenate(batches[30:]))
            assert set(store.gets.values()) == {1}
        else:
            assert set(store.gets.values()) == {1}
    assert sorted(found) == list(range(3993))


async def test_a_buffer_too_small_to_keep_chunks_fetches_them_for_each_neighbour(session: zs.Session) -> None:
    store = Watched()
    array = await stored(session, store, rows(400, 10), chunks=(10, 10))
    loader = zs.BatchLoader(array, batch_size=32, window=zs.Window(8), shuffle="chunks", buffer_bytes=1400)
    assert sorted(np.concatenate(await batches_of(loader))[:, 0, 0].tolist()) == list(range(393))
    assert store.gets.total() == loader.explain().chunks == 79


async def test_a_global_shuffle_fetches_a_chunk_once_per_half_of_the_buffer(session: zs.Session) -> None:
    store = Watched()
    array = await stored(session, store, rows(1000, 10), chunks=(10, 10))
    for halves in (1, 4):
        store.gets.clear()
        loader = zs.BatchLoader(array, batch_size=32, shuffle="global", buffer_bytes=2 * 40_000 // halves)
        assert sorted(await order_of(loader)) == list(range(1000))
        assert store.gets.total() <= 100 * halves
        assert max(store.gets.values()) == halves


async def test_what_no_sample_takes_is_not_fetched(session: zs.Session) -> None:
    store = Watched()
    array = await stored(session, store, rows(1000, 4), chunks=(10, 4))
    for shuffle in SHUFFLES:
        store.gets.clear()
        loader = zs.BatchLoader(array, batch_size=3, window=zs.Window(2, stride=100, offset=5), shuffle=shuffle)
        assert len(np.concatenate(await batches_of(loader))) == 10
        assert store.gets.total() == 10


async def test_chunks_of_a_shard_come_together(session: zs.Session) -> None:
    array = await stored(session, zs.MemoryStore(), rows(400, 10), chunks=(5, 10), shards=(100, 10))
    for shuffle in SHUFFLES:
        assert sorted(await order_of(zs.BatchLoader(array, batch_size=32, shuffle=shuffle))) == list(range(400))


async def test_chunks_of_differing_lengths_are_read(session: zs.Session) -> None:
    array = await stored(session, zs.MemoryStore(), rows(60, 4), chunks=((7, 20, 3, 30), 4))
    for shuffle in SHUFFLES:
        loader = zs.BatchLoader(array, batch_size=7, window=zs.Window(3), shuffle=shuffle, buffer_bytes=2000)
        assert sorted(np.concatenate(await batches_of(loader))[:, 0, 0]) == list(range(58))


@pytest.mark.parametrize("shuffle", SHUFFLES)
@pytest.mark.parametrize("workers", [1, 3])
async def test_what_an_epoch_costs_is_reported_before(session: zs.Session, shuffle: Any, workers: int) -> None:
    store, labels = Watched(), await stored(session, zs.MemoryStore(), rows(400), chunks=(400,))
    array = await stored(session, store, rows(400, 10), chunks=(10, 5))
    loader = zs.BatchLoader(
        {"x": array, "y": labels}, batch_size=7, shuffle=shuffle, buffer_bytes=26_000, world_size=2, rank=1
    )
    explanation = loader.explain(3, workers=workers)
    assert loader.explain(3, workers=2**62).samples == explanation.samples, (
        "the last ones have no batch, and cost nothing"
    )
    assert store.gets.total() == 0
    found = [await batches_of(loader, 3, worker=n, workers=workers) for n in range(workers)]
    assert explanation.chunks == store.gets.total() + workers  # and the labels, once in each
    assert explanation.batches == sum(map(len, found)) == len(loader)
    assert explanation.samples == sum(len(batch["y"]) for part in found for batch in part) == 200
    assert (explanation.stored_chunks, explanation.memory_bytes, explanation.exact) == (81, 26_000 + 64 * 2**20, True)


@pytest.mark.parametrize("shuffle", SHUFFLES)
async def test_what_windows_cost_is_reported_before(session: zs.Session, shuffle: Any) -> None:
    store = Watched()
    array = await stored(session, store, rows(400, 10), chunks=(10, 5))
    loader = zs.BatchLoader(array, batch_size=7, window=zs.Window(6), shuffle=shuffle, buffer_bytes=16_000)
    explanation = loader.explain()
    await batches_of(loader, 0)
    assert explanation.chunks == store.gets.total() == loader.report().chunks
    assert explanation.decoded_bytes == explanation.chunks * 200
    assert f"{explanation.chunks} chunks fetched of 80 stored" in str(explanation)


async def test_what_a_very_long_epoch_costs_is_reckoned_from_its_beginning(session: zs.Session) -> None:
    array = await session.create_array(zs.MemoryStore(), shape=(10**8, 10), chunks=(10, 10), dtype="i4")
    explanation = zs.BatchLoader(array, batch_size=7, shuffle="chunks", buffer_bytes=16_000).explain()
    assert not explanation.exact
    assert abs(explanation.chunks - 10**7) < 10**4
    assert "about" in str(explanation)


# State


@pytest.mark.parametrize("shuffle", SHUFFLES)
@pytest.mark.parametrize("window", [None, zs.Window(5)])
async def test_a_state_after_any_batch_goes_on_with_the_next_one(
    session: zs.Session, shuffle: Any, window: Any
) -> None:
    array = await stored(session, zs.MemoryStore(), rows(60, 3), chunks=(7, 3))

    def new() -> zs.BatchLoader:
        return zs.BatchLoader(array, batch_size=8, window=window, shuffle=shuffle, buffer_bytes=1000)

    loader = new()
    whole, next_epoch = await batches_of(loader, 2), await batches_of(loader, 3)
    other, count = new(), 0
    async for _ in other.epoch(2):
        count += 1
        state = json.loads(json.dumps(other.state()))
        resumed = new()
        resumed.restore(state)
        assert resumed.state() == state
        rest = [*await batches_of(resumed), *await batches_of(resumed)]
        wanted = [*whole[count:], *next_epoch]
        if count == len(whole):  # an epoch without a batch is left out
            rest = rest[: len(next_epoch)]
        assert len(rest) == len(wanted)
        assert all(np.array_equal(one, other) for one, other in zip(rest, wanted, strict=True))


async def test_an_epoch_by_its_number_goes_on_where_a_state_was_and_another_one_at_its_beginning(
    session: zs.Session,
) -> None:
    array = await stored(session, zs.MemoryStore(), rows(60, 3), chunks=(7, 3))
    loader = zs.BatchLoader(array, batch_size=8, shuffle="chunks")
    whole = await order_of(loader, 1)
    for number, skipped in ((1, 16), (1, 0)):  # the position is used once
        if skipped:
            loader.restore(loader.state_at(1, 2))
        assert await order_of(loader, number) == whole[skipped:]
    loader.restore(loader.state_at(1, 2))
    assert len(await order_of(loader, 5)) == 60


async def test_a_state_of_another_order_is_refused(session: zs.Session) -> None:
    array = await stored(session, zs.MemoryStore(), rows(60, 3), chunks=(7, 3))
    longer = await stored(session, zs.MemoryStore(), rows(61, 3), chunks=(7, 3))
    wider = await stored(session, zs.MemoryStore(), rows(60, 4), chunks=(7, 4))
    options: dict[str, Any] = {"batch_size": 8, "shuffle": "chunks", "seed": 1, "world_size": 2}
    state = zs.BatchLoader(array, **options).state()
    zs.BatchLoader(array, **options).restore(state)
    for changed in (
        {"batch_size": 9}, {"shuffle": "buffer"}, {"seed": 2}, {"rank": 1}, {"world_size": 3}, {"drop_last": True},
        {"buffer_bytes": 10**6}, {"window": zs.Window(1)},
    ):  # fmt: skip
        name = "arrays" if "window" in changed else next(iter(changed))
        with pytest.raises(zs.ConfigError, match=f"made with {name}="):
            zs.BatchLoader(array, **{**options, **changed}).restore(state)
    for other in (longer, wider):
        with pytest.raises(zs.ConfigError, match="this state was made with"):
            zs.BatchLoader(other, **options).restore(state)
    loader = zs.BatchLoader(array, **options)
    for wrong in (
        {},
        None,
        "x",
        {**state, "version": 2},
        {**state, "more": 1},
        {**state, "batch": -1},
        {**state, "batch": 10**9},
        {**state, "workers": 0},
    ):
        with pytest.raises(zs.ConfigError):
            loader.restore(wrong)  # type: ignore[arg-type]  # on purpose


async def test_after_a_failure_the_state_is_that_of_the_last_batch(session: zs.Session) -> None:
    store = Watched(3)
    array = await stored(session, store, rows(60, 3), chunks=(4, 3))
    loader = zs.BatchLoader(array, batch_size=8, buffer_bytes=400)
    store.broken.add("c/6/0")
    taken: list[Any] = []
    with pytest.raises(zs.NetworkError, match="no answer"):
        await collect(loader.epoch(), taken)
    assert 1 <= len(taken) <= 3  # those of fills before the one that failed
    assert np.array_equal(np.concatenate(taken), rows(8 * len(taken), 3))
    assert not others()
    store.broken.clear()
    loader.restore(loader.state())
    assert np.array_equal(np.concatenate([*taken, *await batches_of(loader)]), rows(60, 3))


# Stopping


async def settle() -> None:
    for _ in range(20):
        await asyncio.sleep(0)


@pytest.mark.parametrize("taken", [0, 1, 3])
async def test_leaving_early_leaves_nothing(session: zs.Session, taken: int) -> None:
    store = Watched(2)
    array = await stored(session, store, rows(400, 3), chunks=(4, 3))
    loader = zs.BatchLoader(array, batch_size=8, shuffle="chunks", buffer_bytes=2000)
    async with loader.epoch() as epoch:
        for _ in range(taken):
            await anext(epoch)
    assert (others(), store.in_flight, session._leases.held) == ([], 0, 0)


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("shuffle", [None, "chunks", "global"])
async def test_cancelled_at_any_await_nothing_is_left_and_the_next_epoch_is_whole(
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
        assert (others(), store.in_flight, session._leases.held) == ([], 0, 0)

    assert await at_every_turn(way, call, check) > 10
    found = np.concatenate(await batches_of(loader))[:, 0, 0]
    assert sorted(found.tolist()) == list(range(46))


async def test_a_failed_read_of_what_is_kept_ends_the_epoch_and_a_second_try_goes_on(session: zs.Session) -> None:
    store = Watched(6)
    array = await stored(session, store, rows(400, 10), chunks=(10, 10))
    loader = zs.BatchLoader(array, batch_size=16, window=zs.Window(8), shuffle="chunks", buffer_bytes=8000)
    wanted = np.concatenate(await batches_of(loader, 0))
    for broken in range(0, 40, 3):
        taken: list[Any] = []
        store.broken = {f"c/{broken}/0"}
        with pytest.raises(zs.NetworkError, match="no answer"):
            await asyncio.wait_for(collect(loader.epoch(0), taken), 10)
        assert (others(), session._leases.held) == ([], 0)
        store.broken = set()
        loader.restore(loader.state())
        assert np.array_equal(np.concatenate([*taken, *await batches_of(loader, 0)]), wanted)


async def test_breaking_out_of_the_loop_stops_it(session: zs.Session) -> None:
    store = Watched(2)
    array = await stored(session, store, rows(400, 3), chunks=(4, 3))
    loader = zs.BatchLoader(array, batch_size=8, buffer_bytes=2000)
    async for _ in loader.epoch():
        break
    await settle()
    assert (others(), store.in_flight, session._leases.held) == ([], 0, 0)
    fetched = store.gets.total()
    await settle()
    assert store.gets.total() == fetched < 100


async def test_it_stops_when_it_waits_for_a_store_that_does_not_answer(session: zs.Session) -> None:
    store = Watched()
    array = await stored(session, store, rows(400, 3), chunks=(4, 3))
    store.hangs_from = 10
    loader = zs.BatchLoader(array, batch_size=8, buffer_bytes=2000)
    async with loader.epoch() as epoch:
        with anyio.move_on_after(0.05) as scope:
            async for _ in epoch:
                pass
        assert scope.cancelled_caught
    assert (others(), store.in_flight, session._leases.held) == ([], 0, 0)


async def test_a_cancelled_wait_takes_no_batch(session: zs.Session) -> None:
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


async def test_another_iteration_ends_the_one_that_runs(session: zs.Session) -> None:
    array = await stored(session, zs.MemoryStore(), rows(100, 3), chunks=(4, 3))
    loader = zs.BatchLoader(array, batch_size=8)
    first, second = loader.epoch(0), loader.epoch(1)
    await anext(first)
    await anext(second)
    with pytest.raises(zs.StateError, match="another iteration was started"):
        await anext(first)
    assert len([batch async for batch in second]) == 12


async def test_of_iterations_that_begin_at_once_one_goes_on(tmp_path: Path) -> None:
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


async def test_cancelled_at_any_point_of_opening_it_can_be_begun_again(tmp_path: Path) -> None:
    async with zs.Session() as session:
        await stored(session, f"file://{tmp_path}/a", rows(100, 3), chunks=(4, 3))
    before, cancelled = others(), 0
    for turns in range(60):
        options = {"limits": zs.Limits(requests=4)}  # a session of its own, which is to be closed
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
        assert others() == before
    assert cancelled > 20


async def test_a_closed_loader_is_no_end_of_an_epoch(session: zs.Session) -> None:
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


async def test_two_loaders_of_one_session_do_not_wait_for_one_another(session: zs.Session) -> None:
    array = await stored(session, Watched(1), rows(400, 3), chunks=(4, 3))
    one, other = (zs.BatchLoader(array, batch_size=8, shuffle=s, buffer_bytes=500) for s in ("chunks", "global"))
    first, second = one.epoch(), other.epoch()
    async with asyncio.timeout(20):
        async for _ in first:  # the other one is left with its buffers full
            break
        found = [batch async for batch in second]
        found += [await array.get_slice((0, 0), (400, 3))]
        await first.aclose()
    assert len(found) == 51


async def test_closing_the_session_in_the_middle_is_an_error_and_leaves_nothing() -> None:
    async with zs.Session() as session:
        array = await stored(session, Watched(1), rows(400, 3), chunks=(4, 3))
        epoch = zs.BatchLoader(array, batch_size=8, buffer_bytes=1000).epoch()
        await anext(epoch)
    with pytest.raises(zs.SessionClosed):
        async for _ in epoch:
            pass
    await settle()
    assert not others()


# Memory


@pytest.mark.parametrize("shuffle", SHUFFLES)
async def test_no_more_is_read_ahead_than_buffer_and_prefetch_hold(session: zs.Session, shuffle: Any) -> None:
    store = Watched(1)
    array = await stored(session, store, rows(2000, 10), chunks=(5, 10))
    loader = zs.BatchLoader(array, batch_size=10, shuffle=shuffle, buffer_bytes=8000, prefetch_bytes=2000)
    epoch = loader.epoch()
    for taken in range(1, 30):
        await anext(epoch)
        for _ in range(200):
            await asyncio.sleep(0)
        if shuffle != "global":
            assert store.gets.total() * 200 <= taken * 400 + 8000 + 2000
    await epoch.aclose()


@pytest.mark.parametrize("out", ["numpy", "dlpack"])
async def test_memory_of_batches_is_used_again_once_no_view_of_it_is_left(session: zs.Session, out: str) -> None:
    data = np.repeat(rows(640), 4096).reshape(640, 4096)
    array = await stored(session, zs.MemoryStore(), data, chunks=(16, 4096), compressor=None)
    loader = zs.BatchLoader(array, batch_size=8, out=out)
    wanted = data.reshape(80, 8, 4096)
    kept = await batches_of(loader)  # all of them: none may be written to again
    assert np.array_equal(kept, wanted)
    places: set[int] = set()
    views = []
    number = 0
    # The batch goes, and a view of a view stays, of each kind in turn.
    ways: list[Callable[[np.ndarray[Any, Any]], Any]] = [
        memoryview,
        np.from_dlpack,
        lambda part: np.frombuffer(part.base, "i4").reshape(8, 4096)[3:5, ::2],
        lambda part: np.asarray(part).view(np.recarray),
    ]
    async for batch in loader.epoch():
        places.add(batch.ctypes.data)
        if number % 10 == 0:
            views.append((number, ways[number // 10 % len(ways)](batch[3:5, ::2])))
        number += 1
        del batch
    assert len(places) < 25
    for number, view in views:
        assert np.array_equal(view, wanted[number, 3:5, ::2])


async def test_memory_of_batches_that_were_kept_for_long_is_given_back(session: zs.Session) -> None:
    array = await stored(session, zs.MemoryStore(), rows(320, 8192), chunks=(16, 8192), compressor=None)
    loader = zs.BatchLoader(array, batch_size=8, prefetch_bytes=2 * 8 * 8192 * 4)
    kept = []
    tracemalloc.start()
    try:
        epoch = loader.epoch()
        for _ in range(30):
            kept.append(await anext(epoch))
        before = tracemalloc.get_traced_memory()[0]
        kept.clear()
        assert before - tracemalloc.get_traced_memory()[0] > 26 * 8 * 8192 * 4
        await epoch.aclose()
    finally:
        tracemalloc.stop()


# Buffers of the user's, transforms, kinds of batches


@pytest.mark.parametrize("shuffle", SHUFFLES)
async def test_batches_are_laid_into_buffers_in_turn(session: zs.Session, shuffle: Any) -> None:
    array = await stored(session, Watched(1), rows(100, 3), chunks=(4, 3))
    ring = [np.zeros((8, 3), "i4") for _ in range(3)]
    plain = zs.BatchLoader(array, batch_size=8, shuffle=shuffle)
    loader = zs.BatchLoader(array, batch_size=8, shuffle=shuffle, out=ring)
    wanted = await batches_of(plain, 0)
    number = 0
    async for batch in loader.epoch(0):
        assert batch.base is ring[number % 3]
        await settle()  # whatever is read ahead meanwhile, it is ours until the next one
        assert np.array_equal(batch, wanted[number])
        number += 1
    assert number == len(wanted)


async def test_buffers_that_do_not_fit_are_refused(session: zs.Session) -> None:
    array = await stored(session, zs.MemoryStore(), rows(100, 3), chunks=(4, 3))
    good = np.zeros((8, 3), "i4")
    read_only = np.zeros((8, 3), "i4")
    read_only.flags.writeable = False
    wrong: list[Any] = [
        [good], [good, np.zeros((9, 3), "i4")], [good, np.zeros((8, 3), "f4")], [good, read_only], [good, good[:]],
        [good, np.zeros((3, 8), "i4").T], [good, "x"], "nump", 5, [{"x": good}, {"x": good.copy()}],
    ]  # fmt: skip
    for out in wrong:
        with pytest.raises(zs.ConfigError, match="out"):
            zs.BatchLoader(array, batch_size=8, out=out)
    with pytest.raises(zs.ConfigError, match="with the keys x"):
        zs.BatchLoader({"x": array}, batch_size=8, out=[good, good.copy()])


async def test_a_transform_is_called_in_order_and_its_failure_names_which_batch(session: zs.Session) -> None:
    array = await stored(session, zs.MemoryStore(), rows(100, 3), chunks=(4, 3))
    loader = zs.BatchLoader(array, batch_size=8, transform=lambda batch: batch.sum())
    assert await batches_of(loader) == [rows(100, 3)[at : at + 8].sum() for at in range(0, 100, 8)]

    def fail(batch: np.ndarray) -> np.ndarray:
        if batch[0, 0] == 24:
            raise ValueError("not this one")
        return batch

    taken: list[Any] = []
    with pytest.raises(ValueError, match="not this one") as caught:
        await collect(zs.BatchLoader(array, batch_size=8, transform=fail).epoch(2), taken)
    assert len(taken) == 3
    assert caught.value.__notes__ == ["raised by the transform of batch 3 of epoch 2"]
    assert not others()


async def test_dlpack_batches_are_taken_without_a_copy(session: zs.Session) -> None:
    array = await stored(session, zs.MemoryStore(), numbered(40, 3).astype(">i4"), chunks=(4, 3))
    async for batch in zs.BatchLoader(array, batch_size=8, out="dlpack").epoch():
        assert np.shares_memory(np.from_dlpack(batch), batch)
        assert batch.dtype.isnative
    times = await stored(session, zs.MemoryStore(), numbered(40).astype("M8[s]"), chunks=(4,))
    with pytest.raises(zs.ConfigError, match="dtype datetime64"):
        zs.BatchLoader(times, batch_size=8, out="dlpack")


# Options


async def test_every_option_is_checked(session: zs.Session) -> None:
    array = await stored(session, zs.MemoryStore(), rows(100, 3), chunks=(4, 3))
    wrong: list[dict[str, Any]] = [
        {"batch_size": 0}, {"batch_size": True}, {"batch_size": 2.0}, {"axis": 2}, {"axis": -1}, {"axis": "0"},
        {"shuffle": "chunk"}, {"shuffle": True}, {"buffer_bytes": 0}, {"seed": "1"}, {"seed": 1.5}, {"drop_last": "no"},
        {"rank": 1}, {"rank": -1}, {"world_size": 0}, {"prefetch_bytes": 0}, {"transform": 5}, {"out": "tensor"},
        {"session_options": {"regoin": "x"}}, {"session_options": 5}, {"window": 8}, {"window": {"x": zs.Window(8)}},
        {"window": zs.Window(101)},
    ]  # fmt: skip
    for options in wrong:
        with pytest.raises(zs.ConfigError):
            zs.BatchLoader(array, **{"batch_size": 8, **options})
    for arrays in (5, {}, {1: array}, {"x": 5}, [array], None, "s3:/bucket/x"):
        with pytest.raises(zs.ConfigError):
            zs.BatchLoader(arrays, batch_size=8)
    with pytest.raises(zs.ConfigError, match="write x="):
        zs.BatchLoader({"x": array, "label": array}, batch_size=8, window={"xx": zs.Window(8)})
    for arguments in ((0,), (1, 0), (1, 1, -1), (True,), ("8",)):
        with pytest.raises(zs.ConfigError, match="Window"):
            zs.Window(*arguments)
    loader = zs.BatchLoader(array, batch_size=8)
    for part in ({"number": -1}, {"number": "0"}, {"worker": 1}, {"workers": 0}, {"worker": -1, "workers": 2}):
        with pytest.raises(zs.ConfigError):
            loader.epoch(**part)  # type: ignore[arg-type]  # on purpose


async def test_an_array_that_changed_its_grid_is_refused_and_one_that_grew_is_read_as_it_was(
    session: zs.Session,
) -> None:
    store = zs.MemoryStore()
    array = await stored(session, store, rows(100, 3), chunks=(4, 3))
    loader = zs.BatchLoader(array, batch_size=8, shuffle="chunks")
    await array.append(rows(20, 3))
    assert sorted(await order_of(loader)) == list(range(100))
    await array.resize((50, 3))
    with pytest.raises(zs.ConfigError, match="has changed since"):
        await order_of(loader)


# Figures


async def test_the_report_shows_who_waits(session: zs.Session) -> None:
    array = await stored(session, Watched(1), rows(400, 3), chunks=(4, 3))
    loader = zs.BatchLoader(array, batch_size=8, buffer_bytes=2000, prefetch_bytes=200)
    await batches_of(loader)
    report = loader.report()
    assert (report.batches, report.samples, report.nbytes, report.chunks) == (50, 400, 4800, 100)
    assert report.bottleneck == "loader"
    assert "raise" in str(report)
    async for _ in loader.epoch():
        await asyncio.sleep(0.01)  # a model that takes far longer than a batch
    assert loader.report().bottleneck == "consumer"
    assert "\n" not in str(loader.report())


@settings(max_examples=20)
@given(consumer=st.floats(0, 10), loader=st.floats(0, 10), seconds=st.floats(10, 20))
def test_one_line_explains_what_to_change(consumer: float, loader: float, seconds: float) -> None:
    report = zs.LoaderReport(
        epoch=0, batches=1, samples=1, nbytes=1, seconds=seconds, consumer_waited=consumer, loader_waited=loader,
        buffer_waited=0, chunks=1, reused=0, shuffle=None,
    )  # fmt: skip
    assert report.bottleneck == (
        "loader" if consumer > seconds / 10 else "consumer" if loader > seconds / 10 else "neither"
    )
    assert report.advice in str(report)
