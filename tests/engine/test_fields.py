"""Single fields of structured elements: reads return them, writes leave the others as they are."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarr_s3_async as zs

from .counting import Counting

DTYPE = np.dtype([("a", "<i2"), ("b", "<f8"), ("c", "S3")])
OPTIONS: dict[str, dict[str, Any]] = {
    "v2": {"zarr_format": 2, "chunks": (4, 3)},
    "chunks": {"chunks": (4, 3)},
    "raw": {"chunks": (4, 3), "compressor": None},
    "shards": {"chunks": (2, 3), "shards": (4, 6)},
    "lists": {"chunks": [[3, 2, 5], [4, 3]]},
}
NAMES = st.sampled_from(["a", "b", "c", ["b"], ["c", "a"], ["a", "b", "c"]])


@pytest.fixture
async def session() -> AsyncIterator[zs.Session]:
    async with zs.Session() as session:
        yield session


def records(shape: tuple[int, ...], seed: int) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    data = np.zeros(shape, DTYPE)
    data["a"] = rng.integers(-1000, 1000, shape)
    data["b"] = rng.random(shape)
    data["c"] = rng.integers(100, 999, shape).astype("S3")
    return data


@given(data=st.data(), options=st.sampled_from(list(OPTIONS)), cached=st.booleans())
def test_any_write_and_read_of_fields(data: st.DataObject, options: str, cached: bool) -> None:
    """What NumPy holds after the same assignments, of whole elements and of fields."""

    async def run() -> None:
        store = zs.MemoryStore()
        async with zs.Session(cache=zs.CacheSize(chunks=2**20 if cached else 0)) as session:
            array = await session.create_array(store, shape=(10, 7), dtype=DTYPE, **OPTIONS[options])
            mirror = np.zeros((10, 7), DTYPE)
            for seed in range(data.draw(st.integers(1, 4))):
                place = tuple(data.draw(st.slices(n)) for n in mirror.shape)
                values = records(mirror[place].shape, seed)
                fields = data.draw(st.none() | NAMES)
                if fields is None:
                    await array[place].set(values)
                    mirror[place] = values
                else:
                    await array[(fields, *place)].set(values[fields])
                    mirror[fields][place] = values[fields]
            for _ in range(2):
                place, fields = tuple(data.draw(st.slices(n)) for n in mirror.shape), data.draw(NAMES)
                view = array[(fields, *place)]
                got = await view
                assert got.dtype == view.dtype
                assert got.dtype.names == mirror[fields].dtype.names
                assert got.tolist() == mirror[fields][place].tolist()
            assert (await array[...]).tolist() == mirror.tolist()

    asyncio.run(run())


async def test_every_way_to_name_them(session: zs.Session) -> None:
    array = await session.create_array(zs.MemoryStore(), shape=(10, 7), chunks=(4, 3), dtype=DTYPE)
    data = records((10, 7), 1)
    await array[...].set(data)
    np.testing.assert_array_equal(await array["a"], data["a"])
    np.testing.assert_array_equal(await array["b", 2:5, 1], data["b"][2:5, 1])
    np.testing.assert_array_equal(await array[2:5, 1, "b"], data["b"][2:5, 1])
    assert (await array[["c", "a"]]).tolist() == data[["c", "a"]].tolist()
    np.testing.assert_array_equal(await array.oindex["a", [5, 1], :], data["a"][[5, 1]])
    np.testing.assert_array_equal(await array.vindex["a", [5, 1], [0, 6]], data["a"][[5, 1], [0, 6]])
    np.testing.assert_array_equal(await array.blocks["a", 1, 0], data["a"][4:8, 0:3])
    np.testing.assert_array_equal(await array.get_slice((1, 2), (3, 4), fields="b"), data["b"][1:3, 2:4])
    out = np.empty((10, 7), "f4")
    assert await array["a"].get(out=out) is out
    np.testing.assert_array_equal(out, data["a"])
    assert await array["a", 3, 4] == data["a"][3, 4]
    await array.set_slice(np.full((2, 2), 9), (1, 2), fields="a")
    data["a"][1:3, 2:4] = 9
    await array.set_slice([(1.5, "x")], (0, 0), (10, 1), fields=("b", "c"))
    data["b"][:, 0], data["c"][:, 0] = 1.5, b"x"
    assert (await array[...]).tolist() == data.tolist()


async def test_a_write_of_a_field_merges_every_chunk(session: zs.Session) -> None:
    """Two writers of different fields lose nothing, and `explain` counts the GETs."""
    store = Counting()
    array = await session.create_array(store, shape=(8, 6), chunks=(4, 3), dtype=DTYPE)
    data = records((8, 6), 2)
    await array[...].set(data)
    told = array["a"].explain()
    store.clear()
    await array["a"].set(7)
    assert (told.merge_get_requests, told.put_requests) == (len(store.gets), store.puts) == (4, 4)
    async with zs.Session() as other, asyncio.TaskGroup() as group:
        theirs = await other.open_array(store)
        group.create_task(array["a"].set(1))
        group.create_task(theirs["b"].set(2))
    data["a"], data["b"] = 1, 2
    assert (await array[...]).tolist() == data.tolist()


async def test_absent_chunks_give_the_fields_fill_value(session: zs.Session) -> None:
    fill = np.array((5, 0.5, b"ab"), DTYPE)
    array = await session.create_array(zs.MemoryStore(), shape=(4,), chunks=2, dtype=DTYPE, fill_value=fill[()])
    assert (await array["c"]).tolist() == [b"ab"] * 4
    await array["a", :1].set(7)
    assert (await array[:2]).tolist() == [(7, 0.5, b"ab"), (5, 0.5, b"ab")]
    with pytest.raises(zs.ChunkNotFound):
        await array["a"].get(missing="raise")


@pytest.mark.parametrize(
    ("key", "problem"),
    [
        ("aa", "did you mean 'a'"),
        (["a", "a"], "once each"),
        (("a", "b"), "one list of them"),
        (("a", ["b"]), "one list of them"),
        ("v", "holds arrays"),
        (("a", 0, 0, 0), "too many indices"),
    ],
    ids=str,
)
async def test_fields_that_are_none(session: zs.Session, key: Any, problem: str) -> None:
    dtype = np.dtype([*((name, DTYPE[name]) for name in DTYPE.names or ()), ("v", "<f4", (2,))])
    array = await session.create_array(zs.MemoryStore(), shape=(4, 4), chunks=2, dtype=dtype, zarr_format=2)
    with pytest.raises(zs.SelectionError, match=problem):
        array[key]


async def test_elements_without_fields(session: zs.Session) -> None:
    array = await session.create_array(zs.MemoryStore(), shape=(4,), chunks=2, dtype="i4")
    with pytest.raises(zs.SelectionError, match="has no fields"):
        array["a"]
    with pytest.raises(zs.SelectionError, match="a name or a list of names"):
        await array.get_slice(0, 1, fields=5)  # type: ignore[arg-type]  # what a typo would give
    with pytest.raises(zs.SelectionError, match="one at least"):
        await (await session.create_array(zs.MemoryStore(), shape=(4,), dtype=DTYPE)).get_slice(0, 1, fields=[])
