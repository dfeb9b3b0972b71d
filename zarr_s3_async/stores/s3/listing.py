"""Listings of any length, page by page, with protection against servers whose listings never end.

Every page must continue after the previous one. AWS lists in the order of the keys' bytes; servers that store objects
in folders (SeaweedFS) list folder by folder: `a/x` before `a-b`. Either order is accepted, but only one per listing.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Self

from ..base import Entry
from .errors import unexpected
from .request import Request, Response

MAX_PAGES = 10**6
"""Maximum pages of a listing. S3's have 1,000 keys each: a billion objects under one prefix."""
MAX_SPARSE_PAGES = 10_000
"""Pages after which the average page must have a tenth of 1,000 keys: S3's pages are full, except for the last."""
_LEAST_NAMES = 10
_MAX_EMPTY = 100
"""Maximum consecutive pages without new names: S3 sends these if it has scanned many keys without a match."""
_UNORDERED = ("--x-s3", "--xa-s3")
"""Name suffixes of directory buckets, which S3 lists in no particular order."""

FetchPage = Callable[[str | None], Awaitable[Mapping[str, Any]]]
"""Fetches the page at a continuation token; None: the first one."""


def entries_of(page: Mapping[str, Any], root: str) -> list[Entry]:
    """The objects of a page, their keys relative to the store's root."""
    start = len(root)
    return [
        Entry(found["Key"][start:], found["Size"], found["ETag"], found.get("LastModified"))
        for found in page.get("Contents", ())
    ]


class PageReader:
    """Fetches the pages of one listing, and checks that they advance.

    Args:
        fetch: Fetches a page.
        bucket: The bucket that is listed.
        prefix: The prefix that is listed, for messages.
    """

    __slots__ = ("_by_folder", "_empty", "_fetch", "_last", "_names", "_ordered", "_pages", "_request", "_token")

    def __init__(self, fetch: FetchPage, bucket: str, prefix: str) -> None:
        self._fetch = fetch
        self._request = Request("ListObjectsV2", bucket, prefix)
        self._ordered = not bucket.endswith(_UNORDERED)
        self._by_folder = False
        self._token: str | None = None
        self._last: list[str] = []
        self._pages = self._names = self._empty = 0

    async def next(self) -> Mapping[str, Any] | None:
        """The next page; None after the last one.

        Raises:
            UnexpectedResponse: The page repeats earlier names, or too many pages contained too few names.
        """
        if self._pages and self._token is None:
            return None
        page = await self._fetch(self._token)
        self._token = page.get("NextContinuationToken")
        self._pages += 1
        found: Iterable[Mapping[str, Any]] = page.get("Contents", ())
        folders: Iterable[Mapping[str, Any]] = page.get("CommonPrefixes", ())
        problem = self._problem([*(content["Key"] for content in found), *(folder["Prefix"] for folder in folders)])
        # A listing of a single page cannot loop, so its order does not matter.
        if problem is not None and (self._pages > 1 or self._token is not None):
            raise unexpected(self._request, Response(200, {}), f"page {self._pages:,} of the listing {problem}")
        return page

    def _problem(self, names: list[str]) -> str | None:
        last = self._last[-1:]
        # A common prefix that ends a page may begin the next one too.
        new = [name for name in names if name not in last]
        self._names += len(new)
        self._empty = 0 if new else self._empty + 1
        if self._empty > _MAX_EMPTY:
            return f"is the {self._empty}th in a row without new names"
        if self._pages > MAX_PAGES or (
            self._pages > MAX_SPARSE_PAGES and self._names < _LEAST_NAMES * self._pages and self._token is not None
        ):
            return f"exceeds the maximum: all pages contain only {self._names:,} keys, and there are still more"
        if not new:
            return None
        if self._last and not self._advances(new):
            return f"goes back to {min(new)[:200]!r}, after {self._last[-1][:200]!r}"
        # Sorted, because objects and common prefixes of a page are two lists.
        self._last = sorted(new)
        return None

    def _advances(self, names: list[str]) -> bool:
        if not self._ordered:
            return sorted(names) != self._last
        if not self._by_folder:
            if min(names) > self._last[-1]:
                return True
            self._by_folder = True  # for all further pages: with alternating orders, a listing could loop
        return min(map(_folders, names)) > max(map(_folders, self._last))


def _folders(name: str) -> list[str]:
    return name.split("/")


class Pages:
    """An async iterator over the objects of a listing. Unlike an async generator, it need not be closed."""

    __slots__ = ("_page", "_reader", "_root")

    def __init__(self, reader: PageReader, root: str) -> None:
        self._reader = reader
        self._root = root
        self._page: deque[Entry] = deque()

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Entry:
        while not self._page:
            page = await self._reader.next()
            if page is None:
                raise StopAsyncIteration
            self._page.extend(entries_of(page, self._root))
        return self._page.popleft()
