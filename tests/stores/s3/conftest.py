"""`shared_rig`: one rig per module and transport. `rig`: the same one, reset for the test."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest
import pytest_asyncio

from .rig import TRANSPORTS, Rig, rigged


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=TRANSPORTS)
async def shared_rig(request: pytest.FixtureRequest) -> AsyncIterator[Rig]:
    async with rigged(request.param) as rig:
        yield rig


@pytest_asyncio.fixture(loop_scope="module")
async def rig(shared_rig: Rig) -> AsyncIterator[Rig]:
    shared_rig.forget()
    yield shared_rig
    await shared_rig.hang_up()
