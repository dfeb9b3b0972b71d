"""dask arrays from stored ones, and stored ones from dask arrays: on threads, processes or a cluster (extra `dask`).

Graphs hold references: each worker process opens an array once, with one session of its own. Tasks read and write
regions and may run again, on another worker too, without changing the outcome. By default blocks are
aligned with chunks or shards; where they are not, tasks that share a stored object do not lose each other's updates.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import accumulate, pairwise
from typing import Any, Literal, Unpack
from uuid import uuid4

import numpy as np

from .. import CachePolicy, ConfigError, CreateOptions, OpenOptions, Where, blocking

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
    """A dask array over a stored one; nothing is read before it computes.

    Args:
        where: A URL, a `pathlib.Path`, or a ref.
        path: Below `where`.
        chunks: Of the dask array. None: a block per stored object (shard or chunk). `"auto"`: as many whole objects as
            `array.chunk-size` of dask's configuration takes. Anything else is used as dask defines it.
        zarr_format: Which of two formats side by side.
        missing: What absent chunks are: the fill value, or `ChunkNotFound`.
        cache: How old may be what a worker has cached of the array; see `zarr_s3_async.Session.open_array`.
        options: Fields of `S3Config`. Keys among them stay here: workers have keys of their own.

    Raises:
        NodeNotFound: No array is there.
    """
    array = blocking.open_array(where, path=path, zarr_format=zarr_format, missing=missing, cache=cache, **options)
    stored = array.shard_sizes or array.chunk_sizes
    if chunks is None:
        chunks = stored
    elif chunks == "auto":
        whole = tuple(max(lengths, default=1) or 1 for lengths in stored)
        chunks = da.core.normalize_chunks("auto", array.shape, dtype=array.dtype, previous_chunks=whole)
    # The name is never the same: results that a cluster keeps of an earlier state are not taken for this one.
    name = f"zarr-s3-{uuid4().hex}"
    meta = np.empty((0,) * array.ndim, array.dtype)
    return da.from_array(array, chunks=chunks, name=name, lock=False, inline_array=True, meta=meta)


def from_dask(array: da.Array, where: Where, *, path: str = "", **options: Unpack[CreateOptions]) -> blocking.Array:
    """Create a stored array of the same shape and dtype, and store the dask array in it.

    Args:
        array: What is computed and stored.
        where: A URL, a `pathlib.Path`, or a ref.
        path: Below `where`.
        options: Those of `ArrayOptions`, and fields of `S3Config`. Default of `chunks`: the dask array's, where they
            are of one shape and none is above 64 MiB; else as for every new array.
    """
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
    """Store a dask array in an array that exists.

    Args:
        array: What is computed and stored, of the shape of the target or of `regions`.
        where: A URL, a `pathlib.Path`, a ref, or a blocking array.
        path: Below `where`.
        regions: Slices of the target, of step 1; None: all of it.
        align: Cut the blocks along stored objects first, so that each is put once and none is read. False leaves them
            as they are: where several share an object, each merges its part into it.
        compute: False returns what dask computes later.
        options: Fields of `S3Config`. Keys among them stay here: workers have keys of their own.

    Returns:
        None, or a `dask.delayed.Delayed`.

    Raises:
        ConfigError: The shapes differ, or are unknown.
    """
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
    # No lock of dask's: parts of one object that several tasks write are merged under compare-and-swap.
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
        raise ConfigError(f"the dask array has shape {array.shape}, and what it is stored in has {shape}")
    return tuple(slice(start, max(start, stop)) for start, stop, _ in found)


def _aligned(blocks: Lengths, stored: Lengths, start: int) -> Lengths:
    """Lengths near to those of the blocks that end where stored objects end.

    Args:
        blocks: Along one dimension.
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
        raise ConfigError(f"store takes a dask array, not a {type(array).__name__}: dask.array.from_array makes one")
    if np.isnan(array.shape).any():
        raise ConfigError("the dask array does not know its shape: call array.compute_chunk_sizes() first")
