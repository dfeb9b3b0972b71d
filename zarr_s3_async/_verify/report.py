"""What `verify` found: per node, as text and as JSON."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping
from dataclasses import asdict, dataclass, field
from typing import Any, Literal, TypeAlias

from .._types import Coords

FindingKind: TypeAlias = Literal["metadata", "corrupt", "unreadable", "missing", "extra", "foreign", "leftover"]

KINDS: tuple[FindingKind, ...] = ("metadata", "corrupt", "unreadable", "missing", "extra", "foreign", "leftover")
"""The worst first."""
_HARMLESS: frozenset[FindingKind] = frozenset({"missing", "leftover"})
_LINES = 20
"""Findings of one kind and node that the text shows."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One thing that is not as it should be."""

    kind: FindingKind
    """`metadata`: a document that does not read, or contradicts another. `corrupt`: bytes that are no chunk of the
    array. `unreadable`: the store did not hand the object out. `missing`: a chunk that is not stored, and reads as
    the fill value. `extra`: a chunk key that is none of the array's. `foreign`: a key that is nothing of Zarr's.
    `leftover`: what this library left when it was killed; it may be deleted."""
    key: str
    """Of the object, below the store's root; of a node that does not read, its path."""
    what: str
    """What is wrong with it."""
    position: Coords | None = None
    """Where the object is in the array's grid of objects; of an `extra` key, what it spells."""
    chunk: Coords | None = None
    """Which chunk of the array it is; None where it is a whole shard, or no chunk."""
    codec: str | None = None
    """The codec that saw it."""
    error: str | None = None
    """Class of the error that a read of it raises."""


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeReport:
    """One array or group."""

    path: str
    """Below the store's root; empty for the root."""
    kind: Literal["array", "group", "unreadable"]
    zarr_format: Literal[2, 3] | None
    """None where it cannot be told."""
    objects: int = 0
    """Chunks or shards of the array's grid that the listing names."""
    objects_expected: int = 0
    """Chunks or shards that its grid has."""
    chunks: int = 0
    """Chunks that were read and decode; those of shards one by one."""
    chunks_expected: int = 0
    """Chunks that the array has."""
    nbytes: int = 0
    """Bytes of the objects that were read."""
    unused_bytes: int = 0
    """Bytes of shards that belong to no chunk: what other writers left when they replaced chunks. No finding."""
    unchecked: int = 0
    """Objects that could not be checked, since the node's metadata does not read."""
    counts: Mapping[FindingKind, int] = field(default_factory=dict)
    """How many findings there were of each kind. A missing shard is one, whatever it would hold."""
    findings: tuple[Finding, ...] = ()
    """The first of each kind, as many as were asked for."""


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyReport:
    """What is stored of an array or a group, compared with its metadata. `print(report)`, or `report.to_json()`."""

    url: str
    """Where it is."""
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
        """True where nothing is wrong: leftovers are harmless, and missing chunks are unless `strict`."""
        return not self.problems

    @property
    def problems(self) -> int:
        """How many findings make it not ok."""
        return sum(count for kind, count in self.counts.items() if not self._is_harmless(kind))

    @property
    def counts(self) -> dict[FindingKind, int]:
        """Findings of each kind, over all nodes."""
        return {kind: sum(node.counts.get(kind, 0) for node in self.nodes) for kind in KINDS}

    @property
    def findings(self) -> tuple[Finding, ...]:
        """The findings of all nodes; see `NodeReport.findings`."""
        return tuple(finding for node in self.nodes for finding in node.findings)

    def of(self, kind: FindingKind) -> tuple[Finding, ...]:
        """The findings of one kind."""
        return tuple(finding for finding in self.findings if finding.kind == kind)

    def __repr__(self) -> str:
        found = "ok" if self.ok else f"{self.problems:,} problems"
        text = f"<VerifyReport of {self.url}: {found}, {len(self.nodes):,} nodes, {self.objects:,} objects; print it>"
        return _printable(text)

    def __str__(self) -> str:
        return "\n".join(map(_printable, self._lines()))

    def to_json(self) -> str:
        """The whole report as one JSON object; the fields are those of these classes."""
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
                # That chunks are missing is said above; which ones is of interest only where it is wrong.
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
    """One line: what strangers named their keys cannot break it, nor move a terminal's cursor."""
    return "".join(c if c.isprintable() else " " if c.isspace() else "\N{REPLACEMENT CHARACTER}" for c in line)


def _count(n: int, noun: str) -> str:
    return f"{n:,} {noun}{'' if n == 1 else 's'}"


@dataclass(frozen=True, slots=True, kw_only=True)
class VerifyProgress:
    """How far a `verify` has come. The number of objects is not known before the last page of the listing."""

    listed: int
    """Keys that the listing has named by now."""
    objects: int
    """Objects that were read."""
    nbytes: int
    """Bytes that were read."""
    findings: int
    """Findings of all kinds; missing chunks are counted at the end of each array."""


OnProgress: TypeAlias = Callable[[VerifyProgress], None]
