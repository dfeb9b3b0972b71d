"""`zarr-s3 serve` and `zarr-s3 demo` as a user runs them: processes of their own."""

from __future__ import annotations

import asyncio
import os
import re
import signal
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import numpy as np
import pytest

import zarr_s3_async as zs

ZARR_S3 = [sys.executable, "-c", "from zarr_s3_async.cli import main; main()"]
ROOT = Path(__file__).parents[2]
pytestmark = pytest.mark.integration


def clean_environment() -> dict[str, str]:
    """The environment of this process without variables that configure S3."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("AWS_")}
    return kept | {"PYTHONPATH": str(ROOT), "COLUMNS": "140", "PYTHONUNBUFFERED": "1"}


@asynccontextmanager
async def serving(*arguments: str, folder: Path) -> AsyncIterator[tuple[asyncio.subprocess.Process, dict[str, str]]]:
    """A running `zarr-s3 serve`, and the variables that it prints for export."""
    process = await asyncio.create_subprocess_exec(
        *ZARR_S3, "serve", *arguments, cwd=folder, env=clean_environment(), stdout=subprocess.PIPE
    )
    assert process.stdout is not None
    try:
        exported: dict[str, str] = {}
        async with asyncio.timeout(40):
            while not (line := (await process.stdout.readline()).decode()).startswith("Ctrl-C"):
                assert line, "the server ended before it printed its address"
                if match := re.fullmatch(r"export (\w+)=(.*)\n", line):
                    exported[match[1]] = match[2]
        yield process, exported
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def stop(process: asyncio.subprocess.Process, how: signal.Signals) -> int:
    process.send_signal(how)
    return await asyncio.wait_for(process.wait(), 30)


def listens(endpoint: str) -> bool:
    import socket

    host, port = endpoint.removeprefix("http://").split(":")
    with socket.socket() as probe:
        return probe.connect_ex((host, int(port))) == 0


@pytest.mark.parametrize("how", [signal.SIGINT, signal.SIGTERM])
async def test_serve_prints_how_to_reach_it_and_stops_cleanly(
    how: signal.Signals, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving("--bucket", "a-bucket", folder=tmp_path) as (process, exported):
        for name, value in exported.items():
            monkeypatch.setenv(name, value)
        async with zs.Session() as session:
            array = await session.create_array("s3://a-bucket/x", shape=4, chunks=2, dtype="i4")
            await array.set_slice([1, 2, 3, 4], start=0)
            assert (await array.get_slice(0, 4)).tolist() == [1, 2, 3, 4]
        assert listens(exported["AWS_ENDPOINT_URL"])
        assert await stop(process, how) == 0
        assert not listens(exported["AWS_ENDPOINT_URL"])


async def test_serve_can_serve_the_data_of_the_demo(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    demo = [*ZARR_S3, "demo", "--size", "2", "--keep", "--folder", "kept"]
    done = await asyncio.to_thread(
        subprocess.run,
        demo,
        cwd=tmp_path,
        env=clean_environment(),
        capture_output=True,
        text=True,
        timeout=100,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("equal") == 3
    assert "differs" not in done.stdout
    assert "48 regions" in done.stdout
    assert (tmp_path / "zarr-s3-demo.png").read_bytes().startswith(b"\x89PNG")

    again = re.search(r"zarr-s3 (serve .*)", done.stdout)
    assert again is not None
    async with serving(*again[1].split()[1:], folder=tmp_path) as (process, exported):
        for name, value in exported.items():
            monkeypatch.setenv(name, value)
        url = re.search(r"zarr-s3 info (s3://\S+)", done.stdout)
        assert url is not None
        async with zs.open_array(url[1]) as array:
            heights = await array.get_slice((0, 0), array.shape)
        assert (heights.min(), heights.max(), heights.dtype) == (236, 1076, np.int16)
        assert await stop(process, signal.SIGINT) == 0


async def test_a_kept_server_has_the_same_port_keys_and_data_after_a_restart(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    arguments = ("--keep", str(tmp_path / "data"), "--env-file", str(tmp_path / "env"))
    async with serving(*arguments, folder=tmp_path) as (process, first):
        for name, value in first.items():
            monkeypatch.setenv(name, value)
        async with zs.Session() as session:
            array = await session.create_array("s3://zarr-s3/x", shape=4, chunks=2, dtype="i4")
            await array.set_slice(7, start=0, stop=4)
        assert await stop(process, signal.SIGINT) == 0
    written = dict(re.findall(r"export (\w+)=(.*)", (tmp_path / "env").read_text()))
    assert written == first
    assert (tmp_path / "env").stat().st_mode & 0o077 == 0
    async with serving(*arguments, folder=tmp_path) as (process, second):
        assert second == first
        async with zs.Session() as session:
            array = await session.open_array("s3://zarr-s3/x")
            assert (await array.get_slice(start=0, stop=4)).tolist() == [7] * 4
        assert await stop(process, signal.SIGTERM) == 0


async def test_serve_uses_the_requested_port_and_keys(tmp_path: Path) -> None:
    from zarr_s3_async.testing._ports import free_ports

    (port,) = free_ports(1)
    keys = ("--access-key", "my-own-key", "--secret-key", "my-own-secret")
    async with serving("--port", str(port), *keys, folder=tmp_path) as (process, exported):
        assert exported["AWS_ENDPOINT_URL"] == f"http://127.0.0.1:{port}"
        assert (exported["AWS_ACCESS_KEY_ID"], exported["AWS_SECRET_ACCESS_KEY"]) == ("my-own-key", "my-own-secret")
        taken = await asyncio.create_subprocess_exec(
            *ZARR_S3, "serve", "--port", str(port), cwd=tmp_path, env=clean_environment(), stderr=subprocess.PIPE
        )
        _, errors_printed = await asyncio.wait_for(taken.communicate(), 60)
        assert taken.returncode == 2
        assert f"port {port} on 127.0.0.1 is in use" in errors_printed.decode()
        assert await stop(process, signal.SIGINT) == 0
