"""A few elements of a large uncompressed chunk are read by byte ranges: number of requests, bytes, and results."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from hypothesis import event, given
from hypothesis import strategies as st

import zarr_s3_async as zs
from zarr_s3_async._engine import elements, ranges

from .counting import Counting

MIB = 2**20
LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
BIG = {"name": "bytes", "configuration": {"endian": "big"}}


SHAPE = (64, 1024, 256)
DATA = np.arange(np.prod(SHAPE), dtype="<u4").reshape(SHAPE)


@pytest.fixture(scope="module")
def body() -> bytes:
    """One chunk of 64 MiB."""
    return DATA.tobytes()


async def stored(session: zs.Session, store: Counting, body: Any, **options: Any) -> zs.Array:
    """An array of one chunk of 64 MiB, whose object is stored directly."""
    array = await session.create_array(
        store, **{"shape": SHAPE, "chunks": SHAPE, "dtype": "<u4", "compressor": None, **options}
    )
    await store.put(array.metadata.object_key((0,) * array.ndim), body)
    store.clear()
    return array


@pytest.mark.parametrize(
    ("key", "requests", "nbytes"),
    [
        (np.s_[7, 100, :], 1, 1024),  # a row
        (np.s_[:, 100, 9], 64, 256),  # a column
        (np.s_[7], 1, MIB),  # a contiguous plane
        (np.s_[:, 100, :], 64, 64 * 1024),  # a plane with one row in each of the others
        (np.s_[7, 100, 9], 1, 4),  # a point
        (np.s_[7:9, 100:102, 3:5], 2, 2 * 2048),  # fetching the rest of two rows costs less than another request
        (np.s_[7, :, 9], 1, MIB),  # a column with one element in every row of a plane
        (np.s_[0:4, :, 9], 1, 4 * MIB),
        (np.s_[:, 100:164, 9], 64, 64 * 64 * 1024),
        (np.s_[0:8, :, ::2], 1, 8 * MIB),
        (np.s_[:, ::64, 9], 1024, 4096),
        (np.s_[..., 9], 1, 64 * MIB),  # 65,536 ranges would save 1 KiB each: the whole chunk is read
    ],
    ids=[
        "row", "column", "plane", "plane across", "point", "block",
        "dense column", "dense planes", "dense pieces", "every other", "steps", "too dense",
    ],
)  # fmt: skip
async def test_a_read_of_few_elements_transfers_only_their_ranges(
    session: zs.Session, body: bytes, key: Any, requests: int, nbytes: int
) -> None:
    store = Counting()
    array = await stored(session, store, body)
    explanation = array.explain(key)
    np.testing.assert_array_equal(await array[key], DATA[key])
    assert (len(store.gets), store.received) == (requests, nbytes)
    assert (explanation.get_requests, explanation.read_bytes) == (requests, nbytes)
    assert explanation.dense_chunks == (nbytes == 64 * MIB)
    assert ("read whole for few elements: 1 uncompressed chunks" in str(explanation)) == (nbytes == 64 * MIB)


async def test_elements_selected_by_coordinates_are_read_by_ranges(session: zs.Session, body: bytes) -> None:
    """More points of one plane than the limit of ranges: the plane is read. Distant points: one range each."""
    store = Counting()
    array = await stored(session, store, body)
    mask = np.zeros(SHAPE, bool)
    mask[7, :, ::2] = True
    np.testing.assert_array_equal(await array.vindex[mask], DATA[mask])
    assert (len(store.gets), store.received) == (1, MIB - 4)
    store.clear()
    np.testing.assert_array_equal(await array.oindex[[1, 9, 8], :, [4, 2]], DATA[[1, 9, 8]][..., [4, 2]])
    assert (len(store.gets), store.received) == (2, 3 * MIB)


async def test_a_column_of_a_square_chunk_does_not_transfer_all_of_it(session: zs.Session, body: bytes) -> None:
    store = Counting()
    array = await stored(session, store, body, shape=(4096, 4096), chunks=(4096, 4096))
    np.testing.assert_array_equal(await array[:, 5], DATA.reshape(4096, 4096)[:, 5])
    assert store.received == 4096 * 4
    np.testing.assert_array_equal(
        await array.vindex[[9, 4000, 9], [1, 2, 1]], DATA.reshape(4096, 4096)[[9, 4000, 9], [1, 2, 1]]
    )
    assert store.received == 4098 * 4


async def test_elements_of_a_chunk_inside_a_shard_are_read_by_ranges(session: zs.Session, body: bytes) -> None:
    """The index is read, then the ranges, pinned to the index's version."""
    store = Counting()
    array = await session.create_array(
        store, shape=(2, *SHAPE), chunks=(1, *SHAPE), shards=(2, *SHAPE), dtype="<u4", compressor=None
    )
    await array[...].set(np.stack([DATA, DATA + 1]))
    await array.refresh()
    store.clear()
    explanation = array.explain(np.s_[1, :, 100, 9])
    np.testing.assert_array_equal(await array[1, :, 100, 9], DATA[:, 100, 9] + 1)
    assert len(store.gets) == explanation.get_requests == 65
    assert store.received == explanation.read_bytes == 256 + 2 * 16 + 4


async def test_small_and_cached_chunks_are_read_whole(body: bytes) -> None:
    store = Counting()
    async with zs.Session() as session:
        array = await session.create_array(store, shape=(256, 256), chunks=(256, 256), dtype="<u4", compressor=None)
        await array[...].set(1)
        store.clear()
        await array[5]
        assert store.gets == [None]
    async with zs.Session(cache=zs.CacheSize(chunks=2**28)) as session:
        cached = await stored(session, Counting(), body)
        assert cached.explain(np.s_[7, 100, 9]).read_bytes == 64 * MIB


@pytest.mark.parametrize(
    "key", [np.s_[7], np.s_[7:500:100], np.s_[:, ::2]], ids=["one range", "many ranges", "whole chunks"]
)
async def test_the_ranges_of_each_object_are_computed_once(
    session: zs.Session, monkeypatch: pytest.MonkeyPatch, key: Any
) -> None:
    array = await session.create_array(
        zs.MemoryStore(), shape=(512, 1024), chunks=(512, 256), dtype="<u4", compressor=None
    )
    data = np.arange(512 * 1024, dtype="<u4").reshape(512, 1024)
    await array[...].set(data)
    chosen, choose = [], elements.Elements.choose
    monkeypatch.setattr(elements.Elements, "choose", lambda self, parts: chosen.append(parts) or choose(self, parts))
    np.testing.assert_array_equal(await array[key], data[key])
    assert len(chosen) == array.explain(key).objects


CODECS: dict[str, dict[str, Any]] = {
    "little": {"codecs": [LITTLE]},
    "big": {"codecs": [BIG]},
    "F": {"codecs": [LITTLE], "order": "F"},
    "turned": {"codecs": [{"name": "transpose", "configuration": {"order": [1, 2, 0]}}, BIG]},
    "turned twice": {
        "codecs": [
            {"name": "transpose", "configuration": {"order": [1, 2, 0]}},
            {"name": "transpose", "configuration": {"order": [2, 1, 0]}},
            LITTLE,
        ]
    },
    "v2": {"zarr_format": 2, "compressor": None},
    "v2 F": {"zarr_format": 2, "compressor": None, "order": "F", "dtype": ">i4"},
    "records": {"codecs": [LITTLE], "dtype": [("a", "<i2"), ("b", "<f8")]},
    "shards": {"codecs": [BIG], "shards": True},
    "turned in shards": {"codecs": [{"name": "transpose", "configuration": {"order": [2, 0, 1]}}, BIG], "shards": True},
}


@st.composite
def keys(draw: st.DrawFn, shape: tuple[int, ...]) -> tuple[str, Any]:
    match draw(st.sampled_from(["basic", "basic", "oindex", "vindex"])):
        case "basic":
            return "basic", tuple(draw(st.integers(0, n - 1) | st.slices(n)) for n in shape)
        case "oindex":
            return "oindex", tuple(
                draw(st.integers(0, n - 1) | st.slices(n) | st.lists(st.integers(0, n - 1), max_size=4)) for n in shape
            )
    number = draw(st.integers(1, 5))
    return "vindex", tuple([draw(st.integers(0, n - 1)) for _ in range(number)] for n in shape)


class OfAnyKey(zs.MemoryStore):
    """Counts gets of chunks and their bytes, for any key encoding."""

    gets = received = 0

    async def get(self, key: str, **options: Any) -> Any:  # type: ignore[override]  # handed on as it is
        blob = await super().get(key, **options)
        if not key.startswith((".z", "zarr.json")):
            self.gets += 1
            self.received += 0 if blob is None else len(blob.data)
        return blob


@given(data=st.data(), name=st.sampled_from(list(CODECS)), gap=st.sampled_from([1, 20, 100]))
def test_any_selection_of_an_uncompressed_array_equals_numpys_and_costs_what_explain_predicts(
    data: st.DataObject, name: str, gap: int
) -> None:
    """The result equals NumPy's, and the cost equals `explain`, which is the same with and without a cached index."""

    async def run() -> None:
        store = OfAnyKey()
        options = {"dtype": "<i4", **CODECS[name]}
        chunks = tuple(data.draw(st.integers(2, 6)) for _ in range(3))
        if options.pop("shards", False):
            options["shards"] = tuple(2 * n for n in chunks)
        shape = tuple(data.draw(st.integers(1, 12)) for _ in range(3))
        async with zs.Session(limits=zs.Limits(gap_bytes=gap)) as session:
            array = await session.create_array(store, shape=shape, chunks=chunks, write_empty_chunks=True, **options)
            mirror = np.zeros(shape, array.dtype)
            mirror.view(np.uint8).reshape(-1)[:] = np.random.default_rng(2).integers(1, 100, mirror.nbytes)
            await array[...].set(mirror)
            for _ in range(3):
                await array.refresh() if data.draw(st.booleans()) else None
                kind, key = data.draw(keys(shape))
                view = array[key] if kind == "basic" else getattr(array, kind)[key]
                explanation = view.explain()
                store.gets = store.received = 0
                got = await view
                assert (store.gets, store.received) == (explanation.get_requests, explanation.read_bytes), explanation
                event(f"ranges: {explanation.read_bytes < explanation.decoded_bytes}")
                np.testing.assert_array_equal(got, expected(mirror, kind, key))

    with pytest.MonkeyPatch.context() as patch:
        per_request = data.draw(st.sampled_from([1, 16]))
        for module in (elements, ranges):
            patch.setattr(module, "REQUEST_BYTES", per_request)
        asyncio.run(run())


def expected(mirror: np.ndarray[Any, Any], kind: str, key: Any) -> Any:
    if kind != "oindex":
        return mirror[key]
    axis = 0
    for item in key:
        mirror = mirror[(slice(None),) * axis + (np.array(item, int) if isinstance(item, list) else item,)]
        axis += not isinstance(item, int)
    return mirror


async def test_all_ranges_of_a_read_are_of_one_version(session: zs.Session, body: bytes) -> None:
    """A chunk that is rewritten after the first range is read again: never a mix of two versions."""
    store = Counting()
    array = await stored(session, store, body)

    async def rewrite() -> None:
        await store.put("c/0/0/0", (DATA + 1).tobytes())

    store.before_range = rewrite
    np.testing.assert_array_equal(await array[:, 100, 9], DATA[:, 100, 9] + 1)


async def test_a_chunk_that_is_always_rewritten_is_read_whole(session: zs.Session, body: bytes) -> None:
    """A single request returns one version, however often others write."""
    store = Counting()
    array = await stored(session, store, body)

    async def rewrite() -> None:
        await store.put("c/0/0/0", body)
        store.before_range = rewrite

    store.before_range = rewrite
    np.testing.assert_array_equal(await array[:, 100, 9], DATA[:, 100, 9])
    assert store.gets[-1] is None


@pytest.mark.parametrize("size", [0, 1, 300, 64 * MIB - 1, 64 * MIB + 1])
async def test_a_range_of_an_object_of_another_size_is_an_error(session: zs.Session, body: bytes, size: int) -> None:
    store = Counting()
    array = await stored(session, store, (body + b"\0")[:size])
    for key in (np.s_[0, 0, 0], np.s_[:, 100, 9], np.s_[63, 1023]):
        with pytest.raises(zs.ChunkDecodeError):
            await array[key]


async def test_an_absent_chunk_is_fill_or_an_error_as_requested_for_ranges(session: zs.Session) -> None:
    for options in ({"chunks": SHAPE}, {"chunks": SHAPE, "shards": (128, *SHAPE[1:])}):
        array = await session.create_array(
            zs.MemoryStore(), shape=(128, *SHAPE[1:]), dtype="<u4", compressor=None, fill_value=7, **options
        )
        assert (await array[:, 100, 9]).tolist() == [7] * 128
        with pytest.raises(zs.ChunkNotFound, match=r"\(0, 0, 0\)"):
            await array[:64, 100, 9].get(missing="raise")


async def test_cancelled_reads_release_their_leases(session: zs.Session, body: bytes) -> None:
    store = Counting()
    array = await stored(session, store, body)
    stuck = asyncio.Event()

    async def wait() -> None:
        stuck.set()
        await asyncio.Event().wait()

    store.before_range = wait
    task = asyncio.create_task(array[:, 100, 9].get())
    await stuck.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert session._leases.held == 0
