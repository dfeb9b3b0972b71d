"""A proxy between a client and a plain-http server: it listens and accepts connections in its own thread."""

from __future__ import annotations

import asyncio
import socket
import threading
from typing import Self
from urllib.parse import urlsplit

_HEAD_LIMIT = 64 * 1024
_TURNS = 5
_BACKLOG = 128


class Proxy:
    """Listens on its own port, in its own thread; `with` starts and stops it.

    Args:
        upstream: `http://host:port` of the upstream server.
    """

    def __init__(self, upstream: str) -> None:
        url = urlsplit(upstream)
        if url.scheme != "http" or url.hostname is None:
            raise ValueError(f"the proxy supports only plain http, not {upstream!r}")
        self._upstream = (url.hostname, url.port or 80)
        self.endpoint_url = ""
        self.connections = 0
        """Number of connections opened so far."""
        self._thread: threading.Thread | None = None
        self._ready = threading.Event()
        self._loop: asyncio.AbstractEventLoop
        self._stopping: asyncio.Event
        self._serving: set[asyncio.Task[None]] = set()

    def __enter__(self) -> Self:
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),), name="proxy", daemon=True)
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
        # Not asyncio's own server: after its close there is no way to wait for the connections that it accepted.
        with socket.create_server(("127.0.0.1", 0), backlog=_BACKLOG) as listener:
            listener.setblocking(False)
            self.endpoint_url = f"http://127.0.0.1:{listener.getsockname()[1]}"
            accepting = self._loop.create_task(self._accept(listener))
            self._ready.set()
            await self._stopping.wait()
            await _ended({accepting})
        await asyncio.sleep(0)  # the connection accepted last starts, so that it closes its sockets
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
            task.exception()  # marked as retrieved: broken connections are expected here

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
        except OSError:  # no upstream server is listening: the client sees a closed connection
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
        """Serve one client connection (`reader`, `writer`) and its connection to the upstream server."""
        raise NotImplementedError


async def _ended(tasks: set[asyncio.Task[None]]) -> None:
    """Cancel the tasks and wait until they have ended."""
    for task in tasks:
        task.cancel()
    if tasks:
        await asyncio.wait(set(tasks))
