"""codecs/base.py: strict reading of a configuration."""

from __future__ import annotations

import pytest

from zarr_s3_async.codecs.base import Options
from zarr_s3_async.errors import MetadataError


def options(**configuration):
    return Options("name", configuration)


@pytest.mark.parametrize("value", [True, 1.0, "1", None, [], -1, 11, 10**400])
def test_an_integer_option_accepts_only_integers(value):
    with pytest.raises(MetadataError, match=r"'name': 'key' must be an integer|'name': 'key' is missing"):
        options(key=value).integer("key", 0, 10)


def test_bounds_are_inclusive():
    assert options(key=0).integer("key", 0, 10) == 0
    assert options(key=10).integer("key", 0, 10) == 10


def test_null_is_the_default_of_an_option():
    assert options(key=None).integer("key", 0, 10, 7) == 7
    assert options().choice("key", ("a",), None) is None
    assert "key" not in options(key=None)
    with pytest.raises(MetadataError, match="missing"):
        options().integer("key", 0, 10)


@pytest.mark.parametrize("value", [True, "1", None, [1], float("inf"), float("nan")])
def test_a_number_option_accepts_only_finite_numbers(value):
    with pytest.raises(MetadataError, match="'key' must be a number"):
        options(key=value).number("key")


@pytest.mark.parametrize("value", [0, 1, "true", []])
def test_a_boolean_option_accepts_only_booleans(value):
    with pytest.raises(MetadataError, match="true or false"):
        options(key=value).boolean("key", default=False)


@pytest.mark.parametrize("value", ["c", True, 1, [], {}])
def test_a_choice_option_accepts_only_listed_values(value):
    with pytest.raises(MetadataError, match="one of 'a', 'b'"):
        options(key=value).choice("key", ("a", "b"))


@pytest.mark.parametrize("value", [1, "12", [1.0], [True], [-1], [[1]], None])
def test_a_list_option_accepts_only_lists_of_numbers(value):
    with pytest.raises(MetadataError, match="'key'"):
        options(key=value).integers("key")


def test_the_error_of_an_unknown_option_names_it():
    given = options(a=1, b=2)
    given.integer("a", 0, 5)
    with pytest.raises(MetadataError, match="'b' is not an option"):
        given.finish()
    assert given.rest() == {"b": 2}
    given.finish()


def test_a_huge_value_does_not_make_a_huge_message():
    with pytest.raises(MetadataError) as caught:
        options(key="x" * 10**6).integer("key", 0, 5)
    assert len(str(caught.value)) < 200


def test_the_error_of_an_unknown_option_names_the_nearest_one():
    given = options(levle=3)
    given.integer("level", 0, 9, 1)
    with pytest.raises(MetadataError, match=r"'levle' is not an option of this codec; did you mean 'level'\?"):
        given.finish()
