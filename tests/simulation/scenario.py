"""One run: sessions of several clients read and write arrays on simulated servers, and their history is checked."""

from __future__ import annotations

import asyncio
import random as global_random
import warnings
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import cache
from itertools import count
from math import inf
from random import Random
from typing import Any, Literal
from unittest import mock

import numpy as np

import zarr_s3_async as zs
from zarr_s3_async.stores.s3 import write_ids
from zarr_s3_async.stores.s3.service import S3Service

from .checker import Operation, is_linearizable
from .nemesis import LATE, STALL, Nemesis, UnansweredWrite
from .network import INCARNATION, Incarnation, Network, SimulatedLoop, acting_as, sdk_connects_by
from .server import BUCKET, Server

CHUNK = 4
"""Number of elements of an object."""
FILL = 0
OWNER, DENIED = "AKIDOWNER", "AKIDDENIED"
_EXPECTED = (zs.ZarrS3Error, OSError)


@dataclass(frozen=True, kw_only=True)
class Setting:
    """The parameters of a run."""

    faults: Mapping[str, float] = field(default_factory=dict)
    """Fraction of the requests that each fault is applied to."""
    transport: Literal["wire", "sdk"] = "wire"
    clients: int = 2
    tasks: int = 2
    """Concurrent tasks of each client."""
    operations: int = 5
    """Operations of each task."""
    chunks: int = 2
    shards: bool = False
    """Objects are shards of several chunks. Their bytes do not show which write was carried out late, so none can be
    excused: use it without whole writes and without fill."""
    servers: int = 1
    """Number of endpoints. Each has an array of the same name, and every session uses all of them."""
    denied_reads: bool = False
    """Every session also reads with access keys that have no permission to read chunks."""
    cached: bool = False
    """Sessions cache decoded chunks, so reads may be outdated: only the chunk that a value belongs to is checked."""
    whole: bool = True
    """Some writes cover whole objects, and so are sent without a condition."""
    fill: bool = True
    """Some writes set the fill value, so that objects are deleted."""
    server_restarts: int = 0
    client_closings: int = 0
    """Number of sessions that are closed in the middle of their work."""
    client_crashes: int = 0
    time_limits: float = 0.0
    """Fraction of the operations with a timeout that is too short."""
    attempts: int = 5
    requests: int = 64
    must_succeed: bool = False
    """A failing operation is a violation: nothing in this setting is a reason for a failure."""
    strict: bool = False
    """docs/writers.md states that a write of a whole object, or a deletion, may be carried out a second time if its
    response was lost. True: such a second change is a violation, too. Other writes are never excused."""


@dataclass(kw_only=True)
class Report:
    """The result of a run."""

    seed: int
    setting: Setting
    violations: list[str]
    lines: list[str]
    """The log, in the order of virtual time."""
    operations: int
    requests: int

    def __str__(self) -> str:
        return "\n".join([f"seed {self.seed}: {self.setting}", *self.lines, "", *self.violations])


@dataclass(eq=False)
class _Client:
    name: str
    incarnation: Incarnation
    session: zs.Session
    arrays: dict[Server, zs.Array] = field(default_factory=dict)
    in_flight: dict[asyncio.Task[Any], Incarnation] = field(default_factory=dict)


class Scenario:
    """See `run`."""

    def __init__(self, loop: SimulatedLoop, seed: int, setting: Setting) -> None:
        self.loop = loop
        self.setting = setting
        self.random = Random(seed)
        self.network = Network(loop, self.random)
        self.nemesis = Nemesis(self.network, self.random, setting.faults)
        self.servers = [Server(f"s{n}", f"10.0.0.{n + 1}", frozenset({OWNER})) for n in range(setting.servers)]
        for server in self.servers:
            self.network.servers[server.host, server.port] = server
            for key, body in _documents(setting.chunks, setting.shards).items():
                server.put(key, body)
        self.history: dict[tuple[Server, int], list[Operation]] = {
            (server, chunk): [] for server in self.servers for chunk in range(setting.chunks)
        }
        self.values = count(1)
        self.operations = 0
        self.incarnations = count(1)

    # ---- clients

    def session(self) -> zs.Session:
        """A new session that uses the simulated clock."""
        setting = self.setting
        session = zs.Session(
            retry=zs.RetryPolicy(attempts=setting.attempts, base_delay=0.05, max_delay=0.5),
            limits=zs.Limits(requests=setting.requests),
            cache=zs.CacheSize(chunks=2**20 if setting.cached else 0),
        )
        self.store(session, self.servers[0], OWNER)
        service = session._context.shared[S3Service]
        service._slots.clock = self.loop.time
        return session

    def store(self, session: zs.Session, server: Server, key_id: str) -> Any:
        """The array's store on a server, with these credentials."""
        config = zs.S3Config(
            region="us-east-1",
            endpoint_url=server.url,
            access_key_id=key_id,
            secret_access_key="secret",
            transport=self.setting.transport,
            attempt_timeout=STALL / 2,
            connect_timeout=STALL / 2,
        )
        return session.s3(BUCKET, "a", config=config)

    def client(self, name: str) -> _Client:
        """A client that has not opened anything yet."""
        return _Client(name, Incarnation(f"{name}.{next(self.incarnations)}"), self.session())

    async def array(self, client: _Client, server: Server) -> zs.Array:
        """The client's array on a server, opened on first use."""
        found = client.arrays.get(server)
        if found is None:
            session = client.session
            found = await session.open_array(self.store(session, server, OWNER))
            if session is client.session:
                client.arrays[server] = found
        return found

    # ---- operations

    async def work(self, client: _Client) -> None:
        """One task of a client."""
        for _ in range(self.setting.operations):
            await asyncio.sleep(self.random.uniform(0, 0.1))
            incarnation = client.incarnation
            with acting_as(incarnation):
                # Its own task, since it may be cancelled.
                task = asyncio.create_task(self.operate(client))
                client.in_flight[task] = incarnation
                try:
                    await asyncio.wait((task,))
                finally:
                    del client.in_flight[task]
            if not task.cancelled():
                task.result()

    async def operate(self, client: _Client) -> None:
        """Run one operation and record its result."""
        incarnation, server, drawn = client.incarnation, self.random.choice(self.servers), self.random.random()
        seconds = self.random.uniform(0.01, 0.2) if self.random.random() < self.setting.time_limits else None
        self.operations += 1
        try:
            array = await self.array(client, server)
        except _EXPECTED as error:
            self.failed(incarnation, "opening", error)
            return
        if self.setting.denied_reads and drawn < 0.25:
            await self.read_denied(client, server)
        elif drawn < 0.45:
            await self.read(incarnation, server, array, seconds)
        else:
            await self.write(incarnation, server, array, seconds)

    def failed(self, incarnation: Incarnation, what: str, error: BaseException) -> None:
        """Record a failed operation."""
        self.network.note(incarnation.name, f"{what} failed: {type(error).__name__}: {str(error)[:160]}")
        if self.setting.must_succeed:
            self.network.violated(
                f"{incarnation.name}: {what} failed without any reason: {type(error).__name__}: {error}"
            )

    async def read(self, incarnation: Incarnation, server: Server, array: zs.Array, seconds: float | None) -> None:
        """Read some objects."""
        first = self.random.randrange(self.setting.chunks)
        last = self.random.randrange(first, self.setting.chunks)
        start = self.loop.time()
        try:
            data = await array.get_slice(first * CHUNK, (last + 1) * CHUNK, timeout=seconds)
        except _EXPECTED as error:
            self.failed(incarnation, f"reading {first} to {last}", error)
            return
        self.has_read(incarnation, server, first, data, start)

    def has_read(self, incarnation: Incarnation, server: Server, first: int, data: Any, start: float) -> None:
        """Add what was read to the history."""
        end = self.loop.time()
        for at, state in enumerate(data.reshape(-1, CHUNK).tolist()):
            read = Operation(who=incarnation.name, start=start, end=end, reads=tuple(state))
            self.record(server, first + at, read)

    def record(self, server: Server, chunk: int, operation: Operation) -> None:
        """Add an operation to the history and to the log."""
        self.history[server, chunk].append(operation)
        self.network.note(operation.who, f"{server.name} chunk {chunk}: {operation}")

    async def write(self, incarnation: Incarnation, server: Server, array: zs.Array, seconds: float | None) -> None:
        """Write some elements of one or two objects."""
        value = FILL if self.setting.fill and self.random.random() < 0.25 else next(self.values)
        chunk = self.random.randrange(self.setting.chunks)
        first = self.random.randrange(CHUNK)
        length = self.random.randint(1, CHUNK - (not self.setting.whole))
        if self.setting.whole and length == CHUNK:
            first = 0
        if not self.setting.whole:
            length = min(length, CHUNK - first)
        start = chunk * CHUNK + first
        stop = min(start + length, self.setting.chunks * CHUNK)
        begun = self.loop.time()
        failure: BaseException | None = None
        try:
            await array.set_slice(np.full(stop - start, value, "<i4"), start, stop, timeout=seconds)
        except (*_EXPECTED, asyncio.CancelledError) as error:
            failure = error
            self.failed(incarnation, f"writing {value} to {start}:{stop}", error)
        for at in range(start // CHUNK, -(-stop // CHUNK)):
            self.has_written(incarnation, server, at, _elements(at, start, stop, value), begun, failure)
        if isinstance(failure, asyncio.CancelledError):
            raise failure

    def has_written(
        self,
        incarnation: Incarnation,
        server: Server,
        chunk: int,
        writes: tuple[tuple[int, int], ...],
        start: float,
        failure: BaseException | None,
    ) -> None:
        """Add what was or may have been written to the history."""
        reported = "written" if failure is None else _reported_state(failure, chunk)
        if incarnation.crashed and reported != "written":
            reported = "unknown"  # a crashed client has no outcome
        if reported == "not_written":
            self.network.note(incarnation.name, f"{server.name} chunk {chunk}: {dict(writes)} is not written")
            return
        certain = reported == "written"
        end = self.loop.time() if certain else inf
        self.record(
            server, chunk, Operation(who=incarnation.name, start=start, end=end, certain=certain, writes=writes)
        )

    async def read_denied(self, client: _Client, server: Server) -> None:
        """Read with credentials that may read metadata but no chunks."""
        incarnation, session = client.incarnation, client.session
        try:
            other = await session.open_array(self.store(session, server, DENIED))
            data = await other.get_slice(0, CHUNK)
        except _EXPECTED:
            return
        self.network.violated(
            f"{incarnation.name}: keys without permission to read chunks have read {data.tolist()} of {server.name}"
        )

    # ---- restarts, closes and crashes

    async def restart_server(self) -> None:
        """Break all connections of a server and make it unavailable for a moment. Its objects stay."""
        await asyncio.sleep(self.random.uniform(0, 0.6))
        server = self.random.choice(self.servers)
        self.network.note(server.name, "goes down")
        server.up = False
        for link in self.network.links_of(server):
            link.reset()
        await asyncio.sleep(self.random.uniform(0, 0.3))
        server.up = True
        self.network.note(server.name, "is up")

    async def close_client(self, client: _Client) -> None:
        """Close the client's session while operations run; the client continues with a new session."""
        await asyncio.sleep(self.random.uniform(0, 0.6))
        incarnation, session = client.incarnation, client.session
        self.network.note(incarnation.name, "closes")
        with acting_as(incarnation):
            await session.aclose()
        incarnation.closed = True
        self.network.note(incarnation.name, "is closed")
        if links := self.network.links_of(incarnation):
            self.network.violated(f"{incarnation.name} has {len(links)} connections after it was closed")
        self.renew(client)
        # Its operations end in this iteration of the loop or in one of the next.
        for _ in range(20):
            await asyncio.sleep(0)
        running = [task for task, of in client.in_flight.items() if of is incarnation and not task.done()]
        if running:
            self.network.violated(f"{incarnation.name} has {len(running)} operations in flight after it was closed")

    async def crash_client(self, client: _Client) -> None:
        """End the client's process and start another. Requests that were sent may still be carried out."""
        await asyncio.sleep(self.random.uniform(0, 0.6))
        incarnation, session = client.incarnation, client.session
        incarnation.crashed = True
        self.network.note(incarnation.name, "crashes")
        for task, of in client.in_flight.items():
            if of is incarnation:
                task.cancel()
        self.renew(client)
        with acting_as(incarnation):
            await session.aclose()

    def renew(self, client: _Client) -> None:
        """Give the client a new session."""
        fresh = self.client(client.name)
        client.incarnation, client.session, client.arrays = fresh.incarnation, fresh.session, {}

    # ---- the run

    async def play(self) -> None:
        """Run all tasks, and read what is stored at the end."""
        setting = self.setting
        clients = [self.client(f"c{n}") for n in range(setting.clients)]
        async with asyncio.TaskGroup() as group:
            for client in clients:
                for _ in range(setting.tasks):
                    group.create_task(self.work(client))
            for _ in range(setting.server_restarts):
                group.create_task(self.restart_server())
            for _ in range(setting.client_closings):
                group.create_task(self.close_client(self.random.choice(clients)))
            for _ in range(setting.client_crashes):
                group.create_task(self.crash_client(self.random.choice(clients)))
        self.nemesis.quiet = True
        await asyncio.sleep(LATE + STALL)
        for client in clients:
            with acting_as(client.incarnation):
                await client.session.aclose()
            client.incarnation.closed = True
            if self.network.links_of(client.incarnation):
                self.network.violated(f"{client.name} has connections after it was closed")
        await self.read_everything()

    async def read_everything(self) -> None:
        """Read everything with a new client."""
        client = self.client("end")
        with acting_as(client.incarnation):
            for server in self.servers:
                start = self.loop.time()
                data = await (await self.array(client, server)).get_slice(0, self.setting.chunks * CHUNK)
                self.has_read(client.incarnation, server, 0, data, start)
            await client.session.aclose()

    def check(self) -> None:
        """Check that every chunk's history is linearizable."""
        for (server, chunk), history in self.history.items():
            if self.setting.cached:
                self.check_places(server, chunk, history)
                continue
            excused = [
                self.excuse(g, chunk)
                for g in self.nemesis.unanswered_writes
                if g.server is server and g.key == _key(chunk)
            ]
            if self.setting.strict or not (self.setting.whole or self.setting.fill):
                excused = []
            if not is_linearizable((FILL,) * CHUNK, [*history, *excused]):
                lines = "\n".join(f"    {operation}" for operation in [*history, *excused])
                self.network.violated(f"no order explains chunk {chunk} of {server.name}:\n{lines}")

    def excuse(self, unanswered: UnansweredWrite, chunk: int) -> Operation:
        """The operation that accounts for a write of a whole object that was carried out late."""
        state = (FILL,) * CHUNK if unanswered.body is None else tuple(np.frombuffer(unanswered.body, "<i4").tolist())
        writes = tuple(enumerate(state))
        return Operation(who=f"late {chunk}", start=unanswered.time, end=unanswered.time, certain=False, writes=writes)

    def check_places(self, server: Server, chunk: int, history: list[Operation]) -> None:
        """Check that every value read was written to this chunk of this server."""
        written = {value for operation in history for _, value in operation.writes} | {FILL}
        for operation in history:
            if operation.reads is not None and not written >= set(operation.reads):
                self.network.violated(f"chunk {chunk} of {server.name} never held what was read: {operation}")


def run(seed: int, setting: Setting | None = None) -> Report:
    """Run the scenario of one seed.

    Args:
        seed: Seed of all random choices.
        setting: Parameters; None draws them from the seed, too.
    """
    setting = setting or drawn_setting(seed)
    if setting.transport == "sdk":
        _warm_up_the_sdk()
    return _run(seed, setting)


@cache
def _warm_up_the_sdk() -> None:
    """Create a client and a connection: the first ones import modules, and so draw numbers that later ones do not."""
    _run(0, Setting(transport="sdk", operations=2))


def _run(seed: int, setting: Setting) -> Report:
    loop = SimulatedLoop()
    with _determined(seed), warnings.catch_warnings(), ExitStack() as stack:
        if setting.transport == "sdk":
            stack.enter_context(sdk_connects_by(loop))
        warnings.simplefilter("ignore", RuntimeWarning)
        scenario = Scenario(loop, seed, setting)
        try:
            token = INCARNATION.set(Incarnation("none"))
            loop.run_until_complete(scenario.play())
            scenario.check()
        except BaseException as error:
            error.add_note(str(_report(seed, scenario)))
            raise
        finally:
            INCARNATION.reset(token)
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()
    return _report(seed, scenario)


def _report(seed: int, scenario: Scenario) -> Report:
    network = scenario.network
    return Report(
        seed=seed,
        setting=scenario.setting,
        violations=network.violations,
        lines=[f"{event.time:9.4f} {event.who:10} {event.what}" for event in network.log],
        operations=scenario.operations,
        requests=network.sent,
    )


def drawn_setting(seed: int) -> Setting:
    """Draw a subset of the faults with random weights, so that frequent faults do not hide rare ones."""
    random = Random(f"setting {seed}")
    names = ["lost_request", "lost_answer", "late", "repeated", "slow", "broken_answer", "throttled", "failed_after"]
    names += ["forbidden", "refused_probe", "pretended", "served_once"]
    chosen = random.sample(names, random.randint(0, 4))
    shards = random.random() < 0.25
    return Setting(
        faults={name: random.choice([0.05, 0.1, 0.2]) for name in chosen},
        clients=random.randint(1, 3),
        tasks=random.randint(1, 3),
        operations=random.randint(2, 6),
        chunks=random.randint(1, 2),
        shards=shards,
        servers=2 if random.random() < 0.2 else 1,
        denied_reads=random.random() < 0.2,
        cached=random.random() < 0.15,
        whole=not shards and random.random() < 0.6,
        fill=not shards and random.random() < 0.6,
        server_restarts=random.choice([0, 0, 0, 1, 2]),
        client_closings=random.choice([0, 0, 0, 1, 2]),
        client_crashes=random.choice([0, 0, 0, 1, 2]),
        time_limits=random.choice([0, 0, 0.3]),
        attempts=random.choice([1, 3, 5]),
        requests=random.choice([1, 3, 64]),
    )


@contextmanager
def _determined(seed: int) -> Iterator[None]:
    """Make all random choices of the package depend on the seed."""
    before = global_random.getstate()
    global_random.seed(seed)
    ids = count(1)
    with mock.patch.object(write_ids, "urandom", lambda size: next(ids).to_bytes(size, "big")):
        try:
            yield
        finally:
            global_random.setstate(before)


@cache
def _documents(chunks: int, shards: bool) -> dict[str, bytes]:
    """The objects of a new array, by key."""

    async def make() -> dict[str, bytes]:
        store = zs.MemoryStore()
        async with zs.Session() as session:
            layout: dict[str, Any] = {"chunks": (2,), "shards": (CHUNK,)} if shards else {"chunks": (CHUNK,)}
            await session.create_array(
                store, shape=(chunks * CHUNK,), dtype="<i4", compressor=None, fill_value=FILL, **layout
            )
        return {f"a/{e.key}": bytes((await store.get(e.key)).data) async for e in store.list_prefix()}  # type: ignore[union-attr]  # it is there

    return asyncio.run(make())


def _elements(chunk: int, start: int, stop: int, value: int) -> tuple[tuple[int, int], ...]:
    """The elements that a write of a region sets in one object."""
    first, last = max(start - chunk * CHUNK, 0), min(stop - chunk * CHUNK, CHUNK)
    return tuple((element, value) for element in range(first, last))


def _reported_state(failure: BaseException, chunk: int) -> str:
    """The state that the outcome of a failed write reports for an object."""
    outcome = getattr(failure, "outcome", None)
    if outcome is None:
        return "unknown" if isinstance(failure, asyncio.CancelledError) else "not_written"
    return next(name for name in ("written", "not_written", "unknown") if (chunk,) in getattr(outcome, name))


def _key(chunk: int) -> str:
    return f"a/c/{chunk}"
