"""The waits between attempts, as tables: time and random numbers are arguments."""

import pytest

from zarr_s3_async._policy.backoff import conflict_delay, parse_http_date, parse_retry_after, retry_delay
from zarr_s3_async.config import RetryPolicy

POLICY = RetryPolicy(base_delay=0.1, max_delay=2.0)


@pytest.mark.parametrize(
    ("attempt", "uniform", "retry_after", "seconds"),
    [
        (1, 0.0, None, 0.0),
        (1, 0.5, None, 0.05),
        (2, 0.5, None, 0.1),
        (4, 1.0, None, 0.8),
        (20, 1.0, None, 2.0),  # bounded
        (5000, 1.0, None, 2.0),  # no overflow
        (1, 0.5, 1.5, 1.5),  # the server's Retry-After is the minimum
        (1, 0.5, 3600.0, 2.0),  # but never more than the maximum
        (4, 1.0, 0.1, 0.8),
    ],
)
def test_the_retry_delay_is_within_its_bounds(
    attempt: int, uniform: float, retry_after: float | None, seconds: float
) -> None:
    assert retry_delay(POLICY, attempt, uniform, retry_after) == pytest.approx(seconds)


def test_the_conflict_delay_grows_up_to_a_maximum() -> None:
    delays = [conflict_delay(attempt, 1.0) for attempt in range(1, 40)]
    assert delays == sorted(delays)
    assert delays[0] == 0.005
    assert delays[-1] == 0.5


@pytest.mark.parametrize(
    ("header", "now", "seconds"),
    [
        (None, None, None),
        ("3", None, 3.0),
        (" 12 ", None, 12.0),
        ("-1", None, None),
        ("3.5", None, None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", None, None),  # unknown without a clock
        ("Wed, 21 Oct 2015 07:28:00 GMT", 1445412470.0, 10.0),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 1445412490.0, 0.0),
        ("soon", 0.0, None),
        ("", 0.0, None),
    ],
)
def test_retry_after_headers_are_parsed(header: str | None, now: float | None, seconds: float | None) -> None:
    assert parse_retry_after(header, now) == seconds


@pytest.mark.parametrize(
    ("header", "seconds"),
    [
        ("Wed, 21 Oct 2015 07:28:00 GMT", 1445412480.0),
        ("Wednesday, 21-Oct-15 07:28:00 GMT", 1445412480.0),
        (None, None),
        ("", None),
        ("yesterday", None),
        ("Wed, 99 Oct 2015 07:28:00 GMT", None),
    ],
)
def test_http_dates_are_parsed(header: str | None, seconds: float | None) -> None:
    assert parse_http_date(header) == seconds
