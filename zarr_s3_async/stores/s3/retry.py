"""The attempts of S3 requests: a slot for each, and the decision to retry, resume, recover or fail.

The slot is released while waiting for the next attempt, so that a request that backs off delays no other.
"""

from __future__ import annotations

from asyncio import sleep
from collections.abc import Awaitable, Callable
from dataclasses import replace
from time import perf_counter

from ..._policy.backoff import RetryBudget, uniform
from ..._types import Buffer
from ...config import RetryPolicy
from ...errors import ChecksumMismatch, DeadlineExceeded, NetworkError, UnexpectedResponse
from ...events import Emit, Metrics, RequestDone, SlotWaited, has_hooks
from ..retries import Retries, Retry, Verdict
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
        "_emit",
        "_hedging",
        "_recovery",
        "_retries",
        "_slots",
        "_traced",
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
        self._emit = emit
        self._hedging = hedging
        self._recovery = recovery
        self._retries = Retries(policy, budget or RetryBudget(slots.session.limit), emit, uniform, wait)

    async def send(self, request: Request) -> tuple[Response, int]:
        """The response, and the number of attempts.

        Raises:
            NetworkError, DeadlineExceeded, UnexpectedResponse, ChecksumMismatch: There was no usable response.
            CredentialsNotFound, ConfigError: No request could be sent.
        """
        # The first attempt takes this short path; `_Attempts` are made only if there is something to retry.
        outcome = await self._attempt(request, 1)
        # Checked before the call, which would cost every read without checksums a coroutine.
        if MODE_HEADER in request.headers:
            outcome = await verified(request, outcome)
        if isinstance(outcome, Response) and outcome.error is None:
            self._retries.budget.answered(1)
            return outcome, 1
        attempts = _Attempts(request, self._attempt, self._recovery, self._retries.policy.attempts)
        outcome, number = await self._retries.run(attempts, attempts.rest.take(outcome))
        if isinstance(outcome, Response):
            return outcome, number
        # BrokenBody holds the body's memory; the public error must not keep that alive.
        error = outcome.plain() if isinstance(outcome, BrokenBody) else outcome
        error.attempts = number
        raise error

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


class _Attempts:
    """The attempts of one request after the first: see `retries.Attempts`.

    Args:
        request: The request.
        attempt: Makes an attempt with a given number.
        recovery: Recovers from expired credentials, clock skew and wrong regions.
        max_attempts: Maximum number of attempts.
    """

    __slots__ = ("_attempt", "_max_attempts", "_mismatches", "_recovery", "_stale", "_tried", "request", "rest")

    def __init__(
        self,
        request: Request,
        attempt: Callable[[Request, int], Awaitable[Outcome]],
        recovery: Recovery | None,
        max_attempts: int,
    ) -> None:
        self.request = request
        self.rest = Resumption(request)
        self._attempt = attempt
        self._recovery = recovery
        self._max_attempts = max_attempts
        self._tried: set[RecoveryAction] = set()
        self._mismatches = 0
        self._stale = False

    async def send(self, attempt: int) -> Outcome:
        following = self.rest.request()
        if self._stale:  # the other idle connections are probably closed too
            following = replace(following, fresh=True)
        # Resumed bytes are put together before the checksum of the whole body is verified.
        return await verified(self.request, self.rest.take(await self._attempt(following, attempt)))

    async def judge(self, outcome: Outcome, attempt: int) -> Verdict | Retry:
        if isinstance(outcome, Response) and not is_retried(outcome):
            # A final response, unless an action such as renewing the credentials lets another attempt succeed.
            if outcome.ok or self._recovery is None:
                return Verdict.FINAL
            recovered = await self._recovery.recover(self.request, outcome, self._tried)
            return Verdict.RECOVERED if recovered else Verdict.FINAL
        self._mismatches += isinstance(outcome, ChecksumMismatch)
        if not self._stale and self._is_stale(outcome, attempt):
            self._stale = True
            return Retry(STALE, at_once=True, counted=self.request.operation not in _READS)
        if self._mismatches >= _MISMATCHES:
            return Verdict.FAILED
        if isinstance(outcome, Response):
            reason = (outcome.error.code if outcome.error else "") or str(outcome.status)
            return Retry(reason, outcome.headers.get("retry-after"))
        return Retry(type(outcome).__name__)

    def _is_stale(self, outcome: Outcome, attempt: int) -> bool:
        """True if the request failed on a closed idle connection, and is sent again immediately.

        A read has no side effects, so this does not count as an attempt. A write may have been executed: it is sent
        again only if the policy allows another attempt.
        """
        if not isinstance(outcome, NetworkError) or outcome.code != STALE:
            return False
        return self.request.operation in _READS or attempt < self._max_attempts
