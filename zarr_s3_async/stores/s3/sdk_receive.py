"""The room where the SDK's answers to a GET come in: into the sink's memory, whole, and not too slowly."""

from __future__ import annotations

import asyncio
from collections.abc import Mapping
from typing import Any

from ..._types import Buffer
from ...errors import DeadlineExceeded, NetworkError
from .errors import attempt_timed_out, network_error, unexpected, where
from .request import Request, Response
from .resume import BrokenBody, Partial

_READ_SIZE = 2**18
_STEP = 2**16
"""Bytes that must come within each quarter of the attempt's time: 4 KiB/s by default."""
_STEPS = 4


class Receiving:
    """The body of one attempt. The attempt's timer is wound up anew with every step that came in time."""

    __slots__ = ("_deadline", "_partial", "_request", "_seconds")

    def __init__(self, request: Request, seconds: float) -> None:
        self._request = request
        self._seconds = seconds
        self._deadline = asyncio.get_running_loop().time() + seconds
        self._partial: Partial | None = None

    async def receive(self, status: int, headers: Mapping[str, str], stream: Any, timer: asyncio.Timeout) -> Buffer:
        """Read it to its end. A failure closes the connection: a half-read answer must not go back to a pool.

        Raises:
            BrokenBody: It ended too early; with what had come of it.
        """
        try:
            if "content-length" not in headers:
                return await self._receive_chunks(status, headers, stream)
            memory = self._memory(status, headers, int(headers["content-length"]))
            return await self._receive_exactly(headers, stream, memory, timer)
        except BaseException:
            stream.close()
            raise

    def late(self) -> DeadlineExceeded | BrokenBody:
        """The error of an attempt whose timer ran out."""
        if self._partial is None:
            return attempt_timed_out(self._request, self._seconds)
        if asyncio.get_running_loop().time() >= self._deadline:
            return BrokenBody.of(attempt_timed_out(self._request, self._seconds), self._partial)
        return BrokenBody.of(self._too_slow(self._partial), self._partial)

    def _too_slow(self, partial: Partial) -> DeadlineExceeded:
        return DeadlineExceeded(
            f"{where(self._request)}: fewer than {_STEP} bytes came within {self._seconds / _STEPS:g} s, after "
            f"{partial.received} of {partial.size}; check the network, or raise S3Config.attempt_timeout",
            bucket=self._request.bucket,
            key=self._request.key,
            code="TooSlow",
        )

    async def _receive_exactly(
        self, headers: Mapping[str, str], stream: Any, memory: memoryview, timer: asyncio.Timeout
    ) -> memoryview:
        self._partial = partial = Partial(headers, memory, 0)
        try:
            await self._fill(stream, partial, timer)
        except NetworkError as error:
            raise BrokenBody.of(error, partial) from None
        except Exception as error:
            raise BrokenBody.of(network_error(self._request, error), partial) from error
        return memory

    async def _fill(self, stream: Any, partial: Partial, timer: asyncio.Timeout) -> None:
        memory, size, due = partial.memory, partial.size, _STEP
        self._wind(timer)
        while partial.received < size:
            piece = await stream.content.read(min(_READ_SIZE, size - partial.received))
            if not piece:
                raise _broken(self._request, f"the body ended after {partial.received} of {size} bytes")
            memory[partial.received : partial.received + len(piece)] = piece
            partial.received += len(piece)
            if partial.received >= due:
                due = partial.received + _STEP
                self._wind(timer)
        if await stream.content.read(1):  # lets aiohttp see the end, so that the connection returns to its pool
            raise _broken(self._request, f"the body goes on after its {size} bytes")

    def _wind(self, timer: asyncio.Timeout) -> None:
        step = asyncio.get_running_loop().time() + self._seconds / _STEPS
        timer.reschedule(min(step, self._deadline))

    def _memory(self, status: int, headers: Mapping[str, str], size: int) -> memoryview:
        request = self._request
        as_asked = status == (206 if "range" in request.headers else 200) and "etag" in headers
        if request.sink is not None and as_asked:
            return request.sink(size)
        return memoryview(bytearray(size))

    async def _receive_chunks(self, status: int, headers: Mapping[str, str], stream: Any) -> bytes:
        if headers.get("transfer-encoding", "").lower() != "chunked":
            what = "it has neither Content-Length nor chunks: its end cannot be told"
            raise unexpected(self._request, Response(status, headers), what)
        body: bytes = await stream.read()  # aiohttp raises where the last chunk is missing
        return body


def _broken(request: Request, what: str) -> NetworkError:
    return NetworkError(
        f"{where(request)}: {what}; check the network",
        bucket=request.bucket,
        key=request.key,
        code="TruncatedBody",
    )
