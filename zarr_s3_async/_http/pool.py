"""The connections to one endpoint: kept alive, bounded in number, each used by one exchange at a time.

State changes hold no `await`. A connection that is being established counts from the beginning.
"""

from __future__ import annotations

import asyncio
from collections import deque
from math import inf
from typing import TYPE_CHECKING

from .connection import NOT_BEGUN, Connection, Pace, ResponseReader
from .errors import AttemptTimeout, ConnectTimeout, PoolClosed, TooSlow

if TYPE_CHECKING:
    from .buffers import Buffers
    from .dial import Dialer

_CLOSED = "the connection pool was closed"
_MIN_TICK, _MAX_TICK = 0.005, 1.0
_TICKS = 10
"""A timeout is noticed late by a tenth of itself, or by a second."""
_STEP = 64 * 1024
_STEPS = 4
_CLOSING_TURNS = 2
"""Turns of the loop in which the socket of a connection is closed that was given up while it was being made."""
"""So many bytes of a body must come within each quarter of the attempt's time: 4 KiB/s by default."""


class ConnectionPool:
    """At most `limit` connections. Bound to the event loop of its first use."""

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
        "_step_seconds",
        "_sweeper",
        "_tick",
        "_unlost",
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
            limit: Connections at once; a further request waits.
            idle_timeout: Seconds after which an unused connection is closed.
            attempt_timeout: Seconds of one exchange, from which the minimum pace of a body follows; None: no limit.
            buffers: Memory for bodies.
            reader: What is done with responses.
        """
        self._dialer = dialer
        self._reader = reader
        self._buffers = buffers
        self._limit = limit
        self._idle_timeout = idle_timeout
        self._tick = max(_MIN_TICK, min(_MAX_TICK, idle_timeout / _TICKS, (attempt_timeout or inf) / _TICKS))
        self._step_seconds = None if attempt_timeout is None else attempt_timeout / _STEPS
        # A stack: the last used serves first, the others grow old and are closed.
        self._idle: list[Connection] = []
        self._open: set[Connection] = set()
        self._dials: set[asyncio.Timeout] = set()
        self._waiting: deque[asyncio.Future[Connection | None]] = deque()
        self._unlost: set[Connection] = set()
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
        """An idle connection of which nothing was heard since its last answer."""
        while self._idle:
            connection = self._idle.pop()
            if connection.is_quiet():
                return connection
            connection.abort()
        return None

    async def acquire(self, *, fresh: bool = False) -> Connection:
        """An idle connection or, as soon as there is room, a new one; with `fresh`, a new one in any case.

        Raises:
            ConnectTimeout: It did not stand in time.
            OSError: The endpoint takes no connection, or its name or certificate is not right.
            PoolClosed: After `aclose`.
        """
        while not self._closed:
            connection = None if fresh else self.take()
            if connection is None and self._has_room(make_room=fresh):
                return await self._dial()
            if connection is None:
                connection = await self._wait()
            if connection is not None and not connection.closed:
                if not fresh:
                    return connection
                connection.abort()
        raise PoolClosed(_CLOSED)

    def release(self, connection: Connection) -> None:
        """Take a connection back after a whole answer; `connection.reusable` says whether it serves again."""
        if connection.closed:
            return
        if self._retired:
            connection.abort()
            return
        connection.idle_since = asyncio.get_running_loop().time()
        if not self._hand_over(connection):
            self._idle.append(connection)

    def _has_room(self, *, make_room: bool) -> bool:
        room = self._limit - len(self._open) - len(self._dials)
        if room <= 0 and make_room and self._idle:
            self._idle.pop(0).abort()
            return True
        return room > 0

    async def _wait(self) -> Connection | None:
        """For a connection, or for word that there may be room for one."""
        turn: asyncio.Future[Connection | None] = asyncio.get_running_loop().create_future()
        self._waiting.append(turn)
        try:
            return await turn
        except asyncio.CancelledError:
            if turn.done() and not turn.cancelled():
                self._pass_on(turn.result())
            raise

    def _pass_on(self, connection: Connection | None) -> None:
        if connection is None:
            self._hand_over(None)
        else:
            self.release(connection)

    def _hand_over(self, connection: Connection | None) -> bool:
        while self._waiting:
            turn = self._waiting.popleft()
            if not turn.done():
                turn.set_result(connection)
                return True
        return False

    # ---- making

    async def _dial(self) -> Connection:
        timer = asyncio.timeout(self._dialer.seconds)
        self._dials.add(timer)
        try:
            async with timer:
                connection = await self._dialer.dial(self._make)
        except BaseException as error:
            self._dials.discard(timer)
            self._settled.set()
            self._hand_over(None)
            if isinstance(error, TimeoutError):
                raise self._timed_out() from error
            raise
        self._dials.discard(timer)
        self._open.add(connection)
        self._unlost.add(connection)
        self._keep_sweeping()
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
        return Connection(asyncio.get_running_loop(), self._buffers, self._reader, self._forget, self._lose)

    # ---- ending

    def _forget(self, connection: Connection) -> None:
        """It takes no place any longer."""
        self._open.discard(connection)
        if connection in self._idle:
            self._idle.remove(connection)
        self._hand_over(None)

    def _lose(self, connection: Connection) -> None:
        """The loop has let go of its socket."""
        self._unlost.discard(connection)
        self._settled.set()

    def _keep_sweeping(self) -> None:
        if self._sweeper is None and self._open and not self._closed:
            self._sweeper = asyncio.get_running_loop().call_later(self._tick, self._sweep)

    def _sweep(self) -> None:
        """One timer for all: end what is late, close what has been idle for long."""
        self._sweeper = None
        now = asyncio.get_running_loop().time()
        for connection in list(self._open):
            if connection.deadline <= now:
                connection.fail(AttemptTimeout("no whole answer in time"))
            else:
                self._hold_to_pace(connection, now)
        while self._idle and now - self._idle[0].idle_since > self._idle_timeout:
            self._idle.pop(0).abort()
        self._keep_sweeping()

    def _hold_to_pace(self, connection: Connection, now: float) -> None:
        received, pace = connection.received, connection.pace
        if received is None or self._step_seconds is None:
            return
        if pace is NOT_BEGUN or received >= pace.received:
            connection.pace = Pace(received + _STEP, now + self._step_seconds)
        elif pace.due <= now:
            slow = f"fewer than {_STEP} bytes came within {self._step_seconds:g} s, after {received} bytes"
            connection.fail(TooSlow(slow))

    def retire(self) -> None:
        """Keep no connection any longer; what runs comes to its end, and its connection with it."""
        self._retired = True
        while self._idle:
            self._idle.pop().abort()

    async def aclose(self) -> None:
        """`close`, and return when the event loop has let go of every socket."""
        self.close()
        while self._unlost or self._dials:
            self._settled.clear()
            await self._settled.wait()
        for _ in range(_CLOSING_TURNS):
            await asyncio.sleep(0)

    def close(self) -> None:
        """Close every connection and end what runs on them with PoolClosed. Again is fine."""
        self._closed = True
        if self._sweeper is not None:
            self._sweeper.cancel()
            self._sweeper = None
        now = asyncio.get_running_loop().time()
        for timer in self._dials:
            if not timer.expired():
                timer.reschedule(now)
        for connection in list(self._open):
            connection.fail(PoolClosed(_CLOSED))
        while self._hand_over(None):
            pass
