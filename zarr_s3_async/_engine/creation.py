"""Create nodes: missing groups above, checks against overwriting or adopting other objects, and the documents."""

from __future__ import annotations

from .._concurrency.workers import gather_all
from .._model import formats
from .._model.metadata import ArrayMeta, GroupMeta
from .._model.names import ancestors
from .._types import Version
from ..errors import AccessDenied, Conflict, MetadataError, NodeExists, NodeNotFound, UnsupportedFeature
from ..stores.base import Blob, Store
from ..stores.optional import folders_above
from . import nodes, removal
from .compare_and_swap import retry_conflicts
from .consolidated import sync_copies
from .runtime import Runtime


async def create(
    runtime: Runtime, path: str, meta: ArrayMeta | GroupMeta, *, overwrite: bool, adopts: bool = False
) -> None:
    """Store a new node and the missing groups above it; its main document on condition of absence.

    In addition to the documents this reads one page of a listing, to make sure that no chunk of an earlier array would
    be read as one of the new array, and sends a GET for each document that could make a folder above the root an array.

    Args:
        runtime: Its store.
        path: Path of the node.
        meta: Metadata of the node.
        overwrite: Delete an existing node first.
        adopts: Existing chunks belong to the new array: its creator has written them before the metadata.

    Raises:
        NodeExists: A node exists, or a folder above is an array; or there are objects that would be adopted or deleted.
    """
    store, above = runtime.store, ancestors(path)
    found: dict[str, Blob] = {}
    adopted: list[str] = []

    async def look() -> None:
        found.update(await nodes.fetch_documents(store, path, nodes.ALL_DOCUMENTS))

    async def look_for_chunks() -> None:
        if isinstance(meta, ArrayMeta) and not overwrite and not adopts:
            adopted.extend(await _stored_chunk(store, path, meta))

    # All checks at once: creating an array should not take one round trip per check.
    await gather_all(look(), look_for_chunks(), _refuse_below_array(store))
    if nodes.is_node(found) and not overwrite:
        raise _already_there(store, path)
    if adopted:
        raise _would_adopt(store, path, adopted[0])
    if overwrite:
        await removal.check_overwrite(store, path, found)
    await gather_all(*(_require_group(runtime, folder, meta.zarr_format) for folder in above))
    if nodes.is_node(found):
        await removal.remove_node(runtime, path)
        found.clear()
        if isinstance(meta, ArrayMeta):  # another writer may still be deleting its chunks
            await refuse_leftovers(runtime, path, meta)
    left = found.get(formats.ATTRS_V2)
    documents = formats.dump(meta)
    deciding = next(iter(documents))
    await _put_deciding(runtime, path, deciding, documents[deciding])
    # After the main document, so that a refused creation leaves no attributes behind.
    if meta.zarr_format == 2 and (meta.attributes or left is not None):
        await _put_attributes(runtime, path, meta, left)
    runtime.forget_below(path)
    await sync_copies(runtime, [*above, path], meta.zarr_format)


async def refuse_leftovers(runtime: Runtime, path: str, meta: ArrayMeta) -> None:
    """Raise NodeExists if chunks are stored that a new array would expose as its own."""
    for name in await _stored_chunk(runtime.store, path, meta):
        raise _would_adopt(runtime.store, path, name)


async def _stored_chunk(store: Store, path: str, meta: ArrayMeta) -> list[str]:
    """The name of an object that the new array would read as a chunk; empty if there is none."""
    prefix = path + "/" if path else ""
    default = meta.keys.name == "default"
    start = prefix + ("c" + meta.keys.separator * (meta.ndim > 0) if default else "")
    async for entry in store.list_prefix(start):
        name = entry.key[len(prefix) :]
        if meta.keys.decode(name, meta.ndim) is not None:
            return [name]
        if not default and name[:1] > "9":
            break  # keys are sorted, and chunk keys start with a digit
    return []


def _would_adopt(store: Store, path: str, chunk: str) -> NodeExists:
    url = nodes.url_of(store, path)
    return NodeExists(
        f"no array is stored at {url}, but chunks such as {chunk!r} are, which a new array would read as its own; "
        f"delete them with session.delete({url!r}, everything=True), or choose another path",
        url=url,
        path=path,
    )


async def _refuse_below_array(store: Store) -> None:
    """Raise NodeExists if a folder above the store's root is an array: its chunks and this node would be mixed."""
    above = [folder for folder, _ in folders_above(store)]
    for folder, is_array in zip(above, await gather_all(*map(_is_array, above)), strict=True):
        if is_array:
            raise NodeExists(
                f"{folder.url} is an array, and {store.url} lies below it; nodes can only be created in groups",
                url=folder.url,
                path="",
            )


async def _is_array(store: Store) -> bool:
    try:
        found = await nodes.fetch_documents(store, "", (formats.NODE_V3, formats.ARRAY_V2))
    except AccessDenied:
        return False  # credentials for one folder often cannot read the folders above
    return formats.kind_of_documents({name: blob.data for name, blob in found.items()}) == "array"


async def _put_deciding(runtime: Runtime, path: str, name: str, data: bytes) -> None:
    """Store the main document of a new node; raise NodeExists if there is one.

    A conflict alone does not prove that: S3 responds 409 during another request for the key, which may fail or delete.
    """
    store, key = runtime.store, nodes.join(path, name)

    async def attempt() -> None:
        try:
            await store.put(key, data, when="absent")
        except Conflict as conflict:
            if await nodes.exists(store, path):
                raise _already_there(store, path) from conflict
            raise

    def given_up(attempts: int) -> str:
        url = nodes.url_of(store, path)
        return f"others were creating and deleting {url} during all of {attempts} attempts to create it"

    await retry_conflicts(runtime, key, attempt, given_up)


async def _put_attributes(runtime: Runtime, path: str, meta: ArrayMeta | GroupMeta, left: Blob | None) -> None:
    """Store a new v2 node's `.zattrs` without losing attributes set by others since its main document exists.

    Args:
        runtime: Its store.
        path: Path of the node.
        meta: Metadata of the node.
        left: A `.zattrs` that existed before the node, and does not belong to it.
    """
    store, key = runtime.store, nodes.join(path, formats.ATTRS_V2)
    expected: Version | None = None if left is None else left.version

    async def attempt() -> None:
        blob = await store.get(key, max_bytes=formats.MAX_BYTES)
        theirs = None if blob is None or blob.version == expected else blob.data
        merged = formats.dump_attributes(meta.attributes, theirs, url=nodes.url_of(store, path))
        await store.put(key, merged, when="absent" if blob is None else blob.version)

    def given_up(attempts: int) -> str:
        url = nodes.url_of(store, path)
        return f"the attributes of {url} were changed by others during all of {attempts} attempts to store them"

    await retry_conflicts(runtime, key, attempt, given_up)


def _already_there(store: Store, path: str) -> NodeExists:
    url = nodes.url_of(store, path)
    return NodeExists(
        f"an array or a group is stored at {url} already; open it, choose another path, or pass overwrite=True",
        url=url,
        path=path,
    )


async def _require_group(runtime: Runtime, path: str, zarr_format: nodes.Format) -> None:
    """Create the group unless a group of this format exists."""
    try:
        node = await nodes.load(runtime, path)
    except NodeNotFound:
        documents = formats.dump(formats.new_group({}, zarr_format=zarr_format))
        name, data = next(iter(documents.items()))
        try:
            await runtime.store.put(nodes.join(path, name), data, when="absent")
        except Conflict:
            return await _require_group(runtime, path, zarr_format)  # created concurrently by another writer
        return None
    except (MetadataError, UnsupportedFeature) as error:
        if await nodes.kind_at(runtime.store, path) == "array":
            raise _no_group(runtime.store, path, "an array that cannot be read here", zarr_format) from error
        raise
    if isinstance(node.meta, ArrayMeta) or node.meta.zarr_format != zarr_format:
        what = f"{'an' if isinstance(node.meta, ArrayMeta) else 'a'} {nodes.kind_of_node(node.meta)}"
        raise _no_group(runtime.store, path, f"{what} of Zarr format {node.meta.zarr_format}", zarr_format)
    return None


def _no_group(store: Store, path: str, what: str, zarr_format: nodes.Format) -> NodeExists:
    url = nodes.url_of(store, path)
    return NodeExists(f"{url} is {what}; a group of format {zarr_format} is needed there", url=url, path=path)
