"""What a loader reads of its arrays: fields of a batch, and the feeds of rows that they are cut from.

A *row* is one position along the axis, over all other dimensions. A *band* is as many rows as a chunk, or a shard,
has along the axis: the least that can be read of an array without fetching anything twice. A *feed* gives one or more
fields the rows of one array, so that windows that overlap are cut from the same memory.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from math import lcm, prod
from typing import Any, Literal, TypeAlias

import numpy as np

from .._options import check_count
from .._types import Shape
from ..errors import ConfigError

Shuffle: TypeAlias = Literal["chunks", "buffer", "global"]

_RESIDENT_SHARE = 8
"""A feed of at most this share of the buffer is read once per epoch and stays: labels beside images, for example."""
_KEPT_SHARE = 4
"""A quarter of the buffer holds what units of chunks keep for their neighbours, where windows overlap."""
_FEWEST_WALKS, _MANY_WALKS = 2, 8
_RUN = 8
"""Units of one walk in a fill, where that is left of many walks."""
_SHORTEST_WALK = 32
"""Units of a walk, likewise: where workers divide an epoch, each of them fetches a chunk of every walk again."""
_MAX_UNITS = 2**20
_OBJECT_BYTES = 64
"""Counted for an element of any length, such as a string."""
SEQUENTIAL_FILLS = (8 * 2**20, 32 * 2**20)
"""Bytes that are read as one where the stored order is kept: of the first fill, for which the first batch waits, and of
all after the second, since each fill takes a task per request in flight."""


@dataclass(frozen=True, slots=True)
class Window:
    """What a sample takes along the axis: sample `i` is the positions from `offset + i * stride`, `length` of them.

    Inputs and targets of a time series are two windows of one array: `Window(8)` and `Window(1, offset=8)`.

    Args:
        length: Positions of one sample; the batch has an axis of this length behind its first.
        stride: Positions from the start of one sample to the start of the next.
        offset: The position at which sample 0 starts.
    """

    length: int
    stride: int = 1
    offset: int = 0

    def __post_init__(self) -> None:
        check_count("Window.length", self.length)
        check_count("Window.stride", self.stride)
        check_count("Window.offset", self.offset, least=0)

    def samples(self, positions: int) -> int:
        """How many samples an axis of so many positions has."""
        return max(0, (positions - self.offset - self.length) // self.stride + 1)


@dataclass(frozen=True, slots=True)
class Geometry:
    """What is needed to know of a stored array to plan its epochs. Equal geometries give equal plans."""

    shape: Shape
    chunks: Shape
    shards: Shape | None
    dtype: np.dtype[Any]

    def with_length(self, axis: int, length: int) -> Geometry:
        """The same with another length along the axis."""
        return replace(self, shape=(*self.shape[:axis], length, *self.shape[axis + 1 :]))

    def row_bytes(self, axis: int) -> int:
        """Decoded bytes of one position along the axis."""
        item = _OBJECT_BYTES if self.dtype.hasobject else self.dtype.itemsize
        return item * prod(self.shape[:axis] + self.shape[axis + 1 :])

    def chunks_across(self, axis: int) -> int:
        """Chunks over all other dimensions."""
        return prod(-(-n // c) for at, (n, c) in enumerate(zip(self.shape, self.chunks, strict=True)) if at != axis)


@dataclass(frozen=True, slots=True)
class Feed:
    """Rows of one array; sample `s` needs those from `first + s * stride`, `width` of them."""

    source: int
    """Which of the arrays."""
    first: int
    stride: int
    width: int
    length: int
    """Rows of the array."""
    chunk: int
    """Rows of a chunk."""
    across: int
    """Chunks over all other dimensions."""
    band: int
    row_bytes: int
    resident: bool = False

    @property
    def sparse(self) -> bool:
        """True where whole bands may lie between samples: only what samples need is read then."""
        return self.stride >= self.width + self.band

    @property
    def keeps(self) -> bool:
        """True where units of samples share chunks with the units beside them."""
        return not self.resident and not self.sparse

    def rows_of(self, samples: int) -> int:
        """Rows that so many samples in a row take in memory."""
        if samples <= 0:
            return 0
        return samples * self.width if self.sparse else (samples - 1) * self.stride + self.width

    def bytes_of(self, samples: int) -> int:
        """Bytes of `rows_of`."""
        return self.rows_of(samples) * self.row_bytes


@dataclass(frozen=True, slots=True)
class Field:
    """One array of a batch."""

    name: str | None
    """None where a batch is one array."""
    feed: int
    offset: int
    """Rows from the feed's first to the field's first."""
    length: int | None
    """Rows of a sample; None: one, without an axis of its own."""


@dataclass(frozen=True, slots=True)
class Feeds:
    """What an epoch is made of, whatever its order."""

    samples: int
    fields: tuple[Field, ...]
    feeds: tuple[Feed, ...]
    fill_bytes: int
    """Memory of one fill of the buffer at most."""
    unit: Units
    walks: int = 0
    """Where windows overlap, permuted chunks are taken along so many walks through the array; 0: in any order,
    and what neighbours share is fetched for each of them."""
    kept_bytes: int = 0
    """Memory for rows that walks keep between fills."""

    @property
    def resident_bytes(self) -> int:
        """Memory of the feeds that stay."""
        return sum(feed.bytes_of(self.samples) for feed in self.feeds if feed.resident)


@dataclass(frozen=True, slots=True)
class Units:
    """Samples whose windows start in the same rows, by runs of bands: what is shuffled as one.

    Unit `u` has the samples whose first row of a feed is in rows `(start + u) * rows` to `(start + u + 1) * rows`.
    """

    rows: int
    first: int
    """First row of sample 0."""
    stride: int
    samples: int

    @property
    def number(self) -> int:
        """How many there are."""
        if self.samples == 0:
            return 0
        return (self.first + (self.samples - 1) * self.stride) // self.rows - self.first // self.rows + 1

    def starts(self, units: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, np.dtype[np.int64]]:
        """First sample of each of these units; of the one behind the last, the number of samples."""
        rows = (units + self.first // self.rows) * self.rows
        samples: np.ndarray[Any, np.dtype[np.int64]] = -((self.first - rows) // self.stride)
        return samples.clip(0, self.samples)


def plan_feeds(
    arrays: Mapping[str | None, int],
    geometries: Sequence[Geometry],
    windows: Mapping[str | None, Window],
    *,
    axis: int,
    shuffle: Shuffle | None,
    buffer_bytes: int,
) -> Feeds:
    """Decide how the arrays of a batch are read.

    Args:
        arrays: Number of the stored array, by name of the field.
        geometries: Of the stored arrays.
        windows: By name of the field; a field without one takes one row.
        axis: The one that samples lie along.
        shuffle: The order.
        buffer_bytes: Memory for decoded rows.

    Raises:
        ConfigError: The arrays do not share the axis, or the buffer holds less than any order needs.
    """
    samples = _count_samples(arrays, geometries, windows, axis)
    fields, feeds = _share_feeds(arrays, geometries, windows, axis, buffer_bytes)
    feeds = [_decide_residence(feed, samples, buffer_bytes, feeds) for feed in feeds]
    resident = sum(feed.bytes_of(samples) for feed in feeds if feed.resident)
    fill = max(1, (buffer_bytes - resident) // 2)
    feeds = [_with_band(feed, geometries[feed.source], axis, fill) for feed in feeds]
    unit = _choose_units(feeds, samples, fill, shuffle)
    least = _least_fill(feeds, unit, shuffle)
    walks = kept = 0
    if shuffle == "chunks" and any(feed.keeps and _neighbours_share_chunks(feed, unit) for feed in feeds):
        # Each walk is between two units at any time, and keeps a chunk, or the rows that windows share with it.
        of_each = sum((feed.chunk + feed.width) * feed.row_bytes for feed in feeds if feed.keeps)
        rest_of_chunks = sum(feed.chunk * feed.row_bytes for feed in feeds if feed.keeps)
        # Few, so that a fill reads runs of neighbours, and enough, so that it has samples from many places.
        wanted = max(_MANY_WALKS, min(fill // least // _RUN, unit.number // _SHORTEST_WALK))
        fitting = min(max(_FEWEST_WALKS, (buffer_bytes - resident) // _KEPT_SHARE // of_each), wanted, unit.number)
        smaller = (buffer_bytes - resident - fitting * of_each) // 2
        if least + rest_of_chunks <= smaller:  # else what neighbours share is fetched for each of them
            walks, kept, fill = fitting, fitting * of_each, smaller
    if least > fill:
        raise ConfigError(
            f"buffer_bytes={buffer_bytes} is too little: {_least_of(shuffle)} takes {least} bytes decoded, and the "
            f"buffer must hold two; set buffer_bytes to at least {2 * least + resident}, or store the arrays in "
            "chunks that are shorter along the axis"
        )
    if shuffle is None:
        fill = min(fill, max(least, SEQUENTIAL_FILLS[1]))
    return Feeds(
        samples=samples,
        fields=tuple(fields),
        feeds=tuple(feeds),
        fill_bytes=fill,
        unit=unit,
        walks=walks,
        kept_bytes=kept,
    )


def _neighbours_share_chunks(feed: Feed, unit: Units) -> bool:
    """True where windows reach into the next unit, or units of this array do not end where chunks do."""
    starts = feed.first + unit.starts(np.arange(1, unit.number)) * feed.stride
    return bool(((starts - feed.stride + feed.width - 1) // feed.chunk >= starts // feed.chunk).any())


def _least_of(shuffle: Shuffle | None) -> str:
    return "one sample" if shuffle == "global" else "one row of chunks"


def _count_samples(
    arrays: Mapping[str | None, int],
    geometries: Sequence[Geometry],
    windows: Mapping[str | None, Window],
    axis: int,
) -> int:
    lengths = {name: geometries[source].shape[axis] for name, source in arrays.items()}
    steps = {name: lengths[name] // windows[name].stride if name in windows else lengths[name] for name in arrays}
    if len(set(steps.values())) > 1:
        shown = ", ".join(f"{name!r}: {lengths[name]}" for name in arrays)
        raise ConfigError(
            f"the arrays do not share axis {axis}; their lengths along it are {shown} (a window's stride divides the "
            "length of its array)"
        )
    for name in arrays:
        if name in windows and lengths[name] and not windows[name].samples(lengths[name]):
            raise ConfigError(f"{windows[name]} does not fit into the {lengths[name]} positions along axis {axis}")
    return min(windows[name].samples(lengths[name]) if name in windows else lengths[name] for name in arrays)


def _share_feeds(
    arrays: Mapping[str | None, int],
    geometries: Sequence[Geometry],
    windows: Mapping[str | None, Window],
    axis: int,
    buffer_bytes: int,
) -> tuple[list[Field], list[Feed]]:
    """Fields of one array share a feed where they step alike and the rows between them are few."""
    fields: list[Field] = []
    feeds: list[Feed] = []
    ordered = sorted(arrays, key=lambda name: windows[name].offset if name in windows else 0)
    for name in ordered:
        window = windows.get(name, Window(1))
        geometry = geometries[arrays[name]]
        own = Feed(
            source=arrays[name],
            first=window.offset,
            stride=window.stride,
            width=window.length,
            length=geometry.shape[axis],
            chunk=geometry.chunks[axis],
            across=geometry.chunks_across(axis),
            band=geometry.chunks[axis],
            row_bytes=geometry.row_bytes(axis),
        )
        for number, feed in enumerate(feeds):
            joined = _joined(feed, own, buffer_bytes)
            if joined is not None:
                feeds[number] = joined
                break
        else:
            number = len(feeds)
            feeds.append(own)
        length = window.length if name in windows else None
        fields.append(Field(name, number, window.offset - feeds[number].first, length))
    by_name = {field.name: field for field in fields}
    return [by_name[name] for name in arrays], feeds


def _joined(feed: Feed, other: Feed, buffer_bytes: int) -> Feed | None:
    """One feed for both; `other` starts no earlier. None where they are better apart."""
    if (feed.source, feed.stride) != (other.source, other.stride):
        return None
    width = max(feed.width, other.first + other.width - feed.first)
    extra = width - feed.width - other.width
    return replace(feed, width=width) if extra * feed.row_bytes <= buffer_bytes // 16 else None


def _decide_residence(feed: Feed, samples: int, buffer_bytes: int, feeds: Sequence[Feed]) -> Feed:
    nbytes = feed.bytes_of(samples)
    largest = max(feeds, key=lambda one: one.bytes_of(samples))
    small = nbytes <= buffer_bytes // (_RESIDENT_SHARE * len(feeds))
    return replace(feed, resident=small and feed is not largest and nbytes < largest.bytes_of(samples))


def _with_band(feed: Feed, geometry: Geometry, axis: int, fill: int) -> Feed:
    """Whole shards where the buffer holds several of them: their chunks come in fewer requests."""
    if geometry.shards is None or geometry.shards[axis] * feed.row_bytes * 4 > fill:
        return feed
    return replace(feed, band=geometry.shards[axis])


def _choose_units(feeds: Sequence[Feed], samples: int, fill: int, shuffle: Shuffle | None) -> Units:
    moving = [feed for feed in feeds if not feed.resident]
    lead = max(moving, key=lambda feed: feed.stride * feed.row_bytes)
    least = max(1, -(-lead.stride // lead.band))
    bands = least
    if shuffle == "chunks":
        bands = _bands_of_a_run(moving, lead, least, fill)
    # However many chunks there are, a table of the units stays small.
    bands = max(bands, -(-samples * lead.stride // (lead.band * _MAX_UNITS)))
    return Units(rows=bands * lead.band, first=lead.first, stride=lead.stride, samples=samples)


def _bands_of_a_run(moving: Sequence[Feed], lead: Feed, least: int, fill: int) -> int:
    def fits(bands: int, times: int) -> bool:
        samples = bands * lead.band // lead.stride
        return sum(feed.bytes_of(samples) for feed in moving) * times <= fill

    bands = least
    # Where other arrays have longer chunks, a run ends where theirs do.
    common = lcm(*(feed.band * lead.stride for feed in moving if feed.band % feed.stride == 0), lead.band)
    if any(feed is not lead for feed in moving) and fits(common // lead.band, 4):
        bands = max(bands, common // lead.band)
    # Windows reach no farther than into the run beside theirs: so a chunk is kept for one run at most.
    for feed in moving:
        reach = -(-(feed.width - 1) * lead.stride // (feed.stride * lead.band))
        if fits(reach, 2):
            bands = max(bands, reach)
    return bands


def _least_fill(feeds: Sequence[Feed], unit: Units, shuffle: Shuffle | None) -> int:
    samples = 1 if shuffle == "global" else max(1, unit.rows // unit.stride)
    samples = min(samples, unit.samples)
    return sum(feed.bytes_of(samples) for feed in feeds if not feed.resident)
