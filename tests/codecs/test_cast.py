"""codecs/cast.py: the cast_value codec, compared with exact arithmetic."""

from __future__ import annotations

from fractions import Fraction
from math import floor, isfinite, isnan

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from zarr_s3_async.codecs.cast import ROUNDINGS
from zarr_s3_async.codecs.scalars import RealType
from zarr_s3_async.errors import ChunkDecodeError, ChunkError, MetadataError

from .chains import LITTLE, pipeline, same

INTEGERS = ["int8", "uint8", "int16", "int32", "uint32", "int64", "uint64"]
FLOATS = ["float16", "float32", "float64"]


def line(source, target, shape=(1,), fill=0, **options):
    return pipeline(("cast_value", {"data_type": target, **options}), LITTLE, shape=shape, dtype=source, fill=fill)


def stored(values, source, target, **options):
    """The values that the codec stores, as an array of the target's dtype."""
    chunk = np.array(values, source)
    data = line(source, target, chunk.shape, **options).encode(chunk)
    return np.frombuffer(data, dtype_of(target))


def dtype_of(name):
    try:
        return np.dtype(name)
    except TypeError:
        return np.dtype(getattr(pytest.importorskip("ml_dtypes"), name))


def to_integer(number: Fraction, rounding: str) -> int:
    """The number rounded to an integer."""
    below = floor(number)
    rest = number - below
    if rest == 0:
        return below
    up = {
        "towards-zero": number < 0,
        "towards-positive": True,
        "towards-negative": False,
        "nearest-even": rest > Fraction(1, 2) or (rest == Fraction(1, 2) and below % 2 == 1),
        "nearest-away": rest > Fraction(1, 2) or (rest == Fraction(1, 2) and number > 0),
    }[rounding]
    return below + up


def rounded(number: Fraction, real: RealType, rounding: str) -> Fraction:
    """The number rounded to the precision of the type, as if it had no bounds."""
    if real.is_integer:
        return Fraction(to_integer(number, rounding))
    if number == 0:
        return number
    exponent = abs(number.numerator).bit_length() - number.denominator.bit_length() + 1
    while abs(number) < Fraction(2) ** (exponent - 1):
        exponent -= 1
    unit = Fraction(2) ** max(exponent - real.bits, real.step)
    return to_integer(number / unit, rounding) * unit


def check(value, source, target, rounding, beyond):
    options = {"rounding": rounding} | ({"out_of_range": beyond} if beyond else {})
    real = RealType.of(dtype_of(target))
    expected = rounded(Fraction(value), real, rounding)
    if not real.low <= expected <= real.high:
        if beyond is None:
            with pytest.raises(ChunkError, match="outside the range"):
                stored([value], source, target, **options)
            return
        if beyond == "wrap":
            expected = (expected - real.low) % 2**real.bits + real.low
        elif real.has_infinity:
            expected = np.inf if expected > 0 else -np.inf
        else:
            expected = real.low if expected < real.low else real.high
    (got,) = stored([value], source, target, **options)
    assert float(got) == expected if not real.is_integer else int(got) == expected


@pytest.mark.parametrize("beyond", [None, "clamp", "wrap"])
@pytest.mark.parametrize("target", INTEGERS)
@given(st.data())
@settings(max_examples=40, deadline=None)
def test_numbers_are_cast_to_integers_by_the_rules(target, beyond, data):
    source = data.draw(st.sampled_from([*INTEGERS, *FLOATS]))
    if source in INTEGERS:
        info = np.iinfo(source)
        value = data.draw(st.integers(int(info.min), int(info.max)))
    else:
        width = np.dtype(source).itemsize * 8
        halves = st.integers(-600, 600).map(lambda n: n / 2)
        value = data.draw(halves | st.floats(allow_nan=False, allow_infinity=False, width=width))
    check(value, source, target, data.draw(st.sampled_from(ROUNDINGS)), beyond)


@pytest.mark.parametrize("beyond", [None, "clamp"])
@pytest.mark.parametrize("target", [*FLOATS, "bfloat16", "float8_e4m3", "float8_e5m2", "float8_e3m4", "float4_e2m1fn"])
@given(st.data())
@settings(max_examples=40, deadline=None)
def test_numbers_are_cast_to_floats_by_the_rules(target, beyond, data):
    dtype_of(target)
    source = data.draw(st.sampled_from(["int8", "int32", "int64", "uint64", *FLOATS]))
    if source.endswith(("8", "32", "64")) and "int" in source:
        info = np.iinfo(source)
        near = st.integers(2**53 - 50, 2**53 + 50) if "64" in source else st.nothing()
        value = data.draw(near | st.integers(int(info.min), int(info.max)))
    else:
        width = np.dtype(source).itemsize * 8
        near = st.floats(-600, 600, width=width)
        value = data.draw(near | st.floats(allow_nan=False, allow_infinity=False, width=width))
    check(value, source, target, data.draw(st.sampled_from(ROUNDINGS)), beyond)


@given(
    st.integers(-(2**63), 2**63 - 1), st.sampled_from(ROUNDINGS), st.sampled_from(["float32", "float64", "bfloat16"])
)
@example(2**53 + 1, "nearest-even", "float64")
@example(2**63 - 1, "towards-zero", "float64")
@example(-(2**63), "nearest-away", "float64")
@example(2**53 + 1, "nearest-away", "float64")
@example(2**60 + 1, "towards-positive", "float32")
@example(2**60 + 2**52 + 1, "nearest-even", "bfloat16")
@example(2**60 + 2**36, "nearest-even", "float32")
@example(2**60 + 2**36 + 1, "nearest-even", "float32")
@example(2**60 + 2**36 + 1, "nearest-away", "bfloat16")
@settings(deadline=None)
def test_long_integers_are_rounded_once(value, rounding, target):
    check(value, "int64", target, rounding, "clamp")


def test_nan_and_infinities_are_kept_in_casts_between_floats():
    values = [np.nan, np.inf, -np.inf, -0.0]
    for rounding in ROUNDINGS:
        for target in ("float16", "float32"):
            got = stored(values, "float64", target, rounding=rounding)
            assert isnan(got[0])
            assert got[1:].tolist() == [np.inf, -np.inf, 0]
            assert np.signbit(got[3])


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("beyond", ["clamp", "wrap"])
def test_nan_and_infinities_have_no_integer_unless_the_map_gives_one(value, beyond):
    with pytest.raises(ChunkError, match="cannot represent"):
        stored([value], "float32", "int16", out_of_range=beyond)
    name = {np.inf: "Infinity", -np.inf: "-Infinity"}.get(value, "NaN")
    got = stored([value, 3.0], "float32", "int16", out_of_range=beyond, scalar_map={"encode": [[name, -7]]})
    assert got.tolist() == [-7, 3]


def test_the_map_is_applied_first_and_its_first_match_is_used():
    pairs = {"encode": [[300.5, 1], [300.5, 2], ["NaN", 3], [0, 4]], "decode": [[3, "NaN"], [1, 300.5]]}
    chunk = np.array([300.5, np.nan, 0, -0.0, 9], "<f8")
    codec = line("<f8", "uint8", (5,), scalar_map=pairs)
    data = codec.encode(chunk)
    assert bytes(data) == bytes([1, 3, 4, 4, 9])
    assert np.array_equal(codec.decode(data), [300.5, np.nan, 4, 4, 9], equal_nan=True)


def test_a_map_may_have_hexadecimal_negative_and_long_keys():
    assert stored([np.float32(1.5), 2], "<f4", "uint8", scalar_map={"encode": [["0x3fc00000", 77]]}).tolist() == [77, 2]
    pairs = {"encode": [[-(2**63), 1], [2**63 - 1, 2], [2**53 + 1, 3]]}
    values = [-(2**63), 2**63 - 1, 2**53 + 1, 5]
    assert stored(values, "<i8", "int8", scalar_map=pairs).tolist() == [1, 2, 3, 5]


@pytest.mark.parametrize("name", ["int4", "uint4", "int2", "uint2"])
@pytest.mark.parametrize("beyond", ["clamp", "wrap"])
def test_small_integers_have_their_own_bounds(name, beyond):
    real = RealType.of(dtype_of(name))
    for value in range(-40, 40):
        check(value, "int16", name, "nearest-even", beyond)
        check(value + 0.5, "float32", name, "nearest-away", beyond)
        if real.low <= value <= real.high:
            codec = line("int16", name)
            assert codec.decode(codec.encode(np.array([value], "int16")))[0] == value


@pytest.mark.parametrize("source", ["<f8", ">f8", "<i4", "<i8"])
@pytest.mark.parametrize("target", ["float32", "int16", "uint64"])
def test_decoding_casts_back_into_the_arrays_own_dtype(source, target):
    chunk = np.arange(24).reshape(4, 6).astype(source)
    codec = line(source, target, (4, 6))
    data = codec.encode(chunk)
    assert bytes(data) == chunk.astype(np.dtype(target).newbyteorder("<")).tobytes()
    assert same(codec.decode(data), chunk)


def test_decoding_refuses_values_that_do_not_fit_the_array():
    codec = line("<i2", "int32")
    with pytest.raises(ChunkDecodeError, match=r"'cast_value'.*outside the range"):
        codec.decode(np.array([70_000], "<i4").tobytes())


def test_values_of_a_type_without_zero_or_infinity_stay_within_its_bounds():
    dtype_of("float8_e8m0fnu")
    assert float(stored([0.0], "<f4", "float8_e8m0fnu", out_of_range="clamp", fill=1)[0]) == 2.0**-127
    with pytest.raises(ChunkError, match="cannot represent"):
        stored([np.inf], "<f4", "float8_e8m0fnu", out_of_range="clamp", fill=1)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"data_type": "complex64"}, "'data_type'"),
        ({"data_type": "bool"}, "'data_type'"),
        ({"data_type": {"name": "numpy.datetime64", "configuration": {"unit": "s"}}}, "'data_type'"),
        ({}, "'data_type'"),
        ({"data_type": "int8", "rounding": "up"}, "'rounding'"),
        ({"data_type": "int8", "out_of_range": "saturate"}, "'out_of_range'"),
        ({"data_type": "float32", "out_of_range": "wrap"}, "'out_of_range'"),
        ({"data_type": "int8", "scalar_map": []}, "'scalar_map'"),
        ({"data_type": "int8", "scalar_map": {"other": []}}, "'scalar_map'"),
        ({"data_type": "int8", "scalar_map": {"encode": [[1]]}}, "'scalar_map'"),
        ({"data_type": "int8", "scalar_map": {"encode": [[1, 200]]}}, "'scalar_map'"),
        ({"data_type": "int8", "scalar_map": {"encode": [[1, True]]}}, "'scalar_map'"),
        ({"data_type": "int8", "scalar_map": {"decode": [["NaN", 1]]}}, "'scalar_map'"),
        ({"data_type": "int8", "clip": True}, "'clip'"),
    ],
)
def test_a_wrong_option_is_named(options, message):
    with pytest.raises(MetadataError, match=f"'cast_value'.*{message}"):
        pipeline(("cast_value", options), LITTLE, dtype="<f8")


def test_the_name_of_a_type_may_be_an_object():
    assert pipeline(("cast_value", {"data_type": {"name": "int8"}}), LITTLE, dtype="<f8").encoded_nbytes == 24


@pytest.mark.parametrize("dtype", ["?", "<c8", "S3", "<M8[s]", object])
def test_only_real_numbers_are_cast(dtype):
    with pytest.raises(MetadataError, match="real numbers"):
        pipeline(("cast_value", {"data_type": "int8"}), LITTLE, dtype=dtype)


def test_a_fill_value_that_cannot_be_cast_is_refused_with_the_metadata():
    with pytest.raises(MetadataError, match="fill value"):
        line("<f8", "uint8", fill=np.nan)
    with pytest.raises(MetadataError, match="fill value"):
        line("<f8", "uint8", fill=256)
    assert line("<f8", "uint8", fill=np.nan, scalar_map={"encode": [["NaN", 0]]})


class TestAgainstTheReference:
    """The reference is the package cast-value-rs, which zarr-python uses."""

    @pytest.fixture
    def cast_array(self):
        return pytest.importorskip("cast_value_rs").cast_array

    @pytest.mark.parametrize("rounding", ROUNDINGS)
    @pytest.mark.parametrize("beyond", ["clamp", "wrap"])
    def test_the_results_equal_those_of_the_reference(self, cast_array, rounding, beyond):
        rng = np.random.default_rng(5)
        for source in [*INTEGERS, *FLOATS]:
            with np.errstate(all="ignore"):
                values = (rng.normal(size=500) * 10.0 ** rng.integers(-3, 12, 500)).astype(source)
            values = values[np.isfinite(values)]
            for target in [*INTEGERS, *(FLOATS if beyond == "clamp" else [])]:
                expected = cast_array(
                    values, target_dtype=np.dtype(target), rounding_mode=rounding, out_of_range_mode=beyond
                )
                got = stored(values, source, target, rounding=rounding, out_of_range=beyond)
                assert got.tobytes() == expected.tobytes(), (source, target)


def test_every_value_of_a_small_float_survives_a_cast_and_back():
    for name in ("bfloat16", "float8_e4m3", "float8_e5m2", "float8_e4m3fnuz"):
        dtype = dtype_of(name)
        values = np.arange(2 ** (8 * dtype.itemsize)).astype(f"u{dtype.itemsize}").view(dtype).astype("f4")
        values = values[[isfinite(value) for value in values.tolist()]]
        codec = line("<f4", name, values.shape)
        assert np.array_equal(codec.decode(codec.encode(values)), values)
