"""xarray's tests of Zarr backends over `ZarrStore`, and over zarr-python's MemoryStore for comparison."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

import pytest
import zarr
from xarray.tests.test_backends import ZarrBase

import zarr_s3_async as zs
from zarr_s3_async.adapters.zarr import ZarrStore

pytestmark = pytest.mark.filterwarnings("default")


class TestOurMemoryStore(ZarrBase):
    """`ZarrStore(zs.MemoryStore())`."""

    @contextlib.contextmanager
    def create_zarr_target(self) -> Iterator[Any]:
        yield ZarrStore(zs.MemoryStore())


class TestMemoryStoreOfZarrPython(ZarrBase):
    """`zarr.storage.MemoryStore`."""

    @contextlib.contextmanager
    def create_zarr_target(self) -> Iterator[Any]:
        yield zarr.storage.MemoryStore({}, read_only=False)


class TestOurS3Store(ZarrBase):
    """`ZarrStore("s3://…")` on SeaweedFS."""

    @pytest.fixture(autouse=True)
    def _server(self, seaweed: Any) -> None:
        self.server = seaweed

    @contextlib.contextmanager
    def create_zarr_target(self) -> Iterator[Any]:
        from secrets import token_hex

        yield ZarrStore(f"s3://{self.server.bucket}/{token_hex(6)}", s3=self.server.s3_config())
