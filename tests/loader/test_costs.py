"""What an epoch of a BatchLoader costs: the chunks that it fetches, and the memory that it holds."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs

from .conftest import SHUFFLES, Watched, batches_of, order_of, rows, stored

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


async def test_ranks_and_resumed_epochs_fetch_again_only_chunks_at_their_borders(session: zs.Session) -> None:
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


async def test_chunks_that_do_not_fit_the_buffer_are_fetched_for_each_neighbour(session: zs.Session) -> None:
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


async def test_chunks_that_no_sample_uses_are_not_fetched(session: zs.Session) -> None:
    store = Watched()
    array = await stored(session, store, rows(1000, 4), chunks=(10, 4))
    for shuffle in SHUFFLES:
        store.gets.clear()
        loader = zs.BatchLoader(array, batch_size=3, window=zs.Window(2, stride=100, offset=5), shuffle=shuffle)
        assert len(np.concatenate(await batches_of(loader))) == 10
        assert store.gets.total() == 10


async def test_chunks_of_a_shard_are_fetched_together(session: zs.Session) -> None:
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
async def test_the_cost_of_an_epoch_is_reported_before_it_starts(
    session: zs.Session, shuffle: Any, workers: int
) -> None:
    store, labels = Watched(), await stored(session, zs.MemoryStore(), rows(400), chunks=(400,))
    array = await stored(session, store, rows(400, 10), chunks=(10, 5))
    loader = zs.BatchLoader(
        {"x": array, "y": labels}, batch_size=7, shuffle=shuffle, buffer_bytes=26_000, world_size=2, rank=1
    )
    explanation = loader.explain(3, workers=workers)
    assert loader.explain(3, workers=2**62).samples == explanation.samples, "workers without a batch cost nothing"
    assert store.gets.total() == 0
    found = [await batches_of(loader, 3, worker=n, workers=workers) for n in range(workers)]
    assert explanation.chunks == store.gets.total() + workers  # and the labels, once in each
    assert explanation.batches == sum(map(len, found)) == len(loader)
    assert explanation.samples == sum(len(batch["y"]) for part in found for batch in part) == 200
    assert (explanation.stored_chunks, explanation.memory_bytes, explanation.exact) == (81, 26_000 + 64 * 2**20, True)


@pytest.mark.parametrize("shuffle", SHUFFLES)
async def test_the_cost_of_windows_is_reported_before_the_epoch_starts(session: zs.Session, shuffle: Any) -> None:
    store = Watched()
    array = await stored(session, store, rows(400, 10), chunks=(10, 5))
    loader = zs.BatchLoader(array, batch_size=7, window=zs.Window(6), shuffle=shuffle, buffer_bytes=16_000)
    explanation = loader.explain()
    await batches_of(loader, 0)
    assert explanation.chunks == store.gets.total() == loader.report().chunks
    assert explanation.decoded_bytes == explanation.chunks * 200
    assert f"{explanation.chunks} chunks fetched of 80 stored" in str(explanation)


async def test_the_cost_of_a_very_long_epoch_is_estimated_from_its_beginning(session: zs.Session) -> None:
    array = await session.create_array(zs.MemoryStore(), shape=(10**8, 10), chunks=(10, 10), dtype="i4")
    explanation = zs.BatchLoader(array, batch_size=7, shuffle="chunks", buffer_bytes=16_000).explain()
    assert not explanation.exact
    assert abs(explanation.chunks - 10**7) < 10**4
    assert "about" in str(explanation)


# Memory


@pytest.mark.parametrize("shuffle", SHUFFLES)
async def test_no_more_is_read_ahead_than_fits_the_buffer_and_prefetch_bytes(session: zs.Session, shuffle: Any) -> None:
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
async def test_memory_of_batches_is_reused_only_when_no_view_of_it_exists(session: zs.Session, out: str) -> None:
    data = np.repeat(rows(640), 4096).reshape(640, 4096)
    array = await stored(session, zs.MemoryStore(), data, chunks=(16, 4096), compressor=None)
    loader = zs.BatchLoader(array, batch_size=8, out=out)
    wanted = data.reshape(80, 8, 4096)
    kept = await batches_of(loader)  # all of them: none may be written to again
    assert np.array_equal(kept, wanted)
    places: set[int] = set()
    views = []
    number = 0
    # The batch is deleted, and a view of a view of it is kept; each kind of view in turn.
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


async def test_memory_of_batches_that_were_kept_for_long_is_freed(session: zs.Session) -> None:
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
