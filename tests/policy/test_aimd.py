"""The limit of a throttled bucket, as a table: halved at most once a second, and back one by one."""

import pytest

from zarr_s3_async._policy.aimd import HOLD, Aimd


@pytest.mark.parametrize(
    ("ceiling", "refusals", "limit"),
    [
        (64, [], 64),
        (64, [0.0], 32),
        (64, [0.0, 0.0, 0.5, HOLD - 0.01], 32),  # one storm is one refusal
        (64, [0.0, HOLD], 16),
        (64, [0.0, HOLD, 2 * HOLD, 3 * HOLD, 4 * HOLD, 5 * HOLD], 1),
        (64, [float(second) for second in range(100)], 1),  # never nothing
        (1, [0.0], 1),
        (3, [0.0], 1),
    ],
)
def test_refusals_halve_the_limit(ceiling: int, refusals: list[float], limit: int) -> None:
    aimd = Aimd(ceiling)
    for now in refusals:
        aimd.refused(now)
    assert aimd.limit == limit


@pytest.mark.parametrize(("answers", "limit"), [(0, 4), (4, 4), (5, 5), (9, 5), (10, 6), (1000, 16)])
def test_answers_raise_it_by_one_for_every_round(answers: int, limit: int) -> None:
    aimd = Aimd(16)
    aimd.refused(0.0)
    aimd.refused(HOLD)
    assert aimd.limit == 4
    for _ in range(answers):
        aimd.answered()
    assert aimd.limit == limit


def test_it_recovers_and_says_so() -> None:
    aimd = Aimd(8)
    assert aimd.recovered
    aimd.refused(0.0)
    assert not aimd.recovered
    for _ in range(60):
        aimd.answered()
    assert aimd.recovered
    assert aimd.limit == 8
