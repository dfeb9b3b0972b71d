"""The limiter never exceeds its limit, serves in order, and loses no weight to cancellation."""

import asyncio

import pytest

from zarr_s3_async._concurrency.limiter import Limiter

from ..peak_limiter import PeakLimiter


async def test_a_limiter_reaches_its_limit_and_never_exceeds_it() -> None:
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


async def test_waiters_are_served_in_order_even_if_a_later_one_would_fit() -> None:
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


async def test_a_cancelled_waiter_holds_no_weight_and_the_next_one_is_served() -> None:
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


async def test_smaller_waiters_are_served_when_a_large_one_is_cancelled() -> None:
    limiter = Limiter(2)
    await limiter.acquire()
    large = asyncio.create_task(limiter.acquire(2))
    small = asyncio.create_task(limiter.acquire())
    await asyncio.sleep(0)
    large.cancel()
    await asyncio.wait((large,))
    await asyncio.wait_for(small, 30)
    assert limiter.held == 2


async def test_a_weight_granted_to_a_waiter_cancelled_in_the_same_iteration_is_released() -> None:
    limiter = Limiter(1)
    await limiter.acquire()
    waiter = asyncio.create_task(limiter.acquire())
    await asyncio.sleep(0)
    limiter.release()  # grants it …
    waiter.cancel()  # … and it is cancelled before it runs
    with pytest.raises(asyncio.CancelledError):
        await waiter
    assert limiter.held == 0
