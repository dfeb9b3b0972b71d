"""Keyed locks: one holder per key, and no memory for keys without waiters."""

from __future__ import annotations

import asyncio

import pytest

from zarr_s3_async._concurrency.locks import KeyedLocks


async def test_holders_of_one_key_exclude_each_other_and_other_keys_do_not() -> None:
    locks = KeyedLocks()
    inside = {"a": 0, "b": 0}
    peak = {"a": 0, "b": 0, "both": 0}

    async def work(key: str) -> None:
        async with locks.hold(key):
            inside[key] += 1
            peak[key] = max(peak[key], inside[key])
            peak["both"] = max(peak["both"], sum(inside.values()))
            await asyncio.sleep(0)
            inside[key] -= 1

    await asyncio.gather(*(work(key) for key in "abababab"))
    assert peak == {"a": 1, "b": 1, "both": 2}
    assert len(locks) == 0


async def test_a_cancelled_waiter_for_a_lock_leaves_no_entry() -> None:
    locks = KeyedLocks()

    async def wait() -> None:
        async with locks.hold("a"):
            pass

    async with locks.hold("a"):
        waiter = asyncio.create_task(wait())
        await asyncio.sleep(0)
        waiter.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiter
        assert len(locks) == 1
    assert len(locks) == 0


async def test_all_followers_of_a_leader_continue_in_the_same_iteration() -> None:
    locks = KeyedLocks()
    found: list[bool] = []

    async def follow() -> None:
        async with locks.lead("a") as leads:
            found.append(leads)

    async with locks.lead("a") as leads:
        assert leads
        followers = [asyncio.create_task(follow()) for _ in range(50)]
        await asyncio.sleep(0)
    assert found == []
    await asyncio.sleep(0)
    assert found == [False] * 50
    await asyncio.gather(*followers)
    assert len(locks) == 0


async def test_after_a_cancelled_leader_another_task_leads() -> None:
    locks = KeyedLocks()
    led: list[int] = []

    async def work(number: int) -> None:
        while True:
            async with locks.lead("a") as leads:
                if leads:
                    led.append(number)
                    await asyncio.sleep(0 if number else 3600)
                    return

    first, *others = [asyncio.create_task(work(number)) for number in range(3)]
    await asyncio.sleep(0)
    first.cancel()
    await asyncio.gather(*others)
    assert led == [0, 1, 2]
    assert len(locks) == 0
