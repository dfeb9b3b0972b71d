"""BatchLoader without an event loop: a plain `for`, forks, copies for other processes, a killed process, memory."""

from __future__ import annotations

import asyncio
import gc
import json
import os
import pickle
import secrets
import signal
import subprocess
import sys
import weakref
from contextlib import AsyncExitStack
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs

from .conftest import rows, stored


@pytest.fixture
def url(tmp_path: Path) -> str:
    """URL of an array of 200 rows; each row holds its number."""

    async def write() -> None:
        async with zs.Session() as session:
            await stored(session, f"file://{tmp_path}/rows", rows(200, 3), chunks=(7, 3))

    asyncio.run(write())
    return f"file://{tmp_path}/rows"


async def provide_keys(secret: str) -> zs.Credentials:
    return zs.Credentials(access_key_id="a", secret_access_key=secret)


def order(batches: Any) -> list[int]:
    return np.concatenate([batch[:, 0] for batch in batches]).tolist()


def test_a_plain_loop_reads_the_same_batches_as_an_asynchronous_one(url: str) -> None:
    async def read(number: int) -> list[int]:
        async with zs.Session() as session:
            loader = zs.BatchLoader(await session.open_array(url), batch_size=16, shuffle="chunks")
            return order([batch async for batch in loader.epoch(number)])

    with zs.BatchLoader(url, batch_size=16, shuffle="chunks") as loader:
        assert len(loader) == 13
        found = [order(loader) for _ in range(3)]
        assert found[1] == order(loader.batches(1))
        assert loader.state()["epoch"] == 2
    assert found == [asyncio.run(read(number)) for number in range(3)]


def test_the_loader_opens_an_array_again_by_its_reference(url: str) -> None:
    async def run() -> None:
        async with zs.Session() as session:
            array = await session.open_array(url)
            loader = zs.BatchLoader(
                {"a": array, "b": array.ref, "c": url, "d": Path(url.removeprefix("file://"))}, batch_size=16
            )
            batches = await asyncio.to_thread(list, loader)
            assert order(batch["a"] for batch in batches) == list(range(200))
            assert all(np.array_equal(batch["a"], batch[name]) for batch in batches for name in "bcd")

    asyncio.run(run())


def test_absent_chunks_are_treated_as_the_reopened_array_was_opened(url: str) -> None:
    async def run() -> None:
        Path(url.removeprefix("file://"), "c", "12", "0").unlink()
        async with zs.Session() as session:
            array = await session.open_array(url, missing="raise")
            assert array.missing == "raise"
            with pytest.raises(zs.ChunkNotFound):
                await asyncio.to_thread(list, zs.BatchLoader(array, batch_size=16))

    asyncio.run(run())
    assert len(list(zs.BatchLoader(url, batch_size=16))) == 13


def test_a_loader_with_session_options_has_its_own_session(url: str) -> None:
    loader = zs.BatchLoader(url, batch_size=16, session_options={"limits": zs.Limits(requests=3)})
    assert order(loader) == list(range(200))
    loader.close()
    assert order(loader) == list(range(200))  # with another one
    loader.close()


def test_a_garbage_collected_loader_closes_its_session(url: str) -> None:
    from zarr_s3_async._concurrency.loop_thread import background_loop

    loader = zs.BatchLoader(url, batch_size=16, session_options={"limits": zs.Limits(requests=3)})
    assert order(loader) == list(range(200))
    session = loader._blocking._session
    assert session is not None
    del loader
    gc.collect()
    background_loop().run(closed(session))


async def closed(session: zs.Session) -> None:
    while not session.closed:
        await asyncio.sleep(0)


def test_a_loader_collected_in_one_cycle_with_its_session_closes_it() -> None:
    """In one reference cycle the older session is finalized first, and would warn that it was left open."""
    from zarr_s3_async._concurrency.loop_thread import background_loop
    from zarr_s3_async.loader.iteration import BlockingSession

    class Sources:
        def __init__(self) -> None:
            self.made: zs.Session | None = zs.Session()

        async def session(self, stack: AsyncExitStack) -> zs.Session:
            assert self.made is not None
            return await stack.enter_async_context(self.made)

    found: list[str] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(zs.Session, "__del__", lambda self: found.append(self._state))
        sources: Any = Sources()
        cycle: list[Any] = [sources]
        blocking = BlockingSession(sources)
        cycle += [blocking, cycle]
        session = weakref.ref(background_loop().run(blocking.get()))
        del sources, blocking, cycle
        gc.collect()
        background_loop().run(gone(session))
    assert found == ["closed"]


async def gone(session: weakref.ref[zs.Session]) -> None:
    while session() is not None:
        await asyncio.sleep(0)
        gc.collect()


def test_a_loader_gets_a_new_session_if_the_shared_one_was_closed(url: str) -> None:
    from zarr_s3_async._concurrency.loop_thread import background_loop

    async def close() -> None:
        await zs.shared_session().aclose()

    loader = zs.BatchLoader(url, batch_size=16)
    assert order(loader) == list(range(200))
    background_loop().run(close())
    assert order(loader) == list(range(200))


def test_leaving_a_plain_loop_stops_reading_ahead(url: str) -> None:
    from zarr_s3_async._concurrency.loop_thread import background_loop

    async def tasks() -> int:
        for _ in range(50):
            await asyncio.sleep(0)
        return len(asyncio.all_tasks())

    loader = zs.BatchLoader(url, batch_size=1, prefetch_bytes=1)
    idle = background_loop().run(tasks())
    for _ in loader:
        break
    assert background_loop().run(tasks()) == idle


def test_another_plain_iteration_or_close_ends_the_running_one(url: str) -> None:
    loader = zs.BatchLoader(url, batch_size=1, prefetch_bytes=1)
    for stop in (lambda: next(iter(loader)), loader.close):
        iterator = iter(loader)
        next(iterator)
        stop()
        with pytest.raises(zs.StateError, match="stopped before its end"):
            list(iterator)


def test_an_error_of_a_read_is_raised_unchanged_in_a_plain_loop(url: str) -> None:
    Path(url.removeprefix("file://"), "c", "12", "0").write_bytes(b"no chunk")
    with pytest.raises(zs.ChunkDecodeError, match="12"):
        list(zs.BatchLoader(url, batch_size=16))
    with pytest.raises(zs.NodeNotFound):
        len(zs.BatchLoader(url + "-none", batch_size=16))


def test_a_copy_for_another_process_continues_at_the_loaders_position(url: str) -> None:
    loader = zs.BatchLoader(url, batch_size=16, shuffle="global", window=zs.Window(3))
    iterator = iter(loader)
    next(iterator)
    copy = pickle.loads(pickle.dumps(loader))
    assert copy.state() == loader.state()
    ring = zs.BatchLoader(url, batch_size=16, out=[np.zeros((16, 3), "i4"), np.zeros((16, 3), "i4")])
    with pytest.raises(zs.ConfigError, match="buffers belong to this process"):
        pickle.dumps(ring)
    for options in (
        {"access_key_id": "a", "secret_access_key": "hidden"},
        {"s3": zs.S3Config(access_key_id="a", secret_access_key="hidden")},
        {"credentials": partial(provide_keys, "hidden")},
    ):
        secret = zs.BatchLoader(url, batch_size=16, session_options=options)
        with pytest.raises(zs.ConfigError, match="cannot be pickled") as caught:
            pickle.dumps(secret)
        assert "hidden" not in str(caught.value)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_a_loader_that_the_parent_has_used_works_in_a_forked_child(url: str) -> None:
    loader = zs.BatchLoader(url, batch_size=16, shuffle="chunks")
    parents = iter(loader)
    first = next(parents)
    read, write = os.pipe()
    pid = os.fork()
    if pid == 0:  # pragma: no cover  # in the child
        try:
            try:
                next(parents)
                received: Any = "the parent's iteration went on"
            except zs.StateError:
                received = order(loader.batches(0))
            os.write(write, json.dumps(received).encode())
        finally:
            os._exit(0)
    os.close(write)
    with os.fdopen(read) as answer:
        received = json.loads(answer.read())
    os.waitpid(pid, 0)
    assert received == order([first, *parents])  # the parent's iteration continues independently
    assert sorted(received) == list(range(200))


JOB = """
import json, os, sys
import zarr_s3_async as zs

url, state, log = sys.argv[1:]
loader = zs.BatchLoader(url, batch_size=5, shuffle="chunks", seed=9, buffer_bytes=700)
if os.path.exists(state):
    loader.restore(json.load(open(state)))
with open(log, "a") as out:
    for epoch in range(loader.state()["epoch"], 2):
        for batch in loader.batches(epoch):
            # One step: its result and the state after it are stored as one line, so both or neither are stored.
            line = json.dumps([batch[:, 0].tolist(), loader.state()]) + "\\n"
            out.write(line)
            out.flush()
            print("step", flush=True)
"""


@pytest.mark.slow
def test_a_killed_job_continues_with_the_next_batch(url: str, tmp_path: Path) -> None:
    state, log = tmp_path / "state.json", tmp_path / "log"
    command = [sys.executable, "-c", JOB, url, str(state), str(log)]
    for steps in (3, 11, 25):
        job = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        assert job.stdout is not None
        for _ in range(steps):
            job.stdout.readline()
        job.send_signal(signal.SIGKILL)
        job.communicate()
        kept = [line for line in log.read_text().splitlines(keepends=True) if line.endswith("\n")]
        log.write_text("".join(kept))  # an incomplete line is not a step
        state.write_text(json.dumps(json.loads(kept[-1])[1]))
    subprocess.run(command, check=True, stdout=subprocess.DEVNULL)
    found = [json.loads(line)[0] for line in log.read_text().splitlines()]
    loader = zs.BatchLoader(url, batch_size=5, shuffle="chunks", seed=9, buffer_bytes=700)
    assert found == [batch[:, 0].tolist() for epoch in range(2) for batch in loader.batches(epoch)]


READER = """
import json, sys
import zarr_s3_async as zs

def highest():
    return 1024 * int(open("/proc/self/status").read().split("VmHWM:")[1].split()[0])

def loader(batch_size, buffer_bytes, prefetch_bytes):
    return zs.BatchLoader(
        url, batch_size=batch_size, shuffle=shuffle, window=zs.Window(2), buffer_bytes=buffer_bytes,
        prefetch_bytes=prefetch_bytes, session_options={"limits": zs.Limits(bytes=limit)},
    )

url, shuffle, buffer_bytes, prefetch_bytes, limit = json.loads(sys.argv[1])
next(loader(1, 5 * 2**20, 1).batches())  # so that imports, codecs and threads are not measured
before = highest()
total = sum(int(batch[:, 0, 0].sum()) for batch in loader(64, buffer_bytes, prefetch_bytes).batches())
print(json.dumps([highest() - before, total]))
"""


N = 2048


@pytest.fixture(scope="module")
def large(seaweed: Any) -> str:
    """URL of an array of 256 MiB in chunks of 2 MiB. Numbers that do not compress are the worst case for memory."""
    url = f"s3://{seaweed.bucket}/large-{secrets.token_hex(4)}"

    async def write() -> None:
        values = np.random.default_rng(0).integers(0, 2**31, (N, 32_768), "i4")
        values[:, 0] = np.arange(N)
        async with zs.Session(s3=seaweed.s3_config()) as session:
            await stored(session, url, values, chunks=(16, 32_768), compressor="zstd")

    asyncio.run(write())
    return url


@pytest.mark.slow
@pytest.mark.integration
@pytest.mark.skipif(sys.platform != "linux", reason="reads /proc")
@pytest.mark.parametrize("shuffle", [None, "chunks", "buffer", "global"])
def test_an_epoch_stays_within_its_memory_options(seaweed: Any, large: str, shuffle: str | None) -> None:
    buffer_bytes, prefetch_bytes, limit = 64 * 2**20, 32 * 2**20, 16 * 2**20
    command = [sys.executable, "-c", READER, json.dumps([large, shuffle, buffer_bytes, prefetch_bytes, limit])]
    grown, total = json.loads(subprocess.check_output(command, env={**os.environ, **seaweed.environment()}))
    assert total == sum(range(N - 1))
    # The consumer holds two more batches of 16 MiB: a loop releases one only after it got the next.
    assert grown <= buffer_bytes + prefetch_bytes + limit + 2 * 16 * 2**20 + 64 * 2**20
