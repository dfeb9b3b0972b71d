"""Compute the cost of a selection without requests, using the same decisions as reads and writes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from math import prod

from .._plan.plan import Part, Plan
from .._plan.selection import Selection
from .._types import Coords
from ..byte_range import REQUEST_BYTES
from .chunks import FetchCost
from .consistent import Check, choose_check
from .operations import planned
from .read import NOT_CACHED, cached_chunk
from .runtime import Layout, Runtime
from .write import replaced_slots, replaces_object


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """The cost of reading or writing one selection: requests as a store receives them, without failures and retries.

    An absent object costs at most one GET, and nothing if a write would leave it empty.
    """

    objects: int
    """Number of stored objects that the selection touches."""
    chunks: int
    """Number of chunks that the selection touches, over all objects."""
    partly_covered: int
    """Number of chunks that the selection covers only in part: a write reads these first, as it does chunks that extend
    over the array's edge."""
    result_bytes: int
    """Bytes of the result."""
    decoded_bytes: int
    """Decoded bytes of all touched chunks; an upper bound if chunks differ in shape."""
    memory_bytes: int
    """Maximum memory of a read in addition to its result, in bytes."""
    get_requests: int
    """Number of requests of a read, all in the price class of GET."""
    read_bytes: int
    """Bytes that a read transfers; compressed chunks of unknown length count with their decoded bytes."""
    merge_get_requests: int
    """Number of GET requests of a write: for merges, and for chunks that a rewritten shard keeps."""
    check_get_requests: int
    """Number of additional GET requests of a read with `consistent=True`, if no other writer changes anything."""
    check_list_requests: int
    """Maximum number of additional LIST requests of such a read, in the more expensive price class."""
    put_requests: int
    """Number of PUT requests of a write, the more expensive price class; a DELETE replaces a PUT if only fill
    remains."""
    dense_chunks: int
    """Number of uncompressed chunks that a read fetches whole for at most half of their elements: byte ranges of these
    would save less than 8 KiB for each request that they take (docs/shards.md, "Parts of uncompressed chunks")."""
    is_exact: bool
    """True if the number of requests is exact. False if it depends on the index of a shard that is not cached: then
    shards with all their chunks at full size are assumed."""

    def __repr__(self) -> str:
        return (
            f"<Explanation: {self.objects:,} objects, {self.chunks:,} chunks; read {self.get_requests:,} GET of "
            f"{si(self.read_bytes)}; write {self.put_requests:,} PUT; print it for more>"
        )

    def __str__(self) -> str:
        about = "" if self.is_exact else "about "
        return (
            f"{self.objects:,} objects, {self.chunks:,} chunks ({self.partly_covered:,} partly covered)\n"
            f"read: {about}{self.get_requests:,} GET of {si(self.read_bytes)} for a result of "
            f"{si(self.result_bytes)}, {si(self.memory_bytes)} of memory beside it\n"
            f"{self._dense()}"
            f"consistent=True: {self._check()} more\n"
            f"write: {self.put_requests:,} PUT, {about}{self.merge_get_requests:,} GET"
        )

    def _dense(self) -> str:
        if not self.dense_chunks:
            return ""
        return (
            f"read whole for few elements: {self.dense_chunks:,} uncompressed chunks (S3 gives one byte range per "
            f"request, and ranges of these would save less than {si(REQUEST_BYTES)} each)\n"
        )

    def _check(self) -> str:
        if self.check_list_requests:
            return f"at most {self.check_list_requests:,} LIST"
        return f"{self.check_get_requests:,} GET" if self.check_get_requests else "nothing"


def explain(runtime: Runtime, layout: Layout, selection: Selection) -> Explanation:
    """See `View.explain`. Takes O(objects) time, or O(dimensions) for whole plain chunks."""
    plan, meta = planned(runtime, layout, selection), layout.meta
    at_once = (
        min(plan.n_objects, runtime.limits.requests) * layout.lease * max(1, plan.n_chunks // max(1, plan.n_objects))
    )
    read, merge = _costs(runtime, layout, plan)
    check = choose_check(layout, plan) or Check(0, 0)
    return Explanation(
        objects=plan.n_objects,
        chunks=plan.n_chunks,
        partly_covered=plan.partly_covered(),
        result_bytes=prod(plan.out_shape) * layout.dtype.itemsize,
        decoded_bytes=plan.n_chunks * prod(meta.chunks) * meta.dtype.itemsize,
        memory_bytes=min(at_once, max(runtime.limits.bytes, layout.lease)),
        get_requests=read.requests,
        read_bytes=read.nbytes,
        merge_get_requests=merge.requests,
        check_get_requests=check.requests,
        check_list_requests=check.pages,
        put_requests=plan.n_objects,
        dense_chunks=read.dense,
        is_exact=read.is_known and merge.is_known,
    )


def _costs(runtime: Runtime, layout: Layout, plan: Plan) -> tuple[FetchCost, FetchCost]:
    """The costs of a read, and of the reads that a write makes."""
    all_alike = layout.shard_axes is None and layout.of_shape is None and layout.elements is None
    if all_alike and layout.reader.max_age is None:
        # Without shards and partial reads every object costs the same, so counting is enough: no pass over the objects.
        merged = plan.n_objects - (plan.n_replaced() if layout.fields is None else 0)
        nbytes = layout.meta.object_nbytes
        return FetchCost(plan.n_objects, plan.n_objects * nbytes), FetchCost(merged, merged * nbytes)
    read = merge = FetchCost(0, 0)
    for coords, parts in plan.objects():
        there = layout.at(coords)
        read = _sum(read, _read_cost(runtime, there, coords, parts))
        if not replaces_object(there, coords, parts):
            merge = _sum(merge, there.chunks.update_cost(coords, replaced_slots(there, coords, parts)))
    return read, merge


def _read_cost(runtime: Runtime, layout: Layout, coords: Coords, parts: Sequence[Part]) -> FetchCost:
    dense = 0
    if layout.reader.max_age is None:
        if layout.elements is not None:
            listed = tuple(parts)
            chosen = layout.elements.choose(listed)
            if chosen is not None:
                slots = [part.slot for part in listed]
                return layout.readable.runs_cost(coords, list(zip(slots, chosen.runs, strict=True)))
            dense = layout.elements.dense(listed)
        if len(parts) == layout.n_slots:  # a whole shard: listing its parts only to count them would be slow
            return layout.readable.fetch_cost(coords, range(layout.n_slots))._replace(dense=dense)
    chunks = runtime.decoded.peek(runtime.name_of(layout.chunks.locate(coords)), layout.reader)
    slots = [part.slot for part in parts if cached_chunk(layout, chunks, part.slot) is NOT_CACHED]
    return layout.readable.fetch_cost(coords, slots)._replace(dense=dense) if slots else FetchCost(0, 0)


def _sum(one: FetchCost, other: FetchCost) -> FetchCost:
    return FetchCost(
        one.requests + other.requests,
        one.nbytes + other.nbytes,
        one.is_known and other.is_known,
        one.dense + other.dense,
    )


def si(nbytes: int) -> str:
    """Bytes with a binary unit."""
    power = min(max(nbytes, 1).bit_length() - 1, 49) // 10
    return f"{nbytes / 1024**power:.{1 if power else 0}f} {('B', 'KiB', 'MiB', 'GiB', 'TiB')[power]}"
