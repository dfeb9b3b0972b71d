"""What a selection would cost, told without a single data request."""

from __future__ import annotations

from dataclasses import dataclass
from math import prod

from .._plan.selection import Selection
from .operations import planned
from .runtime import Layout, Runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The cost of reading or writing one selection."""

    objects: int
    """Stored objects that are touched."""
    chunks: int
    """Chunks that are touched, over all objects."""
    partly_covered: int
    """Chunks of which the selection covers a part only: a write reads these first, as it does those that the array's
    edge cuts."""
    result_bytes: int
    """Bytes of the result."""
    decoded_bytes: int
    """Bytes of all touched chunks, decoded: without compression this is at most what a read transfers."""
    memory_bytes: int
    """The most that a read holds at once beside its result."""
    get_requests: int
    """Requests of a read, each of the price class of GET."""
    put_requests: int
    """PUT requests of a write, the dearer price class; a partly covered chunk costs a GET besides."""

    def __str__(self) -> str:
        return (
            f"{self.objects:,} objects, {self.chunks:,} chunks ({self.partly_covered:,} partly covered)\n"
            f"read: {self.get_requests:,} GET, at most {_si(self.decoded_bytes)} decoded for a result of "
            f"{_si(self.result_bytes)}, {_si(self.memory_bytes)} of memory beside it\n"
            f"write: {self.put_requests:,} PUT, {self.partly_covered:,} GET"
        )


def explain(runtime: Runtime, layout: Layout, selection: Selection) -> Explanation:
    """See `View.explain`."""
    plan, meta = planned(runtime, layout, selection), layout.meta
    chunk = prod(meta.chunks) * meta.dtype.itemsize
    at_once = (
        min(plan.n_objects, runtime.limits.requests) * layout.lease * max(1, plan.n_chunks // max(1, plan.n_objects))
    )
    return Explanation(
        objects=plan.n_objects,
        chunks=plan.n_chunks,
        partly_covered=plan.partly_covered(),
        result_bytes=prod(plan.out_shape) * meta.dtype.itemsize,
        decoded_bytes=plan.n_chunks * chunk,
        memory_bytes=min(at_once, max(runtime.limits.bytes, layout.lease)),
        get_requests=plan.n_objects,
        put_requests=plan.n_objects,
    )


def _si(nbytes: int) -> str:
    power = min(max(nbytes, 1).bit_length() - 1, 49) // 10
    return f"{nbytes / 1024**power:.{1 if power else 0}f} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"
