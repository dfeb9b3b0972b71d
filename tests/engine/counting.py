"""A store that counts requests for its shards."""

from __future__ import annotations

from typing import Any

import zarr_s3_async as zs
from zarr_s3_async._types import Version


class Counting(zs.MemoryStore):
    """Records the range and the bytes of every get of a shard. `before_range` runs once, before a pinned range."""

    def __init__(self) -> None:
        super().__init__()
        self.gets: list[Any] = []
        self.received = 0
        self.puts = 0
        self.before_range: Any = None
        self.ignores_conditions = False

    async def get(self, key: str, **options: Any) -> Any:  # type: ignore[override]  # handed on as it is
        if key.startswith("c/"):
            self.gets.append(options.get("range"))
            if options.get("version") is not None and self.before_range is not None:
                act, self.before_range = self.before_range, None
                await act()
        blob = await super().get(key, **options)
        if key.startswith("c/") and blob is not None:
            self.received += len(blob.data)
        return blob

    async def put(self, key: str, data: Any, **options: Any) -> Version:  # type: ignore[override]  # handed on
        self.puts += key.startswith("c/")
        if self.ignores_conditions:
            options.pop("when", None)
        return await super().put(key, data, **options)

    def clear(self) -> None:
        self.gets, self.received, self.puts = [], 0, 0
