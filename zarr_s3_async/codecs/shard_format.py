"""The `sharding_indexed` codec of Zarr v3: many encoded chunks in one object, with an index of their positions.

The index has one entry per chunk, in row-major order of the inner grid: offset and length as unsigned 64-bit
integers, both 2**64 - 1 for a chunk that is absent.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import accumulate
from math import prod
from reprlib import repr as short
from typing import Final, Literal, TypeAlias, cast

import numpy as np

from .._types import JSON, Buffer, CodecSpec, Shape
from ..byte_range import ByteRange, Span, Suffix
from ..errors import ChunkDecodeError, MetadataError, UnsupportedFeature
from .base import Array, Bytes, ChunkSpec, Cost, Options, is_fill
from .pipeline import Pipeline, build_pipeline

MISSING: Final = 2**64 - 1
NAME: Final = "sharding_indexed"
_CHECKED_AT_ONCE: Final = 2**16
"""Number of index entries that are validated at once."""

IndexLocation = Literal["start", "end"]
Encoded: TypeAlias = Bytes | Array
"""The bytes of a chunk, or a chunk whose elements in C order are its bytes."""


def nbytes_of(data: Encoded) -> int:
    """Number of bytes."""
    return data.nbytes if isinstance(data, np.ndarray) else len(data)


def joined(parts: Sequence[Encoded]) -> Buffer:
    """The parts concatenated, with a single copy."""
    # `join` allocates and copies once; with arrays among the parts it would need their bytes first.
    if not any(isinstance(part, np.ndarray) for part in parts):
        return b"".join(cast("Sequence[Bytes]", parts))
    body = np.empty(sum(map(nbytes_of, parts)), np.uint8)
    at = 0
    for part in parts:
        place = body[at : at + nbytes_of(part)]
        at += len(place)
        if isinstance(part, np.ndarray) and len(place):
            place.view(part.dtype).reshape(part.shape)[...] = part
        else:
            place[...] = np.frombuffer(part, np.uint8)
    return body.data


class ShardLayout:
    """Positions of the index and of encoded chunks in an object. It handles slots and bytes, not arrays."""

    __slots__ = ("_index", "index_location", "index_nbytes", "n_chunks")

    def __init__(self, grid: Shape, index_codecs: Sequence[CodecSpec], index_location: IndexLocation) -> None:
        self.n_chunks: int = prod(grid)
        self.index_location: IndexLocation = index_location
        self._index = build_pipeline(index_codecs, ChunkSpec((*grid, 2), np.dtype(np.uint64), np.uint64(MISSING)))
        # A reader must know the length of the index before it has read it.
        if self._index.encoded_nbytes is None:
            names = ", ".join(codec.name for codec in index_codecs)
            raise UnsupportedFeature(f"codec {NAME!r}: an index encoded by {names} has no fixed size")
        self.index_nbytes: int = self._index.encoded_nbytes

    @property
    def encode_error(self) -> MetadataError | None:
        """Why an index can be decoded but must not be encoded; None where it may be both."""
        return self._index.encode_error

    @property
    def index_range(self) -> ByteRange:
        """Byte range of the index in the object."""
        return Span(0, self.index_nbytes) if self.index_location == "start" else Suffix(self.index_nbytes)

    def decode_index(self, data: Buffer, object_size: int) -> Array:
        """Decode the index: an array (n_chunks, 2) of uint64, with every entry inside the object.

        Args:
            data: The bytes of `index_range`.
            object_size: Bytes of the whole object.

        Raises:
            ChunkDecodeError: Not an index, or one with an entry that is empty or reaches past the object.
        """
        needed = self.index_nbytes
        if len(data) != needed or object_size < needed:
            raise _corrupt(f"the object has {object_size} bytes and returned {len(data)} for its index of {needed}")
        index = self._index.decode(data).reshape(self.n_chunks, 2)
        self._check(index, object_size)
        return index

    @classmethod
    def _check(cls, index: Array, object_size: int) -> None:
        # In blocks: the comparisons need temporary arrays as large as what they compare.
        for at in range(0, len(index), _CHECKED_AT_ONCE):
            cls._check_entries(index[at : at + _CHECKED_AT_ONCE], at, object_size)

    @staticmethod
    def _check_entries(index: Array, first_slot: int, object_size: int) -> None:
        offsets, lengths = index[:, 0], index[:, 1]
        size = np.uint64(object_size)
        # Written without `offset + length`, which could overflow 64 bits.
        wrong = (offsets > size) | (lengths > size - np.minimum(offsets, size)) | (lengths == 0)
        if not wrong.any():
            return
        # Entries of absent chunks fail the comparison too; excluding them costs time only where something looks wrong.
        wrong &= (offsets != MISSING) | (lengths != MISSING)
        if wrong.any():
            slot = int(wrong.argmax())
            raise _corrupt(
                f"the index puts chunk {first_slot + slot} at byte {offsets[slot]} with {lengths[slot]} bytes, "
                f"but the object has {object_size}"
            )

    @staticmethod
    def span(index: Array, slot: int) -> Span | None:
        """Byte span of a chunk in the object, or None where the chunk is absent."""
        # Python integers, which do not wrap around when they are added.
        offset, length = index[slot].tolist()
        return None if length == MISSING else Span(offset, offset + length)

    @staticmethod
    def spans(index: Array, slots: Sequence[int]) -> list[Span | None]:
        """`span` of each slot."""
        # One conversion for all slots: indexing one by one takes far longer than the conversion.
        entries = index[slots].tolist()
        return [None if length == MISSING else Span(offset, offset + length) for offset, length in entries]

    def encode_index(self, index: Array) -> Buffer:
        """The bytes of an index of the shape (n_chunks, 2)."""
        return self._index.encode(index.reshape(self._index.chunk.shape))

    def assemble(self, chunks: Mapping[int, Encoded]) -> list[Encoded]:
        """The object as consecutive parts: the chunks in row-major order, and the index.

        Args:
            chunks: Encoded chunks by slot. Other slots are marked as absent.
        """
        # In the order of their slots: neighbouring chunks are then neighbours in the object, and one range reads them.
        slots = sorted(chunks)
        parts = [chunks[slot] for slot in slots]
        lengths = [nbytes_of(part) for part in parts]
        first = self.index_nbytes if self.index_location == "start" else 0
        index = np.full((self.n_chunks, 2), MISSING, np.uint64)
        if slots:
            index[slots, 0] = list(accumulate(lengths[:-1], initial=first))
            index[slots, 1] = lengths
        parts.insert(0 if self.index_location == "start" else len(parts), self.encode_index(index))
        return parts


class ShardFormat:
    """A shard of an array: its inner grid, the pipeline of an inner chunk, and the layout of the object."""

    __slots__ = ("chunk_shape", "grid", "inner", "layout", "shard")

    def __init__(self, options: Options, shard: ChunkSpec) -> None:
        self.shard: ChunkSpec = shard
        self.chunk_shape: Shape = options.integers("chunk_shape")
        if len(self.chunk_shape) != len(shard.shape) or any(
            inner < 1 or outer % inner for outer, inner in zip(shard.shape, self.chunk_shape, strict=False)
        ):
            raise options.fail("chunk_shape", f"must divide the shard's shape {shard.shape}, not be {self.chunk_shape}")
        self.grid: Shape = tuple(n // c for n, c in zip(shard.shape, self.chunk_shape, strict=True))
        self.inner: Pipeline = build_pipeline(
            _read_codecs(options, "codecs"), ChunkSpec(self.chunk_shape, shard.dtype, shard.fill_value)
        )
        location = options.choice("index_location", ("start", "end"), "end")
        self.layout: ShardLayout = ShardLayout(self.grid, _read_codecs(options, "index_codecs"), location)

    @classmethod
    def from_spec(cls, codec: CodecSpec, shard: ChunkSpec) -> ShardFormat:
        """The format that a `sharding_indexed` codec defines for shards of this spec.

        Raises:
            MetadataError: The configuration is invalid.
            UnsupportedFeature: A codec in it is unknown.
        """
        options = Options(codec.name, codec.configuration)
        made = cls(options, shard)
        # It refuses options that were not read above: they may change what the bytes mean.
        options.finish()
        return made

    @property
    def encode_error(self) -> MetadataError | None:
        """Why shards can be decoded but must not be encoded; None where they may be both."""
        return self.inner.encode_error or self.layout.encode_error

    @property
    def n_chunks(self) -> int:
        """Inner chunks in a shard."""
        return self.layout.n_chunks

    def region(self, slot: int) -> tuple[slice, ...]:
        """Region of an inner chunk in the shard."""
        at: list[slice] = []
        for count, length in zip(reversed(self.grid), reversed(self.chunk_shape), strict=True):
            slot, position = divmod(slot, count)
            at.append(slice(position * length, (position + 1) * length))
        return tuple(reversed(at))

    def regions(self) -> Iterator[tuple[int, tuple[slice, ...]]]:
        """Every slot with its region."""
        return ((slot, self.region(slot)) for slot in range(self.n_chunks))


class ShardingCodec:
    """Encodes and decodes whole shards: nested ones, and those that follow other codecs."""

    kind: Final = "array->bytes"

    def __init__(self, options: Options, spec: ChunkSpec) -> None:
        self._format = ShardFormat(options, spec)
        options.cannot_encode(self._format.encode_error)
        self._spec = spec
        inner = self._format.inner.cost
        self.cost: Cost = "parallel" if inner == "view" else inner
        self._fill = np.zeros((), spec.dtype) if spec.fill_value is None else np.array(spec.fill_value, spec.dtype)

    def encoded_size(self) -> None:
        return None

    def encode(self, chunk: Array) -> Bytes:
        encode = self._format.inner.encode
        chunks = {
            slot: encode(chunk[region])
            for slot, region in self._format.regions()
            if not is_fill(chunk[region], self._fill)
        }
        return joined(self._format.layout.assemble(chunks))

    def decode(self, data: Bytes, out: Array | None = None) -> Array:
        layout = self._format.layout
        view = memoryview(data)
        start = 0 if layout.index_location == "start" else max(0, len(view) - layout.index_nbytes)
        index = layout.decode_index(view[start : start + layout.index_nbytes], len(view))
        shard = np.empty(self._spec.shape, self._spec.dtype) if out is None else out
        for slot, region in self._format.regions():
            span = layout.span(index, slot)
            part = shard[region]
            if span is None:
                part[...] = self._fill
                continue
            # Decoding in place needs contiguous memory; a block of a larger shard usually is not.
            target = part if part.flags.c_contiguous and not part.dtype.hasobject else None
            chunk = self._format.inner.decode(view[span.start : span.stop], target)
            if chunk is not target:
                part[...] = chunk
        return shard


def _read_codecs(options: Options, key: str) -> list[CodecSpec]:
    documents = options.take(key)
    if not isinstance(documents, list | tuple) or not documents:
        raise options.fail(key, f"must be a list of codecs, not {short(documents)}")
    return [_read_codec(options, key, document) for document in documents]


def _read_codec(options: Options, key: str, document: JSON) -> CodecSpec:
    if isinstance(document, CodecSpec):
        return document
    if isinstance(document, str):
        return CodecSpec(document)
    if isinstance(document, dict) and set(document) <= {"name", "configuration", "must_understand"}:
        name, configuration = document.get("name"), document.get("configuration", {})
        if isinstance(name, str) and isinstance(configuration, dict):
            return CodecSpec(name, configuration)
    raise options.fail(key, f"contains {short(document)}, which is not a codec")


def _corrupt(problem: str) -> ChunkDecodeError:
    return ChunkDecodeError(f"codec {NAME!r}: {problem}", codec=NAME)


def stored_slots(index: Array) -> Array:
    """The slots that have an entry, sorted.

    Args:
        index: Result of `ShardLayout.decode_index`.
    """
    return np.flatnonzero(index[:, 1] != MISSING)


def refuse_overlaps(index: Array) -> None:
    """Raise if two chunks share bytes: copied one by one, they would take more memory than the shard has bytes.

    Args:
        index: Result of `ShardLayout.decode_index`.

    Raises:
        ChunkDecodeError: Two chunks share bytes.
    """
    slots = stored_slots(index)
    starts, lengths = index[slots].T
    _refuse_overlaps(slots, starts, starts + lengths)


def unused_bytes(layout: ShardLayout, index: Array, object_size: int) -> int:
    """Bytes of the object that belong to no chunk and not to the index.

    Args:
        layout: Layout of the shard.
        index: Result of `ShardLayout.decode_index`.
        object_size: Bytes of the whole object.

    Raises:
        ChunkDecodeError: Two chunks share bytes, or a chunk shares bytes with the index.
    """
    slots = stored_slots(index)
    at_start = layout.index_location == "start"
    index_at = 0 if at_start else object_size - layout.index_nbytes
    # The index is appended as one more row, so that an overlap with it is found too.
    starts = np.append(index[slots, 0].astype(np.int64), index_at)
    stops = starts + np.append(index[slots, 1].astype(np.int64), layout.index_nbytes)
    _refuse_overlaps(slots, starts, stops)
    return object_size - int((stops - starts).sum())


def _refuse_overlaps(slots: Array, starts: Array, stops: Array) -> None:
    order = np.argsort(starts, kind="stable")
    # Sorted by start, spans overlap only if two neighbours do.
    overlaps = np.flatnonzero(starts[order][1:] < stops[order][:-1])
    if len(overlaps):
        rows = order[overlaps[0] : overlaps[0] + 2].tolist()
        first, second = (f"chunk {slots[row]}" if row < len(slots) else "the index" for row in rows)
        at = int(starts[order[overlaps[0] + 1]])
        raise ChunkDecodeError(f"codec {NAME!r}: {first} and {second} share bytes from byte {at} on", codec=NAME)
