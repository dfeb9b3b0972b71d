"""Verbs that a store may lack: the store's own where it has one, else composed of those that every store has."""

from __future__ import annotations

from collections.abc import AsyncIterable, AsyncIterator, Hashable, Iterable, Iterator, Sequence

from ..byte_range import Span
from .base import Entry, Store, StoreRef, SupportsIdentity, SupportsPages, SupportsParent, SupportsRef, SupportsStat

BATCH = 1000
"""Keys of one `delete_many`, and objects of a page: what S3 takes and gives in one request."""


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
