"""Number of requests and bytes for reads and writes of shards."""

from __future__ import annotations

import asyncio
from math import ceil
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async.byte_range import Span, Suffix

from .counting import Counting

LOCATIONS = pytest.mark.parametrize("location", ["start", "end"])
INDEX = 16 * 16 + 4
"""Bytes of the index of 16 chunks, with its checksum."""


def sharding(chunks: tuple[int, ...], location: str, *compressors: dict[str, Any]) -> list[dict[str, Any]]:
    little = {"name": "bytes", "configuration": {"endian": "little"}}
    configuration = {
        "chunk_shape": list(chunks),
        "codecs": [little, *compressors],
        "index_codecs": [little, {"name": "crc32c"}],
        "index_location": location,
    }
    return [{"name": "sharding_indexed", "configuration": configuration}]


async def filled(session: zs.Session, store: Counting, location: str = "end") -> tuple[zs.Array, np.ndarray]:
    """Four shards of 16 raw chunks of 256 bytes; counters at zero, no cached index."""
    array = await session.create_array(
        store, shape=(64, 64), chunks=(32, 32), dtype="i4", codecs=sharding((8, 8), location), fill_value=7
    )
    data = np.random.default_rng(5).integers(8, 2**31, array.shape, "i4")
    await array[...].set(data)
    forget(session, store)
    return array, data


def forget(session: zs.Session, store: Counting) -> None:
    store.clear()
    session._indexes.forget_below("")


@LOCATIONS
async def test_a_chunk_takes_two_requests_without_and_one_with_a_cached_index(location: str) -> None:
    store = Counting()
    async with zs.Session() as session:
        array, data = await filled(session, store, location)
        np.testing.assert_array_equal(await array.get_slice((8, 8), (16, 16)), data[8:16, 8:16])
        assert store.gets[0] == (Suffix(INDEX) if location == "end" else Span(0, INDEX))
        assert len(store.gets) == 2
        np.testing.assert_array_equal(await array.get_slice((3, 17), (4, 18)), data[3:4, 17:18])
        assert len(store.gets) == 3
        assert store.received == INDEX + 2 * 256


async def test_a_row_of_chunks_is_read_as_one_range() -> None:
    store = Counting()
    async with zs.Session() as session:
        array, data = await filled(session, store)
        await array.get_slice((0, 0), (1, 1))
        store.clear()
        np.testing.assert_array_equal(await array.get_slice((0, 0), (8, 32)), data[:8, :32])
        assert (len(store.gets), store.received) == (1, 4 * 256)


async def test_a_small_gap_between_chunks_is_fetched_and_a_wide_one_is_skipped() -> None:
    store = Counting()
    async with zs.Session(limits=zs.Limits(gap_bytes=256)) as session:
        array, _ = await filled(session, store)
        await array.get_slice((0, 0), (1, 1))
        store.clear()
        await array.oindex[[0, 1], [0, 16]]  # chunks 0 and 2 of a row: a gap of one 256-byte chunk
        assert store.gets == [Span(0, 768)]
        store.clear()
        await array.oindex[[0, 1], [0, 24]]
        assert sorted(store.gets) == [Span(0, 256), Span(768, 1024)]


async def test_a_gap_that_costs_less_than_a_request_is_fetched() -> None:
    store = Counting()
    async with zs.Session() as session:
        array, _ = await filled(session, store)
        await array.get_slice((0, 0), (1, 1))
        store.clear()
        await array.oindex[[0, 1], [0, 24]]
        assert store.gets == [Span(0, 1024)]


@LOCATIONS
async def test_a_whole_shard_is_read_by_one_request(location: str) -> None:
    store = Counting()
    async with zs.Session() as session:
        array, data = await filled(session, store, location)
        np.testing.assert_array_equal(await array.get_slice((0, 0), (32, 32)), data[:32, :32])
        assert store.gets == [None]
        await array.get_slice((0, 0), (8, 8))
        assert len(store.gets) == 2, "the index was part of the one response"


@LOCATIONS
@pytest.mark.parametrize("range_bytes", [100, 256, 300, 1000, 1500, 4000])
@pytest.mark.parametrize("rows", [32, 24])
async def test_a_big_shard_is_read_by_a_few_concurrent_ranges(location: str, range_bytes: int, rows: int) -> None:
    store = Counting()
    async with zs.Session(limits=zs.Limits(range_bytes=range_bytes, gap_bytes=1)) as session:
        array, data = await filled(session, store, location)
        size = 16 * 256 + INDEX
        for known in (False, True):
            store.clear()
            np.testing.assert_array_equal(await array.get_slice((0, 0), (rows, 32)), data[:rows, :32])
            assert len(store.gets) <= 1 + ceil(size / range_bytes) - known
            assert store.received <= size + max(256, range_bytes) * (not known), "almost no byte is received twice"
            assert all(isinstance(r, Suffix) or r.stop - r.start <= max(range_bytes, INDEX) for r in store.gets)


async def test_ranges_of_one_shard_are_requested_concurrently() -> None:
    class Waiting(Counting):
        at_once = most = 0

        async def get(self, key: str, **options: Any) -> Any:  # type: ignore[override]  # handed on as it is
            self.at_once += 1
            self.most = max(self.most, self.at_once)
            await asyncio.sleep(0)
            self.at_once -= 1
            return await super().get(key, **options)

    store = Waiting()
    async with zs.Session(limits=zs.Limits(range_bytes=512, gap_bytes=1)) as session:
        array, _ = await filled(session, store)
        await array.get_slice((0, 0), (1, 1))
        store.most = 0
        await array.get_slice((0, 0), (16, 8))  # two chunks far apart
        assert store.most == 2
        await array.get_slice((0, 0), (32, 32))  # one long range, in parts
        assert store.most == 8


async def test_a_long_chunk_is_received_in_several_ranges_into_the_result() -> None:
    store = Counting()
    async with zs.Session(limits=zs.Limits(range_bytes=100)) as session:
        array, data = await filled(session, store)
        await array.get_slice((0, 0), (1, 1))
        store.clear()
        out = np.zeros((8, 8), "i4")
        await array.get_slice((8, 8), (16, 16), out=out)
        np.testing.assert_array_equal(out, data[8:16, 8:16])
        assert sorted(r.stop - r.start for r in store.gets) == [56, 100, 100]


async def test_a_missing_shard_takes_only_the_index_request() -> None:
    store = Counting()
    async with zs.Session() as session:
        array, _ = await filled(session, store)
        await store.delete("c/0/0")
        assert (await array.get_slice((0, 0), (8, 8)) == 7).all()
        assert len(store.gets) == 1
        with pytest.raises(zs.ChunkNotFound):
            await array.get_slice((0, 0), (8, 8), missing="raise")
        store.clear()
        assert (await array.get_slice((0, 0), (32, 32)) == 7).all()
        assert len(store.gets) == 1


async def test_an_absent_chunk_is_fill_without_a_request_if_the_index_is_cached() -> None:
    store = Counting()
    async with zs.Session() as session:
        array, _ = await filled(session, store)
        await array.set_slice(np.full((24, 32), 7), (8, 0))
        await array.get_slice((0, 0), (8, 8))
        store.clear()
        assert (await array.get_slice((8, 8), (16, 16)) == 7).all()
        assert store.gets == []


async def test_one_percent_of_a_100_mb_shard_transfers_less_than_five_percent_of_its_bytes() -> None:
    store = Counting()
    n, edge = 80, 64
    async with zs.Session(limits=zs.Limits(bytes=2**30)) as session:
        array = await session.create_array(
            store, shape=(n * edge,) * 2, chunks=(edge,) * 2, shards=(n * edge,) * 2, dtype="f4", compressor=None
        )
        await array[...].set(np.float32(1.5))
        size = n * n * edge * edge * 4
        assert size > 100_000_000
        await array.get_slice((0, 0), (1, 1))
        store.clear()
        slots = np.random.default_rng(2).choice(n * n, n * n // 100, replace=False)
        values = await array.vindex[slots // n * edge, slots % n * edge]
        assert (values == 1.5).all()
        assert store.received < 0.05 * size
        assert len(store.gets) <= len(slots)


# Writes


async def test_a_whole_shard_takes_one_put_and_a_part_of_it_one_get_and_one_put() -> None:
    store = Counting()
    async with zs.Session() as session:
        array, data = await filled(session, store)
        await array.set_slice(data[:32, :32], (0, 0))
        assert (len(store.gets), store.puts) == (0, 1)
        await array.set_slice(np.ones((3, 3)), (1, 1))
        assert (store.gets, store.puts) == ([None], 2)
        data[1:4, 1:4] = 1
        np.testing.assert_array_equal(await array[...], data)


@LOCATIONS
@pytest.mark.parametrize("known", [False, True], ids=["cold", "warm"])
async def test_chunks_that_are_overwritten_are_not_fetched(location: str, known: bool) -> None:
    store = Counting()
    async with zs.Session(limits=zs.Limits(gap_bytes=1)) as session:
        array, data = await filled(session, store, location)
        if known:
            await array.get_slice((0, 0), (1, 1))
        store.clear()
        await array.set_slice(np.ones((26, 32), "i4"), (0, 0))  # three rows of chunks, and two array rows of the fourth
        assert store.received == 4 * 256 + INDEX * (not known)
        assert len(store.gets) == 1 + (not known)
        assert store.puts == 1
        data[:26, :32] = 1
        np.testing.assert_array_equal(await array[...], data)


async def test_a_whole_shard_is_fetched_where_that_is_cheaper_than_reading_its_index_first() -> None:
    store = Counting()
    async with zs.Session() as session:
        array, _ = await filled(session, store)
        await array.set_slice(np.ones((26, 32), "i4"), (0, 0))
        assert store.gets == [None]


async def test_an_outdated_index_by_which_nothing_needs_fetching_is_not_trusted() -> None:
    """Without conditional writes, no refused PUT would reveal that the index is outdated."""
    store = Counting()
    async with zs.Session(limits=zs.Limits(gap_bytes=1)) as session, zs.Session() as other:
        array, _ = await filled(session, store)
        await array.set_slice(np.full((32, 32), 7), (0, 0))
        await array.set_slice(np.ones((16, 32)), (0, 0))
        await array.get_slice((0, 0), (1, 1))  # caches an index in which the lower half is empty
        await (await other.open_array(store)).set_slice(np.full((8, 32), 2), (24, 0))
        store.ignores_conditions = True
        await array.set_slice(np.full((16, 32), 3), (0, 0))
        assert (await array.get_slice((24, 0), (32, 32)) == 2).all()
