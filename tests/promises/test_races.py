"""Concurrent writers in four processes lose no writes, although responses get lost and requests are refused.

Each process uses its own proxy, which breaks or refuses every tenth request, half of these only after the server has
carried them out. The same races without compare-and-swap lose writes: this proves that these tests can fail.
"""

from __future__ import annotations

import sys
from collections import Counter
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs

from . import races
from .conftest import Place
from .races import PER_OBJECT, SIZE, WRITERS, Counts, Racers

pytestmark = [pytest.mark.integration, pytest.mark.slow]

LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {"zarr_format": 2, "chunks": (PER_OBJECT,)},
    "sharded": {"zarr_format": 3, "chunks": (PER_OBJECT // 4,), "shards": (PER_OBJECT,)},
}


@pytest.fixture(scope="module")
def racers(seaweed: Any) -> Iterator[Racers]:
    with Racers(seaweed.s3_config(), seed=1) as started:
        yield started


async def elements(session: zs.Session, place: Place, racers: Racers, layout: str, mode: str) -> tuple[int, Counts]:
    """All writers write parts of the same objects; half of it is fill, so objects are deleted and created again."""
    array = await session.create_array(place.url, shape=(SIZE,), dtype="i4", **LAYOUTS[layout])
    store = session.store(place.url)

    async def is_round_wrong(number: int) -> bool:
        if mode == "auto" and not races.model(number).any():
            keys = {entry.key async for entry in store.list_prefix()}
            assert keys == {".zarray" if layout == "plain" else "zarr.json"}, "emptied objects are deleted"
        await array.refresh()
        return np.array_equal(await array.get_slice(0, SIZE), races.model(number))

    return await racers.race("elements", place.url, is_round_wrong, conditional_writes=mode)


async def rows(session: zs.Session, place: Place, racers: Racers, mode: str) -> tuple[int, Counts]:
    """Every writer appends two rows in every round; writers share chunks of five rows."""
    array = await session.create_array(place.url, shape=(0, 3), dtype="i4", chunks=(5, 3))

    async def is_round_wrong(number: int) -> bool:
        await array.refresh()
        there = (await array[...]).tolist()
        pairs = Counter(str(there[at : at + 2]) for at in range(0, len(there), 2))
        meant = Counter(str(races.rows(n, writer)) for n in range(number + 1) for writer in range(WRITERS))
        return pairs == meant

    return await racers.race("append", place.url, is_round_wrong, conditional_writes=mode)


async def attributes(session: zs.Session, place: Place, racers: Racers, mode: str) -> tuple[int, Counts]:
    """In every round, every writer changes one attribute and adds another."""
    array = await session.create_array(place.url, shape=(1,), dtype="i4")

    async def is_round_wrong(number: int) -> bool:
        await array.refresh()
        meant = {f"writer-{writer}": number for writer in range(WRITERS)}
        return dict(array.attrs) == meant | {f"{n}/{w}": True for n in range(number + 1) for w in range(WRITERS)}

    return await racers.race("attributes", place.url, is_round_wrong, conditional_writes=mode)


async def race(what: str, session: zs.Session, place: Place, racers: Racers, mode: str) -> tuple[int, Counts]:
    match what:
        case "append":
            found = await rows(session, place, racers, mode)
        case "attributes":
            found = await attributes(session, place, racers, mode)
        case _:
            found = await elements(session, place, racers, what, mode)
    sys.stdout.write(f"{what}, conditional_writes={mode!r}: {found[0]} of {races.ROUNDS} rounds wrong, {found[1]}\n")
    return found


WHAT = pytest.mark.parametrize("what", [*LAYOUTS, "append", "attributes"])


@WHAT
async def test_concurrent_writers_lose_no_writes_under_faults(
    session: zs.Session, place: Place, racers: Racers, what: str
) -> None:
    wrong, counts = await race(what, session, place, racers, "auto")
    assert (wrong, counts.unseen) == (0, 0)
    assert counts.conflicts > counts.injected_409
    assert counts.lost_writes > 0
    assert counts.refused > 0


@WHAT
async def test_the_same_writers_lose_writes_without_compare_and_swap(
    session: zs.Session, place: Place, racers: Racers, what: str
) -> None:
    wrong, counts = await race(what, session, place, racers, "off")
    assert counts.conflicts == 0
    assert wrong > 0
