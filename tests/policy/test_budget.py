"""The retry budget, as a table of what happened and what may still happen."""

import pytest

from zarr_s3_async._policy.backoff import RetryBudget


def spend_all(budget: RetryBudget) -> int:
    count = 0
    while budget.spend():
        count += 1
    return count


@pytest.mark.parametrize(("requests", "retries"), [(1, 100), (50, 100), (64, 128), (1000, 2000)])
def test_everything_in_flight_may_fail_twice_and_no_more(requests: int, retries: int) -> None:
    assert spend_all(RetryBudget(requests)) == retries


@pytest.mark.parametrize(
    ("answers", "retries"),
    [
        ([], 0),
        ([1] * 4, 0),
        ([1] * 5, 1),  # five answers at once pay for one retry
        ([2], 1),  # a retry that was answered has cost nothing
        ([5], 1),
        ([1] * 10_000, 100),  # but the budget never exceeds its initial size
    ],
)
def test_answers_fill_an_empty_budget(answers: list[int], retries: int) -> None:
    budget = RetryBudget()
    spend_all(budget)
    for attempts in answers:
        budget.answered(attempts)
    assert spend_all(budget) == retries


def test_a_full_budget_stays_as_full() -> None:
    budget = RetryBudget()
    budget.answered(1)
    assert repr(budget) == "<RetryBudget 500/500>"
