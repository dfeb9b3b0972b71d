"""One pass over a workload with any library; with `check`, every value read is compared with the stored one."""

from __future__ import annotations

import asyncio
from typing import Any

import numpy as np

from .libraries.base import Library
from .workload import DTYPE, Region, Workload

_BAND = 16


class WrongValues(Exception):
    """A library returned values that differ from the stored ones."""


class Work:
    """A workload with its regions and the data to write, prepared before the measurement."""

    def __init__(self, workload: Workload, library: Library) -> None:
        self.workload = workload
        self._library = library
        self._regions = workload.regions()
        self._data = [workload.dataset.source(r) for r in self._regions] if workload.writes else []

    async def once(self, *, check: bool = False) -> None:
        """One pass."""
        library = self._library
        await library.begin()
        match self.workload.action:
            case "read" | "slices" | "chunks":
                for region in self._regions:
                    self._checked(check, region, await library.read(region))
            case "inner":
                for region in self._regions:
                    cell = [part.start // n for part, n in zip(region, self.workload.dataset.chunk, strict=True)]
                    self._checked(check, region, await library.read_chunk(*cell))
            case "handlers":
                results = await asyncio.gather(*map(library.read, self._regions))
                for region, result in zip(self._regions, results, strict=True):
                    self._checked(check, region, result)
            case "write" | "partial" | "streamed":
                for region, data in zip(self._regions, self._data, strict=True):
                    await library.write(region, data)
            case "epoch" | "copy" | "cold":
                await library.run()
            case "plan":
                await library.plan(self._regions[0])

    async def check_written(self) -> None:
        """Read back what was written, through the same library."""
        workload = self.workload
        if workload.action == "copy":
            await self._library.check_copy()
        if workload.writes and self._library.checks_values:
            for region in self._regions:
                for part in workload.dataset.slabs(region) if workload.action == "streamed" else [region]:
                    self._checked(True, part, await self._library.read(part))

    def _checked(self, check: bool, region: Region, found: np.ndarray[Any, Any]) -> None:
        if not (check and self._library.checks_values):
            return
        rows, columns = region
        place = f"{self.workload.name}: {region}"
        if found.shape != (rows.stop - rows.start, columns.stop - columns.start) or found.dtype != DTYPE:
            raise WrongValues(f"{place} was returned with shape {found.shape} and data type {found.dtype}")
        # In bands, so that the expected values do not count as memory of the library.
        for start in range(rows.start, rows.stop, _BAND):
            band = slice(start, min(start + _BAND, rows.stop)), columns
            here = found[start - rows.start : band[0].stop - rows.start]
            if not np.array_equal(here, self.workload.dataset.values(band)):
                raise WrongValues(f"{place} differs from the stored values in {band}")
