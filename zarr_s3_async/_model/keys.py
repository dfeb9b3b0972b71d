"""Chunk keys: the coordinates of a stored object become a key, and a key becomes coordinates again.

Zarr v2 specification, "Chunks"; the chunk key encodings `default` and `v2` of Zarr v3.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from .._types import Coords


@dataclass(frozen=True, slots=True)
class KeyEncoding:
    """How coordinates are spelled: `default` is `c/0/1` (`c` for 0-d), `v2` is `0.1` (`0` for 0-d)."""

    name: Literal["default", "v2"]
    separator: Literal[".", "/"]

    def encode(self, coords: Coords) -> str:
        """The key of the object at these grid coordinates, below the array's prefix."""
        if self.name == "v2":
            return self.separator.join(map(str, coords)) or "0"
        return self.separator.join(("c", *map(str, coords)))

    def decode(self, key: str, ndim: int) -> Coords | None:
        """The coordinates, or None where the key is not one that `encode` makes for `ndim` dimensions."""
        body = key
        if self.name == "default":
            if ndim == 0:
                return () if key == "c" else None
            if not key.startswith("c" + self.separator):
                return None
            body = key[2:]
        elif ndim == 0:
            return () if key == "0" else None
        parts = body.split(self.separator)
        if len(parts) != ndim or not all(part.isascii() and part.isdecimal() for part in parts):
            return None
        coords = tuple(map(int, parts))
        return coords if self.encode(coords) == key else None
