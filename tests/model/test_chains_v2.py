"""The filters, the compressor and the order of v2 are converted to a chain of v3."""

import numpy as np
import pytest
from numcodecs import get_codec

from zarr_s3_async._model import formats
from zarr_s3_async._types import CodecSpec
from zarr_s3_async.codecs import ChunkSpec, build_pipeline
from zarr_s3_async.errors import MetadataError, UnsupportedFeature

from .documents import URL, stored, zarray


def chain(**changes):
    return formats.parse_node({".zarray": stored(zarray(**changes))}, url=URL).codecs


def names(**changes):
    return [codec.name for codec in chain(**changes)]


def test_the_compressor_is_last_with_its_numcodecs_name():
    assert chain() == (CodecSpec("bytes", {"endian": "little"}), CodecSpec("numcodecs.zlib", {"level": 1}))


def test_without_a_compressor_the_chain_ends_with_bytes():
    assert chain(compressor=None) == (CodecSpec("bytes", {"endian": "little"}),)


def test_order_f_is_a_transpose_at_the_start():
    assert chain(order="F", compressor=None)[0] == CodecSpec("transpose", {"order": [1, 0]})
    assert names(order="F", shape=[10], chunks=[5]) == ["bytes", "numcodecs.zlib"]
    assert names(order="F", shape=[], chunks=[]) == ["bytes", "numcodecs.zlib"]


def test_filters_are_before_bytes_in_their_order():
    filters = [
        {"id": "delta", "dtype": "<f4"},
        {"id": "astype", "encode_dtype": "<f2", "decode_dtype": "<f4"},
    ]
    assert names(order="F", filters=filters) == [
        *("transpose", "numcodecs.delta", "numcodecs.astype", "bytes", "numcodecs.zlib"),
    ]
    assert chain(filters=filters)[1].configuration == {"encode_dtype": "<f2", "decode_dtype": "<f4"}


def test_filters_set_the_byte_order_of_bytes():
    """A filter may store another type than the array's, with another byte order."""
    filters = [{"id": "delta", "dtype": "<i4", "astype": ">i2"}]
    assert chain(dtype="<i4", fill_value=0, filters=filters)[1] == CodecSpec("bytes", {})


@pytest.mark.parametrize("codec", ["shuffle", "zlib", "fletcher32", "crc32", "blosc", "zstd", "base64"])
def test_filters_of_bytes_are_after_bytes(codec):
    """kerchunk writes the filters of HDF5 like this."""
    filters = [{"id": "delta", "dtype": "<f4"}, {"id": codec}, {"id": "gzip"}]
    pipeline = build_pipeline(chain(filters=filters), ChunkSpec((5, 2), np.dtype("<f4"), 0))
    steps = f"numcodecs.delta → bytes → numcodecs.{codec} → numcodecs.gzip → numcodecs.zlib"
    assert steps in repr(pipeline)


@pytest.mark.parametrize("codec", ["shuffle", "zlib"])
def test_fields_keep_their_byte_orders_with_any_filters(codec):
    dtype = np.dtype([("a", ">i4"), ("b", "<i2")])
    pipeline = build_pipeline(
        chain(dtype=[["a", ">i4"], ["b", "<i2"]], fill_value=None, filters=[{"id": codec}], compressor=None),
        ChunkSpec((2,), dtype, np.zeros((), dtype)[()]),
    )
    chunk = np.array([(1, 2), (3, 4)], dtype)
    decoded = get_codec({"id": codec}).decode(bytes(pipeline.encode(chunk)))
    assert bytes(decoded) == chunk.tobytes()


@pytest.mark.parametrize(
    ("dtype", "configuration"),
    [
        *(("<i4", {"endian": "little"}), (">i4", {"endian": "big"}), (">c16", {"endian": "big"})),
        *(
            ("|u1", {}),
            ("|b1", {}),
            ("|S3", {}),
            (">U3", {}),
            ("|V2", {}),
            (">M8[s]", {}),
            ([["a", ">i4"]], {}),
        ),
    ],
    ids=str,
)
def test_the_bytes_codec_has_an_endian_where_needed(dtype, configuration):
    assert chain(dtype=dtype, fill_value=None, compressor=None) == (CodecSpec("bytes", configuration),)


@pytest.mark.parametrize("filters", [None, []])
def test_null_and_an_empty_list_of_filters_are_equal(filters):
    assert names(filters=filters) == ["bytes", "numcodecs.zlib"]


def test_missing_filters_and_compressor_are_none():
    assert names(filters=..., compressor=...) == ["bytes"]


@pytest.mark.parametrize(
    ("codec", "kept"),
    [
        ({"id": "vlen-utf8"}, {}),
        ({"id": "vlen-bytes"}, {}),
        ({"id": "vlen-array", "dtype": "<i4"}, {"dtype": "<i4"}),
    ],
)
def test_an_object_codec_takes_the_place_of_bytes(codec, kept):
    expected = (CodecSpec(codec["id"], kept), CodecSpec("numcodecs.zlib", {"level": 1}))
    assert chain(dtype="|O", fill_value=None, filters=[codec]) == expected
    assert chain(dtype="|O", fill_value=None, filters=None, compressor=codec) == expected[:1]


def test_filters_after_an_object_codec_are_applied_to_its_bytes():
    filters = [{"id": "vlen-utf8"}, {"id": "crc32"}]
    assert names(dtype="|O", fill_value="", filters=filters) == [
        "vlen-utf8",
        "numcodecs.crc32",
        "numcodecs.zlib",
    ]


def test_categorize_makes_numbers_of_objects():
    filters = [{"id": "categorize", "labels": ["a", "b"], "dtype": "|O", "astype": "|u1"}]
    meta = formats.parse_node({".zarray": stored(zarray(dtype="|O", fill_value="", filters=filters))}, url=URL)
    assert [codec.name for codec in meta.codecs] == ["numcodecs.categorize", "bytes", "numcodecs.zlib"]
    assert meta.codecs[1].configuration == {}
    assert meta.dtype == np.dtype(object)


@pytest.mark.parametrize(
    "changes",
    [
        {"dtype": "|O", "fill_value": None},
        {"dtype": "|O", "fill_value": None, "filters": [{"id": "zlib"}]},
        {"filters": [{"id": "vlen-utf8"}]},
        {"filters": {}},
        {"filters": {"id": "delta"}},
        {"filters": "delta"},
        {"filters": ["delta"]},
        {"filters": [None]},
        {"filters": [{}]},
        {"filters": [{"id": 3}]},
        {"filters": [{"id": ""}]},
        {"filters": 1},
        {"compressor": "zlib"},
        {"compressor": {"level": 1}},
        {"compressor": {"id": None}},
        {"compressor": []},
        {"compressor": False},
    ],
    ids=str,
)
def test_an_invalid_chain_of_v2_is_a_metadata_error(changes):
    with pytest.raises(MetadataError, match=r"memory://test/array/\.zarray"):
        chain(**changes)


@pytest.mark.parametrize("name", ["pickle", "Pickle", "PICKLE", "numcodecs.pickle", " pickle ", "pickle5"])
@pytest.mark.parametrize("member", ["filters", "compressor"])
def test_pickle_is_refused_under_all_its_names(name, member):
    codec = {"id": name}
    with pytest.raises(UnsupportedFeature, match="never"):
        chain(**{"dtype": "|O", "fill_value": None, member: [codec] if member == "filters" else codec})


@pytest.mark.parametrize("name", ["json", "msgpack"])
def test_the_error_of_an_unknown_object_codec_names_it(name):
    with pytest.raises(UnsupportedFeature, match=name):
        chain(dtype="|O", fill_value=None, filters=[{"id": name}])


@pytest.mark.parametrize("filters", [[{"id": "pcodec"}], [{"id": "delta", "dtype": "<f4"}, {"id": "pcodec"}]], ids=str)
@pytest.mark.parametrize("compressor", [None, {"id": "zlib", "level": 1}])
def test_pcodec_among_the_filters_takes_the_place_of_bytes(filters, compressor):
    pytest.importorskip("pcodec")
    codecs = chain(filters=filters, compressor=compressor)
    pipeline = build_pipeline(codecs, ChunkSpec((5, 2), np.dtype("<f4"), 0))
    assert " bytes " not in repr(pipeline)
    chunk = np.arange(10, dtype="<f4").reshape(5, 2)
    np.testing.assert_array_equal(pipeline.decode(pipeline.encode(chunk)), chunk)
