"""What an epoch costs, counted in its order before anything is read."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from .order import Order, Rows, Share, chunks_read

_COUNTED_FILLS = 2000
"""An epoch of more is reckoned from so many."""


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
