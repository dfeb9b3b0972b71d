"""Which objects of an array are stored, as one listing tells."""

from __future__ import annotations

from collections.abc import Iterator
from hashlib import blake2b
from itertools import product
from math import prod
from secrets import token_hex

from .._engine.runtime import Runtime
from .._model.metadata import ArrayMeta
from .._stored import list_objects
from .._types import Coords, Shape
from ..errors import AccessDenied, Unsupported

_MAX_BITS = 2**30
"""Positions of a grid up to which a bit is kept for each; of a larger one, the positions that are in it."""


class Marks:
    """A set of positions of a grid, in a bit each as far as the last one that is in it."""

    __slots__ = ("_bits", "_far", "_grid", "n")

    def __init__(self, grid: Shape) -> None:
        self._grid = grid
        self._bits = bytearray()
        self._far: set[int] = set()
        self.n: int = 0
        """How many there are."""

    def __contains__(self, coords: Coords) -> bool:
        flat = self._flat(coords)
        if flat >= _MAX_BITS:
            return flat in self._far
        byte, bit = divmod(flat, 8)
        return byte < len(self._bits) and bool(self._bits[byte] >> bit & 1)

    def add(self, coords: Coords) -> None:
        """Put it in; there already is fine."""
        if coords in self:
            return
        self.n += 1
        flat = self._flat(coords)
        if flat >= _MAX_BITS:
            self._far.add(flat)
            return
        byte, bit = divmod(flat, 8)
        if byte >= len(self._bits):
            wanted = min(max(byte + 1, 2 * len(self._bits)), -(-prod(self._grid) // 8))
            self._bits.extend(bytes(wanted - len(self._bits)))
        self._bits[byte] |= 1 << bit

    def __iter__(self) -> Iterator[Coords]:
        for at, byte in enumerate(self._bits):
            while byte:
                low = byte & -byte
                yield self._coords(8 * at + low.bit_length() - 1)
                byte ^= low  # noqa: PLW2901  # its lowest bit is done
        for flat in sorted(self._far):
            yield self._coords(flat)

    def _flat(self, coords: Coords) -> int:
        flat = 0
        for at, n in zip(coords, self._grid, strict=True):
            flat = flat * n + at
        return flat

    def _coords(self, flat: int) -> Coords:
        coords: list[int] = []
        for n in reversed(self._grid):
            flat, at = divmod(flat, n)
            coords.append(at)
        return tuple(reversed(coords))


class AllMarks(Marks):
    """Every position of a grid: of what cannot be listed, each object may be there."""

    __slots__ = ()

    def __init__(self, grid: Shape) -> None:
        super().__init__(grid)
        self.n: int = prod(grid)

    def __contains__(self, coords: Coords) -> bool:
        return True

    def __iter__(self) -> Iterator[Coords]:
        return product(*map(range, self._grid))


class StoredObjects:
    """The objects of one array that a listing named."""

    __slots__ = ("digest", "marks", "nbytes")

    def __init__(self, marks: Marks, nbytes: int, digest: str) -> None:
        self.marks: Marks = marks
        self.nbytes: int = nbytes
        """Bytes of all of them, as they are stored."""
        self.digest: str = digest
        """Of their keys, sizes and versions: it differs where any of them has changed."""


async def list_stored(runtime: Runtime, path: str, meta: ArrayMeta) -> StoredObjects:
    """One listing below the array: a request per 1,000 keys.

    Raises:
        Unsupported, AccessDenied: The store cannot list, or not for us.
    """
    marks, nbytes, digest = Marks(meta.grid_shape), 0, blake2b(digest_size=16)
    prefix = f"{path}/" if path else ""
    async for page in list_objects(runtime.store, path, meta):
        for coords, entry in page:
            marks.add(coords)
            nbytes += entry.size
            digest.update(f"{entry.key.removeprefix(prefix)}\0{entry.size}\0{entry.version}\n".encode())
    return StoredObjects(marks, nbytes, digest.hexdigest())


async def list_source(runtime: Runtime, path: str, meta: ArrayMeta) -> StoredObjects:
    """As `list_stored`, of an array that is only read. Where nothing can be listed, as on a web server, every object
    may be stored, and the digest differs each time: no one can tell whether anything has changed."""
    try:
        return await list_stored(runtime, path, meta)
    except (Unsupported, AccessDenied):
        return StoredObjects(AllMarks(meta.grid_shape), 0, token_hex(16))
