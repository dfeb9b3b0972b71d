"""Fill values given as options are converted exactly to the data type, or refused with the reason."""

import datetime as dt

import numpy as np
import pytest

from zarr_s3_async._model.dtypes import ARRAY, BYTES, STRING, DataType
from zarr_s3_async._model.fill_values import cast
from zarr_s3_async._model.problems import Invalid


def of(spelling):
    return DataType(np.dtype(spelling))


def same(left, right):
    left, right = np.asarray(left), np.asarray(right)
    return left.dtype == right.dtype and left.tobytes() == right.tobytes()


@pytest.mark.parametrize(
    ("dtype", "value", "scalar"),
    [
        ("?", True, np.True_),
        ("?", np.bool_(False), np.False_),
        ("i2", 5, np.int16(5)),
        (">i2", np.uint64(5), np.int16(5)),
        ("i2", np.float32(5), np.int16(5)),
        ("i2", np.array(5), np.int16(5)),
        ("u8", 2**64 - 1, np.uint64(2**64 - 1)),
        ("f4", 0.1, np.float32(0.1)),
        ("f4", np.float64("nan"), np.float32("nan")),
        ("f4", np.longdouble(2), np.float32(2)),
        ("f4", "NaN", np.float32("nan")),
        ("f4", "0x7fc00001", np.frombuffer(b"\1\0\xc0\x7f", "<f4")[0].astype("f4")),
        ("f8", float("-inf"), np.float64("-inf")),
        ("f8", -0.0, np.float64(-0.0)),
        ("c8", 1 + 2j, np.complex64(1 + 2j)),
        ("c16", np.complex64(1 + 2j), np.complex128(1 + 2j)),
        ("c8", 3, np.complex64(3)),
        ("c8", [1, "NaN"], np.complex64(complex(1, np.nan))),
        ("M8[s]", np.datetime64("2020-01-01"), np.datetime64("2020-01-01", "s")),
        ("M8[s]", "2020-01-01", np.datetime64("2020-01-01", "s")),
        ("M8[s]", dt.datetime.fromisoformat("2020-01-01"), np.datetime64("2020-01-01", "s")),
        ("M8[D]", dt.date(2020, 1, 1), np.datetime64("2020-01-01", "D")),
        (">M8[s]", 10, np.datetime64(10, "s")),
        ("M8[s]", np.int32(10), np.datetime64(10, "s")),
        ("M8[10us]", "NaT", np.datetime64("NaT", "10us")),
        ("M8[ns]", np.datetime64("NaT", "D"), np.datetime64("NaT", "ns")),
        ("m8[s]", dt.timedelta(minutes=1), np.timedelta64(60, "s")),
        ("m8[s]", np.timedelta64(1, "h"), np.timedelta64(3600, "s")),
        ("m8[s]", 7, np.timedelta64(7, "s")),
        ("S3", b"ab", np.bytes_(b"ab")),
        ("S3", "ab", np.bytes_(b"ab")),
        ("U3", "é", np.str_("é")),
        ("U3", np.str_("é"), np.str_("é")),
        ("V3", b"abc", np.void(b"abc")),
        ("V3", np.void(b"abc"), np.void(b"abc")),
    ],
)
def test_a_value_is_converted_to_the_data_type(dtype, value, scalar):
    assert same(cast(value, of(dtype)), scalar)


RECORD = np.dtype([("a", "i4"), ("b", [("x", "f4"), ("y", "S2")]), ("c", "M8[s]")])


@pytest.mark.parametrize(
    "value",
    [
        (1, (2.0, b"x"), 3),
        [1, [2.0, "x"], np.datetime64(3, "s")],
        {"a": 1, "b": {"x": 2.0, "y": b"x"}, "c": 3},
        {"a": 1, "b": (2.0, b"x"), "c": 3},
        np.array((1, (2.0, b"x"), 3), dtype=RECORD)[()],
        np.array((1, (2.0, b"x"), 3), dtype=RECORD),
        np.array((1, (2.0, b"x"), 3), dtype=RECORD).tobytes(),
    ],
    ids=lambda value: type(value).__name__,
)
def test_a_structured_value_is_accepted_in_any_form(value):
    assert same(cast(value, DataType(RECORD)), np.array((1, (2.0, b"x"), 3), dtype=RECORD))


def test_a_sub_array_of_a_field_is_filled_from_one_value():
    dtype = np.dtype([("a", "i4", (2,)), ("b", "u1")])
    assert same(cast(([1, 2], 3), DataType(dtype)), np.array(([1, 2], 3), dtype=dtype))


@pytest.mark.parametrize(
    ("data_type", "value", "scalar"),
    [(STRING, "é", "é"), (BYTES, b"ab", b"ab"), (BYTES, bytearray(b"ab"), b"ab")],
    ids=["str", "bytes", "bytearray"],
)
def test_fill_values_of_variable_length_are_converted(data_type, value, scalar):
    assert cast(value, data_type) == scalar


@pytest.mark.parametrize(
    ("dtype", "value"),
    [
        *(("?", value) for value in (2, "yes", None)),
        *(("u1", value) for value in (-1, 256, 1.5, float("nan"), True, 1j, None, [], ..., np.bool_(True))),
        *(("f4", value) for value in (1e300, 1j, "x", None, [], True, 10**400, b"1")),
        *(("c8", value) for value in (1e300, [1], "1")),
        *(
            ("M8[s]", value)
            for value in ("2020-01-01T00:00:00.5", "yesterday", 1.5, np.timedelta64(1, "s"), None, True)
        ),
        ("M8[ns]", np.datetime64("9999-01-01", "s")),
        *(("m8[s]", value) for value in (np.timedelta64(1, "ms"), "5 s", dt.date(2020, 1, 1), np.datetime64(0, "s"))),
        *(("S3", value) for value in (b"abcd", "é", 1, None)),
        *(("U3", value) for value in ("abcd", b"a", 1)),
        *(("V3", value) for value in (b"ab", b"abcd", "abc", 0)),
        *(
            (RECORD, value)
            for value in (
                (1,),
                {"a": 1},
                b"x",
                0,
                (1, (2.0, b"xyz"), 3),
                (1.5, (2.0, b"x"), 3),
                np.void(b"x"),
            )
        ),
    ],
    ids=str,
)
def test_a_value_that_does_not_fit_the_type_is_refused(dtype, value):
    with pytest.raises(Invalid):
        cast(value, of(dtype))


@pytest.mark.parametrize(
    ("data_type", "value"), [(STRING, b"a"), (STRING, 1), (BYTES, "a"), (BYTES, 3), (ARRAY, [1])], ids=str
)
def test_objects_of_the_wrong_kind_are_refused(data_type, value):
    with pytest.raises(Invalid):
        cast(value, data_type)
