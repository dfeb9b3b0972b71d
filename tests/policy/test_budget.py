"""The retry budget, as tables of requests and the retries that are allowed after them."""

import pytest

from zarr_s3_async._policy.backoff import RetryBudget


def spend_all(budget: RetryBudget) -> int:
    count = 0
    while budget.spend():
        count += 1
    return count


@pytest.mark.parametrize(("requests", "retries"), [(1, 100), (50, 100), (64, 128), (1000, 2000)])
def test_all_requests_in_flight_may_be_retried_twice(requests: int, retries: int) -> None:
    assert spend_all(RetryBudget(requests)) == retries


@pytest.mark.parametrize(
    ("answers", "retries"),
    [
        ([], 0),
        ([1] * 4, 0),
        ([1] * 5, 1),  # five responses allow one retry
        ([2], 1),  # a successful retry costs nothing
        ([5], 1),
        ([1] * 10_000, 100),  # but the budget never exceeds its initial size
    ],
)
def test_responses_refill_an_empty_budget(answers: list[int], retries: int) -> None:
    budget = RetryBudget()
    spend_all(budget)
    for attempts in answers:
        budget.answered(attempts)
    assert spend_all(budget) == retries


def test_a_full_budget_does_not_grow() -> None:
    budget = RetryBudget()
    budget.answered(1)
    assert repr(budget) == "<RetryBudget 500/500>"
