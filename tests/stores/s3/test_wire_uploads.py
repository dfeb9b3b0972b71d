"""Uploads on the wire: slow readers, early responses, servers that hang up, and cancelled callers."""

import asyncio
import threading
import time

import pytest

from zarr_s3_async.errors import NetworkError
from zarr_s3_async.stores.s3.request import Request

from .wire_server import BIG, GET, ScriptedServer, answering, error, response, sent


def test_a_big_upload_to_a_slow_reader_arrives_complete(run):
    """Flow control: the payload is not copied while it waits; afterwards the connection is reused."""
    payload = BIG * 4

    def script(peer):
        while True:
            head = peer.head()
            left = int(head.split("content-length: ")[1].split("\r\n")[0])
            got = bytearray()
            while len(got) < left:
                if len(got) < 200_000:
                    time.sleep(0.002)
                got += peer.sock.recv(min(65_536, left - len(got)))
            assert got == payload
            peer.send(response())

    put = Request("PutObject", "bucket", "k", payload=memoryview(payload))
    with ScriptedServer(script) as server:
        answers = run(sent(server, put, put))
    assert [a.status for a in answers] == [200, 200]
    assert server.connections == 1


def test_an_error_during_an_upload_is_its_response(run):
    """The server refuses after the head and stops reading: its response is used, and the connection is not reused."""
    put = Request("PutObject", "bucket", "k", payload=BIG * 8)
    another = threading.Event()

    def script(peer):
        if peer.number == 0:
            peer.head()
            peer.send(error("AccessDenied", "403 Forbidden"))
            another.wait(30)  # without reading: a fully read upload may be followed by the next request
        else:
            another.set()
            answering(response())(peer)

    with ScriptedServer(script) as server:
        refused, fine = run(sent(server, put, GET))
    assert (refused.status, refused.error.code) == (403, "AccessDenied")
    assert fine.status == 200
    assert server.connections == 2


def test_a_success_before_the_end_of_the_upload_closes_the_connection(run):
    """The rest of the upload would be read as the next request."""
    put = Request("PutObject", "bucket", "k", payload=BIG * 8)
    another = threading.Event()

    def script(peer):
        peer.head()
        peer.send(response())
        if peer.number == 0:
            another.wait(30)
        else:
            another.set()
            peer.wait_for_hang_up()

    with ScriptedServer(script) as server:
        answers = run(sent(server, put, put))
    assert [a.status for a in answers] == [200, 200]
    assert server.connections == 2


def test_a_connection_closed_during_an_upload_is_a_network_error(run):
    """The server closes it without a response."""

    def script(peer):
        peer.head()
        peer.reset()

    async def main(server):
        wire = server.wire()
        with pytest.raises(NetworkError):
            await wire.send(Request("PutObject", "bucket", "k", payload=BIG * 8))
        await wire.aclose()

    with ScriptedServer(script) as server:
        run(main(server))


@pytest.mark.parametrize("answered", [True, False], ids=["answered", "given up"])
def test_a_cancelled_upload_continues_until_its_response(run, monkeypatch, answered):
    """Cancelled twice while most of the payload is unsent; the payload is sent, and the connection is reused.

    Without an answer within the grace period, the connection is closed.
    """
    if not answered:
        monkeypatch.setattr("zarr_s3_async._concurrency.blocking.GRACE", 0.05)
    put = Request("PutObject", "bucket", "k", payload=BIG * 8)
    cancelled, bodies = threading.Event(), []

    async def main(server):
        loop, begun = asyncio.get_running_loop(), asyncio.Event()
        server.begun = lambda: loop.call_soon_threadsafe(begun.set)
        wire = server.wire(complete_uploads=True)
        sending = asyncio.create_task(wire.send(put))
        await begun.wait()
        for _ in range(2):
            sending.cancel()
            for _ in range(20):
                await asyncio.sleep(0)
            assert not answered or not sending.done()
        cancelled.set()
        with pytest.raises(asyncio.CancelledError):
            await sending
        answer = await wire.send(GET)
        await wire.aclose()
        return answer

    def script(peer):
        if peer.number == 0:
            head = peer.head()
            server.begun()
            cancelled.wait(30)
            if not answered:
                return peer.wait_for_hang_up()
            left, body = int(head.split("content-length: ")[1].split("\r\n")[0]), bytearray()
            while len(body) < left:
                body += peer.sock.recv(left - len(body))
            bodies.append(bytes(body))
            peer.send(response())
        return answering(response(b"fine"))(peer)

    with ScriptedServer(script) as server:
        assert run(main(server)).body == b"fine"
        assert server.connections == (1 if answered else 2)
    assert bodies == ([put.payload] if answered else [])
