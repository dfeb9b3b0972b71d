"""FaultyStore: each fault has its effect on exactly the calls that it names."""

import asyncio

import anyio
import pytest

from zarr_s3_async.byte_range import Span
from zarr_s3_async.errors import NetworkError, Throttled
from zarr_s3_async.stores.memory import MemoryStore
from zarr_s3_async.testing import Call, Fault, FaultyStore


def _reset() -> NetworkError:
    return NetworkError("connection reset")


@pytest.fixture
async def inner() -> MemoryStore:
    store = MemoryStore()
    for key in ("a/1", "a/2", "b"):
        await store.put(key, key.encode())
    return store


async def test_without_faults_all_calls_are_forwarded_and_recorded(inner):
    store = FaultyStore(inner)
    version = await store.put("x", b"1")
    await store.get("x", range=Span(0, 1), version=version)
    await store.delete("x", when=version)
    await store.delete_many(["p", "q"])
    await store.list_dir("a")
    assert [entry.key async for entry in store.list_prefix("a/")] == ["a/1", "a/2"]
    assert store.calls == [
        Call("put", "x"),
        Call("get", "x", Span(0, 1), version),
        Call("delete", "x", when=version),
        Call("delete_many", "p q"),
        Call("list_dir", "a"),
        Call("list_prefix", "a/"),
    ]
    assert store.url == inner.url


async def test_a_fault_applies_only_to_the_nth_matching_call(inner):
    store = FaultyStore(inner, Fault(verb="get", key="a/*", nth=2, times=2, error=_reset))
    await store.get("b")
    await store.put("a/1", b"")
    await store.get("a/1")
    for _ in range(2):
        with pytest.raises(NetworkError, match="connection reset"):
            await store.get("a/2")
    await store.get("a/1")
    assert store.count("get", "a/*") == 4


async def test_a_fault_without_a_number_of_times_applies_to_all_later_calls(inner):
    store = FaultyStore(inner, Fault(times=None, error=lambda: Throttled("slow down")))
    for _ in range(5):
        with pytest.raises(Throttled):
            await store.get("b")
    store.clear()
    assert await store.get("b") is not None
    assert store.count() == 1


async def test_a_failed_call_is_not_forwarded(inner):
    store = FaultyStore(inner, Fault(verb="put", error=_reset), Fault(verb="delete", error=_reset))
    with pytest.raises(NetworkError):
        await store.put("new", b"")
    with pytest.raises(NetworkError):
        await store.delete("b")
    assert await inner.get("new") is None
    assert await inner.get("b") is not None


async def test_a_call_with_a_lost_answer_is_forwarded(inner):
    store = FaultyStore(inner, Fault(verb="put", error=_reset, lost_answer=True))
    with pytest.raises(NetworkError):
        await store.put("new", b"1")
    assert await inner.get("new") is not None


def test_a_lost_answer_needs_an_error():
    with pytest.raises(ValueError, match="needs error="):
        Fault(lost_answer=True)


async def test_delays_use_the_given_sleep_function(inner):
    slept: list[float] = []

    async def sleep(seconds: float) -> None:
        slept.append(seconds)

    store = FaultyStore(inner, Fault(nth=2, delay=3.0), latency=0.5, sleep=sleep)
    for _ in range(3):
        await store.get("b")
    assert slept == [0.5, 3.5, 0.5]


async def test_damage_changes_the_data_and_the_memory_of_the_sink(inner):
    store = FaultyStore(inner, Fault(verb="get", times=None, damage=lambda data: data[:-1] + b"!!"))
    blob = await store.get("a/1")
    assert blob is not None
    assert blob.data == b"a/!!"
    memory = bytearray()

    def sink(length: int) -> memoryview:
        memory[:] = bytes(length)
        return memoryview(memory)

    await store.get("a/1", sink=sink)
    assert memory == b"a/!!"
    assert await store.get("absent") is None


async def test_another_writer_can_act_before_the_call(inner):
    store = FaultyStore(inner, Fault(verb="get", nth=2, meanwhile=lambda: inner.put("b", b"new")))
    first, second = await store.get("b"), await store.get("b")
    assert first is not None
    assert second is not None
    assert (first.data, second.data) == (b"b", b"new")


async def test_a_listing_fails_before_its_first_entry_or_after_its_last(inner):
    store = FaultyStore(inner, Fault(verb="list_prefix", error=_reset))
    with pytest.raises(NetworkError):
        await anext(store.list_prefix())
    store.add(Fault(verb="list_prefix", error=_reset, lost_answer=True))
    listing = store.list_prefix("a/")
    assert [(await anext(listing)).key for _ in range(2)] == ["a/1", "a/2"]
    with pytest.raises(NetworkError):
        await anext(listing)


async def test_the_peak_is_the_largest_number_of_concurrent_calls(inner):
    gate = asyncio.Event()
    store = FaultyStore(inner, latency=1.0, sleep=lambda _: gate.wait())
    async with anyio.create_task_group() as group:
        for _ in range(7):
            group.start_soon(store.get, "b")
        await asyncio.sleep(0.01)
        assert store.in_flight == 7
        gate.set()
    await store.get("b")
    assert (store.in_flight, store.peak) == (0, 7)


async def test_a_cancelled_call_is_no_longer_in_flight(inner):
    store = FaultyStore(inner, latency=1.0, sleep=lambda _: asyncio.Event().wait())
    with anyio.move_on_after(0.01):
        await store.get("b")
    assert store.in_flight == 0
