"""Which objects of a grid a listing has named, in bounded memory however large the grid is.

What `verify` remembers while it walks: the folder that a key lies in, and what was found of each node.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping
from math import prod
from typing import Literal

import numpy as np

from .._grid import grid_shape
from .._model.metadata import ArrayMeta
from .._types import JSON, Coords, Shape
from .objects import Objects
from .report import KINDS, Finding, FindingKind, NodeReport, VerifyProgress

_BITS = 2**26
"""Positions of a grid that are remembered at most: 8 MiB."""
_BLOCK = 2**16


class StoredPositions:
    """A bit per position, for the first ones of a huge grid, and no further than there are any."""

    __slots__ = ("_bits", "_grid")

    def __init__(self, grid: Shape) -> None:
        self._grid = grid
        self._bits = bytearray()

    def add(self, position: Coords) -> None:
        """This one is there."""
        flat = 0
        for at, n in zip(position, self._grid, strict=True):
            flat = flat * n + at
        byte, bit = divmod(flat, 8)
        if flat >= _BITS:
            return
        if byte >= len(self._bits):
            wanted = min(max(byte + 1, 2 * len(self._bits)), _BITS // 8)
            self._bits.extend(bytes(wanted - len(self._bits)))
        self._bits[byte] |= 1 << bit

    def absent(self) -> Iterator[Coords]:
        """Positions that are not there, in row-major order; none beyond those that are remembered."""
        end = min(prod(self._grid), _BITS)
        for at in range(0, len(self._bits), _BLOCK):
            block = np.frombuffer(self._bits[at : at + _BLOCK], np.uint8)
            gaps = np.flatnonzero(np.unpackbits(block, bitorder="little") == 0) + 8 * at
            for flat in gaps.tolist():
                if flat < end:
                    yield self._position(flat)
        for flat in range(8 * len(self._bits), end):
            yield self._position(flat)

    def _position(self, flat: int) -> Coords:
        position: list[int] = []
        for n in reversed(self._grid):
            flat, at = divmod(flat, n)
            position.append(at)
        return tuple(reversed(position))


class Totals:
    """What the whole run has done by now."""

    __slots__ = ("findings", "listed", "nbytes", "objects")

    def __init__(self) -> None:
        self.listed = 0
        self.objects = 0
        self.nbytes = 0
        self.findings = 0

    def read(self, nbytes: int) -> None:
        """One more object."""
        self.objects += 1
        self.nbytes += nbytes

    def progress(self) -> VerifyProgress:
        """The same, for whoever looks on."""
        return VerifyProgress(listed=self.listed, objects=self.objects, nbytes=self.nbytes, findings=self.findings)


class NodeTally:
    """One node's report in the making: everything is counted, and the first findings of each kind are kept."""

    __slots__ = (
        "_cost",
        "_findings",
        "_max_findings",
        "chunks",
        "counts",
        "kind",
        "meta",
        "nbytes",
        "objects",
        "path",
        "unchecked",
        "unused",
        "zarr_format",
    )

    def __init__(self, path: str, cost: Totals, max_findings: int) -> None:
        self.path = path
        self.kind: Literal["array", "group", "unreadable"] = "unreadable"
        self.zarr_format: Literal[2, 3] | None = None
        self.meta: ArrayMeta | None = None
        self.objects = 0
        self.chunks = 0
        self.nbytes = 0
        self.unused = 0
        self.unchecked = 0
        self.counts: Counter[FindingKind] = Counter()
        self._cost = cost
        self._max_findings = max_findings
        self._findings: dict[FindingKind, list[Finding]] = {kind: [] for kind in KINDS}

    def add(self, finding: Finding) -> None:
        """Count it, and keep it where there is room."""
        self.count(finding.kind)
        if self.room(finding.kind):
            self._findings[finding.kind].append(finding)

    def count(self, kind: FindingKind, n: int = 1) -> None:
        """Count findings that may be kept by `keep`."""
        self.counts[kind] += n
        self._cost.findings += n

    def room(self, kind: FindingKind) -> int:
        """How many more findings of this kind are kept."""
        return self._max_findings - len(self._findings[kind])

    def keep(self, finding: Finding) -> None:
        """Keep one that is counted already."""
        self._findings[finding.kind].append(finding)

    def report(self) -> NodeReport:
        """What was found."""
        meta = self.meta
        return NodeReport(
            path=self.path,
            kind=self.kind,
            zarr_format=self.zarr_format,
            objects=self.objects,
            objects_expected=0 if meta is None else prod(meta.grid_shape),
            chunks=self.chunks,
            chunks_expected=0 if meta is None else prod(_chunk_grid(meta)),
            nbytes=self.nbytes,
            unused_bytes=self.unused,
            unchecked=self.unchecked,
            counts={kind: self.counts[kind] for kind in KINDS if self.counts[kind]},
            findings=tuple(finding for kind in KINDS for finding in sorted(self._findings[kind], key=_order)),
        )


def _order(finding: Finding) -> tuple[Coords, Coords, str]:
    """In the order of the grid; they were found in whatever order the crew came to them."""
    return finding.position or (), finding.chunk or (), finding.key


def _chunk_grid(meta: ArrayMeta) -> Shape:
    return grid_shape(meta.chunk_axes, meta.shape)


class Folder:
    """A folder of keys: a node's own, or one of nobody's."""

    __slots__ = (
        "above",
        "claims",
        "descends",
        "documents",
        "is_beside",
        "is_node",
        "objects",
        "path",
        "prefix",
        "stored",
        "tally",
    )

    def __init__(self, path: str, above: Folder | None, tally: NodeTally, *, is_node: bool, descends: bool) -> None:
        self.path = path
        self.prefix = path + "/" if path else ""
        self.above = above
        self.tally = tally
        """Of the node, or of the one that the folder lies in."""
        self.is_node = is_node
        self.descends = descends
        """Whether nodes may lie below: not below arrays, nor where one looks in vain."""
        self.documents: frozenset[str] = frozenset()
        """File names that were read to learn what the node is."""
        self.is_beside = False
        """Whether a document of the other format was met here."""
        self.objects: Objects | None = None
        """Of an array; None where its codecs are not known."""
        self.stored: StoredPositions | None = None
        """Of an array."""
        self.claims: dict[str, Mapping[str, JSON]] | None = None
        """What the consolidated metadata of this group says of nodes below that have not been met yet."""

    def is_above(self, key: str) -> bool:
        """True where the key lies in this folder or below it."""
        return key.startswith(self.prefix)

    def folder_of(self, key: str) -> str | None:
        """Path of the folder next below this one on the way to the key; None where the key lies right here."""
        name, slash, _ = key[len(self.prefix) :].partition("/")
        return self.prefix + name if slash else None

    def claims_about(self) -> Iterator[tuple[dict[str, Mapping[str, JSON]], str]]:
        """Where this group and those above keep what they say of nodes, and under which name of this one."""
        folder: Folder | None = self
        while folder is not None:
            if folder.claims is not None:
                yield folder.claims, self.path[len(folder.prefix) :]
            folder = folder.above
