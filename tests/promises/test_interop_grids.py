"""Chunks and shards of differing shapes: zarr-python and zarrista read what we write, and we read what they write."""

from __future__ import annotations

import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs

SHAPE = (12, 9)
DATA = np.arange(1, 109, dtype="i4").reshape(SHAPE)
GRIDS: dict[str, dict[str, Any]] = {
    "chunks": {"chunks": [[3, 2, 7], [4, 4, 1]]},
    "runs": {"chunks": [[2, 2, 2, 2, 3, 1], 4]},
    "shards": {"chunks": (2, 3), "shards": [[4, 6, 2], [6, 3]]},
}
EACH = pytest.mark.parametrize("grid", GRIDS)


@pytest.fixture
def zarr() -> Iterator[Any]:
    zarr = pytest.importorskip("zarr")
    try:
        setting = zarr.config.set({"array.rectilinear_chunks": True})
        zarr.create_array({}, shape=(3,), chunks=[[1, 2]], dtype="i4")
    except Exception as error:  # older releases reject lists with errors of various types
        pytest.skip(f"this zarr-python has no rectilinear grids: {error}")
    with warnings.catch_warnings(), setting:
        warnings.simplefilter("ignore")
        yield zarr


@EACH
async def test_zarr_python_reads_and_resizes_our_arrays(zarr: Any, tmp_path: Path, grid: str) -> None:
    async with zs.Session() as session:
        array = await session.create_array(f"file://{tmp_path}", shape=SHAPE, dtype="i4", **GRIDS[grid])
        await array[...].set(DATA)
        await array.append(DATA[:4])
        theirs = zarr.open_array(str(tmp_path), mode="r+")
        np.testing.assert_array_equal(theirs[...], np.concatenate([DATA, DATA[:4]]))
        theirs[2:11, 3:8] = -1
        theirs.resize((20, 9))
        await array.refresh()
        assert array.shape == (20, 9)
        expected = np.zeros((20, 9), "i4")
        expected[:16] = np.concatenate([DATA, DATA[:4]])
        expected[2:11, 3:8] = -1
        np.testing.assert_array_equal(await array[...], expected)
        assert (await array.verify()).ok


@EACH
async def test_we_read_and_change_arrays_of_zarr_python(zarr: Any, tmp_path: Path, grid: str) -> None:
    theirs = zarr.create_array(str(tmp_path), shape=SHAPE, dtype="i4", **GRIDS[grid])
    theirs[...] = DATA
    async with zs.Session() as session:
        array = await session.open_array(f"file://{tmp_path}")
        np.testing.assert_array_equal(await array[...], DATA)
        np.testing.assert_array_equal(await array.oindex[[11, 0, 5], ::-2], DATA[[11, 0, 5]][:, ::-2])
        await array[1:10, 2:9].set(7)
        await array.resize((8, 9))
        await array.append(DATA[:6])
        assert (await array.verify()).ok
    changed = DATA[:8].copy()
    changed[1:10, 2:9] = 7
    np.testing.assert_array_equal(zarr.open_array(str(tmp_path), mode="r")[...], np.concatenate([changed, DATA[:6]]))


@pytest.fixture
def zarrista() -> Any:
    return pytest.importorskip("zarrista")


def their_grid(zarrista: Any, grid: str) -> tuple[Any, tuple[int, ...] | None]:
    """zarrista's equivalent of the options: the grid of stored objects, and the shape of chunks inside shards."""
    options = GRIDS.get(grid)
    if options is None:
        return zarrista.ChunkGrid.regular_bounded(SHAPE, chunk_shape=(5, 4)), None
    objects = zarrista.ChunkGrid.rectilinear(SHAPE, chunk_shapes=options.get("shards", options["chunks"]))
    return objects, options["chunks"] if "shards" in options else None


def open_with_zarrista(zarrista: Any, where: Path) -> Any:
    return zarrista.Array.open(zarrista.store.FilesystemStore(str(where)))


@EACH
async def test_zarrista_reads_and_changes_our_arrays(zarrista: Any, tmp_path: Path, grid: str) -> None:
    async with zs.Session() as session:
        array = await session.create_array(f"file://{tmp_path}", shape=SHAPE, dtype="i4", **GRIDS[grid])
        await array[...].set(DATA)
        await array.append(DATA[:4])
        expected = np.concatenate([DATA, DATA[:4]])
        theirs = open_with_zarrista(zarrista, tmp_path)
        np.testing.assert_array_equal(np.asarray(theirs.retrieve_array_subset(np.s_[:, :])), expected)
        expected[2:14, 3:8] = -1
        theirs.store_array_subset(np.s_[2:14, 3:8], np.full((12, 5), -1, "i4"))
        np.testing.assert_array_equal(await (await session.open_array(f"file://{tmp_path}"))[...], expected)


@pytest.mark.parametrize("grid", [*GRIDS, "bounded"])
async def test_we_read_and_change_arrays_of_zarrista(zarrista: Any, tmp_path: Path, grid: str) -> None:
    objects, inner = their_grid(zarrista, grid)
    builder = zarrista.ArrayBuilder(objects, zarrista.DataType.from_string("int32"), zarrista.FillValue(bytes(4)))
    theirs = builder.subchunk_shape(inner).create(zarrista.store.FilesystemStore(str(tmp_path)), "/")
    theirs.store_array_subset(np.s_[:, :], DATA)
    async with zs.Session() as session:
        array = await session.open_array(f"file://{tmp_path}")
        np.testing.assert_array_equal(await array[...], DATA)
        np.testing.assert_array_equal(await array.vindex[[11, 0, 5], [8, 0, 4]], DATA[[11, 0, 5], [8, 0, 4]])
        await array[1:12, 2:9].set(7)
        assert (await array.verify()).ok
    changed = DATA.copy()
    changed[1:12, 2:9] = 7
    np.testing.assert_array_equal(
        np.asarray(open_with_zarrista(zarrista, tmp_path).retrieve_array_subset(np.s_[:, :])), changed
    )
