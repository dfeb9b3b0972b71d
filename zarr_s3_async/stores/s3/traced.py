"""One event per HTTP attempt, around any transport."""

from __future__ import annotations

from time import perf_counter

from ...events import Emit, RequestDone
from .request import Request, Response, Transport


class Traced:
    """Sends through `inner` and tells `emit` how it went; a cancelled attempt is told as `cancelled`."""

    __slots__ = ("_emit", "_inner")

    def __init__(self, inner: Transport, emit: Emit) -> None:
        self._inner = inner
        self._emit = emit

    async def send(self, request: Request, attempt: int = 1) -> Response:
        """One attempt; its number goes into the event."""
        start = perf_counter()
        try:
            response = await self._inner.send(request)
        except BaseException as error:
            failure = getattr(error, "code", None) or type(error).__name__
            self._tell(request, attempt, start, None, str(failure), 0)
            raise
        code = None if response.error is None else response.error.code or f"{response.status} without a code"
        self._tell(request, attempt, start, response.status, code, len(memoryview(response.body)))
        return response

    def _tell(
        self, request: Request, attempt: int, start: float, status: int | None, error: str | None, received: int
    ) -> None:
        self._emit(
            RequestDone(
                operation=request.operation,
                bucket=request.bucket,
                key=request.key,
                attempt=attempt,
                status=status,
                error=error,
                seconds=perf_counter() - start,
                bytes_sent=0 if request.payload is None else len(memoryview(request.payload)),
                bytes_received=received,
            )
        )
