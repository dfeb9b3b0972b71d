"""One event per HTTP attempt, around any transport; where only the session's counters listen, it only counts."""

from __future__ import annotations

from time import perf_counter

from ..._types import Buffer
from ...events import Emit, Metrics, RequestDone
from .request import Request, Response, Transport


class Traced:
    """Sends through `inner` and tells `emit` how it went."""

    __slots__ = ("_count", "_emit", "_inner")

    def __init__(self, inner: Transport, emit: Emit) -> None:
        self._inner = inner
        self._emit = emit
        self._count = emit.request_done if type(emit) is Metrics else None

    async def send(self, request: Request, attempt: int = 1) -> Response:
        """One attempt; its number goes into the event."""
        start = perf_counter()
        try:
            response = await self._inner.send(request)
        except BaseException as error:
            failure = getattr(error, "code", None) or type(error).__name__
            self._tell(request, attempt, start, None, str(failure), 0)
            raise
        error_code = None
        if response.error is not None:
            error_code = response.error.code or f"{response.status} without a code"
        self._tell(request, attempt, start, response.status, error_code, _size(response.body))
        return response

    def _tell(
        self, request: Request, attempt: int, start: float, status: int | None, error: str | None, received: int
    ) -> None:
        sent = 0 if request.payload is None else _size(request.payload)
        if self._count is not None:
            self._count(request.operation, error, sent, received)
            return
        self._emit(
            RequestDone(
                operation=request.operation,
                bucket=request.bucket,
                key=request.key,
                attempt=attempt,
                status=status,
                error=error,
                seconds=perf_counter() - start,
                bytes_sent=sent,
                bytes_received=received,
            )
        )


def _size(data: Buffer) -> int:
    return data.nbytes if type(data) is memoryview else len(data)
