"""A thousand concurrent callers that are refused, time out, are cancelled or fail leak nothing and lose no data."""

from __future__ import annotations

import asyncio
import random
from collections import Counter
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs

from .virtual_time import JumpingLoop

CHUNKS = 40
CALLERS = 1000


class Store(zs.MemoryStore):
    """A slow store under the session's request slots that fails now and then."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._dice = rng
        self.is_slow = False

    async def get(self, key: str, **options: Any) -> Any:  # type: ignore[override]  # handed on as it is
        if self.is_slow and key.startswith("c/"):
            await asyncio.sleep(self._dice.random() * 0.02)
            if self._dice.random() < 0.01:
                raise zs.NetworkError("the line is cut")
        return await super().get(key, **options)


async def storm(rng: random.Random, *, closes: bool) -> Counter[str]:
    store, outcomes = Store(rng), Counter[str]()
    limits = zs.Limits(requests=16, bytes=8 * 400, max_waiting=20)
    session = zs.Session(limits=limits)
    async with session:
        array = await session.create_array(store, shape=(CHUNKS * 50,), chunks=(50,), dtype="i8", compressor="zstd")
        stored = np.arange(1, CHUNKS * 50 + 1)
        await array.set_slice(stored, 0, CHUNKS * 50)
        store.is_slow = True

        async def call() -> None:
            await asyncio.sleep(rng.random() * 0.3)
            start = rng.randrange(CHUNKS * 50 - 1)
            length = rng.choice([1, 50, 200, 1500])
            stop = min(start + length, CHUNKS * 50)
            priority: Any = rng.choice([None, None, "high", "normal", "bulk"])
            timeout = rng.choice([None, 0.01, 0.1])
            try:
                found = await array.get_slice(start, stop, priority=priority, timeout=timeout)
            except zs.ZarrS3Error as error:
                outcomes[type(error).__name__] += 1
            else:
                assert np.array_equal(found, stored[start:stop])
                outcomes["read"] += 1

        callers = [asyncio.ensure_future(call()) for _ in range(CALLERS)]
        for caller in callers:
            if rng.random() < 0.25:  # the client closes its connection
                asyncio.get_running_loop().call_later(rng.random() * 0.4, caller.cancel)
        if closes:
            await asyncio.sleep(0.15)
            await session.aclose()
        results = await asyncio.gather(*callers, return_exceptions=True)
        outcomes["cancelled"] = sum(isinstance(result, asyncio.CancelledError) for result in results)
        failures = [error for error in results if error is not None and not isinstance(error, asyncio.CancelledError)]
        assert not failures
        assert (session._context.requests.held, session._leases.held, session._turns.active) == (0, 0, 0)
        assert not array._layout.fetches
        if not closes:
            assert session._context.requests.waiting == session._leases.waiting == 0
            store.is_slow = False
            assert np.array_equal(await array.get_slice(0, CHUNKS * 50), stored)
    assert len(asyncio.all_tasks()) == 1
    return outcomes


@pytest.mark.parametrize("closes", [False, True], ids=["open", "closed meanwhile"])
@pytest.mark.parametrize("seed", range(6))
def test_a_thousand_callers_leave_nothing_behind(seed: int, closes: bool) -> None:
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        outcomes = runner.run(storm(random.Random(seed), closes=closes))
    assert outcomes.total() == CALLERS
    assert {"read", "Overloaded", "DeadlineExceeded", "cancelled"} <= set(outcomes), outcomes
    assert ("SessionClosed" in outcomes) == closes


def test_two_loops_one_after_the_other_share_no_state() -> None:
    for _ in range(2):
        with asyncio.Runner(loop_factory=JumpingLoop) as runner:
            assert runner.run(storm(random.Random(7), closes=False))["read"]
