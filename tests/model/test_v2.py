"""`.zarray`, `.zgroup` and `.zattrs` are read strictly, and edits keep the members of other writers."""

import json

import numpy as np
import pytest

from zarr_s3_async._model import formats, v2
from zarr_s3_async._model.keys import KeyEncoding
from zarr_s3_async.errors import ConfigError, MetadataError, UnsupportedFeature

from .documents import URL, stored, zarray


def parse(attributes=None, **changes):
    docs = {".zarray": stored(zarray(**changes))}
    if attributes is not None:
        docs[".zattrs"] = attributes if isinstance(attributes, bytes) else stored(attributes)
    return v2.parse_array(docs, url=URL)


def test_a_v2_array_has_the_values_of_its_document():
    meta = parse(dtype=">i2", fill_value=-7, order="F", dimension_separator="/")
    assert (meta.shape, meta.chunks, meta.shards, meta.order) == ((10, 4), (5, 2), None, "F")
    assert meta.dtype == np.dtype(">i2")
    assert meta.fill_value == -7
    assert meta.fill_value.dtype == np.int16
    assert meta.keys == KeyEncoding("v2", "/")
    assert (meta.zarr_format, meta.attributes, meta.dimension_names) == (2, {}, None)
    assert meta.documents == (".zarray",)
    assert meta.object_key((1, 0)) == "1/0"


def test_the_default_separator_is_a_period():
    assert parse().keys == KeyEncoding("v2", ".")


def test_scalars_and_empty_arrays_are_read():
    assert parse(shape=[], chunks=[]).grid_shape == ()
    assert parse(shape=[0, 4]).grid_shape == (0, 2)


def test_a_huge_shape_is_accepted():
    assert parse(shape=[2**62, 2**62]).size == 2**124


def test_attributes_are_read_leniently():
    meta = parse(b'{"a": NaN, "b": [Infinity, -Infinity], "c": "\\ud800"}')
    assert np.isnan(meta.attributes["a"])
    assert meta.documents == (".zarray", ".zattrs")


@pytest.mark.parametrize("attributes", [b"", b"[]", b"{", b'{"a": 1, "a": 2}', b'{"a": "\xff"}', b"null"])
def test_the_error_of_invalid_attributes_names_them(attributes):
    with pytest.raises(MetadataError, match=r"memory://test/array/\.zattrs"):
        parse(attributes)


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["x", "y"], ("x", "y")),
        (["x"], None),
        ("xy", None),
        ([1, 2], None),
        (["x", None], None),
        (None, None),
    ],
)
def test_the_dimensions_attribute_of_xarray_gives_dimension_names(names, expected):
    assert parse({"_ARRAY_DIMENSIONS": names}).dimension_names == expected


def test_unknown_members_are_ignored_and_kept():
    extra = {"_nczarr_array": {"dimrefs": ["/x"]}, "huge": float("inf")}
    meta = parse(**extra)
    assert json.loads(v2.dump_array(meta)[".zarray"])["_nczarr_array"] == extra["_nczarr_array"]


REQUIRED = ["zarr_format", "shape", "chunks", "dtype", "fill_value", "order"]


@pytest.mark.parametrize("name", REQUIRED)
def test_the_error_of_a_missing_v2_member_names_it(name):
    with pytest.raises(MetadataError, match=name) as caught:
        parse(**{name: ...})
    assert caught.value.url == URL


@pytest.mark.parametrize(
    "changes",
    [
        *({"zarr_format": value} for value in (3, 1, "2", 2.0, True, None)),
        *({"shape": value} for value in (None, 10, "10", [10], [10, -4], [10, 4.0], [10, True], [10, "4"], [10, None])),
        *({"shape": value} for value in ([10, 2**63], [10, [4]], {}, [10, 4, 1])),
        *({"chunks": value} for value in (None, [5], [5, 0], [5, -1], [5, 2.0], [5, True], [5, [2]], True, {})),
        *({"dtype": value} for value in (None, 4, "|f4", [], ["a"], {})),
        *({"order": value} for value in (None, "c", "A", 1, [], {})),
        *({"dimension_separator": value} for value in (None, "", "-", "./", 1, [])),
        *({"fill_value": value} for value in ("x", [], {}, True)),
    ],
    ids=str,
)
def test_a_member_of_the_wrong_kind_is_a_metadata_error(changes):
    with pytest.raises(MetadataError, match=r"memory://test/array/\.zarray"):
        parse(**changes)


@pytest.mark.parametrize("literal", ["NaN", "Infinity", "1e999"])
def test_nan_literals_are_refused_outside_v2_attributes_and_fill_values(literal):
    raw = stored(zarray()).replace(b'"level": 1', f'"level": {literal}'.encode())
    with pytest.raises(MetadataError, match="compressor"):
        v2.parse_array({".zarray": raw}, url=URL)


def test_more_dimensions_than_numpy_has_are_refused():
    with pytest.raises(UnsupportedFeature, match="33 dimensions"):
        parse(shape=[1] * 33, chunks=[1] * 33)


def test_a_chunk_that_is_too_large_to_decode_is_refused():
    with pytest.raises(UnsupportedFeature, match="chunk"):
        parse(shape=[2**50, 1], chunks=[2**40, 1])


# Edits


EXTRA = {"_nczarr_array": {"storage": "chunked"}, "zz": None}


def edited(meta):
    return {name: json.loads(raw) for name, raw in v2.dump_array(meta).items()}


def test_a_resize_of_v2_metadata_changes_only_the_shape():
    meta = parse({"a": 1}, fill_value="NaN", **EXTRA)
    grown = v2.with_shape(meta, (20, 4))
    assert grown.shape == (20, 4)
    assert edited(grown) == {".zarray": zarray(shape=[20, 4], fill_value="NaN", **EXTRA), ".zattrs": {"a": 1}}
    assert list(json.loads(v2.dump_array(grown)[".zarray"])) == list(zarray(**EXTRA))
    assert meta.shape == (10, 4)
    assert meta.source["shape"] == [10, 4]
    assert v2.dump_array(grown)[".zattrs"] == v2.dump_array(meta)[".zattrs"]


@pytest.mark.parametrize("shape", [(20,), (20, -1), (20, 4.5), (20, True), "ab", None, (20, 2**63)])
def test_an_invalid_new_shape_of_v2_is_refused(shape):
    with pytest.raises(ConfigError, match="shape"):
        v2.with_shape(parse(), shape)


def test_new_attributes_do_not_change_the_array_document():
    meta = parse({"a": 1}, **EXTRA)
    after = v2.with_attributes(meta, {"b": (1, 2), "c": np.float32(0.5)})
    assert edited(after)[".zattrs"] == {"b": [1, 2], "c": 0.5}
    assert v2.dump_array(after)[".zarray"] == v2.dump_array(meta)[".zarray"]
    assert meta.attributes == {"a": 1}


def test_attributes_are_stored_only_if_there_are_or_were_any():
    assert list(v2.dump_array(parse())) == [".zarray"]
    assert list(v2.dump_array(parse({}))) == [".zarray", ".zattrs"]
    emptied = v2.with_attributes(parse({"a": 1}), {})
    assert edited(emptied)[".zattrs"] == {}


def test_changed_attributes_change_the_dimension_names():
    meta = v2.with_attributes(parse({"_ARRAY_DIMENSIONS": ["x", "y"]}), {"_ARRAY_DIMENSIONS": ["lat", "lon"]})
    assert meta.dimension_names == ("lat", "lon")
    assert v2.with_attributes(meta, {}).dimension_names is None


def test_nan_is_accepted_as_an_attribute_in_v2():
    meta = v2.with_attributes(parse(), {"missing": float("nan")})
    assert b"NaN" in v2.dump_array(meta)[".zattrs"]


# Groups


def group(*, attributes=None, **changes):
    docs = {".zgroup": stored({"zarr_format": 2, **changes})}
    if attributes is not None:
        docs[".zattrs"] = stored(attributes)
    return v2.parse_group(docs, url=URL)


def test_a_v2_group_has_the_values_of_its_documents():
    meta = group(attributes={"a": 1}, _nczarr_group={"x": 1})
    assert meta.attributes == {"a": 1}
    assert meta.consolidated is None
    after = v2.with_attributes(meta, {"b": 2})
    assert {name: json.loads(raw) for name, raw in v2.dump_group(after).items()} == {
        ".zgroup": {"zarr_format": 2, "_nczarr_group": {"x": 1}},
        ".zattrs": {"b": 2},
    }


@pytest.mark.parametrize("zarr_format", [3, "2", 2.0, None, True])
def test_a_group_of_another_format_is_refused(zarr_format):
    with pytest.raises(MetadataError, match=r"\.zgroup"):
        group(zarr_format=zarr_format)


def test_a_new_v2_group_has_one_or_two_documents():
    assert v2.dump_group(v2.new_group()) == {".zgroup": formats.dump(v2.new_group())[".zgroup"]}
    assert list(v2.dump_group(v2.new_group({"a": 1}))) == [".zgroup", ".zattrs"]
