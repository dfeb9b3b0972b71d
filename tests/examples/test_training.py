"""examples/training.py learns with NumPy, and with PyTorch if that is installed (`nox -s torch`)."""

from __future__ import annotations

from collections.abc import Callable
from importlib.util import find_spec
from types import ModuleType

import pytest

pytestmark = [pytest.mark.integration, pytest.mark.slow]


def check(losses: list[float], printed: str) -> None:
    guess = float(printed.split("the row above: ")[1].split(maxsplit=1)[0]) / 100
    assert losses[-1] < losses[0] / 2
    assert losses[-1] < guess / 5
    assert len(losses) == printed.count("epoch ") - printed.count("samples/s")


def test_the_training_example_learns_with_numpy(
    example: Callable[[str], ModuleType], url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    losses = example("training").main(url, with_torch=False)
    printed = capsys.readouterr().out
    check(losses, printed)
    assert "64 chunks fetched" in printed  # each chunk once


@pytest.mark.skipif(find_spec("torch") is None, reason="PyTorch is missing; nox -s torch installs it")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
def test_the_training_example_learns_with_pytorch(
    example: Callable[[str], ModuleType], url: str, capsys: pytest.CaptureFixture[str]
) -> None:
    check(example("training").main(url, with_torch=True), capsys.readouterr().out)
