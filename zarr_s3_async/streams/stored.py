"""Which objects of an array are stored, according to one listing."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from hashlib import blake2b
from itertools import islice
from math import prod
from secrets import token_hex

from .._engine.runtime import Runtime
from .._model.metadata import ArrayMeta
from .._stored import list_objects
from .._types import Coords, Shape, Version
from ..errors import AccessDenied, Unsupported

_MAX_BITS = 2**30
"""Positions below this number are stored as bits; those above are stored in a set of integers."""
_SKIPPED = 2**12
"""Bytes of the bitmap that are counted at once, to skip them."""


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
            # Doubled, so that adding positions in ascending order copies each byte once on average.
            wanted = min(max(byte + 1, 2 * len(self._bits)), -(-prod(self._grid) // 8))
            self._bits.extend(bytes(wanted - len(self._bits)))
        self._bits[byte] |= 1 << bit

    def __iter__(self) -> Iterator[Coords]:
        return self.between(0, self.n)

    def between(self, start: int, stop: int) -> Iterator[Coords]:
        """The positions with these numbers in ascending order, without iterating over those before."""
        number = 0
        for begin in range(0, len(self._bits), _SKIPPED):
            block = self._bits[begin : begin + _SKIPPED]
            # One instruction per word, instead of a loop in Python over the bits.
            count = int.from_bytes(block, "little").bit_count()
            if number < stop and number + count > start:
                found = islice(self._in_block(begin, block), max(0, start - number), stop - number)
                yield from map(self._coords, found)
            number += count
        yield from map(self._coords, sorted(self._far)[max(0, start - number) : max(0, stop - number)])

    def _in_block(self, begin: int, block: bytearray) -> Iterator[int]:
        for at, byte in enumerate(block, begin):
            while byte:
                low = byte & -byte
                yield 8 * at + low.bit_length() - 1
                byte ^= low  # noqa: PLW2901  # its lowest bit is done

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

    def between(self, start: int, stop: int) -> Iterator[Coords]:
        """The positions with these numbers in row-major order."""
        return map(self._coords, range(start, min(stop, self.n)))


class StoredObjects:
    """The stored objects of one array, as found by a listing."""

    __slots__ = ("digest", "marks", "nbytes")

    def __init__(self, marks: Marks, nbytes: int, digest: str) -> None:
        self.marks: Marks = marks
        self.nbytes: int = nbytes
        """Stored (encoded) bytes of all objects."""
        self.digest: str = digest
        """Digest of keys, sizes and versions: it changes if any object changes."""


async def list_stored(
    runtime: Runtime, path: str, meta: ArrayMeta, on_object: Callable[[Coords, Version], None] | None = None
) -> StoredObjects:
    """List the stored objects of an array: one request per 1,000 keys.

    Args:
        runtime: The runtime of the array's session.
        path: Path of the array.
        meta: Metadata of the array.
        on_object: Called for every object, with its version.

    Raises:
        Unsupported: The store cannot list.
        AccessDenied: The credentials do not allow listing.
    """
    marks, nbytes, digest = Marks(meta.grid_shape), 0, blake2b(digest_size=16)
    prefix = f"{path}/" if path else ""
    async for page in list_objects(runtime.store, path, meta):
        for coords, entry in page:
            # A server may list a key twice.
            if on_object is not None and coords not in marks:
                on_object(coords, entry.version)
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
