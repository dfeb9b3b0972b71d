"""Which objects of an array are stored, according to one listing."""

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
"""Positions below this number are stored as bits; those above are stored in a set of integers."""


class Marks:
    """A set of grid positions, stored as a bitmap that ends at the last position in the set."""

    __slots__ = ("_bits", "_far", "_grid", "n")

    def __init__(self, grid: Shape) -> None:
        self._grid = grid
        self._bits = bytearray()
        self._far: set[int] = set()
        self.n: int = 0
        """Number of positions in the set."""

    def __contains__(self, coords: Coords) -> bool:
        flat = self._flat(coords)
        if flat >= _MAX_BITS:
            return flat in self._far
        byte, bit = divmod(flat, 8)
        return byte < len(self._bits) and bool(self._bits[byte] >> bit & 1)

    def add(self, coords: Coords) -> None:
        """Add a position. If it is in the set, nothing happens."""
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
    """The set of all positions of a grid: if the store cannot be listed, any object may exist."""

    __slots__ = ()

    def __init__(self, grid: Shape) -> None:
        super().__init__(grid)
        self.n: int = prod(grid)

    def __contains__(self, coords: Coords) -> bool:
        return True

    def __iter__(self) -> Iterator[Coords]:
        return product(*map(range, self._grid))


class StoredObjects:
    """The stored objects of one array, as found by a listing."""

    __slots__ = ("digest", "marks", "nbytes")

    def __init__(self, marks: Marks, nbytes: int, digest: str) -> None:
        self.marks: Marks = marks
        self.nbytes: int = nbytes
        """Stored (encoded) bytes of all objects."""
        self.digest: str = digest
        """Digest of keys, sizes and versions: it changes if any object changes."""


async def list_stored(runtime: Runtime, path: str, meta: ArrayMeta) -> StoredObjects:
    """List the stored objects of an array: one request per 1,000 keys.

    Raises:
        Unsupported: The store cannot list.
        AccessDenied: The credentials do not allow listing.
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
    """Like `list_stored`, for the source of a copy.

    If listing is impossible, as on a web server, every object is assumed to exist. The digest is random then, because
    changes cannot be detected.
    """
    try:
        return await list_stored(runtime, path, meta)
    except (Unsupported, AccessDenied):
        return StoredObjects(AllMarks(meta.grid_shape), 0, token_hex(16))
