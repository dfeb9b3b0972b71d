"""A session's metrics for Prometheus (extra `prometheus`); docs/metrics.md describes each of them.

hook = PrometheusHook()
session = zs.Session(hooks=[hook])
app.mount("/metrics", prometheus_client.make_asgi_app())
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Final
from weakref import WeakSet

from .. import ConfigError, ConflictMet, Event, HedgeStarted, RequestDone, RetryScheduled
from ..events import CacheLooked, ChunksDecoded, HasUsage, ReadShared, SlotWaited, Usage

try:
    from prometheus_client import REGISTRY, CollectorRegistry, Counter, Histogram
    from prometheus_client.core import GaugeMetricFamily
    from prometheus_client.registry import Collector
except ImportError as _error:  # pragma: no cover  # the extra is there in the tests
    raise ImportError(
        "zarr_s3_async.metrics.prometheus needs prometheus-client: pip install 'zarr-s3-async[prometheus]'"
    ) from _error

SECONDS: Final = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)
"""Bounds of the histograms."""
_GET_PRICE: Final = 0.0004 / 1000
_PUT_PRICE: Final = 0.005 / 1000
"""US dollars per request of Amazon S3 Standard in us-east-1."""
_PRICES: Final = dict.fromkeys(("GetObject", "HeadObject"), _GET_PRICE) | dict.fromkeys(
    ("DeleteObject", "DeleteObjects", "AbortMultipartUpload"), 0.0
)
"""Prices of operations that cost less than a PUT."""


class PrometheusHook:
    """A hook that updates Prometheus metrics. One hook serves any number of sessions, whose figures are summed.

    Args:
        registry: The registry of the metrics; default: that of `prometheus_client`. A registry takes one hook.
        seconds: Upper bounds of the histograms' buckets, ascending.

    Raises:
        ConfigError: The bounds are not ascending, or the registry already has a `PrometheusHook`.
    """

    def __init__(self, registry: CollectorRegistry = REGISTRY, *, seconds: tuple[float, ...] = SECONDS) -> None:
        if not seconds or list(seconds) != sorted(set(seconds)):
            raise ConfigError(f"seconds must be ascending bounds, not {seconds!r}")
        try:
            self._register(registry, seconds)
        except ValueError as error:
            raise ConfigError(
                "this registry has a PrometheusHook already: use one hook for all sessions, or one registry per hook"
            ) from error
        # Children are cached, because looking up a label takes longer than counting.
        self._of_operation: dict[str, _Operation] = {}
        self._of_lookup: dict[tuple[str, bool], Counter] = {}

    def _register(self, registry: CollectorRegistry, seconds: tuple[float, ...]) -> None:
        def counter(name: str, help_text: str, *labels: str) -> Counter:
            return Counter(f"zarr_s3_{name}", help_text, labels, registry=registry)

        def histogram(name: str, help_text: str, *labels: str) -> Histogram:
            return Histogram(f"zarr_s3_{name}", help_text, labels, registry=registry, buckets=seconds)

        self._requests = counter("requests", "HTTP attempts", "operation", "status")
        self._errors = counter("request_errors", "Failed HTTP attempts by error code", "operation", "error")
        self._seconds = histogram("request_seconds", "Duration of HTTP attempts", "operation")
        self._sent = counter("sent_bytes", "Bytes of bodies sent", "operation")
        self._received = counter("received_bytes", "Bytes of bodies received", "operation")
        self._dollars = counter(
            "request_cost_dollars", "Requests at list prices of S3 Standard, us-east-1", "operation"
        )
        self._throttles = counter("throttles", "Attempts that the store throttled", "operation")
        self._retries = counter("retries", "Retries of requests", "operation", "reason")
        self._hedges = counter("hedges", "Hedges: second requests for slow reads", "operation")
        self._conflicts = counter("conflicts", "Conditional writes that lost a race and were merged again")
        self._waits = histogram("slot_wait_seconds", "Waits for a request slot, of requests that had to wait")
        self._shared = counter("shared_reads", "Reads that used the response to another reader's request")
        self._looked = counter("cache_lookups", "Look-ups in caches", "cache", "result")
        self._decodes = histogram("decode_seconds", "Decoding of the chunks of one object, wait for a thread included")
        self._decoded = counter("decoded_bytes", "Bytes of decoded chunks")
        self._usage = _UsageCollector()
        registry.register(self._usage)

    def watch(self, session: HasUsage, /) -> None:
        """See `WatchesSession`."""
        self._usage.sessions.add(session)

    def __call__(self, event: Event, /) -> None:
        """Count the event."""
        match event:
            case RequestDone():
                self._request_done(event)
            case SlotWaited(seconds=seconds):
                self._waits.observe(seconds)
            case ChunksDecoded(nbytes=nbytes, seconds=seconds):
                self._decodes.observe(seconds)
                self._decoded.inc(nbytes)
            case CacheLooked(cache=cache, hit=hit):
                counted = self._of_lookup.get((cache, hit))
                if counted is None:
                    counted = self._of_lookup[cache, hit] = self._looked.labels(cache, "hit" if hit else "miss")
                counted.inc()
            case ReadShared():
                self._shared.inc()
            case RetryScheduled(operation=operation, reason=reason):
                self._retries.labels(operation, reason).inc()
            case HedgeStarted(operation=operation):
                self._hedges.labels(operation).inc()
            case ConflictMet():
                self._conflicts.inc()

    def _request_done(self, event: RequestDone) -> None:
        # Cached per operation: `labels()` would take a lock and a dict look-up for every request.
        operation = self._of_operation.get(event.operation)
        if operation is None:
            operation = self._of_operation[event.operation] = _Operation(self, event.operation)
        operation.count(event)


class _Operation:
    """The metrics of one S3 operation, cached because looking up a label takes longer than counting."""

    __slots__ = ("_by_status", "_dollars", "_hook", "_name", "_price", "_received", "_seconds", "_sent")

    def __init__(self, hook: PrometheusHook, name: str) -> None:
        self._hook, self._name = hook, name
        self._seconds = hook._seconds.labels(name)  # noqa: SLF001  # the hook is in this file
        self._sent = hook._sent.labels(name)  # noqa: SLF001  # likewise
        self._received = hook._received.labels(name)  # noqa: SLF001  # likewise
        self._dollars = hook._dollars.labels(name)  # noqa: SLF001  # likewise
        self._price = _PRICES.get(name, _PUT_PRICE)
        self._by_status: dict[int | None, Counter] = {}

    def count(self, event: RequestDone) -> None:
        """Count one attempt."""
        hook = self._hook
        requests = self._by_status.get(event.status)
        if requests is None:
            status = "none" if event.status is None else str(event.status)
            requests = self._by_status[event.status] = hook._requests.labels(self._name, status)  # noqa: SLF001
        requests.inc()
        self._seconds.observe(event.seconds)
        self._received.inc(event.bytes_received)
        if event.bytes_sent:
            self._sent.inc(event.bytes_sent)
        if event.status is not None:
            self._dollars.inc(self._price)
        if event.error is not None:
            hook._errors.labels(self._name, event.error).inc()  # noqa: SLF001  # likewise
        if event.throttled:
            hook._throttles.labels(self._name).inc()  # noqa: SLF001  # likewise


_GAUGES: Final[tuple[tuple[str, str, Callable[[Usage], int]], ...]] = (
    ("requests_in_flight", "HTTP requests in flight", lambda usage: usage.requests),
    ("requests_limit", "Limits.requests", lambda usage: usage.requests_limit),
    ("requests_waiting", "Requests that wait for a slot", lambda usage: usage.requests_waiting),
    ("leased_bytes", "Decoded bytes of the objects in progress", lambda usage: usage.bytes),
    ("leased_bytes_limit", "Limits.bytes", lambda usage: usage.bytes_limit),
    ("leases_waiting", "Objects that wait for memory", lambda usage: usage.bytes_waiting),
    ("cached_chunk_bytes", "Decoded chunks in the cache", lambda usage: usage.cached_chunk_bytes),
    ("cached_index_bytes", "Shard indexes in the cache", lambda usage: usage.cached_index_bytes),
)


class _UsageCollector(Collector):
    """Gauges that are computed at each scrape, over all open sessions."""

    def __init__(self) -> None:
        self.sessions: WeakSet[HasUsage] = WeakSet()

    def collect(self) -> Iterator[GaugeMetricFamily]:
        """Called by a scrape, possibly in another thread."""
        usages = [session.usage for session in list(self.sessions) if not session.closed]
        for name, help_text, value in _GAUGES:
            yield GaugeMetricFamily(f"zarr_s3_{name}", help_text, value=sum(map(value, usages)))
