"""A store that computes chunks on request: a landscape of 60,000 by 60,000 elements that is stored nowhere.

It shows the smallest possible store for reading: one method. Metadata is in memory; chunks are computed when read.
"""

import asyncio
import re
from typing import Any

import numpy as np

import zarr_s3_async as zs

SIZE, CHUNK, LEVELS, DAYS = 60_000, 500, 8, 30


class Landscape(zs.MemoryStore):
    """A group with `land` (a multiscale OME-Zarr image, full size in `land/0`) and `waves` (days, rows, columns)."""

    def __init__(self) -> None:
        super().__init__("landscape")
        self._preparing = asyncio.Lock()
        self._prepared = False

    async def _prepare(self) -> None:
        """Write the metadata documents, through a plain memory store with the same objects."""
        documents = self.below("")
        async with zs.Session() as session:
            axes = [{"name": "y", "type": "space", "unit": "metre"}, {"name": "x", "type": "space", "unit": "metre"}]
            datasets = [
                {"path": str(n), "coordinateTransformations": [{"type": "scale", "scale": [30.0 * 2**n] * 2}]}
                for n in range(LEVELS)
            ]
            root = await session.create_group(documents, attributes={"title": "Computed when it is looked at"})
            multiscales = [{"axes": axes, "datasets": datasets}]
            land = await root.create_group("land", attributes={"ome": {"version": "0.5", "multiscales": multiscales}})
            for n in range(LEVELS):
                size = -(-SIZE // 2**n)
                await land.create_array(
                    str(n), shape=(size, size), chunks=(CHUNK, CHUNK), dtype="float32", fill_value="NaN",
                    compressor=None, dimension_names=("y", "x"), attributes={"units": "m"},
                )  # fmt: skip
            await root.create_array(
                "waves", shape=(DAYS, 1200, 1600), chunks=(1, 300, 400), dtype="float32", compressor=None,
                dimension_names=("day", "y", "x"), attributes={"units": "m"},
            )  # fmt: skip
        self._prepared = True

    async def get(self, key: str, *, sink: Any = None, **options: Any) -> zs.Blob | None:
        """Return a metadata document, or compute a chunk."""
        async with self._preparing:
            if not self._prepared:
                await self._prepare()
        found = re.fullmatch(r"(?:land/(\d+)|(waves))/c/([\d/]+)", key)
        if found is None:
            return await super().get(key, sink=sink, **options)
        indices = tuple(map(int, found[3].split("/")))
        compute, numbers = (waves, indices) if found[2] else (land, (int(found[1]), *indices))
        data = await asyncio.to_thread(compute, *numbers)  # noqa: TID251  # an application may start threads
        body = memoryview(data).cast("B")
        wanted = options.get("range")
        if wanted is not None:
            body = body[wanted.start : wanted.stop]
        if sink is not None:
            memory = sink(len(body))
            memory[:] = body
            body = memory
        return zs.Blob(body, "1", data.nbytes, 0.0)


def land(level: int, row: int, column: int) -> np.ndarray[Any, Any]:
    """Compute a chunk: hills as a sum of noise at many scales; NaN in water."""
    step = 2**level
    y = (np.arange(CHUNK) + row * CHUNK) * step
    x = (np.arange(CHUNK) + column * CHUNK) * step
    height = np.zeros((CHUNK, CHUNK), np.float32)
    size, weight = 16_384.0, 1.0
    while size >= max(4.0, 2 * step):  # scales below two elements would alias
        height += np.float32(weight) * _noise(y / size, x / size)
        size, weight = size / 2, weight * 0.52
    height = (height - 0.62) * 3000
    height[height < 0] = np.nan
    return height


def _noise(y: np.ndarray[Any, Any], x: np.ndarray[Any, Any]) -> np.ndarray[Any, Any]:
    """Smooth noise from 0 to 1 with one random number per unit."""
    rows, columns = np.floor(y).astype(np.int64), np.floor(x).astype(np.int64)
    fy, fx = y - rows, x - columns
    fy, fx = (fy * fy * (3 - 2 * fy))[:, None], (fx * fx * (3 - 2 * fx))[None, :]

    def corner(down: int, across: int) -> np.ndarray[Any, Any]:
        mixed = (rows + down)[:, None] * 73_856_093 ^ (columns + across)[None, :] * 19_349_663
        mixed = (mixed ^ mixed >> 13) * 1_274_126_177
        return ((mixed ^ mixed >> 16) & 0xFFFF) / 0xFFFF

    above = corner(0, 0) * (1 - fx) + corner(0, 1) * fx
    below = corner(1, 0) * (1 - fx) + corner(1, 1) * fx
    return (above * (1 - fy) + below * fy).astype(np.float32)


def waves(day: int, row: int, column: int) -> np.ndarray[Any, Any]:
    """Compute a chunk: waves around a point that moves every day."""
    y, x = np.arange(300)[:, None] + row * 300, np.arange(400)[None, :] + column * 400
    far = np.hypot(y - 600 - 300 * np.sin(day / 5), x - 800 - 400 * np.cos(day / 5))
    return (np.cos(far / 40) * np.exp(-far / 600)).astype(np.float32)[None]
