"""How clients scale with the number of cores: `python -m benchmarks.scaling [--cores 1,2] [--libraries ours,zarrista]`.

Server processes send chunks of 4 MiB from memory. The client process is pinned to the number of cores of a row, and the
servers to the other cores if there are any. Each figure is the median of several reads of the whole array: decoded GB
per second of wall time, and seconds of the client's CPU per GB. zstd chunks compress to half their size.

If the client uses all cores, its wall times include those of the servers on the same machine.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from random import Random
from statistics import median
from typing import Any

import zarr_s3_async as zs

from .driver import _environment
from .libraries import CONTENDERS, OURS
from .libraries.base import IN_FLIGHT, Place
from .memory_server import MemoryServers, Stored
from .workload import Dataset, Workload

LIBRARIES = (OURS, f"{OURS} + uvloop", "zarrista", "tensorstore")
_PATH = "scaling"
_PINNED = """
import os, runpy, sys
os.sched_setaffinity(0, set(map(int, sys.argv.pop().split(","))))
runpy.run_module("benchmarks.child", run_name="__main__")
"""


async def stored(data: Dataset) -> Stored:
    """The array's metadata document, and the one chunk that is served for every key."""
    async with zs.Session() as session:
        store = zs.MemoryStore()
        compressor = None if data.codec == "raw" else {"name": "zstd", "configuration": {"level": 1, "checksum": False}}
        array = await session.create_array(
            store, shape=data.shape, chunks=data.chunk, dtype="<f4", fill_value=0, compressor=compressor
        )
        rows, columns = data.chunk_region(0, 0)
        await array.set_slice(data.values((rows, columns)), (rows.start, columns.start), (rows.stop, columns.stop))
        document, chunk = await store.get("zarr.json"), await store.get("c/0/0")
    assert document is not None
    assert chunk is not None
    return Stored({"zarr.json": bytes(document.data)}, bytes(chunk.data))


class Pinned:
    """A client process on some cores."""

    def __init__(self, library: str, workload: Workload, place: Place, cores: set[int]) -> None:
        order = {
            "library": library,
            "in_flight": None if library.startswith(OURS) else IN_FLIGHT,
            "workload": workload.to_json(),
            "place": place.to_json(),
            "path": _PATH,
        }
        self._process = subprocess.Popen(
            [sys.executable, "-c", _PINNED, ",".join(map(str, cores))],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=None if os.environ.get("BENCH_VERBOSE") else subprocess.DEVNULL,
            env=_environment(place.to_json()),
            text=True,
        )
        self.failure: str | None = None
        self.ask(json.dumps(order))

    def ask(self, line: str = "") -> dict[str, Any]:
        """The answer to a line."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(line + "\n")
        self._process.stdin.flush()
        said = self._process.stdout.readline()
        answer: dict[str, Any] = json.loads(said) if said else {"failed": "the process died"}
        self.failure = answer.get("failed") or answer.get("cannot")
        return answer

    def end(self) -> None:
        self._process.kill()
        self._process.wait()


def measure(codec: Any, tls: bool, cores: int, libraries: tuple[str, ...], rounds: int) -> Iterator[list[str]]:
    """A line per library."""
    data = Dataset(chunk=(1024, 1024), grid=(6, 6), codec=codec, uniform=True)
    workload = Workload(name=f"{codec}, {cores} cores", group="Scaling", action="read", dataset=data)
    available = sorted(os.sched_getaffinity(0))
    mine, others = set(available[:cores]), set(available[cores:]) or set(available)
    with tempfile.TemporaryDirectory() as folder:
        certificate = None
        if tls:
            from zarr_s3_async.testing._certificate import make_certificate

            certificate = make_certificate(Path(folder))
        pair = None if certificate is None else (certificate.chain, certificate.key)
        os.sched_setaffinity(0, others)  # inherited by the servers
        try:
            servers = MemoryServers(asyncio.run(stored(data)), processes=max(1, len(others)), tls=pair).__enter__()
        finally:
            os.sched_setaffinity(0, available)
        place = Place(
            endpoint_url=f"{'https' if tls else 'http'}://localhost:{servers.port}",
            bucket="memory",
            region="us-east-1",
            access_key_id="key",
            secret_access_key="secret",
            ca_bundle=None if certificate is None else str(certificate.authority),
        )
        clients = {name: Pinned(name, workload, place, mine) for name in libraries}
        try:
            found: dict[str, list[dict[str, Any]]] = {name: [] for name in libraries}
            for number in range(rounds):
                # Shuffled, since the preceding client affects the caches and free pages.
                for name in Random(number).sample(libraries, len(libraries)):
                    client = clients[name]
                    if client.failure is None:
                        found[name].append(client.ask())
        finally:
            for client in clients.values():
                client.end()
            servers.__exit__()
    size = workload.nbytes() / 1e9
    for name, many in found.items():
        cells = [f"{codec}, {'TLS' if tls else 'http'}, {cores}", name]
        if clients[name].failure is not None or not many:
            yield [*cells, (clients[name].failure or "no answer").strip().splitlines()[-1][:60], ""]
            continue
        wall, cpu = median(one["wall"] for one in many), median(one["cpu"] for one in many)
        yield [*cells, f"{size / wall:.2f}", f"{cpu / size:.2f}"]


def main() -> None:
    """Print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.scaling", description=__doc__.partition("\n")[0])
    cores = len(os.sched_getaffinity(0))
    parser.add_argument("--cores", default=",".join(str(n) for n in (1, 2, 4, 8, 16) if n <= cores))
    parser.add_argument("--libraries", default=",".join(LIBRARIES))
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    libraries = tuple(name for name in options.libraries.split(",") if CONTENDERS[name].missing() is None)
    print("| chunks of 4 MiB, client cores | | GB/s | CPU s/GB |\n|---|---|---:|---:|")
    for tls in (False, True):
        for codec in ("raw", "zstd"):
            for number in map(int, options.cores.split(",")):
                for cells in measure(codec, tls, number, libraries, options.rounds):
                    print(f"| {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
