"""The one retry layer: per HTTP attempt a slot of the session, a timeout, and a decision to ask again.

The slot is given back while waiting for the next attempt: a request that backs off holds nobody up.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from random import random

import anyio

from ..._limiter import Limiter
from ..._policy.backoff import parse_retry_after, retry_delay
from ...config import RetryPolicy
from ...errors import NetworkError, StoreError
from ...events import Emit, RetryScheduled
from .errors import attempt_timed_out, is_retried
from .faults import fault_of
from .request import Request, Response
from .traced import Traced


class Steady:
    """Sends a request until it is answered. Returns any final answer; raises where there is none."""

    __slots__ = ("_emit", "_policy", "_slots", "_timeout", "_traced", "_uniform", "_wait")

    def __init__(
        self,
        traced: Traced,
        *,
        slots: Limiter,
        policy: RetryPolicy,
        attempt_timeout: float,
        emit: Emit,
        uniform: Callable[[], float] = random,
        wait: Callable[[float], Awaitable[None]] = anyio.sleep,
    ) -> None:
        self._traced = traced
        self._slots = slots
        self._policy = policy
        self._timeout = attempt_timeout
        self._emit = emit
        self._uniform = uniform
        self._wait = wait

    async def send(self, request: Request) -> tuple[Response, int]:
        """The answer, and how many attempts it took. Raises NetworkError, DeadlineExceeded or UnexpectedResponse."""
        attempt = 0
        while True:
            attempt += 1
            outcome = await self._attempt(request, attempt)
            if isinstance(outcome, Response) and not is_retried(outcome):
                return outcome, attempt
            if attempt >= self._policy.attempts or not request.repeatable:
                return _final(outcome, attempt), attempt
            await self._back_off(request, attempt, outcome)

    async def _attempt(self, request: Request, attempt: int) -> Response | StoreError:
        """An answer, or the error that a further attempt may mend."""
        await self._slots.acquire()
        try:
            with anyio.fail_after(self._timeout):
                response = await self._traced.send(request, attempt)
        except TimeoutError as error:
            late = attempt_timed_out(request, self._timeout)
            late.__cause__ = error
            return late
        except NetworkError as error:
            return error
        finally:
            self._slots.release()
        return fault_of(request, response) or response

    async def _back_off(self, request: Request, attempt: int, outcome: Response | StoreError) -> None:
        asked, reason = None, type(outcome).__name__
        if isinstance(outcome, Response):
            asked = parse_retry_after(outcome.headers.get("retry-after"))
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


def _final(outcome: Response | StoreError, attempts: int) -> Response:
    if isinstance(outcome, Response):
        return outcome
    outcome.attempts = attempts
    raise outcome
