"""BatchLoader inside an event loop: the contents and the order of batches, and how an epoch is resumed from a state."""

from __future__ import annotations

import asyncio
import json
import math
from typing import Any
from unittest import mock

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

import zarr_s3_async as zs
from zarr_s3_async.loader import reading
from zarr_s3_async.loader.batches import gather
from zarr_s3_async.loader.memory import RowMemory

from .conftest import SHUFFLES, Watched, batches_of, collect, numbered, order_of, other_tasks, rows, settle, stored

# What batches hold


@pytest.mark.parametrize(
    "dtype", ["f4", ">i2", "M8[s]", "S5", "U3", [("a", "f8"), ("b", "i1")], "c16", "O", "T", "bfloat16"]
)
@pytest.mark.parametrize(
    ("rest", "length"), [((), 1), ((), 16), ((), 40), ((3, 2), 8), ((3, 2), 20), ((1,), 33), ((2, 0), 8), ((0,), 20)]
)
def test_batches_have_the_rows_of_their_windows(dtype: Any, rest: tuple[int, ...], length: int) -> None:
    """Whatever the way in which NumPy copies them: consecutive or permuted, of short or long rows, of any dtype."""
    if dtype == "bfloat16":
        dtype = pytest.importorskip("ml_dtypes").bfloat16
    elif dtype == "T":
        dtype = np.dtypes.StringDType()
    values = np.arange(50 * math.prod(rest)).reshape(50, *rest)
    rows = values.astype("i4").astype("U11").astype(dtype) if dtype in ("O", "S5") else values.astype(dtype)
    block = RowMemory(2**20).lend(rows.shape, rows.dtype)  # as a loader does
    block[...] = rows
    stop = 51 - length
    for places in (np.arange(stop), np.arange(stop)[3:7], np.arange(stop)[::-1], np.array([0]), np.array([stop - 1])):
        if places.size:
            target = np.empty((places.size, length, *rest), block.dtype)
            gather(target, block, places.astype(np.int64), length)
            assert (target == np.stack([block[place : place + length] for place in places])).all()


@st.composite
def grids(draw: st.DrawFn) -> dict[str, Any]:
    shape = tuple(draw(st.integers(1, 24)) for _ in range(draw(st.integers(1, 3))))
    chunks = tuple(draw(st.integers(1, n)) for n in shape)
    options: dict[str, Any] = {"chunks": chunks, "zarr_format": draw(st.sampled_from([2, 3]))}
    if options["zarr_format"] == 3 and draw(st.booleans()):
        options["shards"] = tuple(c * draw(st.integers(1, 3)) for c in chunks)
    options["compressor"] = draw(st.sampled_from([None, "zstd", "gzip"]))
    return {"shape": shape, "dtype": draw(st.sampled_from(["u1", ">i4", "f8", "c8", "M8[s]", "S3"])), **options}


@given(
    grid=grids(),
    data=st.data(),
    shuffle=st.sampled_from(SHUFFLES),
    batch_size=st.integers(1, 20),
    buffer_bytes=st.sampled_from([200, 2000, 10**6]),
    prefetch_bytes=st.sampled_from([1, 10**6]),
    range_by_range=st.booleans(),
)
def test_batches_of_windows_equal_slices_in_numpy(
    grid: dict[str, Any],
    data: Any,
    shuffle: Any,
    batch_size: int,
    buffer_bytes: int,
    prefetch_bytes: int,
    range_by_range: bool,
) -> None:
    axis = data.draw(st.integers(0, len(grid["shape"]) - 1))
    stride = data.draw(st.sampled_from([1, 1, 2, 7]))
    length = grid["shape"][axis]
    windows = {
        name: zs.Window(data.draw(st.integers(1, 5)), stride, data.draw(st.integers(0, 4))) for name in ("x", "y")
    }
    samples = min(window.samples(length) for window in windows.values())
    values = np.random.default_rng(0).integers(0, 100, grid["shape"]).astype(grid["dtype"])

    async def run() -> None:
        async with zs.Session() as session:
            array = await stored(
                session, zs.MemoryStore(), values, **{k: v for k, v in grid.items() if k not in ("shape", "dtype")}
            )
            try:
                loader = zs.BatchLoader(
                    {"x": array, "y": array}, batch_size=batch_size, axis=axis, window=windows, shuffle=shuffle,
                    buffer_bytes=buffer_bytes, prefetch_bytes=prefetch_bytes,
                )  # fmt: skip
            except zs.ConfigError:
                assume(False)
            assert loader.samples == samples
            # Ranges of rows this short are read together; large ones are read by a call each.
            with mock.patch.object(reading, "_SCATTERED", 0 if range_by_range else reading._SCATTERED):
                batches = await batches_of(loader, 0)
            assert len(batches) == len(loader) == -(-samples // batch_size)
            moved = np.moveaxis(values, axis, 0)
            wanted = {
                name: np.array([moved[w.offset + i * stride :][: w.length] for i in range(samples)], values.dtype)
                for name, w in windows.items()
            }
            if not batches:
                return
            found = {name: np.concatenate([batch[name] for batch in batches]) for name in windows}
            if shuffle is None:
                for name in windows:
                    assert np.array_equal(found[name], wanted[name])
            else:
                assert sorted(map(_bytes, zip(found["x"], found["y"], strict=True))) == sorted(
                    map(_bytes, zip(wanted["x"], wanted["y"], strict=True))
                )

    asyncio.run(run())


def _bytes(pair: tuple[np.ndarray, np.ndarray]) -> bytes:
    return b"|".join(one.astype(one.dtype.newbyteorder("=")).tobytes() for one in pair)


async def test_batches_of_arrays_with_different_chunks_have_the_same_samples(session: zs.Session) -> None:
    images = await stored(session, zs.MemoryStore(), rows(300, 8), chunks=(7, 8))
    masks = await stored(session, zs.MemoryStore(), rows(300, 5, 2), chunks=(20, 5, 1))
    labels = await stored(session, zs.MemoryStore(), rows(300), chunks=(300,))
    for shuffle in SHUFFLES:
        for buffer_bytes in (4000, 10**6):
            loader = zs.BatchLoader(
                {"x": images, "m": masks, "y": labels}, batch_size=16, shuffle=shuffle, buffer_bytes=buffer_bytes
            )
            seen = []
            async for batch in loader.epoch():
                assert (batch["x"] == batch["y"][:, None]).all()
                assert (batch["m"] == batch["y"][:, None, None]).all()
                seen += batch["y"].tolist()
            assert sorted(seen) == list(range(300))


async def test_batches_of_strings_have_the_object_dtype(session: zs.Session) -> None:
    words = np.array([f"word {n}" for n in range(50)], object)
    array = await session.create_array(zs.MemoryStore(), shape=(50,), chunks=(7,), dtype=str)
    await array[...].set(words)
    loader = zs.BatchLoader(array, batch_size=8, shuffle="chunks")
    assert sorted(np.concatenate(await batches_of(loader))) == sorted(words)


async def test_absent_chunks_are_treated_as_the_array_was_opened(session: zs.Session) -> None:
    store = zs.MemoryStore()
    await session.create_array(store, shape=(20,), chunks=(5,), dtype="i4", fill_value=7)
    lenient, strict = await session.open_array(store), await session.open_array(store, missing="raise")
    assert (np.concatenate(await batches_of(zs.BatchLoader(lenient, batch_size=3))) == 7).all()
    with pytest.raises(zs.ChunkNotFound):
        await batches_of(zs.BatchLoader(strict, batch_size=3))


# Orders


@pytest.mark.parametrize("shuffle", SHUFFLES)
async def test_the_order_does_not_depend_on_scheduling(session: zs.Session, shuffle: Any) -> None:
    orders = set()
    for seed in range(6):
        array = await stored(session, Watched(seed), rows(200, 3), chunks=(7, 3))
        loader = zs.BatchLoader(array, batch_size=9, shuffle=shuffle, seed=4, buffer_bytes=800, world_size=2, rank=1)
        orders.add(tuple(await order_of(loader, 3)))
    assert len(orders) == 1


@pytest.mark.parametrize("shuffle", SHUFFLES[1:])
async def test_each_iteration_is_a_new_epoch(session: zs.Session, shuffle: Any) -> None:
    array = await stored(session, zs.MemoryStore(), rows(200, 3), chunks=(7, 3))
    loader = zs.BatchLoader(array, batch_size=9, shuffle=shuffle)
    orders = [await order_of(loader) for _ in range(3)]
    assert len(set(map(tuple, orders))) == 3
    assert orders[2] == await order_of(loader, 2)
    assert all(sorted(order) == list(range(200)) for order in orders)


@pytest.mark.parametrize("shuffle", SHUFFLES)
async def test_ranks_and_workers_share_the_samples(session: zs.Session, shuffle: Any) -> None:
    array = await stored(session, zs.MemoryStore(), rows(103, 3), chunks=(50, 3))
    found: list[int] = []
    for rank in range(3):
        loader = zs.BatchLoader(array, batch_size=4, shuffle=shuffle, rank=rank, world_size=3)
        for worker in range(5):  # more than there are chunks
            found += await order_of(loader, 0, worker=worker, workers=5)
    assert sorted(found) == list(range(103))


@pytest.mark.parametrize("shuffle", SHUFFLES)
async def test_an_empty_array_has_no_batch(session: zs.Session, shuffle: Any) -> None:
    array = await session.create_array(zs.MemoryStore(), shape=(0, 3), chunks=(4, 3), dtype="i4")
    loader = zs.BatchLoader(array, batch_size=8, shuffle=shuffle)
    assert (len(loader), await batches_of(loader), await batches_of(loader, 0, worker=1, workers=2)) == (0, [], [])
    assert loader.explain().chunks == 0


# State


@pytest.mark.parametrize("shuffle", SHUFFLES)
@pytest.mark.parametrize("window", [None, zs.Window(5)])
async def test_an_epoch_resumes_with_the_batch_after_its_state(session: zs.Session, shuffle: Any, window: Any) -> None:
    array = await stored(session, zs.MemoryStore(), rows(60, 3), chunks=(7, 3))

    def new() -> zs.BatchLoader:
        return zs.BatchLoader(array, batch_size=8, window=window, shuffle=shuffle, buffer_bytes=1000)

    loader = new()
    whole, next_epoch = await batches_of(loader, 2), await batches_of(loader, 3)
    other, count = new(), 0
    async for _ in other.epoch(2):
        count += 1
        state = json.loads(json.dumps(other.state()))
        resumed = new()
        resumed.restore(state)
        assert resumed.state() == state
        rest = [*await batches_of(resumed), *await batches_of(resumed)]
        wanted = [*whole[count:], *next_epoch]
        if count == len(whole):  # an epoch without batches is skipped
            rest = rest[: len(next_epoch)]
        assert len(rest) == len(wanted)
        assert all(np.array_equal(one, other) for one, other in zip(rest, wanted, strict=True))


async def test_the_restored_epoch_resumes_at_its_state_and_any_other_starts_at_its_beginning(
    session: zs.Session,
) -> None:
    array = await stored(session, zs.MemoryStore(), rows(60, 3), chunks=(7, 3))
    loader = zs.BatchLoader(array, batch_size=8, shuffle="chunks")
    whole = await order_of(loader, 1)
    for number, skipped in ((1, 16), (1, 0)):  # the position is used once
        if skipped:
            loader.restore(loader.state_at(1, 2))
        assert await order_of(loader, number) == whole[skipped:]
    loader.restore(loader.state_at(1, 2))
    assert len(await order_of(loader, 5)) == 60


async def test_a_state_of_a_loader_with_other_options_is_refused(session: zs.Session) -> None:
    array = await stored(session, zs.MemoryStore(), rows(60, 3), chunks=(7, 3))
    longer = await stored(session, zs.MemoryStore(), rows(61, 3), chunks=(7, 3))
    wider = await stored(session, zs.MemoryStore(), rows(60, 4), chunks=(7, 4))
    options: dict[str, Any] = {"batch_size": 8, "shuffle": "chunks", "seed": 1, "world_size": 2}
    state = zs.BatchLoader(array, **options).state()
    zs.BatchLoader(array, **options).restore(state)
    for changed in (
        {"batch_size": 9}, {"shuffle": "buffer"}, {"seed": 2}, {"rank": 1}, {"world_size": 3}, {"drop_last": True},
        {"buffer_bytes": 10**6}, {"window": zs.Window(1)},
    ):  # fmt: skip
        name = "arrays" if "window" in changed else next(iter(changed))
        with pytest.raises(zs.ConfigError, match=f"made with {name}="):
            zs.BatchLoader(array, **{**options, **changed}).restore(state)
    for other in (longer, wider):
        with pytest.raises(zs.ConfigError, match="this state was made with"):
            zs.BatchLoader(other, **options).restore(state)
    loader = zs.BatchLoader(array, **options)
    for wrong in (
        {},
        None,
        "x",
        {**state, "version": 2},
        {**state, "more": 1},
        {**state, "batch": -1},
        {**state, "batch": 10**9},
        {**state, "workers": 0},
    ):
        with pytest.raises(zs.ConfigError):
            loader.restore(wrong)  # type: ignore[arg-type]  # on purpose


async def test_the_state_after_a_failure_is_that_of_the_last_batch(session: zs.Session) -> None:
    store = Watched(3)
    array = await stored(session, store, rows(60, 3), chunks=(4, 3))
    loader = zs.BatchLoader(array, batch_size=8, buffer_bytes=400)
    store.broken.add("c/6/0")
    taken: list[Any] = []
    with pytest.raises(zs.NetworkError, match="no answer"):
        await collect(loader.epoch(), taken)
    assert 1 <= len(taken) <= 3  # those of fills before the one that failed
    assert np.array_equal(np.concatenate(taken), rows(8 * len(taken), 3))
    assert not other_tasks()
    store.broken.clear()
    loader.restore(loader.state())
    assert np.array_equal(np.concatenate([*taken, *await batches_of(loader)]), rows(60, 3))


# Buffers of the caller, transforms, kinds of batches


@pytest.mark.parametrize("shuffle", SHUFFLES)
async def test_batches_are_put_into_the_callers_buffers_in_turn(session: zs.Session, shuffle: Any) -> None:
    array = await stored(session, Watched(1), rows(100, 3), chunks=(4, 3))
    ring = [np.zeros((8, 3), "i4") for _ in range(3)]
    plain = zs.BatchLoader(array, batch_size=8, shuffle=shuffle)
    loader = zs.BatchLoader(array, batch_size=8, shuffle=shuffle, out=ring)
    wanted = await batches_of(plain, 0)
    number = 0
    async for batch in loader.epoch(0):
        assert batch.base is ring[number % 3]
        await settle()  # reading ahead must not change this buffer before the next batch
        assert np.array_equal(batch, wanted[number])
        number += 1
    assert number == len(wanted)


async def test_buffers_of_another_shape_or_dtype_are_refused(session: zs.Session) -> None:
    array = await stored(session, zs.MemoryStore(), rows(100, 3), chunks=(4, 3))
    good = np.zeros((8, 3), "i4")
    read_only = np.zeros((8, 3), "i4")
    read_only.flags.writeable = False
    wrong: list[Any] = [
        [good], [good, np.zeros((9, 3), "i4")], [good, np.zeros((8, 3), "f4")], [good, read_only], [good, good[:]],
        [good, np.zeros((3, 8), "i4").T], [good, "x"], "nump", 5, [{"x": good}, {"x": good.copy()}],
    ]  # fmt: skip
    for out in wrong:
        with pytest.raises(zs.ConfigError, match="out"):
            zs.BatchLoader(array, batch_size=8, out=out)
    with pytest.raises(zs.ConfigError, match="with the keys x"):
        zs.BatchLoader({"x": array}, batch_size=8, out=[good, good.copy()])


async def test_a_transform_is_called_in_order_and_its_error_names_the_batch(session: zs.Session) -> None:
    array = await stored(session, zs.MemoryStore(), rows(100, 3), chunks=(4, 3))
    loader = zs.BatchLoader(array, batch_size=8, transform=lambda batch: batch.sum())
    assert await batches_of(loader) == [rows(100, 3)[at : at + 8].sum() for at in range(0, 100, 8)]

    def fail(batch: np.ndarray) -> np.ndarray:
        if batch[0, 0] == 24:
            raise ValueError("not this one")
        return batch

    taken: list[Any] = []
    with pytest.raises(ValueError, match="not this one") as caught:
        await collect(zs.BatchLoader(array, batch_size=8, transform=fail).epoch(2), taken)
    assert len(taken) == 3
    assert caught.value.__notes__ == ["raised by the transform of batch 3 of epoch 2"]
    assert not other_tasks()


async def test_dlpack_batches_are_exported_without_a_copy(session: zs.Session) -> None:
    array = await stored(session, zs.MemoryStore(), numbered(40, 3).astype(">i4"), chunks=(4, 3))
    async for batch in zs.BatchLoader(array, batch_size=8, out="dlpack").epoch():
        assert np.shares_memory(np.from_dlpack(batch), batch)
        assert batch.dtype.isnative
    times = await stored(session, zs.MemoryStore(), numbered(40).astype("M8[s]"), chunks=(4,))
    with pytest.raises(zs.ConfigError, match="dtype datetime64"):
        zs.BatchLoader(times, batch_size=8, out="dlpack")


# Options


async def test_every_option_of_a_loader_is_checked(session: zs.Session) -> None:
    array = await stored(session, zs.MemoryStore(), rows(100, 3), chunks=(4, 3))
    wrong: list[dict[str, Any]] = [
        {"batch_size": 0}, {"batch_size": True}, {"batch_size": 2.0}, {"axis": 2}, {"axis": -1}, {"axis": "0"},
        {"shuffle": "chunk"}, {"shuffle": True}, {"buffer_bytes": 0}, {"seed": "1"}, {"seed": 1.5}, {"drop_last": "no"},
        {"rank": 1}, {"rank": -1}, {"world_size": 0}, {"prefetch_bytes": 0}, {"transform": 5}, {"out": "tensor"},
        {"session_options": {"regoin": "x"}}, {"session_options": 5}, {"window": 8}, {"window": {"x": zs.Window(8)}},
        {"window": zs.Window(101)},
    ]  # fmt: skip
    for options in wrong:
        with pytest.raises(zs.ConfigError):
            zs.BatchLoader(array, **{"batch_size": 8, **options})
    for arrays in (5, {}, {1: array}, {"x": 5}, [array], None, "s3:/bucket/x"):
        with pytest.raises(zs.ConfigError):
            zs.BatchLoader(arrays, batch_size=8)
    with pytest.raises(zs.ConfigError, match="write x="):
        zs.BatchLoader({"x": array, "label": array}, batch_size=8, window={"xx": zs.Window(8)})
    for arguments in ((0,), (1, 0), (1, 1, -1), (True,), ("8",)):
        with pytest.raises(zs.ConfigError, match="Window"):
            zs.Window(*arguments)
    loader = zs.BatchLoader(array, batch_size=8)
    for part in ({"number": -1}, {"number": "0"}, {"worker": 1}, {"workers": 0}, {"worker": -1, "workers": 2}):
        with pytest.raises(zs.ConfigError):
            loader.epoch(**part)  # type: ignore[arg-type]  # on purpose


async def test_an_array_that_shrank_is_refused_and_one_that_grew_is_read_with_its_old_length(
    session: zs.Session,
) -> None:
    store = zs.MemoryStore()
    array = await stored(session, store, rows(100, 3), chunks=(4, 3))
    loader = zs.BatchLoader(array, batch_size=8, shuffle="chunks")
    await array.append(rows(20, 3))
    assert sorted(await order_of(loader)) == list(range(100))
    await array.resize((50, 3))
    with pytest.raises(zs.ConfigError, match="has changed since"):
        await order_of(loader)


# Figures


async def test_the_report_shows_whether_loader_or_consumer_is_slower(session: zs.Session) -> None:
    array = await stored(session, Watched(1), rows(400, 3), chunks=(4, 3))
    loader = zs.BatchLoader(array, batch_size=8, buffer_bytes=2000, prefetch_bytes=200)
    await batches_of(loader)
    report = loader.report()
    assert (report.batches, report.samples, report.nbytes, report.chunks) == (50, 400, 4800, 100)
    assert report.bottleneck == "loader"
    assert "raise" in str(report)
    async for _ in loader.epoch():
        await asyncio.sleep(0.01)  # a model that takes far longer than a batch
    assert loader.report().bottleneck == "consumer"
    assert "\n" not in str(loader.report())


@settings(max_examples=20)
@given(consumer=st.floats(0, 10), loader=st.floats(0, 10), seconds=st.floats(10, 20))
def test_the_report_explains_what_to_change(consumer: float, loader: float, seconds: float) -> None:
    report = zs.LoaderReport(
        epoch=0, batches=1, samples=1, nbytes=1, seconds=seconds, consumer_waited=consumer, loader_waited=loader,
        buffer_waited=0, chunks=1, reused=0, shuffle=None,
    )  # fmt: skip
    assert report.bottleneck == (
        "loader" if consumer > seconds / 10 else "consumer" if loader > seconds / 10 else "neither"
    )
    assert report.advice in str(report)
