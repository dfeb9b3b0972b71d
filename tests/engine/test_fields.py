"""Single fields of structured elements: reads return only them, writes keep the others."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarr_s3_async as zs

from .counting import Counting

DTYPE = np.dtype([("a", "<i2"), ("b", "<f8"), ("c", "S3")])
WITH_ARRAYS = np.dtype([*((name, DTYPE[name]) for name in "abc"), ("v", ">f4", (2,)), ("w", "<i2", (2, 3))])
"""Of v2 alone."""
OPTIONS: dict[str, dict[str, Any]] = {
    "v2": {"zarr_format": 2, "chunks": (4, 3)},
    "v2, arrays in fields": {"zarr_format": 2, "chunks": (4, 3), "dtype": WITH_ARRAYS},
    "v2, arrays in fields, raw": {"zarr_format": 2, "chunks": (4, 3), "dtype": WITH_ARRAYS, "compressor": None},
    "chunks": {"chunks": (4, 3)},
    "raw": {"chunks": (4, 3), "compressor": None},
    "shards": {"chunks": (2, 3), "shards": (4, 6)},
    "lists": {"chunks": [[3, 2, 5], [4, 3]]},
}
NAMES = st.sampled_from(["a", "b", "c", ["b"], ["c", "a"], ["a", "b", "c"]])


def plain(data: np.ndarray[Any, Any]) -> Any:
    """The data as lists, which compare also if fields hold arrays."""
    return data.tolist() if data.dtype.names is None else {name: data[name].tolist() for name in data.dtype.names}


def records(shape: tuple[int, ...], seed: int, dtype: np.dtype[Any] = DTYPE) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(seed)
    data = np.zeros(shape, dtype)
    for name in (dtype.names or ())[3:]:
        data[name] = rng.integers(-1000, 1000, data[name].shape)
    data["a"] = rng.integers(-1000, 1000, shape)
    data["b"] = rng.random(shape)
    data["c"] = rng.integers(100, 999, shape).astype("S3")
    return data


@given(data=st.data(), options=st.sampled_from(list(OPTIONS)), cached=st.booleans())
def test_writes_and_reads_of_fields_equal_numpys(data: st.DataObject, options: str, cached: bool) -> None:
    """The array equals NumPy's after the same assignments to whole elements and to fields."""

    async def run() -> None:
        store = zs.MemoryStore()
        async with zs.Session(cache=zs.CacheSize(chunks=2**20 if cached else 0)) as session:
            array = await session.create_array(store, **{"shape": (10, 7), "dtype": DTYPE, **OPTIONS[options]})
            mirror = np.zeros((10, 7), array.dtype)
            names = NAMES if array.dtype.names == DTYPE.names else NAMES | st.sampled_from(["v", "w", ["w", "a", "v"]])
            for seed in range(data.draw(st.integers(1, 4))):
                place = tuple(data.draw(st.slices(n)) for n in mirror.shape)
                values = records(mirror[place].shape, seed, array.dtype)
                fields = data.draw(st.none() | names)
                if fields is None:
                    await array[place].set(values)
                    mirror[place] = values
                else:
                    await array[(fields, *place)].set(values[fields])
                    mirror[fields][place] = values[fields]
            for _ in range(2):
                place, fields = tuple(data.draw(st.slices(n)) for n in mirror.shape), data.draw(names)
                view = array[(fields, *place)]
                got = await view
                assert (got.dtype, got.shape) == (view.dtype, view.shape)
                assert got.dtype.names == mirror[fields].dtype.names
                assert plain(got) == plain(mirror[fields][place])
            assert plain(await array[...]) == plain(mirror)

    asyncio.run(run())


async def test_fields_can_be_named_in_every_way(session: zs.Session) -> None:
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


async def test_fields_that_hold_arrays_add_their_dimensions_to_the_selection(session: zs.Session) -> None:
    """Their dimensions follow those of the selection, for every kind of selection."""
    array = await session.create_array(zs.MemoryStore(), shape=(10, 7), chunks=(4, 3), dtype=WITH_ARRAYS, zarr_format=2)
    assert (await array["w", 0, 0]).tolist() == [[0] * 3] * 2
    data = records((10, 7), 1, WITH_ARRAYS)
    await array[...].set(data)
    np.testing.assert_array_equal(await array["w", 3, 2:5], data["w"][3, 2:5])
    np.testing.assert_array_equal(await array.oindex["v", [5, 1], :], data["v"][[5, 1]])
    np.testing.assert_array_equal(await array.vindex["w", [[5, 1]], [[0, 6]]], data["w"][[[5, 1]], [[0, 6]]])
    np.testing.assert_array_equal(await array.blocks["v", 1, 0], data["v"][4:8, 0:3])
    assert array["w", :2].explain().result_bytes == 2 * 7 * 12
    out = np.empty((10, 7, 2), "f8")
    assert await array["v"].get(out=out) is out
    np.testing.assert_array_equal(out, data["v"])
    with pytest.raises(zs.ConfigError, match=r"the selection has \(10, 7, 2\)"):
        await array["v"].get(out=np.empty((10, 7)))
    await array.set_slice([[1, 2]], (0, 0), (10, 7), fields="v")
    data["v"] = [1, 2]
    await array["w", 2].set([[1, 2, 3], [4, 5, 6]])
    data["w"][2] = [[1, 2, 3], [4, 5, 6]]
    assert plain(await array[...]) == plain(data)
    with pytest.raises(zs.SelectionError, match=r"does not broadcast to the selection's shape \(10, 7, 2\)"):
        await array["v"].set(np.zeros((10, 7)))


async def test_we_and_tensorstore_read_each_others_fields_that_hold_arrays(session: zs.Session, tmp_path: Path) -> None:
    """zarr-python 3 does not support such fields."""
    ts = pytest.importorskip("tensorstore")
    data = records((10, 7), 1, WITH_ARRAYS)
    array = await session.create_array(
        tmp_path / "ours", shape=(10, 7), chunks=(4, 3), dtype=WITH_ARRAYS, zarr_format=2
    )
    await array[...].set(data)

    def opened(field: str) -> Any:
        return ts.open({"driver": "zarr", "kvstore": f"file://{tmp_path}/ours/", "field": field}).result()

    for field in ("a", "b", "v", "w"):
        np.testing.assert_array_equal(opened(field).read().result(), data[field])
        opened(field).write(data[field] * 2).result()
        np.testing.assert_array_equal(await array[field], data[field] * 2)


async def test_a_write_of_a_field_merges_every_chunk(session: zs.Session) -> None:
    """Two writers of different fields lose nothing, and `explain` counts the GETs."""
    store = Counting()
    array = await session.create_array(store, shape=(8, 6), chunks=(4, 3), dtype=DTYPE)
    data = records((8, 6), 2)
    await array[...].set(data)
    explanation = array["a"].explain()
    store.clear()
    await array["a"].set(7)
    assert (explanation.merge_get_requests, explanation.put_requests) == (len(store.gets), store.puts) == (4, 4)
    async with zs.Session() as other, asyncio.TaskGroup() as group:
        theirs = await other.open_array(store)
        group.create_task(array["a"].set(1))
        group.create_task(theirs["b"].set(2))
    data["a"], data["b"] = 1, 2
    assert (await array[...]).tolist() == data.tolist()


async def test_a_field_of_an_absent_chunk_is_its_fill_value(session: zs.Session) -> None:
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
        (["a", "a"], "each once"),
        (("a", "b"), "one list of them"),
        (("a", ["b"]), "one list of them"),
        (("a", 0, 0, 0), "too many indices"),
    ],
    ids=str,
)
async def test_invalid_field_names_are_refused(session: zs.Session, key: Any, problem: str) -> None:
    array = await session.create_array(zs.MemoryStore(), shape=(4, 4), chunks=2, dtype=DTYPE)
    with pytest.raises(zs.SelectionError, match=problem):
        array[key]


async def test_a_field_of_elements_without_fields_is_refused(session: zs.Session) -> None:
    array = await session.create_array(zs.MemoryStore(), shape=(4,), chunks=2, dtype="i4")
    with pytest.raises(zs.SelectionError, match="has no fields"):
        array["a"]
    with pytest.raises(zs.SelectionError, match="a name or a list of names"):
        await array.get_slice(0, 1, fields=5)  # type: ignore[arg-type]  # as after a typo
    with pytest.raises(zs.SelectionError, match="at least one"):
        await (await session.create_array(zs.MemoryStore(), shape=(4,), dtype=DTYPE)).get_slice(0, 1, fields=[])
