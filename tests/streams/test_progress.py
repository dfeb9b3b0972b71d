"""Progress: values for a callback, and progress bars by name."""

from __future__ import annotations

import sys
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async.streams.progress import metered


def test_the_rate_and_the_remaining_time_are_computed_from_the_units_done() -> None:
    progress = zs.Progress(done=2, total=10, bytes=4000, seconds=2.0)
    assert progress.rate == 2000
    assert progress.left == 8
    assert zs.Progress(done=0, total=10, bytes=0, seconds=1.0).left is None
    assert zs.Progress(done=0, total=0, bytes=0, seconds=0.0).rate == 0


def test_a_callback_is_called_after_every_unit() -> None:
    reports: list[tuple[int, int]] = []
    with metered(lambda progress: reports.append((progress.done, progress.bytes)), 3, "copy") as meter:
        meter.add(1, 10)
        meter.add(2, 5)
    assert reports == [(1, 10), (3, 15)]


@pytest.mark.parametrize("library", ["rich", "tqdm"])
async def test_a_progress_bar_is_chosen_by_its_name(library: Any, capfd: pytest.CaptureFixture[str]) -> None:
    pytest.importorskip(library)
    async with zs.Session() as session:
        array = await session.create_array(zs.MemoryStore(), shape=8, chunks=2, dtype="i4")
        await array[...].set(np.arange(8))
        await zs.copy(array, zs.MemoryStore(), progress=library)
    shown = "".join(capfd.readouterr())
    assert "copy" in shown
    assert "4/4" in shown


@pytest.mark.parametrize(("library", "install"), [("rich", "zarr-s3-async\\[cli\\]"), ("tqdm", "pip install tqdm")])
async def test_a_missing_library_is_reported_before_anything_is_done(
    library: Any, install: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, library, None)
    monkeypatch.setitem(sys.modules, f"{library}.progress", None)
    store = zs.MemoryStore()
    async with zs.Session() as session:
        array = await session.create_array(zs.MemoryStore(), shape=8, chunks=2, dtype="i4")
        with pytest.raises(zs.ConfigError, match=install):
            await zs.copy(array, store, progress=library)
        assert not [entry async for entry in store.list_prefix()]
        with pytest.raises(zs.ConfigError, match=install):
            await array.stream(progress=library).__aenter__()
