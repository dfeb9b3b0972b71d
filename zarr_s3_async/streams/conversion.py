"""The metadata of a copy: what the options change, and whether encoded chunks can be copied without decoding."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final, Literal, TypedDict, cast

import numpy as np

from .._engine.runtime import fill_array
from .._grid import Edges
from .._model import chains, formats
from .._model.create import ArrayOptions
from .._model.metadata import ArrayMeta
from .._options import FORMATS, check_choice, check_names
from .._types import JSON, CodecSpec
from ..codecs.registry import find_kind
from ..errors import ConfigError
from .boxes import Box, is_aligned, whole

_DIMENSIONS: Final = "_ARRAY_DIMENSIONS"
_SAME_IN_V3: Final = frozenset({"zstd", "gzip", "blosc", "vlen-utf8", "vlen-bytes"})
_SHUFFLES: Final = ("noshuffle", "shuffle", "bitshuffle")


class CopyOptions(TypedDict, total=False):
    """The properties that a copy changes. Omitted options keep the source's values if the target's format has them."""

    chunks: Any
    """As for a new array."""
    shards: Any
    """As for a new array; None: each chunk is an object. Format 2 has no shards: the copy has the inner chunks."""
    codecs: Any
    """Format 3: all codecs of the chain."""
    compressor: Any
    """As for a new array."""
    filters: Any
    """As for a new array."""
    chunk_key_encoding: Any
    """Format 3: how chunk keys are spelled."""
    dimension_separator: Literal[".", "/"] | None
    zarr_format: Literal[2, 3]


def check_options(options: Mapping[str, Any]) -> None:
    """Raise ConfigError for an unknown option. Values are checked where they are used."""
    check_names(options, CopyOptions.__annotations__, "copy")
    if "zarr_format" in options:
        check_choice("zarr_format", options["zarr_format"], FORMATS)


def converted(meta: ArrayMeta, box: Box, options: CopyOptions) -> ArrayMeta:
    """The metadata of the copy.

    Args:
        meta: Metadata of the source.
        box: The region to copy.
        options: The properties to change.

    Raises:
        ConfigError: An option does not fit the array, or the source uses a feature that the target's format lacks and
            that no option replaces.
    """
    zarr_format = options.get("zarr_format", meta.zarr_format)
    shape, changed = box.shape, {name for name in options if name != "zarr_format"}
    if meta.edges is not None and box != whole(meta.shape):
        changed.add("edges")
    # The document is kept as it is, with members that this library does not know.
    if not changed and zarr_format == meta.zarr_format:
        return meta if shape == meta.shape else formats.with_shape(meta, shape)
    new: dict[str, Any] = {
        "shape": shape,
        "dtype": _dtype(meta, zarr_format),
        **_grids(meta, box, zarr_format, options),
        "fill_value": _fill_value(meta, zarr_format),
        "zarr_format": zarr_format,
        **_names(meta, zarr_format),
        **_keys(meta, zarr_format, options),
        **_codecs(meta, zarr_format, options),
    }
    return formats.new_array(cast("ArrayOptions", new), find_kind)


def _grids(meta: ArrayMeta, box: Box, zarr_format: int, options: CopyOptions) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    if "chunks" not in options:
        kept["chunks"] = meta.chunks if meta.shards is not None else _grid_option(meta, box)
    if "shards" not in options and meta.shards is not None and zarr_format == 3:
        kept["shards"] = _grid_option(meta, box)
    return {**kept, **{name: value for name, value in options.items() if name in ("chunks", "shards")}}


def _grid_option(meta: ArrayMeta, box: Box) -> list[Any]:
    """The grid of the stored objects inside the box, in the form of the `chunks` option of a new array."""
    return [
        axis if isinstance(axis, int) else _lengths(axis, low, high)
        for axis, low, high in zip(meta.object_axes, box.start, box.stop, strict=True)
    ]


def _lengths(axis: Edges, low: int, high: int) -> list[Any] | int:
    if low == high:
        return axis.longest
    if low == 0 and high == axis.stop:
        return list(axis.runs)
    lengths = []
    for cell in range(axis.cell_at(low), axis.cell_at(high - 1) + 1):
        start, length = axis.place(cell)
        lengths.append(min(high, start + length) - max(low, start))
    return lengths


def _dtype(meta: ArrayMeta, zarr_format: int) -> Any:
    # The name in the document, since several names have the same NumPy type.
    if meta.zarr_format == 3 and zarr_format == 3:
        return meta.source["data_type"]
    if meta.dtype.hasobject and meta.dtype.names is None:
        names = [codec.name.removeprefix("numcodecs.") for codec in inner_chain(meta)]
        return str if "vlen-utf8" in names else bytes if "vlen-bytes" in names else np.dtype(object)
    if zarr_format == 2 and chains.byte_order(meta.codecs) == ">" and meta.dtype.kind in "iufc":
        return meta.dtype.newbyteorder(">")
    return meta.dtype


def _fill_value(meta: ArrayMeta, zarr_format: int) -> Any:
    if meta.fill_value is None and zarr_format == 3 and not meta.dtype.hasobject:
        return fill_array(meta)[()]  # format 3 has no null: the value that absent chunks of format 2 read as
    return meta.fill_value


def _names(meta: ArrayMeta, zarr_format: int) -> dict[str, Any]:
    """Attributes and dimension names. Format 2 stores dimension names as an attribute."""
    attributes = dict(meta.attributes)
    if zarr_format == 2:
        return {
            "attributes": attributes,
            "dimension_names": None if _DIMENSIONS in attributes else meta.dimension_names,
        }
    if meta.zarr_format == 2 and meta.dimension_names is not None:
        attributes.pop(_DIMENSIONS, None)
    return {"attributes": attributes, "dimension_names": meta.dimension_names}


def _keys(meta: ArrayMeta, zarr_format: int, options: CopyOptions) -> dict[str, Any]:
    given: dict[str, Any] = {
        name: value for name, value in options.items() if name in ("chunk_key_encoding", "dimension_separator")
    }
    if given or zarr_format != meta.zarr_format:
        return given
    if zarr_format == 2:
        return {"dimension_separator": meta.keys.separator}
    return {"chunk_key_encoding": {"name": meta.keys.name, "separator": meta.keys.separator}}


def _codecs(meta: ArrayMeta, zarr_format: int, options: CopyOptions) -> dict[str, Any]:
    chain_options = ("codecs", "compressor", "filters")
    given: dict[str, Any] = {name: value for name, value in options.items() if name in chain_options}
    if given:  # `codecs` is complete, so the user puts a transpose codec there if order F is to stay
        return given if "codecs" in given else {"order": meta.order, **given}
    if meta.zarr_format == 2:
        filters, objects = meta.source.get("filters"), meta.dtype.hasobject
        return {
            "order": meta.order,
            "filters": _without_vlen(filters) if zarr_format == 3 and objects else filters,
            "compressor": meta.source.get("compressor"),
        }
    chain = inner_chain(meta)
    if zarr_format == 3:
        return {"codecs": [{"name": codec.name, "configuration": dict(codec.configuration)} for codec in chain]}
    return _chain_in_format_2(meta, chain)


def _without_vlen(filters: Sequence[Mapping[str, JSON]] | None) -> list[Mapping[str, JSON]]:
    """The filters of format 2 without those for elements of variable length: format 3 derives these from the dtype."""
    return [entry for entry in filters or () if entry["id"] not in ("vlen-utf8", "vlen-bytes")]


def inner_chain(meta: ArrayMeta) -> tuple[CodecSpec, ...]:
    """The codecs of one chunk, in encoding order."""
    return meta.codecs if meta.shards is None else chains.inner(meta.codecs[0])


def _chain_in_format_2(meta: ArrayMeta, chain: Sequence[CodecSpec]) -> dict[str, Any]:
    order, made_bytes = "C", False
    filters: list[dict[str, JSON]] = []
    coders: list[dict[str, JSON]] = []
    for codec in chain:
        match codec.name:
            case "transpose" if not filters and not made_bytes:
                axes = list(codec.configuration["order"])
                if axes == list(reversed(range(meta.ndim))):
                    order = "F" if meta.ndim > 1 else "C"
                elif axes != list(range(meta.ndim)):
                    raise _not_in_format_2(codec)
            case "bytes":
                made_bytes = True
            case "vlen-utf8" | "vlen-bytes":
                made_bytes = True
                filters.append({"id": codec.name})
            case _:
                (coders if made_bytes else filters).append(_as_numcodecs(codec))
    # Format 2 has one compressor; codecs before it are filters, which may take bytes too.
    last = coders.pop() if coders else None
    return {"order": order, "filters": [*filters, *coders] or None, "compressor": last}


def _as_numcodecs(codec: CodecSpec) -> dict[str, JSON]:
    name, configuration = codec.name, dict(codec.configuration)
    if name.startswith("numcodecs."):
        return {"id": name.removeprefix("numcodecs."), **configuration}
    match name:
        case "zstd" | "gzip":
            return {"id": name, **configuration}
        case "blosc":
            configuration.pop("typesize", None)  # format 2 always uses the element's size
            configuration["shuffle"] = _SHUFFLES.index(str(configuration["shuffle"]))
            return {"id": "blosc", **configuration}
    raise _not_in_format_2(codec)


def _not_in_format_2(codec: CodecSpec) -> ConfigError:
    return ConfigError(
        f"the codec {codec.name!r} does not exist in Zarr format 2: pass compressor= (and filters=) for the copy"
    )


# Moving encoded chunks


def moves_chunks(source: ArrayMeta, box: Box, target: ArrayMeta) -> bool:
    """True if the copy can take the encoded chunks of the source without decoding: only their coordinates change."""
    same_grid = source.chunk_axes == target.chunk_axes and is_aligned(box, source.chunk_axes, source.shape)
    if source.edges is not None:  # chunks of different lengths are supported only if the whole array is copied
        same_grid = same_grid and box == whole(source.shape) and moves_objects(source, box, target)
    return (
        same_grid
        and _same_elements(source, target)
        and _same_fill(source, target)
        and [_normalized(codec, source) for codec in _without_identity(source)]
        == [_normalized(codec, target) for codec in _without_identity(target)]
    )


def moves_objects(source: ArrayMeta, box: Box, target: ArrayMeta) -> bool:
    """True if the copy can also take whole stored objects of the source: only their keys change."""
    if source.shards is None and target.shards is None:
        return True
    return (
        source.shards == target.shards
        and source.object_axes == target.object_axes
        and is_aligned(box, source.object_axes, source.shape)
        # These options define the shard index and its location.
        and _index_of(source) == _index_of(target)
    )


def _index_of(meta: ArrayMeta) -> dict[str, JSON]:
    return {name: value for name, value in meta.codecs[0].configuration.items() if name != "codecs"}


def _same_elements(source: ArrayMeta, target: ArrayMeta) -> bool:
    if source.dtype == target.dtype:
        return True
    # A different byte order in memory is harmless where the chain states the stored one; filters name their own dtypes.
    plain = all(
        codec.name in ("transpose", "bytes") or find_kind(codec.name) == "bytes->bytes" for codec in inner_chain(source)
    )
    return plain and source.dtype.kind in "iufc" and source.dtype.newbyteorder("=") == target.dtype.newbyteorder("=")


def _same_fill(source: ArrayMeta, target: ArrayMeta) -> bool:
    # As absent chunks read, not as documents spell it: null and zero are the same here.
    one, other = fill_array(source), fill_array(target)
    if one.dtype.hasobject:
        return bool(one[()] == other[()])
    return bool(one.astype(target.dtype).tobytes() == other.tobytes())


def _without_identity(meta: ArrayMeta) -> list[CodecSpec]:
    return [
        codec
        for codec in inner_chain(meta)
        if codec.name != "transpose" or list(codec.configuration["order"]) != list(range(meta.ndim))
    ]


def _normalized(codec: CodecSpec, meta: ArrayMeta) -> tuple[str, dict[str, JSON]]:
    """A normal form, equal for equivalent configurations of one codec. Unknown codecs are compared as they are."""
    name, configuration = codec.name, dict(codec.configuration)
    short = name.removeprefix("numcodecs.")
    name = short if short in _SAME_IN_V3 else name
    match name:
        case "bytes":
            order = {"<": "little", ">": "big"}.get(meta.dtype.str[0])
            return name, {"endian": configuration.get("endian", order) if meta.dtype.itemsize > 1 else None}
        case "zstd":
            return name, {"level": configuration.get("level", 0), "checksum": bool(configuration.get("checksum"))}
        case "blosc":
            configuration.pop("typesize", None)  # format 2 always uses the element's size
            shuffle = configuration.get("shuffle")
            if isinstance(shuffle, int) and shuffle in (0, 1, 2):
                configuration["shuffle"] = _SHUFFLES[shuffle]
    return name, configuration
