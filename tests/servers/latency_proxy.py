"""A proxy in front of a plain-http S3 server that makes it slow, and counts what passes and how much at once.

It reads as much HTTP/1.1 as it takes to tell requests and answers apart, and passes every byte on as it
came: the signed Host header too, so that the server behind accepts what was signed for the proxy.
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
    """One request that passed."""

    method: str
    target: str


class LatencyProxy(Proxy):
    """Listens on a port of its own, from a thread of its own; `with` starts and stops it.

    Args:
        upstream: `http://host:port` of the server behind.
        latency: Seconds that every answer waits before its first byte; it may be changed at any time.
    """

    def __init__(self, upstream: str, *, latency: float = 0.0) -> None:
        super().__init__(upstream)
        self.latency = latency
        self.exchanges: deque[Exchange] = deque(maxlen=_LOG_SIZE)
        """The requests, in the order in which their heads came; the latest 100,000."""
        self.in_flight = 0
        """Requests whose head has come and whose answer's last byte has not gone."""
        self.peak = 0

    def count(self, method: str | None = None) -> int:
        """Requests so far, of this method or of all."""
        return sum(1 for exchange in self.exchanges if method in (None, exchange.method))

    def reset(self) -> None:
        """Forget the requests and the peak."""
        self.exchanges.clear()
        self.peak = self.in_flight

    def began(self, exchange: Exchange) -> None:
        """A request's head has come."""
        self.exchanges.append(exchange)
        self.in_flight += 1
        self.peak = max(self.peak, self.in_flight)

    def ended(self, count: int = 1) -> None:
        """So many answers go with their last byte, or never will."""
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
        while (head := await read_head(self._reader)) is not None:
            self._asked.append(head.method)
            self._proxy.began(Exchange(head.method, head.target))
            await _pass_message(self._reader, self._onward, head, _nothing, until_end=False)
        self._onward.write_eof()

    async def _pass_answers(self) -> None:
        while (head := await read_head(self._behind)) is not None:
            if head.status < 200:  # 100 Continue: the answer proper is still to come
                self._writer.write(head.raw)
                continue
            await asyncio.sleep(self._proxy.latency)
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
    """Pass a head and its body.

    `before_last` is called before the last byte goes: whoever has received that may already have asked
    again, and is not to be counted twice.
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
