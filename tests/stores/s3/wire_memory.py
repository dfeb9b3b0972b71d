"""A connection without sockets: what it writes is recorded, and tests put received bytes into its buffers."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Iterable
from typing import Any, Self

from zarr_s3_async._buffers import Buffers
from zarr_s3_async._http.connection import Answer, Connection
from zarr_s3_async.stores.s3.request import Request
from zarr_s3_async.stores.s3.wire import ObjectResponses

GET = Request("GetObject", "bucket", "key")


class MemoryTransport(asyncio.Transport):
    """Accepts all bytes immediately."""

    def __init__(self, sock: socket.socket) -> None:
        super().__init__({"socket": sock})
        self.written = bytearray()
        self.aborted = False

    def write(self, data: Any) -> None:
        self.written += data

    def writelines(self, list_of_data: Iterable[Any]) -> None:
        for data in list_of_data:
            self.write(data)

    def get_write_buffer_size(self) -> int:
        return 0

    def is_closing(self) -> bool:
        return self.aborted

    def abort(self) -> None:
        self.aborted = True


class MemoryConnection:
    """A `Connection` and its peer. Use as a context manager, within a running loop."""

    def __init__(self) -> None:
        loop = asyncio.get_running_loop()
        self.connection = Connection(loop, Buffers(), ObjectResponses(), lambda _: None, lambda _: None)

    def __enter__(self) -> Self:
        self._pair = socket.socketpair()
        self.transport = MemoryTransport(self._pair[0])
        self.connection.connection_made(self.transport)
        return self

    def __exit__(self, *_: object) -> None:
        for sock in self._pair:
            sock.close()

    def exchange(self, request: Request = GET) -> asyncio.Future[Answer]:
        return self.connection.exchange(b"request", request, request.payload, float("inf"))

    def receive(self, data: bytes) -> None:
        """Deliver bytes as the loop does: into the connection's buffers, as many as fit at a time."""
        view = memoryview(data)
        while view and not self.connection.closed:
            buffer = self.connection.get_buffer(-1)
            assert len(buffer) > 0
            count = min(len(buffer), len(view))
            buffer[:count] = view[:count]
            self.connection.buffer_updated(count)
            view = view[count:]

    def hang_up(self) -> None:
        """Deliver the end of the stream (FIN)."""
        if not self.connection.closed:
            self.connection.eof_received()
        self.connection.connection_lost(None)
