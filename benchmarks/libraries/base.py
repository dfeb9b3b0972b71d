"""What the harness asks of a library: open the array, read a region, write a region."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from ..workload import Dataset, Region, Workload

IN_FLIGHT = 64
"""Requests in flight of peers in their tuned setting, and of bare loops: what our own default is."""


class CannotDo(Exception):
    """This library does not do this work; the message says why."""


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
    """Requests in flight; None: whatever the library does by default."""
    library: str = ""
    """The contender's name, for workloads that one class runs for all of them."""

    @property
    def dataset(self) -> Dataset:
        """What is read or written."""
        return self.workload.dataset

    @property
    def crew(self) -> int:
        """Requests in flight of a bare loop, which has no default."""
        return self.in_flight or IN_FLIGHT


class Library:
    """One way of reading and writing the array. Made in a process of its own, used by one task at a time."""

    checks_values = True
    """False where bytes are moved and nothing is decoded."""
    peak_of_children = 0
    """Bytes, where the work is done in a process of its own."""

    def __init__(self, task: Task) -> None:
        self.task = task

    async def open(self) -> None:
        """Get ready: clients and array handles. Not measured."""
        raise NotImplementedError

    async def read(self, region: Region) -> np.ndarray[Any, Any]:
        """The elements of a region."""
        raise NotImplementedError

    async def write(self, region: Region, data: np.ndarray[Any, Any]) -> None:
        """Store a region; when this returns, the server has it."""
        raise NotImplementedError

    async def read_chunk(self, i: int, j: int) -> np.ndarray[Any, Any]:
        """One inner chunk, the best way there is."""
        return await self.read(self.task.dataset.chunk_region(i, j))

    async def begin(self) -> None:
        """Before each pass: whatever is remembered of an earlier one is forgotten."""

    async def plan(self, region: Region) -> None:  # noqa: ARG002  # what a library without a plan ignores
        """Go through the plan of a read, without reading."""
        raise CannotDo("its plan is not to be had on its own")

    async def run(self) -> None:
        """An epoch, a copy or a cold start."""
        raise NotImplementedError

    async def check_copy(self) -> None:
        """Compare what the last copy made with its source."""
        raise NotImplementedError

    async def close(self) -> None:
        """Let go."""
