"""When a request is hedged, as tables: after a percentile of the recent durations, and within the budget."""

import pytest

from zarr_s3_async._policy.hedge import HedgePace
from zarr_s3_async.config import HedgePolicy


def pace_of(seconds: list[float], **policy: float) -> HedgePace:
    pace = HedgePace(HedgePolicy(**policy))
    for one in seconds:
        pace.observe(one)
    return pace


@pytest.mark.parametrize(
    ("seen", "percentile", "delay"),
    [
        ([], 0.95, None),
        ([1.0] * 19, 0.95, None),  # too few durations
        ([1.0] * 32, 0.95, 1.0),
        ([0.1] * 90 + [9.0] * 10, 0.5, 0.1),
        ([0.01 * n for n in range(96)], 0.5, 0.48),
        ([0.01 * n for n in range(96)], 0.99, 0.95),
        ([5.0] * 256 + [1.0] * 256, 0.95, 1.0),  # old durations are forgotten
    ],
)
def test_the_delay_is_the_percentile_of_the_recent_reads(
    seen: list[float], percentile: float, delay: float | None
) -> None:
    assert pace_of(seen, percentile=percentile).delay == pytest.approx(delay)


@pytest.mark.parametrize(
    ("reads", "share", "hedges"), [(0, 0.25, 1), (3, 0.25, 1), (4, 0.25, 2), (10_000, 0.25, 8), (10, 0.5, 6)]
)
def test_hedges_are_a_limited_share_of_the_reads(reads: int, share: float, hedges: int) -> None:
    pace = pace_of([1.0] * reads, max_share=share)
    spent = 0
    while pace.spend():
        spent += 1
    assert spent == hedges
