"""examples/batch_loader.py reads every row once, in order, ahead, and never more than it was told to."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable
from types import ModuleType

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async.stores.memory import MemoryStore

ROWS, LENGTH = 10, 105  # the last batch is half a batch
DATA = np.arange(LENGTH * 3, dtype="int32").reshape(LENGTH, 3)


@pytest.fixture
def loader(example: Callable[[str], ModuleType]) -> ModuleType:
    return example("batch_loader")


@pytest.fixture
async def array() -> AsyncIterator[zs.Array]:
    async with zs.Session() as session:
        array = await session.create_array(MemoryStore(), shape=DATA.shape, chunks=(5, 3), dtype="int32")
        await array.set_slice(DATA, start=(0, 0))
        yield array


class Watched:
    """An array that counts the batches being read or waiting to be taken."""

    def __init__(self, array: zs.Array, *, fail_at: int | None = None, hang_from: int | None = None) -> None:
        self.shape = array.shape
        self.started = 0
        self.cancelled = 0
        self._array = array
        self._fail_at = fail_at
        self._hang_from = hang_from

    async def get_slice(self, start: tuple[int, ...], stop: tuple[int, ...]) -> np.ndarray:
        self.started += 1
        if start[0] == self._fail_at:
            raise zs.NetworkError("no answer")
        try:
            if self._hang_from is not None and start[0] >= self._hang_from:
                await asyncio.Event().wait()
            return await self._array.get_slice(start, stop)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise


@pytest.mark.integration
async def test_the_program_averages_an_array_larger_than_its_memory(
    loader: ModuleType, url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    await loader.main(url)
    assert capsys.readouterr().out.startswith("mean of 16,384 samples: ")


@pytest.mark.parametrize("ahead", [1, 2, 50])
async def test_all_rows_come_once_and_in_order(loader: ModuleType, array: zs.Array, ahead: int) -> None:
    async with loader.BatchLoader(array, ROWS, ahead=ahead) as batches:
        got = [batch async for batch in batches]
    assert [len(batch) for batch in got] == [ROWS] * 10 + [5]
    assert np.array_equal(np.concatenate(got), DATA)


async def test_no_more_than_ahead_batches_are_read_before_they_are_wanted(loader: ModuleType, array: zs.Array) -> None:
    watched, taken, ahead = Watched(array), 0, 3
    async with loader.BatchLoader(watched, ROWS, ahead=ahead) as batches:
        async for _ in batches:
            taken += 1
            for _ in range(20):
                await asyncio.sleep(0)
            assert watched.started <= taken + ahead
            assert watched.started == min(11, taken + ahead)  # and they are read ahead


async def test_a_failed_read_leaves_as_itself_and_after_the_batches_before_it(
    loader: ModuleType, array: zs.Array
) -> None:
    async with loader.BatchLoader(Watched(array, fail_at=2 * ROWS), ROWS, ahead=4) as batches:
        got = [await anext(batches), await anext(batches)]
        with pytest.raises(zs.NetworkError, match="no answer"):
            await anext(batches)
    assert np.array_equal(np.concatenate(got), DATA[: 2 * ROWS])


async def test_leaving_early_cancels_what_is_being_read(loader: ModuleType, array: zs.Array) -> None:
    watched = Watched(array, hang_from=ROWS)
    async with asyncio.timeout(5), loader.BatchLoader(watched, ROWS, ahead=4) as batches:
        await anext(batches)
        await asyncio.sleep(0.01)
    assert (watched.started, watched.cancelled) == (5, 4)
    assert not [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]


async def test_a_cancelled_wait_loses_no_batch(loader: ModuleType, array: zs.Array) -> None:
    async with loader.BatchLoader(array, ROWS, ahead=2) as batches:
        waiting = asyncio.ensure_future(anext(batches))
        await asyncio.sleep(0)
        waiting.cancel()
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert np.array_equal(await anext(batches), DATA[:ROWS])
