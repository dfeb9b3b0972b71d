"""RetryingTransport retries transient failures, counts each attempt once, and holds a slot only during an attempt."""

from __future__ import annotations

import asyncio

import pytest

from zarr_s3_async._policy.backoff import RetryBudget
from zarr_s3_async.errors import ChecksumMismatch, DeadlineExceeded, NetworkError, StoreError, UnexpectedResponse
from zarr_s3_async.events import Metrics, RequestDone, RetryScheduled
from zarr_s3_async.stores.s3.errors import STALE, attempt_timed_out
from zarr_s3_async.stores.s3.request import Request, Response
from zarr_s3_async.stores.s3.retry import Traced

from .scripted import NO_SUCH_KEY, Script, ScriptedRetries, failed, ok

GET = Request("GetObject", "bucket", "key")


@pytest.mark.parametrize(
    "fault",
    [
        failed(500, "InternalError"),
        failed(503, "SlowDown"),
        failed(503, "ServiceUnavailable"),
        failed(429),
        failed(502),
        failed(504),
        failed(400, "RequestTimeout"),
        NetworkError("reset"),
        ok(b"<?xml version='1.0'?><Error><Code>InternalError</Code></Error>", etag=""),
    ],
    ids=lambda fault: repr(fault)[:60],
)
async def test_a_transient_failure_is_retried(fault: Response | BaseException) -> None:
    if isinstance(fault, Response) and fault.headers.get("etag") == "":
        fault = Response(200, {}, fault.body)
    retries = ScriptedRetries(fault, ok())
    response, attempts = await retries.retrying.send(GET)
    assert response.ok
    assert attempts == 2
    assert len(retries.script.requests) == 2
    assert retries.waits == [0.05]
    assert retries.held_while_waiting == [0], "the slot must be free while waiting"
    assert retries.slots.held == 0


@pytest.mark.parametrize(
    "answer",
    [NO_SUCH_KEY, failed(403, "AccessDenied"), failed(412, "PreconditionFailed"), failed(400, "InvalidRequest")],
)
async def test_a_final_response_is_returned_without_a_retry(answer: Response) -> None:
    retries = ScriptedRetries(answer)
    assert (await retries.retrying.send(GET))[0] is answer
    assert retries.waits == []


async def test_the_last_response_is_returned_when_the_attempts_are_used_up() -> None:
    retries = ScriptedRetries(*[failed(500, "InternalError")] * 3)
    response, attempts = await retries.retrying.send(GET)
    assert (response.status, attempts) == (500, 3)
    assert retries.waits == [0.05, 0.1]


async def test_the_last_network_error_contains_the_number_of_attempts() -> None:
    retries = ScriptedRetries(*[NetworkError("reset")] * 3)
    with pytest.raises(NetworkError) as caught:
        await retries.retrying.send(GET)
    assert caught.value.attempts == 3


STALE_ERROR = NetworkError("closed", code=STALE)
PUT = Request("PutObject", "bucket", "key", payload=b"x")


@pytest.mark.parametrize("request_", [GET, PUT], ids=["read", "write"])
async def test_a_request_on_a_closed_idle_connection_is_repeated_immediately_and_counted(request_: Request) -> None:
    retries = ScriptedRetries(STALE_ERROR, ok(b""))
    assert (await retries.retrying.send(request_))[1] == 2
    assert retries.waits == [0.0]
    assert [sent.fresh for sent in retries.script.requests] == [False, True]
    assert [event.attempt for event in retries.events if isinstance(event, RequestDone)] == [1, 2]
    assert [event.reason for event in retries.events if isinstance(event, RetryScheduled)] == [STALE]


async def test_a_write_is_sent_no_more_often_than_the_policy_specifies() -> None:
    retries = ScriptedRetries(STALE_ERROR, attempts=1)
    with pytest.raises(NetworkError):
        await retries.retrying.send(PUT)
    retries = ScriptedRetries(STALE_ERROR, failed(500, "InternalError"), attempts=2)
    assert (await retries.retrying.send(PUT))[1] == 2
    retries = ScriptedRetries(STALE_ERROR, failed(500, "InternalError"), ok(b""), attempts=3)
    assert (await retries.retrying.send(PUT))[1] == 3
    assert [sent.fresh for sent in retries.script.requests] == [False, True, True], (
        "other idle connections are as old, so none of them is used"
    )


async def test_a_closed_idle_connection_uses_up_no_attempt_of_a_read() -> None:
    retries = ScriptedRetries(STALE_ERROR, ok(), attempts=1)
    assert (await retries.retrying.send(GET))[1] == 2
    retries = ScriptedRetries(STALE_ERROR, failed(500, "InternalError"), ok(), attempts=2)
    assert (await retries.retrying.send(GET))[1] == 3


async def test_a_response_without_an_etag_is_retried() -> None:
    retries = ScriptedRetries(*[Response(200, {}, b"who knows")] * 3)
    with pytest.raises(UnexpectedResponse, match="ETag"):
        await retries.retrying.send(GET)


async def test_retry_after_is_the_minimum_wait() -> None:
    retries = ScriptedRetries(failed(503, "SlowDown", retry_after="7"), ok())
    await retries.retrying.send(GET)
    assert retries.waits == [7.0]


async def test_every_attempt_is_one_event_and_every_wait_another() -> None:
    retries = ScriptedRetries(
        failed(500, "InternalError"), NetworkError("reset", code="ConnectionResetError"), ok(b"12345")
    )
    await retries.retrying.send(GET)
    done = [e for e in retries.events if isinstance(e, RequestDone)]
    assert [(e.attempt, e.status, e.error) for e in done] == [
        (1, 500, "InternalError"),
        (2, None, "ConnectionResetError"),
        (3, 200, None),
    ]
    assert done[2].bytes_received == 5
    assert [e.reason for e in retries.events if isinstance(e, RetryScheduled)] == ["InternalError", "NetworkError"]


async def test_an_attempt_that_timed_out_is_retried() -> None:
    """The transports enforce the attempt timeout; that is tested for each of them."""
    retries = ScriptedRetries(attempt_timed_out(GET, 0.01), attempt_timed_out(GET, 0.01), attempts=2)
    with pytest.raises(DeadlineExceeded, match="attempt_timeout"):
        await retries.retrying.send(GET)
    assert len([e for e in retries.events if isinstance(e, RequestDone)]) == 2
    assert retries.slots.held == 0


async def test_cancellation_releases_the_slot() -> None:
    retries = ScriptedRetries(ok())
    started = asyncio.Event()

    async def hang(request: Request) -> Response:
        started.set()
        await asyncio.sleep(3600)
        raise AssertionError

    retries.retrying._traced._inner = type("Hang", (), {"send": staticmethod(hang)})()
    task = asyncio.create_task(retries.retrying.send(GET))
    await started.wait()
    assert retries.slots.held == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert retries.slots.held == 0


@pytest.mark.parametrize(
    "error",
    [NetworkError("reset"), DeadlineExceeded("late"), UnexpectedResponse("no length"), ChecksumMismatch("damaged")],
    ids=lambda error: type(error).__name__,
)
async def test_a_transports_error_for_an_invalid_response_is_retried(error: StoreError) -> None:
    retries = ScriptedRetries(error, ok())
    assert (await retries.retrying.send(GET))[1] == 2


async def test_a_transports_error_before_any_request_is_not_retried() -> None:
    error = StoreError("no way to send it")
    with pytest.raises(StoreError) as caught:
        await ScriptedRetries(error, ok()).retrying.send(GET)
    assert caught.value is error


async def test_damage_is_retried_once_and_then_an_error() -> None:
    retries = ScriptedRetries(*[ChecksumMismatch("damaged")] * 3)
    with pytest.raises(ChecksumMismatch) as caught:
        await retries.retrying.send(GET)
    assert caught.value.attempts == 2


async def test_an_outage_does_not_multiply_the_load() -> None:
    """When the budget is spent, every request fails with its first attempt; successful responses refill it."""
    retries = ScriptedRetries(*[NetworkError("down")] * 1000, attempts=5)
    retries.retrying._retries.budget = RetryBudget(4)
    for _ in range(100):
        with pytest.raises(NetworkError):
            await retries.retrying.send(GET)
    assert len(retries.script.requests) == 100 + 100, "one request each, and as many retries as the budget allows"
    retries.script.answers[:] = [ok()] * 5
    for _ in range(5):
        await retries.retrying.send(GET)
    retries.script.answers[:] = [failed(500, "InternalError"), ok()]
    assert (await retries.retrying.send(GET))[1] == 2


async def test_throttling_reduces_only_the_slots_of_its_bucket() -> None:
    retries = ScriptedRetries(failed(503, "SlowDown"), *[ok()] * 120, slots=8)
    await retries.retrying.send(GET)
    share = await retries.retrying._slots.acquire("bucket")
    assert share is not None
    assert share.limiter.limit == 4
    retries.retrying._slots.release(share)
    assert await retries.retrying._slots.acquire("another") is None
    retries.retrying._slots.release(None)
    for _ in range(119):
        await retries.retrying.send(GET)
    assert await retries.retrying._slots.acquire("bucket") is None, "the share has recovered"


async def test_retry_after_may_be_a_date(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zarr_s3_async.stores.retries.time", lambda: 1445412470.0)
    retries = ScriptedRetries(failed(503, "SlowDown", retry_after="Wed, 21 Oct 2015 07:28:00 GMT"), ok())
    await retries.retrying.send(GET)
    assert retries.waits == [10.0]


async def test_no_event_is_created_if_only_the_counters_need_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zarr_s3_async.stores.s3.retry.RequestDone", None)
    metrics = Metrics()
    traced = Traced(Script([ok(b"12345"), NO_SUCH_KEY, NetworkError("x", code="Reset")]), metrics)
    await traced.send(Request("PutObject", "bucket", "key", payload=memoryview(b"1234").cast("H")))
    await traced.send(GET)
    with pytest.raises(NetworkError):
        await traced.send(GET)
    assert metrics.requests == {"PutObject": 1, "GetObject": 2}
    assert (metrics.bytes_sent, metrics.bytes_received) == (4, 5)
    assert metrics.errors == {"NoSuchKey": 1, "Reset": 1}
