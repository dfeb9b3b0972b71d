"""How a loader reads its arrays: the fields of a batch, and the feeds of rows that they are taken from.

A *row* is one position along the axis, over all other dimensions. A *band* is as many rows as a chunk, or a shard, is
long along the axis: the smallest unit that can be read without fetching a chunk or shard twice. A *feed* supplies the
rows of one array to one or more fields, so that overlapping windows are taken from the same memory.
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
"""A feed of at most 1/8 of the buffer is read once per epoch and stays in memory: labels beside images, for example."""
_KEPT_SHARE = 4
"""Where windows overlap, 1/4 of the buffer holds the rows that units of chunks keep for their neighbours."""
_FEWEST_WALKS, _MANY_WALKS = 2, 8
_RUN = 8
"""Minimum units of each walk in a fill; the number of walks is reduced (to no fewer than `_MANY_WALKS`) for this."""
_SHORTEST_WALK = 32
"""Minimum units of a walk, likewise: if workers divide an epoch, each of them fetches a chunk of every walk again."""
_MAX_UNITS = 2**20
_OBJECT_BYTES = 64
"""Estimated bytes of an element of variable length, such as a string."""
SEQUENTIAL_FILLS = (8 * 2**20, 32 * 2**20)
"""Bytes of a fill in stored order: of the first fill, which is small because the first batch waits for it, and of those
after the second, which are large because each fill needs a task per request in flight."""


@dataclass(frozen=True, slots=True)
class Window:
    """The positions of a sample along the axis: sample `i` has `length` positions, starting at `offset + i * stride`.

    Inputs and targets of a time series are two windows of one array: `Window(8)` and `Window(1, offset=8)`.

    Args:
        length: Positions of one sample; the batch has an axis of this length after its first axis.
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
        """Number of samples on an axis of `positions` positions.

        Args:
            positions: Length of the axis.

        Returns:
            0 if no window fits.
        """
        return max(0, (positions - self.offset - self.length) // self.stride + 1)


@dataclass(frozen=True, slots=True)
class Geometry:
    """The properties of a stored array that the plan of an epoch depends on. Equal geometries give equal plans."""

    shape: Shape
    chunks: Shape
    shards: Shape | None
    dtype: np.dtype[Any]

    def with_length(self, axis: int, length: int) -> Geometry:
        """This geometry with another length along the axis."""
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
    """Rows of one array: sample `s` needs `width` rows, starting at `first + s * stride`."""

    source: int
    """Number of the array."""
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
        """True if whole bands may lie between samples, so that only the samples' own rows are read."""
        return self.stride >= self.width + self.band

    @property
    def keeps(self) -> bool:
        """True if adjacent units of samples may share chunks, whose rows are then kept in memory."""
        return not self.resident and not self.sparse

    def rows_of(self, samples: int) -> int:
        """Rows in memory for this number of consecutive samples."""
        if samples <= 0:
            return 0
        return samples * self.width if self.sparse else (samples - 1) * self.stride + self.width

    def bytes_of(self, samples: int) -> int:
        """Bytes in memory for this number of consecutive samples."""
        return self.rows_of(samples) * self.row_bytes


@dataclass(frozen=True, slots=True)
class Field:
    """One array of a batch."""

    name: str | None
    """None if a batch is a single array."""
    feed: int
    """Number of the feed."""
    offset: int
    """Rows from the first row of the feed to the first row of the field."""
    length: int | None
    """Rows of a sample; None: one row, without an axis in the batch."""


@dataclass(frozen=True, slots=True)
class Feeds:
    """The part of an epoch's plan that is the same for every epoch."""

    samples: int
    fields: tuple[Field, ...]
    feeds: tuple[Feed, ...]
    fill_bytes: int
    """Maximum bytes of one fill of the buffer."""
    unit: Units
    walks: int = 0
    """Number of walks through the array along which permuted chunks are read if windows overlap; see `Order._walks`.
    0: chunks are read in any order, and chunks that adjacent units share are fetched for each of them."""
    kept_bytes: int = 0
    """Bytes of rows that walks keep between fills."""

    @property
    def resident_bytes(self) -> int:
        """Bytes of the resident feeds."""
        return sum(feed.bytes_of(self.samples) for feed in self.feeds if feed.resident)


@dataclass(frozen=True, slots=True)
class Units:
    """The units of samples that `shuffle="chunks"` permutes: samples whose windows start in the same run of bands.

    Unit `u` has the samples with a first row from `(start + u) * rows` to `(start + u + 1) * rows`, where `start` is
    the run that contains the first row of sample 0.
    """

    rows: int
    first: int
    """First row of sample 0."""
    stride: int
    samples: int

    @property
    def number(self) -> int:
        """Number of units."""
        if self.samples == 0:
            return 0
        return (self.first + (self.samples - 1) * self.stride) // self.rows - self.first // self.rows + 1

    def starts(self, units: np.ndarray[Any, np.dtype[np.int64]]) -> np.ndarray[Any, np.dtype[np.int64]]:
        """First sample of each of these units; for the unit after the last one, the number of samples."""
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
        geometries: Geometries of the stored arrays.
        windows: Windows by name of the field; a sample of a field without a window is one row.
        axis: The axis of the samples.
        shuffle: The order of the samples.
        buffer_bytes: Maximum bytes of decoded rows.

    Raises:
        ConfigError: The lengths of the arrays along the axis do not match, or the buffer is too small.
    """
    samples = _count_samples(arrays, geometries, windows, axis)
    fields, feeds = _share_feeds(arrays, geometries, windows, axis, buffer_bytes)
    feeds = [_decide_residence(feed, samples, buffer_bytes, feeds) for feed in feeds]
    resident = sum(feed.bytes_of(samples) for feed in feeds if feed.resident)
    # Half: one fill is used while the next one is read.
    fill = max(1, (buffer_bytes - resident) // 2)
    feeds = [_with_band(feed, geometries[feed.source], axis, fill) for feed in feeds]
    unit = _choose_units(feeds, samples, fill, shuffle)
    least = _least_fill(feeds, unit, shuffle)
    walks = kept = 0
    if shuffle == "chunks" and any(feed.keeps and _neighbours_share_chunks(feed, unit) for feed in feeds):
        # At any time each walk is between two units, and keeps a chunk or the rows that windows share with it.
        of_each = sum((feed.chunk + feed.width) * feed.row_bytes for feed in feeds if feed.keeps)
        rest_of_chunks = sum(feed.chunk * feed.row_bytes for feed in feeds if feed.keeps)
        # Few walks make a fill read runs of adjacent units; many walks make it contain samples from many places.
        wanted = max(_MANY_WALKS, min(fill // least // _RUN, unit.number // _SHORTEST_WALK))
        fitting = min(max(_FEWEST_WALKS, (buffer_bytes - resident) // _KEPT_SHARE // of_each), wanted, unit.number)
        smaller = (buffer_bytes - resident - fitting * of_each) // 2
        if least + rest_of_chunks <= smaller:  # else chunks that adjacent units share are fetched for each of them
            walks, kept, fill = fitting, fitting * of_each, smaller
    if least > fill:
        raise ConfigError(
            f"buffer_bytes={buffer_bytes} is too small: {_least_of(shuffle)} has {least} decoded bytes, and the "
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
    """True if windows extend into the next unit, or units do not end at chunk borders of this array."""
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
            f"the arrays have different lengths along axis {axis}: {shown} (the length of an array with a window is "
            "divided by the window's stride)"
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
    """Assign fields to feeds. Fields of one array share a feed if they have the same stride and are close together."""
    fields: list[Field] = []
    feeds: list[Feed] = []
    # By offset, so that a feed only ever grows at its end.
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
    """One feed for both, or None if separate feeds are better. `other` starts no earlier than `feed`."""
    if (feed.source, feed.stride) != (other.source, other.stride):
        return None
    # From the first row of the one to the last row of the other.
    width = max(feed.width, other.first + other.width - feed.first)
    # Rows between the two windows, which a shared feed would hold for nothing.
    extra = width - feed.width - other.width
    return replace(feed, width=width) if extra * feed.row_bytes <= buffer_bytes // 16 else None


def _decide_residence(feed: Feed, samples: int, buffer_bytes: int, feeds: Sequence[Feed]) -> Feed:
    nbytes = feed.bytes_of(samples)
    largest = max(feeds, key=lambda one: one.bytes_of(samples))
    # The largest array is never resident: the units of an epoch are runs of its chunks.
    small = nbytes <= buffer_bytes // (_RESIDENT_SHARE * len(feeds))
    return replace(feed, resident=small and feed is not largest and nbytes < largest.bytes_of(samples))


def _with_band(feed: Feed, geometry: Geometry, axis: int, fill: int) -> Feed:
    """The feed with bands of whole shards if a fill holds at least four: their chunks need fewer requests."""
    if geometry.shards is None or geometry.shards[axis] * feed.row_bytes * 4 > fill:
        return feed
    return replace(feed, band=geometry.shards[axis])


def _choose_units(feeds: Sequence[Feed], samples: int, fill: int, shuffle: Shuffle | None) -> Units:
    moving = [feed for feed in feeds if not feed.resident]
    # The array with the most bytes per sample: its chunks are the ones not to fetch twice.
    lead = max(moving, key=lambda feed: feed.stride * feed.row_bytes)
    least = max(1, -(-lead.stride // lead.band))
    bands = least
    if shuffle == "chunks":
        bands = _bands_of_a_run(moving, lead, least, fill)
    # An upper bound for the number of units, which are listed in a table.
    bands = max(bands, -(-samples * lead.stride // (lead.band * _MAX_UNITS)))
    return Units(rows=bands * lead.band, first=lead.first, stride=lead.stride, samples=samples)


def _bands_of_a_run(moving: Sequence[Feed], lead: Feed, least: int, fill: int) -> int:
    def fits(bands: int, times: int) -> bool:
        samples = bands * lead.band // lead.stride
        return sum(feed.bytes_of(samples) for feed in moving) * times <= fill

    bands = least
    # If other arrays have longer chunks, end runs at their chunk borders.
    common = lcm(*(feed.band * lead.stride for feed in moving if feed.band % feed.stride == 0), lead.band)
    if any(feed is not lead for feed in moving) and fits(common // lead.band, 4):
        bands = max(bands, common // lead.band)
    # Make runs so long that windows extend into the next run only: then a chunk is kept for at most one run.
    for feed in moving:
        reach = -(-(feed.width - 1) * lead.stride // (feed.stride * lead.band))
        if fits(reach, 2):
            bands = max(bands, reach)
    return bands


def _least_fill(feeds: Sequence[Feed], unit: Units, shuffle: Shuffle | None) -> int:
    samples = 1 if shuffle == "global" else max(1, unit.rows // unit.stride)
    samples = min(samples, unit.samples)
    return sum(feed.bytes_of(samples) for feed in feeds if not feed.resident)
