"""Only `python -m tests.interop` collects the tests of this folder."""

from __future__ import annotations

import os

import pytest

ASKED = "ZARR_S3_INTEROP"

if ASKED not in os.environ:
    collect_ignore_glob = ["suite_*.py"]


def pytest_configure(config: pytest.Config) -> None:
    """Register the markers of xarray's tests."""
    for marker in (
        "flaky",
        "network",
        "slow_hypothesis",
        "mypy",
        "skip_if_param",
        "skip_with_dask_array",
        "xfail_with_dask_array",
    ):
        config.addinivalue_line("markers", f"{marker}: of xarray's tests")
