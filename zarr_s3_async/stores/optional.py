"""Optional store operations: the store's own implementation, or a fallback composed of the required operations."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Hashable, Iterable, Iterator, Sequence
from functools import lru_cache
from typing import Literal, TypeAlias, TypeGuard

from .._concurrency.workers import run_workers
from .._policy.backoff import PINNED_ATTEMPTS
from .._types import Version, When
from ..byte_range import ByteRange, Span, checked, coalesce, resolve
from ..errors import ConcurrentModification, Conflict
from .base import (
    Blob,
    Entry,
    Store,
    StoreRef,
    SupportsIdentity,
    SupportsPages,
    SupportsParent,
    SupportsRef,
    SupportsStat,
    SupportsUnkeptConditions,
    SupportsUnless,
    Unchanged,
)

BATCH = 1000
"""Keys per `delete_many` and objects per page: the limits of one S3 request."""


async def stat(store: Store, key: str) -> Entry | None:
    """The object's size, version and modification time; None if it is absent.

    On S3 this is a GET of one byte, not a HEAD, whose 404 does not show whether the key or the bucket is absent.
    """
    if isinstance(store, SupportsStat):
        return await store.stat(key)
    blob = await store.get(key, range=Span(0, 0))
    return None if blob is None else Entry(key, blob.size, blob.version, blob.modified)


async def check_condition(store: Store, key: str, when: When) -> None:
    """Before a write under a condition that the caller of the library named: look, where the store does not keep it.

    The look is no condition: who writes between it and the write is overwritten. Without it, everybody would be.

    Raises:
        Conflict: The object is not as `when` says.
    """
    if when == "always" or not isinstance(store, SupportsUnkeptConditions) or await store.keeps(key, when):
        return
    if when != "absent":
        await store.get(key, range=Span(0, 0), version=when)  # which is a Conflict of another version
    elif await stat(store, key) is not None:
        raise Conflict(f"{store.url}/{key} is stored already", key=key)


async def get_unless(
    store: Store,
    key: str,
    version: Version,
    *,
    range: ByteRange | None = None,  # noqa: A002  # the protocol's name
    max_bytes: int | None = None,
) -> Blob | Literal[Unchanged.UNCHANGED] | None:
    """The object, or a range of it, unless it is at this version; see `SupportsUnless.get_unless`.

    A store without this operation reads the object in any case.
    """
    if isinstance(store, SupportsUnless):
        return await store.get_unless(key, version, range=range, max_bytes=max_bytes)
    blob = await store.get(key, range=range, max_bytes=max_bytes)
    return Unchanged.UNCHANGED if blob is not None and blob.version == version else blob


def list_pages(store: Store, prefix: str = "", *, after: str = "") -> AsyncIterator[Sequence[Entry]]:
    """The objects of `store.list_prefix(prefix)` whose key is greater than `after`, in non-empty pages."""
    if isinstance(store, SupportsPages):
        return store.list_pages(prefix, after=after)
    return _pages_of(store, prefix, after)


async def _pages_of(store: Store, prefix: str, after: str) -> AsyncIterator[Sequence[Entry]]:
    page: list[Entry] = []
    async for entry in store.list_prefix(prefix):
        if entry.key > after:
            page.append(entry)
        if len(page) == BATCH:
            yield page
            page = []
    if page:
        yield page


async def delete_stream(store: Store, keys: Iterable[str] | AsyncIterable[str]) -> int:
    """Delete objects in batches of `BATCH` while the keys are still being produced. Absent ones are ignored.

    Returns:
        Number of keys.

    Raises:
        StoreError: A batch failed. Earlier batches are deleted, later ones are not.
    """
    count = 0
    batch: list[str] = []
    if isinstance(keys, AsyncIterable):
        async for key in keys:
            batch.append(key)
            if len(batch) == BATCH:
                count += await _delete(store, batch)
    else:
        for key in keys:
            batch.append(key)
            if len(batch) == BATCH:
                count += await _delete(store, batch)
    return count + await _delete(store, batch)


async def _delete(store: Store, batch: list[str]) -> int:
    count = len(batch)
    if batch:
        await store.delete_many(batch)
        batch.clear()
    return count


def ref(store: Store) -> StoreRef:
    """A reference with which another session, process or machine opens the same store.

    Raises:
        TypeError: The store cannot be opened elsewhere: it is in the memory of this process, or has no `ref`.
    """
    if isinstance(store, SupportsRef):
        return store.ref
    raise TypeError(f"{store!r} has no reference that another process could open")


def _has_identity(store: Store) -> TypeGuard[SupportsIdentity]:
    # Asked twice whenever an array is opened, and `isinstance` reads the properties, which takes 12 us on Python 3.11.
    return _has_properties(type(store)) or isinstance(store, SupportsIdentity)


@lru_cache(maxsize=256)
def _has_properties(kind: type) -> bool:
    return hasattr(kind, "place") and hasattr(kind, "owner")


def place_of(store: Store) -> str:
    """Identifies where the store's bytes are: stores that show one object have equal `place/key`."""
    return store.place if _has_identity(store) else store.url


def owner_of(store: Store) -> Hashable:
    """Identifies who reads: cached data of one owner is not given to another."""
    return store.owner if _has_identity(store) else None


def folders_above(store: Store) -> Iterator[tuple[Store, str]]:
    """The parent folders as stores, nearest first, each with the root's path in it; empty if the store has no
    `parent`."""
    path = ""
    while isinstance(store, SupportsParent) and (above := store.parent()) is not None:
        store, name = above
        path = f"{name}/{path}".rstrip("/")
        yield store, path


async def get_many(
    store: Store, wanted: Sequence[tuple[str, ByteRange | None]], *, at_once: int = 64
) -> list[Blob | None]:
    """Read several objects, or ranges of them, concurrently.

    Args:
        store: The store that contains them.
        wanted: Keys, each with a range, or with None for the whole object.
        at_once: Maximum number of reads in flight, in addition to the session's limit on requests.

    Returns:
        The results of `get`, in the order of `wanted`.
    """
    found: list[Blob | None] = [None] * len(wanted)

    async def receive(number: int) -> None:
        key, byte_range = wanted[number]
        found[number] = await store.get(key, range=byte_range)

    await run_workers(min(at_once, len(wanted)), iter(range(len(wanted))), receive)
    return found


async def get_ranges(
    store: Store,
    key: str,
    ranges: Sequence[ByteRange | None],
    *,
    version: Version | None = None,
    max_gap: int = 256 * 1024,
    max_bytes: int = 16 * 2**20,
    at_once: int = 64,
) -> list[Blob] | None:
    """Read several ranges of one version of an object.

    Args:
        store: The store that contains it.
        key: The object.
        ranges: In any order; they may overlap. None is the whole object.
        version: The version to read; None: the current one.
        max_gap: Maximum number of unwanted bytes between two spans of one request.
        max_bytes: Maximum length of a request that covers several spans.
        at_once: Maximum number of requests in flight, in addition to the session's limit.

    Returns:
        One blob per range, in order, all of the same version; None if the object is absent.

    Raises:
        Conflict: The object is not at `version`.
        ConcurrentModification: The object was rewritten during every attempt.
    """
    requests = list(_requests(ranges, max_gap, max_bytes))
    for _ in range(PINNED_ATTEMPTS):
        found = await _receive_all(store, key, version, requests, at_once)
        versions = {None if blob is None else blob.version for blob in found}
        if len(versions) > 1:
            continue  # the object changed between two requests
        if versions == {None}:
            return None
        return _apart(ranges, requests, [blob for blob in found if blob is not None])
    raise ConcurrentModification(
        f"{store.url}/{key} was rewritten during each of {PINNED_ATTEMPTS} reads of its ranges",
        key=key,
        attempts=PINNED_ATTEMPTS,
    )


_Request: TypeAlias = tuple[ByteRange | None, list[int]]
"""A range to request, and the positions of the ranges that it covers."""


def _requests(ranges: Sequence[ByteRange | None], max_gap: int, max_bytes: int) -> Iterator[_Request]:
    """Merge neighbouring spans into one request; every other range is a request of its own."""
    spans = sorted((span, number) for number, span in enumerate(ranges) if isinstance(span, Span))
    for span, _ in spans:
        checked(span)
    numbers = iter([number for _, number in spans])
    merged = coalesce((span for span, _ in spans), max_gap=max_gap, small_gap=max_gap, max_size=max_bytes)
    for request, members in merged:
        yield request, [next(numbers) for _ in members]
    for number, other in enumerate(ranges):
        if not isinstance(other, Span):
            yield other, [number]


async def _receive_all(
    store: Store, key: str, version: Version | None, requests: list[_Request], at_once: int
) -> list[Blob | None]:
    if len(requests) == 1:
        return [await store.get(key, range=requests[0][0], version=version)]
    found: list[Blob | None] = [None] * len(requests)

    async def receive(number: int) -> None:
        found[number] = await store.get(key, range=requests[number][0], version=version)

    await run_workers(min(at_once, len(requests)), iter(range(len(requests))), receive)
    return found


def _apart(ranges: Sequence[ByteRange | None], requests: list[_Request], found: list[Blob]) -> list[Blob]:
    """Cut the blobs of the requests into the blob of each range."""
    blobs: dict[int, Blob] = {}
    for (asked, members), blob in zip(requests, found, strict=True):
        if len(members) == 1 or not isinstance(asked, Span):
            blobs[members[0]] = blob
            continue
        body = memoryview(blob.data)
        for number in members:
            start, stop = resolve(ranges[number], blob.size)
            part = body[start - asked.start : stop - asked.start]
            blobs[number] = Blob(part, blob.version, blob.size, blob.modified)
    return [blobs[number] for number in range(len(ranges))]
