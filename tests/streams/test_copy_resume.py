"""Interrupted, repeated and concurrent copies: none is taken for complete, and no put is repeated."""

from __future__ import annotations

import asyncio
from typing import Any
from unittest import mock

import numpy as np
import pytest

import zarr_s3_async as zs

from .cancelling import WAYS, at_every_turn
from .grids import Counting, nothing_left
from .test_copy import PIECE, RECORD, make_group


async def test_a_second_run_of_the_same_copy_writes_nothing_again() -> None:
    store, other = Counting(), Counting()
    async with zs.Session() as session:
        group = await make_group(session, store)
        await zs.copy(group, other, zarr_format=2)
        for one in (store, other):
            one.clear()
        again = await zs.copy(group, other, zarr_format=2)
        assert isinstance(again, zs.Group)
        assert not [key for key in other.puts if key.rpartition("/")[2] not in (RECORD, ".zgroup", ".zattrs")]
        assert not store.chunk_gets()


async def test_an_interrupted_copy_of_a_group_with_many_arrays_continues() -> None:
    other = Counting()
    async with zs.Session() as session:
        group = await session.create_group(zs.MemoryStore())
        for number in range(300):
            await group.create_array(f"{number:0>240}", shape=2, chunks=2, dtype="u1")
        await zs.copy(group, other)
        await zs.copy(group, other)
        await group.create_array("one more", shape=2, chunks=2, dtype="u1")
        with pytest.raises(zs.NodeExists, match="earlier state"):
            await zs.copy(group, other)


async def test_of_two_copies_to_one_target_the_later_succeeds_and_the_earlier_fails() -> None:
    store = Counting()
    gate, reached = asyncio.Event(), asyncio.Event()

    async def before(what: str, key: str) -> None:
        if what == "put" and key == "c/3" and not reached.is_set():
            reached.set()
            await gate.wait()

    async with zs.Session() as session:
        one = await session.create_array(zs.MemoryStore(), shape=8, chunks=2, dtype="i4")
        other = await session.create_array(zs.MemoryStore(), shape=8, chunks=2, dtype="i4")
        await one[...].set(np.arange(1, 9))
        await other[0:4].set(np.arange(11, 15))
        store.before = before
        earlier = asyncio.create_task(zs.copy(one, store))
        await reached.wait()
        target = await zs.copy(other, store)
        gate.set()
        with pytest.raises(zs.ConcurrentModification, match="another copy"):
            await earlier
        # c/3, a request in flight of the earlier copy, was stored; a second run of the later one must not trust it.
        assert (await target[0:6]).tolist() == [11, 12, 13, 14, 0, 0]  # type: ignore[index]  # an array
        with pytest.raises(zs.NodeExists, match=f"another copy, of {one.url}, wrote to the copy"):
            await zs.copy(other, store)
        target = await zs.copy(other, store, overwrite=True)
        assert (await target[...]).tolist() == [11, 12, 13, 14, 0, 0, 0, 0]  # type: ignore[index]  # an array


async def test_a_copy_into_which_another_copy_wrote_is_not_published() -> None:
    store = Counting()
    gates = {"one": asyncio.Event(), "other": asyncio.Event()}
    reached = {"one": asyncio.Event(), "other": asyncio.Event()}
    name = "one"

    async def before(what: str, key: str) -> None:
        mine = name
        if what == "put" and key == "c/3":
            reached[mine].set()
            await gates[mine].wait()

    async with zs.Session() as session:
        one = await session.create_array(zs.MemoryStore(), shape=8, chunks=2, dtype="i4")
        other = await session.create_array(zs.MemoryStore(), shape=8, chunks=2, dtype="i4")
        await one[...].set(np.arange(1, 9))
        await other[...].set(np.arange(11, 19))
        store.before = before
        earlier = asyncio.create_task(zs.copy(one, store))
        await reached["one"].wait()
        name = "other"
        later = asyncio.create_task(zs.copy(other, store))
        await reached["other"].wait()
        gates["one"].set()
        with pytest.raises(zs.ConcurrentModification, match=f"another copy, of {other.url}, .* was started while"):
            await earlier
        gates["other"].set()
        with pytest.raises(zs.ConcurrentModification, match=f"another copy, of {one.url}, was running .* copy again"):
            await later
        with pytest.raises(zs.NodeNotFound):
            await session.open_array(store)
        target = await zs.copy(other, store, verify=True)
        assert (await target[...]).tolist() == list(range(11, 19))  # type: ignore[index]  # an array


async def test_a_long_copy_soon_detects_that_another_copy_replaced_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zarr_s3_async.streams.transfer._CHECKED_EVERY", -1.0)
    store = Counting()

    async def before(what: str, key: str) -> None:
        if what == "put" and key == "c/3":
            await zs.MemoryStore.put(store, RECORD, b'{"source": "another"}')

    async with zs.Session(limits=zs.Limits(requests=1)) as session:
        source = await session.create_array(zs.MemoryStore(), shape=200, chunks=2, dtype="i4")
        await source[...].set(np.arange(1, 201))
        store.before = before
        with pytest.raises(zs.ConcurrentModification, match="another copy"):
            await zs.copy(source, store)
        assert sum(key.startswith("c/") for key in store.puts) == 4


async def test_a_target_removed_during_the_copy_is_a_clear_error() -> None:
    store = Counting()

    async def before(what: str, key: str) -> None:
        if what == "put" and key == "c/3":
            for found in [entry.key async for entry in zs.MemoryStore.list_prefix(store, "")]:
                await zs.MemoryStore.delete(store, found)

    async with zs.Session() as session:
        source = await session.create_array(zs.MemoryStore(), shape=8, chunks=2, dtype="i4")
        await source[...].set(np.arange(1, 9))
        store.before = before
        with pytest.raises(zs.ConcurrentModification, match="were deleted while this copy ran"):
            await zs.copy(source, store)
        store.before = None
        await session.delete(store, everything=True)
        target = await zs.copy(source, store, verify=True)
        assert (await target[...]).tolist() == list(range(1, 9))  # type: ignore[index]  # an array


async def test_a_copy_whose_target_another_copy_has_taken_over_is_not_published() -> None:
    store = Counting()

    async def before(what: str, key: str) -> None:
        if what == "put" and key == "c/3":
            await zs.MemoryStore.put(store, RECORD, b'{"source": "another"}')

    async with zs.Session() as session:
        source = await session.create_array(zs.MemoryStore(), shape=8, chunks=2, dtype="i4")
        await source[...].set(np.arange(1, 9))
        store.before = before
        with pytest.raises(zs.ConcurrentModification, match="another copy"):
            await zs.copy(source, store)
        with pytest.raises(zs.NodeNotFound):
            await session.open_array(store)


async def test_a_run_killed_while_it_clears_the_target_is_not_trusted() -> None:
    store = Counting()
    async with zs.Session() as session:
        one = await session.create_array(zs.MemoryStore(), shape=8, chunks=2, dtype="i4")
        other = await session.create_array(zs.MemoryStore(), shape=8, chunks=2, dtype="i4")
        await one[...].set(np.arange(1, 9))
        await other[0:4].set(np.arange(11, 15))
        store.before = broken_off
        with pytest.raises(zs.NetworkError):
            await zs.copy(one, store)

        async def refused(keys: Any) -> None:
            raise zs.NetworkError("killed")

        store.before = None
        with mock.patch.object(Counting, "delete_many", lambda _, keys: refused(keys)), pytest.raises(zs.NetworkError):
            await zs.copy(other, store)
        target = await zs.copy(other, store, verify=True)
        assert (await target[...]).tolist() == [11, 12, 13, 14, 0, 0, 0, 0]  # type: ignore[index]  # an array


@pytest.mark.parametrize("options", [{}, {"chunks": (1, 8), "max_bytes": 256}], ids=["objects", "two stages"])
async def test_concurrent_runs_of_the_same_copy_all_succeed(options: dict[str, Any]) -> None:
    async with zs.Session(limits=zs.Limits(requests=3)) as session:
        source = await session.create_array(zs.MemoryStore(), shape=(8, 8), chunks=(8, 1), dtype="i4")
        await source[...].set(np.arange(64).reshape(8, 8))
        for delay in range(0, 120, 7):
            store = zs.MemoryStore()

            async def later(turns: int, store: zs.MemoryStore = store) -> Any:
                for _ in range(turns):
                    await asyncio.sleep(0)
                return await zs.copy(source, store, verify=True, **options)

            await asyncio.gather(later(0), later(delay), later(2 * delay))
            assert not [entry.key async for entry in store.list_prefix() if PIECE in entry.key]


async def test_another_array_at_the_target_is_never_overwritten() -> None:
    other = Counting()
    async with zs.Session() as session:
        source = await session.create_array(zs.MemoryStore(), shape=8, chunks=2, dtype="i4")
        await source[...].set(np.arange(8))
        mine = await session.create_array(other, shape=8, chunks=2, dtype="i4")
        await mine[...].set(7)
        with pytest.raises(zs.NodeExists, match="overwrite"):
            await zs.copy(source, other)
        assert (await mine[...] == 7).all()
        await zs.copy(source, other, overwrite=True)
        assert (await (await session.open_array(other))[...] == np.arange(8)).all()
        with pytest.raises(zs.NodeExists, match="overwrite"):
            await zs.copy(source, other, compressor=None)
        group = await session.create_group(zs.MemoryStore())
        with pytest.raises(zs.NodeExists):
            await zs.copy(group, other)


async def test_an_interrupted_copy_of_an_earlier_state_is_detected() -> None:
    other = Counting()
    async with zs.Session() as session:
        source = await session.create_array(zs.MemoryStore(), shape=8, chunks=2, dtype="i4")
        await source[...].set(np.arange(8))
        await zs.copy(source, other)
        await source[0:2].set(9)
        with pytest.raises(zs.NodeExists, match="earlier state"):
            await zs.copy(source, other)
        target = await zs.copy(source, other, overwrite=True)
        assert (await target[...]).tolist() == [9, 9, 2, 3, 4, 5, 6, 7]  # type: ignore[index]  # an array


async def broken_off(what: str, key: str) -> None:
    if what == "put" and key == "zarr.json":
        raise zs.NetworkError("gone", key=key)


async def test_leftover_chunks_of_another_array_are_not_taken_for_the_copy() -> None:
    store = Counting()
    async with zs.Session() as session:
        source = await session.create_array(zs.MemoryStore(), shape=8, chunks=2, dtype="i4")
        await source[0:4].set(np.arange(1, 5))
        junk = await session.create_array(store, shape=8, chunks=2, dtype="i4")
        await junk[...].set(7)
        await store.delete("zarr.json")
        with pytest.raises(zs.NodeExists, match=r"no array is stored .* but chunks"):
            await zs.copy(source, store)
        # What another copy has left that was broken off is the library's own.
        other = await session.create_array(zs.MemoryStore(), shape=8, chunks=2, dtype="i4", fill_value=3)
        await session.delete(store, everything=True)
        store.before = broken_off
        with pytest.raises(zs.NetworkError):
            await zs.copy(other, store)
        store.before = None
        await store.put("c/3", b"junk")
        target = await zs.copy(source, store, verify=True)
        assert (await target[...]).tolist() == [1, 2, 3, 4, 0, 0, 0, 0]  # type: ignore[index]  # an array


@pytest.mark.parametrize("kind", ["objects", "chunks", "decoded", "two stages"])
@pytest.mark.parametrize("changed", [False, True])
async def test_a_copy_interrupted_after_any_request_is_completed_without_repeating_a_put(
    kind: str, changed: bool
) -> None:
    options: dict[str, Any] = {
        "objects": {},
        "chunks": {"shards": (8, 4)},
        "decoded": {"chunks": (3, 8), "compressor": "gzip"},
        "two stages": {"chunks": (1, 8), "max_bytes": 256},
    }[kind]
    async with zs.Session(limits=zs.Limits(requests=2)) as session:
        source = await session.create_array(zs.MemoryStore(), shape=(8, 8), chunks=(8, 1), dtype="i4")
        if kind == "chunks":
            source = await session.create_array(zs.MemoryStore(), shape=(8, 8), chunks=(4, 2), dtype="i4")
        data = np.arange(1, 65, dtype="i4").reshape(8, 8)
        await source[...].set(data)
        for allowed in range(0, 200, 1 if kind != "two stages" else 5):
            store = Counting()
            left = allowed

            async def before(what: str, key: str) -> None:
                nonlocal left
                if what == "put" and left <= 0:
                    raise zs.NetworkError("gone", key=key)
                left -= what == "put"

            store.before = before
            try:
                await zs.copy(source, store, **options)
            except zs.NetworkError:
                pass
            else:
                assert allowed > 3
                break
            with pytest.raises(zs.NodeNotFound):
                await session.open_array(store)  # an incomplete copy is not an array
            store.before = None
            if changed:
                data = data + 1
                await source[...].set(data)
                store.clear()
            target = await zs.copy(source, store, verify=True, **options)
            assert (await target[...] == data).all()  # type: ignore[index]  # an array
            chunk_puts = {key: n for key, n in store.puts.items() if key not in (RECORD, "zarr.json")}
            assert set(chunk_puts.values()) <= {1}, "each object is put once in both runs together"
            nothing_left(session, store)
        else:
            raise AssertionError("the copy never ended")


@pytest.mark.parametrize("kind", ["objects", "chunks", "decoded", "two stages"])
@pytest.mark.parametrize("way", WAYS)
async def test_a_copy_cancelled_at_any_moment_leaves_nothing_running_and_can_be_completed(way: str, kind: str) -> None:
    stores = Counting(), Counting()
    options: dict[str, Any] = {
        "objects": {},
        "chunks": {"shards": (4, 4)},
        "decoded": {"chunks": (4, 4), "compressor": "gzip"},
        "two stages": {"chunks": (1, 4), "max_bytes": 64},
    }[kind]
    async with zs.Session(limits=zs.Limits(requests=2)) as session:
        chunks = (4, 1) if kind == "two stages" else (2, 2)
        source = await session.create_array(stores[0], shape=(4, 4), chunks=chunks, dtype="i4")
        data = np.arange(1, 17, dtype="i4").reshape(4, 4)
        await source[...].set(data)
        number = 0

        async def call() -> None:
            await zs.copy(source, stores[1], path=str(number), **options)

        async def check() -> None:
            nonlocal number
            nothing_left(session, *stores)
            if number % 7 == 0:
                target = await zs.copy(source, stores[1], path=str(number), **options)
                assert (await target[...] == data).all()  # type: ignore[index]  # an array
            number += 1

        assert await at_every_turn(way, call, check) > 5
