"""Documents of other writers that violate the specification are read if only one meaning is possible."""

import json
import logging

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async._model import formats
from zarr_s3_async.errors import MetadataError

from .documents import URL, group_json, new_array, stored, zarr_json, zarray


def parse_v2(**changes):
    return formats.parse_node({".zarray": stored(zarray(**changes))}, url=URL)


def parse_v3(**changes):
    return formats.parse_node({"zarr.json": stored(zarr_json(**changes))}, url=URL)


NUMBERS = [("NaN", np.nan, "NaN"), ("Infinity", np.inf, "Infinity"), ("-Infinity", -np.inf, "-Infinity")]


@pytest.mark.parametrize(("literal", "value", "strict"), NUMBERS)
@pytest.mark.parametrize("document", [zarray(fill_value=np.nan), zarr_json(fill_value=np.nan)], ids=["v2", "v3"])
def test_a_bare_nan_or_infinity_as_fill_value_is_read_and_written_strictly(document, literal, value, strict):
    """zarr-python 3.0.0 and 3.0.1 wrote such documents."""
    name = ".zarray" if document["zarr_format"] == 2 else "zarr.json"
    meta = formats.parse_node({name: stored(document).replace(b"NaN", literal.encode())}, url=URL)
    np.testing.assert_equal(meta.fill_value, np.float32(value))
    for edited in (formats.with_shape(meta, (20, 4)), formats.with_attributes(meta, {"a": 1})):
        again = json.loads(formats.dump(edited)[name], parse_constant=pytest.fail)
        assert again["fill_value"] == strict


def test_a_bare_nan_inside_a_complex_or_structured_fill_value_is_read():
    raw = stored(zarr_json(data_type="complex64", fill_value=[float("nan"), 1.0]))
    meta = formats.parse_node({"zarr.json": raw}, url=URL)
    assert np.isnan(meta.fill_value.real)
    assert json.loads(formats.dump(meta)["zarr.json"])["fill_value"] == ["NaN", 1.0]


def test_a_bare_nan_is_refused_as_an_integer():
    with pytest.raises(MetadataError, match="fill_value"):
        parse_v2(dtype="<i4", fill_value=float("nan"))


def test_chunks_of_an_empty_dimension_may_be_0():
    meta = parse_v2(shape=[0, 4], chunks=[0, 2])
    assert (meta.chunks, meta.grid_shape) == ((1, 2), (0, 2))
    grown = formats.with_shape(meta, (3, 4))
    assert formats.parse_node(formats.dump(grown), url=URL).chunks == (1, 2)
    for shape, chunks in (([3, 4], [0, 2]), ([0, 4], [1, 0]), ([0], [0, 2])):
        with pytest.raises(MetadataError):
            parse_v2(shape=shape, chunks=chunks)


def test_null_attributes_and_storage_transformers_are_read_as_absent():
    assert parse_v3(attributes=None, storage_transformers=None).attributes == {}
    group = formats.parse_node({"zarr.json": stored(group_json(attributes=None))}, url=URL)
    assert group.attributes == {}
    assert formats.with_attributes(group, {"a": 1}).source["attributes"] == {"a": 1}


def test_a_null_fill_value_of_v3_reads_as_zero_with_a_warning(caplog):
    """GDAL writes rasters without nodata like this, and zarrita.js arrays without a fill value."""
    with caplog.at_level(logging.WARNING, "zarr_s3_async"):
        assert parse_v3(fill_value=None).fill_value is None
    assert URL in caplog.text
    assert "null" in caplog.text


@pytest.mark.parametrize(("dtype", "expected"), [("float32", 0.0), ("numpy.datetime64", "NaT"), ("string", "")])
async def test_absent_chunks_of_an_array_with_a_null_fill_value_read_as_zero(dtype, expected):
    configured = {"name": dtype, "configuration": {"unit": "s", "scale_factor": 1}}
    codecs = ["vlen-utf8"] if dtype == "string" else [{"name": "bytes", "configuration": {"endian": "little"}}]
    document = zarr_json(data_type=configured if "." in dtype else dtype, fill_value=None, codecs=codecs)
    async with zs.Session() as session:
        array = await session.create_array(f"memory://null-{dtype}", shape=3, dtype="f4")
        await array._runtime.store.put("zarr.json", stored(document))
        array = await session.open_array(f"memory://null-{dtype}")
        np.testing.assert_array_equal(await array[0, 0:2], np.array([expected] * 2, array.dtype))


def test_consolidated_metadata_without_its_format_is_read():
    document = {"metadata": {".zgroup": {"zarr_format": 2}, "a/.zarray": zarray()}}
    group = formats.parse_node({".zmetadata": stored(document)}, url=URL)
    assert list(group.consolidated) == ["a"]
    with pytest.raises(MetadataError, match="zarr_consolidated_format"):
        formats.parse_node({".zmetadata": stored({**document, "zarr_consolidated_format": 2})}, url=URL)


@pytest.mark.parametrize("option", ["numcodecs.fletcher32", {"name": "numcodecs.base64"}], ids=str)
def test_codecs_of_numcodecs_are_written_with_a_configuration(option):
    """zarr-python does not read them without one."""
    document = json.loads(formats.dump(new_array(shape=4, dtype="f4", compressor=option))["zarr.json"])
    assert document["codecs"][-1]["configuration"] == {}
