"""The documents that decide the kind and the format of a node."""

import pytest

from zarr_s3_async._model import formats
from zarr_s3_async._model.metadata import ArrayMeta, GroupMeta
from zarr_s3_async.errors import ConfigError, MetadataError

from .documents import URL, group_json, stored, zarr_json, zarray

V3_ARRAY = {"zarr.json": stored(zarr_json())}
V3_GROUP = {"zarr.json": stored(group_json())}
V2_ARRAY = {".zarray": stored(zarray()), ".zattrs": b'{"a": 1}'}
V2_GROUP = {".zgroup": b'{"zarr_format": 2}', ".zattrs": b'{"a": 1}'}


@pytest.mark.parametrize(
    ("docs", "kind", "zarr_format"),
    [
        (V3_ARRAY, ArrayMeta, 3),
        (V3_GROUP, GroupMeta, 3),
        (V2_ARRAY, ArrayMeta, 2),
        (V2_GROUP, GroupMeta, 2),
        (V2_ARRAY | V3_GROUP, GroupMeta, 3),
        (V2_GROUP | V2_ARRAY, ArrayMeta, 2),
    ],
)
def test_the_documents_decide_kind_and_format(docs, kind, zarr_format):
    meta = formats.parse_node(docs, url=URL)
    assert isinstance(meta, kind)
    assert meta.zarr_format == zarr_format
    assert list(formats.dump(meta)) == list(meta.documents)


def test_the_format_can_be_requested():
    both = V2_ARRAY | V3_GROUP
    assert isinstance(formats.parse_node(both, url=URL, zarr_format=2), ArrayMeta)
    assert isinstance(formats.parse_node(both, url=URL, zarr_format=3), GroupMeta)
    assert formats.parse_node(V2_ARRAY, url=URL, zarr_format=3) is None
    assert formats.parse_node(V3_ARRAY, url=URL, zarr_format=2) is None


@pytest.mark.parametrize("docs", [{}, {".zattrs": b"{}"}])
def test_without_a_deciding_document_there_is_no_node(docs):
    assert formats.parse_node(docs, url=URL) is None


@pytest.mark.parametrize("docs", [{"zarr.json": b""}, {"zarr.json": b'{"zarr_format": 3, "node_type": "x"}'}])
def test_a_node_without_a_kind_is_a_metadata_error(docs):
    with pytest.raises(MetadataError, match=r"memory://test/array/zarr\.json"):
        formats.parse_node(docs, url=URL)


def test_the_documents_have_the_specified_names():
    assert formats.document_names(2) == (".zarray", ".zgroup", ".zattrs")
    assert formats.document_names(3) == ("zarr.json",)
    assert set(formats.document_names(None)) == {"zarr.json", ".zarray", ".zgroup", ".zattrs"}


@pytest.mark.parametrize("docs", [V3_ARRAY, V2_ARRAY])
def test_arrays_of_both_formats_are_edited_in_the_same_way(docs):
    meta = formats.parse_node(docs, url=URL)
    assert formats.with_shape(meta, (3, 4)).shape == (3, 4)
    assert formats.with_attributes(meta, {"b": 2}).attributes == {"b": 2}


@pytest.mark.parametrize("docs", [V3_GROUP, V2_GROUP])
def test_groups_of_both_formats_are_edited_in_the_same_way(docs):
    meta = formats.parse_node(docs, url=URL)
    assert formats.with_attributes(meta, {"b": 2}).attributes == {"b": 2}


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_new_group_is_read_back(zarr_format):
    meta = formats.new_group({"a": 1}, zarr_format=zarr_format)
    assert formats.parse_node(formats.dump(meta), url=URL).attributes == {"a": 1}


@pytest.mark.parametrize("zarr_format", [1, "3", True, None])
def test_an_unknown_format_is_refused(zarr_format):
    with pytest.raises(ConfigError, match="zarr_format"):
        formats.new_group(zarr_format=zarr_format)
