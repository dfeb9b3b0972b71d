"""The interface of a library for the harness: open the array, read a region, write a region."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..workload import Dataset, Region, Workload

IN_FLIGHT = 64
"""Requests in flight of peers in their tuned setting, and of bare loops; equals our default."""


class CannotDo(Exception):
    """The library does not support this workload; the message gives the reason."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A server, as any client needs it."""

    endpoint_url: str
    bucket: str
    region: str
    access_key_id: str
    secret_access_key: str
    ca_bundle: str | None = None

    def to_json(self) -> dict[str, Any]:
        """For the child process."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Task:
    """One library on one workload."""

    workload: Workload
    place: Place
    path: str
    """Key prefix of the array, without a trailing slash."""
    in_flight: int | None
    """Requests in flight; None: the library's default."""
    library: str = ""
    """The contender's name, for workloads that one class runs for all of them."""

    @property
    def dataset(self) -> Dataset:
        """What is read or written."""
        return self.workload.dataset

    @property
    def workers(self) -> int:
        """Requests in flight of a bare loop, which has no default."""
        return self.in_flight or IN_FLIGHT


class Library:
    """One way of reading and writing the array. Created in a separate process, used by one task at a time."""

    checks_values = True
    """False if bytes are only transferred, not decoded."""
    peak_of_children = 0
    """Peak memory in bytes, if child processes do the work."""

    def __init__(self, task: Task) -> None:
        self.task = task

    async def open(self) -> None:
        """Create clients and open the array. Not measured."""
        raise NotImplementedError

    async def read(self, region: Region) -> np.ndarray[Any, Any]:
        """The elements of a region."""
        raise NotImplementedError

    async def write(self, region: Region, data: np.ndarray[Any, Any]) -> None:
        """Store a region; when this returns, the server has it."""
        raise NotImplementedError

    async def read_chunk(self, i: int, j: int) -> np.ndarray[Any, Any]:
        """One inner chunk, read in the fastest way."""
        return await self.read(self.task.dataset.chunk_region(i, j))

    async def begin(self) -> None:
        """Called before each pass; drops cached data of earlier passes."""

    async def plan(self, region: Region) -> None:  # noqa: ARG002  # unused without a plan
        """Go through the plan of a read, without reading."""
        raise CannotDo("it has no separate plan")

    async def run(self) -> None:
        """An epoch, a copy or a cold start."""
        raise NotImplementedError

    async def check_copy(self) -> None:
        """Compare what the last copy made with its source."""
        raise NotImplementedError

    async def close(self) -> None:
        """Release all resources."""
