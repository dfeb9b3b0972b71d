"""The `zarr.json` of an array that a user asks for, with the members and defaults that zarr-python writes."""

from __future__ import annotations

from typing import Any

from .._types import JSON
from . import codec_options, dtypes_v3, fill_values
from .codecs_v2 import objects_of, read_filters
from .create import NewArray, Outline, key_encoding, outline
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
        "fill_value": fill_values.write(described.fill_value, described.data_type, zarr_format=3),
        "codecs": codecs if described.shards is None else [codec_options.sharding(described.chunks, codecs)],
        "attributes": described.attributes,
        "storage_transformers": [],
    }
    if described.dimension_names is not None:
        document["dimension_names"] = described.dimension_names
    return document


def _objects(options: NewArray) -> Variable | None:
    """What becomes of elements of dtype `object`: the codec that stores them tells."""
    names = [
        option for option in (*(options.codecs or ()), *(options.filters or ())) if isinstance(option, str)
    ]
    named = [
        option.get("id", option.get("name")) for option in options.codecs or () if isinstance(option, dict)
    ]
    return objects_of(
        read_filters([{"id": name} for name in (*names, *named) if isinstance(name, str) and name])
    )


def _codecs(options: NewArray, described: Outline) -> list[dict[str, JSON]]:
    if options.codecs is None:
        chain = [*(options.filters or ()), *_compressor(options.compressor)]
    elif options.filters is not None or not _is_auto(options.compressor):
        raise Invalid("codecs is the whole chain: leave out filters and compressor, or codecs")
    elif isinstance(options.codecs, str | dict):
        raise Invalid("codecs must be a list of codecs")
    else:
        chain = list(options.codecs)
    ndim = len(described.shape)
    codecs = codec_options.chain(chain, described.data_type)
    if options.order == "F" and ndim > 1:
        turn = {"name": "transpose", "configuration": {"order": list(reversed(range(ndim)))}}
        codecs.insert(0, turn)
    return codecs


def _is_auto(option: Any) -> bool:
    return isinstance(option, str) and option == "auto"


def _compressor(option: Any) -> list[Any]:
    if option is None:
        return []
    return ["zstd" if _is_auto(option) else option]
