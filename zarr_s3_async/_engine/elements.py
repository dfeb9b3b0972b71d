"""Read a few elements of uncompressed chunks by byte ranges.

Ranges are used if they transfer clearly fewer bytes than the whole chunks; docs/shards.md describes the rule.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from functools import lru_cache
from typing import Any, NamedTuple

import numpy as np

from .._plan.plan import Part
from .._plan.runs import Runs, runs_of, whole_chunk
from .._types import Buffer
from ..byte_range import REQUEST_BYTES, Span
from ..codecs.pipeline import Pipeline
from ..config import Limits
from .ranges import coalescing

_MOVED = 0.5
"""Maximum share of the chunks' bytes that the ranges may transfer."""
_KEPT_SHAPES = 64
"""Number of block shapes whose pipelines are cached."""


class Wanted(NamedTuple):
    """Byte runs of one chunk of an object, and memory to receive them."""

    slot: int
    runs: Runs
    memory: memoryview
    """Its length is the total length of the runs."""

    def pieces(self, start: int = 0) -> list[tuple[Span, memoryview]]:
        """The span of each run in an object that stores the chunk at byte `start`, with the memory to receive it."""
        length = self.runs.length
        return [(span, self.memory[at * length : (at + 1) * length]) for at, span in enumerate(self.runs.spans(start))]


class Choice(NamedTuple):
    """The byte runs to fetch instead of whole chunks."""

    runs: list[Runs]
    """Of each part."""
    moved: int
    """Bytes of the requests for them, small gaps included."""


class Elements:
    """Locates elements in the uncompressed chunks of one layout."""

    __slots__ = ("_coalesce", "_gap", "_itemsize", "_max_gap", "_nbytes", "_order", "_shape", "decode")

    def __init__(self, pipeline: Pipeline, order: Sequence[int], limits: Limits) -> None:
        self._shape = pipeline.chunk.shape
        self._itemsize = pipeline.chunk.dtype.itemsize
        self._nbytes = pipeline.nbytes
        self._order = order
        self._gap = limits.gap_bytes
        self._max_gap = min(limits.gap_bytes, REQUEST_BYTES)
        self._coalesce = coalescing(limits)
        of_shape = lru_cache(maxsize=_KEPT_SHAPES)(pipeline.of_shape)

        def decode(runs: Runs, data: Buffer) -> np.ndarray[Any, np.dtype[Any]]:
            """The part's elements, decoded from the bytes of its runs."""
            taken: np.ndarray[Any, np.dtype[Any]] = of_shape(runs.box).decode(data)[runs.take]
            return taken

        self.decode: Callable[[Runs, Buffer], np.ndarray[Any, np.dtype[Any]]] = decode

    def choose(self, parts: Sequence[Part]) -> Choice | None:
        """The runs of each part of one object; None if reading whole chunks is cheaper."""
        # The common case, decided without any arithmetic.
        if all(part.whole for part in parts):
            return None
        chosen = list(map(self._runs, parts))
        requests, moved = map(sum, zip(*map(self._cost, chosen), strict=True))
        chunks = self._nbytes * len(parts)
        # All three must hold: fewer bytes than half, a saving worth a merged gap, and one worth each extra request.
        pays = moved <= _MOVED * chunks and chunks - moved >= max(self._gap, requests * REQUEST_BYTES)
        return Choice(chosen, moved) if pays else None

    def dense(self, parts: Sequence[Part]) -> int:
        """Number of parts that want at most half of their chunk, of parts for which `choose` gives None: their elements
        lie too close together for ranges to leave much out, or so far apart that there would be too many ranges."""
        # Indexing a chunk of one broadcast element counts what an index selects, without the memory of a chunk.
        chunk = np.broadcast_to(np.uint8(0), self._shape)
        max_size = _MOVED * self._nbytes / self._itemsize
        return sum([not part.whole and chunk[part.take].size <= max_size for part in parts])

    def _cost(self, runs: Runs) -> tuple[int, int]:
        """Number of requests for the runs of one chunk, and the bytes that they transfer."""
        gaps = np.diff(runs.starts) - runs.length
        # Runs too far apart to be merged: the result of `coalesce`, without its cost per run.
        if gaps.size == 0 or gaps.min() > max(self._max_gap, min(self._gap, 2 * runs.length)):
            return runs.starts.size, runs.nbytes
        requests = [request for request, _ in self._coalesce(runs.spans())]
        return len(requests), sum([request.stop - request.start for request in requests])

    def _runs(self, part: Part) -> Runs:
        if part.whole:
            return whole_chunk(self._shape, self._itemsize, part.take)
        return runs_of(part.take, self._shape, self._order, self._itemsize, self._max_gap)


def wanted(parts: Sequence[Part], chosen: Sequence[Runs]) -> list[Wanted]:
    """The runs of the parts, with newly allocated memory."""
    return [
        Wanted(part.slot, runs, memoryview(np.empty(runs.nbytes, np.uint8)))
        for part, runs in zip(parts, chosen, strict=True)
    ]
