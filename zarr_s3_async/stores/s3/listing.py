"""Listings of any length, page by page. A class, not an async generator: nothing to close when one stops early."""

from __future__ import annotations

from collections import deque
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from typing import Any, Self

from ..._types import Version
from ..base import Entry

FetchPage = Callable[[str, str | None], Awaitable[Mapping[str, Any]]]


def entry_of(content: Mapping[str, Any], root: str) -> Entry:
    """One `Contents` element, its key relative to the store's root."""
    written = content.get("LastModified")
    modified = written.timestamp() if isinstance(written, datetime) else written
    return Entry(content["Key"][len(root) :], content["Size"], Version(content["ETag"]), modified)


class Pages:
    """Async iterator over the objects under a prefix."""

    __slots__ = ("_done", "_fetch", "_page", "_prefix", "_root", "_token")

    def __init__(self, fetch: FetchPage, root: str, prefix: str) -> None:
        self._fetch = fetch
        self._root = root
        self._prefix = prefix
        self._token: str | None = None
        self._page: deque[Entry] = deque()
        self._done = False

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> Entry:
        while not self._page:
            if self._done:
                raise StopAsyncIteration
            page = await self._fetch(self._prefix, self._token)
            self._page.extend(entry_of(content, self._root) for content in page.get("Contents", ()))
            self._token = page.get("NextContinuationToken")
            self._done = self._token is None
        return self._page.popleft()
