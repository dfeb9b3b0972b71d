"""A coroutine beside its owner: cancelled without waiting, from any thread."""

from __future__ import annotations

import asyncio
import threading

from zarr_s3_async._concurrency.background import Background


async def test_it_is_cancelled_from_another_thread_without_a_wait() -> None:
    failures: list[BaseException | None] = []
    background = Background(asyncio.sleep(1000), failures.append)
    canceller = threading.Thread(target=background.cancel)
    canceller.start()
    await background.wait()
    canceller.join()
    background.cancel()  # again is fine
    assert failures == []


def test_it_is_cancelled_after_its_loop_was_closed() -> None:
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
