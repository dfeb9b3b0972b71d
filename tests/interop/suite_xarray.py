"""xarray's tests of Zarr backends over `ZarrStore`, and over zarr-python's MemoryStore for comparison."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from secrets import token_hex
from typing import Any

import pytest
import zarr
from xarray.tests.conftest import time_unit, use_dask
from xarray.tests.test_backends import ZarrBase, default_zarr_format, skip_if_zarr_format_2, skip_if_zarr_format_3

from zarr_s3_async.adapters.zarr import ZarrStore

FIXTURES = (default_zarr_format, skip_if_zarr_format_2, skip_if_zarr_format_3, time_unit, use_dask)
"""Fixtures of xarray that its tests use by name."""
pytestmark = pytest.mark.filterwarnings("default")


class TestOurLocalStore(ZarrBase):
    """`ZarrStore("file://…")`."""

    @pytest.fixture(autouse=True)
    def _folder(self, tmp_path: Path) -> None:
        self.folder = tmp_path

    @contextlib.contextmanager
    def create_zarr_target(self) -> Iterator[Any]:
        yield ZarrStore(self.folder / token_hex(6))


class TestMemoryStoreOfZarrPython(ZarrBase):
    """`zarr.storage.MemoryStore`."""

    @contextlib.contextmanager
    def create_zarr_target(self) -> Iterator[Any]:
        yield zarr.storage.MemoryStore({}, read_only=False)


class TestOurS3Store(ZarrBase):
    """`ZarrStore("s3://…")` on SeaweedFS."""

    @pytest.fixture(autouse=True)
    def _server(self, seaweed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
        self.server = seaweed
        config = seaweed.s3_config()
        # The process that unpickles a store has its own keys.
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", config.access_key_id)
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", config.secret_access_key)

    @contextlib.contextmanager
    def create_zarr_target(self) -> Iterator[Any]:
        yield ZarrStore(f"s3://{self.server.bucket}/{token_hex(6)}", s3=self.server.s3_config())
