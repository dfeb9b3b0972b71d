"""BatchLoader: batches of samples from arrays that are bigger than memory, in an order that is known beforehand."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import AsyncExitStack
from functools import partial
from types import TracebackType
from typing import Any, Self
from zlib import crc32

from .._array import Array
from .._concurrency.loop_thread import background_loop
from .._options import check_choice, check_count, check_flag, check_names
from .._session import Session, SessionOptions
from ..errors import ConfigError, StateError
from .batches import BatchMaker, Ring, check_out
from .feeds import Feeds, Geometry, Shuffle, Window, plan_feeds
from .iteration import BlockingEpoch, BlockingSession, Epoch
from .order import Order, Part, share_of, share_of_rank
from .report import LoaderCost, LoaderReport, Meter, cost_of
from .run import EpochPlan, EpochRun
from .sources import Sources, geometry_of
from .state import Position, from_json, to_json

_SHUFFLES = ("chunks", "buffer", "global")


class BatchLoader:
    """Reads batches of samples ahead, each chunk once, in bounded memory, in an order that a seed determines.

        async for batch in loader.epoch(3): ...    # where a loop runs
        for batch in loader: ...                   # anywhere else, also in a forked worker; each time the next epoch

    A batch is an array whose first axis is the samples, or a dict of such arrays; a window has an axis of its own
    behind that, then come the other dimensions of the array. One iteration at a time: use two loaders for two.

    Args:
        arrays: One array, or a dict of arrays by name that have the axis in common: each an `Array`, an `ArrayRef` or a
            URL (or a `pathlib.Path`). What is not open is opened when it is needed; see `session_options`.
        batch_size: Samples of a batch.
        axis: The axis that samples lie along.
        window: What one sample takes along the axis, where it is more than one position: a `Window`, or a dict of them
            by name.
        shuffle: `None`: as stored. `chunks`: chunks are permuted, then samples within the buffer. `buffer`: as stored,
            but permuted within the buffer. `global`: a true permutation, for which a chunk is fetched once per buffer.
        buffer_bytes: Decoded rows in memory at most. Half of it is shuffled while the other half is read.
        seed: With the number of the epoch, rank, world_size and workers it determines the order.
        drop_last: Leave out what does not fill a batch; every rank then has the same number of batches.
        rank: Which of the processes that share the samples this is.
        world_size: How many processes share them.
        prefetch_bytes: Batches that are ready and not yet taken, or in the making; at least one.
        transform: Called with each batch, in a thread and in order; what it returns is the batch.
        out: `numpy`; `torch` for tensors; `dlpack` for arrays that every library can take without a copy. Or a list of
            two buffers or more, each an array or tensor (or a dict of them) of a whole batch: batches are laid into
            them in turn, and a batch is the user's until the next one is asked for.
        session_options: What `Session` takes, for a session of the loader's own. Without them, what is not open is
            opened in the shared session of the event loop.

    Raises:
        ConfigError: An option does not fit; the message says which and why.
    """

    def __init__(
        self,
        arrays: Any,
        *,
        batch_size: int,
        axis: int = 0,
        window: Window | Mapping[str, Window] | None = None,
        shuffle: Shuffle | None = None,
        buffer_bytes: int = 256 * 2**20,
        seed: int = 0,
        drop_last: bool = False,
        rank: int = 0,
        world_size: int = 1,
        prefetch_bytes: int = 64 * 2**20,
        transform: Callable[[Any], Any] | None = None,
        out: str | Ring = "numpy",
        session_options: Mapping[str, Any] | None = None,
    ) -> None:
        check_count("batch_size", batch_size)
        check_count("axis", axis, least=0)
        if shuffle is not None:
            check_choice("shuffle", shuffle, _SHUFFLES)
        check_count("buffer_bytes", buffer_bytes)
        check_count("seed", seed, least=-(2**63))
        check_flag("drop_last", drop_last)
        check_count("world_size", world_size)
        check_count("rank", rank, least=0)
        if rank >= world_size:
            raise ConfigError(f"rank must be less than world_size, which is {world_size}, not {rank}")
        check_count("prefetch_bytes", prefetch_bytes)
        if transform is not None and not callable(transform):
            raise ConfigError(f"transform must be callable, not {type(transform).__name__}")
        check_out(out)
        self._sources = Sources(arrays, _checked_session_options(session_options))
        self._windows = _windows(window, self._sources)
        self._batch_size = batch_size
        self._axis = axis
        self._shuffle: Shuffle | None = shuffle
        self._buffer_bytes = buffer_bytes
        self._seed = seed
        self._drop_last = drop_last
        self._rank = rank
        self._world_size = world_size
        self._prefetch_bytes = prefetch_bytes
        self._transform = transform
        self._out = out
        self._planned: tuple[list[Geometry], Feeds] | None = None
        self._next = Position(0, 0)
        """Where the next iteration that names no epoch begins."""
        self._restored: Position | None = None
        """Where the next iteration of that epoch begins."""
        self._run: EpochRun | None = None
        self._blocking = BlockingSession(self._sources)
        self._meter = Meter(0, shuffle)
        self._begun = False
        geometries = self._sources.geometries()
        if geometries is not None:
            self._plan(geometries)

    def __repr__(self) -> str:
        shuffle = f", shuffle={self._shuffle!r}" if self._shuffle else ""
        names = ", ".join(str(name) for name in self._sources.fields if name is not None)
        return f"<BatchLoader {names or 'of one array'}, batch_size={self._batch_size}{shuffle}>"

    def __len__(self) -> int:
        """Batches of one epoch of this rank, over all workers. Arrays that are not open are opened for a moment."""
        feeds = self._feeds()
        part = Part(self._rank, self._world_size)
        return share_of_rank(feeds.samples, self._batch_size, part, drop_last=self._drop_last).batches

    @property
    def samples(self) -> int:
        """Samples of one epoch, over all ranks, before `drop_last`."""
        return self._feeds().samples

    @property
    def fills_buffers(self) -> bool:
        """True where batches are laid into buffers of the user's."""
        return not isinstance(self._out, str)

    # Iterating

    def epoch(self, number: int | None = None, *, worker: int = 0, workers: int = 1) -> Epoch:
        """The batches of one epoch, to be run through with `async for`.

        Left early it stops by itself; `async with loader.epoch(3) as batches:` also waits until it has.

        Args:
            number: Which; None is the one behind the last that was begun. Where `restore` set a position in this epoch,
                it goes on there.
            worker: Which of the processes that share the batches of this rank this is.
            workers: How many share them.
        """
        if number is not None:
            check_count("epoch", number, least=0)
        check_count("workers", workers)
        check_count("worker", worker, least=0)
        if worker >= workers:
            raise ConfigError(f"worker must be less than workers, which is {workers}, not {worker}")
        return Epoch(partial(self._begin, number, worker, workers), self._took)

    def batches(self, number: int | None = None, *, worker: int = 0, workers: int = 1) -> Iterator[Any]:
        """The same for code without a loop: read ahead on the background loop of this process.

        Arrays are opened again there, by their references; see `session_options`.

        Args:
            number: As of `epoch`.
            worker: As of `epoch`.
            workers: As of `epoch`.
        """
        return BlockingEpoch(self.epoch(number, worker=worker, workers=workers), self._blocking)

    def __iter__(self) -> Iterator[Any]:
        return self.batches()

    def __aiter__(self) -> Epoch:
        return self.epoch()

    def close(self) -> None:
        """End what runs, and close a session that plain iteration made. Iterating again opens another."""
        run, self._run = self._run, None
        if run is not None:
            run.abandon()
        self._blocking.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def explain(self, number: int = 0, *, workers: int = 1) -> LoaderCost:
        """What an epoch of this rank costs, with no request for data.

        Args:
            number: Of the epoch.
            workers: How many processes share the batches of this rank.
        """
        check_count("epoch", number, least=0)
        check_count("workers", workers)
        feeds = self._feeds()
        busy = min(workers, max(1, feeds.samples))  # of more workers than batches, the last ones have none
        parts = [Part(self._rank, self._world_size, worker, workers) for worker in range(busy)]
        shares = [share_of(feeds.samples, self._batch_size, part, drop_last=self._drop_last) for part in parts]
        order = Order(feeds, self._shuffle, self._seed, number)
        return cost_of(order, shares, memory_bytes=self._buffer_bytes + self._prefetch_bytes)

    # State and figures

    def state(self) -> dict[str, Any]:
        """Where the loader is: behind the last batch that was taken. JSON can hold it; there is no secret in it.

        Raises:
            StateError: In a worker, which knows of its own batches alone.
        """
        at = self._next
        if at.workers > 1:
            raise StateError("a worker does not know how many batches the others made; see ZarrBatches.state")
        if at.batch and at.batch >= len(self):
            at = Position(at.epoch + 1, 0)  # whoever restores it gets a batch, not an epoch without any
        return self.state_at(at.epoch, at.batch)

    def next_state(self) -> dict[str, Any]:
        """Where the next iteration begins: where `restore` said, else at the beginning of the next epoch."""
        at = self._restored or Position(self._next.epoch + self._begun, 0)
        return self.state_at(at.epoch, at.batch, workers=at.workers)

    def state_at(self, epoch: int, batch: int, *, workers: int = 1) -> dict[str, Any]:
        """The state behind `batch` batches of an epoch, for whoever counts them: `workers` made them by turns."""
        return to_json(Position(epoch, batch, workers), self._identity())

    def restore(self, state: Mapping[str, Any]) -> None:
        """Go on where a state was taken: the next iteration of its epoch, or without a number, gives the next batch.

        Raises:
            ConfigError: The state was made by a loader with another order of samples; the message says what differs. Or
                it is behind more batches than an epoch has.
        """
        position = from_json(state, self._identity())
        if position.batch > len(self):
            raise ConfigError(f"this state is behind {position.batch:,} batches of an epoch, which has {len(self):,}")
        self._restored = self._next = position
        self._begun = False

    def report(self) -> LoaderReport:
        """Figures of the epoch that runs, or ran last: as text, one line that says who is slow and what to change."""
        return self._meter.report()

    # Planning

    def _identity(self) -> dict[str, Any]:
        """What decides which sample comes when, beside the position."""
        planned = repr((self._feeds(), self._axis))
        return {
            "samples": self._feeds().samples,
            "batch_size": self._batch_size,
            "shuffle": self._shuffle,
            "seed": self._seed,
            "drop_last": self._drop_last,
            "rank": self._rank,
            "world_size": self._world_size,
            "buffer_bytes": self._buffer_bytes,
            "arrays": f"{crc32(planned.encode()):08x}",
        }

    def _feeds(self) -> Feeds:
        if self._planned is None:
            background_loop().run(self._look())
        assert self._planned is not None  # noqa: S101  # it was just set
        return self._planned[1]

    async def _look(self) -> None:
        async with AsyncExitStack() as stack:
            arrays = await self._sources.open(stack, None, here=False)
            self._plan([geometry_of(array) for array in arrays])

    def _plan(self, geometries: list[Geometry]) -> None:
        """Decide how the arrays are read: once, so that every process that gets a copy of this decides alike."""
        short = [geometry.shape for geometry in geometries if len(geometry.shape) <= self._axis]
        if short:
            raise ConfigError(f"axis {self._axis} is not one of an array of shape {short[0]}")
        feeds = plan_feeds(
            self._sources.fields,
            geometries,
            self._windows,
            axis=self._axis,
            shuffle=self._shuffle,
            buffer_bytes=self._buffer_bytes,
        )
        self._maker(geometries, feeds)  # raises where out= does not fit
        self._planned = geometries, feeds

    def _maker(self, geometries: list[Geometry], feeds: Feeds) -> BatchMaker:
        shapes, dtypes = [], []
        for field in feeds.fields:
            geometry = geometries[feeds.feeds[field.feed].source]
            rest = geometry.shape[: self._axis] + geometry.shape[self._axis + 1 :]
            shapes.append(rest if field.length is None else (field.length, *rest))
            dtypes.append(geometry.dtype)
        return BatchMaker(feeds.fields, shapes, dtypes, self._batch_size, self._out, self._prefetch_bytes)

    def _check_unchanged(self, arrays: list[Array], geometries: list[Geometry]) -> None:
        for array, geometry in zip(arrays, geometries, strict=True):
            now, axis = geometry_of(array), self._axis
            grown = now.shape[axis] >= geometry.shape[axis]
            if not grown or now.with_length(axis, geometry.shape[axis]) != geometry:
                raise ConfigError(
                    f"{array.url} has changed since this loader was made: it was {geometry}, and is {now}; "
                    "make a new one"
                )

    async def _begin(self, number: int | None, worker: int, workers: int, session: Session | None) -> EpochRun:
        """Start an epoch, in the running loop; the one that runs is ended."""
        await self._end_other()
        closing = AsyncExitStack()
        try:
            arrays = list(await self._sources.open(closing, session, here=session is None))
            if self._planned is None:
                self._plan([geometry_of(array) for array in arrays])
            assert self._planned is not None  # noqa: S101  # it was just set
            geometries, feeds = self._planned
            self._check_unchanged(arrays, geometries)
            await self._end_other()  # one that began while arrays were opened
            at = self._position(number, workers)
            part = Part(self._rank, self._world_size, worker, workers)
            plan = EpochPlan(
                order=Order(feeds, self._shuffle, self._seed, at.epoch),
                share=share_of(feeds.samples, self._batch_size, part, drop_last=self._drop_last),
                skip=at.taken_by(worker),
                axis=self._axis,
                maker=self._maker(geometries, feeds),
                buffer_bytes=self._buffer_bytes,
                prefetch_bytes=self._prefetch_bytes,
                transform=self._transform,
            )
        except BaseException:
            await closing.aclose()
            raise
        self._run = EpochRun(plan, arrays, closing)
        self._meter = self._run.meter
        self._restored, self._next, self._begun = None, at, True
        return self._run

    async def _end_other(self) -> None:
        while self._run is not None:
            run, self._run = self._run, None
            await run.replace()

    def _position(self, number: int | None, workers: int) -> Position:
        at = self._restored
        if at is not None and number in (None, at.epoch):
            if at.batch and at.workers != workers:
                raise ConfigError(
                    f"the restored state is of {at.workers} workers in the middle of an epoch, which {workers} cannot "
                    "go on with: use as many, or start the next epoch"
                )
            return Position(at.epoch, at.batch, workers)
        if number is not None:
            return Position(number, 0, workers)
        return Position(self._next.epoch + self._begun, 0, workers)

    def _took(self, run: EpochRun) -> None:
        if run is self._run:
            self._next = self._next._replace(batch=self._next.batch + 1)

    # Copies for other processes

    def __getstate__(self) -> dict[str, Any]:
        if not isinstance(self._out, str):
            raise ConfigError("a loader that lays batches into buffers of this process cannot go to another one")
        state = self.__dict__.copy()
        state.update(_run=None, _blocking=BlockingSession(self._sources), _meter=Meter(0, self._shuffle))
        return state


def _checked_session_options(options: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise ConfigError(
            f"session_options takes a dict of what Session takes, not {type(options).__name__}; for example "
            'session_options={"region": "eu-central-1"}'
        )
    check_names(options, SessionOptions.__annotations__, "Session")
    Session(**options)  # raises for a name or a value that it does not take
    return options


def _windows(window: Any, sources: Sources) -> dict[str | None, Window]:
    if window is None:
        return {}
    if isinstance(window, Window):
        return dict.fromkeys(sources.fields, window)
    if not isinstance(window, Mapping) or not all(isinstance(one, Window) for one in window.values()):
        raise ConfigError("window takes a zs.Window(length), or a dict of them by the names of the arrays")
    if None in sources.fields:
        raise ConfigError("window names arrays, and there is one without a name: write window=zs.Window(length)")
    check_names(window, [str(name) for name in sources.fields], "window")
    return dict(window)
