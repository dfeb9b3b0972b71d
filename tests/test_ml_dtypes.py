"""The small types of ml_dtypes are supported if it is installed; otherwise the error names it."""

import sys

import numpy as np
import pytest

from zarr_s3_async import _ml_dtypes
from zarr_s3_async._model import dtype_names, fill_values, formats
from zarr_s3_async._model.problems import Invalid, MissingPackage, Unknown
from zarr_s3_async.errors import UnsupportedFeature

from .model.documents import URL, new_array, stored, zarr_json

ml_dtypes = pytest.importorskip("ml_dtypes")


@pytest.mark.parametrize("name", sorted(_ml_dtypes.BITS))
def test_each_type_is_read_and_written_by_its_name(name):
    for data_type in (dtype_names.read_v2(name, None), dtype_names.read_v3(name)):
        assert data_type.dtype == np.dtype(getattr(ml_dtypes, name))
        assert dtype_names.write_v2(data_type) == dtype_names.write_v3(data_type) == name


def fill(value, name):
    return fill_values.read(value, dtype_names.read_v3(name), zarr_format=3)


@pytest.mark.parametrize(
    ("name", "value", "bits"),
    [
        ("bfloat16", 1.5, 0x3FC0),
        ("bfloat16", "NaN", 0x7FC0),
        ("bfloat16", "Infinity", 0x7F80),
        ("bfloat16", "-Infinity", 0xFF80),
        ("bfloat16", "0x7fc1", 0x7FC1),
        ("bfloat16", 1e300, 0x7F80),
        ("bfloat16", -0.0, 0x8000),
        ("float8_e5m2", "NaN", 0x7E),
        ("float8_e4m3", "Infinity", 0x78),
        ("float8_e8m0fnu", "NaN", 0xFF),
        ("float8_e8m0fnu", 1, 0x7F),
        ("float8_e8m0fnu", 0.0, 0),
        ("float8_e4m3fn", "0x7f", 0x7F),
    ],
)
def test_float_fill_values_are_read(name, value, bits):
    scalar = fill(value, name)
    assert scalar.dtype.name == name
    assert np.asarray(scalar).view(f"u{scalar.itemsize}") == bits


@pytest.mark.parametrize(("name", "value"), [("int4", -8), ("int4", 7), ("uint4", 15), ("int2", -2), ("uint2", 3)])
def test_integer_fill_values_are_read(name, value):
    scalar = fill(value, name)
    assert int(scalar) == value
    assert fill_values.write(scalar, dtype_names.read_v3(name), zarr_format=3) == value


@pytest.mark.parametrize(
    ("name", "value"),
    [
        *(("int4", 8), ("int4", -9), ("uint2", 4), ("int2", True), ("int4", 0.5), ("int4", "NaN")),
        *(("bfloat16", "0x7fc"), ("bfloat16", "0x7fc00000"), ("bfloat16", True)),
        *(("float4_e2m1fn", "NaN"), ("float4_e2m1fn", "Infinity"), ("float8_e8m0fnu", "Infinity")),
        *(("float8_e8m0fnu", -1), ("float8_e4m3fn", 1e9)),
    ],
)
def test_an_invalid_fill_value_of_ml_dtypes_is_refused(name, value):
    with pytest.raises(Invalid):
        fill(value, name)


@pytest.mark.parametrize("value", ["NaN", "-Infinity", 1.5, -0.0])
def test_float_fill_values_are_written_unchanged(value):
    assert repr(fill_values.write(fill(value, "bfloat16"), dtype_names.read_v3("bfloat16"), zarr_format=3)) == repr(
        value
    )


@pytest.mark.parametrize("name", sorted(_ml_dtypes.BITS))
def test_zero_and_null_fill_values_are_read_in_v2(name):
    data_type = dtype_names.read_v2(name, None)
    assert fill_values.read(None, data_type, zarr_format=2) is None
    assert float(fill_values.read(0, data_type, zarr_format=2)) < 1e-30


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize("spelling", ["bfloat16", np.dtype(ml_dtypes.bfloat16), ml_dtypes.bfloat16], ids=str)
def test_an_array_of_ml_dtypes_can_be_created(zarr_format, spelling):
    meta = new_array(shape=4, dtype=spelling, fill_value=1.5, zarr_format=zarr_format)
    assert meta.dtype == np.dtype(ml_dtypes.bfloat16)
    assert meta.fill_value == 1.5
    assert formats.parse_node(formats.dump(meta), url=URL).dtype == meta.dtype


def test_types_of_two_bytes_need_a_byte_order_and_types_of_one_do_not():
    plain = [{"name": "bytes"}]
    meta = formats.parse_node({"zarr.json": stored(zarr_json(data_type="int4", fill_value=0, codecs=plain))}, url=URL)
    assert meta.dtype.itemsize == 1
    assert new_array(shape=4, dtype="int4").codecs[0].configuration == {}
    assert new_array(shape=4, dtype="bfloat16").codecs[0].configuration == {"endian": "little"}


def test_the_error_without_ml_dtypes_says_what_to_install(monkeypatch):
    monkeypatch.setitem(sys.modules, "ml_dtypes", None)
    with pytest.raises(MissingPackage, match="pip install ml_dtypes"):
        dtype_names.read_v3("bfloat16")
    with pytest.raises(UnsupportedFeature, match="pip install ml_dtypes"):
        formats.parse_node({"zarr.json": stored(zarr_json(data_type="int4"))}, url=URL)
    with pytest.raises(UnsupportedFeature, match="pip install ml_dtypes"):
        new_array(shape=4, dtype="bfloat16")


def test_the_error_of_a_type_missing_in_an_old_ml_dtypes_names_it(monkeypatch):
    monkeypatch.delattr(ml_dtypes, "float8_e3m4")
    with pytest.raises(Unknown, match="float8_e3m4"):
        dtype_names.read_v3("float8_e3m4")


def test_types_without_a_zarr_name_are_refused():
    if not hasattr(ml_dtypes, "int1"):
        pytest.skip("this ml_dtypes has no int1")
    with pytest.raises(ValueError, match="int1"):
        new_array(shape=4, dtype=ml_dtypes.int1)
