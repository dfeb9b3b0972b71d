"""HTTP/1.1 for the fault server: requests read from a blocking socket, answers written to it, whole or not."""

from __future__ import annotations

import re
import select
import socket
import struct
from collections.abc import Iterator
from typing import TYPE_CHECKING
from urllib.parse import parse_qsl, unquote

from ._stand_in.answers import Answer, Ask

if TYPE_CHECKING:
    from .fault_server import FaultServer

_READ = 2**16
_TICK = 0.02


class HungUp(Exception):
    """The client closed its end."""


class Requests:
    """Iterates over the requests of one connection."""

    def __init__(self, sock: socket.socket) -> None:
        self._sock = sock
        self._read = bytearray()

    def __iter__(self) -> Iterator[Ask]:
        while True:
            head = self._until(b"\r\n\r\n")
            if head is None:
                return
            yield self._ask(head)

    def _ask(self, head: bytes) -> Ask:
        first, *lines = head.decode("latin-1").split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if headers.get("expect") == "100-continue":
            self._sock.sendall(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = self._exactly(int(headers.get("content-length", "0")))
        path, _, query = target.partition("?")
        bucket, _, key = unquote(path).lstrip("/").partition("/")
        return Ask(method, bucket, key, dict(parse_qsl(query, keep_blank_values=True)), headers, body)

    def _until(self, end: bytes) -> bytes | None:
        while (found := self._read.find(end)) < 0:
            if not self._receive():
                return None
        head = bytes(self._read[:found])
        del self._read[: found + len(end)]
        return head

    def _exactly(self, size: int) -> bytes:
        while len(self._read) < size:
            if not self._receive():
                raise HungUp
        body = bytes(self._read[:size])
        del self._read[:size]
        return body

    def _receive(self) -> bool:
        piece = self._sock.recv(_READ)
        self._read += piece
        return bool(piece)


class Exchange:
    """One request and the way back; what a fault is given.

    Attributes:
        server: The server.
        ask: The request.
        over: The connection ends with this exchange.
    """

    def __init__(self, server: FaultServer, sock: socket.socket, ask: Ask) -> None:
        self.server = server
        self.ask = ask
        self.over = False
        self._sock = sock

    def carry_out(self) -> Answer:
        """Do what was asked, and return what S3 would answer."""
        return self.server.answer(self.ask)

    def reply(self) -> None:
        """Do it, and say so."""
        self.send(self.carry_out())

    def send(self, answer: Answer) -> None:
        """An answer, whole."""
        self.write(answer.head + bytes(answer.body))

    def write(self, data: bytes) -> None:
        """Bytes, whatever they are."""
        self._sock.sendall(data)

    def close(self) -> None:
        """End the connection in good order (FIN)."""
        self.over = True
        self._sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Break the connection (RST)."""
        self.over = True
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def stall(self) -> None:
        """Say nothing more until the client hangs up, or the server ends."""
        self.over = True
        while not self.server.stopping.is_set():
            if self._has_news(_TICK) and not self._sock.recv(_READ):
                return

    def pause(self, seconds: float) -> None:
        """Say nothing for a while; raises HungUp where the client does not wait so long."""
        gone = self._has_news(seconds) and not self._sock.recv(_READ, socket.MSG_PEEK)
        if gone or self.server.stopping.is_set():
            raise HungUp

    def _has_news(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(seconds * 1000))


def with_header(head: bytes, name: str, value: str | None) -> bytes:
    """A response head with a header set, or taken out."""
    without = re.sub(rb"(?im)^" + re.escape(name.encode()) + rb":[^\r\n]*\r\n", b"", head)
    line = b"" if value is None else f"{name}: {value}\r\n".encode()
    return without[:-2] + line + b"\r\n"
