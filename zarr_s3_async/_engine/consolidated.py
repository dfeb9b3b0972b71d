"""Keep consolidated metadata up to date: after each edit of a node, its copies in all groups above are updated."""

from __future__ import annotations

import logging
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import Literal, NamedTuple, TypeAlias

from .._concurrency.workers import gather_all
from .._model import formats
from .._types import JSON
from ..errors import AccessDenied, Conflict, StoreError
from ..stores.base import Store
from ..stores.optional import folders_above, place_of
from . import nodes
from .compare_and_swap import retry_conflicts
from .runtime import Runtime

log = logging.getLogger("zarr_s3_async")

_HOLDERS: Mapping[nodes.Format, str] = {3: formats.NODE_V3, 2: formats.CONSOLIDATED_V2}
"""Names of the documents that may contain consolidated metadata, by Zarr format."""
_COPIED = (formats.NODE_V3, formats.ARRAY_V2, formats.GROUP_V2, formats.ATTRS_V2)


async def sync_copies(runtime: Runtime, paths: Sequence[str], zarr_format: nodes.Format, *, own: bool = False) -> None:
    """Update the consolidated metadata of all groups above to the stored documents of these nodes.

    This sends a GET per folder above, in parallel, and further requests only if one contains a copy: then the nodes'
    own documents are read again after the copy was read, so that of two concurrent edits the later one ends up in the
    copy.

    Args:
        runtime: Its store.
        paths: Nodes that were created or edited; all are prefixes of the longest path.
        zarr_format: Format of the nodes.
        own: The nodes are v2 groups whose own `.zmetadata` contains their attributes too.

    Raises:
        StoreError: A copy could not be read or written, and may be outdated; the nodes themselves are correct.
    """
    holders = list(_holders(runtime.store, paths, (zarr_format,)))
    if own and zarr_format == 2:
        holders += [_Holder(runtime.store, path, formats.CONSOLIDATED_V2, {"": path}) for path in paths]
    await _sync(runtime, paths, holders, gone=None)


async def drop_copies(runtime: Runtime, paths: Sequence[str], *, everything: bool = False) -> None:
    """Take nodes that will be removed out of the consolidated metadata of all groups above.

    Args:
        runtime: Its store.
        paths: A node, and those below it.
        everything: Remove all other entries below the first node too.
    """
    gone: _Gone = "with all below" if everything else "alone"
    await _sync(runtime, paths, list(_holders(runtime.store, paths, (2, 3), above=paths[0])), gone=gone)


async def sync_removed(runtime: Runtime, paths: Sequence[str]) -> None:
    """Call after `drop_copies` and the removal: removes copies that other writers added in between."""
    await _sync(runtime, paths, list(_holders(runtime.store, paths, (2, 3), above=paths[0])), gone=None)


async def _sync(runtime: Runtime, paths: Sequence[str], holders: Sequence[_Holder], *, gone: _Gone | None) -> None:
    _note(runtime, paths)  # before the update: handles that were opened earlier stop using their copies
    try:
        await gather_all(*(_sync_copy(runtime, holder, gone=gone) for holder in holders))
    except StoreError as error:
        what = ", ".join(nodes.url_of(runtime.store, path) for path in paths)
        error.add_note(
            f"the change of {what} is stored, but the consolidated metadata of a group above may be outdated: "
            "call consolidate() of that group"
        )
        raise
    finally:
        _note(runtime, paths)  # after the update: so do handles that read a copy meanwhile


def _note(runtime: Runtime, paths: Sequence[str]) -> None:
    for path in paths:
        runtime.edits.note(runtime.name_of(path))


_Gone: TypeAlias = Literal["alone", "with all below"]
"""Which entries of removed nodes are dropped from a copy: theirs alone, or all below them too."""


class _Holder(NamedTuple):
    """A document that may contain copies of the nodes' documents."""

    store: Store
    folder: str
    name: str
    """File name."""
    members: Mapping[str, str]
    """The nodes: their paths in the runtime's store, by their paths in the copy."""


def _holders(
    store: Store, paths: Sequence[str], which: Sequence[nodes.Format], *, above: str | None = None
) -> Iterator[_Holder]:
    """Documents of these formats, in the folders above, that may contain copies of these nodes' documents.

    With `above`, only folders above that node; by default, folders above the node with the longest path.
    """
    longest = max(paths, key=len, default="") if above is None else above
    parts = longest.split("/") if longest else []
    for depth in range(len(parts)):
        folder = "/".join(parts[:depth])
        prefix = folder + "/" if folder else ""
        below = {path[len(prefix) :]: path for path in paths if path.startswith(prefix) and path != folder}
        for zarr_format in which:
            yield _Holder(store, folder, _HOLDERS[zarr_format], below)
    for folder_above, root in folders_above(store):
        for zarr_format in which:
            yield _Holder(folder_above, "", _HOLDERS[zarr_format], {nodes.join(root, path): path for path in paths})


async def _sync_copy(runtime: Runtime, holder: _Holder, *, gone: _Gone | None) -> None:
    store, folder, name, members = holder
    key = nodes.join(folder, name)

    async def attempt() -> None:
        try:
            blob = (await nodes.fetch_documents(store, folder, (name,))).get(name)
        except AccessDenied:
            return  # credentials for one folder often cannot read the folders above
        # Every document with a copy contains this key; most groups have none and need not be parsed.
        if blob is None or b"metadata" not in bytes(blob.data):
            return
        found = await _to_copy(runtime.store, members, gone)
        edit = partial(formats.with_members, blob.data, name, found)
        edited = await nodes.off_loop(runtime, edit, len(blob.data))
        if edited is None:
            return
        await store.put(key, edited, when=blob.version)
        if await _to_copy(runtime.store, members, gone) != found:
            # A node was edited after it was read here, by a writer that may have found a copy without need for change.
            raise Conflict(f"nodes were edited while {store.url}/{key} was updated", key=key)

    def given_up(attempts: int) -> str:
        return f"{store.url}/{key} was changed by others during all of {attempts} attempts to edit it; try again later"

    try:
        # The same lock as for edits of the group itself, which in v3 change the same document.
        async with runtime.locks.hold(nodes.join(place_of(store), folder)):
            await retry_conflicts(runtime, key, attempt, given_up)
    except AccessDenied as error:
        log.warning(
            "%s/%s contains consolidated metadata that is outdated now, but writing it is forbidden: %s; "
            "ask its owner to consolidate the group again",
            store.url,
            key,
            error,
        )


async def _to_copy(
    store: Store, members: Mapping[str, str], gone: _Gone | None
) -> dict[str, Mapping[str, Mapping[str, JSON]] | None]:
    """The current documents of these nodes for their copies, as `formats.with_members` takes them."""
    if gone is not None:
        return dict.fromkeys(members, {} if gone == "alone" else None)
    found = await gather_all(*(_documents(store, path) for path in members.values()))
    return dict(zip(members, found, strict=True))


async def _documents(store: Store, path: str) -> Mapping[str, Mapping[str, JSON]] | None:
    found = await nodes.fetch_documents(store, path, _COPIED)
    if not nodes.is_node(found):
        return None
    return formats.load_documents({name: blob.data for name, blob in found.items()})
