"""examples/quickstart.py runs, and a second run prints why the array cannot be created."""

from __future__ import annotations

import asyncio
import subprocess
from collections.abc import Callable

import pytest


async def run(command: list[str]) -> subprocess.CompletedProcess[str]:
    return await asyncio.to_thread(subprocess.run, command, capture_output=True, text=True, timeout=60)


@pytest.mark.integration
async def test_the_quickstart_writes_reads_and_merges(url: str, script: Callable[..., list[str]]) -> None:
    done = await run(script("quickstart", url))
    assert done.returncode == 0, done.stderr
    assert "corner equal: True" in done.stdout
    assert "column equal: True" in done.stdout
    # Nine chunks, then four that are merged; and the documents of the new array.
    assert f"<Array {url} shape (1000, 1000), chunks (100, 100), float64>" in done.stdout

    again = await run(script("quickstart", url))
    assert again.returncode == 1
    assert again.stderr.startswith("NodeExists: ")
    assert len(again.stderr.splitlines()) == 1
