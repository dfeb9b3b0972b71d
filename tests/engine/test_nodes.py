"""Creating nodes: a conflict alone does not mean that the node exists."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

import zarr_s3_async as zs
from zarr_s3_async.testing import Fault, FaultyStore


@pytest.fixture
async def session() -> AsyncIterator[zs.Session]:
    async with zs.Session(retry=zs.RetryPolicy(conflict_attempts=3)) as opened:
        yield opened


def conflicting(times: int | None) -> Fault:
    """S3's 409: another request for the key is in progress, whatever its result."""
    return Fault(verb="put", key="zarr.json", times=times, error=lambda: zs.Conflict("409"))


async def test_a_node_is_created_after_a_conflict_that_ends(session: zs.Session) -> None:
    store = FaultyStore(zs.MemoryStore(), conflicting(2))
    array = await session.create_array(store, shape=(2,), dtype="i4")
    assert (await session.open_array(store)).shape == array.shape
    assert session.metrics.conflicts == 2


async def test_creating_a_node_that_another_creates_first_raises_node_exists(session: zs.Session) -> None:
    store = FaultyStore(zs.MemoryStore())

    async def be_first() -> None:
        await session.create_group(store.inner)

    store.add(Fault(verb="put", key="zarr.json", meanwhile=be_first))
    with pytest.raises(zs.NodeExists):
        await session.create_array(store, shape=(2,), dtype="i4")


async def test_a_conflict_that_does_not_end_raises_concurrent_modification(session: zs.Session) -> None:
    with pytest.raises(zs.ConcurrentModification, match="all of 3 attempts"):
        await session.create_array(FaultyStore(zs.MemoryStore(), conflicting(None)), shape=(2,), dtype="i4")
