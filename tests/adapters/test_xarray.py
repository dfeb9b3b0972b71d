"""The engine reads the same as xarray's own engine for any selection, and reads what `to_zarr` writes."""

from __future__ import annotations

import asyncio
import pickle
import tomllib
from importlib import import_module
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import zarr_s3_async as zs

xr = pytest.importorskip("xarray")
pytestmark = [
    pytest.mark.filterwarnings("ignore::UserWarning"),  # zarr-python warns about strings
    pytest.mark.filterwarnings("ignore::FutureWarning"),  # zarr-python warns about strings
]
from zarr_s3_async.adapters.xarray import Engine  # noqa: E402  # behind the skip
from zarr_s3_async.adapters.zarr import ZarrStore  # noqa: E402  # likewise

DATA = np.arange(6 * 20 * 30, dtype="f4").reshape(6, 20, 30)
DATA[1, 2, 3:9] = np.nan


def dataset() -> Any:
    return xr.Dataset(
        {
            "t": (("time", "lat", "lon"), DATA, {"units": "K"}),
            "packed": (("lat", "lon"), DATA[2] / 7, {}, {"dtype": "i2", "scale_factor": 0.5, "_FillValue": -9}),
            "name": (("lat",), np.array([f"row {n}" for n in range(20)])),
            "flag": ((), np.array(True)),
        },
        coords={"time": np.arange(6).astype("M8[D]").astype("M8[ns]"), "lat": np.linspace(-85, 85, 20)},
        attrs={"title": "all kinds"},
    )


@pytest.fixture(scope="module", params=["v3", "shards", "v2"])
def store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> ZarrStore:
    store = ZarrStore(tmp_path_factory.mktemp("x") / "data.zarr")
    encoding: dict[str, Any] = {"t": {"chunks": (1, 6, 10)}}
    if request.param == "shards":
        encoding = {"t": {"chunks": (1, 5, 5), "shards": (2, 10, 10)}}
    version = 2 if request.param == "v2" else 3
    dataset().to_zarr(store, mode="w", encoding=encoding, zarr_format=version, consolidated=False)
    return store


def test_the_engine_reads_the_same_as_xarrays_own_engine(store: ZarrStore) -> None:
    own = xr.open_dataset(store, engine=Engine, consolidated=False)
    theirs = xr.open_zarr(store, chunks=None, consolidated=False)
    assert "_Reader" in repr(own.t.variable._data)
    xr.testing.assert_identical(own.load(), theirs.load())
    assert own.t.encoding["chunks"] == theirs.t.encoding["chunks"]


def _some(size: int) -> st.SearchStrategy[slice]:
    """Slices without empty ones that go backwards: xarray itself fails for these, with any engine."""
    return st.slices(size).filter(lambda part: (part.step or 1) > 0 or len(range(*part.indices(size))) > 0)


_arrays = st.lists(st.integers(-20, 19), max_size=5).map(lambda found: np.array(found, dtype=int))


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture, *settings().suppress_health_check])
@given(lat=st.one_of(_some(20), _arrays, st.integers(-20, 19)), lon=st.one_of(_some(30), st.integers(-30, 29)))
def test_selections_equal_numpys(lat: Any, lon: Any, store: ZarrStore) -> None:
    own = xr.open_dataset(store, engine=Engine, consolidated=False, mask_and_scale=False).t
    assert np.array_equal(own.isel(lat=lat, lon=lon).values, DATA[:, lat][..., lon], equal_nan=True)
    assert np.array_equal(own[::-2].isel(lat=lat)[..., ::-1].values, DATA[::-2][:, lat][..., ::-1], equal_nan=True)


def test_the_engine_is_registered_by_its_name() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())["project"]
    module, _, name = project["entry-points"]["xarray.backends"]["zarr_s3"].partition(":")
    assert getattr(import_module(module), name) is Engine


def test_a_pointwise_selection_reads_only_its_points(store: ZarrStore) -> None:
    own = xr.open_dataset(store, engine=Engine, consolidated=False).t
    points = {
        "time": xr.DataArray([5, 0, 3], dims="p"),
        "lat": xr.DataArray([19, 0, 7], dims="p"),
        "lon": xr.DataArray([0, 29, 11], dims="p"),
    }
    assert np.array_equal(own.isel(points).values, DATA[[5, 0, 3], [19, 0, 7], [0, 29, 11]])
    del points["time"]
    assert np.array_equal(own.isel(points).values, DATA[:, [19, 0, 7], [0, 29, 11]])


async def test_load_async_reads_on_the_running_loop(store: ZarrStore) -> None:
    opened = await asyncio.to_thread(lambda: xr.open_dataset(store, engine=Engine, consolidated=False))
    loaded = await opened.t.isel(lat=slice(3, 9)).load_async()
    assert np.array_equal(loaded.values, DATA[:, 3:9], equal_nan=True)


def test_a_lazy_dataset_pickles(store: ZarrStore) -> None:
    own = xr.open_dataset(store, engine=Engine, consolidated=False)
    again = pickle.loads(pickle.dumps(own))
    xr.testing.assert_identical(again.load(), own.load())


def test_the_engine_opens_urls_stores_and_groups_with_options(tmp_path: Path) -> None:
    dataset().to_zarr(ZarrStore(tmp_path), group="a/b", mode="w", consolidated=False)
    for where in (tmp_path.as_uri(), zs.LocalStore(tmp_path), ZarrStore(tmp_path)):
        opened = xr.open_dataset(where, engine=Engine, group="a/b", consolidated=False)
        assert np.array_equal(opened.t.values, DATA, equal_nan=True)
    with pytest.raises(zs.ConfigError, match="regoin"):
        xr.open_dataset("s3://bucket/x", engine=Engine, options={"regoin": "x"})
    with pytest.raises(zs.ConfigError, match="options"):
        xr.open_dataset(ZarrStore(tmp_path), engine=Engine, group="a/b", options={"region": "x"})


def test_a_replaced_array_is_an_error(tmp_path: Path) -> None:
    store = ZarrStore(tmp_path)
    dataset().to_zarr(store, mode="w", consolidated=False)
    opened = xr.open_dataset(store, engine=Engine, consolidated=False)
    dataset().isel(lon=slice(0, 10)).to_zarr(store, mode="w", consolidated=False)
    with pytest.raises(zs.ConcurrentModification, match="open the dataset again"):
        opened.t.load()


def _tree() -> Any:
    one = dataset()
    return xr.DataTree.from_dict({"/": xr.Dataset(attrs={"title": "runs"}), "/a": one, "/b/c": one.isel(time=0)})


@pytest.mark.parametrize("consolidated", [True, False])
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_data_trees_equal_those_of_xarrays_own_engine(consolidated: bool, zarr_format: int, tmp_path: Path) -> None:
    store = ZarrStore(tmp_path / "t")
    _tree().to_zarr(store, mode="w", consolidated=consolidated, zarr_format=zarr_format)
    theirs = xr.open_datatree(store, engine="zarr", chunks=None, consolidated=consolidated)
    for where in (store, (tmp_path / "t").as_uri()):
        own = xr.open_datatree(where, engine=Engine, consolidated=consolidated)
        assert "_Reader" in repr(own["/b/c/t"].variable._data)
        xr.testing.assert_identical(own.load(), theirs.load())
    below = xr.open_datatree(store, engine=Engine, group="/b", consolidated=consolidated)
    assert np.array_equal(below["c/t"].values, DATA[0], equal_nan=True)
    groups = xr.open_groups(store, engine=Engine, consolidated=consolidated)
    assert sorted(groups) == ["/", "/a", "/b", "/b/c"]
    with pytest.raises(zs.ConfigError, match="options"):
        xr.open_datatree(store, engine=Engine, options={"region": "x"})


def test_a_lazy_tree_pickles_and_is_computed_by_dask(tmp_path: Path) -> None:
    store = ZarrStore(tmp_path)
    _tree().to_zarr(store, mode="w", consolidated=False)
    own = pickle.loads(pickle.dumps(xr.open_datatree(store, engine=Engine, consolidated=False, chunks={})))
    assert float(own["/a/t"].sum()) == float(np.nansum(DATA))


@pytest.mark.parametrize("encoding", [{"chunks": (1, 5, 5)}, {"chunks": (1, 5, 5), "shards": (2, 10, 10)}])
async def test_appended_and_region_writes_are_read_by_both_engines(encoding: Any, tmp_path: Path) -> None:
    store = ZarrStore(tmp_path)
    one = dataset().drop_vars(["name", "flag", "packed"])

    def write() -> None:
        one.to_zarr(store, mode="w", encoding={"t": encoding}, consolidated=False)
        later = one.assign_coords(time=one.time + np.timedelta64(6, "D"))
        later.to_zarr(store, append_dim="time", consolidated=False)
        part = (one.isel(time=slice(0, 2)) * 10).drop_vars(["lat"])
        part.to_zarr(store, region={"time": slice(6, 8)}, consolidated=False)

    await asyncio.to_thread(write)
    expected = np.concatenate([DATA, DATA[:2] * 10, DATA[2:]])
    for engine in ("zarr", Engine):
        opened = await asyncio.to_thread(
            lambda engine=engine: xr.open_dataset(store, engine=engine, chunks=None, consolidated=False)
        )
        loaded = await opened.load_async()
        assert np.array_equal(loaded.t.values, expected, equal_nan=True)
        assert loaded.time.size == 12
