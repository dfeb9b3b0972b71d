"""Epochs of batches, made as `benchmarks/loaders.py` says."""

from __future__ import annotations

import asyncio
from itertools import count

from ..loaders import CONTENDERS, Setting
from . import base_name
from .base import Library

_NAMES = {"tensorstore": "tensorstore by hand"}


class Epochs(Library):
    """Runs one epoch after the other, with consecutive numbers."""

    async def open(self) -> None:
        task = self.task
        words = task.workload.variant.split()
        name = base_name(task.library)
        setting = Setting("", shuffle="shuffled" in words, window="windows" in words, path=task.path)
        self._epoch = CONTENDERS[_NAMES.get(name, name)](setting, task.place)
        self._numbers = count()

    async def run(self) -> None:
        # All of them block, like the training loops that use them.
        await asyncio.to_thread(lambda: sum(self._epoch(next(self._numbers))))
