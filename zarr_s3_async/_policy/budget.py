"""A session's retry budget, which keeps retries from amplifying an overload. Pure.

A token bucket without a clock: responses fill it, retries drain it. While the server responds, retries are hardly
limited; during an outage the bucket runs empty, and every request fails after its first attempt.
"""

from __future__ import annotations

RETRY_COST = 5.0
"""Tokens that a retry takes, returned when it gets a response."""
_ANSWER_WORTH = 1.0
_LEAST_CAPACITY = 500.0
_ROUNDS = 2
"""How many times all requests in flight may fail together before the budget is empty."""


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
            worth = RETRY_COST if attempts > 1 else _ANSWER_WORTH
            self._tokens = min(self._capacity, self._tokens + worth)
