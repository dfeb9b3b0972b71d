"""Every promise and every bug on the pages names tests that exist, so the pages stay up to date."""

from __future__ import annotations

import re

import pytest

from . import pages
from .pages import PAGES, ROOT

NAMED = re.compile(r"`(tests/[\w/]+\.py)(?:::(\w+))?`")


def rows(page: str) -> list[str]:
    """The rows of the tables of a page, without their heads."""
    lines = pages.text_of(page).splitlines()
    ruled = {at for at, line in enumerate(lines) if re.fullmatch(r"\|(?:-+\|)+", line)}
    return [line for at, line in enumerate(lines) if line.startswith("|") and not {at, at + 1} & ruled]


@pytest.mark.parametrize("page", PAGES)
def test_every_test_that_a_page_names_exists(page: str) -> None:
    missing = [
        f"{path}::{test}"
        for path, test in NAMED.findall(pages.text_of(page))
        if not (ROOT / path).exists() or (test and test not in pages.tests_in(path))
    ]
    assert not missing


@pytest.mark.parametrize("page", ["docs/promises.md", "docs/bugs.md"])
def test_every_row_names_a_test(page: str) -> None:
    assert len(rows(page)) >= 10
    assert [row for row in rows(page) if not NAMED.search(row)] == []
