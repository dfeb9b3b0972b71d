"""An operation that is cancelled at any await leaves no partial state: the next one succeeds at once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Coroutine, Generator
from typing import Any

import anyio
import numpy as np
import pytest

import zarr_s3_async as zs

from .conftest import Place
from .virtual_time import JumpingLoop

WAYS = ["anyio", "timeout", "wait_for", "native", "double"]


class Stepped:
    """Awaits a coroutine and calls `at_step` at its n-th suspension."""

    def __init__(self, inner: Coroutine[Any, Any, Any], step: int, at_step: Callable[[], None]) -> None:
        self.inner = inner
        self.step = step
        self.at_step = at_step
        self.steps = 0

    def __await__(self) -> Generator[Any, Any, Any]:
        resume = lambda: self.inner.send(None)  # noqa: E731  # rebound below
        while True:
            try:
                waiting_for = resume()
            except StopIteration as done:
                return done.value
            self.steps += 1
            if self.steps == self.step:
                self.at_step()
            try:
                yield waiting_for
            except BaseException as error:  # passed into the coroutine
                thrown = error
                resume = lambda: self.inner.throw(thrown)  # noqa: B023, E731  # used before it is bound again
            else:
                resume = lambda: self.inner.send(None)  # noqa: E731


def soon(act: Callable[[], None]) -> Callable[[], None]:
    """Call `act` in the next iteration of the loop, when the awaiting task is suspended."""
    return lambda: asyncio.get_running_loop().call_soon(act) and None


async def cancelled_at(step: int, way: str, operation: Coroutine[Any, Any, Any]) -> bool:
    """Run the operation and cancel it at its n-th await. Returns False if it had ended before."""
    task = asyncio.current_task()
    assert task is not None

    async def native(times: int) -> bool:
        inner: asyncio.Task[Any]

        def cancel() -> None:
            for _ in range(times):
                inner.cancel()

        async def run() -> None:
            await Stepped(operation, step, soon(cancel))

        inner = asyncio.create_task(run())
        await asyncio.wait([inner])
        return inner.cancelled() or (inner.exception() is not None and _reraise(inner))

    match way:
        case "native":
            return await native(1)
        case "double":
            return await native(2)
        case "anyio":
            with anyio.CancelScope() as scope:
                await Stepped(operation, step, soon(scope.cancel))
            return scope.cancelled_caught
        case "timeout":
            try:
                async with asyncio.timeout(None) as deadline:
                    await Stepped(operation, step, soon(lambda: deadline.reschedule(0)))
            except TimeoutError:
                return True
            return False
        case _:
            loop = asyncio.get_running_loop()

            def jump() -> None:  # wait_for's ten seconds are over; an attempt's sixty are not
                before = loop.time
                loop.time = lambda: before() + 20  # type: ignore[method-assign]  # a clock for this test

            async def run() -> None:
                await Stepped(operation, step, jump)

            try:
                await asyncio.wait_for(run(), 10)
            except TimeoutError:
                return True
            return False


def _reraise(task: asyncio.Task[Any]) -> bool:
    raise task.exception() or AssertionError


async def every_await(
    way: str, operation: Callable[[], Coroutine[Any, Any, Any]], after: Callable[[], Awaitable[None]]
) -> int:
    """Cancel at the first await, the second, … until the operation completes. Returns the number of awaits."""
    step = 1
    while await cancelled_at(step, way, operation()):
        await after()
        step += 1
        assert step < 2000
    return step - 1


@pytest.mark.integration
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("what", ["read", "read-many", "write", "merge"])
async def test_after_a_cancelled_operation_the_next_read_succeeds_with_both_connections(
    place: Place, way: str, what: str
) -> None:
    expected = np.arange(40, dtype="i4").reshape(2, 20)
    async with zs.Session(s3=place.config, limits=zs.Limits(requests=2)) as session:
        array = await session.create_array(place.url, shape=(2, 20), chunks=(2, 5), dtype="i4", zarr_format=2)
        await array.set_slice(expected, (0, 0))

        async def check() -> None:
            async with asyncio.timeout(10):
                assert np.array_equal(await array.get_slice((0, 0), (2, 20)), expected)

        operations: dict[str, Callable[[], Coroutine[Any, Any, Any]]] = {
            "read": lambda: array.get_slice((0, 0), (2, 5)),
            "read-many": lambda: array.get_slice((0, 0), (2, 20)),
            "write": lambda: array.set_slice(expected[:, :5], (0, 0)),
            "merge": lambda: array.set_slice(expected[:1, :3], (0, 0)),
        }
        awaits = await every_await(way, operations[what], check)
    # On Python 3.11, wait_for lets a read succeed whose response arrives in the same loop iteration as its timeout.
    assert awaits >= (way != "wait_for")


class Turns(zs.MemoryStore):
    """A store whose methods yield to the loop a few times before and after they act."""

    async def get(self, key: str, **options: Any) -> Any:  # type: ignore[override]  # handed on as it is
        await asyncio.sleep(0)
        blob = await super().get(key, **options)
        await asyncio.sleep(0)
        return blob

    async def put(self, key: str, data: Any, **options: Any) -> Any:  # type: ignore[override]  # handed on as it is
        await asyncio.sleep(0)
        version = await super().put(key, data, **options)
        await asyncio.sleep(0)
        return version


@pytest.mark.parametrize("double", [False, True])
@pytest.mark.parametrize("big", [False, True], ids=["inline", "threads"])
async def test_a_write_cancelled_at_any_await_leaves_every_chunk_old_or_new(double: bool, big: bool) -> None:
    n = 60_000 if big else 8
    async with zs.Session(limits=zs.Limits(requests=3)) as session:
        array = await session.create_array(Turns(), shape=(6 * n,), chunks=(n,), dtype="f8")
        old, new = np.full(6 * n, 1.0), np.full(6 * n, 2.0)
        await array.set_slice(old, 0)
        got_through = False
        for turns in range(200):
            task = asyncio.create_task(array.set_slice(new[n // 2 :], n // 2))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            if double:
                await asyncio.sleep(0)
                task.cancel()
            await asyncio.wait([task])
            assert session._leases.held == 0
            assert len(session._locks) == 0
            result = await array.get_slice(0, 6 * n)
            assert (result[: n // 2] == 1).all()
            for chunk in np.split(result[n // 2 :], range(n // 2, 6 * n - n // 2, n)):
                assert len(set(chunk)) == 1, "a chunk is in its old or its new state"
            if not task.cancelled():
                task.result()
                got_through = True
                break
            await array.set_slice(old, 0)
        assert got_through or big


@pytest.mark.parametrize("big", [False, True], ids=["inline", "threads"])
async def test_a_cancelled_read_writes_nothing_more_into_the_callers_array(big: bool) -> None:
    n = 60_000 if big else 8
    async with zs.Session(limits=zs.Limits(requests=3)) as session:
        array = await session.create_array(Turns(), shape=(6 * n,), chunks=(n,), dtype="f8")
        await array.set_slice(np.full(6 * n, 1.0), 0)
        for turns in range(60):
            out = np.zeros(6 * n)
            task = asyncio.create_task(array.get_slice(0, 6 * n, out=out))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                assert task.result() is out
                return
            out[:] = 5
            for _ in range(5):
                await asyncio.sleep(0.0005 if big else 0)
            assert (out == 5).all()
            assert session._leases.held == 0


def test_an_expired_deadline_raises_deadline_exceeded_with_the_outcome() -> None:
    class Stuck(zs.MemoryStore):
        async def put(self, key: str, data: Any, **options: Any) -> Any:  # type: ignore[override]  # handed on
            if key == "c/1":
                await asyncio.sleep(3600)
            return await super().put(key, data, **options)

    async def scenario() -> zs.WriteOutcome | None:
        async with zs.Session() as session:
            array = await session.create_array(Stuck(), shape=(3,), chunks=(1,), dtype="i4")
            with pytest.raises(zs.DeadlineExceeded, match=r"timeout=0\.5") as caught:
                await array.set_slice([1, 2, 3], 0, timeout=0.5)
        return caught.value.outcome

    # Its clock moves only when all tasks wait, so the other chunks are written by then on any machine.
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        outcome = runner.run(scenario())
    assert outcome == zs.WriteOutcome(written=((0,), (2,)), not_written=(), unknown=((1,),))
