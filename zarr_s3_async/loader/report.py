"""Figures of an epoch: what it will cost, what it has done so far, and whether the loader or its consumer is slower."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from time import perf_counter

import numpy as np

from .feeds import Feed, Shuffle
from .order import Order, Rows, Share, chunks_in, chunks_read
from .permutation import Ints

_SLOW = 0.1
"""Share of the time that one may wait for the other before it is called slow."""
_COUNTED_FILLS = 2000
"""The cost of an epoch of more is reckoned from so many."""


@dataclass(frozen=True, slots=True, kw_only=True)
class LoaderCost:
    """What one epoch costs one rank, known before anything is read."""

    batches: int
    samples: int
    chunks: int
    """Chunks that are fetched and decoded, each as often as that is done; where each is an object, as many requests."""
    stored_chunks: int
    """Chunks that the arrays have."""
    decoded_bytes: int
    """Of the chunks that are fetched: without compression this is at most what is transferred."""
    memory_bytes: int
    """At most, in each worker: decoded rows, and batches ready or in the making."""
    exact: bool
    """False where it was reckoned from the beginning of a very long epoch."""

    def __str__(self) -> str:
        about = "" if self.exact else "about "
        return (
            f"{self.batches:,} batches of {self.samples:,} samples: {about}{self.chunks:,} chunks fetched of "
            f"{self.stored_chunks:,} stored, {about}{self.decoded_bytes / 1e6:,.1f} MB decoded; "
            f"{self.memory_bytes / 1e6:,.1f} MB of memory"
        )


def cost_of(order: Order, shares: Sequence[Share], *, memory_bytes: int) -> LoaderCost:
    """Of the shares of one rank, one per worker.

    Args:
        order: Of the epoch.
        shares: What each worker has of it.
        memory_bytes: Of one worker.
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
    """Figures of one epoch, from its first batch on. As text it is one line that ends with what to change."""

    epoch: int
    batches: int
    """Taken by the consumer."""
    samples: int
    nbytes: int
    """Bytes of those batches."""
    seconds: float
    consumer_waited: float
    """Seconds in which the consumer waited for a batch."""
    loader_waited: float
    """Seconds in which the loader waited for the consumer, with as many batches ready as `prefetch_bytes` holds."""
    buffer_waited: float
    """Seconds in which nothing more was asked for, since `buffer_bytes` were read and not yet in batches."""
    chunks: int
    """Chunks fetched and decoded, each as often as that was done."""
    reused: int
    """Chunks that a batch needed and that were in memory: fetched for an earlier one, or for a field beside it."""
    shuffle: Shuffle | None

    @property
    def samples_per_second(self) -> float:
        """Rate at which the consumer took samples."""
        return self.samples / self.seconds if self.seconds else 0.0

    @property
    def bytes_per_second(self) -> float:
        """Rate at which the consumer took bytes."""
        return self.nbytes / self.seconds if self.seconds else 0.0

    @property
    def bottleneck(self) -> str:
        """`loader`, `consumer`, or `neither` where both wait little."""
        waited = self.consumer_waited / self.seconds if self.seconds else 0.0
        if waited > _SLOW:
            return "loader"
        return "consumer" if self.batches and self.loader_waited > _SLOW * self.seconds else "neither"

    @property
    def advice(self) -> str:
        """What to change."""
        if self.bottleneck == "consumer":
            return "the loader waits for its consumer; a faster model, or fewer workers, would change something"
        if self.bottleneck == "neither":
            return "they keep pace; nothing to change"
        if self.shuffle == "global" and self.chunks > 2 * self.reused:
            return 'each batch fetches chunks of its own: raise buffer_bytes, or use shuffle="chunks"'
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
    """Counts while an epoch runs."""

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
        """The consumer asked for its first batch."""
        self._started = self._last = perf_counter()

    def read(self, feed: Feed, starts: Ints, stops: Ints) -> None:
        """Rows were read, by one call."""
        self._chunks += chunks_in(feed, starts, stops)

    def touched(self, feed: Feed, places: Ints, width: int) -> None:
        """A batch took rows: `width` from each of these on."""
        starts = np.sort(places)
        self._touched += chunks_in(feed, starts, starts + width)

    def taken(self, samples: int, nbytes: int, waited: float) -> None:
        """The consumer has a batch, for which it waited so many seconds."""
        self._batches += 1
        self._samples += samples
        self._nbytes += nbytes
        self._consumer_waited += waited
        self._last = perf_counter()

    def waited_for_consumer(self, seconds: float) -> None:
        """No batch more was made meanwhile."""
        self._loader_waited += seconds

    def buffer_was_full(self, seconds: float) -> None:
        """No fill more was read meanwhile."""
        self._buffer_waited += seconds

    def report(self) -> LoaderReport:
        """The figures up to the last batch that was taken."""
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
