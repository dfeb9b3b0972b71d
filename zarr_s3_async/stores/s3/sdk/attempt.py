"""What one attempt of the SDK transport and the connection that it takes tell each other."""

from __future__ import annotations

from contextvars import ContextVar


class Attempt:
    """What one attempt asks of its connection, and what becomes of it.

    Attributes:
        fresh: Use no connection that has served before.
        reused: The connection had served before.
        answered: The head of a response came.
    """

    __slots__ = ("answered", "fresh", "reused")

    def __init__(self, *, fresh: bool) -> None:
        self.fresh: bool = fresh
        self.reused: bool = False
        self.answered: bool = False


ATTEMPT: ContextVar[Attempt | None] = ContextVar("zarr_s3_async_attempt", default=None)
"""The attempt that the running code belongs to: aiohttp has no other way to say it to a connection."""
