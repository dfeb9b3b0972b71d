"""Timeouts of the wire, over real sockets: stalls, slow bodies, and connections that are never established."""

import socket
import threading
import time

import pytest

from zarr_s3_async.errors import DeadlineExceeded, NetworkError
from zarr_s3_async.stores.s3.request import Request
from zarr_s3_async.stores.s3.resume import BrokenBody
from zarr_s3_async.stores.s3.wire import Wire

from .wire_server import BIG, GET, ScriptedServer, answering, endpoint_on, keys, response


def stalling_after(came):
    def script(peer):
        if peer.number == 0:
            peer.request()
            peer.send(came)
            peer.wait_for_hang_up()
        else:
            answering(response(b"fine"))(peer)

    return script


@pytest.mark.parametrize("came", [b"", b"HTTP/1.1 200 OK\r\ncontent-le"])
def test_a_stall_before_the_body_ends_with_the_attempt_timeout(run, came):
    """DeadlineExceeded that names the object; then a new connection is used."""

    async def main(server):
        wire = server.wire(attempt_timeout=0.2)
        try:
            with pytest.raises(DeadlineExceeded, match=r"0\.2 s.*attempt_timeout"):
                await wire.send(GET)
            assert (await wire.send(GET)).body == b"fine"
        finally:
            await wire.aclose()

    with ScriptedServer(stalling_after(came)) as server:
        run(main(server))


@pytest.mark.parametrize("with_sink", [False, True])
def test_a_stalled_body_ends_the_attempt_early_with_the_bytes_received(run, with_sink):
    """Less than 64 KiB in a quarter of the attempt timeout is too slow; the received part can be resumed."""
    memory = bytearray(len(BIG))
    sink = (lambda _: memoryview(memory)) if with_sink else None

    async def main(server):
        wire = server.wire(attempt_timeout=60.0)
        pooled = wire._connections
        pooled._tick, pooled._step_seconds = 0.01, 0.5  # on a slow machine, too, all bytes arrive in the first step
        try:
            with pytest.raises(BrokenBody, match="fewer than 65536 bytes arrived within") as raised:
                await wire.send(Request("GetObject", "bucket", "k", sink=sink))
            assert (await wire.send(GET)).body == b"fine"
        finally:
            await wire.aclose()
        return raised.value

    head = len(response(BIG)) - len(BIG)
    with ScriptedServer(stalling_after(response(BIG)[: head + 500_000])) as server:
        broken = run(main(server))
    assert broken.late
    assert isinstance(broken.plain(), DeadlineExceeded)
    assert (broken.partial.received, len(broken.partial.memory)) == (500_000, len(BIG))
    assert broken.partial.memory[:500_000] == BIG[:500_000]
    assert broken.partial.headers["etag"] == '"e"'
    assert (broken.partial.memory.obj is memory) is with_sink


def trickling(piece, pause):
    def script(peer):
        peer.request()
        peer.send(response(BIG)[: -len(BIG)])
        for start in range(0, len(BIG), piece):
            peer.send(BIG[start : start + piece])
            time.sleep(pause)
        peer.wait_for_hang_up()

    return script


def test_a_body_that_arrives_byte_by_byte_ends_the_attempt(run):
    """Single bytes do not keep an attempt alive until its timeout."""

    async def main(server):
        wire = server.wire(attempt_timeout=60.0)
        wire._connections._tick, wire._connections._step_seconds = 0.01, 0.1
        with pytest.raises(BrokenBody, match="fewer than"):
            await wire.send(GET)
        await wire.aclose()

    with ScriptedServer(trickling(10, 0.01)) as server:
        run(main(server))


def test_a_slow_body_that_keeps_pace_is_received(run):
    """It takes longer than one pace interval, but each interval receives 64 KiB."""

    async def main(server):
        wire = server.wire(attempt_timeout=60.0)
        wire._connections._tick, wire._connections._step_seconds = 0.01, 1.0
        answer = await wire.send(GET)
        await wire.aclose()
        return answer

    with ScriptedServer(trickling(65_536, 0.04)) as server:
        assert run(main(server)).body == BIG


def test_an_upload_that_the_server_does_not_read_ends_with_the_attempt_timeout(run):
    """The payload is released."""
    payload = bytearray(BIG * 8)
    ended = threading.Event()

    def script(peer):
        peer.head()
        ended.wait(30)

    async def main(server):
        wire = server.wire(attempt_timeout=0.2)
        with pytest.raises(DeadlineExceeded):
            await wire.send(Request("PutObject", "bucket", "k", payload=payload))
        ended.set()
        await wire.aclose()

    with ScriptedServer(script) as server:
        run(main(server))


def test_a_connection_that_is_never_established_ends_with_the_connect_timeout(run):
    """A listener with a full queue does not answer; the error names the timeout."""

    async def main(port):
        wire = Wire(endpoint_on(port), keys, connect_timeout=0.2)
        with pytest.raises(NetworkError, match=r"no connection to 127\.0\.0\.1 port \d+ within 0\.2 s"):
            await wire.send(GET)
        await wire.aclose()

    with socket.socket() as listening, socket.socket() as one, socket.socket() as two:
        listening.bind(("127.0.0.1", 0))
        listening.listen(0)
        for filler in (one, two):
            filler.setblocking(False)
            filler.connect_ex(listening.getsockname())
        run(main(listening.getsockname()[1]))
