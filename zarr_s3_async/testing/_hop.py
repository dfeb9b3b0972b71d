"""What stands between a client and a plain-http server: listening, from a thread of its own, and reading HTTP/1.1."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import NamedTuple, Self
from urllib.parse import urlsplit

_HEAD_LIMIT = 64 * 1024
_TURNS = 5
_BACKLOG = 128


class Hop:
    """Listens on a port of its own, from a thread of its own; `with` starts and stops it.

    Args:
        upstream: `http://host:port` of the server behind.
    """

    def __init__(self, upstream: str) -> None:
        url = urlsplit(upstream)
        if url.scheme != "http" or url.hostname is None:
            raise ValueError(f"the proxy reads plain http, so no {upstream!r}")
        self._upstream = (url.hostname, url.port or 80)
        self.endpoint_url = ""
        self.connections = 0
        """Connections that were ever opened."""
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._stopping: asyncio.Event
        self._serving: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),), name="hop", daemon=True)
        self._thread.start()
        self._ready.wait()
        return self

    def __exit__(self, *_: object) -> None:
        self._loop.call_soon_threadsafe(self._stopping.set)
        if self._thread is not None:
            self._thread.join()

    async def _serve(self) -> None:
        self._loop = asyncio.get_running_loop()
        self._stopping = asyncio.Event()
        # Not asyncio's own server: one that is closed does not say when the last that it accepted will be served.
        with socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG) as listener:
            listener.setblocking(False)
            self.endpoint_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            accepting = self._loop.create_task(self._accept(listener))
            self._ready.set()
            await self._stopping.wait()
            await _ended({accepting})
        await asyncio.sleep(0)  # whoever was accepted last begins, and so closes what it has
        await _ended(self._serving)
        for _ in range(_TURNS):  # in which the loop closes sockets
            await asyncio.sleep(0)

    async def _accept(self, listener: socket.socket) -> None:
        while True:
            sock, _ = await self._loop.sock_accept(listener)
            task = self._loop.create_task(self._accepted(sock))
            self._serving.add(task)
            task.add_done_callback(self._served)

    def _served(self, task: asyncio.Task[None]) -> None:
        self._serving.discard(task)
        if not task.cancelled():
            task.exception()  # marked as seen: a connection that broke half-way is what a hop is for

    async def _accepted(self, sock: socket.socket) -> None:
        try:
            reader, writer = await asyncio.open_connection(sock=sock, limit=_HEAD_LIMIT)
        except BaseException:
            sock.close()
            raise
        await self._connection(reader, writer)

    async def _connection(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.connections += 1
        try:
            behind, onward = await asyncio.open_connection(*self._upstream, limit=_HEAD_LIMIT)
            try:
                await self._between(reader, writer, behind, onward)
            finally:
                onward.close()
        except OSError:  # nobody listens behind: the client sees a closed connection
            pass
        finally:
            writer.close()

    async def _between(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        behind: asyncio.StreamReader,
        onward: asyncio.StreamWriter,
    ) -> None:
        """One connection of a client (`reader`, `writer`), and the one that it has to the server."""
        raise NotImplementedError


async def _ended(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel them and wait for their end."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(set(tasks))


class Head(NamedTuple):
    """The head of a request or of an answer."""

    raw: bytes
    first: list[str]
    """The three parts of the first line."""
    fields: dict[str, str]
    """Names in lower case."""

    @property
    def is_chunked(self) -> bool:
        """True where the body comes in chunks that tell their size."""
        return self.fields.get("transfer-encoding", "").lower() == "chunked"


async def read_head(reader: asyncio.StreamReader) -> Head | None:
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
    return Head(raw, (first + "  ").split(" ", 2), fields)


def has_no_body(method: str, status: int) -> bool:
    """True for answers that end with their head, whatever it says."""
    return method == "HEAD" or status in (204, 304)
