"""Loop iterations stay short while interactive calls run: bulk calls do one step of work in each."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from time import monotonic
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async._concurrency import turns as module
from zarr_s3_async._concurrency.limiter import BULK, NORMAL, at_priority
from zarr_s3_async._concurrency.turns import STEP_BYTES, FewPerTurn, LoopTurns
from zarr_s3_async._engine.read import BULK_BYTES, is_bulk
from zarr_s3_async._http.connection import Connection

from ..servers.stand_in import StandIn


class TurnCounter:
    """Counts iterations of the loop."""

    def __init__(self) -> None:
        self.number = 0
        self._loop = asyncio.get_running_loop()
        self._handle = self._loop.call_soon(self._count)

    def _count(self) -> None:
        self.number += 1
        self._handle = self._loop.call_soon(self._count)

    def stop(self) -> None:
        self._handle.cancel()


@asynccontextmanager
async def counted() -> AsyncIterator[TurnCounter]:
    counter = TurnCounter()
    try:
        yield counter
    finally:
        counter.stop()


async def test_waiters_proceed_one_per_iteration_in_order_without_cancelled_ones() -> None:
    turns, order = LoopTurns(), []
    async with counted() as counter:

        async def step(name: int) -> None:
            await turns.wait()
            order.append((name, counter.number))

        tasks = [asyncio.ensure_future(step(name)) for name in range(6)]
        await asyncio.sleep(0)
        tasks[2].cancel()
        await asyncio.wait(tasks)
    names, numbers = zip(*order, strict=True)
    assert names == (0, 1, 3, 4, 5)
    assert [number - numbers[0] for number in numbers] == [0, 1, 2, 3, 4]


async def test_iterations_stay_short_for_some_time_after_an_interactive_call(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    turns = LoopTurns()
    assert not turns.short
    turns.active, turns.short = 1, True
    monkeypatch.setattr(module, "_AFTER", -1.0)
    await turns.wait()
    assert turns.short  # one is in progress
    turns.active = 0
    turns.ended = monotonic()
    monkeypatch.setattr(module, "_AFTER", 3600.0)
    await turns.wait()
    assert turns.short
    monkeypatch.setattr(module, "_AFTER", -1.0)
    await turns.wait()
    assert not turns.short


class AtOnce(zs.MemoryStore):
    """Answers all requests in flight in one loop iteration, and records the iteration in which each was sent."""

    def __init__(self, gate: asyncio.Event) -> None:
        super().__init__()
        self.gate = gate
        self.counter: TurnCounter | None = None
        self.sent: Counter[int] = Counter()

    async def _note(self) -> None:
        if self.counter is not None:
            self.sent[self.counter.number] += 1
            await self.gate.wait()

    async def get(self, key: str, **options: Any) -> Any:
        if "c/" in key:
            await self._note()
        return await super().get(key, **options)

    async def put(self, key: str, *args: Any, **options: Any) -> Any:
        if "c/" in key:
            await self._note()
        return await super().put(key, *args, **options)


@pytest.mark.parametrize("write", [False, True], ids=["read", "write"])
@pytest.mark.parametrize("interactive", [False, True], ids=["alone", "beside"])
async def test_a_bulk_call_sends_one_request_per_iteration_during_an_interactive_call(
    interactive: bool, write: bool
) -> None:
    gate, held = asyncio.Event(), asyncio.Event()
    store, other = AtOnce(gate), AtOnce(held)
    async with zs.Session(limits=zs.Limits(requests=16)) as session, counted() as counter:
        array = await session.create_array(store, shape=(100,), chunks=(1,), dtype="f8")
        small = await session.create_array(other, shape=(1,), chunks=(1,), dtype="f8")
        await small.set_slice(5.0, start=0, stop=1)
        await array.set_slice(np.arange(1.0, 101.0), start=0, stop=100)
        session._turns.short = False
        store.counter = other.counter = counter
        waiting: list[asyncio.Future[Any]] = []
        if interactive:
            waiting.append(asyncio.ensure_future(small.get_slice(0, 1)))
            while not other.sent:
                await asyncio.sleep(0)
        bulk = asyncio.ensure_future(array.set_slice(7.0, start=0, stop=100) if write else array.get_slice(0, 100))
        while store.sent.total() < 15 + interactive:
            await asyncio.sleep(0)
        gate.set()
        await bulk
        held.set()
        await asyncio.gather(*waiting)
    assert store.sent.total() == 100
    if interactive:
        assert max(store.sent.values()) == 1
    else:
        assert max(store.sent.values()) == 16


@pytest.mark.parametrize("write", [False, True], ids=["read", "write"])
async def test_a_small_read_or_write_shortens_iterations_and_records_its_end(write: bool) -> None:
    held = asyncio.Event()
    store = AtOnce(held)
    async with zs.Session() as session, counted() as counter:
        array = await session.create_array(store, shape=(1,), chunks=(1,), dtype="f8")
        turns = session._turns
        turns.short, turns.ended = False, 0.0
        store.counter = counter
        call: asyncio.Future[Any] = asyncio.ensure_future(
            array.set_slice(5.0, start=0, stop=1) if write else array.get_slice(0, 1)
        )
        while not store.sent:
            await asyncio.sleep(0)
        assert (turns.short, turns.active) == (True, 1)
        before = monotonic()
        held.set()
        await call
        assert turns.active == 0
        assert turns.ended >= before


async def test_a_bulk_call_decodes_one_chunk_per_iteration_during_an_interactive_call() -> None:
    gate, held = asyncio.Event(), asyncio.Event()
    store, other = AtOnce(gate), AtOnce(held)
    decoded: Counter[int] = Counter()
    async with zs.Session(limits=zs.Limits(requests=16)) as session, counted() as counter:
        array = await session.create_array(store, shape=(17,), chunks=(1,), dtype="f8", compressor="zstd")
        small = await session.create_array(other, shape=(1,), chunks=(1,), dtype="f8")
        await small.set_slice(5.0, start=0, stop=1)
        await array.set_slice(np.arange(1.0, 18.0), start=0, stop=17)
        store.counter = other.counter = counter
        decode = array._layout.pipeline.decode

        class Counting:
            def __getattr__(self, name: str) -> Any:
                return getattr(pipeline, name)

            def decode(self, *args: Any) -> Any:
                decoded[counter.number] += 1
                return decode(*args)

        pipeline = array._layout.pipeline
        object.__setattr__(array._layout, "pipeline", Counting())
        bulk = asyncio.ensure_future(array.get_slice(0, 17))
        while store.sent.total() < 16:
            await asyncio.sleep(0)
        interactive = asyncio.ensure_future(small.get_slice(0, 1))
        while not other.sent:
            await asyncio.sleep(0)
        gate.set()
        assert (await bulk).tolist() == list(range(1, 18))
        held.set()
        await interactive
    assert decoded.total() == 17
    assert max(decoded.values()) == 1


@pytest.mark.parametrize("width", [2048, 1024])  # of a chunk: the memory of its body is contiguous, or strided
async def test_a_bulk_body_is_received_in_small_steps_during_an_interactive_call(
    width: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    steps: list[int] = []
    get_buffer = Connection.get_buffer

    def noted(connection: Connection, sizehint: int) -> memoryview:
        buffer = get_buffer(connection, sizehint)
        steps.append(len(buffer))
        return buffer

    async with StandIn() as server:
        keys = {name: getattr(server, name) for name in ("endpoint_url", "access_key_id", "secret_access_key")}
        async with zs.Session(**keys) as session:
            array = await session.create_array(
                f"s3://{server.bucket}/a", shape=(1024, 2048), chunks=(1024, width), dtype="u1", compressor=None
            )
            data = np.arange(2**21, dtype="u4").astype("u1").reshape(array.shape)
            await array.set_slice(data, start=(0, 0), stop=array.shape)
            monkeypatch.setattr(Connection, "get_buffer", noted)
            session._turns.active, session._turns.short = 1, True
            assert np.array_equal(await array.get_slice((0, 0), array.shape, priority="bulk"), data)
    assert len(steps) >= 2**21 // STEP_BYTES
    assert max(steps) <= STEP_BYTES


@pytest.mark.parametrize(("n_objects", "nbytes"), [(5, 1), (1, BULK_BYTES + 1)])
def test_a_call_of_many_objects_or_bytes_is_bulk_by_default(n_objects: int, nbytes: int) -> None:
    limits = zs.Limits(requests=4)
    assert is_bulk(n_objects, nbytes, limits)
    assert not is_bulk(4, BULK_BYTES, limits)
    with at_priority(NORMAL):
        assert not is_bulk(n_objects, nbytes, limits)
    with at_priority(BULK):
        assert is_bulk(1, 1, limits)


async def test_few_callers_continue_per_iteration_in_the_order_of_arrival() -> None:
    few = FewPerTurn(3)
    iteration = 0
    begun: list[tuple[int, int]] = []

    async def caller(number: int) -> None:
        await few.wait()
        begun.append((number, iteration))

    callers = [asyncio.ensure_future(caller(number)) for number in range(10)]
    callers[5].cancel()
    callers.append(asyncio.ensure_future(caller(10)))
    while not all(task.done() for task in callers):
        await asyncio.sleep(0)
        iteration += 1
        assert iteration < 50
    assert [number for number, _ in begun] == [0, 1, 2, 3, 4, 6, 7, 8, 9, 10]
    assert [sum(at == n for _, at in begun) for n in sorted({at for _, at in begun})] == [3, 3, 3, 1]


async def test_a_caller_continues_immediately_if_few_came_before_it_in_the_iteration() -> None:
    few = FewPerTurn(2)
    for _ in range(3):
        for _ in range(2):
            waiting = few.wait()
            with pytest.raises(StopIteration):
                waiting.send(None)
        await asyncio.sleep(0)
    assert not few._waiting
    for _ in range(3):
        await asyncio.sleep(0)
    assert not few._is_scheduled  # an idle server does nothing in each iteration


async def test_a_cancelled_caller_takes_no_place() -> None:
    few = FewPerTurn(1)
    callers = [asyncio.ensure_future(few.wait()) for _ in range(4)]
    await asyncio.sleep(0)
    callers[1].cancel()
    callers[2].cancel()
    for _ in range(3):
        await asyncio.sleep(0)
    assert [task.done() for task in callers] == [True] * 4
    assert [task.cancelled() for task in callers] == [False, True, True, False]
