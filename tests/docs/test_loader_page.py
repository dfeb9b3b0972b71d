"""docs/loader.md: its programs run, the one for PyTorch where that is installed; its table is what a script prints."""

from __future__ import annotations

import ast
import asyncio
import inspect
import subprocess
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from . import pages
from .pages import ROOT

PAGE = "docs/loader.md"


@pytest.fixture
def environment(seaweed: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """The local server, with the bucket that the page names."""
    for name, value in seaweed.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    seaweed.create_bucket("my-bucket")
    yield
    seaweed.delete_bucket("my-bucket")


async def run(blocks: list[str]) -> None:
    """As at a prompt that awaits; a block with `asyncio.run`, and one with workers, is a program of its own."""
    names: dict[str, Any] = {}
    for text in blocks:
        if "asyncio.run(" in text or "__main__" in text:
            if "torch" in text and find_spec("torch") is None:
                continue
            done = await asyncio.to_thread(
                subprocess.run, [sys.executable, "-c", text], capture_output=True, text=True, timeout=100
            )
            assert done.returncode == 0, done.stderr
            continue
        result = eval(compile(text, PAGE, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
        if inspect.isawaitable(result):
            await result
    await names["session"].aclose()


@pytest.mark.integration
def test_its_programs_run_in_their_order(environment: None, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(run(pages.blocks(PAGE, "python")))
    assert "40 chunks fetched" in capsys.readouterr().out


def test_the_program_for_pytorch_has_ten_lines() -> None:
    (program,) = [text for text in pages.blocks(PAGE, "python") if "DataLoader(" in text]
    assert len([line for line in program.splitlines() if line.strip()]) <= 10


def test_the_table_of_shuffles_is_what_the_script_prints() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "shuffles.py")]
    printed = subprocess.check_output(command, text=True, env={"PYTHONPATH": str(ROOT)})
    assert printed in pages.text_of(PAGE)
