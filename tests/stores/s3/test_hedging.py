"""A slow read is sent twice, within a budget and only into a free slot; the faster response is used, once."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import pytest

from zarr_s3_async._concurrency.limiter import Limiter
from zarr_s3_async.config import HedgePolicy, RetryPolicy
from zarr_s3_async.errors import ConfigError, CredentialsNotFound, NetworkError
from zarr_s3_async.events import Event, HedgeStarted, RequestDone
from zarr_s3_async.stores.s3.hedging import Hedging
from zarr_s3_async.stores.s3.request import Request, Response
from zarr_s3_async.stores.s3.retry import RetryingTransport, Traced
from zarr_s3_async.stores.s3.slots import Slots

from .scripted import NO_SUCH_KEY, failed, ok

Act = Callable[[Request], Awaitable[Response]]


class TwoAttempts:
    """A transport with scripted first and second attempts."""

    def __init__(self, *acts: Act, slots: int = 4, hedges: bool = True) -> None:
        self.acts = list(acts)
        self.requests: list[Request] = []
        self.events: list[Event] = []
        self.cancelled = 0
        self.slots = Slots(Limiter(slots))
        hedging = Hedging(HedgePolicy(percentile=0.5, max_share=0.5), slots=self.slots, emit=self.events.append)
        self.pace = hedging.pace("bucket")
        for _ in range(32 if hedges else 0):
            self.pace.observe(0.0)  # from now on, any response that is not immediate is slow
        self.retrying = RetryingTransport(
            Traced(self, self.events.append),
            slots=self.slots,
            policy=RetryPolicy(attempts=2),
            emit=self.events.append,
            hedging=hedging,
            wait=self.wait,
        )

    async def wait(self, seconds: float) -> None:
        pass

    async def send(self, request: Request) -> Response:
        self.requests.append(request)
        try:
            return await self.acts[len(self.requests) - 1](request)
        except asyncio.CancelledError:
            self.cancelled += 1
            raise

    @property
    def hedged(self) -> int:
        return sum(isinstance(event, HedgeStarted) for event in self.events)


def answer(response: Response) -> Act:
    async def act(request: Request) -> Response:
        return response

    return act


async def never(request: Request) -> Response:
    await asyncio.Event().wait()
    raise AssertionError


def after(event: asyncio.Event, outcome: Response | Exception) -> Act:
    async def act(request: Request) -> Response:
        await event.wait()
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    return act


GET = Request("GetObject", "bucket", "key")


async def test_a_slow_read_gets_the_response_of_its_hedge() -> None:
    two = TwoAttempts(never, answer(ok(b"second")))
    response, attempts = await two.retrying.send(GET)
    assert (bytes(response.body), attempts) == (b"second", 1)
    assert (two.hedged, two.cancelled) == (1, 1)
    assert two.slots.session.held == 0


async def test_the_first_attempt_may_still_win() -> None:
    started = asyncio.Event()

    async def second(request: Request) -> Response:
        started.set()
        return await never(request)

    two = TwoAttempts(after(started, ok(b"first")), second)
    response, _ = await two.retrying.send(GET)
    assert bytes(response.body) == b"first"
    assert (two.hedged, two.cancelled) == (1, 1), "the slower attempt is cancelled and has ended"
    assert two.slots.session.held == 0


async def test_a_quick_read_is_not_hedged() -> None:
    two = TwoAttempts(answer(ok(b"first")))
    assert (await two.retrying.send(GET))[0].ok
    assert two.hedged == 0


async def test_nothing_is_hedged_before_enough_responses_were_observed() -> None:
    go = asyncio.Event()
    two = TwoAttempts(after(go, ok()), hedges=False)
    task = asyncio.create_task(two.retrying.send(GET))
    await asyncio.sleep(0.01)
    go.set()
    await task
    assert two.hedged == 0


@pytest.mark.parametrize("why", ["slots", "budget"])
async def test_without_a_free_slot_or_budget_there_is_no_hedge(why: str) -> None:
    go = asyncio.Event()
    two = TwoAttempts(after(go, ok(b"first")), slots=1 if why == "slots" else 4)
    while why == "budget" and two.pace.spend():
        pass
    task = asyncio.create_task(two.retrying.send(GET))
    for _ in range(5):
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    go.set()
    assert bytes((await task)[0].body) == b"first"
    assert two.hedged == 0


async def test_only_reads_are_hedged() -> None:
    go = asyncio.Event()
    two = TwoAttempts(after(go, ok(b"")))
    task = asyncio.create_task(two.retrying.send(Request("PutObject", "bucket", "key", payload=b"x")))
    await asyncio.sleep(0.01)
    go.set()
    await task
    assert two.hedged == 0


async def test_two_attempts_never_receive_into_the_same_memory() -> None:
    memory = bytearray(6)
    sinks: list[int] = []

    def sink(length: int) -> memoryview:
        sinks.append(length)
        return memoryview(memory)

    async def first(request: Request) -> Response:
        assert request.sink is not None
        request.sink(6)[:] = b"first!"
        return await never(request)

    async def second(request: Request) -> Response:
        assert request.sink is None, "the second attempt receives into separate memory"
        return ok(b"second")

    two = TwoAttempts(first, second)
    response, _ = await two.retrying.send(Request("GetObject", "bucket", "key", sink=sink))
    assert memory == b"second"
    assert response.body.obj is memory  # type: ignore[union-attr]  # the sink's memory, a memoryview
    assert sinks == [6, 6]


async def test_a_failed_hedge_does_not_affect_the_first_attempt() -> None:
    started = asyncio.Event()

    async def second(request: Request) -> Response:
        started.set()
        raise NetworkError("reset")

    two = TwoAttempts(after(started, ok(b"first")), second)
    assert bytes((await two.retrying.send(GET))[0].body) == b"first"


@pytest.mark.parametrize("fault", [NetworkError("reset"), failed(500, "InternalError")], ids=["reset", "500"])
async def test_a_failed_first_attempt_waits_for_its_hedge(fault: Any) -> None:
    started, go = asyncio.Event(), asyncio.Event()

    async def second(request: Request) -> Response:
        started.set()
        await go.wait()
        return ok(b"second")

    async def first(request: Request) -> Response:
        await started.wait()
        asyncio.get_running_loop().call_soon(go.set)
        if isinstance(fault, Exception):
            raise fault
        return fault  # type: ignore[no-any-return]  # a Response

    two = TwoAttempts(first, second)
    response, attempts = await two.retrying.send(GET)
    assert (bytes(response.body), attempts) == (b"second", 1)


@pytest.mark.parametrize("hedged", [False, True])
async def test_the_error_of_the_first_attempt_is_raised_directly(hedged: bool) -> None:
    """A final error is raised directly: not in an exception group, and without waiting for the second attempt."""
    started = asyncio.Event()

    async def second(request: Request) -> Response:
        started.set()
        return await never(request)

    if not hedged:
        started.set()
    error = CredentialsNotFound("none anywhere")
    two = TwoAttempts(after(started, error), second)
    with pytest.raises(CredentialsNotFound) as caught:
        await two.retrying.send(GET)
    assert caught.value is error
    assert two.cancelled == two.hedged == int(hedged)
    assert two.slots.session.held == 0


async def test_a_final_error_of_the_hedge_does_not_end_the_first_attempt() -> None:
    refused = asyncio.Event()

    async def second(request: Request) -> Response:
        refused.set()
        raise ConfigError("cannot be asked")

    two = TwoAttempts(after(refused, ok(b"first")), second)
    assert bytes((await two.retrying.send(GET))[0].body) == b"first"
    assert two.hedged == 1
    assert two.slots.session.held == 0


async def test_absence_from_a_hedge_is_a_result() -> None:
    two = TwoAttempts(never, answer(NO_SUCH_KEY))
    assert (await two.retrying.send(GET))[0] is NO_SUCH_KEY


async def test_a_refused_hedge_is_not_the_result() -> None:
    go = asyncio.Event()

    async def second(request: Request) -> Response:
        go.set()
        return failed(503, "SlowDown")

    two = TwoAttempts(after(go, ok(b"first")), second)
    assert bytes((await two.retrying.send(GET))[0].body) == b"first"


async def test_cancellation_ends_both_attempts() -> None:
    started = asyncio.Event()

    async def second(request: Request) -> Response:
        started.set()
        return await never(request)

    two = TwoAttempts(never, second)
    task = asyncio.create_task(two.retrying.send(GET))
    await started.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert two.cancelled == 2
    assert two.slots.session.held == 0


async def test_both_attempts_are_counted() -> None:
    two = TwoAttempts(never, answer(ok(b"second")))
    await two.retrying.send(GET)
    done = [event for event in two.events if isinstance(event, RequestDone)]
    assert sorted(event.error or "" for event in done) == ["", "CancelledError"]
