"""Conversion between Zarr v3 documents (`zarr.json`) and the neutral model.

Zarr v3 core specification, "Metadata" and "Extensions". Unknown members are refused with their name, unless they have
`"must_understand": false`; then they are ignored, and kept by edits.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, TypeVar, cast

from .._types import JSON
from . import chains, chunk_grid, chunking, consolidated, dtype_names, fill_values
from .codec_options import KindOf
from .create import ArrayOptions, new_document
from .document import (
    Document,
    Named,
    check_portable,
    dump,
    integer,
    integers,
    items,
    load,
    mapping,
    member,
    named,
    new_attributes,
    one_of,
    only,
    text,
    with_portable_fill,
)
from .dtypes import DataType
from .keys import KeyEncoding
from .metadata import ArrayMeta, GroupMeta
from .names import NODE_V3
from .problems import Invalid, Unknown, document_errors, option_errors, short_repr

_log = logging.getLogger("zarr_s3_async")

Meta = TypeVar("Meta", ArrayMeta, GroupMeta)

_NODE = ("zarr_format", "node_type", "attributes")
_ARRAY = (
    *_NODE,
    *("shape", "data_type", "chunk_grid", "chunk_key_encoding", "fill_value", "codecs"),
    *("dimension_names", "storage_transformers"),
)
_GROUP = (*_NODE, "consolidated_metadata")
_SEPARATORS = {"default": "/", "v2": "."}


def kind(source: Mapping[str, JSON]) -> Literal["array", "group"]:
    """The kind of node that a document describes."""
    if integer(member(source, "zarr_format"), "'zarr_format'", minimum=0) != 3:
        raise Invalid(f"'zarr_format' must be 3, not {source['zarr_format']}")
    node_type = one_of(member(source, "node_type"), "'node_type'", ("array", "group"))
    return cast("Literal['array', 'group']", node_type)


def _check_members(source: Mapping[str, JSON], known: tuple[str, ...]) -> None:
    for name in known:
        # Attributes are the user's own and may contain NaN; copies of other nodes are checked when those are parsed.
        if name not in ("attributes", "consolidated_metadata"):
            check_portable(source.get(name), repr(name))
    unknown = [name for name in source if name not in known and not _may_ignore(source[name])]
    if unknown:
        raise Unknown(f"it has unknown members that must be understood: {', '.join(map(short_repr, unknown[:5]))}")


def _may_ignore(value: JSON) -> bool:
    return isinstance(value, dict) and value.get("must_understand") is False


def _check_kind(source: Mapping[str, JSON], wanted: str) -> None:
    found = kind(source)
    if found != wanted:
        raise Invalid(f"it describes {found!r}, not {wanted!r}")


def parse_array(docs: Mapping[str, Document], *, url: str) -> ArrayMeta:
    """The array that `zarr.json` describes.

    Raises:
        MetadataError: The document is invalid.
        UnsupportedFeature: It needs a feature that this library does not have.
    """
    with document_errors(url, NODE_V3):
        meta = _array(load(docs[NODE_V3]))
    if meta.source["fill_value"] is None:
        _log.warning("%s: 'fill_value' is null, which Zarr v3 does not have: absent chunks read as zero", url)
    return meta


def _array(source: Mapping[str, JSON]) -> ArrayMeta:
    _check_kind(source, "array")
    # Before the check of members, which rejects a bare NaN.
    source = with_portable_fill(source)
    _check_members(source, _ARRAY)
    _check_transformers(source.get("storage_transformers"))
    shape = integers(member(source, "shape"), "'shape'", minimum=0)
    data_type = dtype_names.read_v3(member(source, "data_type"))
    axes = chunk_grid.read(named(member(source, "chunk_grid"), "'chunk_grid'"), shape)
    object_shape = chunk_grid.shape_of(axes)
    codecs = chains.read(member(source, "codecs"))
    parts = chains.sharded(codecs, object_shape)
    if parts is not None:
        chunk_grid.check_shards(axes, parts)
    chunking.check(shape, parts or object_shape, object_shape, data_type)
    # Elements of variable length have no byte order, but need a codec that stores their lengths.
    if data_type.variable:
        chains.check_objects(codecs, data_type.variable)
    else:
        chains.check_endian(codecs, data_type.dtype)
    order = chains.byte_order(codecs)
    return ArrayMeta(
        shape=shape,
        dtype=data_type.dtype,
        chunks=parts or object_shape,
        shards=None if parts is None else object_shape,
        edges=None if axes == object_shape else axes,
        codecs=codecs,
        fill_value=fill_values.read(member(source, "fill_value"), data_type, zarr_format=3, byte_order=order),
        keys=_key_encoding(named(member(source, "chunk_key_encoding"), "'chunk_key_encoding'")),
        order=chains.order(codecs, len(shape)),
        dimension_names=_dimension_names(source.get("dimension_names"), len(shape)),
        attributes=_attributes(source),
        zarr_format=3,
        source=source,
        documents=(NODE_V3,),
    )


def _check_transformers(value: JSON) -> None:
    for entry in items([] if value is None else value, "'storage_transformers'", max_items=chains.MAX_CODECS):
        transformer = named(entry, "a storage transformer")
        if transformer.must_understand:
            raise Unknown(f"the storage transformer {short_repr(transformer.name)} is not known")


def _key_encoding(encoding: Named) -> KeyEncoding:
    if encoding.name not in _SEPARATORS:
        raise Unknown(f"the chunk key encoding {short_repr(encoding.name)} is not known")
    only(
        encoding.configuration,
        f"the configuration of the chunk key encoding {short_repr(encoding.name)}",
        ("separator",),
    )
    separator = one_of(
        encoding.configuration.get("separator", _SEPARATORS[encoding.name]),
        "'separator' of chunk keys",
        (".", "/"),
    )
    return KeyEncoding(cast("Literal['default', 'v2']", encoding.name), cast("Literal['.', '/']", separator))


def _dimension_names(value: JSON, ndim: int) -> tuple[str | None, ...] | None:
    if value is None:
        return None
    names = items(value, "'dimension_names'")
    if len(names) != ndim:
        raise Invalid(f"'dimension_names' must hold {ndim} names, not {len(names)}")
    for name in names:
        # The specification permits null and the empty string as names.
        if name is not None and name != "":
            text(name, "every one of 'dimension_names'")
    return tuple(names)


def _attributes(source: Mapping[str, JSON]) -> Mapping[str, JSON]:
    attributes = source.get("attributes")
    return {} if attributes is None else mapping(attributes, "'attributes'")


def parse_group(docs: Mapping[str, Document], *, url: str) -> GroupMeta:
    """The group that `zarr.json` describes.

    Raises:
        MetadataError: The document breaks the rules.
        UnsupportedFeature: It needs a feature that this library does not have.
    """
    with document_errors(url, NODE_V3):
        source = load(docs[NODE_V3])
        _check_kind(source, "group")
        _check_members(source, _GROUP)
        return GroupMeta(
            attributes=_attributes(source),
            zarr_format=3,
            source=source,
            consolidated=consolidated.read_v3(source.get("consolidated_metadata"), url),
            documents=(NODE_V3,),
        )


def dump_array(meta: ArrayMeta) -> dict[str, bytes]:
    """The document to store."""
    return {NODE_V3: dump(meta.source)}


def dump_group(meta: GroupMeta) -> dict[str, bytes]:
    """The document to store; compact where it contains consolidated metadata."""
    return {NODE_V3: dump(meta.source, compact=bool(meta.consolidated))}


def with_shape(meta: ArrayMeta, shape: Any) -> ArrayMeta:
    """The array with another shape, of the same number of dimensions.

    Raises:
        ConfigError: The shape is invalid, or the chunk grid cannot be resized to it.
    """
    with option_errors():
        extents = chunking.resized(meta.shape, shape)
        stored = named(meta.source["chunk_grid"], "'chunk_grid'")
        # A new shard must be divisible into chunks.
        multiples = (1,) * meta.ndim if meta.shards is None else meta.chunks
        grid = chunk_grid.resized(meta.source["chunk_grid"], stored, (meta.shape, extents), multiples)
        axes = chunk_grid.read(named(grid, "'chunk_grid'"), extents)
        objects = chunk_grid.shape_of(axes)
        if grid is not meta.source["chunk_grid"]:  # the grid has a new chunk, whose length depends on the new shape
            chunking.check(extents, objects if meta.shards is None else meta.chunks, objects, DataType(meta.dtype))
            if meta.shards is not None:
                chains.check_parts(objects, meta.chunks)
    return replace(
        meta,
        shape=extents,
        chunks=objects if meta.shards is None else meta.chunks,
        shards=None if meta.shards is None else objects,
        edges=None if axes == objects else axes,
        source={**meta.source, "shape": list(extents), "chunk_grid": grid},
    )


def with_attributes(meta: Meta, attributes: Mapping[str, Any]) -> Meta:
    """The node with these attributes in place of its own.

    Raises:
        ConfigError: JSON cannot hold them.
    """
    with option_errors():
        new = new_attributes(attributes, beside=meta.attributes, zarr_format=3)
    return replace(meta, attributes=new, source={**meta.source, "attributes": new})


def new_group(attributes: Mapping[str, Any] | None = None) -> GroupMeta:
    """A group to store.

    Raises:
        ConfigError: JSON cannot hold the attributes.
    """
    with option_errors():
        new = new_attributes(attributes, zarr_format=3)
    source = {"zarr_format": 3, "node_type": "group", "attributes": new}
    return GroupMeta(attributes=new, zarr_format=3, source=source, documents=(NODE_V3,))


def new_array(options: ArrayOptions, kind_of: KindOf) -> ArrayMeta:
    """An array to store, by completed options.

    Raises:
        ConfigError: An option has a value that it cannot have.
        UnsupportedFeature: A package that it needs is missing.
    """
    with option_errors():
        return _array(new_document(options, kind_of))
