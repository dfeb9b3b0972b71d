"""BatchLoader: batches of samples from arrays larger than memory, in a reproducible order."""

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
    """Reads batches of samples ahead, in bounded memory, in an order that depends only on a seed.

        async for batch in loader.epoch(3): ...    # in a running event loop
        for batch in loader: ...                   # elsewhere, also in a forked worker; each `for` is the next epoch

    A batch is an array whose first axis is the samples, or a dict of such arrays. With a window, the second axis is the
    positions of the window. The other dimensions of the array follow. A loader supports one iteration at a time.

    Args:
        arrays: One array, or a dict of arrays by name with equal lengths along `axis`. Each is an `Array`, an
            `ArrayRef`, a URL or a `pathlib.Path`. Arrays that are not open are opened when they are needed; see
            `session_options`.
        batch_size: Samples of a batch.
        axis: The axis of the samples.
        window: The positions of one sample along the axis, if it has more than one: a `Window`, or a dict of them by
            name.
        shuffle: `None`: stored order. `chunks`: chunks are permuted, then samples within the buffer. `buffer`: stored
            order, permuted within the buffer. `global`: a permutation of all samples; a chunk is fetched once per
            buffer that needs it.
        buffer_bytes: Maximum bytes of decoded rows. One half of the buffer is shuffled while the other half is read.
        seed: The order depends on the seed, the number of the epoch, `rank`, `world_size` and the number of workers.
        drop_last: Omit the samples that do not fill a batch; every rank then has the same number of batches.
        rank: The number of this process among those that share the samples.
        world_size: The number of processes that share the samples.
        prefetch_bytes: Maximum bytes of batches that are ready or in progress; at least one batch is allowed.
        transform: Called with each batch, in a thread and in order; its result replaces the batch.
        out: `numpy`; `torch` for tensors; `dlpack` for arrays that other libraries can import without a copy. Or a list
            of two or more buffers, each an array or tensor (or a dict of them) of a full batch. Batches are written to
            the buffers in turn; a batch is valid until the next one is requested.
        session_options: Options of `Session`, for a session that only this loader uses. Without them, arrays that are
            not open are opened in the shared session of the event loop.

    Raises:
        ConfigError: An option has an invalid value or does not fit the arrays.
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
        """The current position; an iteration without an epoch number starts in the epoch after it."""
        self._restored: Position | None = None
        """The position set by `restore`, where the next iteration of its epoch starts."""
        self._run: EpochRun | None = None
        self._blocking = BlockingSession(self._sources)
        self._meter = Meter(0, shuffle)
        self._begun = False
        # None for URLs: constructing a loader sends no request, so it is planned at its first use.
        geometries = self._sources.geometries()
        if geometries is not None:
            self._plan(geometries)

    def __repr__(self) -> str:
        shuffle = f", shuffle={self._shuffle!r}" if self._shuffle else ""
        names = ", ".join(str(name) for name in self._sources.fields if name is not None)
        return f"<BatchLoader {names or 'of one array'}, batch_size={self._batch_size}{shuffle}>"

    def __len__(self) -> int:
        """Batches of one epoch of this rank, over all workers. Arrays that are not open are opened temporarily."""
        feeds = self._feeds()
        part = Part(self._rank, self._world_size)
        return share_of_rank(feeds.samples, self._batch_size, part, drop_last=self._drop_last).batches

    @property
    def samples(self) -> int:
        """Samples of one epoch, over all ranks, before `drop_last`."""
        return self._feeds().samples

    @property
    def fills_buffers(self) -> bool:
        """True if batches are written to the user's buffers."""
        return not isinstance(self._out, str)

    # Iterating

    def epoch(self, number: int | None = None, *, worker: int = 0, workers: int = 1) -> Epoch:
        """The batches of one epoch, for `async for`.

        After an early exit reading stops in the background; `async with loader.epoch(3) as batches:` waits for that.

        Args:
            number: Number of the epoch; None is the one after the epoch that was started last. If `restore` has set a
                position in this epoch, the iteration continues there.
            worker: Number of this process among those that share the batches of this rank.
            workers: Number of processes that share them.

        Returns:
            An async iterator and context manager. A batch is a NumPy array of shape (batch, …), or a dict of them;
            `transform` may return anything else.

        Raises:
            ConfigError: A number is negative, or `worker` is not less than `workers`.
        """
        if number is not None:
            check_count("epoch", number, least=0)
        check_count("workers", workers)
        check_count("worker", worker, least=0)
        if worker >= workers:
            raise ConfigError(f"worker must be less than workers, which is {workers}, not {worker}")
        return Epoch(partial(self._begin, number, worker, workers), self._count_taken)

    def batches(self, number: int | None = None, *, worker: int = 0, workers: int = 1) -> Iterator[Any]:
        """The batches of one epoch for blocking code. They are read on the background loop of this process.

        Arrays are opened again on that loop, by their refs; see `session_options`.

        Args:
            number: See `epoch`.
            worker: See `epoch`.
            workers: See `epoch`.

        Returns:
            An iterator over the batches; see `epoch`.
        """
        return BlockingEpoch(self.epoch(number, worker=worker, workers=workers), self._blocking)

    def __iter__(self) -> Iterator[Any]:
        return self.batches()

    def __aiter__(self) -> Epoch:
        return self.epoch()

    def close(self) -> None:
        """Stop a running iteration, and close the session of plain iteration. A later iteration opens another one."""
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
        """What an epoch of this rank costs, computed without reading data.

        Args:
            number: Number of the epoch.
            workers: Number of processes that share the batches of this rank.

        Returns:
            Requests, bytes and memory of the epoch.
        """
        check_count("epoch", number, least=0)
        check_count("workers", workers)
        feeds = self._feeds()
        busy = min(workers, max(1, feeds.samples))  # with more workers than batches, the last ones have none
        parts = [Part(self._rank, self._world_size, worker, workers) for worker in range(busy)]
        shares = [share_of(feeds.samples, self._batch_size, part, drop_last=self._drop_last) for part in parts]
        order = Order(feeds, self._shuffle, self._seed, number)
        return cost_of(order, shares, memory_bytes=self._buffer_bytes + self._prefetch_bytes)

    # State and statistics

    def state(self) -> dict[str, Any]:
        """The position behind the last batch that was taken, as JSON-compatible values. It contains no secrets.

        Returns:
            A new dict for `restore`.

        Raises:
            StateError: Called in a worker, which knows only its own batches.
        """
        at = self._next
        if at.workers > 1:
            raise StateError("a worker does not know how many batches the other workers made; see ZarrBatches.state")
        if at.batch and at.batch >= len(self):
            at = Position(at.epoch + 1, 0)  # after a restore the next iteration has batches
        return self.state_at(at.epoch, at.batch)

    def next_state(self) -> dict[str, Any]:
        """The state at the start of the next iteration: the restored position, or the start of the next epoch.

        Returns:
            A new dict for `restore`.
        """
        at = self._restored or Position(self._next.epoch + self._begun, 0)
        return self.state_at(at.epoch, at.batch, workers=at.workers)

    def state_at(self, epoch: int, batch: int, *, workers: int = 1) -> dict[str, Any]:
        """The state after `batch` batches of an epoch, for callers that count batches themselves.

        Args:
            epoch: Number of the epoch.
            batch: Number of batches that were taken.
            workers: Number of workers that made them in turn.

        Returns:
            A new dict for `restore`.
        """
        return to_json(Position(epoch, batch, workers), self._identity())

    def restore(self, state: Mapping[str, Any]) -> None:
        """Continue at a state: the next iteration, if it is of the same epoch or has no number, starts there.

        Args:
            state: Result of `state`, `next_state` or `state_at`.

        Raises:
            ConfigError: The state is of a loader with another order of samples, and the message states the difference;
                or the state counts more batches than an epoch has.
        """
        position = from_json(state, self._identity())
        if position.batch > len(self):
            raise ConfigError(f"this state counts {position.batch:,} batches, and an epoch has only {len(self):,}")
        self._restored = self._next = position
        self._begun = False

    def report(self) -> LoaderReport:
        """Statistics of the current or last epoch. As text, one line with the bottleneck and advice.

        Returns:
            The statistics; zeros before the first epoch.
        """
        return self._meter.report()

    # Planning

    def _identity(self) -> dict[str, Any]:
        """The values that the order of samples depends on, apart from the position."""
        # By geometry, not by URL: a copy of the data elsewhere has the same order.
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
            background_loop().run(self._open_and_plan())
        assert self._planned is not None  # noqa: S101  # it was just set
        return self._planned[1]

    async def _open_and_plan(self) -> None:
        async with AsyncExitStack() as stack:
            arrays = await self._sources.open(stack, None, here=False)
            self._plan([geometry_of(array) for array in arrays])

    def _plan(self, geometries: list[Geometry]) -> None:
        """Plan how the arrays are read. This is done once, so that copies of this loader in other processes agree."""
        short = [geometry.shape for geometry in geometries if len(geometry.shape) <= self._axis]
        if short:
            raise ConfigError(f"axis {self._axis} does not exist in an array of shape {short[0]}")
        feeds = plan_feeds(
            self._sources.fields,
            geometries,
            self._windows,
            axis=self._axis,
            shuffle=self._shuffle,
            buffer_bytes=self._buffer_bytes,
        )
        self._maker(geometries, feeds)  # raises if out= does not fit
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
            # Rows that were appended since are not samples of this loader, so they do not disturb it.
            grown = now.shape[axis] >= geometry.shape[axis]
            if not grown or now.with_length(axis, geometry.shape[axis]) != geometry:
                raise ConfigError(
                    f"{array.url} has changed since this loader was created: it was {geometry}, and is {now}; "
                    "create a new loader"
                )

    async def _begin(self, number: int | None, worker: int, workers: int, session: Session | None) -> EpochRun:
        """Start an epoch in the running loop, after stopping the current one."""
        await self._end_current()
        closing = AsyncExitStack()
        try:
            arrays = list(await self._sources.open(closing, session, here=session is None))
            if self._planned is None:
                self._plan([geometry_of(array) for array in arrays])
            assert self._planned is not None  # noqa: S101  # it was just set
            geometries, feeds = self._planned
            self._check_unchanged(arrays, geometries)
            await self._end_current()  # another one may have started while arrays were opened
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
            # Arrays that were opened for this epoch; without it their session would stay open.
            await closing.aclose()
            raise
        self._run = EpochRun(plan, arrays, closing)
        self._meter = self._run.meter
        self._restored, self._next, self._begun = None, at, True
        return self._run

    async def _end_current(self) -> None:
        while self._run is not None:
            run, self._run = self._run, None
            await run.replace()

    def _position(self, number: int | None, workers: int) -> Position:
        at = self._restored
        if at is not None and number in (None, at.epoch):
            if at.batch and at.workers != workers:
                raise ConfigError(
                    f"the restored state is in the middle of an epoch of {at.workers} workers, which {workers} cannot "
                    f"continue: use {at.workers} workers, or start the next epoch"
                )
            return Position(at.epoch, at.batch, workers)
        if number is not None:
            return Position(number, 0, workers)
        return Position(self._next.epoch + self._begun, 0, workers)

    def _count_taken(self, run: EpochRun) -> None:
        if run is self._run:
            self._next = self._next._replace(batch=self._next.batch + 1)

    # Copies for other processes

    def __getstate__(self) -> dict[str, Any]:
        if not isinstance(self._out, str):
            raise ConfigError("a loader with out= buffers cannot be pickled: the buffers belong to this process")
        state = self.__dict__.copy()
        # Connections, tasks and threads belong to this process.
        state.update(_run=None, _blocking=BlockingSession(self._sources), _meter=Meter(0, self._shuffle))
        return state


def _checked_session_options(options: Mapping[str, Any] | None) -> Mapping[str, Any]:
    if options is None:
        return {}
    if not isinstance(options, Mapping):
        raise ConfigError(
            f"session_options must be a dict of options of Session, not {type(options).__name__}; for example "
            'session_options={"region": "eu-central-1"}'
        )
    check_names(options, SessionOptions.__annotations__, "Session")
    Session(**options)  # raises for an invalid value
    return options


def _windows(window: Any, sources: Sources) -> dict[str | None, Window]:
    if window is None:
        return {}
    if isinstance(window, Window):
        return dict.fromkeys(sources.fields, window)
    if not isinstance(window, Mapping) or not all(isinstance(one, Window) for one in window.values()):
        raise ConfigError("window must be a zs.Window(length), or a dict of them by the names of the arrays")
    if None in sources.fields:
        raise ConfigError("window is a dict, and the only array has no name: write window=zs.Window(length)")
    check_names(window, [str(name) for name in sources.fields], "window")
    return dict(window)
