"""codecs/array.py: elements as they stand in memory."""

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
def test_endian_decides_the_byte_order_of_what_is_stored(dtype, endian):
    chunk = numbers((3, 4), dtype)
    line = pipeline(("bytes", {"endian": endian}), shape=(3, 4), dtype=dtype)
    data = line.encode(chunk)
    assert bytes(data) == stored(chunk, endian)
    assert same(line.decode(data), chunk)


@pytest.mark.parametrize("dtype", ["?", "i1", "u1", *OWN_ORDER, RECORD], ids=str)
def test_without_endian_the_dtype_is_stored_as_it_is(dtype):
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


def test_decoding_gives_a_view_of_the_data_where_nothing_has_to_change():
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
def test_transpose_wants_a_permutation_of_all_axes(order):
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
    def test_they_pass_through_compressors_into_the_callers_array(self, ml, codec):
        chunk = np.arange(24).reshape(4, 6).astype(ml.bfloat16)
        line = pipeline(LITTLE, codec, dtype=ml.bfloat16)
        assert same(line.decode(line.encode(chunk), np.empty_like(chunk)), chunk)

    @pytest.mark.parametrize(("name", "bits"), [("int4", 4), ("uint2", 2), ("float4_e2m1fn", 4), ("float6_e2m3fn", 6)])
    def test_the_upper_bits_of_a_byte_that_is_filled_in_part_are_ignored(self, ml, name, bits):
        dtype = np.dtype(getattr(ml, name))
        data = np.arange(256, dtype=np.uint8)
        line = pipeline("bytes", dtype=dtype, shape=(256,))
        clean = data & (2**bits - 1)
        assert not line.raw
        assert line.decode(data.tobytes()).tobytes() == clean.tobytes()
        out = np.empty(256, dtype)
        assert line.decode(data.tobytes(), out) is out
        assert bytes(line.encode(data.view(dtype))) == clean.tobytes()

    def test_bytes_that_are_whole_are_raw(self, ml):
        assert pipeline("bytes", dtype=ml.float8_e4m3fn).raw
