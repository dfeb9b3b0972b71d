"""Server processes that send one array from memory and share a port, fast enough to measure clients.

    server = MemoryServers(objects, everywhere=body, processes=2, tls=None)

Only GET, with keep-alive. Keys in `objects` have their bytes, every key with "/c/" has the chunk, others are absent.
"""

from __future__ import annotations

import multiprocessing
import os
import signal
import socket
import ssl
import threading
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Self

_ABSENT = b"<Error><Code>NoSuchKey</Code></Error>"
_HEAD = (
    'HTTP/1.1 {status}\r\nETag: "{etag}"\r\nContent-Type: binary/octet-stream\r\nContent-Length: {length}\r\n'
    "Last-Modified: Mon, 01 Jan 2024 00:00:00 GMT\r\nAccept-Ranges: bytes\r\n\r\n"
)


@dataclass(frozen=True)
class Stored:
    """The served objects."""

    objects: dict[str, bytes]
    """Bytes by the end of the key."""
    chunk: bytes

    def answer(self, head: bytes) -> tuple[bytes, bytes]:
        """The head and the body for a request head."""
        path = head.split(b" ", 2)[1].partition(b"?")[0].decode()
        body = self.chunk if "/c/" in path else next((b for end, b in self.objects.items() if path.endswith(end)), None)
        status = "404 Not Found" if body is None else "200 OK"
        body = _ABSENT if body is None else body
        etag = f"{len(body):032x}"
        return _HEAD.format(status=status, etag=etag, length=len(body)).encode(), body


class MemoryServers:
    """Processes that accept on one port: the kernel spreads connections over them."""

    def __init__(self, stored: Stored, *, processes: int, tls: tuple[Path, Path] | None = None) -> None:
        self._stored, self._tls = stored, tls
        self._count = processes
        self._listener = _listener(0)
        self.port: int = self._listener.getsockname()[1]
        self._processes: list[multiprocessing.process.BaseProcess] = []

    def __enter__(self) -> Self:
        context = multiprocessing.get_context("fork")
        for _ in range(self._count):
            process = context.Process(target=_serve, args=(self.port, self._stored, self._tls), daemon=True)
            process.start()
            self._processes.append(process)
        self._listener.close()  # it reserved the port until the processes had started
        return self

    def __exit__(self, *_: object) -> None:
        for process in self._processes:
            process.terminate()
            process.join()


def _listener(port: int) -> socket.socket:
    listener = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
    listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    listener.bind(("127.0.0.1", port))
    if port:
        listener.listen(256)
    return listener


def _serve(port: int, stored: Stored, tls: tuple[Path, Path] | None) -> None:
    signal.signal(signal.SIGTERM, lambda *_: os._exit(0))
    context = None
    if tls is not None:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        context.load_cert_chain(*tls)
    listener = _listener(port)
    while True:
        connection, _ = listener.accept()
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        threading.Thread(target=_answer, args=(connection, stored, context), daemon=True).start()


def _answer(connection: socket.socket, stored: Stored, context: ssl.SSLContext | None) -> None:
    with suppress(OSError):
        if context is not None:
            connection = context.wrap_socket(connection, server_side=True)
        received = b""
        while piece := connection.recv(65536):
            received += piece
            while b"\r\n\r\n" in received:
                request, _, received = received.partition(b"\r\n\r\n")
                head, body = stored.answer(request)
                if len(body) <= 65536:
                    connection.sendall(head + body)
                else:
                    connection.sendall(head)
                    connection.sendall(body)
    connection.close()
