"""One HTTP/1.1 connection: one exchange at a time, its bytes received into their final memory.

The head and the start of a body go through a scratch buffer; the rest of a long body is received directly into its
memory. Any violation of HTTP closes the connection.
"""

from __future__ import annotations

import asyncio
import select
from math import inf
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, cast

from .._concurrency.turns import STEP_BYTES, TURNS
from .errors import ConnectionBroken, IncompleteResponse, ProtocolError
from .head import MAX_HEAD, Head, looks_like_http, parse_head
from .partial import PartialBody

if TYPE_CHECKING:
    from collections.abc import Callable

    from .._buffers import Buffers
    from .._concurrency.turns import LoopTurns
    from .._types import Buffer
    from .body import Body

_SCRATCH = 64 * 1024
_SLICE = 256 * 1024
"""Bytes written to the transport at once: it copies what it cannot send, and over TLS encrypts all of it at once."""
_FIRST_SLICE = 64 * 1024
_JOINED = 32 * 1024
"""Bytes of a payload up to which it is copied behind its head: one `send` of one piece of memory costs less."""
_TURN = 2**20
"""Bytes of an upload written in one iteration of the loop."""
_MAX_INFORMATIONAL = 16


class ResponseReader(Protocol):
    """Decides what happens with a response once its head has arrived.

    `request` is the object that was given to `Connection.exchange`, opaque to the connection.
    """

    def has_body(self, request: Any, head: Head, /) -> bool:
        """False if the response has no body."""
        ...

    def receive_at_once(self, request: Any, head: Head, data: memoryview, /) -> Buffer | None:
        """The body, if `data`, which arrived with the head, is all of it; None: call `open_body`."""
        ...

    def open_body(self, request: Any, head: Head, buffers: Buffers, /) -> Body:
        """Choose where the body goes; an exception raised here fails the exchange."""
        ...


class Pace(NamedTuple):
    """How many bytes of a body must have been received, and by when (loop time)."""

    received: int
    due: float


NOT_BEGUN = Pace(0, inf)


class Answer(NamedTuple):
    """A complete response."""

    head: Head
    body: Buffer


class Connection(asyncio.BufferedProtocol):
    """A connection made by `dial`, used by one exchange at a time."""

    __slots__ = (
        "_answer",
        "_aside",
        "_body",
        "_buffers",
        "_direct",
        "_filled",
        "_head",
        "_informational",
        "_loop",
        "_on_closed",
        "_on_lost",
        "_paused",
        "_poller",
        "_reader",
        "_request",
        "_scratch",
        "_transport",
        "_turns",
        "_unsent",
        "_view",
        "closed",
        "deadline",
        "idle_since",
        "pace",
        "reusable",
        "served",
    )

    _transport: asyncio.Transport
    _poller: select.poll
    _head: Head

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        buffers: Buffers,
        reader: ResponseReader,
        on_closed: Callable[[Connection], None],
        on_lost: Callable[[Connection], None],
    ) -> None:
        self._loop = loop
        self._buffers = buffers
        self._reader = reader
        self._on_closed = on_closed
        self._on_lost = on_lost
        self._scratch = bytearray(_SCRATCH)
        # One view, sliced for each read: a slice of a bytearray would be a copy.
        self._view = memoryview(self._scratch)
        self._aside = self._view  # scratch buffer: receives everything that is not received in place
        self._request: Any = None
        self._answer: asyncio.Future[Answer] | None = None
        self._body: Body | None = None
        self._direct: memoryview | None = None
        self._filled = 0  # bytes of an unfinished head in the scratch buffer
        self._informational = 0
        self._unsent: memoryview | None = None
        self._turns: LoopTurns | None = None
        self._paused = False
        self.closed = False
        self.reusable = False
        self.served = 0
        self.deadline = inf  # of the exchange, in the loop's time
        self.pace = NOT_BEGUN
        self.idle_since = 0.0

    # ---- exchanges

    def exchange(self, head: bytes, request: object, payload: Buffer | None, deadline: float) -> asyncio.Future[Answer]:
        """Send a request and return a future of its response.

        Args:
            head: The encoded request head.
            request: Passed to the reader with the response's head.
            payload: The request's body.
            deadline: Loop time at which the response must be complete.

        The future fails with ConnectionBroken, ProtocolError, the argument of `fail`, or the reader's exception; the
        connection is closed then. A caller that stops waiting must call `abort`.
        """
        self._request = request
        self.deadline = deadline
        self.pace = NOT_BEGUN
        self._turns = TURNS.get()
        answer = self._answer = self._loop.create_future()
        if payload:
            self._upload(head, memoryview(payload).cast("B"))
        else:
            self._transport.write(head)
        return answer

    def wait_again(self) -> asyncio.Future[Answer] | None:
        """A new future of the current exchange, for a caller whose wait was cancelled; None if the exchange has ended.

        It fails as that of `exchange` does.
        """
        if self._answer is None:
            return None
        self._answer = self._loop.create_future()
        return self._answer

    @property
    def received(self) -> int | None:
        """Bytes received of the current object body; None while no body is being received."""
        unfinished = None if self._body is None else self._body.unfinished()
        return None if unfinished is None else unfinished[1]

    def is_quiet(self) -> bool:
        """True if nothing arrived since the last response: neither a close nor unsolicited bytes."""
        return not (self.closed or self._poller.poll(0))

    def abort(self) -> None:
        """Close immediately. The caller's memory is not touched afterwards."""
        if self.closed:
            return
        self.closed = True
        self._release_references()
        self._transport.abort()
        self._on_closed(self)

    def fail(self, error: BaseException) -> None:
        """Close immediately and fail the current exchange with `error`."""
        answer, self._answer = self._answer, None
        if isinstance(error, IncompleteResponse) and self._body is not None:
            unfinished = self._body.unfinished()
            error.partial = unfinished and PartialBody(self._head.headers, *unfinished)
        self.abort()
        if answer is not None and not answer.done():
            answer.set_exception(error)

    # ---- asyncio.BufferedProtocol

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast("asyncio.Transport", transport)
        self._poller = select.poll()
        # `is_quiet` polls the socket itself: asyncio reads it only when the loop runs, which may be after a connection
        # is taken.
        self._poller.register(transport.get_extra_info("socket").fileno(), select.POLLIN)

    def get_buffer(self, sizehint: int) -> memoryview:  # noqa: ARG002  # asyncio's name
        if self._filled:  # of an unfinished head, whose bytes must stay together to be parsed
            return self._view[self._filled :]
        memory = self._aside if self._direct is None else self._direct
        # A bulk call receives in short steps while interactive calls wait for their turn of the loop.
        if self._turns is not None and self._turns.short:
            return memory[:STEP_BYTES]
        return memory

    def buffer_updated(self, nbytes: int) -> None:
        try:
            if self._answer is None:
                self.abort()  # unsolicited bytes
            elif self._body is None:
                self._read_head(nbytes)
            else:
                self._read_body(self._body, nbytes)
        except Exception as error:  # noqa: BLE001  # a sink may raise anything; raised to the caller of the exchange
            self.fail(error)

    def eof_received(self) -> None:
        # Without a length and without chunks, the end of the stream is the only end that a body has.
        if self._answer is not None and self._body is not None and self._body.ends_with_stream():
            self._end(self._body.body, keep=False)
        self._break("the server closed the connection before the end of the response", None)

    def connection_lost(self, exc: Exception | None) -> None:
        self._break("the connection broke before the end of the response", exc)
        self._on_lost(self)

    def pause_writing(self) -> None:
        self._paused = True

    def resume_writing(self) -> None:
        self._paused = False
        self._pump()

    # ---- receiving

    def _read_head(self, count: int) -> None:
        # The end of the head may be split over two reads, so the last three bytes are searched again.
        searched = max(0, self._filled - 3)
        filled = self._filled = self._filled + count
        while True:
            end = self._scratch.find(b"\r\n\r\n", searched, filled)
            if end < 0 or end > MAX_HEAD:
                return self._check_unfinished_head()
            head = parse_head(self._view[:end])
            if head.status >= 200:
                return self._begin_body(head, self._view[end + 4 : filled])
            self._skip_informational(head, end + 4)
            searched, filled = 0, self._filled

    def _check_unfinished_head(self) -> None:
        if not looks_like_http(self._view[: self._filled]):
            raise ProtocolError(f"not HTTP: {bytes(self._view[: min(self._filled, 40)])!r}")
        if self._filled > MAX_HEAD:
            raise ProtocolError(f"a head of more than {MAX_HEAD} bytes")

    def _skip_informational(self, head: Head, length: int) -> None:
        self._informational += 1
        if head.status == 101 or self._informational > _MAX_INFORMATIONAL:
            raise ProtocolError(f"an unexpected {head.status}, or too many informational responses")
        # Copied, because source and target may overlap.
        rest = bytes(self._view[length : self._filled])
        self._view[: len(rest)] = rest
        self._filled = len(rest)

    def _begin_body(self, head: Head, data: memoryview) -> None:
        request, length, reader = self._request, head.length, self._reader
        self._head = head
        if not reader.has_body(request, head):
            return self._end(b"", followed=len(data))
        if length is not None and length <= len(data):
            # Most small responses arrive together with their head: these need no `Body`.
            body = reader.receive_at_once(request, head, data[:length])
            if body is not None:
                return self._end(body, followed=len(data) - length)
        self._filled = 0
        self._body = reader.open_body(request, head, self._buffers)
        # A strided body brings a larger scratch buffer: more of it is copied in one call.
        self._aside = self._body.scratch or self._view
        return self._feed(self._body, data)

    def _read_body(self, body: Body, count: int) -> None:
        if self._direct is None:
            self._feed(body, self._aside[:count])
        else:
            body.advance(count)
            self._direct = body.direct()

    def _feed(self, body: Body, data: memoryview) -> None:
        used = body.feed(data)
        if body.done:
            self._end(body.body, followed=len(data) - used)
        elif body.overflowed:
            self._end(body.body, keep=False)
        else:
            self._direct = body.direct()

    def _end(self, body: Buffer, *, followed: int = 0, keep: bool = True) -> None:
        if followed:
            # They would be read as the next response.
            raise ProtocolError("more bytes than the response announced")
        answer, self._answer = self._answer, None
        # A response that arrives before the request was sent completely leaves the connection in an unknown state.
        self.reusable = keep and self._head.keep_alive and self._has_sent_all()
        self.deadline = inf
        self.served += 1
        self._filled = self._informational = 0
        self._release_references()
        if not self.reusable:
            self.abort()
        if answer is not None and not answer.done():
            answer.set_result(Answer(self._head, body))

    def _release_references(self) -> None:
        """Drop all references to the caller's objects and memory."""
        self._request = None
        self._body = self._direct = self._unsent = None
        self._aside = self._view

    def _break(self, what: str, cause: Exception | None) -> None:
        # Only a used connection on which nothing of this response arrived was probably closed before the request.
        came = self._filled or self._informational or self._body is not None
        error = ConnectionBroken(what, stale=self.served > 0 and not came)
        error.__cause__ = cause
        self.fail(error)

    # ---- sending

    def _upload(self, head: bytes, payload: memoryview) -> None:
        if len(payload) <= _JOINED:
            self._transport.write(b"".join((head, payload)))
            self._unsent = payload[len(payload) :]
            return
        self._unsent = payload[_FIRST_SLICE:]
        # The head and the first slice in one call, so that they share a packet; the rest follows as the socket drains.
        self._transport.writelines((head, payload[:_FIRST_SLICE]))
        self._pump()

    def _pump(self) -> None:
        sent = 0
        while self._unsent and not self._paused and not self._transport.is_closing():
            if sent >= _TURN:  # yields to other tasks even if the network accepts everything immediately
                self._loop.call_soon(self._pump)
                return
            sent += _SLICE
            piece, self._unsent = self._unsent[:_SLICE], self._unsent[_SLICE:]
            self._transport.write(piece)

    def _has_sent_all(self) -> bool:
        return not self._unsent and (self._unsent is None or self._transport.get_write_buffer_size() == 0)
