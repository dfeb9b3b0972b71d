"""What the S3 stores of one session share: the client pool, the request slots and the way of a request."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._limiter import Limiter
from ...config import RetryPolicy, S3Config
from ...errors import ConfigError
from ...events import Emit
from .pool import ClientPool
from .request import Transport
from .sdk import SdkTransport
from .steady import Steady
from .store import S3Store, normalized_prefix
from .traced import Traced

if TYPE_CHECKING:
    from ..registry import StoreContext

_MIN_BUCKET, _MAX_BUCKET = 3, 63


class S3Service:
    """Makes S3 stores that share connections and limits."""

    __slots__ = ("_emit", "_policy", "_pool", "_steady", "slots")

    def __init__(self, *, requests: int, policy: RetryPolicy, emit: Emit) -> None:
        self.slots = Limiter(requests)
        self._pool = ClientPool(requests)
        self._policy = policy
        self._emit = emit
        self._steady: dict[S3Config, Steady] = {}

    def store(self, bucket: str, prefix: str, config: S3Config) -> S3Store:
        """A store; no request is made."""
        return S3Store(checked_bucket(bucket), prefix, steady=self._way(config), config=config)

    def _way(self, config: S3Config) -> Steady:
        """`Steady(Traced(Transport))` for these options, made once."""
        steady = self._steady.get(config)
        if steady is None:
            steady = self._steady[config] = Steady(
                Traced(self._transport(config), self._emit),
                slots=self.slots,
                policy=self._policy,
                attempt_timeout=config.attempt_timeout,
                emit=self._emit,
            )
        return steady

    def _transport(self, config: S3Config) -> Transport:
        return SdkTransport(self._pool, config)

    async def aclose(self) -> None:
        """Close the clients and their connections."""
        await self._pool.aclose()


def checked_bucket(bucket: str) -> str:
    """The name, or ConfigError; an access point's ARN passes as it is."""
    if bucket.startswith("arn:") or (_MIN_BUCKET <= len(bucket) <= _MAX_BUCKET and "/" not in bucket):
        return bucket
    raise ConfigError(f"{bucket!r} is no bucket name: those have {_MIN_BUCKET} to {_MAX_BUCKET} characters and no slash")


def open_store(url: str, context: StoreContext) -> S3Store:
    """The registry's factory for `s3://bucket/prefix`."""
    bucket, _, prefix = url.removeprefix("s3://").partition("/")
    service = context.shared.get(S3Service)
    if service is None:
        service = S3Service(requests=context.limits.requests, policy=context.retry, emit=context.emit)
        context.shared[S3Service] = service
        context.closing.append(service.aclose)
    assert isinstance(service, S3Service)  # noqa: S101  # the key is the class
    return service.store(bucket, normalized_prefix(prefix), context.s3)
