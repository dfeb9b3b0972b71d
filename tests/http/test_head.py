"""Response heads and chunked bodies: what is parsed, and what is rejected because its end is ambiguous."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarr_s3_async._http.body import ChunkedBody
from zarr_s3_async._http.errors import ProtocolError
from zarr_s3_async._http.head import looks_like_http, parse_head


def test_a_head_gives_status_headers_and_framing():
    """Names are in lower case, values without surrounding whitespace, in order of arrival."""
    head = parse_head(b'HTTP/1.1 206 Partial Content\r\nETag: "e"\r\nX-Empty:\r\nContent-LENGTH: \t 12 ')
    assert head.status == 206
    assert head.headers == {"etag": '"e"', "x-empty": "", "content-length": "12"}
    assert (head.length, head.chunked, head.keep_alive) == (12, False, True)


def test_header_lines_of_the_same_name_are_joined():
    """RFC 9110, section 5.3, requires it."""
    assert parse_head(b"HTTP/1.1 200 OK\r\nVary: a\r\nvary: b").headers == {"vary": "a, b"}


@pytest.mark.parametrize(
    ("lines", "keeps"),
    [
        (b"HTTP/1.1 200 OK", True),
        (b"HTTP/1.1 200 OK\r\nConnection: close", False),
        (b"HTTP/1.1 200 OK\r\nConnection: foo, Close", False),
        (b"HTTP/1.0 200 OK", False),
        (b"HTTP/1.0 200 OK\r\nConnection: Keep-Alive", True),
        (b"HTTP/1.0 200 OK\r\nConnection: keep-alive, close", False),
    ],
)
def test_the_head_decides_whether_the_connection_is_reused(lines, keeps):
    """HTTP/1.1 unless the head has `close`; HTTP/1.0 only if it has `keep-alive`."""
    assert parse_head(lines).keep_alive is keeps


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"garbage",
        b"HTTP/2 200 OK",
        b"HTTP/1.2 200 OK",
        b"http/1.1 200 OK",
        b"HTTP/1.1 20 OK",
        b"HTTP/1.1 2000 OK",
        b"HTTP/1.1 \xb2\xb9\xb2 OK",
        b"HTTP/1.1  200 OK",
        b"HTTP/1.1 099 OK",
        b"HTTP/1.1 200 OK\r\nno colon",
        b"HTTP/1.1 200 OK\r\n: no name",
        b"HTTP/1.1 200 OK\r\nspace : x",
        b"HTTP/1.1 200 OK\r\n folded: x",
        b"HTTP/1.1 200 OK\r\nA: x\r\n y",
        b"HTTP/1.1 200 OK\r\nA: x\ny",
        b"HTTP/1.1 200 OK\r\nA: x\ry",
        b"HTTP/1.1 200 OK\r\nA: x\0y",
        b"HTTP/1.1 200 OK\nA: x",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 1",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1, 1",
        b'HTTP/1.1 200 OK\r\nETag: "1"\r\netag: "2"',
        b"HTTP/1.1 206 OK\r\nContent-Range: bytes 0-1/9\r\nContent-Range: bytes 2-3/9",
        b"HTTP/1.1 200 OK\r\nContent-Length: -1",
        b"HTTP/1.1 200 OK\r\nContent-Length: +1",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1_0",
        b"HTTP/1.1 200 OK\r\nContent-Length: 0x10",
        b"HTTP/1.1 200 OK\r\nContent-Length: \xb2",
        b"HTTP/1.1 200 OK\r\nContent-Length:",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1" + b"0" * 18,
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nContent-Length: 1",
    ],
)
def test_ambiguous_framing_is_refused(head):
    """Each of these has made some client take the bytes of one response for another's."""
    with pytest.raises(ProtocolError):
        parse_head(head)


@pytest.mark.parametrize("start", [b"", b"H", b"HTTP/1", b"HTTP/1.", b"HTTP/1.1 200 OK\r\n"])
def test_the_beginning_of_a_response_is_recognised(start):
    """A single byte is enough."""
    assert looks_like_http(start)


@pytest.mark.parametrize("start", [b"\x15\x03\x03", b"h", b"HTTP/2", b"SSH-2.0", b"\r\nHTTP/1.1"])
def test_other_protocols_are_recognised_from_their_first_bytes(start):
    """Garbage must be rejected immediately, not after a timeout."""
    assert not looks_like_http(start)


# ---- chunks


def chunked(*chunks: bytes, trailer: bytes = b"") -> bytes:
    return b"".join(b"%x\r\n%b\r\n" % (len(c), c) for c in chunks) + b"0\r\n" + trailer + b"\r\n"


def fed(body: ChunkedBody, data: bytes, size: int) -> int:
    """Feed in pieces. Returns the number of bytes that the body consumed."""
    taken = 0
    for start in range(0, len(data), size):
        piece = memoryview(data)[start : start + size]
        used = body.feed(piece)
        taken += used
        if used < len(piece):
            break
    return taken


@given(st.lists(st.binary(min_size=1, max_size=300), max_size=6), st.integers(1, 40), st.binary(max_size=5))
def test_chunks_are_joined_however_they_are_split(chunks, size, more):
    """Bytes after the last chunk are not consumed."""
    body, data = ChunkedBody(10_000), chunked(*chunks)
    assert fed(body, data + more, size) == len(data)
    assert body.done
    assert not body.overflowed
    assert body.body == b"".join(chunks)


def test_chunk_extensions_and_trailers_are_ignored():
    """RFC 9112, sections 7.1.1 and 7.1.2, allow it."""
    body, data = ChunkedBody(100), b'3;a="b"\r\nabc\r\n0 ; x\r\nX-Sum: 1\r\nY: 2\r\n\r\n'
    assert fed(body, data, 1) == len(data)
    assert (body.done, body.body) == (True, b"abc")


@pytest.mark.parametrize("size", [1, 7, 1000])
def test_a_long_chunked_body_is_cut_at_the_limit(size):
    """Bytes up to the limit are kept; the rest is not read."""
    body = ChunkedBody(10)
    fed(body, chunked(b"abcdef", b"ghijklmno"), size)
    assert (body.overflowed, body.done, body.body) == (True, False, b"abcdefghij")


@pytest.mark.parametrize(
    "data",
    [
        b"\r\n",
        b"g\r\n",
        b"-1\r\n",
        b"0x1\r\na\r\n",
        b"1_0\r\n",
        b"1\na\r\n",
        b"1\r\nab\r\n",
        b"1\r\na\n\n",
        b"1" * 13 + b"\r\n",
        b"1;" + b"x" * 5000,
        b"0\r\n" + (b"X: " + b"y" * 4000 + b"\r\n") * 20,
        b"0\r\nX: y\n\r\n",
    ],
)
@pytest.mark.parametrize("size", [1, 10_000])
def test_broken_chunks_are_refused(data, size):
    """The cases: invalid sizes, chunks longer than stated, endless lines."""
    with pytest.raises(ProtocolError):
        fed(ChunkedBody(10_000), data, size)
