"""An array reads as NumPy does, and reads back what it wrote."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs

FORMATS = pytest.mark.parametrize("zarr_format", [2, 3])


@FORMATS
@pytest.mark.parametrize("shape", [(), (0,), (5,), (0, 3), (4, 5), (3, 4, 5)])
async def test_arrays_of_every_shape_are_written_and_read(
    session: zs.Session, shape: tuple[int, ...], zarr_format: Any
) -> None:
    data = np.arange(1, 1 + int(np.prod(shape)), dtype="i4").reshape(shape)
    array = await session.create_array(
        zs.MemoryStore(),
        shape=shape,
        chunks=tuple(max(1, n // 2) for n in shape),
        dtype="i4",
        zarr_format=zarr_format,
    )
    assert (array.shape, array.ndim, array.size, array.nbytes) == (shape, data.ndim, data.size, data.nbytes)
    await array.set_slice(data, (0,) * len(shape))
    result = await array.get_slice((0,) * len(shape), shape)
    assert result.shape == shape
    np.testing.assert_array_equal(result, data)
    np.testing.assert_array_equal(await array[...], data)


@pytest.mark.parametrize(
    ("start", "stop", "step"),
    [
        ((-1, 0), (3, 3), None),
        ((0, 0), (5, 3), None),
        ((3, 0), (2, 3), None),
        ((0,), (3,), None),
        ((0, 0), (3, 3), (0, 1)),
        ((0.0, 0), (3, 3), None),
        ((True, 0), (3, 3), None),
    ],
)
async def test_a_region_outside_the_array_is_refused(session: zs.Session, start: Any, stop: Any, step: Any) -> None:
    array = await session.create_array(zs.MemoryStore(), shape=(4, 4), dtype="i4")
    with pytest.raises(zs.SelectionError):
        await array.get_slice(start, stop, step)
    with pytest.raises(zs.SelectionError):
        await array.set_slice(1, start, stop, step)


async def test_scalars_broadcast_and_the_shape_of_data_gives_the_stop(session: zs.Session) -> None:
    array = await session.create_array(zs.MemoryStore(), shape=(6, 8), chunks=(4, 3), dtype="f8")
    expected = np.zeros((6, 8))
    await array.set_slice(7, (1, 1), (5, 6))
    expected[1:5, 1:6] = 7
    await array.set_slice(np.arange(8), (3, 0), (5, 8))
    expected[3:5] = np.arange(8)
    await array.set_slice([[1, 2], [3, 4]], (4, 6))
    expected[4:6, 6:8] = [[1, 2], [3, 4]]
    await array.set_slice(np.ones((2, 3)), (0, 0), step=(3, 2))
    expected[0:4:3, 0:5:2] = 1
    np.testing.assert_array_equal(await array[...], expected)
    np.testing.assert_array_equal(await array.get_slice((0, 0), None, (2, 3)), expected[::2, ::3])
    await array.set_slice(np.full((1, 1, 2, 2), 9), (0, 0), (2, 2))
    assert (await array.get_slice((0, 0), (2, 2)) == 9).all()
    for data in (5, np.zeros(8), np.zeros((7, 8))):
        with pytest.raises(zs.SelectionError):
            await array.set_slice(data, (0, 0))
    with pytest.raises(zs.SelectionError, match="broadcast"):
        await array.set_slice(np.zeros((3, 3)), (0, 0), (2, 2))


async def test_values_are_cast_as_numpy_assigns(session: zs.Session) -> None:
    array = await session.create_array(zs.MemoryStore(), shape=(4,), chunks=(3,), dtype="u1")
    await array.set_slice([1.9, 2.1, 3, 4], 0)
    np.testing.assert_array_equal(await array[...], [1, 2, 3, 4])


async def test_a_read_fills_out_and_checks_it(session: zs.Session) -> None:
    array = await session.create_array(zs.MemoryStore(), shape=(6,), chunks=(4,), dtype="i4", fill_value=3)
    await array.set_slice([1, 2, 4, 5], 0)
    out = np.zeros(6, "f8")
    assert await array.get_slice(0, 6, out=out) is out
    np.testing.assert_array_equal(out, [1, 2, 4, 5, 3, 3])
    gaps = np.zeros((6, 2), "i4")
    assert await array[...].get(out=gaps[:, 1]) is not None
    np.testing.assert_array_equal(gaps, [[0, 1], [0, 2], [0, 4], [0, 5], [0, 3], [0, 3]])
    pairs = np.zeros((2, 6), "i4")[:, ::2]
    await array.vindex[[[0, 1, 2], [3, 4, 5]]].get(out=pairs)
    np.testing.assert_array_equal(pairs, [[1, 2, 4], [5, 3, 3]])
    frozen = np.zeros(6, "i4")
    frozen.flags.writeable = False
    shared = np.lib.stride_tricks.as_strided(np.zeros(9, "i4"), (6,), (2,))
    same = np.lib.stride_tricks.as_strided(np.zeros(1, "i4"), (6,), (0,))
    for bad in (
        np.zeros(5, "i4"),
        np.zeros(6, "M8[s]"),
        frozen,
        [0] * 6,
        np.zeros(6, "S4"),
        np.zeros(6, "U2"),
        shared,
        same,
    ):
        with pytest.raises(zs.ConfigError, match="out"):
            await array.get_slice(0, 6, out=bad)  # type: ignore[arg-type]  # what is tested


async def test_out_may_have_any_layout_without_shared_memory(session: zs.Session) -> None:
    array = await session.create_array(zs.MemoryStore(), shape=(3, 4), chunks=(2, 2), dtype="i4")
    await array[...].set(np.arange(12).reshape(3, 4))
    outs = [
        np.zeros((4, 3), "i4").T,
        np.zeros((6, 8), "i4")[::-2, ::-2],
        np.zeros((3, 4, 2), "i4")[..., 1],
        np.zeros((3, 4), "S16"),
        np.zeros((3, 4), "O"),
        np.asfortranarray(np.zeros((3, 4), "f4")),
    ]
    for out in outs:
        assert (await array[...].get(out=out)).astype("i4").tolist() == np.arange(12).reshape(3, 4).tolist()
    assert (await array[1:2, 3:4].get(out=np.lib.stride_tricks.as_strided(np.zeros(1, "i4"), (1, 1), (0, 0)))) == 7


async def test_numpy_functions_cannot_read_an_array_by_accident(session: zs.Session) -> None:
    array = await session.create_array(zs.MemoryStore(), shape=(6,), dtype="i4")
    for act in (
        lambda: np.asarray(array),
        lambda: np.asarray(array[1:3]),
        lambda: list(array),  # type: ignore[call-overload]  # what is tested
        lambda: len(array),  # type: ignore[arg-type]  # what is tested
        lambda: 3 in array,  # type: ignore[operator]  # what is tested
        lambda: array.__setitem__(0, 1),
        lambda: array.oindex.__setitem__(0, 1),
    ):
        with pytest.raises(TypeError):
            act()


async def test_integers_remove_axes_and_give_scalars(session: zs.Session) -> None:
    array = await session.create_array(zs.MemoryStore(), shape=(4, 6), chunks=(2, 2), dtype="i8")
    data = np.arange(24).reshape(4, 6)
    await array[...].set(data)
    assert await array[3, -1] == 23
    assert isinstance(await array[3, -1], np.int64)
    for key in ((1,), (slice(None), 2), (slice(3, None, -1), None, slice(1, 6, 2)), (Ellipsis, -2)):
        view = array[key]
        assert view.shape == data[key].shape
        np.testing.assert_array_equal(await view, data[key])
    await array[1, ::-2].set([100, 200, 300])
    data[1, ::-2] = [100, 200, 300]
    np.testing.assert_array_equal(await array[...], data)


async def test_elements_can_be_selected_by_name_block_and_index(session: zs.Session) -> None:
    array = await session.create_array(
        zs.MemoryStore(), shape=(6, 8), chunks=(4, 3), dtype="i4", dimension_names=("time", "x")
    )
    data = np.arange(48, dtype="i4").reshape(6, 8)
    await array[...].set(data)
    np.testing.assert_array_equal(await array.sel(x=slice(2, 5)), data[:, 2:5])
    np.testing.assert_array_equal(await array.sel(time=-1, x=[1, 1, 0]), data[-1, [1, 1, 0]])
    np.testing.assert_array_equal(await array.blocks[1, 0], data[4:6, 0:3])
    np.testing.assert_array_equal(await array.oindex[[5, 0], ::3], data[np.ix_([5, 0], [0, 3, 6])])
    np.testing.assert_array_equal(await array.vindex[[0, 5], [7, 0]], data[[0, 5], [7, 0]])
    np.testing.assert_array_equal(await array.vindex[data % 5 == 0], data[data % 5 == 0])
    await array.oindex[[5, 0], [1, 1]].set([[1, 2], [3, 4]])
    data[np.ix_([5, 0], [1, 1])] = [[1, 2], [3, 4]]
    await array.vindex[[0, 0], [0, 0]].set([8, 9])
    data[[0, 0], [0, 0]] = [8, 9]
    np.testing.assert_array_equal(await array[...], data)
    with pytest.raises(zs.SelectionError, match="no dimension is called"):
        array.sel(y=0)


async def test_any_number_of_points_makes_one_get_per_touched_chunk(session: zs.Session) -> None:
    class Counting(zs.MemoryStore):
        gets = 0

        async def get(self, key: str, **options: Any) -> Any:  # type: ignore[override]  # handed on as it is
            self.gets += 1
            return await super().get(key, **options)

    store = Counting()
    array = await session.create_array(store, shape=(100, 100), chunks=(10, 10), dtype="i4")
    rng = np.random.default_rng(3)
    rows, columns = rng.integers(0, 30, 5000), rng.integers(0, 20, 5000)
    store.gets = 0
    await array.vindex[rows, columns]
    assert store.gets == 6


async def test_explain_makes_no_request(session: zs.Session) -> None:
    class Silent(zs.MemoryStore):
        async def get(self, key: str, **options: Any) -> Any:  # type: ignore[override]  # handed on as it is
            assert not key.startswith("c/")
            return await super().get(key, **options)

    array = await session.create_array(Silent(), shape=(100, 100), chunks=(10, 10), dtype="i4")
    cost = array.explain((slice(5, 25), slice(0, 10)))
    assert (cost.objects, cost.chunks, cost.partly_covered, cost.get_requests) == (3, 3, 2, 3)
    assert (cost.result_bytes, cost.decoded_bytes) == (800, 1200)
    assert "3 objects" in str(cost)


@FORMATS
async def test_growth_after_a_shrink_shows_fill(session: zs.Session, zarr_format: Any) -> None:
    store = zs.MemoryStore()
    array = await session.create_array(
        store, shape=(10, 10), chunks=(4, 4), dtype="i4", fill_value=-1, zarr_format=zarr_format
    )
    data = np.arange(100, dtype="i4").reshape(10, 10)
    await array[...].set(data)
    await array.resize((5, 10))
    await array.resize((5, 6))
    assert array.shape == (5, 6)
    assert (await session.open_array(store)).shape == (5, 6)
    np.testing.assert_array_equal(await array[...], data[:5, :6])
    await array.resize((10, 10))
    expected = np.full((10, 10), -1)
    expected[:5, :6] = data[:5, :6]
    np.testing.assert_array_equal(await array[...], expected)
    await array.resize((0, 10))
    assert [e.key async for e in store.list_prefix("") if "zarr" not in e.key] == []


@FORMATS
async def test_concurrent_appends_never_share_a_row(session: zs.Session, zarr_format: Any) -> None:
    store = zs.MemoryStore()
    await session.create_array(store, shape=(0, 3), chunks=(4, 2), dtype="i4", zarr_format=zarr_format)

    async def append(number: int) -> None:
        array = await session.open_array(store)
        await array.append(np.full((number % 3 + 1, 3), number + 1, "i4"))

    await asyncio.gather(*(append(n) for n in range(12)))
    result = await (await session.open_array(store))[...]
    assert sorted(result[:, 0]) == sorted(n + 1 for n in range(12) for _ in range(n % 3 + 1))
    assert (result == result[:, :1]).all()
    assert await (await session.open_array(store)).append(np.zeros((1, 3), "i4")) == (25, 3)


async def test_an_append_that_cannot_write_releases_its_rows(session: zs.Session) -> None:
    class Full(zs.MemoryStore):
        full = False

        async def put(self, key: str, data: Any, **options: Any) -> Any:  # type: ignore[override]  # handed on
            if self.full and key.startswith("c/"):
                raise zs.Throttled("not now")
            return await super().put(key, data, **options)

    store = Full()
    array = await session.create_array(store, shape=(2,), chunks=(2,), dtype="i4")
    store.full = True
    with pytest.raises(zs.Throttled) as caught:
        await array.append([1, 2, 3])
    assert "rows 2:5" in caught.value.__notes__[0]
    assert "given back" in caught.value.__notes__[0]
    assert (await session.open_array(store)).shape == (2,)


@FORMATS
async def test_concurrent_updates_of_attributes_are_both_kept(session: zs.Session, zarr_format: Any) -> None:
    store = zs.MemoryStore()
    array = await session.create_array(store, shape=(2,), dtype="i4", zarr_format=zarr_format, attributes={"a": 1})
    others = [await session.open_array(store) for _ in range(8)]
    await asyncio.gather(*(other.update_attributes({f"k{n}": n}) for n, other in enumerate(others)))
    await array.refresh()
    assert dict(array.attrs) == {"a": 1, **{f"k{n}": n for n in range(8)}}
    await array.update_attributes({"only": True}, replace=True)
    assert dict((await session.open_array(store)).attrs) == {"only": True}
    with pytest.raises(TypeError):
        array.attrs["a"] = 2  # type: ignore[index]  # what is tested


async def test_running_operations_keep_the_shape_that_they_started_with(session: zs.Session) -> None:
    array = await session.create_array(zs.MemoryStore(), shape=(4,), chunks=(2,), dtype="i4", fill_value=1)
    view = array[...]
    await array.resize(8)
    assert (await view).shape == (4,)
    assert (await array[...]).shape == (8,)


@pytest.mark.parametrize("fill", [0.0, -0.0, float("nan"), float("inf")])
async def test_only_chunks_equal_to_fill_bit_by_bit_are_left_out(session: zs.Session, fill: float) -> None:
    store = zs.MemoryStore()
    array = await session.create_array(store, shape=(4,), chunks=(2,), dtype="f8", fill_value=fill)
    await array.set_slice(np.full(4, fill), 0)
    assert await store.get("c/0") is None
    other = np.array([-fill if fill == 0 else 1.0] * 2)
    await array.set_slice(other, 0)
    assert await store.get("c/0") is not None
    assert np.array_equal(np.signbit(await array.get_slice(0, 2)), np.signbit(other))


async def test_shape_and_dtype_are_in_the_repr(session: zs.Session) -> None:
    array = await session.create_array("memory://here", path="a", shape=(4, 5), chunks=(2, 5), dtype="i4")
    assert repr(array) == "<Array memory://here/a shape (4, 5), chunks (2, 5), int32>"
    assert "await it" in repr(array[1:2])
