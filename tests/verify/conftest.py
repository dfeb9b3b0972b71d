"""The store that holds what is verified."""

from __future__ import annotations

import pytest

import zarr_s3_async as zs


@pytest.fixture
def store() -> zs.MemoryStore:
    return zs.MemoryStore("v")
