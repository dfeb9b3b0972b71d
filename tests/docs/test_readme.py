"""The statements of the README besides its programs (test_pages.py): keys, policy, commands, errors."""

from __future__ import annotations

import builtins
import json
import re
from collections.abc import Iterator
from typing import Any

import pytest

import zarr_s3_async as zs

from . import pages

README = pages.text_of("README.md")


def blocks(language: str) -> list[str]:
    return pages.blocks("README.md", language)


@pytest.fixture(scope="module")
def server(seaweed: Any) -> Iterator[Any]:
    """A local server with the bucket that the README names."""
    seaweed.create_bucket("my-bucket")
    yield seaweed
    seaweed.delete_bucket("my-bucket")


@pytest.mark.integration
async def test_the_stored_keys_are_those_of_the_table(server: Any) -> None:
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


def test_the_readme_has_exactly_two_set_up_commands() -> None:
    lines = [line for line in "\n".join(blocks("sh")).splitlines() if "venv" in line]
    assert lines == [
        "python3 -m venv .venv && .venv/bin/pip install '.[demo]' && .venv/bin/zarr-s3 demo",
        "python3 -m venv .venv && .venv/bin/pip install '.[test]' && .venv/bin/pytest",
    ]


def test_the_errors_in_the_readme_exist_and_have_the_stated_base_classes() -> None:
    table = README.partition("\n## Errors\n")[2].partition("\n## ")[0]
    named = {name for name in re.findall(r"`(\w+)`", table) if isinstance(getattr(zs, name, None), type)}
    errors = {name for name in named if issubclass(getattr(zs, name), zs.ZarrS3Error)}
    assert len(errors) >= 20
    for row in re.findall(r"^\| (`.*?) \| (.*?) \|", table, re.MULTILINE):
        kinds, built_in = (re.findall(r"`(\w+)`", cell) for cell in row)
        for name in built_in:
            assert any(issubclass(getattr(zs, kind), getattr(builtins, name)) for kind in kinds), (kinds, name)
