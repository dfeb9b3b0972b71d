"""`import zarr_s3_async` is light: what is heavy loads on first use."""

from __future__ import annotations

import subprocess
import sys

HEAVY = (
    "aiobotocore",
    "botocore",
    "aiohttp",
    "numcodecs",
    "typer",
    "rich",
    "hypothesis",
    "pytest",
    "moto",
    "zarr",
    "importlib.metadata",  # 10 ms: for the stores and codecs of others alone
)


def test_nothing_heavy_is_imported() -> None:
    code = f"import sys, zarr_s3_async; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_the_public_names_are_sorted_and_all_there() -> None:
    import zarr_s3_async as zs

    assert all(hasattr(zs, name) for name in zs.__all__)  # some are imported when they are first asked for
    public = sorted(name for name in vars(zs) if not name.startswith("_") and type(vars(zs)[name]).__name__ != "module")
    assert zs.__all__ == sorted(zs.__all__)
    assert set(zs.__all__) == set(public) | {"__version__"}
