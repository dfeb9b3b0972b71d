"""A server that follows a script, byte by byte, on plain sockets in its own threads."""

from __future__ import annotations

import asyncio
import socket
import ssl
import struct
import threading
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress
from types import SimpleNamespace
from typing import Any, Self

import uvloop

from zarr_s3_async.stores.s3.request import Request, Response
from zarr_s3_async.stores.s3.sdk.endpoint import Endpoint
from zarr_s3_async.stores.s3.wire import Wire

from ...servers.http1 import END_OF_HEAD, Head, SocketReader

GET = Request("GetObject", "bucket", "some/key")
BIG = bytes(range(256)) * 8192  # 2 MiB
KEYS = SimpleNamespace(access_key="AK", secret_key="SK", token=None)
LOOPS = {"asyncio": asyncio.new_event_loop, "uvloop": uvloop.new_event_loop}


async def keys() -> Any:
    return KEYS


def response(body: bytes = b"", status: str = "200 OK", *, etag: str = '"e"', **headers: str) -> bytes:
    """A complete response with a Content-Length."""
    lines = {"content-length": str(len(body)), "etag": etag, **{k.replace("_", "-"): v for k, v in headers.items()}}
    head = "".join(f"{name}: {value}\r\n" for name, value in lines.items() if value)
    return f"HTTP/1.1 {status}\r\n{head}\r\n".encode() + body


def error(code: str, status: str, **headers: str) -> bytes:
    """An S3 error response."""
    body = f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>m</Message></Error>'
    return response(body.encode(), status, etag="", **headers)


def _text(head: Head) -> str:
    return head.raw.removesuffix(END_OF_HEAD).decode()


class Peer:
    """The server's end of one connection."""

    def __init__(self, sock: socket.socket, number: int) -> None:
        self.sock = sock
        self.number = number
        self._reader = SocketReader(sock)

    def request(self) -> tuple[str, bytes]:
        """(head, body) of the next request; raises EOFError if the client has closed."""
        head = self._next_head()
        return _text(head), self._reader.body(head)

    def head(self) -> str:
        """The head of the next request; its body stays unread."""
        return _text(self._next_head(byte_by_byte=True))

    def _next_head(self, *, byte_by_byte: bool = False) -> Head:
        head = self._reader.head(byte_by_byte=byte_by_byte)
        if head is None:
            raise EOFError
        return head

    def send(self, data: bytes) -> None:
        self.sock.sendall(data)

    def reset(self) -> None:
        """Close with a RST."""
        self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.sock.close()

    def wait_for_hang_up(self) -> None:
        """Wait until the client closes."""
        with suppress(OSError):
            while self.sock.recv(1 << 16):
                pass


Script = Callable[[Peer], None]


class ScriptedServer:
    """Runs `script(peer)` for every connection. Use as a context manager."""

    def __init__(self, script: Script, *, tls: ssl.SSLContext | None = None, host: str = "127.0.0.1") -> None:
        self._script = script
        self._tls = tls
        self._host = host
        self.requests: list[str] = []
        self.failures: list[BaseException] = []
        self.connections = 0
        self._threads: list[threading.Thread] = []
        self._sockets: list[socket.socket] = []
        self._lock = threading.Lock()

    def __enter__(self) -> Self:
        self._listening = socket.create_server((self._host, 0), backlog=128)
        self.port = self._listening.getsockname()[1]
        self._start(self._accept)
        return self

    def __exit__(self, *_: object) -> None:
        with suppress(OSError):
            self._listening.shutdown(socket.SHUT_RDWR)
        self._listening.close()
        with self._lock:
            for sock in self._sockets:
                with suppress(OSError):
                    sock.shutdown(socket.SHUT_RDWR)
        for thread in self._threads:
            thread.join(5)
            assert not thread.is_alive(), "a script hangs"
        if self.failures:
            raise self.failures[0]

    def _start(self, target: Callable[..., None], *args: Any) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while True:
            try:
                sock, _ = self._listening.accept()
            except OSError:
                return
            with self._lock:
                self._sockets.append(sock)
            peer_number, self.connections = self.connections, self.connections + 1
            self._start(self._serve, sock, peer_number)

    def _serve(self, sock: socket.socket, number: int) -> None:
        try:
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            if self._tls is not None:
                sock = self._tls.wrap_socket(sock, server_side=True)
            self._script(_Recording(sock, number, self.requests))
        except (EOFError, OSError):
            pass
        except BaseException as failure:  # an assertion of the script
            self.failures.append(failure)
        finally:
            sock.close()

    def endpoint(self, **changes: Any) -> Endpoint:
        fields = {
            "scheme": "http" if self._tls is None else "https",
            "host": self._host,
            "port": self.port,
            "path_prefix": "/bucket",
            "region": "us-east-1",
        }
        return Endpoint(**{**fields, **changes})

    def wire(self, **options: Any) -> Wire:
        """A wire to this server, with timeouts for tests."""
        defaults = {"connect_timeout": 5.0, "attempt_timeout": 10.0, "max_connections": 4}
        return Wire(options.pop("endpoint", None) or self.endpoint(), keys, **{**defaults, **options})


class _Recording(Peer):
    """Records the head of each request."""

    def __init__(self, sock: socket.socket, number: int, requests: list[str]) -> None:
        super().__init__(sock, number)
        self._requests = requests

    def request(self) -> tuple[str, bytes]:
        head, body = super().request()
        self._requests.append(head)
        return head, body

    def head(self) -> str:
        head = super().head()
        self._requests.append(head)
        return head


def answering(*answers: bytes) -> Script:
    """One response per request, in order over all connections; the last one is repeated."""
    remaining = list(answers)

    def script(peer: Peer) -> None:
        while True:
            peer.request()
            peer.send(remaining.pop(0) if len(remaining) > 1 else remaining[0])

    return script


def run_on(loop_name: str, work: Awaitable[Any], seconds: float = 20.0) -> Any:
    """Run to completion on a loop of this kind; an error reported by the loop is a failure."""
    complaints: list[dict[str, Any]] = []

    async def main() -> Any:
        asyncio.get_running_loop().set_exception_handler(lambda _, context: complaints.append(context))
        async with asyncio.timeout(seconds):
            return await work

    with asyncio.Runner(loop_factory=LOOPS[loop_name]) as runner:
        result = runner.run(main())
    assert not complaints, complaints
    return result


def endpoint_on(port: int, host: str = "127.0.0.1") -> Endpoint:
    return Endpoint(scheme="http", host=host, port=port, path_prefix="/bucket", region="us-east-1")


def sent(server: ScriptedServer, *requests: Request, **options: Any) -> Awaitable[list[Response]]:
    """Send requests one after the other on a new wire. Returns the responses."""

    async def main() -> list[Response]:
        wire = server.wire(**options)
        try:
            return [await wire.send(request) for request in requests]
        finally:
            await wire.aclose()

    return main()


def hang_up(peer: Peer) -> None:
    """Close the connection after a request."""
    peer.request()


def reset(peer: Peer) -> None:
    """Reset the connection after a request."""
    peer.request()
    peer.reset()


def talking(data: bytes, *, then: str | None = None) -> Callable[[Peer], None]:
    """Answer a request with these bytes; with `then="reset"`, reset the connection after them."""

    def script(peer: Peer) -> None:
        peer.request()
        peer.send(data)
        if then == "reset":
            time.sleep(0.05)
            peer.reset()

    return script
