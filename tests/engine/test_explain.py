"""`explain` predicts the requests that a store gets: reads and writes, plain and sharded, with any cache state."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
from hypothesis import event, given
from hypothesis import strategies as st

import zarr_s3_async as zs


class Counting(zs.MemoryStore):
    """Counts requests for chunks and shards, and the bytes returned."""

    def __init__(self) -> None:
        super().__init__()
        self.clear()

    def clear(self) -> None:
        self.gets = self.received = self.changes = 0

    async def get(self, key: str, **options: Any) -> Any:  # type: ignore[override]  # handed on as it is
        blob = await super().get(key, **options)
        if key.startswith("c/"):
            self.gets += 1
            self.received += 0 if blob is None else len(blob.data)
        return blob

    async def put(self, key: str, data: Any, **options: Any) -> Any:  # type: ignore[override]  # handed on as it is
        self.changes += key.startswith("c/")
        return await super().put(key, data, **options)


@st.composite
def arrays(draw: st.DrawFn, *, raw: bool) -> dict[str, Any]:
    ndim = draw(st.integers(1, 3))
    shape = tuple(draw(st.integers(1, 9)) for _ in range(ndim))
    chunks = tuple(draw(st.integers(1, 4)) for _ in range(ndim))
    options: dict[str, Any] = {"shape": shape, "chunks": chunks, "dtype": "i4", "fill_value": -1}
    options["compressor"] = None if raw else "zstd"
    form = draw(st.sampled_from(["chunks", "shards", "shards", "shards", "listed shards", "listed chunks"]))
    if form == "shards":
        options["shards"] = tuple(c * draw(st.integers(1, 4)) for c in chunks)
    elif form.startswith("listed"):
        multiples = chunks if form == "listed shards" else (1,) * ndim
        listed = [[c * draw(st.integers(1, 4)) for _ in range(draw(st.integers(1, 3)))] for c in multiples]
        options["shards" if form == "listed shards" else "chunks"] = listed
        options["shape"] = tuple(map(sum, listed))
    return options


@st.composite
def keys(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[str, Any]:
    """An indexer and its key. Views are not created here: a view that is never used warns."""
    match draw(st.sampled_from(["region", "steps", "oindex", "vindex"])):
        case "region":
            low = [draw(st.integers(0, n)) for n in shape]
            return "", tuple(slice(a, draw(st.integers(a, n))) for a, n in zip(low, shape, strict=True))
        case "steps":
            return "", tuple(draw(st.slices(n)) for n in shape)
        case "oindex":
            return "oindex", tuple(draw(st.lists(st.integers(0, n - 1), max_size=5)) for n in shape)
    number = draw(st.integers(1, 6))
    return "vindex", tuple([draw(st.integers(0, n - 1)) for _ in range(number)] for n in shape)


def view_of(array: zs.Array, chosen: tuple[str, Any]) -> zs.View:
    kind, key = chosen
    made: zs.View = getattr(array, kind)[key] if kind else array[key]
    return made


async def check_read(store: Counting, view: zs.View, *, bytes_too: bool = False) -> zs.Explanation:
    explanation = view.explain()
    store.clear()
    await view
    assert explanation.get_requests == store.gets, explanation
    if bytes_too:
        assert store.received == explanation.read_bytes
    return explanation


async def check_write(store: Counting, view: zs.View) -> None:
    explanation = view.explain()
    store.clear()
    await view.set(np.random.default_rng(3).integers(0, 1000, view.shape))
    assert (explanation.merge_get_requests, explanation.put_requests) == (store.gets, store.changes), explanation


LIMITS = st.builds(
    zs.Limits, gap_bytes=st.sampled_from([1, 16, 100, 2**18]), range_bytes=st.sampled_from([64, 200, 2**24])
)


@given(data=st.data(), limits=LIMITS, cached=st.booleans())
def test_explain_is_exact_for_arrays_with_all_their_chunks(
    data: st.DataObject, limits: zs.Limits, cached: bool
) -> None:
    """Raw chunks: exact without cached indexes, with them, and with decoded chunks in the cache."""

    async def run() -> None:
        store, cache = Counting(), zs.CacheSize(chunks=2**20 if cached else 0)
        async with zs.Session(limits=limits, cache=cache) as session:
            array = await session.create_array(store, **data.draw(arrays(raw=True)))
            await array[...].set(np.random.default_rng(1).integers(0, 1000, array.shape))
            chosen = [data.draw(keys(array.shape)) for _ in range(4)]
            await array.refresh()
            view = view_of(array, chosen[0])
            cold = await check_read(store, view, bytes_too=True)
            event(f"exact without an index: {cold.is_exact}")
            assert (await check_read(store, view, bytes_too=True)).is_exact or not cold.is_exact
            await check_read(store, view_of(array, chosen[1]))
            await array.refresh()
            await check_write(store, view_of(array, chosen[2]))
            await check_read(store, view)
            await check_write(store, view_of(array, chosen[3]))
            await check_read(store, array[...])
            await check_write(store, view)

    asyncio.run(run())


@given(data=st.data(), limits=LIMITS)
def test_explain_is_exact_if_it_says_so_for_arrays_that_lack_chunks(data: st.DataObject, limits: zs.Limits) -> None:
    """Compressed chunks, some absent: exact if `is_exact`, which it is when the indexes are cached."""

    async def run() -> None:
        store = Counting()
        async with zs.Session(limits=limits) as session:
            array = await session.create_array(store, **data.draw(arrays(raw=False)))
            await array[...].set(np.random.default_rng(1).integers(0, 1000, array.shape))
            emptied, *chosen = [data.draw(keys(array.shape)) for _ in range(3)]
            await view_of(array, emptied).set(-1)  # whole chunks of fill are not stored
            await array.refresh()
            view, other = (view_of(array, each) for each in chosen)
            if view.explain().is_exact:
                await check_read(store, view)
            else:
                await view
            if view.explain().is_exact:
                await check_read(store, view)
            explanation = other.explain()
            if explanation.is_exact and await all_stored(store, array):
                await check_write(store, other)

    asyncio.run(run())


async def all_stored(store: Counting, array: zs.Array) -> bool:
    """Whether all objects are stored: a merge with an absent object takes one GET less."""
    found = [entry async for entry in store.list_prefix("c/")]
    return len(found) == int(np.prod(array.metadata.grid_shape))
