"""`client=`: copies and verification on other processes have the same results, even if a process is killed."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import signal
from collections.abc import Iterator
from concurrent.futures import Future, ProcessPoolExecutor
from dataclasses import replace
from itertools import combinations
from pathlib import Path
from typing import Any

import distributed
import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async._concurrency.executor import submit_call

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300)]

DATA = np.random.default_rng(0).integers(0, 10**6, (120, 100)).astype("i4")


@pytest.fixture(scope="module")
def pool() -> Iterator[ProcessPoolExecutor]:
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        yield pool


@pytest.fixture(scope="module")
def client() -> Iterator[Any]:
    options: dict[str, Any] = {"n_workers": 3, "threads_per_worker": 2, "dashboard_address": ":0", "memory_limit": None}
    with distributed.LocalCluster(**options) as cluster, distributed.Client(cluster) as client:
        yield client


async def _stored(where: Path, session: zs.Session, **options: Any) -> zs.Array:
    array = await session.create_array(where, shape=DATA.shape, dtype="i4", **options)
    await array[...].set(DATA)
    return array


@pytest.mark.parametrize(
    ("source", "options", "what"),
    [
        ({"chunks": (10, 10)}, {}, ["move objects as they are"]),
        ({"chunks": (10, 10)}, {"region": np.s_[20:90, 30:100]}, ["move objects as they are"]),
        ({"chunks": (10, 10)}, {"chunks": (10, 10), "shards": (40, 50)}, ["move encoded chunks as they are"]),
        ({"chunks": (10, 10), "shards": (40, 50)}, {"shards": None}, ["move encoded chunks as they are"]),
        ({"chunks": (10, 10)}, {"chunks": (20, 25), "max_bytes": 16_000}, ["read and write"]),
        (
            {"chunks": (1, 100)},
            {"chunks": (120, 1), "max_bytes": 6_000},
            ["read and cut into an intermediate array", "put together and write"],
        ),
    ],
)
async def test_a_copy_on_other_processes_is_the_same_copy(
    source: dict[str, Any], options: dict[str, Any], what: list[str], pool: ProcessPoolExecutor, tmp_path: Path
) -> None:
    async with zs.Session() as session:
        array = await _stored(tmp_path / "a", session, **source)
        plan = await zs.plan_copy(array, tmp_path / "b", **options)
        assert [stage.what for stage in plan.stages] == what
        seen: list[zs.Progress] = []
        copied = await plan.run(client=pool, progress=seen.append, verify=True)
        assert isinstance(copied, zs.Array)
        assert np.array_equal(await copied[...], DATA[options.get("region", ...)])
        assert (seen[-1].done, len(seen) > 1) == (seen[-1].total, True)
        assert all(one.done <= one.total for one in seen)
        assert (await copied.verify(strict=True)).ok
        await plan.run(client=pool)  # a second run succeeds, too


async def test_a_group_is_copied_on_other_processes(pool: ProcessPoolExecutor, tmp_path: Path) -> None:
    async with zs.Session() as session:
        group = await session.create_group(tmp_path / "a")
        below = await group.create_group("below", attributes={"x": 1})
        for name in ("one", "two"):
            array = await below.create_array(name, shape=DATA.shape, chunks=(30, 30), dtype="i4")
            await array[...].set(DATA + len(name))
        await zs.copy(group, tmp_path / "b", client=pool, chunks={"below/two": (50, 50)})
        copied = await session.open_group(tmp_path / "b")
        assert dict((await copied.open("below")).attrs) == {"x": 1}
        for name in ("one", "two"):
            array = await session.open_array(tmp_path / "b", path=f"below/{name}")
            assert np.array_equal(await array[...], DATA + len(name))
        assert array.chunks == (50, 50)


async def test_an_interrupted_local_copy_is_completed_on_other_processes(
    pool: ProcessPoolExecutor, tmp_path: Path
) -> None:
    async with zs.Session() as session:
        array = await _stored(tmp_path / "a", session, chunks=(10, 10))
        plan = await zs.plan_copy(array, tmp_path / "b", chunks=(20, 20), max_bytes=6400)

        def stop(progress: zs.Progress) -> None:
            if progress.done > 5:
                raise RuntimeError("stopped")

        with pytest.raises(RuntimeError, match="stopped"):
            await plan.run(progress=stop)
        before = {path: path.stat().st_mtime_ns for path in (tmp_path / "b" / "c").rglob("*") if path.is_file()}
        assert before
        copied = await plan.run(client=pool)
        assert isinstance(copied, zs.Array)
        assert np.array_equal(await copied[...], DATA)
        assert {path: path.stat().st_mtime_ns for path in before} == before, "existing objects are not stored again"


async def test_workers_detect_a_changed_source(pool: ProcessPoolExecutor, tmp_path: Path) -> None:
    async with zs.Session() as session:
        array = await _stored(tmp_path / "a", session, chunks=(10, 10))
        plan = await zs.plan_copy(array, tmp_path / "b", chunks=(20, 20))
        call = plan._call()
        from zarr_s3_async.streams.cluster import _Part, run_part

        part = _Part(call, 0, plan.arrays[0].record, 0, 0, 1)
        loop = asyncio.get_running_loop()
        with pytest.raises(zs.ConcurrentModification, match="were deleted"):  # the target has no record of the copy
            await loop.run_in_executor(pool, run_part, part)
        await array[0, 0].set(7)
        later = part._replace(call=replace(call, name="another process"))
        with pytest.raises(zs.ConcurrentModification, match="has changed"):
            await loop.run_in_executor(pool, run_part, later)


async def test_arrays_that_other_processes_cannot_open_are_refused(pool: ProcessPoolExecutor, tmp_path: Path) -> None:
    async with zs.Session() as session:
        array = await session.create_array("memory://a", shape=(4,), dtype="i4")
        for source, target in ((array, tmp_path / "b"), (await _stored(tmp_path / "a", session), "memory://b")):
            with pytest.raises(zs.ConfigError, match="other processes can open"):
                await zs.copy(source, target, client=pool)
        with pytest.raises(zs.ConfigError, match="other processes can open"):
            await array.verify(client=pool)
        for wrong in ("tcp://scheduler:8786", 5):
            with pytest.raises(zs.ConfigError, match="client"):
                await array.verify(client=wrong)  # type: ignore[arg-type]  # on purpose
            with pytest.raises(zs.ConfigError, match="client"):
                await zs.copy(array, tmp_path / "b", client=wrong)  # type: ignore[arg-type]  # on purpose


async def test_an_error_of_a_worker_is_raised_unchanged_with_a_note(pool: ProcessPoolExecutor, tmp_path: Path) -> None:
    async with zs.Session() as session:
        array = await _stored(tmp_path / "a", session, chunks=(10, 10))
        plan = await zs.plan_copy(array, tmp_path / "b", chunks=(20, 20), max_bytes=6400)
        (tmp_path / "a/c/3/4").write_bytes(b"no chunk")
        with pytest.raises(zs.ZarrS3Error) as raised:
            await plan._run(None, resume=True, verify=False, client=pool)
        assert any("by a worker of client=" in note for note in raised.value.__notes__)


async def test_verification_on_other_processes_has_the_same_findings(pool: ProcessPoolExecutor, tmp_path: Path) -> None:
    async with zs.Session() as session:
        group = await session.create_group(tmp_path)
        plain = await _stored(tmp_path / "plain", session, chunks=(10, 10))
        await _stored(tmp_path / "shards", session, chunks=(5, 5), shards=(30, 50))
        old = await session.create_array(tmp_path / "old", shape=DATA.shape, chunks=(50, 50), dtype="i4", zarr_format=2)
        await old[:60].set(DATA[:60])
        assert (await group.verify(client=pool)).ok
        (tmp_path / "plain/c/3/4").write_bytes(b"no chunk")
        (tmp_path / "plain/c/3/5").unlink()
        (tmp_path / "plain/c/99").mkdir()
        (tmp_path / "plain/c/99/0").write_bytes(b"outside")
        shard = tmp_path / "shards/c/1/1"
        shard.write_bytes(shard.read_bytes()[:-7])
        (tmp_path / "old/0.1").write_bytes(b"")
        (tmp_path / "old/notes.txt").write_text("foreign")
        for node in (group, plain):
            seen: list[Any] = []
            here = await node.verify(strict=True)
            there = await node.verify(strict=True, client=pool, progress=seen.append)
            assert not here.ok
            assert replace(there, seconds=0) == replace(here, seconds=0)
            assert (seen[-1].objects, seen[-1].nbytes) == (here.objects, here.nbytes)
        assert await session.verify(tmp_path, path="old", client=pool)


async def test_a_cluster_that_loses_a_process_completes_copy_and_verification(client: Any, tmp_path: Path) -> None:
    data = np.random.default_rng(1).integers(0, 2**31, (256, 4096)).astype("i4")
    async with zs.Session() as session:
        array = await session.create_array(tmp_path / "a", shape=data.shape, chunks=(1, 4096), dtype="i4")
        await array[...].set(data)
        victims = sorted(client.run(os.getpid).values())

        def kill_one(progress: Any) -> None:
            if victims and getattr(progress, "done", progress) is not None:
                assert getattr(progress, "done", 0) < len(data)
                os.kill(victims.pop(), signal.SIGKILL)
                victims.clear()

        copied = await zs.copy(
            array, tmp_path / "b", chunks=(2, 1024), max_bytes=2**16, client=client, progress=kill_one
        )
        assert isinstance(copied, zs.Array)
        assert not victims
        assert np.array_equal(await copied[...], data)
        assert (await copied.verify(strict=True)).ok
        report = await copied.verify(strict=True, client=client)
        assert (report.ok, report.nodes[0].chunks) == (True, 512)


async def test_a_cancelled_copy_leaves_nothing_running(client: Any, tmp_path: Path) -> None:
    async with zs.Session() as session:
        array = await _stored(tmp_path / "a", session, chunks=(2, 2))
        plan = await zs.plan_copy(array, tmp_path / "b", chunks=(3, 3), max_bytes=1000)
        began = asyncio.Event()
        task = asyncio.ensure_future(plan.run(client=client, progress=lambda _: began.set()))
        await began.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        copied = await plan.run(client=client)
        assert isinstance(copied, zs.Array)
        assert np.array_equal(await copied[...], DATA)


async def test_a_cancelled_call_is_cancelled_on_its_worker() -> None:
    running: Future[int] = Future()

    class Client:
        def submit(self, *_: Any) -> Future[int]:
            return running

    task = asyncio.ensure_future(submit_call(Client(), len, "call"))
    await asyncio.sleep(0)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert running.cancelled()


async def test_all_submitted_calls_are_different(pool: ProcessPoolExecutor, tmp_path: Path) -> None:
    """dask runs only the first of several equal calls, and returns its result for all."""
    calls: list[Any] = []

    class Client:
        def submit(self, fn: Any, call: Any) -> Any:
            calls.append(call)
            return pool.submit(fn, call)

    async with zs.Session() as session:
        array = await _stored(tmp_path / "a", session, chunks=(30, 30))
        plan = await zs.plan_copy(array, tmp_path / "b", chunks=(20, 20), max_bytes=6400)
        for _ in range(2):
            await plan.run(client=Client())
            assert (await array.verify(client=Client())).ok
    assert len(calls) > 8
    assert all(one != other for one, other in combinations(calls, 2))


@pytest.mark.parametrize(
    ("n", "nbytes", "size"),
    [(0, 1, 1), (1, 2**40, 1), (64, 2**30, 1), (1000, 1, 16), (10**6, 2**20, 256), (2**30, 2**25, 2**13)],
)
def test_the_number_and_size_of_parts_are_within_bounds(n: int, nbytes: int, size: int) -> None:
    from zarr_s3_async.streams.cluster import _part_size
    from zarr_s3_async.streams.transfer import Pass

    one: Any = Pass(n, nbytes, None, None)  # type: ignore[arg-type]  # they are not used
    assert _part_size(one) == size
