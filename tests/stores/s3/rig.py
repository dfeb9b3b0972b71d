"""S3 stores on a fault server, over each transport, with a clock that does not wait."""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

from zarr_s3_async._concurrency.limiter import Limiter
from zarr_s3_async.config import RetryPolicy, S3Config
from zarr_s3_async.events import Event, RequestDone
from zarr_s3_async.stores.s3.capabilities import Capabilities
from zarr_s3_async.stores.s3.recovery import Recovery, Regions
from zarr_s3_async.stores.s3.request import Transport
from zarr_s3_async.stores.s3.retry import RetryingTransport, Traced
from zarr_s3_async.stores.s3.sdk.clients import ClientPool
from zarr_s3_async.stores.s3.sdk.transport import SdkTransport
from zarr_s3_async.stores.s3.slots import Slots
from zarr_s3_async.stores.s3.store import S3Store
from zarr_s3_async.stores.s3.transport import RoutedTransport

from ...servers.fault_server import FaultServer
from .scripted import AllSupported

BUCKET, PREFIX = "data", "root"
SECRET, TOKEN = "do-not-tell-1", "do-not-tell-2"  # secrets that must not appear anywhere

MakeTransport = Callable[[ClientPool, S3Config, Regions], Transport]


def _wire(pool: ClientPool, config: S3Config, regions: Regions) -> Transport:
    return RoutedTransport(pool, config, regions, connections=16)


TRANSPORTS: dict[str, MakeTransport] = {"sdk": SdkTransport, "wire": _wire}


class Rig:
    """One fault server and the clients of one transport, shared by the tests of a module."""

    def __init__(self, server: FaultServer, make_transport: MakeTransport) -> None:
        self.server = server
        self.pool = ClientPool(16)
        self.events: list[Event] = []
        self.waits: list[float] = []
        self.while_waiting: Callable[[], Awaitable[Any]] | None = None
        self._make_transport = make_transport
        self._transports: list[Transport] = []

    @property
    def is_wire(self) -> bool:
        """Whether plain object requests go over the wire."""
        return self._make_transport is _wire

    @property
    def config(self) -> S3Config:
        """Options to reach the server."""
        return S3Config(
            endpoint_url=self.server.endpoint_url,
            region="us-east-1",
            access_key_id="AKIDTEST",
            secret_access_key=SECRET,
            session_token=TOKEN,
            addressing_style="path",
            attempt_timeout=10.0,
        )

    def forget(self) -> None:
        """Reset before a test: counts at zero, and a new prefix for its objects."""
        self.server.forget()
        self.events.clear()
        self.waits.clear()
        self.while_waiting = None

    async def wait(self, seconds: float) -> None:
        """Record the wait instead of sleeping."""
        self.waits.append(seconds)
        if self.while_waiting is not None:
            act, self.while_waiting = self.while_waiting, None
            await act()

    def retrying(self, config: S3Config, attempts: int = 3) -> tuple[RetryingTransport, Regions]:
        """`RetryingTransport(Traced(Transport))` as the service creates it, except for the clock."""
        regions = Regions(config)

        async def renew() -> bool:
            return await self.pool.renew(config)

        transport = self._make_transport(self.pool, config, regions)
        self._transports.append(transport)
        retrying = RetryingTransport(
            Traced(transport, self.events.append),
            slots=Slots(Limiter(8)),
            policy=RetryPolicy(attempts=attempts, base_delay=0.1),
            emit=self.events.append,
            recovery=Recovery(renew=renew, clock=self.pool.clock(config), regions=regions),
            uniform=lambda: 0.5,
            wait=self.wait,
        )
        return retrying, regions

    def store(self, *, attempts: int = 3, config: S3Config | None = None, **options: Any) -> S3Store:
        """A store that assumes that its server has all capabilities, so that it sends no probes."""
        config = replace(config or self.config, **options)
        transport = self.retrying(config, attempts)[0]
        return S3Store(BUCKET, PREFIX, transport=transport, config=config, capabilities=AllSupported(transport))

    def probing_store(self, **options: Any) -> S3Store:
        """A store that has to probe the capabilities of its server."""
        config = replace(self.config, **options)
        retrying, regions = self.retrying(config)

        async def endpoint_url() -> str:
            client = await self.pool.client(regions.config_for(BUCKET))
            return str(client.meta.endpoint_url)

        return S3Store(
            BUCKET, PREFIX, transport=retrying, config=config, capabilities=Capabilities(endpoint_url, retrying)
        )

    async def hang_up(self) -> None:
        """Close the connections of the stores created so far; those of the SDK belong to the pool and stay open."""
        while self._transports:
            transport = self._transports.pop()
            if isinstance(transport, RoutedTransport):
                await transport.aclose()

    async def aclose(self) -> None:
        """Close every connection."""
        await self.hang_up()
        await self.pool.aclose()

    def put(self, key: str, body: bytes) -> None:
        """Store an object directly; not counted."""
        self.server.put(BUCKET, f"{PREFIX}/{key}", body)

    def remove(self, key: str) -> None:
        """Delete an object directly; not counted."""
        self.server.remove(BUCKET, f"{PREFIX}/{key}")

    def stored(self, key: str) -> bytes | None:
        """Read an object directly; None if it is absent."""
        return self.server.get(BUCKET, f"{PREFIX}/{key}")

    @property
    def attempts(self) -> int:
        """Number of reported HTTP attempts."""
        return sum(isinstance(event, RequestDone) for event in self.events)


@asynccontextmanager
async def rigged(name: str, **server_options: Any) -> AsyncIterator[Rig]:
    """A rig over the transport of this name."""
    with FaultServer(buckets=(BUCKET,), **server_options) as server:
        rig = Rig(server, TRANSPORTS[name])
        try:
            yield rig
        finally:
            await rig.aclose()
