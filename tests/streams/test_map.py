"""`map_chunks`: equal to NumPy, each object of the target once, and the error of a failing function names the block."""

from __future__ import annotations

import asyncio
import json
import threading
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarr_s3_async as zs
from zarr_s3_async.testing.strategies import chunks_for, shapes

from .cancelling import WAYS, at_every_turn
from .grids import Counting, nothing_left


@given(shape=shapes(max_side=9), more=st.data())
def test_map_chunks_computes_what_numpy_computes(shape: tuple[int, ...], more: st.DataObject) -> None:
    chunks = [more.draw(chunks_for(shape, max_chunks=30)) for _ in range(3)]
    max_bytes = more.draw(st.sampled_from((1, 100, 2**28)))

    async def run() -> None:
        store = Counting()
        one, two = np.random.default_rng(0).integers(-9, 9, (2, *shape))
        async with zs.Session() as session:
            a = await session.create_array(store, path="a", shape=shape, chunks=chunks[0], dtype="i8")
            b = await session.create_array(store, path="b", shape=shape, chunks=chunks[1], dtype="i4")
            target = await session.create_array(store, path="t", shape=shape, chunks=chunks[2], dtype="f4")
            await a[...].set(one)
            await b[...].set(two)
            store.clear()
            await zs.map_chunks(lambda x, y: x * 2 + y, [a, b], target, max_bytes=max_bytes)
            assert (np.asarray(await target[...]) == one * 2 + two).all()
            assert set((store.puts + store.deleted).values()) <= {1}
            nothing_left(session, store)

    asyncio.run(run())


async def test_the_error_of_a_failing_function_is_raised_unchanged_with_a_note_on_the_block() -> None:
    async with zs.Session() as session:
        source = await session.create_array(Counting(), shape=(8, 4), chunks=(2, 4), dtype="i4")
        target = await session.create_array(Counting(), shape=(8, 4), chunks=(4, 4), dtype="i4")
        await source[...].set(np.arange(32).reshape(8, 4))

        def fn(block: np.ndarray[Any, Any]) -> Any:
            if (block == 20).any():
                raise ZeroDivisionError("mine")
            return block

        with pytest.raises(ZeroDivisionError, match="mine") as caught:
            await zs.map_chunks(fn, source, target)
        assert "[4:8, 0:4]" in caught.value.__notes__[0]
        assert caught.value.outcome.not_written == ((1, 0),)  # type: ignore[attr-defined]  # it is attached
        nothing_left(session)


async def test_the_function_runs_in_threads_of_the_session() -> None:
    names = set()

    def fn(block: Any) -> Any:
        names.add(threading.current_thread().name)
        return block

    async with zs.Session() as session:
        array = await session.create_array(Counting(), shape=8, chunks=2, dtype="i4")
        await zs.map_chunks(fn, array, await session.create_array(Counting(), shape=8, chunks=2, dtype="i4"))
    assert threading.current_thread().name not in names


async def test_a_second_run_computes_only_missing_chunks() -> None:
    store = Counting()
    async with zs.Session() as session:
        source = await session.create_array(zs.MemoryStore(), shape=8, chunks=2, dtype="i4")
        target = await session.create_array(store, shape=8, chunks=2, dtype="i4")
        await source[...].set(np.arange(8))
        await target[0:4].set(np.arange(4) + 1)
        store.clear()
        computed = []

        def fn(block: np.ndarray[Any, Any]) -> Any:
            computed.append(block[0])
            return block + 1

        await zs.map_chunks(fn, source, target, resume=True)
        assert sorted(computed) == [4, 6]
        assert dict(store.puts) == {"c/2": 1, "c/3": 1}
        assert (await target[...]).tolist() == list(range(1, 9))


async def test_a_call_with_the_state_of_an_interrupted_one_computes_the_other_objects() -> None:
    """Also where the target was full of other data before, which `resume=True` would take for results."""
    store = Counting()
    async with zs.Session(limits=zs.Limits(requests=1)) as session:
        source = await session.create_array(zs.MemoryStore(), shape=12, chunks=2, dtype="i4")
        target = await session.create_array(store, shape=12, chunks=2, dtype="i4")
        await source[...].set(np.arange(12))
        states: list[Any] = []
        for calls in (1, 2, 3):
            await target[...].set(np.full(12, -1))
            states.clear()

            def save(state: dict[str, Any], calls: int = calls) -> None:
                states.append(json.loads(json.dumps(state)))
                if len(states) == calls:
                    raise KeyError

            with pytest.raises(KeyError):
                await zs.map_chunks(lambda block: block + 1, source, target, save_state=save)
            state = states[-1]
            done = {*range(state["first"]), *state["above"]}
            assert len(done) >= calls
            store.clear()
            computed: list[int] = []

            def fn(block: np.ndarray[Any, Any], computed: list[int] = computed) -> Any:
                computed.append(int(block[0]) // 2)
                return block + 1

            await zs.map_chunks(fn, source, target, state=state)
            assert sorted(computed) == sorted({*range(6)} - done)
            assert dict(store.puts) == {f"c/{number}": 1 for number in computed}
            assert (await target[...]).tolist() == list(range(1, 13))
        with pytest.raises(zs.ConfigError, match="state"):
            await zs.map_chunks(np.abs, source, target, region=np.s_[0:4], state=states[0])


@pytest.mark.parametrize("requests", [1, 3])
@pytest.mark.parametrize("error", [BaseException, asyncio.CancelledError, GeneratorExit, KeyError])
@pytest.mark.parametrize("callback", ["save_state", "progress"])
async def test_whatever_a_callback_raises_ends_the_call(
    callback: str, error: type[BaseException], requests: int
) -> None:
    """A CancelledError ended one worker after another, and the call returned although most objects were missing."""
    async with zs.Session(limits=zs.Limits(requests=requests)) as session:
        source = await session.create_array(zs.MemoryStore(), shape=40, chunks=2, dtype="i4")
        target = await session.create_array(zs.MemoryStore(), shape=40, chunks=2, dtype="i4")

        def fails(_: Any) -> None:
            raise error

        options: dict[str, Any] = {callback: fails}
        with pytest.raises(error):
            await asyncio.wait_for(zs.map_chunks(lambda block: block + 1, source, target, **options), 30)


@pytest.mark.parametrize("way", WAYS)
async def test_map_chunks_cancelled_at_any_moment_leaves_nothing_running(way: str) -> None:
    stores = Counting(), Counting()
    async with zs.Session(limits=zs.Limits(requests=3)) as session:
        source = await session.create_array(stores[0], shape=(6, 6), chunks=(2, 2), dtype="i4")
        target = await session.create_array(stores[1], shape=(6, 6), chunks=(3, 3), dtype="i4")
        await source[...].set(np.arange(36).reshape(6, 6))

        async def call() -> None:
            await zs.map_chunks(lambda block: block + 1, source, target, max_bytes=72)

        async def check() -> None:
            nothing_left(session, *stores)

        assert await at_every_turn(way, call, check) > 5


async def test_invalid_arguments_of_map_chunks_are_refused() -> None:
    async def later(block: Any) -> Any:
        return block

    async with zs.Session() as session:
        array = await session.create_array(zs.MemoryStore(), shape=8, chunks=2, dtype="i4")
        other = await session.create_array(zs.MemoryStore(), shape=9, chunks=2, dtype="i4")
        for arguments, match in (
            ((later, array, array), "not async"),
            ((None, array, array), "not async"),
            ((np.abs, [], array), "at least one"),
            ((np.abs, [array, other], array), "shape"),
            ((np.abs, ["memory://x"], array), "open Arrays"),
            ((np.abs, array, "memory://x"), "open Array"),
        ):
            with pytest.raises(zs.ConfigError, match=match):
                await zs.map_chunks(*arguments)  # type: ignore[arg-type]  # on purpose
        for options in ({"max_bytes": 0}, {"resume": 1}, {"progress": 3}, {"save_state": 1}, {"save_state": later}):
            with pytest.raises(zs.ConfigError, match=next(iter(options))):
                await zs.map_chunks(np.abs, array, array, **options)  # type: ignore[arg-type]  # on purpose


async def test_results_out_of_the_range_of_the_target_are_refused_and_do_not_wrap_around() -> None:
    async with zs.Session() as session:
        source = await session.create_array(zs.MemoryStore(), shape=4, chunks=2, dtype="i4")
        target = await session.create_array(zs.MemoryStore(), shape=4, chunks=2, dtype="u1", fill_value=5)
        for returned in (300, [1, 256]):
            with pytest.raises(zs.DataOverflowError):
                await zs.map_chunks(lambda block, returned=returned: returned, source, target)
        assert (await target[...]).tolist() == [5] * 4
