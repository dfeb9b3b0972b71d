"""Workloads: arrays with known values, and the operations on them."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from itertools import product
from math import prod
from random import Random
from typing import Any, Literal, TypeAlias

import numpy as np

Region: TypeAlias = tuple[slice, slice]
Action: TypeAlias = Literal[
    "read", "slices", "chunks", "inner", "handlers", "write", "partial", "streamed", "plan", "epoch", "copy", "cold"
]

DTYPE = np.dtype("<f4")
HANDLERS = 100
"""Tasks that read at once in `handlers`."""
SLICES = 48
"""Regions read one after the other in `slices`."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Dataset:
    """A two-dimensional float32 array."""

    chunk: tuple[int, int]
    grid: tuple[int, int]
    """Chunks per dimension."""
    codec: Literal["raw", "zstd", "blosc"] = "raw"
    zarr_format: Literal[2, 3] = 3
    shard: tuple[int, int] | None = None
    """Chunks per shard and dimension."""
    uniform: bool = False
    """All chunks are equal, so that a stand-in can serve any number of them."""
    alike: bool = False
    """All rows are equal, so that the whole array can be passed as a view of one row."""

    @property
    def name(self) -> str:
        """The last part of its path."""
        sizes = "x".join(str(n) for n in (*self.chunk, *self.grid))
        shard = "" if self.shard is None else f"-shards{self.shard[0]}x{self.shard[1]}"
        same = "-uniform" * self.uniform + "-alike" * self.alike
        return f"{sizes}-{self.codec}-v{self.zarr_format}{shard}{same}"

    @property
    def shape(self) -> tuple[int, int]:
        """Elements per dimension."""
        return self.chunk[0] * self.grid[0], self.chunk[1] * self.grid[1]

    @property
    def full(self) -> Region:
        """The whole array."""
        return slice(0, self.shape[0]), slice(0, self.shape[1])

    @property
    def chunk_bytes(self) -> int:
        """Bytes of a decoded chunk."""
        return prod(self.chunk) * DTYPE.itemsize

    def chunk_region(self, i: int, j: int) -> Region:
        """The elements of one chunk."""
        (h, w) = self.chunk
        return slice(i * h, (i + 1) * h), slice(j * w, (j + 1) * w)

    def values(self, region: Region) -> np.ndarray[Any, Any]:
        """The stored values: waves with noise, a function of the position, so that any read can be checked."""
        rows, columns = (np.arange(part.start, part.stop) for part in region)
        if self.uniform:
            rows, columns = rows % self.chunk[0], columns % self.chunk[1]
        if self.alike:
            rows = np.zeros_like(rows)
        waves = 100 * np.sin(rows / 97)[:, None] + 50 * np.cos(columns / 61)[None, :]
        noise = _NOISE[np.ix_(rows % _NOISE.shape[0], columns % _NOISE.shape[1])]
        values: np.ndarray[Any, Any] = (np.round(waves * 16 + noise) / 16).astype(DTYPE)
        return values

    def source(self, region: Region) -> np.ndarray[Any, Any]:
        """The values to write: a view of one row if all rows are equal."""
        if not self.alike:
            return self.values(region)
        rows, columns = region
        row = self.values((slice(rows.start, rows.start + 1), columns))
        return np.broadcast_to(row, (rows.stop - rows.start, row.shape[1]))

    def slabs(self, region: Region) -> Iterator[Region]:
        """A region split into rows of stored objects, so that it need not be in memory at once."""
        rows, columns = region
        height = self.chunk[0] * (1 if self.shard is None else self.shard[0])
        return ((slice(at, min(at + height, rows.stop)), columns) for at in range(rows.start, rows.stop, height))

    def touched(self, region: Region) -> Iterator[tuple[int, int]]:
        """Grid coordinates of the chunks that a region touches."""
        down, across = (range(part.start // n, -(-part.stop // n)) for part, n in zip(region, self.chunk, strict=True))
        return product(down, across)

    def key(self, i: int, j: int) -> str:
        """Key of the object that holds a chunk, below the array's path."""
        if self.shard is not None:
            i, j = i // self.shard[0], j // self.shard[1]
        return f"c/{i}/{j}" if self.zarr_format == 3 else f"{i}.{j}"


_NOISE = np.random.default_rng(1).integers(0, 32, (251, 241)).astype("f4")


@dataclass(frozen=True, slots=True, kw_only=True)
class Workload:
    """One line of a table: work on a dataset on a server."""

    name: str
    group: str
    action: Action
    dataset: Dataset
    server: Literal["seaweedfs", "seaweedfs-tls", "stand-in", "none"] = "seaweedfs"
    latency: float = 0.0
    bandwidth: float | None = None
    rate: float | None = None
    variant: str = ""
    """Which epoch, copy or cold start."""

    @property
    def writes(self) -> bool:
        """True if it changes the array; each library then gets its own array."""
        return self.action in ("write", "partial", "streamed")

    def regions(self) -> list[Region]:
        """The regions that are read or written in one pass, in order."""
        data = self.dataset
        match self.action:
            case "read" | "write" | "streamed" | "plan" | "epoch" | "copy" | "cold":
                return [data.full]
            case "chunks" | "inner":
                return [data.chunk_region(i, j) for i, j in self._some_chunks()]
            case "slices":
                return [_random_region(data, random) for random in [Random(3)] * SLICES]
            case "handlers":
                return [_random_region(data, random) for random in [Random(5)] * HANDLERS]
            case "partial":
                (h, _), width = data.chunk, data.shape[1]
                return [
                    (slice(i * h + h // 4, i * h + h - h // 4), slice(0, width)) for i in range(min(4, data.grid[0]))
                ]

    def _some_chunks(self) -> list[tuple[int, int]]:
        cells = list(np.ndindex(self.dataset.grid))
        return Random(11).sample(cells, min(len(cells), 128))

    def chunks(self) -> int:
        """Chunks touched in one pass, counted once per region that touches them."""
        data = self.dataset
        return sum(
            prod(-(-part.stop // n) - part.start // n for part, n in zip(region, data.chunk, strict=True))
            for region in self.regions()
        )

    def nbytes(self) -> int:
        """Decoded bytes read or written in one pass: the result, not the chunks under it."""
        elements = sum(prod(int(part.stop) - int(part.start) for part in region) for region in self.regions())
        return elements * DTYPE.itemsize

    def to_json(self) -> dict[str, Any]:
        """For the child process and the results."""
        return asdict(self)

    @classmethod
    def from_json(cls, document: dict[str, Any]) -> Workload:
        """The inverse of `to_json`."""
        data = dict(document["dataset"])
        for name in ("chunk", "grid", "shard"):
            data[name] = None if data[name] is None else tuple(data[name])
        return cls(**{**document, "dataset": Dataset(**data)})


def _random_region(data: Dataset, random: Random) -> Region:
    """A region of about 1.5 by 1.5 chunks, anywhere."""

    def part(n: int, chunk: int) -> slice:
        length = min(n, random.randint(chunk, 2 * chunk))
        start = random.randint(0, n - length)
        return slice(start, start + length)

    return part(data.shape[0], data.chunk[0]), part(data.shape[1], data.chunk[1])
