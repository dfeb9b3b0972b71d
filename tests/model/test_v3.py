"""`zarr.json` is read strictly, and edits keep the members of other writers."""

import json

import numpy as np
import pytest

from zarr_s3_async._model import v3
from zarr_s3_async._model.keys import KeyEncoding
from zarr_s3_async.errors import ConfigError, MetadataError, UnsupportedFeature

from .documents import URL, group_json, stored, zarr_json


def parse(**changes):
    return v3.parse_array({"zarr.json": stored(zarr_json(**changes))}, url=URL)


def parse_group(**changes):
    return v3.parse_group({"zarr.json": stored(group_json(**changes))}, url=URL)


def test_a_v3_array_has_the_values_of_its_document():
    meta = parse(dimension_names=["x", None], attributes={"a": [1, {"b": None}]}, fill_value="NaN")
    assert (meta.shape, meta.chunks, meta.shards) == ((10, 4), (5, 2), None)
    assert meta.dtype == np.dtype("f4")
    assert np.isnan(meta.fill_value)
    assert meta.keys == KeyEncoding("default", "/")
    assert meta.dimension_names == ("x", None)
    assert meta.attributes == {"a": [1, {"b": None}]}
    assert (meta.zarr_format, meta.documents) == (3, ("zarr.json",))
    assert meta.object_key((1, 0)) == "c/1/0"


def test_big_endian_arrays_have_a_native_dtype_in_memory():
    meta = parse(codecs=[{"name": "bytes", "configuration": {"endian": "big"}}])
    assert meta.dtype.isnative
    assert meta.codecs[0].configuration == {"endian": "big"}


@pytest.mark.parametrize(
    ("encoding", "expected"),
    [
        ("default", KeyEncoding("default", "/")),
        ("v2", KeyEncoding("v2", ".")),
        ({"name": "default"}, KeyEncoding("default", "/")),
        ({"name": "v2"}, KeyEncoding("v2", ".")),
        ({"name": "default", "configuration": {"separator": "."}}, KeyEncoding("default", ".")),
        ({"name": "v2", "configuration": {"separator": "/"}}, KeyEncoding("v2", "/")),
    ],
    ids=str,
)
def test_chunk_key_encodings_are_read_in_every_form(encoding, expected):
    assert parse(chunk_key_encoding=encoding).keys == expected


def test_a_rectilinear_grid_of_one_size_per_dimension_is_regular():
    grid = {"name": "rectilinear", "configuration": {"kind": "inline", "chunk_shapes": [5, 2]}}
    assert parse(chunk_grid=grid).chunks == (5, 2)
    grid["configuration"]["chunk_shapes"] = [[5, 5], 2]
    assert (parse(chunk_grid=grid).chunks, parse(chunk_grid=grid).edges) == ((5, 2), None)


@pytest.mark.parametrize("names", [None, ...])
def test_dimensions_may_have_no_names(names):
    assert parse(dimension_names=names).dimension_names is None


REQUIRED = [
    *(
        "zarr_format",
        "node_type",
        "shape",
        "data_type",
        "chunk_grid",
        "chunk_key_encoding",
        "fill_value",
        "codecs",
    ),
]


@pytest.mark.parametrize("name", REQUIRED)
def test_the_error_of_a_missing_v3_member_names_it(name):
    with pytest.raises(MetadataError, match=name) as caught:
        parse(**{name: ...})
    assert caught.value.url == URL


def grid(chunk_shape):
    return {"name": "regular", "configuration": {"chunk_shape": chunk_shape}}


@pytest.mark.parametrize(
    "changes",
    [
        *({"zarr_format": value} for value in (2, 4, "3", 3.0, True, None)),
        *({"node_type": value} for value in ("group", "Array", None, 1, [])),
        *({"shape": value} for value in (None, 10, [10], [10, -4], [10, 4.0], [10, True], [10, 2**63], {}, "10")),
        *({"chunk_grid": value} for value in (None, 5, [5, 2], {}, "regular", {"name": "regular"})),
        *({"chunk_grid": grid(value)} for value in (None, 5, [5], [5, 0], [5, -1], [5, 2.0], [5, True], [5, [2]])),
        *(
            {"chunk_key_encoding": value}
            for value in (None, 5, {}, {"name": "v2", "configuration": {"separator": "-"}})
        ),
        *({"dimension_names": value} for value in ("xy", ["x"], ["x", 1], [None, None, None], {}, [["x"], "y"])),
        *({"attributes": value} for value in ([], "x", 1)),
        *({"storage_transformers": value} for value in ({}, "x", [1], [{}])),
        *({"fill_value": value} for value in ("x", [], {}, True)),
        *({"data_type": value} for value in (None, 4, [], {})),
    ],
    ids=str,
)
def test_a_member_of_the_wrong_kind_is_a_metadata_error(changes):
    with pytest.raises(MetadataError, match=r"memory://test/array/zarr\.json"):
        parse(**changes)


@pytest.mark.parametrize(
    ("changes", "name"),
    [
        ({"data_type": "float1024"}, "float1024"),
        ({"chunk_grid": {"name": "hexagonal"}}, "hexagonal"),
        (
            {"chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [5, 2], "origin": [1, 1]}}},
            "origin",
        ),
        ({"chunk_key_encoding": "morton"}, "morton"),
        ({"chunk_key_encoding": {"name": "v2", "configuration": {"prefix": "x"}}}, "prefix"),
        ({"storage_transformers": [{"name": "transmogrify"}]}, "transmogrify"),
        ({"storage_transformers": ["transmogrify"]}, "transmogrify"),
        ({"extension": {"must_understand": True}}, "extension"),
        ({"extension": {}}, "extension"),
        ({"extension": None}, "extension"),
        ({"extension": {"must_understand": 0}}, "extension"),
        ({"consolidated_metadata": {}}, "consolidated_metadata"),
    ],
    ids=str,
)
def test_unknown_members_that_must_be_understood_are_refused(changes, name):
    with pytest.raises(UnsupportedFeature, match=name):
        parse(**changes)


def test_unknown_members_that_need_not_be_understood_are_ignored():
    meta = parse(
        extension={"must_understand": False, "anything": [float("nan")]},
        storage_transformers=[{"name": "transmogrify", "must_understand": False}],
    )
    assert meta.shape == (10, 4)


@pytest.mark.parametrize("literal", ["NaN", "-Infinity", "1e999"])
def test_nan_literals_are_refused_outside_v3_attributes_and_fill_values(literal):
    codecs = ["bytes", {"name": "gzip", "configuration": {"level": 7}}]
    raw = stored(zarr_json(data_type="int8", fill_value=0, codecs=codecs)).replace(b": 7", f": {literal}".encode())
    with pytest.raises(MetadataError, match="codecs"):
        v3.parse_array({"zarr.json": raw}, url=URL)
    raw = stored(zarr_json(attributes={"x": 7})).replace(b'"x": 7', f'"x": {literal}'.encode())
    assert v3.parse_array({"zarr.json": raw}, url=URL).attributes


def test_more_dimensions_than_numpy_has_are_refused():
    with pytest.raises(UnsupportedFeature, match="33 dimensions"):
        parse(shape=[1] * 33, chunk_grid=grid([1] * 33))


# Edits


EXTENSION = {"history": {"must_understand": False, "by": "another writer", "nan": [0.1]}}


def edited(meta):
    return json.loads(v3.dump_array(meta)["zarr.json"])


@pytest.mark.parametrize("fill", ["0x7fc00001", "NaN", 0, 1e-7])
def test_a_resize_of_v3_metadata_changes_only_the_shape(fill):
    before = zarr_json(fill_value=fill, attributes={"a": 1}, **EXTENSION)
    meta = v3.with_shape(parse(fill_value=fill, attributes={"a": 1}, **EXTENSION), [3, 4])
    assert meta.shape == (3, 4)
    assert edited(meta) == {**before, "shape": [3, 4]}
    assert list(edited(meta)) == list(before)


def test_an_edit_of_attributes_changes_only_them():
    before = zarr_json(attributes={"a": 1}, **EXTENSION)
    meta = v3.with_attributes(parse(attributes={"a": 1}, **EXTENSION), {"b": 2})
    assert edited(meta) == {**before, "attributes": {"b": 2}}
    assert list(edited(meta)) == list(before)
    assert meta.attributes == {"b": 2}


def test_edits_do_not_change_the_original_metadata():
    meta = parse(attributes={"a": 1})
    v3.with_attributes(meta, {"b": 2})
    v3.with_shape(meta, (1, 1))
    assert (meta.attributes, meta.shape, edited(meta)["attributes"]) == ({"a": 1}, (10, 4), {"a": 1})


def test_an_undone_edit_restores_the_document():
    meta = parse(attributes={"a": 1}, **EXTENSION)
    again = v3.with_attributes(v3.with_shape(v3.with_shape(meta, (1, 1)), (10, 4)), {"a": 1})
    assert v3.dump_array(again) == v3.dump_array(meta)


@pytest.mark.parametrize("shape", [(20,), (20, -1), (20, 4.5), "ab", None])
def test_an_invalid_new_shape_of_v3_is_refused(shape):
    with pytest.raises(ConfigError, match="shape"):
        v3.with_shape(parse(), shape)


def test_a_new_nan_attribute_is_refused_and_an_existing_one_is_kept():
    with pytest.raises(ConfigError, match="NaN"):
        v3.with_attributes(parse(attributes={"a": 1}), {"b": float("nan")})
    meta = parse(attributes={"a": float("nan")})
    assert "NaN" in v3.dump_array(v3.with_attributes(meta, {**meta.attributes, "b": 1}))["zarr.json"].decode()


# Groups


def test_a_v3_group_has_the_values_of_its_document():
    meta = parse_group(attributes={"a": 1}, **EXTENSION)
    assert (meta.attributes, meta.consolidated, meta.documents) == ({"a": 1}, None, ("zarr.json",))
    after = v3.with_attributes(meta, {})
    assert json.loads(v3.dump_group(after)["zarr.json"]) == group_json(attributes={}, **EXTENSION)


def test_a_group_may_have_no_attributes():
    assert parse_group(attributes=...).attributes == {}


@pytest.mark.parametrize(
    "changes", [{"node_type": "array"}, {"zarr_format": 2}, {"attributes": []}, {"node_type": ...}]
)
def test_an_invalid_group_is_a_metadata_error(changes):
    with pytest.raises(MetadataError, match=r"zarr\.json"):
        parse_group(**changes)


def test_the_error_of_an_unknown_member_of_a_group_names_it():
    with pytest.raises(UnsupportedFeature, match="extension"):
        parse_group(extension=1)


def test_a_new_v3_group_has_one_document():
    assert json.loads(v3.dump_group(v3.new_group({"a": 1}))["zarr.json"]) == group_json(attributes={"a": 1})
