"""The order of waiting requests: interactive calls before bulk ones, and neither starves the other."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarr_s3_async as zs
from zarr_s3_async._concurrency.limiter import BULK, FAIR_TURN, HIGH, NORMAL, PRIORITY, Limiter, at_priority
from zarr_s3_async._concurrency.workers import run_workers
from zarr_s3_async._engine.read import BULK_BYTES


async def take(limiter: Limiter, order: list[Any], name: Any, weight: int = 1) -> None:
    await limiter.acquire(weight)
    order.append(name)


def waiting_at(limiter: Limiter, order: list[Any], priority: int, name: Any, weight: int = 1) -> asyncio.Task[None]:
    with at_priority(priority):
        return asyncio.ensure_future(take(limiter, order, name, weight))


async def test_waiters_are_served_by_priority_and_then_by_arrival() -> None:
    limiter, order = Limiter(1), []
    await limiter.acquire()
    for number, priority in enumerate((BULK, NORMAL, HIGH, BULK, NORMAL, HIGH)):
        waiting_at(limiter, order, priority, (priority, number))
    await asyncio.sleep(0)
    for _ in range(6):
        limiter.release()
        await asyncio.sleep(0)
    assert order == [(HIGH, 2), (HIGH, 5), (NORMAL, 1), (NORMAL, 4), (BULK, 0), (BULK, 3)]


async def test_calls_of_one_priority_alternate_and_each_keeps_its_order() -> None:
    limiter, order = Limiter(1), []
    await limiter.acquire()

    async def call(name: str, objects: int) -> asyncio.Task[None]:
        async def work(number: int) -> None:
            await take(limiter, order, f"{name}{number}")

        waiting = limiter.waiting + objects
        running = asyncio.ensure_future(run_workers(objects, iter(range(objects)), work))
        while limiter.waiting < waiting:
            await asyncio.sleep(0)
        return running

    calls = [await call(name, objects) for name, objects in (("long", 5), ("short", 2), ("single", 1))]
    for number in range(9):
        if number == 3:
            calls.append(await call("late", 1))
        limiter.release()
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    await asyncio.gather(*calls)
    assert order == ["long0", "short0", "single0", "long1", "short1", "late0", "long2", "long3", "long4"]


async def test_workers_of_a_call_count_as_part_of_it() -> None:
    limiter, order = Limiter(1), []
    await limiter.acquire()

    async def part(number: int) -> None:
        async def work(piece: int) -> None:
            await take(limiter, order, f"parts{number}.{piece}")

        await run_workers(2, iter(range(2)), work)

    parts = asyncio.ensure_future(run_workers(2, iter(range(2)), part))
    while limiter.waiting < 4:
        await asyncio.sleep(0)
    single = asyncio.ensure_future(take(limiter, order, "single"))
    await asyncio.sleep(0)
    for _ in range(5):
        limiter.release()
        await asyncio.sleep(0)
    await asyncio.gather(parts, single)
    assert order == ["parts0.0", "single", "parts0.1", "parts1.0", "parts1.1"]


@pytest.mark.parametrize("weight", [1, 5])
async def test_a_bulk_waiter_is_served_even_if_interactive_ones_keep_arriving(weight: int) -> None:
    limiter, order = Limiter(1), []
    await limiter.acquire()
    tasks = [waiting_at(limiter, order, BULK, "bulk", weight)]
    for number in range(3 * FAIR_TURN):
        tasks.append(waiting_at(limiter, order, HIGH, number))
        await asyncio.sleep(0)
        limiter.release(weight if order and order[-1] == "bulk" else 1)
        await asyncio.sleep(0)
    assert "bulk" in order[:FAIR_TURN]
    for task in tasks:
        task.cancel()
    await asyncio.wait(tasks)


@given(
    steps=st.lists(
        st.tuples(st.sampled_from(["ask", "cancel", "release"]), st.integers(0, 2), st.integers(1, 4)), max_size=40
    )
)
async def test_the_limit_is_never_exceeded_and_every_waiter_is_served(steps: list[tuple[str, int, int]]) -> None:
    limiter, tasks, held = Limiter(3), [], []

    async def hold(weight: int) -> None:
        await limiter.acquire(weight)
        held.append(weight)

    for act, priority, weight in steps:
        if act == "ask":
            with at_priority(priority):
                tasks.append(asyncio.ensure_future(hold(weight)))
        elif act == "cancel" and tasks:
            tasks[weight % len(tasks)].cancel()
        elif held:
            limiter.release(held.pop())
        for _ in range(3):  # a cancelled waiter admits the next one, whose task continues an iteration later
            await asyncio.sleep(0)
        assert limiter.held <= 3 or len(held) == 1
        assert limiter.waiting == sum(not task.done() for task in tasks)
    while any(not task.done() for task in tasks):
        limiter.release(held.pop())
        await asyncio.sleep(0)
    for weight in held:
        limiter.release(weight)
    assert (limiter.held, limiter.waiting) == (0, 0)


async def test_closing_ends_the_waiters_of_all_classes() -> None:
    limiter, order = Limiter(1), []
    await limiter.acquire()
    tasks = [waiting_at(limiter, order, priority, priority) for priority in (HIGH, NORMAL, BULK)]
    await asyncio.sleep(0)
    limiter.close()
    assert [type(error) for error in await asyncio.gather(*tasks, return_exceptions=True)] == [zs.SessionClosed] * 3
    assert not limiter.try_acquire()
    with pytest.raises(zs.SessionClosed):
        await limiter.acquire()
    limiter.release()
    assert limiter.waiting == 0


# Of reads


class Slow(zs.MemoryStore):
    """A store under the session's request slots that returns chunks one by one when the test releases them."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[str, int | None]] = []
        self.gate = asyncio.Event()
        self.gate.set()

    async def get(self, key: str, **options: Any) -> Any:
        if "c/" in key:
            self.seen.append((key, PRIORITY.get()))
            await self.gate.wait()
        return await super().get(key, **options)


async def array_of(session: zs.Session, store: zs.Store, chunks: int) -> zs.Array:
    array = await session.create_array(store, shape=(chunks * 10,), chunks=(10,), dtype="f8")
    await array.set_slice(np.arange(chunks * 10.0), start=0)
    return array


async def test_long_reads_and_streams_are_bulk_by_default() -> None:
    store = Slow()
    async with zs.Session(limits=zs.Limits(requests=4)) as session:
        array = await array_of(session, store, 5)

        async def classes(reading: Any) -> set[int | None]:
            store.seen.clear()
            await reading
            return {priority for _, priority in store.seen}

        async def streamed() -> None:
            async with array.stream() as blocks:
                async for _ in blocks:
                    pass

        assert await classes(array.get_slice(0, 40)) == {None}
        assert await classes(array.get_slice(0, 50)) == {BULK}
        assert await classes(array.get_slice(0, 50, priority="normal")) == {NORMAL}
        assert await classes(array.get_slice(0, 10, priority="high")) == {HIGH}
        assert await classes(streamed()) == {BULK}
        assert await classes(array.verify()) == {BULK}
        assert await classes(zs.copy(array, zs.MemoryStore(), chunks=(25,))) == {BULK}
        assert PRIORITY.get() is None


async def test_a_read_of_one_large_object_is_bulk() -> None:
    store, side = Slow(), BULK_BYTES + 1
    async with zs.Session() as session:
        array = await session.create_array(store, shape=(side,), chunks=(side,), dtype="u1")
        store.seen.clear()
        await array.get_slice(0, side - 1)
        await array.get_slice(0, side)
    assert [priority for _, priority in store.seen] == [None, BULK]


async def test_a_write_of_more_objects_than_there_are_slots_is_bulk() -> None:
    class Puts(zs.MemoryStore):
        async def put(self, key: str, *args: Any, **options: Any) -> Any:
            seen.add(PRIORITY.get())
            return await super().put(key, *args, **options)

    seen: set[int | None] = set()
    async with zs.Session(limits=zs.Limits(requests=4)) as session:
        array = await session.create_array(Puts(), shape=(50,), chunks=(10,), dtype="f8")
        seen.clear()
        await array.set_slice(1.0, start=0, stop=40)
        assert seen == {None}
        seen.clear()
        await array.set_slice(1.0, start=0, stop=50)
        assert seen == {BULK}


async def test_a_small_read_overtakes_a_long_one_that_waits() -> None:
    store = Slow()
    async with zs.Session(limits=zs.Limits(requests=64, bytes=160)) as session:  # one chunk in work: 80 bytes, twice
        array = await array_of(session, store, 100)
        store.gate.clear()
        store.seen.clear()
        long = asyncio.ensure_future(array.get_slice(0, 1000))
        while session.usage.bytes_waiting < 63:
            await asyncio.sleep(0)
        small = asyncio.ensure_future(array.get_slice(990, 1000))
        await asyncio.sleep(0.01)
        store.gate.set()
        assert (await small)[0] == 990
        assert len(store.seen) < 10  # of 100
        assert (await long).sum() == sum(range(1000))


async def test_a_full_session_refuses_calls_and_names_its_figures() -> None:
    store = Slow()
    limits = zs.Limits(requests=64, bytes=160, max_waiting=3)
    async with zs.Session(limits=limits) as session:
        array = await array_of(session, store, 10)
        store.gate.clear()
        store.seen.clear()
        reads = [asyncio.ensure_future(array.get_slice(n, n + 10)) for n in (0, 10, 20, 30)]
        while session.usage.bytes_waiting < 3:
            await asyncio.sleep(0)
        with pytest.raises(zs.Overloaded, match=r"0 requests and 3 objects wait, and Limits\.max_waiting allows 3"):
            await array.get_slice(40, 50)
        with pytest.raises(zs.Overloaded):
            await array.set_slice(1.0, start=40, stop=50)
        urgent = asyncio.ensure_future(array.get_slice(50, 60, priority="high"))
        await asyncio.sleep(0.01)
        reads[3].cancel()  # a client that closes its connection releases its place
        await asyncio.sleep(0)
        store.gate.set()
        assert (await urgent)[0] == 50
        await asyncio.gather(*reads[:3])
        assert (await array.get_slice(40, 50))[0] == 40


@pytest.mark.parametrize("wrong", ["hi", "", 0, True, "High"])
async def test_an_invalid_priority_is_refused(wrong: Any) -> None:
    async with zs.Session() as session:
        array = await array_of(session, zs.MemoryStore(), 1)
        with pytest.raises(zs.ConfigError, match="priority"):
            await array.get_slice(0, 1, priority=wrong)
