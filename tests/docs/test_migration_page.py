"""docs/migration.md: both programs of each pair run one after the other if the other library is installed."""

from __future__ import annotations

import ast
import inspect
import re
from collections.abc import Iterator
from importlib.util import find_spec
from typing import Any

import pytest

from . import pages

PAGE = "docs/migration.md"
SECTIONS = {
    text.partition("\n")[0]: re.findall(r"^```python\n(.*?)^```$", text, re.DOTALL | re.MULTILINE)
    for text in re.split(r"^## ", pages.text_of(PAGE), flags=re.MULTILINE)[1:]
}
NEEDS = {"s3fs": ("zarr", "s3fs"), "obstore": ("zarr", "obstore"), "tensorstore": ("tensorstore",), "ExZarr": ()}


@pytest.fixture
def environment(seaweed: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    """A local server with the bucket that the page names."""
    for name, value in seaweed.environment().items():
        monkeypatch.setenv(name, value)
    seaweed.create_bucket("my-bucket")
    yield
    seaweed.delete_bucket("my-bucket")


def test_every_section_has_both_programs() -> None:
    """ExZarr is a library for Elixir, so its section has only our program."""
    assert {title: len(blocks) for title, blocks in SECTIONS.items()} == {
        "From zarr-python with s3fs": 2,
        "From zarr-python with obstore": 2,
        "From tensorstore": 2,
        "From ExZarr's S3 backend": 1,
    }


@pytest.mark.integration
@pytest.mark.parametrize("title", SECTIONS)
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the other libraries leave connections open
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_the_programs_of_the_migration_page_run_one_after_the_other(title: str, environment: None) -> None:
    (needed,) = (modules for word, modules in NEEDS.items() if word in title)
    for module in needed:
        if find_spec(module) is None:
            pytest.skip(f"{module} is not installed")
    names: dict[str, Any] = {}
    for block in SECTIONS[title]:
        result = eval(compile(block, PAGE, "exec", flags=ast.PyCF_ALLOW_TOP_LEVEL_AWAIT), names)
        if inspect.isawaitable(result):
            await result
