"""Bodies of 4 MiB received by threads, compared with the present transport: `python -m benchmarks.bodies`.

Servers send 64 MiB from memory. Medians of rounds in turn: client CPU per MiB, and MiB per second of wall time. None of
the other ways has timeouts or can be cancelled, which would add to its cost.

* The present transport, and the same with few requests in flight.
* The present transport with bodies in threads: the event loop sends requests and reads heads; then it pauses the
  connection, and a thread receives the body into its final memory by one `recv_into(MSG_WAITALL)`. Only over http.
* A bare protocol of asyncio, and bare threads: both only send requests and receive bodies, with nothing of the library
  around it. The difference between the two is what threads save; that between the bare protocol and the present
  transport is what the library does for each request.

The last rows are of bodies in strided memory, which pass through a scratch buffer: with several sizes of it.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import queue
import random
import socket
import ssl
import tempfile
import threading
import time
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from functools import partial
from pathlib import Path
from statistics import median
from typing import Any
from unittest.mock import patch

import numpy as np

import zarr_s3_async as zs
from zarr_s3_async import _buffers
from zarr_s3_async._http import pool
from zarr_s3_async._http.body import Body
from zarr_s3_async._http.connection import Connection

from .memory import cpu_seconds
from .memory_server import MemoryServers
from .scaling import stored
from .workload import Dataset

DATA = Dataset(chunk=(1024, 1024), grid=(16, 1), uniform=True)
MIB = 64


def _request(number: int) -> bytes:
    return f"GET /memory/scaling/c/{number}/0 HTTP/1.1\r\nhost: localhost\r\n\r\n".encode()


def _result() -> tuple[memoryview, list[memoryview]]:
    """A new result, and the memory of each chunk in it."""
    view = memoryview(np.empty(DATA.shape, "<f4")).cast("B")
    return view, [view[number * 2**22 : (number + 1) * 2**22] for number in range(16)]


class BareThreads:
    """Threads, each with a connection of its own."""

    def __init__(self, port: int, count: int, context: ssl.SSLContext | None) -> None:
        self._jobs: queue.SimpleQueue[tuple[int, memoryview]] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(count):
            plain = socket.create_connection(("localhost", port))
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = plain if context is None else context.wrap_socket(plain, server_hostname="localhost")
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        flags = 0 if isinstance(connection, ssl.SSLSocket) else socket.MSG_WAITALL
        while True:
            number, memory = self._jobs.get()
            connection.sendall(_request(number))
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(4096)
            first = head.partition(b"\r\n\r\n")[2]
            memory[: len(first)] = first
            at = len(first)
            while at < len(memory):
                at += connection.recv_into(memory[at:], flags=flags)
            del memory
            self._done.put(None)

    def read(self) -> None:
        """Read the whole array into a new result."""
        _, chunks = _result()
        for job in enumerate(chunks):
            self._jobs.put(job)
        for _ in chunks:
            self._done.get()


class BareProtocol(asyncio.BufferedProtocol):
    """One connection on the event loop."""

    _transport: asyncio.Transport

    def __init__(self) -> None:
        self._scratch = memoryview(bytearray(64 * 1024))
        self._head = True
        self._filled = 0
        self._left = self._scratch
        self._done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def connection_made(self, transport: Any) -> None:
        self._transport = transport

    async def fetch(self, number: int, memory: memoryview) -> None:
        """Receive the body of one chunk."""
        self._left = memory
        self._done = asyncio.get_running_loop().create_future()
        self._transport.write(_request(number))
        await self._done

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # asyncio's name
        return self._scratch[self._filled :] if self._head else self._left

    def buffer_updated(self, nbytes: int) -> None:
        if self._head:
            self._filled += nbytes
            _, end, first = bytes(self._scratch[: self._filled]).partition(b"\r\n\r\n")
            if not end:
                return
            self._head = False
            self._left[: len(first)] = first
            nbytes = len(first)
        self._left = self._left[nbytes:]
        if not self._left:
            self._head, self._filled = True, 0
            self._done.set_result(None)


async def bare_protocols(port: int, count: int, context: ssl.SSLContext | None) -> list[BareProtocol]:
    """Connections."""
    loop = asyncio.get_running_loop()
    return [(await loop.create_connection(BareProtocol, "localhost", port, ssl=context))[1] for _ in range(count)]


async def read_bare(connections: list[BareProtocol]) -> None:
    """Read the whole array into a new result."""
    _, chunks = _result()
    rest = iter(enumerate(chunks))

    async def serve(connection: BareProtocol) -> None:
        for number, memory in rest:
            await connection.fetch(number, memory)

    await asyncio.gather(*(serve(connection) for connection in connections))


class ReceivingThreads:
    """Threads that receive bodies for connections of the present transport, with one wake-up of the loop for many."""

    def __init__(self, count: int) -> None:
        self._jobs: queue.SimpleQueue[tuple[ThreadedConnection, socket.socket, memoryview]] = queue.SimpleQueue()
        self._done: deque[tuple[ThreadedConnection, int]] = deque()
        self._woken = False
        for _ in range(count):
            threading.Thread(target=self._serve, daemon=True).start()

    def receive(self, connection: ThreadedConnection, source: socket.socket, memory: memoryview) -> None:
        """Fill the memory, then call `received` of the connection on its loop."""
        self._jobs.put((connection, source, memory))

    def _serve(self) -> None:
        while True:
            connection, source, memory = self._jobs.get()
            count = source.recv_into(memory, flags=socket.MSG_WAITALL)
            self._done.append((connection, count))
            if not self._woken:
                self._woken = True
                connection.loop.call_soon_threadsafe(self._report)
            del connection, memory

    def _report(self) -> None:
        self._woken = False
        while self._done:
            connection, count = self._done.popleft()
            connection.received_by_thread(count)


class ThreadedConnection(Connection):
    """The present transport with bodies in threads."""

    threads: ReceivingThreads
    _socket: socket.socket | None = None

    @property
    def loop(self) -> asyncio.AbstractEventLoop:
        """The event loop of the connection."""
        return self._loop

    def _feed(self, body: Body, data: memoryview) -> None:
        super()._feed(body, data)
        if self._direct is not None:
            if self._socket is None:
                self._socket = socket.socket(fileno=os.dup(self._transport.get_extra_info("socket").fileno()))
            self._transport.pause_reading()
            self._socket.setblocking(True)
            self.threads.receive(self, self._socket, self._direct)

    def received_by_thread(self, count: int) -> None:
        """Let the event loop receive the rest."""
        assert self._socket is not None
        assert self._body is not None
        self._socket.setblocking(False)
        self._body.advance(count)
        self._direct = self._body.direct()
        self._transport.resume_reading()

    def connection_lost(self, exc: Exception | None) -> None:
        if self._socket is not None:
            self._socket.close()
        super().connection_lost(exc)


def bodies_in_threads(count: int) -> Any:
    """Connections that are made in this context leave their bodies to threads."""
    threads = {"threads": ReceivingThreads(count)}
    return patch.object(pool, "Connection", type("ThreadedConnection", (ThreadedConnection,), threads))


def measure(name: str, ways: dict[str, Callable[[], None]], rounds: int) -> None:
    """A line per way."""
    cpu: dict[str, list[float]] = {way: [] for way in ways}
    wall: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way, read in random.sample(list(ways.items()), len(ways)):
            used, began = cpu_seconds(), time.perf_counter()
            read()
            if number:
                cpu[way].append(cpu_seconds() - used)
                wall[way].append(time.perf_counter() - began)
    for way in ways:
        print(f"| {name} | {way} | {median(cpu[way]) / MIB * 1e6:.0f} | {MIB / median(wall[way]):,.0f} |", flush=True)


class Opened:
    """Sessions of the library."""

    def __init__(self, runner: asyncio.Runner, url: str, authority: str | None = None) -> None:
        self._runner = runner
        self._config = zs.S3Config(
            endpoint_url=url,
            ca_bundle=authority,
            access_key_id="key",
            secret_access_key="secret",
            region="us-east-1",
        )
        self._sessions: list[zs.Session] = []

    def reader(self, requests: int = 64) -> Callable[[], None]:
        """A function that reads the whole array with a session of its own; the connections are made already."""
        session = zs.Session(s3=self._config, limits=zs.Limits(requests=requests))
        self._sessions.append(session)
        array = self._runner.run(session.open_array("s3://memory/scaling"))

        def read() -> None:
            self._runner.run(array.get_slice((0, 0), array.shape))

        read()
        return read

    def close(self) -> None:
        for session in self._sessions:
            self._runner.run(session.aclose())


def run(tls: bool, cores: int, rounds: int) -> None:
    """Measure all ways, with the client on this number of cores."""
    available = sorted(os.sched_getaffinity(0))
    with tempfile.TemporaryDirectory() as folder:
        authority, pair, context = None, None, None
        if tls:
            from zarr_s3_async.testing._certificate import make_certificate

            made = make_certificate(Path(folder))
            authority, pair = str(made.authority), (made.chain, made.key)
            context = ssl.create_default_context(cafile=authority)
        with MemoryServers(asyncio.run(stored(DATA)), processes=2, tls=pair) as servers, asyncio.Runner() as runner:
            url = f"{'https' if tls else 'http'}://localhost:{servers.port}"
            os.sched_setaffinity(0, set(available[:cores]))
            opened = Opened(runner, url, authority)
            present = opened.reader
            ways = {"the present transport": present(), "the same, 4 requests": present(4)}

            def reading(connections: list[BareProtocol]) -> None:
                runner.run(read_bare(connections))

            for count in () if tls else (2, 4):
                with bodies_in_threads(count):
                    ways[f"the same, bodies in {count} threads"] = present()
            for count in (16, 2):
                bare = runner.run(bare_protocols(servers.port, count, context))
                ways[f"bare protocol, {count} connections"] = partial(reading, bare)
            for count in (2, 4):
                ways[f"bare threads, {count}"] = BareThreads(servers.port, count, context).read
            measure(f"{'TLS' if tls else 'http'}, {cores} cores", ways, rounds)
            opened.close()
    os.sched_setaffinity(0, set(available))


def strided(rounds: int) -> None:
    """Measure sizes of the scratch buffer of bodies whose memory is strided."""
    data = replace(DATA, grid=(4, 4))
    with MemoryServers(asyncio.run(stored(data)), processes=2) as servers, asyncio.Runner() as runner:
        opened = Opened(runner, f"http://localhost:{servers.port}")
        ways = {}
        for kib in (64, 256, 1024, 4096):
            with patch.object(_buffers, "_SCRATCH", kib * 1024):  # a session makes it at its first strided body
                ways[f"scratch buffer of {kib} KiB"] = opened.reader()
        measure("http, strided", ways, rounds)
        opened.close()


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bodies", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    print("| 16 bodies of 4 MiB | | CPU µs/MiB | MiB/s |\n|---|---|---:|---:|")
    for tls in (False, True):
        for cores in (1, 2):
            run(tls, cores, rounds)
    strided(rounds)


if __name__ == "__main__":
    main()
