"""examples/tiles: the computed landscape in the viewer, and the additional handler."""

from __future__ import annotations

import sys
from collections.abc import Iterator
from types import ModuleType

import httpx
import numpy as np
import pytest

import zarr_s3_async as zs

from .conftest import EXAMPLES


@pytest.fixture
def tiles(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    """The application as uvicorn imports it with --app-dir."""
    monkeypatch.syspath_prepend(str(EXAMPLES / "tiles"))
    import app

    yield app
    for name in ("app", "landscape"):
        sys.modules.pop(name, None)


async def test_the_tiles_example_shows_a_landscape_and_computes_means(tiles: ModuleType) -> None:
    import landscape

    app = tiles.create_app()
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://app") as client,
    ):
        described = (await client.get("/api/array?path=land")).json()
        tile = await client.get("/api/tile/7/0/0.png?path=land")
        deep = await client.get("/api/tile/0/200/150.png?path=land")
        value = (await client.get("/api/value?path=land&at=51300,38500")).json()["value"]
        mean = (await client.get("/mean?path=land/0&start=51000,38500&stop=51500,39000")).json()
        large = await client.get("/mean?path=land/0&start=0,0&stop=60000,60000")
    chunk = landscape.land(0, 102, 77)
    assert described["shape"] == [60_000, 60_000]
    assert len(described["levels"]) == 8
    assert (tile.status_code, deep.status_code, large.status_code) == (200, 200, 413)
    assert value == (chunk[300, 0] if np.isfinite(chunk[300, 0]) else "NaN")
    assert mean["elements"] == np.isfinite(chunk).sum()
    assert np.isclose(mean["mean"], np.nanmean(chunk))


async def test_levels_of_the_landscape_show_the_same_hills(tiles: ModuleType) -> None:
    import landscape

    async with zs.Session() as session:
        store = landscape.Landscape()
        fine = await session.open_array(store, path="land/3")
        coarse = await session.open_array(store, path="land/5")
        a, b = await fine[:2000:4, :2000:4], await coarse[:500, :500]
    both = np.isfinite(a) & np.isfinite(b)
    assert both.mean() > 0.5
    assert np.abs(a[both] - b[both]).mean() < 40  # metres, of 3,000: a coarse level lacks only small details
