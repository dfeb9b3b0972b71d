"""docs/verify.md: its programs run and print the shown output, and its tables match the code."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async._verify.report import KINDS
from zarr_s3_async.cli.terminal import COULD_NOT, NO

PAGE = (Path(__file__).parents[2] / "docs" / "verify.md").read_text()


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```$", PAGE, re.DOTALL | re.MULTILINE)


@pytest.fixture
def environment(seaweed: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A local server with the bucket that the page names."""
    for name, value in seaweed.environment().items():
        monkeypatch.setenv(name, value)
    seaweed.create_bucket("my-bucket")
    yield
    seaweed.delete_bucket("my-bucket")


def measured(text: str) -> str:
    """The text without figures that differ between runs: durations, and sizes that depend on the compressor."""
    return re.sub(r"[\d.]+ s$|\d+ bytes", "…", text, flags=re.MULTILINE)


async def run(text: str) -> None:
    names: dict[str, Any] = {"zs": zs, "np": np}
    result = eval(compile(text, "verify.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
    assert inspect.isawaitable(result)
    await result


@pytest.mark.integration
def test_the_programs_of_the_verify_page_print_the_shown_output(
    environment: None, capsys: pytest.CaptureFixture[str]
) -> None:
    from zarr_s3_async.cli.app import app

    first, *others = blocks("python")
    asyncio.run(run(first))
    (printed,) = blocks("text")
    assert measured(capsys.readouterr().out) == measured(printed)
    for line in blocks("sh")[0].splitlines():
        program, *arguments = shlex.split(line)
        assert program == "zarr-s3"
        with pytest.raises(SystemExit) as ended:
            app(arguments)
        assert ended.value.code == NO
    capsys.readouterr()
    for text in others:
        asyncio.run(run(text))
    shown = capsys.readouterr().out
    assert "('wind/c/0/1', (0, 1))" in shown
    assert "to write again: (" in shown


def test_the_tables_of_the_verify_page_name_every_kind_and_status() -> None:
    kinds = re.findall(r"^\| `(\w+)` \| .* \| (.*) \|$", PAGE, re.MULTILINE)
    assert {kind for kind, _ in kinds} == set(KINDS)
    for kind, fails in kinds:
        node = zs.NodeReport(path="", kind="array", zarr_format=3, counts={kind: 1})
        for strict in (False, True):
            report = zs.VerifyReport(url="", strict=strict, nodes=(node,), objects=0, nbytes=0, seconds=0)
            assert report.ok == (fails == "no" or (fails.startswith("with") and not strict)), kind
    assert re.findall(r"^\| (\d) \|", PAGE, re.MULTILINE) == ["0", str(NO), str(COULD_NOT)]
