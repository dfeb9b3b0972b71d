"""A session's requests as OpenTelemetry spans and metrics (extra `otel`), by the conventions for HTTP clients and S3.

A span is created when its attempt has ended, with the attempt's own start and end times. Its parent is the span that
was current where the read or write was called.
"""

from __future__ import annotations

from time import time_ns
from typing import Any, Final

from .. import ConflictMet, Event, HedgeStarted, RequestDone, RetryScheduled
from ..events import CacheLooked, ChunksDecoded, ReadShared, SlotWaited

try:
    from opentelemetry import metrics, trace
except ImportError as _error:  # pragma: no cover  # the extra is there in the tests
    raise ImportError("zarr_s3_async.metrics.otel needs OpenTelemetry: pip install 'zarr-s3-async[otel]'") from _error

_METHODS: Final = {
    "GetObject": "GET",
    "HeadObject": "HEAD",
    "PutObject": "PUT",
    "DeleteObject": "DELETE",
    "DeleteObjects": "POST",
    "ListObjectsV2": "GET",
    "CreateMultipartUpload": "POST",
    "UploadPart": "PUT",
    "CompleteMultipartUpload": "POST",
    "AbortMultipartUpload": "DELETE",
    "CopyObject": "PUT",
}
_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.075, 0.1, 0.25, 0.5, 0.75, 1.0, 2.5, 5.0, 7.5, 10.0)
"""Bounds that the OpenTelemetry conventions recommend for `http.client.request.duration`."""
_MIN_ERROR: Final = 400
_NAME: Final = "zarr_s3_async"


class OtelHook:
    """A hook that creates spans and metrics: `Session(hooks=[OtelHook()])`.

    Args:
        tracer_provider: Provider of the tracer; default: the global one.
        meter_provider: Provider of the meter; default: the global one.
    """

    def __init__(
        self,
        tracer_provider: trace.TracerProvider | None = None,
        meter_provider: metrics.MeterProvider | None = None,
    ) -> None:
        self._tracer = trace.get_tracer(_NAME, tracer_provider=tracer_provider)
        meter = metrics.get_meter(_NAME, meter_provider=meter_provider)
        self._duration = meter.create_histogram(
            "http.client.request.duration",
            "s",
            "Duration of HTTP attempts",
            explicit_bucket_boundaries_advisory=_SECONDS,
        )
        self._sent = meter.create_histogram("http.client.request.body.size", "By", "Bytes of bodies sent")
        self._received = meter.create_histogram("http.client.response.body.size", "By", "Bytes of bodies received")
        self._waits = meter.create_histogram("zarr_s3.slot.wait", "s", "Waits for a request slot")
        self._decodes = meter.create_histogram("zarr_s3.decode.duration", "s", "Decoding of the chunks of one object")
        self._retries = meter.create_counter("zarr_s3.retries", "{retry}", "Retries of requests")
        self._conflicts = meter.create_counter("zarr_s3.conflicts", "{conflict}", "Conditional writes that lost a race")
        self._hedges = meter.create_counter("zarr_s3.hedges", "{hedge}", "Second requests for slow reads")
        self._shared = meter.create_counter("zarr_s3.shared_reads", "{read}", "Reads that used another read's request")
        self._looked = meter.create_counter("zarr_s3.cache.lookups", "{lookup}", "Look-ups in caches")

    def __call__(self, event: Event, /) -> None:
        """Record the event."""
        match event:
            case RequestDone():
                self._request_done(event)
            case SlotWaited(seconds=seconds):
                self._waits.record(seconds)
            case ChunksDecoded(seconds=seconds):
                self._decodes.record(seconds)
            case RetryScheduled(operation=operation, reason=reason):
                self._retries.add(1, {"rpc.method": operation, "error.type": reason})
            case ConflictMet():
                self._conflicts.add(1)
            case HedgeStarted(operation=operation):
                self._hedges.add(1, {"rpc.method": operation})
            case ReadShared():
                self._shared.add(1)
            case CacheLooked(cache=cache, hit=hit):
                self._looked.add(1, {"zarr_s3.cache": cache, "zarr_s3.cache.hit": hit})

    def _request_done(self, event: RequestDone) -> None:
        # Events have a duration on the monotonic clock; spans need wall-clock times, so the start is computed from now.
        end = time_ns()
        shared = _attributes(event)
        self._duration.record(event.seconds, shared)
        if event.bytes_sent:
            self._sent.record(event.bytes_sent, shared)
        if event.bytes_received:
            self._received.record(event.bytes_received, shared)
        attributes = shared | {
            "rpc.system": "aws-api",
            "rpc.service": "S3",
            "rpc.method": event.operation,
            "aws.s3.bucket": event.bucket,
        }
        if event.key:
            attributes["aws.s3.key"] = event.key
        if event.attempt > 1:
            attributes["http.request.resend_count"] = event.attempt - 1
        span = self._tracer.start_span(
            f"S3/{event.operation}",
            kind=trace.SpanKind.CLIENT,
            attributes=attributes,
            start_time=end - int(event.seconds * 1e9),
        )
        if "error.type" in attributes:
            span.set_status(trace.StatusCode.ERROR, event.error)
        span.end(end)


def _attributes(event: RequestDone) -> dict[str, Any]:
    """The attributes of low cardinality, for spans and metrics."""
    attributes: dict[str, Any] = {"http.request.method": _METHODS.get(event.operation, "_OTHER")}
    if event.status is not None:
        attributes["http.response.status_code"] = event.status
    if event.error is not None and (event.status is None or event.status >= _MIN_ERROR):
        attributes["error.type"] = event.error
    return attributes
