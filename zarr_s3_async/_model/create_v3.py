"""The `zarr.json` of an array that a user asks for, with the members and defaults that zarr-python writes."""

from __future__ import annotations

from typing import Any

from .._types import JSON
from . import codec_options, dtypes_v3, fill_spelling
from .codecs_v2 import objects_of, read_filters
from .create import NewArray, Outline, codec_list, key_encoding, outline
from .dtypes import Variable
from .problems import Invalid


def new_document(options: NewArray) -> dict[str, JSON]:
    """The document.

    Raises:
        Invalid, Unknown: An option has a value that it cannot have.
    """
    described = outline(options, _objects(options))
    codecs = _codecs(options, described)
    keys = key_encoding(options)
    document: dict[str, JSON] = {
        "zarr_format": 3,
        "node_type": "array",
        "shape": list(described.shape),
        "data_type": dtypes_v3.write(described.data_type),
        "chunk_grid": {
            "name": "regular",
            "configuration": {"chunk_shape": list(described.shards or described.chunks)},
        },
        "chunk_key_encoding": {"name": keys.name, "configuration": {"separator": keys.separator}},
        "fill_value": fill_spelling.write(described.fill_value, described.data_type, zarr_format=3),
        "codecs": codecs if described.shards is None else [codec_options.sharding(described.chunks, codecs)],
        "attributes": described.attributes,
        "storage_transformers": [],
    }
    if described.dimension_names is not None:
        document["dimension_names"] = described.dimension_names
    return document


def _objects(options: NewArray) -> Variable | None:
    """What becomes of elements of dtype `object`: the codec that stores them tells."""
    codecs = [*codec_list(options, "codecs"), *codec_list(options, "filters")]
    names = [codec.get("id", codec.get("name")) if isinstance(codec, dict) else codec for codec in codecs]
    return objects_of(read_filters([{"id": name} for name in names if isinstance(name, str) and name]))


def _codecs(options: NewArray, described: Outline) -> list[dict[str, JSON]]:
    ndim, data_type = len(described.shape), described.data_type
    if options.codecs is None:
        compressor = "zstd" if _is_auto(options.compressor) else options.compressor
        codecs = codec_options.filters_and_compressor(codec_list(options, "filters"), compressor, data_type)
    elif options.filters is not None or not _is_auto(options.compressor):
        raise Invalid("codecs is the whole chain: leave out filters and compressor, or codecs")
    else:
        codecs = codec_options.chain(codec_list(options, "codecs"), data_type)
    if options.order == "F" and ndim > 1:
        turn = {"name": "transpose", "configuration": {"order": list(reversed(range(ndim)))}}
        codecs.insert(0, turn)
    return codecs


def _is_auto(option: Any) -> bool:
    return isinstance(option, str) and option == "auto"
