"""The state of a write stream: a later one writes what is missing, and nothing is lost or trusted wrongly."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import zarr_s3_async as zs
from zarr_s3_async._types import Version

from ..servers.fault_server import FaultServer
from .grids import Counting, arrays, nothing_left, regions, same
from .test_write import partitions


@given(case=arrays(), more=st.data())
def test_a_stream_resumed_after_any_block_writes_what_is_missing(
    case: tuple[np.ndarray[Any, Any], dict[str, Any]], more: st.DataObject
) -> None:
    """Also where the array was full of other data before, and the region cuts objects that others write."""
    data, options = case
    region = more.draw(regions(data.shape))
    blocks = more.draw(partitions(region))
    cuts = more.draw(st.lists(st.integers(0, len(blocks)), max_size=3))
    fails = more.draw(st.booleans())

    async def run() -> None:
        store = Counting()
        async with zs.Session() as session:
            array = await session.create_array(store, **options)
            wanted = np.array(np.flip(data))
            await array[...].set(wanted)
            store.clear()
            state: Any = None
            complete = 0
            for cut in (*cuts, len(blocks)):
                out = array.write_stream(region, state=state)
                try:
                    async with out:
                        for place in blocks[:cut]:
                            if not out.is_stored(place):
                                await out.write(place, data[(*place, ...)])
                            await asyncio.sleep(0)
                        if fails and cut < len(blocks):
                            raise KeyError
                except KeyError:
                    pass
                state = json.loads(json.dumps(out.state()))
                assert complete <= state["first"] + len(state["above"]) <= out.progress.total
                complete = state["first"] + len(state["above"])
            assert state["first"] == out.progress.total
            wanted[(*region, ...)] = data[(*region, ...)]
            assert same(np.asarray(await array[...]), wanted)
            nothing_left(session, store)

    asyncio.run(run())


async def test_only_objects_in_the_state_are_not_put_again() -> None:
    store = Counting()
    async with zs.Session() as session:
        array = await session.create_array(store, shape=(8, 4), chunks=(2, 4), dtype="i4")
        await array[...].set(np.full((8, 4), 9))
        out = array.write_stream()

        async def interrupted() -> None:
            async with out:
                for row in (4, 5, 0, 1, 2):  # objects 2 and 0, and half of 1
                    await out.write(np.s_[row : row + 1], row)
                while out.progress.done < 2:
                    await asyncio.sleep(0)
                raise KeyError

        with pytest.raises(KeyError):
            await interrupted()
        state: Any = out.state()
        assert (state["first"], state["above"]) == (1, [2])
        store.clear()
        async with array.write_stream(state=state) as out:
            assert [out.is_stored(np.s_[row : row + 1]) for row in range(0, 8, 2)] == [True, False, True, False]
            for row in range(8):
                await out.write(np.s_[row : row + 1], row)
        assert dict(store.puts) == {"c/1/0": 1, "c/3/0": 1}
        assert (await array[:, 0]).tolist() == list(range(8))
        assert out.state()["first"] == 4


async def test_incomplete_objects_are_not_in_the_state() -> None:
    """The end of the `async with` puts it, but its other blocks are still to be written."""
    async with zs.Session() as session:
        array = await session.create_array(zs.MemoryStore(), shape=8, chunks=4, dtype="i4")
        async with array.write_stream() as out:
            await out.write(np.s_[0:6], 1)
        state: Any = out.state()
        assert (state["first"], state["above"]) == (1, [])
        async with array.write_stream(state=state) as out:
            await out.write(np.s_[6:8], 2)
        assert (await array[...]).tolist() == [1] * 6 + [2] * 2


async def test_objects_deleted_since_are_written_again() -> None:
    async with zs.Session() as session:
        options: dict[str, Any] = {"shape": 8, "chunks": 4, "dtype": "i4"}
        store = zs.MemoryStore()
        array = await session.create_array(store, **options)
        async with array.write_stream() as out:
            await out.write(np.s_[:], 3)
        again = await session.create_array(store, overwrite=True, **options)
        async with again.write_stream(state=out.state()) as out:
            assert not out.is_stored(np.s_[0:4])
            await out.write(np.s_[:], 4)
        assert (await again[...]).tolist() == [4] * 8


async def test_objects_overwritten_since_are_written_again(tmp_path: Path) -> None:
    """Also if the array was deleted, created again, and written by somebody else."""
    async with zs.Session() as session:
        options: dict[str, Any] = {"shape": 8, "chunks": 2, "dtype": "i4", "fill_value": 7}
        for replaced, skipped in ((False, [True, False, True, True]), (True, [False] * 4)):
            array = await session.create_array(tmp_path / "a", overwrite=True, **options)
            async with array.write_stream() as out:
                await out.write(np.s_[:], 3)
            state: Any = json.loads(json.dumps(out.state()))
            if replaced:
                array = await session.create_array(tmp_path / "a", overwrite=True, **options)
                await array[...].set(9)
            else:
                await array[2:3].set(9)
            out = array.write_stream(state=state)
            async with out:
                assert [out.is_stored(np.s_[at : at + 2]) for at in range(0, 8, 2)] == skipped
                before: Any = out.state()
                assert before["first"] + len(before["above"]) == sum(skipped)
                await out.write(np.s_[:], 3)
            assert (await array[...]).tolist() == [3] * 8
            async with array.write_stream(state=out.state()) as out:  # the versions of both runs
                assert out.is_stored(np.s_[:])


async def test_a_changed_object_of_a_large_array_costs_its_group() -> None:
    async with zs.Session() as session:
        array = await session.create_array(zs.MemoryStore(), shape=1000, chunks=1, dtype="i4")
        async with array.write_stream() as out:
            await out.write(np.s_[:], 3)
        assert len(json.dumps(out.state())) < 6000
        await array[500].set(4)
        async with array.write_stream(state=out.state()) as out:
            again = [at for at in range(1000) if not out.is_stored(np.s_[at : at + 1])]
            assert 500 in again
            assert len(again) <= 4
            await out.write(np.s_[:], 3)
        assert (await array[...] == 3).all()


async def test_writes_beside_the_region_do_not_change_the_objects_of_a_state() -> None:
    """An object that two streams share is merged by the other one."""
    async with zs.Session() as session:
        array = await session.create_array(zs.MemoryStore(), shape=8, chunks=4, dtype="i4")
        async with array.write_stream(np.s_[0:6]) as out:
            await out.write(np.s_[0:6], 3)
        await array[6:8].set(5)
        async with array.write_stream(np.s_[0:6], state=out.state()) as out:
            assert out.is_stored(np.s_[0:6])


async def test_shared_objects_of_an_array_that_was_replaced_are_written_again() -> None:
    """Of an object that another stream has put beside the region, no version is known."""
    async with zs.Session() as session:
        store, options = zs.MemoryStore(), {"shape": 8, "chunks": 4, "dtype": "i4"}
        array = await session.create_array(store, **options)
        async with array.write_stream(np.s_[0:6]) as out:
            await out.write(np.s_[0:6], 3)
        again = await session.create_array(store, overwrite=True, **options)
        await again[6:8].set(5)
        async with again.write_stream(np.s_[0:6], state=out.state()) as later:
            assert later.state()["first"] == 0
            await later.write(np.s_[0:6], 3)
        assert (await again[...]).tolist() == [3] * 6 + [5] * 2


async def test_an_etag_that_a_listing_shows_without_quotes_or_weak_is_the_same() -> None:
    class Quoting(zs.MemoryStore):
        __slots__ = ()

        async def put(self, key: str, data: Any, **options: Any) -> Any:
            return f'"{await super().put(key, data, **options)}"'

        async def list_pages(self, prefix: str = "", *, after: str = "") -> Any:
            async for page in super().list_pages(prefix, after=after):
                yield [entry._replace(version=Version(f'W/"{entry.version}"')) for entry in page]

    async with zs.Session() as session:
        array = await session.create_array(Quoting(), shape=8, chunks=2, dtype="i4")
        async with array.write_stream() as out:
            await out.write(np.s_[:], 3)
        async with array.write_stream(state=out.state()) as later:
            assert later.is_stored(np.s_[:])


async def test_a_put_that_failed_is_not_in_the_state() -> None:
    store = Counting()
    async with zs.Session() as session:
        array = await session.create_array(store, shape=8, chunks=2, dtype="i4")

        async def before(what: str, key: str) -> None:
            if what == "put" and key == "c/1":
                raise zs.NetworkError("no answer", key=key)

        store.before = before
        with pytest.raises(zs.NetworkError):
            async with array.write_stream() as out:
                await out.write(np.s_[:], 3)
        store.before = None
        state: Any = out.state()
        assert 1 not in [*range(state["first"]), *state["above"]]
        async with array.write_stream(state=state) as out:
            await out.write(np.s_[:], 3)
        assert (await array[...]).tolist() == [3] * 8


@pytest.mark.parametrize("continued", ["resume", "state"])
async def test_a_kept_block_of_another_dtype_is_not_compared_with_the_fill_value_bit_by_bit(continued: str) -> None:
    """The float 1.0 has the bits of the integer 1065353216, and a float64 has other bytes than any int32."""
    async with zs.Session() as session:
        for dtype in ("f4", "f8"):
            array = await session.create_array(
                zs.MemoryStore(), shape=8, chunks=4, dtype="i4", fill_value=1_065_353_216
            )
            options: dict[str, Any] = {"resume": True}
            if continued == "state":
                options = {"state": array.write_stream().state()}
            async with array.write_stream(**options) as out:
                await out.write(np.s_[:4], np.ones(4, dtype), copy=False)
            assert (await array[:4]).tolist() == [1] * 4


async def test_a_state_of_another_array_or_region_is_refused(tmp_path: Path) -> None:
    async with zs.Session() as session:
        options: dict[str, Any] = {"shape": (64, 8), "chunks": (8, 8), "dtype": "i4"}
        array = await session.create_array(tmp_path / "one", **options)
        other = await session.create_array(tmp_path / "two", **options)
        another = await session.create_array(tmp_path / "three", **options | {"chunks": (4, 8)})
        state = array.write_stream().state()
        array.write_stream(state=state)
        for refused in (
            lambda: other.write_stream(state=state),
            lambda: another.write_stream(state=state),
            lambda: array.write_stream(np.s_[0:8], state=state),
            lambda: array.write_stream(state=array.stream().state()),
            lambda: array.write_stream(state=state | {"first": 9}),
            lambda: array.write_stream(state=state | {"first": "0"}),
            lambda: array.write_stream(state=state | {"first": True}),
            lambda: array.write_stream(state=state | {"above": [8]}),
            lambda: array.write_stream(state=state | {"above": [True]}),
            lambda: array.write_stream(state=state | {"version": 2}),
            lambda: array.write_stream(state=state | {"versions": []}),
            lambda: array.write_stream(state=state | {"versions": ["-1"] * 8}),
            lambda: array.write_stream(state={}),
            lambda: array.write_stream(state=state, resume=True),
        ):
            with pytest.raises(zs.ConfigError, match="state"):
                refused()


@pytest.mark.parametrize("transport", ["wire", "sdk"])
async def test_a_state_of_the_same_url_at_another_endpoint_is_refused(transport: Any) -> None:
    with FaultServer() as first, FaultServer() as second:
        async with zs.Session() as session:
            arrays = []
            for server in (first, second):
                store = session.s3("data", "a", config=server.s3_config(transport=transport))
                array = await session.create_array(store, shape=8, chunks=4, dtype="i4")
                await array[...].set(9)
                arrays.append(array)
            assert arrays[0].url == arrays[1].url
            async with arrays[0].write_stream() as out:
                await out.write(np.s_[:], 1)
            with pytest.raises(zs.ConfigError, match="endpoint"):
                arrays[1].write_stream(state=out.state())
        async with zs.Session() as session:
            store = session.s3("data", "a", config=first.s3_config(transport=transport))
            again = await session.open_array(store)
            async with again.write_stream(state=out.state()) as later:
                assert later.is_stored(np.s_[:])


async def test_a_second_block_for_an_object_put_since_overlaps_also_with_a_state() -> None:
    async with zs.Session() as session:
        array = await session.create_array(zs.MemoryStore(), shape=(6,), chunks=(2,), dtype="i4")
        await array[...].set(np.full(6, -1))
        async with array.write_stream(np.s_[0:6]) as out:
            await out.write(np.s_[0:2], [1, 2])
            while not out.state()["first"]:
                await asyncio.sleep(0)
            state = out.state()
            await out.write(np.s_[2:6], [-1, -1, -1, -1])
        async with array.write_stream(state=state) as out:
            await out.write(np.s_[2:4], [3, 4])
            while out.state()["first"] != 2:
                await asyncio.sleep(0)
            assert not out.is_stored(np.s_[2:4])
            with pytest.raises(zs.SelectionError, match="overlap"):
                await out.write(np.s_[2:4], [7, 8])
            await out.write(np.s_[4:6], [5, 6])
        assert (await array[...]).tolist() == [1, 2, 3, 4, 5, 6]
