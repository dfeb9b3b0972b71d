"""The connection without sockets: responses that are truncated, extended, split and mutated."""

import asyncio

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from zarr_s3_async._http.errors import ConnectionBroken, ProtocolError
from zarr_s3_async._http.head import MAX_HEAD
from zarr_s3_async.stores.s3.request import Request

from ...fuzz.answers import by_h11
from .wire_memory import GET, MemoryConnection
from .wire_server import error, response

HEAD = Request("HeadObject", "bucket", "key")
PUT = Request("PutObject", "bucket", "key", payload=b"payload")
CHUNKED = b'HTTP/1.1 200 OK\r\netag: "e"\r\ntransfer-encoding: chunked\r\n\r\n'


def outcome(answer: asyncio.Future):
    """The result of the exchange; a pending one would be a hang."""
    assert answer.done(), "the exchange would wait forever"
    try:
        return answer.result()
    except (ConnectionBroken, ProtocolError) as failure:
        return failure


def feed_in_pieces(memory: MemoryConnection, data: bytes, cuts: list[int]) -> None:
    for start, stop in zip([0, *cuts], [*cuts, len(data)], strict=True):
        memory.receive(data[start:stop])


ANSWERS = {
    "exact": (GET, response(b"some body"), b"some body"),
    "empty": (GET, response(b""), b""),
    "chunked": (GET, CHUNKED + b"5\r\nsome \r\n4;x\r\nbody\r\n0\r\nt: 1\r\n\r\n", b"some body"),
    "continued": (GET, b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 x\r\na: b\r\n\r\n" + response(b"b"), b"b"),
    "head": (HEAD, b'HTTP/1.1 200 OK\r\ncontent-length: 9\r\netag: "e"\r\n\r\n', b""),
    "no content": (GET, b"HTTP/1.1 204 No Content\r\n\r\n", b""),
    "not modified": (GET, b"HTTP/1.1 304 Not Modified\r\ncontent-length: 9\r\n\r\n", b""),
    "error": (GET, response(b"an error", "404 Not Found"), b"an error"),
    "put": (PUT, response(b""), b""),
    "chunked error": (PUT, CHUNKED.replace(b"200 OK", b"503 S") + b"3\r\nabc\r\n0\r\n\r\n", b"abc"),
}


@pytest.mark.parametrize("name", ANSWERS)
async def test_a_response_may_be_split_at_any_byte(name):
    """It is split in two at each position, and into single bytes; the connection is reused afterwards."""
    request, data, body = ANSWERS[name]
    splits = [[cut] for cut in range(1, len(data))] + [list(range(1, len(data)))]
    with MemoryConnection() as memory:
        for cuts in splits:
            answer = memory.exchange(request)
            feed_in_pieces(memory, data, cuts)
            assert bytes(outcome(answer).body) == body
            assert memory.connection.reusable
        assert memory.connection.served == len(splits)


@pytest.mark.parametrize("name", ANSWERS)
async def test_a_truncated_response_is_a_broken_connection(name):
    """A FIN ends it at any byte: the result is never a shorter body and never a hang."""
    request, data, _ = ANSWERS[name]
    for end in range(len(data)):
        with MemoryConnection() as memory:
            answer = memory.exchange(request)
            memory.receive(data[:end])
            memory.hang_up()
            assert isinstance(outcome(answer), ConnectionBroken), end
            assert memory.transport.aborted


@pytest.mark.parametrize("name", ANSWERS)
async def test_a_response_with_extra_bytes_is_rejected(name):
    """They arrive together with the response; the connection is not reused."""
    request, data, _ = ANSWERS[name]
    with MemoryConnection() as memory:
        answer = memory.exchange(request)
        memory.receive(data + b"H")
        assert isinstance(outcome(answer), ProtocolError)
        assert memory.transport.aborted


@pytest.mark.parametrize("size", [16_384, 65_536, 98_304, 131_072, 1_000_000])
@pytest.mark.parametrize("with_sink", [False, True])
async def test_a_body_longer_than_its_length_is_rejected_at_every_size(size, with_sink):
    """Also if most of it is received directly into the sink's memory; nothing is written beyond its end."""
    memory_of_sink = bytearray(size + 100)
    sink = (lambda length: memoryview(memory_of_sink)[:length]) if with_sink else None
    with MemoryConnection() as memory:
        answer = memory.exchange(Request("GetObject", "b", "k", sink=sink))
        memory.receive(response(b"x" * size) + b"junk")
        assert isinstance(outcome(answer), ProtocolError)
    assert memory_of_sink[size:] == bytes(100)


@pytest.mark.parametrize("size", [0, 1, 65_000, 65_536, 65_537, 98_304, 300_000, 2_000_000])
async def test_bodies_of_all_sizes_are_received_into_the_sink_or_new_memory(size):
    """The sink is called once, with the length; its memory is the body."""
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    memory_of_sink, requested = bytearray(size), []

    def sink(length):
        requested.append(length)
        return memoryview(memory_of_sink)

    with MemoryConnection() as memory:
        answer = memory.exchange()
        feed_in_pieces(memory, response(data), [200, 201])
        assert outcome(answer).body == data
        answer = memory.exchange(Request("GetObject", "b", "k", sink=sink))
        memory.receive(response(data))
        assert outcome(answer).body.obj is memory_of_sink
    assert memory_of_sink == data
    assert requested == [size]


@pytest.mark.parametrize(
    ("headers", "answer"),
    [
        ({}, response(b"x" * 9, "206 Partial Content")),
        ({"range": "bytes=0-8"}, response(b"x" * 9)),
        ({}, response(b"x" * 9, etag="")),
        ({}, response(b"x" * 9, "203 Whatever")),
        ({}, response(b"x" * 9, "404 Not Found")),
        ({}, CHUNKED + b"9\r\nxxxxxxxxx\r\n0\r\n\r\n"),
    ],
    ids=["range unasked", "whole instead of range", "no etag", "odd status", "error", "no length"],
)
async def test_the_sink_is_not_called_for_what_was_not_requested(headers, answer):
    """Only for the expected status with an ETag and a length; otherwise the body gets its own memory."""

    def sink(length):
        raise AssertionError("called")

    with MemoryConnection() as memory:
        future = memory.exchange(Request("GetObject", "b", "k", headers, sink=sink))
        memory.receive(answer)
        assert outcome(future).body == b"x" * 9


async def test_a_sink_that_raises_ends_the_exchange_with_its_error():
    """The connection is closed, since its body is unread."""

    def sink(length):
        raise LookupError("no")

    with MemoryConnection() as memory:
        answer = memory.exchange(Request("GetObject", "b", "k", sink=sink))
        memory.receive(response(b"body"))
        with pytest.raises(LookupError):
            answer.result()
        assert memory.transport.aborted


@pytest.mark.parametrize("memory_given", [bytearray(3), bytes(4), bytearray(8)])
async def test_a_sink_with_unsuitable_memory_is_a_value_error(memory_given):
    """The memory is too short, read-only or too long."""
    with MemoryConnection() as memory:
        answer = memory.exchange(Request("GetObject", "b", "k", sink=lambda _: memoryview(memory_given)))
        memory.receive(response(b"body"))
        with pytest.raises(ValueError, match="memory of 4 bytes"):
            answer.result()


async def test_a_get_whose_end_cannot_be_determined_is_refused():
    """Neither Content-Length nor chunked framing: a truncated object would look complete."""
    with MemoryConnection() as memory:
        answer = memory.exchange()
        memory.receive(b'HTTP/1.1 200 OK\r\netag: "e"\r\n\r\nbody')
        assert "cannot be determined" in str(outcome(answer))


@pytest.mark.parametrize("request_", [GET, PUT], ids=["get", "put"])
async def test_an_error_may_end_with_the_connection(request_):
    """An error page without a length is read to the end of the stream, and the connection is not reused."""
    with MemoryConnection() as memory:
        answer = memory.exchange(request_)
        memory.receive(b"HTTP/1.1 502 Bad Gateway\r\n\r\noops")
        memory.hang_up()
        assert bytes(outcome(answer).body) == b"oops"
        assert not memory.connection.reusable


@pytest.mark.parametrize("framing", [b"content-length: 20000000\r\n", b"", b"transfer-encoding: chunked\r\n"])
@pytest.mark.parametrize("status", ["500 No", "404 Not Found", "200 OK"])
async def test_64_kib_of_a_huge_page_are_read(framing, status):
    """For errors and for successes without an ETag; the connection is closed without waiting for the rest."""
    page = b"x" * 100_000
    if b"chunked" in framing:
        page = b"1312d00\r\n" + page
    with MemoryConnection() as memory:
        answer = memory.exchange()
        memory.receive(f"HTTP/1.1 {status}\r\n".encode() + framing + b"\r\n" + page)
        assert len(outcome(answer).body) == 65_536
        assert memory.transport.aborted


@pytest.mark.parametrize(
    "garbage",
    [
        b"\x15\x03\x03\x00\x02\x02\x50",
        b"SSH-2.0-OpenSSH\r\n",
        b"\r\n\r\n",
        b"HTTP/1.1 101 Switching Protocols\r\n\r\n",
        b"HTTP/1.1 100 Continue\r\n\r\n" * 20,
        b"HTTP/1.1 200 OK\r\nx: " + b"y" * MAX_HEAD,
        b"HTTP/1.1 200 OK\r\n" + b"x: y\r\n" * (MAX_HEAD // 6) + b"content-length: 0\r\n\r\n",
        b"HTTP/1.1 200 OK\r\netag: 1\r\ncontent-length: 999999999999999999\r\n\r\n",
    ],
)
async def test_garbage_is_refused_immediately(garbage):
    """Without waiting for a timeout, and without allocating memory for an impossible length."""
    with MemoryConnection() as memory:
        answer = memory.exchange()
        memory.receive(garbage)
        assert isinstance(outcome(answer), ProtocolError)
        assert memory.transport.aborted


async def test_bytes_between_two_responses_close_the_connection():
    """They are unsolicited; a buffer is still provided, as the TLS layer and uvloop require."""
    with MemoryConnection() as memory:
        answer = memory.exchange()
        memory.receive(response(b"x"))
        assert outcome(answer).body == b"x"
        memory.receive(b"H")
        assert memory.connection.closed
        assert not memory.connection.is_quiet()
        assert len(memory.connection.get_buffer(-1)) > 0


async def test_a_broken_connection_is_stale_only_if_reused_and_silent():
    """Only then may the request be sent again automatically."""
    for served, came, stale in [(0, b"", False), (1, b"", True), (1, b"H", False), (1, response(b"12")[:-1], False)]:
        with MemoryConnection() as memory:
            for _ in range(served):
                memory.exchange()
                memory.receive(response())
            answer = memory.exchange()
            memory.receive(came)
            memory.hang_up()
            assert outcome(answer).stale is stale, (served, came)


async def test_no_byte_reaches_the_sink_after_an_abort():
    """Bytes that the loop still delivers go into the connection's scratch buffer."""
    memory_of_sink = bytearray(500_000)
    with MemoryConnection() as memory:
        memory.exchange(Request("GetObject", "b", "k", sink=lambda _: memoryview(memory_of_sink)))
        memory.receive(response(b"x" * 500_000)[:200_000])
        memory.connection.abort()
        before = bytes(memory_of_sink)
        buffer = memory.connection.get_buffer(-1)
        buffer[:1000] = b"y" * 1000
        memory.connection.buffer_updated(1000)
        assert memory_of_sink == before


# ---- fuzzing


@st.composite
def mutated(draw, data: bytes) -> bytes:
    """`data` with a few bytes changed, removed, duplicated or inserted."""
    for _ in range(draw(st.integers(1, 4))):
        place = draw(st.integers(0, max(0, len(data) - 1)))
        piece = draw(st.sampled_from([b"", b"\r\n", b"\n", b"0", b"5", b" ", b":", b"\0", b"chunked", b"\xff"]))
        data = data[:place] + piece + data[place + draw(st.integers(0, 3)) :]
    return data


@settings(max_examples=max(300, settings().max_examples))
@given(name=st.sampled_from(sorted(ANSWERS)), data=st.data())
def test_mutated_and_split_responses_are_read_as_by_h11_or_refused(name, data):
    """Never a hang, never a body that another HTTP implementation does not see, and no effect on the next response."""
    request, good, _ = ANSWERS[name]
    bad = data.draw(mutated(good))
    cuts = sorted(data.draw(st.sets(st.integers(1, max(1, len(bad) - 1)), max_size=4)))
    cuts = [cut for cut in cuts if cut < len(bad)]

    async def main():
        with MemoryConnection() as memory:
            answer = memory.exchange(request)
            feed_in_pieces(memory, bad, cuts)
            if not answer.done():
                memory.hang_up()
            result = outcome(answer)
            if isinstance(result, Exception):
                assert memory.connection.closed
                return
            seen = by_h11("HEAD" if request is HEAD else "GET", bad)
            assert seen is not None
            assert seen == (result.head.status, bytes(result.body))
            if not memory.connection.closed:
                second = memory.exchange()
                memory.receive(response(b"the second"))
                assert outcome(second).body == b"the second"

    asyncio.run(main())


@settings(max_examples=max(200, settings().max_examples))
@given(st.binary(max_size=200), st.booleans())
def test_arbitrary_bytes_end_an_exchange(data, hang_up):
    """Whatever arrives, the exchange ends at the latest with the stream, with one of our errors."""

    async def main():
        with MemoryConnection() as memory:
            answer = memory.exchange()
            memory.receive((b"HTTP/1.1 200 OK\r\netag: 1\r\n" if hang_up else b"") + data)
            memory.hang_up()
            assert isinstance(outcome(answer), ConnectionBroken | ProtocolError)

    asyncio.run(main())


async def test_an_upload_waits_while_the_transport_is_full():
    """The payload is sent in slices as fast as the transport accepts them, without a copy."""
    payload = bytes(range(256)) * 4096  # what is sent in one iteration of the loop
    with MemoryConnection() as memory:
        answer = memory.exchange(Request("PutObject", "b", "k", payload=memoryview(payload)))
        assert memory.transport.written == b"request" + payload
        memory.receive(response())
        assert outcome(answer).head.status == 200
        memory.transport.written.clear()
        memory.connection.pause_writing()
        memory.exchange(Request("PutObject", "b", "k", payload=payload))
        assert len(memory.transport.written) < 100_000
        memory.connection.resume_writing()
        assert memory.transport.written == b"request" + payload


async def test_an_error_response_keeps_the_connection():
    """A 404 is a normal response: its body is read, and the connection is reused."""
    with MemoryConnection() as memory:
        for _ in range(3):
            answer = memory.exchange()
            memory.receive(error("NoSuchKey", "404 Not Found"))
            assert outcome(answer).head.status == 404
            assert memory.connection.reusable


async def test_an_upload_to_a_fast_network_yields_to_other_tasks() -> None:
    """Writing eight MiB at once would block the loop for milliseconds."""
    payload = bytes(range(256)) * (8 * 2**20 // 256)
    with MemoryConnection() as memory:
        answer = memory.exchange(Request("PutObject", "bucket", "key", payload=payload))
        turns = 0
        while len(memory.transport.written) < len(payload):
            before = len(memory.transport.written)
            await asyncio.sleep(0)
            assert len(memory.transport.written) - before <= 2**20
            turns += 1
        assert turns >= 7
        assert memory.transport.written.endswith(payload)
        answer.cancel()
