"""Any sequence of operations on an array, with faults and cancellations, has the same result as on a NumPy array.

A write that fails or is cancelled leaves every object (a chunk or a shard) in its old or its new state, as its outcome
states; never a mixture. Another session writes meanwhile. The loop's clock is virtual.
`HYPOTHESIS_PROFILE=long` runs more examples from a random seed (use it with `--timeout=3600`).
"""

from __future__ import annotations

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

import numpy as np
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import basic_indices
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

import zarr_s3_async as zs
from zarr_s3_async.testing import Fault, FaultyStore, strategies

from .test_selections import content, orthogonal, outer, points
from .virtual_time import JumpingLoop

DTYPES = ["?", "i1", ">i4", "<f8", "S3", "<U2", "<M8[s]"]
SIDES = st.sampled_from([5, 4, 3, 7, 6, 2, 1])
Edit = Callable[[np.ndarray], None]


class Disturbance(NamedTuple):
    """What disturbs an operation: a fault of the n-th call of the store, or a cancellation after n loop iterations."""

    kind: str
    nth: int


@st.composite
def disturbances(draw: st.DrawFn) -> Disturbance:
    kind = draw(st.sampled_from(["none", "error", "lost", "throttled", "conflict", "cancel", "other"]))
    # Most operations are a get and a put of one or a few objects.
    calls = st.sampled_from([1, 2, 2, 3, 4, 6, 9])
    return Disturbance(kind, draw(st.integers(1, 25) if kind == "cancel" else calls))


@dataclass
class Write:
    """A write, to the array and to its model."""

    edit: Edit
    act: Callable[[zs.Array], Awaitable[object]]

    def on(self, model: np.ndarray) -> np.ndarray:
        edited = model.copy()
        self.edit(edited)
        return edited


@st.composite
def values(draw: st.DrawFn, shape: tuple[int, ...], dtype: np.dtype[Any], fill: Any) -> np.ndarray:
    """Values of this shape; sometimes all fill, so that chunks are deleted and created again."""
    if draw(st.integers(0, 4)) < 2:
        return np.full(shape, fill, dtype)
    return content(shape, dtype.str, draw(st.integers(0, 99)))


@st.composite
def writes(draw: st.DrawFn, model: np.ndarray, fill: Any) -> Write:
    """A write by any kind of selection."""
    kind = draw(st.sampled_from(["slice", "basic", "outer", "points"]))
    if kind == "slice" and model.ndim:
        start, stop = draw(strategies.regions(model.shape))
        key: Any = tuple(slice(*pair) for pair in zip(start, stop, strict=True))
        data = draw(values(model[key].shape, model.dtype, fill))
        return Write(lambda m: m.__setitem__(key, data), lambda a: a.set_slice(data, start, stop))
    if kind == "outer" and model.size and model.ndim:
        chosen = draw(orthogonal(model.shape))
        index, selected = outer(model, chosen)
        data = draw(values(selected.shape, model.dtype, fill))
        spread = data.reshape(model[index].shape)
        return Write(lambda m: m.__setitem__(index, spread), lambda a: a.oindex[chosen].set(data))
    if kind == "points" and model.size and model.ndim:
        where = draw(points(model.shape))
        data = draw(values(model[where].shape, model.dtype, fill))
        return Write(lambda m: m.__setitem__(where, data), lambda a: a.vindex[where].set(data))
    key = draw(basic_indices(model.shape))
    data = draw(values(model[key].shape, model.dtype, fill))
    return Write(lambda m: m.__setitem__(key, data), lambda a: a[key].set(data))


@st.composite
def options(draw: st.DrawFn) -> dict[str, Any]:
    """Options of `create_array`."""
    ndim = draw(st.sampled_from([1, 1, 2, 2, 3, 0]))
    chunks = tuple(draw(st.sampled_from([2, 3, 4, 1])) for _ in range(ndim))
    dtype = draw(st.sampled_from(DTYPES))
    made: dict[str, Any] = {
        "shape": tuple(draw(SIDES) for _ in range(ndim)),
        "chunks": chunks,
        "dtype": dtype,
        "zarr_format": draw(st.sampled_from([2, 3])),
        "compressor": draw(st.sampled_from([None, "zstd"])),
        "write_empty_chunks": draw(st.booleans()),
    }
    if dtype in ("i1", ">i4", "<f8"):
        made["fill_value"] = draw(st.sampled_from([0, 7]))
    if made["zarr_format"] == 3 and ndim and draw(st.booleans()):
        made["shards"] = tuple(c * draw(st.integers(1, 3)) for c in chunks)
    return made


def same(a: np.ndarray, b: np.ndarray) -> bool:
    return a.shape == b.shape and a.tobytes() == b.tobytes()


class Arrays(RuleBasedStateMachine):
    """One array, written through a store that fails, while another session writes to it."""

    def __init__(self) -> None:
        super().__init__()
        self.loop = JumpingLoop()
        self.inner = zs.MemoryStore("machine")
        self.store = FaultyStore(self.inner)
        self.attrs: dict[str, Any] = {}
        self.ghosts = False
        """True once a shrink was interrupted: objects that it left may become visible when the array grows."""

    def run(self, coroutine: Awaitable[Any]) -> Any:
        async def alone() -> Any:
            result = await coroutine
            assert asyncio.all_tasks() == {asyncio.current_task()}, "a task was left running"
            return result

        return self.loop.run_until_complete(alone())

    @initialize(options=options(), requests=st.sampled_from([1, 3]))
    def create(self, options: dict[str, Any], requests: int) -> None:
        async def create() -> None:
            self.mine = await zs.Session(limits=zs.Limits(requests=requests)).__aenter__()
            self.other = await zs.Session(cache=zs.CacheSize(shard_indexes=0)).__aenter__()
            self.array = await self.mine.create_array(self.store, **options)
            self.model = await self.stored()
            self.fill = np.zeros((), self.model.dtype) if not self.model.size else self.model.flat[0]

        self.run(create())
        assert same(self.model, np.full(options["shape"], self.fill, self.array.dtype))

    def teardown(self) -> None:
        if hasattr(self, "mine"):
            self.run(self.mine.aclose())
            self.run(self.other.aclose())
        self.loop.close()

    # Running operations

    async def attempt(self, act: Callable[[], Awaitable[object]], disturbance: Disturbance) -> BaseException | None:
        """Run the operation with the fault. Returns the error that it raised."""
        self.store.clear()
        fault = self._fault(disturbance)
        if fault is not None:
            self.store.add(fault)
        task = asyncio.ensure_future(act())
        if disturbance.kind == "cancel":
            for _ in range(disturbance.nth):
                await asyncio.sleep(0)
            task.cancel()
        await asyncio.wait([task])
        self.store.clear()
        assert self.mine._leases.held == 0
        assert len(self.mine._locks) == 0
        if task.cancelled():
            return asyncio.CancelledError()
        error = task.exception()
        assert error is None or isinstance(error, zs.StoreError), repr(error)
        assert error is None or disturbance.kind != "other", (
            f"a concurrent write of another session must not fail this one: {error!r}"
        )
        return error

    def _fault(self, disturbance: Disturbance) -> Fault | None:
        n = disturbance.nth
        match disturbance.kind:
            case "error":
                return Fault(nth=n, error=lambda: zs.NetworkError("reset"))
            case "lost":
                return Fault(nth=n, lost_answer=True, error=lambda: zs.NetworkError("reset"))
            case "throttled":
                return Fault(nth=n, times=3, error=lambda: zs.Throttled("slow down"))
            case "conflict":
                return Fault(verb="put", nth=n, times=2, error=lambda: zs.Conflict("another was first"))
            case "other":
                return Fault(nth=n, meanwhile=self._run_concurrent_write)
        return None

    async def _run_concurrent_write(self) -> None:
        """Run the concurrent write of the other session."""
        if self.turn is not None:
            self.turn_taken = True
            await self.turn.act(await self.other.open_array(self.inner))

    turn: Write | None = None
    turn_taken = False

    async def stored(self) -> np.ndarray:
        """What a new reader without faults and caches reads."""
        array = await self.other.open_array(self.inner)
        return np.array(await array[...], array.dtype)

    def objects(self, shape: tuple[int, ...]) -> Iterator[tuple[tuple[int, ...], tuple[slice, ...]]]:
        """The stored objects of the array, with the region of each."""
        sides = self.array.shards or self.array.chunks
        grid = tuple(-(-n // side) for n, side in zip(shape, sides, strict=True))
        for coords in np.ndindex(grid):
            yield coords, tuple(slice(at * side, (at + 1) * side) for at, side in zip(coords, sides, strict=True))

    # Writing

    @rule(data=st.data(), nth=st.integers(1, 5), kind=st.sampled_from(["lost", "error", "other"]))
    def write_with_a_fault(self, data: st.DataObject, nth: int, kind: str) -> None:
        self.write(data, Disturbance(kind, nth))

    @rule(data=st.data(), disturbance=disturbances())
    def write(self, data: st.DataObject, disturbance: Disturbance) -> None:
        write = data.draw(writes(self.model, self.fill))
        self.turn, self.turn_taken = None, False
        if disturbance.kind == "other":
            self.turn = data.draw(writes(self.model, self.fill))
        error = self.run(self.attempt(lambda: write.act(self.array), disturbance))
        old = {"old": self.model}
        new = {"new": write.on(self.model)}
        if self.turn is not None and self.turn_taken:
            old = {"other's": self.turn.on(self.model)}
            new = {"after other": write.on(self.turn.on(self.model)), "before other": self.turn.on(new["new"])}
        self._check(error, old, new)
        if self.turn_taken:
            self._refresh_shards()

    @rule(data=st.data())
    def write_both_at_once(self, data: st.DataObject) -> None:
        mine, others = data.draw(writes(self.model, self.fill)), data.draw(writes(self.model, self.fill))

        async def both() -> None:
            theirs = await self.other.open_array(self.inner)
            await asyncio.gather(mine.act(self.array), others.act(theirs))

        self.run(both())
        self._check(None, {}, self._orders(mine, others))
        self._refresh_shards()

    @rule(data=st.data())
    def write_twice_and_read_at_once(self, data: st.DataObject) -> None:
        """Both in one session, which reads its own writes afterwards."""
        first, second = data.draw(writes(self.model, self.fill)), data.draw(writes(self.model, self.fill))
        start, stop = data.draw(strategies.regions(self.model.shape))
        turns = data.draw(st.integers(0, 12))

        async def read() -> None:
            for _ in range(turns):
                await asyncio.sleep(0)
            await self.array.get_slice(start, stop)

        async def all_of_it() -> np.ndarray:
            await asyncio.gather(first.act(self.array), second.act(self.array), read())
            return np.array(await self.array[...], self.model.dtype)

        seen = self.run(all_of_it())
        self._check(None, {}, self._orders(first, second))
        assert same(seen, self.model)

    def _orders(self, a: Write, b: Write) -> dict[str, np.ndarray]:
        return {"a, b": b.on(a.on(self.model)), "b, a": a.on(b.on(self.model))}

    @rule(data=st.data())
    def the_other_writes(self, data: st.DataObject) -> None:
        write = data.draw(writes(self.model, self.fill))

        async def act() -> None:
            await write.act(await self.other.open_array(self.inner))

        self.run(act())
        write.edit(self.model)
        self._refresh_shards()

    def _check(self, error: BaseException | None, old: dict[str, np.ndarray], new: dict[str, np.ndarray]) -> None:
        """Check that every object is in an allowed state; the model takes over what is stored."""
        stored = self.run(self.stored())
        outcome = getattr(error, "outcome", None)
        for coords, place in self.objects(stored.shape):
            states = new if error is None else {**old, **new}
            if outcome is not None and coords in outcome.written:
                states = new
            elif outcome is not None and coords in outcome.not_written:
                states = old
            matching = [name for name, state in states.items() if same(stored[place], state[place])]
            assert matching, f"object {coords} is in none of the states {list(states)}: {stored[place]!r}"
        self.model = stored

    def _refresh_shards(self) -> None:
        # A cached shard index does not show what others have added since, until it is invalidated.
        if self.array.shards:
            self.run(self.array.refresh())

    # Reading

    @rule(data=st.data(), disturbance=disturbances(), kind=st.sampled_from(["slice", "basic", "outer", "points"]))
    def read(self, data: st.DataObject, disturbance: Disturbance, kind: str) -> None:
        """A read fails or returns what is stored."""
        if kind == "slice" or not self.model.ndim or not self.model.size:
            start, stop = data.draw(strategies.regions(self.model.shape))
            read = lambda: self.array.get_slice(start, stop)  # noqa: E731
            expected = self.model[tuple(slice(*pair) for pair in zip(start, stop, strict=True))]
        elif kind == "outer":
            chosen = data.draw(orthogonal(self.model.shape))
            _, expected = outer(self.model, chosen)
            read = lambda: self.array.oindex[chosen].get()  # noqa: E731
        else:
            key = data.draw(points(self.model.shape) if kind == "points" else basic_indices(self.model.shape))
            expected = self.model[key]
            read = lambda: (self.array.vindex if kind == "points" else self.array)[key].get()  # noqa: E731
        got: list[Any] = []

        async def act() -> None:
            got.append(await read())

        self.turn = None
        error = self.run(self.attempt(act, disturbance))
        assert (error is None) == bool(got)
        assert not got or same(np.array(got[0], self.model.dtype), np.array(expected, self.model.dtype))

    # Shapes

    @precondition(lambda self: self.model.ndim)
    @rule(data=st.data(), disturbance=disturbances())
    def resize(self, data: st.DataObject, disturbance: Disturbance) -> None:
        before = self.model
        shape = tuple(data.draw(SIDES | st.just(0)) for _ in before.shape)
        self.turn = None
        error = self.run(self.attempt(lambda: self.array.resize(shape), disturbance))
        stored = self.run(self.stored())
        assert stored.shape == shape or (error is not None and stored.shape == before.shape)
        if stored.shape == before.shape != shape:
            assert same(stored, before)
        elif error is None or not self._shrinks(before.shape, shape):
            self._check_resized(stored, before)
        else:
            self.ghosts = True
            both = tuple(slice(min(a, b)) for a, b in zip(before.shape, shape, strict=True))
            assert same(stored[both], before[both])
            if data.draw(st.booleans()):
                self.run(self._resize_back_and_forth(before.shape, shape))
                self.ghosts = False
        self._adopt(stored)

    async def _resize_back_and_forth(self, back: tuple[int, ...], forth: tuple[int, ...]) -> None:
        """Do what the note on the error recommends."""
        await self.array.resize(back)
        await self.array.resize(forth)

    @precondition(lambda self: self.model.size and self.model.ndim and not self.ghosts)
    @rule(data=st.data())
    def shrink_and_grow(self, data: st.DataObject) -> None:
        before = self.model
        shape = tuple(data.draw(st.integers(1, n)) for n in before.shape)

        async def act() -> None:
            await self.array.resize(shape)
            await self.array.resize(before.shape)

        self.run(act())
        stored = self.run(self.stored())
        self._check_resized(stored, before[tuple(slice(n) for n in shape)])
        self.model = stored

    def _shrinks(self, before: tuple[int, ...], after: tuple[int, ...]) -> bool:
        return any(a < b for a, b in zip(after, before, strict=True))

    def _check_resized(self, stored: np.ndarray, before: np.ndarray) -> None:
        expected = stored.copy() if self.ghosts else np.full(stored.shape, self.fill, stored.dtype)
        both = tuple(slice(min(a, b)) for a, b in zip(before.shape, stored.shape, strict=True))
        expected[both] = before[both]
        assert same(stored, expected)

    @precondition(lambda self: self.model.ndim and not self.ghosts)
    @rule(data=st.data(), disturbance=disturbances(), rows=st.sampled_from([2, 1, 3, 4, 0]))
    def append(self, data: st.DataObject, disturbance: Disturbance, rows: int) -> None:
        before, axis = self.model, data.draw(st.integers(0, self.model.ndim - 1))
        added, others = self._rows(data, axis, rows), self._rows(data, axis, rows)
        self.turn, self.turn_taken = Write(lambda _: None, lambda array: array.append(others, axis)), False
        error = self.run(self.attempt(lambda: self.array.append(added, axis), disturbance))
        stored = self.run(self.stored())
        new = np.concatenate([before, added], axis, dtype=before.dtype)
        if self.turn_taken:
            orders = ([added, others], [others, added])
            states = [np.concatenate([before, *both], axis, dtype=before.dtype) for both in orders]
            assert any(same(stored, state) for state in states)
        elif error is None:
            assert same(stored, new)
        elif stored.shape == before.shape != new.shape:
            assert same(stored, before)
        else:
            empty = np.concatenate([before, np.full(added.shape, self.fill)], axis, dtype=before.dtype)
            self._check(error, {"empty": empty}, {"new": new})
        self._adopt(stored)

    def _adopt(self, stored: np.ndarray) -> None:
        self.model = stored
        self.run(self.array.refresh())

    @precondition(lambda self: self.model.ndim and not self.ghosts)
    @rule(data=st.data(), mine=st.integers(0, 3), others=st.integers(0, 3))
    def append_both_at_once(self, data: st.DataObject, mine: int, others: int) -> None:
        axis = data.draw(st.integers(0, self.model.ndim - 1))
        a, b = (self._rows(data, axis, n) for n in (mine, others))

        async def both() -> None:
            theirs = await self.other.open_array(self.inner)
            await asyncio.gather(self.array.append(a, axis), theirs.append(b, axis))

        self.run(both())
        stored = self.run(self.stored())
        orders = [np.concatenate([self.model, *rows], axis, dtype=stored.dtype) for rows in ((a, b), (b, a))]
        assert any(same(stored, order) for order in orders)
        self._adopt(stored)

    def _rows(self, data: st.DataObject, axis: int, rows: int) -> np.ndarray:
        shape = tuple(rows if dim == axis else n for dim, n in enumerate(self.model.shape))
        return data.draw(values(shape, self.model.dtype, self.fill))

    # Metadata

    @rule(disturbance=disturbances(), name=st.sampled_from("abc"), number=st.integers(0, 9), replace=st.booleans())
    def update_attributes(self, disturbance: Disturbance, name: str, number: int, replace: bool) -> None:
        self.turn = None
        update = lambda: self.array.update_attributes({name: number}, replace=replace)  # noqa: E731
        error = self.run(self.attempt(update, disturbance))
        self.run(self.attempt(self.array.refresh, disturbance))
        self.array = self.run(self.mine.open_array(self.store))
        new = {name: number} if replace else {**self.attrs, name: number}
        assert dict(self.array.attrs) == new or (error is not None and dict(self.array.attrs) == self.attrs)
        self.attrs = dict(self.array.attrs)
        assert self.array.shape == self.model.shape
        assert self.array.dtype == self.model.dtype


LONG = os.environ.get("HYPOTHESIS_PROFILE") == "long"

TestArrays = Arrays.TestCase
TestArrays.settings = settings(
    max_examples=3000 if LONG else 50, stateful_step_count=20, derandomize=not LONG, print_blob=True
)
