"""`S3Service`: what the S3 stores of one session share: client pool, request slots and transports."""

from __future__ import annotations

import re
from functools import partial
from typing import NamedTuple

from ..._buffers import Buffers
from ..._options import is_unicode
from ..._policy.backoff import RetryBudget
from ...config import HedgePolicy, RetryPolicy, S3Config
from ...errors import ConfigError
from ...events import Emit
from ..base import RequestLimiter, StoreContext
from .capabilities import Capabilities
from .hedging import Hedging
from .recovery import Recovery, Regions
from .request import normalized_prefix
from .retry import RetryingTransport, Traced
from .sdk.clients import ClientPool
from .slots import Slots
from .store import S3Store
from .transport import RoutedTransport

_MIN_BUCKET, _MAX_BUCKET = 3, 63
_access_point = re.compile(
    r"arn:[^:/]+:s3[a-z-]*:[^:/]*:\d{12}:(?:outpost[/:][^/:]+[/:])?accesspoint[/:][^/:]+(?=/|$)"
).match


class _Way(NamedTuple):
    """The transport and capabilities for requests with the same options."""

    transport: RetryingTransport
    regions: Regions


class S3Service:
    """Creates S3 stores that share connections and limits."""

    __slots__ = (
        "_budget",
        "_buffers",
        "_capabilities",
        "_emit",
        "_hedging",
        "_policy",
        "_pool",
        "_requests",
        "_routed",
        "_slots",
        "_ways",
    )

    def __init__(
        self, *, requests: RequestLimiter, policy: RetryPolicy, emit: Emit, hedge: HedgePolicy | None = None
    ) -> None:
        self._requests = requests
        self._slots = Slots(requests)
        self._pool = ClientPool(requests.limit)
        self._buffers = Buffers()
        self._policy = policy
        self._emit = emit
        self._budget = RetryBudget(requests.limit)
        self._hedging = None if hedge is None else Hedging(hedge, slots=self._slots, emit=emit)
        self._routed: list[RoutedTransport] = []
        self._ways: dict[S3Config, _Way] = {}
        self._capabilities: dict[tuple[str, S3Config], Capabilities] = {}

    def store(self, bucket: str, prefix: str, config: S3Config) -> S3Store:
        """Create a store; no request is sent."""
        way = self._way(config)
        known = (checked_bucket(bucket), config)
        capabilities = self._capabilities.get(known)
        if capabilities is None:
            endpoint_url = partial(self._endpoint_url, bucket, way.regions)
            capabilities = self._capabilities[known] = Capabilities(endpoint_url, way.transport)
        return S3Store(bucket, prefix, transport=way.transport, config=config, capabilities=capabilities)

    async def _endpoint_url(self, bucket: str, regions: Regions) -> str:
        return await self._pool.endpoint_url(regions.config_for(bucket))

    def _way(self, config: S3Config) -> _Way:
        """`RetryingTransport(Traced(Transport))` for these options, created once."""
        # Stores with equal options share connections, the clock and what was learnt of regions.
        way = self._ways.get(config)
        if way is None:
            regions = Regions(config)
            way = self._ways[config] = _Way(self._retrying(config, regions), regions)
        return way

    def _retrying(self, config: S3Config, regions: Regions) -> RetryingTransport:
        recovery = Recovery(renew=partial(self._pool.renew, config), clock=self._pool.clock(config), regions=regions)
        connections = self._requests.limit
        routed = RoutedTransport(self._pool, config, regions, connections=connections, buffers=self._buffers)
        self._routed.append(routed)
        return RetryingTransport(
            Traced(routed, self._emit),
            slots=self._slots,
            policy=self._policy,
            emit=self._emit,
            budget=self._budget,
            hedging=self._hedging,
            recovery=recovery,
            wait=self._pool.running.sleep,
        )

    async def aclose(self) -> None:
        """Fail running requests, and close the clients and all connections. Idempotent."""
        for routed in self._routed:
            routed.close()
        # Nothing new can start by now: every transport rejects further requests.
        await self._pool.aclose()
        for routed in self._routed:
            await routed.aclose()


def checked_bucket(bucket: str) -> str:
    """Return the bucket name or access point ARN; raise ConfigError if it is invalid."""
    if bucket.startswith("arn:"):
        found = _access_point(bucket)
        if found is None or found.end() < len(bucket):
            raise ConfigError(
                f"{bucket!r} is not the ARN of an access point (arn:aws:s3:region:account:accesspoint/name)"
            )
        return bucket
    if _MIN_BUCKET <= len(bucket) <= _MAX_BUCKET and "/" not in bucket and is_unicode(bucket):
        return bucket
    raise ConfigError(
        f"{bucket!r} is not a bucket name, which has {_MIN_BUCKET} to {_MAX_BUCKET} characters and no slash"
    )


def bucket_and_prefix(place: str) -> tuple[str, str]:
    """Split what follows `s3://`; the slash within an access point's ARN is part of the name."""
    found = _access_point(place)
    if found is not None:
        return found[0], place[found.end() + 1 :]
    bucket, _, prefix = place.partition("/")
    return bucket, prefix


def open_store(url: str, context: StoreContext) -> S3Store:
    """The registry's factory for `s3://bucket/prefix`."""
    bucket, prefix = bucket_and_prefix(url.removeprefix("s3://"))
    service = context.shared.get(S3Service)
    if service is None:
        service = S3Service(requests=context.requests, policy=context.retry, emit=context.emit, hedge=context.hedge)
        context.shared[S3Service] = service
        context.closing.append(service.aclose)
    assert isinstance(service, S3Service)  # noqa: S101  # the key is the class
    return service.store(bucket, normalized_prefix(prefix), context.s3)
