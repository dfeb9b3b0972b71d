"""Every document that we write passes third-party validators of the specifications."""

import itertools
import json

import pytest

from zarr_s3_async._model import formats

from .documents import new_array

zarr_metadata = pytest.importorskip("zarr_metadata")

DTYPES = [
    *("?", "i1", ">i4", "u8", "f2", "f4", ">f8", "c8", "M8[ns]", "m8[10s]", "S5", "U3", "V6", str, bytes),
    [("a", "<i4"), ("b", [("c", "S3"), ("d", "M8[s]")])],
]
OPTIONS = [
    {},
    {"compressor": None, "fill_value": None},
    {"compressor": "blosc", "order": "F", "dimension_separator": "/"},
    {"compressor": "gzip", "attributes": {"a": [1, {"b": None}]}, "dimension_names": ["x", "y"]},
]


def validate(meta):
    docs = {name: json.loads(raw) for name, raw in formats.dump(meta).items()}
    if meta.zarr_format == 3:
        model = zarr_metadata.ZarrV3ArrayMetadata.from_json(docs["zarr.json"])
        assert tuple(model.shape) == meta.shape
        assert not model.must_understand_fields
    else:
        model = zarr_metadata.ZarrV2ArrayMetadata.from_json(docs[".zarray"])
        assert tuple(model.shape) == meta.shape


@pytest.mark.parametrize("zarr_format", [2, 3])
@pytest.mark.parametrize(("dtype", "options"), list(itertools.product(DTYPES, OPTIONS)), ids=str)
def test_new_arrays_pass_the_validator(dtype, options, zarr_format):
    options = {"shape": (10, 4), "chunks": (5, 2), "dtype": dtype, "zarr_format": zarr_format} | options
    meta = new_array(**options)
    validate(meta)
    validate(formats.with_shape(formats.with_attributes(meta, {"b": 2}), (20, 4)))


def test_the_validator_refuses_invalid_documents():
    meta = new_array(shape=4, dtype="f4")
    document = json.loads(formats.dump(meta)["zarr.json"])
    for wrong in ({"shape": [-1]}, {"codecs": 3}, {"fill_value": "x"}):
        with pytest.raises(zarr_metadata.MetadataValidationError):
            zarr_metadata.ZarrV3ArrayMetadata.from_json(document | wrong)


def test_new_sharded_arrays_pass_the_validator():
    validate(new_array(shape=(10, 4), chunks=(5, 2), shards=(10, 4), dtype="f4"))


def test_new_groups_pass_the_validator():
    group = formats.new_group({"a": 1})
    nodes = {"b": new_array(shape=4, dtype="f4"), "c": group}
    document = json.loads(formats.dump(formats.with_consolidated(group, nodes))["zarr.json"])
    assert zarr_metadata.ZarrV3GroupMetadata.from_json(document)
