"""codecs/cast.py: the scale_offset codec."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zarr_s3_async.errors import ChunkDecodeError, ChunkError, MetadataError

from .chains import LITTLE, pipeline, same

INTEGERS = ["int8", "uint8", "int16", "int64", "uint64"]


def line(dtype, shape=(1,), fill=0, **options):
    return pipeline(("scale_offset", options), LITTLE, shape=shape, dtype=dtype, fill=fill)


@pytest.mark.parametrize("dtype", INTEGERS)
@given(st.data())
@settings(max_examples=60, deadline=None)
def test_integers_are_scaled_exactly_or_refused(dtype, data):
    info = np.iinfo(dtype)
    anything = st.integers(int(info.min), int(info.max))
    small = st.integers(max(int(info.min), -3), 3)
    value = data.draw(anything)
    offset = data.draw(small | anything)
    scale = data.draw((small | anything).filter(bool))
    steps = [value - offset, (value - offset) * scale]
    fits = all(info.min <= step <= info.max for step in steps)
    codec = line(dtype, fill=offset, offset=offset, scale=scale)
    chunk = np.array([value], dtype)
    if not fits:
        with pytest.raises(ChunkError, match="exceeds the range"):
            codec.encode(chunk)
        return
    encoded = codec.encode(chunk)
    assert np.frombuffer(encoded, dtype).tolist() == steps[1:]
    assert same(codec.decode(encoded), chunk)


@pytest.mark.parametrize("dtype", ["<f2", "<f4", "<f8", ">f4"])
def test_floats_are_scaled_in_their_own_type(dtype):
    chunk = np.array([1, 2.5, np.nan, np.inf, 30000], dtype)
    codec = line(dtype, (5,), offset=5, scale=0.1)
    kind = np.dtype(dtype).newbyteorder("=")
    with np.errstate(all="ignore"):
        expected = (chunk.astype(kind) - kind.type(5)) * kind.type(0.1)
        back = expected / kind.type(0.1) + kind.type(5)
    data = codec.encode(chunk)
    assert bytes(data) == expected.astype(kind.newbyteorder("<")).tobytes()
    assert same(codec.decode(data), back.astype(dtype))


def test_scale_offset_without_options_changes_nothing():
    chunk = np.arange(5, dtype="<i2")
    assert bytes(line("<i2", (5,)).encode(chunk)) == chunk.tobytes()


def test_a_stored_number_that_is_not_a_multiple_is_refused():
    with pytest.raises(ChunkDecodeError, match="not a multiple"):
        line("<i4", scale=3).decode(np.array([4], "<i4").tobytes())


def test_a_stored_number_out_of_range_is_refused():
    with pytest.raises(ChunkDecodeError, match="exceeds the range"):
        line("u1", offset=250, fill=250).decode(bytes([10]))


def test_the_published_example_of_range_reduction_works():
    """zarr-extensions, scale_offset: uint16 numbers from 1000 to 1255, stored in one byte each."""
    chunk = np.arange(1000, 1256, dtype="<u2")
    codec = pipeline(
        ("scale_offset", {"offset": 1000}), ("cast_value", {"data_type": "uint8"}), LITTLE,
        shape=(256,), dtype="<u2", fill=1000,
    )  # fmt: skip
    assert bytes(codec.encode(chunk)) == bytes(range(256))
    assert same(codec.decode(bytes(range(256))), chunk)


def test_the_published_example_with_nan_works():
    """zarr-extensions, scale_offset: float64 numbers from 0 to 2540 in one byte; 0 is NaN."""
    codec = pipeline(
        ("scale_offset", {"offset": -10, "scale": 0.1}),
        ("cast_value", {"data_type": "uint8", "scalar_map": {"encode": [["NaN", 0]], "decode": [[0, "NaN"]]}}),
        LITTLE, shape=(4,), dtype="<f8", fill=np.nan,
    )  # fmt: skip
    chunk = np.array([0, 2540, np.nan, 1270])
    assert bytes(codec.encode(chunk)) == bytes([1, 255, 0, 128])
    assert np.allclose(codec.decode(codec.encode(chunk)), chunk, equal_nan=True)


def test_types_of_ml_dtypes_are_scaled():
    ml_dtypes = pytest.importorskip("ml_dtypes")
    chunk = np.array([-3, 0, 3]).astype(ml_dtypes.int4)
    codec = line(ml_dtypes.int4, (3,), offset=1, scale=2)
    assert codec.decode(codec.encode(chunk)).astype(int).tolist() == [-3, 0, 3]
    with pytest.raises(ChunkError, match="exceeds the range"):
        codec.encode(np.array([-7, 0, 3]).astype(ml_dtypes.int4))
    halves = np.array([1, 2, 3]).astype(ml_dtypes.bfloat16)
    codec = line(ml_dtypes.bfloat16, (3,), offset=1, scale=0.5)
    assert codec.decode(codec.encode(halves)).astype(float).tolist() == [1, 2, 3]


@pytest.mark.parametrize(
    ("dtype", "options", "message"),
    [
        ("<i4", {"scale": 0}, "'scale'"),
        ("<i4", {"scale": 0.5}, "'scale'"),
        ("u1", {"offset": -1}, "'offset'"),
        ("<f4", {"offset": "five"}, "'offset'"),
        ("<f4", {"offset": True}, "'offset'"),
        ("<f2", {"scale": 1e6}, "'scale'"),
        ("<f4", {"factor": 2}, "'factor'"),
        ("?", {}, "real numbers"),
        ("<M8[s]", {}, "real numbers"),
        ("<c8", {}, "real numbers"),
    ],
)
def test_a_wrong_option_or_dtype_is_named(dtype, options, message):
    with pytest.raises(MetadataError, match=f"'scale_offset'.*{message}"):
        pipeline(("scale_offset", options), LITTLE, dtype=dtype)


def test_a_fill_value_that_cannot_be_encoded_is_refused_with_the_metadata():
    with pytest.raises(MetadataError, match="fill value"):
        line("u1", offset=5, fill=0)
