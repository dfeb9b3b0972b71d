"""Options that only affect encoding: reads accept any value; writes validate it."""

import json

import numpy as np
import pytest
from numcodecs import blosc

import zarr_s3_async as zs

NUMBERS = np.arange(12, dtype="<i4")

# Options in documents of other writers: (compressor, valid options, options as found).
FOUND = [
    ("zstd", {"level": 1}, {"checksum": "NO"}),  # GDAL 3.12
    ("zstd", {"level": 1}, {"level": "high"}),
    ("blosc", {"cname": "zstd", "clevel": 1, "shuffle": 1, "blocksize": 0}, {"shuffle": "BIT"}),
    ("blosc", {"cname": "zstd", "clevel": 1, "shuffle": 1, "blocksize": 0}, {"cname": "other"}),
    ("blosc", {"cname": "zstd", "clevel": 1, "shuffle": 1, "blocksize": 0}, {"clevel": 11}),
    ("lz4", {"acceleration": 1}, {"acceleration": "fast"}),
    ("bz2", {"level": 1}, {"level": 10}),
    ("lzma", {"preset": 1}, {"preset": 77}),
    ("lzma", {"preset": 1}, {"filters": "none"}),
]

# Options that do not change the bytes: such arrays can be written, too.
HARMLESS = [
    ("gzip", {"level": 1}, {"level": -1}),  # Java
    ("gzip", {"level": 1}, {"useZlib": False}),  # n5
    ("zlib", {"level": 1}, {"level": -1}),
    ("blosc", {"cname": "zstd", "clevel": 1, "shuffle": 1, "blocksize": 0}, {"nthreads": 1}),  # n5
    ("blosc", {"cname": "zstd", "clevel": 1, "shuffle": 1, "blocksize": 0}, {"numThreads": 1}),  # jzarr
    ("lzma", {"preset": 1}, {"delta": None}),
]


async def stored(session, where, codec, options, found):
    """Store an array of NUMBERS whose document has `found` instead of `options`."""
    array = await session.create_array(
        where, shape=12, chunks=12, dtype="<i4", zarr_format=2, compressor={"id": codec, **options}
    )
    await array.set_slice(NUMBERS, start=0)
    store = array._runtime.store
    blob = await store.get(".zarray")
    document = json.loads(bytes(blob.data))
    document["compressor"].update(found)
    await store.put(".zarray", json.dumps(document).encode())
    return store


@pytest.mark.parametrize(("codec", "options", "found"), FOUND, ids=str)
async def test_an_array_with_an_unsupported_encoding_option_is_read_but_not_written(codec, options, found):
    async with zs.Session() as session:
        where = f"memory://found-{codec}-{next(iter(found))}"
        store = await stored(session, where, codec, options, found)
        array = await session.open_array(where)
        np.testing.assert_array_equal(await array[...], NUMBERS)
        before = {entry.key: entry async for entry in store.list_prefix("")}
        for write in (
            lambda: array.set_slice(7, start=0, stop=12),
            lambda: array[3].set(7),
            lambda: array.append(NUMBERS),
        ):
            with pytest.raises(
                zs.MetadataError, match=rf"{where} can be read but not written: .*'{next(iter(found))}'"
            ):
                await write()
        assert {entry.key: entry async for entry in store.list_prefix("")} == before
        with pytest.raises(zs.ConfigError, match=next(iter(found))):
            await session.create_array(
                where + "-2", shape=3, dtype="<i4", zarr_format=2, compressor={"id": codec, **options, **found}
            )


@pytest.mark.parametrize(("codec", "options", "found"), HARMLESS, ids=str)
async def test_an_array_with_an_option_that_changes_no_bytes_is_read_and_written(codec, options, found):
    async with zs.Session() as session:
        where = f"memory://harmless-{codec}-{next(iter(found))}"
        await stored(session, where, codec, options, found)
        array = await session.open_array(where)
        await array[3].set(70)
        assert (await array[...]).tolist() == [0, 1, 2, 70, *range(4, 12)]


async def test_an_array_with_quantized_integers_is_read_but_not_written():
    document = {
        "zarr_format": 2,
        "shape": [3],
        "chunks": [3],
        "dtype": "<i4",
        "compressor": None,
        "fill_value": 0,
        "order": "C",
        "filters": [{"id": "bitround", "keepbits": 3}],
    }
    async with zs.Session() as session:
        array = await session.create_array("memory://rounding", shape=3, chunks=3, dtype="<i4", zarr_format=2)
        store = array._runtime.store
        await store.put(".zarray", json.dumps(document).encode())
        await store.put("0", np.array([1, 2, 3], "<i4").tobytes())
        array = await session.open_array("memory://rounding")
        assert (await array[...]).tolist() == [1, 2, 3]
        with pytest.raises(zs.MetadataError, match="rounds float16"):
            await array[...].set(4)


@pytest.mark.parametrize(
    ("codec", "max_bytes"), [("blosc", 2**31 - 17), ("numcodecs.lz4", 2_113_929_216), ({"id": "blosc"}, 2**31 - 17)]
)
@pytest.mark.parametrize("shards", [None, 2**32])
async def test_a_chunk_larger_than_its_codec_accepts_is_refused_on_create(codec, max_bytes, shards):
    async with zs.Session() as session:
        options = {"shape": 2**32, "chunks": 2**31, "shards": shards, "dtype": "u1", "compressor": codec}
        with pytest.raises(zs.ConfigError, match=f"{max_bytes:,} bytes at most, but a chunk has 2,147,483,648"):
            await session.create_array("memory://too-large", **options)
        assert not await session.exists("memory://too-large")
        taken = options | {"shape": max_bytes, "chunks": max_bytes, "shards": None}
        await session.create_array("memory://just-fits", overwrite=True, **taken)


async def test_an_error_of_an_encoder_names_the_array_and_its_chunk():
    async with zs.Session() as session:
        array = await session.create_array("memory://named", shape=4, chunks=2, dtype=str)
        with pytest.raises(zs.ChunkError, match=r"object \(1,\) of memory://named .*vlen-utf8") as raised:
            await array.set_slice(["a", "b", "c", 5], start=0)
        assert raised.value.array == "memory://named"


async def test_an_error_of_a_codec_names_the_array():
    async with zs.Session() as session:
        await session.create_group("memory://group-of-codecs")
        group = await session.open_group("memory://group-of-codecs")
        array = await group.create_array("x", shape=4, chunks=2, dtype="i4", compressor=None)
        document = json.loads(bytes((await array._runtime.store.get("x/zarr.json")).data))
        document["codecs"].append({"name": "gzip", "configuration": {"level": 1, "what": 2}})
        await array._runtime.store.put("x/zarr.json", json.dumps(document).encode())
        with pytest.raises(zs.MetadataError, match=r"memory://group-of-codecs/x .*'what'"):
            await group.open("x")


async def test_blosc_with_snappy_is_unsupported_and_not_damaged():
    """numcodecs is built without snappy: the object is intact, so the error is not about damage."""
    if "snappy" in blosc.list_compressors():
        pytest.skip("this numcodecs has snappy")
    found = {"cname": "snappy"}
    async with zs.Session() as session:
        store = await stored(session, "memory://snappy", "blosc", {"cname": "lz4", "clevel": 5, "shuffle": 1}, found)
        encoded = bytearray((await store.get("0")).data)
        encoded[2] = encoded[2] & 0x1D | 2 << 5  # flags: compressed with snappy
        await store.put("0", bytes(encoded))
        array = await session.open_array("memory://snappy")
        for read in (lambda: array[...], lambda: array[0:2], lambda: array.get_slice(0, 12, out=np.empty(12, "<i4"))):
            with pytest.raises(zs.UnsupportedFeature, match=r"memory://snappy .*snappy") as raised:
                await read()
            assert "restore" not in str(raised.value)
