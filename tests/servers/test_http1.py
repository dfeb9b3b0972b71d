"""The HTTP/1.1 parser of the test servers: it parses what h11 parses, however the bytes are split."""

from __future__ import annotations

import asyncio
import socket
import threading
from contextlib import closing
from itertools import pairwise

import h11
import pytest
from hypothesis import given
from hypothesis import strategies as st

from .http1 import SocketReader, decode_aws_chunked, has_no_body, parse_head, read_body, read_head, split_target

TOKENS = st.text("abcdefghijklmnopqrstuvwxyzABCXYZ-_0123456789", min_size=1, max_size=12)
VALUES = st.text("abc XYZ;=/:0123456789", max_size=20).map(str.strip)
_FRAMING = {"content-length", "transfer-encoding", "expect", "host", "connection"}
FIELDS = st.dictionaries(TOKENS.filter(lambda name: name.lower() not in _FRAMING), VALUES, max_size=5)
BODIES = st.lists(st.binary(min_size=1, max_size=300), max_size=4)


def request_of(fields: dict[str, str], body: list[bytes], *, chunked: bool) -> bytes:
    """A PUT request, serialized by h11."""
    framing = ("Transfer-Encoding", "chunked") if chunked else ("Content-Length", str(len(b"".join(body))))
    client = h11.Connection(h11.CLIENT)
    request = h11.Request(method="PUT", target="/b/k", headers=[("Host", "x"), framing, *fields.items()])
    sent = [client.send(request), *(client.send(h11.Data(data=piece)) for piece in body)]
    return b"".join(piece or b"" for piece in [*sent, client.send(h11.EndOfMessage())])


def pieces_of(data: bytes, cuts: list[int]) -> list[bytes]:
    places = sorted({0, len(data), *(cut % len(data) for cut in cuts)})
    return [data[a:b] for a, b in pairwise(places)]


def read_from_socket(pieces: list[bytes], count: int) -> list[tuple[str, str, dict[str, str], bytes]]:
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        sender = threading.Thread(target=lambda: [theirs.sendall(piece) for piece in pieces])
        sender.start()
        reader = SocketReader(ours)
        found = []
        for _ in range(count):
            head = reader.head()
            assert head is not None
            found.append((head.method, head.target, head.fields, reader.body(head)))
        sender.join()
    return found


@given(fields=FIELDS, body=BODIES, chunked=st.booleans(), cuts=st.lists(st.integers(0, 10_000), max_size=6))
def test_a_blocking_reader_reads_what_h11_wrote_and_nothing_beyond(fields, body, chunked, cuts) -> None:
    data = request_of(fields, body, chunked=chunked)
    found = read_from_socket(pieces_of(data * 2, cuts), 2)
    expected = {name.lower(): value for name, value in fields.items()}
    for method, target, seen, content in found:
        assert (method, target, content) == ("PUT", "/b/k", b"".join(body))
        assert seen.items() >= expected.items()


@given(fields=FIELDS, body=BODIES, chunked=st.booleans())
def test_an_asyncio_reader_returns_bodies_as_sent_on_the_wire(fields, body, chunked) -> None:
    data = request_of(fields, body, chunked=chunked)

    async def read() -> None:
        reader = asyncio.StreamReader()
        reader.feed_data(data * 2)
        reader.feed_eof()
        for _ in range(2):
            head = await read_head(reader)
            assert head is not None
            assert head.is_chunked == chunked
            assert head.raw + await read_body(reader, head, until_end=False) == data
        assert await read_head(reader) is None

    asyncio.run(read())


async def test_a_response_without_a_length_ends_with_the_stream() -> None:
    reader = asyncio.StreamReader()
    reader.feed_data(b"HTTP/1.1 200 OK\r\nX: 1\r\n\r\nall of it")
    reader.feed_eof()
    head = await read_head(reader)
    assert head is not None
    assert (head.status, head.content_length) == (200, None)
    assert await read_body(reader, head, until_end=True) == b"all of it"


def read_all(reader: SocketReader) -> None:
    while (head := reader.head()) is not None:
        reader.body(head)


@pytest.mark.parametrize("data", [b"PUT /b/k HTTP/1.1\r\nHo", b"PUT / HTTP/1.1\r\nContent-Length: 5\r\n\r\nabc"])
def test_a_connection_closed_in_the_middle_of_a_request_raises_eof_error(data: bytes) -> None:
    ours, theirs = socket.socketpair()
    with closing(ours):
        with closing(theirs):
            theirs.sendall(data)
        with pytest.raises(EOFError):
            read_all(SocketReader(ours))


def test_a_head_read_byte_by_byte_leaves_the_body_in_the_socket() -> None:
    ours, theirs = socket.socketpair()
    with closing(ours), closing(theirs):
        theirs.sendall(b"PUT / HTTP/1.1\r\nContent-Length: 3\r\n\r\nabc")
        head = SocketReader(ours).head(byte_by_byte=True)
        assert head is not None
        assert head.content_length == 3
        assert ours.recv(10) == b"abc"


def test_a_line_that_is_not_a_head_is_refused() -> None:
    with pytest.raises(ValueError, match="not enough values"):
        parse_head(b"nonsense\r\n\r\n")


def test_some_responses_have_no_body() -> None:
    assert all(has_no_body("GET", status) for status in (100, 204, 304))
    assert has_no_body("HEAD", 200)
    assert not has_no_body("GET", 200)


def test_request_targets_are_decoded() -> None:
    assert split_target("/b/k%20%2B?list-type=2&prefix=") == ("/b/k +", {"list-type": "2", "prefix": ""})


@given(body=BODIES)
def test_aws_chunked_content_is_decoded(body: list[bytes]) -> None:
    chunks = b"".join(b"%x;chunk-signature=0\r\n%b\r\n" % (len(piece), piece) for piece in body)
    assert decode_aws_chunked(chunks + b"0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n") == b"".join(body)
