"""Chunk keys: conversion between coordinates of stored objects and keys, and classification of keys below an array.

Zarr v2 specification, "Chunks"; the chunk key encodings `default` and `v2` of Zarr v3.
"""

from __future__ import annotations

from typing import Literal, NamedTuple, TypeAlias

from .._types import Coords, Shape


class KeyEncoding(NamedTuple):
    """The form of keys: `default` is `c/0/1` (`c` for 0-d), `v2` is `0.1` (`0` for 0-d)."""

    name: Literal["default", "v2"]
    separator: Literal[".", "/"]

    def encode(self, coords: Coords) -> str:
        """The key of the object at these grid coordinates, below the array's prefix."""
        if self.name == "v2":
            return self.separator.join(map(str, coords)) or "0"
        return self.separator.join(("c", *map(str, coords)))

    def decode(self, key: str, ndim: int) -> Coords | None:
        """The coordinates, or None for a key that `encode` cannot return for `ndim` dimensions."""
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
        # Encoding again refuses other forms of the same number, such as "007".
        return coords if self.encode(coords) == key else None


KeyKind: TypeAlias = Literal["chunk", "extra", "foreign"]

_ENCODINGS = tuple(KeyEncoding(name, separator) for name in ("default", "v2") for separator in ("/", "."))


class KeyClass(NamedTuple):
    """The class of a key below an array."""

    kind: KeyKind
    """`chunk`: an object of the array's grid; `extra`: a chunk key, but not of this array; `foreign`: neither."""
    coords: Coords | None = None
    """Grid coordinates in the key; None for a foreign key."""
    why: str = ""
    """Why it is not an object of the array."""


def classify_key(key: str, encoding: KeyEncoding, grid: Shape) -> KeyClass:
    """Classify the key of an object below an array.

    Args:
        key: Relative to the array's prefix; not the name of a metadata document.
        encoding: Encoding of the array's chunk keys.
        grid: Stored objects of the array per dimension.
    """
    coords = encoding.decode(key, len(grid))
    if coords is not None:
        if is_inside(coords, grid):
            return KeyClass("chunk", coords)
        return KeyClass("extra", coords, f"it lies outside the array's grid of {grid} objects")
    # The array's own encoding first: with another number of dimensions, it explains a key better than other encodings.
    for other in sorted(_ENCODINGS, key=lambda other: other != encoding):
        coords = _of_any_rank(key, other)
        if coords is not None:
            example = encoding.encode((0,) * len(grid))
            return KeyClass("extra", coords, f"it is a chunk key of another array: this array's look like {example!r}")
    return KeyClass("foreign", None, "it is neither metadata nor a chunk key")


def is_chunk_key(key: str) -> bool:
    """True for a key, relative to an array's prefix, of a chunk in some encoding and any number of dimensions."""
    return any(_of_any_rank(key, encoding) is not None for encoding in _ENCODINGS)


def is_inside(coords: Coords, grid: Shape) -> bool:
    """True for coordinates within a grid of as many dimensions."""
    return all(at < n for at, n in zip(coords, grid, strict=True))


def _of_any_rank(key: str, encoding: KeyEncoding) -> Coords | None:
    """The coordinates in a key of this encoding, for any number of dimensions."""
    # The number of separators tells the number of dimensions that would fit.
    separators = key.count(encoding.separator)
    return encoding.decode(key, separators if encoding.name == "default" else separators + 1)
