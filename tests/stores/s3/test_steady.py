"""Steady asks again when that may help, counts every attempt once, and holds a slot only while one is in flight."""

from __future__ import annotations

import asyncio

import pytest

from zarr_s3_async.errors import DeadlineExceeded, NetworkError, UnexpectedResponse
from zarr_s3_async.events import RequestDone, RetryScheduled
from zarr_s3_async.stores.s3.request import Request, Response

from .scripted import NO_SUCH_KEY, Way, failed, ok

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
async def test_a_passing_fault_is_asked_again(fault: Response | BaseException) -> None:
    if isinstance(fault, Response) and fault.headers.get("etag") == "":
        fault = Response(200, {}, fault.body)
    way = Way(fault, ok())
    response, attempts = await way.steady.send(GET)
    assert response.ok
    assert attempts == 2
    assert len(way.script.requests) == 2
    assert way.waits == [0.05]
    assert way.held_while_waiting == [0], "the slot must be free while waiting"
    assert way.slots.held == 0


@pytest.mark.parametrize(
    "answer", [NO_SUCH_KEY, failed(403, "AccessDenied"), failed(412, "PreconditionFailed"), failed(400, "InvalidRequest")]
)
async def test_a_final_answer_is_returned_at_once(answer: Response) -> None:
    way = Way(answer)
    assert (await way.steady.send(GET))[0] is answer
    assert way.waits == []


async def test_the_last_answer_is_returned_when_the_attempts_are_used_up() -> None:
    way = Way(*[failed(500, "InternalError")] * 3)
    response, attempts = await way.steady.send(GET)
    assert (response.status, attempts) == (500, 3)
    assert way.waits == [0.05, 0.1]


async def test_the_last_network_error_leaves_with_the_number_of_attempts() -> None:
    way = Way(*[NetworkError("reset")] * 3)
    with pytest.raises(NetworkError) as caught:
        await way.steady.send(GET)
    assert caught.value.attempts == 3


async def test_a_request_that_must_not_be_repeated_is_sent_once() -> None:
    way = Way(NetworkError("reset"), ok())
    with pytest.raises(NetworkError):
        await way.steady.send(Request("PutObject", "bucket", "key", repeatable=False))
    assert len(way.script.requests) == 1


async def test_an_answer_without_etag_is_no_answer() -> None:
    way = Way(*[Response(200, {}, b"who knows")] * 3)
    with pytest.raises(UnexpectedResponse, match="ETag"):
        await way.steady.send(GET)


async def test_retry_after_is_the_least_wait() -> None:
    way = Way(failed(503, "SlowDown", retry_after="7"), ok())
    await way.steady.send(GET)
    assert way.waits == [7.0]


async def test_every_attempt_is_one_event_and_every_wait_another() -> None:
    way = Way(failed(500, "InternalError"), NetworkError("reset", code="ConnectionResetError"), ok(b"12345"))
    await way.steady.send(GET)
    done = [e for e in way.events if isinstance(e, RequestDone)]
    assert [(e.attempt, e.status, e.error) for e in done] == [
        (1, 500, "InternalError"),
        (2, None, "ConnectionResetError"),
        (3, 200, None),
    ]
    assert done[2].bytes_received == 5
    assert [e.reason for e in way.events if isinstance(e, RetryScheduled)] == ["InternalError", "NetworkError"]


async def test_an_attempt_that_takes_too_long_is_cancelled_and_asked_again() -> None:
    way = Way(ok(), timeout=0.01, attempts=2)
    hung = asyncio.Event()

    async def hang(request: Request) -> Response:
        await hung.wait()
        raise AssertionError

    way.steady._traced._inner = type("Hang", (), {"send": staticmethod(hang)})()
    with pytest.raises(DeadlineExceeded, match="attempt_timeout"):
        await way.steady.send(GET)
    assert len([e for e in way.events if isinstance(e, RequestDone)]) == 2
    assert way.slots.held == 0


async def test_cancellation_gives_the_slot_back() -> None:
    way = Way(ok())
    started = asyncio.Event()

    async def hang(request: Request) -> Response:
        started.set()
        await asyncio.sleep(3600)
        raise AssertionError

    way.steady._traced._inner = type("Hang", (), {"send": staticmethod(hang)})()
    task = asyncio.create_task(way.steady.send(GET))
    await started.wait()
    assert way.slots.held == 1
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert way.slots.held == 0
