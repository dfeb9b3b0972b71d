"""The limiter never exceeds its limit, serves in order, and loses no weight to cancellation."""

import asyncio

import pytest

from zarr_s3_async._concurrency.limiter import Limiter

from ..peak_limiter import PeakLimiter


async def test_never_holds_more_than_its_limit_and_reaches_it() -> None:
    limiter = PeakLimiter(3)

    async def work() -> None:
        await limiter.acquire()
        await asyncio.sleep(0)
        limiter.release()

    await asyncio.gather(*(work() for _ in range(50)))
    assert limiter.peak == 3
    assert limiter.held == 0


async def test_a_weight_above_the_limit_runs_alone() -> None:
    limiter = Limiter(10)
    await limiter.acquire(4)
    big = asyncio.create_task(limiter.acquire(25))
    await asyncio.sleep(0)
    assert not big.done()
    limiter.release(4)
    await big
    assert not limiter.try_acquire(1)
    limiter.release(25)
    assert limiter.try_acquire(1)


async def test_waiters_are_served_in_order_even_where_a_later_one_would_fit() -> None:
    limiter = Limiter(10)
    await limiter.acquire(8)
    order: list[str] = []

    async def take(name: str, weight: int) -> None:
        await limiter.acquire(weight)
        order.append(name)

    big = asyncio.create_task(take("big", 5))
    await asyncio.sleep(0)
    small = asyncio.create_task(take("small", 1))
    await asyncio.sleep(0)
    assert order == []
    limiter.release(8)
    await asyncio.gather(big, small)
    assert order == ["big", "small"]


async def test_a_cancelled_waiter_leaves_nothing_behind_and_lets_the_next_in() -> None:
    limiter = Limiter(2)
    await limiter.acquire(2)
    first = asyncio.create_task(limiter.acquire(2))
    second = asyncio.create_task(limiter.acquire(1))
    await asyncio.sleep(0)
    first.cancel()
    with pytest.raises(asyncio.CancelledError):
        await first
    limiter.release(1)
    await second
    assert limiter.held == 2


async def test_a_cancelled_waiter_that_did_not_fit_lets_smaller_ones_in_at_once() -> None:
    limiter = Limiter(2)
    await limiter.acquire()
    large = asyncio.create_task(limiter.acquire(2))
    small = asyncio.create_task(limiter.acquire())
    await asyncio.sleep(0)
    large.cancel()
    await asyncio.wait((large,))
    await asyncio.wait_for(small, 30)
    assert limiter.held == 2


async def test_a_grant_in_the_turn_of_the_cancellation_is_given_back() -> None:
    limiter = Limiter(1)
    await limiter.acquire()
    waiter = asyncio.create_task(limiter.acquire())
    await asyncio.sleep(0)
    limiter.release()  # grants it …
    waiter.cancel()  # … and it is cancelled before it runs
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert limiter.held == 0
