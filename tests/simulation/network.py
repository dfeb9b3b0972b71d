"""A network in virtual time: the event loop's connections lead to simulated servers."""

from __future__ import annotations

import asyncio
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from itertools import count
from random import Random
from typing import Any, NamedTuple
from unittest import mock

from ..promises.virtual_time import JumpingLoop
from ..servers.http1 import END_OF_HEAD, parse_head, split_target
from ..servers.s3_messages import Request
from .server import Server

LATENCY = (0.001, 0.02)
"""Minimum and maximum one-way latency in seconds; requests of two connections can overtake each other."""

MAX_TURNS = 5000
"""Maximum number of loop iterations without progress of virtual time; some hundred are usual."""


@dataclass(eq=False)
class Incarnation:
    """One session of a client, from its creation to its end."""

    name: str
    closed: bool = False
    """Whether `aclose` has returned: from then on nothing may be sent."""
    crashed: bool = False
    """Whether its process has crashed: nothing that it sends arrives, and nothing reaches it."""


INCARNATION: ContextVar[Incarnation] = ContextVar("INCARNATION")
"""The client for which the current task sends requests."""


class Event(NamedTuple):
    """One line of the log."""

    time: float
    who: str
    what: str


@dataclass
class Exchange:
    """A request in flight."""

    number: int
    link: Link
    server: Server
    request: Request
    key_id: str

    def __str__(self) -> str:
        headers = self.request.headers
        conditions = "".join(f" {name} {headers[name]}" for name in ("if-match", "if-none-match") if name in headers)
        return f"#{self.number} {self.request.method} {self.server.name}/{self.request.key}{conditions}"


class NumberedTask(asyncio.Task[Any]):
    """A task hashed by its number, so that the order of sets of tasks does not depend on addresses."""

    def __init__(self, number: int, coro: Any, **options: Any) -> None:
        self._number = number
        super().__init__(coro, **options)

    def __hash__(self) -> int:
        return self._number


class SimulatedLoop(JumpingLoop):
    """An event loop with simulated connections, which runs thread work inline."""

    network: Network
    _turns = 0

    def __init__(self) -> None:
        super().__init__()
        numbers = count()
        self.set_task_factory(lambda loop, coro, **options: NumberedTask(next(numbers), coro, loop=loop, **options))

    def _run_once(self) -> None:
        """Run one iteration. Many iterations without progress of time are a violation; then time is advanced."""
        self._turns += 1
        if self._turns > MAX_TURNS:
            self.network.violated("the event loop spins: it runs many iterations without any progress of time")
            self.jump(1.0)
        super()._run_once()  # type: ignore[misc]  # asyncio's

    def jump(self, seconds: float) -> None:
        """Advance the clock by this time."""
        self._turns = 0
        super().jump(seconds)

    async def create_connection(self, protocol_factory: Any, host: Any = None, port: Any = None, **_: Any) -> Any:  # type: ignore[override]  # a part of it
        """A connection to a simulated server."""
        return await self.network.connect(protocol_factory, host, port)

    def run_in_executor(self, _executor: Any, func: Any, *args: Any) -> Any:
        """Run it now: a thread beside the loop would make the order of events depend on the machine."""
        future = self.create_future()
        # The SDK's clients are created by a loop of their own, and one thread cannot run two loops.
        running = asyncio.get_running_loop()
        asyncio._set_running_loop(None)
        try:
            future.set_result(func(*args))
        except Exception as error:
            future.set_exception(error)
        finally:
            asyncio._set_running_loop(running)
        return future


class Network:
    """Connections of clients to servers. `apply_fault` decides what happens to each request; see `nemesis.py`."""

    def __init__(self, loop: SimulatedLoop, random: Random) -> None:
        self.loop = loop
        self.random = random
        self.servers: dict[tuple[str, int], Server] = {}
        self.links: dict[Link, None] = {}
        self.log: list[Event] = []
        self.violations: list[str] = []
        self.apply_fault: Callable[[Exchange], None]
        self.sent = 0
        loop.network = self

    def note(self, who: str, what: str) -> None:
        """Write to the log."""
        self.log.append(Event(self.loop.time(), who, what))

    def violated(self, what: str) -> None:
        """Record a broken promise."""
        self.note("VIOLATION", what)
        self.violations.append(what)

    def latency(self) -> float:
        """A random one-way latency in seconds."""
        return self.random.uniform(*LATENCY)

    async def connect(self, factory: Callable[[], Any], host: str, port: int) -> tuple[Link, Any]:
        """Open a connection. Raises OSError if the server is unavailable."""
        incarnation = INCARNATION.get()
        if incarnation.closed:
            self.violated(f"{incarnation.name} connects after it was closed")
        await asyncio.sleep(self.latency())
        server = self.servers[host, port]
        if incarnation.crashed or not server.up:
            raise ConnectionRefusedError(f"{server.name} is down")
        link = Link(self, incarnation, server, factory())
        self.links[link] = None
        link.protocol.connection_made(link)
        return link, link.protocol

    def links_of(self, owner: Incarnation | Server) -> list[Link]:
        """The open connections of a client or server."""
        return [link for link in self.links if owner in (link.incarnation, link.server)]


class Link(asyncio.Transport):
    """One connection: the client's end of it, and what the server has received."""

    def __init__(self, network: Network, incarnation: Incarnation, server: Server, protocol: Any) -> None:
        super().__init__()
        self.network = network
        self.incarnation = incarnation
        self.server = server
        self.protocol = protocol
        self.answers = 0
        self.closes_at_reuse = False
        """Whether the server has closed it; the client notices when it sends the next request."""
        self.open = True
        self._received = bytearray()
        self._continued = False

    # ---- asyncio.Transport

    def write(self, data: Any) -> None:
        """Send."""
        if self.incarnation.closed:
            self.network.violated(f"{self.incarnation.name} sends after it was closed")
        if not self.open or self.incarnation.crashed:
            return
        self._received += data
        self._parse()

    def writelines(self, list_of_data: Any) -> None:
        """Send several."""
        self.write(b"".join(list_of_data))

    def get_write_buffer_size(self) -> int:
        """Always 0: the network accepts all bytes at once."""
        return 0

    def is_closing(self) -> bool:
        """Whether it was closed by either side."""
        return not self.open

    def abort(self) -> None:
        """The client closes it; what it has sent may still be carried out."""
        if self._end():
            self.network.loop.call_soon(self.protocol.connection_lost, None)

    def close(self) -> None:
        """See `abort`."""
        self.abort()

    def pause_reading(self) -> None:
        """Ignored: responses are short, and their bytes are delivered anyway."""

    def resume_reading(self) -> None:
        """See `pause_reading`."""

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """A socket that is never readable: bytes go to the protocol as they arrive."""
        return _Quiet() if name == "socket" else default

    # ---- the network's end

    def deliver(self, data: bytes) -> None:
        """Bytes reach the client."""
        if not isinstance(self.protocol, asyncio.BufferedProtocol):
            if self.open and not self.incarnation.crashed:
                self.protocol.data_received(data)
            return
        view = memoryview(data)
        while view and self.open and not self.incarnation.crashed:
            buffer = self.protocol.get_buffer(-1)
            count = min(len(buffer), len(view))
            buffer[:count] = view[:count]
            view = view[count:]
            self.protocol.buffer_updated(count)

    def reset(self) -> None:
        """The client's end breaks."""
        if not self.incarnation.crashed and self._end():
            self.protocol.connection_lost(ConnectionResetError("reset by the simulated network"))

    def _end(self) -> bool:
        was, self.open = self.open, False
        self.network.links.pop(self, None)
        return was

    def _parse(self) -> None:
        end = self._received.find(END_OF_HEAD)
        if end < 0:
            return
        head = parse_head(bytes(self._received[: end + 4]))
        stop = end + 4 + (head.content_length or 0)
        if len(self._received) < stop:
            if (
                "expect" in head.fields and not self._continued
            ):  # the SDK waits for "100 Continue" before it sends a body
                self._continued = True
                network = self.network
                network.loop.call_later(2 * network.latency(), lambda: self.deliver(b"HTTP/1.1 100 Continue\r\n\r\n"))
            return
        self._continued = False
        body = bytes(self._received[end + 4 : stop])
        del self._received[:stop]
        path, query = split_target(head.target)
        bucket, _, key = path.lstrip("/").partition("/")
        _, _, rest = head.fields.get("authorization", "").partition("Credential=")
        request = Request(head.method, bucket, key, query, head.fields, body)
        network = self.network
        network.sent += 1
        network.apply_fault(Exchange(network.sent, self, self.server, request, rest.partition("/")[0]))


@dataclass
class _Quiet:
    """Takes the place of a socket; polling it never reports an event."""

    pipe: tuple[int, int] = field(default_factory=lambda: _pipe())
    family = -1

    def fileno(self) -> int:
        """File descriptor of a pipe that is never written to."""
        return self.pipe[0]


_pipes: list[tuple[int, int]] = []


def _pipe() -> tuple[int, int]:
    if not _pipes:
        _pipes.append(os.pipe())
    return _pipes[0]


@contextmanager
def sdk_connects_by(loop: SimulatedLoop) -> Iterator[None]:
    """Make the SDK connect through the loop: aiohttp creates its socket itself, without the loop."""
    import aiohttp

    async def connect(_: Any, factory: Any, *, addr_infos: Any, req: Any, **options: Any) -> Any:
        try:
            async with asyncio.timeout(options["timeout"].sock_connect):
                return await loop.create_connection(factory, *addr_infos[0][4][:2])
        except OSError as error:
            failed = options.get("client_error", aiohttp.ClientConnectorError)
            raise failed(req.connection_key, error) from error

    with mock.patch.object(aiohttp.TCPConnector, "_wrap_create_connection", connect):
        yield


@contextmanager
def acting_as(incarnation: Incarnation) -> Iterator[None]:
    """Requests sent meanwhile belong to this incarnation."""
    token = INCARNATION.set(incarnation)
    try:
        yield
    finally:
        INCARNATION.reset(token)
