"""How a session adapts to a server that throttles, simulated in virtual time from seeds."""

from __future__ import annotations

from benchmarks.throttling import LAWS, SEEDS, burst, constant_rate, recovery

NOW = LAWS["window as served (now)"]


def test_the_same_seed_gives_the_same_run() -> None:
    assert constant_rate(NOW, 2000.0, 0.005, [0.0], 7) == constant_rate(NOW, 2000.0, 0.005, [0.0], 7)
    assert burst(NOW, 7) != burst(NOW, 8)


def test_one_client_uses_the_rate_and_is_rarely_refused() -> None:
    for seed in SEEDS:
        goodput, _, refused = constant_rate(NOW, 2000.0, 0.005, [0.0], seed)
        assert goodput > 0.97
        assert refused < 0.02


def test_a_thousand_requests_take_little_more_than_the_rate_allows() -> None:
    for seed in SEEDS:
        seconds, refused = burst(NOW, seed)
        assert seconds < 0.6
        assert refused < 150


def test_clients_that_start_one_after_the_other_share_the_rate() -> None:
    for seed in SEEDS:
        goodput, fairness, refused = constant_rate(NOW, 3500.0, 0.02, [0.0, 0.0, 3.0, 6.0], seed)
        assert goodput > 0.97
        assert fairness > 0.95
        assert refused < 0.02


def test_a_higher_rate_is_used_soon() -> None:
    for seed in SEEDS:
        assert recovery(NOW, seed) <= 1.5
