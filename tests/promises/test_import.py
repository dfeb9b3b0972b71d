"""`import zarr_s3_async` is fast: slow modules are imported on first use."""

from __future__ import annotations

import ast
import subprocess
import sys
from pathlib import Path

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
    "importlib.metadata",  # 10 ms: needed only for third-party stores and codecs
    "anyio",
)
NOT_TO_READ = (
    "_engine.consistent",
    "_engine.creation",
    "_engine.encoded",
    "_engine.explain",
    "_engine.hierarchy",
    "_engine.removal",
    "_engine.write",
    "_group",
    "_stored",
    "_verify",
    "codecs.cast",
    "codecs.filters",
    "codecs.vlen",
    "loader",
    "stores.local",
    "stores.s3.listing_document",
    "stores.s3.sdk.transport",
    "streams",
)
"""Modules that opening and reading an array does without: each takes 0.2 to 1 ms of a new process."""


def test_nothing_heavy_is_imported() -> None:
    code = f"import sys, zarr_s3_async; print([m for m in {HEAVY!r} if m in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_a_process_that_only_reads_loads_no_modules_for_other_tasks() -> None:
    code = """
import asyncio, sys
import zarr_s3_async as zs

async def main():
    await zs.open_array("s3://bucket/key", endpoint_url="http://127.0.0.1:1", anonymous=True)

try:
    asyncio.run(asyncio.wait_for(main(), 0.5))
except (zs.ZarrS3Error, TimeoutError):
    pass
"""
    code += f"print([m for m in {NOT_TO_READ!r} if f'zarr_s3_async.{{m}}' in sys.modules])"
    assert subprocess.check_output([sys.executable, "-c", code], text=True).strip() == "[]"


def test_names_that_are_imported_lazily_are_declared_for_type_checkers() -> None:
    import zarr_s3_async as zs

    tree = ast.parse(Path(zs.__file__).read_text())
    (block,) = (node for node in tree.body if isinstance(node, ast.If))
    declared = {
        alias.name: node.module for node in block.body if isinstance(node, ast.ImportFrom) for alias in node.names
    }
    assert declared == {**zs._LAZY, **dict.fromkeys(zs._MODULES)}
    assert {*zs.__all__, *zs._MODULES} <= set(dir(zs))


def test_the_public_names_are_sorted_and_all_exist() -> None:
    import zarr_s3_async as zs

    assert all(hasattr(zs, name) for name in zs.__all__)  # some are imported on first access
    public = sorted(name for name in vars(zs) if not name.startswith("_") and type(vars(zs)[name]).__name__ != "module")
    assert zs.__all__ == sorted(zs.__all__)
    assert set(zs.__all__) == set(public) | {"__version__"}
