"""Every data type and every notation of it, in both formats, read and written."""

import numpy as np
import pytest

from zarr_s3_async._model import dtype_names, dtypes
from zarr_s3_async._model.dtypes import ARRAY, BYTES, STRING, DataType, packed
from zarr_s3_async._model.problems import Invalid, Unknown

NUMBERS_V2 = [
    *(
        "|b1",
        "|i1",
        "|u1",
        "<i2",
        ">i2",
        "<i4",
        ">i4",
        "<i8",
        ">i8",
        "<u2",
        ">u2",
        "<u4",
        ">u4",
        "<u8",
        ">u8",
    ),
    *("<f2", ">f2", "<f4", ">f4", "<f8", ">f8", "<c8", ">c8", "<c16", ">c16"),
]
UNITS = ["Y", "M", "W", "D", "h", "m", "s", "ms", "us", "ns", "ps", "fs", "as"]
TIMES_V2 = [f"{order}{kind}8[{unit}]" for order in "<>" for kind in "mM" for unit in UNITS] + [
    *("<M8", ">M8", "<m8", "<M8[10us]", ">m8[7D]", "<M8[10generic]"),
]
FIXED_V2 = ["|S1", "|S5", "|S65536", "<U1", "<U3", ">U3", "|V1", "|V6"]
RECORDS_V2 = [
    [["r", "|u1"], ["g", "|u1"], ["b", "|u1"]],
    [["x", "<f4"], ["y", ">f4"], ["z", "<f4", [2, 2]]],
    [["foo", "<f4"], ["bar", [["baz", "<f4"], ["qux", "<i4"]]]],
    [["when", "<M8[ns]"], ["what", "|S3"], ["who", "<U2"], ["raw", "|V3"], ["é", "|b1"]],
    [["p", [["q", [["r", "<i2", [3]]], [2]]], [1, 4]]],
]


@pytest.mark.parametrize("spelling", [*NUMBERS_V2, *TIMES_V2, *FIXED_V2])
def test_a_v2_type_is_numpys_and_is_written_unchanged(spelling):
    data_type = dtype_names.read_v2(spelling, None)
    assert data_type.dtype == np.dtype(spelling)
    assert data_type.dtype.str == np.dtype(spelling).str
    assert dtype_names.write_v2(data_type) == spelling


@pytest.mark.parametrize("spelling", RECORDS_V2)
def test_a_v2_structured_type_is_written_unchanged(spelling):
    data_type = dtype_names.read_v2(spelling, None)
    assert data_type.dtype.names == tuple(field[0] for field in spelling)
    assert dtype_names.write_v2(data_type) == spelling


def test_a_v2_structured_type_has_numpys_layout():
    data_type = dtype_names.read_v2([["x", "<f4"], ["y", ">i2"], ["z", "|u1", [2, 2]], ["t", [["u", "|S3"]]]], None)
    assert data_type.dtype == np.dtype([("x", "<f4"), ("y", ">i2"), ("z", "u1", (2, 2)), ("t", [("u", "S3")])])


@pytest.mark.parametrize(
    ("spelling", "same"),
    [
        *(("<b1", "|b1"), (">b1", "|b1"), ("<i1", "|i1"), (">u1", "|u1"), (">S1", "|S1"), ("<V3", "|V3")),
        *(("<M8[us]", "<M8[μs]"), ("<M8[1s]", "<M8[s]"), ("<M8[generic]", "<M8")),
    ],
)
def test_other_notations_of_a_v2_type_are_read(spelling, same):
    assert dtype_names.read_v2(spelling, None) == dtype_names.read_v2(same, None)


@pytest.mark.parametrize(
    ("variable", "data_type"),
    [("string", STRING), ("bytes", BYTES), ("array", ARRAY)],
    ids=lambda value: str(value),
)
def test_the_type_of_v2_objects_depends_on_their_codec(variable, data_type):
    assert dtype_names.read_v2("|O", variable) is data_type
    assert dtype_names.write_v2(data_type) == "|O"


@pytest.mark.parametrize(
    "spelling",
    [
        *(
            "|O",
            "i4",
            "=i4",
            "|i4",
            "|f8",
            "|U3",
            "<S0",
            "|S0",
            "<U0",
            "|V0",
            "<M8[0s]",
            "<M8[2147483648s]",
            "",
        ),
        *(None, 1, 1.0, True, {}, {"a": 1}, [], [[]], [["x"]], [["x", "<f4"], ["x", "<f4"]], [["", "<f4"]]),
        *([["x", "|O"]], [[1, "<f4"]], [["x", "<f4", 3]], [["x", "<f4", [0]]], [["x", "<f4", [-1]]]),
        *([["x", "<f4", [2], 4]], [["x", None]], ["x", "<f4"], [["x", "<f4", [True]]]),
    ],
    ids=repr,
)
def test_an_invalid_v2_type_is_refused(spelling):
    with pytest.raises((Invalid, Unknown)):
        dtype_names.read_v2(spelling, None)


@pytest.mark.parametrize(
    "spelling",
    [
        *(
            "<f16",
            "<c32",
            "<i16",
            "<f3",
            "float64",
            "object",
            "<M8[x]",
            "<m8[s",
            "|S99999999999",
            "|S2000000000",
        ),
        *("<U2000000000", "|V99999999", [["x", "|u1", [100_000, 100_000]]], [["x", "|u1", [2**62, 2**62]]]),
        *([["x", "|u1", [1] * 40]], [["x", "|V9999999"], ["y", "|V9999999"]]),
    ],
    ids=repr,
)
def test_the_error_of_an_unsupported_type_names_it(spelling):
    with pytest.raises(Unknown):
        dtype_names.read_v2(spelling, None)


CORE = [
    *("bool", "int8", "int16", "int32", "int64", "uint8", "uint16", "uint32", "uint64"),
    *("float16", "float32", "float64", "complex64", "complex128"),
]


@pytest.mark.parametrize("name", CORE)
def test_a_core_type_is_numpys_type_of_the_same_name(name):
    data_type = dtype_names.read_v3(name)
    assert data_type.dtype == np.dtype(name)
    assert data_type.dtype.isnative
    assert dtype_names.write_v3(data_type) == name
    assert dtype_names.read_v3({"name": name}) == data_type
    assert dtype_names.read_v3({"name": name, "configuration": {}}) == data_type


def configured(name, **configuration):
    return {"name": name, "configuration": configuration}


@pytest.mark.parametrize(
    ("spelling", "dtype"),
    [
        *((configured("numpy.datetime64", unit=unit, scale_factor=1), f"M8[{unit}]") for unit in UNITS),
        (configured("numpy.datetime64", unit="us", scale_factor=10), "M8[10us]"),
        (configured("numpy.timedelta64", unit="D", scale_factor=2**31 - 1), "m8[2147483647D]"),
        (configured("numpy.timedelta64", unit="generic", scale_factor=1), "m8"),
        (configured("null_terminated_bytes", length_bytes=5), "S5"),
        (configured("fixed_length_utf32", length_bytes=12), "U3"),
        (configured("raw_bytes", length_bytes=6), "V6"),
        (
            configured("struct", fields=[{"name": "x", "data_type": "float32"}, {"name": "y", "data_type": "int8"}]),
            [("x", "f4"), ("y", "i1")],
        ),
        (
            configured(
                "struct",
                fields=[
                    {
                        "name": "p",
                        "data_type": configured("struct", fields=[{"name": "x", "data_type": "uint16"}]),
                    },
                    {"name": "t", "data_type": configured("numpy.datetime64", unit="s", scale_factor=1)},
                ],
            ),
            [("p", [("x", "u2")]), ("t", "M8[s]")],
        ),
    ],
    ids=lambda value: str(value)[:60],
)
def test_an_extension_type_is_numpys_and_is_written_unchanged(spelling, dtype):
    data_type = dtype_names.read_v3(spelling)
    assert data_type == DataType(np.dtype(dtype))
    assert dtype_names.write_v3(data_type) == spelling


def test_the_legacy_form_of_structured_types_is_read_and_never_written():
    data_type = dtype_names.read_v3(
        configured("structured", fields=[["x", "int32"], {"name": "y", "data_type": "bool"}])
    )
    assert data_type.dtype == np.dtype([("x", "i4"), ("y", "?")])
    assert dtype_names.write_v3(data_type)["name"] == "struct"


@pytest.mark.parametrize(("name", "size"), [("r8", 1), ("r16", 2), ("r24", 3), ("r256", 32)])
def test_raw_bits_keep_their_name(name, size):
    data_type = dtype_names.read_v3(name)
    assert data_type.dtype == np.dtype(f"V{size}")
    assert dtype_names.write_v3(data_type) == name


@pytest.mark.parametrize(
    ("name", "data_type", "written"),
    [
        ("string", STRING, "string"),
        ("bytes", BYTES, "variable_length_bytes"),
        ("variable_length_bytes", BYTES, "variable_length_bytes"),
        ("complex_float32", DataType(np.dtype("c8")), "complex64"),
        ("complex_float64", DataType(np.dtype("c16")), "complex128"),
    ],
)
def test_aliases_of_types_are_read(name, data_type, written):
    assert dtype_names.read_v3(name) == data_type
    assert dtype_names.write_v3(data_type) == written


def test_the_two_letters_for_micro_are_one_unit():
    data_type = dtype_names.read_v3(configured("numpy.datetime64", unit="μs", scale_factor=1))
    assert dtype_names.write_v3(data_type) == configured("numpy.datetime64", unit="us", scale_factor=1)


@pytest.mark.parametrize(
    "spelling",
    [
        *(None, 1, "", [], {}, {"name": 3}, {"name": "int8", "configuration": None}),
        *("r7", "r12", "raw_bytes", "numpy.datetime64", configured("raw_bytes", length_bytes=0)),
        *(configured("raw_bytes", length_bytes=True), configured("raw_bytes", length_bytes=3.0)),
        *(configured("fixed_length_utf32", length_bytes=5), configured("fixed_length_utf32", length_bytes=0)),
        *(configured("numpy.datetime64", unit="x", scale_factor=1), configured("numpy.datetime64", unit="s")),
        *(configured("numpy.datetime64", unit="s", scale_factor=n) for n in (0, -1, 2**31, 1.0, "1")),
        *(configured("struct", fields=fields) for fields in ([], {}, [["x"]], [{"name": "x"}], [["", "int8"]])),
        configured("struct", fields=[["x", "string"]]),
        configured("struct", fields=[["x", "int8"], ["x", "int8"]]),
    ],
    ids=str,
)
def test_an_invalid_v3_type_is_refused(spelling):
    with pytest.raises(Invalid):
        dtype_names.read_v3(spelling)


@pytest.mark.parametrize(
    "spelling",
    [
        *("float128", "r0", "r", "urn:example:datetime", "Int8", "<i4", "complex_bfloat16"),
        *(
            configured("int8", bits=8),
            {"name": "int8", "why": 1},
            configured("raw_bytes", length_bytes=2**40),
        ),
        configured("numpy.datetime64", unit="s", scale_factor=1, epoch=0),
        configured("struct", fields=[["x", "unheard-of"]]),
        configured("struct", fields=[{"name": "x", "data_type": "int8", "offset": 4}]),
    ],
    ids=str,
)
def test_the_error_of_an_unknown_v3_type_names_it(spelling):
    with pytest.raises(Unknown):
        dtype_names.read_v3(spelling)


@pytest.mark.parametrize("native", [True, False])
def test_a_padded_structured_type_is_packed(native):
    padded = np.dtype([("a", "i1"), ("b", ">f8"), ("c", [("d", "i1"), ("e", "<i4")])], align=True)
    result = packed(padded, native=native)
    order = "=" if native else ">"
    assert result == np.dtype([("a", "i1"), ("b", f"{order}f8"), ("c", [("d", "i1"), ("e", "<i4")])])


@pytest.mark.parametrize(
    "dtype",
    [
        *("O", "S", "U", "V0", "f16", "c32", "(2,)f4"),
        *([("x", "O")], [(("title", "x"), "i4")], [("x", "S0")]),
    ],
    ids=str,
)
def test_numpy_types_without_a_zarr_type_are_refused(dtype):
    with pytest.raises(Invalid):
        packed(np.dtype(dtype), native=True)


def test_sub_arrays_in_structured_types_exist_only_in_v2():
    dtype = packed(np.dtype([("x", "f4", (2, 3))]), native=False)
    assert dtype_names.write_v2(DataType(dtype)) == [["x", "<f4", [2, 3]]]
    with pytest.raises(Invalid, match="zarr_format=2"):
        dtype_names.write_v3(DataType(dtype))


@pytest.mark.parametrize("data_type", [STRING, BYTES], ids=["string", "bytes"])
def test_the_zero_of_a_variable_length_type_is_empty(data_type):
    assert not dtypes.zero(data_type)
    assert dtypes.zero(ARRAY) is None


@pytest.mark.parametrize("dtype", ["?", "i1", ">i4", "f8", "c8", "M8[s]", "S3", "U3", "V3", [("x", "i4"), ("y", "S2")]])
def test_the_zero_of_a_fixed_type_is_zero_bits(dtype):
    dtype = np.dtype(dtype)
    assert np.asarray(dtypes.zero(DataType(dtype)), dtype=dtype).tobytes() == bytes(dtype.itemsize)
