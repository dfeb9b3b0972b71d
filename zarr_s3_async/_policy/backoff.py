"""Delays between retries. Pure: the random number and the attempt are arguments.

Full jitter as in the AWS Architecture Blog's "Exponential Backoff And Jitter": uniform below an exponential
bound.
"""

from __future__ import annotations

from datetime import UTC

from ..config import RetryPolicy

CONFLICT_BASE = 0.005
"""Seconds; a conflict is retried soon, since the other writer has finished already."""
CONFLICT_MAX = 0.5


def retry_delay(policy: RetryPolicy, attempt: int, uniform: float, retry_after: float | None = None) -> float:
    """Seconds to wait after failed attempt number `attempt` (1 is the first).

    Args:
        policy: The session's policy.
        attempt: Attempts made so far.
        uniform: A random number in [0, 1).
        retry_after: Seconds that the server requested; capped at `policy.max_delay`.
    """
    bound = min(policy.max_delay, policy.base_delay * 2.0 ** min(attempt - 1, 30))
    delay = uniform * bound
    if retry_after is not None:
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
    return (date if date.tzinfo else date.replace(tzinfo=UTC)).timestamp()
