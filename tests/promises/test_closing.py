"""Closing a session during its work: nothing is sent, open or running afterwards, and the loop keeps running."""

from __future__ import annotations

import asyncio
import http.client
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async._engine import compare_and_swap
from zarr_s3_async.events import ConflictMet

from ..servers import faults
from ..servers.exchange import Exchange
from ..servers.fault_server import FaultServer

CHUNKS = 100
FOREVER = 10**6
LAYOUTS: dict[str, dict[str, Any]] = {"chunks": {}, "shards": {"shards": (400,)}}
_OPEN = {"01", "02", "08"}
"""States of TCP in which a socket of ours is still open: established, syn sent, close wait."""


def open_sockets(server: FaultServer) -> int:
    """Number of sockets connected to the server."""
    port = int(server.endpoint_url.rpartition(":")[2])
    table = Path("/proc/net/tcp")
    if not table.exists():
        pytest.skip("this system has no /proc/net/tcp, so the open connections cannot be counted")
    rows = [line.split() for line in table.read_text().splitlines()[1:]]
    return sum(row[2].endswith(f":{port:04X}") and row[3] in _OPEN for row in rows)


async def nothing_follows(server: FaultServer) -> None:
    """Check that no socket is open and no request follows: a later one would need a new connection."""
    barrier = http.client.HTTPConnection(server.endpoint_url.removeprefix("http://"))
    barrier.request("GET", "/data/barrier")  # answered after the server has accepted all earlier connections
    await asyncio.to_thread(lambda: barrier.getresponse().read())
    barrier.close()
    while server._sockets:  # the server still reads what was sent
        await asyncio.sleep(0.001)
    connections, requests = server.connections, len(server.seen)
    for _ in range(50):
        await asyncio.sleep(0.001)
        assert open_sockets(server) == 0
    assert (server.connections, len(server.seen)) == (connections, requests)


def codec_threads() -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name == "zarr-s3-codec"]


async def objects_of(layout: str) -> dict[str, bytes]:
    store = zs.MemoryStore()
    async with zs.Session() as session:
        options = {"shape": (100 * CHUNKS,), "chunks": (100,), "dtype": "i4", **LAYOUTS[layout]}
        array = await session.create_array(store, **options)
        await array.set_slice(np.arange(100 * CHUNKS, dtype="i4"), 0)
    return {entry.key: bytes((await store.get(entry.key)).data) async for entry in store.list_prefix()}


@contextmanager
def serving(layout: str, transport: str) -> Iterator[tuple[FaultServer, zs.Session, asyncio.Runner]]:
    """A server with an array, and a session with 64 concurrent requests that reads it."""
    with FaultServer(buckets=("data",)) as server, asyncio.Runner() as runner:
        config = server.s3_config(transport=transport)

        for key, body in runner.run(objects_of(layout)).items():
            server.put("data", f"a/{key}", body)
        server.forget()
        yield server, zs.Session(s3=config, retry=zs.RetryPolicy(attempts=5, base_delay=5.0, max_delay=5.0)), runner


class Held:
    """A fault that holds back all responses until it is released."""

    def __init__(self) -> None:
        self.go = threading.Event()
        self.reached = threading.Semaphore(0)

    def __call__(self, exchange: Exchange) -> None:
        self.reached.release()
        while not self.go.is_set():
            exchange.pause(0.02)
        exchange.reply()


@pytest.mark.parametrize("transport", ["wire", "sdk"])
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("state", ["held", "refused", "at once"])
def test_closing_ends_a_hundred_reads_in_flight(transport: str, layout: str, state: str) -> None:
    """Held: the server does not answer. Refused: the reads wait for their next attempt. At once: it answers."""
    with serving(layout, transport) as (server, session, runner):
        held = Held()

        async def main() -> None:
            tasks = await start(session)
            while not (server.count("GetObject") >= 8 and (state != "held" or held.reached.acquire(blocking=False))):
                await asyncio.sleep(0.001)
            await session.aclose()
            assert open_sockets(server) == 0
            assert codec_threads() == []
            done, pending = await asyncio.wait(tasks, timeout=10)
            assert not pending, "no task of the session is still running"
            for task in done:
                with suppress(zs.SessionClosed):
                    await task
            held.go.set()
            await nothing_follows(server)

        async def start(opened: zs.Session) -> list[asyncio.Task[Any]]:
            array = await opened.open_array("s3://data/a")
            server.forget()
            if state == "held":
                server.cue("GetObject", held, times=FOREVER)
            if state == "refused":
                server.cue("GetObject", faults.internal_error, nth=4, times=FOREVER)
            return [asyncio.create_task(array.get_slice(100 * n, 100 * (n + 1))) for n in range(CHUNKS)]

        runner.run(main())


@pytest.mark.parametrize("transport", ["wire", "sdk"])
def test_closing_ends_writes_with_an_outcome_and_sends_nothing_afterwards(transport: str) -> None:
    with serving("chunks", transport) as (server, session, runner):
        held = Held()

        async def main() -> None:
            array = await session.open_array("s3://data/a")
            server.cue("PutObject", held, times=FOREVER)
            data = np.arange(100 * CHUNKS, dtype="i4") + 1
            writing = asyncio.create_task(array.set_slice(data, 0))
            while not held.reached.acquire(blocking=False):
                await asyncio.sleep(0.001)
            await session.aclose()
            with pytest.raises(zs.SessionClosed) as caught:
                await writing
            outcome = caught.value.outcome
            assert outcome is not None
            assert len(outcome.unknown) > 0
            assert len(outcome.not_written) > 0
            held.go.set()
            await nothing_follows(server)

        runner.run(main())


@pytest.mark.parametrize("transport", ["wire", "sdk"])
def test_closing_while_the_first_request_resolves_its_endpoint_leaves_nothing_open(transport: str) -> None:
    """The first request resolves client, credentials and endpoint; the session closes after `turns` loop iterations."""
    with serving("chunks", transport) as (server, _, runner):

        async def main(turns: int) -> None:
            session = zs.Session(
                endpoint_url=server.endpoint_url,
                region="us-east-1",
                access_key_id="AKIDTEST",
                secret_access_key="s",
                transport=transport,  # type: ignore[arg-type]  # both
            )
            store = session.s3("data")
            reading = asyncio.create_task(store.get("a/zarr.json"))
            for _ in range(turns):
                await asyncio.sleep(0)
            await session.aclose()
            assert open_sockets(server) == 0
            await asyncio.wait((reading,), timeout=10)
            assert reading.done()
            if reading.exception() is not None:
                assert isinstance(reading.exception(), zs.SessionClosed)
            await nothing_follows(server)

        for turns in (0, 1, 3, 8, 200):
            runner.run(main(turns))


def test_closing_does_not_block_the_loop_while_a_thread_decodes() -> None:
    """Closing waits for the thread, which here waits for the loop: if the loop were blocked, neither would end."""
    began, go = threading.Event(), threading.Event()

    def slow() -> bool:
        began.set()
        return go.wait(30)

    async def main() -> None:
        session = zs.Session()
        store = zs.MemoryStore()
        await session.create_array(store, shape=(4,), dtype="i4")
        running = asyncio.create_task(session._cpu.run(slow))
        while not began.is_set():
            await asyncio.sleep(0.001)
        closing = asyncio.create_task(session.aclose())
        await asyncio.sleep(0)
        assert not closing.done()
        go.set()
        await closing
        assert await running is True
        assert codec_threads() == []

    asyncio.run(main())


async def test_a_session_may_be_closed_repeatedly_and_immediately() -> None:
    session = zs.Session()
    await session.create_array(zs.MemoryStore(), shape=(4,), dtype="i4")
    await asyncio.gather(*(session.aclose() for _ in range(5)))
    await session.aclose()
    with pytest.raises(zs.SessionClosed):
        await session.create_array(zs.MemoryStore(), shape=(4,), dtype="i4")


async def test_closing_ends_a_merge_that_waits_for_its_next_attempt(monkeypatch: pytest.MonkeyPatch) -> None:
    """The merge waits between two attempts, with no request in flight; a second merge waits for its lock."""

    class Contended(zs.MemoryStore):
        async def put(self, key: str, data: Any, *, when: Any = "always") -> Any:
            if when != "always" and not key.endswith("zarr.json"):
                raise zs.Conflict(f"{key}: another writer was first")
            return await super().put(key, data, when=when)

    monkeypatch.setattr(compare_and_swap, "conflict_delay", lambda *_: 3600.0)
    waiting = asyncio.Event()
    session = zs.Session(hooks=[lambda event: waiting.set() if isinstance(event, ConflictMet) else None])
    array = await session.create_array(Contended(), shape=(4,), chunks=(4,), dtype="i4")
    merges = [asyncio.create_task(array.set_slice([1], n)) for n in range(2)]
    await waiting.wait()
    await session.aclose()
    done, pending = await asyncio.wait(merges, timeout=10)
    assert not pending
    assert all(isinstance(task.exception(), zs.SessionClosed) for task in done)
