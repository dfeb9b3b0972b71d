"""Events of a session, passed to its hooks, and `Metrics`, a hook that counts them."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable
from typing import Literal, NamedTuple, Protocol, TypeAlias, runtime_checkable

log: logging.Logger = logging.getLogger("zarr_s3_async")


class RequestDone(NamedTuple):
    """One HTTP attempt ended, successfully or not."""

    operation: str
    """Name in the S3 API: GetObject, PutObject, …"""
    bucket: str
    key: str
    attempt: int
    """Number of the attempt; 1 is the first."""
    status: int | None
    """HTTP status; None if there was no response."""
    error: str | None
    """S3 error code, or class name of the network error; None on success."""
    seconds: float
    bytes_sent: int
    bytes_received: int
    throttled: bool = False
    """True if the store responded with a request to slow down (503 SlowDown, 429)."""


class RetryScheduled(NamedTuple):
    """A request will be sent again."""

    operation: str
    bucket: str
    key: str
    attempt: int
    """Number of the attempt that failed."""
    delay: float
    """Seconds until the next one."""
    reason: str


class ConflictMet(NamedTuple):
    """A conditional write conflicted with another writer and will be attempted again."""

    key: str
    attempt: int


class HedgeStarted(NamedTuple):
    """A slow read was sent a second time; the faster response is used."""

    operation: str
    bucket: str
    key: str
    seconds: float
    """Seconds that the first request had been in flight."""


class SlotWaited(NamedTuple):
    """A request waited for one of the session's request slots and has acquired it."""

    bucket: str
    seconds: float


class ReadShared(NamedTuple):
    """A read used the response to another reader's request, which was sent after this read had started."""

    key: str


class CacheLooked(NamedTuple):
    """A lookup in one of the session's caches."""

    cache: CacheName
    hit: bool


class ChunksDecoded(NamedTuple):
    """Compressed chunks of one object were decoded."""

    key: str
    chunks: int
    nbytes: int
    """Decoded bytes."""
    seconds: float
    """Including the wait for a thread."""


CacheName: TypeAlias = Literal["chunks", "metadata"]
Event: TypeAlias = (
    RequestDone | RetryScheduled | ConflictMet | HedgeStarted | SlotWaited | ReadShared | CacheLooked | ChunksDecoded
)


class Hook(Protocol):
    """Receives every event synchronously on the event loop. It must not block. Its first exception is logged."""

    def __call__(self, event: Event, /) -> None: ...


class Usage(NamedTuple):
    """Use of a session's limits at one moment (`Session.usage`)."""

    requests: int
    """HTTP requests in flight."""
    requests_limit: int
    """`Limits.requests`."""
    requests_waiting: int
    """Requests that wait for a slot."""
    bytes: int
    """Decoded bytes of the objects being read or written."""
    bytes_limit: int
    """`Limits.bytes`."""
    bytes_waiting: int
    """Reads and writes of objects that wait for memory."""
    cached_chunk_bytes: int
    cached_index_bytes: int


class HasUsage(Protocol):
    """The part of a session that a hook may use."""

    @property
    def closed(self) -> bool: ...
    @property
    def usage(self) -> Usage: ...


@runtime_checkable
class WatchesSession(Protocol):
    """A hook that also receives the session whose events it gets."""

    def watch(self, session: HasUsage, /) -> None:
        """Called when a session is created with this hook. Keep at most a weak reference to it."""
        ...


Emit: TypeAlias = Callable[[Event], None]


class Metrics:
    """A hook that counts events. `session.metrics` is an instance."""

    __slots__ = (
        "bytes_received",
        "bytes_sent",
        "cache_hits",
        "cache_misses",
        "conflicts",
        "errors",
        "hedges",
        "requests",
        "retries",
        "shared_reads",
        "throttles",
    )

    def __init__(self) -> None:
        self.requests: Counter[str] = Counter()
        """HTTP attempts by S3 operation."""
        self.errors: Counter[str] = Counter()
        """Failed attempts by S3 error code or error class; a missing chunk counts as NoSuchKey."""
        self.retries: int = 0
        self.conflicts: int = 0
        self.hedges: int = 0
        self.throttles: int = 0
        """Attempts to which the store responded with a request to slow down."""
        self.shared_reads: int = 0
        """Reads that used the response to another reader's request."""
        self.cache_hits: Counter[str] = Counter()
        """Lookups that found an entry, by cache: `chunks`, `metadata`."""
        self.cache_misses: Counter[str] = Counter()
        self.bytes_sent: int = 0
        self.bytes_received: int = 0

    def __call__(self, event: Event, /) -> None:
        match event:
            case RequestDone():
                self.request_done(
                    event.operation, event.error, event.bytes_sent, event.bytes_received, throttled=event.throttled
                )
            case ReadShared():
                self.shared_reads += 1
            case CacheLooked():
                self.cache_looked(event.cache, hit=event.hit)
            case RetryScheduled():
                self.retries += 1
            case ConflictMet():
                self.conflicts += 1
            case HedgeStarted():
                self.hedges += 1

    def request_done(
        self, operation: str, error: str | None, sent: int, received: int, *, throttled: bool = False
    ) -> None:
        """Count one HTTP attempt. Called directly where there are no other hooks, to avoid creating the event.

        Args:
            operation: Name of the S3 operation, such as `GetObject`.
            error: Code or class of its error; None if it succeeded.
            sent: Bytes of the request's body.
            received: Bytes of the response's body.
            throttled: The server asked for fewer requests.
        """
        self.requests[operation] += 1
        self.bytes_sent += sent
        self.bytes_received += received
        if error is not None:
            self.errors[error] += 1
            self.throttles += throttled

    def cache_looked(self, cache: CacheName, *, hit: bool) -> None:
        """Count a cache lookup. Called directly where there are no other hooks, as `request_done`.

        Args:
            cache: The cache.
            hit: The entry was there.
        """
        (self.cache_hits if hit else self.cache_misses)[cache] += 1

    def __repr__(self) -> str:
        return (
            f"<Metrics requests={dict(self.requests)} retries={self.retries} conflicts={self.conflicts} "
            f"sent={self.bytes_sent} received={self.bytes_received}>"
        )


def has_hooks(emit: Emit) -> bool:
    """False if only `Metrics` receives events: events that it does not count need not be created."""
    return type(emit) is not Metrics


def report_cache_lookup(emit: Emit, cache: CacheName, *, hit: bool) -> None:
    """Count a cache lookup; emit an event only if there are hooks besides `Metrics`."""
    if type(emit) is Metrics:
        emit.cache_looked(cache, hit=hit)
    else:
        emit(CacheLooked(cache=cache, hit=hit))


def emitter(hooks: tuple[Hook, ...]) -> Emit:
    """One callable that passes an event to every hook, in order.

    The first exception of each hook is logged.
    """
    if len(hooks) == 1:
        return hooks[0]

    broken: set[int] = set()

    def emit(event: Event) -> None:
        for number, hook in enumerate(hooks):
            try:
                hook(event)
            except Exception:  # a failing hook must not fail the read
                if number not in broken:  # once: a hook that always raises would flood the log
                    broken.add(number)
                    log.exception("the hook %r raised; it is still called with further events", hook)

    return emit
