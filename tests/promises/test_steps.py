"""Over how many files one read or write is spread, and how often the call path changes from one file to another.

A reader of the code has to follow these changes. The budgets are the present numbers (for S3 up to one more); they
should grow only for a good reason. ARCHITECTURE.md compares them with the goals.
"""

from __future__ import annotations

import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs

from ..servers.stand_in import StandIn

PACKAGE = str(Path(zs.__file__).parent)


class Steps:
    """Records the file of each call inside the package if it differs from the file of the call before."""

    def __init__(self) -> None:
        self.route: list[str] = []

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(PACKAGE):
            step = name[len(PACKAGE) + 1 :]
            if not self.route or self.route[-1] != step:
                self.route.append(step)

    def check(self, changes: int, files: int) -> None:
        """Check the upper bounds, and that the calls were recorded at all."""
        found = (len(self.route), len(set(self.route)))
        assert found[0] <= changes and found[1] <= files, (found, self.route)  # noqa: PT018  # one message for both
        assert found[0] > changes // 2, "the budget is far from what is reached"


async def steps_of(call: Callable[[], Awaitable[Any]]) -> Steps:
    """The steps of one call, after two calls that open connections, cache indexes and probe the server."""
    await call()
    await call()
    steps = Steps()
    sys.setprofile(steps)
    try:
        await call()
    finally:
        sys.setprofile(None)
    return steps


@pytest.fixture(params=["memory", "s3"])
async def store(request: pytest.FixtureRequest) -> AsyncIterator[tuple[str, zs.Session, Any]]:
    """Its name, a session and a store: in memory, or an S3 server over the wire."""
    if request.param == "memory":
        async with zs.Session() as session:
            yield "memory", session, zs.MemoryStore()
        return
    with StandIn() as server:
        config = zs.S3Config(
            endpoint_url=server.endpoint_url, region="us-east-1", access_key_id="key", secret_access_key="secret"
        )
        async with zs.Session(s3=config) as session:
            yield "s3", session, f"s3://{server.bucket}/steps"


BUDGETS = {  # changes of file, files
    ("memory", "chunk"): (33, 13),
    ("memory", "shard"): (39, 16),
    ("memory", "merge of a chunk"): (63, 21),
    ("memory", "merge of a shard"): (90, 23),
    ("s3", "chunk"): (68, 28),
    ("s3", "shard"): (86, 32),
    ("s3", "merge of a chunk"): (139, 39),
    ("s3", "merge of a shard"): (166, 41),
}


@pytest.mark.parametrize("shards", [None, (8, 8)], ids=["chunk", "shard"])
async def test_a_read_and_a_write_of_one_chunk_stay_within_the_budget_of_steps(
    store: tuple[str, zs.Session, Any], shards: Any
) -> None:
    """A read of one whole chunk, and a write of a part of one."""
    name, session, place = store
    array = await session.create_array(place, shape=(16, 16), chunks=(4, 4), shards=shards, dtype="i4", compressor=None)
    await array[...].set(np.arange(256).reshape(16, 16))
    kind = "chunk" if shards is None else "shard"
    read = await steps_of(lambda: array.get_slice((4, 4), (8, 8)))
    merged = await steps_of(lambda: array.set_slice(7, (4, 4), (6, 8)))
    read.check(*BUDGETS[name, kind])
    merged.check(*BUDGETS[name, f"merge of a {kind}"])
