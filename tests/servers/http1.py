"""The HTTP/1.1 parser of all test servers and proxies: heads, chunk sizes, body framing.

It uses only the standard library: the stand-in's process imports it without the package under test.
It trusts its clients and does not enforce everything that RFC 9112 requires; it never repairs a malformed message.
"""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Mapping
from typing import NamedTuple, TypeAlias
from urllib.parse import parse_qsl, unquote

END_OF_HEAD = b"\r\n\r\n"
CONTINUE = b"HTTP/1.1 100 Continue\r\n\r\n"
_RECEIVE = 2**16

Query: TypeAlias = Mapping[str, str]


class Head(NamedTuple):
    """The head of a request or of a response.

    Attributes:
        raw: Its bytes, the empty line included.
        first: The three parts of the first line: method, target and version, or version, status and reason.
        fields: Header fields; names in lower case. If a field is repeated, the last value is kept.
    """

    raw: bytes
    first: tuple[str, str, str]
    fields: dict[str, str]

    @property
    def method(self) -> str:
        """Method of a request."""
        return self.first[0]

    @property
    def target(self) -> str:
        """Of a request."""
        return self.first[1]

    @property
    def status(self) -> int:
        """Of a response."""
        return int(self.first[1])

    @property
    def is_chunked(self) -> bool:
        """True if the body is framed by `Transfer-Encoding: chunked`."""
        return self.fields.get("transfer-encoding", "").lower() == "chunked"

    @property
    def content_length(self) -> int | None:
        """Bytes of the body, or None if the head does not state it."""
        text = self.fields.get("content-length")
        return None if text is None else int(text)

    @property
    def expects_continue(self) -> bool:
        """True if the client waits for `100 Continue` before it sends the body."""
        return self.fields.get("expect", "").lower() == "100-continue"


def parse_head(raw: bytes) -> Head:
    """Parse a head, which ends with its empty line. Raises ValueError if the first line has fewer than two parts."""
    first, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
    left, middle, right = (*first.split(" ", 2), "")[:3]
    pairs = (line.partition(":") for line in lines)
    return Head(raw, (left, middle, right), {name.strip().lower(): value.strip() for name, _, value in pairs})


def has_no_body(method: str, status: int) -> bool:
    """True for responses that have no body, whatever their head states."""
    return method == "HEAD" or status < 200 or status in (204, 304)


def chunk_size(line: bytes) -> int:
    """Parse the size in a chunk's first line; chunk extensions are ignored."""
    return int(line.partition(b";")[0], 16)


def split_target(target: str) -> tuple[str, Query]:
    """The decoded path of a request target, and its query."""
    path, _, query = target.partition("?")
    return unquote(path), dict(parse_qsl(query, keep_blank_values=True)) if query else {}


def decode_aws_chunked(body: bytes) -> bytes:
    """Decode the payload of `aws-chunked` content: chunks with a size line each, then trailers."""
    payload = bytearray()
    here = 0
    while True:
        end = body.index(b"\r\n", here)
        size = chunk_size(body[here:end])
        if size == 0:
            return bytes(payload)
        payload += body[end + 2 : end + 2 + size]
        here = end + 2 + size + 2


# Messages from an asyncio stream


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """Read the next head. Returns None if the stream ends before one."""
    try:
        raw = await reader.readuntil(END_OF_HEAD)
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    return parse_head(raw)


async def read_body(reader: asyncio.StreamReader, head: Head, *, until_end: bool) -> bytes:
    """Read the body as sent on the wire, framing included.

    Args:
        reader: Positioned after the head.
        head: The message's head.
        until_end: Whether a body of unknown length extends to the end of the stream, as in responses; else it is empty.
    """
    if head.is_chunked:
        return await _read_chunks(reader)
    length = head.content_length
    if length is None and until_end:
        return await reader.read()
    return await reader.readexactly(length or 0)


async def _read_chunks(reader: asyncio.StreamReader) -> bytes:
    pieces = []
    while size := chunk_size(line := await reader.readuntil(b"\r\n")):
        pieces += [line, await reader.readexactly(size + 2)]
    return b"".join([*pieces, line, await read_trailers(reader)])


async def read_trailers(reader: asyncio.StreamReader) -> bytes:
    """Read what follows the last chunk's line: trailer fields and the empty line that ends them."""
    lines = [await reader.readuntil(b"\r\n")]
    while lines[-1] != b"\r\n":
        lines.append(await reader.readuntil(b"\r\n"))
    return b"".join(lines)


# Messages from a blocking socket


class SocketReader:
    """Reads heads and bodies from a blocking socket. Raises EOFError if the client closes in the middle of one."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._buffer = bytearray()

    def head(self, *, byte_by_byte: bool = False) -> Head | None:
        """Read the next head. Returns None if the client closed before one.

        Args:
            byte_by_byte: Read nothing past the head, so that the body stays in the socket.
        """
        while (found := self._buffer.find(END_OF_HEAD)) < 0:
            if not self._receive(1 if byte_by_byte else _RECEIVE):
                if self._buffer:
                    raise EOFError
                return None
        return parse_head(self._take(found + len(END_OF_HEAD)))

    def body(self, head: Head) -> bytes:
        """Read the body, decoded if it is chunked; answers `Expect: 100-continue`."""
        if head.expects_continue:
            self._sock.sendall(CONTINUE)
        return self._chunks() if head.is_chunked else self._exactly(head.content_length or 0)

    def _chunks(self) -> bytes:
        pieces = []
        while size := chunk_size(self._line()):
            pieces.append(self._exactly(size + 2)[:-2])
        while self._line() != b"\r\n":
            pass  # trailer fields
        return b"".join(pieces)

    def _line(self) -> bytes:
        while (found := self._buffer.find(b"\r\n")) < 0:
            self._receive_more()
        return self._take(found + 2)

    def _exactly(self, size: int) -> bytes:
        while len(self._buffer) < size:
            self._receive_more()
        return self._take(size)

    def _take(self, size: int) -> bytes:
        taken = bytes(self._buffer[:size])
        del self._buffer[:size]
        return taken

    def _receive_more(self) -> None:
        if not self._receive(_RECEIVE):
            raise EOFError

    def _receive(self, size: int) -> bool:
        piece = self._sock.recv(size)
        self._buffer += piece
        return bool(piece)
