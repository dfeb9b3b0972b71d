"""Fetch byte ranges of one version of an object: merge neighbours, split long ranges, run requests in parallel.

Neighbouring spans are merged into one request (`byte_range.coalesce`). A span of more than `Limits.range_bytes` is
split into pieces, which are received in parallel into one buffer.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from functools import partial

import numpy as np

from .._concurrency.workers import run_workers
from .._types import Buffer, Sink, Version
from ..byte_range import REQUEST_BYTES, Span, coalesce
from ..config import Limits
from ..errors import Conflict
from ..stores.base import Store


def coalescing(limits: Limits) -> Callable[[Iterable[Span]], Iterator[tuple[Span, list[Span]]]]:
    """`coalesce` with the gaps that a session allows."""
    return partial(coalesce, max_gap=limits.gap_bytes, small_gap=min(limits.gap_bytes, REQUEST_BYTES))


class Ranges:
    """Byte ranges of the objects of one store."""

    __slots__ = ("_at_once", "_coalesce", "_longest", "_store")

    def __init__(self, store: Store, limits: Limits) -> None:
        self._store = store
        self._coalesce = coalescing(limits)
        self._longest = limits.range_bytes
        self._at_once = limits.requests

    async def fetch(
        self,
        key: str,
        version: Version,
        wanted: list[tuple[Span, int]],
        buffers: list[Buffer | None],
        sinks: Sequence[Sink | None] | None,
    ) -> None:
        """Fetch the bytes of every wanted span into `buffers`, at the span's position.

        Args:
            key: The object.
            version: The version to read.
            wanted: Spans with positions; one span may occur with several positions.
            buffers: Receives the results.
            sinks: By position; used for spans that are a request of their own.

        Raises:
            Conflict: The object is at another version.
        """
        receive = partial(self._receive, key, version, buffers, sinks)
        requests = list(self._requests(wanted))
        await run_workers(min(self._at_once, len(requests)), iter(requests), receive)

    async def fetch_into(self, key: str, version: Version, pieces: list[tuple[Span, memoryview]]) -> None:
        """Fetch every span into the given memory of its length; see `fetch`."""
        buffers: list[Buffer | None] = [None] * len(pieces)
        spans = [(span, at) for at, (span, _) in enumerate(pieces)]
        await self.fetch(key, version, spans, buffers, [partial(_exactly, memory) for _, memory in pieces])
        for (_, memory), data in zip(pieces, buffers, strict=True):
            # The store did not use the sink, or the span was received in a merged request.
            if data is not None and memoryview(data).obj is not memory.obj:
                memory[:] = data

    def one(self, key: str, version: Version, span: Span, sink: Sink | None) -> Awaitable[Buffer]:
        """Fetch the bytes of one span; see `fetch`."""
        get = self._get if span.stop - span.start <= self._longest else self._in_pieces
        return get(key, version, span, sink)

    def cost(self, spans: Iterable[Span]) -> tuple[int, int]:
        """Number of requests of a `fetch` of these spans, and the bytes that they transfer."""
        requests = nbytes = 0
        for request, _ in self._coalesce(sorted(spans)):
            length = request.stop - request.start
            # A long request is split into pieces: see `_in_pieces`.
            requests += -(-length // self._longest)
            nbytes += length
        return requests, nbytes

    def first(self, spans: Sequence[Span]) -> tuple[Span, int]:
        """The first request for sorted spans, and the number of spans that it covers."""
        request, members = next(self._coalesce(spans))
        return request, len(members)

    def _requests(self, wanted: list[tuple[Span, int]]) -> Iterator[tuple[Span, list[tuple[Span, int]]]]:
        """The requests to send, each with the spans that it covers and their positions."""
        # Sorted by position, so that neighbours can be merged; the positions in the result travel along.
        wanted.sort()
        ahead = iter(wanted)
        groups = self._coalesce((span for span, _ in wanted))
        return ((request, [next(ahead) for _ in spans]) for request, spans in groups)

    async def _receive(
        self,
        key: str,
        version: Version,
        buffers: list[Buffer | None],
        sinks: Sequence[Sink | None] | None,
        asked: tuple[Span, list[tuple[Span, int]]],
    ) -> None:
        request, members = asked
        # A merged request also receives the gap bytes, so it cannot go straight into the memory of one chunk.
        sink = None if sinks is None or len(members) > 1 else sinks[members[0][1]]
        body = memoryview(await self.one(key, version, request, sink))
        origin = request.start
        for (start, stop), position in members:
            buffers[position] = body[start - origin : stop - origin]

    async def _get(self, key: str, version: Version, span: Span, sink: Sink | None) -> Buffer:
        blob = await self._store.get(key, range=span, version=version, sink=sink)
        if blob is None or len(blob.data) != span.stop - span.start:
            # The object was replaced by a shorter one, or deleted: for the caller the same as another version.
            raise Conflict(f"{self._store.url}/{key} has no bytes {span.start} to {span.stop}", key=key)
        return blob.data

    async def _in_pieces(self, key: str, version: Version, span: Span, sink: Sink | None) -> Buffer:
        """Fetch a long range in pieces, in parallel."""
        length = span.stop - span.start
        # One buffer for all pieces, so that they need not be joined; `empty` does not zero it, as `bytearray` would.
        memory = memoryview(np.empty(length, np.uint8)) if sink is None else sink(length)

        async def receive(at: int) -> None:
            part = memory[at : at + self._longest]
            piece = Span(span.start + at, span.start + at + len(part))
            data = memoryview(await self._get(key, version, piece, partial(_exactly, part)))
            if data.obj is not part.obj:
                part[:] = data  # the store did not use the sink

        starts = range(0, length, self._longest)
        await run_workers(min(self._at_once, len(starts)), iter(starts), receive)
        return memory


def _exactly(memory: memoryview, length: int) -> memoryview:
    # A body of another length is received elsewhere; the store or the caller refuses it.
    return memory if length == len(memory) else memoryview(bytearray(length))
