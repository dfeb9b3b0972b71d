"""Consolidated metadata: one document with those of all nodes below a group. It is for reading; edits never start from
it.

v2: `.zmetadata` of zarr-python 2, `{"zarr_consolidated_format": 1, "metadata": {"path/.zarray": …}}`. v3: the
member `consolidated_metadata` of a group's `zarr.json` (v3 core specification, "Additional fields").
"""

from __future__ import annotations

import logging
from collections.abc import Mapping
from dataclasses import replace
from typing import TypeAlias

from .._types import JSON
from ..errors import ConfigError
from .document import Document, dump, integer, load, mapping, member
from .metadata import ArrayMeta, GroupMeta
from .names import ARRAY_V2, ATTRS_V2, CONSOLIDATED_V2, GROUP_V2, NODE_V3, is_safe_path
from .problems import Invalid, Unknown, short_repr

_log = logging.getLogger("zarr_s3_async")

_FILES_V2 = (ARRAY_V2, GROUP_V2, ATTRS_V2)


def read_v2(document: Mapping[str, JSON], url: str) -> dict[str, dict[str, JSON]]:
    """The documents in a `.zmetadata`, by path ("" is the group itself) and file name.

    Entries whose path leads out of the group, and entries that are no documents, are skipped with a warning in the log.

    Raises:
        Invalid: It is not consolidated metadata.
    """
    # zarr-python accepts a document without this member too.
    if integer(document.get("zarr_consolidated_format", 1), "'zarr_consolidated_format'", minimum=0) != 1:
        raise Invalid(f"'zarr_consolidated_format' must be 1, not {document['zarr_consolidated_format']}")
    nodes: dict[str, dict[str, JSON]] = {}
    skipped = []
    for key, value in mapping(member(document, "metadata"), "'metadata'").items():
        path, _, name = key.rpartition("/")
        # Other tools store entries of their own here; they are no nodes.
        if name not in _FILES_V2:
            continue
        if isinstance(value, dict) and (key == name or is_safe_path(path)):
            nodes.setdefault(path, {})[name] = value
        else:
            skipped.append(key)
    _report(skipped, url)
    return {path: files for path, files in nodes.items() if not path or files.keys() & {ARRAY_V2, GROUP_V2}}


def own_v2(raw: Document, url: str) -> dict[str, JSON]:
    """The documents of the group itself in its `.zmetadata`, by file name; empty where there are none.

    Raises:
        Invalid: It is not consolidated metadata.
    """
    return read_v2(load(raw), url).get("", {})


def read_v3(value: JSON, url: str) -> dict[str, dict[str, JSON]] | None:
    """The documents in a `consolidated_metadata` member, by path and file name; None where there are none.

    An unknown kind is ignored where `must_understand` is false. Entries are skipped as in `read_v2`.

    Raises:
        Invalid: It does not follow the specification.
        Unknown: An unknown kind that must be understood.
    """
    if value is None:  # zarr-python 3.0 wrote null
        return None
    fields = mapping(value, "'consolidated_metadata'")
    if fields.get("kind") != "inline":
        if fields.get("must_understand") is False:
            return None
        raise Unknown(f"consolidated metadata of the kind {short_repr(fields.get('kind'))} is not known")
    nodes: dict[str, dict[str, JSON]] = {}
    skipped = []
    for path, document in mapping(member(fields, "metadata"), "'metadata' of 'consolidated_metadata'").items():
        if isinstance(document, dict) and document.get("zarr_format") == 3 and is_safe_path(path):
            nodes[path] = {NODE_V3: document}
        else:
            skipped.append(path)
    _report(skipped, url)
    return nodes


def _report(skipped: list[str], url: str) -> None:
    if skipped:
        names = ", ".join(map(short_repr, skipped[:5]))
        _log.warning("%s: left %d unusable entries of consolidated metadata out: %s", url, len(skipped), names)


Copied: TypeAlias = ArrayMeta | GroupMeta | Mapping[str, Mapping[str, JSON]]
"""A node, or the documents by file name of a node that this library cannot read."""


def with_consolidated(group: GroupMeta, nodes: Mapping[str, Copied]) -> GroupMeta:
    """The group with the documents of the nodes below it as consolidated metadata.

    Args:
        group: The group.
        nodes: Every node below it, by path relative to it.

    Raises:
        ConfigError: A node is of another format.
    """
    # Parents before children, as zarr-python writes them.
    by_level = sorted(nodes, key=lambda path: (path.count("/"), path))
    below = {path: _documents(group, path, nodes[path]) for path in by_level}
    if group.zarr_format == 2:
        return replace(group, consolidated=below)
    metadata = {path: files[NODE_V3] for path, files in below.items()}
    inline = {"kind": "inline", "must_understand": False, "metadata": metadata}
    return replace(group, consolidated=below, source={**group.source, "consolidated_metadata": inline})


def _documents(group: GroupMeta, path: str, node: Copied) -> Mapping[str, JSON]:
    if isinstance(node, Mapping):
        return _without_copies(node)
    if node.zarr_format != group.zarr_format:
        raise ConfigError(
            f"{path} is of Zarr format {node.zarr_format}, the group of format {group.zarr_format}: "
            "consolidated metadata holds one format"
        )
    return copy_of(node)


def copy_of(node: ArrayMeta | GroupMeta) -> Mapping[str, JSON]:
    """The documents of a node, by file name, as consolidated metadata contains them."""
    if node.zarr_format == 3:
        return _without_copies({NODE_V3: node.source})
    deciding = ARRAY_V2 if isinstance(node, ArrayMeta) else GROUP_V2
    return {deciding: node.source} | ({ATTRS_V2: node.attributes} if node.attributes else {})


def _without_copies(files: Mapping[str, Mapping[str, JSON]]) -> dict[str, dict[str, JSON]]:
    return {
        file: {k: v for k, v in document.items() if k != "consolidated_metadata"} for file, document in files.items()
    }


def without_consolidated(group: GroupMeta) -> GroupMeta:
    """The group without consolidated metadata."""
    source = {name: value for name, value in group.source.items() if name != "consolidated_metadata"}
    return replace(group, consolidated=None, source=source)


def dump_v2(group: GroupMeta) -> dict[str, bytes]:
    """The `.zmetadata` of a v2 group with consolidated metadata; empty for other groups.

    In v3, consolidated metadata is a member of the group's own document.
    """
    if group.consolidated is None or group.zarr_format != 2:
        return {}
    metadata: dict[str, JSON] = {ATTRS_V2: group.attributes, GROUP_V2: group.source}
    for path, files in group.consolidated.items():
        metadata.update({f"{path}/{name}": document for name, document in files.items()})
    document = {"metadata": metadata, "zarr_consolidated_format": 1}
    return {CONSOLIDATED_V2: dump(document, compact=True)}


Members: TypeAlias = Mapping[str, Mapping[str, Mapping[str, JSON]] | None]
"""Documents by file name of nodes by path relative to a group ("" is the group itself).

None: there is no node, and none below it. An empty mapping: this node is removed; nodes below it are not affected.
"""


def with_members(raw: Document, name: str, members: Members) -> bytes | None:
    """The document of a group with the entries of these nodes in its consolidated metadata replaced.

    Args:
        raw: The stored `zarr.json` or `.zmetadata` of the group.
        name: Which of the two.
        members: The nodes, as they are stored now.

    Returns:
        None where the document has no consolidated metadata of a known kind, or needs no change.
    """
    try:
        document = load(raw)
        holder = document if name == CONSOLIDATED_V2 else document.get("consolidated_metadata")
        if not isinstance(holder, dict) or not isinstance(holder.get("metadata"), dict):
            return None
    except Invalid:
        return None
    before: dict[str, JSON] = holder["metadata"]
    edit = _edit_v2 if name == CONSOLIDATED_V2 else _edit_v3
    after = edit(before, members)
    # No write: it would only change the version, and cause conflicts with other writers.
    if after == before:
        return None
    holder = {**holder, "metadata": after}
    edited = holder if name == CONSOLIDATED_V2 else {**document, "consolidated_metadata": holder}
    return dump(edited, compact=True)


def _edit_v2(entries: Mapping[str, JSON], members: Members) -> dict[str, JSON]:
    edited = dict(entries)
    for path, files in members.items():
        prefix = f"{path}/" if path else ""
        if files is None or ARRAY_V2 in files:  # an array has no nodes below it
            edited = {key: value for key, value in edited.items() if not (path and key.startswith(prefix))}
        if files is None or (files and files.keys().isdisjoint((ARRAY_V2, GROUP_V2))) or not (path or files):
            continue
        for name in _FILES_V2:
            edited.pop(prefix + name, None)
        edited.update({prefix + name: files[name] for name in _FILES_V2 if name in files})
    return edited


def _edit_v3(entries: Mapping[str, JSON], members: Members) -> dict[str, JSON]:
    edited = dict(entries)
    for path, files in members.items():
        document = None if files is None else files.get(NODE_V3)
        if not path:
            continue  # in v3 the group's own document contains the consolidated metadata, and is not an entry of it
        if files is None or (document or {}).get("node_type") == "array":
            edited = {key: value for key, value in edited.items() if not key.startswith(f"{path}/")}
        if document is None:
            edited.pop(path, None)
        else:
            edited[path] = _without_copies({NODE_V3: document})[NODE_V3]
    return edited
