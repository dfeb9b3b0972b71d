"""The demo's table shows the session's counters."""

from __future__ import annotations

from rich.console import Console

from zarr_s3_async.cli.demo_steps import Meter, table_of
from zarr_s3_async.events import Metrics, RequestDone


def request(operation: str, sent: int, received: int) -> RequestDone:
    return RequestDone(
        operation=operation,
        bucket="b",
        key="k",
        attempt=1,
        status=200,
        error=None,
        seconds=0.0,
        bytes_sent=sent,
        bytes_received=received,
    )


def shown(meter: Meter) -> str:
    console = Console(width=120)
    with console.capture() as capture:
        console.print(table_of(meter.steps))
    return capture.get()


def test_a_step_counts_only_requests_made_during_it() -> None:
    metrics = Metrics()
    meter = Meter(metrics)
    metrics(request("GetObject", 0, 500))
    with meter.step("read", 2000) as step:
        metrics(request("GetObject", 0, 1000))
        metrics(request("GetObject", 0, 24))
        metrics(request("PutObject", 10, 0))
    metrics(request("GetObject", 0, 500))
    assert step.requests == {"GetObject": 2, "PutObject": 1}
    assert step.wire == 1034
    header, row = (line.split() for line in shown(meter).splitlines() if line.strip()[:4] in ("step", "read"))
    assert header[:3] == ["step", "GET", "PUT"]
    assert row[:7] == ["read", "2", "1", "1.03", "kB", "2.00", "kB"]


def test_a_difference_from_numpy_is_shown() -> None:
    meter = Meter(Metrics())
    for agrees in (True, False):
        with meter.step("read", 1) as step:
            pass
        step.agrees = agrees
    assert [word for word in shown(meter).split() if word in ("equal", "differs")] == ["equal", "differs"]
