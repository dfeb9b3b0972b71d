"""Copies of an array in a local folder, made as `benchmarks/copies.py` says."""

from __future__ import annotations

import asyncio
import shutil
import tempfile
from pathlib import Path

import numpy as np

import zarr_s3_async as zs

from .. import copies
from ..workload import Workload
from . import base_name
from .base import Library

_NAMES = {"zarr_s3_async": "ours"}


def mebibytes(workload: Workload) -> int:
    """Size of the source."""
    return workload.nbytes() // 2**20


class Copies(Library):
    """Creates the source in `open`; each pass creates a new target."""

    async def open(self) -> None:
        self._folder = Path(tempfile.mkdtemp(prefix="copies-"))
        name = base_name(self.task.library)
        self._copy = getattr(copies, _NAMES.get(name, name))
        self._source, self._target = str(self._folder / "array"), self._folder / "copy"
        await copies.prepare(self._folder, mebibytes(self.task.workload))

    async def begin(self) -> None:
        shutil.rmtree(self._target, ignore_errors=True)

    async def run(self) -> None:
        options = copies.CASES[self.task.workload.variant]
        if asyncio.iscoroutinefunction(self._copy):
            await self._copy(self._source, str(self._target), options)
        else:
            await asyncio.to_thread(self._copy, self._source, str(self._target), options)

    async def check_copy(self) -> None:
        async with zs.Session() as session:
            source, target = [await session.open_array(Path(path)) for path in (self._source, self._target)]
            for start in range(0, source.shape[0], 256):
                if not np.array_equal(await source[start : start + 256], await target[start : start + 256]):
                    raise ValueError(f"the copy differs from row {start} on")

    async def close(self) -> None:
        shutil.rmtree(self._folder, ignore_errors=True)
