"""Uploads that have begun are finished, for a moment, when their caller is cancelled.

S3 drops an upload whose connection breaks. Some servers store what they got instead: SeaweedFS 4.48 replaces the
object by an empty one (tests/promises/test_cancellation.py shows it without this room). So a cancelled upload goes on
until it is answered, at most for `GRACE` seconds, and only then the cancellation leaves.
"""

from __future__ import annotations

from asyncio import CancelledError, get_running_loop, shield

from ..threads import outlast
from .request import Request, Response, Transport

GRACE = 2.0
"""Seconds that a cancelled upload may still take."""


class Unbroken:
    """Sends through `inner`; everything but uploads is cancelled at once."""

    __slots__ = ("_inner",)

    def __init__(self, inner: Transport) -> None:
        self._inner = inner

    async def send(self, request: Request) -> Response:
        """One attempt."""
        if request.payload is None:
            return await self._inner.send(request)
        loop = get_running_loop()
        upload = loop.create_task(self._send(request))
        try:
            return await shield(upload)
        except CancelledError as error:
            end = loop.call_later(GRACE, upload.cancel)
            cancelled = await outlast(upload, error)
            end.cancel()
            if not upload.cancelled():
                upload.exception()  # marks it as seen: the cancellation is what the caller gets
            raise cancelled from None

    async def _send(self, request: Request) -> Response:
        return await self._inner.send(request)
