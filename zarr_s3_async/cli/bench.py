"""`zarr-s3 bench URL`: latency and throughput of reads by requests in flight, and the best setting found."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass
from typing import Annotated

import numpy as np
import typer
from rich import box
from rich.table import Table

import zarr_s3_async as zs

from ..errors import ConfigError
from . import units
from .options import Call, Url
from .terminal import err, out, print_line

_IN_FLIGHT = (1, 2, 4, 8, 16, 32, 64, 128, 256)
_GOOD_ENOUGH = 0.9
"""The best setting is the fewest requests in flight that give this share of the best throughput."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Round:
    """One setting, measured."""

    requests_in_flight: int
    requests: int
    seconds: float
    nbytes: int
    mb_per_second: float
    median_ms: float
    p95_ms: float


async def bench(
    call: Call,
    url: Url,
    seconds: Annotated[float, typer.Option("--seconds", metavar="S", help="For each setting.", min=0.05)] = 2.0,
    max_requests: Annotated[int, typer.Option("--max-requests", metavar="N", help="In flight, at most.", min=1)] = 128,
) -> None:
    """Read stored chunks of an array with more and more requests in flight, and show which setting is best here."""
    rounds = []
    for in_flight in [n for n in _IN_FLIGHT if n < max_requests] + [max_requests]:
        with err.status(f"{units.count(in_flight, 'request')} in flight …"):
            rounds.append(await _measure(call, url, in_flight, seconds))
    fastest = max(one.mb_per_second for one in rounds)
    best = next(one for one in rounds if one.mb_per_second >= _GOOD_ENOUGH * fastest)
    fields = {"url": url, "rounds": [asdict(one) for one in rounds], "best": best.requests_in_flight}
    call.show(fields, lambda: _show(rounds, best))


async def _measure(call: Call, url: str, in_flight: int, seconds: float) -> Round:
    """Read whole stored objects in turn, by `in_flight` workers of a session with that many requests."""
    import anyio

    # A new session for each setting: connections and slots of the last one must not count.
    async with call.session(limits=zs.Limits(requests=in_flight)) as session:
        store = session.store(url)
        keys = await _stored_keys(session, url)
        took: list[float] = []
        nbytes = position = 0
        await store.get(keys[0])  # opens a connection, whose setup is not measured
        start = time.perf_counter()

        async def worker() -> None:
            nonlocal nbytes, position
            while time.perf_counter() - start < seconds:
                # In turn, so that a server's cache of one object does not decide.
                key = keys[position % len(keys)]
                position += 1
                begun = time.perf_counter()
                blob = await store.get(key)
                took.append(time.perf_counter() - begun)
                nbytes += 0 if blob is None else memoryview(blob.data).nbytes

        async with anyio.create_task_group() as group:
            for _ in range(in_flight):
                group.start_soon(worker)
        elapsed = time.perf_counter() - start
    return Round(
        requests_in_flight=in_flight,
        requests=len(took),
        seconds=elapsed,
        nbytes=nbytes,
        mb_per_second=nbytes / 1e6 / elapsed,
        median_ms=float(np.median(took)) * 1e3,
        p95_ms=float(np.percentile(took, 95)) * 1e3,
    )


async def _stored_keys(session: zs.Session, url: str) -> list[str]:
    """Keys of up to a thousand stored chunks."""
    from .nodes import is_chunk

    array = await session.open_array(url)
    keys = []
    async for entry in session.store(url).list_prefix():
        if is_chunk(entry.key, array):
            keys.append(entry.key)
            if len(keys) == 1000:  # one page of a listing
                break
    if not keys:
        raise ConfigError(f"{array.url} has no stored chunk to read: measure an array that has some")
    return keys


def _show(rounds: list[Round], best: Round) -> None:
    table = Table(box=box.SIMPLE_HEAD, pad_edge=False)
    for name in ("in flight", "requests", "MB/s", "median ms", "95 % ms"):
        table.add_column(name, justify="right")
    for one in rounds:
        numbers = (one.requests_in_flight, one.requests)
        figures = (one.mb_per_second, one.median_ms, one.p95_ms)
        table.add_row(*(f"{n:,}" for n in numbers), *(f"{f:,.1f}" for f in figures))
    out.print(table)
    print_line(f"best here: zs.Limits(requests={best.requests_in_flight})")
