"""Workloads and their contenders: the quick and the full matrix."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any, Literal, TypeAlias

from .libraries import NULL, OURS
from .libraries.base import IN_FLIGHT
from .workload import Dataset, Workload

Codec: TypeAlias = Literal["raw", "zstd", "blosc"]

PEERS = ("zarrista", "tensorstore", "zarr + obstore", "zarr + zarrs", "zarr + s3fs", "icechunk")
BARE = ("bare wire", "bare obstore", "bare aiobotocore")
SIZES = {"16 KiB": 64, "256 KiB": 256, "4 MiB": 1024}
"""Edge of a square float32 chunk."""
BROAD_GRIDS = {"16 KiB": (32, 32), "256 KiB": (12, 12), "4 MiB": (4, 4)}
SMALL_GRIDS = {"16 KiB": (16, 32), "256 KiB": (8, 8), "4 MiB": (3, 3)}
MIXED: tuple[tuple[str, Codec], ...] = (("16 KiB", "raw"), ("256 KiB", "zstd"))
"""For rows of which one with small raw chunks and one with compressed chunks suffice."""
READ_OVER_HTTP, READ_OVER_TLS, WRITE = "Full read, http", "Full read, TLS", "Write"
PARTS, SHARDS, FAR, COUNT, WIDTH = "Parts", "Shards", "Far server", "Number of chunks", "Requests in flight"
ADAPTERS, LOADER, COPIES, COLD = "Adapters", "Loader", "Copies", "Cold start"


@dataclass(frozen=True, slots=True)
class Entry:
    """A contender in a setting."""

    library: str
    in_flight: int | None = None
    """None: its defaults."""

    @property
    def label(self) -> str:
        """For tables."""
        return self.library if self.in_flight is None else f"{self.library}, {self.in_flight} in flight"


@dataclass(frozen=True, slots=True)
class Row:
    """A workload and its contenders."""

    workload: Workload
    entries: tuple[Entry, ...]


def _defaults(names: Iterable[str]) -> tuple[Entry, ...]:
    return tuple(Entry(name) for name in names)


def _tuned(names: Iterable[str]) -> tuple[Entry, ...]:
    return tuple(Entry(name, IN_FLIGHT) for name in names)


OURSELVES = (OURS, f"{OURS} + uvloop", f"{OURS}, sdk")
OURS_TWICE = (OURS, NULL)
"""The difference between the two is the noise."""
EVERYONE = _defaults((*OURS_TWICE, *OURSELVES[1:])) + _defaults(PEERS) + _tuned(PEERS) + _defaults(BARE)
_FAST = tuple(peer for peer in PEERS if peer != "zarr + s3fs")
"""s3fs takes ten times as long as any other, so it runs only in the rows of raw chunks."""
COMPETITORS = _defaults((*OURS_TWICE, *_FAST)) + _tuned(_FAST)
_PATIENT = ("zarr + zarrs",)
"""It takes half a minute for a thousand chunks at 20 ms, so it runs once."""
DISTANT = tuple(e for e in COMPETITORS if e.library not in _PATIENT)
STREAMING = _defaults((*OURS_TWICE, "zarrista", "tensorstore", "zarr + obstore"))
FEW = _defaults((*OURS_TWICE, *_FAST)) + _tuned(("tensorstore", "zarr + obstore")) + _defaults(BARE[:2])


def quick() -> list[Row]:
    """The matrix of a run of two or three minutes."""
    reads: tuple[tuple[str, Codec], ...] = (
        ("16 KiB", "raw"),
        ("256 KiB", "raw"),
        ("256 KiB", "zstd"),
        ("4 MiB", "raw"),
    )
    rows = [Row(_read(size, codec, SMALL_GRIDS[size]), FEW) for size, codec in reads]
    rows.append(Row(_write("16 KiB", "raw"), FEW))
    rows.append(Row(_far("read", 20), tuple(e for e in FEW if e.library not in _PATIENT)))
    rows += [Row(_count(side, read=False), _defaults((OURS,))) for side in (10, 100, 1000)]
    return rows


def full() -> list[Row]:
    """Everything."""
    return [
        *_reads(),
        *_writes(),
        *_parts(),
        *_shards(),
        *_latencies(),
        *_counts(),
        *_widths(),
        *_adapters(),
        *_loaders(),
        *_copies(),
        *_cold(),
    ]


def smoke() -> list[Row]:
    """The smallest matrix that uses the whole harness, for its test."""
    data = Dataset(chunk=(16, 16), grid=(4, 4))
    read = Workload(name="smoke", group=READ_OVER_HTTP, action="read", dataset=data, server="stand-in")
    return [Row(read, _defaults((OURS, "tensorstore", "zarr + obstore", *BARE)))]


def _reads() -> Iterator[Row]:
    codecs: tuple[Codec, ...] = ("raw", "zstd", "blosc")
    for size in SIZES:
        for codec in codecs:
            yield Row(_read(size, codec, BROAD_GRIDS[size]), EVERYONE if codec == "raw" else COMPETITORS)
    for size, codec in MIXED:
        yield Row(_read(size, codec, BROAD_GRIDS[size], zarr_format=2), COMPETITORS)
    yield Row(_read("4 MiB", "raw", (16, 1), name="slab"), COMPETITORS)
    for size in SIZES:
        yield Row(_read(size, "raw", SMALL_GRIDS[size], server="seaweedfs-tls"), COMPETITORS + _defaults(BARE))


def _writes() -> Iterator[Row]:
    for size in SIZES:
        yield Row(_write(size, "raw"), COMPETITORS + _defaults(BARE))
    for size in ("16 KiB", "256 KiB"):
        yield Row(_write(size, "zstd"), COMPETITORS)
    for size in ("16 KiB", "256 KiB"):
        yield Row(
            _work(f"partial write, {size}", WRITE, "partial", _data(size, "zstd", SMALL_GRIDS[size])), COMPETITORS
        )


def _parts() -> Iterator[Row]:
    for size in SIZES:
        yield Row(
            _work(f"one chunk at a time, {size}", PARTS, "chunks", _data(size, "raw", BROAD_GRIDS[size])), COMPETITORS
        )
    for size, codec in MIXED:
        data = _data(size, codec, BROAD_GRIDS[size])
        yield Row(_work(f"random slices, {size} {codec}", PARTS, "slices", data), COMPETITORS)
        handlers = _work(f"100 handlers, {size} {codec}", PARTS, "handlers", data)
        yield Row(handlers, COMPETITORS + _defaults((f"{OURS} + chunk cache",)))


def _shards() -> Iterator[Row]:
    data = Dataset(chunk=(64, 64), grid=(32, 32), codec="zstd", shard=(16, 16))
    yield Row(_work("full read, 4 shards of 256 chunks", SHARDS, "read", data), COMPETITORS)
    yield Row(_work("random inner chunks", SHARDS, "inner", data), COMPETITORS)
    yield Row(_work("partial write of a shard", SHARDS, "partial", data), COMPETITORS)
    far = {"server": "stand-in", "latency": 0.02}
    yield Row(streamed(512), STREAMING)
    yield Row(_work("full read, 4 shards of 256 chunks, 20 ms", SHARDS, "read", data, **far), COMPETITORS)


def streamed(mebibytes: int) -> Workload:
    """One write of so much in shards of 8 MiB, from memory that holds one row of it."""
    data = Dataset(chunk=(256, 256), grid=(mebibytes // 8, 32), shard=(4, 8), alike=True)
    return _work(f"streamed write of {mebibytes} MiB, shards of 8 MiB", SHARDS, "streamed", data)


def _latencies() -> Iterator[Row]:
    yield Row(_far("read", 20), COMPETITORS)
    yield Row(_far("read", 5), DISTANT)
    yield Row(_far("read", 50), DISTANT)
    yield Row(_far("write", 20), DISTANT)
    data = Dataset(chunk=(1024, 1024), grid=(3, 3))
    slow = {"server": "stand-in", "latency": 0.02, "bandwidth": 60e6}
    yield Row(_work("9 chunks of 4 MiB, 20 ms, 60 MB/s per connection", FAR, "read", data, **slow), DISTANT)
    data = Dataset(chunk=(32, 64), grid=(32, 32))
    busy = {"server": "stand-in", "latency": 0.005, "rate": 2000.0}
    yield Row(_work("1,024 chunks of 8 KiB, 5 ms, 503 above 2,000/s", FAR, "read", data, **busy), DISTANT)


def _counts() -> Iterator[Row]:
    for side in (10, 32, 100, 316, 1000):
        yield Row(_count(side, read=False), _defaults((OURS,)))
    for side in (10, 32, 100, 316):
        peers = () if side > 100 else _defaults((NULL, "zarrista", "tensorstore", "zarr + obstore"))
        yield Row(_count(side, read=True), _defaults((OURS,)) + peers)


def _widths() -> Iterator[Row]:
    data = Dataset(chunk=(64, 64), grid=(16, 32), uniform=True)
    for n in (1, 8, 32, 64, 128, 512):
        peers = ("zarrista", "tensorstore", "zarr + obstore") if n in (1, 8, 64, 512) else ()
        entries = tuple(Entry(name, n) for name in (OURS, *peers))
        slow = {"server": "stand-in", "latency": 0.005}
        yield Row(_work(f"512 chunks of 16 KiB, 5 ms, {n} in flight", WIDTH, "read", data, **slow), entries)


def _adapters() -> Iterator[Row]:
    """zarr-python and dask over our stores, compared with the same over obstore."""
    zarr = _defaults(("zarr + zarr_s3_async", "zarr + obstore"))
    zarr += _tuned(("zarr + zarr_s3_async", "zarr + obstore"))
    for size in SIZES:
        yield Row(_work(f"zarr-python reads {size} raw", ADAPTERS, "read", _data(size, "raw", SMALL_GRIDS[size])), zarr)
    for size in SIZES:
        yield Row(
            _work(f"zarr-python writes {size} raw", ADAPTERS, "write", _data(size, "raw", SMALL_GRIDS[size])), zarr
        )
    shards = Dataset(chunk=(64, 64), grid=(32, 32), codec="zstd", shard=(16, 16))
    yield Row(_work("zarr-python reads 4 shards of 256 chunks", ADAPTERS, "read", shards), zarr)
    yield Row(_work("zarr-python reads inner chunks", ADAPTERS, "inner", shards), zarr)
    dask = _defaults(("dask + zarr_s3_async", "dask + zarr + obstore"))
    yield Row(
        _work("dask reads 256 KiB zstd", ADAPTERS, "read", _data("256 KiB", "zstd", SMALL_GRIDS["256 KiB"])), dask
    )


def _loaders() -> Iterator[Row]:
    data = Dataset(chunk=(16, 1024), grid=(1024, 1))
    peers = ("tensorstore", "DataLoader, zarr + obstore")
    for variant, latency in product(("plain", "shuffled", "plain windows", "shuffled windows"), (0.0, 0.02)):
        work = _work(
            f"epoch, {variant}{', 20 ms' if latency else ''}",
            LOADER,
            "epoch",
            data,
            server="stand-in",
            latency=latency,
            variant=variant,
        )
        permuting = (f"{OURS}, global",) if "shuffled" in variant else ()
        yield Row(work, _defaults((*OURS_TWICE, *permuting, *peers, *(("bare read",) if variant == "plain" else ()))))


def _copies() -> Iterator[Row]:
    data = Dataset(chunk=(128, 8192), grid=(8, 1), codec="zstd")
    for variant in ("moved", "recoded", "cut", "across"):
        work = _work(f"copy of 32 MiB, {variant}", COPIES, "copy", data, server="none", variant=variant)
        yield Row(work, _defaults((*OURS_TWICE, "zarr", "dask", "tensorstore")))


def _cold() -> Iterator[Row]:
    data = Dataset(chunk=(64, 64), grid=(1, 1), codec="zstd")
    for variant in ("signed", "anonymous"):
        title = f"process to first chunk of 16 KiB, {variant}"
        work = _work(title, COLD, "cold", data, server="stand-in", variant=variant)
        yield Row(work, _defaults((*OURS_TWICE, "tensorstore", "zarr + obstore")))


def _data(size: str, codec: Codec, grid: tuple[int, int], zarr_format: Literal[2, 3] = 3) -> Dataset:
    edge = SIZES[size]
    return Dataset(chunk=(edge, edge), grid=grid, codec=codec, zarr_format=zarr_format)


def _read(
    size: str, codec: Codec, grid: tuple[int, int], *, zarr_format: Literal[2, 3] = 3, name: str = "", **more: Any
) -> Workload:
    tls = more.get("server") == "seaweedfs-tls"
    title = f"{size} {codec}{' v2' if zarr_format == 2 else ''}{f', {name}' if name else ''}{', TLS' if tls else ''}"
    data = _data(size, codec, grid, zarr_format)
    return _work(f"read {title}", READ_OVER_TLS if tls else READ_OVER_HTTP, "read", data, **more)


def _write(size: str, codec: Codec) -> Workload:
    return _work(f"write {size} {codec}", WRITE, "write", _data(size, codec, SMALL_GRIDS[size]))


def _far(action: Literal["read", "write"], milliseconds: int) -> Workload:
    data = Dataset(chunk=(32, 64), grid=(32, 32))
    title = f"{action} 1,024 chunks of 8 KiB, {milliseconds} ms"
    return _work(title, FAR, action, data, server="stand-in", latency=milliseconds / 1000)


def _count(side: int, *, read: bool) -> Workload:
    data = Dataset(chunk=(16, 16), grid=(side, side), uniform=True)
    what = "read" if read else "plan"
    title = f"{what} {side * side:,} chunks"
    return _work(title, COUNT, "read" if read else "plan", data, server="stand-in" if read else "none")


def _work(title: str, group: str, action: Any, data: Dataset, **more: Any) -> Workload:
    return Workload(name=title, group=group, action=action, dataset=data, **more)
