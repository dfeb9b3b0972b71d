"""Encoders get read-only views of the caller's data for whole chunks."""

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async.codecs import register_codec, unregister_codec

from .chains import LITTLE, numbers, pipeline, same

CHAINS = [
    [LITTLE],
    [("bytes", {"endian": "big"})],
    [("transpose", {"order": [1, 0]}), LITTLE],
    *([LITTLE, name] for name in ("gzip", "zstd", "blosc", "crc32c")),
    *([LITTLE, f"numcodecs.{name}"] for name in ("lz4", "zlib", "bz2", "lzma", "shuffle", "base64", "blosc", "zstd")),
    *([LITTLE, f"numcodecs.{name}"] for name in ("crc32", "adler32", "fletcher32", "jenkins_lookup3", "crc32c")),
    *(
        [("numcodecs.delta", {"dtype": "<f4"}), "bytes"],
        [("numcodecs.fixedscaleoffset", {"offset": 0, "scale": 1, "dtype": "<f4", "astype": "<i4"}), "bytes"],
        [("numcodecs.quantize", {"digits": 3, "dtype": "<f4"}), "bytes"],
        [("numcodecs.bitround", {"keepbits": 20}), "bytes"],
        [("numcodecs.astype", {"encode_dtype": "<i4", "decode_dtype": "<f4"}), "bytes"],
        [("cast_value", {"data_type": "int32"}), LITTLE],
        [("scale_offset", {"offset": 1, "scale": 2}), LITTLE],
    ),
]


@pytest.mark.parametrize("steps", CHAINS, ids=str)
def test_every_built_in_encoder_accepts_read_only_memory(steps):
    line = pipeline(*steps)
    chunk = numbers((4, 6), "<f4")
    expected = bytes(line.encode(chunk))
    for given in (chunk.copy(), np.asfortranarray(chunk)):
        given.flags.writeable = False
        assert bytes(line.encode(given)) == expected
        assert same(np.ascontiguousarray(line.decode(expected)), chunk)


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("shards", [None, 4])
@pytest.mark.parametrize(
    ("options", "values"),
    [
        ({"dtype": str}, ["a", "bc", "", "dø"]),
        ({"dtype": bytes}, [b"a", b"bc", b"", b"d"]),
        ({"dtype": object, "filters": [{"id": "vlen-array", "dtype": "<i4"}]}, [[1], [2, 3], [], [4]]),
    ],
    ids=["text", "bytes", "arrays"],
)
async def test_elements_of_variable_length_are_written_as_whole_chunks_by_every_codec(
    options, values, shards, zarr_format
):
    ragged = "filters" in options
    if (ragged and zarr_format == 3) or (shards and zarr_format == 2):
        pytest.skip("not in this format")
    data = np.empty(4, object)
    data[:] = [np.array(value, "<i4") for value in values] if ragged else values
    async with zs.Session() as session:
        options = {"shape": 4, "chunks": 2, "shards": shards, "zarr_format": zarr_format, **options}
        array = await session.create_array("memory://whole-chunks", overwrite=True, **options)
        await array.set_slice(data, start=0)
        await array[0:2].set(data[0:2])
        await array.blocks[1].set(data[2:4])
        await array.append(data)
        result = await array.get_slice(0, 8)
        assert [list(value) if ragged else value for value in result] == [*values, *values]


class InPlace:
    """A third-party codec that modifies its input."""

    kind = "array->array"
    cost = "parallel"

    def __init__(self, configuration, spec):
        pass

    def encoded(self, spec):
        return spec

    def encode(self, chunk):
        chunk += 1
        return chunk

    def decode(self, chunk):
        return chunk - 1


class TypedMemory(InPlace):
    """A third-party codec in C whose memoryviews need writable memory."""

    kind = "bytes->bytes"

    def encoded_size(self, size):
        return size

    def encode(self, data):
        if memoryview(data).readonly:
            raise ValueError("buffer source array is read-only")
        return data

    def decode(self, data, size, limit, out=None):
        return data


@pytest.mark.parametrize("codec", [InPlace, TypedMemory])
async def test_registered_encoders_get_a_writable_copy(codec):
    register_codec("example.writes", codec)
    try:
        async with zs.Session() as session:
            options = {"shape": 4, "chunks": 2, "dtype": "i4", "codecs": ["example.writes"]}
            array = await session.create_array("memory://writes", **options)
            data = np.arange(4, dtype="i4")
            await array.set_slice(data, start=0)
            assert data.tolist() == [0, 1, 2, 3]
            assert (await array[...]).tolist() == [0, 1, 2, 3]
    finally:
        unregister_codec("example.writes")
