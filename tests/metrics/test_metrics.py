"""Figures of docs/metrics.md, spans and log records; no event is created if no hook needs it."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from opentelemetry import trace
from opentelemetry.sdk.metrics import MeterProvider
from opentelemetry.sdk.metrics.export import InMemoryMetricReader
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.parser import text_string_to_metric_families

import zarr_s3_async as zs
from zarr_s3_async import events
from zarr_s3_async.metrics.logs import LogHook
from zarr_s3_async.metrics.otel import OtelHook
from zarr_s3_async.metrics.prometheus import PrometheusHook

from ..servers.stand_in import StandIn

PAGE = Path(__file__).parents[2] / "docs" / "metrics.md"


def scraped(registry: CollectorRegistry) -> dict[tuple[str, tuple[str, ...]], float]:
    """The scrape as read by the official parser: values by name and label values, in the order of the label names."""
    families = text_string_to_metric_families(generate_latest(registry).decode())
    return {
        (sample.name, tuple(value for _, value in sorted(sample.labels.items()))): sample.value
        for family in families
        for sample in family.samples
        if not sample.name.endswith("_created")
    }


def done(operation: str = "GetObject", status: int | None = 200, **other: Any) -> zs.RequestDone:
    fields: dict[str, Any] = {
        "bucket": "b",
        "key": "k",
        "attempt": 1,
        "error": None,
        "seconds": 0.02,
        "bytes_sent": 0,
        "bytes_received": 10,
    }
    return zs.RequestDone(operation=operation, status=status, **{**fields, **other})


SCHEDULED = zs.RetryScheduled(operation="PutObject", bucket="b", key="k", attempt=1, delay=0.1, reason="SlowDown")
HEDGED = zs.HedgeStarted(operation="GetObject", bucket="b", key="k", seconds=0.2)

FIGURES: list[tuple[str, tuple[str, ...], float, list[zs.Event]]] = [
    ("zarr_s3_requests_total", ("GetObject", "404"), 2, [done(status=404, error="NoSuchKey")] * 2),
    ("zarr_s3_requests_total", ("GetObject", "none"), 1, [done(status=None, error="NetworkError")]),
    ("zarr_s3_request_errors_total", ("NoSuchKey", "GetObject"), 1, [done(status=404, error="NoSuchKey")]),
    ("zarr_s3_request_seconds_count", ("GetObject",), 3, [done()] * 3),
    ("zarr_s3_request_seconds_sum", ("GetObject",), 0.06, [done()] * 3),
    ("zarr_s3_request_seconds_bucket", ("0.01", "GetObject"), 0, [done()]),
    ("zarr_s3_request_seconds_bucket", ("0.025", "GetObject"), 1, [done()]),
    ("zarr_s3_throttles_total", ("GetObject",), 1, [done(status=503, error="SlowDown", throttled=True), done()]),
    ("zarr_s3_retries_total", ("PutObject", "SlowDown"), 1, [SCHEDULED]),
    ("zarr_s3_hedges_total", ("GetObject",), 1, [HEDGED]),
    ("zarr_s3_conflicts_total", (), 1, [zs.ConflictMet(key="k", attempt=1)]),
    ("zarr_s3_sent_bytes_total", ("PutObject",), 7, [done("PutObject", bytes_sent=7)]),
    ("zarr_s3_received_bytes_total", ("GetObject",), 20, [done()] * 2),
    ("zarr_s3_request_cost_dollars_total", ("GetObject",), 0.0004, [done()] * 1000),
    ("zarr_s3_request_cost_dollars_total", ("PutObject",), 0.005, [done("PutObject")] * 1000),
    ("zarr_s3_request_cost_dollars_total", ("DeleteObject",), 0, [done("DeleteObject")]),
    ("zarr_s3_slot_wait_seconds_sum", (), 0.5, [zs.SlotWaited(bucket="b", seconds=0.5)]),
    ("zarr_s3_shared_reads_total", (), 1, [zs.ReadShared(key="k")]),
    ("zarr_s3_cache_lookups_total", ("chunks", "hit"), 1, [zs.CacheLooked(cache="chunks", hit=True)]),
    ("zarr_s3_cache_lookups_total", ("metadata", "miss"), 1, [zs.CacheLooked(cache="metadata", hit=False)]),
    ("zarr_s3_decode_seconds_sum", (), 0.5, [zs.ChunksDecoded(key="k", chunks=2, nbytes=9, seconds=0.5)]),
    ("zarr_s3_decoded_bytes_total", (), 9, [zs.ChunksDecoded(key="k", chunks=2, nbytes=9, seconds=0.5)]),
]


@pytest.mark.parametrize(
    ("figure", "labels", "value", "events"), FIGURES, ids=[" ".join((row[0], *row[1])) for row in FIGURES]
)
def test_each_figure_counts_the_events_described_on_the_page(
    figure: str, labels: tuple[str, ...], value: float, events: list[zs.Event]
) -> None:
    registry = CollectorRegistry()
    hook = PrometheusHook(registry)
    before = scraped(registry).get((figure, labels), 0)
    for event in events:
        hook(event)
    assert before == 0
    assert scraped(registry)[figure, labels] == pytest.approx(value)


GAUGES = {
    "zarr_s3_requests_in_flight": 1,
    "zarr_s3_requests_limit": 1,
    "zarr_s3_requests_waiting": 2,
    "zarr_s3_leased_bytes": 3 * 8 * 10,
    "zarr_s3_leased_bytes_limit": 1000,
    "zarr_s3_leases_waiting": 0,
    "zarr_s3_cached_chunk_bytes": 0,
    "zarr_s3_cached_index_bytes": 0,
}


async def test_gauges_report_current_use() -> None:
    registry = CollectorRegistry()
    hook = PrometheusHook(registry)
    async with StandIn() as far:
        keys = {name: getattr(far, name) for name in ("endpoint_url", "access_key_id", "secret_access_key")}
        limits = zs.Limits(requests=1, bytes=1000)
        async with zs.Session(hooks=[hook], limits=limits, **keys) as session:
            array = await session.create_array(
                f"s3://{far.bucket}/a", shape=(30,), chunks=(10,), dtype="f8", compressor=None
            )
            await array.set_slice(np.arange(30.0), start=0)
            await far.change(bandwidth=1.0)  # from here on no request ends
            tasks = [asyncio.ensure_future(array.get_slice(n, n + 10)) for n in (0, 10, 20)]
            while session.usage.requests_waiting < 2:
                await asyncio.sleep(0)
            during = scraped(registry)
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
            after = scraped(registry)
    assert {name: during[name, ()] for name in GAUGES} == GAUGES
    assert (after["zarr_s3_requests_in_flight", ()], after["zarr_s3_leased_bytes", ()]) == (0, 0)
    assert scraped(registry)["zarr_s3_requests_limit", ()] == 0  # the session is closed


def test_the_page_documents_exactly_the_existing_figures() -> None:
    registry = CollectorRegistry()
    PrometheusHook(registry)
    documented = re.findall(r"^\| `(zarr_s3_\w+)`", PAGE.read_text(), re.MULTILINE)
    families = {f"{family.name}_total" if family.type == "counter" else family.name for family in registry.collect()}
    assert set(documented) == families
    tested = {row[0] for row in FIGURES} | set(GAUGES)
    assert not [name for name in documented if not any(t == name or t.startswith(f"{name}_") for t in tested)]


async def traffic(hooks: list[Any], **options: Any) -> zs.Metrics:
    """Write compressed chunks, and read them with shared requests and with more readers than request slots."""
    async with StandIn() as far:
        keys = {name: getattr(far, name) for name in ("endpoint_url", "access_key_id", "secret_access_key")}
        async with zs.Session(hooks=hooks, limits=zs.Limits(requests=1), **keys, **options) as session:
            array = await session.create_array(f"s3://{far.bucket}/a", shape=(30,), chunks=(10,), dtype="f8")
            await array.set_slice(np.arange(30.0), start=0)
            async with asyncio.TaskGroup() as group:
                for n in (0, 0, 10, 20):
                    group.create_task(array.get_slice(n, n + 10))
            return session.metrics


async def test_the_figures_show_the_traffic_of_the_session() -> None:
    registry = CollectorRegistry()
    metrics = await traffic([PrometheusHook(registry)])
    found = scraped(registry)
    for operation, number in metrics.requests.items():
        by_status = [
            value
            for (name, labels), value in found.items()
            if name == "zarr_s3_requests_total" and labels[0] == operation
        ]
        assert sum(by_status) == number
        assert found["zarr_s3_request_seconds_count", (operation,)] == number
    assert found["zarr_s3_received_bytes_total", ("GetObject",)] <= metrics.bytes_received
    assert found["zarr_s3_sent_bytes_total", ("PutObject",)] == metrics.bytes_sent
    assert found["zarr_s3_shared_reads_total", ()] == metrics.shared_reads == 1
    assert found["zarr_s3_decode_seconds_count", ()] == 3
    assert found["zarr_s3_decoded_bytes_total", ()] == 3 * 80
    assert found["zarr_s3_slot_wait_seconds_count", ()] >= 2


async def test_cache_hits_are_counted_with_and_without_a_hook() -> None:
    registry = CollectorRegistry()
    cache = zs.CacheSize(chunks=2**20)
    for hooks in ([], [PrometheusHook(registry)]):
        metrics = await traffic(hooks, cache=cache)
        assert metrics.cache_hits["chunks"] + metrics.cache_misses["chunks"] == 4
    found = scraped(registry)
    looked = [found.get(("zarr_s3_cache_lookups_total", ("chunks", result)), 0) for result in ("hit", "miss")]
    assert looked == [metrics.cache_hits["chunks"], metrics.cache_misses["chunks"]]


async def test_throttling_is_counted_with_and_without_a_hook() -> None:
    counts = zs.Metrics()
    counts(done(status=503, error="SlowDown", throttled=True))
    counts.request_done("GetObject", "SlowDown", 0, 0, throttled=True)
    counts.request_done("GetObject", "NoSuchKey", 0, 0)
    assert counts.throttles == 2


async def test_no_event_is_created_without_a_hook(monkeypatch: pytest.MonkeyPatch) -> None:
    """Tested are the events of every read: requests, waits and decodes."""
    from zarr_s3_async._engine import read
    from zarr_s3_async.stores.s3 import retry

    def refused(**_: Any) -> Any:
        raise AssertionError("an event was created")

    for module, name in ((retry, "RequestDone"), (retry, "SlotWaited"), (read, "ChunksDecoded")):
        monkeypatch.setattr(module, name, refused)
    assert (await traffic([])).requests["GetObject"] >= 3
    with pytest.raises((AssertionError, BaseExceptionGroup)):
        await traffic([lambda event: None])


def test_a_registry_accepts_one_hook_and_invalid_bounds_are_refused() -> None:
    registry = CollectorRegistry()
    PrometheusHook(registry)
    with pytest.raises(zs.ConfigError, match="one hook"):
        PrometheusHook(registry)
    for wrong in ((), (1.0, 0.5), (1.0, 1.0)):
        with pytest.raises(zs.ConfigError, match="ascending"):
            PrometheusHook(CollectorRegistry(), seconds=wrong)


async def test_one_hook_adds_up_all_open_sessions() -> None:
    registry = CollectorRegistry()
    hook = PrometheusHook(registry)
    async with zs.Session(hooks=[hook], limits=zs.Limits(requests=3)):
        async with zs.Session(hooks=[hook], limits=zs.Limits(requests=5)):
            assert scraped(registry)["zarr_s3_requests_limit", ()] == 8
        assert scraped(registry)["zarr_s3_requests_limit", ()] == 3


# OpenTelemetry


def otel() -> tuple[OtelHook, InMemorySpanExporter, InMemoryMetricReader, TracerProvider]:
    spans, reader = InMemorySpanExporter(), InMemoryMetricReader()
    tracers = TracerProvider()
    tracers.add_span_processor(SimpleSpanProcessor(spans))
    return OtelHook(tracers, MeterProvider([reader])), spans, reader, tracers


def measured(reader: InMemoryMetricReader) -> dict[str, Any]:
    data = reader.get_metrics_data()
    return {
        metric.name: metric.data.data_points
        for resource in data.resource_metrics
        for scope in resource.scope_metrics
        for metric in scope.metrics
    }


async def test_every_attempt_is_a_span_below_the_callers_span() -> None:
    hook, spans, _, tracers = otel()
    with tracers.get_tracer("test").start_as_current_span("handler") as handler:
        metrics = await traffic([hook])
    made = [span for span in spans.get_finished_spans() if span.name != "handler"]
    assert len(made) == sum(metrics.requests.values())
    assert {span.parent.span_id for span in made} == {handler.get_span_context().span_id}
    chunks = [span for span in made if span.name == "S3/GetObject" and "/c/" in span.attributes["aws.s3.key"]]
    assert len(chunks) >= 3
    for span in chunks:
        assert span.kind is trace.SpanKind.CLIENT
        assert span.end_time > span.start_time
        assert span.attributes["http.request.method"] == "GET"
        assert span.attributes["http.response.status_code"] == 200
        assert span.attributes["rpc.method"] == "GetObject"
        assert span.status.status_code is trace.StatusCode.UNSET


def test_the_span_of_a_failed_attempt_has_its_error_and_number() -> None:
    hook, spans, _, _ = otel()
    hook(done(status=503, error="SlowDown", attempt=3, seconds=1.5))
    hook(done(status=304, error="NotModified"))
    failed, unchanged = spans.get_finished_spans()
    assert failed.status.status_code is trace.StatusCode.ERROR
    assert failed.attributes["error.type"] == "SlowDown"
    assert failed.attributes["http.request.resend_count"] == 2
    assert failed.end_time - failed.start_time == 1_500_000_000
    assert unchanged.status.status_code is trace.StatusCode.UNSET
    assert "http.request.resend_count" not in unchanged.attributes


METERED: list[tuple[str, zs.Event, Callable[[Any], float], float]] = [
    ("http.client.request.duration", done(), lambda point: point.sum, 0.02),
    ("http.client.request.body.size", done(bytes_sent=7), lambda point: point.sum, 7),
    ("http.client.response.body.size", done(), lambda point: point.sum, 10),
    ("zarr_s3.slot.wait", zs.SlotWaited(bucket="b", seconds=0.5), lambda point: point.sum, 0.5),
    ("zarr_s3.decode.duration", zs.ChunksDecoded(key="k", chunks=1, nbytes=8, seconds=0.5), lambda p: p.sum, 0.5),
    ("zarr_s3.retries", SCHEDULED, lambda point: point.value, 1),
    ("zarr_s3.conflicts", zs.ConflictMet(key="k", attempt=1), lambda point: point.value, 1),
    ("zarr_s3.hedges", HEDGED, lambda point: point.value, 1),
    ("zarr_s3.shared_reads", zs.ReadShared(key="k"), lambda point: point.value, 1),
    ("zarr_s3.cache.lookups", zs.CacheLooked(cache="chunks", hit=True), lambda point: point.value, 1),
]


@pytest.mark.parametrize(("name", "event", "value", "expected"), METERED, ids=[row[0] for row in METERED])
def test_each_otel_metric_records_its_event(
    name: str, event: zs.Event, value: Callable[[Any], float], expected: float
) -> None:
    hook, _, reader, _ = otel()
    hook(event)
    (point,) = measured(reader)[name]
    assert value(point) == pytest.approx(expected)
    assert f"`{name}`" in PAGE.read_text()


# Logs


def test_log_records_are_structured_and_errors_have_their_level(caplog: pytest.LogCaptureFixture) -> None:
    logger = logging.getLogger("tests.metrics")
    hook = LogHook(logger)
    events: list[tuple[zs.Event, int]] = [
        (done(), logging.DEBUG),
        (done(status=404, error="NoSuchKey"), logging.DEBUG),
        (done(status=None, error="NetworkError"), logging.WARNING),
        (done(status=503, error="SlowDown"), logging.WARNING),
        (SCHEDULED, logging.WARNING),
        (zs.SlotWaited(bucket="b", seconds=0.5), logging.DEBUG),
    ]
    with caplog.at_level(logging.DEBUG, logger.name):
        for event, _ in events:
            hook(event)
    assert [record.levelno for record in caplog.records] == [level for _, level in events]
    first: Any = caplog.records[0]
    assert first.zarr_s3["event"] == "RequestDone"
    assert first.zarr_s3["status"] == 200
    assert first.getMessage() == "GetObject b/k: 200 after 0.020 s"


@pytest.mark.parametrize("wrong", [{"logger": "x"}, {"level": "DEBUG"}, {"trouble": None}, {"level": True}], ids=str)
def test_an_invalid_option_of_the_log_hook_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(zs.ConfigError):
        LogHook(**wrong)


def test_every_hook_accepts_every_event() -> None:
    samples = {type(event) for _, _, _, events in FIGURES for event in events}
    assert samples == set(events.Event.__args__)


async def test_a_lifespan_counts_its_session_once() -> None:
    from fastapi import FastAPI

    from zarr_s3_async.fastapi import lifespan

    registry = CollectorRegistry()
    app = FastAPI(lifespan=lifespan(hooks=[PrometheusHook(registry)], limits=zs.Limits(requests=5)))
    assert scraped(registry)["zarr_s3_requests_limit", ()] == 0
    async with app.router.lifespan_context(app):
        assert scraped(registry)["zarr_s3_requests_limit", ()] == 5
    assert scraped(registry)["zarr_s3_requests_limit", ()] == 0
