"""A throttled bucket gets fewer slots without slowing others; successful responses restore its slots."""

from __future__ import annotations

import asyncio

from zarr_s3_async._concurrency.limiter import Limiter
from zarr_s3_async.stores.s3.slots import Slots


class Seconds:
    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


async def test_a_bucket_without_throttling_has_all_slots() -> None:
    slots = Slots(Limiter(4))
    assert [await slots.acquire("b") for _ in range(4)] == [None] * 4
    assert slots.session.held == 4


async def test_a_throttled_bucket_waits_without_a_slot() -> None:
    slots = Slots(Limiter(4), Seconds())
    slots.refused("busy", None)
    held = [await slots.acquire("busy") for _ in range(2)]
    third = asyncio.create_task(slots.acquire("busy"))
    await asyncio.sleep(0)
    assert not third.done(), "the bucket has two slots"
    assert slots.session.held == 2, "a caller that waits for its bucket's slots holds no slot of the session"
    assert await slots.acquire("other") is None
    slots.release(held[0])
    assert await third is not None


async def test_the_share_of_a_bucket_shrinks_grows_and_is_removed() -> None:
    clock = Seconds()
    slots = Slots(Limiter(8), clock)
    for clock.now in (0.0, 1.0):
        slots.refused("b", clock.now - 0.5 if clock.now else None)
    held = await slots.acquire("b")
    assert held is not None
    assert held.limiter.limit == 2
    held = [held, await slots.acquire("b")]
    waiting = asyncio.create_task(slots.acquire("b"))
    await asyncio.sleep(0)
    assert not waiting.done()
    for _ in range(9):
        slots.answered("b", clock.now)
    assert slots.shares["b"].limiter.limit == 3
    slots.release(held[0])
    slots.release(await waiting)
    for _ in range(160):
        slots.answered("b", clock.now)
    assert await slots.acquire("b") is None, "the bucket has no limit of its own any longer"


async def test_responses_to_requests_sent_before_throttling_do_not_change_the_share() -> None:
    clock = Seconds()
    slots = Slots(Limiter(8), clock)
    slots.refused("b", None)
    for clock.now in (0.1, 0.2):
        slots.refused("b", None)
        slots.answered("b", None)
    assert slots.shares["b"].limiter.limit == 4
    slots.refused("b", 0.1)
    assert slots.shares["b"].limiter.limit == 2


async def test_a_caller_cancelled_while_it_waits_releases_its_share() -> None:
    slots = Slots(Limiter(1), Seconds())
    slots.refused("b", None)
    await slots.acquire("other")
    waiting = asyncio.create_task(slots.acquire("b"))
    await asyncio.sleep(0)
    waiting.cancel()
    await asyncio.wait((waiting,))
    slots.session.release()
    async with asyncio.timeout(1):
        assert await slots.acquire("b") is not None


async def test_a_hedge_takes_a_slot_only_if_no_caller_waits_for_it() -> None:
    slots = Slots(Limiter(2), Seconds())
    release = slots.try_acquire("b")
    assert release is not None
    assert slots.session.held == 1
    await slots.acquire("b")
    assert slots.try_acquire("b") is None
    release()
    slots.refused("b", None)
    first = slots.try_acquire("b")
    assert first is not None
    assert slots.try_acquire("b") is None, "the bucket has one slot"
    first()
    assert slots.session.held == 1
