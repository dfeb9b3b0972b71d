"""The viewer's HTTP interface: tiles compared with NumPy, caching, limits, errors, unusual arrays."""

from __future__ import annotations

import asyncio
import io
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import ml_dtypes
import numpy as np
import pytest
from fastapi import FastAPI
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

import zarr_s3_async as zs
from zarr_s3_async.viewer import app as viewer_app
from zarr_s3_async.viewer import create_app, painting


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://localhost") as client,
    ):
        yield client


class Counted(zs.MemoryStore):
    """Counts reads of chunks, and can hold them back."""

    def __init__(self) -> None:
        super().__init__()
        self.chunks: list[str] = []
        self.gate: asyncio.Event | None = None
        self.waiting = 0
        self.error: Exception | None = None

    async def get(self, key: str, **options: Any) -> zs.Blob | None:
        if not key.endswith((".json", ".zarray", ".zattrs", ".zgroup", ".zmetadata")):
            self.chunks.append(key)
            if self.error is not None:
                raise self.error
            if self.gate is not None:
                self.waiting += 1
                try:
                    await self.gate.wait()
                finally:
                    self.waiting -= 1
        return await super().get(key, **options)


async def stored(data: Any, path: str = "array", store: Counted | None = None, **options: Any) -> Counted:
    store = store or Counted()
    data = np.asarray(data)
    chunks = tuple(min(7, max(1, n)) for n in data.shape)
    async with zs.Session() as session:
        given = {"shape": data.shape, "chunks": chunks, "dtype": data.dtype, **options}
        array = await session.create_array(store, path=path, **given)
        if data.size:
            await array.set_slice(data, start=(0,) * data.ndim)
    store.chunks.clear()
    return store


def colours(answer: httpx.Response) -> np.ndarray[Any, Any]:
    """The palette's entries in a PNG."""
    assert answer.status_code == 200, answer.text
    with Image.open(io.BytesIO(answer.content)) as image:
        assert image.mode == "P"
        return np.asarray(image)


def expected(plane: np.ndarray[Any, Any], low: float, high: float) -> np.ndarray[Any, Any]:
    """The palette entries for a plane of finite numbers, by plain arithmetic."""
    share = (plane.astype(np.longdouble) - low) / (np.longdouble(high) - low)
    return np.floor(np.clip(share, 0, 1) * 254 + np.longdouble(0.5)).astype(np.uint8)


def same(painted: np.ndarray[Any, Any], wanted: np.ndarray[Any, Any]) -> bool:
    """Whether both are equal, up to the rounding of a colour."""
    return painted.shape == wanted.shape and bool((np.abs(painted.astype(int) - wanted.astype(int)) <= 1).all())


# Tiles

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


# Levels


async def pyramid(form: str) -> tuple[Counted, list[np.ndarray[Any, Any]]]:
    """A group with three levels, whose elements are the number of their level."""
    sizes = [(90, 201), (45, 101), (23, 51)]
    levels = [np.full(size, number, "u1") for number, size in enumerate(sizes)]
    datasets = [
        {"path": str(n), "coordinateTransformations": [{"type": "scale", "scale": [0.5 * 2**n, 0.5 * 2**n]}]}
        for n in range(3)
    ]
    axes = [{"name": "y", "unit": "micrometer"}, {"name": "x", "unit": "micrometer"}]
    multiscales = [{"axes": axes, "datasets": datasets}]
    attributes: dict[str, Any] = {
        "0.4": {"multiscales": multiscales},
        "0.5": {"ome": {"version": "0.5", "multiscales": multiscales}},
        "layout": {"multiscales": {"layout": [{"asset": str(n)} for n in range(3)]}},
        "datasets": {"multiscales": [{"datasets": [{"path": str(n)} for n in range(3)], "type": "reduce"}]},
    }[form]
    store = Counted()
    async with zs.Session() as session:
        await session.create_group(store, attributes=attributes)
    for n, data in enumerate(levels):
        await stored(data, f"{n}/values" if form == "datasets" else str(n), store)
    return store, levels


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


# What a browser keeps


async def test_an_unchanged_tile_is_not_sent_twice_but_a_changed_one_is() -> None:
    store = await stored(np.arange(64, dtype="u1").reshape(8, 8))
    async with client_of(create_app(store, cache_policy="revalidate")) as client:
        address = "/api/tile/0/0/0.png?path=array&low=0&high=64"
        first = await client.get(address)
        known = {"If-None-Match": f'"other", W/{first.headers["etag"]}'}
        again = await client.get(address, headers=known)
        recoloured = await client.get(f"{address}&colors=magma", headers=known)
        async with zs.Session() as session:
            await (await session.open_array(store, path="array")).set_slice(np.uint8(60), (0, 0), (1, 1))
        changed = await client.get(address, headers=known)
    assert first.headers["cache-control"] == "no-cache"
    assert (again.status_code, again.content, again.headers["etag"]) == (304, b"", first.headers["etag"])
    assert (recoloured.status_code, changed.status_code) == (200, 200)
    assert changed.headers["etag"] != first.headers["etag"]
    assert colours(changed)[0, 0] == round(60 / 64 * 254)


@pytest.mark.parametrize(
    ("policy", "expected_text"),
    [
        ("immutable", "public, max-age=31536000, immutable"),
        (7, "max-age=7"),
        ("revalidate", "no-cache"),
        (None, "no-cache"),
    ],
)
async def test_browsers_keep_tiles_as_long_as_the_policy_specifies(policy: Any, expected_text: str) -> None:
    async with client_of(create_app(await stored(np.zeros((4, 4))), cache_policy=policy)) as client:
        answer = await client.get("/api/tile/0/0/0.png?path=array")
    assert answer.headers["cache-control"] == expected_text


async def test_a_tile_requested_again_reads_no_chunk() -> None:
    store = await stored(np.ones((20, 20), "f4"))
    async with client_of(create_app(store, cache_policy=60)) as client:
        for _ in range(3):
            await client.get("/api/tile/0/0/0.png?path=array&low=0&high=1")
        figures = (await client.get("/api/session")).json()
    assert len(store.chunks) == 9
    assert (figures["cache_hits"], figures["tiles"]) == (18, 3)


async def test_concurrent_requests_open_an_array_once_until_its_metadata_expires(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    store = await stored(np.ones((20, 20), "f4"))
    documents: list[str] = []
    get = store.get

    async def counted(key: str, **options: Any) -> Any:
        if key.endswith("zarr.json"):
            documents.append(key)
        return await get(key, **options)

    monkeypatch.setattr(store, "get", counted)
    address = "/api/tile/0/0/0.png?path=array&low=0&high=1"
    async with client_of(create_app(store, cache_policy=60)) as client:
        requested = []
        for _ in range(3):
            before = len(documents)
            answers = await asyncio.gather(*(client.get(address) for _ in range(50)))
            assert {answer.status_code for answer in answers} == {200}
            requested.append(len(documents) - before)
            if len(requested) == 2:
                monkeypatch.setattr(
                    "zarr_s3_async.viewer.sources._KEPT_SECONDS", -1.0
                )  # from now on everything is expired
    assert 2 <= requested[0] <= 4  # what it is, and its metadata
    assert requested[1] == 0
    assert 1 <= requested[2] <= 4  # what it is again


# Limits


async def test_few_tiles_are_started_in_one_iteration_of_the_loop(monkeypatch: pytest.MonkeyPatch) -> None:
    begun: list[int] = []
    iteration = 0
    parse = viewer_app._tile_query

    def counted(request: Any) -> Any:
        begun.append(iteration)
        return parse(request)

    monkeypatch.setattr(viewer_app, "_tile_query", counted)
    async with client_of(create_app(await stored(np.ones((8, 8))))) as client:
        asking = asyncio.gather(*(client.get("/api/tile/0/0/0.png?path=array&low=0&high=1") for _ in range(30)))
        while not asking.done():
            iteration += 1
            await asyncio.sleep(0)
    assert [answer.status_code for answer in asking.result()] == [200] * 30
    assert len(begun) == 30
    assert max(begun.count(number) for number in set(begun)) == viewer_app._TILES_PER_TURN


async def test_a_tile_of_too_many_chunks_is_refused_or_reads_fewer_chunks() -> None:
    data = np.random.default_rng(0).integers(0, 255, (512, 512)).astype("u1")
    store = await stored(data, chunks=(16, 16), compressor={"id": "zlib"}, zarr_format=2)
    async with client_of(create_app(store, max_tile_bytes=8192)) as client:  # 32 chunks, and 8 of a thin tile
        refused = await client.get("/api/tile/1/0/0.png?path=array&low=0&high=255")
        n_refused = len(store.chunks)
        thin = await client.get("/api/tile/1/0/0.png?path=array&low=0&high=255&thin=1")
    assert (refused.status_code, n_refused) == (413, 0)
    assert "zoom in" in refused.json()["detail"]
    assert refused.json()["type"] == "urn:zarr-s3-async:tile-too-large"
    assert 1 <= len(store.chunks) <= 8
    assert thin.headers["x-skipped-chunks"] == f"{1024 - len(store.chunks)}/1024"
    assert colours(thin).shape == (256, 256)
    assert np.isin(colours(thin), painting.paint(data, None, painting.Stretch(0, 255))).all()


async def test_only_the_needed_ranges_of_large_raw_chunks_count_against_the_limit() -> None:
    data = np.arange(2**22, dtype="u4").reshape(2048, 2048)
    store = await stored(data, chunks=(2048, 2048), compressor=None)
    async with client_of(create_app(store, max_tile_bytes=2**23)) as client:
        answer = await client.get("/api/tile/0/1/1.png?path=array&low=0&high=4194303")
    assert same(colours(answer), expected(data[256:512, 256:512], 0, 2**22 - 1))


async def test_a_slice_is_limited_and_has_three_formats() -> None:
    data = np.arange(120 * 100, dtype="f8").reshape(120, 100)
    data[0, 0] = np.nan
    async with client_of(create_app(await stored(data), max_slice_bytes=80_000)) as client:
        whole, part = "start=0,0&stop=120,100", "start=0,0&stop=3,4&step=2,1"
        refused = [
            await client.get(f"/api/slice?path=array&format={form}&{whole}") for form in ("npy", "bytes", "json")
        ]
        npy, raw, text = [
            await client.get(f"/api/slice?path=array&format={form}&{part}") for form in ("npy", "bytes", "json")
        ]
    assert [answer.status_code for answer in refused] == [413, 413, 413]
    assert np.array_equal(np.load(io.BytesIO(npy.content)), data[:3:2, :4], equal_nan=True)
    assert raw.content == data[:3:2, :4].tobytes()
    assert text.json() == {"shape": [2, 4], "dtype": "float64", "values": [["NaN", 1, 2, 3], [200, 201, 202, 203]]}


# Errors


@pytest.mark.parametrize(
    ("address", "status"),
    [
        ("tile/0/-1/0.png?path=array", 416),
        ("tile/0/1/0.png?path=array", 416),
        ("tile/0/99999999999999999999999999/0.png?path=array", 422),
        ("tile/62/0/0.png?path=array", 200),
        ("tile/63/0/0.png?path=array", 422),
        ("tile/-1/0/0.png?path=array", 422),
        ("tile/0,0,0/0/0.png?path=array", 422),
        ("tile/x/0/0.png?path=array", 422),
        ("tile/0/y/0.png?path=array", 422),
        ("tile/0/0/0.png?path=array&colors=jet", 422),
        ("tile/0/0/0.png?path=array&low=nan&high=1", 422),
        ("tile/0/0/0.png?path=array&low=2&high=1", 422),
        ("tile/0/0/0.png?path=array&low=1", 422),
        ("tile/0/0/0.png?path=array&low=1&high=inf", 422),
        ("tile/0/0/0.png?path=array&y=0&x=0&at=0,0", 416),
        ("tile/0/0/0.png?path=array&y=0&x=5&at=0,0", 416),
        ("tile/0/0/0.png?path=array&y=0&x=1&at=0", 416),
        ("tile/0/0/0.png?path=array&y=0&x=none&at=0,99", 416),
        ("tile/0/0/0.png?path=array&y=0&x=none&at=0,-1", 416),
        ("tile/0/0/0.png?path=array&y=zero&x=1&at=0,0", 422),
        ("tile/0/0/0.png?path=array&part=both", 422),
        ("tile/0/0/0.png?path=nothing", 404),
        ("tile/0/0/0.png?path=", 404),
        ("tile/0/0/0.png?path=../array", 422),
        ("value?path=array&at=8,0", 416),
        ("value?path=array&at=0", 416),
        ("value?path=array&at=-1,0", 416),
        ("slice?path=array&start=0,0&stop=9,9", 416),
        ("slice?path=array&start=0&stop=1", 416),
        ("slice?path=array&start=0&stop=1&format=json", 416),
        ("array?path=nothing", 404),
        ("nodes?path=nothing", 404),
        ("nothing", 404),
    ],
)
async def test_an_invalid_request_gets_a_problem_document(address: str, status: int) -> None:
    async with client_of(create_app(await stored(np.zeros((8, 8))))) as client:
        answer = await client.get(f"/api/{address}")
    assert answer.status_code == status, answer.text
    if status != 200:
        assert answer.headers["content-type"] == "application/problem+json"
        assert answer.json()["status"] == status
        assert answer.json()["detail"]


@pytest.mark.parametrize("details", [True, False])
async def test_errors_of_a_store_are_shown_only_with_details(details: bool) -> None:
    store = await stored(np.zeros((8, 8)))
    async with client_of(create_app(store, details=details)) as client:
        await client.get("/api/array?path=array")
        store.error = zs.AccessDenied("secret-bucket/key is not for you")
        denied = await client.get("/api/tile/0/0/0.png?path=array")
        store.error = RuntimeError("secret-bucket is a defect")
        broken = await client.get("/api/tile/0/0/0.png?path=array")
        store.error = None
        mended = await client.get("/api/tile/0/0/0.png?path=array")
    assert (denied.status_code, broken.status_code, mended.status_code) == (403, 500, 200)
    assert ("secret-bucket" in denied.text) is details
    assert "secret-bucket" not in broken.text
    assert broken.headers["content-type"] == "application/problem+json"


async def test_a_request_with_a_foreign_host_name_is_refused() -> None:
    async with client_of(create_app(await stored(np.zeros((8, 8))), hosts=["localhost"])) as client:
        here = await client.get("/api/array?path=array")
        there = await client.get("/api/array?path=array", headers={"Host": "evil.example"})
    assert (here.status_code, there.status_code) == (200, 400)
    assert "access-control-allow-origin" not in here.headers


@pytest.mark.parametrize(
    ("wrong", "expected_text"),
    [
        ({"cache_polcy": 3}, "cache_polcy.*write cache_policy="),
        ({"hosts": "localhost"}, r"write hosts=\['localhost'\]"),  # a text would be read as nine names of one letter
        ({"details": "no"}, "details must be True or False"),
    ],
)
def test_the_error_of_a_wrong_option_names_the_right_one(wrong: dict[str, Any], expected_text: str) -> None:
    with pytest.raises(zs.ConfigError, match=expected_text):
        create_app("memory://x", **wrong)


@pytest.mark.parametrize("where", [3, None, b"s3://a", object(), "data", "s3:/bucket", "ftp://host/data"])
def test_an_impossible_location_is_refused_before_the_application_runs(where: Any) -> None:
    with pytest.raises(zs.ConfigError):
        create_app(where)


async def test_every_kind_of_location_is_accepted(tmp_path: Path) -> None:
    async with zs.Session() as session:
        array = await session.create_array(tmp_path.as_uri(), shape=(8, 8), chunks=(8, 8), dtype="u1")
    for where in (tmp_path, tmp_path.as_uri(), array.ref, zs.LocalStore(tmp_path)):
        async with client_of(create_app(where)) as client:
            assert (await client.get("/api/array")).json()["shape"] == [8, 8]


async def test_text_in_addresses_of_clients_is_not_kept_in_memory(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zarr_s3_async.viewer.app._KEPT_COORDINATES", 3)
    monkeypatch.setattr("zarr_s3_async.viewer.app._KEPT_STATISTICS", 3)
    monkeypatch.setattr("zarr_s3_async.viewer.sources._MAX_KEPT", 2)
    viewers: list[Any] = []
    made = viewer_app._Viewer.__init__

    def remembered(viewer: Any, *arguments: Any, **options: Any) -> None:
        viewers.append(viewer)
        made(viewer, *arguments, **options)

    monkeypatch.setattr(viewer_app._Viewer, "__init__", remembered)
    store = Counted()
    for name in "abcd":
        await stored(np.ones((8, 8)), path=name, store=store)
    async with client_of(create_app(store)) as client:
        for slashes in range(5):
            for name in "abcd":
                for address in ("value?at=0,0&", "array?", "statistics?"):
                    answer = await client.get(f"/api/{address}path={name}{'/' * slashes}")
                    assert answer.status_code == 200
        refused = await client.get("/api/array?path=a&variable=b")
    (viewer,) = viewers
    assert len(viewer._coordinates) == len(viewer._statistics) == 3
    assert set(viewer._sources._known) == {("c", ""), ("d", "")}
    assert (refused.status_code, refused.json()["type"]) == (416, "urn:zarr-s3-async:selection-error")


def test_options_are_checked_before_the_application_runs() -> None:
    for wrong in (
        {"max_tile_bytes": 0},
        {"max_slice_bytes": 1.5},
        {"timeout": -1},
        {"no_such_option": 1},
        {"cache_policy": "ever"},
    ):
        with pytest.raises((zs.ConfigError, TypeError)):
            create_app("memory://x", **wrong)


# Clients that disconnect


async def test_the_reads_of_a_tile_end_when_its_client_disconnects() -> None:
    store = await stored(np.zeros((32, 32)), chunks=(8, 8))
    app = create_app(store)
    async with app.router.lifespan_context(app):
        store.gate = asyncio.Event()
        gone = asyncio.Event()
        sent: list[Any] = []

        async def receive() -> dict[str, Any]:
            if not sent_request:
                sent_request.append(1)
                return {"type": "http.request", "body": b"", "more_body": False}
            await gone.wait()
            return {"type": "http.disconnect"}

        sent_request: list[int] = []
        scope = {
            "type": "http", "asgi": {"version": "3.0"}, "http_version": "1.1", "method": "GET", "scheme": "http",
            "path": "/api/tile/0/0/0.png", "raw_path": b"", "query_string": b"path=array&low=0&high=1", "root_path": "",
            "headers": [(b"host", b"localhost")], "client": ("127.0.0.1", 1), "server": ("127.0.0.1", 80), "state": {},
        }  # fmt: skip

        async def send(message: Any) -> None:
            sent.append(message)

        serving = asyncio.ensure_future(app(scope, receive, send))
        async with asyncio.timeout(20):
            while store.waiting < 16:
                await asyncio.sleep(0)
            gone.set()
            await serving
            while store.waiting:
                await asyncio.sleep(0)
        assert sent == []
        assert app.state.zarr_s3_async_session.usage.bytes == 0


# Members, values and files


async def test_the_members_of_a_group_are_listed_with_their_kinds() -> None:
    store, _ = await pyramid("0.5")
    async with zs.Session() as session:
        inner = await session.create_group(store, path="inner")
        await inner.create_group("deeper")
        await store.put("broken/zarr.json", b'{"zarr_format": 3, "node_type": "array"}')
    async with client_of(create_app(store)) as client:
        root = (await client.get("/api/nodes")).json()
        below = (await client.get("/api/nodes?path=inner")).json()
        array = (await client.get("/api/nodes?path=0")).json()
    assert root["kind"] == "multiscale"
    assert [(m["name"], m["kind"]) for m in root["members"]] == [
        ("0", "array"), ("1", "array"), ("2", "array"), ("broken", "unreadable"), ("inner", "group"),
    ]  # fmt: skip
    assert below["members"] == [{"name": "deeper", "kind": "group"}]
    assert (array["kind"], array["members"]) == ("array", [])


async def test_a_value_has_the_coordinates_of_the_store() -> None:
    store, _ = await pyramid("0.5")
    plain = await stored(np.zeros((3, 4)), dimension_names=("lat", "lon"))
    await stored(np.array([10.0, 20.0, 30.0]), "lat", plain, attributes={"units": "degrees_north"})
    async with client_of(create_app(store)) as client:
        ome = (await client.get("/api/value?path=&at=4,6")).json()
    async with client_of(create_app(plain)) as client:
        xarray = (await client.get("/api/value?path=array&at=1,2")).json()
    assert ome["coordinates"] == ["2 micrometer", "3 micrometer"]
    assert xarray["coordinates"] == ["20 degrees_north", None]


async def test_the_page_its_files_and_the_figures_are_served() -> None:
    async with client_of(create_app(await stored(np.zeros((8, 8))))) as client:
        for name, kind in (("", "text/html"), ("page.js", "text/javascript"), ("page.css", "text/css")):
            answer = await client.get(f"/{name}")
            assert answer.status_code == 200
            assert answer.headers["content-type"].startswith(kind)
            known = await client.get(f"/{name}", headers={"If-None-Match": answer.headers["etag"]})
            assert known.status_code == 304
            assert "https://" not in answer.text
        health = await client.get("/health")
        metrics = await client.get("/metrics")
        maps = (await client.get("/api/colors")).json()
    assert health.json() == {"status": "ok"}
    assert "zarr_s3_requests_in_flight 0.0" in metrics.text
    assert set(maps) == set(painting.COLOR_MAPS)
    assert {len(table) for table in maps.values()} == {255 * 6}
