"""The order of an epoch's samples, their division among processes, and the fills in which they are read.

Pure: everything here depends only on (seed, epoch, rank, world_size, worker, workers) and the feeds.

An epoch is a sequence of positions, which is divided among ranks; the batches of a rank are divided among its workers.
Positions are read in *fills*, of as many samples as half of the buffer holds. A fill is read once, whatever the order
of its samples.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain, repeat
from typing import NamedTuple

import numpy as np

from .feeds import SEQUENTIAL_FILLS, Feed, Feeds, Shuffle
from .permutation import Ints, Permutation, key_of

_NUMBERS_PER_SAMPLE = 64
"""Temporary bytes per sample for permuting samples and locating their rows."""
_FEW_SAMPLES = 2**16
_UNITS, _WITHIN, _SAMPLES, _PHASE, _CUTS = range(5)
"""The purpose of a key. It is part of the key, so that the permutations of an epoch are independent."""


class Part(NamedTuple):
    """The position of a process among those that share an epoch."""

    rank: int = 0
    world_size: int = 1
    worker: int = 0
    workers: int = 1


@dataclass(frozen=True, slots=True)
class Share:
    """The share of one part in an epoch: positions `start` to `stop`, in batches."""

    start: int
    stop: int
    batch_size: int

    @property
    def batches(self) -> int:
        """Number of batches."""
        return -(-(self.stop - self.start) // self.batch_size)

    def size_of(self, batch: int) -> int:
        """Number of samples of a batch: the last batch may be shorter."""
        return min(self.batch_size, self.stop - self.start - batch * self.batch_size)


def share_of_rank(samples: int, batch_size: int, part: Part, *, drop_last: bool) -> Share:
    """The share of a rank. Ranks differ by at most one sample; with `drop_last` all have the same number of batches."""
    # Products before the division, so that the shares differ by at most one sample.
    start = part.rank * samples // part.world_size
    stop = (part.rank + 1) * samples // part.world_size
    if drop_last:
        stop = start + samples // part.world_size // batch_size * batch_size
    return Share(start, stop, batch_size)


def share_of(samples: int, batch_size: int, part: Part, *, drop_last: bool) -> Share:
    """The share of a worker: a run of its rank's batches. Workers differ by at most one batch; the first have more."""
    whole = share_of_rank(samples, batch_size, part, drop_last=drop_last)
    each, longer = divmod(whole.batches, part.workers)
    first = part.worker * each + min(part.worker, longer)
    count = each + (part.worker < longer)
    start = min(whole.stop, whole.start + first * batch_size)
    return Share(start, min(whole.stop, start + count * batch_size), batch_size)


class Span(NamedTuple):
    """Rows that one fill keeps in memory for a later one, so that their chunks are not fetched again."""

    name: int
    """Identifies the border between two units, or fills; unique in a feed."""
    start: int
    stop: int


class Rows(NamedTuple):
    """Rows of a feed in a fill: ascending, disjoint ranges from `starts` to `stops`, which are contiguous in memory."""

    starts: Ints
    stops: Ints
    taken: tuple[Span, ...] = ()
    """Rows that earlier fills have kept for this one: they are copied, not read."""
    kept: tuple[Span, ...] = ()
    """Rows that this fill keeps for later ones."""

    @property
    def number(self) -> int:
        """Number of rows."""
        return int((self.stops - self.starts).sum())

    def places(self, rows: Ints) -> Ints:
        """Positions of these rows in memory."""
        # The common case, without a search for each row.
        if self.starts.size == 1:
            return rows - int(self.starts[0])
        offsets = np.cumsum(self.stops - self.starts) - (self.stops - self.starts)
        at = np.searchsorted(self.starts, rows, side="right") - 1
        places: Ints = rows - self.starts[at] + offsets[at]
        return places

    def to_read(self) -> tuple[Ints, Ints]:
        """Starts and stops of the ranges to read, without the taken rows; ascending and disjoint."""
        if not self.taken:
            return self.starts, self.stops
        spans = sorted((span.start, span.stop) for span in self.taken)
        taken_starts, taken_stops = _union(*np.array(spans, np.int64).T)
        starts, stops = np.sort(np.r_[self.starts, taken_stops]), np.sort(np.r_[self.stops, taken_starts])
        some = starts < stops
        return starts[some], stops[some]


@dataclass(frozen=True, slots=True, eq=False)
class Fill:
    """Samples that are read together."""

    start: int
    """Position of the first sample in the epoch."""
    samples: Ints
    """Samples in the order of the epoch."""
    rows: tuple[Rows | None, ...]
    """Rows by feed; None for a resident feed."""

    def nbytes(self, feeds: Feeds) -> int:
        """Bytes of its rows in memory."""
        pairs = zip(self.rows, feeds.feeds, strict=True)
        return sum(rows.number * feed.row_bytes for rows, feed in pairs if rows is not None)


@dataclass(frozen=True, slots=True)
class Order:
    """The order of one epoch, over all ranks and workers.

    Args:
        feeds: How the arrays are read.
        shuffle: `None`, `chunks`, `buffer` or `global`.
        seed: Any integer.
        epoch: Number of the epoch.
    """

    feeds: Feeds
    shuffle: Shuffle | None
    seed: int
    epoch: int

    def fills(self, share: Share, skip: int = 0) -> Iterator[Fill]:
        """The fills of a share, without its first `skip` samples."""
        if self.shuffle is None:
            yield from self._in_order(share.start + skip, share.stop)
        elif self.shuffle == "buffer":
            yield from self._in_buffers(share, skip)
        elif self.shuffle == "chunks":
            yield from self._in_chunks(share, skip)
        else:
            yield from self._global(share, skip)

    def resident_rows(self) -> tuple[Rows | None, ...]:
        """The rows of resident feeds; None for other feeds."""
        everything = np.array([0]), np.array([self.feeds.samples])
        return tuple(_rows(feed, *everything) if feed.resident else None for feed in self.feeds.feeds)

    def _key(self, purpose: int, *more: int) -> int:
        return key_of(self.seed, self.epoch, purpose, *more)

    def _in_order(self, start: int, stop: int) -> Iterator[Fill]:
        reader = _Forward(self.feeds, stop)
        first, rest = SEQUENTIAL_FILLS
        nbytes = chain((first, 2 * first), repeat(rest))
        for low, high in self._stored_cuts(start, stop, nbytes):
            yield Fill(low, np.arange(low, high), reader.next(low, high))

    def _in_buffers(self, share: Share, skip: int) -> Iterator[Fill]:
        # The first buffer has another size in each epoch, so that buffers do not always end at the same samples.
        first = max(1, self._key(_PHASE) % self.feeds.fill_bytes)
        reader = _Forward(self.feeds, share.stop)
        nbytes = chain((first,), repeat(self.feeds.fill_bytes))
        for low, high in self._stored_cuts(share.start, share.stop, nbytes):
            # Batches of an earlier run: the fill is not read, but its number of samples counts.
            if high - share.start <= skip:
                continue
            # Computed from a key, not drawn: every process gets the same order, and a resumed epoch too.
            order = Permutation(high - low, self._key(_WITHIN, low)).at(np.arange(high - low))
            samples = (low + order)[max(0, share.start + skip - low) :]
            yield Fill(high - samples.size, samples, reader.next(low, high))

    def _stored_cuts(self, start: int, stop: int, nbytes: Iterator[int]) -> Iterator[tuple[int, int]]:
        """Runs of samples in stored order, of these numbers of bytes; a run of several units ends at a unit border."""
        unit = self.feeds.unit
        # Samples that start in one unit.
        least = max(1, unit.rows // unit.stride)
        while start < stop:
            room = self._samples_in(min(next(nbytes), self.feeds.fill_bytes))
            last = (unit.first + (start + max(room, 1)) * unit.stride) // unit.rows - unit.first // unit.rows
            # Ending at a unit's border lets no unit be fetched for two fills.
            border = int(unit.starts(np.array([last]))[0])
            if border <= start:  # no unit ends within this number of bytes
                border = int(unit.starts(np.array([last + 1]))[0]) if room < least else start + room
            yield start, min(border, stop)
            start = border

    def _samples_in(self, nbytes: int) -> int:
        """Approximate number of consecutive samples in this number of bytes."""
        moving = [feed for feed in self.feeds.feeds if not feed.resident]
        # The first sample needs a whole window; each further one adds only a step.
        fixed = sum(feed.bytes_of(1) - _step(feed) for feed in moving)
        return min(max(0, (nbytes - fixed) // max(1, sum(map(_step, moving)))), self._max_samples())

    def _max_samples(self) -> int:
        """Maximum number of samples in a fill: for tiny samples their numbers would take more memory than the rows."""
        return max(_FEW_SAMPLES, self.feeds.fill_bytes // _NUMBERS_PER_SAMPLE)

    def _in_chunks(self, share: Share, skip: int) -> Iterator[Fill]:
        if share.start == share.stop:
            return
        unit = self.feeds.unit
        order = self._walks() if self.feeds.walks else self._permuted_units()
        low, high = unit.starts(order), unit.starts(order + 1)
        counts = high - low
        ends = np.cumsum(counts)
        first, last = (int(at) for at in np.searchsorted(ends, [share.start, share.stop - 1], side="right"))
        low[first], high[last] = high[first] - (ends[first] - share.start), high[last] - (ends[last] - share.stop)
        borders = _Borders(order, low, high, first, last + 1) if self.feeds.walks else None
        position = share.start
        while position < share.stop:
            # A fill has the units from `first` on, as many as half of the buffer holds.
            stop_unit = self._units_of_fill(counts, first, last + 1, borders)
            end = min(share.stop, int(ends[stop_unit - 1]))
            if end - share.start > skip:
                # Rows are read in stored order, whatever order the samples have.
                by_start = first + np.argsort(order[first:stop_unit])
                rows: list[Rows | None] = []
                for number, feed in enumerate(self.feeds.feeds):
                    if feed.resident:
                        rows.append(None)
                    elif borders is None or feed.sparse:
                        rows.append(_rows(feed, low[by_start], high[by_start]))
                    else:
                        rows.append(borders.rows(number, feed, first, stop_unit))
                samples = expand(low[first:stop_unit], high[first:stop_unit])
                samples = samples[Permutation(samples.size, self._key(_WITHIN, position)).at(np.arange(samples.size))]
                samples = samples[max(0, share.start + skip - position) :]
                yield Fill(end - samples.size, samples, tuple(rows))
            position, first = end, stop_unit

    def _permuted_units(self) -> Ints:
        number = self.feeds.unit.number
        return Permutation(number, self._key(_UNITS)).at(np.arange(number))

    def _walks(self) -> Ints:
        """The units in the order of several concurrent walks through the array.

        Each walk covers one section of the array. Adjacent units follow each other closely in this order, so that few
        rows must be kept. Sections start at random units, and every second walk goes backwards: otherwise one side of a
        border between two sections would be read at the start of the epoch, and the other side at its end.
        """
        number = self.feeds.unit.number
        units = np.arange(number)
        cuts = np.sort(Permutation(number - 1, self._key(_CUTS)).at(np.arange(self.feeds.walks - 1))) + 1
        walk = np.searchsorted(cuts, units, side="right")
        starts, stops = np.r_[0, cuts], np.r_[cuts, number]
        begin, end = starts[walk], stops[walk]
        # Which walks go backwards changes with the epoch.
        backwards = (walk + self._key(_CUTS, 1) % 2) % 2 == 1
        done = np.where(backwards, end - 1 - units, units - begin)
        # Walks have different lengths; relative progress makes them end together, and jitter varies their order.
        jitter = Permutation(number, self._key(_UNITS)).at(units) / number
        order: Ints = np.argsort((done + jitter) / (end - begin), kind="stable")
        return order

    def _units_of_fill(self, counts: Ints, first: int, end: int, borders: _Borders | None) -> int:
        """One after the last unit of a fill that starts with unit `first`; a fill has at least one unit."""
        end = min(end, first + self._max_units())
        counts = counts[first:end]
        ends = 1 if borders is None else 1 - borders.joined(first, end)
        nbytes = np.zeros(counts.size, np.int64)
        for feed in self.feeds.feeds:
            if feed.resident:
                continue
            if feed.sparse:
                rows = counts * feed.width
            else:  # at the end of a run of adjacent units: the rest of its windows, and of a kept chunk
                rows = counts * feed.stride + ends * (feed.width - feed.stride + feed.chunk * (borders is not None))
            nbytes += rows * feed.row_bytes
        fitting = np.searchsorted(np.cumsum(nbytes), self.feeds.fill_bytes, side="right")
        few = np.searchsorted(np.cumsum(counts), self._max_samples(), side="right")
        return first + max(1, int(min(fitting, few)))

    def _max_units(self) -> int:
        """An upper bound for the units of a fill, so that `_units_of_fill` looks at few of them."""
        return 2 + 2 * self._samples_in(self.feeds.fill_bytes) * self.feeds.unit.stride // self.feeds.unit.rows

    def _global(self, share: Share, skip: int) -> Iterator[Fill]:
        permutation = Permutation(self.feeds.samples, self._key(_SAMPLES))
        each = sum(feed.bytes_of(1) for feed in self.feeds.feeds if not feed.resident)
        count = min(max(1, self.feeds.fill_bytes // max(1, each)), self._max_samples())
        for start in range(share.start, share.stop, count):
            stop = min(start + count, share.stop)
            if stop - share.start > skip:
                samples = permutation.at(np.arange(max(start, share.start + skip), stop))
                # Sorted, so that samples of one chunk are read together.
                low = np.sort(samples)
                rows = tuple(None if f.resident else _rows(f, low, low + 1) for f in self.feeds.feeds)
                yield Fill(stop - samples.size, samples, rows)


class _Forward:
    """Rows of consecutive fills in stored order: each band is read once, by the first fill that needs it."""

    def __init__(self, feeds: Feeds, stop: int) -> None:
        """
        Args:
            feeds: How the arrays are read.
            stop: One after the last sample.
        """
        self._feeds = feeds.feeds
        self._stop = stop
        self._read_to = [-1] * len(feeds.feeds)

    def next(self, low: int, high: int) -> tuple[Rows | None, ...]:
        """Rows of the samples `low` to `high`, by feed."""
        return tuple(None if f.resident else self._next(n, f, low, high) for n, f in enumerate(self._feeds))

    def _next(self, number: int, feed: Feed, low: int, high: int) -> Rows:
        if feed.sparse:
            # Between sparse windows are rows that no sample needs; they are not kept.
            return _rows(feed, np.array([low]), np.array([high]))
        start = feed.first + low * feed.stride
        stop = feed.first + (high - 1) * feed.stride + feed.width
        read_to = self._read_to[number]
        stop = self._read_to[number] = max(read_to, min(feed.length, -(-stop // feed.band) * feed.band))
        after = feed.first + high * feed.stride
        return Rows(
            np.array([start]),
            np.array([stop]),
            (Span(low, start, read_to),) if read_to > start else (),
            (Span(high, after, stop),) if high < self._stop and stop > after else (),
        )


class _Borders:
    """Rows at the borders of permuted units, which adjacent units share.

    They are read with the unit that comes first in the order, and kept for the other one if that is in a later fill.

    Args:
        order: The units, in order.
        low: First sample of each unit, in this order.
        high: One after the last sample of each unit.
        first: Position in the order of the first unit of this share of the epoch.
        stop: One after the position of its last unit.
    """

    def __init__(self, order: Ints, low: Ints, high: Ints, first: int, stop: int) -> None:
        self._order = order
        self._low = low
        self._high = high
        self._first = first
        self._stop = stop
        self._places = np.argsort(order)
        """Position of each unit in the order."""
        self._open: dict[tuple[int, int], Span] = {}
        """Rows that earlier fills keep, by feed and lower unit; skipped fills keep none."""

    def joined(self, begin: int, end: int) -> Ints:
        """For each unit from one position to another: how many of its two neighbours come before it in this range."""
        units, here = self._order[begin:end], np.arange(begin, end)
        found: Ints = np.zeros(units.size, np.int64)
        for other in (units - 1, units + 1):
            places = self._places[other.clip(0, self._places.size - 1)]
            found += (places >= begin) & (places < here)
        return found

    def rows(self, number: int, feed: Feed, begin: int, end: int) -> Rows:
        """Rows of the units from one position of the order to another."""
        # In the order of the array: the ranges of `Rows` are ascending.
        at = begin + np.argsort(self._order[begin:end])
        starts = feed.first + self._low[at] * feed.stride
        stops = feed.first + (self._high[at] - 1) * feed.stride + feed.width
        taken: list[Span] = []
        kept: list[Span] = []
        for index, unit in enumerate(self._order[at].tolist()):
            for lower, other in ((unit - 1, unit - 1), (unit, unit + 1)):
                place = int(self._places[other]) if 0 <= other < self._places.size else -1
                # The neighbour is read by another process, or by this fill.
                if not self._first <= place < self._stop or begin <= place < end:
                    continue
                if place < begin:
                    # None if the fill that keeps it was skipped; then the rows are read again.
                    span = self._open.pop((number, lower), None)
                    if span is not None:
                        taken.append(span)
                    continue
                span = self._shared(feed, lower, later=other)
                if span.start < span.stop:
                    kept.append(span)
                    self._open[number, lower] = span
                    starts[index], stops[index] = min(starts[index], span.start), max(stops[index], span.stop)
        return Rows(*_union(starts, stops), tuple(taken), tuple(kept))

    def _shared(self, feed: Feed, lower: int, *, later: int) -> Span:
        """Rows that the later one of two adjacent units needs, and whose chunks the earlier one reads."""
        below, above = int(self._places[lower]), int(self._places[lower + 1])
        end = feed.first + (int(self._high[below]) - 1) * feed.stride + feed.width
        start = feed.first + int(self._low[above]) * feed.stride
        # The two units share no chunk.
        if start // feed.chunk > (end - 1) // feed.chunk:
            return Span(lower, 0, 0)
        if later == lower:
            first = feed.first + int(self._low[below]) * feed.stride
            return Span(lower, max(first, start // feed.chunk * feed.chunk), end)
        last = feed.first + (int(self._high[above]) - 1) * feed.stride + feed.width
        return Span(lower, start, min(last, -(-end // feed.chunk) * feed.chunk))


def chunks_in(feed: Feed, starts: Ints, stops: Ints) -> int:
    """Number of distinct chunks in ranges of rows. Starts are strictly ascending, and stops are ascending."""
    if starts[-1] - starts[0] == starts.size - 1:  # no gap between starts
        return int((stops[-1] - 1) // feed.chunk + 1 - starts[0] // feed.chunk) * feed.across
    low, high = starts // feed.chunk, (stops - 1) // feed.chunk + 1
    more = np.maximum(high[1:] - np.maximum(low[1:], high[:-1]), 0).sum()
    return int(high[0] - low[0] + more) * feed.across


def chunks_read(feed: Feed, rows: Rows) -> int:
    """Number of chunks that are fetched for rows of a fill."""
    starts, stops = rows.to_read()
    return chunks_in(feed, starts, stops) if starts.size else 0


def _step(feed: Feed) -> int:
    return (feed.width if feed.sparse else feed.stride) * feed.row_bytes


def _rows(feed: Feed, low: Ints, high: Ints) -> Rows:
    """Rows of ascending ranges of samples."""
    if feed.sparse:
        low = expand(low, high)
        high = low + 1
    return Rows(*_union(feed.first + low * feed.stride, feed.first + (high - 1) * feed.stride + feed.width))


def _union(starts: Ints, stops: Ints) -> tuple[Ints, Ints]:
    """Merge ranges that overlap or touch; their starts are ascending."""
    # A range may lie inside an earlier, longer one.
    reach = np.maximum.accumulate(stops)
    apart = np.flatnonzero(starts[1:] > reach[:-1]) + 1
    return starts[np.r_[0, apart]], reach[np.r_[apart - 1, starts.size - 1]]


def expand(low: Ints, high: Ints) -> Ints:
    """The integers of all ranges, concatenated."""
    counts = high - low
    offsets = np.cumsum(counts) - counts
    values: Ints = np.repeat(low - offsets, counts) + np.arange(int(counts.sum()))
    return values
