"""The pages of this repository, their blocks, and what runs or checks them."""

from __future__ import annotations

import ast
import asyncio
import inspect
import re
import shlex
import subprocess
import sys
import tomllib
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]
PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
PAGES = sorted(path.relative_to(ROOT).as_posix() for path in (*ROOT.glob("*.md"), *ROOT.glob("docs/*.md")))
ON_THE_WEB = f"{PROJECT['urls']['Homepage']}/blob/main/"
PROGRAMS = {"pytest", "pip", "nox", "python", "python3", "ruff", "export", *PROJECT["scripts"]}


def text_of(page: str) -> str:
    """The text of a page, given by its path from the root."""
    return (ROOT / page).read_text()


def in_this_repository(target: str) -> str | None:
    """The file of an absolute link into this repository; the README has such links, since other sites show it, too."""
    match = re.match(rf"{PROJECT['urls']['Homepage']}/(?:blob|tree)/main/(.+)", target)
    return match and match[1]


def blocks(page: str, language: str | None = None) -> list[str]:
    """The code blocks of a page in this language, or in any if it is None."""
    found = re.findall(r"^```(\w*)\n(.*?)^```$", text_of(page), re.DOTALL | re.MULTILINE)
    return [text for name, text in found if language in (None, name)]


def commands(page: str) -> list[str]:
    """The commands in its shell blocks and in its sentences."""
    lines = "\n".join(blocks(page, "sh")).replace("\\\n", " ").splitlines()
    prose = re.sub(r"^```.*?^```$", "", text_of(page), flags=re.DOTALL | re.MULTILINE)
    spans = re.findall(r"`((?:[A-Z_]+=\S+ )?(?:\.venv/bin/)?(?:nox|pytest|python|zarr-s3) [^`]+)`", prose)
    return [one for line in [*lines, *spans] for one in re.split(r" && ", line.strip()) if shlex.split(one, True)]


async def run_python(page: str) -> None:
    """Run its blocks in order: one with `asyncio.run` is a program, the others share names and may use `await`."""
    names: dict[str, Any] = {}
    for text in blocks(page, "python"):
        if "asyncio.run(" in text:
            done = await asyncio.to_thread(
                subprocess.run, [sys.executable, "-c", text], capture_output=True, text=True, timeout=60
            )
            assert done.returncode == 0, done.stderr
            exec("\n".join(re.findall(r"^import .*$", text, re.MULTILINE)), names)
            continue
        code = compile(text, page, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT)
        result = eval(code, names)
        if inspect.isawaitable(result):
            await result


def check_command(command: str) -> None:
    """Check that a command starts one of our programs and that everything it names exists; it may take hours to run."""
    words = shlex.split(command, comments=True)
    while re.match(r"[A-Z_]+=", words[0]):
        words.pop(0)
    program, *arguments = [Path(words[0]).name, *words[1:]]
    assert program in PROGRAMS, command
    for extra in re.findall(r"\.\[(\w+)\]", command):
        assert extra in PROJECT["optional-dependencies"], extra
    check = _CHECKS.get(program)
    if check is not None:
        check(arguments)


def _check_pytest(arguments: list[str]) -> None:
    for argument in arguments:
        if argument.startswith(("tests", "./")):
            path, _, test = argument.partition("::")
            assert (ROOT / path).exists(), path
            assert not test or test.split("[")[0] in tests_in(path), argument


def _check_nox(arguments: list[str]) -> None:
    if "-s" in arguments:
        session = arguments[arguments.index("-s") + 1]
        assert session in functions(ROOT / "noxfile.py"), session


def _check_python(arguments: list[str]) -> None:
    match arguments:
        case ["-m", module, *_] if module not in ("venv", "asyncio", "pip"):
            path = ROOT / module.replace(".", "/")
            assert path.with_suffix(".py").exists() or (path / "__main__.py").exists(), module
        case [script, *_] if script.endswith(".py"):
            assert (ROOT / script).exists(), script


def _check_zarr_s3(arguments: list[str]) -> None:
    from typer.main import get_command

    from zarr_s3_async.cli.app import app

    commands: dict[str, Any] = get_command(app).commands  # type: ignore[attr-defined]  # a group has them
    assert arguments[0] in commands, arguments
    flags = {flag for parameter in commands[arguments[0]].params for flag in parameter.opts} | {"--help"}
    assert {one.partition("=")[0] for one in arguments if one.startswith("-")} <= flags, arguments


_CHECKS = {
    "pytest": _check_pytest,
    "nox": _check_nox,
    "python": _check_python,
    "python3": _check_python,
    "zarr-s3": _check_zarr_s3,
}


def functions(path: Path) -> set[str]:
    """Names of the functions that a file defines at its top level or in a class there."""
    tree = ast.parse(path.read_text())
    places = [tree, *(node for node in tree.body if isinstance(node, ast.ClassDef))]
    return {
        node.name for place in places for node in place.body if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    }


def tests_in(path: str) -> set[str]:
    """The tests of a file that pytest would collect."""
    return {name for name in functions(ROOT / path) if name.startswith("test_")}
