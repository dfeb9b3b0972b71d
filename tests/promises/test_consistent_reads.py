"""A read with `consistent=True` returns the state of one moment while others write every object; a plain read may not.

Each writer has a row of elements, one in each object, and counts up: the first element, then the last, the second, the
last but one, and so on. So at every moment a row never increases in this order, and its first element exceeds its last
by at most one. A row that was read at several moments violates this. Each value is stored once, so no version recurs.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass, field
from random import Random
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs

from .conftest import Place
from .counting_writer import order, writers
from .virtual_time import JumpingLoop

WRITERS = 4
LAYOUTS: dict[str, tuple[int, dict[str, Any]]] = {
    "each object requested": (8, {"chunks": (WRITERS, 1)}),
    "listed": (20, {"chunks": (WRITERS, 1)}),
    "sharded": (12, {"chunks": (1, 1), "shards": (WRITERS, 2)}),
    "of different lengths": (6, {"chunks": ((WRITERS,), (1, 3, 2))}),
}


def is_of_one_moment(rows: np.ndarray[Any, Any]) -> bool:
    """Whether every writer's row is a possible state of one moment."""
    written = rows.astype(int)[:, order(rows.shape[1])]
    return bool((np.diff(written, axis=1) <= 0).all() and (written[:, 0] - written[:, -1] <= 1).all())


class StoreWithLatency(zs.MemoryStore):
    """A store with latency in both directions."""

    def __init__(self, random: Random) -> None:
        super().__init__()
        self.random = random
        self.calls = {"get": 0, "list": 0}

    async def delay(self) -> None:
        await asyncio.sleep(self.random.expovariate(200))

    async def get(self, key: str, **options: Any) -> Any:  # type: ignore[override]  # handed on as it is
        self.calls["get"] += 1
        await self.delay()
        found = await super().get(key, **options)
        await self.delay()
        return found

    async def list_pages(self, prefix: str = "", *, after: str = "") -> AsyncIterator[list[zs.Entry]]:
        self.calls["list"] += 1
        await self.delay()
        async for page in super().list_pages(prefix, after=after):
            await self.delay()
            yield page


@dataclass
class Race:
    """One run in virtual time: writers, and one reader."""

    begun: list[int] = field(default_factory=lambda: [0] * WRITERS)
    done: list[int] = field(default_factory=lambda: [0] * WRITERS)
    """Number of elements that each writer has certainly stored."""
    torn: int = 0
    whole: int = 0
    given_up: int = 0

    async def write(self, array: zs.Array, row: int, random: Random) -> None:
        n = 0
        while True:
            await asyncio.sleep(random.expovariate(1))
            for column in order(array.shape[1]):
                await asyncio.sleep(random.expovariate(100))
                self.begun[row] += 1
                await array.set_slice(n + 1, (row, column), (row + 1, column + 1))
                self.done[row] += 1
            n += 1

    async def read(self, array: zs.Array, *, consistent: bool) -> None:
        before = list(self.done)
        try:
            rows = await array.get_slice((0, 0), array.shape, consistent=consistent)
        except zs.ConcurrentModification:
            self.given_up += 1
            return
        if not is_of_one_moment(rows):
            self.torn += 1
            return
        self.whole += 1
        if consistent:  # a moment during the call: not older than its start, not newer than its end
            counts = rows.astype(int).sum(axis=1).tolist()
            assert all(low <= n <= high for low, n, high in zip(before, counts, self.begun, strict=True))


async def race(layout: str, seed: int, *, consistent: bool) -> tuple[Race, StoreWithLatency]:
    random, outcome = Random(seed), Race()
    columns, options = LAYOUTS[layout]
    store = StoreWithLatency(random)
    async with zs.Session() as writing, zs.Session(limits=zs.Limits(requests=2)) as reading:
        # The writers have no latency, so that many writes take place during a read.
        array = await writing.create_array(store.below(""), shape=(WRITERS, columns), dtype="i4", **options)
        reader = await reading.open_array(store)
        writers = [asyncio.create_task(outcome.write(array, row, random)) for row in range(WRITERS)]
        for _ in range(40):
            await asyncio.sleep(random.expovariate(20))
            await outcome.read(reader, consistent=consistent)
        for writer in writers:
            writer.cancel()
        await asyncio.gather(*writers, return_exceptions=True)
    return outcome, store


def run(layout: str, *, consistent: bool) -> tuple[Race, list[StoreWithLatency]]:
    total, stores = Race(), []
    for seed in range(3):
        with asyncio.Runner(loop_factory=JumpingLoop) as runner:
            outcome, store = runner.run(race(layout, seed, consistent=consistent))
        total.torn, total.whole = total.torn + outcome.torn, total.whole + outcome.whole
        total.given_up += outcome.given_up
        stores.append(store)
    return total, stores


@pytest.mark.parametrize("layout", LAYOUTS)
def test_every_consistent_read_returns_the_state_of_one_moment_of_its_call(layout: str) -> None:
    outcome, stores = run(layout, consistent=True)
    assert outcome.torn == 0
    assert outcome.whole > 100
    assert all((store.calls["list"] > 0) == (layout == "listed") for store in stores)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_plain_reads_may_mix_several_moments(layout: str) -> None:
    outcome, _ = run(layout, consistent=False)
    assert outcome.torn > 0


@pytest.mark.integration
@pytest.mark.slow
@pytest.mark.timeout(200)
@pytest.mark.parametrize("layout", [name for name in LAYOUTS if name != "of different lengths"])  # too few objects
async def test_consistent_reads_are_of_one_moment_while_four_processes_write_to_a_real_server(
    place: Place, layout: str
) -> None:
    """Alternate both kinds of reads until enough plain ones were torn; no consistent one may be."""
    columns, options = LAYOUTS[layout]
    plain, consistent = Race(), Race()
    slow = zs.Session(
        s3=place.config, limits=zs.Limits(requests=1)
    )  # the longer a read takes, the more changes during it
    async with zs.Session(s3=place.config) as session, slow:
        await session.create_array(place.url, shape=(WRITERS, columns), dtype="i4", **options)
        reader, slow_reader = await session.open_array(place.url), await slow.open_array(place.url)
        with writers(place.url, WRITERS, place.config) as processes:
            while not (await reader.get_slice((0, 0), (WRITERS, columns)) > 0).all():  # processes start slowly
                assert all(process.poll() is None for process in processes)
                await asyncio.sleep(0.05)
            deadline = asyncio.get_running_loop().time() + 150
            while (plain.torn < 3 or consistent.whole < 15) and asyncio.get_running_loop().time() < deadline:
                await plain.read(slow_reader, consistent=False)
                consistent.begun = [2**31] * WRITERS  # the processes do not report their progress
                await consistent.read(reader, consistent=True)
                assert all(process.poll() is None for process in processes)
        last = await reader.get_slice((0, 0), (WRITERS, columns))
    assert (last > 0).all()
    assert plain.torn >= 3
    assert consistent.whole >= 15
    assert consistent.torn == 0
