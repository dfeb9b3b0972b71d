"""A cancelled request leaves a working wire and writes no more into its sink, on asyncio and uvloop."""

import asyncio
import threading
import time

import pytest

from zarr_s3_async.stores.s3.request import Request

from .wire_server import BIG, GET, ScriptedServer, answering, response


@pytest.mark.parametrize("came", [b"", response(BIG)[:500_000]])
def test_a_cancelled_request_closes_its_connection_and_writes_no_more_into_the_sink(run, came):
    """Nothing is written after the cancelled task has ended, and the next request gets a new connection."""
    memory = bytearray(len(BIG))
    waiting = threading.Event()

    def script(peer):
        if peer.number == 0:
            peer.request()
            peer.send(came)
            waiting.set()
            while came:  # until the client closes, which ends the script
                peer.send(b"z" * 10_000)
                time.sleep(0.001)
            peer.wait_for_hang_up()
        else:
            answering(response(b"fine"))(peer)

    async def main(server):
        wire = server.wire(max_connections=1)
        request = Request("GetObject", "bucket", "k", sink=lambda _: memoryview(memory))
        task = asyncio.ensure_future(wire.send(request))
        while not waiting.is_set():
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        before = bytes(memory)
        answer = await wire.send(GET)
        await asyncio.sleep(0.02)
        assert answer.body == b"fine"
        assert memory == before
        await wire.aclose()

    with ScriptedServer(script) as server:
        run(main(server))


def test_a_cancelled_upload_closes_its_connection(run):
    """Its payload is released immediately: a bytearray that is still exported could not be resized."""
    payload = bytearray(BIG * 8)

    def script(peer):
        peer.head()
        peer.wait_for_hang_up()

    async def main(server):
        wire = server.wire()
        task = asyncio.ensure_future(wire.send(Request("PutObject", "bucket", "k", payload=payload)))
        while not server.requests:
            await asyncio.sleep(0.005)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await wire.aclose()

    with ScriptedServer(script) as server:
        run(main(server))


@pytest.mark.parametrize("turns", range(12))
def test_the_wire_works_after_a_cancellation_in_any_loop_iteration(run, turns):
    """The pool has one connection; the request is cancelled once or twice while it connects, sends or receives."""

    async def main(server):
        wire = server.wire(max_connections=1)
        for _ in range(2):
            task = asyncio.ensure_future(wire.send(GET))
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            await asyncio.wait([task])
            assert (await wire.send(GET)).body == BIG
        await wire.aclose()

    with ScriptedServer(answering(response(BIG))) as server:
        run(main(server))
