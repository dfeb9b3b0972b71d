"""Bodies of 4 MiB received by blocking threads, compared with the current transport: `python -m benchmarks.bodies`.

A prototype, not part of the library: threads, each with its own connection, send requests and read heads, and receive
a body by one `recv_into(MSG_WAITALL)` into its final memory (over TLS by several, without asyncio's memory
BIO). Servers send from memory. Medians of interleaved rounds: client CPU per MiB, and MiB per second of wall
time. The prototype lacks timeouts, cancellation, checks of heads and signing, which would add to its cost.
"""

from __future__ import annotations

import argparse
import asyncio
import os
import queue
import socket
import ssl
import tempfile
import threading
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import numpy as np

import zarr_s3_async as zs

from .memory import cpu_seconds
from .memory_server import MemoryServers
from .scaling import stored
from .workload import Dataset

DATA = Dataset(chunk=(1024, 1024), grid=(16, 1), uniform=True)
MIB = 64


class Threads:
    """Connections, each with its own thread."""

    def __init__(self, port: int, count: int, context: ssl.SSLContext | None) -> None:
        self._jobs: queue.SimpleQueue[tuple[str, memoryview] | None] = queue.SimpleQueue()
        self._done: queue.SimpleQueue[None] = queue.SimpleQueue()
        for _ in range(count):
            plain = socket.create_connection(("localhost", port))
            plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            connection = plain if context is None else context.wrap_socket(plain, server_hostname="localhost")
            threading.Thread(target=self._serve, args=(connection,), daemon=True).start()

    def _serve(self, connection: socket.socket) -> None:
        flags = 0 if isinstance(connection, ssl.SSLSocket) else socket.MSG_WAITALL
        while (job := self._jobs.get()) is not None:
            key, memory = job
            connection.sendall(f"GET /memory/{key} HTTP/1.1\r\nhost: localhost\r\n\r\n".encode())
            head = b""
            while b"\r\n\r\n" not in head:
                head += connection.recv(4096)
            first = head.partition(b"\r\n\r\n")[2]
            memory[: len(first)] = first
            at = len(first)
            while at < len(memory):
                at += connection.recv_into(memory[at:], flags=flags)
            self._done.put(None)

    def read(self) -> None:
        """Read the whole array into a new result."""
        out = np.empty(DATA.shape, "<f4")
        view = memoryview(out).cast("B")
        for number in range(16):
            self._jobs.put((f"scaling/c/{number}/0", view[number * 2**22 : (number + 1) * 2**22]))
        for _ in range(16):
            self._done.get()


def measure(name: str, ways: dict[str, Callable[[], None]], rounds: int) -> None:
    """A line per way."""
    cpu: dict[str, list[float]] = {way: [] for way in ways}
    wall: dict[str, list[float]] = {way: [] for way in ways}
    for number in range(rounds + 1):
        for way, read in ways.items():
            used, began = cpu_seconds(), time.perf_counter()
            read()
            if number:
                cpu[way].append(cpu_seconds() - used)
                wall[way].append(time.perf_counter() - began)
    for way in ways:
        print(f"| {name} | {way} | {median(cpu[way]) / MIB * 1e6:.0f} | {MIB / median(wall[way]):,.0f} |", flush=True)


def run(tls: bool, cores: int, rounds: int) -> None:
    """Measure both ways, with the client on this number of cores."""
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
            session = zs.Session(
                endpoint_url=url,
                ca_bundle=authority,
                access_key_id="key",
                secret_access_key="secret",
                region="us-east-1",
            )
            array = runner.run(session.open_array("s3://memory/scaling"))

            async def whole() -> None:
                await array[...]

            ways = {"the present transport": lambda: runner.run(whole())}
            for count in (2, 4):
                ways[f"{count} threads"] = Threads(servers.port, count, context).read
            measure(f"{'TLS' if tls else 'http'}, {cores} cores", ways, rounds)
            runner.run(session.aclose())
    os.sched_setaffinity(0, set(available))


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.bodies", description=__doc__.partition("\n")[0])
    parser.add_argument("--rounds", type=int, default=15)
    rounds = parser.parse_args().rounds
    print("| 16 bodies of 4 MiB | | CPU µs/MiB | MiB/s |\n|---|---|---:|---:|")
    for tls in (False, True):
        for cores in (1, 2):
            run(tls, cores, rounds)


if __name__ == "__main__":
    main()
