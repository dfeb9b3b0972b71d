"""Every block of the README runs, parses, or names commands that exist."""

from __future__ import annotations

import ast
import asyncio
import builtins
import inspect
import json
import re
import shlex
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import zarr_s3_async as zs

ROOT = Path(__file__).parents[2]
README = (ROOT / "README.md").read_text()
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
BLOCKS = re.findall(r"^```(\w+)\n(.*?)^```$", README, re.DOTALL | re.MULTILINE)


def blocks(language: str) -> list[str]:
    return [text for name, text in BLOCKS if name == language]


@pytest.fixture(scope="module")
def server(seaweed: Any) -> Iterator[Any]:
    """The local server, with the bucket that the README names."""
    seaweed.create_bucket("my-bucket")
    yield seaweed
    seaweed.delete_bucket("my-bucket")


@pytest.fixture
def environment(server: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    for name, value in server.environment().items():
        monkeypatch.setenv(name, value)
    profiles = tmp_path / "config"
    profiles.write_text("[profile research]\nregion = eu-central-1\n")
    monkeypatch.setenv("AWS_CONFIG_FILE", str(profiles))


@pytest.mark.integration
async def test_the_python_blocks_run_in_their_order(environment: None) -> None:
    """One with `asyncio.run` is a program; the others continue one another, as at a prompt that awaits."""
    names: dict[str, Any] = {}
    for text in blocks("python"):
        if "asyncio.run(" in text:
            done = await asyncio.to_thread(
                subprocess.run, [sys.executable, "-c", text], capture_output=True, text=True, timeout=60
            )
            assert done.returncode == 0, done.stderr
            exec("\n".join(re.findall(r"^import .*$", text, re.MULTILINE)), names)
            continue
        code = compile(text, "README.md", "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = eval(code, names)
        if inspect.isawaitable(result):
            await result


@pytest.mark.integration
async def test_the_keys_are_the_ones_in_the_table(server: Any) -> None:
    for zarr_format in (2, 3):
        async with zs.Session(s3=server.s3_config()) as session:
            url = "s3://my-bucket/experiments/array1"
            array = await session.create_array(
                url, shape=(200, 300), chunks=(100, 100), dtype="i1", zarr_format=zarr_format, overwrite=True,
                attributes={"units": "m"},
            )  # fmt: skip
            await array.set_slice(1, start=(0, 0), stop=(200, 300))
            stored = {entry.key async for entry in session.s3("my-bucket", "").list_prefix("experiments/array1/")}
        rows = [line.split("|") for line in README.splitlines() if line.startswith(("| metadata", "| first", "| last"))]
        named = {key for row in rows for key in re.findall(r"`(experiments/[^`]+)`", row[2 if zarr_format == 3 else 3])}
        assert len(named) >= 3
        assert named <= stored


def test_the_policy_is_json_and_allows_listing() -> None:
    (text,) = blocks("json")
    statements = json.loads(text)["Statement"]
    allowed = {
        (action, statement["Resource"])
        for statement in statements
        for action in ([statement["Action"]] if isinstance(statement["Action"], str) else statement["Action"])
    }
    assert ("s3:ListBucket", "arn:aws:s3:::my-bucket") in allowed
    assert ("s3:GetObject", "arn:aws:s3:::my-bucket/experiments/*") in allowed


def test_the_shell_blocks_use_commands_and_extras_that_exist() -> None:
    from zarr_s3_async.cli.app import app

    known = {command.callback.__name__ for command in app.registered_commands if command.callback}
    scripts = {*PROJECT["scripts"], "pytest", "pip"}
    for line in "\n".join(blocks("sh")).splitlines():
        for command in filter(None, re.split(r" && ", line)):
            program, *arguments = shlex.split(command)
            if program.startswith(".venv/bin/"):
                assert Path(program).name in scripts
            else:
                assert program in {"python3", "export", *PROJECT["scripts"]}
            if Path(program).name == "zarr-s3":
                assert arguments[0] in known
            for extra in re.findall(r"\.\[(\w+)\]", command):
                assert extra in PROJECT["optional-dependencies"]


def test_it_has_exactly_two_set_up_commands() -> None:
    lines = [line for line in "\n".join(blocks("sh")).splitlines() if "venv" in line]
    assert lines == [
        "python3 -m venv .venv && .venv/bin/pip install '.[demo]' && .venv/bin/zarr-s3 demo",
        "python3 -m venv .venv && .venv/bin/pip install '.[test]' && .venv/bin/pytest",
    ]


def test_what_it_links_to_exists() -> None:
    targets = re.findall(r"\]\(([^)]+)\)", README)
    assert targets
    for target in targets:
        assert target.startswith("https://") or (ROOT / target).exists(), target


def test_the_names_in_its_tables_of_errors_are_errors_and_double_as_it_says() -> None:
    table = README.partition("\n## Errors\n")[2].partition("\n## ")[0]
    named = {name for name in re.findall(r"`(\w+)`", table) if isinstance(getattr(zs, name, None), type)}
    errors = {name for name in named if issubclass(getattr(zs, name), zs.ZarrS3Error)}
    assert len(errors) >= 20
    for row in re.findall(r"^\| (`.*?) \| (.*?) \|", table, re.MULTILINE):
        kinds, built_in = (re.findall(r"`(\w+)`", cell) for cell in row)
        for name in built_in:
            assert any(issubclass(getattr(zs, kind), getattr(builtins, name)) for kind in kinds), (kinds, name)
