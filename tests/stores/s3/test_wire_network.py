"""The wire over real sockets, on asyncio and uvloop: correct responses, and one of our errors for every fault."""

import asyncio
import socket
import threading
import time
from types import SimpleNamespace

import pytest

from zarr_s3_async.errors import ConfigError, DeadlineExceeded, NetworkError, Unsupported
from zarr_s3_async.stores.s3.request import Request
from zarr_s3_async.stores.s3.resume import BrokenBody
from zarr_s3_async.stores.s3.sdk.endpoint import Endpoint
from zarr_s3_async.stores.s3.wire import Wire

from .wire_server import LOOPS, ScriptedServer, answering, error, keys, response, run_on

GET = Request("GetObject", "bucket", "some/key")
BIG = bytes(range(256)) * 8192  # 2 MiB


@pytest.fixture(params=list(LOOPS))
def run(request):
    return lambda work: run_on(request.param, work)


def endpoint_on(port, host="127.0.0.1"):
    return Endpoint(scheme="http", host=host, port=port, path_prefix="/bucket", region="us-east-1")


def sent(server, *requests, **options):
    """Send requests one after the other on a new wire. Returns the responses."""

    async def main():
        wire = server.wire(**options)
        try:
            return [await wire.send(request) for request in requests]
        finally:
            await wire.aclose()

    return main()


# ---- requests


def test_each_operation_is_the_request_of_the_s3_api(run):
    """Method, path, query, headers, length and body."""
    upload = {"partNumber": "7", "uploadId": "a+b/c"}
    requests = [
        Request("GetObject", "bucket", "a b/c+d~é//%41", {"range": "bytes=0-3"}),
        Request("HeadObject", "bucket", "k"),
        Request("PutObject", "bucket", "k", {"if-none-match": "*", "x-amz-meta-w": "1"}, payload=b"data"),
        Request("PutObject", "bucket", "empty", payload=b""),
        Request("UploadPart", "bucket", "k", {}, upload, payload=memoryview(b"part")),
        Request("DeleteObject", "bucket", "k", {"if-match": '"e"'}),
    ]
    bodies = []

    def script(peer):
        while True:
            head, body = peer.request()
            bodies.append(body)
            peer.send(response(b"" if head.startswith(("HEAD", "PUT")) else b"body", "206 P"))

    with ScriptedServer(script) as server:
        run(sent(server, *requests))
    lines = [head.split("\r\n") for head in server.requests]
    assert [head[0] for head in lines] == [
        "GET /bucket/a%20b/c%2Bd~%C3%A9//%2541 HTTP/1.1",
        "HEAD /bucket/k HTTP/1.1",
        "PUT /bucket/k HTTP/1.1",
        "PUT /bucket/empty HTTP/1.1",
        "PUT /bucket/k?partNumber=7&uploadId=a%2Bb%2Fc HTTP/1.1",
        "DELETE /bucket/k HTTP/1.1",
    ]
    assert "range: bytes=0-3" in lines[0]
    assert {"if-none-match: *", "x-amz-meta-w: 1", "content-length: 4"} <= set(lines[2])
    assert "content-length: 0" in lines[3]
    assert 'if-match: "e"' in lines[5]
    assert bodies == [b"", b"", b"data", b"", b"part", b""]
    assert all(any(line.startswith("authorization: AWS4-HMAC-SHA256 Credential=AK/") for line in h) for h in lines)
    assert all(f"host: 127.0.0.1:{server.port}" in h for h in lines)
    assert server.connections == 1


def test_without_credentials_nothing_is_signed(run):
    """No credentials callable, or one that returns None."""

    async def none():
        return None

    async def main(server, credentials):
        wire = Wire(server.endpoint(), credentials)
        await wire.send(GET)
        await wire.aclose()

    with ScriptedServer(answering(response())) as server:
        run(main(server, None))
        run(main(server, none))
    assert len(server.requests) == 2
    assert not any("authorization" in head or "x-amz" in head for head in server.requests)


def test_refreshed_credentials_are_used_for_the_next_request(run):
    """Credentials are fetched before every request."""
    names = iter(["first", "second"])

    async def refreshed():
        return SimpleNamespace(access_key=next(names), secret_key="S", token=None)

    async def main(server):
        wire = Wire(server.endpoint(), refreshed)
        await wire.send(GET)
        await wire.send(GET)
        await wire.aclose()

    with ScriptedServer(answering(response())) as server:
        run(main(server))
    assert ["first" in server.requests[0], "second" in server.requests[1]] == [True, True]


@pytest.mark.parametrize("value", ["a\r\nx: y", "a\ny", "a\rb", "a\0b"])
def test_a_header_cannot_smuggle_another(run, value):
    """A line end in a value is refused before anything is sent."""

    async def main(server):
        wire = server.wire()
        try:
            with pytest.raises(ConfigError):
                await wire.send(Request("PutObject", "bucket", "k", {"x-amz-meta-a": value}, payload=b""))
        finally:
            await wire.aclose()

    with ScriptedServer(answering(response())) as server:
        run(main(server))
    assert server.requests == []


def test_control_operations_are_refused(run):
    """They are sent over the SDK."""

    async def main():
        wire = Wire(endpoint_on(1), keys)
        with pytest.raises(Unsupported, match="SDK"):
            await wire.send(Request("DeleteObjects", "bucket", ""))
        await wire.aclose()

    run(main())


# ---- correct responses


@pytest.mark.parametrize("size", [0, 1, 16_384, 100_000, 2_097_152])
def test_bodies_arrive_whole(run, size):
    """With and without a sink, over one connection."""
    memory = bytearray(size)
    with ScriptedServer(answering(response(BIG[:size]))) as server:
        plain, sunk = run(sent(server, GET, Request("GetObject", "bucket", "k", sink=lambda _: memoryview(memory))))
    assert plain.body == BIG[:size]
    assert sunk.body.obj is memory
    assert memory == BIG[:size]
    assert plain.headers["etag"] == '"e"'
    assert server.connections == 1


def test_slow_pieces_make_a_whole_answer(run):
    """The response arrives in small pieces with pauses."""
    answer = b"HTTP/1.1 100 Continue\r\n\r\n" + response(b"0123456789")

    def script(peer):
        peer.request()
        for place in range(0, len(answer), 3):
            peer.send(answer[place : place + 3])
            time.sleep(0.001)
        peer.wait_for_hang_up()

    with ScriptedServer(script) as server:
        (got,) = run(sent(server, GET))
    assert got.body == b"0123456789"


def test_chunks_over_the_network(run):
    """Small and large ones."""
    head = b'HTTP/1.1 200 OK\r\netag: "e"\r\ntransfer-encoding: chunked\r\n\r\n'
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in (BIG[:10], BIG, BIG[:70_000]))
    with ScriptedServer(answering(head + chunks + b"0\r\n\r\n")) as server:
        first, second = run(sent(server, GET, GET))
    assert first.body == second.body == BIG[:10] + BIG + BIG[:70_000]
    assert server.connections == 1


def test_connection_close_is_obeyed(run):
    """The response is used; the next request gets a new connection."""
    with ScriptedServer(answering(response(b"a", connection="close"))) as server:
        answers = run(sent(server, GET, GET))
    assert [a.body for a in answers] == [b"a", b"a"]
    assert server.connections == 2


# ---- faults


def hang_up(peer):
    peer.request()


def reset(peer):
    peer.request()
    peer.reset()


def talking(data, *, then=None):
    def script(peer):
        peer.request()
        peer.send(data)
        if then == "reset":
            time.sleep(0.05)
            peer.reset()

    return script


FAULTS = {
    "hang up": hang_up,
    "reset": reset,
    "half a head": talking(response(b"body")[:20]),
    "half a body": talking(response(b"body")[:-2]),
    "half a big body": talking(response(BIG)[:1_000_000]),
    "reset in the body": talking(response(BIG)[:1_000_000], then="reset"),
    "body too long": talking(response(b"body") + b"y"),
    "big body too long": talking(response(BIG) + b"yy"),
    "no length": talking(b'HTTP/1.1 200 OK\r\netag: "e"\r\n\r\nbody'),
    "garbage": talking(b"\x00\x01\x02garbage"),
    "tls on a plain port": talking(b"\x15\x03\x03\x00\x02\x02\x50"),
    "giant head": talking(b"HTTP/1.1 200 OK\r\nx: " + b"y" * 1_000_000),
    "half a chunk": talking(b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n5\r\nab"),
    "two lengths": talking(b"HTTP/1.1 200 OK\r\ncontent-length: 1\r\ncontent-length: 2\r\n\r\na"),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_fault_is_a_network_error_and_costs_one_request(run, fault):
    """The error names the object and chains its cause; the wire continues with a new connection."""

    def script(peer):
        if peer.number == 0:
            FAULTS[fault](peer)
        else:
            answering(response(b"fine"))(peer)

    async def main(server):
        wire = server.wire()
        try:
            with pytest.raises(NetworkError, match="GetObject s3://bucket/some/key") as raised:
                await wire.send(GET)
            assert raised.value.__cause__ is not None
            assert (raised.value.bucket, raised.value.key) == ("bucket", "some/key")
            assert len(server.requests) == 1
            assert (await wire.send(GET)).body == b"fine"
        finally:
            await wire.aclose()

    with ScriptedServer(script) as server:
        run(main(server))


def test_nothing_listens(run):
    """A refused connection is a NetworkError immediately."""
    with ScriptedServer(answering(response())) as server:
        port = server.port

    async def main():
        wire = Wire(endpoint_on(port), keys)
        with pytest.raises(NetworkError):
            await wire.send(GET)
        await wire.aclose()

    run(main())


def test_a_name_that_does_not_resolve(run):
    """A name that does not resolve is a NetworkError, too."""

    async def main():
        wire = Wire(endpoint_on(80, "nowhere.invalid"), keys)
        for _ in range(2):
            with pytest.raises(NetworkError):
                await wire.send(GET)
        await wire.aclose()

    run(main())


def test_a_20_mb_error_page_is_cut(run):
    """64 KiB of it are read and the connection is closed; it is not taken for S3's own error."""
    page = b"<html>" + b"x" * 20_000_000

    def script(peer):
        if peer.number == 0:
            peer.request()
            peer.send(response(page, "503 Busy"))
        else:
            answering(response(b"fine"))(peer)

    with ScriptedServer(script) as server:
        bad, good = run(sent(server, GET, GET))
    assert (bad.status, bad.error.code, len(bad.body)) == (503, "", 65_536)
    assert good.body == b"fine"


# ---- uploads


def test_a_big_upload_arrives_whole_to_a_slow_reader(run):
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


def test_an_early_error_during_an_upload_is_the_answer(run):
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


def test_an_early_success_before_the_upload_ends_closes_the_connection(run):
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


def test_a_server_that_hangs_up_during_an_upload(run):
    """Without a response it is a NetworkError."""

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
def test_a_cancelled_upload_continues_until_it_is_answered(run, monkeypatch, answered):
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


# ---- time


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
def test_a_stall_in_the_body_ends_sooner_and_reports_the_bytes_received(run, with_sink):
    """Less than 64 KiB in a quarter of the attempt timeout is too slow; the received part can be resumed."""
    memory = bytearray(len(BIG))
    sink = (lambda _: memoryview(memory)) if with_sink else None

    async def main(server):
        wire = server.wire(attempt_timeout=60.0)
        pooled = wire._connections
        pooled._tick, pooled._step_seconds = 0.01, 0.1
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


@pytest.mark.parametrize("fault", ["half a big body", "reset in the body"])
def test_a_broken_body_reports_the_bytes_received(run, fault):
    """The error holds the bytes received, the total length and the ETag, so that the rest can be requested."""

    async def main(server):
        wire = server.wire()
        with pytest.raises(BrokenBody) as raised:
            await wire.send(GET)
        await wire.aclose()
        return raised.value

    with ScriptedServer(FAULTS[fault]) as server:
        broken = run(main(server))
    head = len(response(BIG)) - len(BIG)
    assert not broken.late
    assert isinstance(broken.plain(), NetworkError)
    assert (broken.partial.received, len(broken.partial.memory)) == (1_000_000 - head, len(BIG))
    assert broken.partial.memory[: 1_000_000 - head] == BIG[: 1_000_000 - head]


def trickling(piece, pause):
    def script(peer):
        peer.request()
        peer.send(response(BIG)[: -len(BIG)])
        for start in range(0, len(BIG), piece):
            peer.send(BIG[start : start + piece])
            time.sleep(pause)
        peer.wait_for_hang_up()

    return script


def test_a_trickle_is_too_slow(run):
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
        wire._connections._tick, wire._connections._step_seconds = 0.01, 0.3
        answer = await wire.send(GET)
        await wire.aclose()
        return answer

    with ScriptedServer(trickling(65_536, 0.02)) as server:
        assert run(main(server)).body == BIG


def test_an_upload_that_is_not_read_ends_with_the_attempt_timeout(run):
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


# ---- cancellation


@pytest.mark.parametrize("came", [b"", response(BIG)[:500_000]])
def test_a_cancelled_request_closes_its_connection_and_leaves_the_sink_alone(run, came):
    """From the end of the cancelled task on; the next request gets another connection and its own response."""
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
def test_cancelled_at_any_turn_of_the_loop_it_leaves_a_working_wire(run, turns):
    """With a pool of one connection: while connecting, sending, receiving and afterwards; once and twice."""

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
