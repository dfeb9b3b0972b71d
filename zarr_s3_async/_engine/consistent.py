"""Reading a region as it was at one moment, though it lies in many objects: a double collect.

All objects are read, each in one of its states, and then all are looked at again. Where each still has the version that
was read, it had it throughout the time between its read and its check, as versions do not come back. All these spans of
time contain the moment at which the last read had ended and the first check had not begun: at that moment the region
was what was read. What has changed is read again, and then *all* is checked again: a new read ends later, so the moment
is a later one, and whatever was unchanged at the last check may have changed since.

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
"""A listing's page costs as much as so many GETs, at Amazon's prices; it also takes about as much longer."""
_LOOKED_AT = 10_000
"""Objects up to which a plan is searched for what their keys have in common, to list less than the whole array."""

Versions = dict[str, Version | None]
"""Of the state of each object that was read, by key; None where it was absent."""


async def read_consistent(runtime: Runtime, layout: Layout, plan: Plan, out: Result, missing: Missing) -> None:
    """As `read`, of one moment between call and return.

    Raises:
        ConcurrentModification: Objects were changed by others during every one of `RetryPolicy.conflict_attempts`
            checks.
        Unsupported: The store's versions do not tell states of an object apart.
    """
    versions: Versions = {}
    noting = _noting(layout, versions)
    check = choose_check(layout, plan)
    changed: Collection[Coords] = ()

    async def attempt() -> None:
        nonlocal changed
        await read(runtime, noting, _SomeObjects(plan, changed) if changed else plan, out, missing)
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
    """How to find out whether objects still have the versions that they had."""

    pages: int
    """Pages of a listing, at most; 0: each object is asked for by itself."""
    requests: int
    """Requests for single objects."""
    prefix: str = ""
    """Of the keys to list."""


def choose_check(layout: Layout, plan: Plan) -> Check | None:
    """The cheaper check of a plan's objects; None where there is nothing to check."""
    if plan.n_objects == 0 or (plan.n_objects == 1 and layout.n_slots == 1):
        return None  # one answer is one state
    if plan.n_objects <= _PRICE_OF_A_PAGE:
        return Check(0, plan.n_objects)
    grid = layout.meta.grid_shape
    shared: Coords = ()
    if prod(grid) > BATCH and plan.n_objects <= _LOOKED_AT:
        shared = _shared_coordinates(plan)
    others = grid[len(shared) :]
    pages = ceil(prod(others) / BATCH)
    if pages * _PRICE_OF_A_PAGE >= plan.n_objects:
        return Check(0, plan.n_objects)
    first = layout.readable.locate((*shared, *([0] * len(others))))
    # It ends with a separator and a zero for each of the other dimensions.
    return Check(pages, 0, first[: len(first) - 2 * len(others) + 1])


def _shared_coordinates(plan: Plan) -> Coords:
    """The first coordinates of all objects, as far as they are the same for all."""
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
        except (Unsupported, AccessDenied):  # a web server, or a reader who may not list
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
    assert isinstance(store, SupportsWeakVersions)  # noqa: S101  # the caller has looked
    for key, version in versions.items():
        if version is not None and store.is_weak(version):
            raise Unsupported(
                f"{store.url}/{key} has the version {version!r}, which another state of it may have too: this server "
                "sends no strong ETag, so a read of several objects cannot be known to be of one moment",
                key=key,
            )


async def _listed(store: Store, prefix: str, wanted: Mapping[str, Version | None]) -> Versions:
    """The versions of the wanted keys as a listing gives them."""
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
    """The same layout, whose reads note the version of every object, and take nothing from caches and other readers."""
    of_shape = layout.of_shape
    return replace(
        layout,
        readable=_NotingChunks(layout.readable, versions),
        fetches=SharedFetches(),
        reader=layout.reader._replace(max_age=None),
        of_shape=None if of_shape is None else lambda shape: _noting(of_shape(shape), versions),
    )


class _NotingChunks:
    """Chunks whose reads note the version of each object that they have read last; see `Chunks`."""

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
