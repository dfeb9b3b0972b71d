"""An S3 stand-in with configurable latency, bandwidth and throttling; it counts requests.

It runs in its own process, keeps objects in memory, and checks no signatures. For the behaviour of a real
server, use `LocalS3`; this one is for measurements, and to imitate a distant or busy S3 on the local
machine.
"""

from __future__ import annotations

import asyncio
import json
import select
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import anyio
import anyio.to_thread

from .s3_messages import Buffer

_START_MILLISECONDS = 20_000
_STOP_SECONDS = 5.0
_PROGRAM = """
import runpy, sys, types
package = sys.modules["servers"] = types.ModuleType("servers")
package.__path__ = [sys.argv.pop(1)]
runpy.run_module("servers.stand_in_process.server", run_name="__main__", alter_sys=True)
"""
"""Runs the server's modules without importing the packages above them, which would take longer than they do."""


@dataclass(frozen=True, slots=True, kw_only=True)
class StandInCounters:
    """Counters of the stand-in since its start or its last reset."""

    requests: int
    operations: dict[str, int] = field(default_factory=dict)
    """Requests by S3 operation; a throttled one is `Throttled`."""
    statuses: dict[str, int] = field(default_factory=dict)
    connections: int
    """Connections accepted."""
    peak_in_flight: int
    bytes_in: int
    """Bytes of request bodies."""
    bytes_out: int
    """Bytes of response bodies."""


class StandIn:
    """`async with StandIn(latency=0.02) as server:`, or a plain `with`, and then `server.endpoint_url`.

    Args:
        latency: Seconds from the end of a request to the first byte of its response.
        bandwidth: Bytes per second of one connection, each way; None: unlimited.
        rate: Requests per second above which it answers 503 SlowDown; None: never.
        buckets: Buckets that exist from the start.
        port: Port to listen on; 0 takes a free one.
    """

    access_key_id = "stand-in"
    secret_access_key = "not-looked-at"  # no server checks it
    region = "us-east-1"

    def __init__(
        self,
        *,
        latency: float = 0.0,
        bandwidth: float | None = None,
        rate: float | None = None,
        buckets: tuple[str, ...] = ("stand-in",),
        port: int = 0,
    ) -> None:
        self._settings = {"latency": latency, "bandwidth": bandwidth, "rate": rate}
        self.buckets = buckets
        self._port = port
        self._process: subprocess.Popen[bytes] | None = None

    def __repr__(self) -> str:
        return f"<StandIn {self.endpoint_url if self._process else 'not running'}, {self._settings}>"

    @property
    def bucket(self) -> str:
        """The first of the buckets."""
        return self.buckets[0]

    @property
    def endpoint_url(self) -> str:
        """URL at which it listens."""
        return f"http://127.0.0.1:{self._port}"

    @property
    def pid(self) -> int:
        """Process ID of the running server."""
        if self._process is None:
            raise RuntimeError(f"{self!r} has no process")
        return self._process.pid

    def start(self) -> None:
        """Start the process and return when it listens."""
        if self._process is not None:
            raise RuntimeError(f"{self!r} runs already")
        arguments = [f"--port={self._port}", f"--settings={json.dumps(self._settings)}"]
        arguments += [f"--bucket={name}" for name in self.buckets]
        self._process = subprocess.Popen(  # our own program
            [sys.executable, "-c", _PROGRAM, str(Path(__file__).parent), *arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            self._port = int(_first_line(self._process))
        except BaseException:
            self.stop()
            raise

    def stop(self) -> None:
        """Stop the process. Repeated calls have no effect."""
        process, self._process = self._process, None
        if process is None:
            return
        assert process.stdin is not None  # they are pipes
        assert process.stdout is not None
        process.stdin.close()
        try:
            process.wait(_STOP_SECONDS)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        process.stdout.close()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()

    async def __aenter__(self) -> Self:
        try:
            await anyio.to_thread.run_sync(self.start)
        except BaseException:
            await self.__aexit__(None, None, None)
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        with anyio.CancelScope(shield=True):
            await anyio.to_thread.run_sync(self.stop)

    async def counters(self) -> StandInCounters:
        """Fetch the counters."""
        return await self._control("GET", "counters")

    async def reset(self) -> StandInCounters:
        """Set all counters to zero."""
        return await self._control("POST", "reset")

    async def clear(self) -> StandInCounters:
        """Remove all objects and set all counters to zero."""
        return await self._control("POST", "clear")

    async def change(self, **settings: float | None) -> None:
        """Change `latency`, `bandwidth` or `rate`, from the next request on."""
        unknown = settings.keys() - self._settings.keys()
        if unknown:
            raise TypeError(f"a StandIn has no setting {', '.join(sorted(unknown))}: {', '.join(self._settings)}")
        self._settings.update(settings)
        await self._control("POST", "settings", json.dumps(settings).encode())

    async def put_everywhere(self, prefix: str, body: Buffer, *, bucket: str | None = None) -> None:
        """Serve `body` for every key under `prefix` that has no object: many chunks without memory."""
        await self._control("PUT", f"everywhere/{bucket or self.bucket}/{prefix}", body)

    async def _control(self, method: str, path: str, body: Buffer = b"") -> StandInCounters:
        if self._process is None:
            raise RuntimeError("the S3 stand-in is not running; use it inside `with StandIn(...)`")
        reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        try:
            head = f"{method} /-/{path} HTTP/1.1\r\nContent-Length: {len(memoryview(body))}\r\n\r\n"
            writer.write(head.encode() + bytes(body))
            status = await reader.readuntil(b"\r\n\r\n")
            length = int(status.lower().partition(b"content-length:")[2].split()[0])
            answer: dict[str, Any] = json.loads(await reader.readexactly(length))
        finally:
            writer.close()
            await writer.wait_closed()
        return StandInCounters(**answer)


def _first_line(process: subprocess.Popen[bytes]) -> bytes:
    assert process.stdout is not None  # it is a pipe
    poll = select.poll()
    poll.register(process.stdout, select.POLLIN)
    line = process.stdout.readline() if poll.poll(_START_MILLISECONDS) else b""
    if not line:
        raise RuntimeError("the S3 stand-in did not start; its output is on standard error")
    return line
