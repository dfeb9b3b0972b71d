"""Every page: its programs run, its commands and links refer to things that exist."""

from __future__ import annotations

import ast
import codeop
import json
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from . import pages
from .pages import PAGES, ROOT

# Pages with a separate test, which also compares their output.
OWN = {
    "docs/loader.md": "test_loader_page.py",
    "docs/verify.md": "test_verify_page.py",
    "docs/migration.md": "test_migration_page.py",
}
WITH_PROGRAMS = [page for page in PAGES if pages.blocks(page, "python") and page not in OWN]


@pytest.fixture
def environment(seaweed: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """The local server, with the bucket and the profile that the pages name, and an empty folder."""
    profiles = tmp_path / "config"
    profiles.write_text("[profile research]\nregion = eu-central-1\n")
    for name, value in seaweed.environment().items():
        monkeypatch.setenv(name, value)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(profiles))
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    monkeypatch.chdir(tmp_path)
    seaweed.create_bucket("my-bucket")
    yield
    seaweed.delete_bucket("my-bucket")


@pytest.mark.integration
@pytest.mark.parametrize("page", WITH_PROGRAMS)
async def test_the_programs_of_a_page_run_in_order(page: str, environment: None) -> None:
    await pages.run_python(page)


@pytest.mark.parametrize("page", [page for page in PAGES if "`python -m asyncio`" in pages.text_of(page)])
def test_the_programs_of_the_tutorial_can_be_pasted_into_the_prompt(page: str) -> None:
    """Python's prompt ends an indented block at an empty line, and at nothing else."""
    compiler = codeop.CommandCompiler()
    compiler.compiler.flags |= ast.PyCF_ALLOW_TOP_LEVEL_AWAIT
    for block in pages.blocks(page, "python"):
        pending: list[str] = []
        for line in [*block.splitlines(), ""]:
            pending.append(line)
            if compiler("\n".join(pending), page, "single") is not None:
                pending = []
        assert pending == [], block


@pytest.mark.parametrize("page", PAGES)
def test_the_commands_of_a_page_name_things_that_exist(page: str) -> None:
    for command in pages.commands(page):
        pages.check_command(command)


@pytest.mark.parametrize("page", PAGES)
def test_code_blocks_have_a_language_and_json_is_valid(page: str) -> None:
    fences = re.findall(r"^```(\w*)$", pages.text_of(page), re.MULTILINE)
    allowed = {"python", "sh", "json", "text"} | ({""} if page == "ARCHITECTURE.md" else set())  # its drawing
    assert set(fences[::2]) <= allowed, fences[::2]
    for text in pages.blocks(page, "json"):
        json.loads(text)


@pytest.mark.parametrize("page", PAGES)
def test_the_links_of_a_page_lead_to_existing_files(page: str) -> None:
    for target in re.findall(r"\]\(([^)]+)\)", pages.text_of(page)):
        path = target.partition("#")[0]
        if own := pages.in_this_repository(path):
            assert (ROOT / own).exists(), target
        assert target.startswith("https://") or (ROOT / page).parent.joinpath(path).exists(), target


def test_pages_listed_with_a_separate_test_have_one() -> None:
    for page, test in OWN.items():
        assert (ROOT / page).exists() == Path(__file__).with_name(test).exists(), page


@pytest.mark.parametrize(
    "command",
    ["nox -s nothing", "pytest tests/nothing.py", "python benchmarks/nothing.py", "rm x", "zarr-s3 ls x --nothing"],
)
def test_a_command_that_names_something_missing_is_detected(command: str) -> None:
    with pytest.raises(AssertionError):
        pages.check_command(command)


def test_the_index_lists_every_page_and_the_readme_links_to_it() -> None:
    linked = set(re.findall(r"\]\(([^)#]+)\)", pages.text_of("docs/index.md")))
    for page in PAGES:
        wanted = page.removeprefix("docs/") if page.startswith("docs/") else f"../{page}"
        assert wanted in linked or page == "docs/index.md", page
    assert f"]({pages.ON_THE_WEB}docs/index.md)" in pages.text_of("README.md")
