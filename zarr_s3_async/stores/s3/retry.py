"""The only retry layer: per HTTP attempt a slot, and the decision to retry, resume, recover or fail.

The slot is released while waiting for the next attempt, so that a request that backs off delays no other.
"""

from __future__ import annotations

from asyncio import sleep
from collections.abc import Awaitable, Callable
from dataclasses import replace
from time import perf_counter, time

from ..._policy.backoff import RetryBudget, parse_retry_after, retry_delay, uniform
from ..._types import Buffer
from ...config import RetryPolicy
from ...errors import ChecksumMismatch, DeadlineExceeded, NetworkError, UnexpectedResponse
from ...events import Emit, Metrics, RequestDone, RetryScheduled, SlotWaited, has_hooks
from .answer_checks import answer_error
from .checksums import MODE_HEADER, verified
from .errors import STALE, is_retried, is_throttle
from .hedging import Hedging, Outcome
from .recovery import Recovery, RecoveryAction
from .request import Request, Response, Transport
from .resume import BrokenBody, Resumption
from .slots import Share, Slots

_RETRIED_ERRORS = (NetworkError, DeadlineExceeded, UnexpectedResponse, ChecksumMismatch)
_READS = frozenset({"GetObject", "HeadObject", "ListObjectsV2"})
"""Requests without side effects."""
_NOT_MODIFIED, _UNLESS = 304, "if-none-match"
"""A response that is not a failure of a conditional read."""
_MISMATCHES = 2
"""Attempts before a checksum mismatch is raised: if it happens twice, the object itself is damaged."""


class Traced:
    """Sends through `inner` and emits one event per attempt; without hooks besides `Metrics`, it only counts."""

    __slots__ = ("_count", "_emit", "_inner")

    def __init__(self, inner: Transport, emit: Emit) -> None:
        self._inner = inner
        self._emit = emit
        self._count = emit.request_done if type(emit) is Metrics else None

    async def send(self, request: Request, attempt: int = 1) -> Response:
        """Send one attempt; its number is part of the event."""
        start = perf_counter()
        try:
            response = await self._inner.send(request)
        except BaseException as error:
            # A cancelled attempt is reported too: the request may have been sent.
            failure = getattr(error, "code", None) or type(error).__name__
            self._report(request, attempt, start, None, str(failure))
            raise
        error_code = None
        if response.error is not None and not (response.status == _NOT_MODIFIED and _UNLESS in request.headers):
            error_code = response.error.code or f"{response.status} without a code"
        self._report(request, attempt, start, response, error_code)
        return response

    def _report(
        self, request: Request, attempt: int, start: float, response: Response | None, error: str | None
    ) -> None:
        received = 0 if response is None else _size(response.body)
        throttled = error is not None and response is not None and is_throttle(response)
        sent = 0 if request.payload is None else _size(request.payload)
        # Without hooks no event is made: its object would cost every small request time.
        if self._count is not None:
            self._count(request.operation, error, sent, received, throttled=throttled)
            return
        self._emit(
            RequestDone(
                operation=request.operation,
                bucket=request.bucket,
                key=request.key,
                attempt=attempt,
                status=None if response is None else response.status,
                error=error,
                seconds=perf_counter() - start,
                bytes_sent=sent,
                bytes_received=received,
                throttled=throttled,
            )
        )


def _size(data: Buffer) -> int:
    return data.nbytes if type(data) is memoryview else len(data)


class RetryingTransport:
    """Sends a request, with retries. Returns any final response; raises if there is none.

    Args:
        traced: The transport, with its events.
        slots: Request slots, shared by the session.
        policy: The retry policy.
        emit: Receives a `RetryScheduled` for every retry.
        budget: The session's retry budget.
        hedging: Sends slow reads twice.
        recovery: Recovers from expired credentials, clock skew and wrong regions.
        uniform: Returns random numbers in [0, 1).
        wait: Sleeps for a number of seconds.
    """

    __slots__ = (
        "_budget",
        "_emit",
        "_hedging",
        "_policy",
        "_recovery",
        "_slots",
        "_traced",
        "_uniform",
        "_wait",
    )

    def __init__(
        self,
        traced: Traced,
        *,
        slots: Slots,
        policy: RetryPolicy,
        emit: Emit,
        budget: RetryBudget | None = None,
        hedging: Hedging | None = None,
        recovery: Recovery | None = None,
        uniform: Callable[[], float] = uniform,
        wait: Callable[[float], Awaitable[None]] = sleep,
    ) -> None:
        self._traced = traced
        self._slots = slots
        self._policy = policy
        self._emit = emit
        self._budget = budget or RetryBudget(slots.session.limit)
        self._hedging = hedging
        self._recovery = recovery
        self._uniform = uniform
        self._wait = wait

    async def send(self, request: Request) -> tuple[Response, int]:
        """The response, and the number of attempts.

        Raises:
            NetworkError, DeadlineExceeded, UnexpectedResponse, ChecksumMismatch: There was no usable response.
            CredentialsNotFound, ConfigError: No request could be sent.
        """
        # The first attempt takes this short path; the state of `_persist` is made only if there is something to retry.
        outcome = await self._attempt(request, 1)
        # Checked before the call, which would cost every read without checksums a coroutine.
        if MODE_HEADER in request.headers:
            outcome = await verified(request, outcome)
        if isinstance(outcome, Response) and outcome.error is None:
            self._budget.answered(1)
            return outcome, 1
        return await self._persist(request, outcome)

    async def _persist(self, request: Request, outcome: Outcome) -> tuple[Response, int]:
        """Retry while that may succeed."""
        attempt, mismatches, stale = 1, 0, 0
        rest, tried = Resumption(request), set[RecoveryAction]()
        outcome = rest.take(outcome)
        while True:
            mismatches += isinstance(outcome, ChecksumMismatch)
            if isinstance(outcome, Response) and not is_retried(outcome):
                # A final response, unless an action such as renewing the credentials lets another attempt succeed.
                if not await self._recovered(request, outcome, tried):
                    self._budget.answered(attempt)
                    return outcome, attempt
            elif not stale and self._is_stale(request, outcome, attempt):
                stale = 1
                await self._pause(request, attempt, 0.0, STALE)
            elif mismatches < _MISMATCHES and self._may_retry(attempt - stale * (request.operation in _READS)):
                await self._back_off(request, attempt, outcome)
            else:
                return _final(outcome, attempt), attempt
            attempt += 1
            following = rest.request()
            if stale:  # the other idle connections are probably closed too
                following = replace(following, fresh=True)
            # Resumed bytes are put together before the checksum of the whole body is verified.
            outcome = await verified(request, rest.take(await self._attempt(following, attempt)))

    def _is_stale(self, request: Request, outcome: Outcome, attempt: int) -> bool:
        """True if the request failed on a closed idle connection, and is sent again immediately.

        A read has no side effects, so this does not count as an attempt. A write may have been executed: it is sent
        again only if the policy allows another attempt.
        """
        if not isinstance(outcome, NetworkError) or outcome.code != STALE:
            return False
        return request.operation in _READS or attempt < self._policy.attempts

    async def _recovered(self, request: Request, response: Response, tried: set[RecoveryAction]) -> bool:
        if response.ok or self._recovery is None:
            return False
        return await self._recovery.recover(request, response, tried)

    def _may_retry(self, attempt: int) -> bool:
        # The budget is shared by the session, so that retries do not multiply the load during an outage.
        return attempt < self._policy.attempts and self._budget.spend()

    async def _attempt(self, request: Request, attempt: int) -> Outcome:
        slots, share = self._slots, None
        # The common case, no throttled bucket and a free slot, needs no coroutine.
        if slots.shares or not slots.session.try_acquire():
            share = await self._slot(request.bucket)
        try:
            if self._hedging is not None and request.operation == "GetObject":
                return await self._hedging.send(self._try_once, request, attempt)
            # The same as `_try_once`, without one more coroutine.
            # The time decides whether a throttled response says anything new about the bucket: see `Slots.refused`.
            sent = slots.clock() if slots.shares else None
            return self._judged(request, await self._traced.send(request, attempt), sent)
        except _RETRIED_ERRORS as error:
            return error
        finally:
            slots.release(share)

    async def _slot(self, bucket: str) -> Share | None:
        """Wait for a slot, and emit how long it took."""
        if not has_hooks(self._emit):
            return await self._slots.acquire(bucket)
        start = perf_counter()
        share = await self._slots.acquire(bucket)
        self._emit(SlotWaited(bucket=bucket, seconds=perf_counter() - start))
        return share

    async def _try_once(self, request: Request, attempt: int) -> Outcome:
        """A response, or an error that may be retried."""
        sent = self._slots.clock() if self._slots.shares else None
        try:
            return self._judged(request, await self._traced.send(request, attempt), sent)
        except _RETRIED_ERRORS as error:
            return error

    def _judged(self, request: Request, response: Response, sent: float | None) -> Outcome:
        """Report a response to the slots; returns an error instead of a response that must not be used."""
        slots = self._slots
        if response.error is not None and is_throttle(response):
            slots.refused(request.bucket, sent)
        elif slots.shares:
            slots.answered(request.bucket, sent)
        return answer_error(request, response) or response

    async def _back_off(self, request: Request, attempt: int, outcome: Outcome) -> None:
        retry_after, reason = None, type(outcome).__name__
        if isinstance(outcome, Response):
            retry_after = parse_retry_after(outcome.headers.get("retry-after"), time())
            reason = (outcome.error.code if outcome.error else "") or str(outcome.status)
        delay = retry_delay(self._policy, attempt, self._uniform(), retry_after)
        await self._pause(request, attempt, delay, reason)

    async def _pause(self, request: Request, attempt: int, delay: float, reason: str) -> None:
        self._emit(
            RetryScheduled(
                operation=request.operation,
                bucket=request.bucket,
                key=request.key,
                attempt=attempt,
                delay=delay,
                reason=reason,
            )
        )
        await self._wait(delay)


def _final(outcome: Outcome, attempts: int) -> Response:
    if isinstance(outcome, Response):
        return outcome
    # BrokenBody holds the body's memory; the public error must not keep that alive.
    error = outcome.plain() if isinstance(outcome, BrokenBody) else outcome
    error.attempts = attempts
    raise error
