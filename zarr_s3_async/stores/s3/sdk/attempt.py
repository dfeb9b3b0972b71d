"""State shared between an attempt of the SDK transport and its aiohttp connection."""

from __future__ import annotations

from contextvars import ContextVar


class Attempt:
    """One attempt and its connection.

    Attributes:
        fresh: Use a new connection.
        reused: The connection had been used before.
        answered: The head of a response has arrived.
    """

    __slots__ = ("answered", "fresh", "reused")

    def __init__(self, *, fresh: bool) -> None:
        self.fresh: bool = fresh
        self.reused: bool = False
        self.answered: bool = False


ATTEMPT: ContextVar[Attempt | None] = ContextVar("zarr_s3_async_attempt", default=None)
"""The current attempt: aiohttp offers no other way to pass it to a connection."""
