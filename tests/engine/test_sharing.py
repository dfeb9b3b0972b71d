"""Concurrent readers of a chunk share one fetch, but none joins a request that was sent before its read started."""

from __future__ import annotations

import asyncio
import copy
import inspect
import random
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async.codecs.pipeline import Pipeline

from ..promises.virtual_time import JumpingLoop
from ..servers.latency_proxy import LatencyProxy


class Scripted(zs.MemoryStore):
    """Answers a get only when the test releases it, with the bytes at the time of the request."""

    def __init__(self) -> None:
        super().__init__()
        self.gets = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.failures: list[Exception] = []

    async def get(self, key: str, **options: Any) -> Any:  # type: ignore[override]  # handed on as it is
        if not key.startswith("c/"):
            return await super().get(key, **options)
        self.gets += 1
        sink = options.pop("sink", None)
        failure = self.failures.pop() if self.failures else None
        blob = await super().get(key, **options)
        await self.gate.wait()
        if failure is not None:
            raise failure
        if blob is None or sink is None:
            return blob
        memory = sink(len(blob.data))
        memory[:] = blob.data
        return zs.Blob(memory, blob.version, blob.size)


@pytest.fixture
async def store() -> Scripted:
    return Scripted()


async def make(session: zs.Session, store: zs.Store, **options: Any) -> zs.Array:
    array = await session.create_array(
        store, **{"shape": (8, 8), "chunks": (4, 4), "dtype": "i4", "compressor": "zstd"} | options
    )
    await array[...].set(np.arange(array.size).reshape(array.shape))
    return array


def requests_in_flight(array: zs.Array) -> int:
    return len(array._layout.fetches)


async def turns(n: int = 5) -> None:
    for _ in range(n):
        await asyncio.sleep(0)


@pytest.mark.parametrize("shards", [None, (8, 8)], ids=["plain", "sharded"])
@pytest.mark.parametrize("compressor", ["zstd", None], ids=["zstd", "raw"])
async def test_two_hundred_concurrent_readers_share_one_get_and_one_decode(
    session: zs.Session, store: Scripted, shards: Any, compressor: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    array = await make(session, store, shards=shards, compressor=compressor)
    await array.get_slice((0, 0), (1, 1))  # caches the index of a shard
    decodes, decode = [], Pipeline.decode
    monkeypatch.setattr(Pipeline, "decode", lambda self, *how: decodes.append(1) or decode(self, *how))
    store.gets = 0
    results = await asyncio.gather(*(array.get_slice((i % 4, 0), (4, 4)) for i in range(200)))
    for i, result in enumerate(results):
        np.testing.assert_array_equal(result, np.arange(64).reshape(8, 8)[i % 4 : 4, :4])
    assert (store.gets, len(decodes)) == (1, 1)
    assert requests_in_flight(array) == 0


async def test_two_hundred_readers_during_a_request_share_one_more(session: zs.Session, store: Scripted) -> None:
    array = await make(session, store)
    store.gets = 0
    store.gate.clear()
    first = asyncio.create_task(array.get_slice((0, 0), (4, 4)))
    await turns()
    assert store.gets == 1
    later = [asyncio.create_task(array.get_slice((0, 0), (4, 4))) for _ in range(200)]
    await turns()
    assert store.gets == 1, "at most one is in flight"
    store.gate.set()
    await asyncio.gather(first, *later)
    assert store.gets == 2
    assert requests_in_flight(array) == 0


async def test_each_reader_gets_a_result_of_its_own(session: zs.Session, store: Scripted) -> None:
    array = await make(session, store)
    one, two, three = await asyncio.gather(*(array.get_slice((0, 0), (4, 4)) for _ in range(3)))
    one[...] = 0
    assert (two == three).all()
    assert two.any()


async def test_a_write_that_ended_before_a_reader_started_is_seen(session: zs.Session, store: Scripted) -> None:
    """The reader starts while an older request is in flight that returns the old bytes."""
    array = await make(session, store)
    store.gate.clear()
    early = asyncio.create_task(array.get_slice((0, 0), (4, 4)))
    await turns()
    async with zs.Session() as other:  # acts as another process
        handle = await other.open_array(store_without_gate(store))
        await handle.set_slice(np.full((4, 4), 7), (0, 0))
    late = asyncio.create_task(array.get_slice((0, 0), (4, 4)))
    await turns()
    store.gate.set()
    assert (await late == 7).all()
    assert (await early)[0, 1] == 1


def store_without_gate(store: zs.MemoryStore) -> zs.Store:
    """A store with the same objects, without the gate."""
    plain = zs.MemoryStore("plain")
    plain._objects = store._objects
    return plain


@pytest.mark.parametrize("seed", range(30))
def test_no_read_is_older_than_its_start(seed: int) -> None:
    """A writer increments counters: a read that starts after a write has ended returns that number or a later one."""

    class Slow(zs.MemoryStore):
        async def get(self, key: str, **options: Any) -> Any:  # type: ignore[override]  # handed on as it is
            await asyncio.sleep(rng.random() * 0.01)
            blob = await super().get(key, **options)
            await asyncio.sleep(rng.random() * 0.01)
            return blob

    async def scenario() -> None:
        store = Slow()
        written = 0
        async with zs.Session() as session, zs.Session() as other:
            array = await session.create_array(store, shape=(4,), chunks=(4,), dtype="i8")
            writer = await other.open_array(store)

            async def write() -> None:
                nonlocal written
                for number in range(1, 20):
                    await writer.set_slice(np.full(4, number), 0)
                    written = number
                    await asyncio.sleep(rng.random() * 0.02)

            async def read() -> None:
                for _ in range(20):
                    least = written
                    assert (await array.get_slice(0, 4) >= least).all()
                    await asyncio.sleep(rng.random() * 0.01)

            await asyncio.gather(write(), *(read() for _ in range(8)))

    rng = random.Random(seed)
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(scenario())


async def test_a_cancelled_reader_leaves_the_others_running(session: zs.Session, store: Scripted) -> None:
    array = await make(session, store)
    store.gets = 0
    store.gate.clear()
    readers = [asyncio.create_task(array.get_slice((0, 0), (4, 4))) for _ in range(5)]
    await turns()
    readers[3].cancel()
    await turns()
    store.gate.set()
    results = await asyncio.gather(*readers, return_exceptions=True)
    assert isinstance(results[3], asyncio.CancelledError)
    assert sum(isinstance(result, np.ndarray) for result in results) == 4
    assert store.gets == 1


@pytest.mark.parametrize("moment", [0, 1, 2, 3, 5])
async def test_another_reader_continues_the_request_of_a_cancelled_one(
    session: zs.Session, store: Scripted, moment: int
) -> None:
    array = await make(session, store)
    store.gets = 0
    store.gate.clear()
    readers = [asyncio.create_task(array.get_slice((0, 0), (4, 4))) for _ in range(5)]
    await turns(moment)
    readers[0].cancel()
    await turns()
    store.gate.set()
    results = await asyncio.gather(*readers, return_exceptions=True)
    assert isinstance(results[0], asyncio.CancelledError)
    assert all(isinstance(result, np.ndarray) for result in results[1:])
    assert store.gets <= 2
    assert requests_in_flight(array) == 0


async def test_the_timeout_of_one_reader_does_not_affect_the_others(session: zs.Session, store: Scripted) -> None:
    array = await make(session, store)
    store.gate.clear()
    with_timeout = asyncio.create_task(array.get_slice((0, 0), (4, 4), timeout=0.01))
    without_timeout = [asyncio.create_task(array.get_slice((0, 0), (4, 4))) for _ in range(3)]
    with pytest.raises(zs.DeadlineExceeded):
        await with_timeout
    store.gate.set()
    assert [(await reader)[0, 1] for reader in without_timeout] == [1, 1, 1]


async def test_all_readers_get_the_error_of_one_failed_request(session: zs.Session, store: Scripted) -> None:
    array = await make(session, store)
    store.gets = 0
    store.failures = [zs.NetworkError("no answer", bucket="b", key="k", attempts=5)]
    results = await asyncio.gather(*(array.get_slice((0, 0), (4, 4)) for _ in range(20)), return_exceptions=True)
    assert {type(result) for result in results} == {zs.NetworkError}
    assert len({id(result) for result in results}) == 20
    assert {(str(result), result.attempts) for result in results} == {("no answer", 5)}
    assert store.gets == 1
    assert (await array.get_slice((0, 0), (4, 4)))[0, 1] == 1


async def test_readers_with_different_missing_options_share_a_request(session: zs.Session, store: Scripted) -> None:
    array = await session.create_array(store, shape=(4,), chunks=(4,), dtype="i4", fill_value=9)
    store.gets = 0
    results = await asyncio.gather(
        *(array.get_slice(0, 4, missing=missing) for missing in ("raise", "fill", "raise", "fill")),
        return_exceptions=True,
    )
    assert [type(result) for result in results] == [zs.ChunkNotFound, np.ndarray, zs.ChunkNotFound, np.ndarray]
    assert results[1].tolist() == [9] * 4
    assert store.gets == 1


async def test_a_chunk_that_does_not_decode_is_fetched_once_more_for_all_readers(
    session: zs.Session, store: Scripted
) -> None:
    array = await make(session, store)
    await store.put("c/0/0", b"no zstd")
    store.gets = 0
    results = await asyncio.gather(*(array.get_slice((0, 0), (4, 4)) for _ in range(20)), return_exceptions=True)
    assert {type(result) for result in results} == {zs.ChunkDecodeError}
    assert store.gets == 2


async def test_handles_opened_for_each_call_share_requests(session: zs.Session, store: Scripted) -> None:
    await make(session, store)
    handles = [await session.open_array(store) for _ in range(10)]
    store.gets = 0
    await asyncio.gather(*(handle.get_slice((0, 0), (4, 4)) for handle in handles))
    assert store.gets == 1


async def test_a_handle_opened_later_does_not_use_an_older_index(session: zs.Session, store: Scripted) -> None:
    """For a shard, the newest handle among the readers decides which cached index is used."""
    array = await session.create_array(store, shape=(8,), chunks=(2,), shards=(8,), dtype="i4", compressor=None)
    await array.set_slice([1, 2], 0)
    assert (await array.get_slice(4, 6)).tolist() == [0, 0]  # caches the index, which has one chunk
    async with zs.Session() as other:
        await (await other.open_array(store_without_gate(store))).set_slice([5, 6], 4)
    newer = await session.open_array(store)
    old, new = await asyncio.gather(array.get_slice(4, 6), newer.get_slice(4, 6))
    assert new.tolist() == [5, 6]
    assert old.tolist() in ([0, 0], [5, 6])


async def test_an_array_of_another_kind_at_the_same_keys_shares_nothing(session: zs.Session, store: Scripted) -> None:
    array = await make(session, store, compressor=None)
    async with zs.Session() as other:
        await other.create_array(
            store_without_gate(store),
            shape=(8, 8),
            chunks=(4, 4),
            dtype="f4",
            compressor=None,
            fill_value=2,
            overwrite=True,
        )
    newer = await session.open_array(store)
    old, new = await asyncio.gather(array.get_slice((0, 0), (4, 4)), newer.get_slice((0, 0), (4, 4)))
    assert (old.dtype, new.dtype) == (np.dtype("i4"), np.dtype("f4"))
    assert (new == 2).all()


async def test_a_read_of_several_chunks_makes_one_request_per_chunk(session: zs.Session, store: Scripted) -> None:
    array = await make(session, store)
    store.gets = 0
    np.testing.assert_array_equal(await array[...], np.arange(64).reshape(8, 8))
    assert store.gets == 4
    assert requests_in_flight(array) == 0


async def test_concurrent_reads_of_many_chunks_share_all_but_the_first_request(
    session: zs.Session, store: Scripted
) -> None:
    """They start without yielding to the loop, so the first reads alone; those that wait for its end share one."""
    n = 40
    array = await make(session, store, shape=(n,), chunks=(1,))
    store.gets = 0
    store.gate.clear()
    reads = [asyncio.create_task(array[...].get()) for _ in range(20)]
    await turns()
    store.gate.set()
    for data in await asyncio.gather(*reads):
        assert data.tolist() == list(range(n))
    assert store.gets <= 2 * n


ERRORS = sorted(
    (cls for cls in vars(zs).values() if isinstance(cls, type) and issubclass(cls, zs.ZarrS3Error)), key=str
)


@pytest.mark.parametrize("cls", ERRORS, ids=lambda cls: cls.__name__)
def test_an_error_for_several_readers_is_copied_with_all_its_attributes(cls: Any) -> None:
    parameters = inspect.signature(cls.__init__).parameters.values()
    error = cls("message", **{p.name: f"its {p.name}" for p in parameters if p.kind is p.KEYWORD_ONLY})
    error.add_note("a note")
    copied = copy.copy(error)
    assert type(copied) is cls
    assert copied is not error
    assert (copied.args, vars(copied)) == (error.args, vars(error))


# Calls of several chunks


@pytest.mark.parametrize("chunks", [4, 9, 64])
async def test_concurrent_calls_of_several_chunks_make_one_request_per_chunk(
    session: zs.Session, store: Scripted, chunks: int
) -> None:
    array = await make(session, store, shape=(chunks * 4,), chunks=(4,))
    store.gets = 0
    results = await asyncio.gather(*[array.get_slice(n % 2, chunks * 4 - n % 3) for n in range(20)])
    assert store.gets == chunks
    for n, result in enumerate(results):
        assert result.tolist() == list(range(n % 2, chunks * 4 - n % 3))
    assert not requests_in_flight(array)


async def test_waiting_for_chunks_that_other_calls_fetch_takes_no_task(session: zs.Session, store: Scripted) -> None:
    array = await make(session, store)
    store.gate.clear()
    calls = [asyncio.ensure_future(array.get_slice((0, 0), (8, 8))) for _ in range(10)]
    await turns()
    assert len(asyncio.all_tasks()) == 1 + len(calls) + 4  # this task, the calls, and one for each chunk
    store.gate.set()
    assert all(result.sum() == sum(range(64)) for result in await asyncio.gather(*calls))


@pytest.mark.parametrize("moment", range(6))
async def test_calls_that_joined_a_cancelled_call_read_its_chunks_themselves(
    session: zs.Session, store: Scripted, moment: int
) -> None:
    array = await make(session, store)
    store.gate.clear()
    leader = asyncio.ensure_future(array.get_slice((0, 0), (8, 4)))
    others = [asyncio.ensure_future(array.get_slice((0, 0), (8, 8))) for _ in range(3)]
    await turns(moment)
    leader.cancel()
    store.gate.set()
    expected = np.arange(64).reshape(8, 8)
    for result in await asyncio.gather(*others):
        assert np.array_equal(result, expected)
    assert not requests_in_flight(array)
    with pytest.raises(asyncio.CancelledError):
        await leader


async def test_a_call_whose_tasks_are_cancelled_before_they_start_leaves_no_pending_entry(
    session: zs.Session, store: Scripted
) -> None:
    array = await make(session, store)
    leader = asyncio.ensure_future(array.get_slice((0, 0), (8, 8)))
    await asyncio.sleep(0)
    assert requests_in_flight(array) == 4
    for task in asyncio.all_tasks() - {asyncio.current_task()}:  # as a loop does that shuts down
        task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await leader
    assert not requests_in_flight(array)
    assert (await array.get_slice((0, 0), (8, 8))).sum() == sum(range(64))


async def test_nothing_is_written_into_the_array_of_a_cancelled_call_that_joined(
    session: zs.Session, store: Scripted
) -> None:
    array = await make(session, store)
    store.gate.clear()
    leader = asyncio.ensure_future(array.get_slice((0, 0), (8, 8)))
    out = np.full((8, 8), -1, "i4")
    joined = asyncio.ensure_future(array.get_slice((0, 0), (8, 8), out=out))
    await turns()
    joined.cancel()
    with pytest.raises(asyncio.CancelledError):
        await joined
    store.gate.set()
    assert (await leader).sum() == sum(range(64))
    assert (out == -1).all()


@pytest.mark.parametrize("own", [False, True], ids=["all joined", "one of its own"])
async def test_a_failed_request_fails_a_call_that_joined_it(session: zs.Session, store: Scripted, own: bool) -> None:
    array = await make(session, store)
    store.gate.clear()
    store.failures = [zs.NetworkError("the line is cut") for _ in range(4)]
    leader = asyncio.ensure_future(array.get_slice((0, 0), (8, 8 - 4 * own)))
    joined = asyncio.ensure_future(array.get_slice((0, 0), (8, 8)))
    await turns()
    store.gate.set()
    failures = await asyncio.gather(leader, joined, return_exceptions=True)
    assert [type(failure) for failure in failures] == [zs.NetworkError] * 2
    assert failures[0] is not failures[1]
    assert not requests_in_flight(array)


async def test_a_call_that_joined_fetches_a_damaged_chunk_again(session: zs.Session, store: Scripted) -> None:
    array = await make(session, store)
    good = (await zs.MemoryStore.get(store, "c/0/0")).data
    await store.put("c/0/0", b"no zstd")
    store.gate.clear()
    calls = [asyncio.ensure_future(array.get_slice((0, 0), (8, 8))) for _ in range(5)]
    await turns()
    store.gets = 0
    await store.put("c/0/0", bytes(good))
    store.gate.set()
    expected = np.arange(64).reshape(8, 8)
    assert all(np.array_equal(result, expected) for result in await asyncio.gather(*calls))
    assert store.gets == 1
    assert not requests_in_flight(array)


# A real server


@pytest.mark.integration
async def test_readers_on_a_real_server_see_all_writes_that_ended_before_their_start(seaweed: Any) -> None:
    """Responses take 20 ms while another session writes: a reader that joined an older request would get old data."""
    keys = {"access_key_id": seaweed.access_key_id, "secret_access_key": seaweed.secret_access_key}
    url, rng = f"s3://{seaweed.bucket}/written-before", random.Random(1)
    written = 0
    with LatencyProxy(seaweed.endpoint_url, latency=0.02) as proxy:
        async with (
            zs.Session(endpoint_url=proxy.endpoint_url, region=seaweed.region, **keys) as session,
            zs.Session(endpoint_url=seaweed.endpoint_url, region=seaweed.region, **keys) as other,
        ):
            writer = await other.create_array(
                url, shape=(8,), chunks=(4,), dtype="i8", compressor="zstd", overwrite=True
            )
            await writer.set_slice(0, 0, 8)
            array = await session.open_array(url)

            async def write() -> None:
                nonlocal written
                for number in range(1, 30):
                    await writer.set_slice(number, 0, 8)
                    written = number

            async def read(length: int) -> None:
                while written < 29:
                    await asyncio.sleep(rng.random() * 0.02)  # otherwise all would read at the same moments
                    least = written
                    assert (await array.get_slice(0, length)).min() >= least

            await asyncio.gather(write(), *(read(length) for length in (4, 8) * 6))
