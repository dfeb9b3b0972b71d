"""Reading one chunk is a short walk through the house: few steps from one room (a folder, or a file) into another."""

from __future__ import annotations

import sys
from pathlib import Path
from types import FrameType
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs

HOUSE = str(Path(zs.__file__).parent)


class Jumps:
    """Counts calls that enter another room of the package than the one entered before."""

    def __init__(self) -> None:
        self.count = 0
        self.route: list[str] = []

    def __call__(self, frame: FrameType, event: str, _: Any) -> None:
        name = frame.f_code.co_filename
        if event == "call" and name.startswith(HOUSE):
            step = name[len(HOUSE) + 1 :].split("/")[0]
            if not self.route or self.route[-1] != step:
                self.count += 1
                self.route.append(step)


@pytest.mark.parametrize(("shards", "most"), [(None, 30), ((8, 8), 35)])
async def test_one_chunk(shards: Any, most: int) -> None:
    async with zs.Session() as session:
        array = await session.create_array(
            zs.MemoryStore(), shape=(16, 16), chunks=(4, 4), shards=shards, dtype="i4", compressor=None
        )
        await array[...].set(np.arange(256).reshape(16, 16))
        await array.get_slice((0, 0), (4, 4))
        jumps = Jumps()
        sys.setprofile(jumps)
        try:
            await array.get_slice((4, 4), (8, 8))
        finally:
            sys.setprofile(None)
    assert 5 < jumps.count < most, jumps.route
