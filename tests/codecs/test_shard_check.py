"""Checks of a shard's index: no two chunks overlap, and unused bytes are counted."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarr_s3_async._types import CodecSpec
from zarr_s3_async.codecs.shard_format import MISSING, ShardLayout, stored_slots, unused_bytes
from zarr_s3_async.errors import ChunkDecodeError

LOCATIONS = pytest.mark.parametrize("location", ["start", "end"])


def layout_of(n: int, location: Any) -> ShardLayout:
    return ShardLayout((n,), [CodecSpec("bytes", {"endian": "little"}), CodecSpec("crc32c")], location)


def index_of(layout: ShardLayout, entries: dict[int, tuple[int, int]]) -> np.ndarray:
    index = np.full((layout.n_chunks, 2), MISSING, np.uint64)
    for slot, entry in entries.items():
        index[slot] = entry
    return index


@LOCATIONS
@given(st.lists(st.none() | st.integers(1, 50), min_size=1, max_size=8))
def test_an_assembled_shard_has_no_overlaps_and_no_unused_bytes(location, lengths) -> None:
    layout = layout_of(len(lengths), location)
    chunks = {slot: b"x" * n for slot, n in enumerate(lengths) if n is not None}
    body = b"".join(layout.assemble(chunks))
    n = layout.index_nbytes
    index = layout.decode_index(body[:n] if location == "start" else body[-n:], len(body))
    assert unused_bytes(layout, index, len(body)) == 0
    assert stored_slots(index).tolist() == sorted(chunks)


@LOCATIONS
@given(st.data())
def test_the_check_agrees_with_a_count_of_every_byte(location, data) -> None:
    n = data.draw(st.integers(1, 5))
    layout = layout_of(n, location)
    size = layout.index_nbytes + data.draw(st.integers(0, 30))
    spans = st.integers(0, size - 1).flatmap(lambda at: st.tuples(st.just(at), st.integers(1, min(12, size - at))))
    entries = data.draw(st.dictionaries(st.integers(0, n - 1), spans))
    users = np.zeros(size, int)
    for at, length in (
        *entries.values(),
        (0 if location == "start" else size - layout.index_nbytes, layout.index_nbytes),
    ):
        users[at : at + length] += 1
    index = index_of(layout, entries)
    if users.max() > 1:
        with pytest.raises(ChunkDecodeError, match="share bytes"):
            unused_bytes(layout, index, size)
    else:
        assert unused_bytes(layout, index, size) == (users == 0).sum()


def test_the_error_names_the_overlapping_chunks() -> None:
    layout = layout_of(4, "end")
    with pytest.raises(ChunkDecodeError, match="chunk 1 and chunk 3 share bytes from byte 14 on") as caught:
        unused_bytes(layout, index_of(layout, {1: (10, 5), 3: (14, 2)}), 500)
    assert caught.value.codec == "sharding_indexed"
    with pytest.raises(ChunkDecodeError, match="chunk 2 and the index share bytes"):
        unused_bytes(layout, index_of(layout, {2: (400, 100)}), 500)
    with pytest.raises(ChunkDecodeError, match="the index and chunk 0 share bytes"):
        unused_bytes(layout_of(4, "start"), index_of(layout, {0: (1, 2)}), 500)
