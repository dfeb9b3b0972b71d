"""Concurrent appends: rows and columns that others add to the same objects are never lost."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async.testing import Fault, FaultyStore

LAYOUTS: list[dict[str, Any]] = [{"chunks": (4, 4)}, {"chunks": (2, 2), "shards": (4, 4)}]


@pytest.fixture(params=LAYOUTS, ids=["plain", "sharded"])
async def array(session: zs.Session, request: pytest.FixtureRequest) -> zs.Array:
    """An array of four rows and three columns: its edge cuts objects along the columns only."""
    made = await session.create_array(FaultyStore(zs.MemoryStore()), shape=(4, 3), dtype="i4", **request.param)
    await made.set_slice(1, (0, 0), (4, 3))
    return made


def before_first_put(array: zs.Array, act: Callable[[zs.Array], Awaitable[object]]) -> None:
    """Let another session's handle run `act` just before the first chunk or shard is stored."""
    store = array._runtime.store
    assert isinstance(store, FaultyStore)

    async def run() -> None:
        async with zs.Session() as other:
            await act(await other.open_array(store.inner))

    store.add(Fault(verb="put", key="c/*", meanwhile=run))


async def test_rows_that_others_append_to_the_same_object_meanwhile_are_kept(array: zs.Array) -> None:
    before_first_put(array, lambda other: other.append(np.full((1, 3), 8)))
    await array.append(np.full((2, 3), 7))
    await array.refresh()
    assert (await array[4:, 0]).tolist() == [7, 7, 8]


async def test_columns_that_others_append_to_the_same_object_meanwhile_are_kept(array: zs.Array) -> None:
    before_first_put(array, lambda other: other.append(np.full((8, 1), 8), axis=1))
    await array.append(np.full((4, 3), 7))
    await array.refresh()
    assert (await array[...]).tolist() == [[1, 1, 1, 8]] * 4 + [[7, 7, 7, 8]] * 4


async def test_a_cancelled_append_reports_the_rows_that_stay_claimed(array: zs.Array) -> None:
    store = array._runtime.store
    assert isinstance(store, FaultyStore)
    store.add(Fault(verb="put", key="c/*", error=asyncio.CancelledError))
    with pytest.raises(asyncio.CancelledError) as caught:
        await array.append(np.full((2, 3), 7))
    assert "rows 4:6 of axis 0" in "".join(caught.value.__notes__)
    await array.refresh()
    assert (await array[4:, :]).tolist() == [[0, 0, 0]] * 2


@pytest.mark.parametrize(
    "error", [asyncio.CancelledError, lambda: zs.NetworkError("reset")], ids=["cancelled", "reset"]
)
async def test_an_append_whose_claim_has_an_unknown_outcome_reports_it(array: zs.Array, error: Any) -> None:
    store = array._runtime.store
    assert isinstance(store, FaultyStore)
    store.add(Fault(verb="put", key="zarr.json", error=error, lost_answer=True))
    with pytest.raises((zs.NetworkError, asyncio.CancelledError)) as caught:
        await array.append(np.full((2, 3), 7))
    assert "it is unknown whether" in "".join(caught.value.__notes__)
    await array.refresh()
    assert array.shape == (6, 3)


@pytest.mark.parametrize("other", [{"dtype": "f8"}, {"chunks": (2, 3)}, {"fill_value": 5}, {"compressor": "gzip"}])
async def test_a_handle_whose_array_was_replaced_appends_nothing(session: zs.Session, other: dict[str, Any]) -> None:
    store, options = zs.MemoryStore(), {"shape": (4, 3), "chunks": (4, 3), "dtype": "i4"}
    array = await session.create_array(store, **options)
    again = await session.create_array(store, **{**options, **other}, overwrite=True)
    for act in (array.append(np.ones((1, 3))), array.resize((9, 3))):
        with pytest.raises(zs.NodeNotFound, match="no longer the array that was opened"):
            await act
    await again.refresh()
    assert again.shape == (4, 3)


async def test_whole_objects_are_appended_without_a_read(session: zs.Session) -> None:
    store = FaultyStore(zs.MemoryStore())
    array = await session.create_array(store, shape=(0, 4), dtype="i4", chunks=(4, 4))
    store.clear()
    await array.append(np.ones((8, 4)))
    assert store.count("get", "c/*") == 0
    assert store.count("put", "c/*") == 2


def failing(error: type[zs.StoreError] = zs.Throttled) -> Fault:
    return Fault(verb="put", key="c/*", times=None, error=lambda: error("not now"))


async def test_rows_released_by_a_failed_append_and_claimed_by_another_are_kept(array: zs.Array) -> None:
    store = array._runtime.store
    assert isinstance(store, FaultyStore)
    shrunk = False

    async def append() -> None:
        nonlocal shrunk
        async with zs.Session() as other:
            theirs = await other.open_array(store.inner)
            if not shrunk and theirs.shape == (4, 3):
                shrunk = True
                await theirs.append(np.full((1, 3), 8))

    store.add(failing())
    store.add(Fault(times=None, nth=4, meanwhile=append))  # runs when the claimed rows have been released
    with pytest.raises(zs.Throttled, match="not now") as caught:
        await array.append(np.full((2, 3), 7))
    assert "given back" in caught.value.__notes__[0]
    await append()
    await array.refresh()
    assert shrunk
    assert (await array[...])[4:].tolist() == [[8, 8, 8]]


async def test_a_failed_append_leaves_no_data_in_the_rows_that_it_releases(session: zs.Session) -> None:
    store = FaultyStore(zs.MemoryStore())
    array = await session.create_array(store, shape=(3,), dtype="i4", chunks=(2,))
    await array.set_slice([1, 2, 3], 0)
    store.add(Fault(verb="put", key="c/3", error=lambda: zs.Throttled("not now")))
    with pytest.raises(zs.Throttled):
        await array.append([4, 5, 6, 7, 8])
    await array.resize(8)
    assert (await array[...]).tolist() == [1, 2, 3, 0, 0, 0, 0, 0]


async def test_a_failed_append_keeps_its_rows_if_others_have_claimed_rows_after_them(array: zs.Array) -> None:
    store = array._runtime.store
    assert isinstance(store, FaultyStore)
    before_first_put(array, lambda other: other.append(np.full((1, 3), 8)))
    store.add(failing())
    with pytest.raises(zs.Throttled) as caught:
        await array.append(np.full((2, 3), 7))
    assert "stay claimed" in caught.value.__notes__[0]
    await array.refresh()
    assert (await array[4:, 0]).tolist() == [0, 0, 8]


async def test_a_shrink_that_fails_explains_how_to_continue(session: zs.Session) -> None:
    store = FaultyStore(zs.MemoryStore())
    array = await session.create_array(store, shape=(6,), dtype="i4", chunks=(2,))
    await array.set_slice([1, 2, 3, 4, 5, 6], 0)
    store.add(Fault(verb="delete_many", error=lambda: zs.Throttled("not now")))
    with pytest.raises(zs.Throttled) as caught:
        await array.resize(1)
    assert "resize to (6,) and back" in caught.value.__notes__[0]
    await array.refresh()
    assert array.shape == (1,)
    await array.resize(6)
    await array.resize(1)
    await array.resize(6)
    assert (await array[...]).tolist() == [1, 0, 0, 0, 0, 0]
