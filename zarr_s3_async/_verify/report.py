"""The report of `verify`: findings per node, as objects, text and JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from .._types import Coords

FindingKind: TypeAlias = Literal["metadata", "corrupt", "unreadable", "missing", "extra", "foreign", "leftover"]

KINDS: tuple[FindingKind, ...] = ("metadata", "corrupt", "unreadable", "missing", "extra", "foreign", "leftover")
"""Kinds of findings, the most severe first."""
_HARMLESS: frozenset[FindingKind] = frozenset({"missing", "leftover"})
_LINES = 20
"""Maximum number of findings per kind and node in the text."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One deviation of the stored data from the metadata or the specification."""

    kind: FindingKind
    """`metadata`: a document is invalid or contradicts another. `corrupt`: bytes do not decode to a chunk of the array.
    `unreadable`: the store could not return the object. `missing`: a chunk is not stored, and reads as the fill value.
    `extra`: a chunk key outside the array's grid. `foreign`: a key that does not belong to Zarr. `leftover`: a
    temporary object that this library could not delete because its process was killed; it may be deleted."""
    key: str
    """Key of the object relative to the store's root; for an unreadable node, its path."""
    what: str
    """Description of the problem."""
    position: Coords | None = None
    """Coordinates in the array's grid of objects; for an `extra` key, the coordinates that it encodes."""
    chunk: Coords | None = None
    """Coordinates of the chunk in the array; None for a whole shard, or where it is not a chunk."""
    codec: str | None = None
    """The codec that detected it."""
    error: str | None = None
    """Class name of the error that reading it raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReport:
    """The findings of one array or group."""

    path: str
    """Path relative to the store's root; empty for the root."""
    kind: Literal["array", "group", "unreadable"]
    zarr_format: Literal[2, 3] | None
    """None if it cannot be determined."""
    objects: int = 0
    """Chunks or shards of the array's grid that are stored."""
    objects_expected: int = 0
    """Chunks or shards in the array's grid."""
    chunks: int = 0
    """Chunks that were read and decoded, each chunk of a shard counted."""
    chunks_expected: int = 0
    """Chunks in the array."""
    nbytes: int = 0
    """Bytes of the objects that were read."""
    unused_bytes: int = 0
    """Bytes of shards that belong to no chunk: left by writers that replace chunks in place. Not a finding."""
    unchecked: int = 0
    """Objects that could not be checked because the node's metadata is invalid."""
    counts: Mapping[FindingKind, int] = field(default_factory=dict)
    """Number of findings per kind. A missing shard is one finding, however many chunks it would contain."""
    findings: tuple[Finding, ...] = ()
    """The first `max_findings` of each kind."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """The result of comparing the stored objects of an array or a group with its metadata.

    `print(report)` shows it as text, `report.to_json()` returns JSON.
    """

    url: str
    """URL of the array or group."""
    strict: bool
    """Whether missing chunks count as findings."""
    nodes: tuple[NodeReport, ...]
    """Every node, parents before children."""
    objects: int
    """Objects that were read, metadata included."""
    nbytes: int
    """Bytes that were read."""
    seconds: float

    @property
    def ok(self) -> bool:
        """True if there are no problems. Leftovers are no problem; missing chunks are one only with `strict`."""
        return not self.problems

    @property
    def problems(self) -> int:
        """Number of findings that make `ok` False."""
        return sum(count for kind, count in self.counts.items() if not self._is_harmless(kind))

    @property
    def counts(self) -> dict[FindingKind, int]:
        """Number of findings per kind, over all nodes."""
        return {kind: sum(node.counts.get(kind, 0) for node in self.nodes) for kind in KINDS}

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings of all nodes; see `NodeReport.findings`."""
        return tuple(finding for node in self.nodes for finding in node.findings)

    def of(self, kind: FindingKind) -> tuple[Finding, ...]:
        """The findings of one kind.

        Args:
            kind: Such as `corrupt` or `missing`.

        Returns:
            Those that were kept; see `max_findings` of `Session.verify`.
        """
        return tuple(finding for finding in self.findings if finding.kind == kind)

    def __repr__(self) -> str:
        found = "ok" if self.ok else f"{self.problems:,} problems"
        text = f"<VerifyReport of {self.url}: {found}, {len(self.nodes):,} nodes, {self.objects:,} objects; print it>"
        return _printable(text)

    def __str__(self) -> str:
        return "\n".join(map(_printable, self._lines()))

    def to_json(self) -> str:
        """The whole report as one JSON object, with the fields of these classes."""
        nodes = [{**asdict(node), "counts": dict(node.counts)} for node in self.nodes]
        totals: dict[str, Any] = {name: getattr(self, name) for name in ("url", "ok", "strict", "problems", "counts")}
        costs = {name: getattr(self, name) for name in ("objects", "nbytes", "seconds")}
        return json.dumps({**totals, **costs, "nodes": nodes}, indent=2)

    def _is_harmless(self, kind: FindingKind) -> bool:
        return kind in _HARMLESS and not (self.strict and kind == "missing")

    def _lines(self) -> Iterator[str]:
        for node in self.nodes:
            yield f"{node.path or '/'}: {_about(node)}"
            for kind in KINDS:
                # The number of missing chunks is shown above; their keys matter only where missing chunks are a
                # problem.
                if kind != "missing" or self.strict:
                    yield from _of_kind(node, kind)
        verdict = "all well" if self.ok else _count(self.problems, "finding")
        read = f"{_count(self.objects, 'object')} of {self.nbytes:,} bytes read in {self.seconds:.1f} s"
        yield f"{self.url}: {verdict}; {read}"


def _about(node: NodeReport) -> str:
    if node.kind == "unreadable":
        return f"not checked, nor {_count(node.unchecked, 'object')} below"
    what = f"{node.kind}, v{node.zarr_format}"
    if node.kind == "group":
        return what
    parts = [what, f"{node.chunks:,} of {_count(node.chunks_expected, 'chunk')} stored and well"]
    if node.objects_expected != node.chunks_expected:
        parts.append(f"in {node.objects:,} of {_count(node.objects_expected, 'shard')}")
    parts.append(f"{node.nbytes:,} bytes")
    if node.unused_bytes:
        parts.append(f"{node.unused_bytes:,} of them unused")
    if node.unchecked:
        parts.append(f"{_count(node.unchecked, 'object')} not checked")
    return ", ".join(parts)


def _of_kind(node: NodeReport, kind: FindingKind) -> Iterator[str]:
    shown = [finding for finding in node.findings if finding.kind == kind][:_LINES]
    for finding in shown:
        chunk = "" if finding.chunk is None else f", chunk {finding.chunk}"
        yield f"  {kind:<10} {finding.key!r}{chunk}: {finding.what}"
    more = node.counts.get(kind, 0) - len(shown)
    if more:
        yield f"  {kind:<10} … and {more:,} more"


def _printable(line: str) -> str:
    """Escape control characters: keys are untrusted, and must not break lines or move the cursor."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in line)


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyProgress:
    """Progress of a `verify`. The total number of objects is unknown until the last page of the listing."""

    listed: int
    """Keys listed so far."""
    objects: int
    """Objects read so far."""
    nbytes: int
    """Bytes that were read."""
    findings: int
    """Findings of all kinds so far; missing chunks are counted at the end of each array."""


OnProgress: TypeAlias = Callable[[VerifyProgress], None]
