"""zarr-python and tensorstore read the v3 arrays that we write, and we read theirs: every dtype, codec and spelling."""

from __future__ import annotations

import itertools
import json
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs

DTYPES = [
    "bool", "int8", "uint8", "int16", "uint16", "int32", "uint32", "int64", "uint64", "float16", "float32", "float64",
    "complex64", "complex128", "datetime64[ns]", "timedelta64[s]", "S5", "U4", "string",
]  # fmt: skip
BYTES = {"little": {"endian": "little"}, "big": {"endian": "big"}}
COMPRESSORS: dict[str, list[dict[str, Any]]] = {
    "none": [],
    "gzip": [{"name": "gzip", "configuration": {"level": 1}}],
    "zstd": [{"name": "zstd", "configuration": {"level": 1, "checksum": True}}],
    "blosc": [
        {
            "name": "blosc",
            "configuration": {"cname": "lz4", "clevel": 5, "shuffle": "bitshuffle", "typesize": 4, "blocksize": 0},
        }
    ],
    "crc32c": [{"name": "crc32c"}],
    "zstd-crc32c": [{"name": "zstd", "configuration": {"level": 3, "checksum": False}}, {"name": "crc32c"}],
}
KEYS = [("default", "/"), ("default", "."), ("v2", "."), ("v2", "/")]
SHAPE, CHUNKS = (7, 10), (3, 4)


def values(dtype: str) -> np.ndarray:
    numbers = np.random.default_rng(7).integers(0, 100, SHAPE)
    if dtype == "string":
        return np.array([f"é{n}" * (n % 4) for n in numbers.flat], dtype=object).reshape(SHAPE)
    if dtype[0] in "SU":
        return numbers.astype("U4").astype(dtype)
    return numbers.astype(dtype)


def chain(dtype: str, endian: str, transposed: bool, compressor: str) -> list[dict[str, Any]]:
    if dtype == "string":
        serializer: dict[str, Any] = {"name": "vlen-utf8"}
    elif np.dtype(dtype).itemsize == 1 or dtype[0] == "S":
        serializer = {"name": "bytes"}
    else:
        serializer = {"name": "bytes", "configuration": BYTES[endian]}
    transpose = [{"name": "transpose", "configuration": {"order": [1, 0]}}] if transposed else []
    return [*transpose, serializer, *COMPRESSORS[compressor]]


CASES = [
    case
    for number, case in enumerate(itertools.product(BYTES, [False, True], COMPRESSORS, KEYS))
    # Every fourth combination is enough to cover every pair of choices.
    if number % 4 == (number // 4 + number // 24) % 4
]


@pytest.fixture(autouse=True)
def _quiet() -> Any:
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)
        warnings.filterwarnings("ignore", category=FutureWarning)
        yield


def equal(left: Any, right: np.ndarray) -> None:
    left = np.asarray(left)
    if right.dtype == object:
        left = left.astype(object)
    np.testing.assert_array_equal(left, right)


@pytest.mark.parametrize("dtype", DTYPES)
async def test_we_and_zarr_python_read_and_write_each_others_v3_arrays(dtype: str, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    data = values(dtype)
    async with zs.Session() as session:
        for number, (endian, transposed, compressor, (encoding, separator)) in enumerate(CASES):
            if dtype == "string" and transposed and zarr.__version__.startswith(("3.0.", "3.1.")):
                continue  # these releases cannot read their own transposed strings
            ours, theirs = tmp_path / f"o{number}", tmp_path / f"t{number}"
            array = await session.create_array(
                f"file://{ours}",
                shape=SHAPE,
                chunks=CHUNKS,
                dtype=str if dtype == "string" else dtype,
                codecs=chain(dtype, endian, transposed, compressor),
                chunk_key_encoding={"name": encoding, "configuration": {"separator": separator}},
                dimension_names=("y", None),
                attributes={"n": number},
            )
            await array[...].set(data)
            read = zarr.open_array(str(ours), mode="r")
            equal(read[...], data)
            assert dict(read.attrs) == {"n": number}
            # zarr-python writes the same array with the metadata document that we wrote.
            document = json.loads((ours / "zarr.json").read_text())
            theirs.mkdir()
            (theirs / "zarr.json").write_text(json.dumps(document))
            zarr.open_array(str(theirs), mode="r+")[...] = data
            mine = await session.open_array(f"file://{theirs}")
            equal(await mine[...], data)
            await mine[1:5, 2:9].set(data[1:5, 2:9])
            equal(zarr.open_array(str(theirs), mode="r")[...], data)


@pytest.mark.parametrize("dtype", [d for d in DTYPES if d != "string"])
async def test_we_read_arrays_with_the_defaults_of_zarr_python(dtype: str, tmp_path: Path) -> None:
    zarr = pytest.importorskip("zarr")
    data = values(dtype)
    async with zs.Session() as session:
        for zarr_format in (2, 3):
            where = tmp_path / str(zarr_format)
            theirs = zarr.create_array(
                str(where), shape=SHAPE, chunks=CHUNKS, dtype=dtype, zarr_format=zarr_format, attributes={"a": [1]}
            )
            theirs[...] = data
            ours = await session.open_array(f"file://{where}")
            equal(await ours[...], data)
            assert ours.dtype == theirs.dtype
            assert dict(ours.attrs) == {"a": [1]}
            await ours.resize((9, 12))
            await ours.update_attributes({"b": 2})
            again = zarr.open_array(str(where), mode="r")
            assert again.shape == (9, 12)
            assert dict(again.attrs) == {"a": [1], "b": 2}
            equal(again[:7, :10], data)


@pytest.mark.parametrize("index_location", ["start", "end"])
@pytest.mark.parametrize("checked", [False, True], ids=["bare-index", "crc32c"])
@pytest.mark.parametrize("dtype", ["uint16", "float64", "string"])
async def test_we_and_zarr_python_read_and_write_each_others_shards(
    dtype: str, checked: bool, index_location: str, tmp_path: Path
) -> None:
    zarr = pytest.importorskip("zarr")
    data = values(dtype)
    inner = chain(dtype, "little", False, "zstd")
    index = [{"name": "bytes", "configuration": {"endian": "little"}}, *([{"name": "crc32c"}] if checked else [])]
    sharding = {
        "name": "sharding_indexed",
        "configuration": {
            "chunk_shape": [2, 3],
            "codecs": inner,
            "index_codecs": index,
            "index_location": index_location,
        },
    }
    async with zs.Session() as session:
        array = await session.create_array(
            f"file://{tmp_path}/o",
            shape=SHAPE,
            chunks=(4, 6),
            dtype=str if dtype == "string" else dtype,
            codecs=[sharding],
        )
        assert (array.chunks, array.shards) == ((2, 3), (4, 6))
        await array[...].set(data)
        equal(zarr.open_array(f"{tmp_path}/o", mode="r")[...], data)
        (tmp_path / "t").mkdir()
        (tmp_path / "t/zarr.json").write_text((tmp_path / "o/zarr.json").read_text())
        theirs = zarr.open_array(f"{tmp_path}/t", mode="r+")
        theirs[:5, :7] = data[:5, :7]
        mine = await session.open_array(f"file://{tmp_path}/t")
        equal(await mine[:5, :7], data[:5, :7])
        await mine[...].set(data)
        await mine[1:3, 1:9].set(data[1:3, 1:9])
        equal(zarr.open_array(f"{tmp_path}/t", mode="r")[...], data)


@pytest.mark.parametrize(
    "dtype", ["bool", "int8", "uint16", "int32", "uint64", "float16", "float32", "float64", "complex64"]
)
@pytest.mark.parametrize("sharded", [False, True])
async def test_we_and_tensorstore_read_and_write_each_others_v3_arrays(
    dtype: str, sharded: bool, tmp_path: Path
) -> None:
    tensorstore = pytest.importorskip("tensorstore")
    data = values(dtype)

    def open_theirs(where: Path) -> Any:
        kvstore = {"driver": "file", "path": f"{where}/"}
        return tensorstore.open({"driver": "zarr3", "kvstore": kvstore}).result()

    async with zs.Session() as session:
        for number, (endian, transposed, compressor) in enumerate(itertools.product(BYTES, [False, True], COMPRESSORS)):
            codecs = chain(dtype, endian, transposed, compressor)
            where = tmp_path / str(number)
            layout = {"chunks": (2, 3), "shards": (4, 6)} if sharded else {"chunks": CHUNKS}
            array = await session.create_array(f"file://{where}", shape=SHAPE, dtype=dtype, codecs=codecs, **layout)
            await array[...].set(data)
            theirs = open_theirs(where)
            equal(theirs.read().result(), data)
            theirs[1:6, 2:9].write(data[:5, :7]).result()
            expected = data.copy()
            expected[1:6, 2:9] = data[:5, :7]
            equal(await (await session.open_array(f"file://{where}"))[...], expected)
