"""Classes of keys: chunks of the array, chunk keys outside of its grid, and foreign keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarr_s3_async._model.keys import KeyClass, KeyEncoding
from zarr_s3_async._model.metadata import ArrayMeta

from .documents import new_array

ENCODINGS = [(name, separator) for name in ("default", "v2") for separator in "./"]


def array(shape, chunks, name="default", separator="/") -> ArrayMeta:
    encoding = {"name": name, "configuration": {"separator": separator}}
    return new_array(shape=shape, chunks=chunks, dtype="i1", chunk_key_encoding=encoding)


def test_a_key_inside_the_grid_is_a_chunk() -> None:
    meta = array((25, 30), (10, 10))
    assert meta.classify_key("c/2/2") == KeyClass("chunk", (2, 2))
    for key in ("c/3/0", "c/0/3", "c/99999999999999999999999/0"):
        found = meta.classify_key(key)
        assert found.kind == "extra"
        assert "outside" in found.why
        assert "(3, 3)" in found.why


@pytest.mark.parametrize("key", ["0.0", "0/0", "c.0.0", "c/0", "c/0/0/0", "7", "c"])
def test_a_chunk_key_of_another_form_or_rank_is_extra(key: str) -> None:
    found = array((25, 30), (10, 10)).classify_key(key)
    assert found.kind == "extra"
    assert "'c/0/0'" in found.why


@pytest.mark.parametrize(
    "key",
    [
        "", "c/", "/c/0/0", "c//0/0", "c/0/0/", "c/00/1", "c/-1/0", "c/+1/0", "c/0x1/0", "c/1e0/0", "c/1_0/0",
        "c/ 1/0", "c/٣/0", "c/²/0", "C/0/0", "d/0/0", "0..0", "00.1", "0.0/0", "readme.txt", "zarr.json",
        "c/0/0.tmp", "sub/c/0/0", "c/0\n/0",
    ],
)  # fmt: skip
def test_a_key_unlike_any_chunk_key_is_foreign(key: str) -> None:
    assert array((25, 30), (10, 10)).classify_key(key).kind == "foreign"


@pytest.mark.parametrize(("name", "separator"), ENCODINGS)
def test_an_array_without_dimensions_has_one_key(name: str, separator: str) -> None:
    meta = array((), (), name, separator)
    assert meta.classify_key("c" if name == "default" else "0") == KeyClass("chunk", ())
    assert meta.classify_key("0" if name == "default" else "c").kind == "extra"


@pytest.mark.parametrize(("name", "separator"), ENCODINGS)
def test_an_empty_array_has_no_chunk(name: str, separator: str) -> None:
    meta = array((0, 4), (2, 2), name, separator)
    assert meta.classify_key(meta.keys.encode((0, 0))).kind == "extra"


@given(st.sampled_from(ENCODINGS), st.lists(st.integers(0, 5), min_size=1, max_size=4).map(tuple))
def test_every_encoded_key_is_a_chunk_inside_the_grid_and_extra_outside(encoding, coords) -> None:
    meta = array((30,) * len(coords), (10,) * len(coords), *encoding)
    found = meta.classify_key(meta.keys.encode(coords))
    assert found.coords == coords
    assert found.kind == ("chunk" if max(coords) < 3 else "extra")


TRICKY = st.text(st.sampled_from("c0129./-+ _٣²\n"), max_size=8) | st.text(max_size=8)


@given(st.sampled_from(ENCODINGS), TRICKY, st.integers(0, 3))
def test_no_other_key_is_ever_taken_for_a_chunk(encoding, key, ndim) -> None:
    meta = array((30,) * ndim, (10,) * ndim, *encoding)
    found = meta.classify_key(key)
    if found.kind == "chunk":
        assert meta.keys.encode(found.coords) == key
        assert len(found.coords) == ndim
    if found.kind == "extra":
        spellings = {KeyEncoding(name, separator).encode(found.coords) for name, separator in ENCODINGS}
        assert key in spellings
    assert (found.coords is None) == (found.kind == "foreign")
