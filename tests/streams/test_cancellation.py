"""Leaving a stream early leaves no task, request or lease behind: at every await, by every kind of cancellation."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs

from .cancelling import WAYS, at_every_turn, through_generator
from .grids import Counting, nothing_left

LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {"chunks": (2, 3)},
    "sharded": {"chunks": (2, 3), "shards": (4, 6)},
    # Large enough to be processed in a thread.
    "threads": {"chunks": (2, 3), "dtype": "S200000", "compressor": "zstd"},
}


async def make(session: zs.Session, layout: str) -> tuple[Counting, zs.Array, np.ndarray[Any, Any]]:
    store = Counting()
    options = {"dtype": "i4", **LAYOUTS[layout]}
    data = np.arange(48).reshape(8, 6).astype(options["dtype"])
    array = await session.create_array(store, shape=(8, 6), **options)
    await array[...].set(data)
    return store, array, data


async def take(blocks: zs.BlockStream, n: int) -> None:
    for _ in range(n):
        await anext(blocks)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("way", WAYS)
async def test_a_cancelled_stream_leaves_nothing_behind(way: str, layout: str) -> None:
    async with zs.Session(limits=zs.Limits(requests=3)) as session:
        store, array, data = await make(session, layout)
        kinds = {
            "C": lambda: array.stream(ahead_bytes=4 * data.itemsize * 6),
            "any": lambda: array.stream(order="any"),
            "slabs": lambda: array.stream_slices(0, 3),
        }

        async def call(kind: str) -> None:
            async with kinds[kind]() as blocks:
                async for block in blocks:
                    await asyncio.sleep(0)
                    assert (block.data == data[block.place]).all()

        async def check() -> None:
            nothing_left(session, store)

        for kind in kinds:
            assert await at_every_turn(way, lambda kind=kind: call(kind), check) > 5  # type: ignore[misc]


@pytest.mark.parametrize("taken", range(5))
async def test_a_stream_in_a_closed_generator_leaves_nothing_behind(taken: int) -> None:
    async with zs.Session() as session:
        store, array, _ = await make(session, "plain")
        await through_generator(lambda: array.stream(ahead_bytes=100), taken)
        nothing_left(session, store)
        await through_generator(lambda: array.stream_slices(1, 1), taken)
        nothing_left(session, store)


@pytest.mark.parametrize("taken", range(4))
async def test_a_stream_whose_body_breaks_or_raises_leaves_nothing_behind(taken: int) -> None:
    async with zs.Session() as session:
        store, array, _ = await make(session, "sharded")

        async def body() -> None:
            async with array.stream(ahead_bytes=1) as blocks:
                for _ in range(taken):
                    await anext(blocks)
                raise KeyError

        with pytest.raises(KeyError):
            await body()
        nothing_left(session, store)


async def test_a_stream_may_be_entered_in_one_task_and_left_in_another() -> None:
    async with zs.Session() as session:
        store, array, _ = await make(session, "plain")
        blocks = await asyncio.create_task(array.stream(ahead_bytes=1).__aenter__())
        assert (await asyncio.create_task(blocks.__anext__())).data.shape == (2, 3)
        await asyncio.create_task(blocks.__aexit__(None, None, None))
        nothing_left(session, store)


async def test_a_consumer_can_read_another_array_of_the_session() -> None:
    """Blocks that wait for the consumer hold no lease, so its own read does not deadlock."""
    async with zs.Session(limits=zs.Limits(bytes=1, requests=1)) as session:
        _, array, data = await make(session, "plain")
        async with array.stream() as blocks:
            async for block in blocks:
                assert (await array.get_slice((0, 0), (8, 6)) == data).all()
                async with array.stream(order="any") as others:
                    assert len([other async for other in others]) == 8
                assert (block.data == data[block.place]).all()


async def test_closing_the_session_ends_its_stream_with_an_error() -> None:
    async with zs.Session() as session:
        store, array, _ = await make(session, "plain")
        async with array.stream(ahead_bytes=1) as blocks:
            await anext(blocks)
            await session.aclose()
            with pytest.raises(zs.SessionClosed):
                await take(blocks, 8)
        nothing_left(session, store)
