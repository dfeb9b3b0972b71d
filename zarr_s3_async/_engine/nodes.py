"""Metadata documents of nodes: fetch, parse, and edit them by conditional writes."""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from functools import partial
from typing import Literal, NamedTuple, TypeAlias, TypeVar, cast

from .._concurrency.workers import gather_all
from .._model import formats
from .._model.metadata import ArrayMeta, GroupMeta
from .._types import Version
from ..errors import AccessDenied, MetadataError, NodeNotFound, ObjectTooLarge, StoreError
from ..stores.base import Blob, Store, SupportsForbiddenIsMissing
from .compare_and_swap import retry_conflicts
from .runtime import Runtime

Format: TypeAlias = Literal[2, 3]
NodeKind: TypeAlias = Literal["array", "group"]
Meta = TypeVar("Meta", ArrayMeta, GroupMeta)
T = TypeVar("T")

ALL_DOCUMENTS = (*formats.document_names(None), formats.CONSOLIDATED_V2)
"""Names of all documents that may describe a node."""
_DECIDING = {formats.NODE_V3, formats.ARRAY_V2, formats.GROUP_V2, formats.CONSOLIDATED_V2}
_INLINE_BYTES = 64 * 2**10
"""Larger documents are parsed in a thread: 1 MiB of JSON would block the event loop for 20 ms and more."""


class Node(NamedTuple):
    """A stored node: its metadata, and the versions of its documents."""

    meta: ArrayMeta | GroupMeta
    versions: dict[str, Version]
    """Versions of the documents, by file name."""


def join(path: str, name: str) -> str:
    """The key of `name` below a node's path."""
    return f"{path}/{name}" if path and name else path or name


def url_of(store: Store, path: str) -> str:
    """URL of a node, for messages."""
    return f"{store.url}/{path}".rstrip("/")


async def load(
    runtime: Runtime, path: str, zarr_format: Format | None = None, kind: NodeKind | None = None, *, fresh: bool = False
) -> Node:
    """Load the array or group at `path`: one request for v3, one or two more round trips for v2.

    With `fresh`, a v2 group's own documents are not taken from its consolidated metadata: edits start from these.

    Raises:
        NodeNotFound: There is no node, or none of this kind.
        MetadataError, UnsupportedFeature: The documents are invalid or unsupported.
    """
    store = runtime.store
    if (
        kind is None
        and zarr_format == 2
        and isinstance(store, SupportsForbiddenIsMissing)
        and store.for_chunk_reads is not store  # the option is enabled
    ):
        return await _load_either(runtime, path, fresh=fresh)
    # v3 first, alone: it is the common format, and its node is one document.
    for stage in _stages(zarr_format, kind, fresh):
        found = await fetch_documents(store, path, stage, to_read=not fresh)
        documents = {name: blob.data for name, blob in found.items()}
        parse = partial(formats.parse_node, documents, url=url_of(store, path), zarr_format=zarr_format)
        meta = await off_loop(runtime, parse, sum(map(len, documents.values())))
        if meta is not None and kind in (None, kind_of_node(meta)):
            return Node(meta, {name: blob.version for name, blob in found.items()})
    if kind is not None:
        await _refuse_other_kind(store, path, kind)
    raise not_found(store, path, zarr_format, kind)


async def _refuse_other_kind(store: Store, path: str, kind: NodeKind) -> None:
    try:
        found = await kind_at(store, path)
    except (StoreError, MetadataError):
        return  # the requested kind of node is absent in any case
    if found not in (None, kind):
        url = url_of(store, path)
        raise NodeNotFound(
            f"no {kind} is stored at {url}, but a node of kind {found}: open it by open_{found}(...)",
            url=url,
            path=path,
        )


async def _load_either(runtime: Runtime, path: str, *, fresh: bool) -> Node:
    """Load a v2 node where absent documents are forbidden: one of the two main documents is, the other one decides."""
    try:
        return await load(runtime, path, 2, "array", fresh=fresh)
    except (NodeNotFound, AccessDenied) as error:
        try:
            return await load(runtime, path, 2, "group", fresh=fresh)
        except NodeNotFound:
            raise error from None


async def fetch_documents(store: Store, path: str, names: Sequence[str], *, to_read: bool = False) -> dict[str, Blob]:
    """Fetch documents of a node in parallel; returns the stored ones by file name.

    Args:
        store: The store.
        path: Path of the node.
        names: File names.
        to_read: The documents are only read, not edited: an optional document that is forbidden counts as absent if the
            store has this option enabled.
    """
    lenient = store.for_chunk_reads if to_read and isinstance(store, SupportsForbiddenIsMissing) else store
    blobs = await gather_all(*(_fetch_document(lenient if name in _OPTIONAL else store, path, name) for name in names))
    return {name: blob for name, blob in zip(names, blobs, strict=True) if blob is not None}


_OPTIONAL = frozenset({formats.ATTRS_V2, formats.CONSOLIDATED_V2})


async def _fetch_document(store: Store, path: str, name: str) -> Blob | None:
    try:
        return await store.get(join(path, name), max_bytes=formats.MAX_BYTES)
    except ObjectTooLarge as error:
        url = url_of(store, path)
        raise MetadataError(
            f"{url}/{name} is too long: metadata of more than {formats.MAX_BYTES:,} bytes is not read", url=url
        ) from error


async def off_loop(runtime: Runtime, work: Callable[[], T], nbytes: int) -> T:
    """Run `work` on `nbytes` of JSON, in a thread if it would block the event loop noticeably."""
    return work() if nbytes <= _INLINE_BYTES else await runtime.cpu.run(work)


_V2: dict[NodeKind | None, list[tuple[str, ...]]] = {
    "array": [(formats.ARRAY_V2, formats.ATTRS_V2)],
    # Consolidated metadata contains the group's own documents too: if it exists, nothing else is requested.
    "group": [(formats.CONSOLIDATED_V2,), (formats.GROUP_V2, formats.ATTRS_V2)],
    None: [(formats.ARRAY_V2, formats.GROUP_V2, formats.ATTRS_V2, formats.CONSOLIDATED_V2)],
}


def _stages(zarr_format: Format | None, kind: NodeKind | None, fresh: bool) -> list[tuple[str, ...]]:
    """Documents to request, one tuple per round trip, until one of them decides."""
    v2 = [stage for stage in _V2[kind] if not (fresh and stage == (formats.CONSOLIDATED_V2,))]
    stages: list[tuple[Format, list[tuple[str, ...]]]] = [(3, [(formats.NODE_V3,)]), (2, v2)]
    return [stage for known, those in stages if zarr_format in (None, known) for stage in those]


def kind_of_node(meta: ArrayMeta | GroupMeta) -> NodeKind:
    """The kind of a node."""
    return "array" if isinstance(meta, ArrayMeta) else "group"


def not_found(store: Store, path: str, zarr_format: Format | None, kind: NodeKind | None = None) -> NodeNotFound:
    """The error if there is no node of this kind and format at `path`."""
    url = url_of(store, path)
    what = f"no {kind}" if kind else "no array and no group"
    which = f" of Zarr format {zarr_format}" if zarr_format else ""
    return NodeNotFound(
        f"{what}{which} is stored at {url}; check the URL and the path, or create one", url=url, path=path
    )


def is_node(names: Collection[str]) -> bool:
    """True if documents of these names form a node, readable or not."""
    return not _DECIDING.isdisjoint(names)


async def kind_at(store: Store, path: str) -> NodeKind | None:
    """The kind of node according to the main documents at `path`, readable or not; None if they do not specify one."""
    found = await fetch_documents(store, path, (formats.NODE_V3, formats.ARRAY_V2, formats.GROUP_V2))
    return formats.kind_of_documents({name: blob.data for name, blob in found.items()})


async def exists(store: Store, path: str) -> bool:
    """True if an array or a group of either format is stored, readable or not."""
    for stage in _stages(None, None, fresh=False):
        try:
            if is_node(await fetch_documents(store, path, stage)):
                return True
        except MetadataError:  # a document that is too long
            return True
    return False


async def update(
    runtime: Runtime, path: str, zarr_format: Format, edit: Callable[[Meta], Meta], kind: NodeKind
) -> Meta:
    """Read the node without caches, edit it, store what changed on condition of the versions read; retry on a conflict.

    Raises:
        ConcurrentModification: Every attempt conflicted with another writer.
        NodeNotFound: The node does not exist any more.
    """
    store = runtime.store
    url = url_of(store, path)

    read: list[object] = []

    async def attempt() -> Meta:
        node = await load(runtime, path, zarr_format, kind, fresh=True)
        edited = edit(cast("Meta", node.meta))
        read.append(" ".join(node.versions.values()))
        before, after = formats.dump(node.meta), formats.dump(edited)
        for name, data in after.items():
            # Only changed documents: of a v2 node, an edit of attributes must not conflict with a resize.
            if before.get(name) != data:
                await store.put(join(path, name), data, when=node.versions.get(name, "absent"))
        return edited

    def given_up(attempts: int) -> str:
        return (
            f"the metadata of {url} was changed by others during all of {attempts} attempts to edit it; try again later"
        )

    async with runtime.locks.hold(runtime.name_of(path)):
        return await retry_conflicts(runtime, path, attempt, given_up, read)
