"""codecs/shard_format.py: many chunks in one object."""

from __future__ import annotations

import struct
import tracemalloc

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zarr_s3_async._types import CodecSpec
from zarr_s3_async.byte_range import Span, Suffix
from zarr_s3_async.codecs import ChunkSpec, ShardFormat
from zarr_s3_async.codecs.shard_format import MISSING, joined
from zarr_s3_async.errors import ChunkDecodeError, MetadataError, UnsupportedFeature

from .chains import LITTLE, numbers, pipeline, same

LITTLE_JSON = {"name": "bytes", "configuration": {"endian": "little"}}
BIG_JSON = {"name": "bytes", "configuration": {"endian": "big"}}
ZSTD_JSON = {"name": "zstd", "configuration": {"level": 0, "checksum": False}}
CRC_JSON = {"name": "crc32c"}


def config(chunk_shape, codecs=(LITTLE_JSON, ZSTD_JSON), index_codecs=(LITTLE_JSON, CRC_JSON), **more):
    return {"chunk_shape": chunk_shape, "codecs": list(codecs), "index_codecs": list(index_codecs), **more}


def shards(shape=(4, 6), chunk_shape=(2, 3), dtype="<i4", fill=0, **more):
    return ShardFormat.from_spec(
        CodecSpec("sharding_indexed", config(chunk_shape, **more)), ChunkSpec(shape, np.dtype(dtype), fill)
    )


def sharding(chunk_shape, **more):
    return "sharding_indexed", config(chunk_shape, **more)


def entries(*pairs):
    return b"".join(struct.pack("<QQ", *pair) for pair in pairs)


def test_a_layout_gives_the_grid_and_the_slot_of_each_chunk():
    shard = shards()
    assert (shard.grid, shard.n_chunks, shard.chunk_shape) == ((2, 2), 4, (2, 3))
    assert shard.inner.chunk.shape == (2, 3)
    whole = np.arange(24).reshape(4, 6)
    assert [whole[shard.region(slot)][0, 0] for slot in range(4)] == [0, 3, 12, 15]
    assert dict(shard.regions()) == {slot: shard.region(slot) for slot in range(4)}


@pytest.mark.parametrize(("location", "where"), [("start", Span(0, 68)), ("end", Suffix(68))])
def test_the_index_is_at_the_location_in_the_document(location, where):
    layout = shards(index_location=location).layout
    assert layout.index_nbytes == 68
    assert layout.index_range == where


@pytest.mark.parametrize("location", ["start", "end"])
@pytest.mark.parametrize("index_codecs", [[LITTLE_JSON], [LITTLE_JSON, CRC_JSON], [BIG_JSON, CRC_JSON, CRC_JSON]])
def test_assembled_chunks_are_found_by_the_index(location, index_codecs):
    layout = shards(index_codecs=index_codecs, index_location=location).layout
    chunks = {3: b"four", 0: bytearray(b"one"), 2: memoryview(b"three")}
    data = b"".join(layout.assemble(chunks))
    index_bytes = data[: layout.index_nbytes] if location == "start" else data[-layout.index_nbytes :]
    index = layout.decode_index(index_bytes, len(data))
    found = {slot: span and data[span.start : span.stop] for slot in range(4) for span in [layout.span(index, slot)]}
    assert found == {0: b"one", 1: None, 2: b"three", 3: b"four"}
    assert index.shape == (4, 2)
    body = b"onethreefour"
    assert data == (index_bytes + body if location == "start" else body + index_bytes)


def test_the_index_is_offsets_and_lengths_in_row_major_order():
    """The Zarr v3 specification defines it (sharding codec, "Binary shard format")."""
    layout = shards(index_codecs=[LITTLE_JSON]).layout
    parts = layout.assemble({1: b"ab", 3: b"c"})
    assert parts[-1] == entries((MISSING, MISSING), (0, 2), (MISSING, MISSING), (2, 1))


def test_assembling_a_shard_does_not_copy_its_chunks():
    data = b"x" * 100
    assert any(part is data for part in shards().layout.assemble({0: data}))


def test_a_shard_without_chunks_has_an_index():
    layout = shards().layout
    (index,) = layout.assemble({})
    assert (layout.decode_index(index, len(index)) == MISSING).all()


class TestHostileIndexes:
    @pytest.mark.parametrize(
        "entry",
        [
            (0, 165),
            (164, 1),
            (165, 0),
            (10, 0),
            (2**63, 2**63),
            (2**64 - 2, 3),
            (1, MISSING),
            (MISSING, 1),
            (0, MISSING),
            (MISSING, 0),
            (MISSING - 1, MISSING),
        ],
    )
    @pytest.mark.parametrize("slot", [0, 3])
    def test_an_entry_beyond_the_object_is_refused(self, entry, slot):
        layout = shards(index_codecs=[LITTLE_JSON]).layout
        pairs = [(0, 164), (MISSING, MISSING), (163, 1), (5, 5)]
        assert layout.decode_index(entries(*pairs), 164).shape == (4, 2)
        pairs[slot] = entry
        with pytest.raises(ChunkDecodeError, match=f"chunk {slot} at byte") as caught:
            layout.decode_index(entries(*pairs), 164)
        assert caught.value.codec == "sharding_indexed"

    @pytest.mark.parametrize("length", [0, 67, 69])
    def test_an_index_of_another_length_is_refused(self, length):
        with pytest.raises(ChunkDecodeError, match="index of 68"):
            shards().layout.decode_index(bytes(length), 1000)

    def test_an_object_shorter_than_its_index_is_refused(self):
        layout = shards().layout
        (index,) = layout.assemble({})
        with pytest.raises(ChunkDecodeError, match="has 67 bytes"):
            layout.decode_index(index, 67)

    def test_a_changed_index_is_detected_by_its_checksum(self):
        layout = shards().layout
        index = bytearray(layout.assemble({0: b"abc"})[-1])
        index[0] ^= 1
        with pytest.raises(ChunkDecodeError, match="crc32c"):
            layout.decode_index(index, 1000)

    @given(st.binary(min_size=64, max_size=64), st.integers(64, 2**63))
    @settings(deadline=None)
    def test_accepted_entries_are_inside_the_object(self, data, size):
        layout = shards(index_codecs=[LITTLE_JSON]).layout
        try:
            index = layout.decode_index(data, size)
        except ChunkDecodeError:
            return
        for slot in range(4):
            span = layout.span(index, slot)
            assert span is None or 0 <= span.start < span.stop <= size

    def test_nothing_is_allocated_for_a_huge_grid(self):
        tracemalloc.start()
        try:
            layout = shards(shape=(2**40,), chunk_shape=(1,)).layout
            assert layout.index_nbytes == 2**44 + 4
            with pytest.raises(ChunkDecodeError):
                layout.decode_index(b"abc", 3)
            assert tracemalloc.get_traced_memory()[1] < 2**20
        finally:
            tracemalloc.stop()


class TestWholeShards:
    """The codec that decodes a whole shard."""

    @pytest.mark.parametrize("location", ["start", "end"])
    @pytest.mark.parametrize("inner", [[LITTLE_JSON], [BIG_JSON, ZSTD_JSON], [LITTLE_JSON, ZSTD_JSON, CRC_JSON]])
    def test_a_shard_with_any_inner_codecs_is_decoded(self, location, inner):
        chunk = numbers((4, 6), "<i4")
        line = pipeline(sharding((2, 3), codecs=inner, index_location=location), shape=(4, 6), dtype="<i4")
        data = line.encode(chunk)
        assert same(line.decode(data), chunk)
        out = np.empty_like(chunk)
        assert line.decode(data, out) is out
        assert same(out, chunk)

    def test_sharding_works_before_and_after_other_codecs(self):
        chunk = numbers((4, 6), "<i4")
        line = pipeline(("transpose", {"order": [1, 0]}), sharding((3, 2)), "gzip", "crc32c", shape=(4, 6), dtype="<i4")
        assert same(np.ascontiguousarray(line.decode(line.encode(chunk))), chunk)

    def test_shards_may_be_nested(self):
        chunk = numbers((8, 8), "<i4")
        inner = {"name": "sharding_indexed", "configuration": config([2, 2], index_location="start")}
        line = pipeline(sharding((4, 4), codecs=[inner, CRC_JSON]), shape=(8, 8), dtype="<i4")
        assert same(line.decode(line.encode(chunk)), chunk)

    def test_a_format_decodes_what_the_codec_encodes(self):
        chunk = numbers((4, 6), "<i4")
        data = bytes(pipeline(sharding((2, 3)), shape=(4, 6), dtype="<i4").encode(chunk))
        shard = shards()
        index = shard.layout.decode_index(data[-shard.layout.index_nbytes :], len(data))
        for slot, region in shard.regions():
            span = shard.layout.span(index, slot)
            assert same(shard.inner.decode(data[span.start : span.stop]), np.ascontiguousarray(chunk[region]))

    @pytest.mark.parametrize(("dtype", "fill"), [("<f4", np.nan), ("<i4", 7), ("S2", b"ab"), ("<M8[s]", "NaT")])
    def test_chunks_of_fill_are_left_out_and_restored(self, dtype, fill):
        fill = np.array(fill, dtype)[()]
        chunk = np.full((4, 6), fill, dtype)
        chunk[:2, :3] = numbers((2, 3), dtype)
        line = pipeline(sharding((2, 3), codecs=[LITTLE_JSON]), shape=(4, 6), dtype=dtype, fill=fill)
        data = line.encode(chunk)
        assert len(data) == 68 + 6 * chunk.itemsize
        assert same(line.decode(data), chunk)

    def test_minus_zero_is_not_the_fill_value_zero(self):
        chunk = np.full((4, 6), -0.0)
        line = pipeline(sharding((2, 3)), shape=(4, 6), dtype="<f8", fill=0.0)
        assert np.signbit(line.decode(line.encode(chunk))).all()

    def test_shards_may_contain_strings(self):
        chunk = np.array([["a", "", "b"], ["", "", ""]], object)
        line = pipeline(sharding((1, 3), codecs=["vlen-utf8", ZSTD_JSON]), shape=(2, 3), dtype=object, fill="")
        assert line.decode(line.encode(chunk)).tolist() == chunk.tolist()
        assert line.cost == "blocking"

    def test_the_fill_value_goes_through_the_codecs_before_the_shard(self):
        line = pipeline(
            ("scale_offset", {"offset": 5}), ("cast_value", {"data_type": "uint8"}),
            sharding((2,), codecs=["bytes"]), shape=(4,), dtype="<i4", fill=9,
        )  # fmt: skip
        data = line.encode(np.array([9, 9, 9, 6], "<i4"))
        assert bytes(data[:2]) == bytes([4, 1])
        assert line.decode(data).tolist() == [9, 9, 9, 6]

    def test_index_entries_may_overlap_and_be_in_any_order(self):
        line = pipeline(sharding((2,), codecs=["bytes"], index_codecs=[LITTLE_JSON]), shape=(6,), dtype="u1", fill=0)
        data = b"abc" + entries((1, 2), (0, 2), (1, 2))
        assert line.decode(data).tobytes() == b"bcabbc"

    @pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: d[1:], lambda d: b"", lambda d: d[:10]])
    def test_a_damaged_shard_is_refused(self, damage):
        line = pipeline(sharding((2, 3)), shape=(4, 6), dtype="<i4")
        with pytest.raises(ChunkDecodeError):
            line.decode(damage(bytes(line.encode(numbers((4, 6), "<i4")))))

    def test_the_error_of_an_inner_codec_names_it(self):
        line = pipeline(sharding((2, 3), index_codecs=[LITTLE_JSON]), shape=(4, 6), dtype="<i4")
        data = bytearray(line.encode(numbers((4, 6), "<i4")))
        data[0] ^= 0xFF
        with pytest.raises(ChunkDecodeError) as caught:
            line.decode(data)
        assert caught.value.codec == "zstd"


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"chunk_shape": [3, 3]}, "'chunk_shape'"),
        ({"chunk_shape": [2]}, "'chunk_shape'"),
        ({"chunk_shape": [0, 3]}, "'chunk_shape'"),
        ({"chunk_shape": [2, 3.0]}, "'chunk_shape'"),
        ({"chunk_shape": None}, "'chunk_shape'"),
        ({"codecs": []}, "'codecs'"),
        ({"codecs": [3]}, "'codecs'"),
        ({"codecs": [{"name": "bytes", "config": {}}]}, "'codecs'"),
        ({"codecs": [{"configuration": {}}]}, "'codecs'"),
        ({"codecs": "bytes"}, "'codecs'"),
        ({"codecs": [ZSTD_JSON]}, "'zstd'"),
        ({"index_codecs": None}, "'index_codecs'"),
        ({"index_location": "middle"}, "'index_location'"),
        ({"compact": True}, "'compact'"),
    ],
)
def test_a_wrong_option_is_named(change, message):
    document = config([2, 3]) | change
    with pytest.raises(MetadataError, match=message):
        ShardFormat.from_spec(CodecSpec("sharding_indexed", document), ChunkSpec((4, 6), np.dtype("<i4"), 0))
    with pytest.raises(MetadataError, match=message):
        pipeline(("sharding_indexed", document), shape=(4, 6), dtype="<i4")


def test_an_index_of_unknown_size_is_not_supported():
    with pytest.raises(UnsupportedFeature, match="no fixed size"):
        shards(index_codecs=[LITTLE_JSON, ZSTD_JSON])


def test_pickle_inside_a_shard_is_refused():
    with pytest.raises(UnsupportedFeature, match="unpickling"):
        shards(codecs=[{"name": "numcodecs.pickle"}, LITTLE_JSON])


def test_parsed_codec_specs_are_accepted():
    assert (
        shards(codecs=[CodecSpec(*LITTLE), CodecSpec("zstd")], index_codecs=[CodecSpec(*LITTLE)]).layout.index_nbytes
        == 64
    )


@pytest.mark.parametrize("dtype", ["u1", "<i2", ">f8", "S3", "M8[s]", "c16", [("a", "<i2"), ("b", "u1")]])
def test_parts_of_any_type_and_alignment_are_joined_by_their_bytes(dtype):
    plain = np.arange(24).astype("i8").view("u1")[: 12 * np.dtype(dtype).itemsize].copy().view(dtype).reshape(3, 4)
    parts = [b"odd", plain[:, ::2], memoryview(b"xy"), plain.T, plain[:0], bytearray(b"z")]
    expected = b"odd" + plain[:, ::2].tobytes() + b"xy" + plain.T.tobytes() + b"z"
    assert bytes(joined(parts)) == expected
    assert bytes(joined([b"a", b"", memoryview(b"bc")])) == b"abc"


def test_a_chunk_given_as_an_array_takes_the_space_of_its_bytes():
    layout = shards((4, 4), (2, 2), "<i2", codecs=(LITTLE_JSON,), index_location="start").layout
    chunk = np.arange(16, dtype="<i2").reshape(4, 4)[::2, ::2]
    body = joined(layout.assemble({3: b"12345", 1: chunk}))
    index = layout.decode_index(body[: layout.index_nbytes], len(body))
    first, second = layout.spans(index, [1, 3])
    assert layout.spans(index, [0, 2]) == [None, None]
    assert bytes(body[first.start : first.stop]) == chunk.tobytes()
    assert bytes(body[second.start : second.stop]) == b"12345"
    assert layout.span(index, 1) == first
