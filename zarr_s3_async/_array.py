"""`Array`: a handle through which an array is read and written. It need not be closed."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Container, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from math import prod
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NoReturn, Self, cast

import numpy as np

from ._concurrency.limiter import PRIORITIES, Priority, at_priority
from ._engine import nodes, operations
from ._engine.runtime import Layout, Runtime, lay_out
from ._grid import Axis, Edges, grid_shape, sizes, spelled
from ._model import formats
from ._model.create import ArrayOptions, complete
from ._model.metadata import ArrayMeta
from ._model.names import check_path
from ._notebook import facts_html, grid_html
from ._options import (
    check_choice,
    check_flag,
    check_integer,
    check_integers,
    check_mapping,
    check_missing,
    check_timeout,
)
from ._plan import selection
from ._plan.selection import stop_of
from ._types import JSON, Buffer, Coords, Missing, Shape, Version
from ._unread import Unread
from ._view import Indexer, View
from .codecs.registry import find_kind
from .errors import ConfigError, MetadataError, SelectionError, StoreError, UnsupportedFeature, ZarrS3Error

if TYPE_CHECKING:  # imported by the methods that need them, to keep `import zarr_s3_async` fast
    from ._concurrency.executor import Executor
    from ._engine.encoded import EncodedChunk, Expected
    from ._engine.explain import Explanation
    from ._stored import StoredChunks
    from ._verify import OnProgress, VerifyReport
    from .streams.progress import ProgressOption
    from .streams.read import BlockStream, Order, SliceStream
    from .streams.write import WriteStream


@dataclass(frozen=True, slots=True, kw_only=True)
class ArrayRef:
    """A small picklable reference: `session.open_array(ref)` opens the array in another process. No secrets."""

    url: str
    path: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    """S3 options that differ from their defaults, without secrets."""


@dataclass(frozen=True, slots=True, kw_only=True)
class GroupRef:
    """A small picklable reference: `session.open_group(ref)` opens the group in another process. No secrets."""

    url: str
    path: str = ""
    config: Mapping[str, Any] = field(default_factory=dict)
    """S3 options that differ from their defaults, without secrets."""


class Array(Unread):
    """A Zarr array in a store.

    Get one from `Session.open_array` or `Session.create_array`. All requests go through that session.
    """

    __slots__ = ("_layout", "_missing", "_path", "_runtime", "_write_empty")

    _how_to_read = "await array[...]"

    def __init__(
        self,
        runtime: Runtime,
        path: str,
        meta: ArrayMeta,
        *,
        missing: Missing = "fill",
        write_empty: bool = False,
        layout: Layout | None = None,
    ) -> None:
        self._runtime = runtime
        self._path = path
        self._layout: Layout = lay_out(runtime, path, meta) if layout is None else layout
        self._missing: Missing = missing
        self._write_empty = write_empty

    # Properties

    @property
    def metadata(self) -> ArrayMeta:
        """The immutable metadata that operations started now will use."""
        return self._layout.meta

    @property
    def shape(self) -> Shape:
        """Elements per dimension."""
        return self._layout.meta.shape

    @property
    def dtype(self) -> np.dtype[Any]:
        """Data type of the results of reads."""
        return self._layout.meta.dtype

    @property
    def chunks(self) -> Shape:
        """Shape of a chunk, the smallest unit of decoding.

        Raises:
            UnsupportedFeature: Chunks differ in shape (a rectilinear grid); use `chunk_sizes`.
        """
        self._check_one_shape("chunks", self._layout.chunk_axes)
        return self._layout.meta.chunks

    @property
    def shards(self) -> Shape | None:
        """Shape of a shard, an object with many chunks; None if each chunk is an object of its own.

        Raises:
            UnsupportedFeature: Shards differ in shape (a rectilinear grid); use `shard_sizes`.
        """
        if self._layout.shard_axes is not None:
            self._check_one_shape("shards", self._layout.shard_axes)
        return self._layout.meta.shards

    @property
    def chunk_sizes(self) -> tuple[tuple[int, ...], ...]:
        """Lengths of all chunks per dimension, the last one cut at the array's edge, like dask's `chunks`.

        Raises:
            SelectionError: A dimension has more chunks than `Limits.max_chunks_per_call`.
        """
        return self._sizes(self._layout.chunk_axes)

    @property
    def shard_sizes(self) -> tuple[tuple[int, ...], ...] | None:
        """Like `chunk_sizes`, for shards; None if each chunk is an object of its own."""
        shards = self._layout.shard_axes
        return None if shards is None else self._sizes(shards)

    def _sizes(self, axes: Sequence[Axis]) -> tuple[tuple[int, ...], ...]:
        limit = self._runtime.limits.max_chunks_per_call
        if (
            max(grid_shape(axes, self.shape), default=0) > limit
        ):  # a few bytes of metadata can describe any number of chunks
            raise SelectionError(
                f"{self.url} has more than {limit:,} chunks in a dimension (Limits.max_chunks_per_call), too many "
                "to list their lengths"
            )
        return tuple(map(sizes, axes, self.shape))

    def _check_one_shape(self, what: str, axes: Sequence[Axis]) -> None:
        if any(isinstance(axis, Edges) for axis in axes):
            raise UnsupportedFeature(
                f"the {what} of {self.url} differ in shape; array.{what[:-1]}_sizes returns their lengths per dimension"
            )

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    @property
    def size(self) -> int:
        """Number of elements."""
        return prod(self.shape)

    @property
    def nbytes(self) -> int:
        """Bytes of all elements, decoded."""
        return self.size * self.dtype.itemsize

    @property
    def nchunks(self) -> int:
        """Number of chunks, stored or not."""
        return prod(grid_shape(self._layout.chunk_axes, self.shape))

    @property
    def fill_value(self) -> Any:
        """The value of absent chunks; None for null in a v2 document (they read as zero)."""
        return self._layout.meta.fill_value

    @property
    def order(self) -> str:
        """Order of the elements inside a stored chunk, `C` or `F`."""
        return self._layout.meta.order

    @property
    def attrs(self) -> Mapping[str, JSON]:
        """The attributes, read-only."""
        return MappingProxyType(dict(self._layout.meta.attributes))

    @property
    def dimension_names(self) -> tuple[str | None, ...] | None:
        """Names of the dimensions, or None if the metadata has none."""
        return self._layout.meta.dimension_names

    @property
    def missing(self) -> Missing:
        """How reads treat absent chunks by default: `fill` or `raise`, as the array was opened."""
        return self._missing

    @property
    def path(self) -> str:
        """Path below the store's root; empty for an array at the root."""
        return self._path

    @property
    def url(self) -> str:
        """URL of the array."""
        return self._layout.url

    @property
    def ref(self) -> ArrayRef:
        """A small picklable reference with which another process opens the same array."""
        config = getattr(self._runtime.store, "config", None)
        return ArrayRef(url=self._runtime.store.url, path=self._path, config={} if config is None else config.public())

    def __repr__(self) -> str:
        layout = self._layout
        shards = "" if layout.shard_axes is None else f", shards {spelled(layout.shard_axes)}"
        return f"<Array {self.url} shape {self.shape}, chunks {spelled(layout.chunk_axes)}{shards}, {self.dtype}>"

    def _repr_html_(self) -> str:
        """HTML for notebooks: properties and the grid of objects. Arrays of `zs.blocking` also mark stored objects."""
        return array_html(self, None)

    # Regions by start and stop

    async def get_slice(
        self,
        start: Sequence[int] | int,
        stop: Sequence[int] | int | None,
        step: Sequence[int] | int | None = None,
        *,
        fields: str | Sequence[str] | None = None,
        out: np.ndarray[Any, Any] | None = None,
        missing: Missing | None = None,
        consistent: bool = False,
        priority: Priority | None = None,
        timeout: float | None = None,
    ) -> np.ndarray[Any, Any]:
        """Read the region from `start` (inclusive) to `stop` (exclusive), one integer per dimension.

        Args:
            start: First element, 0 <= start <= stop.
            stop: End of the region (exclusive), stop <= shape; None is the array's end.
            step: Take every n-th element, n >= 1.
            fields: A field's name, or a list of names, for structured data types; default: all fields. The dimensions
                of a field that contains arrays follow those of the region.
            out: A writable array of the region's shape to read into, which is returned.
            missing: `fill` or `raise` (`ChunkNotFound`) for absent chunks; default: as the array was opened.
            consistent: Return the region as it was at one moment during the call, even if it lies in many objects and
                other writers change them: after the read, the versions of all objects are checked, and changed objects
                are read again. `explain` returns the cost of the check; docs/consistent.md describes it.
            priority: Order in which requests get slots and memory: `high`, then `normal`, then `bulk`; every eighth
                goes to the request that has waited longest. Default: `normal`, or `bulk` if the region lies in more
                objects than `Limits.requests` or has more than 64 MiB.
            timeout: Seconds until `DeadlineExceeded`.

        Returns:
            A new array of `array.dtype` and the region's shape, C-contiguous and writable, which belongs to the caller;
            or `out`. A field, or a list of fields, has its own data type.

        Raises:
            SelectionError: The region is not inside the array.
            Overloaded: More requests wait than `Limits.max_waiting` allows.
            ConcurrentModification: With `consistent`: other writers changed the region during every attempt
                (`RetryPolicy.conflict_attempts`).
            StoreError: The store failed. A failed request never reads as the fill value.
            ChunkDecodeError: The stored bytes are not a chunk of this array.
        """
        check_timeout(timeout)
        if missing is not None:
            check_missing(missing)
        if consistent is not False:  # skips a call in the common case
            check_flag("consistent", consistent)
        if priority is not None:
            check_choice("priority", priority, PRIORITIES)
        region = selection.region(start, stop, step, self.shape)
        layout = self._layout if fields is None else self._layout.with_fields(fields)
        work = operations.get(
            self._runtime,
            layout,
            region,
            out=out,
            missing=missing or self._missing,
            consistent=consistent,
            timeout=timeout,
        )
        if priority is None:
            return await work
        with at_priority(PRIORITIES.index(priority)):
            return await work

    async def set_slice(
        self,
        data: Any,
        start: Sequence[int] | int,
        stop: Sequence[int] | int | None = None,
        step: Sequence[int] | int | None = None,
        *,
        fields: str | Sequence[str] | None = None,
        timeout: float | None = None,
    ) -> None:
        """Write `data` to the region from `start` to `stop`; without `stop`, the region has the shape of `data`.

        Whole chunks are stored without reading them. Parts of a chunk are merged by a conditional write, so that
        concurrent writes to other parts of the same chunk are not lost.

        Args:
            data: Anything that `np.asarray` accepts and that broadcasts to the region. It is cast as in NumPy
                assignment: Python numbers must be in the range of the data type, arrays are cast without a check. It
                must not be changed until this returns.
            start: First element.
            stop: End of the region (exclusive).
            step: Write every n-th element, n >= 1.
            fields: The field, or the fields, to write, for structured data types. The other fields are kept, so every
                chunk is merged.
            timeout: Seconds until `DeadlineExceeded`.

        Raises:
            SelectionError: The region is not inside the array, or `data` does not broadcast to it.
            DataError, DataOverflowError: A Python value does not fit the data type.
            ConcurrentModification: Every attempt to merge conflicted with another writer.
            ZarrS3Error: Any failure; its `.outcome` (a `WriteOutcome`) lists which objects are written, not written,
                or unknown. A CancelledError has it too.
        """
        check_timeout(timeout)
        layout = self._layout if fields is None else self._layout.with_fields(fields)
        if stop is None:
            data = operations.as_array(layout, data)
            stop = stop_of(start, step, data.shape, self.shape)
        region = selection.region(start, stop, step, self.shape)
        await operations.put(self._runtime, layout, region, data, write_empty=self._write_empty, timeout=timeout)

    # Selections as NumPy writes them

    def __getitem__(self, key: Any) -> View:
        """A view by basic indexing: integers, slices of any step, Ellipsis, newaxis. Await it to read.

        For structured data types, a field or a list of fields may be given: `array["x"]`, `array["x", 0:10]`.
        """
        return self._view(selection.basic, key)

    @property
    def oindex(self) -> Indexer:
        """`array.oindex[…]`: one independent selection per dimension: integers, slices, arrays, masks."""
        return Indexer(lambda key: self._view(selection.orthogonal, key))

    @property
    def vindex(self) -> Indexer:
        """`array.vindex[…]`: single elements by coordinate arrays that broadcast, or by one mask."""
        return Indexer(lambda key: self._view(selection.vectorized, key))

    @property
    def blocks(self) -> Indexer:
        """`array.blocks[…]`: whole chunks by their position in the grid."""
        return Indexer(lambda key: self._view(partial(selection.blocks, axes=self._layout.chunk_axes), key))

    def sel(self, **dimensions: Any) -> View:
        """A view by dimension name, each an integer, a slice or an index array; the others are taken whole.

        Args:
            dimensions: An integer, a slice or an index array per name of a dimension.

        Returns:
            A view, which is read by `await` and written by `set`.

        Raises:
            SelectionError: The array has no dimension of that name, or the index is not inside it.
        """
        chosen = selection.by_name(dimensions, self.dimension_names, self.shape)
        return self._view_of(self._layout, chosen)

    def explain(self, key: Any = ...) -> Explanation:
        """Compute the cost of reading or writing `array[key]`, without a request.

        Args:
            key: What would stand in the brackets of `array[key]`; default: the whole array.

        Returns:
            The requests, bytes and memory of a read and of a write.

        Raises:
            SelectionError: The selection is not inside the array.
        """
        return self[key].explain()

    def _view(self, select: Callable[[Any, Shape], selection.Selection], key: Any) -> View:
        fields, rest = selection.split_fields(key)
        return self._view_of(self._layout.with_fields(fields), select(rest, self.shape))

    def _view_of(self, layout: Layout, chosen: selection.Selection) -> View:
        return View(self._runtime, layout, chosen, missing=self._missing, write_empty=self._write_empty)

    if not TYPE_CHECKING:  # hidden from type checkers, so that they report such uses

        def __setitem__(self, key: Any, value: Any) -> NoReturn:
            raise TypeError("assignment cannot be awaited; write: await array[selection].set(data)")

    def __bool__(self) -> bool:
        return True

    def __reduce_ex__(self, protocol: object) -> NoReturn:
        raise TypeError("an Array cannot be pickled: send array.ref, and open it in a session of the other process")

    # Streams

    def stream(
        self,
        region: Any = None,
        *,
        order: Order = "C",
        ahead_bytes: int = 2**28,
        missing: Missing | None = None,
        progress: ProgressOption = None,
        state: Mapping[str, JSON] | None = None,
    ) -> BlockStream:
        """Read blocks of the array ahead, each with its position: enter with `async with`, iterate with `async for`.

        A block is the part of a stored object (a shard, or a chunk if there are no shards) inside the region. A shard
        larger than a quarter of `ahead_bytes` is split into rows of chunks. Each chunk is read and decoded once.

        Args:
            region: Slices as in NumPy, without a step; None is the whole array.
            order: `C`: row-major by position. `chunks`: one stored object after the other. `any`: as they arrive.
            ahead_bytes: Maximum number of decoded bytes that were read but not yet consumed; a larger block is read
                alone. Blocks that are being decoded are limited separately, by the session's `Limits.bytes`.
            missing: `fill` or `raise` for absent chunks; default: as the array was opened.
            progress: Called with a `Progress` for every consumed block; or `rich` or `tqdm`.
            state: Result of `state()` of an interrupted stream: the blocks that it has returned are skipped.

        Returns:
            The stream, which is not started before `async with`. Each `Block` has its place and its data.

        Raises:
            SelectionError: The region does not consist of slices of this array.
            ConfigError: An option has an invalid value, or the state belongs to a stream of other blocks.
        """
        from .streams.read import stream

        return stream(
            self._runtime,
            self._layout,
            region,
            order=order,
            ahead_bytes=ahead_bytes,
            missing=self._missing if missing is None else missing,
            progress=progress,
            state=state,
        )

    def stream_slices(
        self,
        axis: int,
        size: int,
        region: Any = None,
        *,
        ahead_bytes: int = 2**28,
        missing: Missing | None = None,
        progress: ProgressOption = None,
        state: Mapping[str, JSON] | None = None,
    ) -> SliceStream:
        """Read slabs of `size` elements along `axis`, in order, the last one shorter; used like `stream`.

        Slabs need not be aligned with the chunks: each chunk is read and decoded once. In addition to `ahead_bytes`,
        the one or two rows of chunks from which the current slab is cut are in memory.

        Args:
            axis: The dimension; negative ones count from the last.
            size: Elements of a slab along `axis`.
            region: As for `stream`.
            ahead_bytes: As for `stream`.
            missing: As for `stream`.
            progress: As for `stream`; counts rows of chunks.
            state: As for `stream`: continues after the last slab that the interrupted stream returned.

        Returns:
            The stream, which is not started before `async with`. The data of each slab belong to the caller.

        Raises:
            SelectionError: The region does not consist of slices of this array.
            ConfigError: An option has an invalid value, or the state belongs to a stream of other slabs.
        """
        from .streams.read import stream_slices

        return stream_slices(
            self._runtime,
            self._layout,
            axis,
            size,
            region,
            ahead_bytes=ahead_bytes,
            missing=self._missing if missing is None else missing,
            progress=progress,
            state=state,
        )

    def write_stream(
        self,
        region: Any = None,
        *,
        max_bytes: int = 2**28,
        resume: bool = False,
        progress: ProgressOption = None,
        state: Mapping[str, JSON] | None = None,
    ) -> WriteStream:
        """Write disjoint blocks of any size, in any order: enter with `async with`, then `await out.write(…)`.

        Each stored object is encoded and put once, when it is complete. Objects that are incomplete at the end of the
        `async with` block are merged with the stored ones by compare-and-swap. Errors have an `outcome`.

        Args:
            region: The region that will be written, as slices without a step; None is the whole array. Objects that lie
                only partly in it are merged.
            max_bytes: Maximum number of decoded bytes of the objects that are being assembled or put; a larger one is
                written alone. Objects that are being encoded are limited separately, by the session's `Limits.bytes`.
            resume: Continue an interrupted run of the same call: the objects that it has stored are listed first, and
                their blocks are dropped. Only valid if the region was empty before that run.
            progress: Called with a `Progress` for every object that was put; or `rich` or `tqdm`.
            state: Result of `state()` of an interrupted stream to this array: blocks of the objects that it has stored
                completely, and that have not changed since, are dropped. The region need not have been empty.

        Returns:
            The stream, which is not started before `async with`.

        Raises:
            SelectionError: The region does not consist of slices of this array.
            ConfigError: An option has an invalid value, or the state belongs to another array or region.
        """
        from .streams.write import write_stream

        return write_stream(
            self._runtime,
            self._path,
            self._layout,
            region,
            max_bytes=max_bytes,
            resume=resume,
            write_empty=self._write_empty,
            progress=progress,
            state=state,
        )

    # Chunks as they are stored

    async def chunk_at(self, coords: Sequence[int] | int, *, timeout: float | None = None) -> EncodedChunk | None:
        """Read one chunk in its encoded form; None if it is not stored. Nothing is decoded.

        Args:
            coords: Position in the grid of chunks (also for chunks inside shards), one integer per dimension.
            timeout: Seconds until `DeadlineExceeded`.

        Returns:
            The encoded bytes with the chunk's shape, data type and version; None if the chunk is not stored.

        Raises:
            SelectionError: The array has no such chunk.
            StoreError: The store failed, or the object is larger than an encoded chunk can be.
        """
        check_timeout(timeout)
        self._runtime.guard()
        from ._engine.encoded import get_encoded

        work = get_encoded(self._runtime, self._layout, check_integers("coords", coords))
        return await operations.within(timeout, self._layout, "read", work)

    async def put_chunk(
        self,
        coords: Sequence[int] | int,
        data: Buffer,
        *,
        version: Expected = None,
        validate: bool = True,
        timeout: float | None = None,
    ) -> Version:
        """Store one encoded chunk, replacing any stored one, and return the version of the object that contains it.

        In a shard, only that chunk is replaced, by compare-and-swap; the encoded bytes of the others are copied.

        Args:
            coords: Position in the grid of chunks, one integer per dimension.
            data: The chunk as encoded by this array's codecs. The buffer may be reused when the call returns.
            version: Store it only if the object (the chunk, or the shard) still has this version, or, with `absent`, if
                the chunk is not stored.
            validate: Decode it first, and reject bytes that are not a chunk of this array. False: store any bytes.
            timeout: Seconds until `DeadlineExceeded`; the chunk may or may not have been stored then.

        Returns:
            The new version of the object (the chunk, or the shard that contains it).

        Raises:
            ChunkDecodeError: The bytes are not a chunk of this array; nothing was stored.
            Conflict: The object is not at `version`; nothing was stored.
            ConcurrentModification: Every attempt to update the shard conflicted with another writer.
            SelectionError: The array has no such chunk.
        """
        check_timeout(timeout)
        check_flag("validate", validate)
        self._runtime.guard()
        at = check_integers("coords", coords)
        from ._engine.encoded import put_encoded

        work = put_encoded(self._runtime, self._layout, at, data, version=version, validate=validate)
        return await operations.within(timeout, self._layout, "write", work)

    async def erase_chunk(
        self, coords: Sequence[int] | int, *, version: Version | None = None, timeout: float | None = None
    ) -> None:
        """Remove one chunk: it then reads as the fill value. If it is not stored, only a call with `version` fails.

        Args:
            coords: Position in the grid of chunks, one integer per dimension.
            version: Remove it only if the object (the chunk, or the shard) still has this version.
            timeout: Seconds until `DeadlineExceeded`; the chunk may or may not have been removed then.

        Raises:
            Conflict: The object is not at `version`; nothing was removed.
            Unsupported: `version` was given, and the server does not support conditional deletes.
            ConcurrentModification: Every attempt to update the shard conflicted with another writer.
            SelectionError: The array has no such chunk.
        """
        check_timeout(timeout)
        self._runtime.guard()
        from ._engine.encoded import erase_encoded

        work = erase_encoded(self._runtime, self._layout, check_integers("coords", coords), version=version)
        await operations.within(timeout, self._layout, "write", work)

    def decode_chunk(self, data: Buffer, coords: Sequence[int] | int | None = None) -> np.ndarray[Any, Any]:
        """Decode an encoded chunk of this array, wherever its bytes came from. No request is sent.

        It runs in the calling thread; for large chunks use `await asyncio.to_thread(array.decode_chunk, data)`.

        Args:
            data: The encoded bytes.
            coords: Position of the chunk, for error messages; required if chunks differ in shape.

        Returns:
            The whole chunk in newly allocated memory, including elements beyond the array's edge.

        Raises:
            ChunkDecodeError: The bytes are not a chunk of this array.
        """
        from ._engine.encoded import decode_encoded

        return decode_encoded(self._layout, data, None if coords is None else check_integers("coords", coords))

    async def stored_chunks(self, *, inner: bool = False, timeout: float | None = None) -> StoredChunks:
        """List the objects of the array that exist, with sizes, versions and times. One request per 1,000 keys.

        Objects that are written during the listing may be included or not.

        Args:
            inner: Also list the chunks inside the shards, which takes one request per shard, for its index.
            timeout: Seconds until `DeadlineExceeded`.

        Returns:
            One entry per object, and with `inner` the chunks of each shard.

        Raises:
            SelectionError: More objects or chunks are stored than `Limits.max_chunks_per_call`.
            Unsupported: The store cannot list.
            AccessDenied: The credentials lack permission to list.
        """
        check_timeout(timeout)
        check_flag("inner", inner)
        self._runtime.guard()
        from ._stored import list_chunks

        work = list_chunks(self._runtime, self._path, self._layout, inner=inner)
        return await operations.within(timeout, self._layout, "listing", work)

    async def verify(
        self,
        *,
        strict: bool = False,
        max_findings: int = 1000,
        progress: OnProgress | None = None,
        client: Executor | None = None,
    ) -> VerifyReport:
        """Read and decode all objects of the array, and compare them with the metadata; see `Session.verify`.

        Args:
            strict: See `Session.verify`.
            max_findings: See `Session.verify`.
            progress: See `Session.verify`.
            client: See `Session.verify`.

        Returns:
            The report. Problems of objects are findings, not errors.

        Raises:
            StoreError: The store as a whole failed, or the listing failed.
        """
        from ._verify import verify

        return await verify(
            self._runtime,
            self._path,
            self.metadata.zarr_format,
            strict=strict,
            max_findings=max_findings,
            progress=progress,
            client=client,
        )

    # Edits

    async def update_attributes(self, attributes: Mapping[str, JSON], *, replace: bool = False) -> None:
        """Merge `attributes` into the stored ones, or replace them all. Concurrent updates are both kept.

        Args:
            attributes: Names and JSON values.
            replace: Remove all other attributes.

        Raises:
            ConfigError: JSON cannot represent the attributes.
            NodeNotFound: The array was deleted.
            ConcurrentModification: Every attempt conflicted with another writer.
            StoreError: The store failed.
        """
        check_flag("replace", replace)
        check_mapping("attributes", attributes)
        self._runtime.guard()

        def edit(meta: ArrayMeta) -> ArrayMeta:
            merged = dict(attributes) if replace else {**meta.attributes, **attributes}
            return formats.with_attributes(meta, merged)

        from ._engine.consolidated import sync_copies

        self._adopt(await nodes.update(self._runtime, self._path, self.metadata.zarr_format, edit, "array"))
        await sync_copies(self._runtime, [self._path], self.metadata.zarr_format)

    async def resize(self, shape: Sequence[int] | int) -> None:
        """Change the shape. Elements outside a smaller shape are deleted; new elements have the fill value.

        Args:
            shape: The new shape, with the same number of dimensions.

        Raises:
            ConfigError: The shape has another number of dimensions, or is negative.
            NodeNotFound: The array was deleted, or replaced by another one.
            ConcurrentModification: Every attempt conflicted with another writer.
            StoreError: The store failed. The shape may have been changed, and some objects outside of it may remain.
        """
        self._runtime.guard()
        wanted = check_integers("shape", shape)
        from ._engine import reshape

        await self._reshape(reshape.resize(self._runtime, self._path, self.metadata, wanted))

    async def append(self, data: Any, axis: int = 0) -> Shape:
        """Append `data` along `axis` and return the new shape.

        The rows are claimed first, by a conditional write of the shape, so that concurrent appends never share rows. If
        the write fails, the shape is restored unless the array has grown further; a note on the error names the rows.

        Args:
            data: Anything that `np.asarray` accepts, with the array's number of dimensions. All its lengths but that
                along `axis` are those of the array.
            axis: The dimension that grows; negative ones count from the last.

        Returns:
            The new shape.

        Raises:
            ConfigError: The array has no such axis, or other dimensions of the data differ from those of the array.
            DataError, DataOverflowError: A Python value does not fit the data type.
            NodeNotFound: The array was deleted, or replaced by another one.
            ConcurrentModification: Every attempt conflicted with another writer.
            StoreError: The store failed.
        """
        axis = check_integer("axis", axis)
        self._runtime.guard()
        axis = axis + self.ndim if axis < 0 else axis
        from ._engine import reshape

        rows = operations.as_array(self._layout, data)
        await self._reshape(
            reshape.append(self._runtime, self._path, self._layout, rows, axis, write_empty=self._write_empty)
        )
        return self.shape

    async def _reshape(self, change: Awaitable[ArrayMeta]) -> None:
        """Change the shape, then update the consolidated metadata above, even if the change failed half-way."""
        from ._engine.consolidated import sync_copies

        sync = partial(sync_copies, self._runtime, [self._path], self.metadata.zarr_format)
        try:
            self._adopt(await change)
        except StoreError:
            with suppress(ZarrS3Error):  # the first error is raised, not this one
                await sync()
            raise
        await sync()

    async def refresh(self) -> Self:
        """Read the metadata again, in place: another writer may have changed the shape or the attributes.

        Returns:
            This array.

        Raises:
            NodeNotFound: The array was deleted.
            MetadataError, UnsupportedFeature: The metadata is invalid or unsupported.
            StoreError: The store failed.
        """
        self._runtime.guard()
        self._runtime.forget_below(self._path)
        node = await nodes.load(self._runtime, self._path, self.metadata.zarr_format, "array")
        self._adopt(cast("ArrayMeta", node.meta))
        return self

    def _adopt(self, meta: ArrayMeta) -> None:
        # Running operations keep the layout with which they started.
        self._layout = lay_out(self._runtime, self._path, meta, self._layout.reader)


async def create_array(runtime: Runtime, path: str, options: ArrayOptions) -> Array:
    """Create an array, and missing groups above it; see `Session.create_array`."""
    from ._engine import creation

    completed = complete(options)
    meta = formats.new_array(completed, find_kind)
    path = check_path(path, zarr_format=meta.zarr_format)
    # The handle is built first, to reject codecs that are incompatible or cannot encode before anything is stored.
    try:
        array = Array(runtime, path, meta, write_empty=completed["write_empty_chunks"])
    except MetadataError as error:
        raise ConfigError(str(error)) from error.__cause__
    unencodable = array._layout.encode_error  # noqa: SLF001  # created in this function
    if unencodable is not None:
        raise ConfigError(f"no chunk of {array._layout.url} could be written: {unencodable}")  # noqa: SLF001
    await creation.create(runtime, path, meta, overwrite=completed["overwrite"])
    return array


def array_html(array: Array, stored: Container[Coords] | None) -> str:
    """HTML for notebooks.

    Args:
        array: The array to show.
        stored: Positions of the stored objects; None if not known.
    """
    meta = array.metadata
    facts: list[tuple[str, object]] = [
        ("URL", array.url),
        ("shape", f"{array.shape}, {array.size:,} elements, {array.nbytes:,} bytes decoded"),
        ("dtype", array.dtype),
        ("chunks", f"{'at most ' if meta.edges is not None else ''}{meta.chunks}"),
        *([("shards", meta.shards)] if meta.shards is not None else []),
        ("codecs", ", ".join(codec.name for codec in meta.codecs)),
        ("fill value", array.fill_value),
        *([("dimensions", array.dimension_names)] if array.dimension_names is not None else []),
        ("Zarr format", meta.zarr_format),
        ("attributes", len(meta.attributes)),
    ]
    return facts_html("Array", facts, grid_html(meta.grid_shape, stored))
