"""`zarr-s3 view` serves the node of its URL, ends with Ctrl-C, and reports an error in one line."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import pytest

import zarr_s3_async as zs


@pytest.fixture
def url(tmp_path: Path) -> str:
    array = zs.blocking.create_array(tmp_path / "array", shape=(20, 30), chunks=(10, 10), dtype="i4")
    array[:] = np.arange(600).reshape(20, 30)
    return f"{tmp_path.as_uri()}/array"


def command(*arguments: str) -> list[str]:
    return [sys.executable, "-c", "from zarr_s3_async.cli import main; main()", "view", *arguments]


@contextmanager
def viewing(*arguments: str, environment: dict[str, str] | None = None) -> Iterator[tuple[subprocess.Popen[str], Any]]:
    """A running viewer, and the match of its printed line."""
    with subprocess.Popen(
        command(*arguments, "--json"),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env={**os.environ, **(environment or {})},
    ) as process:
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            assert line, process.stderr.read() if process.stderr else ""
            yield process, json.loads(line)
        finally:
            process.kill()


def get_from(address: str, path: str, **options: Any) -> httpx.Response:
    transport = httpx.HTTPTransport(
        retries=50
    )  # the line is printed when the viewer listens, just before it accepts connections
    with httpx.Client(transport=transport, timeout=30) as client:
        return client.get(f"{address}{path}", **options)


def test_view_serves_an_array_only_locally_and_ends_with_ctrl_c(url: str) -> None:
    with viewing(url, "--port", "0") as (process, expected_message):
        assert expected_message["url"] == url
        assert expected_message["address"].startswith("http://localhost:")
        value = get_from(expected_message["address"], "api/value?at=2,3").json()
        page = get_from(expected_message["address"], "")
        elsewhere = get_from(expected_message["address"], "api/value?at=2,3", headers={"Host": "evil.example"})
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=20)
    assert value["value"] == 63
    assert "<canvas" in page.text
    assert elsewhere.status_code == 400
    assert process.returncode == 0
    assert errors.strip().endswith("stopped")
    assert "Traceback" not in errors


@pytest.mark.integration
def test_view_takes_the_s3_options_of_every_command(s3_url: str, seaweed: Any) -> None:
    options = {"endpoint_url": seaweed.endpoint_url, "access_key_id": seaweed.access_key_id}
    group = zs.blocking.create_group(s3_url, secret_access_key=seaweed.secret_access_key, **options)
    group.create_array("array", shape=(4,), dtype="u1")[:] = 9
    environment = {name: value for name, value in seaweed.environment().items() if "ENDPOINT" not in name}
    with viewing(s3_url, "--port", "0", "--endpoint-url", seaweed.endpoint_url, environment=environment) as (
        _,
        expected_message,
    ):
        assert get_from(expected_message["address"], "api/value?path=array&at=2").json()["value"] == 9
        assert get_from(expected_message["address"], "api/nodes").json()["members"][0]["name"] == "array"


def test_a_node_that_cannot_be_shown_is_reported_in_one_line(url: str, tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = str(taken.getsockname()[1])
        cases = {
            "in use": [url, "--port", port],
            "NodeNotFound": [f"{tmp_path.as_uri()}/nothing"],
            "--cache must be": [url, "--cache", "often"],
            "cannot listen": [url, "--host", "203.0.113.7"],
        }
        for words, arguments in cases.items():
            done = subprocess.run(command(*arguments), capture_output=True, text=True, timeout=60, check=False)
            assert done.returncode == 2, arguments
            assert words in done.stderr
            assert len(done.stderr.strip().splitlines()) == 1, done.stderr
