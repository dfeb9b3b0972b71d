"""`verify` finds nothing in what zarr-python wrote and consolidated: its spellings and defaults are accepted."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import zarr

import zarr_s3_async as zs


def write(root: Path, zarr_format: Any) -> int:
    """Write a hierarchy with all features that both libraries have. Returns the number of nodes."""
    group = zarr.create_group(root, zarr_format=zarr_format, attributes={"title": "x", "nan": float("nan")})
    arrays: dict[str, dict[str, Any]] = {
        "plain": {"dtype": "f4"},
        "deep/raw": {"dtype": "<i2", "compressors": None},
        "deep/big": {"dtype": ">f8", "fill_value": float("nan")},
        "deep/er/bool": {"dtype": "bool", "attributes": {"units": "m", "list": [1, {"a": None}]}},
        "deep/er/complex": {"dtype": "c8", "fill_value": 1 + 2j},
    }
    if zarr_format == 3:
        arrays["sharded"] = {"dtype": "u2", "chunks": (2, 2), "shards": (4, 4), "dimension_names": ("y", "x")}
        arrays["dots"] = {"dtype": "u2", "chunk_key_encoding": {"name": "default", "separator": "."}}
        arrays["blosc"] = {"dtype": "i8", "compressors": zarr.codecs.BloscCodec(cname="lz4")}
        arrays["gzip"] = {"dtype": "i8", "compressors": zarr.codecs.GzipCodec(), "order": "F"}
    else:
        arrays["slashes"] = {"dtype": "u2", "chunk_key_encoding": {"name": "v2", "separator": "/"}}
        arrays["fortran"] = {"dtype": "u2", "order": "F"}
    for name, options in arrays.items():
        given = {"shape": (6, 7), "chunks": (4, 4), **options}
        array = group.create_array(name, **given)
        array[...] = np.arange(1, 43).reshape(6, 7).astype(given["dtype"])
    scalar = group.create_array("scalar", shape=(), dtype="f8")
    scalar[...] = 5
    group.create_array("empty", shape=(0, 3), chunks=(1, 3), dtype="f8")
    return len(arrays) + 5  # and the root, deep, deep/er and the last two


@pytest.mark.parametrize("consolidated", [False, True])
@pytest.mark.parametrize("zarr_format", [2, 3])
async def test_verify_finds_nothing_wrong_with_what_zarr_python_wrote(
    tmp_path: Path, zarr_format: Any, consolidated: bool
) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # zarr-python warns that consolidated metadata is not part of v3 yet
        nodes = write(tmp_path, zarr_format)
        if consolidated:
            zarr.consolidate_metadata(tmp_path, zarr_format=zarr_format)
    async with zs.Session() as session:
        report = await session.verify(tmp_path.as_uri(), strict=True)
    assert report.ok, str(report)
    assert report.findings == ()
    assert len(report.nodes) == nodes
    assert report.objects == sum(1 for path in tmp_path.rglob("*") if path.is_file())
