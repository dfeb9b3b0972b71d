"""Statistics of an epoch: its cost, its progress, and whether the loader or its consumer is the bottleneck."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from .feeds import Feed, Shuffle
from .order import Order, Rows, Share, chunks_in, chunks_read
from .permutation import Ints

_SLOW = 0.1
"""Share of the time that one side must wait for the other, for the other to be the bottleneck."""
_COUNTED_FILLS = 2000
"""Maximum number of fills whose cost is computed; the cost of a longer epoch is extrapolated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderCost:
    """The cost of one epoch for one rank, computed before data is read."""

    batches: int
    samples: int
    chunks: int
    """Number of chunk fetches; without shards, this is the number of requests. A chunk fetched twice counts twice."""
    stored_chunks: int
    """Number of chunks of the arrays."""
    decoded_bytes: int
    """Decoded bytes of the fetched chunks: without compression, an upper bound of the bytes transferred."""
    memory_bytes: int
    """Maximum memory of each worker: decoded rows, and batches that are ready or in progress."""
    exact: bool
    """False if the cost was extrapolated from the start of a very long epoch."""

    def __str__(self) -> str:
        about = "" if self.exact else "about "
        return (
            f"{self.batches:,} batches of {self.samples:,} samples: {about}{self.chunks:,} chunks fetched of "
            f"{self.stored_chunks:,} stored, {about}{self.decoded_bytes / 1e6:,.1f} MB decoded; "
            f"{self.memory_bytes / 1e6:,.1f} MB of memory"
        )


def cost_of(order: Order, shares: Sequence[Share], *, memory_bytes: int) -> LoaderCost:
    """The cost of an epoch for one rank.

    Args:
        order: The order of the epoch.
        shares: The share of each worker.
        memory_bytes: Maximum memory of one worker.
    """
    feeds = order.feeds.feeds
    counted = [0] * len(feeds)
    fills = samples = 0

    def count(rows: Sequence[Rows | None]) -> None:
        for number, one in enumerate(rows):
            if one is not None:
                counted[number] += chunks_read(feeds[number], one)

    for share in shares:
        if share.batches:
            count(order.resident_rows())
        for fill in order.fills(share):
            count(fill.rows)
            fills, samples = fills + 1, samples + fill.samples.size
            if fills >= _COUNTED_FILLS:
                break
    total = sum(share.stop - share.start for share in shares)
    chunks = [round(number * total / samples) if samples else 0 for number in counted]
    pairs = list(zip(chunks, feeds, strict=True))
    return LoaderCost(
        batches=sum(share.batches for share in shares),
        samples=total,
        chunks=sum(chunks),
        stored_chunks=sum(-(-feed.length // feed.chunk) * feed.across for feed in feeds),
        decoded_bytes=sum(number * feed.chunk * feed.row_bytes // feed.across for number, feed in pairs),
        memory_bytes=memory_bytes,
        exact=samples == total,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderReport:
    """Statistics of one epoch since its first batch. As text, one line that ends with advice."""

    epoch: int
    batches: int
    """Batches taken by the consumer."""
    samples: int
    """Samples of those batches."""
    nbytes: int
    """Bytes of those batches."""
    seconds: float
    """Seconds from the start to the last batch taken."""
    consumer_waited: float
    """Seconds in which the consumer waited for a batch."""
    loader_waited: float
    """Seconds in which the loader waited for the consumer, because `prefetch_bytes` of batches were ready."""
    buffer_waited: float
    """Seconds in which no further read was started, because `buffer_bytes` of rows were read and not yet in batches."""
    chunks: int
    """Number of chunk fetches. A chunk fetched twice counts twice."""
    reused: int
    """Number of chunks that a batch needed and that were in memory already, fetched for another batch or field."""
    shuffle: Shuffle | None

    @property
    def samples_per_second(self) -> float:
        """Samples per second that the consumer took."""
        return self.samples / self.seconds if self.seconds else 0.0

    @property
    def bytes_per_second(self) -> float:
        """Bytes per second that the consumer took."""
        return self.nbytes / self.seconds if self.seconds else 0.0

    @property
    def bottleneck(self) -> str:
        """`loader`, `consumer`, or `neither` if both wait little."""
        waited = self.consumer_waited / self.seconds if self.seconds else 0.0
        if waited > _SLOW:
            return "loader"
        return "consumer" if self.batches and self.loader_waited > _SLOW * self.seconds else "neither"

    @property
    def advice(self) -> str:
        """What to change to make the epoch faster."""
        if self.bottleneck == "consumer":
            return "the loader waits for its consumer: only a faster consumer makes this faster; fewer workers suffice"
        if self.bottleneck == "neither":
            return "loader and consumer are equally fast; nothing to change"
        if self.shuffle == "global" and self.chunks > 2 * self.reused:
            return 'most chunks are fetched for one batch only: raise buffer_bytes, or use shuffle="chunks"'
        if self.buffer_waited > _SLOW * self.seconds:
            return (
                "the buffer is full while batches are late: raise buffer_bytes and prefetch_bytes, or use more workers"
            )
        return "reading is slower than the consumer: raise Limits.requests, use workers, or store larger chunks"

    def __str__(self) -> str:
        share = 100 / self.seconds if self.seconds else 0.0
        return (
            f"epoch {self.epoch}: {self.batches:,} batches, {self.samples_per_second:,.0f} samples/s, "
            f"{self.bytes_per_second / 1e6:,.1f} MB/s; {self.chunks:,} chunks fetched, {self.reused:,} reused; "
            f"the consumer waited {share * self.consumer_waited:.0f} % of the time, "
            f"the loader {share * self.loader_waited:.0f} %: {self.advice}"
        )


class Meter:
    """Counts reads and batches while an epoch runs."""

    __slots__ = (
        "_batches",
        "_buffer_waited",
        "_chunks",
        "_consumer_waited",
        "_epoch",
        "_last",
        "_loader_waited",
        "_nbytes",
        "_samples",
        "_shuffle",
        "_started",
        "_touched",
    )

    def __init__(self, epoch: int, shuffle: Shuffle | None) -> None:
        self._epoch = epoch
        self._shuffle: Shuffle | None = shuffle
        self._started = self._last = 0.0
        self._batches = self._samples = self._nbytes = 0
        self._consumer_waited = self._loader_waited = self._buffer_waited = 0.0
        self._chunks = self._touched = 0

    def start(self) -> None:
        """The consumer requested its first batch."""
        self._started = self._last = perf_counter()

    def read(self, feed: Feed, starts: Ints, stops: Ints) -> None:
        """One call has read these ranges of rows."""
        self._chunks += chunks_in(feed, starts, stops)

    def touched(self, feed: Feed, places: Ints, width: int) -> None:
        """A batch has taken `width` rows from each of these positions on."""
        starts = np.sort(places)
        self._touched += chunks_in(feed, starts, starts + width)

    def taken(self, samples: int, nbytes: int, waited: float) -> None:
        """The consumer has taken a batch, after waiting for `waited` seconds."""
        self._batches += 1
        self._samples += samples
        self._nbytes += nbytes
        self._consumer_waited += waited
        self._last = perf_counter()

    def waited_for_consumer(self, seconds: float) -> None:
        """The loader has waited because enough batches were ready."""
        self._loader_waited += seconds

    def buffer_was_full(self, seconds: float) -> None:
        """Reading has waited because the buffer was full."""
        self._buffer_waited += seconds

    def report(self) -> LoaderReport:
        """The statistics up to the last batch that was taken."""
        return LoaderReport(
            epoch=self._epoch,
            batches=self._batches,
            samples=self._samples,
            nbytes=self._nbytes,
            seconds=self._last - self._started,
            consumer_waited=self._consumer_waited,
            loader_waited=self._loader_waited,
            buffer_waited=self._buffer_waited,
            chunks=self._chunks,
            reused=max(0, self._touched - self._chunks),
            shuffle=self._shuffle,
        )
