"""A shard that is rewritten during a read or merge: the old or new state, never a mix or fill, and no lost writes."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async.errors import Conflict

from .counting import Counting
from .test_shard_requests import sharding

OLD, NEW, MINE = 1, 2, 3
LOCATIONS = pytest.mark.parametrize("location", ["start", "end"])


class Scripted(Counting):
    """Runs `act` before its n-th get of a shard, counted from 1; a cancelled get does not cancel it."""

    n = 0
    act: Any = None
    acting: Any = None

    async def get(self, key: str, **options: Any) -> Any:  # type: ignore[override]  # handed on as it is
        if key.startswith("c/"):
            self.n -= 1
            if self.n == 0:
                self.acting = asyncio.create_task(self.act())
                await asyncio.wait([self.acting])
        return await super().get(key, **options)


async def settled(store: Scripted) -> None:
    acting, store.acting = store.acting, None
    if acting is not None:
        await acting


async def made(session: zs.Session, location: str) -> tuple[Scripted, zs.Array]:
    store = Scripted()
    array = await session.create_array(
        store, shape=(32, 32), chunks=(32, 32), dtype="i4", codecs=sharding((8, 8), location, {"name": "crc32c"})
    )
    return store, array


READS = {
    "one chunk": np.s_[9:12, 9:12],
    "a row": np.s_[0:8, :],
    "far apart": np.s_[::24, ::24],
    "most": np.s_[:, :],
}


@LOCATIONS
@pytest.mark.parametrize("warm", [False, True], ids=["cold", "warm"])
@pytest.mark.parametrize("what", READS)
@pytest.mark.parametrize("to", ["rewritten", "deleted"])
async def test_a_read_returns_one_state_whenever_the_shard_changes(
    location: str, warm: bool, what: str, to: str
) -> None:
    limits = zs.Limits(range_bytes=300, gap_bytes=1)
    async with zs.Session(limits=limits) as session, zs.Session() as other:
        store, array = await made(session, location)
        writer = await other.open_array(store)

        async def change() -> None:
            # Of another length, so that every chunk has another offset.
            await writer.set_slice(np.full((32, 32), NEW) if to == "rewritten" else np.zeros((32, 32)), (0, 0))

        seen = set()
        for n in range(1, 100):
            store.n = 0
            await writer.set_slice(np.full((32, 32), OLD), (0, 0))
            await writer.set_slice(np.zeros((8, 8)), (16, 16))  # all fill, not stored
            session._indexes.forget_below("")
            if warm:
                await array.get_slice((0, 0), (1, 1))
            store.n, store.act = n, change
            result = await array[READS[what]]
            await settled(store)
            values = set(result.ravel().tolist())
            assert values in ({OLD}, {OLD, 0}, {NEW}, {0}), f"changed before get {n}: {values}"
            if values == {OLD, 0}:
                assert what == "most"
                assert (result[16:24, 16:24] == 0).all()
            seen |= values
            if store.n > 0:
                break
        new = NEW if to == "rewritten" else 0
        assert {OLD, new} <= seen
        assert n > 2 - warm


@LOCATIONS
@pytest.mark.parametrize("region", [np.s_[1:3, 1:3], np.s_[0:24, :], np.s_[0:26, :], np.s_[4:28, 4:28]], ids=str)
async def test_a_merge_loses_no_updates_whenever_the_shard_changes(location: str, region: Any) -> None:
    limits = zs.Limits(range_bytes=300, gap_bytes=1)
    async with zs.Session(limits=limits) as session, zs.Session() as other:
        store, array = await made(session, location)
        writer = await other.open_array(store)

        async def change() -> None:
            await writer.set_slice(np.full((1, 32), NEW), (31, 0))

        for n in range(1, 100):
            store.n = 0
            await writer.set_slice(np.full((32, 32), OLD), (0, 0))
            store.n, store.act = n, change
            await array[region].set(MINE)
            await settled(store)
            done, store.n = store.n > 0, 0
            expected = np.full((32, 32), OLD)
            expected[31] = NEW if not done else OLD
            expected[region] = MINE
            np.testing.assert_array_equal(await array[...], expected)
            if done:
                break
        assert n > 1


async def test_an_index_read_during_a_write_is_not_cached() -> None:
    """The reader gets its index after a newer write; chunks missing in the old index would read as fill."""
    async with zs.Session() as session:
        store, array = await made(session, "end")
        await array.set_slice(np.full((8, 8), OLD), (0, 0))
        session._indexes.forget_below("")
        get = store.get

        async def late(key: str, **options: Any) -> Any:
            blob = await get(key, **options)
            if key.startswith("c/"):
                store.get = get  # type: ignore[method-assign]  # once
                await array.set_slice(np.full((8, 8), NEW), (8, 8))
            return blob

        store.get = late  # type: ignore[method-assign]  # for this test
        await array.get_slice((16, 16), (17, 17))
        assert (await array.get_slice((8, 8), (16, 16)) == NEW).all()


async def test_a_session_reads_what_it_wrote_to_a_chunk_cached_as_missing() -> None:
    async with zs.Session() as session:
        _, array = await made(session, "end")
        await array.set_slice(np.full((8, 8), OLD), (0, 0))
        assert (await array.get_slice((8, 8), (16, 16)) == 0).all()
        await array.set_slice(np.full((8, 8), NEW), (8, 8))
        assert (await array.get_slice((8, 8), (16, 16)) == NEW).all()


async def test_a_range_response_that_is_too_short_is_never_decoded() -> None:
    class Short(Scripted):
        async def get(self, key: str, **options: Any) -> Any:  # type: ignore[override]  # handed on as it is
            blob = await super().get(key, **options)
            short = options.get("version") is not None and blob is not None
            return zs.Blob(blob.data[:-1], blob.version, blob.size) if short else blob

    async with zs.Session() as session:
        store = Short()
        array = await session.create_array(
            store, shape=(32, 32), chunks=(32, 32), dtype="i4", codecs=sharding((8, 8), "end")
        )
        await array.set_slice(np.full((32, 32), OLD), (0, 0))
        for region in (np.s_[0:8, 0:8], np.s_[0:8, :], np.s_[::8, ::31]):
            assert (await array[region] == OLD).all()  # in the end the whole shard is read


async def test_a_new_array_of_another_layout_at_the_same_location_is_read_with_its_own_index() -> None:
    async with zs.Session() as session, zs.Session() as other:
        store, array = await made(session, "end")
        await array.set_slice(np.full((8, 8), OLD), (0, 0))
        await array.get_slice((0, 0), (1, 1))
        for chunks in ((4, 4), (16, 16)):
            await (
                await other.create_array(
                    store, shape=(32, 32), chunks=(32, 32), dtype="i4", codecs=sharding(chunks, "end"), overwrite=True
                )
            ).set_slice(np.full((32, 32), NEW), (0, 0))
            again = await session.open_array(store)
            assert (await again.get_slice((28, 28), (32, 32)) == NEW).all()


async def test_a_deleted_array_leaves_no_cached_index() -> None:
    async with zs.Session() as session:
        store, array = await made(session, "end")
        await array.set_slice(np.full((8, 8), OLD), (0, 0))
        await array.get_slice((0, 0), (1, 1))
        assert len(session._indexes) == 1
        await session.delete(store)
        assert len(session._indexes) == 0


@pytest.mark.parametrize("region", [np.s_[0:8, 0:8], np.s_[0:8, 0:20], np.s_[:, :]], ids=str)
async def test_a_conflict_that_does_not_end_is_an_error_and_never_fill(region: Any) -> None:
    class Refusing(Scripted):
        async def get(self, key: str, **options: Any) -> Any:  # type: ignore[override]  # handed on as it is
            if options.get("version") is not None or (key.startswith("c/") and options.get("range") is None):
                raise Conflict("412", key=key, status=412)
            return await super().get(key, **options)

    async with zs.Session(limits=zs.Limits(range_bytes=300)) as session:
        store = Refusing()
        array = await session.create_array(
            store, shape=(32, 32), chunks=(32, 32), dtype="i4", codecs=sharding((8, 8), "end")
        )
        await array.set_slice(np.full((32, 32), OLD), (0, 0))
        with pytest.raises(zs.ConcurrentModification, match="rewritten"):
            await array[region]
        with pytest.raises(zs.ConcurrentModification, match="rewritten"):
            await array[1:30, 1:30].set(NEW)


@pytest.mark.parametrize("what", ["read", "merge", "replace"])
@pytest.mark.parametrize("known", [False, True], ids=["cold", "warm"])
async def test_a_call_cancelled_at_any_await_leaves_a_shard_old_or_new_and_holds_nothing(
    what: str, known: bool
) -> None:
    async with zs.Session(limits=zs.Limits(range_bytes=300, gap_bytes=1)) as session:
        _, array = await made(session, "end")
        for turns in range(200):
            await array.set_slice(np.full((32, 32), OLD), (0, 0))
            if known:
                await array.get_slice((0, 0), (1, 1))
            operations = {
                "read": lambda: array.get_slice((0, 0), (32, 32)),
                "merge": lambda: array.set_slice(np.full((26, 32), NEW), (0, 0)),
                "replace": lambda: array.set_slice(np.full((32, 32), NEW), (0, 0)),
            }
            task = asyncio.create_task(operations[what]())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert session._leases.held == 0
            assert len(session._locks) == 0
            assert session._indexes._pending == {}
            result = await array.get_slice((0, 0), (32, 32))
            assert len(set(result[:26].ravel().tolist())) == 1
            assert set(result[26:].ravel().tolist()) == ({OLD} if what == "merge" else {result[0, 0]})
            if not task.cancelled():
                task.result()
                assert turns > 1
                return
    raise AssertionError("the call never completes")
