"""docs/loader.md: its programs run (for PyTorch if it is installed), and its table is the output of a script."""

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
    """A local server with the bucket that the page names."""
    for name, value in seaweed.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    seaweed.create_bucket("my-bucket")
    yield
    seaweed.delete_bucket("my-bucket")


async def run(blocks: list[str]) -> None:
    """Run the blocks in one namespace with `await`; blocks with `asyncio.run` or workers run as separate programs."""
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
def test_the_programs_of_the_loader_page_run(environment: None, capsys: pytest.CaptureFixture[str]) -> None:
    asyncio.run(run(pages.blocks(PAGE, "python")))
    assert "40 chunks fetched" in capsys.readouterr().out


def test_the_program_for_pytorch_has_ten_lines() -> None:
    (program,) = [text for text in pages.blocks(PAGE, "python") if "DataLoader(" in text]
    assert len([line for line in program.splitlines() if line.strip()]) <= 10


def test_the_table_of_shuffles_is_the_output_of_the_script() -> None:
    command = [sys.executable, str(ROOT / "benchmarks" / "shuffles.py")]
    printed = subprocess.check_output(command, text=True, env={"PYTHONPATH": str(ROOT)})
    assert printed in pages.text_of(PAGE)
