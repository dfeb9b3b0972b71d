"""Write streams: whatever the blocks and their order, each object is put once, and the outcome is exact."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarr_s3_async as zs
from zarr_s3_async._engine.cpu import Cpu

from .cancelling import WAYS, at_every_turn
from .grids import Counting, arrays, nothing_left, regions, same

Place = tuple[slice, ...]


@st.composite
def partitions(draw: st.DrawFn, region: Place) -> list[Place]:
    """Blocks that partition a region, split recursively, in any order."""
    blocks = [region]
    for _ in range(draw(st.integers(0, 8))):
        at = draw(st.integers(0, len(blocks) - 1))
        axes = [axis for axis, cut in enumerate(blocks[at]) if cut.stop - cut.start > 1]
        if not axes:
            continue
        axis = draw(st.sampled_from(axes))
        cut = blocks[at][axis]
        middle = draw(st.integers(cut.start + 1, cut.stop - 1))
        block = blocks.pop(at)
        for piece in (slice(cut.start, middle), slice(middle, cut.stop)):
            blocks.append((*block[:axis], piece, *block[axis + 1 :]))
    return draw(st.permutations(blocks))


def n_objects(region: Place, sizes: tuple[tuple[int, ...], ...]) -> int:
    """Stored objects that a region touches."""
    count = 1
    for cut, lengths in zip(region, sizes, strict=True):
        ends = np.cumsum(lengths)
        count *= sum(start < cut.stop and end > cut.start for start, end in zip(ends - lengths, ends, strict=True))
    return count if all(cut.stop > cut.start for cut in region) else 0


@given(case=arrays(), more=st.data())
def test_blocks_written_in_any_order_make_up_the_region_and_put_each_object_once(
    case: tuple[np.ndarray[Any, Any], dict[str, Any]], more: st.DataObject
) -> None:
    data, options = case
    region = more.draw(regions(data.shape))
    blocks = more.draw(partitions(region))
    tasks = more.draw(st.sampled_from((1, 3)))
    keep = more.draw(st.booleans())

    async def run() -> None:
        store = Counting()
        async with zs.Session() as session:
            array = await session.create_array(store, **options)
            before = np.array(np.flip(data))
            await array[...].set(before)
            store.clear()
            remaining = iter(blocks)

            async def write() -> None:
                for place in remaining:
                    await out.write(place, data[(*place, ...)], copy=not keep)
                    await asyncio.sleep(0)

            async with array.write_stream(region) as out:
                await asyncio.gather(*(write() for _ in range(tasks)))
            wanted = before
            wanted[(*region, ...)] = data[(*region, ...)]
            assert same(np.asarray(await array[...]), wanted)
            changes = store.puts + store.deleted
            assert set(changes.values()) <= {1}
            assert out.progress.done == out.progress.total == n_objects(region, array.shard_sizes or array.chunk_sizes)
            assert len(out.outcome().written) == out.progress.total
            nothing_left(session, store)

    asyncio.run(run())


@given(case=arrays(), more=st.data())
def test_incomplete_objects_are_merged_at_the_end_of_the_stream(
    case: tuple[np.ndarray[Any, Any], dict[str, Any]], more: st.DataObject
) -> None:
    data, options = case
    region = more.draw(regions(data.shape))
    blocks = more.draw(partitions(region))
    written = blocks[: more.draw(st.integers(0, len(blocks)))]

    async def run() -> None:
        store = Counting()
        async with zs.Session() as session:
            array = await session.create_array(store, **options)
            wanted = np.array(np.flip(data))
            await array[...].set(wanted)
            store.clear()
            async with array.write_stream(region) as out:
                for place in written:
                    await out.write(place, data[(*place, ...)])
            for place in written:
                wanted[(*place, ...)] = data[(*place, ...)]
            assert same(np.asarray(await array[...]), wanted)
            assert set((store.puts + store.deleted).values()) <= {1}
            nothing_left(session, store)

    asyncio.run(run())


async def test_a_fast_writer_waits_so_that_memory_is_bounded() -> None:
    store = Counting()
    gate = asyncio.Event()

    async def before(what: str, key: str) -> None:
        await gate.wait()

    async with zs.Session() as session:
        array = await session.create_array(store, shape=(20, 8), chunks=(1, 8), dtype="u1")
        store.before = before
        async with array.write_stream(max_bytes=40) as out:
            taken = 0

            async def write() -> None:
                nonlocal taken
                for row in range(20):
                    await out.write(np.s_[row : row + 1], row + 1)
                    taken += 1

            task = asyncio.create_task(write())
            for _ in range(200):
                await asyncio.sleep(0)
            assert taken == 5
            gate.set()
            await task
        assert (await array[:, 0] == np.arange(1, 21)).all()
        nothing_left(session, store)


async def test_an_order_of_blocks_with_too_many_incomplete_objects_is_an_error_and_no_deadlock() -> None:
    async with zs.Session() as session:
        array = await session.create_array(Counting(), shape=(8, 8), chunks=(1, 8), dtype="u1")

        async def write() -> None:
            async with array.write_stream(max_bytes=30) as out:
                for column in range(8):
                    await out.write(np.s_[:, column : column + 1], 1)

        with pytest.raises(zs.ConfigError, match="max_bytes=30"):
            await write()
        nothing_left(session)
        async with array.write_stream(max_bytes=64) as out:
            for column in range(8):
                await out.write(np.s_[:, column : column + 1], 1)
        assert (await array[...] == 1).all()


async def test_blocks_that_overlap_or_leave_the_region_or_have_another_shape_are_refused() -> None:
    async with zs.Session() as session:
        array = await session.create_array(Counting(), shape=(8, 8), chunks=(4, 4), dtype="u1")
        async with array.write_stream(np.s_[0:6]) as out:
            await out.write(np.s_[0:2, 0:3], 1)
            with pytest.raises(zs.SelectionError, match="twice"):
                await out.write(np.s_[1:3, 2:4], 2)
            await out.write(np.s_[0:4, 4:8], 3)
            with pytest.raises(zs.SelectionError, match="complete already"):
                await out.write(np.s_[3:4, 4:5], 4)
            with pytest.raises(zs.SelectionError, match="region"):
                await out.write(np.s_[5:7], 5)
            with pytest.raises(zs.SelectionError, match="shape"):
                await out.write(np.s_[4:6], np.ones((3, 3)))
            with pytest.raises(zs.SelectionError):
                await out.write(3, 1)
            with pytest.raises(zs.ConfigError, match="copy"):
                await out.write(np.s_[4:5], 1, copy="no")  # type: ignore[arg-type]  # on purpose
        wanted = np.zeros((8, 8), "u1")
        wanted[0:2, 0:3], wanted[0:4, 4:8] = 1, 3
        assert (await array[...] == wanted).all()


async def test_the_callers_data_may_be_changed_after_write_returned() -> None:
    async with zs.Session() as session:
        array = await session.create_array(Counting(), shape=10, chunks=2, dtype="i4", compressor=None)
        data = np.empty(2, "i4")
        async with array.write_stream() as out:
            for at in range(0, 10, 2):
                data[:] = at
                await out.write(np.s_[at : at + 2], data)
                data[:] = -1
        assert (await array[...]).tolist() == [0, 0, 2, 2, 4, 4, 6, 6, 8, 8]


async def test_the_outcome_of_a_stream_with_a_failed_put_is_exact() -> None:
    store = Counting()

    async def before(what: str, key: str) -> None:
        if what == "put" and key == "c/2":
            raise zs.NetworkError("gone", key=key)
        if what == "put" and key == "c/3":
            raise zs.AccessDenied("no", key=key, status=403)

    async with zs.Session(limits=zs.Limits(requests=1)) as session:
        array = await session.create_array(store, shape=8, chunks=1, dtype="i4")
        store.before = before

        async def write() -> None:
            async with array.write_stream(max_bytes=4) as out:
                for at in range(8):
                    await out.write(np.s_[at : at + 1], at + 1)

        with pytest.raises(zs.NetworkError, match="gone") as caught:
            await write()
        assert caught.value.outcome == zs.WriteOutcome(
            written=((0,), (1,)), unknown=((2,),), not_written=((3,), (4,), (5,), (6,), (7,))
        )
        store.before = None
        assert (await array[...]).tolist() == [1, 2, 0, 0, 0, 0, 0, 0]
        nothing_left(session, store)


async def test_the_next_write_raises_the_error_of_a_failed_put() -> None:
    store = Counting()

    async def before(what: str, key: str) -> None:
        if what == "put":
            raise zs.NetworkError("gone", key=key)

    async with zs.Session() as session:
        array = await session.create_array(store, shape=8, chunks=1, dtype="i4")
        store.before = before

        async def write() -> None:
            async with array.write_stream() as out:
                await out.write(np.s_[0:1], 1)
                for _ in range(100):
                    await asyncio.sleep(0)
                with pytest.raises(zs.NetworkError, match="gone"):
                    await out.write(np.s_[1:2], 1)

        with pytest.raises(zs.NetworkError, match="gone"):
            await write()
        nothing_left(session, store)


async def test_an_error_in_the_body_is_raised_unchanged_with_the_outcome_and_nothing_is_merged() -> None:
    store = Counting()
    async with zs.Session() as session:
        array = await session.create_array(store, shape=6, chunks=2, dtype="i4")

        async def write() -> None:
            async with array.write_stream() as out:
                await out.write(np.s_[0:2], 1)
                await out.write(np.s_[2:3], 1)
                while not out.outcome().written:
                    await asyncio.sleep(0)
                raise KeyError("body")

        with pytest.raises(KeyError, match="body") as caught:
            await write()
        assert caught.value.outcome == zs.WriteOutcome(written=((0,),), not_written=((1,), (2,)))  # type: ignore[attr-defined]  # it is attached
        assert (await array[...]).tolist() == [1, 1, 0, 0, 0, 0]
        nothing_left(session, store)


@pytest.mark.parametrize("way", WAYS)
async def test_a_write_stream_cancelled_at_any_moment_leaves_nothing_running_and_reports_the_outcome(way: str) -> None:
    store = Counting()
    async with zs.Session(limits=zs.Limits(requests=2)) as session:
        array = await session.create_array(
            store, shape=(6, 300_000), chunks=(2, 300_000), dtype="u2", compressor="zstd"
        )
        data = np.ones((6, 300_000), "u2")
        streams: list[zs.WriteStream] = []

        async def call() -> None:
            data[:] += 1
            out = array.write_stream(max_bytes=3 * 10**6)
            streams[:] = [out]
            async with out:
                for row in (0, 2, 1, 3, 4, 5):
                    await out.write(np.s_[row : row + 1], data[row : row + 1])

        async def check() -> None:
            nothing_left(session, store)
            outcome = streams[0].outcome() if streams else zs.WriteOutcome()
            stored = await array[:, 0]
            for at, _ in outcome.written:
                assert (stored[2 * at : 2 * at + 2] == data[0, 0]).all()
            for at, _ in outcome.not_written:
                assert (stored[2 * at : 2 * at + 2] < data[0, 0]).all()

        assert await at_every_turn(way, call, check) > 5


async def test_a_second_run_of_an_interrupted_stream_writes_only_missing_objects() -> None:
    store = Counting()
    async with zs.Session() as session:
        array = await session.create_array(store, shape=(8, 4), chunks=(2, 4), dtype="i4")
        data = np.arange(1, 33, dtype="i4").reshape(8, 4)

        async def write(until: int) -> int:
            made = 0
            async with array.write_stream(resume=True) as out:
                for row in range(8):
                    place = np.s_[row : row + 1]
                    if out.is_stored(place):
                        continue
                    if row == until:
                        raise KeyError
                    made += 1
                    await out.write(place, data[row : row + 1])
                    while row % 2 and (row // 2, 0) not in out.outcome().written:
                        await asyncio.sleep(0)
            return made

        with pytest.raises(KeyError):
            await write(5)
        assert set(store.puts) - {"zarr.json"} == {"c/0/0", "c/1/0"}
        store.clear()
        assert await write(8) == 4
        assert dict(store.puts) == {"c/2/0": 1, "c/3/0": 1}
        assert (await array[...] == data).all()


async def test_objects_only_partly_in_the_region_are_never_taken_for_written() -> None:
    store = Counting()
    async with zs.Session() as session:
        array = await session.create_array(store, shape=8, chunks=4, dtype="i4")
        await array.set_slice([7, 7], 0)
        async with array.write_stream(np.s_[2:8], resume=True) as out:
            assert not out.is_stored(np.s_[2:4])
            await out.write(np.s_[2:8], 1)
        assert (await array[...]).tolist() == [7, 7, 1, 1, 1, 1, 1, 1]


async def test_blocks_of_fill_need_no_request_where_nothing_is_stored() -> None:
    store = Counting()
    async with zs.Session() as session:
        array = await session.create_array(store, shape=8, chunks=4, dtype="i4")
        store.clear()
        async with array.write_stream(resume=True) as out:
            await out.write(np.s_[:], 0)
        assert not store.puts
        assert not store.deleted
        assert not store.gets


async def test_a_write_stream_is_used_only_inside_its_context_and_only_once() -> None:
    async with zs.Session() as session:
        array = await session.create_array(zs.MemoryStore(), shape=8, chunks=4, dtype="i4")
        out = array.write_stream()
        with pytest.raises(zs.StateError, match="not entered"):
            await out.write(np.s_[:], 1)
        async with out:
            with pytest.raises(zs.StateError, match="once"):
                await out.__aenter__()
        with pytest.raises(zs.StateError, match="left"):
            await out.write(np.s_[:], 1)


@pytest.mark.parametrize(
    "options", [{"max_bytes": 0}, {"max_bytes": "1"}, {"resume": 1}, {"progress": "x"}, {"resume": "yes"}], ids=str
)
async def test_an_invalid_option_of_a_write_stream_is_refused(options: dict[str, Any]) -> None:
    async with zs.Session() as session:
        array = await session.create_array(zs.MemoryStore(), shape=8, chunks=4, dtype="i4")
        with pytest.raises(zs.ConfigError, match=next(iter(options))):
            array.write_stream(**options)


async def test_reading_and_writing_streams_of_one_session_do_not_deadlock() -> None:
    async with zs.Session(limits=zs.Limits(bytes=1, requests=1)) as session:
        source = await session.create_array(Counting(), shape=(8, 8), chunks=(1, 8), dtype="i4")
        target = await session.create_array(Counting(), shape=(8, 8), chunks=(3, 3), dtype="i4")
        data = np.arange(64, dtype="i4").reshape(8, 8)
        await source[...].set(data)
        async with source.stream(ahead_bytes=1) as blocks, target.write_stream() as out:
            async for block in blocks:
                await out.write(block.place, block.data)
        assert (await target[...] == data).all()
        nothing_left(session)


@pytest.mark.parametrize("data", [300, -1, [300] * 4, float("nan"), None])
async def test_a_value_out_of_the_range_of_the_data_type_is_refused_and_does_not_wrap_around(data: Any) -> None:
    """Write streams refuse it as every other way of writing does."""
    async with zs.Session() as session:
        array = await session.create_array(zs.MemoryStore(), shape=4, chunks=2, dtype="u1", fill_value=5)
        async with array.write_stream() as out:
            with pytest.raises((zs.DataError, zs.DataOverflowError)):
                await out.write(np.s_[0:4], data)
        assert (await array[...]).tolist() == [5] * 4


@pytest.mark.parametrize("rows", [slice(0, 512), slice(0, 1024)], ids=["one object", "two objects"])
async def test_a_write_during_which_the_stream_ends_is_not_acknowledged(
    rows: slice, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The object put at the end does not contain the block."""
    left, run = asyncio.Event(), Cpu.run

    async def run_once_left(self: Cpu, work: Any) -> Any:
        await left.wait()  # even on a fast machine, the copy ends after the stream was left
        return await run(self, work)

    monkeypatch.setattr(Cpu, "run", run_once_left)
    async with zs.Session() as session:
        array = await session.create_array(zs.MemoryStore(), shape=(1024, 1024), chunks=(512, 1024), dtype="i4")
        out = array.write_stream()
        await out.__aenter__()
        # Copied in a thread, so that it does not end in this iteration of the loop.
        writing = asyncio.create_task(out.write((rows, slice(0, 1024)), np.ones((rows.stop, 1024), "i4")))
        await asyncio.sleep(0)
        assert not writing.done()
        await out.__aexit__(None, None, None)
        left.set()
        with pytest.raises(zs.StateError, match="left"):
            await writing
        assert not (await array[...]).any()


async def test_a_cancelled_write_leaves_neither_data_nor_memory_of_its_block() -> None:
    """Its data is not put when the stream ends, and its bytes no longer count against the limit of other writers."""
    side = 512 * 1024 * 4
    async with zs.Session() as session:
        array = await session.create_array(zs.MemoryStore(), shape=(1024, 1024), chunks=(512, 1024), dtype="i4")
        async with array.write_stream(max_bytes=side) as out:
            first, second = (np.s_[0:512, 0:1024], np.s_[512:1024, 0:1024])
            writing = asyncio.create_task(out.write(first, np.ones((512, 1024), "i4")))
            await asyncio.sleep(0)
            writing.cancel()
            with pytest.raises(asyncio.CancelledError):
                await writing
            await out.write(second, np.full((512, 1024), 2, "i4"))
        assert not (await array[first]).any()
        assert (await array[second] == 2).all()
