"""Valid documents, which the tests of the model change."""

from __future__ import annotations

import json

from zarr_s3_async._model import formats
from zarr_s3_async.codecs.registry import find_kind

URL = "memory://test/array"


def zarray(**changes):
    """A valid `.zarray` with changed members; `...` removes a member."""
    document = {
        "zarr_format": 2,
        "shape": [10, 4],
        "chunks": [5, 2],
        "dtype": "<f4",
        "compressor": {"id": "zlib", "level": 1},
        "fill_value": 0.0,
        "order": "C",
        "filters": None,
    }
    return _changed(document, changes)


def zarr_json(**changes):
    """A valid `zarr.json` of an array with changed members."""
    document = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": [10, 4],
        "data_type": "float32",
        "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": [5, 2]}},
        "chunk_key_encoding": {"name": "default", "configuration": {"separator": "/"}},
        "fill_value": 0.0,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
    }
    return _changed(document, changes)


def group_json(**changes):
    """A valid `zarr.json` of a group with changed members."""
    return _changed({"zarr_format": 3, "node_type": "group", "attributes": {}}, changes)


def sharding(chunk_shape, codecs=None, **changes):
    """A sharding codec around `codecs`."""
    configuration = {
        "chunk_shape": chunk_shape,
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}] if codecs is None else codecs,
        "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "crc32c"}],
    }
    return {"name": "sharding_indexed", "configuration": _changed(configuration, changes)}


def _changed(document, changes):
    document = {**document, **changes}
    return {name: value for name, value in document.items() if value is not ...}


def stored(document):
    """The document as stored bytes."""
    return json.dumps(document).encode()


def new_array(**options):
    """The metadata of a new array."""
    return formats.new_array(options, find_kind)
