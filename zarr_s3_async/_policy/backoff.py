"""When to retry: numbers of attempts, delays between them, and a session's retry budget.

Pure: clock and random numbers are arguments.

Full jitter as in the AWS Architecture Blog's "Exponential Backoff And Jitter": uniform below an exponential
bound. The budget keeps retries from amplifying an overload. It is a token bucket without a clock: responses fill it,
retries drain it. While the server responds, retries are hardly limited; during an outage the bucket runs empty, and
every request fails after its first attempt.
"""

from __future__ import annotations

from datetime import UTC

from ..config import RetryPolicy

RETRY_COST = 5.0
"""Tokens that a retry takes, returned when it gets a response."""
_ANSWER_WORTH = 1.0
_LEAST_CAPACITY = 500.0
_ROUNDS = 2
"""How many times all requests in flight may fail together before the budget is empty."""

CONFLICT_BASE = 0.005
"""Seconds; a conflict is retried soon, since the other writer has finished already."""
CONFLICT_MAX = 0.5

PINNED_ATTEMPTS = 8
"""Attempts to read several byte ranges of one version of an object; an attempt fails if the object is replaced between
two of its requests. Without a delay: the new version is complete. After the last one, the object is read by one request
or ConcurrentModification is raised."""


def uniform() -> float:
    """A random number in [0, 1)."""
    from random import random  # imported by the first delay: most processes have none

    return random()


def retry_delay(policy: RetryPolicy, attempt: int, uniform: float, retry_after: float | None = None) -> float:
    """Seconds to wait after failed attempt number `attempt` (1 is the first).

    Args:
        policy: The session's policy.
        attempt: Attempts made so far.
        uniform: A random number in [0, 1).
        retry_after: Seconds that the server requested; capped at `policy.max_delay`.
    """
    # The exponent is capped: 2.0 ** 1024 would overflow.
    bound = min(policy.max_delay, policy.base_delay * 2.0 ** min(attempt - 1, 30))
    delay = uniform * bound
    if retry_after is not None:
        # A server's request never shortens the delay: many clients get the same Retry-After and would return together.
        delay = max(delay, min(retry_after, policy.max_delay))
    return delay


def conflict_delay(attempt: int, uniform: float) -> float:
    """Seconds to wait after conflict number `attempt` on one object."""
    return uniform * min(CONFLICT_MAX, CONFLICT_BASE * 2.0 ** min(attempt - 1, 30))


def parse_retry_after(header: str | None, now: float | None = None) -> float | None:
    """Seconds that a `Retry-After` header requests; None for an invalid one, or for a date without `now`.

    Args:
        header: Whole seconds, or an HTTP date.
        now: Seconds since the epoch, needed to convert a date.
    """
    if header is None:
        return None
    text = header.strip()
    # isdecimal alone accepts digits of other scripts, which RFC 9110 does not allow.
    if text.isascii() and text.isdecimal():
        return float(text)
    date = None if now is None else parse_http_date(text)
    return None if date is None or now is None else max(0.0, date - now)


def parse_http_date(header: str | None) -> float | None:
    """A `Date` header in seconds since the epoch; None if it is missing or invalid."""
    from email.utils import parsedate_to_datetime

    try:
        date = parsedate_to_datetime(header or "")
    except (ValueError, TypeError, IndexError, OverflowError):
        return None
    # HTTP dates are in GMT; parsedate_to_datetime gives those with "-0000" no time zone.
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()


class RetryBudget:
    """The retry budget that all requests of a session share.

    Args:
        requests: Maximum number of requests in flight; a restart of the server fails them all together.
    """

    __slots__ = ("_capacity", "_tokens")

    def __init__(self, requests: int = 1) -> None:
        self._capacity = max(_LEAST_CAPACITY, RETRY_COST * _ROUNDS * requests)
        self._tokens = self._capacity

    def __repr__(self) -> str:
        return f"<RetryBudget {self._tokens:g}/{self._capacity:g}>"

    def spend(self) -> bool:
        """Take the tokens of one retry; False if there are too few."""
        if self._tokens < RETRY_COST:
            return False
        self._tokens -= RETRY_COST
        return True

    def answered(self, attempts: int) -> None:
        """Record that attempt number `attempts` got a response, successful or not."""
        if self._tokens < self._capacity:
            # A retry that got a response returns its cost: the server is reachable, so the budget need not shrink.
            worth = RETRY_COST if attempts > 1 else _ANSWER_WORTH
            self._tokens = min(self._capacity, self._tokens + worth)
