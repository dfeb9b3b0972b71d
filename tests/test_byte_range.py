"""Neighbouring ranges are joined into one request if few unneeded bytes are fetched."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zarr_s3_async.byte_range import Span, coalesce

spans = st.lists(st.tuples(st.integers(0, 500), st.integers(1, 60)), max_size=20).map(
    lambda pairs: sorted(Span(start, start + length) for start, length in pairs)
)


@given(spans, st.integers(1, 100))
def test_every_range_is_in_one_request_with_few_unneeded_bytes(wanted: list[Span], max_gap: int) -> None:
    groups = list(coalesce(wanted, max_gap=max_gap))
    assert [span for _, members in groups for span in members] == wanted
    for (start, stop), members in groups:
        assert start == members[0].start
        assert stop == max(span.stop for span in members)
        covered = {byte for span in members for byte in range(*span)}
        gaps = [byte for byte in range(start, stop) if byte not in covered]
        assert len(gaps) <= len(covered)
        runs = "".join(" x"[byte in covered] for byte in range(start, stop)).split("x")
        assert all(len(run) <= max_gap for run in runs)


@pytest.mark.parametrize(
    ("second", "together"),
    [(Span(110, 111), True), (Span(120, 180), True), (Span(121, 181), False), (Span(115, 120), True)],
)
def test_ranges_are_joined_up_to_the_maximum_gap(second: Span, together: bool) -> None:
    assert len(list(coalesce([Span(0, 100), second], max_gap=20))) == (1 if together else 2)


def test_gaps_may_not_exceed_the_requested_bytes() -> None:
    wanted = [Span(at, at + 10) for at in (0, 20, 40, 60)]
    assert [len(members) for _, members in coalesce(wanted, max_gap=20)] == [4]
    wanted = [Span(at, at + 10) for at in (0, 25, 50, 75)]
    assert [len(members) for _, members in coalesce(wanted, max_gap=20)] == [3, 1]


def test_small_gaps_are_always_fetched() -> None:
    wanted = [Span(at, at + 1) for at in (0, 9, 18, 28, 60)]
    groups = list(coalesce(wanted, max_gap=50, small_gap=8))
    assert [len(members) for _, members in groups] == [3, 1, 1]
    assert groups[0][0] == Span(0, 19)


def test_adjacent_and_overlapping_ranges_are_joined() -> None:
    wanted = [Span(0, 10), Span(2, 5), Span(10, 20), Span(15, 16)]
    assert list(coalesce(wanted, max_gap=1)) == [(Span(0, 20), wanted)]


@given(spans, st.integers(0, 100), st.integers(1, 200))
def test_requests_of_several_ranges_have_a_maximum_size(wanted: list[Span], max_gap: int, max_size: int) -> None:
    groups = list(coalesce(wanted, max_gap=max_gap, small_gap=max_gap, max_size=max_size))
    assert [span for _, members in groups for span in members] == wanted
    for (start, stop), members in groups:
        assert len(members) == 1 or stop - start <= max_size
    for ((start, stop), _), (_, (following, *_)) in pairwise(groups):  # the next span could not be added
        assert following.start - stop > max_gap or max(stop, following.stop) - start > max_size
