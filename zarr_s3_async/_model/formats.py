"""Entry points of the model: from documents to metadata and back, in either format."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Literal, TypeVar

from .._options import FORMATS, check_choice
from .._types import JSON
from . import v2, v3
from .codec_options import KindOf
from .consolidated import copy_of, with_consolidated, with_members, without_consolidated
from .consolidated import dump_v2 as dump_consolidated
from .consolidated import own_v2 as own_consolidated
from .create import ArrayOptions, complete
from .document import MAX_BYTES, Document, load
from .document import dump as dump_document
from .metadata import ArrayMeta, GroupMeta
from .names import ARRAY_V2, ATTRS_V2, CONSOLIDATED_V2, GROUP_V2, NODE_V3
from .problems import Invalid, document_errors

__all__ = [
    "MAX_BYTES",
    "ARRAY_V2",
    "ATTRS_V2",
    "CONSOLIDATED_V2",
    "GROUP_V2",
    "NODE_V3",
    "copy_of",
    "document_names",
    "dump",
    "dump_attributes",
    "dump_consolidated",
    "kind_of_documents",
    "load_documents",
    "new_array",
    "new_group",
    "own_consolidated",
    "parse_node",
    "with_attributes",
    "with_consolidated",
    "with_members",
    "with_shape",
    "without_consolidated",
]

Format = Literal[2, 3]
Meta = TypeVar("Meta", ArrayMeta, GroupMeta)

_NAMES: Mapping[Format, tuple[str, ...]] = {2: (ARRAY_V2, GROUP_V2, ATTRS_V2), 3: (NODE_V3,)}


def document_names(zarr_format: Format | None) -> tuple[str, ...]:
    """File names of the documents that may describe a node; v3 first where the format is not given."""
    return _NAMES[3] + _NAMES[2] if zarr_format is None else _NAMES[zarr_format]


def kind_of_documents(docs: Mapping[str, Document]) -> Literal["array", "group"] | None:
    """The kind of node that these documents (by file name) describe, even if they are otherwise invalid.

    None where it cannot be determined: no deciding document, or one that is not a JSON object.
    """
    if NODE_V3 in docs:
        try:
            return v3.kind(load(docs[NODE_V3]))
        except Invalid:
            return None
    if ARRAY_V2 in docs:
        return "array"
    return "group" if GROUP_V2 in docs or CONSOLIDATED_V2 in docs else None


def load_documents(docs: Mapping[str, Document]) -> dict[str, Mapping[str, JSON]] | None:
    """The parsed documents by file name, unchecked; None where one is not a JSON object."""
    try:
        return {name: load(document) for name, document in docs.items()}
    except Invalid:
        return None


def dump_attributes(attributes: Mapping[str, JSON], stored: Document | None, *, url: str) -> bytes:
    """A `.zattrs` with these attributes and those of a stored one, which take precedence.

    Raises:
        MetadataError: The stored document is not a JSON object.
    """
    with document_errors(url, ATTRS_V2):
        return dump_document({**attributes, **({} if stored is None else load(stored))})


def parse_node(
    docs: Mapping[str, Document], *, url: str, zarr_format: Format | None = None
) -> ArrayMeta | GroupMeta | None:
    """The node that these documents (by file name) describe; None where no deciding document is among them.

    If both formats are stored, v3 is used, as in zarr-python, unless `zarr_format` chooses. If an array and a group are
    stored in v2, the array is used.

    Raises:
        MetadataError: A document is invalid.
        UnsupportedFeature: It needs a feature that this library does not have.
    """
    if NODE_V3 in docs and zarr_format != 2:
        with document_errors(url, NODE_V3):
            document = load(docs[NODE_V3])
            kind = v3.kind(document)
        # Parsed once: a document of a large group takes milliseconds.
        parsed = {NODE_V3: document}
        return v3.parse_array(parsed, url=url) if kind == "array" else v3.parse_group(parsed, url=url)
    if zarr_format == 3:
        return None
    if ARRAY_V2 in docs:
        return v2.parse_array(docs, url=url)
    if GROUP_V2 in docs or CONSOLIDATED_V2 in docs:
        return v2.parse_group(docs, url=url)
    return None


def dump(meta: ArrayMeta | GroupMeta) -> dict[str, bytes]:
    """The documents to store, by file name; the one that determines the kind of node comes first."""
    if meta.zarr_format == 3:
        return v3.dump_array(meta) if isinstance(meta, ArrayMeta) else v3.dump_group(meta)
    return v2.dump_array(meta) if isinstance(meta, ArrayMeta) else v2.dump_group(meta)


def new_array(options: ArrayOptions, kind_of: KindOf) -> ArrayMeta:
    """An array to store.

    Args:
        options: The user's options.
        kind_of: Kinds of all known codecs.

    Raises:
        ConfigError: An option has an invalid value.
        UnsupportedFeature: A package that an option needs is missing.
    """
    completed = complete(options)
    create = v3.new_array if completed["zarr_format"] == 3 else v2.new_array
    return create(completed, kind_of)


def new_group(attributes: Mapping[str, Any] | None = None, *, zarr_format: Format = 3) -> GroupMeta:
    """A group to store.

    Raises:
        ConfigError: JSON cannot hold the attributes.
    """
    check_choice("zarr_format", zarr_format, FORMATS)
    return v3.new_group(attributes) if zarr_format == 3 else v2.new_group(attributes)


def with_shape(meta: ArrayMeta, shape: Any) -> ArrayMeta:
    """The array with another shape; all other members of its document are kept.

    Raises:
        ConfigError: It is not a shape, or has another number of dimensions.
    """
    return v3.with_shape(meta, shape) if meta.zarr_format == 3 else v2.with_shape(meta, shape)


def with_attributes(meta: Meta, attributes: Mapping[str, Any]) -> Meta:
    """The node with these attributes; all other members of its document are kept.

    Raises:
        ConfigError: JSON cannot represent them.
    """
    return v3.with_attributes(meta, attributes) if meta.zarr_format == 3 else v2.with_attributes(meta, attributes)
