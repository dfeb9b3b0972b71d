"""The figures of a loader's report."""

from __future__ import annotations

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from zarr_s3_async.loader.feeds import Feed
from zarr_s3_async.loader.report import Meter


def feed(chunk: int, across: int) -> Feed:
    return Feed(0, 0, 1, 1, 200, chunk, across, chunk, 1)


@given(
    starts=st.lists(st.integers(0, 90), min_size=1, max_size=12, unique=True),
    width=st.integers(1, 9),
    chunk=st.integers(1, 9),
    across=st.integers(1, 3),
)
def test_each_chunk_of_a_batch_is_counted_once(starts: list[int], width: int, chunk: int, across: int) -> None:
    meter = Meter(0, None)
    meter.touched(feed(chunk, across), np.array(starts), width)
    touched = len({row // chunk for start in starts for row in range(start, start + width)})
    assert meter.report().reused == touched * across


def test_chunks_fetched_for_an_earlier_batch_are_counted_as_reused() -> None:
    meter = Meter(0, None)
    meter.read(feed(10, 2), np.array([0, 40]), np.array([20, 45]))  # chunks 0, 1 and 4, twice across
    for batch in ([1, 2, 3], [4, 12], [41]):
        meter.touched(feed(10, 2), np.array(batch), 1)
    report = meter.report()
    assert (report.chunks, report.reused) == (6, 2)
