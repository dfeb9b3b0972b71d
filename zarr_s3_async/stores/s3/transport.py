"""Route requests to the wire or the SDK, and complete uploads of cancelled callers.

Plain object requests take the wire, everything else the SDK. A bucket that the wire cannot serve (a proxy, S3 Express,
an ARN, another signature) goes through the SDK for every request; the log says so once.

S3 discards an upload whose connection breaks. Some servers store what they received instead: SeaweedFS 4.48 replaces
the object by an empty one (tests/promises/test_cancellation.py shows it). So unless the endpoint is Amazon's, a
cancelled upload continues until its response arrives, for at most `completion.GRACE` seconds, and the caller's
cancellation is raised only then.
"""

from __future__ import annotations

import logging
from asyncio import Lock
from functools import partial
from typing import TYPE_CHECKING, NamedTuple

from ..._buffers import Buffers
from ..._concurrency.blocking import run_to_completion
from ..._http.dial import tls_context
from ...config import S3Config
from ...errors import Unsupported, ZarrS3Error, session_closed
from .recovery import Regions
from .request import Request, Response
from .sdk.clients import ClientPool, Way
from .sdk.endpoint import is_amazon_host
from .sdk.errors import response_or_raise
from .wire import OPERATIONS, Wire

if TYPE_CHECKING:
    import ssl
    from collections.abc import Coroutine
    from typing import Any

    from .sdk.transport import SdkTransport

log: logging.Logger = logging.getLogger("zarr_s3_async")


class _Route(NamedTuple):
    """How one bucket is reached, as long as its region does not change."""

    config: S3Config
    wire: Wire | None
    """The wire, or None for the SDK."""


class RoutedTransport:
    """Sends by the wire or the SDK. `aclose` closes the wire's connections; those of the SDK belong to the pool."""

    __slots__ = (
        "_buffers",
        "_closed",
        "_config",
        "_limit",
        "_making",
        "_pool",
        "_regions",
        "_retired",
        "_routes",
        "_sdk",
    )

    def __init__(
        self,
        pool: ClientPool,
        config: S3Config,
        regions: Regions,
        *,
        connections: int,
        buffers: Buffers | None = None,
    ) -> None:
        """
        Args:
            pool: The SDK's clients and credentials.
            config: The options.
            regions: The regions of buckets.
            connections: Maximum number of wire connections to one bucket.
            buffers: Memory for bodies; None: allocate its own.
        """
        self._pool = pool
        self._config = config
        self._regions = regions
        self._limit = connections
        self._sdk: SdkTransport | None = None
        self._routes: dict[str, _Route] = {}
        self._retired: list[Wire] = []
        self._making = Lock()
        self._buffers = buffers or Buffers()
        self._closed = False

    def send(self, request: Request) -> Coroutine[Any, Any, Response]:
        """Send one attempt."""
        # No coroutine of its own: each costs a small request one percent.
        config = self._regions.config_for(request.bucket)
        route = self._routes.get(request.bucket)
        if request.operation not in OPERATIONS or config.transport == "sdk":
            return self._send_by_sdk(request)
        if route is None or route.config is not config:
            return self._find_and_send(request, config)
        return self._send_by_sdk(request) if route.wire is None else route.wire.send(request)

    async def _find_and_send(self, request: Request, config: S3Config) -> Response:
        route = await self._find(request, config)
        return await (self._send_by_sdk(request) if route.wire is None else route.wire.send(request))

    async def _send_by_sdk(self, request: Request) -> Response:
        if self._sdk is None:
            from .sdk.transport import SdkTransport

            self._sdk = SdkTransport(self._pool, self._config, self._regions)
        # Without resolving its endpoint it is unknown whether it is Amazon's.
        if request.payload is None:
            return await self._sdk.send(request)
        return await run_to_completion(self._sdk.send(request))

    async def _find(self, request: Request, config: S3Config) -> _Route:
        """Resolved once per bucket and region, by the first request, or by the next one if that is cancelled."""
        # One at a time: concurrent first requests of a bucket must not resolve its endpoint more than once.
        async with self._making:
            route = self._routes.get(request.bucket)
            if route is not None and route.config is config:
                return route
            self._refuse_closed()
            found = await self._route(request, config)
            self._refuse_closed()  # a wire created meanwhile has no connections yet
            self._routes[request.bucket] = found
        if route is not None and route.wire is not None:
            route.wire.retire()  # requests in flight to the wrong region are completed
            # Kept until the session closes, because its requests may still be in flight.
            self._retired.append(route.wire)
        return found

    async def _route(self, request: Request, config: S3Config) -> _Route:
        """Create the route of a bucket: over the wire if it supports the endpoint, else over the SDK."""
        endpoint, identity, ca_bundle = await self._way(request, config)
        if endpoint.unsupported is None:
            wire = Wire(
                endpoint,
                identity.credentials,
                connect_timeout=config.connect_timeout,
                attempt_timeout=config.attempt_timeout,
                max_connections=self._limit,
                tls=partial(_shared_tls_context, ca_bundle),
                buffers=self._buffers,
                clock=identity.clock,
                complete_uploads=not is_amazon_host(endpoint.host),
            )
            return _Route(config, wire)
        if config.transport == "wire":
            raise Unsupported(
                f"transport='wire' cannot serve the bucket {request.bucket!r}: {endpoint.unsupported}; "
                "use transport='auto'",
                bucket=request.bucket,
            )
        # Logged, because requests over the SDK cost far more CPU time.
        log.info("bucket %s goes through the SDK: %s", request.bucket, endpoint.unsupported)
        return _Route(config, None)

    async def _way(self, request: Request, config: S3Config) -> Way:
        try:
            return await self._pool.way(config, request.bucket)
        except ZarrS3Error:
            raise
        except Exception as error:
            response_or_raise(request, error)  # always raises here: no request was sent, so there is no response
            raise

    def _refuse_closed(self) -> None:
        if self._closed:
            raise session_closed()

    def close(self) -> None:
        """Start no further requests; running ones on the wire fail with SessionClosed."""
        self._closed = True
        for wire in self._wires():
            wire.close()

    async def aclose(self) -> None:
        """Close the connections of the wire, and return when they are closed. Idempotent."""
        self.close()
        for wire in self._wires():
            await wire.aclose()

    def _wires(self) -> list[Wire]:
        return [*self._retired, *(route.wire for route in self._routes.values() if route.wire is not None)]


_contexts: dict[tuple[str | None, float], ssl.SSLContext] = {}


def _shared_tls_context(ca_bundle: str | None) -> ssl.SSLContext:
    """A TLS context shared by the process, since reading the authorities takes 10 to 30 ms; renewed with the bundle."""
    from pathlib import Path

    changed = 0.0 if ca_bundle is None or not Path(ca_bundle).exists() else Path(ca_bundle).stat().st_mtime
    found = _contexts.get((ca_bundle, changed))
    if found is None:
        found = _contexts[ca_bundle, changed] = tls_context(ca_bundle)
    return found
