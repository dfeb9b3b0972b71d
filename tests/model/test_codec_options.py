"""Codecs as options: names, kinds from the registry, and steps that are added automatically."""

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async.codecs import list_codecs, register_codec, registry, unregister_codec

from .documents import new_array


class Invert:
    """A third-party codec."""

    kind = "bytes->bytes"
    cost = "parallel"

    def __init__(self, configuration, spec):
        self.configuration = dict(configuration)

    def encoded_size(self, size):
        return size

    def encode(self, data):
        return np.bitwise_not(np.frombuffer(data, np.uint8))

    def decode(self, data, size, limit, out=None):
        return np.bitwise_not(np.frombuffer(data, np.uint8))


@pytest.fixture(params=["example.invert", "numcodecs.invert"])
def invert(request):
    register_codec(request.param, Invert)
    yield request.param
    unregister_codec(request.param)


def names(**options):
    return [codec.name for codec in new_array(shape=(4, 4), dtype="f4", **options).codecs]


def test_a_registered_codec_is_used_with_built_in_ones(invert):
    short = invert.removeprefix("numcodecs.")
    assert names(codecs=[invert]) == ["bytes", invert]
    assert names(codecs=[short]) == ["bytes", invert]
    assert names(compressor=short) == ["bytes", invert]
    assert names(filters=[short], compressor="gzip") == ["bytes", invert, "gzip"]


@pytest.mark.parametrize("zarr_format", [2, 3])
async def test_data_stored_by_a_registered_codec_is_read_back(invert, zarr_format):
    if zarr_format == 2 and not invert.startswith("numcodecs."):
        pytest.skip("v2 finds codecs as numcodecs.*")
    name = invert.removeprefix("numcodecs.")
    expected = np.arange(12, dtype="f4")
    async with zs.Session() as session:
        where = f"memory://registered-codec-{name}-{zarr_format}"
        options = {"filters": [{"id": name}], "compressor": None} if zarr_format == 2 else {"codecs": [invert]}
        array = await session.create_array(where, shape=12, chunks=5, dtype="f4", zarr_format=zarr_format, **options)
        await array.set_slice(expected, start=0)
        again = await session.open_array(where)
        np.testing.assert_array_equal(await again.get_slice(0, 12), expected)


def test_every_known_compressor_may_be_given_by_name_alone():
    for name in list_codecs():
        short = name.removeprefix("numcodecs.")
        if short in ("base64", "bz2", "lz4", "lzma", "zlib", "crc32", "crc32c", "fletcher32", "gzip", "zstd", "blosc"):
            expected = short if short in ("gzip", "zstd", "blosc", "crc32c") else name
            assert names(compressor=short) == ["bytes", expected]


def test_an_unknown_codec_is_refused_by_the_pipeline():
    assert names(codecs=["no-such-codec"]) == ["no-such-codec"]


async def test_adding_a_codec_takes_a_class_and_a_row_of_the_registry(monkeypatch):
    """Only two files change: all other code, for both formats, uses the registry."""
    row = registry._RegistryEntry("bytes->bytes", lambda options, spec: Invert(options.rest(), spec))
    monkeypatch.setitem(registry._BUILT_IN, "numcodecs.toy", row)
    assert "numcodecs.toy" in list_codecs()
    assert names(compressor="toy") == names(codecs=["toy"]) == ["bytes", "numcodecs.toy"]
    assert names(filters=["delta", "toy"], compressor=None) == ["numcodecs.delta", "bytes", "numcodecs.toy"]
    expected = np.arange(12, dtype="f4")
    async with zs.Session() as session:
        for zarr_format, options in ((2, {"filters": [{"id": "toy"}]}), (3, {"codecs": ["toy"]})):
            where = f"memory://built-in-{zarr_format}"
            array = await session.create_array(where, shape=12, dtype="f4", zarr_format=zarr_format, **options)
            await array.set_slice(expected, start=0)
            np.testing.assert_array_equal(await (await session.open_array(where))[...], expected)
