"""Output of the commands in terminals, pipes and shells."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

import zarr_s3_async as zs

from .commands import command

ROOT = Path(__file__).parents[2]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[bytes]:
    code = "from zarr_s3_async.cli import main; main()"
    variables = {name: value for name, value in os.environ.items() if name not in {"NO_COLOR", "FORCE_COLOR"}}
    return subprocess.run(
        [sys.executable, "-c", code, *arguments],
        capture_output=True,
        env=variables | {"PYTHONPATH": str(ROOT), "COLUMNS": "80"} | environment,
        timeout=60,
    )


@pytest.mark.parametrize("encoding", ["ascii", "cp1252", "latin-1", "utf-8"])
def test_output_works_in_every_terminal_encoding(url: str, encoding: str) -> None:
    assert command("attrs", url, "name=\N{SNOWMAN} na\N{LATIN SMALL LETTER I WITH DIAERESIS}ve").exit_code == 0
    for arguments in (["info", url], ["--help"], ["ls", f"{url}/\N{SNOWMAN}"]):
        result = run(*arguments, PYTHONIOENCODING=encoding)
        assert b"Traceback" not in result.stderr, result.stderr
        (result.stdout + result.stderr).decode(encoding)
    shown = run("info", url, PYTHONIOENCODING=encoding).stdout.decode(encoding)
    assert ("20 \N{MULTIPLICATION SIGN} 30" if encoding != "ascii" else "20 x 30") in shown


def test_no_color_and_dumb_terminals_get_no_escape_sequences(url: str) -> None:
    assert b"\x1b[" in run("info", url, FORCE_COLOR="1", TERM="xterm-256color").stdout
    plain = run("info", url, FORCE_COLOR="1", NO_COLOR="1", TERM="xterm-256color").stdout
    assert not re.search(rb"\x1b\[[0-9;]*3[0-7]", plain)
    assert b"\x1b" not in run("info", url).stdout


def test_a_closed_pipe_is_no_error(url: str) -> None:
    code = "from zarr_s3_async.cli import main; main()"
    reader = f"{sys.executable} -c '{code}' ls --all {url}/c/0 | head -1"
    result = subprocess.run(
        ["bash", "-c", reader], capture_output=True, text=True, env=os.environ | {"PYTHONPATH": str(ROOT)}, timeout=60
    )
    assert "Traceback" not in result.stderr


def test_version_prints_the_version_of_the_package() -> None:
    assert command("--version").stdout == f"zarr-s3 {zs.__version__}\n"


def test_shells_get_completion() -> None:
    assert "--install-completion" in command("--help").stdout


def test_the_error_of_a_mistyped_command_or_flag_names_the_right_one(url: str) -> None:
    assert "'info'" in command("inof", url).stderr
    assert "--region" in command("info", url, "--regon", "x").stderr
