"""One request to the fault server and the response to it: what a fault is given to work with."""

from __future__ import annotations

import re
import select
import socket
import struct
from typing import TYPE_CHECKING

from .http1 import SocketReader, split_target
from .s3_messages import Request, Response

if TYPE_CHECKING:
    from .fault_server import FaultServer

_READ = 2**16
_TICK = 0.02


def read_request(reader: SocketReader) -> Request | None:
    """The next request of a connection, or None where the client has closed it."""
    head = reader.head()
    if head is None:
        return None
    path, query = split_target(head.target)
    bucket, _, key = path.lstrip("/").partition("/")
    return Request(head.method, bucket, key, query, head.fields, reader.body(head))


class Exchange:
    """One request and its connection; what a fault is given.

    Attributes:
        server: The server.
        request: The request.
        connection: Which of the server's connections it came on, from 1.
        served: Requests that came on it before.
        over: The connection ends with this exchange.
    """

    def __init__(
        self, server: FaultServer, sock: socket.socket, request: Request, *, connection: int, served: int
    ) -> None:
        self.server = server
        self.request = request
        self.connection = connection
        self.served = served
        self.over = False
        self._sock = sock

    def carry_out(self) -> Response:
        """Do what was asked, and return what S3 would answer."""
        return self.server.answer(self.request)

    def reply(self) -> None:
        """Do it, and say so."""
        self.send(self.carry_out())

    def send(self, answer: Response) -> None:
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
        """Say nothing for a while; raises EOFError where the client does not wait so long."""
        gone = self._has_news(seconds) and not self._sock.recv(_READ, socket.MSG_PEEK)
        if gone or self.server.stopping.is_set():
            raise EOFError

    def _has_news(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(seconds * 1000))


def with_header(head: bytes, name: str, value: str | None) -> bytes:
    """A response head with a header set, or taken out."""
    without = re.sub(rb"(?im)^" + re.escape(name.encode()) + rb":[^\r\n]*\r\n", b"", head)
    line = b"" if value is None else f"{name}: {value}\r\n".encode()
    return without[:-2] + line + b"\r\n"
