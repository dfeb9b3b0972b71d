"""An array that the commands read."""

from __future__ import annotations

import asyncio
from pathlib import Path

import pytest

import zarr_s3_async as zs

from .commands import DATA


@pytest.fixture
def url(tmp_path: Path) -> str:
    """An array of float32."""

    async def fill() -> None:
        async with zs.Session() as session:
            array = await session.create_array(
                f"{tmp_path.as_uri()}/x", shape=(20, 30), chunks=(10, 10), dtype="float32"
            )
            await array.set_slice(DATA, start=(0, 0))

    asyncio.run(fill())
    return f"{tmp_path.as_uri()}/x"
