r"""Target: responses of a server on the wire, over connections that are kept alive, one request after another.

A seed's first line has a letter for each request (G get, R range, S get with a sink, P put, H head, D delete). The
responses follow in order, separated by lines of `----`. In a response

    {body} {length} {etag} {range} {tag}    are replaced by the values for its request,
    ~                                       is a pause: the rest is sent later,
    ^                                       the rest is sent just before the next request is made,
    !                                       at the end closes the connection,

and line ends are sent unchanged. Every body is tagged with its request, so that a response to another request is
detected; our result is compared with that of other clients for the same bytes.
"""

from __future__ import annotations

import asyncio
import re
import socket
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from http.client import HTTPException, HTTPResponse
from io import BytesIO
from typing import Any, NamedTuple

import h11

from zarr_s3_async._http.connection import Connection
from zarr_s3_async._http.dial import Dialer
from zarr_s3_async.errors import ChunkDecodeError, StoreError
from zarr_s3_async.stores.s3.answer_checks import answer_error
from zarr_s3_async.stores.s3.request import Request, Response
from zarr_s3_async.stores.s3.sdk.endpoint import Endpoint
from zarr_s3_async.stores.s3.wire import Wire

from .oracles import Run

_LIMIT = 4
"""Maximum number of requests of one seed."""
_TURNS = 40
"""Number of loop iterations within which a response that was sent has arrived."""
_ROUNDS = 200
_NEVER = 30.0
"""Seconds after which a run is considered hanging."""
_GOOD = b"HTTP/1.1 200 OK\r\netag: {etag}\r\ncontent-length: {length}\r\n\r\n{body}"
_TAG = re.compile(rb"<(\d+)>")
_RANGE = (2, 9)
_MOST_BYTES = 2**24
_INTERIM = re.compile(rb"(?:HTTP/1\.[01] 1\d\d[^\r\n]*\r\n(?:[^\r\n]+\r\n)*\r\n)*")


class Sent(NamedTuple):
    """The response sent to one request."""

    method: str
    data: bytes
    hung_up: bool


class Server:
    """The server's ends of the connections; they follow the seed."""

    def __init__(self, answers: list[bytes]) -> None:
        self.answers = answers
        self.sent: dict[int, Sent] = {}
        self.received = 0
        self.busy = 0
        """Number of responses that are not completely sent."""
        self.late: list[tuple[socket.socket, bytes]] = []
        self.tasks: list[asyncio.Task[None]] = []
        self.sockets: list[socket.socket] = []

    async def dial(self, make: Callable[[], Connection]) -> Connection:
        near, far = socket.socketpair()
        far.setblocking(False)
        self.sockets.append(far)
        _, connection = await asyncio.get_running_loop().create_connection(make, sock=near)
        self.tasks.append(asyncio.create_task(self._serve(far)))
        return connection

    def send_what_is_late(self) -> None:
        """Send it without a loop iteration in between, so that the client cannot notice it before its next request."""
        for sock, data in self.late:
            with suppress(OSError):
                sock.send(data)
        self.late.clear()

    def hang_up(self) -> None:
        for sock in self.sockets:
            with suppress(OSError):
                sock.shutdown(socket.SHUT_WR)

    async def aclose(self) -> None:
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        for sock in self.sockets:
            sock.close()

    async def _serve(self, sock: socket.socket) -> None:
        loop, came = asyncio.get_running_loop(), b""
        with suppress(OSError):
            while True:
                while b"\r\n\r\n" not in came:
                    piece = await loop.sock_recv(sock, 65536)
                    if not piece:
                        return
                    came += piece
                head, _, came = came.partition(b"\r\n\r\n")
                length = re.search(rb"content-length: (\d+)", head)
                while length and len(came) < int(length[1]):
                    came += await loop.sock_recv(sock, 65536)
                came = came[int(length[1]) :] if length else came
                self.received += 1
                self.busy += 1
                try:
                    await self._answer(sock, head)
                finally:
                    self.busy -= 1

    async def _answer(self, sock: socket.socket, head: bytes) -> None:
        line, method = head.split(b"\r\n")[0], head.split(b" ")[0].decode()
        number = int(line.split(b"/k")[1].split(b" ")[0])
        answer = self.answers.pop(0) if self.answers else _good(method, b"range:" in head)
        data, hangs_up = _filled(answer, number, ranged=b"range:" in head)
        data, _, late = data.partition(b"^")
        if late:
            self.late.append((sock, late.replace(b"~", b"")))
        self.sent[number] = Sent(method, data.replace(b"~", b""), hangs_up)
        for piece in data.split(b"~"):
            if piece:
                await asyncio.get_running_loop().sock_sendall(sock, piece)
            for _ in range(3):
                await asyncio.sleep(0)
        if hangs_up:
            sock.shutdown(socket.SHUT_WR)


def _good(method: str, ranged: bool) -> bytes:
    if method == "DELETE":
        return b"HTTP/1.1 204 No Content\r\n\r\n"
    good = _GOOD if method == "GET" else _GOOD.replace(b"{body}", b"")
    if method == "PUT":
        good = good.replace(b"{length}", b"0")
    return good.replace(b"200 OK", b"206 P\r\ncontent-range: {range}") if ranged else good


def _filled(answer: bytes, number: int, *, ranged: bool) -> tuple[bytes, bool]:
    hangs_up = answer.endswith(b"!")
    tag = b"<%d>" % number
    body = tag + b"=" * (_RANGE[1] - _RANGE[0] - len(tag)) if ranged else tag + b" is the body"
    values = {
        b"{body}": body,
        b"{length}": b"%d" % len(body),
        b"{hex}": b"%x" % len(body),
        b"{etag}": b'"%d"' % number,
        b"{range}": b"bytes %d-%d/99" % (_RANGE[0], _RANGE[1] - 1),
        b"{tag}": tag,
    }
    for name, value in values.items():
        answer = answer.replace(name, value)
    return answer.removesuffix(b"!"), hangs_up


class _PairDialer(Dialer):
    """Makes pairs of sockets instead of connections to a host."""

    __slots__ = ("_server",)

    def __init__(self, server: Server) -> None:
        super().__init__("host", 1, seconds=_NEVER, tls=None)
        self._server = server

    async def dial(self, make: Callable[[], Connection]) -> Connection:
        return await self._server.dial(make)


@contextmanager
def target() -> Iterator[Run]:
    with asyncio.Runner() as runner:
        yield lambda data: runner.run(_run(data))


async def _run(data: bytes) -> None:
    kinds, _, rest = data.partition(b"\n")
    server = Server(rest.split(b"\n----\n")[:_LIMIT])
    endpoint = Endpoint(scheme="http", host="host", port=1, path_prefix="/b", region="us-east-1")
    wire = Wire(endpoint, None, attempt_timeout=None, idle_timeout=60.0, max_connections=2)
    wire._connections._dialer = _PairDialer(server)
    try:
        async with asyncio.timeout(_NEVER):
            for number, kind in enumerate(kinds.decode("latin-1")[:_LIMIT]):
                await _exchange(wire, server, number, kind)
            server.answers.clear()
            last = await _exchange(wire, server, 100, "G")
            assert last is not None, "after any response, the next valid one must be accepted"
    finally:
        await wire.aclose()
        await server.aclose()


async def _exchange(wire: Wire, server: Server, number: int, kind: str) -> Response | None:
    request = _request(number, kind)
    server.send_what_is_late()
    received = server.received
    sending = asyncio.create_task(wire.send(request))
    for _ in range(_ROUNDS):
        for _ in range(_TURNS):
            if not sending.done() or server.busy:  # surplus bytes arrive before the next request
                await asyncio.sleep(0)
        if sending.done() and not server.busy:
            break
        if server.received > received and not server.busy:
            server.hang_up()  # no more bytes follow: the end of the stream must end the exchange
    else:
        raise AssertionError("the exchange waits although no more bytes can arrive")
    try:
        response = sending.result()
    except (StoreError, ChunkDecodeError):
        return None
    if answer_error(request, response) is not None:
        return None
    assert number in server.sent, "the response was sent before the request"
    _check(request, response, server.sent[number])
    return response


def _request(number: int, kind: str) -> Request:
    key = f"k{number}"
    match kind:
        case "R":
            return Request("GetObject", "b", key, {"range": f"bytes={_RANGE[0]}-{_RANGE[1] - 1}"})
        case "S":
            return Request("GetObject", "b", key, sink=_memory)
        case "P":
            return Request("PutObject", "b", key, payload=b"payload")
        case "H":
            return Request("HeadObject", "b", key)
        case "D":
            return Request("DeleteObject", "b", key)
    return Request("GetObject", "b", key)


def _memory(length: int) -> memoryview:
    if length > _MOST_BYTES:
        raise ChunkDecodeError("longer than a chunk can be")
    return memoryview(bytearray(length))


def _check(request: Request, response: Response, sent: Sent) -> None:
    body = bytes(response.body)
    number = request.key[1:].encode()
    assert set(_TAG.findall(body)) <= {number}, "bytes of another response"
    if "range" in request.headers and response.status == 206:
        sent = _without_the_rest(sent)
    # h11 refuses some responses that the RFCs allow: control characters in headers, framing headers in trailers.
    seen = by_h11(sent.method, sent.data) or _by_http_client(sent)
    assert seen is not None, "no other client accepts this response"
    if seen[0] == 200 and response.status in (206, 416):
        assert seen[1][slice(*_RANGE)] == body, "the requested range of a whole object"
    elif response.error is None or len(body) < 65536:
        assert seen == (response.status, body)
    if response.ok and request.operation == "GetObject":
        assert response.headers["etag"]
        assert response.status == 200 or 0 < len(body) <= _RANGE[1] - _RANGE[0]


def _without_the_rest(sent: Sent) -> Sent:
    """The response cut after the requested range: no more of a whole object is received."""
    head, end, body = sent.data.partition(b"\r\n\r\n")
    claimed = re.search(rb"(?i)\r\ncontent-length:[ \t]*(\d+)", head)
    if claimed is None or not re.match(rb"HTTP/1\.[01] 200", head) or int(claimed[1]) <= len(body):
        return sent
    head = head[: claimed.start(1)] + b"%d" % len(body) + head[claimed.end(1) :]
    return sent._replace(data=head + end + body)


def by_h11(method: str, data: bytes) -> tuple[int, bytes] | None:
    """(status, body) as h11 reads them, or None if it refuses the response."""
    peer: Any = h11.Connection(h11.CLIENT, max_incomplete_event_size=2**20)
    peer.send(h11.Request(method=method, target="/", headers=[("host", "h")]))
    peer.send(h11.EndOfMessage())
    status, body = 0, b""
    try:
        for piece in (data, b""):
            peer.receive_data(piece)
            while (event := peer.next_event()) not in (h11.NEED_DATA, h11.PAUSED):
                match event:
                    case h11.Response():
                        status = event.status_code
                    case h11.Data():
                        body += bytes(event.data)
                    case h11.EndOfMessage():
                        return status, body
                    case h11.ConnectionClosed():
                        return None
    except h11.RemoteProtocolError:
        return None
    return None


def _by_http_client(sent: Sent) -> tuple[int, bytes] | None:
    """(status, body) as the standard library reads them, or None if it refuses the response."""
    data = sent.data[_INTERIM.match(sent.data).end() :]  # type: ignore[union-attr]  # it matches nothing, too
    response = HTTPResponse(_Socket(data), method=sent.method)  # type: ignore[arg-type]  # all that it uses of one
    try:
        response.begin()
        body = response.read()
    except (HTTPException, OSError, ValueError):
        return None
    return response.status, body


class _Socket:
    """A socket with given bytes, from which `http.client` reads a response."""

    def __init__(self, data: bytes) -> None:
        self._data = data

    def makefile(self, mode: str) -> BytesIO:
        return BytesIO(self._data)
