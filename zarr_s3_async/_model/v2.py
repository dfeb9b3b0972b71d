"""Conversion between Zarr v2 documents (`.zarray`, `.zgroup`, `.zattrs`) and the neutral model.

Zarr v2 specification, "Arrays" and "Hierarchies". Members that it does not define are ignored, and kept by edits.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import Any, Literal, TypeVar, cast

from .._types import JSON, Shape
from . import chains, chunking, codec_options, consolidated, dtype_names, fill_values
from .codec_options import KindOf
from .create import ArrayOptions, Outline, codec_list, key_encoding, outline
from .document import (
    Document,
    check_portable,
    dump,
    integer,
    integers,
    load,
    member,
    new_attributes,
    one_of,
    with_portable_fill,
)
from .keys import KeyEncoding
from .metadata import ArrayMeta, GroupMeta
from .names import ARRAY_V2, ATTRS_V2, CONSOLIDATED_V2, GROUP_V2
from .problems import Invalid, document_errors, option_errors

Meta = TypeVar("Meta", ArrayMeta, GroupMeta)

_MEMBERS = (
    *("zarr_format", "shape", "chunks", "dtype", "compressor", "fill_value", "order", "filters"),
    "dimension_separator",
)
_DIMENSIONS = "_ARRAY_DIMENSIONS"
"""Attribute with the names of the dimensions: a convention of xarray that NCZarr and GDAL share."""


def parse_array(docs: Mapping[str, Document], *, url: str) -> ArrayMeta:
    """The array that `.zarray` and, if present, `.zattrs` describe.

    Raises:
        MetadataError: A document is invalid.
        UnsupportedFeature: It needs a feature that this library does not have.
    """
    attributes = _parse_attributes(docs, url)
    with document_errors(url, ARRAY_V2):
        names = (ARRAY_V2, ATTRS_V2) if ATTRS_V2 in docs else (ARRAY_V2,)
        return _array(load(docs[ARRAY_V2]), attributes, names)


def _parse_attributes(docs: Mapping[str, Document], url: str) -> Mapping[str, JSON]:
    if ATTRS_V2 not in docs:
        return {}
    with document_errors(url, ATTRS_V2):
        return load(docs[ATTRS_V2])


def _check_format(source: Mapping[str, JSON]) -> None:
    if integer(member(source, "zarr_format"), "'zarr_format'", minimum=0) != 2:
        raise Invalid(f"'zarr_format' must be 2, not {source['zarr_format']}")


def _array(source: Mapping[str, JSON], attributes: Mapping[str, JSON], names: tuple[str, ...]) -> ArrayMeta:
    source = with_portable_fill(source)
    for name in _MEMBERS:
        check_portable(source.get(name), repr(name))
    _check_format(source)
    shape = integers(member(source, "shape"), "'shape'", minimum=0)
    chunks = _chunks(integers(member(source, "chunks"), "'chunks'", minimum=0), shape)
    order = cast("Literal['C', 'F']", one_of(member(source, "order"), "'order'", ("C", "F")))
    filters = chains.read_filters(source.get("filters"))
    compressor = chains.read_compressor(source.get("compressor"))
    # An object codec may also be in the place of the compressor.
    coders = [*filters, *([compressor] if compressor else [])]
    data_type = dtype_names.read_v2(member(source, "dtype"), chains.objects_of(coders))
    chunking.check(shape, chunks, chunks, data_type)
    # The specification's default; xarray and older writers omit the member.
    separator = one_of(source.get("dimension_separator", "."), "'dimension_separator'", (".", "/"))
    return ArrayMeta(
        shape=shape,
        dtype=data_type.dtype,
        chunks=chunks,
        codecs=chains.v2_chain(filters, compressor, data_type.dtype, order, len(shape)),
        fill_value=fill_values.read(member(source, "fill_value"), data_type, zarr_format=2),
        keys=KeyEncoding("v2", cast("Literal['.', '/']", separator)),
        order=order,
        dimension_names=_dimension_names(attributes, len(shape)),
        attributes=attributes,
        zarr_format=2,
        source=source,
        documents=names,
    )


def _chunks(chunks: Shape, shape: Shape) -> Shape:
    """The chunk shape. Some writers give an empty dimension chunks of length 0, which are read as 1."""
    if len(chunks) == len(shape) and all(chunk or not extent for chunk, extent in zip(chunks, shape, strict=True)):
        return tuple(chunk or 1 for chunk in chunks)
    return integers(list(chunks), "'chunks'", minimum=1)


def _dimension_names(attributes: Mapping[str, JSON], ndim: int) -> tuple[str, ...] | None:
    names = attributes.get(_DIMENSIONS)
    # The attribute is only a convention: anything else in it is the user's, and no error.
    if isinstance(names, list) and len(names) == ndim and all(isinstance(name, str) for name in names):
        return tuple(names)
    return None


def parse_group(docs: Mapping[str, Document], *, url: str) -> GroupMeta:
    """The group that `.zgroup` and, if present, `.zattrs` and `.zmetadata` describe.

    `.zmetadata` alone is enough: it contains the group's own documents too.

    Raises:
        MetadataError: A document is invalid.
    """
    below: Mapping[str, Mapping[str, JSON]] | None = None
    if CONSOLIDATED_V2 in docs:
        with document_errors(url, CONSOLIDATED_V2):
            nodes = consolidated.read_v2(load(docs[CONSOLIDATED_V2]), url)
        own = nodes.pop("", {})
        # Documents that were fetched are newer than their copies in `.zmetadata`.
        docs = docs if GROUP_V2 in docs else {**docs, **own}
        below = nodes
    attributes = _parse_attributes(docs, url)
    with document_errors(url, GROUP_V2):
        source = load(member(docs, GROUP_V2))
        _check_format(source)
    names = (GROUP_V2, ATTRS_V2) if ATTRS_V2 in docs else (GROUP_V2,)
    return GroupMeta(attributes=attributes, zarr_format=2, source=source, consolidated=below, documents=names)


def dump_array(meta: ArrayMeta) -> dict[str, bytes]:
    """The documents to store, `.zarray` first; `.zattrs` where there are, or were, attributes."""
    return _dump(meta, ARRAY_V2)


def dump_group(meta: GroupMeta) -> dict[str, bytes]:
    """The documents to store, `.zgroup` first; `.zattrs` where there are, or were, attributes."""
    return _dump(meta, GROUP_V2)


def _dump(meta: ArrayMeta | GroupMeta, deciding: str) -> dict[str, bytes]:
    documents = {deciding: dump(meta.source)}
    # An empty `.zattrs` is still written where one exists: otherwise the old attributes would stay.
    if meta.attributes or ATTRS_V2 in meta.documents:
        documents[ATTRS_V2] = dump(meta.attributes)
    return documents


def with_shape(meta: ArrayMeta, shape: Any) -> ArrayMeta:
    """The array at another shape, of as many dimensions.

    Raises:
        ConfigError: It is not a shape, or has another number of dimensions.
    """
    with option_errors():
        extents = chunking.resized(meta.shape, shape)
    # The chunks too: those that were 0 for an empty dimension are not any more.
    return replace(meta, shape=extents, source={**meta.source, "shape": list(extents), "chunks": list(meta.chunks)})


def with_attributes(meta: Meta, attributes: Mapping[str, Any]) -> Meta:
    """The node with these attributes in place of its own.

    Raises:
        ConfigError: JSON cannot hold them.
    """
    with option_errors():
        new = new_attributes(attributes, beside=meta.attributes, zarr_format=2)
    documents = meta.documents if ATTRS_V2 in meta.documents else (*meta.documents, ATTRS_V2)
    if isinstance(meta, ArrayMeta):
        names = _dimension_names(new, meta.ndim)
        return replace(meta, attributes=new, documents=documents, dimension_names=names)
    return replace(meta, attributes=new, documents=documents)


def new_group(attributes: Mapping[str, Any] | None = None) -> GroupMeta:
    """A group to store.

    Raises:
        ConfigError: JSON cannot hold the attributes.
    """
    with option_errors():
        new = new_attributes(attributes, zarr_format=2)
    names = (GROUP_V2, ATTRS_V2) if new else (GROUP_V2,)
    return GroupMeta(attributes=new, zarr_format=2, source={"zarr_format": 2}, documents=names)


def new_array(options: ArrayOptions, _kind_of: KindOf) -> ArrayMeta:
    """An array to store, by completed options.

    Raises:
        ConfigError: An option has a value that it cannot have, or v2 cannot say.
        UnsupportedFeature: A package that it needs is missing.
    """
    with option_errors():
        for name in ("shards", "codecs"):
            if options.get(name) is not None:
                raise Invalid(f"Zarr v2 has no {name}: omit {name}, or use zarr_format=3")
        filters = [codec_options.v2(option, "filters") for option in codec_list(options, "filters")]
        described = outline(options)
        source = _new_source(options, described, filters)
        attributes = _new_attributes(described)
        names = (ARRAY_V2, ATTRS_V2) if attributes else (ARRAY_V2,)
        return _array(source, attributes, names)


def _new_source(options: ArrayOptions, described: Outline, filters: list[dict[str, JSON]]) -> dict[str, JSON]:
    data_type = described.data_type
    object_codec = {"string": "vlen-utf8", "bytes": "vlen-bytes"}.get(data_type.variable or "")
    if object_codec and chains.objects_of(chains.read_filters(filters)) is None:
        filters = [{"id": object_codec}, *filters]
    return {
        "shape": list(described.shape),
        "chunks": list(described.chunks),
        "dtype": dtype_names.write_v2(data_type),
        "fill_value": fill_values.write(described.fill_value, data_type, zarr_format=2),
        "order": options["order"],
        "filters": filters or None,
        "dimension_separator": key_encoding(options).separator,
        "compressor": _compressor(options["compressor"]),
        "zarr_format": 2,
    }


def _compressor(option: Any) -> dict[str, JSON] | None:
    if option is None:
        return None
    return codec_options.v2("zstd" if isinstance(option, str) and option == "auto" else option, "compressor")


def _new_attributes(described: Outline) -> Mapping[str, JSON]:
    names = described.dimension_names
    if names is None:
        return described.attributes
    if None in names:
        raise Invalid("in Zarr v2 either all dimensions have names or none; use zarr_format=3 to name only some")
    if described.attributes.get(_DIMENSIONS, names) != names:
        raise Invalid(f"dimension_names and the attribute {_DIMENSIONS!r} differ; give one of them")
    return {**described.attributes, _DIMENSIONS: names}
