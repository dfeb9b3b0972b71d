"""Metadata: arrays and groups are opened, created and edited here. Every edit is a compare-and-swap."""

from __future__ import annotations

from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass
from random import random
from typing import Literal, TypeAlias, TypeVar, cast

import anyio

from .._concurrency.workers import gather_all
from .._model import formats
from .._model.metadata import ArrayMeta, GroupMeta
from .._policy.backoff import conflict_delay
from .._types import Sink, Version
from ..errors import ConcurrentModification, Conflict, MetadataError, NodeExists, NodeNotFound
from ..events import ConflictMet
from ..stores.base import Store
from .runtime import Runtime

Format: TypeAlias = Literal[2, 3]
Kind: TypeAlias = Literal["array", "group"]
Meta = TypeVar("Meta", ArrayMeta, GroupMeta)


@dataclass(frozen=True, slots=True)
class Node:
    """A node as it is stored: what it is, and the versions of the documents that say so."""

    meta: ArrayMeta | GroupMeta
    versions: dict[str, Version]
    """By file name."""


def join(path: str, name: str) -> str:
    """A key below a node's path."""
    return f"{path}/{name}" if path else name


def _url(store: Store, path: str) -> str:
    return f"{store.url}/{path}".rstrip("/")


async def load(
    store: Store, path: str, zarr_format: Format | None = None, kind: Kind | None = None, *, fresh: bool = False
) -> Node:
    """The array or group at `path`: v3 is one request, v2 one or two round trips more.

    `fresh` never takes a v2 group's own documents from its consolidated metadata: edits start from what is there.

    Raises:
        NodeNotFound: Nothing is there, or nothing of this kind.
        MetadataError, UnsupportedFeature: What is there cannot be read.
    """
    url = _url(store, path)
    for stage in _stages(zarr_format, kind, fresh):
        blobs = await gather_all(*(store.get(join(path, name), sink=_bounded(url, name)) for name in stage))
        found = {name: blob for name, blob in zip(stage, blobs, strict=True) if blob is not None}
        documents = {name: blob.data for name, blob in found.items()}
        meta = formats.parse_node(documents, url=url, zarr_format=zarr_format)
        if meta is not None and kind in (None, kind_of(meta)):
            return Node(meta, {name: blob.version for name, blob in found.items()})
    raise _not_found(url, path, zarr_format, kind)


def _bounded(url: str, name: str) -> Sink:
    """Memory for a document, and none for more bytes than one may have: a stranger may have stored anything."""

    def memory(length: int) -> memoryview:
        if length > formats.MAX_BYTES:
            raise MetadataError(
                f"{url}: {name} has {length:,} bytes; metadata of more than {formats.MAX_BYTES:,} is not read", url=url
            )
        return memoryview(bytearray(length))

    return memory


_V2: dict[Kind | None, list[tuple[str, ...]]] = {
    "array": [(formats.ARRAY_V2, formats.ATTRS_V2)],
    # Consolidated metadata holds the group's own documents too: where it is, it is all that is asked for.
    "group": [(formats.CONSOLIDATED_V2,), (formats.GROUP_V2, formats.ATTRS_V2)],
    None: [(formats.ARRAY_V2, formats.GROUP_V2, formats.ATTRS_V2, formats.CONSOLIDATED_V2)],
}


def _stages(zarr_format: Format | None, kind: Kind | None, fresh: bool) -> list[tuple[str, ...]]:
    """Documents to ask for, one round trip after the other until one of them decides."""
    v2 = [stage for stage in _V2[kind] if not (fresh and stage == (formats.CONSOLIDATED_V2,))]
    stages: list[tuple[Format, list[tuple[str, ...]]]] = [(3, [(formats.NODE_V3,)]), (2, v2)]
    return [stage for known, those in stages if zarr_format in (None, known) for stage in those]


def kind_of(meta: ArrayMeta | GroupMeta) -> Kind:
    """What the node is."""
    return "array" if isinstance(meta, ArrayMeta) else "group"


def _not_found(url: str, path: str, zarr_format: Format | None, kind: Kind | None) -> NodeNotFound:
    what = f"no {kind}" if kind else "no array and no group"
    which = f" of Zarr format {zarr_format}" if zarr_format else ""
    return NodeNotFound(
        f"{what}{which} is stored at {url}; check the URL and the path, or create one", url=url, path=path
    )


async def exists(store: Store, path: str) -> bool:
    """True where an array or a group of either format is stored, readable or not."""
    try:
        await load(store, path)
    except NodeNotFound:
        return False
    except MetadataError:
        return True
    return True


async def create(runtime: Runtime, path: str, meta: ArrayMeta | GroupMeta, *, overwrite: bool) -> None:
    """Store the documents of a new node, the deciding one under the condition that it is absent."""
    store = runtime.store
    if overwrite:
        await delete(runtime, path)
    elif await exists(store, path):
        raise _already_there(store, path)
    documents = formats.dump(meta)
    deciding, *others = documents
    await _put_new(runtime, path, deciding, documents[deciding])
    for name in others:
        await store.put(join(path, name), documents[name])


async def _put_new(runtime: Runtime, path: str, name: str, data: bytes) -> None:
    """Store the deciding document of a new node, or raise NodeExists where there is one.

    A conflict alone does not say that: S3's 409 says that others are at it, and they may fail, or be deleting.
    """
    store, attempts = runtime.store, runtime.retry.conflict_attempts
    for attempt in range(1, attempts + 1):
        try:
            await store.put(join(path, name), data, when="absent")
        except Conflict as conflict:
            runtime.emit(ConflictMet(key=join(path, name), attempt=attempt))
            if await exists(store, path):
                raise _already_there(store, path) from conflict
        else:
            return
        await anyio.sleep(conflict_delay(attempt, random()))
    raise ConcurrentModification(
        f"others were creating and deleting {_url(store, path)} during all of {attempts} attempts to create it",
        attempts=attempts,
    )


def _already_there(store: Store, path: str) -> NodeExists:
    url = _url(store, path)
    return NodeExists(
        f"an array or a group is stored at {url} already; open it, choose another path, or pass overwrite=True",
        url=url,
        path=path,
    )


async def delete(runtime: Runtime, path: str) -> None:
    """Remove a node and everything below it; nothing there is fine.

    The documents go first, so that nobody opens half an array meanwhile.
    """
    store = runtime.store
    documents = [join(path, name) for name in (*formats.document_names(None), formats.CONSOLIDATED_V2)]
    await store.delete_many(documents)
    prefix = path + "/" if path else ""
    await delete_all(store, (entry.key async for entry in store.list_prefix(prefix)))
    runtime.forget_below(path)


_DELETE_BATCH = 1000


async def delete_all(store: Store, keys: AsyncIterator[str]) -> None:
    """Remove what a listing names, as it goes: no more keys are held than one request takes."""
    batch: list[str] = []
    async for key in keys:
        batch.append(key)
        if len(batch) == _DELETE_BATCH:
            await store.delete_many(batch)
            batch = []
    if batch:
        await store.delete_many(batch)


async def update(runtime: Runtime, path: str, zarr_format: Format, edit: Callable[[Meta], Meta], kind: Kind) -> Meta:
    """Read the node afresh, edit it, store what changed under the versions that were read; again on a conflict.

    Raises:
        ConcurrentModification: Others were first every time.
        NodeNotFound: The node is gone.
    """
    store, attempts = runtime.store, runtime.retry.conflict_attempts
    url = _url(store, path)
    async with runtime.locks.hold(url):
        for attempt in range(1, attempts + 1):
            node = await load(store, path, zarr_format, kind, fresh=True)
            edited = edit(cast("Meta", node.meta))
            try:
                await _replace(store, path, node, edited)
            except Conflict:
                runtime.emit(ConflictMet(key=path, attempt=attempt))
            else:
                return edited
            await anyio.sleep(conflict_delay(attempt, random()))
    raise ConcurrentModification(
        f"the metadata of {url} was changed by others during all of {attempts} attempts to edit it; try again later",
        attempts=attempts,
    )


async def _replace(store: Store, path: str, node: Node, edited: ArrayMeta | GroupMeta) -> None:
    before, after = formats.dump(node.meta), formats.dump(edited)
    for name, data in after.items():
        if before.get(name) != data:
            await store.put(join(path, name), data, when=node.versions.get(name, "absent"))


async def tell_consolidated(runtime: Runtime, path: str, meta: GroupMeta) -> None:
    """Let the `.zmetadata` of a v2 group, where there is one, say the group's attributes too."""
    store, key = runtime.store, join(path, formats.CONSOLIDATED_V2)
    for attempt in range(1, runtime.retry.conflict_attempts + 1):
        blob = await store.get(key, sink=_bounded(_url(store, path), formats.CONSOLIDATED_V2))
        if blob is None:
            return
        try:
            await store.put(key, formats.with_own_attributes(blob.data, meta.attributes), when=blob.version)
        except Conflict:
            runtime.emit(ConflictMet(key=key, attempt=attempt))
            await anyio.sleep(conflict_delay(attempt, random()))
        else:
            return


async def require_groups(runtime: Runtime, paths: Sequence[str], zarr_format: Format) -> None:
    """Create the groups that are missing; one that is there, of this format, is fine."""
    await gather_all(*(_require_group(runtime, path, zarr_format) for path in paths))


async def _require_group(runtime: Runtime, path: str, zarr_format: Format) -> None:
    try:
        node = await load(runtime.store, path)
    except NodeNotFound:
        documents = formats.dump(formats.new_group({}, zarr_format=zarr_format))
        name, data = next(iter(documents.items()))
        try:
            await runtime.store.put(join(path, name), data, when="absent")
        except Conflict:
            return await _require_group(runtime, path, zarr_format)  # somebody else was first
        return None
    if isinstance(node.meta, ArrayMeta) or node.meta.zarr_format != zarr_format:
        found = f"{kind_of(node.meta)} of Zarr format {node.meta.zarr_format}"
        url = _url(runtime.store, path)
        raise NodeExists(f"{url} is a {found}; a group of format {zarr_format} is needed there", url=url, path=path)
    return None
