"""A process that starts, opens an array and reads its one chunk, by the programs of `benchmarks/cold.py`."""

from __future__ import annotations

import asyncio
import os
import resource
import subprocess
import sys
import tempfile

from .. import cold
from . import base_name
from .base import Library

_NAMES = {"zarr_s3_async": "zarr-s3-async", "zarr + obstore": "zarr-python + obstore"}


class Cold(Library):
    """Each pass is a process; the first one writes the bytecode."""

    async def open(self) -> None:
        task = self.task
        name = base_name(task.library)
        (row,) = (row for row in cold.ROWS if row.name.endswith(task.workload.variant))
        self._program = row.programs[_NAMES.get(name, name)]
        self._folder = tempfile.TemporaryDirectory(prefix="bytecode-")
        self._environment = cold.environment(
            task.place.endpoint_url, f"{task.place.bucket}/{task.path}", self._folder.name
        )

    async def run(self) -> None:
        await asyncio.to_thread(self._start)
        self.peak_of_children = resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss * 1024

    def _start(self) -> None:
        environment = {**self._environment, **{key: os.environ[key] for key in os.environ if key.startswith("AWS_")}}
        command = [sys.executable, "-c", self._program]
        done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False)
        if done.returncode:
            raise RuntimeError((done.stderr.strip().splitlines() or ["a program failed"])[-1])

    async def close(self) -> None:
        self._folder.cleanup()
