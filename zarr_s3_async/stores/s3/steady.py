"""The one retry layer: per HTTP attempt a slot, a timeout, and a decision to ask again, or for the rest, or otherwise.

The slot is given back while waiting for the next attempt: a request that backs off holds nobody up.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from random import random
from time import time

import anyio

from ..._policy.backoff import parse_retry_after, retry_delay
from ..._policy.budget import RetryBudget
from ...config import RetryPolicy
from ...errors import ChecksumMismatch, DeadlineExceeded, NetworkError, UnexpectedResponse
from ...events import Emit, RetryScheduled
from .checksum import MODE_HEADER
from .errors import attempt_timed_out, is_retried, is_throttle
from .faults import fault_of
from .hedging import Hedging, Outcome
from .remedies import Remedies, Remedy
from .request import Request, Response
from .resume import BrokenBody, Resumption
from .slots import Slots
from .traced import Traced
from .verify import verified

_ASKED_AGAIN = (NetworkError, DeadlineExceeded, UnexpectedResponse, ChecksumMismatch)
_MISMATCHES = 2
"""Attempts whose bytes may differ from their checksum: a second time, it is no accident of the network."""


class Steady:
    """Sends a request until it is answered. Returns any final answer; raises where there is none.

    Args:
        traced: The transport, with its events.
        slots: Request slots, shared by the session.
        policy: How often and when to ask again.
        attempt_timeout: Seconds of one attempt; None where the transport keeps the time itself.
        emit: Receives a `RetryScheduled` for every wait.
        budget: What retries the session has left.
        hedging: Asks slow reads twice.
        remedies: Mends refusals that can be mended.
        uniform: Random numbers in [0, 1).
        wait: Sleeps.
    """

    __slots__ = (
        "_budget",
        "_emit",
        "_hedging",
        "_policy",
        "_remedies",
        "_slots",
        "_timeout",
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
        attempt_timeout: float | None,
        emit: Emit,
        budget: RetryBudget | None = None,
        hedging: Hedging | None = None,
        remedies: Remedies | None = None,
        uniform: Callable[[], float] = random,
        wait: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._traced = traced
        self._slots = slots
        self._policy = policy
        self._timeout = attempt_timeout
        self._emit = emit
        self._budget = budget or RetryBudget(slots.session.limit)
        self._hedging = hedging
        self._remedies = remedies
        self._uniform = uniform
        self._wait = wait

    async def send(self, request: Request) -> tuple[Response, int]:
        """The answer, and how many attempts it took.

        Raises:
            NetworkError, DeadlineExceeded, UnexpectedResponse, ChecksumMismatch: No usable answer came.
            CredentialsNotFound, ConfigError: Nothing could be sent.
        """
        outcome = await self._attempt(request, 1)
        if MODE_HEADER in request.headers:
            outcome = await verified(request, outcome)
        if isinstance(outcome, Response) and outcome.error is None:
            self._budget.answered(1)
            return outcome, 1
        return await self._persist(request, outcome)

    async def _persist(self, request: Request, outcome: Outcome) -> tuple[Response, int]:
        """Ask again while that may help."""
        attempt, mismatches = 1, 0
        rest, tried = Resumption(request), set[Remedy]()
        outcome = rest.take(outcome)
        while True:
            mismatches += isinstance(outcome, ChecksumMismatch)
            if isinstance(outcome, Response) and not is_retried(outcome):
                if not await self._mended(request, outcome, tried):
                    self._budget.answered(attempt)
                    return outcome, attempt
            elif mismatches < _MISMATCHES and self._may_retry(attempt):
                await self._back_off(request, attempt, outcome)
            else:
                return _final(outcome, attempt), attempt
            attempt += 1
            outcome = await verified(request, rest.take(await self._attempt(rest.request(), attempt)))

    async def _mended(self, request: Request, response: Response, tried: set[Remedy]) -> bool:
        if response.ok or self._remedies is None:
            return False
        return await self._remedies.mend(request, response, tried)

    def _may_retry(self, attempt: int) -> bool:
        return attempt < self._policy.attempts and self._budget.spend()

    async def _attempt(self, request: Request, attempt: int) -> Outcome:
        slots, share = self._slots, None
        if slots.shares or not slots.session.try_acquire():
            share = await slots.acquire(request.bucket)
        try:
            if self._hedging is not None and request.operation == "GetObject":
                return await self._hedging.send(self._ask, request, attempt)
            return await self._ask(request, attempt)
        finally:
            slots.release(share)

    async def _ask(self, request: Request, attempt: int) -> Outcome:
        """An answer, or the error that a further attempt may mend."""
        try:
            if self._timeout is None:
                response = await self._traced.send(request, attempt)
            else:
                async with asyncio.timeout(self._timeout):
                    response = await self._traced.send(request, attempt)
        except _ASKED_AGAIN as error:
            return error
        except TimeoutError as error:
            assert self._timeout is not None  # noqa: S101  # nothing else raises it: transports map theirs
            late = attempt_timed_out(request, self._timeout)
            late.__cause__ = error
            return late
        if response.error is not None and is_throttle(response):
            self._slots.refused(request.bucket)
        elif self._slots.shares:
            self._slots.answered(request.bucket)
        return fault_of(request, response) or response

    async def _back_off(self, request: Request, attempt: int, outcome: Outcome) -> None:
        asked, reason = None, type(outcome).__name__
        if isinstance(outcome, Response):
            asked = parse_retry_after(outcome.headers.get("retry-after"), time())
            reason = (outcome.error.code if outcome.error else "") or str(outcome.status)
        delay = retry_delay(self._policy, attempt, self._uniform(), asked)
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
    error = outcome.plain() if isinstance(outcome, BrokenBody) else outcome
    error.attempts = attempts
    raise error
