"""Verbs that a store may lack: the store's own where it has one, else composed of those that every store has."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Hashable, Iterable, Iterator, Sequence
from typing import TypeAlias

from .._concurrency.workers import run_workers
from .._types import Version
from ..byte_range import ByteRange, Span, checked, resolve
from ..errors import ConcurrentModification
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
)

BATCH = 1000
"""Keys of one `delete_many`, and objects of a page: what S3 takes and gives in one request."""
_ATTEMPTS = 8
"""Reads of several ranges that may find them of different versions, until that is an error."""


async def stat(store: Store, key: str) -> Entry | None:
    """The object's size, version and time, or None where it is absent.

    On S3 this is a GET of one byte, not a HEAD: its 404 would not say whether the key or the bucket is absent.
    """
    if isinstance(store, SupportsStat):
        return await store.stat(key)
    blob = await store.get(key, range=Span(0, 0))
    return None if blob is None else Entry(key, blob.size, blob.version, blob.modified)


def list_pages(store: Store, prefix: str = "", *, after: str = "") -> AsyncIterator[Sequence[Entry]]:
    """The objects of `store.list_prefix(prefix)` whose key is greater than `after`, in pages that are not empty."""
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
    """Remove these objects, `BATCH` at a time, while the keys are still coming in. Absent ones are fine.

    Returns:
        How many keys there were.

    Raises:
        StoreError: A batch failed. Those before it are deleted, those after it are not.
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
    """With which another session, process or machine opens the same store.

    Raises:
        TypeError: The store cannot be opened elsewhere: it lies in the memory of this process, or says nothing of it.
    """
    if isinstance(store, SupportsRef):
        return store.ref
    raise TypeError(f"{store!r} has no reference that another process could open")


def place_of(store: Store) -> str:
    """Where its bytes really are: two stores that show one object give `place/key` alike."""
    return store.place if isinstance(store, SupportsIdentity) else store.url


def owner_of(store: Store) -> Hashable:
    """Whose reads go through it: what one owner has fetched is not for another."""
    return store.owner if isinstance(store, SupportsIdentity) else None


def folders_above(store: Store) -> Iterator[tuple[Store, str]]:
    """The stores above its root, the next one first, each with the path of the root in it; none if it cannot tell."""
    path = ""
    while isinstance(store, SupportsParent) and (above := store.parent()) is not None:
        store, name = above
        path = f"{name}/{path}".rstrip("/")
        yield store, path


async def get_many(
    store: Store, wanted: Sequence[tuple[str, ByteRange | None]], *, at_once: int = 64
) -> list[Blob | None]:
    """Several objects, or ranges of them, at the same time.

    Args:
        store: Where they are.
        wanted: Keys, each with a range or with None for the whole object.
        at_once: Reads in flight; the session's limit of requests holds besides.

    Returns:
        What `get` returns of each, in their order.
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
    """Many ranges of one object, all of them of one version of it.

    Args:
        store: Where it is.
        key: The object.
        ranges: In any order; they may overlap. None is the whole object.
        version: The version that is wanted; None: the one there is.
        max_gap: Spans with at most so many bytes between them may be one request.
        max_bytes: No request for several spans is longer.
        at_once: Requests in flight; the session's limit holds besides.

    Returns:
        One blob for each range, in their order, all with the same version; None where the object is absent.

    Raises:
        Conflict: The object is not at the version wanted.
        ConcurrentModification: It was rewritten during every one of several attempts.
    """
    requests = list(_requests(ranges, max_gap, max_bytes))
    for _ in range(_ATTEMPTS):
        found = await _receive_all(store, key, version, requests, at_once)
        versions = {None if blob is None else blob.version for blob in found}
        if len(versions) > 1:
            continue  # it was rewritten, put or deleted between two of the requests
        if versions == {None}:
            return None
        return _apart(ranges, requests, [blob for blob in found if blob is not None])
    raise ConcurrentModification(
        f"{store.url}/{key} was rewritten during each of {_ATTEMPTS} reads of its ranges", key=key
    )


_Request: TypeAlias = tuple[ByteRange | None, list[int]]
"""What to ask for, and the positions of the ranges that it serves."""


def _requests(ranges: Sequence[ByteRange | None], max_gap: int, max_bytes: int) -> Iterator[_Request]:
    """Spans that lie close together as one request, everything else by itself."""
    spans = sorted((span, number) for number, span in enumerate(ranges) if isinstance(span, Span))
    merged: Span | None = None
    members: list[int] = []
    for span, number in spans:
        checked(span)
        if merged is not None:
            stop = max(merged.stop, span.stop)
            if span.start - merged.stop <= max_gap and stop - merged.start <= max_bytes:
                merged = Span(merged.start, stop)
                members.append(number)
                continue
            yield merged, members
        merged, members = span, [number]
    if merged is not None:
        yield merged, members
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
    """The blob of each range, out of those of the requests."""
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
