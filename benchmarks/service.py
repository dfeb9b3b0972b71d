"""The viewer's tiles under load, compared with the same handler on zarr-python with obstore and on tensorstore.

`python -m benchmarks.service`; `--clients 50,200`, `--rounds 3`, `--requests 2000`, `--libraries ours,tensorstore` ask
for another run.

Each library serves in a process of its own, one after the other and interleaved over the rounds, from one local S3
server. A handler differs in one function alone: how the elements of a tile are read; routing, painting, PNGs and ETags
are the same code. Clients request one tile after the other without a pause; a quarter of the requests are disconnected
half-way. CPU is that of the serving process, per answered request; ratios are medians of the rounds' ratios. Missed
targets are listed at the end.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import importlib.util
import json
import os
import random
import subprocess
import sys
import time
from collections import Counter
from dataclasses import asdict, dataclass, field
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

import numpy as np

import zarr_s3_async as zs
from zarr_s3_async.testing import LocalS3

from .libraries.base import Place
from .machine import versions

if TYPE_CHECKING:
    from fastapi import FastAPI

SIZE, CHUNK = 8192, 512
TILES = 16
"""Of the plane's 32 by 32 tiles, 16 by 16 are requested: 64 chunks, 32 MiB decoded."""
HANG_UP = 0.25
LIBRARIES = ("ours", "zarr-python + obstore", "tensorstore", "ours, nothing cached", "tensorstore, cached")
BARS = (("zarr-python + obstore", 0.5), ("tensorstore", 0.8))
"""Maximum ratio of our CPU per request to theirs; for p99 it is 1."""
CPU_BAR_AGAINST: dict[str, float] = dict(BARS)


# The serving process


async def reader_of(library: str, url: str, place: Place) -> Any:
    """An async function that reads a selection of slices and integers; None for ours."""
    path = url.partition("://")[2].partition("/")[2]
    if library == "zarr-python + obstore":
        import zarr
        import zarr.api.asynchronous

        from .libraries.on_zarr import obstore_store

        store = zarr.storage.ObjectStore(obstore_store(place, path))
        array = await zarr.api.asynchronous.open_array(store=store, mode="r")
        return array.getitem
    if library.startswith("tensorstore"):
        import tensorstore

        spec: dict[str, Any] = {
            "driver": "zarr3",
            "kvstore": {
                "driver": "s3",
                "bucket": place.bucket,
                "path": path + "/",
                "endpoint": place.endpoint_url,
                "aws_region": place.region,
                "aws_credentials": {"type": "environment"},
            },
        }
        if library.endswith("cached"):  # cached chunks are never revalidated
            spec |= {"context": {"cache_pool": {"total_bytes_limit": 2**28}}, "recheck_cached_data": False}
        opened = await tensorstore.open(spec, open=True)

        async def read(key: Any) -> Any:
            return await opened[key].read()

        return read
    return None


async def application(library: str, url: str, place: Place) -> FastAPI:
    """The viewer, with elements read by the given library."""
    from zarr_s3_async.viewer import create_app, planes, sources

    options = {name: value for name, value in asdict(place).items() if name not in {"bucket", "ca_bundle"}}
    if library == "ours":
        return create_app(url, **options)
    session = zs.Session(**options)
    array = await session.open_array(url)
    source = await sources.Sources(url, None).find(session, "")

    async def find(*_: Any) -> Any:
        return source

    async def held(*_: Any) -> zs.Array:
        return array

    # Open once, as the other libraries do.
    sources.Sources.find, sources.Sources.array = find, held  # type: ignore[method-assign, assignment]
    read = await reader_of(library, url, place)
    if read is not None:

        async def elements(_: Any, plane: Any, grid: Any, *__: Any) -> Any:
            return np.asarray(await read(planes._key(plane, grid)))

        planes._elements = elements  # type: ignore[assignment]
    return create_app(url, cache_policy=None, **options)


async def serve(library: str, url: str, place: Place) -> None:
    """Serve on a free port and print the port."""
    import uvicorn

    app = await application(library, url, place)
    tasks_before = len(asyncio.all_tasks())

    @app.get("/left")
    async def left() -> dict[str, Any]:
        gc.collect()
        usage = app.state.zarr_s3_async_session.usage
        statm = Path("/proc/self/statm").read_text().split()
        return {
            "cpu": time.process_time(),
            "tasks": len(asyncio.all_tasks()) - tasks_before,
            "sockets": sum(1 for fd in Path("/proc/self/fd").iterdir() if _is_socket(fd)),
            "mib": int(statm[1]) * os.sysconf("SC_PAGE_SIZE") // 2**20,
            "held": usage.requests + usage.requests_waiting + usage.bytes + usage.bytes_waiting,
        }

    config = uvicorn.Config(app, port=0, log_level="error", access_log=False, backlog=4096, timeout_graceful_shutdown=2)
    server = uvicorn.Server(config)
    serving = asyncio.ensure_future(server.serve())
    while not server.started:
        await asyncio.sleep(0.01)
    print(server.servers[0].sockets[0].getsockname()[1], flush=True)
    await serving


def _is_socket(descriptor: Path) -> bool:
    try:
        return str(descriptor.readlink()).startswith("socket:")
    except OSError:
        return False


# The clients


@dataclass
class Round:
    """Results of one round."""

    statuses: Counter[int] = field(default_factory=Counter)
    hung_up: int = 0
    broken: int = 0
    """Connections that were closed without a response."""
    seconds: list[float] = field(default_factory=list)
    cpu: float = 0.0
    """CPU seconds of the service per answered request."""
    left: dict[str, Any] = field(default_factory=dict)

    @property
    def answered(self) -> int:
        """Number of requests that were not disconnected."""
        return sum(self.statuses.values())

    @property
    def failed(self) -> int:
        """Number of responses with status 500 and above, and of broken connections."""
        return self.broken + sum(n for status, n in self.statuses.items() if status >= 500)

    def percentile(self, share: float) -> float:
        """Quantile of the response times in milliseconds."""
        return float(np.percentile(self.seconds, share)) * 1000 if self.seconds else float("nan")


class Client:
    """A client that requests one tile after the other over one connection, and sometimes disconnects half-way."""

    def __init__(self, port: int, number: int, found: Round) -> None:
        self._port, self._round = port, found
        self._random = random.Random(number)
        self._stream: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None

    async def run(self, requests: int) -> None:
        """Send this many requests."""
        for _ in range(requests):
            try:
                await self._ask()
            except (OSError, asyncio.IncompleteReadError, IndexError, ValueError):
                self._round.broken += 1
                self.close()
        self.close()

    async def _ask(self) -> None:
        if self._stream is None:
            self._stream = await asyncio.open_connection("127.0.0.1", self._port)
        reader, writer = self._stream
        row, column = self._random.randrange(TILES), self._random.randrange(TILES)
        goes = self._random.random() < HANG_UP
        begun = time.perf_counter()
        writer.write(f"GET /api/tile/0/{row}/{column}.png?low=0&high=4000 HTTP/1.1\r\nHost: app\r\n\r\n".encode())
        if goes:
            await asyncio.sleep(self._random.uniform(0, 0.02))
            self.close()
            self._round.hung_up += 1
            return
        head = await reader.readuntil(b"\r\n\r\n")
        status = int(head[9:12])
        length = int(head.lower().split(b"content-length:")[1].split(b"\r\n")[0])
        await reader.readexactly(length)
        self._round.seconds.append(time.perf_counter() - begun)
        self._round.statuses[status] += 1

    def close(self) -> None:
        """Disconnect, with a response in transit."""
        if self._stream is not None:
            self._stream[1].transport.abort()
            self._stream = None


async def asked(port: int) -> dict[str, Any]:
    """Statistics reported by the service."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(b"GET /left HTTP/1.1\r\nHost: app\r\nConnection: close\r\n\r\n")
    body = (await reader.read()).partition(b"\r\n\r\n")[2]
    writer.close()
    found: dict[str, Any] = json.loads(body)
    return found


async def load(port: int, clients: int, requests: int) -> Round:
    """One round with this many concurrent clients and requests in total."""
    found = Round()
    before = await asked(port)
    each = max(1, requests // clients)
    await asyncio.gather(*(Client(port, number, found).run(each) for number in range(clients)))
    for _ in range(100):  # waits until abandoned requests have ended; the rest is reported below
        await asyncio.sleep(0.1)
        found.left = await asked(port)
        if found.left["held"] == 0 and found.left["tasks"] <= before["tasks"]:
            break
    found.cpu = (found.left["cpu"] - before["cpu"]) / max(1, found.answered)
    return found


def start(library: str, url: str, server: LocalS3) -> tuple[subprocess.Popen[str], int]:
    """The serving process, and its port."""
    place = place_of(server)
    job = json.dumps({"library": library, "url": url, "place": asdict(place)})
    environment = {**os.environ, **server.environment()}
    process = subprocess.Popen(
        [sys.executable, "-m", "benchmarks.service", "--serve", job], stdout=subprocess.PIPE, text=True, env=environment
    )
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        stop(process)
        raise RuntimeError(f"{library} did not start")
    return process, int(line)


def stop(process: subprocess.Popen[str]) -> None:
    """End a serving process."""
    process.terminate()
    process.wait()
    if process.stdout is not None:
        process.stdout.close()


def place_of(server: LocalS3) -> Place:
    """The server as a `Place`, for the libraries."""
    return Place(
        bucket=server.bucket,
        endpoint_url=server.endpoint_url,
        region="us-east-1",
        access_key_id=server.access_key_id,
        secret_access_key=server.secret_access_key,
    )


async def store_plane(url: str, server: LocalS3) -> None:
    """A plane of 8192 by 8192 elements of 12 bits with noise, compressed by zstd."""
    noise = np.random.default_rng(0)
    wave = (1500 + 1400 * np.sin(np.arange(SIZE) / 300)).astype("uint16")
    async with zs.Session(s3=server.s3_config()) as session:
        array = await session.create_array(
            url, shape=(SIZE, SIZE), chunks=(CHUNK, CHUNK), dtype="uint16",
            codecs=["bytes", {"name": "zstd", "configuration": {"level": 1}}],
        )  # fmt: skip
        for top in range(0, TILES * 256, CHUNK):
            rows = wave[top : top + CHUNK, None] // 2 + wave[None] // 2
            await array.set_slice(rows + noise.integers(0, 64, rows.shape).astype("uint16"), (top, 0))


async def measure(arguments: argparse.Namespace) -> list[str]:
    """Print the tables; returns the missed targets."""
    clients = [int(n) for n in arguments.clients.split(",")]
    libraries = [name for name in LIBRARIES if arguments.libraries is None or name in arguments.libraries.split(",")]
    missed: list[str] = []
    with LocalS3() as server:
        url = f"s3://{server.bucket}/service/plane"
        await store_plane(url, server)
        running = {name: start(name, url, server) for name in libraries}
        try:
            for name in libraries:  # imports, first connections, caches
                await load(running[name][1], 10, 500)
            for number in clients:
                rounds: dict[str, list[Round]] = {name: [] for name in libraries}
                for turn in range(arguments.rounds):
                    for name in libraries if turn % 2 == 0 else reversed(libraries):
                        rounds[name].append(await load(running[name][1], number, max(arguments.requests, 5 * number)))
                missed += report(number, rounds)
        finally:
            for process, _ in running.values():
                stop(process)
    return missed


def report(clients: int, rounds: dict[str, list[Round]]) -> list[str]:
    """Print the results for one number of clients; returns the missed targets."""
    n_rounds = len(next(iter(rounds.values())))
    print(f"\n{clients:,} clients, a quarter of the requests disconnected; medians of {n_rounds} rounds\n")
    print(
        "| | answered | hung up | 5xx, broken | p50 ms | p99 ms | CPU ms per request | sockets, tasks, MiB afterwards |"
    )
    print("|---|---:|---:|---:|---:|---:|---:|---|")
    for name, found in rounds.items():
        left = found[-1].left
        growth = left["mib"] - found[0].left["mib"]
        print(
            f"| {name} | {sum(t.answered for t in found):,} | {sum(t.hung_up for t in found):,} | "
            f"{sum(t.failed for t in found)} | {median(t.percentile(50) for t in found):.0f} | "
            f"{median(t.percentile(99) for t in found):.0f} | {median(t.cpu for t in found) * 1000:.2f} | "
            f"{left['sockets']}, {left['tasks']}, {left['mib']} ({growth:+} since the first round) |"
        )
    missed = []
    for name, bar in BARS:
        if name not in rounds or "ours" not in rounds:
            continue
        pairs = list(zip(rounds["ours"], rounds[name], strict=True))
        cpu = median(a.cpu / b.cpu for a, b in pairs)
        late = median(a.percentile(99) / b.percentile(99) for a, b in pairs)
        print(f"\nours / {name}: CPU {cpu:.2f} (bar {bar}), p99 {late:.2f} (bar 1)")
        missed += [f"{clients} clients: CPU {cpu:.2f} of {name}'s, bar {bar}"] if cpu > bar else []
        missed += [f"{clients} clients: p99 {late:.2f} of {name}'s, bar 1"] if late > 1 else []
    for mine in rounds.get("ours", []):
        if mine.failed or mine.left["held"]:
            missed.append(f"{clients} clients: {mine.failed} failures, {mine.left['held']} held afterwards")
    return missed


def main() -> None:
    """Serve, or measure."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--serve", help=argparse.SUPPRESS)
    parser.add_argument("--clients", default="50,200,1000")
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--requests", type=int, default=2000)
    parser.add_argument("--libraries")
    arguments = parser.parse_args()
    if arguments.serve is not None:
        job = json.loads(arguments.serve)
        asyncio.run(serve(job["library"], job["url"], Place(**job["place"])))
        return
    parsing = "httptools" if importlib.util.find_spec("httptools") else "h11"
    print(", ".join(f"{name} {version}" for name, version in versions().items()), f"uvicorn with {parsing}", sep=", ")
    missed = asyncio.run(measure(arguments))
    print("\n" + ("\n".join(["Missed bars:", *missed]) if missed else "All bars are met."))


if __name__ == "__main__":
    main()
