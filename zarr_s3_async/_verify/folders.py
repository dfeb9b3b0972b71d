"""State of a `verify` walk: the folders above the current key, findings per node, and which objects were listed.

Memory is bounded, however large the grid is.
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
"""Maximum number of grid positions that are tracked: 8 MiB."""
_BLOCK = 2**16


class StoredPositions:
    """A bit set over the first `_BITS` positions of a grid; it grows only as far as positions are added."""

    __slots__ = ("_bits", "_grid")

    def __init__(self, grid: Shape) -> None:
        self._grid = grid
        self._bits = bytearray()

    def add(self, position: Coords) -> bool:
        """Mark the object at this grid position as stored; False if it is marked already."""
        flat = 0
        for at, n in zip(position, self._grid, strict=True):
            flat = flat * n + at
        byte, bit = divmod(flat, 8)
        # Not tracked: such chunks are counted, but which of them are missing is not listed.
        if flat >= _BITS:
            return True
        # Doubling keeps the cost per added position constant; `_BITS` bounds the memory.
        if byte >= len(self._bits):
            wanted = min(max(byte + 1, 2 * len(self._bits)), _BITS // 8)
            self._bits.extend(bytes(wanted - len(self._bits)))
        is_new = not self._bits[byte] & 1 << bit
        self._bits[byte] |= 1 << bit
        return is_new

    def absent(self) -> Iterator[Coords]:
        """Positions that were not added, in row-major order, among those that are tracked."""
        end = min(prod(self._grid), _BITS)
        for at in range(0, len(self._bits), _BLOCK):
            # Block by block: unpacking all bits at once would take eight times the memory of the set.
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
    """Running totals over all nodes."""

    __slots__ = ("findings", "listed", "nbytes", "objects")

    def __init__(self) -> None:
        self.listed = 0
        self.objects = 0
        self.nbytes = 0
        self.findings = 0

    def read(self, nbytes: int) -> None:
        """Count one more object of `nbytes` bytes."""
        self.objects += 1
        self.nbytes += nbytes

    def progress(self) -> VerifyProgress:
        """An immutable copy, for progress callbacks."""
        return VerifyProgress(listed=self.listed, objects=self.objects, nbytes=self.nbytes, findings=self.findings)


class NodeTally:
    """Collects the findings of one node: all are counted, and the first ones of each kind are kept."""

    __slots__ = (
        "_findings",
        "_max_findings",
        "_totals",
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

    def __init__(self, path: str, totals: Totals, max_findings: int) -> None:
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
        self._totals = totals
        self._max_findings = max_findings
        self._findings: dict[FindingKind, list[Finding]] = {kind: [] for kind in KINDS}

    def add(self, finding: Finding) -> None:
        """Count a finding, and keep it unless the maximum number is kept already."""
        self.count(finding.kind)
        if self.remaining(finding.kind):
            self._findings[finding.kind].append(finding)

    def count(self, kind: FindingKind, n: int = 1) -> None:
        """Count findings that `keep` may add later."""
        self.counts[kind] += n
        self._totals.findings += n

    def remaining(self, kind: FindingKind) -> int:
        """How many more findings of this kind can be kept."""
        return self._max_findings - len(self._findings[kind])

    def keep(self, finding: Finding) -> None:
        """Keep a finding that was counted already."""
        self._findings[finding.kind].append(finding)

    def report(self) -> NodeReport:
        """The node's finished report."""
        meta = self.meta
        return NodeReport(
            path=self.path,
            kind=self.kind,
            zarr_format=self.zarr_format,
            objects=self.objects,
            objects_expected=0 if meta is None else prod(meta.grid_shape),
            chunks=self.chunks,
            chunks_expected=0 if meta is None else prod(grid_shape(meta.chunk_axes, meta.shape)),
            nbytes=self.nbytes,
            unused_bytes=self.unused,
            unchecked=self.unchecked,
            counts={kind: self.counts[kind] for kind in KINDS if self.counts[kind]},
            findings=tuple(finding for kind in KINDS for finding in sorted(self._findings[kind], key=_order)),
        )


def _order(finding: Finding) -> tuple[Coords, Coords, str]:
    """Sort key: grid order, since workers find them in any order."""
    return finding.position or (), finding.chunk or (), finding.key


class Folder:
    """A folder of keys: that of a node, or one that belongs to no node."""

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
        """Findings of the node, or of the node that contains the folder."""
        self.is_node = is_node
        self.descends = descends
        """Whether nodes may lie below: False for arrays and for folders in which no nodes are looked for."""
        self.documents: frozenset[str] = frozenset()
        """Names of the documents that were read to determine what the node is."""
        self.is_beside = False
        """Whether a document of the other format was found here."""
        self.objects: Objects | None = None
        """Reader of an array's objects; None if it is no array or its codecs are unknown."""
        self.stored: StoredPositions | None = None
        """Stored objects of an array; None for other nodes."""
        self.claims: dict[str, Mapping[str, JSON]] | None = None
        """Documents in the consolidated metadata of this group, by path, of nodes that the walk has not reached yet."""

    def is_above(self, key: str) -> bool:
        """True if the key lies in this folder or below it."""
        return key.startswith(self.prefix)

    def folder_of(self, key: str) -> str | None:
        """Path of the direct subfolder that contains the key; None if the key lies directly in this folder."""
        name, slash, _ = key[len(self.prefix) :].partition("/")
        return self.prefix + name if slash else None

    def claims_about(self) -> Iterator[tuple[dict[str, Mapping[str, JSON]], str]]:
        """The `claims` of this group and of those above, each with this node's path relative to that group."""
        folder: Folder | None = self
        while folder is not None:
            if folder.claims is not None:
                yield folder.claims, self.path[len(folder.prefix) :]
            folder = folder.above
