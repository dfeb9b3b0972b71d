"""Delete nodes: objects that belong to the node are deleted, others are kept.

Documents are deleted before the objects that they describe, and those of a group's members before its own. Wherever a
deletion is interrupted, no array remains that can be opened and lacks chunks. Remaining objects have no documents;
`everything=True` deletes them.
"""

from __future__ import annotations

import logging
from asyncio import CancelledError
from collections.abc import AsyncIterator, Collection, Iterator, Mapping
from contextlib import contextmanager
from typing import NamedTuple
from urllib.parse import urlsplit

from .._concurrency.workers import gather_all
from .._model import formats
from .._model.keys import is_chunk_key
from .._model.metadata import GroupMeta
from .._model.names import problem_of
from ..errors import ConfigError, MetadataError, NodeExists, NodeNotFound, UnsupportedFeature
from ..stores.base import OWN_NAMES, Entry, Store, SupportsParent
from ..stores.optional import delete_stream
from . import nodes
from .consolidated import drop_copies, sync_removed
from .runtime import Runtime

log = logging.getLogger("zarr_s3_async")

_NAMED = 5
"""Maximum number of objects named in a message."""


async def delete(runtime: Runtime, path: str, *, everything: bool = False) -> None:
    """Delete a node with everything that belongs to it. If nothing is stored at the path, nothing happens.

    Args:
        runtime: Its store.
        path: Path of the node.
        everything: Delete every object below the path, including those that belong to no node.

    Raises:
        ConfigError: The path is the root of a bucket.
        NodeNotFound: There are objects, but no node.
    """
    store = runtime.store
    if everything:
        await _remove_everything(runtime, path)
        return
    if _is_bucket(store, path):
        raise ConfigError(
            f"{store.url} is a whole bucket; to remove every object in it, call delete(..., everything=True)"
        )
    found = await nodes.fetch_documents(store, path, nodes.ALL_DOCUMENTS)
    if not nodes.is_node(found):
        await _require_nothing(store, path, NodeNotFound)
        return
    await remove_node(runtime, path)


async def check_overwrite(store: Store, path: str, found: Collection[str]) -> None:
    """Raise an error if overwriting would delete objects that belong to no node.

    Args:
        store: The store.
        path: Path of the new node.
        found: Names of the documents that are stored at the path.

    Raises:
        ConfigError: The path is the root of a bucket, and a group.
        NodeExists: There are objects, but no node.
    """
    if not nodes.is_node(found):
        await _require_nothing(store, path, NodeExists)
    elif _is_bucket(store, path) and await nodes.kind_at(store, path) != "array":
        raise ConfigError(
            f"{store.url} is a whole bucket; to remove every object in it, call delete(..., everything=True) first"
        )


def _is_bucket(store: Store, path: str) -> bool:
    """True for the root of a bucket or an access point: everything that the store can reach."""
    parts = urlsplit(store.url)
    if path or parts.scheme in ("memory", "file"):
        return False
    return store.parent() is None if isinstance(store, SupportsParent) else not parts.path.strip("/")


def _is_marker(entry: Entry) -> bool:
    """True for an empty object that marks a folder, as consoles and other tools write them."""
    return not entry.size and (not entry.key or entry.key.endswith("/"))  # "" is the store's own folder


async def _require_nothing(store: Store, path: str, error: type[NodeNotFound | NodeExists]) -> None:
    """Raise `error` if objects are stored below a path without a node."""
    found: list[str] = []
    prefix = _folder(path)
    async for entry in store.list_prefix(prefix):
        name = entry.key[len(prefix) :]
        if not _is_marker(entry) and not name.rpartition("/")[2].startswith(OWN_NAMES):
            found.append(name)
        if len(found) == _NAMED:
            break
    if found:
        url = nodes.url_of(store, path)
        raise error(
            f"no array and no group is stored at {url}, but other objects are: {', '.join(map(repr, found))}; "
            f"nothing was deleted. To delete all of it, call session.delete({url!r}, everything=True)",
            url=url,
            path=path,
        )


async def _remove_everything(runtime: Runtime, path: str) -> None:
    store, url = runtime.store, nodes.url_of(runtime.store, path)
    await drop_copies(runtime, [path], everything=True)
    with _resumable(url):
        await store.delete_many([nodes.join(path, name) for name in nodes.ALL_DOCUMENTS])
        await delete_stream(store, (entry.key async for entry in store.list_prefix(_folder(path))))
        await sync_removed(runtime, [path])
    runtime.forget_below(path)


async def remove_node(runtime: Runtime, path: str) -> None:
    """Remove a node with everything that belongs to it; see `delete`. Nothing happens if it is already gone."""
    store, url = runtime.store, nodes.url_of(runtime.store, path)
    tree = await _tree(runtime, path)
    if path not in tree:
        return
    # Before the nodes: a copy that lists a deleted array would make it appear to exist.
    await drop_copies(runtime, list(tree))
    foreign: list[str] = []
    own = [nodes.join(path, name) for name in nodes.ALL_DOCUMENTS]
    inner = [nodes.join(at, name) for at, node in tree.items() if at != path for name in node.documents]
    with _resumable(url):
        if tree[path].is_array:
            await store.delete_many(own)  # once: from here on another writer may create a node in its place
            await delete_stream(store, _belonging(store, path, tree, foreign))
        else:
            await _drop_own_copy(runtime, path)
            await delete_stream(store, inner)
            await delete_stream(store, _belonging(store, path, tree, foreign))
            await store.delete_many(own)
        runtime.forget_below(path)
        await sync_removed(runtime, list(tree))
    if foreign:
        log.warning(
            "%s is deleted; other objects below it are kept, since they belong to no array or group: %s%s",
            url,
            ", ".join(map(repr, foreign[:_NAMED])),
            ", and more" if len(foreign) > _NAMED else "",
        )


@contextmanager
def _resumable(url: str) -> Iterator[None]:
    """Add a note to any exception that interrupts a deletion: the state that it leaves, and how to continue."""
    try:
        yield
    except (Exception, CancelledError) as error:
        error.add_note(
            f"{url} is partly deleted: its documents were deleted first, and objects below it may remain. "
            f"To continue, call session.delete({url!r}, everything=True)"
        )
        raise


class _Stored(NamedTuple):
    """A node to be deleted."""

    is_array: bool
    documents: tuple[str, ...]
    """Names of its documents."""


async def _tree(runtime: Runtime, path: str) -> dict[str, _Stored]:
    """The node and all nodes below it, readable or not, by path; groups before their members."""
    tree: dict[str, _Stored] = {}
    level = [path]
    size = runtime.limits.requests
    while level:
        folders: list[str] = []
        for at in range(0, len(level), size):
            page = level[at : at + size]
            found = await gather_all(*(_stored(runtime, folder) for folder in page))
            tree |= {folder: node for folder, node in zip(page, found, strict=True) if node is not None}
            groups = [folder for folder in page if folder in tree and not tree[folder].is_array]
            for listing in await gather_all(*(runtime.store.list_dir(group) for group in groups)):
                folders += [folder for folder in listing.dirs if problem_of(folder.rpartition("/")[2]) is None]
        level = folders
    return tree


async def _stored(runtime: Runtime, path: str) -> _Stored | None:
    found = await nodes.fetch_documents(runtime.store, path, nodes.ALL_DOCUMENTS)
    if not nodes.is_node(found):
        return None
    kind = formats.kind_of_documents({name: blob.data for name, blob in found.items()})
    return _Stored(kind == "array", tuple(found))


async def _drop_own_copy(runtime: Runtime, path: str) -> None:
    """Delete a group's own consolidated metadata before its members, so that it lists no deleted ones."""
    store = runtime.store
    await store.delete_many([nodes.join(path, formats.CONSOLIDATED_V2)])
    try:
        node = await nodes.load(runtime, path, 3, "group")
    except (NodeNotFound, MetadataError, UnsupportedFeature):
        return
    if isinstance(node.meta, GroupMeta) and node.meta.consolidated is not None:
        await nodes.update(runtime, path, 3, formats.without_consolidated, "group")


async def _belonging(store: Store, path: str, tree: Mapping[str, _Stored], foreign: list[str]) -> AsyncIterator[str]:
    """Keys of the objects below that belong to one of these nodes; the first few others are appended to `foreign`."""
    prefix = _folder(path)
    own = {nodes.join(path, name) for name in nodes.ALL_DOCUMENTS}
    async for entry in store.list_prefix(prefix):
        key = entry.key
        if key in own:
            continue  # deleted last
        if _is_marker(entry) or _belongs(key, path, tree):
            yield key
        elif len(foreign) <= _NAMED:
            foreign.append(key)


def _belongs(key: str, path: str, tree: Mapping[str, _Stored]) -> bool:
    folder, _, name = key.rpartition("/")
    if name.startswith(OWN_NAMES):
        return True
    if name in nodes.ALL_DOCUMENTS:
        return folder in tree
    while folder not in tree and len(folder) > len(path):
        folder = folder.rpartition("/")[0]
    return folder in tree and tree[folder].is_array and is_chunk_key(key[len(folder) :].lstrip("/"))


def _folder(path: str) -> str:
    return path + "/" if path else ""
