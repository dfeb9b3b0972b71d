"""A feed hands each item to one worker, and ends for all of them."""

from __future__ import annotations

import asyncio

from zarr_s3_async._concurrency.workers import Feed, run_workers_async


async def test_every_item_goes_to_one_worker_and_closing_ends_all_workers() -> None:
    feed: Feed[int] = Feed()
    taken: list[int] = []

    async def work(item: int) -> None:
        await asyncio.sleep(0)
        taken.append(item)

    async def fill() -> None:
        for item in range(50):
            feed.put(item)
            if item % 7 == 0:
                await asyncio.sleep(0)
        feed.close()
        feed.close()

    await asyncio.gather(run_workers_async(5, feed, work), fill())
    assert sorted(taken) == list(range(50))


async def test_a_cancelled_worker_loses_no_item() -> None:
    feed: Feed[int] = Feed()
    waiting = asyncio.create_task(feed.__anext__())
    await asyncio.sleep(0)
    feed.put(1)
    waiting.cancel()
    await asyncio.wait((waiting,))
    feed.close()
    rest = [item async for item in feed]
    assert rest == ([1] if waiting.cancelled() else [])
