"""`zarr-s3 verify`: its output and its exit status."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async.cli.verify import Ticker

from .test_info_ls import command, fill, one_line, words


@pytest.fixture
def url(tmp_path: Path) -> str:
    """A group with an array of which 4 of 6 chunks are stored, and two foreign objects."""
    asyncio.run(fill(tmp_path.as_uri()))
    return tmp_path.as_uri()


def put(url: str, key: str, data: bytes, **options: Any) -> None:
    async def put() -> None:
        async with zs.Session(**options) as session:
            await session.store(url).put(key, data)

    asyncio.run(put())


def test_an_intact_hierarchy_is_status_0_and_one_line_per_node(url: str) -> None:
    result = command("verify", f"{url}/heights")
    assert "/: array, v3, 4 of 6 chunks stored and well, " in words(result)
    assert "all well; 5 objects of" in words(result)
    assert result.stderr == ""


def test_findings_are_status_1_and_listed(url: str) -> None:
    put(url, "heights/c/0/1", b"rubbish")
    result = command("verify", url)
    assert result.exit_code == 1
    assert result.stderr == ""
    shown = result.stdout
    assert "corrupt    'heights/c/0/1', chunk (0, 1): codec 'zstd' cannot decode" in shown
    assert "foreign    'raw/notes.txt'" in shown
    assert "foreign    'readme.txt'" in shown
    assert "missing" not in shown
    assert shown.splitlines()[-1].startswith(f"{url}: 3 findings; ")


def test_strict_reports_missing_chunks(url: str) -> None:
    result = command("verify", "--strict", f"{url}/heights")
    assert result.exit_code == 1
    assert "missing    'c/0/2', chunk (0, 2): " in result.stdout
    assert "2 findings; " in result.stdout


def test_json_output_is_only_the_report(url: str) -> None:
    put(url, "heights/c/0/1", b"")
    result = command("verify", "--json", "--max-findings", "1", url)
    assert result.exit_code == 1
    report = json.loads(result.stdout)
    assert report["url"] == url
    assert report["counts"]["corrupt"] == 1
    assert report["counts"]["foreign"] == 2
    assert [len(node["findings"]) for node in report["nodes"]] == [1, 2]  # one of each kind
    assert result.stdout.isascii()


def test_lines_are_not_wrapped_and_not_coloured_by_their_content(url: str) -> None:
    put(url, "heights/c/[red]" + "x" * 200, b"")
    result = command("verify", url)
    assert f"'heights/c/[red]{'x' * 200}'" in result.stdout


@pytest.mark.parametrize(
    ("place", "kind"),
    [
        (lambda url: url + "/nowhere", "NodeNotFound"),
        (lambda url: url + "/raw", "NodeNotFound"),
        (lambda url: "nowhere", "ConfigError"),
        (lambda url: "memory://empty", "NodeNotFound"),
    ],
)
def test_a_failed_verify_is_one_line_and_status_2(url: str, place: Callable[[str], str], kind: str) -> None:
    assert one_line(command("verify", place(url)), 2).endswith(f"({kind})")
    assert one_line(command("verify", "--json", place(url)), 2).endswith(f"({kind})")


def test_usage_errors_are_status_2(url: str) -> None:
    for arguments in (["verify"], ["verify", url, "--no-such-option"], ["verify", url, "--max-findings", "-1"]):
        assert command(*arguments).exit_code == 2


def test_the_ticker_shows_the_progress() -> None:
    ticker = Ticker()
    ticker(zs.VerifyProgress(listed=2000, objects=1234, nbytes=5_000_000, findings=1))
    assert ticker.__rich__().plain == "verifying: 1,234 objects, 5.00 MB read, 2,000 listed, 1 finding …"


@pytest.mark.integration
def test_verify_works_on_an_s3_server(seaweed: Any, s3_url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asyncio.run(fill(s3_url, s3=seaweed.s3_config()))
    for name, value in seaweed.environment().items():
        if "ENDPOINT" not in name:
            monkeypatch.setenv(name, value)
    there = ("--endpoint-url", seaweed.endpoint_url, "--region", seaweed.region)

    assert "all well; 5 objects" in words(command("verify", f"{s3_url}/heights", *there))
    # What SeaweedFS leaves of an object if its replacement is interrupted.
    put(s3_url, "heights/c/1/1", b"", s3=seaweed.s3_config())
    result = command("verify", "--json", s3_url, *there)
    assert result.exit_code == 1
    (group, array) = json.loads(result.stdout)["nodes"]
    assert group["counts"] == {"foreign": 2}
    (finding,) = array["findings"][:1]
    assert (finding["kind"], finding["key"], finding["chunk"]) == ("corrupt", "heights/c/1/1", [1, 1])
    assert array["chunks"] == 3

    assert "(BucketNotFound)" in one_line(command("verify", "s3://no-such-bucket-here", *there), 2)
    assert "(AccessDenied)" in one_line(command("verify", s3_url, *there, "--anonymous"), 2)
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wrong")
    assert "(AccessDenied)" in one_line(command("verify", s3_url, *there), 2)


@pytest.mark.integration
@pytest.mark.parametrize("options", [{}, {"zarr_format": 2}, {"chunks": (5, 5), "shards": (10, 10)}], ids=str)
async def test_verify_accepts_every_layout_on_an_s3_server(seaweed: Any, s3_url: str, options: Any) -> None:
    async with zs.Session(s3=seaweed.s3_config()) as session:
        group = await session.create_group(s3_url, zarr_format=options.get("zarr_format", 3))
        array = await group.create_array("a", **{"shape": (95, 45), "chunks": (10, 10), "dtype": "f4", **options})
        await array.set_slice(np.ones((95, 45)), (0, 0))
        await array.set_slice(
            np.zeros((3, 3)), (4, 4)
        )  # a merge, for which the session probes the server's conditional writes
        await group.consolidate()
        report = await group.verify(strict=True)
        assert report.ok, str(report)
        assert report.findings == ()  # no probe object was left
        assert report.nodes[1].chunks == array.nchunks
