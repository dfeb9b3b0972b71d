"""Tiles: their pixels, the planes and levels that they show, and elements without a colour."""

from __future__ import annotations

import io
import json
from typing import Any

import ml_dtypes
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import zarr_s3_async as zs
from zarr_s3_async.viewer import create_app, painting

from .test_viewer import Counted, client_of, colours, expected, pyramid, same, stored

SHAPE = (5, 300, 521)
CUBE = np.random.default_rng(0).integers(0, 2**16, SHAPE).astype(">u2")


@given(data=st.data())
async def test_a_tile_equals_the_strided_slice_of_the_plane_in_numpy(data: st.DataObject) -> None:
    axes: Any = data.draw(st.permutations([0, 1, 2]))
    y, x, other = axes
    zy, zx = data.draw(st.integers(0, 10)), data.draw(st.integers(0, 10))
    down, across = -(-SHAPE[y] // 2**zy), -(-SHAPE[x] // 2**zx)
    row, column = data.draw(st.integers(0, (down - 1) // 256)), data.draw(st.integers(0, (across - 1) // 256))
    at = [0, 0, 0]
    at[other] = data.draw(st.integers(0, SHAPE[other] - 1))
    query = f"path=array&y={y}&x={x}&at={','.join(map(str, at))}&low=0&high=65535"
    async with client_of(create_app(await _cube())) as client:
        answer = await client.get(f"/api/tile/{zy},{zx}/{row}/{column}.png?{query}")
    plane = np.take(CUBE, at[other], other)
    plane = plane.T if y > x else plane
    pixels = plane[:: 2**zy, :: 2**zx][row * 256 : row * 256 + 256, column * 256 : column * 256 + 256]
    assert same(colours(answer), expected(pixels, 0, 65535))


_STORES: dict[str, Counted] = {}


async def _cube() -> Counted:
    if "cube" not in _STORES:
        _STORES["cube"] = await stored(CUBE, chunks=(2, 64, 100))
    return _STORES["cube"]


EVERY = {
    "bool": np.array([[True, False], [False, True]]),
    **{name: np.array([[0, 1], [50, 100]], name) for name in ("u1", "u2", "u4", "u8", "f2", "f4", "f8", ">i4", ">f8")},
    **{name: np.array([[-100, -1], [0, 100]], name) for name in ("i1", "i2", "i4", "i8")},
    "bfloat16": np.array([[-2, 0], [1, 2]], ml_dtypes.bfloat16),
    "datetime": np.array([["2020-01-01", "2021-01-01"], ["2022-01-01", "2023-01-01"]], "M8[s]"),
    "timedelta": np.array([[1, 2], [3, 4]], "m8[ms]"),
}


@pytest.mark.parametrize("name", EVERY)
async def test_every_ordered_data_type_has_colours(name: str) -> None:
    data = EVERY[name]
    store = await stored(data)
    async with client_of(create_app(store)) as client:
        expected_text = (await client.get("/api/statistics?path=array&hide=none")).json()
        answer = await client.get("/api/tile/0/0/0.png?path=array&hide=none")
        value = (await client.get("/api/value?path=array&at=1,1")).json()
    numbers = data.astype("i8" if data.dtype.kind in "mM" else np.longdouble)
    assert (expected_text["min"], expected_text["max"]) == (float(numbers.min()), float(numbers.max()))
    assert same(colours(answer), expected(numbers, numbers.min(), numbers.max()))
    assert value["text"] == (str(data[1, 1]) if data.dtype.kind in "mMb" else f"{float(data[1, 1]):g}")


@pytest.mark.parametrize("part", ["abs", "real", "imag", "phase"])
async def test_one_part_of_complex_numbers_is_shown(part: str) -> None:
    data = np.array([[1 + 2j, -3j], [4, 0]], "c8")
    async with client_of(create_app(await stored(data))) as client:
        answer = await client.get(f"/api/tile/0/0/0.png?path=array&part={part}&low=-4&high=4")
    shown = {"abs": np.abs(data), "real": data.real, "imag": data.imag, "phase": np.angle(data)}[part]
    assert same(colours(answer), expected(shown, -4, 4))


@pytest.mark.parametrize(
    "data",
    [
        np.array([["a", "b"], ["c", "d"]], object),
        np.array([["a", "b"]], "U3"),
        np.zeros((2, 2), [("x", "i4"), ("y", "f4")]),
    ],
    ids=["text", "fixed text", "structured"],
)
async def test_types_without_colours_have_no_tiles_but_can_be_read(data: np.ndarray[Any, Any]) -> None:
    options: dict[str, Any] = {"dtype": str} if data.dtype == object else {}
    async with client_of(create_app(await stored(data, zarr_format=3 if options else 2, **options))) as client:
        described = (await client.get("/api/array?path=array")).json()
        tile = await client.get("/api/tile/0/0/0.png?path=array&low=0&high=1")
        statistics = await client.get("/api/statistics?path=array")
        value = await client.get("/api/value?path=array&at=0,1")
    assert "cannot be drawn" in described["cannot_draw"]
    assert (tile.status_code, statistics.status_code) == (501, 501)
    assert tile.headers["content-type"] == "application/problem+json"
    assert value.status_code == 200
    assert value.json()["text"] == str(data[0, 1])


async def test_nan_not_a_time_and_the_fill_value_are_transparent() -> None:
    floats = np.array([[np.nan, 1.0], [-9.0, np.inf]], "f4")
    times = np.array([["NaT", "2020-01-01"]], "M8[D]").astype("M8[s]")
    store = await stored(floats, fill_value=-9.0)
    await stored(times, "times", store)
    async with client_of(create_app(store)) as client:
        auto = await client.get("/api/tile/0/0/0.png?path=array&low=0&high=1")
        plain = await client.get("/api/tile/0/0/0.png?path=array&low=0&high=1&hide=none")
        dated = await client.get("/api/tile/0/0/0.png?path=times&low=0&high=1")
        hidden = (await client.get("/api/statistics?path=array")).json()["hidden"]
    assert colours(auto).tolist() == [[255, 254], [255, 254]]
    assert colours(plain).tolist() == [[255, 254], [0, 254]]
    assert colours(dated).tolist() == [[255, 254]]
    assert hidden == 2
    with Image.open(io.BytesIO(auto.content)) as image:
        assert np.asarray(image.convert("RGBA"))[..., 3].tolist() == [[0, 255], [0, 255]]


async def test_a_fill_value_of_zero_is_drawn_unless_hiding_it_is_requested() -> None:
    async with client_of(create_app(await stored(np.array([[0, 255]], "u1")))) as client:
        auto = await client.get("/api/tile/0/0/0.png?path=array&low=0&high=255")
        fill = await client.get("/api/tile/0/0/0.png?path=array&low=0&high=255&hide=fill")
    assert (colours(auto).tolist(), colours(fill).tolist()) == ([[0, 254]], [[255, 254]])


@pytest.mark.parametrize(
    "data", [[[np.nan] * 2] * 2, [[np.inf] * 2] * 2, [[1e308, -1e308]] * 2, [[5.0] * 2] * 2, [[1e-320, 0.0]] * 2]
)
async def test_unusual_numbers_have_statistics_and_a_picture(data: Any) -> None:
    async with client_of(create_app(await stored(np.array(data)))) as client:
        expected_text = await client.get("/api/statistics?path=array")
        tile = await client.get("/api/tile/0/0/0.png?path=array")
    document = json.loads(expected_text.text, parse_constant=lambda word: pytest.fail(f"{word} is no JSON"))
    assert document["low"] < document["high"]
    assert colours(tile).shape == (2, 2)


@pytest.mark.parametrize(
    ("address", "meant"),
    [
        ("tile/0/0/0.png?path=array&color=gray", "colors="),
        ("tile/0/0/0.png?path=array&reverse=ture", "reverse"),
        ("tile/0/0/0.png?path=array&thin=maybe", "thin"),
        ("statistics?path=array&hid=none", "hide="),
        ("statistics?path=array&colors=gray", "colors"),
        ("nodes?pth=array", "path="),
        ("array?path=array&varible=x", "variable="),
        ("value?path=array&att=0,0", "at="),
        ("slice?path=array&strat=1,0&stop=2,2", "start="),
        ("session?path=array", "path"),
    ],
)
async def test_a_misspelt_parameter_is_refused(address: str, meant: str) -> None:
    async with client_of(create_app(await stored(np.ones((2, 2))), details=True)) as client:
        answer = await client.get(f"/api/{address}")
    assert answer.status_code == 422
    assert meant in answer.json()["detail"]


def test_limits_at_the_ends_of_the_doubles_range_give_all_colours() -> None:
    most = np.finfo("f8").max
    painted = painting.paint(np.array([[-most, 0.0, most, np.inf, -np.inf]]), None, painting.Stretch(-most, most))
    assert painted.tolist() == [[0, 127, 254, 254, 0]]


async def test_arrays_without_a_plane_are_shown_as_a_row_or_one_pixel() -> None:
    store = await stored(np.arange(600, dtype="i4"), "row")
    await stored(np.array(7, "i4"), "one", store)
    async with client_of(create_app(store)) as client:
        row = await client.get("/api/tile/0/0/2.png?path=row&y=none&x=0&at=0&low=0&high=599")
        up = await client.get("/api/tile/1,0/0/0.png?path=row&y=0&x=none&at=0&low=0&high=599")
        one = await client.get("/api/tile/0/0/0.png?path=one")
        value = (await client.get("/api/value?path=one&at=")).json()
        plane = (await client.get("/api/array?path=one")).json()["plane"]
    assert same(colours(row), expected(np.arange(512, 600)[None], 0, 599))
    assert same(colours(up), expected(np.arange(0, 512, 2)[:, None], 0, 599))
    assert colours(one).shape == (1, 1)
    assert (value["value"], plane) == (7, {"y": None, "x": None, "at": []})


async def test_an_empty_array_is_described_and_has_no_tiles() -> None:
    store = await stored(np.zeros((0, 5)))
    async with client_of(create_app(store)) as client:
        described = await client.get("/api/array?path=array")
        statistics = await client.get("/api/statistics?path=array")
        tile = await client.get("/api/tile/0/0/0.png?path=array")
    assert (described.status_code, statistics.status_code, tile.status_code) == (200, 200, 416)


@pytest.mark.parametrize("form", ["0.4", "0.5", "layout", "datasets"])
@pytest.mark.parametrize(("zoom", "level"), [("0", 0), ("1", 1), ("2", 2), ("3", 2), ("0,3", 0), ("2,1", 1)])
async def test_the_coarsest_level_with_elements_up_to_pixel_size_is_read(form: str, zoom: str, level: int) -> None:
    store, _ = await pyramid(form)
    place = "path=&variable=values" if form == "datasets" else "path="
    async with client_of(create_app(store)) as client:
        answer = await client.get(f"/api/tile/{zoom}/0/0.png?{place}&low=0&high=2&y=0&x=1&at=0,0&hide=none")
        expected_text = (await client.get(f"/api/array?{place}")).json()
    zy, zx = int(zoom[0]), int(zoom[-1])
    painted = colours(answer)
    assert painted.shape == (-(-90 // 2**zy), -(-201 // 2**zx))
    assert np.unique(painted).tolist() == [127 * level]
    assert [found["factors"] for found in expected_text["levels"]] == [[1, 1], [2, 2], [4, 4]]
    assert expected_text["shape"] == [90, 201]


async def test_levels_that_are_groups_require_a_variable() -> None:
    store, _ = await pyramid("datasets")
    async with client_of(create_app(store)) as client:
        answer = await client.get("/api/array?path=")
    assert answer.status_code == 404
    assert "variable=" in answer.json()["detail"]


async def test_elements_of_all_levels_are_at_the_same_positions() -> None:
    fine = np.add.outer(np.arange(64), np.arange(64)).astype("f4")
    store = Counted()
    async with zs.Session() as session:
        await session.create_group(
            store, attributes={"multiscales": [{"datasets": [{"path": "a"}, {"path": "b"}, {"path": "c"}]}]}
        )
    await stored(fine, "a", store)
    await stored(fine[::2, ::2], "b", store)
    await stored(fine[::3, ::3], "c", store)  # no power of two
    async with client_of(create_app(store)) as client:
        for zoom in range(4):
            answer = await client.get(f"/api/tile/{zoom}/0/0.png?low=0&high=126&y=0&x=1&at=0,0&hide=none")
            exact = expected(fine[:: 2**zoom, :: 2**zoom], 0, 126)
            apart = np.abs(colours(answer).astype(int) - exact.astype(int)).max()
            assert apart <= (1 if zoom < 2 else 9), zoom  # level c holds every third element: up to two away, twice
