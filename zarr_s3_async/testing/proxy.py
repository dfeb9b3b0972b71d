"""A proxy in front of a plain-http S3 server that makes it slow, and counts what passes and how much at once.

It reads as much HTTP/1.1 as it takes to tell requests and answers apart, and passes every byte on as it
came: the signed Host header too, so that the server behind accepts what was signed for the proxy.
"""

from __future__ import annotations

import asyncio
import threading
from collections import deque
from collections.abc import Callable
from typing import NamedTuple, Self
from urllib.parse import urlsplit

import anyio

_HEAD_LIMIT = 64 * 1024
_PIECE = 256 * 1024
_LOG_SIZE = 100_000
_NO_BODY = (204, 304)


class Exchange(NamedTuple):
    """One request that passed."""

    method: str
    target: str


class LatencyProxy:
    """Listens on a port of its own, from a thread of its own; `with` starts and stops it.

    Args:
        upstream: `http://host:port` of the server behind.
        latency: Seconds that every answer waits before its first byte; it may be changed at any time.
    """

    def __init__(self, upstream: str, *, latency: float = 0.0) -> None:
        url = urlsplit(upstream)
        if url.scheme != "http" or url.hostname is None:
            raise ValueError(f"the proxy reads plain http, so no {upstream!r}")
        self._upstream = (url.hostname, url.port or 80)
        self.latency = latency
        self.endpoint_url = ""
        self.exchanges: deque[Exchange] = deque(maxlen=_LOG_SIZE)
        """The requests, in the order in which their heads came; the latest 100,000."""
        self.in_flight = 0
        """Requests whose head has come and whose answer's last byte has not gone."""
        self.peak = 0
        self.connections = 0
        """Connections that were ever opened."""
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._stopping: asyncio.Event

    def count(self, method: str | None = None) -> int:
        """Requests so far, of this method or of all."""
        return sum(1 for exchange in self.exchanges if method in (None, exchange.method))

    def reset(self) -> None:
        """Forget the requests and the peak."""
        self.exchanges.clear()
        self.peak = self.in_flight

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),), name="latency-proxy", daemon=True)
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        if self._thread is not None:
            self._thread.join()

    def began(self, exchange: Exchange) -> None:
        """A request's head has come."""
        self.exchanges.append(exchange)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)

    def ended(self, count: int = 1) -> None:
        """So many answers go with their last byte, or never will."""
        self.in_flight -= count

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        server = await asyncio.start_server(self._connection, "127.0.0.1", 0, limit=_HEAD_LIMIT)
        self.endpoint_url = f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}"
        self._ready.set()
        await self._stopping.wait()
        server.close()  # the connections end with the loop

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            behind, onward = await asyncio.open_connection(*self._upstream, limit=_HEAD_LIMIT)
            try:
                await _Tunnel(self, reader, writer, behind, onward).run()
            finally:
                onward.close()
        except OSError:  # nobody listens behind: the client sees a closed connection
            pass
        finally:
            writer.close()


class _Tunnel:
    """One connection of a client, and the one that it has to the server."""

    def __init__(
        self,
        proxy: LatencyProxy,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        behind: asyncio.StreamReader,
        onward: asyncio.StreamWriter,
    ) -> None:
        self._proxy = proxy
        self._reader, self._writer = reader, writer
        self._behind, self._onward = behind, onward
        self._asked: deque[str] = deque()
        """Methods of the requests that were not answered yet."""

    async def run(self) -> None:
        """Pass requests and answers until one side ends."""
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._pass_requests)
                await self._pass_answers()
                group.cancel_scope.cancel()
        except* (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            pass  # a side broke off, or speaks something else: closing is the answer
        finally:
            self._proxy.ended(len(self._asked))

    async def _pass_requests(self) -> None:
        while (head := await _head(self._reader)) is not None:
            method, target, _ = head.first
            self._asked.append(method)
            self._proxy.began(Exchange(method, target))
            await _pass_message(self._reader, self._onward, head, _nothing, until_end=False)
        self._onward.write_eof()

    async def _pass_answers(self) -> None:
        while (head := await _head(self._behind)) is not None:
            status = int(head.first[1])
            if status < 200:  # 100 Continue: the answer proper is still to come
                self._writer.write(head.raw)
                continue
            await asyncio.sleep(self._proxy.latency)
            if self._asked[0] == "HEAD" or status in _NO_BODY:
                self._end_exchange()
                self._writer.write(head.raw)
            else:
                await _pass_message(self._behind, self._writer, head, self._end_exchange, until_end=True)

    def _end_exchange(self) -> None:
        self._asked.popleft()
        self._proxy.ended()


class _Head(NamedTuple):
    raw: bytes
    first: list[str]
    """The three parts of the first line."""
    fields: dict[str, str]
    """Names in lower case."""


async def _head(reader: asyncio.StreamReader) -> _Head | None:
    """The next head, or None where the connection ends before one."""
    try:
        raw = await reader.readuntil(b"\r\n\r\n")
    except asyncio.IncompleteReadError as error:
        if error.partial:
            raise
        return None
    first, *lines = raw.decode("latin-1").rstrip("\r\n").split("\r\n")
    pairs = (line.partition(":") for line in lines)
    fields = {name.strip().lower(): value.strip() for name, _, value in pairs}
    return _Head(raw, (first + "  ").split(" ", 2), fields)


async def _pass_message(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    head: _Head,
    before_last: Callable[[], None],
    *,
    until_end: bool,
) -> None:
    """Pass a head and its body.

    `before_last` is called before the last byte goes: whoever has received that may already have asked
    again, and is not to be counted twice.
    """
    length = int(head.fields.get("content-length", 0))
    if head.fields.get("transfer-encoding", "").lower() == "chunked":
        writer.write(head.raw)
        await _pass_chunks(reader, writer, before_last)
    elif length or "content-length" in head.fields or not until_end:
        await _pass_bytes(reader, writer, length, before_last, first=head.raw)
    else:
        writer.write(head.raw)
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
        before_last()


async def _pass_chunks(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, before_last: Callable[[], None]
) -> None:
    while size := int((line := await reader.readuntil(b"\r\n")).partition(b";")[0], 16):
        await _pass_bytes(reader, writer, size + 2, _nothing, first=line)
    lines = [line]
    while lines[-1] != b"\r\n" or len(lines) == 1:  # trailers, and the empty line that ends them
        lines.append(await reader.readuntil(b"\r\n"))
    before_last()
    writer.write(b"".join(lines))
    await writer.drain()


async def _pass_bytes(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    count: int,
    before_last: Callable[[], None],
    *,
    first: bytes,
) -> None:
    """Pass `first`, and so many bytes after it."""
    if not count:
        before_last()
    writer.write(first)
    while count:
        piece = await reader.read(min(count, _PIECE))
        if not piece:
            raise EOFError
        count -= len(piece)
        if not count:
            before_last()
        writer.write(piece)
        await writer.drain()


def _nothing() -> None:
    pass
