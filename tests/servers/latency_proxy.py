"""A proxy that adds latency to a plain-http S3 server, and counts requests and the peak of concurrent ones.

It parses only as much HTTP/1.1 as is needed to find where messages end, and forwards every byte
unchanged: the signed Host header too, so that the upstream server accepts what was signed for the proxy.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

import anyio

from .http1 import Head, chunk_size, has_no_body, read_head, read_trailers
from .proxy import Proxy

_PIECE = 256 * 1024
_LOG_SIZE = 100_000


class Exchange(NamedTuple):
    """One forwarded request."""

    method: str
    target: str


class LatencyProxy(Proxy):
    """Listens on its own port, in its own thread; `with` starts and stops it.

    Args:
        upstream: `http://host:port` of the upstream server.
        latency: Delay in seconds before the first byte of every response; it may be changed at any time.
    """

    def __init__(self, upstream: str, *, latency: float = 0.0) -> None:
        super().__init__(upstream)
        self.latency = latency
        self.exchanges: deque[Exchange] = deque(maxlen=_LOG_SIZE)
        """The latest 100,000 requests, in the order in which their heads arrived."""
        self.in_flight = 0
        """Requests whose head has arrived and whose last response byte was not sent yet."""
        self.peak = 0
        self.crowd = 0
        """Responses wait until this many requests were in flight at once, 30 seconds at most: unlike with a latency,
        the peak does not depend on how fast the client is."""

    def count(self, method: str | None = None) -> int:
        """Count requests so far, of this method or of all."""
        return sum(1 for exchange in self.exchanges if method in (None, exchange.method))

    def reset(self) -> None:
        """Forget the requests and the peak."""
        self.exchanges.clear()
        self.peak = self.in_flight

    async def delay(self) -> None:
        """Wait before a response."""
        loop = asyncio.get_running_loop()
        end = loop.time() + 30
        while self.peak < self.crowd and loop.time() < end:
            await asyncio.sleep(0.005)
        await asyncio.sleep(self.latency)

    def began(self, exchange: Exchange) -> None:
        """Count a request whose head has arrived."""
        self.exchanges.append(exchange)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)

    def ended(self, count: int = 1) -> None:
        """Count `count` exchanges as ended: responses sent to their last byte, or abandoned."""
        self.in_flight -= count

    async def _between(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        behind: asyncio.StreamReader,
        onward: asyncio.StreamWriter,
    ) -> None:
        await _Tunnel(self, reader, writer, behind, onward).run()


class _Tunnel:
    """One client connection and its connection to the upstream server."""

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
        """Methods of the requests without a response so far."""

    async def run(self) -> None:
        """Forward requests and responses until one side closes."""
        try:
            async with anyio.create_task_group() as group:
                group.start_soon(self._pass_requests)
                await self._pass_answers()
                group.cancel_scope.cancel()
        except* (OSError, EOFError, ValueError, asyncio.LimitOverrunError):
            pass  # one side broke the connection or does not speak HTTP: close both
        finally:
            self._proxy.ended(len(self._asked))

    async def _pass_requests(self) -> None:
        while (head := await read_head(self._reader)) is not None:
            self._asked.append(head.method)
            self._proxy.began(Exchange(head.method, head.target))
            await _pass_message(self._reader, self._onward, head, _nothing, until_end=False)
        self._onward.write_eof()

    async def _pass_answers(self) -> None:
        while (head := await read_head(self._behind)) is not None:
            if head.status < 200:  # 100 Continue: the final response follows
                self._writer.write(head.raw)
                continue
            await self._proxy.delay()
            if has_no_body(self._asked[0], head.status):
                self._end_exchange()
                self._writer.write(head.raw)
            else:
                await _pass_message(self._behind, self._writer, head, self._end_exchange, until_end=True)

    def _end_exchange(self) -> None:
        self._asked.popleft()
        self._proxy.ended()


async def _pass_message(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    head: Head,
    before_last: Callable[[], None],
    *,
    until_end: bool,
) -> None:
    """Forward a head and its body.

    `before_last` is called before the last byte is sent: after it, the client may already send its next
    request, and must not be counted twice.
    """
    if head.is_chunked:
        writer.write(head.raw)
        await _pass_chunks(reader, writer, before_last)
    elif head.content_length is not None or not until_end:
        await _pass_bytes(reader, writer, head.content_length or 0, before_last, first=head.raw)
    else:
        writer.write(head.raw)
        while piece := await reader.read(_PIECE):
            writer.write(piece)
            await writer.drain()
        before_last()


async def _pass_chunks(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, before_last: Callable[[], None]
) -> None:
    while size := chunk_size(line := await reader.readuntil(b"\r\n")):
        await _pass_bytes(reader, writer, size + 2, _nothing, first=line)
    end = line + await read_trailers(reader)
    before_last()
    writer.write(end)
    await writer.drain()


async def _pass_bytes(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    count: int,
    before_last: Callable[[], None],
    *,
    first: bytes,
) -> None:
    """Forward `first`, and then this many bytes."""
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
