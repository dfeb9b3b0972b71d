"""`zarr-s3 view URL`: the viewer on this machine, in a browser, until Ctrl-C."""

from __future__ import annotations

import errno
import signal
import socket
import webbrowser
from collections.abc import Generator
from contextlib import contextmanager
from ipaddress import ip_address
from typing import Annotated, Any

import anyio
import typer

from ..errors import ConfigError
from .options import Call, Url
from .terminal import err, fail, out, print_line

_PORT = 8765
_LOOPBACK = ["127.0.0.1", "localhost", "[::1]"]


async def view(
    call: Call,
    url: Url,
    port: Annotated[
        int | None, typer.Option(metavar="N", help=f"Default: {_PORT}, or a free one.", min=0, max=65535)
    ] = None,
    host: Annotated[str, typer.Option(metavar="ADDRESS", help="Address to listen on.")] = "127.0.0.1",
    no_browser: Annotated[bool, typer.Option("--no-browser", help="Print the address, and open no browser.")] = False,
    cache: Annotated[
        str, typer.Option(metavar="SECONDS", help="Maximum age of a tile; or immutable, or revalidate.")
    ] = "10",
    max_tile_mib: Annotated[
        int, typer.Option("--max-tile-mib", metavar="N", help="Maximum decoded MiB that one tile may read.", min=1)
    ] = 64,
) -> None:
    """Show an array, or the arrays of a group, in the browser: pan, zoom, choose axes and colours."""
    try:
        import uvicorn

        from ..viewer import create_app
    except ImportError as error:
        fail(f"{error.name or 'a package'} is not installed: pip install 'zarr-s3-async[view]'")

    class Server(uvicorn.Server):
        @contextmanager
        def capture_signals(self) -> Generator[None]:
            yield  # this command handles Ctrl-C itself, and shuts the server down

    local = _is_loopback(host)
    app = create_app(
        url,
        cache_policy=_policy(cache),
        max_tile_bytes=max_tile_mib * 2**20,
        details=local,
        # Against DNS rebinding: a web page must not reach the viewer by a name that it resolves to 127.0.0.1.
        hosts=_LOOPBACK if local else None,
        **call.reach,
    )
    with err.status("opening …"):
        async with call.session() as session:
            node = await session.open(url)  # reports a wrong URL here rather than in the browser
    listening = _listen(host, port)
    with listening:
        name = "localhost" if host == "127.0.0.1" else f"[{host}]" if ":" in host else host
        address = f"http://{name}:{listening.getsockname()[1]}/"
        server = Server(uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=1))

        def show() -> None:
            out.print("[bold]viewer[/]  ", end="")
            print_line(address, "bold cyan")
            print_line(f"shows   {node.url}")
            if not local:
                err.print("[yellow]Anyone who can reach this address can read everything your credentials can.[/]")
            out.print("[dim]Ctrl-C stops it.[/]")

        async with anyio.create_task_group() as group:
            with anyio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
                group.start_soon(server.serve, [listening])
                call.show({"url": node.url, "address": address}, show)
                if not no_browser and not call.as_json:
                    group.start_soon(_open_browser, address)
                async for _ in signals:
                    break
                # Browsers keep connections open, which a graceful shutdown would wait for.
                group.cancel_scope.deadline = anyio.current_time() + 3
                server.should_exit = True
    err.print("stopped")


async def _open_browser(address: str) -> None:
    # The thread is abandoned on cancellation: a browser in the terminal runs until the user closes it.
    await anyio.to_thread.run_sync(webbrowser.open, address, abandon_on_cancel=True)


def _listen(host: str, port: int | None) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    for choice in (_PORT, 0) if port is None else (port,):
        try:
            return socket.create_server((host, choice), family=family)
        except OSError as error:
            # Only the default port may be replaced; a port that the user chose must not silently be another one.
            if error.errno == errno.EADDRINUSE and port is None:
                continue
            if error.errno == errno.EADDRINUSE:
                raise ConfigError(
                    f"port {port} of {host} is in use: choose another one with --port, or omit --port"
                ) from error
            raise ConfigError(f"cannot listen at {host}, port {choice}: {error.strerror or error}") from error
    raise ConfigError(f"no port of {host} is free")


def _is_loopback(host: str) -> bool:
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def _policy(text: str) -> Any:
    if text in {"immutable", "revalidate"}:
        return text
    try:
        return float(text)
    except ValueError:
        raise ConfigError(f"--cache must be immutable, revalidate or a number of seconds, not {text!r}") from None
