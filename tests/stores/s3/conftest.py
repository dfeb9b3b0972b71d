"""`shared_rig`: one rig per module and transport. `rig`: the same one, reset for the test. `run`: on both loops."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
import pytest_asyncio

from .rig import TRANSPORTS, Rig, rigged
from .wire_server import LOOPS, run_on


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=TRANSPORTS)
async def shared_rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with rigged(request.param) as rig:
        yield rig


@pytest_asyncio.fixture(loop_scope="module")
async def rig(shared_rig: Rig) -> AsyncIterator[Rig]:
    shared_rig.forget()
    yield shared_rig
    await shared_rig.hang_up()


@pytest.fixture(params=list(LOOPS))
def run(request: pytest.FixtureRequest) -> Callable[[Awaitable[Any]], Any]:
    """Runs a coroutine on a new event loop: of asyncio, then of uvloop."""
    return lambda work: run_on(request.param, work)
