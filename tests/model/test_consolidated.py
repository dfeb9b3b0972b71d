"""Consolidated metadata is read and written, and entries outside the group are ignored."""

import json
import logging

import pytest

from zarr_s3_async._model import formats, v2, v3
from zarr_s3_async._model.metadata import ArrayMeta, GroupMeta
from zarr_s3_async.errors import ConfigError, MetadataError, UnsupportedFeature

from .documents import URL, group_json, new_array, stored, zarr_json, zarray

BAD_PATHS = ["../up", "/abs", "a//b", "a/../b", "a\\b", "a\0b", ".", "", "zarr.json", "a/.zarray", "\ud800"]


def zmetadata(entries, **changes):
    return {"zarr_consolidated_format": 1, "metadata": entries, **changes}


def v2_group(entries, **changes):
    docs = {".zgroup": b'{"zarr_format": 2}', ".zmetadata": stored(zmetadata(entries, **changes))}
    return v2.parse_group(docs, url=URL)


def inline(nodes, **changes):
    return {"kind": "inline", "must_understand": False, "metadata": nodes, **changes}


def v3_group(value, **changes):
    return v3.parse_group({"zarr.json": stored(group_json(consolidated_metadata=value, **changes))}, url=URL)


def nodes_below(group):
    return {path: formats.parse_node(files, url=URL) for path, files in group.consolidated.items()}


def test_v2_entries_are_read_by_path_and_file():
    group = v2_group(
        {
            ".zgroup": {"zarr_format": 2},
            ".zattrs": {"own": 1},
            "a/.zarray": zarray(),
            "a/.zattrs": {"x": float("nan")},
            "g/.zgroup": {"zarr_format": 2},
            "g/b/.zarray": zarray(shape=[1, 1]),
            "g/.nczgroup": {"ignored": True},
        }
    )
    below = nodes_below(group)
    assert sorted(below) == ["a", "g", "g/b"]
    assert isinstance(below["g"], GroupMeta)
    assert isinstance(below["a"], ArrayMeta)
    assert "x" in below["a"].attributes
    assert below["g/b"].shape == (1, 1)
    assert group.attributes == {}


def test_a_v2_group_can_be_opened_from_consolidated_metadata_only():
    entries = {".zgroup": {"zarr_format": 2}, ".zattrs": {"own": 1}, "a/.zarray": zarray()}
    group = formats.parse_node({".zmetadata": stored(zmetadata(entries))}, url=URL)
    assert group.attributes == {"own": 1}
    assert list(group.consolidated) == ["a"]
    with pytest.raises(MetadataError, match=r"\.zgroup"):
        formats.parse_node({".zmetadata": stored(zmetadata({"a/.zarray": zarray()}))}, url=URL)


def test_v3_entries_are_read_by_path():
    group = v3_group(inline({"a": zarr_json(), "g": group_json(), "g/b": zarr_json(shape=[1, 1])}))
    below = nodes_below(group)
    assert sorted(below) == ["a", "g", "g/b"]
    assert below["g/b"].shape == (1, 1)


@pytest.mark.parametrize(
    "value", [None, ..., {"must_understand": False}, {"kind": "elsewhere", "must_understand": False}]
)
def test_v3_consolidated_metadata_without_nodes_is_ignored(value):
    assert v3_group(value).consolidated is None


@pytest.mark.parametrize("value", [{}, {"kind": "elsewhere"}, {"kind": "elsewhere", "must_understand": True}])
def test_an_unknown_kind_of_consolidated_metadata_is_refused(value):
    with pytest.raises(UnsupportedFeature, match="kind"):
        v3_group(value)


@pytest.mark.parametrize("value", [1, "inline", [], {"kind": "inline"}, inline([]), inline(None)])
def test_an_invalid_v3_entry_is_a_metadata_error(value):
    with pytest.raises(MetadataError, match=r"metadata"):
        v3_group(value)


@pytest.mark.parametrize(
    "changes", [{"zarr_consolidated_format": 2}, {"zarr_consolidated_format": True}, {"metadata": []}]
)
def test_an_invalid_v2_document_is_a_metadata_error(changes):
    with pytest.raises(MetadataError, match=r"\.zmetadata"):
        v2_group({}, **changes)


@pytest.mark.parametrize("path", BAD_PATHS)
def test_entries_outside_the_group_are_left_out_with_a_warning(path, caplog):
    with caplog.at_level(logging.WARNING, logger="zarr_s3_async"):
        assert list(v3_group(inline({"ok": zarr_json(), path: zarr_json()})).consolidated) == ["ok"]
        if path:
            assert list(v2_group({"ok/.zarray": zarray(), f"{path}/.zarray": zarray()}).consolidated) == ["ok"]
    assert len(caplog.records) == (2 if path else 1)


@pytest.mark.parametrize("document", [None, 1, "x", [], {"zarr_format": 2}, {}])
def test_invalid_entries_are_left_out(document):
    assert list(v3_group(inline({"ok": zarr_json(), "bad": document})).consolidated) == ["ok"]
    if not isinstance(document, dict):
        assert list(v2_group({"ok/.zarray": zarray(), "bad/.zarray": document}).consolidated) == ["ok"]


def test_attributes_without_a_node_are_left_out():
    assert list(v2_group({"a/.zattrs": {}, "b/.zarray": zarray()}).consolidated) == ["b"]


def test_an_invalid_document_does_not_affect_the_others():
    group = v3_group(inline({"ok": zarr_json(), "bad": zarr_json(shape="x")}))
    assert formats.parse_node(group.consolidated["ok"], url=URL).shape == (10, 4)
    with pytest.raises(MetadataError):
        formats.parse_node(group.consolidated["bad"], url=URL)


# Writing


def array(zarr_format, attributes=None):
    return new_array(shape=4, dtype="i4", zarr_format=zarr_format, attributes=attributes, fill_value=1)


@pytest.mark.parametrize("zarr_format", [2, 3])
def test_written_consolidated_metadata_is_read_back(zarr_format):
    nodes = {
        "g/b": array(zarr_format, {"x": 1}),
        "g": formats.new_group({"y": 2}, zarr_format=zarr_format),
        "a": array(zarr_format),
    }
    group = formats.with_consolidated(formats.new_group({"own": 0}, zarr_format=zarr_format), nodes)
    docs = formats.dump(group) | formats.dump_consolidated(group)
    again = formats.parse_node(docs, url=URL)
    assert again.attributes == {"own": 0}
    below = nodes_below(again)
    assert list(below) == ["a", "g", "g/b"]
    for path, node in nodes.items():
        assert formats.dump(below[path]) == formats.dump(node)


def test_v2_consolidated_metadata_is_a_separate_document():
    group = formats.with_consolidated(formats.new_group(zarr_format=2), {"a": array(2)})
    assert list(formats.dump(group)) == [".zgroup"]
    assert list(formats.dump_consolidated(group)) == [".zmetadata"]
    document = json.loads(formats.dump_consolidated(group)[".zmetadata"])
    assert set(document["metadata"]) == {".zgroup", ".zattrs", "a/.zarray"}
    assert formats.dump_consolidated(formats.new_group(zarr_format=2)) == {}


def test_v3_consolidated_metadata_is_in_the_groups_document():
    group = formats.with_consolidated(formats.new_group(), {"a": array(3)})
    assert formats.dump_consolidated(group) == {}
    assert list(json.loads(formats.dump(group)["zarr.json"])["consolidated_metadata"]["metadata"]) == ["a"]


def test_consolidated_groups_are_not_nested():
    inner = formats.with_consolidated(formats.new_group(), {"b": array(3)})
    outer = formats.with_consolidated(formats.new_group(), {"g": inner, "g/b": array(3)})
    assert "consolidated_metadata" not in outer.consolidated["g"]["zarr.json"]


def test_consolidated_metadata_has_nodes_of_one_format():
    with pytest.raises(ConfigError, match="format"):
        formats.with_consolidated(formats.new_group(), {"a": array(2)})


def test_an_edit_keeps_consolidated_metadata_of_other_writers():
    value = inline({"a": zarr_json(extension={"must_understand": False})}, extra="kept")
    after = formats.with_attributes(v3_group(value, attributes={"a": 1}), {"b": 2})
    assert json.loads(formats.dump(after)["zarr.json"])["consolidated_metadata"] == value
    assert list(after.consolidated) == ["a"]


def test_consolidated_metadata_can_be_removed():
    after = formats.without_consolidated(v3_group(inline({"a": zarr_json()})))
    assert after.consolidated is None
    assert "consolidated_metadata" not in json.loads(formats.dump(after)["zarr.json"])
