"""docs/interop.md has a table of what other libraries read of what we write; this test creates and checks it.

`WRITE_DOCS=1 pytest tests/docs/test_interop_table.py` writes the table again.
"""

from __future__ import annotations

import importlib.metadata
import os
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs

DOCUMENT = Path(__file__).parents[2] / "docs" / "interop.md"
CASES: dict[str, dict[str, Any]] = {
    "bool": {"dtype": "bool"},
    "integers, 8 to 64 bits": {"dtype": "int16"},
    "float16": {"dtype": "float16"},
    "float32, float64": {"dtype": "float64"},
    "complex64, complex128": {"dtype": "complex64"},
    "datetime64": {"dtype": "datetime64[s]"},
    "fixed bytes": {"dtype": "S4"},
    "fixed unicode": {"dtype": "U3"},
    "strings of any length": {"dtype": str},
    "raw": {"dtype": "int32", "compressor": None},
    "gzip": {"dtype": "int32", "compressor": "gzip"},
    "zstd": {"dtype": "int32", "compressor": "zstd"},
    "blosc": {"dtype": "int32", "compressor": "blosc"},
    "column-major chunks": {"dtype": "int32", "order": "F"},
    "shards": {"dtype": "int32", "shards": (4, 6)},
}
SHAPE, CHUNKS = (7, 10), (2, 3)


def zarr_python(where: Path, zarr_format: int) -> Any:
    import zarr

    return zarr.open_array(str(where), mode="r", zarr_format=zarr_format)[...]


def tensorstore(where: Path, zarr_format: int) -> Any:
    import tensorstore as ts

    driver = "zarr" if zarr_format == 2 else "zarr3"
    return ts.open({"driver": driver, "kvstore": {"driver": "file", "path": f"{where}/"}}).result().read().result()


READERS: dict[str, tuple[str, Callable[[Path, int], Any]]] = {
    "zarr-python": ("zarr", zarr_python),
    "tensorstore": ("tensorstore", tensorstore),
}


def installed() -> dict[str, str]:
    found = {}
    for name, (package, _) in READERS.items():
        try:
            found[name] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def reads(read: Callable[[Path, int], Any], where: Path, zarr_format: int, data: np.ndarray) -> bool:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            got = np.asarray(read(where, zarr_format))
        except Exception:  # any error of another library means that it cannot read this
            return False
    return bool(np.array_equal(got.astype(data.dtype), data))


async def table(folder: Path) -> list[str]:
    versions = installed()
    header = ["written by us", *(f"{name} {version}" for name, version in versions.items())]
    rows = ["| " + " | ".join(header) + " |", "|" + "---|" * len(header)]
    async with zs.Session() as session:
        for zarr_format in (2, 3):
            for number, (case, options) in enumerate(CASES.items()):
                if zarr_format == 2 and "shards" in options:
                    continue
                where = folder / f"{zarr_format}-{number}"
                array = await session.create_array(
                    f"file://{where}", shape=SHAPE, chunks=CHUNKS, zarr_format=zarr_format, **options
                )
                numbers = np.arange(1, 71).reshape(SHAPE) % 100
                data = numbers.astype("U3").astype(object) if options["dtype"] is str else numbers.astype(array.dtype)
                await array[...].set(data)
                answers = [reads(READERS[name][1], where, zarr_format, data) for name in versions]
                rows.append(f"| v{zarr_format}, {case} | " + " | ".join("yes" if a else "no" for a in answers) + " |")
    return rows


async def test_the_table_in_the_docs_matches_the_libraries(tmp_path: Path) -> None:
    rows = await table(tmp_path)
    if os.environ.get("WRITE_DOCS"):
        text, _, _ = DOCUMENT.read_text().partition("| written by us")
        DOCUMENT.write_text(text + "\n".join(rows) + "\n")
    assert all(row.split(" | ")[1].startswith("yes") for row in rows[2:]), "zarr-python reads everything"
    written = DOCUMENT.read_text().splitlines()
    if rows[0] not in written:
        pytest.skip("the table in the docs was made with other versions")
    assert written[written.index(rows[0]) :] == rows
