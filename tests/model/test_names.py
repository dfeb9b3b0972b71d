"""Names that lead outside a group or are reserved are refused on create, and recognised as unsafe when read."""

import pytest

from zarr_s3_async._model.names import check_key, check_name, check_path, is_safe_path, problem_of
from zarr_s3_async.errors import ConfigError

UNSAFE = [
    *("", ".", "..", "...", "a/b", "a\\b", "a\0b", "/", "\ud800"),
    *(".zarray", ".zgroup", ".zattrs", ".zmetadata", "zarr.json"),
]
SAFE = ["a", "A-b_c.d", "1", "..a", ".hidden", "température", "😀", "a b", "c", "zarr.jsonx"]


@pytest.mark.parametrize("name", UNSAFE)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_an_unsafe_name_is_refused(name, zarr_format):
    assert problem_of(name) is not None
    with pytest.raises(ConfigError):
        check_name(name, zarr_format=zarr_format)


@pytest.mark.parametrize("name", SAFE)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_a_safe_name_is_accepted(name, zarr_format):
    assert problem_of(name) is None
    check_name(name, zarr_format=zarr_format)


def test_names_with_two_underscores_are_reserved_only_in_v3_and_read_in_both():
    check_name("__xarray_dataarray_variable__", zarr_format=2)
    assert problem_of("__xarray_dataarray_variable__") is None
    with pytest.raises(ConfigError, match="__"):
        check_name("__xarray_dataarray_variable__", zarr_format=3)


@pytest.mark.parametrize(
    ("path", "normal"), [("", ""), ("/", ""), ("a", "a"), ("/a/b/", "a/b"), ("//a", "a"), ("a/ü", "a/ü")]
)
def test_slashes_around_a_path_are_removed(path, normal):
    assert check_path(path, zarr_format=3) == normal


@pytest.mark.parametrize("path", ["a//b", "a/../b", "../a", "a/.", "a/zarr.json", "a\\b", "a/__b"])
def test_a_path_with_an_unsafe_part_is_refused(path):
    with pytest.raises(ConfigError):
        check_path(path, zarr_format=3)


@pytest.mark.parametrize("path", ["../x", "/x", "x/", "a//b", "a/../b", "", ".", "a/.zarray", "\ud800", "x" * 2000])
def test_untrusted_paths_that_lead_outside_are_unsafe(path):
    assert not is_safe_path(path)


def test_the_length_of_a_key_is_counted_in_bytes_of_utf_8():
    check_key("é" * 512)
    with pytest.raises(ConfigError, match="1026 bytes"):
        check_key("é" * 513)
    with pytest.raises(ConfigError, match="bytes"):
        check_path("x" * 1020, zarr_format=3)
