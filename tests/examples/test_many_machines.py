"""examples/many_machines.py: a cluster of three processes stores blocks that share chunks, and reads what it stored."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.mark.integration
@pytest.mark.slow
def test_the_example_of_many_machines_stores_computes_and_verifies() -> None:
    done = subprocess.run(
        [sys.executable, str(ROOT / "examples" / "many_machines.py")],
        capture_output=True,
        text=True,
        timeout=110,
        check=False,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    )
    assert done.returncode == 0, done.stderr
    assert "stored minus computed: 1 1" in done.stdout
    assert "corner equal: True" in done.stdout
    assert "columns: all well" in done.stdout
