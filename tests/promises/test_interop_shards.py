"""zarr-python and tensorstore read the shards that we write, and we read theirs: every index, nesting and wrapping."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs

SHAPE, SHARD = (13, 20), (8, 12)
LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
CRC = {"name": "crc32c"}
ZSTD = {"name": "zstd", "configuration": {"level": 1, "checksum": False}}
GZIP = {"name": "gzip", "configuration": {"level": 1}}
TRANSPOSE = {"name": "transpose", "configuration": {"order": [1, 0]}}
DATA = np.random.default_rng(7).integers(1, 1000, SHAPE).astype("i4")


def sharding(chunk: list[int], codecs: list[Any], index: list[Any], location: str) -> dict[str, Any]:
    configuration = {"chunk_shape": chunk, "codecs": codecs, "index_codecs": index, "index_location": location}
    return {"name": "sharding_indexed", "configuration": configuration}


CHAINS: dict[str, list[Any]] = {
    f"{location}-{'crc32c' if CRC in index else 'bare'}-{name}": [sharding([2, 3], inner, index, location)]
    for location, index, (name, inner) in itertools.product(
        ("start", "end"),
        ([LITTLE], [LITTLE, CRC]),
        {"raw": [LITTLE], "zstd": [LITTLE, ZSTD], "all": [TRANSPOSE, LITTLE, GZIP, CRC]}.items(),
    )
}
INNER = sharding([2, 3], [LITTLE, ZSTD], [LITTLE, CRC], "end")
CHAINS["nested"] = [sharding([4, 6], [INNER], [LITTLE, CRC], "start")]
CHAINS["compressed-around"] = [INNER, ZSTD]
CHAINS["summed-around"] = [INNER, CRC]
CHAINS["transposed-around"] = [TRANSPOSE, sharding([4, 4], [LITTLE, ZSTD], [LITTLE], "end")]


def with_zarr_python(where: Path) -> Any:
    zarr = pytest.importorskip("zarr")
    return zarr.open_array(str(where), mode="r+")


class TensorStore:
    """A tensorstore array with NumPy-style indexing."""

    def __init__(self, where: Path) -> None:
        tensorstore = pytest.importorskip("tensorstore")
        kvstore = {"driver": "file", "path": f"{where}/"}
        self._array = tensorstore.open({"driver": "zarr3", "kvstore": kvstore}).result()

    def __getitem__(self, selection: Any) -> Any:
        return self._array[selection].read().result()

    def __setitem__(self, selection: Any, values: Any) -> None:
        self._array[selection].write(values).result()


LIBRARIES: dict[str, Callable[[Path], Any]] = {"zarr-python": with_zarr_python, "tensorstore": TensorStore}


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        warnings.filterwarnings("ignore", category=RuntimeWarning)
        yield


def _version_of(package: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version(package).split(".")[:3])


REFUSED = {("tensorstore", "compressed-around"), ("tensorstore", "summed-around")}
"""tensorstore opens no shard that is itself compressed or has a checksum of its own."""


@pytest.mark.parametrize(("library", "chain"), [c for c in itertools.product(LIBRARIES, CHAINS) if c not in REFUSED])
async def test_we_and_another_library_read_and_write_each_others_shards(
    library: str, chain: str, tmp_path: Path
) -> None:
    if (library, chain) == ("zarr-python", "nested") and _version_of("zarr") < (3, 1, 6):
        pytest.skip("this zarr-python reads no part of a shard within a shard")
    expected = np.zeros(SHAPE, "i4")
    async with zs.Session() as session:
        ours = await session.create_array(
            f"file://{tmp_path}/a", shape=SHAPE, chunks=SHARD, dtype="i4", codecs=CHAINS[chain]
        )
        theirs = LIBRARIES[library](tmp_path / "a")
        # Each library writes next to, into and over what the other wrote: whole shards and parts.
        steps = [np.s_[0:8, 0:12], np.s_[5:11, 9:15], np.s_[8:13, 12:20], np.s_[0:2, 0:3], np.s_[1:12, 1:19]]
        for number, region in enumerate(steps):
            values = DATA[region] * (number + 1)
            if number % 2:
                theirs[region] = values
            else:
                await ours[region].set(values)
            expected[region] = values
            np.testing.assert_array_equal(await (await ours.refresh())[...], expected)
            np.testing.assert_array_equal(np.asarray(theirs[...]), expected)
        await ours.set_slice(np.zeros((8, 12), "i4"), (0, 0))
        expected[0:8, 0:12] = 0
        np.testing.assert_array_equal(np.asarray(LIBRARIES[library](tmp_path / "a")[...]), expected)
        np.testing.assert_array_equal(await ours[2:9:3, ::-2], expected[2:9:3, ::-2])
