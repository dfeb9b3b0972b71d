"""Uploads that have begun are finished, for a moment, when their caller is cancelled.

S3 drops an upload whose connection breaks. Some servers store what they got instead: SeaweedFS 4.48 replaces the
object by an empty one (tests/promises/test_cancellation.py shows it without this room). So a cancelled upload goes on
until it is answered, at most for `GRACE` seconds, and only then the cancellation leaves.
"""

from __future__ import annotations

from asyncio import CancelledError, get_running_loop, shield
from collections.abc import Coroutine
from typing import Any, TypeVar

from ..threads import outlast
from .request import Request, Response, Transport

T = TypeVar("T")

GRACE = 2.0
"""Seconds that a cancelled upload may still take."""


async def finished(work: Coroutine[Any, Any, T]) -> T:
    """The result of `work`. Cancelled, it leaves only once the work has ended, or `GRACE` seconds later."""
    loop = get_running_loop()
    task = loop.create_task(work)
    try:
        return await shield(task)
    except CancelledError as error:
        end = loop.call_later(GRACE, task.cancel)
        cancelled = await outlast(task, error)
        end.cancel()
        if not task.cancelled():
            task.exception()  # marks it as seen: the cancellation is what the caller gets
        raise cancelled from None


class Unbroken:
    """Sends through `inner`; everything but uploads is cancelled at once."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Transport) -> None:
        self._inner = inner

    async def send(self, request: Request) -> Response:
        """One attempt."""
        if request.payload is None:
            return await self._inner.send(request)
        return await finished(self._send(request))

    async def _send(self, request: Request) -> Response:
        return await self._inner.send(request)
