"""New arrays: the effect of each option on the documents, and invalid options."""

import json

import numpy as np
import pytest

from zarr_s3_async._model import formats
from zarr_s3_async._model.create import ZERO
from zarr_s3_async.errors import ConfigError, UnsupportedFeature

from .documents import URL, new_array


def new(zarr_format=3, **options):
    return new_array(**{"shape": (10, 4), "dtype": "f4", "zarr_format": zarr_format} | options)


def document(meta):
    return json.loads(next(iter(formats.dump(meta).values())))


def test_a_v3_array_has_the_documented_defaults():
    assert document(new(chunks=(5, 2))) == {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [10, 4],
        "data_type": "float32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [5, 2]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0.0,
        "codecs": [
            {"name": "bytes", "configuration": {"endian": "little"}},
            {"name": "zstd", "configuration": {"level": 0, "checksum": False}},
        ],
        "attributes": {},
        "storage_transformers": [],
    }


def test_a_v2_array_has_the_documented_defaults():
    meta = new(2, chunks=(5, 2))
    assert list(formats.dump(meta)) == [".zarray"]
    assert document(meta) == {
        "zarr_format": 2,
        "shape": [10, 4],
        "chunks": [5, 2],
        "dtype": "<f4",
        "fill_value": 0.0,
        "order": "C",
        "filters": None,
        "dimension_separator": ".",
        "compressor": {"id": "zstd", "level": 0},
    }


DTYPES = [
    *(
        "?",
        "i1",
        "<i4",
        ">i4",
        "u8",
        "f2",
        "f4",
        ">f8",
        "c8",
        "M8[ns]",
        ">m8[10s]",
        "M8",
        "S5",
        "U3",
        ">U3",
        "V6",
    ),
    *(str, bytes, "string", "bytes", [("a", "<i4"), ("b", ">f8", (2,)), ("c", [("d", "S3")])]),
]


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("dtype", DTYPES, ids=str)
def test_created_metadata_is_read_back_unchanged(dtype, zarr_format):
    if zarr_format == 3 and isinstance(dtype, list):
        dtype = [("a", "<i4"), ("c", [("d", "S3")])]
    meta = new(zarr_format, dtype=dtype, attributes={"a": 1}, chunks=(5, 2))
    again = formats.parse_node(formats.dump(meta), url=URL)
    for name in (
        "shape",
        "dtype",
        "chunks",
        "shards",
        "codecs",
        "keys",
        "order",
        "attributes",
        "source",
        "documents",
    ):
        assert getattr(again, name) == getattr(meta, name), name
    assert np.array_equal(np.asarray(again.fill_value), np.asarray(meta.fill_value), equal_nan=False) or np.isnat(
        meta.fill_value
    )


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    "dtype", ["?", "i1", "u8", "f2", "c8", "M8[ns]", "m8[s]", "S5", "U3", "V6", [("a", "i4")]], ids=str
)
def test_the_fill_value_is_zero_unless_given(dtype, zarr_format):
    meta = new(zarr_format, dtype=dtype)
    dtype = np.dtype(dtype)
    assert np.asarray(meta.fill_value, dtype=dtype).tobytes() == bytes(dtype.itemsize)


def test_a_fill_value_of_none_is_null_in_v2_and_zero_in_v3():
    assert new(2, fill_value=None).fill_value is None
    assert document(new(2, fill_value=None))["fill_value"] is None
    assert new(3, fill_value=None).fill_value == 0
    assert repr(ZERO) == "ZERO"


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_the_byte_order_of_v2_is_kept_and_v3_is_little_endian(zarr_format):
    meta = new(zarr_format, dtype=">i4")
    if zarr_format == 2:
        assert meta.dtype == np.dtype(">i4")
        assert meta.codecs[0].configuration == {"endian": "big"}
    else:
        assert meta.dtype.isnative
        assert meta.codecs[0].configuration == {"endian": "little"}


def test_strings_and_bytes_of_variable_length_have_their_codecs():
    assert document(new(2, dtype=str))["filters"] == [{"id": "vlen-utf8"}]
    assert document(new(2, dtype=bytes))["filters"] == [{"id": "vlen-bytes"}]
    assert document(new(3, dtype=str))["codecs"][0] == {"name": "vlen-utf8", "configuration": {}}
    assert document(new(3, dtype=bytes))["codecs"][0] == {"name": "vlen-bytes", "configuration": {}}
    assert new(3, dtype=str).fill_value == ""
    assert new(2, dtype=bytes).fill_value == b""


@pytest.mark.skipif(not hasattr(np.dtypes, "StringDType"), reason="this NumPy has no StringDType")
def test_numpys_variable_length_strings_are_strings():
    assert document(new(dtype=np.dtypes.StringDType()))["data_type"] == "string"


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_objects_need_a_codec(zarr_format):
    with pytest.raises(ConfigError, match="vlen-utf8"):
        new(zarr_format, dtype=object)
    assert new(zarr_format, dtype=object, filters=["vlen-utf8"]).fill_value == ""
    assert new(zarr_format, dtype="O", filters=["vlen-bytes"]).fill_value == b""


def test_v3_codecs_make_objects_strings_or_bytes():
    assert document(new(dtype=object, codecs=["vlen-utf8", "zstd"]))["data_type"] == "string"
    assert document(new(dtype=object, codecs=[{"name": "vlen-bytes"}]))["data_type"] == "variable_length_bytes"


def test_v2_arrays_accept_other_object_codecs():
    meta = new(2, dtype=object, filters=[{"id": "vlen-array", "dtype": "<i4"}], fill_value=None)
    assert meta.codecs[0].name == "vlen-array"
    labels = {"id": "categorize", "labels": ["a"], "dtype": "|O", "astype": "|u1"}
    assert document(new(2, dtype=object, filters=[labels]))["filters"] == [labels]
    with pytest.raises(ConfigError, match="zarr_format=2"):
        new(3, dtype=object, codecs=[{"id": "vlen-array", "dtype": "<i4"}])


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("name", ["pickle", "numcodecs.pickle", "Pickle"])
def test_pickle_is_refused(name, zarr_format):
    for codec in (name, {"id": name}, {"name": name}):
        with pytest.raises(ConfigError):
            new(zarr_format, dtype=object, filters=[codec])
        with pytest.raises(ConfigError):
            new(zarr_format, compressor=codec)
    with pytest.raises(ConfigError):
        new(3, codecs=[name])


# Codecs


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        ("auto", {"id": "zstd", "level": 0}),
        ("zstd", {"id": "zstd", "level": 0}),
        (None, None),
        ("zlib", {"id": "zlib", "level": 1}),
        ("blosc", {"id": "blosc", "cname": "lz4", "clevel": 5, "shuffle": 1, "blocksize": 0}),
        ({"id": "gzip", "level": 9}, {"id": "gzip", "level": 9}),
        ({"id": "lzma", "preset": 6}, {"id": "lzma", "format": 1, "check": -1, "preset": 6, "filters": None}),
        ({"id": "zstd", "level": 3, "checksum": False}, {"id": "zstd", "level": 3}),
        ({"id": "zstd", "level": 3, "checksum": True}, {"id": "zstd", "level": 3, "checksum": True}),
        ("mycodec", {"id": "mycodec"}),
    ],
    ids=str,
)
def test_compressors_of_v2_are_accepted_in_every_form(option, expected):
    assert document(new(2, compressor=option))["compressor"] == expected


BYTES = {"name": "bytes", "configuration": {"endian": "little"}}


@pytest.mark.parametrize(
    ("option", "expected"),
    [
        (None, []),
        ("gzip", [{"name": "gzip", "configuration": {"level": 5}}]),
        ({"id": "gzip", "level": 1}, [{"name": "gzip", "configuration": {"level": 1}}]),
        ({"id": "zstd", "level": 3}, [{"name": "zstd", "configuration": {"level": 3, "checksum": False}}]),
        ("crc32c", [{"name": "crc32c"}]),
        ("zlib", [{"name": "numcodecs.zlib", "configuration": {"level": 1}}]),
        ({"id": "lz4"}, [{"name": "numcodecs.lz4", "configuration": {"acceleration": 1}}]),
        ({"id": "crc32c"}, [{"name": "numcodecs.crc32c", "configuration": {}}]),
        (
            "blosc",
            [
                {
                    "name": "blosc",
                    "configuration": {
                        "typesize": 4,
                        "cname": "zstd",
                        "clevel": 5,
                        "shuffle": "shuffle",
                        "blocksize": 0,
                    },
                }
            ],
        ),
        (
            {"id": "blosc", "cname": "lz4", "clevel": 1, "shuffle": 2},
            [
                {
                    "name": "blosc",
                    "configuration": {
                        "typesize": 4,
                        "cname": "lz4",
                        "clevel": 1,
                        "shuffle": "bitshuffle",
                        "blocksize": 0,
                    },
                }
            ],
        ),
    ],
    ids=str,
)
def test_compressors_of_v3_are_accepted_in_every_form(option, expected):
    assert document(new(compressor=option))["codecs"] == [BYTES, *expected]


@pytest.mark.parametrize("shuffle", [-1, None])
def test_blosc_uses_bitshuffle_for_single_bytes(shuffle):
    option = {"id": "blosc", "shuffle": shuffle} if shuffle else {"id": "blosc"}
    configuration = document(new(dtype="u1", compressor=option))["codecs"][1]["configuration"]
    assert (configuration["typesize"], configuration["shuffle"]) == (1, "bitshuffle")


def test_filters_are_accepted_in_both_formats():
    delta = {"id": "delta", "dtype": "<i4"}
    assert document(new(2, dtype="<i4", filters=[delta]))["filters"] == [delta]
    codecs = document(new(3, dtype="<i4", filters=[delta], compressor=None))["codecs"]
    assert codecs == [{"name": "numcodecs.delta", "configuration": {"dtype": "<i4"}}, BYTES]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ([], ["bytes"]),
        (["zstd"], ["bytes", "zstd"]),
        (["crc32c", "gzip"], ["bytes", "crc32c", "gzip"]),
        ([{"name": "transpose", "configuration": {"order": [1, 0]}}], ["transpose", "bytes"]),
        ([{"id": "delta", "dtype": "<f4"}, "zlib"], ["numcodecs.delta", "bytes", "numcodecs.zlib"]),
        (["bytes", "zstd"], ["bytes", "zstd"]),
        (["mine", "zstd"], ["mine", "zstd"]),
    ],
    ids=str,
)
def test_a_missing_step_to_bytes_is_added_to_a_chain(options, names):
    assert [codec["name"] for codec in document(new(codecs=options))["codecs"]] == names


def test_a_bytes_codec_gets_the_byte_order_that_it_needs():
    assert document(new(codecs=["bytes"]))["codecs"] == [BYTES]
    big = {"name": "bytes", "configuration": {"endian": "big"}}
    assert document(new(codecs=[big]))["codecs"] == [big]
    assert document(new(dtype="u1", codecs=["bytes"]))["codecs"] == [{"name": "bytes"}]


@pytest.mark.parametrize(
    ("options", "names"),
    [
        ({"compressor": "mine"}, ["bytes", "mine"]),
        ({"compressor": "pcodec"}, ["numcodecs.pcodec"]),
        ({"compressor": {"id": "zfpy", "mode": 4}}, ["numcodecs.zfpy"]),
        ({"filters": ["mine"]}, ["mine", "bytes", "zstd"]),
        ({"filters": ["shuffle", "zlib"], "compressor": None}, ["bytes", "numcodecs.shuffle", "numcodecs.zlib"]),
        ({"filters": [{"id": "delta"}, "shuffle"]}, ["numcodecs.delta", "bytes", "numcodecs.shuffle", "zstd"]),
        ({"filters": ["vlen-utf8"], "dtype": str}, ["vlen-utf8", "zstd"]),
        ({"filters": [], "compressor": None}, ["bytes"]),
    ],
    ids=str,
)
def test_filters_and_a_compressor_are_put_in_order_in_v3(options, names):
    assert [codec["name"] for codec in document(new(**options))["codecs"]] == names


def test_bytes_after_a_filter_with_a_wider_type_have_a_byte_order():
    wider = {"id": "astype", "encode_dtype": "<i4", "decode_dtype": "|u1"}
    assert document(new(dtype="u1", filters=[wider]))["codecs"][1] == BYTES
    assert document(new(dtype="u1", codecs=[wider]))["codecs"][1] == BYTES


@pytest.mark.parametrize("codec", [{"id": "categorize"}, {"name": "numcodecs.categorize"}], ids=str)
@pytest.mark.parametrize("dtype", [str, object])
def test_categories_are_stored_as_numbers_in_v3_too(codec, dtype):
    labels = {"labels": ["a"], "dtype": "|O", "astype": "|u1"}
    codec = codec | (labels if "id" in codec else {"configuration": labels})
    meta = new(dtype=dtype, codecs=[codec])
    assert [codec.name for codec in meta.codecs] == ["numcodecs.categorize", "bytes"]
    assert document(meta)["data_type"] == "string"


def test_blosc_treats_large_elements_as_single_bytes():
    assert document(new(dtype="S300", compressor="blosc"))["codecs"][1]["configuration"]["typesize"] == 1


class Numcodec:
    def get_config(self):
        return {"id": "zlib", "level": 7}


class V3Codec:
    def to_dict(self):
        return {"name": "gzip", "configuration": {"level": 7}}


def test_codec_objects_of_other_libraries_are_accepted():
    assert document(new(2, compressor=Numcodec()))["compressor"] == {"id": "zlib", "level": 7}
    assert document(new(3, compressor=Numcodec()))["codecs"][1]["name"] == "numcodecs.zlib"
    assert document(new(3, codecs=[V3Codec()]))["codecs"][1] == V3Codec().to_dict()


# The rest


def test_order_f_is_a_transpose_in_v3():
    assert document(new(2, order="F"))["order"] == "F"
    codecs = document(new(3, order="F"))["codecs"]
    assert codecs[0] == {"name": "transpose", "configuration": {"order": [1, 0]}}
    assert new(3, order="F").order == new(2, order="F").order == "F"
    assert document(new(3, order="F", shape=5))["codecs"][0]["name"] == "bytes"


def test_shards_are_a_sharding_codec():
    meta = new(chunks=(5, 2), shards=(10, 4), order="F")
    assert (meta.chunks, meta.shards, meta.order) == ((5, 2), (10, 4), "F")
    [codec] = document(meta)["codecs"]
    assert codec["configuration"]["chunk_shape"] == [5, 2]
    assert [inner["name"] for inner in codec["configuration"]["codecs"]] == ["transpose", "bytes", "zstd"]
    assert codec["configuration"]["index_codecs"] == [BYTES, {"name": "crc32c"}]
    assert new(shape=2**30, chunks="auto", shards=2**24).chunks == (2**18,)


@pytest.mark.parametrize(
    ("options", "name", "separator"),
    [
        ({}, "default", "/"),
        ({"dimension_separator": "."}, "default", "."),
        ({"chunk_key_encoding": "v2"}, "v2", "."),
        ({"chunk_key_encoding": "v2", "dimension_separator": "/"}, "v2", "/"),
        ({"chunk_key_encoding": {"name": "v2", "separator": "/"}}, "v2", "/"),
        ({"chunk_key_encoding": {"name": "default", "configuration": {"separator": "."}}}, "default", "."),
        ({"chunk_key_encoding": {"separator": "."}}, "default", "."),
    ],
    ids=str,
)
def test_chunk_key_encodings_of_v3_are_accepted(options, name, separator):
    meta = new(**options)
    assert (meta.keys.name, meta.keys.separator) == (name, separator)


@pytest.mark.parametrize(
    ("options", "separator"),
    [
        ({}, "."),
        ({"dimension_separator": "/"}, "/"),
        ({"chunk_key_encoding": {"name": "v2", "separator": "/"}}, "/"),
    ],
    ids=str,
)
def test_separators_of_v2_are_accepted(options, separator):
    assert new(2, **options).keys.separator == separator


def test_dimension_names_are_stored():
    assert new(dimension_names=["x", None]).dimension_names == ("x", None)
    assert document(new(dimension_names=("x", "y")))["dimension_names"] == ["x", "y"]
    meta = new(2, dimension_names=["x", "y"], attributes={"a": 1})
    assert meta.dimension_names == ("x", "y")
    assert meta.attributes == {"a": 1, "_ARRAY_DIMENSIONS": ["x", "y"]}


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(
    "options",
    [
        *({"shape": value} for value in (-1, (1, -1), 2.5, None, "x", True)),
        *({"dtype": value} for value in ("x", "float1024", None.__class__, "S", "U", "f16", ..., [("a", "O")], 7)),
        *({"dtype": value} for value in ({"name": "unheard-of"}, {"name": 3}, [("a", "i4"), ("a", "i4")], "S99999999")),
        *({"chunks": value} for value in (0, (5,), "small", (5, 0), (2**40, 2**40))),
        *({"fill_value": value} for value in ("x", 1j, ..., b"1", 1e300)),
        *({"order": value} for value in ("A", None, 1, "c")),
        *({"dimension_separator": value} for value in ("", "-", 1)),
        *({"chunk_key_encoding": value} for value in ("default.", 3, {"name": "morton"}, {"name": "v2", "x": 1})),
        {"chunk_key_encoding": {"name": "v2", "separator": "."}, "dimension_separator": "/"},
        {"chunk_key_encoding": {"name": "v2", "separator": "-"}},
        {"chunk_key_encoding": {"name": "v2", "configuration": 3}},
        *({"dimension_names": value} for value in ("xy", ["x"], ["x", 1], 3, ["x", "\ud800"])),
        pytest.param({"dimension_names": {"x", "y"}}, id="dimension_names-a-set"),
        *({"attributes": value} for value in ([], "x", {1: 2}, {"a": ...})),
        *({"compressor": value} for value in (1, {}, {"level": 1}, [], ..., {"id": 3})),
        *({"filters": value} for value in ([1], [{}], [None], [...], "delta", {"id": "delta"}, 3)),
    ],
    ids=str,
)
def test_invalid_options_are_config_errors(options, zarr_format):
    with pytest.raises(ConfigError):
        new(zarr_format, **options)


@pytest.mark.parametrize(
    ("zarr_format", "options"),
    [
        (2, {"shards": (10, 4), "chunks": (5, 2)}),
        (2, {"codecs": ["zstd"]}),
        (2, {"chunk_key_encoding": "default"}),
        (2, {"dimension_names": ["x", None]}),
        (2, {"dimension_names": ["x", "y"], "attributes": {"_ARRAY_DIMENSIONS": ["y", "x"]}}),
        (2, {"compressor": {"name": "zstd"}}),
        (3, {"shards": (10, 4), "chunks": (3, 2)}),
        (3, {"shards": (10,), "chunks": (5, 2)}),
        (3, {"shards": (10, 0), "chunks": (5, 2)}),
        (3, {"codecs": ["zstd"], "compressor": None}),
        (3, {"codecs": ["zstd"], "filters": []}),
        (3, {"codecs": "zstd"}),
        (3, {"codecs": {"name": "zstd"}}),
        (3, {"codecs": [3]}),
        (3, {"codecs": [{"name": 3}]}),
        (3, {"codecs": [{"name": "zstd", "configuration": 3}]}),
        (3, {"codecs": [{"name": "sharding_indexed"}]}),
        (3, {"dtype": str, "codecs": ["bytes"]}),
        (3, {"dtype": [("a", "i4", (2,))]}),
        (3, {"attributes": {"a": float("nan")}}),
        (4, {}),
        (True, {}),
        ("3", {}),
        (None, {}),
    ],
    ids=str,
)
def test_options_of_the_other_format_are_config_errors(zarr_format, options):
    with pytest.raises(ConfigError):
        new(zarr_format, **options)


def test_every_option_error_names_the_option():
    for name, value in {
        "chunks": 0,
        "shape": -1,
        "order": "A",
        "fill_value": 1j,
        "dimension_names": 3,
    }.items():
        with pytest.raises(ConfigError, match=name):
            new(**{name: value})


def test_unsupported_features_in_options_are_config_errors():
    with pytest.raises(ConfigError) as caught:
        new(dtype={"name": "unheard-of"})
    assert not isinstance(caught.value, UnsupportedFeature)
