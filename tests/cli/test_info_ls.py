"""`zarr-s3 info` and `zarr-s3 ls`: what they show, and how they fail."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from typer.testing import CliRunner, Result

import zarr_s3_async as zs
from zarr_s3_async.cli.app import app


def command(*arguments: str) -> Result:
    return CliRunner().invoke(app, list(arguments), env={"COLUMNS": "120"})


def words(result: Result) -> str:
    assert result.exit_code == 0, result.stderr
    return " ".join(result.stdout.split()).replace("\N{MULTIPLICATION SIGN}", "x")


def one_line(result: Result, status: int) -> str:
    assert result.exit_code == status
    assert result.stdout == ""
    (line,) = result.stderr.splitlines()
    return line


async def fill(url: str, **options: Any) -> None:
    """A group with an array of which 4 of 6 chunks are stored, a foreign folder, and a foreign object."""
    async with zs.Session(**options) as session:
        group = await session.create_group(url, attributes={"project": "demo"})
        array = await group.create_array(
            "heights", shape=(200, 300), chunks=(100, 100), dtype="int16", attributes={"units": "m"}
        )
        await array.set_slice(np.ones((200, 200), "int16"), start=(0, 0))
        store = session.store(url)
        await store.put("raw/notes.txt", b"12345")
        await store.put("readme.txt", b"1234567")


@pytest.fixture
def url(tmp_path: Path) -> str:
    asyncio.run(fill(tmp_path.as_uri()))
    return tmp_path.as_uri()


def test_info_shows_an_array_and_how_much_of_it_is_stored(url: str) -> None:
    shown = words(command("info", f"{url}/heights"))
    assert "format Zarr v3" in shown
    assert "shape 200 x 300" in shown
    assert "data type int16" in shown
    assert "chunks 100 x 100 (20.0 kB decoded)" in shown
    assert "codecs bytes" in shown
    assert "zstd" in shown
    assert "decoded size 120 kB" in shown
    assert "stored 4 of 6 chunks, " in shown
    assert "metadata 1 object, " in shown
    assert "units m" in shown


def test_info_of_a_group_lists_its_members_and_attributes(url: str) -> None:
    shown = words(command("info", url))
    assert "format Zarr v3 group" in shown
    assert "heights/ int16 200 x 300 chunks 100 x 100" in shown
    assert "project demo" in shown


def test_info_of_a_group_names_unreadable_members(url: str, tmp_path: Path) -> None:
    (tmp_path / "odd").mkdir()
    (tmp_path / "odd" / "zarr.json").write_text('{"zarr_format": 3, "node_type": "array", "shape": "none"}')
    shown = words(command("info", url))
    assert "heights/ int16 200 x 300" in shown
    assert "odd/ unreadable: " in shown


def test_ls_shows_the_kind_of_each_entry(url: str) -> None:
    shown = words(command("ls", url))
    assert "array heights/ int16 200 x 300 chunks 100 x 100" in shown
    assert "folder raw/" in shown
    assert "object readme.txt 7 B" in shown
    assert "metadata zarr.json" in shown
    assert "2 folders, 2 objects" in shown


def test_ls_of_an_array_distinguishes_chunks_from_other_objects(tmp_path: Path) -> None:
    async def fill() -> None:
        async with zs.Session() as session:
            array = await session.create_array(
                tmp_path.as_uri(), shape=(2, 60), chunks=(1, 1), dtype="i1", zarr_format=2
            )
            await array.set_slice(1, start=(0, 0), stop=(2, 60))
            await session.store(tmp_path.as_uri()).put("7.0", b"beyond the grid")

    asyncio.run(fill())
    short, whole = words(command("ls", tmp_path.as_uri())), words(command("ls", "--all", tmp_path.as_uri()))
    assert "… and 72 more" in short
    assert whole.count(" chunk ") == 120
    assert "object 7.0 15 B" in whole


def test_a_chunk_beyond_the_arrays_end_is_not_counted_as_stored(url: str) -> None:
    async def put() -> None:
        async with zs.Session() as session:
            await session.store(f"{url}/heights").put("c/9/9", b"x" * 100)

    asyncio.run(put())
    shown = words(command("info", f"{url}/heights"))
    assert "stored 4 of 6 chunks, " in shown
    assert "other 1 object, 100 B" in shown


def test_control_characters_in_names_are_not_printed(tmp_path: Path) -> None:
    async def create() -> None:
        async with zs.Session() as session:
            await session.create_array(
                tmp_path.as_uri(),
                shape=1,
                dtype="i1",
                attributes={"evil\x1b[2J": "\x1b]0;title\x07[bold]kept[/]"},
            )

    asyncio.run(create())
    result = command("info", tmp_path.as_uri())
    assert "\x1b" not in result.stdout
    assert "[bold]kept[/]" in result.stdout


# Failures: one line, and a status


def test_an_empty_prefix_is_one_line_and_status_2(tmp_path: Path) -> None:
    nowhere = (tmp_path / "nowhere").as_uri()
    for name in ("info", "ls"):
        line = one_line(command(name, nowhere), 2)
        assert line.startswith("zarr-s3: ")
        assert "nowhere" in line
        assert line.endswith("(NodeNotFound)")


@pytest.mark.parametrize("arguments", [("info", "nowhere"), ("ls", "gs://bucket/x"), ("info", "s3://x")])
def test_an_invalid_url_is_a_usage_error(arguments: tuple[str, ...]) -> None:
    assert one_line(command(*arguments), 2).endswith("(ConfigError)")


def test_an_unknown_option_is_a_usage_error() -> None:
    assert command("info", "file:///x", "--no-such-option").exit_code == 2


def test_contradictory_options_are_a_usage_error() -> None:
    line = one_line(command("ls", "s3://bucket", "--anonymous", "--profile", "somebody"), 2)
    assert "anonymous" in line


@pytest.mark.integration
def test_s3_options_reach_the_server_and_its_errors_are_reported(seaweed: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    url = f"s3://{seaweed.bucket}/cli-test"
    asyncio.run(fill(url, s3=seaweed.s3_config()))
    environment = seaweed.environment()
    for name, value in environment.items():
        if "ENDPOINT" not in name:
            monkeypatch.setenv(name, value)
    there = ("--endpoint-url", seaweed.endpoint_url, "--region", seaweed.region)

    assert "array heights/" in words(command("ls", url, *there))
    assert "stored 4 of 6 chunks" in words(command("info", f"{url}/heights", *there))
    assert "(BucketNotFound)" in one_line(command("ls", "s3://no-such-bucket-here", *there), 2)
    assert "(AccessDenied)" in one_line(command("ls", url, *there, "--anonymous"), 2)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    line = one_line(command("ls", url, *there), 2)
    assert "(AccessDenied)" in line
    assert environment["AWS_SECRET_ACCESS_KEY"] not in line
