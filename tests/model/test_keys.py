"""Chunk keys: both encodings are encoded and decoded, and no other key is taken for one."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarr_s3_async._model.keys import KeyEncoding

ENCODINGS = [KeyEncoding(name, separator) for name in ("default", "v2") for separator in "./"]


@pytest.mark.parametrize(
    ("encoding", "coords", "key"),
    [
        (KeyEncoding("default", "/"), (1, 23, 45), "c/1/23/45"),
        (KeyEncoding("default", "."), (1, 23, 45), "c.1.23.45"),
        (KeyEncoding("v2", "."), (1, 23, 45), "1.23.45"),
        (KeyEncoding("v2", "/"), (1, 23, 45), "1/23/45"),
        (KeyEncoding("default", "/"), (), "c"),
        (KeyEncoding("default", "."), (), "c"),
        (KeyEncoding("v2", "."), (), "0"),
        (KeyEncoding("v2", "/"), (0,), "0"),
    ],
)
def test_the_example_keys_of_the_specification_are_encoded(encoding, coords, key):
    assert encoding.encode(coords) == key
    assert encoding.decode(key, len(coords)) == coords


@given(st.sampled_from(ENCODINGS), st.lists(st.integers(0, 2**63), max_size=5).map(tuple))
def test_a_key_decodes_to_its_coordinates(encoding, coords):
    assert encoding.decode(encoding.encode(coords), len(coords)) == coords


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize(
    "key",
    [
        "",
        "c",
        "0.0.0",
        "c/0/0/0",
        "zarr.json",
        "c/00/0",
        "c/-1/0",
        "c/0/a",
        "0.",
        ".0",
        "c/٣/0",
        "+1.0",
        "c0/0",
    ],
)
def test_a_key_that_is_not_of_two_dimensions_is_none(encoding, key):
    assert encoding.decode(key, 2) is None


@given(st.sampled_from(ENCODINGS), st.text(max_size=12), st.integers(0, 3))
def test_only_encoded_keys_can_be_decoded(encoding, key, ndim):
    coords = encoding.decode(key, ndim)
    assert coords is None or encoding.encode(coords) == key
