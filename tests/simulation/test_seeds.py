"""Many seeds: no network fault loses, mixes up or invents data, and every history is linearizable."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from .scenario import Setting, drawn_setting, run

BATCHES = 6


def seeds() -> range:
    """The first 300 seeds, or as many as SIMULATION_SEEDS states; `5000:9000` is a range of seeds."""
    first, _, stop = os.environ.get("SIMULATION_SEEDS", "300").rpartition(":")
    return range(int(first or 0), int(stop))


@pytest.mark.timeout(0 if "SIMULATION_SEEDS" in os.environ else 120)
@pytest.mark.parametrize("batch", range(BATCHES))
def test_the_history_of_every_seed_is_linearizable(batch: int) -> None:
    for seed in seeds()[batch::BATCHES]:
        report = run(seed)
        assert not report.violations, report


@pytest.mark.timeout(0 if "SIMULATION_SEEDS" in os.environ else 120)
def test_the_history_of_every_seed_is_linearizable_over_the_sdk() -> None:
    """A tenth of the seeds: the SDK takes ten times the CPU time of the wire."""
    for seed in seeds()[::10]:
        report = run(seed, replace(drawn_setting(seed), transport="sdk"))
        assert not report.violations, report


@pytest.mark.timeout(0 if "SIMULATION_SEEDS" in os.environ else 120)
def test_merges_are_linearizable_even_if_requests_are_carried_out_late() -> None:
    """Without writes of whole objects and deletions no exception is made for late requests."""
    faults = {"late": 0.1, "repeated": 0.1, "lost_answer": 0.1, "slow": 0.05, "failed_after": 0.05}
    for seed in seeds()[::BATCHES]:
        report = run(seed, Setting(faults=faults, clients=3, chunks=1, whole=False, fill=False, strict=True))
        assert not report.violations, report


def test_no_operation_fails_if_every_connection_serves_one_request() -> None:
    setting = Setting(faults={"served_once": 1.0}, tasks=3, attempts=2, must_succeed=True)
    for seed in seeds()[:20]:
        report = run(seed, setting)
        assert not report.violations, report


def test_a_seed_gives_the_same_history_every_time() -> None:
    for seed in seeds()[:10]:
        assert run(seed).lines == run(seed).lines
    over_the_sdk = replace(drawn_setting(3), transport="sdk")
    assert run(3, over_the_sdk).lines == run(3, over_the_sdk).lines


DIGEST = "from tests.simulation.test_seeds import digest; print(digest())"


def digest() -> str:
    """A digest of the histories of some seeds."""
    lines = [line for seed in range(20, 50) for line in run(seed).lines]
    lines += [line for seed in range(3) for line in run(seed, replace(drawn_setting(seed), transport="sdk")).lines]
    return hashlib.sha256("\n".join(lines).encode()).hexdigest()


def test_a_seed_gives_the_same_history_in_another_process() -> None:
    """Nothing depends on the hashes of strings or the addresses of objects."""

    def digest_of_another_process(hashes: str) -> str:
        root = Path(__file__).parents[2]
        run_with = {**os.environ, "PYTHONHASHSEED": hashes, "PYTHONPATH": str(root)}
        done = subprocess.run([sys.executable, "-c", DIGEST], env=run_with, capture_output=True, text=True, check=True)
        return done.stdout.strip()

    assert digest_of_another_process("1") == digest_of_another_process("2")
