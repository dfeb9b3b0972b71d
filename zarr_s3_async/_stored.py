"""The stored objects of an array, from a listing: which objects exist, their sizes, and which are missing."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from math import prod
from types import MappingProxyType
from typing import Any

import numpy as np

from ._concurrency.workers import run_workers
from ._engine.explain import si
from ._engine.read import chunk_of
from ._engine.runtime import Layout, Runtime
from ._engine.shards import ShardedChunks
from ._grid import grid_shape, place
from ._model.keys import is_inside
from ._model.metadata import ArrayMeta
from ._notebook import facts_html, grid_html
from ._types import Coords, Shape, Version
from .errors import SelectionError
from .stores.base import Entry, Store, parse_modified
from .stores.optional import list_pages


@dataclass(frozen=True, slots=True)
class StoredObject:
    """One object of an array: a chunk, or a shard."""

    coords: Coords
    """Its position in the grid of stored objects."""
    entry: Entry
    """The entry of the store's listing."""

    @property
    def key(self) -> str:
        """Relative to the store's root."""
        return self.entry.key

    @property
    def size(self) -> int:
        """Stored bytes."""
        return self.entry.size

    @property
    def version(self) -> Version:
        """Pass it to `put_chunk` or `erase_chunk` to change the object only if it is unchanged since."""
        return self.entry.version

    @property
    def modified(self) -> datetime | None:
        """Time of the last change, in UTC; None if the store does not report it."""
        return parse_modified(self.entry.modified)


class StoredChunks(Mapping[Coords, StoredObject]):
    """The objects of an array that exist, as `Array.stored_chunks` returns them.

    A mapping from positions in the grid of stored objects to `StoredObject`, in the order of the listing. Notebooks
    show it as a picture of the grid.
    """

    def __init__(
        self,
        url: str,
        grid: Shape,
        objects: Mapping[Coords, StoredObject],
        decoded_nbytes: int | None,
        chunk_grid: Shape,
        chunks: Mapping[Coords, int] | None,
    ) -> None:
        """
        Args:
            url: URL of the array.
            grid: Objects per dimension.
            objects: The objects that exist, by position.
            decoded_nbytes: Decoded bytes of their chunks; None if elements have no fixed size.
            chunk_grid: Chunks per dimension.
            chunks: Encoded bytes of the chunks that exist, by position; None if not known.
        """
        self.url: str = url
        self.grid: Shape = grid
        """Objects per dimension: shards, or chunks if the array has no shards."""
        self.chunk_grid: Shape = chunk_grid
        """Chunks per dimension."""
        self.chunks: Mapping[Coords, int] | None = chunks
        """Encoded bytes of each chunk that exists, by its position in the grid of chunks. None if the array has shards
        and their indexes were not read (`inner=False`)."""
        self.nbytes: int = sum(one.size for one in objects.values())
        """Stored bytes of all objects."""
        self.decoded_nbytes: int | None = decoded_nbytes
        """Decoded bytes of the chunks in these objects. Shards whose indexes were not read count as if they held all
        their chunks. None if elements have no fixed size."""
        self._objects = objects

    def __getitem__(self, coords: Coords) -> StoredObject:
        return self._objects[coords]

    def __iter__(self) -> Iterator[Coords]:
        return iter(self._objects)

    def __len__(self) -> int:
        return len(self._objects)

    @property
    def n_objects(self) -> int:
        """Number of objects in the array's grid, stored or not; `len()` is the number that exist."""
        return prod(self.grid)

    @property
    def ratio(self) -> float | None:
        """Decoded bytes divided by stored bytes; None if nothing is stored or the decoded bytes are not known."""
        return self.decoded_nbytes / self.nbytes if self.nbytes and self.decoded_nbytes is not None else None

    @property
    def bitmap(self) -> np.ndarray[Any, np.dtype[np.bool_]]:
        """True for each object that exists, in the shape of `grid`. Computed at each access; one byte per object."""
        return _bitmap(self.grid, self._objects)

    @property
    def chunk_bitmap(self) -> np.ndarray[Any, np.dtype[np.bool_]] | None:
        """True for each chunk that exists, in the shape of `chunk_grid`; None if `chunks` is None."""
        return None if self.chunks is None else _bitmap(self.chunk_grid, self.chunks)

    def __repr__(self) -> str:
        return f"<StoredChunks of {self.url}: {self}>"

    def __str__(self) -> str:
        share = len(self) / self.n_objects if self.n_objects else 1.0
        decoded = "" if self.decoded_nbytes is None else f" for {si(self.decoded_nbytes)} decoded"
        ratio = "" if self.ratio is None else f", ratio {self.ratio:.2f}"
        inner = "" if self.chunks is None or self.grid == self.chunk_grid else f", {len(self.chunks):,} chunks in them"
        return f"{len(self):,} of {self.n_objects:,} objects ({share:.1%}){inner}, {si(self.nbytes)}{decoded}{ratio}"

    def _repr_html_(self) -> str:
        """HTML for notebooks: the numbers, and a picture of the grid of chunks, or of objects if those are unknown."""
        facts: list[tuple[str, object]] = [
            ("objects", f"{len(self):,} of {self.n_objects:,}"),
            *([] if self.chunks is None else [("chunks", f"{len(self.chunks):,} of {prod(self.chunk_grid):,}")]),
            ("bytes", f"{self.nbytes:,}"),
            *([] if self.decoded_nbytes is None else [("decoded bytes", f"{self.decoded_nbytes:,}")]),
            *([] if self.ratio is None else [("ratio", f"{self.ratio:.2f}")]),
        ]
        picture = grid_html(self.grid, self) if self.chunks is None else grid_html(self.chunk_grid, self.chunks)
        return facts_html(f"Stored chunks of {self.url}", facts, picture)


def _bitmap(grid: Shape, present: Mapping[Coords, object]) -> np.ndarray[Any, np.dtype[np.bool_]]:
    bitmap = np.zeros(grid, bool)
    for coords in present:
        bitmap[coords] = True
    return bitmap


async def list_objects(store: Store, path: str, meta: ArrayMeta) -> AsyncIterator[list[tuple[Coords, Entry]]]:
    """List the objects of an array, one page at a time: one request per 1,000 keys.

    Raises:
        Unsupported: The store cannot list.
        AccessDenied: The credentials lack permission to list.
    """
    prefix = f"{path}/" if path else ""
    async for page in list_pages(store, prefix):
        found = ((meta.classify_key(entry.key.removeprefix(prefix)), entry) for entry in page)
        yield [(key.coords, entry) for key, entry in found if key.kind == "chunk" and key.coords is not None]


async def list_chunks(runtime: Runtime, path: str, layout: Layout, *, inner: bool) -> StoredChunks:
    """See `Array.stored_chunks`."""
    meta, limit = layout.meta, runtime.limits.max_chunks_per_call
    objects: dict[Coords, StoredObject] = {}
    async for page in list_objects(runtime.store, path, meta):
        objects.update((coords, StoredObject(coords, entry)) for coords, entry in page)
        _check_limit(layout, len(objects), limit)
    chunks: dict[Coords, int] | None = None
    if meta.shards is None:
        chunks = {coords: stored.size for coords, stored in objects.items()}
    elif inner:
        chunks = await _inner_chunks(runtime, layout, list(objects))
    return StoredChunks(
        layout.url,
        meta.grid_shape,
        MappingProxyType(objects),
        None if meta.dtype.hasobject else _decoded_nbytes(layout, objects, chunks),
        grid_shape(layout.chunk_axes, meta.shape),
        None if chunks is None else MappingProxyType(chunks),
    )


def _check_limit(layout: Layout, n: int, limit: int) -> None:
    if n > limit:
        raise SelectionError(
            f"more than {limit:,} chunks of {layout.url} are stored (Limits.max_chunks_per_call): raise the limit; "
            "each takes about 500 bytes of memory"
        )


async def _inner_chunks(runtime: Runtime, layout: Layout, shards: list[Coords]) -> dict[Coords, int]:
    """Encoded bytes of the chunks in these shards, by position. Sends one request per shard, for its index."""
    chunks: dict[Coords, int] = {}
    limit, grid = runtime.limits.max_chunks_per_call, grid_shape(layout.chunk_axes, layout.meta.shape)

    async def read_index(coords: Coords) -> None:
        shard = layout.at(coords)
        assert isinstance(shard.chunks, ShardedChunks)  # noqa: S101  # the array has shards
        key = shard.chunks.locate(coords)
        # Encoded and decoded index; small ones are not counted against the memory limit.
        lease = 2 * shard.chunks.index_nbytes if shard.has_big_index else 0
        await runtime.leases.acquire(lease)
        try:
            sizes = await shard.chunks.sizes(key)
        finally:
            runtime.leases.release(lease)
        found = ((chunk_of(shard, coords, slot), size) for slot, size in sizes.items())
        chunks.update(
            (at, size) for at, size in found if is_inside(at, grid)
        )  # a shard may hold chunks beyond the array's edge
        _check_limit(layout, len(chunks), limit)

    await run_workers(min(runtime.limits.requests, len(shards)), iter(shards), read_index)
    return chunks


def _decoded_nbytes(layout: Layout, objects: Mapping[Coords, object], chunks: Mapping[Coords, int] | None) -> int:
    meta = layout.meta
    if chunks is not None and meta.shards is not None:
        return len(chunks) * layout.pipeline.nbytes
    if meta.edges is None:
        return len(objects) * meta.object_nbytes
    shapes = ([place(axis, at)[1] for axis, at in zip(meta.edges, coords, strict=True)] for coords in objects)
    return sum(map(prod, shapes)) * meta.dtype.itemsize
