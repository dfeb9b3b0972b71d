"""A background coroutine: its owner can cancel it without waiting, from any thread."""

from __future__ import annotations

import asyncio
import threading

import anyio
import pytest

from zarr_s3_async._concurrency.background import Background


async def test_a_background_task_is_cancelled_from_another_thread_without_waiting() -> None:
    failures: list[BaseException | None] = []
    background = Background(asyncio.sleep(1000), failures.append)
    canceller = threading.Thread(target=background.cancel)
    canceller.start()
    await background.wait()
    canceller.join()
    background.cancel()  # a second call has no effect
    assert failures == []


def test_a_background_task_can_be_cancelled_after_its_loop_was_closed() -> None:
    made: list[Background] = []

    async def make() -> None:
        made.append(Background(asyncio.sleep(1000), lambda failure: None))

    loop = asyncio.new_event_loop()
    loop.run_until_complete(make())
    task = made[0]._task
    loop.run_until_complete(asyncio.sleep(0))
    task.cancel()
    loop.run_until_complete(made[0].wait())
    loop.close()
    made[0].cancel()


async def test_the_end_of_a_background_task_is_reported_with_its_error() -> None:
    ends: list[BaseException | None] = []

    async def fail() -> None:
        raise KeyError("it")

    background = Background(asyncio.sleep(0), ends.append)
    await background.wait()
    failing = Background(fail(), ends.append)
    await failing.wait()
    await asyncio.sleep(0)
    assert ends[0] is None
    assert isinstance(ends[1], KeyError)
    await background.aclose()
    await failing.aclose()


@pytest.mark.parametrize("way", ["native", "anyio", "twice"])
async def test_closing_waits_for_the_end_of_the_task_even_if_cancelled(way: str) -> None:
    ended = False

    async def delay_cancellation() -> None:
        nonlocal ended
        try:
            await asyncio.sleep(3600)
        finally:
            for _ in range(20):
                await asyncio.sleep(0)
            ended = True

    background = Background(delay_cancellation(), lambda _: None)
    await asyncio.sleep(0)
    if way == "anyio":
        with anyio.CancelScope() as scope:
            scope.cancel()
            await background.aclose()
    else:
        closing = asyncio.create_task(background.aclose())
        await asyncio.sleep(0)
        closing.cancel()
        if way == "twice":
            await asyncio.sleep(0)
            closing.cancel()
        with pytest.raises(asyncio.CancelledError):
            await closing
    assert ended


async def test_cancelling_a_waiter_leaves_the_background_task_running() -> None:
    background = Background(asyncio.sleep(3600), lambda _: None)
    with anyio.move_on_after(0):
        await background.wait()
    assert len(asyncio.all_tasks()) == 2
    await background.aclose()
    assert len(asyncio.all_tasks()) == 1


async def test_the_owner_is_notified_of_a_cancelled_error_that_it_did_not_cause() -> None:
    """Without it, who takes blocks of a stream waits forever."""
    ends: list[BaseException | None] = []

    async def fails() -> None:
        raise asyncio.CancelledError

    background = Background(fails(), ends.append)
    await background.wait()
    assert len(ends) == 1
    assert isinstance(ends[0], asyncio.CancelledError)
    await background.aclose()
