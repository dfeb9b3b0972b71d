"""Two descriptions of one node: contradictions are named, and different notations are not contradictions."""

from __future__ import annotations

import copy
import json
from typing import Any

import pytest

from zarr_s3_async._model import formats
from zarr_s3_async._model.metadata import ArrayMeta, differences, same

from .documents import new_array


def document(**options: Any) -> dict[str, Any]:
    given = {"shape": (4, 4), "chunks": (2, 2), "dtype": "f4", "dimension_names": ("y", "x"), **options}
    (raw,) = formats.dump(new_array(**given)).values()
    return json.loads(raw)


def read(source: dict[str, Any]) -> ArrayMeta:
    return formats.parse_node({"zarr.json": source}, url="memory://x")


CHANGES: dict[str, Any] = {
    "shape": {"shape": [4, 5]},
    "dtype": {"data_type": "float64"},
    "keys": {"chunk_key_encoding": {"name": "v2"}},
    "dimension_names": {"dimension_names": ["x", "y"]},
    "codecs": {"codecs": [{"name": "bytes", "configuration": {"endian": "big"}}, {"name": "zstd"}]},
    "fill_value": {"fill_value": -0.0},
    "attributes": {"attributes": {"units": True}},
}


@pytest.mark.parametrize("name", CHANGES)
def test_each_different_member_is_named(name: str) -> None:
    source = document(attributes={"units": 1})
    assert differences(read(source), read(copy.deepcopy(source))) == []
    found = differences(read(source), read({**source, **CHANGES[name]}))
    # The byte order of the elements is a part of the dtype as well as of the codecs.
    assert name in found
    assert set(found) <= {name, "dtype"}


def test_different_chunks_and_different_shards_are_distinguished() -> None:
    plain, sharded = read(document(chunks=(2, 2))), read(document(chunks=(1, 1), shards=(2, 2)))
    assert {"chunks", "shards", "codecs"} <= set(differences(plain, sharded))
    assert "chunks" in differences(sharded, read(document(chunks=(1, 2), shards=(2, 2))))


def test_other_notations_and_defaults_are_no_contradiction() -> None:
    source = document()
    other = {**source, "storage_transformers": [], "fill_value": "0x00000000"}
    other["codecs"] = [
        {"name": "bytes", "configuration": {"endian": "little"}},
        {"name": "zstd", "configuration": {"level": 3}},
    ]
    source["codecs"] = [
        {"name": "bytes", "configuration": {"endian": "little"}},
        {"name": "zstd", "configuration": {"level": 3, "checksum": False}},
    ]
    assert differences(read(source), read(other)) == []


def test_nan_equals_nan_in_a_comparison_of_metadata() -> None:
    one, other = document(fill_value=float("nan")), document(fill_value=float("nan"))
    one["attributes"] = other["attributes"] = {"missing": float("nan"), "list": [1, {"a": None}]}
    assert differences(read(one), read(other)) == []
    assert same(float("nan"), float("nan"))
    assert not same(1, True)
    assert not same({"a": [1]}, {"a": [1, 2]})


def test_an_array_contradicts_a_group() -> None:
    group = formats.new_group({"a": 1})
    assert differences(read(document()), group) == ["node type"]
    assert differences(group, formats.new_group({"a": 1})) == []
    assert differences(group, formats.new_group({"a": 2})) == ["attributes"]
