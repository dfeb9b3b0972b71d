"""`python -m benchmarks.loaders`: epochs of batches, compared with common ways to make them without this library.

Samples of 4 KiB in chunks of 64 KiB, 64 MiB in all, on the stand-in at 0 and 20 ms of latency. Each contender
runs in a separate process; after one epoch as warm-up, groups of four epochs are timed in turn; medians are printed.
CPU includes worker processes; requests are counted by the server. Epochs are stopped after some seconds, and rates are
of the samples received until then.

Peers run with the best settings that we know: 64 requests in flight, one read per batch, two batches ahead per worker.
They shuffle with PyTorch's sampler; the hand-written loop over tensorstore permutes chunks, and samples within eight of
them. Requires all peers, PyTorch and xbatcher.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import statistics
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass, replace
from itertools import chain, count, islice
from pathlib import Path
from typing import Any

import numpy as np

import zarr_s3_async as zs
from tests.servers.stand_in import StandIn

from .libraries.base import IN_FLIGHT, Place
from .machine import machine

SAMPLES, WIDTH, CHUNK, BATCH, WINDOW = 16_384, 1024, 16, 64, 8
EPOCHS, SECONDS = 4, 6.0
"""Epochs that are timed together, since the system counts CPU in steps of 10 ms; and the time limit of such a group."""
AHEAD = 8
"""Batches, or chunks, that the hand-written loop reads ahead."""


@dataclass(frozen=True, slots=True)
class Setting:
    """One row."""

    name: str
    shuffle: bool = False
    window: bool = False
    workers: int = 0
    latency: float = 0.0
    path: str = "group/x"
    """Path of the array in the bucket."""

    def __str__(self) -> str:
        words = ["shuffled" if self.shuffle else "plain", f"windows of {WINDOW}" if self.window else "single samples"]
        return f"{', '.join(words)}, {self.workers} workers, {self.latency * 1000:.0f} ms"


Epoch = Callable[[int], Iterator[int]]
"""Returns an iterator over the sizes of an epoch's batches."""


def session_options(place: Place) -> dict[str, Any]:
    """Options of our sessions. Keys come from the environment, so that worker processes have them."""
    return {"endpoint_url": place.endpoint_url, "region": place.region}


# Ours


def _loader(setting: Setting, place: Place, **options: Any) -> zs.BatchLoader:
    return zs.BatchLoader(
        f"s3://{place.bucket}/{setting.path}",
        batch_size=BATCH,
        window=zs.Window(WINDOW) if setting.window else None,
        shuffle="chunks" if setting.shuffle else None,
        session_options=session_options(place),
        **options,
    )


def ours(setting: Setting, place: Place) -> Epoch:
    """A plain `for` over a BatchLoader."""
    loader = _loader(setting, place)
    return lambda number: (len(batch) for batch in loader.batches(number))


def ours_global(setting: Setting, place: Place) -> Epoch:
    """The same with a true permutation."""
    loader = zs.BatchLoader(
        f"s3://{place.bucket}/{setting.path}",
        batch_size=BATCH,
        window=zs.Window(WINDOW) if setting.window else None,
        shuffle="global",
        session_options=session_options(place),
    )
    return lambda number: (len(batch) for batch in loader.batches(number))


def ours_in_16_mib(setting: Setting, place: Place) -> Epoch:
    """The same with chunks permuted in a buffer of a quarter of the array: by default half of it holds the array."""
    loader = _loader(setting, place, buffer_bytes=2**24)
    return lambda number: (len(batch) for batch in loader.batches(number))


def ours_in_torch(setting: Setting, place: Place) -> Epoch:
    """ZarrBatches in a DataLoader."""
    from zarr_s3_async.adapters.torch import ZarrBatches

    batches = ZarrBatches(_loader(setting, place, out="torch"))
    source = batches.data_loader(num_workers=setting.workers, persistent_workers=setting.workers > 0)
    return lambda _: (len(batch) for batch in source)


def bare(setting: Setting, place: Place) -> Epoch:
    """One concurrent read of the whole array, a lower bound for every loader."""
    runner = asyncio.Runner()
    session = zs.Session(**session_options(place))

    async def read() -> int:
        array = await session.open_array(f"s3://{place.bucket}/{setting.path}")
        return len(await array[...])

    def epoch(_: int) -> Iterator[int]:
        yield runner.run(read())

    return epoch


# Peers


def _zarr_array(place: Place, path: str) -> Any:
    import zarr

    from .libraries.on_zarr import obstore_store

    zarr.config.set({"async.concurrency": IN_FLIGHT})
    return zarr.open_array(store=zarr.storage.ObjectStore(obstore_store(place, path)), mode="r")


class ZarrSamples:
    """A dataset over zarr-python that DataLoader reads by batches; opened in the process that reads."""

    def __init__(self, place: Place, path: str, length: int) -> None:
        self._place, self._path = place, path
        self._length = length
        self._array: Any = None

    def __len__(self) -> int:
        return SAMPLES - self._length + 1

    def __getitems__(self, indices: list[int]) -> list[np.ndarray]:
        if self._array is None:
            self._array = _zarr_array(self._place, self._path)
        wanted = np.asarray(indices)
        rows = np.unique(wanted[:, None] + np.arange(self._length))
        if rows[-1] - rows[0] == rows.size - 1:
            data = self._array[int(rows[0]) : int(rows[-1]) + 1]
        else:
            data = self._array.oindex[rows]
        at = np.searchsorted(rows, wanted)
        return [data[i : i + self._length] if self._length > 1 else data[i] for i in at]


def torch_on_zarr(setting: Setting, place: Place) -> Epoch:
    """DataLoader over zarr-python over obstore."""
    from torch.utils.data import DataLoader

    source = DataLoader(
        ZarrSamples(place, setting.path, WINDOW if setting.window else 1),
        batch_size=BATCH,
        shuffle=setting.shuffle,
        num_workers=setting.workers,
        persistent_workers=setting.workers > 0,
        multiprocessing_context="forkserver" if setting.workers else None,  # obstore's threads do not survive a fork
    )
    return lambda _: (len(batch) for batch in source)


def xbatcher(setting: Setting, place: Place) -> Epoch:
    """A BatchGenerator over xarray over zarr-python over obstore; it has no shuffle."""
    import xarray
    import zarr
    from xbatcher import BatchGenerator

    from .libraries.on_zarr import obstore_store

    zarr.config.set({"async.concurrency": IN_FLIGHT})
    store = zarr.storage.ObjectStore(obstore_store(place, "group"))
    data = xarray.open_zarr(store, consolidated=False, chunks=None)["x"]

    def epoch(_: int) -> Iterator[int]:
        # Windows are cut from one read of a batch's rows: one item per window would be a request per window.
        overlap = {"sample": WINDOW - 1} if setting.window else {}
        rows = BATCH + overlap.get("sample", 0)
        for batch in BatchGenerator(data, {"sample": rows, "feature": WIDTH}, overlap, preload_batch=False):
            values = batch.values
            yield len(_windows(values) if setting.window else values)

    return epoch


def tensorstore_by_hand(setting: Setting, place: Place) -> Epoch:
    """Futures of reads, some ahead of the one that is used."""
    import tensorstore

    array = tensorstore.open(
        {
            "driver": "zarr3",
            "kvstore": {
                "driver": "s3",
                "bucket": place.bucket,
                "path": setting.path + "/",
                "endpoint": place.endpoint_url,
                "aws_region": place.region,
                "aws_credentials": {"type": "environment"},
            },
            # The cache holds the chunk that two batches of windows share, and not the chunks of the epoch before.
            "context": {"s3_request_concurrency": {"limit": IN_FLIGHT}, "cache_pool": {"total_bytes_limit": 2**22}},
        },
        open=True,
    ).result()
    length = WINDOW if setting.window else 1

    def epoch(number: int) -> Iterator[int]:
        yield from (_hand_shuffled if setting.shuffle else _hand_plain)(array, number, length)

    return epoch


def _hand_plain(array: Any, _: int, length: int) -> Iterator[int]:
    starts = iter(range(0, SAMPLES - length + 1, BATCH))
    futures: deque[Any] = deque()

    def ask() -> None:
        for start in starts:
            futures.append(array[start : min(start + BATCH + length - 1, SAMPLES)].read())
            return

    for _ in range(AHEAD):
        ask()
    while futures:
        values = futures.popleft().result()
        ask()
        yield len(_windows(values) if length > 1 else values)


def _hand_shuffled(array: Any, number: int, length: int) -> Iterator[int]:
    random = np.random.default_rng(number)
    chunks = iter(random.permutation(SAMPLES // CHUNK).tolist())
    futures: deque[Any] = deque()

    def ask() -> None:
        for chunk in chunks:
            futures.append(array[chunk * CHUNK : min(chunk * CHUNK + CHUNK + length - 1, SAMPLES)].read())
            return

    for _ in range(IN_FLIGHT):
        ask()
    rest = None
    while futures:
        some = [futures.popleft().result() for _ in range(min(AHEAD, len(futures)))]
        for _ in some:
            ask()
        pool = np.concatenate([_windows(one) if length > 1 else one for one in some])
        pool = pool[random.permutation(len(pool))]
        pool = pool if rest is None else np.concatenate([rest, pool])
        for at in range(0, len(pool) - BATCH + 1, BATCH):
            yield len(pool[at : at + BATCH])
        rest = pool[len(pool) // BATCH * BATCH :]
    if rest is not None and len(rest):
        yield len(rest)


def _windows(values: np.ndarray) -> np.ndarray:
    views = np.lib.stride_tricks.sliding_window_view(values, WINDOW, axis=0)
    return np.ascontiguousarray(np.moveaxis(views, -1, 1))


CONTENDERS: dict[str, Callable[[Setting, Place], Epoch]] = {
    "bare read": bare,
    "zarr_s3_async": ours,
    "zarr_s3_async, global": ours_global,
    "zarr_s3_async, 16 MiB buffer": ours_in_16_mib,
    "zarr_s3_async in DataLoader": ours_in_torch,
    "DataLoader, zarr + obstore": torch_on_zarr,
    "xbatcher": xbatcher,
    "tensorstore by hand": tensorstore_by_hand,
}


def cannot(name: str, setting: Setting) -> bool:
    """True if a contender does not support the setting of a row."""
    if name == "bare read":
        return setting.shuffle or setting.window or setting.workers > 0
    if name in ("zarr_s3_async, global", "zarr_s3_async, 16 MiB buffer"):
        return not setting.shuffle or setting.workers > 0
    if name == "xbatcher":
        return setting.shuffle or setting.workers > 0
    return setting.workers > 0 and "DataLoader" not in name


# A process


def child(order: dict[str, Any]) -> None:
    """Warm up, then run a group of epochs for every line of standard input."""
    place, setting = Place(**order["place"]), Setting(**order["setting"])
    os.environ["AWS_ACCESS_KEY_ID"] = place.access_key_id
    os.environ["AWS_SECRET_ACCESS_KEY"] = place.secret_access_key
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    epoch = CONTENDERS[setting.name](setting, place)
    numbers = count()
    _timed(epoch, numbers, 1)
    answers.write("ready\n")
    answers.flush()
    while sys.stdin.readline():
        answers.write(json.dumps(_timed(epoch, numbers, EPOCHS)) + "\n")
        answers.flush()
    os._exit(0)


def _timed(epoch: Epoch, numbers: Iterator[int], epochs: int) -> dict[str, float]:
    cpu, wall, samples = _cpu(), time.perf_counter(), 0
    for size in chain.from_iterable(epoch(number) for number in islice(numbers, epochs)):
        samples += size
        if time.perf_counter() - wall > SECONDS:
            break
    return {"samples": samples, "wall": time.perf_counter() - wall, "cpu": _cpu() - cpu}


def _cpu() -> float:
    """CPU seconds of this process and of its children, including those that still run."""
    children = [int(pid) for file in Path("/proc/self/task").glob("*/children") for pid in file.read_text().split()]
    grandchildren = [
        int(pid)
        for child in children
        for file in Path(f"/proc/{child}/task").glob("*/children")
        for pid in file.read_text().split()
    ]
    total = 0.0
    for pid in (os.getpid(), *children, *grandchildren):
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
        total += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return total


# The parent process


@dataclass
class Running:
    """A contender's process."""

    setting: Setting
    process: subprocess.Popen[str]

    def answer(self) -> str:
        """The next line of its output."""
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"{self.setting.name} failed on {self.setting}")
        return line

    def ask(self) -> dict[str, float]:
        """Run a group of epochs and return their figures."""
        assert self.process.stdin is not None
        self.process.stdin.write("go\n")
        self.process.stdin.flush()
        found: dict[str, float] = json.loads(self.answer())
        return found


def start(setting: Setting, place: Place) -> Running:
    """Start the process of a contender."""
    pipe = subprocess.PIPE
    command = [sys.executable, "-m", "benchmarks.loaders", "--child"]
    process = subprocess.Popen(
        [*command, json.dumps({"setting": asdict(setting), "place": place.to_json()})],
        stdin=pipe, stdout=pipe, stderr=None if os.environ.get("LOUD") else subprocess.DEVNULL, text=True,
    )  # fmt: skip
    return Running(setting, process)


def measure(server: StandIn, place: Place, row: Setting, names: list[str], repeats: int) -> Iterator[list[str]]:
    """The cells of each contender of a row."""
    running = [start(replace(row, name=name), place) for name in names if not cannot(name, row)]
    figures: dict[str, list[dict[str, float]]] = {}
    try:
        for one in running:
            one.answer()
        for _ in range(repeats):
            for one in running:
                before = asyncio.run(server.counters()).requests
                found = one.ask()
                found["requests"] = asyncio.run(server.counters()).requests - before
                figures.setdefault(one.setting.name, []).append(found)
    finally:
        for one in running:
            one.process.kill()
            one.process.wait()
    for name, many in figures.items():
        rate = statistics.median(one["samples"] / one["wall"] for one in many)
        cpu = statistics.median(one["cpu"] / one["samples"] for one in many)
        requests = statistics.median(one["requests"] / one["samples"] for one in many) * SAMPLES
        yield [str(row), name, f"{rate:,.0f}", f"{1e6 * cpu:,.1f}", f"{requests:,.0f}"]


async def store(place: Place) -> None:
    """The samples: each row starts with its number."""
    async with zs.Session(
        access_key_id=place.access_key_id, secret_access_key=place.secret_access_key, **session_options(place)
    ) as session:
        group = await session.create_group(f"s3://{place.bucket}/group")
        array = await group.create_array(
            "x", shape=(SAMPLES, WIDTH), chunks=(CHUNK, WIDTH), dtype="float32", compressor=None,
            dimension_names=("sample", "feature"),
        )  # fmt: skip
        values = np.random.default_rng(0).random((SAMPLES, WIDTH), "f4")
        await array[...].set(values)


def rows() -> list[Setting]:
    """All settings to measure."""
    return [
        Setting("", shuffle, window, workers, latency)
        for workers in (0, 2)
        for latency in (0.0, 0.02)
        for shuffle in (False, True)
        for window in (False, True)
    ]


def main() -> None:
    """Print a table as Markdown."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.loaders")
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", default="", help="contenders whose name contains this")
    parser.add_argument("--row", default="", help="rows whose name contains this")
    arguments = parser.parse_args()
    names = [name for name in CONTENDERS if arguments.only in name]
    with StandIn() as server:
        place = Place(
            endpoint_url=server.endpoint_url,
            bucket=server.bucket,
            region=server.region,
            access_key_id=server.access_key_id,
            secret_access_key=server.secret_access_key,
        )
        asyncio.run(store(place))
        sys.stdout.write(f"{json.dumps(machine())}\n\n| row | | samples/s | CPU µs per sample | requests per epoch |\n")
        sys.stdout.write("|---|---|---:|---:|---:|\n")
        for row in rows():
            if arguments.row in str(row):
                asyncio.run(server.change(latency=row.latency))
                for cells in measure(server, place, row, names, arguments.repeats):
                    sys.stdout.write(f"| {' | '.join(cells)} |\n")
                    sys.stdout.flush()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--child"]:
        child(json.loads(sys.argv[2]))
    else:
        main()
