"""`Runtime`: what arrays and groups use of their session (store, limits, leases, threads, hooks).

`Layout`: a metadata document prepared for reads and writes, with its pipeline and chunk access, built once per
document.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Hashable, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from math import prod
from typing import Any

import numpy as np

from .._concurrency.limiter import Limiter
from .._concurrency.locks import KeyedLocks
from .._concurrency.turns import LoopTurns
from .._grid import Axis, place
from .._model.metadata import ArrayMeta
from .._options import max_age_of
from .._types import Coords, Shape
from ..codecs.base import ChunkSpec
from ..codecs.pipeline import Pipeline, build_pipeline
from ..codecs.shard_format import ShardFormat
from ..config import CachePolicy, Limits, RetryPolicy
from ..errors import ConfigError, MetadataError, SelectionError, UnsupportedFeature
from ..events import Emit
from ..stores.base import Store, SupportsForbiddenIsMissing, SupportsStridedSinks
from ..stores.optional import place_of
from .cache import ChunkCache, Edits, IndexCache, Reader, new_reader
from .chunks import Chunks, PlainChunks
from .cpu import Cpu
from .elements import Elements
from .shards import BIG_INDEX, ShardedChunks
from .sharing import FetchTable, SharedFetches

_KEPT_SHAPES = 256
"""Number of object shapes whose layouts are cached, where objects differ in shape: building one takes some 10 µs."""


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Runtime:
    """One store in one session. Everything but the store is shared by the whole session."""

    store: Store
    limits: Limits
    retry: RetryPolicy
    requests: Limiter
    """Request slots."""
    leases: Limiter
    """Limiter of the bytes in memory."""
    turns: LoopTurns
    """Keeps turns of the loop short for interactive calls."""
    wait: Callable[[float], Awaitable[None]]
    """Sleeps; raises SessionClosed if the session is closed meanwhile."""
    cpu: Cpu
    locks: KeyedLocks
    indexes: IndexCache
    decoded: ChunkCache
    max_age: float | None
    """`Reader.max_age` of handles that are opened without their own cache policy."""
    edits: Edits
    fetches: FetchTable
    emit: Emit
    guard: Callable[[], None]
    """Raises a StateError if the session cannot be used: closed, another loop, another process."""
    resolve: Callable[[Any, str], tuple[Runtime, str]]
    """Resolves a URL, store or reference and a path below it, in the same session."""

    owner: Hashable
    """Identity of the store's credentials: see `SupportsIdentity`."""
    place: str = field(init=False)
    """Identity of the store's location: see `SupportsIdentity`."""

    def __post_init__(self) -> None:
        object.__setattr__(self, "place", place_of(self.store))

    def name_of(self, key: str) -> str:
        """The name of a key in the caches and locks of the session."""
        return f"{self.place}/{key}" if key else self.place

    def forget_below(self, path: str) -> None:
        """Invalidate everything cached of the objects of a node."""
        prefix = self.name_of(path) + "/"
        self.indexes.forget_below(prefix)
        self.decoded.forget_below(prefix)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False, repr=False)
class Layout:
    """How an array's elements are stored in objects."""

    meta: ArrayMeta
    url: str
    pipeline: Pipeline
    """Codecs of one chunk; in a sharded array, of one chunk inside a shard."""
    chunks: Chunks
    readable: Chunks
    """The same for pure reads: only these may treat forbidden chunks as missing, if an option says so."""
    fill: np.ndarray[Any, np.dtype[Any]]
    """The fill value as a 0-d array of the array's dtype; zero for null."""
    chunk_size: int
    """Number of elements in a chunk."""
    lease: int
    """Bytes that a read or write holds per chunk: decoded, plus encoded if these are different bytes."""
    n_slots: int
    """Number of chunks in an object."""
    strided_sinks: bool
    """Whether the store can copy bodies to strided memory as they arrive."""
    has_big_index: bool
    """Whether leases must include the index of an object (`Chunks.overhead`)."""
    fetches: SharedFetches
    """Fetches of the array in progress, shared by all handles of the session with equal layouts."""
    reader: Reader
    """Identifies the handle in cache lookups."""
    chunk_axes: tuple[Axis, ...]
    """Grid of chunks, per dimension."""
    shard_axes: tuple[Axis, ...] | None
    """Grid of shards, per dimension; None for a plain array."""
    encode_error: MetadataError | None
    """Why chunks can be read but not written; None if they can be written."""
    elements: Elements | None
    """Locates single elements, for uncompressed chunks that are large enough to read parts of them by byte ranges."""
    dtype: np.dtype[Any]
    """Data type of the results of reads: of the elements, or of their `fields`. Where it is a sub-array type, the one
    field holds arrays: results have the dimensions of these behind their own."""
    fields: str | list[str] | None = None
    """The field or fields of every element to read and write; None for whole elements."""
    of_shape: Callable[[Shape], Layout] | None = None
    """The layout of objects of one shape, where objects differ in shape; this layout is that of the largest then."""

    def not_writable(self) -> MetadataError:
        """The error of a write if there is an `encode_error`."""
        return MetadataError(f"{self.url} can be read but not written: {self.encode_error}", url=self.url)

    def at(self, coords: Coords) -> Layout:
        """The layout of the object at these grid coordinates."""
        if self.of_shape is None:
            return self
        shape = tuple([place(axis, at)[1] for axis, at in zip(self.meta.object_axes, coords, strict=True)])
        there = self.of_shape(shape)
        return there if self.fields is None else replace(there, fields=self.fields, dtype=self.dtype)

    def with_fields(self, fields: str | Sequence[str] | None) -> Layout:
        """A layout that reads and writes only these fields.

        Raises:
            SelectionError: The data type has no such fields.
        """
        if fields is None:
            return self
        if not isinstance(fields, str | list | tuple):
            raise SelectionError(f"fields are a name or a list of names, not {type(fields).__name__}")
        names = [fields] if isinstance(fields, str) else list(fields)
        _check_fields(names, self.meta.dtype, self.url)
        dtype = self.meta.dtype
        if isinstance(fields, str):
            return replace(self, fields=fields, dtype=dtype[fields])
        return replace(self, fields=names, dtype=np.dtype([(name, dtype[name]) for name in names]))


def _check_fields(names: list[Any], dtype: np.dtype[Any], url: str) -> None:
    known = dtype.names or ()
    if not known:
        raise SelectionError(f"elements of {url} are of {dtype}, which has no fields")
    for name in names:
        if not isinstance(name, str) or name not in known:
            from difflib import get_close_matches  # for errors alone

            near = get_close_matches(name, known, n=1) if isinstance(name, str) else []
            hint = f"did you mean {near[0]!r}? " if near else ""
            raise SelectionError(f"{url} has no field {name!r}: {hint}its fields are {', '.join(map(repr, known))}")
    if len(set(names)) != len(names) or not names:
        raise SelectionError(f"fields must be at least one name, each once, not {names!r}")


def url_of(runtime: Runtime, path: str) -> str:
    """URL of the node at a path."""
    return f"{runtime.store.url}/{path}".rstrip("/")


def with_policy(runtime: Runtime, cache: CachePolicy | None) -> Runtime:
    """The runtime for handles that are opened with `cache=`; the same one for None.

    Raises:
        ConfigError: The policy cannot be, or the session has no memory for decoded chunks.
    """
    max_age = max_age_of(cache)
    if max_age is None:
        return runtime
    if not runtime.decoded.limit:
        raise ConfigError("cache= needs memory: this session has CacheSize(chunks=0)")
    return replace(runtime, max_age=max_age)


def store_for_chunks(runtime: Runtime) -> Store:
    """The store for pure reads of chunks, without a merge: see `SupportsForbiddenIsMissing`."""
    store = runtime.store
    return store.for_chunk_reads if isinstance(store, SupportsForbiddenIsMissing) else store


def lay_out(runtime: Runtime, path: str, meta: ArrayMeta, reader: Reader | None = None) -> Layout:
    """Build the layout of an array.

    Args:
        runtime: The store and its session.
        path: Path of the array.
        meta: Metadata of the array.
        reader: The reader of a handle that is already open; default: a new one.

    Raises:
        UnsupportedFeature, MetadataError: The codecs are unknown or incompatible.
    """
    reader = new_reader(runtime.owner, runtime.max_age) if reader is None else reader
    try:
        largest = _lay_out_one_shape(runtime, path, meta, reader)
    except (MetadataError, UnsupportedFeature) as error:
        url = url_of(runtime, path)
        raise type(error)(f"{url} cannot be used here: {error}", url=url) from error.__cause__
    if meta.edges is None:
        return largest

    @lru_cache(maxsize=_KEPT_SHAPES)
    def of_shape(shape: Shape) -> Layout:
        of_objects = replace(meta, chunks=shape) if meta.shards is None else replace(meta, shards=shape)
        return _lay_out_one_shape(runtime, path, of_objects, reader)

    return replace(largest, of_shape=of_shape)


def _lay_out_one_shape(runtime: Runtime, path: str, meta: ArrayMeta, reader: Reader) -> Layout:
    fill = fill_array(meta)
    pipeline, chunks, n_slots, encode_error = _coded(runtime, path, meta, fill, reader)
    readable = chunks
    lenient = store_for_chunks(runtime)
    if lenient is not runtime.store:
        readable = _coded(replace(runtime, store=lenient), path, meta, fill, reader)[1]
    # Equal for two handles if a chunk decoded for one is valid for the other. `repr`: configurations have no hash.
    dtype, codecs = (meta.dtype.str, repr(meta.dtype)), repr(meta.codecs)
    reads_alike = (runtime.name_of(path), reader.owner, dtype, meta.chunks, meta.shards, codecs)
    elements = None
    # Smaller chunks cannot save enough bytes to make a range worthwhile.
    if pipeline.element_order is not None and pipeline.nbytes > runtime.limits.gap_bytes:
        elements = Elements(pipeline, pipeline.element_order, runtime.limits)
    return Layout(
        meta=meta,
        url=url_of(runtime, path),
        pipeline=pipeline,
        chunks=chunks,
        readable=readable,
        fill=fill,
        chunk_size=prod(meta.chunks),
        dtype=meta.dtype,
        lease=max(1, pipeline.nbytes if pipeline.raw else 2 * pipeline.nbytes),
        n_slots=n_slots,
        encode_error=encode_error,
        strided_sinks=isinstance(runtime.store, SupportsStridedSinks),
        has_big_index=isinstance(chunks, ShardedChunks) and chunks.index_nbytes >= BIG_INDEX,
        fetches=runtime.fetches.of(reads_alike),
        reader=reader,
        chunk_axes=meta.chunk_axes,
        shard_axes=None if meta.shards is None else meta.object_axes,
        elements=elements,
    )


def _coded(
    runtime: Runtime, path: str, meta: ArrayMeta, fill: np.ndarray[Any, np.dtype[Any]], reader: Reader
) -> tuple[Pipeline, Chunks, int, MetadataError | None]:
    if meta.shards is None:
        pipeline = build_pipeline(meta.codecs, ChunkSpec(meta.chunks, meta.dtype, fill[()]))
        plain = PlainChunks(runtime.store, path, meta, pipeline.max_encoded_nbytes, runtime.limits)
        return pipeline, plain, 1, pipeline.encode_error
    shard = ShardFormat.from_spec(meta.codecs[0], ChunkSpec(meta.shards, meta.dtype, fill[()]))
    chunks = ShardedChunks(
        runtime.store,
        path,
        meta,
        shard.layout,
        chunk_nbytes=shard.inner.encoded_nbytes or shard.inner.nbytes,
        max_chunk_nbytes=shard.inner.max_encoded_nbytes,
        indexes=runtime.indexes,
        reader=reader,
        locks=runtime.locks,
        limits=runtime.limits,
        cpu=runtime.cpu,
    )
    return shard.inner, chunks, shard.n_chunks, shard.encode_error


def fill_array(meta: ArrayMeta) -> np.ndarray[Any, np.dtype[Any]]:
    """The fill value as a 0-d array; null becomes zero, or NaT for times."""
    fill = np.zeros((), dtype=meta.dtype)
    if meta.dtype.kind in "mM":
        fill[()] = "NaT"
    if meta.fill_value is not None or meta.dtype.hasobject:
        fill[()] = meta.fill_value
    return fill
