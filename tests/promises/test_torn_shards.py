"""On a real server: a shard that is rewritten all the time reads as one of its states; ranges respect the limit."""

from __future__ import annotations

import asyncio

import numpy as np
import pytest

import zarr_s3_async as zs

from ..peak_limiter import watch_leases, watch_requests
from .conftest import Place

pytestmark = pytest.mark.integration

REWRITES = 30


@pytest.mark.parametrize("transport", ["wire", "sdk"])
async def test_readers_of_a_rewritten_shard_see_one_of_its_states(place: Place, transport: str) -> None:
    limits = zs.Limits(range_bytes=50_000, gap_bytes=1)
    config = zs.S3Config(**{**place.config.public(), **_keys(place), "transport": transport})
    async with zs.Session(s3=config, limits=limits) as reading, zs.Session(s3=place.config) as writing:
        writer = await writing.create_array(
            place.url, shape=(128, 128), chunks=(16, 16), shards=(128, 128), dtype="i4", compressor=None
        )
        await writer[...].set(np.full((128, 128), 2))
        array = await reading.open_array(place.url)
        over = asyncio.Event()

        async def write() -> None:
            for state in range(3, REWRITES):
                # Every second state lacks some chunks, so that the offsets of the others differ.
                data = np.full((128, 128), state)
                data[: 16 * (state % 2) * 3] = 0
                await writer[...].set(data)
            over.set()

        seen: set[int] = set()

        async def read(start: tuple[int, int], stop: tuple[int, int]) -> None:
            while not over.is_set():
                try:
                    result = await array.get_slice(start, stop)
                except zs.ConcurrentModification:
                    continue  # an error, not wrong data
                states = set(np.unique(result).tolist()) - {0}
                assert len(states) <= 1, f"a mix of {states}"
                assert states, "the last rows are never fill"
                (state,) = states
                seen.add(state)
                if start == (0, 0):
                    assert (result[:48] == (0 if state % 2 else state)).all()

        async with asyncio.TaskGroup() as group:
            group.create_task(write())
            group.create_task(read((0, 0), (128, 128)))
            group.create_task(read((60, 0), (76, 128)))
            group.create_task(read((100, 3), (101, 4)))
            group.create_task(read((48, 0), (128, 40)))
        assert len(seen) > 3


def _keys(place: Place) -> dict[str, str | None]:
    return {"access_key_id": place.config.access_key_id, "secret_access_key": place.config.secret_access_key}


async def test_all_range_requests_of_a_session_share_one_limit(place: Place) -> None:
    async with zs.Session(s3=place.config, limits=zs.Limits(requests=3, range_bytes=4096, gap_bytes=1)) as session:
        slots = watch_requests(session)
        array = await session.create_array(
            place.url, shape=(64, 64), chunks=(8, 8), shards=(32, 32), dtype="i4", compressor=None
        )
        data = np.random.default_rng(1).integers(1, 99, (64, 64), "i4")
        await array[...].set(data)
        session.metrics.requests.clear()
        slots.peak = 0
        results = await asyncio.gather(
            array[...], array.oindex[::9, ::9], array.get_slice((0, 0), (24, 64)), array.get_slice((40, 40), (41, 41))
        )
        np.testing.assert_array_equal(results[0], data)
        np.testing.assert_array_equal(results[1], data[::9, ::9])
        assert session.metrics.requests["GetObject"] > 12
        assert slots.peak == 3


async def test_big_shards_are_uploaded_in_parts_and_read_back(place: Place) -> None:
    config = zs.S3Config(
        **{**place.config.public(), **_keys(place), "multipart_bytes": 5 * 2**20, "part_bytes": 5 * 2**20}
    )
    async with zs.Session(s3=config, limits=zs.Limits(bytes=24 * 2**20)) as session:
        leases = watch_leases(session)
        array = await session.create_array(
            place.url, shape=(3 * 1536, 1024), chunks=(256, 256), shards=(1536, 1024), dtype="i4", compressor=None
        )
        rows = np.arange(1, 3 * 1536 + 1, dtype="i4")[:, None]
        await array.set_slice(np.broadcast_to(rows, array.shape), (0, 0))
        counts = dict(session.metrics.requests)
        assert (counts["UploadPart"], counts["CompleteMultipartUpload"]) == (6, 3)
        np.testing.assert_array_equal(await array.get_slice((0, 5), (array.shape[0], 6)), rows)
        await array.set_slice(np.full((10, 10), -1), (0, 0))
        assert (await array.get_slice((0, 0), (11, 11)))[9:, 9:].tolist() == [[-1, 10], [11, 11]]
        assert leases.peak <= 24 * 2**20


async def test_merges_of_one_shard_by_two_sessions_lose_nothing(place: Place) -> None:
    async with zs.Session(s3=place.config) as one, zs.Session(s3=place.config) as two:
        first = await one.create_array(place.url, shape=(12, 12), chunks=(3, 3), shards=(12, 12), dtype="i4")
        arrays = [first, await two.open_array(place.url)]
        expected = np.arange(1, 145).reshape(12, 12)
        # Whole chunks and parts: some need their own chunk's stored bytes, all need those of the others.
        boxes = [(slice(r, r + 3), slice(c, c + 2 + r % 2)) for r in range(0, 12, 3) for c in range(0, 12, 3)]
        boxes += [(slice(r, r + 3), slice(c + 2, c + 3)) for r in range(0, 12, 6) for c in range(0, 12, 3)]
        await asyncio.gather(*(arrays[n % 2][box].set(expected[box]) for n, box in enumerate(boxes)))
        np.testing.assert_array_equal(await arrays[0][...], expected)
        np.testing.assert_array_equal(await (await arrays[1].refresh())[...], expected)
        assert one.metrics.conflicts + two.metrics.conflicts > 0
