"""zarr-python reads what we write and we read what zarr-python writes, through a real S3 server."""

from __future__ import annotations

import asyncio
import itertools
import warnings
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs

from .conftest import Place

pytestmark = [pytest.mark.integration, pytest.mark.slow]

DTYPES = [
    "?", "i1", "u1", "<i2", ">i2", "<u2", "<i4", ">i4", "<u4", "<i8", ">u8", "<f2", ">f2", "<f4", ">f4", "<f8", ">f8",
    "<c8", ">c16", "<M8[ns]", "<m8[s]", ">M8[D]", "S5", "<U4", ">U3", [("a", "<i4"), ("b", "<f8")],
]  # fmt: skip
COMPRESSORS: dict[str, Any] = {
    "none": None,
    "zlib": {"id": "zlib", "level": 1},
    "gzip": {"id": "gzip", "level": 1},
    "bz2": {"id": "bz2", "level": 1},
    "lzma": {"id": "lzma", "format": 1, "check": -1, "preset": 1, "filters": None},
    "lz4": {"id": "lz4", "acceleration": 1},
    "zstd": {"id": "zstd", "level": 3},
    "blosc": {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0},
    "blosc-bit": {"id": "blosc", "cname": "zstd", "clevel": 3, "shuffle": 2, "blocksize": 0},
    "blosc-auto": {"id": "blosc", "cname": "blosclz", "clevel": 9, "shuffle": -1, "blocksize": 0},
}
CASES = list(itertools.product(COMPRESSORS, "CF", "./"))
SHAPE, CHUNKS = (5, 6), (5, 4)  # two chunks, one of them cut by the edge; small, since 2,080 arrays are created


def values(dtype: np.dtype[Any]) -> np.ndarray[Any, Any]:
    rng = np.random.default_rng(7)
    if dtype.kind == "b":
        return rng.random(SHAPE) < 0.5
    if dtype.kind in "SU":
        return rng.integers(0, 10_000, SHAPE).astype("U4").astype(dtype)
    if dtype.kind in "Mm":
        return rng.integers(0, 10**6, SHAPE).astype("i8").view("i8").astype(dtype)
    if dtype.names:
        data = np.zeros(SHAPE, dtype)
        data["a"], data["b"] = rng.integers(0, 99, SHAPE), rng.random(SHAPE)
        return data
    if dtype.kind == "c":
        return (rng.random(SHAPE) + 1j * rng.random(SHAPE)).astype(dtype)
    return (rng.random(SHAPE) * 100).astype(dtype)


def foreign(place: Place) -> Any:
    """zarr-python's store over obstore, with the same prefix."""
    from obstore.store import S3Store
    from zarr.storage import ObjectStore

    config = place.config
    store = S3Store(
        place.bucket,
        prefix=place.prefix,
        endpoint=config.endpoint_url,
        access_key_id=config.access_key_id,
        secret_access_key=config.secret_access_key,
        region="us-east-1",
        virtual_hosted_style_request=False,
        client_options={"allow_http": True},
    )
    return ObjectStore(store)


def codec(document: dict[str, Any] | None) -> Any:
    import numcodecs

    return None if document is None else numcodecs.get_codec(dict(document))


@pytest.mark.parametrize("spelled", DTYPES, ids=str)
async def test_we_and_zarr_python_read_and_write_each_others_v2_arrays(
    place: Place, session: zs.Session, spelled: Any
) -> None:
    from zarr.api import asynchronous as zarr

    dtype = np.dtype(spelled)
    data, store = values(dtype), foreign(place)
    # zarr-python creates the parent group, too; SeaweedFS delays concurrent creations by a second each.
    await zarr.create_group(store=store, zarr_format=2)

    async def ours(name: str, compressor: str, order: Any, separator: Any) -> None:
        array = await session.create_array(
            f"{place.url}/{name}", shape=SHAPE, chunks=CHUNKS, dtype=dtype, zarr_format=2,
            compressor=COMPRESSORS[compressor], order=order, dimension_separator=separator,
        )  # fmt: skip
        await array.set_slice(data, (0, 0))
        theirs = await zarr.open_array(store=store, path=name, mode="r", zarr_format=2)
        assert theirs.order == order
        np.testing.assert_array_equal(await theirs.getitem(...), data)

    async def theirs(name: str, compressor: str, order: Any, separator: Any) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            array = await zarr.create_array(
                store=store,
                name=name, shape=SHAPE, chunks=CHUNKS, dtype=dtype, zarr_format=2, order=order,
                compressors=codec(COMPRESSORS[compressor]), chunk_key_encoding={"name": "v2", "separator": separator},
            )  # fmt: skip
        await array.setitem(..., data)
        mine = await session.open_array(f"{place.url}/{name}")
        assert (mine.dtype, mine.order, mine.metadata.keys.separator) == (dtype, order, separator)
        np.testing.assert_array_equal(await mine.get_slice((0, 0), SHAPE), data)
        # After our partial write, zarr-python must still read the chunk.
        await mine.set_slice(data[1:4, 2:6], (1, 2))
        np.testing.assert_array_equal(await array.getitem(...), data)

    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", category=UserWarning)
        for batch in (CASES[at : at + 8] for at in range(0, len(CASES), 8)):
            await asyncio.gather(*(ours(f"o-{'-'.join(case).replace('/', 's')}", *case) for case in batch))
            await asyncio.gather(*(theirs(f"t-{'-'.join(case).replace('/', 's')}", *case) for case in batch))
