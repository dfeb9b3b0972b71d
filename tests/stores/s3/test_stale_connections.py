"""Idle connections that the server has closed: what it costs to detect them, and that every request is counted."""

from __future__ import annotations

import asyncio

import pytest

from zarr_s3_async.errors import NetworkError
from zarr_s3_async.stores.s3.errors import STALE

from ...servers import faults
from ...servers.exchange import Exchange
from .rig import Rig

pytestmark = pytest.mark.asyncio(loop_scope="module")

FOREVER = 10_000
OPERATIONS = ("GetObject", "PutObject", "HeadObject", "DeleteObject", "ListObjectsV2", "DeleteObjects")


def one_answer_per_connection(rig: Rig) -> None:
    """A server that closes every connection after one response; the client notices only when it uses it again."""
    for operation in OPERATIONS:
        rig.server.cue(operation, faults.closed_after_one_answer, times=FOREVER)


async def test_merges_succeed_if_every_connection_serves_one_request(rig: Rig) -> None:
    rig.put("k", b"0")
    one_answer_per_connection(rig)
    store = rig.store(attempts=3)
    for number in range(8):
        blob = await store.get("k")
        assert blob is not None
        assert bytes(blob.data) == b"%d" % number
        await store.put("k", b"%d" % (number + 1), when=blob.version)
    assert rig.stored("k") == b"8"
    assert not any(rig.waits)
    assert rig.attempts == len(rig.server.seen), "every request sent is reported by an event"


@pytest.mark.parametrize("conditional", [False, True])
async def test_one_attempt_sends_a_write_once(rig: Rig, conditional: bool) -> None:
    rig.put("k", b"old")
    store = rig.store(attempts=1)
    blob = await store.get("k")
    assert blob is not None
    await store.put("k", b"old")
    blob = await store.get("k")
    assert blob is not None
    rig.forget()
    one_answer_per_connection(rig)
    with pytest.raises(NetworkError) as caught:
        await store.put("k", b"new", when=blob.version if conditional else "always")
    assert caught.value.code == STALE
    assert rig.server.count("PutObject") == rig.attempts == 1
    assert rig.stored("k") == b"old"


async def test_reads_succeed_if_the_server_has_closed_all_idle_connections(rig: Rig) -> None:
    """With a single attempt: a read is idempotent, so a closed idle connection does not count as an attempt."""
    rig.put("k", b"data")
    store = rig.store(attempts=1)
    barrier = asyncio.Barrier(8)

    async def read() -> None:
        blob = await store.get("k")
        assert blob is not None
        assert bytes(blob.data) == b"data"

    async def read_together() -> None:
        await barrier.wait()
        await read()

    await asyncio.gather(*(read_together() for _ in range(8)))
    dead = rig.server.connections

    def closed_meanwhile(exchange: Exchange) -> None:
        (exchange.reset if exchange.connection <= dead else exchange.reply)()

    rig.forget()
    rig.server.cue("GetObject", closed_meanwhile, times=FOREVER)
    for _ in range(5):
        await asyncio.gather(*(read() for _ in range(8)))
    assert rig.attempts == rig.server.count("GetObject") <= 2 * 40
    assert not any(rig.waits)


async def test_a_write_carried_out_before_its_connection_closed_is_recognised_by_its_id(rig: Rig) -> None:
    """The client sees a closed idle connection, although the request was carried out."""
    rig.put("k", b"old")
    store = rig.store(attempts=3)
    blob = await store.get("k")
    assert blob is not None
    rig.forget()
    rig.server.cue("PutObject", faults.lost_answer)
    version = await store.put("k", b"new", when=blob.version)
    assert rig.stored("k") == b"new"
    assert rig.server.count("PutObject") == 2
    blob = await store.get("k")
    assert blob is not None
    assert blob.version == version
