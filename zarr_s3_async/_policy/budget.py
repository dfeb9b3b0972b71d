"""How many retries a session may still make: an outage must not multiply the load that it came from. Pure.

A token bucket without a clock: answers fill it, retries empty it. While the server answers at all, retries
are hardly limited; once it does not, they dry up, and every request fails with its first attempt.
"""

from __future__ import annotations

RETRY_COST = 5.0
"""Tokens that a retry takes, and that come back when it is answered."""
_ANSWER_WORTH = 1.0
_LEAST_CAPACITY = 500.0
_ROUNDS = 2
"""Times that everything in flight may fail at once."""


class RetryBudget:
    """Shared by all requests of a session.

    Args:
        requests: How many may be in flight at once; a restart of the server fails them all together.
    """

    __slots__ = ("_capacity", "_tokens")

    def __init__(self, requests: int = 1) -> None:
        self._capacity = max(_LEAST_CAPACITY, RETRY_COST * _ROUNDS * requests)
        self._tokens = self._capacity

    def __repr__(self) -> str:
        return f"<RetryBudget {self._tokens:g}/{self._capacity:g}>"

    def spend(self) -> bool:
        """Take what one retry costs; False where that is no longer there."""
        if self._tokens < RETRY_COST:
            return False
        self._tokens -= RETRY_COST
        return True

    def answered(self, attempts: int) -> None:
        """A request was answered, well or not, with attempt number `attempts`."""
        if self._tokens < self._capacity:
            worth = RETRY_COST if attempts > 1 else _ANSWER_WORTH
            self._tokens = min(self._capacity, self._tokens + worth)
