"""Type checkers find exactly the planted mistakes in a user's program."""

from __future__ import annotations

import importlib.util
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PROGRAM = Path(__file__).with_name("program.py")
PLANTED = {number for number, line in enumerate(PROGRAM.read_text().splitlines(), 1) if "# wrong: " in line}
CHECKERS = {
    "mypy": ["-m", "mypy", "--strict", "--no-error-summary", "--python-version", "3.12", "--config-file", ""],
    "pyright": ["-m", "pyright", "--pythonpath", sys.executable],
}


@pytest.mark.slow
@pytest.mark.parametrize("checker", CHECKERS)
def test_type_checkers_find_exactly_the_planted_mistakes(checker: str, tmp_path: Path) -> None:
    if importlib.util.find_spec(checker) is None:
        pytest.skip(f"{checker} is not installed; `nox -s types` has both")
    program = tmp_path / "program.py"
    program.write_text(PROGRAM.read_text())
    done = subprocess.run(
        [sys.executable, *CHECKERS[checker], str(program)], capture_output=True, text=True, timeout=110, check=False
    )
    found = {int(line) for line in re.findall(r"program\.py:(\d+)(?::\d+)?(?: -|:) error", done.stdout)}
    assert found == PLANTED, done.stdout + done.stderr


@pytest.mark.slow
def test_every_public_name_has_a_type() -> None:
    if importlib.util.find_spec("pyright") is None:
        pytest.skip("pyright is not installed; `nox -s types` has it")
    command = ["-m", "pyright", "--pythonpath", sys.executable, "--verifytypes", "zarr_s3_async", "--ignoreexternal"]
    done = subprocess.run(
        [sys.executable, *command, "--outputjson"], capture_output=True, text=True, timeout=300, check=False, cwd=ROOT
    )
    found = json.loads(done.stdout)["typeCompleteness"]["symbols"]
    assert len(found) > 1000
    untyped = {symbol["name"] for symbol in found if not (symbol["isTypeKnown"] and not symbol["isTypeAmbiguous"])}
    if importlib.util.find_spec("torch") is None:  # its class is the base of one of ours
        untyped.discard("zarr_s3_async.adapters.torch.ZarrBatches")
    assert untyped == set(), done.stdout
