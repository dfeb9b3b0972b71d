"""The codecs of v3: their forms, sharding and its chunks, byte order and memory order of a chain."""

import numpy as np
import pytest

from zarr_s3_async._model import formats
from zarr_s3_async._types import CodecSpec
from zarr_s3_async.errors import ConfigError, MetadataError, UnsupportedFeature

from .documents import URL, new_array, sharding, stored, zarr_json

LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
BIG = {"name": "bytes", "configuration": {"endian": "big"}}


def parse(**changes):
    return formats.parse_node({"zarr.json": stored(zarr_json(**changes))}, url=URL)


def chunked(*chunk_shape):
    return {"name": "regular", "configuration": {"chunk_shape": list(chunk_shape)}}


def test_short_and_long_forms_of_codecs_are_equal():
    codecs = parse(codecs=[LITTLE, "crc32c", {"name": "crc32c"}, {"name": "crc32c", "configuration": {}}]).codecs
    assert codecs[1:] == (CodecSpec("crc32c"),) * 3


def test_a_codec_with_must_understand_false_is_marked():
    codecs = parse(codecs=[LITTLE, {"name": "x", "must_understand": False}, {"name": "y", "must_understand": True}])
    assert [codec.must_understand for codec in codecs.codecs] == [True, False, True]


def test_unknown_codecs_are_left_to_the_codecs_package():
    assert parse(codecs=[LITTLE, "urn:unheard:of"]).codecs[1].name == "urn:unheard:of"


@pytest.mark.parametrize(
    "codecs",
    [
        *(None, [], {}, "bytes", [None], [1], [[]], [{}], [""], [{"name": ""}], [{"name": 1}]),
        [{"name": "bytes", "configuration": []}],
        [{"name": "bytes", "configuration": None}],
        [{"name": "bytes", "must_understand": "no"}],
        [{"configuration": {}}],
    ],
    ids=str,
)
def test_an_invalid_list_of_codecs_is_refused(codecs):
    with pytest.raises(MetadataError, match="codec"):
        parse(codecs=codecs)


def test_the_error_of_an_unknown_member_of_a_codec_names_it():
    with pytest.raises(UnsupportedFeature, match="colour"):
        parse(codecs=[LITTLE | {"colour": "red"}])


@pytest.mark.parametrize("name", ["pickle", "numcodecs.pickle", "Numcodecs.Pickle"])
def test_pickle_is_refused_at_every_depth(name):
    for codecs in ([LITTLE, name], [sharding([5, 2], [LITTLE, {"name": name}])]):
        with pytest.raises(UnsupportedFeature, match="never"):
            parse(codecs=codecs)


# Sharding


def test_sharding_gives_chunks_and_shards():
    meta = parse(chunk_grid=chunked(10, 4), codecs=[sharding([5, 2])])
    assert (meta.shards, meta.chunks, meta.object_shape, meta.grid_shape) == (
        (10, 4),
        (5, 2),
        (10, 4),
        (1, 1),
    )
    assert meta.codecs[0].configuration["index_location"] == "end"
    assert meta.codecs[0].configuration["chunk_shape"] == [5, 2]


def test_codecs_inside_sharding_are_given_in_their_long_form():
    codecs = [LITTLE, "zstd", {"name": "x", "must_understand": False}]
    configuration = parse(codecs=[sharding([5, 2], codecs, index_location="start")]).codecs[0].configuration
    assert configuration["codecs"] == [
        LITTLE,
        {"name": "zstd", "configuration": {}},
        {"name": "x", "configuration": {}, "must_understand": False},
    ]
    assert configuration["index_codecs"] == [LITTLE, {"name": "crc32c", "configuration": {}}]
    assert configuration["index_location"] == "start"


def test_an_array_without_shards_has_none():
    meta = parse()
    assert (meta.shards, meta.chunks, meta.object_shape) == (None, (5, 2), (5, 2))


@pytest.mark.parametrize(
    "codecs",
    [
        [sharding([5, 2]), "crc32c"],
        [sharding([5, 2]), {"name": "gzip", "configuration": {"level": 1}}],
        [{"name": "transpose", "configuration": {"order": [1, 0]}}, sharding([2, 5])],
    ],
    ids=["checksum", "compressed", "transposed"],
)
def test_a_shard_inside_other_codecs_is_one_chunk(codecs):
    meta = parse(chunk_grid=chunked(10, 4), codecs=codecs)
    assert (meta.shards, meta.chunks) == (None, (10, 4))


def test_nested_shards_have_the_chunks_of_the_outer_ones():
    meta = parse(shape=[16], chunk_grid=chunked(16), codecs=[sharding([8], [sharding([2])])])
    assert (meta.shards, meta.chunks) == ((16,), (8,))


@pytest.mark.parametrize(
    "codec",
    [
        sharding([3, 2]),
        sharding([5]),
        sharding([5, 2, 1]),
        sharding([0, 2]),
        sharding([5, True]),
        sharding([5.0, 2]),
        sharding(5),
        sharding([5, 2], [sharding([2, 2])]),
        sharding([5, 2], []),
        sharding([5, 2], index_codecs=[]),
        sharding([5, 2], index_codecs=...),
        sharding([5, 2], index_location="middle"),
        sharding([5, 2], index_location=None),
        {"name": "sharding_indexed"},
        "sharding_indexed",
        {"name": "sharding_indexed", "configuration": {"chunk_shape": [5, 2]}},
    ],
    ids=str,
)
def test_invalid_sharding_is_refused(codec):
    with pytest.raises(MetadataError):
        parse(codecs=[codec])


def test_the_error_of_unknown_members_of_sharding_names_them():
    with pytest.raises(UnsupportedFeature, match="index_shape"):
        parse(codecs=[sharding([5, 2], index_shape=3)])


def test_shards_of_too_many_chunks_are_refused():
    with pytest.raises(UnsupportedFeature, match="chunks"):
        parse(shape=[2**40], chunk_grid=chunked(2**30), codecs=[sharding([1])])


def test_a_shard_may_be_larger_than_any_chunk():
    meta = parse(shape=[2**50], chunk_grid=chunked(2**44), codecs=[sharding([2**24])])
    assert meta.chunks == (2**24,)


# Byte order


@pytest.mark.parametrize("codecs", [["bytes"], [sharding([5, 2], ["bytes"])]], ids=["plain", "sharded"])
@pytest.mark.parametrize("dtype", ["int16", "uint64", "float32", "complex64"])
def test_numbers_of_several_bytes_need_a_byte_order(codecs, dtype):
    fill = [0, 0] if dtype.startswith("complex") else 0
    with pytest.raises(MetadataError, match="endian"):
        parse(data_type=dtype, fill_value=fill, codecs=codecs)


@pytest.mark.parametrize("dtype", ["bool", "int8", "uint8", "r16"])
def test_single_bytes_need_no_byte_order(dtype):
    assert parse(data_type=dtype, fill_value=[0, 0] if dtype == "r16" else 0, codecs=["bytes"]).codecs


def test_codecs_before_the_bytes_may_change_the_type():
    cast = {"name": "cast_value", "configuration": {"data_type": "uint8"}}
    assert parse(codecs=[cast, "bytes"]).codecs
    turn = {"name": "transpose", "configuration": {"order": [1, 0]}}
    with pytest.raises(MetadataError, match="endian"):
        parse(codecs=[turn, "bytes"])


@pytest.mark.parametrize("codecs", [[BIG], [sharding([5, 2], [BIG])]], ids=["plain", "sharded"])
def test_the_base64_of_a_legacy_record_has_the_byte_order_of_the_codec(codecs):
    data_type = {"name": "structured", "configuration": {"fields": [["x", "int16"]]}}
    meta = parse(data_type=data_type, fill_value="AAE=", codecs=codecs)
    assert meta.fill_value == np.array((1,), dtype=[("x", "i2")])
    meta = parse(data_type=data_type, fill_value="AAE=", codecs=["bytes"])
    assert meta.fill_value == np.array((256,), dtype=[("x", "i2")])


def test_the_draft_name_of_bytes_is_read():
    endian = {"name": "endian", "configuration": {"endian": "big"}}
    meta = parse(codecs=[endian])
    assert meta.codecs == (CodecSpec("bytes", {"endian": "big"}),)
    assert meta.source["codecs"] == [endian]


@pytest.mark.parametrize("dtype", ["string", "bytes", "variable_length_bytes"])
def test_objects_cannot_be_stored_by_the_bytes_codec(dtype):
    for codecs in ([LITTLE], [sharding([5, 2], ["bytes"])]):
        with pytest.raises(MetadataError, match="vlen"):
            parse(data_type=dtype, fill_value="", codecs=codecs)
    codec = "vlen-utf8" if dtype == "string" else "vlen-bytes"
    assert parse(data_type=dtype, fill_value="", codecs=[codec]).dtype == np.dtype(object)


@pytest.mark.parametrize(
    ("dtype", "codec"), [("string", "vlen-bytes"), ("bytes", "vlen-utf8"), ("variable_length_bytes", "vlen-utf8")]
)
def test_text_and_bytes_are_stored_by_their_own_codecs(dtype, codec):
    """Otherwise `string` would be read as bytes, and `bytes` as text."""
    for codecs in (
        [codec],
        [sharding([5, 2], [codec])],
        [{"name": "transpose", "configuration": {"order": [1, 0]}}, codec],
    ):
        with pytest.raises(MetadataError, match="another type"):
            parse(data_type=dtype, fill_value="", codecs=codecs)
    with pytest.raises(ConfigError, match="another type"):
        new_array(shape=3, dtype=str if dtype == "string" else bytes, codecs=[codec])


# Order


def test_the_order_is_f_if_chunks_are_transposed():
    turn = {"name": "transpose", "configuration": {"order": [1, 0]}}
    stay = {"name": "transpose", "configuration": {"order": [0, 1]}}
    assert parse(codecs=[turn, LITTLE]).order == "F"
    assert parse(codecs=[sharding([5, 2], [turn, LITTLE])]).order == "F"
    assert parse(codecs=[stay, LITTLE]).order == "C"
    assert parse().order == "C"
