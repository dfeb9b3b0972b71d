"""One request to the fault server and its response: the argument of a fault."""

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
    """Read the next request of a connection. Returns None if the client has closed it."""
    head = reader.head()
    if head is None:
        return None
    path, query = split_target(head.target)
    bucket, _, key = path.lstrip("/").partition("/")
    return Request(head.method, bucket, key, query, head.fields, reader.body(head))


class Exchange:
    """One request and its connection; the argument of a fault.

    Attributes:
        server: The server.
        request: The request.
        connection: Number of the connection on the server, from 1.
        served: Earlier requests on this connection.
        over: True if the connection must be closed after this exchange.
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
        """Carry the request out. Returns the response that S3 would send."""
        return self.server.answer(self.request)

    def reply(self) -> None:
        """Carry the request out and send the response."""
        self.send(self.carry_out())

    def send(self, answer: Response) -> None:
        """Send a complete response."""
        self.write(answer.head + bytes(answer.body))

    def write(self, data: bytes) -> None:
        """Send arbitrary bytes."""
        self._sock.sendall(data)

    def close(self) -> None:
        """Close the connection in an orderly way (FIN)."""
        self.over = True
        self._sock.shutdown(socket.SHUT_WR)

    def reset(self) -> None:
        """Break the connection (RST)."""
        self.over = True
        self._sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self._sock.close()

    def stall(self) -> None:
        """Send nothing more until the client closes the connection or the server ends."""
        self.over = True
        while not self.server.stopping.is_set():
            if self._has_new_bytes(_TICK) and not self._sock.recv(_READ):
                return

    def pause(self, seconds: float) -> None:
        """Send nothing for this time. Raises EOFError if the client closes the connection before it is over."""
        gone = self._has_new_bytes(seconds) and not self._sock.recv(_READ, socket.MSG_PEEK)
        if gone or self.server.stopping.is_set():
            raise EOFError

    def _has_new_bytes(self, seconds: float) -> bool:
        poll = select.poll()
        poll.register(self._sock, select.POLLIN)
        return bool(poll.poll(seconds * 1000))


def with_header(head: bytes, name: str, value: str | None) -> bytes:
    """A response head with a header set, or removed if `value` is None."""
    without = re.sub(rb"(?im)^" + re.escape(name.encode()) + rb":[^\r\n]*\r\n", b"", head)
    line = b"" if value is None else f"{name}: {value}\r\n".encode()
    return without[:-2] + line + b"\r\n"
