"""An object that a merge has emptied is deleted if it still has the version read, or stored as fill."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async.testing import Fault, FaultyStore

LAYOUTS = {"plain": {"chunks": (8,)}, "sharded": {"chunks": (2,), "shards": (8,)}}
FILL = 7


@pytest.fixture(params=LAYOUTS)
async def array(session: zs.Session, request: pytest.FixtureRequest) -> zs.Array:
    """An array of 16 elements in two objects; elements 0 and 1 are 1, all others are fill."""
    store = FaultyStore(zs.MemoryStore())
    options: Any = LAYOUTS[request.param]
    made = await session.create_array(store, shape=(16,), dtype="i4", fill_value=FILL, **options)
    await made.set_slice([1, 1], 0)
    store.clear()
    return made


def store_of(array: zs.Array) -> FaultyStore:
    store = array._runtime.store
    assert isinstance(store, FaultyStore)
    return store


def meanwhile(array: zs.Array, act: Callable[[zs.Array], Awaitable[object]]) -> Callable[[], Awaitable[None]]:
    """Let another session run `act` through a store without faults."""

    async def run() -> None:
        async with zs.Session() as other:
            await act(await other.open_array(store_of(array).inner))

    return run


def calls(array: zs.Array) -> list[str]:
    return [call.verb for call in store_of(array).calls]


async def test_an_emptied_object_is_deleted_if_it_still_has_the_version_read(array: zs.Array) -> None:
    blob = await store_of(array).inner.get("c/0")
    assert blob is not None
    await array.set_slice(FILL, 0, 3)
    assert calls(array) == ["get", "delete"], "as many requests as with a put"
    assert store_of(array).calls[1].when == blob.version
    assert await store_of(array).inner.get("c/0") is None
    assert (await array.get_slice(0, 16) == FILL).all()


async def test_an_object_that_is_not_empty_is_not_deleted(array: zs.Array) -> None:
    await array.set_slice(FILL, 0, 1)
    assert calls(array) == ["get", "put"]
    assert (await array.get_slice(0, 3)).tolist() == [FILL, 1, FILL]


@pytest.mark.parametrize("error", [zs.Unsupported, zs.AccessDenied])
async def test_an_emptied_object_is_stored_as_fill_where_it_cannot_be_deleted(
    array: zs.Array, error: type[zs.StoreError]
) -> None:
    before = await store_of(array).inner.get("c/0")
    store_of(array).add(Fault(verb="delete", times=None, error=lambda: error("not here")))
    await array.set_slice(FILL, 0, 3)
    assert calls(array) == ["get", "delete", "put"]
    assert before is not None
    assert store_of(array).calls[2].when == before.version
    assert await store_of(array).inner.get("c/0") is not None
    assert (await array.get_slice(0, 16) == FILL).all()


async def test_other_refused_deletes_are_errors(array: zs.Array) -> None:
    store_of(array).add(Fault(verb="put", times=None, error=lambda: zs.AccessDenied("read only")))
    with pytest.raises(zs.AccessDenied):
        await array.set_slice(2, 0, 1)
    assert calls(array) == ["get", "put"]


async def test_a_write_between_the_read_and_the_delete_is_not_lost(array: zs.Array) -> None:
    write = meanwhile(array, lambda other: other.set_slice([5], 6))
    store_of(array).add(Fault(verb="delete", meanwhile=write))
    await array.set_slice(FILL, 0, 2)
    assert calls(array) == ["get", "delete", "get", "put"]
    assert (await array.get_slice(0, 8)).tolist() == [FILL] * 6 + [5, FILL]


async def test_a_merge_does_not_restore_an_object_emptied_since_its_read(array: zs.Array) -> None:
    empty = meanwhile(array, lambda other: other.set_slice(FILL, 0, 2))
    store_of(array).add(Fault(verb="put", meanwhile=empty))
    await array.set_slice([5], 6)
    assert calls(array) == ["get", "put", "get", "put"]
    assert store_of(array).calls[3].when == "absent"
    assert (await array.get_slice(0, 8)).tolist() == [FILL] * 6 + [5, FILL]


async def test_two_writers_may_empty_an_object_at_the_same_time(array: zs.Array) -> None:
    empty = meanwhile(array, lambda other: other.set_slice(FILL, 0, 2))
    store_of(array).add(Fault(verb="delete", meanwhile=empty))
    await array.set_slice(FILL, 0, 2)
    assert calls(array) == ["get", "delete", "get"]
    assert await store_of(array).inner.get("c/0") is None


async def test_a_delete_with_a_lost_response_has_an_unknown_outcome(array: zs.Array) -> None:
    lost = Fault(verb="delete", lost_answer=True, error=lambda: zs.NetworkError("reset"))
    store_of(array).add(lost)
    with pytest.raises(zs.NetworkError) as caught:
        await array.set_slice(FILL, 0, 2)
    assert caught.value.outcome == zs.WriteOutcome(written=(), not_written=(), unknown=((0,),))


@pytest.mark.parametrize("options", LAYOUTS.values(), ids=LAYOUTS)
async def test_an_emptied_object_is_stored_where_empty_chunks_are_stored(session: zs.Session, options: Any) -> None:
    store = FaultyStore(zs.MemoryStore())
    array = await session.create_array(store, shape=(16,), dtype="i4", write_empty_chunks=True, **options)
    await array.set_slice([1], 0)
    await array.set_slice([0], 0)
    assert store.count("delete") == 0
    assert await store.get("c/0") is not None
    assert not np.any(await array.get_slice(0, 16))
