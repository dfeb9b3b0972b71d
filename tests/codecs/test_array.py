"""codecs/array.py: elements stored as they are in memory."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from zarr_s3_async.errors import ChunkDecodeError, MetadataError

from .chains import BIG, LITTLE, numbers, pipeline, same

SIMPLE = ["?", "i1", "u1", "<i2", ">i2", "<u4", ">u8", "<f2", ">f4", "<f8", "<c8", ">c16"]
OWN_ORDER = ["S5", "<U3", ">U3", "V7", "<M8[ns]", ">M8[D]", "<m8[s]"]
RECORD = np.dtype([("a", ">i4"), ("b", "<f8"), ("c", "S3"), ("d", "<u2", (2,))])


def stored(array: np.ndarray, endian: str) -> bytes:
    return array.astype(array.dtype.newbyteorder(endian)).tobytes()


@pytest.mark.parametrize("endian", ["little", "big"])
@pytest.mark.parametrize("dtype", [*SIMPLE, *OWN_ORDER, RECORD], ids=str)
def test_endian_sets_the_byte_order_of_stored_elements(dtype, endian):
    chunk = numbers((3, 4), dtype)
    line = pipeline(("bytes", {"endian": endian}), shape=(3, 4), dtype=dtype)
    data = line.encode(chunk)
    assert bytes(data) == stored(chunk, endian)
    assert same(line.decode(data), chunk)


@pytest.mark.parametrize("dtype", ["?", "i1", "u1", *OWN_ORDER, RECORD], ids=str)
def test_without_endian_elements_are_stored_unchanged(dtype):
    chunk = numbers((3, 4), dtype)
    line = pipeline("bytes", shape=(3, 4), dtype=dtype)
    assert line.raw
    assert bytes(line.encode(chunk)) == chunk.tobytes()
    assert same(line.decode(chunk.tobytes()), chunk)


@pytest.mark.parametrize("dtype", ["<i2", "<f8", "<c8"])
def test_numbers_of_several_bytes_need_an_endian(dtype):
    with pytest.raises(MetadataError, match=r"'bytes'.*'endian'"):
        pipeline("bytes", dtype=dtype)


@pytest.mark.parametrize("dtype", [object, [("a", object)]])
def test_objects_are_never_stored_as_references(dtype):
    with pytest.raises(MetadataError, match="object codec"):
        pipeline("bytes", dtype=dtype)


def test_decoding_gives_a_view_of_the_data_if_nothing_has_to_change():
    data = bytearray(96)
    chunk = pipeline(LITTLE).decode(data)
    data[:4] = np.float32(7).tobytes()
    assert chunk[0, 0] == 7


def test_swapped_bytes_are_decoded_into_the_callers_array():
    chunk = numbers((4, 6), "<f4")
    out = np.empty((4, 6), "<f4")
    line = pipeline(BIG)
    assert line.decode(line.encode(chunk), out) is out
    assert same(out, chunk)


@pytest.mark.parametrize("length", [0, 95, 97])
def test_a_wrong_number_of_bytes_is_refused(length):
    with pytest.raises(ChunkDecodeError, match="'bytes'") as caught:
        pipeline(LITTLE).decode(bytes(length))
    assert caught.value.codec == "bytes"
    assert isinstance(caught.value.__cause__, ValueError)


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_transpose_stores_axis_order_i_as_axis_i(data):
    shape = data.draw(hnp.array_shapes(max_dims=4, max_side=5))
    order = data.draw(st.permutations(range(len(shape))))
    chunk = numbers(shape, "<i4")
    line = pipeline(("transpose", {"order": order}), LITTLE, shape=shape, dtype="<i4")
    encoded = line.encode(chunk)
    assert bytes(encoded) == chunk.transpose(order).tobytes()
    assert same(line.decode(encoded), chunk)


def test_a_transpose_that_changes_nothing_leaves_the_chunk_raw():
    assert pipeline(("transpose", {"order": [0, 1]}), LITTLE).raw
    assert not pipeline(("transpose", {"order": [1, 0]}), LITTLE).raw


@pytest.mark.parametrize("order", [[0], [0, 0], [1, 2], [0, 1, 2], "F", [True, 0], [0, -1], None])
def test_transpose_requires_a_permutation_of_all_axes(order):
    with pytest.raises(MetadataError, match=r"'transpose'.*'order'"):
        pipeline(("transpose", {"order": order}), LITTLE)


class TestSmallTypes:
    """The dtypes of ml_dtypes."""

    @pytest.fixture
    def ml(self):
        return pytest.importorskip("ml_dtypes")

    @pytest.mark.parametrize("endian", ["little", "big"])
    def test_bfloat16_has_a_byte_order(self, ml, endian):
        chunk = np.arange(24).reshape(4, 6).astype(ml.bfloat16)
        line = pipeline(("bytes", {"endian": endian}), dtype=ml.bfloat16)
        expected = chunk.view("u2").astype(np.dtype("u2").newbyteorder(endian)).tobytes()
        assert bytes(line.encode(chunk)) == expected
        out = np.empty_like(chunk)
        assert same(line.decode(expected, out), chunk)
        assert same(line.decode(expected), chunk)

    @pytest.mark.parametrize("codec", ["zstd", "gzip", "crc32c"])
    def test_small_types_are_decoded_from_compressors_into_the_callers_array(self, ml, codec):
        chunk = np.arange(24).reshape(4, 6).astype(ml.bfloat16)
        line = pipeline(LITTLE, codec, dtype=ml.bfloat16)
        assert same(line.decode(line.encode(chunk), np.empty_like(chunk)), chunk)

    @pytest.mark.parametrize(("name", "bits"), [("int4", 4), ("uint2", 2), ("float4_e2m1fn", 4), ("float6_e2m3fn", 6)])
    def test_unused_upper_bits_of_a_byte_are_ignored(self, ml, name, bits):
        dtype = np.dtype(getattr(ml, name))
        data = np.arange(256, dtype=np.uint8)
        line = pipeline("bytes", dtype=dtype, shape=(256,))
        clean = data & (2**bits - 1)
        assert not line.raw
        assert line.decode(data.tobytes()).tobytes() == clean.tobytes()
        out = np.empty(256, dtype)
        assert line.decode(data.tobytes(), out) is out
        assert bytes(line.encode(data.view(dtype))) == clean.tobytes()

    def test_types_of_whole_bytes_are_stored_raw(self, ml):
        assert pipeline("bytes", dtype=ml.float8_e4m3fn).raw


# reshape


@pytest.mark.parametrize(
    ("option", "shape"),
    [
        ([24], (24,)),
        ([-1], (24,)),
        ([[0, 1]], (24,)),
        ([[0], [1]], (4, 6)),
        ([[0], 2, 3], (4, 2, 3)),
        ([2, -1, 3], (2, 4, 3)),
        ([1, [0, 1], 1], (1, 24, 1)),
        ([[], [0], [1]], (1, 4, 6)),
    ],
)
def test_a_reshaped_chunk_keeps_the_order_of_its_elements(option, shape):
    chunk = numbers((4, 6), "<i4")
    line = pipeline(("reshape", {"shape": option}), LITTLE, dtype="<i4")
    assert bytes(line.encode(chunk)) == chunk.tobytes()
    assert same(np.ascontiguousarray(line.decode(line.encode(chunk))), chunk)
    turned = tuple(reversed(range(len(shape))))
    line = pipeline(("reshape", {"shape": option}), ("transpose", {"order": list(turned)}), LITTLE, dtype="<i4")
    assert bytes(line.encode(chunk)) == chunk.reshape(shape).transpose(turned).tobytes()
    assert same(np.ascontiguousarray(line.decode(line.encode(chunk))), chunk)


@pytest.mark.parametrize(
    "option",
    [
        *(None, 24, "24", [23], [-1, -1], [0, -1], [5, -1], [2.0, 12], [True, 24], [[2]], [[0, 0]], [[1], [0]]),
        *([[1, 0]], [6, [0]], [[0], 6, [1]], [-2, -12], [["a"]], [[0, 1], [1]], {}, [[1], 4]),
    ],
    ids=str,
)
def test_a_shape_of_another_size_than_the_chunks_is_refused(option):
    with pytest.raises(MetadataError, match=r"'reshape'.*'shape'"):
        pipeline(("reshape", {"shape": option}), LITTLE)


def test_squeezed_chunks_have_no_axes_of_length_one():
    chunk = numbers((1, 4, 1, 6), "<i4")
    line = pipeline("zarrs.squeeze", ("transpose", {"order": [1, 0]}), LITTLE, shape=(1, 4, 1, 6), dtype="<i4")
    assert bytes(line.encode(chunk)) == chunk[0, :, 0, :].T.tobytes()
    assert same(np.ascontiguousarray(line.decode(line.encode(chunk))), chunk)


# packbits


def test_booleans_are_packed_least_significant_bit_first():
    """They are the bytes that zarrs writes."""
    chunk = np.arange(11) % 3 == 0
    for padding, expected in (("none", b"\x49\x02"), ("first_byte", b"\x05\x49\x02"), ("last_byte", b"\x49\x02\x05")):
        line = pipeline(("packbits", {"padding_encoding": padding}), shape=(11,), dtype="?")
        assert bytes(line.encode(chunk)) == expected
        assert line.encoded_nbytes == len(expected)
        assert same(line.decode(expected), chunk)


@given(
    st.sampled_from(["i1", "u1", "<i2", ">u2", "<i4", "<u8", "<f4", ">f8", "<c8", "?"]),
    st.data(),
)
def test_packbits_stores_the_bits_from_first_to_last(dtype, data):
    dtype = np.dtype(dtype)
    parts = 2 if dtype.kind == "c" else 1
    size = 1 if dtype.kind == "b" else 8 * dtype.itemsize // parts
    first = data.draw(st.integers(0, size - 1))
    last = data.draw(st.integers(first, size - 1))
    raw = data.draw(st.binary(min_size=3 * dtype.itemsize, max_size=3 * dtype.itemsize))
    words = [int.from_bytes(raw[at : at + size // 8 or 1], "little") for at in range(0, len(raw), size // 8 or 1)]
    words = [word & 2**size - 1 for word in words]
    chunk = np.array(words, f"<u{size // 8 or 1}").view(dtype.newbyteorder("<")).astype(dtype)
    line = pipeline(("packbits", {"first_bit": first, "last_bit": last}), shape=(3,), dtype=dtype)
    kept = [word >> first & 2 ** (last - first + 1) - 1 for word in words]
    packed = sum(bits << at * (last - first + 1) for at, bits in enumerate(kept))
    encoded = bytes(line.encode(chunk))
    assert int.from_bytes(encoded, "little") == packed
    shifted = [bits << first for bits in kept]
    if dtype.kind == "i":
        shifted = [word - 2 ** (last + 1) if word >> last & 1 else word for word in shifted]
    expected = np.array([word % 2**size for word in shifted], f"<u{size // 8 or 1}")
    assert line.decode(encoded).astype(dtype.newbyteorder("<")).tobytes() == expected.tobytes()


@pytest.mark.parametrize("name", ["int2", "uint2", "int4", "uint4", "float4_e2m1fn", "float6_e3m2fn", "bfloat16"])
def test_small_types_of_ml_dtypes_are_packed_to_their_bits(name):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    dtype = np.dtype(getattr(ml_dtypes, name))
    chunk = np.array([0, 1, -1, -2] if name.startswith("int") else [0, 1, 0, 1], "f4").astype(dtype)
    line = pipeline("packbits", shape=(4,), dtype=dtype)
    assert len(line.encode(chunk)) == {"2": 1, "4": 2, "6": 3, "1": 8}[name.strip("uintbfloa")[0]]
    assert line.decode(line.encode(chunk)).astype("f4").tolist() == chunk.astype("f4").tolist()


@pytest.mark.parametrize(
    "options",
    [{"first_bit": 32}, {"last_bit": 32}, {"first_bit": 3, "last_bit": 2}, {"padding_encoding": "both"}],
    ids=str,
)
def test_bit_numbers_beyond_the_element_are_refused(options):
    with pytest.raises(MetadataError, match="'packbits'"):
        pipeline(("packbits", options))


@pytest.mark.parametrize("data", [b"", b"\x05\x49", b"\x04\x49\x02", b"\x05\x49\x02\x00"])
def test_packed_bits_of_another_length_are_refused(data):
    with pytest.raises(ChunkDecodeError, match="'packbits'"):
        pipeline(("packbits", {"padding_encoding": "first_byte"}), shape=(11,), dtype="?").decode(data)
