"""Attributes are converted to plain JSON that every reader accepts, or the error names the value that cannot be."""

import datetime as dt
import enum
import json

import numpy as np
import pytest

from zarr_s3_async._model import document
from zarr_s3_async._model.problems import Invalid


class Colour(enum.StrEnum):
    RED = "red"


class Plain(str, enum.Enum):  # noqa: UP042  as zarr-python's codecs have them
    BLUE = "blue"


def test_json_attributes_are_copied():
    given = {"a": [1, 1.5, "x", None, True, {"b": []}]}
    new = document.new_attributes(given, zarr_format=3)
    assert new == given
    given["a"].append(2)
    assert len(new["a"]) == 6


def test_numpy_and_python_values_become_json():
    given = {
        "scalars": (np.int8(1), np.float32(0.5), np.bool_(True), np.str_("x"), np.uint64(2**64 - 1)),
        "array": np.arange(4).reshape(2, 2),
        "enums": [Colour.RED, Plain.BLUE],
        "order": {"z": 1, "a": 2},
    }
    new = document.new_attributes(given, zarr_format=3)
    assert new["scalars"] == [1, 0.5, True, "x", 2**64 - 1]
    assert new["array"] == [[0, 1], [2, 3]]
    assert json.dumps(new["enums"]) == '["red", "blue"]'
    assert list(new["order"]) == ["z", "a"]
    assert json.loads(json.dumps(new)) == new


def test_none_means_no_attributes():
    assert document.new_attributes(None, zarr_format=3) == {}


@pytest.mark.parametrize(
    ("given", "where"),
    [
        ([("a", 1)], "attributes"),
        ("text", "attributes"),
        ({1: "a"}, "attributes"),
        ({"a": {"b": {None: 1}}}, r"attributes\['a'\]\['b'\]"),
        ({"a": object()}, r"attributes\['a'\]"),
        ({"a": {1, 2}}, r"attributes\['a'\]"),
        ({"a": b"x"}, r"attributes\['a'\]"),
        ({"a": dt.date(2020, 1, 1)}, r"attributes\['a'\]"),
        ({"a": np.datetime64("2020-01-01")}, r"attributes\['a'\]"),
        ({"a": 1j}, r"attributes\['a'\]"),
        ({"a": np.complex64(1)}, r"attributes\['a'\]"),
        ({"a": 10**5000}, r"attributes\['a'\]"),
    ],
    ids=lambda value: str(type(value)),
)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_the_error_of_a_value_that_json_cannot_hold_names_it(given, where, zarr_format):
    with pytest.raises(Invalid, match=where):
        document.new_attributes(given, zarr_format=zarr_format)


@pytest.mark.parametrize("value", [float("nan"), float("inf"), np.float32("-inf"), np.array([1.0, np.nan]), "\ud800"])
def test_values_that_strict_readers_refuse_are_refused_only_in_v3(value):
    with pytest.raises(Invalid):
        document.new_attributes({"a": value}, zarr_format=3)
    document.new_attributes({"a": value}, zarr_format=2)
    document.new_attributes({"a": value}, beside={"b": float("nan")}, zarr_format=3)


def test_too_deep_nesting_of_attributes_is_refused():
    given = {}
    given["a"] = given
    with pytest.raises(Invalid, match="nested"):
        document.new_attributes(given, zarr_format=3)
