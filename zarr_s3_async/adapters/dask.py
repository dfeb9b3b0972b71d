"""Reading stored arrays as dask arrays, and storing dask arrays: in threads, processes or a cluster (extra `dask`).

Graphs contain references: each worker process opens an array once, in its own session. Tasks read and write regions and
are idempotent, so dask may run them again, also on another worker. By default blocks are aligned with chunks or shards;
if they are not, tasks that write to the same stored object do not lose each other's updates.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, Literal, Unpack
from uuid import uuid4

import numpy as np

from .. import CachePolicy, ConfigError, CreateOptions, OpenOptions, Where, blocking
from .._options import check_options

try:
    import dask.array as da
except ImportError as _error:  # pragma: no cover  # the extra is there in the tests
    raise ImportError("zarr_s3_async.adapters.dask needs dask: pip install 'zarr-s3-async[dask]'") from _error

Lengths = tuple[int, ...]


def to_dask(
    where: Where,
    *,
    path: str = "",
    chunks: Any = None,
    zarr_format: Literal[2, 3] | None = None,
    missing: Literal["fill", "raise"] = "fill",
    cache: CachePolicy | None = None,
    **options: Unpack[OpenOptions],
) -> da.Array:
    """A dask array that reads a stored array. No data is read before it is computed.

    Args:
        where: A URL, a `pathlib.Path`, or a ref.
        path: Path below `where`.
        chunks: Chunks of the dask array. None: one block per stored object (shard or chunk). `"auto"`: as many whole
            objects per block as fit into dask's `array.chunk-size`. Other values have dask's meaning.
        zarr_format: The format to open if both are present.
        missing: `"fill"`: absent chunks read as the fill value; `"raise"`: they raise `ChunkNotFound`.
        cache: Maximum age of a worker's cached data of the array; see `zarr_s3_async.Session.open_array`.
        options: Fields of `S3Config`. Keys are not sent to workers, which need credentials of their own.

    Raises:
        NodeNotFound: There is no array at this location.
    """
    check_options(options, to_dask, OpenOptions.__annotations__)
    array = blocking.open_array(where, path=path, zarr_format=zarr_format, missing=missing, cache=cache, **options)
    stored = array.shard_sizes or array.chunk_sizes
    if chunks is None:
        chunks = stored
    elif chunks == "auto":
        whole = tuple(max(lengths, default=1) or 1 for lengths in stored)
        chunks = da.core.normalize_chunks("auto", array.shape, dtype=array.dtype, previous_chunks=whole)
    # A unique name, so that a cluster does not reuse results of an earlier state of the array.
    name = f"zarr-s3-{uuid4().hex}"
    # Given, so that dask does not read elements to learn the type.
    meta = np.empty((0,) * array.ndim, array.dtype)
    return da.from_array(array, chunks=chunks, name=name, lock=False, inline_array=True, meta=meta)


def from_dask(array: da.Array, where: Where, *, path: str = "", **options: Unpack[CreateOptions]) -> blocking.Array:
    """Create a stored array of the same shape and dtype, and store the dask array in it.

    Args:
        array: The dask array to compute and store.
        where: A URL, a `pathlib.Path`, or a ref.
        path: Path below `where`.
        options: Options of `ArrayOptions`, and fields of `S3Config`. By default, `chunks` are those of the dask array,
            if they have the same shape and at most 64 MiB; otherwise those of any new array.
    """
    check_options(options, from_dask, CreateOptions.__annotations__)
    _check_known(array)
    options.setdefault("shape", array.shape)
    options.setdefault("dtype", array.dtype)
    if "chunks" not in options and "shards" not in options and _are_regular(array):
        options["chunks"] = tuple(max(1, lengths[0]) for lengths in array.chunks)
    target = blocking.create_array(where, path=path, **options)
    _store(array, target, None, align=True, compute=True)
    return target


def store(
    array: da.Array,
    where: Where | blocking.Array,
    *,
    path: str = "",
    regions: Sequence[slice] | None = None,
    align: bool = True,
    compute: bool = True,
    **options: Unpack[OpenOptions],
) -> Any:
    """Store a dask array in an existing array.

    Args:
        array: The dask array to compute and store, of the shape of the target or of `regions`.
        where: A URL, a `pathlib.Path`, a ref, or a blocking array.
        path: Path below `where`.
        regions: Slices of the target, of step 1; None: the whole array.
        align: Rechunk the dask array to stored objects first, so that each object is put once and none is read. False
            keeps the blocks: if several blocks share an object, each merges its part into it.
        compute: False returns a delayed value instead of computing.
        options: Fields of `S3Config`. Keys are not sent to workers, which need credentials of their own.

    Returns:
        None, or a `dask.delayed.Delayed`.

    Raises:
        ConfigError: The shapes differ, or are unknown.
    """
    check_options(options, store, OpenOptions.__annotations__)
    _check_known(array)
    target = where if isinstance(where, blocking.Array) else blocking.open_array(where, path=path, **options)
    return _store(array, target, regions, align=align, compute=compute)


def _store(
    array: da.Array, target: blocking.Array, regions: Sequence[slice] | None, *, align: bool, compute: bool
) -> Any:
    place = _place(array, target, regions)
    if align:
        stored = target.shard_sizes or target.chunk_sizes
        starts = [piece.start for piece in place]
        array = array.rechunk(tuple(map(_aligned, array.chunks, stored, starts)))
    # No dask lock is needed: if several tasks write parts of one object, they are merged under compare-and-swap.
    return da.store(array, target, regions=place, lock=False, compute=compute)


def _place(array: da.Array, target: blocking.Array, regions: Sequence[slice] | None) -> tuple[slice, ...]:
    pieces = (slice(None),) * target.ndim if regions is None else regions
    try:
        found = [slice.indices(piece, length) for piece, length in zip(pieces, target.shape, strict=True)]
    except (TypeError, ValueError) as error:
        raise ConfigError(f"regions must be one slice per dimension of {target.url}: {target.ndim}") from error
    if any(step != 1 for _, _, step in found):
        raise ConfigError("regions must be made of slices of step 1")
    shape = tuple(max(0, stop - start) for start, stop, _ in found)
    if array.shape != shape:
        raise ConfigError(f"the dask array has shape {array.shape}, and its target region has {shape}")
    return tuple(slice(start, max(start, stop)) for start, stop, _ in found)


def _aligned(blocks: Lengths, stored: Lengths, start: int) -> Lengths:
    """Block lengths close to the given ones, with all borders at borders of stored objects.

    Args:
        blocks: Lengths of the blocks along one dimension.
        stored: Lengths of the target's objects along it.
        start: Position of the first block in the target.
    """
    end = start + sum(blocks)
    edges = [edge for edge in accumulate(stored) if start < edge < end]
    wanted = [start + edge for edge in accumulate(blocks)][:-1]
    chosen: list[int] = []
    at = 0
    for edge in wanted:
        if edge in (start, end):
            continue
        # The border of a stored object that is closest to the border of the block.
        while at + 1 < len(edges) and edges[at + 1] - edge <= edge - edges[at]:
            at += 1
        if edges and (not chosen or edges[at] > chosen[-1]):
            chosen.append(edges[at])
    bounds = [start, *chosen, end]
    return tuple(b - a for a, b in pairwise(bounds))


_MOST_CHUNK_BYTES = 64 * 2**20


def _are_regular(array: da.Array) -> bool:
    sizes = [lengths for lengths in array.chunks if lengths]
    even = all(set(lengths[:-1]) <= {lengths[0]} and lengths[-1] <= lengths[0] for lengths in sizes)
    return even and np.prod([lengths[0] for lengths in sizes]) * array.dtype.itemsize <= _MOST_CHUNK_BYTES


def _check_known(array: da.Array) -> None:
    if not isinstance(array, da.Array):
        raise ConfigError(f"store needs a dask array, not a {type(array).__name__}: dask.array.from_array makes one")
    if np.isnan(array.shape).any():
        raise ConfigError("the shape of the dask array is unknown: call array.compute_chunk_sizes() first")
