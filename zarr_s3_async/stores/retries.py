"""The retry loop of every networked store: how often a request is sent, and the wait before it is sent again.

What an outcome means, and how an attempt is made, is the store's own (`Attempts`).
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from enum import Enum
from time import time
from typing import NamedTuple, Protocol, TypeVar

from .._policy.backoff import RetryBudget, parse_retry_after, retry_delay
from ..config import RetryPolicy
from ..events import Emit, RetryScheduled

T = TypeVar("T")


class Verdict(Enum):
    """What follows an attempt that is not simply retried."""

    FINAL = "a response that another attempt would not change"
    FAILED = "a failure that another attempt would not change"
    RECOVERED = "the cause is gone: send again at once"


class Retry(NamedTuple):
    """Send again, if the policy and the retry budget allow it."""

    reason: str
    """For the event."""
    retry_after: str | None = None
    """The response's `Retry-After` header."""
    at_once: bool = False
    """Without a delay, whatever the budget."""
    counted: bool = True
    """The failed attempt counts as one of `RetryPolicy.attempts`."""


class _Subject(Protocol):
    """What a request concerns, for the event of a retry."""

    @property
    def operation(self) -> str: ...
    @property
    def bucket(self) -> str: ...
    @property
    def key(self) -> str: ...


class Attempts(Protocol[T]):
    """The attempts of one request."""

    @property
    def request(self) -> _Subject:
        """The request as it was last sent."""
        ...

    async def send(self, attempt: int) -> T:
        """Make attempt number `attempt`; returns a response, or an error that may be retried."""
        ...

    async def judge(self, outcome: T, attempt: int) -> Verdict | Retry:
        """What the outcome of attempt number `attempt` means."""
        ...


class Retries:
    """The retries of a session's requests.

    Args:
        policy: The retry policy.
        budget: Limits the retries of all requests of the session together.
        emit: Receives a `RetryScheduled` for every retry.
        uniform: Returns random numbers in [0, 1).
        wait: Sleeps for a number of seconds.
    """

    __slots__ = ("_emit", "_uniform", "_wait", "budget", "policy")

    def __init__(
        self,
        policy: RetryPolicy,
        budget: RetryBudget,
        emit: Emit,
        uniform: Callable[[], float],
        wait: Callable[[float], Awaitable[None]],
    ) -> None:
        self.policy = policy
        self.budget = budget
        self._emit = emit
        self._uniform = uniform
        self._wait = wait

    async def run(self, attempts: Attempts[T], outcome: T) -> tuple[T, int]:
        """Send a request again while that may succeed.

        Args:
            attempts: The attempts of the request.
            outcome: Of the first one.

        Returns:
            The last outcome, and the number of attempts.
        """
        attempt, uncounted = 1, 0
        while True:
            verdict = await attempts.judge(outcome, attempt)
            if verdict is Verdict.FINAL:
                self.budget.answered(attempt)
                return outcome, attempt
            if isinstance(verdict, Retry):
                # The budget is shared by the session, so that retries do not multiply the load during an outage.
                if not verdict.at_once and not (attempt - uncounted < self.policy.attempts and self.budget.spend()):
                    return outcome, attempt
                uncounted += not verdict.counted
                await self._pause(attempts.request, attempt, verdict)
            elif verdict is Verdict.FAILED:
                return outcome, attempt
            attempt += 1
            outcome = await attempts.send(attempt)

    async def _pause(self, request: _Subject, attempt: int, retry: Retry) -> None:
        delay = 0.0
        if not retry.at_once:
            delay = retry_delay(self.policy, attempt, self._uniform(), parse_retry_after(retry.retry_after, time()))
        self._emit(
            RetryScheduled(
                operation=request.operation,
                bucket=request.bucket,
                key=request.key,
                attempt=attempt,
                delay=delay,
                reason=retry.reason,
            )
        )
        await self._wait(delay)
