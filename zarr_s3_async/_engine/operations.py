"""Execute one call: plan the selection, enforce limits, allocate the result, and read or write within the timeout."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine
from typing import Any, Literal, TypeVar

import numpy as np

from .. import _ml_dtypes
from .._concurrency.limiter import HIGH, PRIORITY
from .._plan.plan import Plan
from .._plan.plan import plan as make_plan
from .._plan.selection import Selection
from .._types import Missing
from ..errors import ConfigError, DataError, DataOverflowError, DeadlineExceeded, Overloaded, SelectionError
from .read import Result, read
from .runtime import Layout, Runtime

T = TypeVar("T")


async def get(
    runtime: Runtime,
    layout: Layout,
    selection: Selection,
    *,
    out: Result | None = None,
    missing: Missing = "fill",
    consistent: bool = False,
    timeout: float | None = None,
) -> Result:
    """Read the selected elements: an array of the selection's shape, owned by the caller; `out` itself if given.

    A masked array as `out` is unmasked.
    """
    runtime.guard()
    if runtime.limits.max_waiting is not None:
        _admit(runtime, layout, runtime.limits.max_waiting)
    plan = planned(runtime, layout, selection)
    result = _allocated(layout, plan) if out is None else _checked_out(layout, plan, out)
    # Of a matrix or a masked array, its memory: reshaping and indexing them differs from an array.
    target = np.asarray(result).reshape(plan.buffer_shape + layout.dtype.shape)
    if consistent:
        from .consistent import read_consistent  # as `write` below: imported by the calls that need it

        reading = read_consistent(runtime, layout, plan, target, missing)
    else:
        reading = read(runtime, layout, plan, target, missing)
    if not await _ends_in_time(reading, timeout):
        raise _late(layout, "read", timeout)
    if type(result) is not np.ndarray and isinstance(result, np.ma.MaskedArray):
        result.mask = np.ma.nomask
    return result


async def put(
    runtime: Runtime,
    layout: Layout,
    selection: Selection,
    data: Any,
    *,
    write_empty: bool,
    timeout: float | None = None,
) -> None:
    """Store `data`, broadcast to the selection's shape and cast as in NumPy assignment."""
    from .write import Writing

    runtime.guard()
    if runtime.limits.max_waiting is not None:
        _admit(runtime, layout, runtime.limits.max_waiting)
    plan = planned(runtime, layout, selection)
    writing = Writing(runtime, layout, plan, _values(layout, plan, data), write_empty=write_empty)
    if not await _ends_in_time(writing.run(), timeout):
        late = _late(layout, "write", timeout)
        late.outcome = writing.outcome()
        raise late


async def within(timeout: float | None, layout: Layout, what: str, work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`.

    Args:
        timeout: Seconds; None means no timeout.
        layout: The array, for the error.
        what: Description of the work, for the error.
        work: It is cancelled after the timeout.

    Raises:
        DeadlineExceeded: The work took longer than the timeout.
    """
    # `_ends_in_time` reports only whether the work ended, so the result is passed around it.
    results: list[T] = []

    async def run() -> None:
        results.append(await work)

    if not await _ends_in_time(run(), timeout):
        raise _late(layout, what, timeout)
    return results[0]


def _admit(runtime: Runtime, layout: Layout, max_waiting: int) -> None:
    requests, leases = runtime.requests, runtime.leases
    if requests.waiting + leases.waiting >= max_waiting and PRIORITY.get() != HIGH:
        raise Overloaded(
            f"{layout.url}: the session has {requests.held} of {requests.limit} requests in flight and "
            f"{leases.held:,} of {leases.limit:,} bytes in memory; {requests.waiting} requests and {leases.waiting} "
            f"objects wait, and Limits.max_waiting allows {max_waiting}: try again later, or raise a limit"
        )


async def _ends_in_time(work: Coroutine[Any, Any, object], timeout: float | None) -> bool:
    if timeout is None:
        await work
        return True
    try:
        # Not a scope of anyio: it would cancel again in every iteration of the loop, which would spin until uploads in
        # progress are completed.
        async with asyncio.timeout(timeout) as timer:
            await work
    except TimeoutError:
        # A TimeoutError of the work itself, not of this timer.
        if not timer.expired():
            raise
        return False
    return True


def planned(runtime: Runtime, layout: Layout, selection: Selection) -> Plan:
    """Plan a selection; raise SelectionError if it exceeds the limits on the number or size of chunks."""
    meta = layout.meta
    if layout.pipeline.nbytes > runtime.limits.max_chunk_bytes:
        raise SelectionError(
            f"a chunk of {layout.url} has {layout.pipeline.nbytes:,} bytes, and Limits.max_chunk_bytes allows "
            f"{runtime.limits.max_chunk_bytes:,}: raise the limit if you trust the array"
        )
    plan = make_plan(selection, meta.shape, layout.chunk_axes, layout.shard_axes)
    max_chunks = runtime.limits.max_chunks_per_call
    # Checked before the first request: a small mistake in a selection may touch millions of chunks.
    if plan.n_chunks > max_chunks:
        at_most = "" if meta.edges is None else "at most "
        raise SelectionError(
            f"this selection of {layout.url} touches {plan.n_chunks:,} chunks of {at_most}{meta.chunks} elements in "
            f"{plan.n_objects:,} objects; one call may touch {max_chunks:,} (Limits.max_chunks_per_call): "
            "select less, or raise the limit"
        )
    return plan


def _allocated(layout: Layout, plan: Plan) -> Result:
    try:
        return np.empty(plan.out_shape, dtype=layout.dtype)
    except (MemoryError, ValueError) as error:
        raise SelectionError(
            f"a result of shape {plan.out_shape} and dtype {layout.dtype} does not fit into memory ({error}); "
            "read it in pieces"
        ) from error


def _checked_out(layout: Layout, plan: Plan, out: Result) -> Result:
    if not isinstance(out, np.ndarray):
        raise ConfigError(f"out must be a NumPy array, not {type(out).__name__}")
    shape = plan.out_shape + layout.dtype.shape
    if out.shape != shape:
        raise ConfigError(f"out has shape {out.shape}, and the selection has {shape}")
    if not out.flags.writeable:
        raise ConfigError("out is read-only")
    # For text and bytes of fixed length, "same_kind" would allow casts that truncate.
    casting: Literal["safe", "same_kind"] = "safe" if out.dtype.kind in "SUV" else "same_kind"
    if not np.can_cast(layout.dtype.base, out.dtype, casting):
        raise ConfigError(f"out has dtype {out.dtype}, to which {layout.dtype.base} does not cast without a loss")
    # Chunks are written concurrently and in any order, so shared elements would have random values.
    if _shares_memory(out):
        raise ConfigError(
            "out has elements that share memory, or may (a broadcast or strided view): give one of its own"
        )
    return out


def _shares_memory(out: Result) -> bool:
    """True if two elements may share memory; chunks are written to `out` concurrently and in any order."""
    extent = out.itemsize
    # From the smallest stride on, each axis must step over everything that the axes before it span.
    for stride, n in sorted((abs(stride), n) for stride, n in zip(out.strides, out.shape, strict=True) if n > 1):
        if stride < extent:
            return out.size > 0
        extent += stride * (n - 1)
    return False


def _values(layout: Layout, plan: Plan, data: Any) -> Result:
    """A view of `data` in the plan's buffer shape. Casts happen chunk by chunk, to avoid a copy of all of it."""
    values = as_array(layout, data)
    # Checked on shapes alone: broadcasting and reshaping are views, so nothing is copied before a chunk is encoded.
    shape, inner = plan.out_shape + layout.dtype.shape, layout.dtype.shape
    extra = values.ndim - len(shape)
    if extra > 0 and values.shape[:extra] == (1,) * extra:
        values = values.reshape(values.shape[extra:])  # NumPy assignment allows leading axes of length 1 too
    try:
        return np.broadcast_to(values, shape).reshape(plan.buffer_shape + inner)
    except ValueError as error:
        raise SelectionError(
            f"data of shape {values.shape} does not broadcast to the selection's shape {shape}"
        ) from error


def as_array(layout: Layout, data: Any) -> Result:
    """Convert data to be written to a NumPy array.

    Python numbers and lists of them are converted to the array's data type immediately, with range checks as in NumPy
    assignment. NumPy arrays and numeric scalars are kept: they are cast later, without checks of their values.

    Raises:
        DataError: A value cannot be converted to the array's data type.
    """
    dtype = layout.dtype.base
    try:
        if hasattr(data, "__array__") and not dtype.hasobject:
            values: Result = np.asarray(data)
            given = values.dtype
            # Text and objects contain Python values too, which must be checked; text may have no bytes, and records may
            # contain text.
            is_cast_later = given.kind == dtype.kind if given.kind in "OSTU" else given.names is None
            if given == dtype or (is_cast_later and np.can_cast(given, dtype, "unsafe")):
                return values
        if dtype.isbuiltin == 2 and _ml_dtypes.is_integer(dtype):  # a type of ml_dtypes
            _ml_dtypes.check_range(np.asarray(data), dtype)
        return np.asarray(data, dtype=dtype)
    except OverflowError as error:
        raise DataOverflowError(f"{layout.url} has the data type {dtype}: {error}") from error
    except (TypeError, ValueError) as error:
        raise DataError(f"{layout.url} has the data type {dtype}, and data does not: {error}") from error


def _late(layout: Layout, what: str, timeout: float | None) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"the {what} of {layout.url} did not end within timeout={timeout} s; allow more time, or {what} less at once"
    )
