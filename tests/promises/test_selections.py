"""Every selection reads and writes as in NumPy, for any shape, chunks, shards, dtype and order."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import basic_indices

import zarr_s3_async as zs

from .conftest import Place

DTYPES = ["?", "i1", "<i2", ">i4", "<u8", "<f4", ">f8", "<c8", "S3", "<U2", "<M8[s]"]


@st.composite
def lengths(draw: st.DrawFn, n: int, multiple: int = 1) -> tuple[list[int], int]:
    """Lengths of the cells of one axis, all multiples of `multiple`, and their sum, which is at least `n`."""
    chosen = [draw(st.integers(1, 4)) * multiple]
    while sum(chosen) < n:
        chosen.append(draw(st.integers(1, 4)) * multiple)
    return chosen, sum(chosen)


@st.composite
def arrays(draw: st.DrawFn, *, least: int = 0) -> dict[str, Any]:
    """Options of an array, including `shape` and `dtype` for the NumPy array that mirrors it."""
    ndim = draw(st.integers(least, 3))
    shape = tuple(draw(st.integers(1, 7)) for _ in range(ndim))
    chunks = tuple(draw(st.integers(1, 4)) for _ in range(ndim))
    zarr_format = draw(st.sampled_from([2, 3]))
    options: dict[str, Any] = {
        "shape": shape,
        "chunks": chunks,
        "dtype": draw(st.sampled_from(DTYPES)),
        "zarr_format": zarr_format,
        "compressor": draw(st.sampled_from([None, "zstd"])),
        "order": draw(st.sampled_from("CF")),
        "write_empty_chunks": draw(st.booleans()),
    }
    if zarr_format == 3 and ndim and draw(st.booleans()):
        options["shards"] = tuple(c * draw(st.integers(1, 3)) for c in chunks)
    if zarr_format == 3 and ndim and draw(st.booleans()):  # chunks or shards that differ in length
        multiples = chunks if "shards" in options else (1,) * ndim
        listed = [draw(lengths(n, c)) for n, c in zip(shape, multiples, strict=True)]
        options["shards" if "shards" in options else "chunks"] = [cells for cells, _ in listed]
        options["shape"] = tuple(n for _, n in listed)
    return options


@st.composite
def orthogonal(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[Any, ...]:
    """One selection per dimension, each of any kind."""

    def axis(n: int) -> Any:
        match draw(st.sampled_from(["int", "slice", "ints", "mask"])):
            case "int":
                return draw(st.integers(-n, n - 1))
            case "slice":
                return draw(st.slices(n))
            case "ints":
                return np.array(draw(st.lists(st.integers(-n, n - 1), max_size=6)), dtype="i8")
            case _:
                return np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n)))

    return tuple(axis(n) for n in shape)


def outer(data: np.ndarray, key: tuple[Any, ...]) -> tuple[Any, np.ndarray]:
    """The orthogonal selection in NumPy's notation, and its result."""
    spelled = [np.arange(n)[k] for n, k in zip(data.shape, key, strict=True)]
    index = np.ix_(*(np.atleast_1d(s) for s in spelled)) if spelled else ()
    dropped = tuple(axis for axis, s in enumerate(spelled) if np.ndim(s) == 0)
    return index, data[index].squeeze(axis=dropped) if spelled else data


@st.composite
def points(draw: st.DrawFn, shape: tuple[int, ...]) -> Any:
    """Coordinates, or a mask of the whole array."""
    if draw(st.booleans()):
        n = int(np.prod(shape))
        return np.array(draw(st.lists(st.booleans(), min_size=n, max_size=n))).reshape(shape)
    size = draw(st.integers(0, 8))
    return tuple(
        np.array(draw(st.lists(st.integers(-n, n - 1), min_size=size, max_size=size)), dtype="i8") for n in shape
    )


def content(shape: tuple[int, ...], dtype: str, seed: int) -> np.ndarray:
    numbers = np.random.default_rng(seed).integers(0, 100, shape)
    return numbers.astype("U2").astype(dtype) if np.dtype(dtype).kind in "SU" else numbers.astype(dtype)


async def mirrored(session: zs.Session, options: dict[str, Any], where: Any) -> tuple[zs.Array, np.ndarray]:
    array = await session.create_array(where, **options)
    data = content(options["shape"], options["dtype"], 1)
    await array[...].set(data)
    return array, data


@given(st.data())
async def test_basic_selections_read_and_write_as_in_numpy(data: st.DataObject) -> None:
    options = data.draw(arrays())
    async with zs.Session() as session:
        array, mirror = await mirrored(session, options, zs.MemoryStore())
        for seed in (2, 3):
            key = data.draw(basic_indices(mirror.shape, allow_newaxis=True))
            np.testing.assert_array_equal(await array[key], mirror[key])
            values = content(mirror[key].shape, options["dtype"], seed)
            await array[key].set(values)
            mirror[key] = values
            np.testing.assert_array_equal(await array[...], mirror)


@given(st.data())
async def test_orthogonal_selections_read_and_write_as_in_numpy(data: st.DataObject) -> None:
    options = data.draw(arrays(least=1))
    async with zs.Session() as session:
        array, mirror = await mirrored(session, options, zs.MemoryStore())
        for seed in (2, 3):
            key = data.draw(orthogonal(mirror.shape))
            index, expected = outer(mirror, key)
            np.testing.assert_array_equal(await array.oindex[key], expected)
            values = content(expected.shape, options["dtype"], seed)
            await array.oindex[key].set(values)
            mirror[index] = values.reshape(mirror[index].shape)
            np.testing.assert_array_equal(await array[...], mirror)


@given(st.data())
async def test_points_and_masks_read_and_write_as_in_numpy(data: st.DataObject) -> None:
    options = data.draw(arrays(least=1))
    async with zs.Session() as session:
        array, mirror = await mirrored(session, options, zs.MemoryStore())
        for seed in (2, 3):
            key = data.draw(points(mirror.shape))
            np.testing.assert_array_equal(await array.vindex[key], mirror[key])
            values = content(mirror[key].shape, options["dtype"], seed)
            await array.vindex[key].set(values)  # where coordinates repeat, the last one wins, as in NumPy
            mirror[key] = values
            np.testing.assert_array_equal(await array[...], mirror)


@given(st.data())
async def test_regions_with_steps_read_and_write_as_in_numpy(data: st.DataObject) -> None:
    options = data.draw(arrays(least=1))
    async with zs.Session() as session:
        array, mirror = await mirrored(session, options, zs.MemoryStore())
        bounds = [sorted(data.draw(st.tuples(st.integers(0, n), st.integers(0, n)))) for n in mirror.shape]
        step = tuple(data.draw(st.integers(1, 3)) for _ in bounds)
        start, stop = tuple(b[0] for b in bounds), tuple(b[1] for b in bounds)
        box = tuple(slice(*b, s) for b, s in zip(bounds, step, strict=True))
        out = np.empty(mirror[box].shape, options["dtype"])
        assert await array.get_slice(start, stop, step, out=out) is out
        np.testing.assert_array_equal(out, mirror[box])
        values = content(out.shape, options["dtype"], 2)
        await array.set_slice(values, start, stop, step)
        mirror[box] = values
        np.testing.assert_array_equal(await array[...], mirror)


@pytest.mark.integration
@settings(max_examples=8, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
async def test_selections_read_and_write_as_in_numpy_on_a_real_server(data: st.DataObject, place: Place) -> None:
    options = data.draw(arrays(least=1))
    async with zs.Session(s3=place.config) as session:
        # A separate path each time: SeaweedFS refuses to create a key conditionally where it had a folder of keys.
        array, mirror = await mirrored(session, options, f"{place.url}/{uuid4().hex}")
        key = data.draw(orthogonal(mirror.shape))
        index, expected = outer(mirror, key)
        np.testing.assert_array_equal(await array.oindex[key], expected)
        values = content(expected.shape, options["dtype"], 2)
        await array.oindex[key].set(values)
        mirror[index] = values.reshape(mirror[index].shape)
        np.testing.assert_array_equal(await array[...], mirror)
