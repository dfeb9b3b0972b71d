"""An async queue with one producer and any number of workers."""

from __future__ import annotations

from asyncio import Queue
from typing import Generic, Self, TypeVar

T = TypeVar("T")


class Feed(Generic[T]):
    """An async iterator over the items that were put, until it is closed. Any number of workers may iterate."""

    __slots__ = ("_closed", "_items")

    def __init__(self) -> None:
        self._items: Queue[T | None] = Queue()
        self._closed = False

    def put(self, item: T) -> None:
        """Add an item without waiting."""
        self._items.put_nowait(item)

    def close(self) -> None:
        """Accept no more items; queued ones are still delivered."""
        if not self._closed:
            self._closed = True
            self._items.put_nowait(None)

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        item = await self._items.get()
        if item is None:
            self._items.put_nowait(None)  # for the next worker
            raise StopAsyncIteration
        return item
