"""A failing server: retries do not multiply the load, waiting calls block no others, abandoned requests end."""

from __future__ import annotations

import asyncio
import threading
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs

from ..servers import faults
from ..servers.fault_server import FaultServer
from .virtual_time import elapse

FOREVER = 100_000
CHUNKS = 1000
RETRIES = 128
"""Twice the number of requests in flight: all of them may fail at the same time, twice."""


def session_on(server: FaultServer, transport: str, **options: Any) -> zs.Session:
    config = server.s3_config(transport=transport)
    retry = options.pop("retry", zs.RetryPolicy(attempts=5, base_delay=1e-9, max_delay=1e-9))
    return zs.Session(s3=config, retry=retry, **options)


async def array_of(session: zs.Session, chunks: int) -> zs.Array:
    array = await session.create_array("s3://data/a", shape=(4 * chunks,), chunks=(4,), dtype="i4", fill_value=-7)
    await array.set_slice(np.arange(8), 0)
    return array


def slots_of(session: zs.Session) -> int:
    return session._context.requests.held


@pytest.mark.parametrize("transport", ["wire", "sdk"])
@pytest.mark.parametrize("fault", [faults.internal_error, faults.slow_down], ids=["500", "503"])
async def test_an_outage_gets_a_bounded_number_of_retries_from_any_number_of_callers(
    transport: str, fault: faults.Fault
) -> None:
    """1,000 reads with up to five attempts each: one request each, plus the retries that the budget allows."""
    reads = CHUNKS if transport == "wire" else CHUNKS // 4
    with FaultServer() as server:
        async with session_on(server, transport) as session:
            array = await array_of(session, reads)
            server.forget()
            server.cue("GetObject", fault, times=FOREVER)
            reading = [array.get_slice(4 * n, 4 * n + 4) for n in range(reads)]
            failures = await asyncio.gather(*reading, return_exceptions=True)
            assert all(isinstance(failure, zs.StoreError) for failure in failures)
            assert server.count("GetObject") <= reads + RETRIES
            assert slots_of(session) == 0
            server.forget()
            assert (await array.get_slice(0, 4)).tolist() == [0, 1, 2, 3], "the outage is over"
            assert server.count("GetObject") == 1


@pytest.mark.parametrize("transport", ["wire", "sdk"])
async def test_a_call_that_backs_off_does_not_block_others(transport: str) -> None:
    """With one request slot, a call that backs off for an hour does not hold up the next read."""
    waiting = asyncio.Event()

    def hook(event: zs.events.Event) -> None:
        if isinstance(event, zs.RetryScheduled):
            waiting.set()

    retry = zs.RetryPolicy(attempts=2, base_delay=1e-9, max_delay=3600.0)
    with FaultServer() as server:
        async with session_on(server, transport, retry=retry, limits=zs.Limits(requests=1), hooks=[hook]) as session:
            array = await array_of(session, 2)
            server.cue("GetObject", faults.retry_after(3600), key="c/0")
            slow = asyncio.create_task(array.get_slice(0, 4))
            await waiting.wait()
            assert slots_of(session) == 0
            async with asyncio.timeout(30):
                assert (await array.get_slice(4, 8)).tolist() == [4, 5, 6, 7]
            slow.cancel()
            with pytest.raises(asyncio.CancelledError):
                await slow
            assert slots_of(session) == 0


class Abandoned:
    """A fault that never answers, and records when the client closes the connection."""

    def __init__(self) -> None:
        self.hung_up = threading.Event()

    def __call__(self, exchange: Any) -> None:
        exchange.stall()
        if not exchange.server.stopping.is_set():
            self.hung_up.set()


async def abandon(array: zs.Array, how: str, server: FaultServer) -> None:
    """Start a read and abandon it before the response."""
    match how:
        case "timeout=":
            with pytest.raises(zs.DeadlineExceeded, match="timeout="):
                await array.get_slice(0, 4, timeout=0.1)
        case "asyncio.timeout":
            with pytest.raises(TimeoutError):
                async with asyncio.timeout(0.1):
                    await array.get_slice(0, 4)
        case "wait_for":
            with pytest.raises(TimeoutError):
                await asyncio.wait_for(array.get_slice(0, 4), 0.1)
        case _:
            task = asyncio.create_task(array.get_slice(0, 4))
            while server.count("GetObject") == 0:
                await asyncio.sleep(0.005)
            task.cancel()
            with pytest.raises(asyncio.CancelledError):
                await task


@pytest.mark.parametrize("transport", ["wire", "sdk"])
@pytest.mark.parametrize("how", ["timeout=", "asyncio.timeout", "wait_for", "cancel"])
async def test_an_abandoned_read_closes_its_connection(transport: str, how: str) -> None:
    with FaultServer() as server:
        async with session_on(server, transport) as session:
            array = await array_of(session, 2)
            abandoned = Abandoned()
            server.forget()
            server.cue("GetObject", abandoned, times=FOREVER)
            while server.count("GetObject") == 0:  # on a slow machine the read may end before its request was sent
                await abandon(array, how, server)
            assert await asyncio.to_thread(abandoned.hung_up.wait, 20), "its connection was closed"
            assert slots_of(session) == 0
            server.forget()
            assert (await array.get_slice(0, 4)).tolist() == [0, 1, 2, 3]


@pytest.mark.parametrize("transport", ["wire", "sdk"])
async def test_a_write_that_times_out_has_an_unknown_outcome_and_holds_no_slot(transport: str) -> None:
    with FaultServer() as server:
        async with session_on(server, transport) as session:
            array = await array_of(session, 2)
            server.cue("PutObject", faults.stall_before_head, times=FOREVER)
            before = server.count("PutObject")
            passes = asyncio.create_task(elapse(100.0, lambda: server.count("PutObject") > before))
            with pytest.raises(zs.DeadlineExceeded) as caught:
                await array.set_slice([9, 9, 9, 9], 0, timeout=100.0)
            await passes
            assert caught.value.outcome == zs.WriteOutcome(unknown=((0,),))
            assert slots_of(session) == 0
            server.forget()
            assert (await array.get_slice(0, 4)).tolist() == [9, 9, 9, 9], (
                "the put without a response had been carried out"
            )


@pytest.mark.parametrize("transport", ["wire", "sdk"])
async def test_a_merge_that_times_out_during_its_read_has_written_nothing(transport: str) -> None:
    with FaultServer() as server:
        async with session_on(server, transport) as session:
            array = await array_of(session, 2)
            server.cue("GetObject", faults.stall_before_head, times=FOREVER)
            before = server.count("GetObject")
            passes = asyncio.create_task(elapse(100.0, lambda: server.count("GetObject") > before))
            with pytest.raises(zs.DeadlineExceeded) as caught:
                await array.set_slice([9, 9], 0, timeout=100.0)
            await passes
            assert caught.value.outcome == zs.WriteOutcome(not_written=((0,),))
            server.forget()
            assert (await array.get_slice(0, 4)).tolist() == [0, 1, 2, 3]
