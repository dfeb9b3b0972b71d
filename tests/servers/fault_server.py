"""An S3 server that injects faults on request. It uses plain sockets and its own threads, and keeps objects in memory.

    with FaultServer(buckets=("data",)) as server:
        server.cue("GetObject", faults.reset_mid_body, nth=2)
        ... use server.endpoint_url ...
        assert server.count("GetObject") == 3

The faults are in `faults`. It checks no signatures. Importing it does not need pytest.
"""

from __future__ import annotations

import socket
import threading
from collections.abc import Callable
from dataclasses import dataclass
from types import TracebackType
from typing import Any, Self

from zarr_s3_async.config import S3Config

from .exchange import Exchange, read_request
from .faults import Fault, operation_of
from .http1 import SocketReader
from .s3_messages import Request, Response
from .s3_objects import Objects

_IDLE_SECONDS = 30.0
"""Seconds after which a silent connection is closed, so that a test that hangs ends."""


@dataclass(frozen=True, slots=True)
class ReceivedRequest:
    """One request that the server received."""

    operation: str
    """Name of the operation in the S3 API."""
    request: Request
    fault: str
    """The name of the fault that was injected into it, or an empty string."""
    connection: int
    """Number of the connection that it came on, from 1."""


@dataclass(slots=True)
class _Cue:
    operation: str
    key: str
    fault: Fault
    first: int
    last: int
    matched: int = 0

    def meets(self, operation: str, request: Request) -> bool:
        """Count the request if it matches. Returns True if the fault applies to it."""
        if operation != self.operation or not request.key.endswith(self.key):
            return False
        self.matched += 1
        return self.first <= self.matched <= self.last


class FaultServer:
    """Serves at `endpoint_url`, in path style, from its start to its `close`.

    Args:
        buckets: Buckets that exist from the start.
        ignores: Request headers to ignore, as some S3-compatible servers do (`if-match`, `if-none-match`).
    """

    access_key_id = "fault-server"
    secret_access_key = "not-looked-at"  # no server checks it
    region = "us-east-1"

    def __init__(self, *, buckets: tuple[str, ...] = ("data",), ignores: tuple[str, ...] = ()) -> None:
        self.ignores = ignores
        self.seen: list[ReceivedRequest] = []
        self.connections = 0
        """Accepted so far."""
        self.stopping = threading.Event()
        self._objects = Objects(buckets)
        self._cues: list[_Cue] = []
        self._lock = threading.Lock()
        self._sockets: set[socket.socket] = set()
        self._threads: list[threading.Thread] = []
        self._listener = socket.create_server(("127.0.0.1", 0))
        # With a timeout, since closing a listening socket does not wake a thread that is in accept(). Set here,
        # since the server may be closed before the thread runs.
        self._listener.settimeout(0.05)
        self._start(self._accept)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        return f"<FaultServer at {self.endpoint_url}, {len(self.seen)} requests>"

    @property
    def endpoint_url(self) -> str:
        """URL at which it listens."""
        return f"http://127.0.0.1:{self._listener.getsockname()[1]}"

    def s3_config(self, **overrides: Any) -> S3Config:
        """The S3 options with which a session uses this server; `overrides` replaces fields."""
        options: dict[str, Any] = {
            "endpoint_url": self.endpoint_url,
            "region": "us-east-1",
            "access_key_id": "AKIDTEST",
            "secret_access_key": "s",
        }
        return S3Config(**options | overrides)

    # Interface for tests

    def cue(self, operation: str, fault: Fault, *, nth: int = 1, times: int = 1, key: str = "") -> None:
        """Inject a fault into requests.

        Args:
            operation: S3 API name: GetObject, PutObject, …
            fault: One of `faults`.
            nth: The first request that gets the fault, counted from now; 1 is the next one.
            times: How many consecutive requests get it.
            key: Only requests for keys with this suffix are counted.
        """
        with self._lock:
            self._cues.append(_Cue(operation, key, fault, nth, nth + times - 1))

    def count(self, operation: str, key: str = "") -> int:
        """Count requests of an operation so far, for keys with the suffix `key`."""
        return len(self.requests(operation, key))

    def requests(self, operation: str, key: str = "") -> list[ReceivedRequest]:
        """The requests that `count` counts, in order of arrival."""
        with self._lock:
            return [s for s in self.seen if s.operation == operation and s.request.key.endswith(key)]

    def forget(self) -> None:
        """Set the counts to zero and remove all faults."""
        with self._lock:
            self.seen.clear()
            self._cues.clear()

    def put(self, bucket: str, key: str, body: bytes) -> None:
        """Store an object directly; not counted."""
        self.answer(Request("PUT", bucket, key, {}, {}, body))

    def remove(self, bucket: str, key: str) -> None:
        """Delete an object directly; not counted."""
        self.answer(Request("DELETE", bucket, key, {}, {}, b""))

    def get(self, bucket: str, key: str) -> bytes | None:
        """Read an object directly; not counted. None if it is absent."""
        answer = self.answer(Request("GET", bucket, key, {}, {}, b""))
        return bytes(answer.body) if answer.status == 200 else None

    def open_uploads(self) -> int:
        """Number of multipart uploads that are neither completed nor aborted."""
        with self._lock:
            return self._objects.uploads()

    def answer(self, request: Request) -> Response:
        """Carry the request out. Returns the response that S3 would send."""
        headers = {name: value for name, value in request.headers.items() if name not in self.ignores}
        with self._lock:
            return self._objects.answer(request._replace(headers=headers))

    # Start and close

    def close(self) -> None:
        """Close all connections and end all threads. Repeated calls have no effect."""
        self.stopping.set()
        self._listener.close()
        with self._lock:
            for sock in self._sockets:
                _shut(sock)
        for thread in self._threads:
            thread.join(_IDLE_SECONDS)

    def _start(self, target: Callable[..., None], *args: object) -> None:
        thread = threading.Thread(target=target, args=args, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self) -> None:
        while not self.stopping.is_set():
            try:
                sock, _ = self._listener.accept()
            except TimeoutError:
                continue
            except OSError:
                return
            sock.settimeout(_IDLE_SECONDS)
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._sockets.add(sock)
                self.connections += 1
                number = self.connections
            self._start(self._serve, sock, number)

    def _serve(self, sock: socket.socket, number: int) -> None:
        try:
            reader = SocketReader(sock)
            served = 0
            while (request := read_request(reader)) is not None:
                exchange = Exchange(self, sock, request, connection=number, served=served)
                served += 1
                self._note(request, number)(exchange)
                if exchange.over:
                    return
        except (OSError, EOFError):
            pass
        finally:
            with self._lock:
                self._sockets.discard(sock)
            sock.close()

    def _note(self, request: Request, connection: int) -> Fault:
        """Count a request. Returns the fault registered for it, or the plain response."""
        operation = operation_of(request)
        with self._lock:
            matched = [cue for cue in self._cues if cue.meets(operation, request)]
            fault = matched[0].fault if matched else None
            name = getattr(fault, "__name__", "") if fault else ""
            self.seen.append(ReceivedRequest(operation, request, name, connection))
        return fault or Exchange.reply


def _shut(sock: socket.socket) -> None:
    try:
        sock.shutdown(socket.SHUT_RDWR)
    except OSError:
        return
