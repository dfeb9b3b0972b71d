"""Walk over one listing, page by page; workers read and check the objects of each page.

Memory holds the folders above the current keys and totals per node. The cost depends on what is stored, not on the size
of the grid.
"""

from __future__ import annotations

from asyncio import Lock
from collections import deque
from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from functools import partial
from itertools import islice
from math import prod
from sys import maxsize
from time import perf_counter
from typing import NamedTuple, Self, TypeAlias

from .._concurrency.executor import Executor
from .._concurrency.limiter import bulk_unless_named
from .._concurrency.workers import gather_all, run_workers_async
from .._engine.runtime import Runtime
from .._model import formats
from .._options import check_callable, check_count, check_flag
from .._types import Coords
from ..errors import (
    ChecksumMismatch,
    MetadataError,
    NodeNotFound,
    StoreError,
    UnsupportedFeature,
    ZarrS3Error,
)
from ..stores.base import COPY_PIECE, COPY_RECORD, PROBE, Entry
from ..stores.local.files import TEMPORARY
from .folders import Folder
from .nodes import FATAL, Format, Nodes, contradiction
from .objects import CheckedObject, check_object
from .report import Finding, FindingKind, OnProgress, VerifyReport

_PAGE = 1000
"""Keys classified at once: a page of an S3 listing."""
_BATCH = 256
"""Maximum number of objects that one call in another process checks."""
_BATCH_BYTES = 2**26
"""Stored bytes of objects from which on no more are added to such a call: about a second of work."""
_BATCHES = 4096
"""Maximum number of such calls at once."""
_OURS = (PROBE, TEMPORARY, COPY_PIECE)
"""Prefixes of temporary objects of this library, which it removes unless its process is killed."""
_DOCUMENTS = frozenset((*formats.document_names(None), formats.CONSOLIDATED_V2))


async def verify(
    runtime: Runtime,
    path: str,
    zarr_format: Format | None,
    *,
    strict: bool,
    max_findings: int,
    progress: OnProgress | None,
    client: Executor | None,
) -> VerifyReport:
    """See `Session.verify`.

    Args:
        runtime: The store and its session.
        path: Path of the array or group in the store.
        zarr_format: The format to verify; None: v3, or v2 if there is no v3 node.
        strict: Count absent chunks as problems.
        max_findings: Maximum number of findings kept per kind and node.
        progress: Called on the event loop as objects are checked.
        client: Checks chunks and shards in other processes; None: this process checks them.
    """
    runtime.guard()
    check_flag("strict", strict)
    check_count("max_findings", max_findings, least=0)
    check_callable("progress", progress)
    elsewhere = None
    if client is not None:
        from .._cluster import checks_on

        elsewhere = checks_on(client, runtime)
    # `islice` accepts no larger number.
    max_findings = min(max_findings, maxsize)
    started, nodes = perf_counter(), Nodes(runtime, max_findings)
    root = await nodes.node_at(path, None, (zarr_format,) if zarr_format else (3, 2))
    if root is None:
        url = nodes.url(path)
        raise NodeNotFound(f"no array and no group is stored at {url}; check the URL and the path", url=url, path=path)
    walk = _Walk(runtime, nodes, root, progress)
    with bulk_unless_named():
        if elsewhere is None:
            await run_workers_async(runtime.limits.requests, walk, walk.check)
        else:
            await run_workers_async(_BATCHES, _Batches(walk), partial(walk.check_batch, elsewhere))
    return VerifyReport(
        url=nodes.url(path),
        strict=strict,
        nodes=tuple(tally.report() for tally in sorted(nodes.tallies, key=lambda tally: tally.path.split("/"))),
        objects=nodes.totals.objects,
        nbytes=nodes.totals.nbytes,
        seconds=perf_counter() - started,
    )


class _Item(NamedTuple):
    """An object to check."""

    folder: Folder
    entry: Entry
    position: Coords | None
    """Position in the array's grid; None for a document."""


class ObjectsToCheck(NamedTuple):
    """Objects of one array, for another process."""

    path: str
    """Of the array."""
    zarr_format: Format
    documents: Mapping[str, bytes]
    """The array's metadata, by file name."""
    objects: tuple[tuple[Entry, Coords], ...]
    """As they were listed, with their positions in the array's grid."""


CheckElsewhere: TypeAlias = Callable[[ObjectsToCheck], Awaitable[Sequence[CheckedObject | StoreError | None]]]
"""Reads and decodes objects in another process: what was found of each, None where it does not exist any more."""


class _Walk:
    """An async iterator over the objects to check; several workers may await it concurrently."""

    __slots__ = (
        "_ended",
        "_filling",
        "_folders",
        "_keys",
        "_last_key",
        "_nodes",
        "_progress",
        "_ready",
        "_root",
        "_runtime",
    )

    def __init__(self, runtime: Runtime, nodes: Nodes, root: Folder, progress: OnProgress | None) -> None:
        self._runtime = runtime
        self._nodes = nodes
        self._root = root
        self._progress = progress
        self._folders: dict[str, Folder] = {}
        """Folders above the keys of the current page, by path."""
        self._keys: AsyncIterator[Entry] = runtime.store.list_prefix(root.prefix)
        self._last_key: str | None = None
        self._ready: deque[_Item] = deque()
        self._filling = Lock()
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _Item:
        while not (self._ended and not self._ready):
            # One worker fetches the next page while the others still have work; an idle worker waits for the lock.
            if not self._ready or (self._is_low() and not self._filling.locked()):
                async with self._filling:
                    # Checked again: the worker that held the lock may have fetched the page.
                    if self._is_low():
                        await self._fill()
            if self._ready:
                return self._ready.popleft()
        raise StopAsyncIteration

    def _is_low(self) -> bool:
        return len(self._ready) < self._runtime.limits.requests and not self._ended

    async def _fill(self) -> None:
        page: list[Entry] = []
        async for entry in self._keys:
            # In a sorted listing a repeated key follows itself, so this needs no memory of earlier keys.
            if entry.key == self._last_key:
                continue
            self._last_key = entry.key
            page.append(entry)
            if len(page) == _PAGE:
                break
        self._nodes.totals.listed += len(page)
        await self._discover_folders(page)
        for entry in page:
            self._classify_key(entry)
        is_last = len(page) < _PAGE
        # Listings are sorted, so no later page can contain a key of a folder that sorts before this page's last key.
        self._close_folders_before(None if is_last else page[-1].key)
        self._ended = is_last
        self._report_progress()

    async def _discover_folders(self, page: Sequence[Entry]) -> None:
        """Determine what the folders of these keys are, level by level."""
        # A dict by path: the keys of one folder ask for it once. Each round goes one level deeper.
        while unknown := {path: above for above, path in map(self._deepest_known, page) if path is not None}:
            remaining = iter(unknown.items())
            while some := list(islice(remaining, self._runtime.limits.requests)):
                found = await gather_all(*(self._nodes.look(path, above) for path, above in some))
                self._folders.update({folder.path: folder for folder in found})

    def _deepest_known(self, entry: Entry) -> tuple[Folder, str | None]:
        """The deepest known folder above a key, and the path of the first unknown folder below it, if any."""
        folder = self._root
        while folder.descends and (path := folder.folder_of(entry.key)) is not None:
            below = self._folders.get(path)
            if below is None:
                return folder, path
            folder = below
        return folder, None

    def _close_folders_before(self, key: str | None) -> None:
        """Close the folders whose keys all sort before this key."""
        closed = [folder for folder in self._folders.values() if key is None or not folder.is_above(key)]
        for folder in closed:
            del self._folders[folder.path]
            _close(folder)
        if key is None:
            _close(self._root)

    # Keys

    def _classify_key(self, entry: Entry) -> None:
        """Queue the object for checking, or report why it does not belong here."""
        folder, _ = self._deepest_known(entry)
        tally, name = folder.tally, entry.key[len(folder.prefix) :]
        # Checks from the most specific to the least; the order decides where a key fits several of them.
        if not entry.size and entry.key.endswith("/"):
            return  # a folder marker, as consoles and other tools write them
        if name.rpartition("/")[2] == COPY_RECORD:
            return  # the record of a copy, which a second run of the same call reads
        if name.rpartition("/")[2].startswith(_OURS):
            what = "this library left it when it was killed; it may be deleted"
            tally.add(Finding(kind="leftover", key=entry.key, what=what))
        elif folder.is_node and name in _DOCUMENTS:
            self._classify_document(folder, entry, name)
        elif tally.meta is not None:
            self._classify_chunk(folder, entry, name)
        elif tally.kind == "unreadable":
            tally.unchecked += 1
        else:
            what = "a group holds no objects of its own" if folder.is_node else "no array and no group is there"
            tally.add(Finding(kind="foreign", key=entry.key, what=what))

    def _classify_document(self, folder: Folder, entry: Entry, name: str) -> None:
        tally = folder.tally
        if name in folder.documents or tally.kind == "unreadable":
            return  # read already, to determine what the node is
        if name == formats.NODE_V3 or tally.zarr_format == 3:
            if not folder.is_beside:  # the first document of the other format; `_check_document` reads all of them
                folder.is_beside = True
                self._ready.append(_Item(folder, entry, None))
            return
        what = f"a document that has no meaning for this {tally.kind} of Zarr format 2"
        tally.add(Finding(kind="foreign", key=entry.key, what=what))

    def _classify_chunk(self, folder: Folder, entry: Entry, name: str) -> None:
        tally = folder.tally
        assert tally.meta is not None  # noqa: S101  # it is an array
        assert folder.stored is not None  # noqa: S101  # likewise
        found = tally.meta.classify_key(name)
        if found.kind != "chunk":
            tally.add(Finding(kind=found.kind, key=entry.key, what=found.why, position=found.coords))
            return
        assert found.coords is not None  # noqa: S101  # a chunk has them
        # A server may list an object again, even long after: counted twice, it would hide one that is missing.
        if not folder.stored.add(found.coords):
            return
        tally.objects += 1
        # The codecs are not supported, which is reported once for the array.
        if folder.objects is None:
            tally.unchecked += 1
        else:
            self._ready.append(_Item(folder, entry, found.coords))

    # Objects

    async def check(self, item: _Item) -> None:
        """Read one object and report what is wrong with it."""
        folder, entry, position = item
        try:
            if position is None:
                await self._check_document(folder, entry)
            else:
                assert folder.objects is not None  # noqa: S101  # else it was not made an item
                self._record(item, position, await check_object(folder.objects, entry, position))
        except StoreError as error:
            self._record_failure(item, error)
        self._report_progress()

    async def check_batch(self, elsewhere: CheckElsewhere, batch: Sequence[_Item]) -> None:
        """Have objects of one array read elsewhere, and report what is wrong with them."""
        tally = batch[0].folder.tally
        assert tally.meta is not None  # noqa: S101  # it is an array's
        # The metadata goes along, so that the other process need not read it for each batch.
        objects = tuple((item.entry, item.position) for item in batch if item.position is not None)
        found = await elsewhere(ObjectsToCheck(tally.path, tally.meta.zarr_format, formats.dump(tally.meta), objects))
        for item, (_, position), checked in zip(batch, objects, found, strict=True):
            if isinstance(checked, StoreError):
                self._record_failure(item, checked)
            else:
                self._record(item, position, checked)
        self._report_progress()

    def _record_failure(self, item: _Item, error: StoreError) -> None:
        if isinstance(error, FATAL):
            raise error
        kind: FindingKind = "corrupt" if isinstance(error, ChecksumMismatch) else "unreadable"
        chunk = None if item.position is None else _chunk_of(item.folder, item.position)
        item.folder.tally.add(_failed(kind, item, error, chunk))

    def _record(self, item: _Item, position: Coords, checked: CheckedObject | None) -> None:
        folder, entry, _ = item
        tally = folder.tally
        if checked is None:
            what, chunk = "it was listed, but deleted before it was read", _chunk_of(folder, position)
            tally.add(Finding(kind="missing", key=entry.key, what=what, position=position, chunk=chunk))
            return
        self._nodes.totals.read(checked.nbytes)
        tally.nbytes += checked.nbytes
        tally.chunks += checked.chunks
        tally.unused += checked.unused
        for chunk, error in checked.bad:
            tally.add(_failed("corrupt", _Item(folder, entry, position), error, chunk))
        # All are counted, but only the first ones kept: an empty shard may lack millions of chunks.
        tally.count("missing", len(checked.absent))
        for absent in checked.absent[: tally.remaining("missing")]:
            what, chunk = "its shard does not hold it, and it reads as the fill value", tuple(map(int, absent))
            tally.keep(Finding(kind="missing", key=entry.key, what=what, position=position, chunk=chunk))

    async def _check_document(self, folder: Folder, entry: Entry) -> None:
        """Check documents of the other format stored beside this node; their chunks are not checked."""
        other: Format = 2 if folder.tally.zarr_format == 3 else 3
        name = entry.key[len(folder.prefix) :]
        try:
            found = await self._nodes.load(folder.path, (other,))
        except (MetadataError, UnsupportedFeature) as error:
            contradiction(folder, name, str(error), error)
            return
        if found is None or name not in found[1]:
            what = f"a document of Zarr format {other} that describes no node"
            folder.tally.add(Finding(kind="foreign", key=entry.key, what=what))
            return
        for blob in found[1].values():
            self._nodes.totals.read(len(blob.data))

    def _report_progress(self) -> None:
        if self._progress is not None:
            self._progress(self._nodes.totals.progress())


class _Batches:
    """An async iterator over the objects of a walk in batches of one array each; documents are checked here."""

    __slots__ = ("_lock", "_next", "_walk")

    def __init__(self, walk: _Walk) -> None:
        self._walk = walk
        self._lock = Lock()
        self._next: _Item | None = None
        """The first of another array than the last batch."""

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[_Item]:
        batch: list[_Item] = []
        nbytes = 0
        async with self._lock:
            while len(batch) < _BATCH and nbytes < _BATCH_BYTES:
                item, self._next = self._next, None
                if item is None:
                    item = await anext(self._walk, None)
                if item is None:
                    break
                # Documents are few and small: sending them to another process would cost more than reading them.
                if item.position is None:
                    await self._walk.check(item)
                elif batch and item.folder is not batch[0].folder:
                    self._next = item
                    break
                else:
                    batch.append(item)
                    nbytes += item.entry.size
        if not batch:
            raise StopAsyncIteration
        return batch


def _failed(kind: FindingKind, item: _Item, error: ZarrS3Error, chunk: Coords | None) -> Finding:
    return Finding(
        kind=kind,
        key=item.entry.key,
        what=str(error),
        position=item.position,
        chunk=chunk,
        codec=getattr(error, "codec", None),
        error=type(error).__name__,
    )


def _close(folder: Folder) -> None:
    """Report what is missing in a folder whose keys have all been listed."""
    tally = folder.tally
    for name in sorted(folder.claims or ()):
        document = formats.NODE_V3 if tally.zarr_format == 3 else formats.CONSOLIDATED_V2
        contradiction(folder, document, f"its consolidated metadata has {name!r}, and no such node is stored")
    if folder.stored is None or tally.meta is None:
        return
    absent = prod(tally.meta.grid_shape) - tally.objects
    if not absent:
        return
    tally.count("missing", absent)
    for position in islice(folder.stored.absent(), tally.remaining("missing")):
        key, chunk = folder.prefix + tally.meta.object_key(position), _chunk_of(folder, position)
        what = "it is not stored, and reads as the fill value"
        tally.keep(Finding(kind="missing", key=key, what=what, position=position, chunk=chunk))


def _chunk_of(folder: Folder, position: Coords) -> Coords | None:
    """The chunk in the object at a position; None for a shard."""
    meta = folder.tally.meta
    return position if meta is not None and meta.shards is None else None
