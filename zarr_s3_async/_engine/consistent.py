"""Read a region of many objects as of one moment: a double collect.

All objects are read, and then the versions of all are checked. If an object still has the version that was read, it had
that version during the whole time between its read and its check, since versions are not reused. All these intervals
contain the moment after the last read ended and before the first check began: at that moment, the region was what was
read. Objects that have changed are read again, and then *all* are checked again: the new read ends later, so the moment
is later too, and objects that were unchanged at the last check may have changed since.

(Y. Afek, H. Attiya, D. Dolev, E. Gafni, M. Merritt, N. Shavit: Atomic Snapshots of Shared Memory, JACM 40, 1993.)
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import replace
from math import ceil, prod
from typing import NamedTuple

from .._concurrency.workers import run_workers
from .._plan.plan import Part, Plan
from .._types import Coords, Missing, Sink, Version
from ..errors import AccessDenied, Conflict, Unsupported
from ..stores.base import Store, SupportsWeakVersions
from ..stores.optional import BATCH, list_pages, stat
from .chunks import Chunks, Fetched
from .compare_and_swap import retry_conflicts
from .elements import Wanted
from .read import Result, read
from .runtime import Layout, Runtime, store_for_chunks
from .sharing import SharedFetches

_PRICE_OF_A_PAGE = 12.5
"""Price of a page of a listing in GETs, at Amazon's prices; a page also takes about that much longer."""
_MAX_SEARCHED = 10_000
"""Maximum number of objects of a plan whose keys are searched for a common prefix, to list only a part of the array."""

Versions = dict[str, Version | None]
"""The version of each object that was read, by key; None where it was absent."""


async def read_consistent(runtime: Runtime, layout: Layout, plan: Plan, out: Result, missing: Missing) -> None:
    """Like `read`, with all elements as of one moment between call and return.

    Raises:
        ConcurrentModification: Other writers changed objects during all of `RetryPolicy.conflict_attempts` attempts.
        Unsupported: The store's versions are weak: two states of an object may have the same one.
    """
    versions: Versions = {}
    noting = _noting(layout, versions)
    check = choose_check(layout, plan)
    changed: Collection[Coords] = ()

    async def attempt() -> None:
        nonlocal changed
        await read(runtime, noting, _SomeObjects(plan, changed) if changed else plan, out, missing)
        # A single object: its response is one state of it.
        if check is None:
            return
        changed = await _changed(runtime, layout, plan, check, versions)
        if changed:
            for coords in changed:
                layout.readable.forget(layout.readable.locate(coords))
            key = layout.readable.locate(next(iter(changed)))
            raise Conflict(f"{runtime.store.url}/{key} is not at version {versions.get(key)}", key=key)

    def given_up(attempts: int) -> str:
        return (
            f"the region of {layout.url} was changed by others during all of {attempts} attempts to read it at one "
            f"moment; {len(changed)} of its {plan.n_objects} objects changed during the last one: read less at "
            "once, write whole regions less often, or raise RetryPolicy.conflict_attempts"
        )

    await retry_conflicts(runtime, layout.url, attempt, given_up)


class _SomeObjects:
    """Some of the objects of a plan; see `Touched`."""

    def __init__(self, plan: Plan, chosen: Collection[Coords]) -> None:
        self._plan = plan
        self._chosen = chosen
        self.basic = plan.basic
        self.n_objects = len(chosen)

    def objects(self) -> Iterator[tuple[Coords, Sequence[Part]]]:
        """See `Plan.objects`."""
        return (item for item in self._plan.objects() if item[0] in self._chosen)


class Check(NamedTuple):
    """How to check whether objects still have the versions that were read."""

    pages: int
    """Maximum number of pages of a listing; 0 means one request per object instead."""
    requests: int
    """Number of requests for single objects."""
    prefix: str = ""
    """Prefix of the keys to list."""


def choose_check(layout: Layout, plan: Plan) -> Check | None:
    """The cheaper check of a plan's objects; None where no check is needed."""
    if plan.n_objects == 0 or (plan.n_objects == 1 and layout.n_slots == 1):
        return None  # one response is one state of the object
    if plan.n_objects <= _PRICE_OF_A_PAGE:
        return Check(0, plan.n_objects)
    grid = layout.meta.grid_shape
    shared: Coords = ()
    if prod(grid) > BATCH and plan.n_objects <= _MAX_SEARCHED:
        shared = _shared_coordinates(plan)
    others = grid[len(shared) :]
    pages = ceil(prod(others) / BATCH)
    # A listing also returns objects that the plan does not touch; then one request per object is cheaper.
    if pages * _PRICE_OF_A_PAGE >= plan.n_objects:
        return Check(0, plan.n_objects)
    first = layout.readable.locate((*shared, *([0] * len(others))))
    # The key ends with a separator and a zero for each of the other dimensions; the first separator is kept.
    return Check(pages, 0, first[: len(first) - 2 * len(others) + 1])


def _shared_coordinates(plan: Plan) -> Coords:
    """The longest common prefix of the coordinates of all objects."""
    coordinates = (coords for coords, _ in plan.objects())
    shared = next(coordinates)
    for coords in coordinates:
        while coords[: len(shared)] != shared:
            shared = shared[:-1]
        if not shared:
            break
    return shared


async def _changed(
    runtime: Runtime, layout: Layout, plan: Plan, check: Check, versions: Mapping[str, Version | None]
) -> set[Coords]:
    """The objects that no longer have the version that was read."""
    store = store_for_chunks(runtime)
    if isinstance(store, SupportsWeakVersions):
        _refuse_weak(store, versions)
    if check.pages:
        try:
            now = await _listed(store, check.prefix, versions)
        except (Unsupported, AccessDenied):  # a web server, or no permission to list
            now = None
        if now is not None:
            keys = ((coords, layout.readable.locate(coords)) for coords, _ in plan.objects())
            return {coords for coords, key in keys if versions.get(key) != now.get(key)}
    changed: set[Coords] = set()

    async def look(coords: Coords) -> None:
        key = layout.readable.locate(coords)
        found = await stat(store, key)
        if (None if found is None else found.version) != versions.get(key):
            changed.add(coords)

    size = min(runtime.limits.requests, plan.n_objects)
    await run_workers(size, (coords for coords, _ in plan.objects()), look)
    return changed


def _refuse_weak(store: Store, versions: Mapping[str, Version | None]) -> None:
    assert isinstance(store, SupportsWeakVersions)  # noqa: S101  # checked by the caller
    for key, version in versions.items():
        if version is not None and store.is_weak(version):
            raise Unsupported(
                f"{store.url}/{key} has the version {version!r}, which other states of it may have too: this server "
                "sends weak ETags, so a read of several objects cannot be verified to be of one moment",
                key=key,
            )


async def _listed(store: Store, prefix: str, wanted: Mapping[str, Version | None]) -> Versions:
    """The versions of the wanted keys in a listing."""
    # Keys are listed in their order, so the listing can start before the first and stop after the last one.
    first, last = min(wanted), max(wanted)
    found: Versions = {}
    async for page in list_pages(store, prefix, after=first[:-1]):
        for entry in page:
            if entry.key in wanted:
                found[entry.key] = entry.version
        if page[-1].key >= last:
            break
    return found


def _noting(layout: Layout, versions: Versions) -> Layout:
    """The layout with reads that record the version of every object, and use neither caches nor shared fetches."""
    of_shape = layout.of_shape
    return replace(
        layout,
        readable=_NotingChunks(layout.readable, versions),
        # A shared fetch may have been sent before this attempt; the proof needs reads that start after it.
        fetches=SharedFetches(),
        reader=layout.reader._replace(max_age=None),
        of_shape=None if of_shape is None else lambda shape: _noting(of_shape(shape), versions),
    )


class _NotingChunks:
    """Chunks whose reads record the version of each object that was read last; see `Chunks`."""

    def __init__(self, inner: Chunks, versions: Versions) -> None:
        self._inner = inner
        self._versions = versions
        self.locate = inner.locate
        self.fetch_for_update = inner.fetch_for_update
        self.fetch_cost = inner.fetch_cost
        self.runs_cost = inner.runs_cost
        self.update_cost = inner.update_cost
        self.overhead = inner.overhead
        self.forget = inner.forget
        self.replace = inner.replace

    async def fetch(self, key: str, slots: Sequence[int], *, sinks: Sequence[Sink | None] | None = None) -> Fetched:
        """See `Chunks.fetch`."""
        fetched = await self._inner.fetch(key, slots, sinks=sinks)
        self._versions[key] = fetched.version
        return fetched

    async def fetch_unless(self, key: str, slots: Sequence[int], version: Version) -> Fetched | None:
        """See `Chunks.fetch_unless`."""
        fetched = await self._inner.fetch_unless(key, slots, version)
        self._versions[key] = version if fetched is None else fetched.version
        return fetched

    async def fetch_runs(self, key: str, wanted: Sequence[Wanted]) -> Fetched | None:
        """See `Chunks.fetch_runs`."""
        fetched = await self._inner.fetch_runs(key, wanted)
        if fetched is not None:
            self._versions[key] = fetched.version
        return fetched
