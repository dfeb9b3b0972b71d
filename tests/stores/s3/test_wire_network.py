"""Responses and faults over real sockets, on asyncio and uvloop: every fault is one of our errors."""

import time

import pytest

from zarr_s3_async.errors import NetworkError
from zarr_s3_async.stores.s3.request import Request
from zarr_s3_async.stores.s3.resume import BrokenBody
from zarr_s3_async.stores.s3.wire import Wire

from .wire_server import (
    BIG,
    GET,
    ScriptedServer,
    answering,
    endpoint_on,
    hang_up,
    keys,
    reset,
    response,
    sent,
    talking,
)


@pytest.mark.parametrize("size", [0, 1, 16_384, 100_000, 2_097_152])
def test_bodies_of_all_sizes_are_received(run, size):
    """They are received with and without a sink, over one connection."""
    memory = bytearray(size)
    with ScriptedServer(answering(response(BIG[:size]))) as server:
        plain, sunk = run(sent(server, GET, Request("GetObject", "bucket", "k", sink=lambda _: memoryview(memory))))
    assert plain.body == BIG[:size]
    assert sunk.body.obj is memory
    assert memory == BIG[:size]
    assert plain.headers["etag"] == '"e"'
    assert server.connections == 1


def test_a_response_in_slow_pieces_is_received(run):
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


def test_bodies_in_chunked_framing_are_received(run):
    """Small and large chunks are sent."""
    head = b'HTTP/1.1 200 OK\r\netag: "e"\r\ntransfer-encoding: chunked\r\n\r\n'
    chunks = b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in (BIG[:10], BIG, BIG[:70_000]))
    with ScriptedServer(answering(head + chunks + b"0\r\n\r\n")) as server:
        first, second = run(sent(server, GET, GET))
    assert first.body == second.body == BIG[:10] + BIG + BIG[:70_000]
    assert server.connections == 1


def test_a_response_with_connection_close_ends_its_connection(run):
    """The response is used; the next request gets a new connection."""
    with ScriptedServer(answering(response(b"a", connection="close"))) as server:
        answers = run(sent(server, GET, GET))
    assert [a.body for a in answers] == [b"a", b"a"]
    assert server.connections == 2


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


def test_a_refused_connection_is_a_network_error(run):
    """It is raised immediately, without waiting for a timeout."""
    with ScriptedServer(answering(response())) as server:
        port = server.port

    async def main():
        wire = Wire(endpoint_on(port), keys)
        with pytest.raises(NetworkError):
            await wire.send(GET)
        await wire.aclose()

    run(main())


def test_a_host_name_that_does_not_resolve_is_a_network_error(run):
    """The error names the host."""

    async def main():
        wire = Wire(endpoint_on(80, "nowhere.invalid"), keys)
        for _ in range(2):
            with pytest.raises(NetworkError):
                await wire.send(GET)
        await wire.aclose()

    run(main())


def test_only_the_start_of_a_20_mb_error_page_is_read(run):
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
