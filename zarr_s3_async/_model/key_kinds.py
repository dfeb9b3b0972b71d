"""Which key is which: what a key below an array's prefix is to that array, told from its spelling alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, TypeAlias

from .._types import Coords, Shape
from .keys import KeyEncoding
from .metadata import ArrayMeta

KeyKind: TypeAlias = Literal["chunk", "extra", "foreign"]

_ENCODINGS = tuple(KeyEncoding(name, separator) for name in ("default", "v2") for separator in ("/", "."))


@dataclass(frozen=True, slots=True)
class KeyOf:
    """What a key is."""

    kind: KeyKind
    """`chunk`: an object of the array's grid; `extra`: a chunk key, and none of this array; `foreign`: neither."""
    coords: Coords | None = None
    """Grid coordinates that the key spells; None where it is foreign."""
    why: str = ""
    """Why it is no object of the array."""


def kind_of(key: str, meta: ArrayMeta) -> KeyOf:
    """What the object at `key`, relative to the array's prefix, is to the array. No metadata document is known here."""
    coords = meta.keys.decode(key, meta.ndim)
    if coords is not None:
        if is_inside(coords, meta.grid_shape):
            return KeyOf("chunk", coords)
        return KeyOf("extra", coords, f"it lies outside the array's grid of {meta.grid_shape} objects")
    for encoding in sorted(_ENCODINGS, key=lambda encoding: encoding != meta.keys):
        coords = _of_any_rank(key, encoding)
        if coords is not None:
            example = meta.keys.encode((0,) * meta.ndim)
            return KeyOf("extra", coords, f"it is a chunk key of another array: here they look like {example!r}")
    return KeyOf("foreign", None, "it is neither metadata nor a chunk key")


def is_inside(coords: Coords, grid: Shape) -> bool:
    """True for coordinates within a grid of as many dimensions."""
    return all(at < n for at, n in zip(coords, grid, strict=True))


def _of_any_rank(key: str, encoding: KeyEncoding) -> Coords | None:
    """The coordinates that a key spells in this encoding, in however many dimensions."""
    separators = key.count(encoding.separator)
    return encoding.decode(key, separators if encoding.name == "default" else separators + 1)
