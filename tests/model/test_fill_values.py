"""Fill values in documents: every notation is read as its scalar, and scalars are written as by zarr-python."""

import base64
import enum
import json
import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as npst

from zarr_s3_async._model import dtype_names, fill_values, formats
from zarr_s3_async._model.dtypes import ARRAY, BYTES, STRING, DataType
from zarr_s3_async._model.problems import Invalid
from zarr_s3_async.errors import ConfigError

from .documents import new_array


def b64(data):
    return base64.b64encode(data).decode()


def of(spelling):
    return DataType(np.dtype(spelling))


def same(left, right):
    """Whether all bits are equal: NaN equals itself, and -0.0 differs from 0.0."""
    left, right = np.asarray(left), np.asarray(right)
    return left.dtype == right.dtype and left.tobytes() == right.tobytes()


BOTH = [
    ("?", True, np.True_),
    ("?", False, np.False_),
    ("?", 0, np.False_),
    ("?", 1, np.True_),
    ("i1", -128, np.int8(-128)),
    ("u1", 255, np.uint8(255)),
    (">i2", -300, np.int16(-300)),
    ("i8", -(2**63), np.int64(-(2**63))),
    ("u8", 2**64 - 1, np.uint64(2**64 - 1)),
    ("u8", 2**53 + 1, np.uint64(2**53 + 1)),
    ("i4", 42.0, np.int32(42)),
    ("i4", "42", np.int32(42)),
    ("i4", "-42", np.int32(-42)),
    ("f4", 0, np.float32(0)),
    ("f4", 0.1, np.float32(0.1)),
    ("f8", -0.0, np.float64(-0.0)),
    ("f4", "NaN", np.float32("nan")),
    ("f2", "Infinity", np.float16("inf")),
    ("f8", "-Infinity", np.float64("-inf")),
    ("f8", "nan", np.float64("nan")),
    ("f8", "-inf", np.float64("-inf")),
    ("f8", "1e3", np.float64(1000)),
    ("f8", ".5", np.float64(0.5)),
    ("f4", 1e300, np.float32("inf")),
    ("f8", 2**70, np.float64(2**70)),
    ("f2", "0x7e00", np.float16("nan")),
    ("f4", "0x7fc00000", np.float32("nan")),
    ("f4", "0x3F800000", np.float32(1)),
    (">f8", "0x3ff0000000000000", np.float64(1)),
    ("c8", [1, 2], np.complex64(1 + 2j)),
    (">c16", [-0.0, "-Infinity"], np.complex128(complex(-0.0, -math.inf))),
    ("M8[s]", 0, np.datetime64(0, "s")),
    ("M8[10us]", 7, np.datetime64(7, "10us")),
    (">M8[ns]", -1, np.datetime64(-1, "ns")),
    ("M8[D]", "NaT", np.datetime64("NaT", "D")),
    ("m8[h]", -(2**63), np.timedelta64("NaT", "h")),
    ("m8[h]", "NaT", np.timedelta64("NaT", "h")),
    ("M8", "NaT", np.int64(-(2**63)).view("M8")),
    ("S5", b64(b"ab"), np.bytes_(b"ab")),
    ("S5", "", np.bytes_(b"")),
    ("S5", [97, 98], np.bytes_(b"ab")),
    ("U3", "ab", np.str_("ab")),
    (">U3", "😀é", np.str_("😀é")),
    ("V3", b64(b"\0\1\2"), np.void(b"\0\1\2")),
    ("V3", [0, 1, 255], np.void(b"\0\1\xff")),
]


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(("dtype", "value", "scalar"), BOTH)
def test_every_notation_is_read_as_its_scalar(dtype, value, scalar, zarr_format):
    assert same(fill_values.read(value, of(dtype), zarr_format=zarr_format), scalar)


def test_a_nan_keeps_its_payload():
    scalar = fill_values.read("0x7fc00123", of("f4"), zarr_format=3)
    assert np.asarray(scalar).view("u4") == 0x7FC00123
    pair = fill_values.read(["0x7ff8000000000001", 0], of("c16"), zarr_format=3)
    assert np.asarray(pair.real).view("u8") == 0x7FF8000000000001


RECORD = [("a", "<i4"), ("b", ">f8"), ("c", [("x", "u1"), ("y", "S3")])]


def test_a_v2_structured_fill_value_is_its_bytes():
    expected = np.array((-2, 1.5, (7, b"ab")), dtype=RECORD)
    assert same(fill_values.read(b64(expected.tobytes()), of(RECORD), zarr_format=2), expected)


def test_a_v3_structured_fill_value_is_an_object_of_its_fields():
    value = {"a": -2, "b": "NaN", "c": {"x": 7, "y": b64(b"ab")}}
    expected = np.array((-2, np.nan, (7, b"ab")), dtype=RECORD)
    assert same(fill_values.read(value, of(RECORD), zarr_format=3), expected)


@pytest.mark.parametrize("byte_order", ["<", ">"])
def test_a_legacy_v3_structured_fill_value_is_bytes_in_the_codecs_byte_order(byte_order):
    native = np.dtype([("a", "i4"), ("b", "f8")])
    expected = np.array((-2, 1.5), dtype=native)
    value = b64(expected.astype(native.newbyteorder(byte_order)).tobytes())
    assert same(fill_values.read(value, DataType(native), zarr_format=3, byte_order=byte_order), expected)


@pytest.mark.parametrize(
    ("data_type", "value", "scalar"),
    [(STRING, "é", "é"), (STRING, "", ""), (BYTES, b64(b"\0\xff"), b"\0\xff"), (BYTES, [1, 2], b"\1\2")],
    ids=str,
)
@pytest.mark.parametrize("zarr_format", [2, 3])
def test_fill_values_of_variable_length_are_read(data_type, value, scalar, zarr_format):
    assert fill_values.read(value, data_type, zarr_format=zarr_format) == scalar


@pytest.mark.parametrize("dtype", ["S5", "U3", "V3", RECORD, ">f4", "?", "M8[s]"], ids=str)
def test_null_is_read_as_none(dtype):
    assert fill_values.read(None, of(dtype), zarr_format=2) is None
    assert fill_values.read(None, of(dtype), zarr_format=3) is None


@pytest.mark.parametrize(("data_type", "value"), [(STRING, ""), (BYTES, b""), (ARRAY, None)], ids=str)
def test_null_for_objects_is_read_as_an_empty_one(data_type, value):
    assert fill_values.read(None, data_type, zarr_format=2) == value
    assert fill_values.read(None, data_type, zarr_format=3) == value


@pytest.mark.parametrize("dtype", ["S5", "U3", "V3", RECORD], ids=str)
def test_the_number_zero_is_read_as_zero_bits_in_v2(dtype):
    assert not any(np.asarray(fill_values.read(0, of(dtype), zarr_format=2), dtype=dtype).tobytes())
    with pytest.raises(Invalid):
        fill_values.read(0, of(dtype), zarr_format=3)


@pytest.mark.parametrize("value", [None, 0, "", []])
def test_arrays_of_variable_length_have_only_empty_fill_values(value):
    assert fill_values.read(value, ARRAY, zarr_format=2) is None


WRONG = [
    *(("?", value) for value in (2, "true", None, [], 0.5, -1)),
    *(("i1", value) for value in (128, -129, True, 0.5, "x", "", "1.0", "1_0", " 1", None, [1], {}, 10**400, 1e30)),
    *(("u8", value) for value in (-1, 2**64, 1.8446744073709552e19, "9" * 41, "9" * 5000)),
    *(("f4", value) for value in (True, "x", "", "0x", "0x7fc", "0x7fc000000", "0xzzzzzzzz", None, [], {}, 10**400)),
    *(("f8", value) for value in ("1,5", "1e", "1e999999", "nano", "++1", " 1", "1_0", "infinite")),
    *(("c8", value) for value in ([1], [1, 2, 3], "1+2j", ["x", 1], [[1], 2], None, {}, True, [True, 0])),
    *(("M8[s]", value) for value in ("nat", "2020-01-01", 0.5, True, None, 2**63, -(2**63) - 1)),
    *(("S3", value) for value in (b64(b"abcd"), "ab", "é", "a=b=", [256], [-1], [True], ["a"], None, {}, 1.5)),
    *(("U3", value) for value in ("abcd", 1, None, [], b64)),
    *(("V3", value) for value in (b64(b"ab"), b64(b"abcd"), [1, 2], [1, 2, 3, 4], "abc", None)),
    *((RECORD, value) for value in (b64(b"ab"), [], {"a": 1}, {"a": 1, "b": 2, "c": {}, "d": 4}, "x", 1, True)),
    (RECORD, {"a": 1, "b": 2, "c": {"x": 300, "y": ""}}),
    (RECORD, {"a": 1, "b": 2, "c": {"x": 3}}),
]


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(("dtype", "value"), [case for case in WRONG if case[1] is not None])
def test_an_invalid_fill_value_is_refused(dtype, value, zarr_format):
    with pytest.raises(Invalid):
        fill_values.read(value, of(dtype), zarr_format=zarr_format)


@pytest.mark.parametrize(
    ("data_type", "value"),
    [
        *((STRING, value) for value in (True, [], {})),
        *((BYTES, value) for value in ("a", "é", 1, [256])),
        *((ARRAY, value) for value in ("x", [1], True, {})),
    ],
    ids=str,
)
def test_an_invalid_fill_value_of_objects_is_refused(data_type, value):
    with pytest.raises(Invalid):
        fill_values.read(value, data_type, zarr_format=3)


def test_a_number_as_fill_value_of_strings_is_its_text_as_in_zarr_python():
    assert fill_values.read(0, STRING, zarr_format=2) == "0"


@pytest.mark.parametrize(
    ("data_type", "scalar", "v2", "v3"),
    [
        (of("?"), np.True_, True, True),
        (of(">i2"), np.int16(-3), -3, -3),
        (of("u8"), np.uint64(2**64 - 1), 2**64 - 1, 2**64 - 1),
        (of("f4"), np.float32(0.1), 0.10000000149011612, 0.10000000149011612),
        (of("f8"), np.float64("nan"), "NaN", "NaN"),
        (of("f8"), np.float64("-inf"), "-Infinity", "-Infinity"),
        (of("f8"), np.float64(3), 3.0, 3.0),
        (of("c8"), np.complex64(complex(math.nan, 1)), ["NaN", 1.0], ["NaN", 1.0]),
        (of("M8[s]"), np.datetime64("2020-01-01", "s"), 1577836800, 1577836800),
        (of("m8[s]"), np.timedelta64("NaT", "s"), -(2**63), -(2**63)),
        (of("S5"), np.bytes_(b"ab"), "YWI=", "YWI="),
        (of("U3"), np.str_("ab"), "ab", "ab"),
        (of("V3"), np.void(b"abc"), "YWJj", "YWJj"),
        (
            of([("a", "<i4"), ("b", ">f8")]),
            np.zeros((), [("a", "<i4"), ("b", ">f8")])[()],
            b64(bytes(12)),
            ...,
        ),
        (
            of([("a", "i4"), ("b", "S2")]),
            np.array((1, b"x"), [("a", "i4"), ("b", "S2")])[()],
            ...,
            {"a": 1, "b": "eA=="},
        ),
        (STRING, "x", "x", "x"),
        (BYTES, b"ab", "YWI=", "YWI="),
        (dtype_names.read_v3("r16"), np.void(b"\1\2"), "AQI=", [1, 2]),
    ],
    ids=str,
)
def test_scalars_are_written_as_by_zarr_python(data_type, scalar, v2, v3):
    for zarr_format, spelling in ((2, v2), (3, v3)):
        if spelling is not ...:
            written = fill_values.write(scalar, data_type, zarr_format=zarr_format)
            assert written == spelling
            assert type(written) is type(spelling)


def test_minus_zero_keeps_its_sign():
    assert math.copysign(1, fill_values.write(np.float64(-0.0), of("f8"), zarr_format=3)) == -1


SCALARS = st.one_of(
    npst.boolean_dtypes(),
    npst.integer_dtypes(endianness="?"),
    npst.unsigned_integer_dtypes(endianness="?"),
    npst.floating_dtypes(endianness="?", sizes=(16, 32, 64)),
    npst.complex_number_dtypes(endianness="?", sizes=(64, 128)),
    npst.datetime64_dtypes(endianness="?"),
    npst.timedelta64_dtypes(endianness="?"),
)


@given(st.data(), st.sampled_from([2, 3]))
def test_a_written_scalar_is_read_back(data, zarr_format):
    dtype = data.draw(SCALARS)
    if zarr_format == 3:
        dtype = dtype.newbyteorder("=")
    raw = data.draw(st.binary(min_size=dtype.itemsize, max_size=dtype.itemsize))
    scalar = np.frombuffer(bytes([raw[0] % 2]) if dtype.kind == "b" else raw, dtype=dtype)[0]
    data_type = DataType(dtype)
    try:
        written = fill_values.write(scalar, data_type, zarr_format=zarr_format)
    except Invalid:
        assert zarr_format == 2
        assert dtype.kind in "fc"
        assert np.isnan(scalar)  # v2 has only one NaN
        return
    again = fill_values.read(written, data_type, zarr_format=zarr_format)
    assert again.tobytes() == scalar.astype(dtype.newbyteorder("="), copy=False).tobytes()


@given(st.binary(max_size=8), st.sampled_from([2, 3]))
def test_fill_values_of_bytes_are_read_back(raw, zarr_format):
    fixed, void = of(f"S{max(1, len(raw))}"), of(f"V{max(1, len(raw))}")
    scalars = [(BYTES, raw), (fixed, np.bytes_(raw.rstrip(b"\0"))), (void, np.void(raw or b"\0"))]
    for data_type, scalar in scalars:
        written = fill_values.write(scalar, data_type, zarr_format=zarr_format)
        assert fill_values.read(written, data_type, zarr_format=zarr_format) == scalar


@given(st.tuples(st.integers(-(2**31), 2**31 - 1), st.floats(allow_nan=False), st.binary(max_size=3), st.booleans()))
def test_structured_fill_values_are_read_back(values):
    dtype = np.dtype([("a", "i4"), ("b", [("x", "f8"), ("y", "S3")]), ("c", "?")])
    scalar = np.array((values[0], (values[1], values[2]), values[3]), dtype=dtype)[()]
    for zarr_format in (2, 3):
        written = fill_values.write(scalar, DataType(dtype), zarr_format=zarr_format)
        again = fill_values.read(written, DataType(dtype), zarr_format=zarr_format)
        np.testing.assert_array_equal(np.asarray(again), np.asarray(scalar))


JSON = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(st.text(max_size=3), inner, max_size=3),
    max_leaves=8,
)
TYPES = [
    dtype_names.read_v2(name, None) for name in ("|b1", ">i2", "<u8", "<f4", "<c16", "<M8[s]", "|S3", "<U2", "|V2")
]
TYPES += [dtype_names.read_v2([["a", "<i4"], ["b", [["c", "|S2"]]]], None), STRING, BYTES, ARRAY]


@given(JSON, st.sampled_from(TYPES), st.sampled_from([2, 3]))
def test_any_json_is_read_or_refused_as_a_fill_value(value, data_type, zarr_format):
    try:
        scalar = fill_values.read(value, data_type, zarr_format=zarr_format)
    except Invalid:
        return
    if scalar is not None:
        fill_values.write(scalar, data_type, zarr_format=zarr_format)


# NaNs with payloads


def nan_of(dtype, bits):
    return np.array(bits, f"u{np.dtype(dtype).itemsize}").view(dtype)[()]


NANS = [("f2", 0x7E01), ("f4", 0x7FC00001), ("f4", 0xFFC00000), ("f8", 0x7FF8000000000001), ("f8", 0xFFF8000000000000)]


@pytest.mark.parametrize(("dtype", "bits"), NANS)
def test_a_nan_keeps_its_bits_from_option_to_document_and_back(dtype, bits):
    nan = nan_of(dtype, bits)
    for option in (nan, np.asarray(nan)):
        meta = new_array(shape=4, dtype=dtype, fill_value=option)
        stored = json.loads(formats.dump(meta)["zarr.json"])["fill_value"]
        assert stored == f"0x{bits:0{2 * np.dtype(dtype).itemsize}x}"
        assert formats.parse_node(formats.dump(meta), url="memory://x").fill_value.tobytes() == nan.tobytes()


@pytest.mark.parametrize(("dtype", "bits"), NANS)
def test_a_nan_that_v2_cannot_represent_is_refused(dtype, bits):
    with pytest.raises(ConfigError, match="0x"):
        new_array(shape=4, dtype=dtype, fill_value=nan_of(dtype, bits), zarr_format=2)
    for zarr_format in (2, 3):
        plain = new_array(shape=4, dtype=dtype, fill_value=float("nan"), zarr_format=zarr_format)
        assert '"fill_value": "NaN"' in next(iter(formats.dump(plain).values())).decode()


def test_parts_of_complex_numbers_and_fields_keep_their_bits():
    value = np.zeros((), "c8")
    value.real, value.imag = nan_of("f4", 0x7FC00001), nan_of("f4", 0xFFC00002)
    meta = new_array(shape=4, dtype="c8", fill_value=value[()])
    assert meta.fill_value.tobytes() == value.tobytes()
    assert json.loads(formats.dump(meta)["zarr.json"])["fill_value"] == ["0x7fc00001", "0xffc00002"]
    record = np.zeros((), [("a", "i2"), ("b", "f4")])
    record["b"] = nan_of("f4", 0x7F800001)  # a signalling NaN
    assert new_array(shape=4, dtype=record.dtype, fill_value=record[()]).fill_value.tobytes() == record.tobytes()


def test_the_default_nan_of_another_width_is_accepted():
    assert np.isnan(new_array(shape=4, dtype="f4", fill_value=np.float64("nan")).fill_value)
    with pytest.raises(ConfigError, match="NaN"):
        new_array(shape=4, dtype="f4", fill_value=nan_of("f8", 0x7FF8000000000001))
    with pytest.raises(ConfigError):
        new_array(shape=4, dtype="i4", fill_value=float("nan"))


@pytest.mark.parametrize("bits", [0x7E, 0x7D, 0xFE])
def test_nans_of_ml_dtypes_keep_their_bits(bits):
    ml_dtypes = pytest.importorskip("ml_dtypes")
    nan = nan_of(ml_dtypes.float8_e5m2, bits)
    meta = new_array(shape=4, dtype="float8_e5m2", fill_value=nan)
    assert formats.parse_node(formats.dump(meta), url="memory://x").fill_value.tobytes() == nan.tobytes()


def test_a_fill_value_of_a_subclass_of_str_is_stored_by_its_content():
    class Plain(str, enum.Enum):  # noqa: UP042  its str() is not its value
        BLUE = "blue"

    assert new_array(shape=4, dtype=str, fill_value=Plain.BLUE).fill_value == "blue"
    assert new_array(shape=4, dtype="U8", fill_value=Plain.BLUE).fill_value == "blue"
