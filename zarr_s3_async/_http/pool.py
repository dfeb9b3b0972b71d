"""The connection pool of one endpoint: keep-alive, bounded in number, one exchange per connection at a time.

No state change contains an `await`. A connection that is being established counts against the limit.
"""

from __future__ import annotations

import asyncio
from collections import deque
from math import inf
from typing import TYPE_CHECKING

from .connection import NOT_BEGUN, Connection, Pace, ResponseReader
from .errors import AttemptTimeout, ConnectTimeout, PoolClosed, TooSlow

if TYPE_CHECKING:
    from .._buffers import Buffers
    from .dial import Dialer

_CLOSED = "the connection pool was closed"
_MIN_TICK, _MAX_TICK = 0.005, 1.0
_TICKS = 10
"""Sweeps per attempt timeout: a timeout is noticed up to a tenth of itself late, or a second."""
PACE_BYTES = 64 * 1024
PACE_STEPS = 4
"""`PACE_BYTES` bytes of a body must arrive within each quarter of the attempt timeout: 4 KiB/s by default."""
_CLOSING_TURNS = 2
"""Loop iterations until asyncio has closed the socket of a connection attempt that was cancelled."""


class ConnectionPool:
    """A pool of at most `limit` connections. Bound to the event loop of its first use."""

    __slots__ = (
        "_buffers",
        "_closed",
        "_dialer",
        "_dials",
        "_idle",
        "_idle_timeout",
        "_limit",
        "_open",
        "_reader",
        "_retired",
        "_settled",
        "_sockets",
        "_step_seconds",
        "_sweeper",
        "_tick",
        "_waiting",
    )

    def __init__(
        self,
        dialer: Dialer,
        *,
        limit: int,
        idle_timeout: float,
        attempt_timeout: float | None,
        buffers: Buffers,
        reader: ResponseReader,
    ) -> None:
        """
        Args:
            dialer: Establishes connections.
            limit: Maximum number of connections; further requests wait.
            idle_timeout: Seconds after which an unused connection is closed.
            attempt_timeout: Seconds of one exchange, from which the minimum rate of a body follows; None: no limit.
            buffers: Memory for bodies.
            reader: Decides where response bodies go.
        """
        self._dialer = dialer
        self._reader = reader
        self._buffers = buffers
        self._limit = limit
        self._idle_timeout = idle_timeout
        self._tick = max(_MIN_TICK, min(_MAX_TICK, idle_timeout / _TICKS, (attempt_timeout or inf) / _TICKS))
        self._step_seconds = None if attempt_timeout is None else attempt_timeout / PACE_STEPS
        # A stack: the most recently used connection is taken first, so that surplus ones become idle and are closed.
        self._idle: list[Connection] = []
        # Dicts for their order: closing is the same each time, which a run in virtual time repeats.
        self._open: dict[Connection, None] = {}
        self._dials: dict[asyncio.Timeout, None] = {}
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._sockets: set[Connection] = set()
        self._sweeper: asyncio.TimerHandle | None = None
        self._settled = asyncio.Event()
        self._closed = False
        self._retired = False

    def __repr__(self) -> str:
        return (
            f"<ConnectionPool to {self._dialer.host} port {self._dialer.port}: "
            f"{len(self._open)} of {self._limit}, {len(self._idle)} idle, {len(self._waiting)} waiting>"
        )

    # ---- lending

    def take(self) -> Connection | None:
        """Take an idle connection that is still usable; None if there is none."""
        while self._idle:
            connection = self._idle.pop()
            # The server may have closed it meanwhile: sending on it would cost a failed attempt.
            if connection.is_quiet():
                return connection
            connection.abort()
        return None

    async def acquire(self, *, fresh: bool = False) -> Connection:
        """Take an idle connection or establish a new one; at the limit, wait for either.

        Args:
            fresh: Establish a new connection in any case, as a retry after a stale connection needs.

        Raises:
            ConnectTimeout: The connection was not established in time.
            OSError: The endpoint refuses connections, or its name or certificate is invalid.
            PoolClosed: The pool is closed.
        """
        while not self._closed:
            connection = None if fresh else self.take()
            if connection is None and self._below_limit(evict_idle=fresh):
                return await self._dial()
            if connection is None:
                connection = await self._wait()
            # `_wait` returns None when a connection was closed: try again, there may be capacity for a new one.
            # A released connection may have been closed by its server before this task ran.
            # A stale connection made the caller ask for a fresh one, so a released one is of no use to it.
            if connection is not None and not connection.closed:
                if not fresh:
                    return connection
                connection.abort()  # makes capacity for the fresh one
        raise PoolClosed(_CLOSED)

    def release(self, connection: Connection) -> None:
        """Return a connection after a complete response; `connection.reusable` says whether it can be used again."""
        if connection.closed:
            return
        # A pool that is replaced keeps no connection open for a later request.
        if self._retired:
            connection.abort()
            return
        connection.idle_since = asyncio.get_running_loop().time()
        if not (self._waiting and self._hand_over(connection)):
            self._idle.append(connection)

    def _below_limit(self, *, evict_idle: bool) -> bool:
        free = self._limit - len(self._open) - len(self._dials)
        if free <= 0 and evict_idle and self._idle:
            # The longest idle one: it is the most likely to be closed by the server already.
            self._idle.pop(0).abort()
            return True
        return free > 0

    async def _wait(self) -> Connection | None:
        """Wait for a released connection (returned), or for capacity to establish one (None)."""
        turn: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            # Cancelled in the same iteration in which a connection was handed over: the next waiter must get it.
            if turn.done() and not turn.cancelled():
                self._pass_on(turn.result())
            raise

    def _pass_on(self, connection: Connection | None) -> None:
        if connection is None:
            self._hand_over(None)
        else:
            self.release(connection)

    def _hand_over(self, connection: Connection | None) -> bool:
        # Waiters that were cancelled are still in the queue: their futures are done.
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(connection)
                return True
        return False

    # ---- making

    async def _dial(self) -> Connection:
        timer = asyncio.timeout(self._dialer.seconds)
        self._dials[timer] = None
        try:
            async with timer:
                connection = await self._dialer.dial(self._make)
        except BaseException as error:
            self._dials.pop(timer, None)
            self._settled.set()
            self._hand_over(None)
            if isinstance(error, TimeoutError):
                raise self._timed_out() from error
            raise
        self._dials.pop(timer, None)
        self._open[connection] = None
        self._sockets.add(connection)
        self._keep_sweeping()
        # Closed while it was being established.
        if self._closed:
            connection.abort()
            raise PoolClosed(_CLOSED)
        return connection

    def _timed_out(self) -> Exception:
        if self._closed:
            return PoolClosed(_CLOSED)
        dialer = self._dialer
        return ConnectTimeout(f"no connection to {dialer.host} port {dialer.port} within {dialer.seconds:g} s")

    def _make(self) -> Connection:
        return Connection(asyncio.get_running_loop(), self._buffers, self._reader, self._forget, self._socket_closed)

    # ---- ending

    def _forget(self, connection: Connection) -> None:
        """A connection was closed: it no longer counts against the limit."""
        self._open.pop(connection, None)
        if connection in self._idle:
            self._idle.remove(connection)
        self._hand_over(None)

    def _socket_closed(self, connection: Connection) -> None:
        """The event loop has closed the connection's socket."""
        self._sockets.discard(connection)
        self._settled.set()

    def _keep_sweeping(self) -> None:
        if self._sweeper is None and self._open and not self._closed:
            self._sweeper = asyncio.get_running_loop().call_later(self._tick, self._sweep)

    def _sweep(self) -> None:
        """One timer for all connections: fail late exchanges, close connections that were idle too long."""
        self._sweeper = None
        now = asyncio.get_running_loop().time()
        for connection in list(self._open):
            if connection.deadline <= now:
                connection.fail(AttemptTimeout("no complete response in time"))
            else:
                self._check_pace(connection, now)
        while self._idle and now - self._idle[0].idle_since > self._idle_timeout:
            self._idle.pop(0).abort()
        self._keep_sweeping()

    def _check_pace(self, connection: Connection, now: float) -> None:
        received, pace = connection.received, connection.pace
        if received is None or self._step_seconds is None:
            return
        if pace is NOT_BEGUN or received >= pace.received:
            connection.pace = Pace(received + PACE_BYTES, now + self._step_seconds)
        elif pace.due <= now:
            slow = f"fewer than {PACE_BYTES} bytes arrived within {self._step_seconds:g} s, after {received} bytes"
            connection.fail(TooSlow(slow))

    def retire(self) -> None:
        """Close idle connections now and the others when their exchange has ended."""
        self._retired = True
        while self._idle:
            self._idle.pop().abort()

    async def aclose(self) -> None:
        """`close`, and return when the event loop has closed every socket."""
        self.close()
        while self._sockets or self._dials:
            self._settled.clear()
            await self._settled.wait()
        # `connection_lost` is called before asyncio closes the socket: wait for that too, or a ResourceWarning follows.
        for _ in range(_CLOSING_TURNS):
            await asyncio.sleep(0)

    def close(self) -> None:
        """Close every connection and fail running exchanges with PoolClosed. Idempotent."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        now = asyncio.get_running_loop().time()
        # Attempts to connect end as if their time was up: that closes their sockets without cancelling their callers.
        for timer in self._dials:
            if not timer.expired():
                timer.reschedule(now)
        for connection in list(self._open):
            connection.fail(PoolClosed(_CLOSED))
        while self._hand_over(None):
            pass
