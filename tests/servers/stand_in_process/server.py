"""The process of the S3 stand-in. `StandIn` starts it; it ends when its standard input is closed."""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
from functools import partial

from .connection import Connection
from .service import Service, Settings

_BACKLOG = 2048


async def serve(settings: Settings, buckets: tuple[str, ...], port: int) -> None:
    """Serve until standard input ends; the first line of standard output is the port."""
    loop = asyncio.get_running_loop()
    ended = asyncio.Event()
    service = Service(settings, buckets)
    listener = await loop.create_server(partial(Connection, service), "127.0.0.1", port, backlog=_BACKLOG)
    sys.stdout.write(f"{listener.sockets[0].getsockname()[1]}\n")
    sys.stdout.flush()
    loop.add_reader(sys.stdin.fileno(), ended.set)
    await ended.wait()
    loop.remove_reader(sys.stdin.fileno())
    listener.close()


def main() -> None:
    """The command line."""
    parser = argparse.ArgumentParser(description="An S3 stand-in for tests and benchmarks. Not a store.")
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--settings", default="{}", help="JSON: latency, bandwidth, rate")
    parser.add_argument("--bucket", action="append", default=[])
    options = parser.parse_args()
    work = serve(Settings(**json.loads(options.settings)), tuple(options.bucket), options.port)
    try:
        import uvloop
    except ImportError:
        asyncio.run(work)
    else:
        uvloop.run(work)


if __name__ == "__main__":
    main()
