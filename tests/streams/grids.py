"""Strategies for arrays of every kind, and stores that count and block, for the tests of this folder."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import numpy as np
from hypothesis import strategies as st

import zarr_s3_async as zs
from zarr_s3_async._types import Shape, Version
from zarr_s3_async.testing.strategies import contents, dtypes, grids, shards_for

CODECS: tuple[Any, ...] = ("auto", None, "gzip", {"id": "blosc", "cname": "lz4"}, {"id": "zlib", "level": 1})


@st.composite
def arrays(draw: st.DrawFn, *, min_dims: int = 0, max_side: int = 9) -> tuple[np.ndarray[Any, Any], dict[str, Any]]:
    """Data and the options of an array for it: both formats, shards, codecs, orders, fill values."""
    shape, chunks = draw(grids(min_dims=min_dims, max_side=max_side, max_chunks=40))
    dtype = draw(dtypes())
    zarr_format = draw(st.sampled_from((2, 3)))
    options: dict[str, Any] = {
        "chunks": chunks,
        "dtype": dtype,
        "shape": shape,
        "zarr_format": zarr_format,
        "compressor": draw(st.sampled_from(CODECS)),
        "order": draw(st.sampled_from("CF")),
        "write_empty_chunks": draw(st.booleans()),
    }
    if zarr_format == 3 and draw(st.booleans()):
        options["shards"] = draw(shards_for(chunks, max_factor=3))
    if zarr_format == 3 and "shards" not in options and shape and min(shape) and draw(st.integers(0, 3)) == 0:
        options["chunks"] = [draw(lengths(side)) for side in shape]  # a rectilinear grid
    data = draw(contents(shape, dtype))
    if data.size and draw(st.booleans()):
        fill = data.reshape(-1)[0]
        if np.dtype(dtype).kind in "fc" and np.isnan(fill):
            # Zarr v2, to which a test may convert the array, has only one NaN: other bits are refused there.
            fill = fill.dtype.type(complex(np.nan, np.nan) if fill.dtype.kind == "c" else np.nan)
        options["fill_value"] = fill
    return data, options


def lengths(side: int) -> st.SearchStrategy[list[int]]:
    """Chunk lengths that cover an axis."""
    cuts = st.sets(st.integers(1, max(1, side - 1)), max_size=4)
    return cuts.map(lambda cuts: np.diff([0, *sorted(cut for cut in cuts if cut < side), side]).tolist())


def regions(shape: Shape) -> st.SearchStrategy[tuple[slice, ...]]:
    """Regions of an array of this shape, empty ones among them."""

    def one(side: int) -> st.SearchStrategy[slice]:
        bounds = st.tuples(st.integers(0, side), st.integers(0, side))
        return bounds.map(lambda pair: slice(min(pair), max(pair)))

    return st.tuples(*map(one, shape))


def same(one: np.ndarray[Any, Any], other: np.ndarray[Any, Any]) -> bool:
    """Equal bit by bit, whatever the byte order."""
    if one.shape != other.shape:
        return False
    return one.astype(other.dtype).tobytes() == other.tobytes()


class Counting(zs.MemoryStore):
    """Counts gets and puts by key; `before` is awaited before each of them, and may raise."""

    __slots__ = ("before", "deleted", "gets", "puts", "running")

    def __init__(self, name: str | None = None) -> None:
        super().__init__(name)
        self.gets: Counter[str] = Counter()
        self.puts: Counter[str] = Counter()
        self.deleted: Counter[str] = Counter()
        self.running = 0
        self.before: Any = None

    async def get(self, key: str, **options: Any) -> Any:  # type: ignore[override]  # handed on as it is
        self.gets[key] += 1
        async with self._in_flight("get", key):
            return await super().get(key, **options)

    async def put(self, key: str, data: Any, **options: Any) -> Version:  # type: ignore[override]  # handed on
        async with self._in_flight("put", key):
            version = await super().put(key, data, **options)
        self.puts[key] += 1
        return version

    async def delete(self, key: str, **options: Any) -> None:  # type: ignore[override]  # handed on
        self.deleted[key] += 1
        await super().delete(key, **options)

    @asynccontextmanager
    async def _in_flight(self, what: str, key: str) -> AsyncIterator[None]:
        self.running += 1
        try:
            if self.before is not None:
                await self.before(what, key)
            await asyncio.sleep(0)
            yield
        finally:
            self.running -= 1

    def chunk_gets(self) -> list[int]:
        """Number of gets of each chunk or shard."""
        return [n for key, n in self.gets.items() if not key.rpartition("/")[2].startswith((".z", "zarr.json"))]

    def clear(self) -> None:
        self.gets.clear()
        self.puts.clear()
        self.deleted.clear()


def nothing_left(session: zs.Session, *stores: Counting) -> None:
    """Check that no task, request or lease is left."""
    assert session._leases.held == 0
    assert all(store.running == 0 for store in stores)
    others = asyncio.all_tasks() - {asyncio.current_task()}
    assert not others, others
