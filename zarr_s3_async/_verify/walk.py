"""The walk: one listing names every object, page by page, and a crew reads what a page names.

What it remembers is the way to the keys at hand and a tally per node: a grid of any size costs what is stored of it.
"""

from __future__ import annotations

from asyncio import Lock
from collections import deque
from collections.abc import AsyncIterator, Sequence
from itertools import islice
from math import prod
from time import perf_counter
from typing import NamedTuple, Self

from .._concurrency.workers import gather_all, run_workers_async
from .._engine.runtime import Runtime
from .._model import formats
from .._options import check_count, check_flag
from .._types import Coords
from ..errors import (
    ChecksumMismatch,
    MetadataError,
    NodeNotFound,
    StoreError,
    UnsupportedFeature,
    ZarrS3Error,
)
from ..stores.base import PROBE, Entry
from ..stores.local.files import TEMPORARY
from .nodes import FATAL, Format, Nodes, contradiction
from .places import Place
from .report import Finding, FindingKind, OnProgress, VerifyReport

_PAGE = 1000
"""Keys that are looked at gather_all: a page of S3's listing."""
_OURS = (PROBE, TEMPORARY)
"""How file names begin that this library makes for itself, and takes away again unless it is killed."""
_DOCUMENTS = frozenset((*formats.document_names(None), formats.CONSOLIDATED_V2))


async def verify(
    runtime: Runtime,
    path: str,
    zarr_format: Format | None,
    *,
    strict: bool,
    most: int,
    progress: OnProgress | None,
) -> VerifyReport:
    """See `Session.verify`."""
    runtime.guard()
    check_flag("strict", strict)
    check_count("most", most, least=0)
    started, nodes = perf_counter(), Nodes(runtime, most)
    root = await nodes.node_at(path, None, (zarr_format,) if zarr_format else (3, 2))
    if root is None:
        url = nodes.url(path)
        raise NodeNotFound(f"no array and no group is stored at {url}; check the URL and the path", url=url, path=path)
    walk = _Walk(runtime, nodes, root, progress)
    await run_workers_async(runtime.limits.requests, walk, walk.check)
    return VerifyReport(
        url=nodes.url(path),
        strict=strict,
        nodes=tuple(tally.report() for tally in sorted(nodes.tallies, key=lambda tally: tally.path.split("/"))),
        objects=nodes.cost.objects,
        nbytes=nodes.cost.nbytes,
        seconds=perf_counter() - started,
    )


class _Item(NamedTuple):
    """An object to read."""

    place: Place
    entry: Entry
    position: Coords | None
    """In the array's grid; None for a document."""


class _Walk:
    """As an iterator it gives what is to be read; many workers may await it at once."""

    __slots__ = ("_ended", "_filling", "_keys", "_nodes", "_places", "_progress", "_ready", "_root", "_runtime")

    def __init__(self, runtime: Runtime, nodes: Nodes, root: Place, progress: OnProgress | None) -> None:
        self._runtime = runtime
        self._nodes = nodes
        self._root = root
        self._progress = progress
        self._places: dict[str, Place] = {}
        """Folders that the keys at hand lie in, by path."""
        self._keys: AsyncIterator[Entry] = runtime.store.list_prefix(root.prefix)
        self._ready: deque[_Item] = deque()
        self._filling = Lock()
        self._ended = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> _Item:
        while not (self._ended and not self._ready):
            # One fills, early enough that the others have work meanwhile; who has none waits for the lock.
            if not self._ready or (self._is_low() and not self._filling.locked()):
                async with self._filling:
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
            page.append(entry)
            if len(page) == _PAGE:
                break
        self._nodes.cost.listed += len(page)
        await self._learn(page)
        for entry in page:
            self._sort_out(entry)
        is_last = len(page) < _PAGE
        self._leave(None if is_last else page[-1].key)
        self._ended = is_last
        self._tell()

    async def _learn(self, page: Sequence[Entry]) -> None:
        """Find out what the folders of these keys are, level by level."""
        while unknown := {folder: place for place, folder in map(self._way, page) if folder is not None}:
            folders = iter(unknown.items())
            while some := list(islice(folders, self._runtime.limits.requests)):
                places = await gather_all(*(self._nodes.look(path, above) for path, above in some))
                self._places.update({place.path: place for place in places})

    def _way(self, entry: Entry) -> tuple[Place, str | None]:
        """The deepest place that is known above a key, and the folder below it to find out about, if any."""
        place = self._root
        while place.descends and (folder := place.folder_of(entry.key)) is not None:
            below = self._places.get(folder)
            if below is None:
                return place, folder
            place = below
        return place, None

    def _leave(self, key: str | None) -> None:
        """Forget the folders that lie behind this key. Keys are sorted: those of one folder follow one another."""
        behind = [place for place in self._places.values() if key is None or not place.is_above(key)]
        for place in behind:
            del self._places[place.path]
            _close(place)
        if key is None:
            _close(self._root)

    # Keys

    def _sort_out(self, entry: Entry) -> None:
        """Let the crew read it, or tell why it is nothing to read."""
        place, _ = self._way(entry)
        tally, name = place.tally, entry.key[len(place.prefix) :]
        if name.rpartition("/")[2].startswith(_OURS):
            what = "this library left it when it was killed; it may be deleted"
            tally.add(Finding(kind="leftover", key=entry.key, what=what))
        elif place.is_node and name in _DOCUMENTS:
            self._sort_out_document(place, entry, name)
        elif tally.meta is not None:
            self._sort_out_chunk(place, entry, name)
        elif tally.kind == "unreadable":
            tally.unchecked += 1
        else:
            what = "a group holds no objects of its own" if place.is_node else "no array and no group is there"
            tally.add(Finding(kind="foreign", key=entry.key, what=what))

    def _sort_out_document(self, place: Place, entry: Entry, name: str) -> None:
        tally = place.tally
        if name in place.documents or tally.kind == "unreadable":
            return  # it was read to learn what the node is
        if name == formats.NODE_V3 or tally.zarr_format == 3:
            if not place.is_beside:  # the first document of the other format; its like are read along
                place.is_beside = True
                self._ready.append(_Item(place, entry, None))
            return
        what = f"a document that says nothing of this {tally.kind} of Zarr format 2"
        tally.add(Finding(kind="foreign", key=entry.key, what=what))

    def _sort_out_chunk(self, place: Place, entry: Entry, name: str) -> None:
        tally = place.tally
        assert tally.meta is not None  # noqa: S101  # it is an array
        assert place.seen is not None  # noqa: S101  # likewise
        found = tally.meta.classify_key(name)
        if found.kind != "chunk":
            tally.add(Finding(kind=found.kind, key=entry.key, what=found.why, position=found.coords))
            return
        assert found.coords is not None  # noqa: S101  # a chunk has them
        tally.objects += 1
        place.seen.add(found.coords)
        if place.objects is None:
            tally.unchecked += 1
        else:
            self._ready.append(_Item(place, entry, found.coords))

    # Objects

    async def check(self, item: _Item) -> None:
        """Read it, and tell what is wrong with it."""
        place, entry, position = item
        try:
            if position is None:
                await self._check_document(place, entry)
            else:
                await self._check_object(place, entry, position)
        except StoreError as error:
            if isinstance(error, FATAL):
                raise
            kind: FindingKind = "corrupt" if isinstance(error, ChecksumMismatch) else "unreadable"
            chunk = None if position is None else _chunk_of(place, position)
            place.tally.add(_failed(kind, item, error, chunk))
        self._tell()

    async def _check_object(self, place: Place, entry: Entry, position: Coords) -> None:
        assert place.objects is not None  # noqa: S101  # else it was not made an item
        checked, tally = await place.objects.read(entry, position), place.tally
        if checked is not None and checked.bad:  # on its way, perhaps: what is corrupt is so twice
            checked = await place.objects.read(entry, position)
        if checked is None:
            what, chunk = "it was listed, and gone when it was to be read", _chunk_of(place, position)
            tally.add(Finding(kind="missing", key=entry.key, what=what, position=position, chunk=chunk))
            return
        self._nodes.cost.read(checked.nbytes)
        tally.nbytes += checked.nbytes
        tally.chunks += checked.chunks
        tally.unused += checked.unused
        for chunk, error in checked.bad:
            tally.add(_failed("corrupt", _Item(place, entry, position), error, chunk))
        tally.count("missing", len(checked.absent))
        for absent in checked.absent[: tally.room("missing")]:
            what, chunk = "its shard does not hold it, and it reads as the fill value", tuple(map(int, absent))
            tally.keep(Finding(kind="missing", key=entry.key, what=what, position=position, chunk=chunk))

    async def _check_document(self, place: Place, entry: Entry) -> None:
        """Documents of the other format, side by side with this one, must read too; its chunks are none of this."""
        other: Format = 2 if place.tally.zarr_format == 3 else 3
        name = entry.key[len(place.prefix) :]
        try:
            found = await self._nodes.load(place.path, (other,))
        except (MetadataError, UnsupportedFeature) as error:
            contradiction(place, name, str(error), error)
            return
        if found is None or name not in found[1]:
            what = f"a document of Zarr format {other} that describes no node"
            place.tally.add(Finding(kind="foreign", key=entry.key, what=what))
            return
        for blob in found[1].values():
            self._nodes.cost.read(len(blob.data))

    def _tell(self) -> None:
        if self._progress is not None:
            self._progress(self._nodes.cost.progress())


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


def _close(place: Place) -> None:
    """Nothing more comes of this folder: tell what did not come."""
    tally = place.tally
    for name in sorted(place.claims or ()):
        document = formats.NODE_V3 if tally.zarr_format == 3 else formats.CONSOLIDATED_V2
        contradiction(place, document, f"its consolidated metadata has {name!r}, and no such node is stored")
    if place.seen is None or tally.meta is None:
        return
    absent = prod(tally.meta.grid_shape) - tally.objects
    if not absent:
        return
    tally.count("missing", absent)
    for position in islice(place.seen.absent(), tally.room("missing")):
        key, chunk = place.prefix + tally.meta.object_key(position), _chunk_of(place, position)
        what = "it is not stored, and reads as the fill value"
        tally.keep(Finding(kind="missing", key=key, what=what, position=position, chunk=chunk))


def _chunk_of(place: Place, position: Coords) -> Coords | None:
    """The chunk that the object there is, where it is one alone."""
    meta = place.tally.meta
    return position if meta is not None and meta.shards is None else None
