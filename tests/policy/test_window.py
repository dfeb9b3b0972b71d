"""The request limit of a throttled bucket: it falls to the served rate and recovers by less than one per round trip."""

from __future__ import annotations

import pytest

from zarr_s3_async._policy.window import ThrottledWindow


def answered(window: ThrottledWindow, *, rate: float, duration: float, until: float, since: float = 0.0) -> float:
    """Report responses at a constant rate. Returns the time of the last one."""
    now = since
    while now < until:
        now += 1 / rate
        window.answered(now, now - duration)
    return now


@pytest.mark.parametrize(("ceiling", "limit"), [(64, 32), (3, 1), (1, 1)])
def test_the_first_refusal_halves_the_requests_in_flight(ceiling: int, limit: int) -> None:
    assert ThrottledWindow(ceiling, 0.0).limit == limit


def test_responses_to_requests_sent_before_a_decrease_are_ignored() -> None:
    window = ThrottledWindow(64, 10.0)
    assert window.refused(10.1, sent=9.99) == 32
    assert window.refused(10.1, sent=10.0) == 16
    assert [window.refused(10.2, sent=sent) for sent in (10.0, 10.05, 10.09)] == [16, 16, 16]
    assert window.refused(10.2, sent=10.1) == 8


def test_without_a_response_the_limit_is_halved_every_round_trip_down_to_one() -> None:
    window = ThrottledWindow(64, 0.0)
    assert [window.refused(now, sent=now - 1.0) for now in (1.0, 2.0, 3.0, 4.0, 5.0, 6.0, 7.0)] == [
        16, 8, 4, 2, 1, 1, 1,
    ]  # fmt: skip


@pytest.mark.parametrize(("rate", "limit"), [(1200.0, 24), (1000.0, 20), (2000.0, 26)])
def test_after_a_refusal_the_limit_is_below_what_was_served_in_a_round_trip(rate: float, limit: int) -> None:
    """1,200 responses a second after 20 ms each are 24 requests in flight; at most four fifths of them are left."""
    window = ThrottledWindow(64, 0.0)
    now = answered(window, rate=rate, duration=0.02, until=0.04)
    assert abs(window.refused(now, sent=now - 0.02) - limit) <= 1


def test_the_mean_duration_starts_with_the_first_response() -> None:
    """A mean that started at zero would be a third too low after ten responses, and so would the limit."""
    window = ThrottledWindow(64, 0.0)
    now = answered(window, rate=1200.0, duration=0.02, since=0.05, until=0.058)
    assert window.refused(now, sent=now - 0.02) == 25


def test_a_pause_of_the_caller_at_most_halves_the_limit() -> None:
    window = ThrottledWindow(64, 0.0)
    answered(window, rate=1000, duration=0.02, until=0.1)
    before = window.limit
    assert window.refused(60.0, sent=59.9) == before // 2


def test_the_limit_grows_by_less_than_one_per_round_trip() -> None:
    window = ThrottledWindow(64, 0.0)
    for _ in range(32):
        window.answered(1.0, 0.99)
    assert window.limit == 32
    for _ in range(96):
        window.answered(1.0, 0.99)
    assert window.limit == 33


def test_the_end_of_the_limit_is_reported() -> None:
    window = ThrottledWindow(8, 0.0)
    assert not window.recovered
    answered(window, rate=100, duration=0.01, until=2.0)
    assert window.recovered
    assert window.limit == 8
