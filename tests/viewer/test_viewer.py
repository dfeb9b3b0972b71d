"""The viewer's HTTP interface: tiles compared with NumPy, caching, limits, errors, unusual arrays."""

from __future__ import annotations

import asyncio
import io
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest
from fastapi import FastAPI
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
