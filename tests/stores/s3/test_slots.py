"""A throttled bucket gets fewer slots, and slows no other; it gets them back as it answers."""

from __future__ import annotations

import asyncio

from zarr_s3_async._concurrency.limiter import Limiter
from zarr_s3_async.stores.s3.slots import Slots


class Seconds:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_bucket_that_never_throttled_has_all_slots() -> None:
    slots = Slots(Limiter(4))
    assert [await slots.acquire("b") for _ in range(4)] == [None] * 4
    assert slots.session.held == 4


async def test_a_throttled_bucket_waits_without_a_slot() -> None:
    slots = Slots(Limiter(4), Seconds())
    slots.refused("busy")
    held = [await slots.acquire("busy") for _ in range(2)]
    third = asyncio.create_task(slots.acquire("busy"))
    await asyncio.sleep(0)
    assert not third.done(), "its share is two"
    assert slots.session.held == 2, "who waits for the share holds no slot"
    assert await slots.acquire("other") is None
    slots.release(held[0])
    assert await third is not None


async def test_the_share_shrinks_and_grows_and_goes() -> None:
    clock = Seconds()
    slots = Slots(Limiter(8), clock)
    for clock.now in (0.0, 1.0, 2.0):
        slots.refused("b")
    held = await slots.acquire("b")
    assert held is not None
    assert held.limiter.limit == 1
    waiting = asyncio.create_task(slots.acquire("b"))
    await asyncio.sleep(0)
    slots.answered("b")
    slots.answered("b")
    assert held.limiter.limit == 2
    slots.release(held)
    slots.release(await waiting)
    for _ in range(60):
        slots.answered("b")
    assert await slots.acquire("b") is None, "as if nothing had been"


async def test_cancelled_while_waiting_for_a_slot_the_share_is_given_back() -> None:
    slots = Slots(Limiter(1), Seconds())
    slots.refused("b")
    await slots.acquire("other")
    waiting = asyncio.create_task(slots.acquire("b"))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait((waiting,))
    slots.session.release()
    async with asyncio.timeout(1):
        assert await slots.acquire("b") is not None


async def test_a_hedge_takes_what_no_caller_waits_for() -> None:
    slots = Slots(Limiter(2), Seconds())
    release = slots.try_acquire("b")
    assert release is not None
    assert slots.session.held == 1
    await slots.acquire("b")
    assert slots.try_acquire("b") is None
    release()
    slots.refused("b")
    first = slots.try_acquire("b")
    assert first is not None
    assert slots.try_acquire("b") is None, "the share is one"
    first()
    assert slots.session.held == 1
