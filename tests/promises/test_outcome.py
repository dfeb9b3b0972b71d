"""After a failure, a timeout or a cancellation each object is in its old or new state, and `.outcome` states which.

The outcome is compared with what is stored: written is new, not written is old, unknown is either; nothing is torn.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any

import anyio
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import zarr_s3_async as zs
from zarr_s3_async.testing import Fault, FaultyStore

from ..servers import faults
from ..servers.fault_server import FaultServer
from .virtual_time import JumpingLoop

N = 12
"""Objects of the array; each has four elements."""
LAYOUTS: dict[str, dict[str, Any]] = {
    "plain": {"chunks": (4,)},
    "sharded": {"chunks": (2,), "shards": (4,)},
    "v2": {"chunks": (4,), "zarr_format": 2},
}
EVERY_LAYOUT = pytest.mark.parametrize("layout", LAYOUTS)


class Written:
    """An array of ones that is being set to 2 from element 2 on, with a merge at one end."""

    def __init__(self, array: zs.Array, store: FaultyStore) -> None:
        self.array = array
        self.store = store

    @classmethod
    async def make(cls, session: zs.Session, layout: str) -> Written:
        store = FaultyStore(zs.MemoryStore())
        array = await session.create_array(store, shape=(4 * N,), dtype="i4", **LAYOUTS[layout])
        await array.set_slice(1, 0, 4 * N)
        return cls(array, store)

    def key(self, n: int) -> str:
        return self.array.metadata.object_key((n,))

    async def write(self, timeout: float | None = None) -> None:
        await self.array.set_slice(2, 2, 4 * N, timeout=timeout)

    async def check(self, outcome: zs.WriteOutcome | None) -> None:
        """Check that every object is old or new, as the outcome states."""
        self.store.clear()
        assert outcome is not None
        assert sorted((*outcome.written, *outcome.not_written, *outcome.unknown)) == [(n,) for n in range(N)]
        report = await self.array.verify(strict=True)
        assert report.ok, str(report)
        values = (await self.array.get_slice(0, 4 * N)).reshape(N, 4)
        for n, row in enumerate(values.tolist()):
            old, new = [1, 1, 1, 1], [1, 1, 2, 2] if n == 0 else [2, 2, 2, 2]
            if (n,) in outcome.written:
                assert row == new, (n, outcome)
            elif (n,) in outcome.not_written:
                assert row == old, (n, outcome)
            else:
                assert row in (old, new), (n, outcome)


@EVERY_LAYOUT
@settings(max_examples=25)
@given(st.data())
async def test_the_outcome_of_any_failure_agrees_with_what_is_stored(layout: str, data: Any) -> None:
    how = st.tuples(
        st.sampled_from(["get", "put"]),
        st.integers(0, N - 1),
        st.sampled_from(["refused", "broken", "lost answer"]),
    )
    planned = data.draw(st.lists(how, min_size=1, max_size=4))
    requests = data.draw(st.sampled_from([1, 2, 5, 64]))
    async with zs.Session(limits=zs.Limits(requests=requests)) as session:
        it = await Written.make(session, layout)
        for verb, n, kind in planned:
            make: Any = zs.AccessDenied if kind == "refused" else zs.NetworkError
            lost = kind == "lost answer"
            it.store.add(Fault(verb=verb, key=it.key(n), error=lambda make=make: make("on cue"), lost_answer=lost))
        # Only the first object is merged: the others are not read.
        struck = [n for verb, n, _ in planned if verb == "put" or n == 0]
        if not struck:
            await it.write()
            return
        with pytest.raises(zs.StoreError) as caught:
            await it.write()
        outcome = caught.value.outcome
        if requests == 1:  # one after the other: nothing starts after the failure
            assert outcome is not None
            assert outcome.written == tuple((n,) for n in range(min(struck)))
        await it.check(outcome)


@EVERY_LAYOUT
def test_a_timeout_reports_the_state_of_every_object(layout: str) -> None:
    async def scenario() -> None:
        async with zs.Session(limits=zs.Limits(requests=4)) as session:
            it = await Written.make(session, layout)
            stuck = anyio.Event()  # never set
            it.store.add(Fault(verb="put", key=it.key(3), meanwhile=stuck.wait))
            it.store.add(Fault(verb="put", key=it.key(5), times=None, meanwhile=stuck.wait))
            with pytest.raises(zs.DeadlineExceeded) as caught:
                await it.write(timeout=1)
            outcome = caught.value.outcome
            assert outcome is not None
            assert outcome.unknown == ((3,), (5,))
            assert len(outcome.written) == N - 2
            await it.check(outcome)

    # Its clock moves only when all tasks wait, so the other objects are written by then on any machine.
    with asyncio.Runner(loop_factory=JumpingLoop) as runner:
        runner.run(scenario())


Cancel = Callable[[Written, anyio.Event], Awaitable[zs.WriteOutcome | None]]


async def natively(it: Written, begun: anyio.Event) -> zs.WriteOutcome | None:
    """`task.cancel()`: the outcome is an attribute of the CancelledError."""
    task = asyncio.create_task(it.write())
    await begun.wait()
    task.cancel()
    try:
        await task
    except asyncio.CancelledError as error:
        return error.outcome  # type: ignore[attr-defined]  # ours
    raise AssertionError("it was not cancelled")


async def by_a_scope(it: Written, begun: anyio.Event) -> zs.WriteOutcome | None:
    """An anyio scope swallows its CancelledError: the outcome can be read inside the scope."""
    found = None
    async with anyio.create_task_group() as group:

        async def cancel() -> None:
            await begun.wait()
            group.cancel_scope.cancel()

        group.start_soon(cancel)
        try:
            await it.write()
        except asyncio.CancelledError as error:
            found = error.outcome  # type: ignore[attr-defined]  # ours
            raise
    return found


async def by_asyncio_timeout(it: Written, begun: anyio.Event) -> zs.WriteOutcome | None:
    """`asyncio.timeout` raises a TimeoutError whose cause is the CancelledError."""
    try:
        async with asyncio.timeout(None) as scope:
            task = asyncio.get_running_loop().create_task(begun.wait())
            task.add_done_callback(lambda _: scope.reschedule(0))
            await it.write()
    except TimeoutError as error:
        return error.__cause__.outcome  # type: ignore[union-attr]  # ours
    raise AssertionError("it was not cancelled")


@EVERY_LAYOUT
@pytest.mark.parametrize("cancel", [natively, by_a_scope, by_asyncio_timeout])
async def test_a_cancelled_write_reports_its_outcome(layout: str, cancel: Cancel) -> None:
    async with zs.Session(limits=zs.Limits(requests=2)) as session:
        it = await Written.make(session, layout)
        begun, stuck = anyio.Event(), anyio.Event()

        async def begin() -> None:
            begun.set()
            await stuck.wait()

        it.store.add(Fault(verb="put", key=it.key(6), meanwhile=begin))
        it.store.add(Fault(verb="put", key=it.key(7), meanwhile=stuck.wait))
        outcome = await cancel(it, begun)
        assert outcome is not None
        assert outcome.written == tuple((n,) for n in range(6))
        assert outcome.not_written == tuple((n,) for n in range(8, N))
        assert outcome.unknown == ((6,), (7,))
        await it.check(outcome)


@EVERY_LAYOUT
async def test_the_outcome_of_a_write_cancelled_at_any_moment_agrees_with_what_is_stored(layout: str) -> None:
    async with zs.Session(limits=zs.Limits(requests=3)) as session:
        for turns in range(400):
            it = await Written.make(session, layout)
            task = asyncio.create_task(it.write())
            for _ in range(turns):
                await asyncio.sleep(0)
            task.cancel()
            try:
                await task
            except asyncio.CancelledError as error:
                if turns:  # otherwise it never started
                    await it.check(error.outcome)  # type: ignore[attr-defined]  # ours
            else:
                break
        assert 5 < turns < 399


async def test_an_exception_of_a_third_party_store_has_the_outcome() -> None:
    async with zs.Session(limits=zs.Limits(requests=1)) as session:
        it = await Written.make(session, "plain")
        it.store.add(Fault(verb="put", key=it.key(2), error=lambda: OSError("the disk is on fire"), lost_answer=True))
        with pytest.raises(OSError, match="on fire") as caught:
            await it.write()
        outcome = caught.value.outcome  # type: ignore[attr-defined]  # ours
        assert outcome.written == ((0,), (1,))
        assert outcome.unknown == ((2,),)  # such an error does not show whether anything was written
        await it.check(outcome)


@pytest.mark.parametrize("transport", ["sdk", "wire"])
@pytest.mark.parametrize(
    ("fault", "state"),
    [
        (faults.access_denied, "not_written"),
        (faults.no_such_bucket, "not_written"),
        (faults.internal_error, "unknown"),
    ],
    ids=lambda value: getattr(value, "__name__", value),
)
async def test_a_refused_put_is_not_written_and_a_server_error_leaves_the_outcome_unknown(
    transport: Any, fault: Any, state: str
) -> None:
    with FaultServer(buckets=("bucket",)) as server:
        config = server.s3_config(transport=transport)
        limits, retry = zs.Limits(requests=1), zs.RetryPolicy(attempts=1)
        async with zs.Session(s3=config, limits=limits, retry=retry) as session:
            array = await session.create_array("s3://bucket/a", shape=(3,), chunks=(1,), dtype="i4")
            server.cue("PutObject", fault, nth=2)
            with pytest.raises(zs.StoreError) as caught:
                await array.set_slice([1, 2, 3], 0)
    outcome = caught.value.outcome
    assert outcome is not None
    assert outcome.written == ((0,),)
    assert getattr(outcome, state) == (((1,),) if state == "unknown" else ((1,), (2,)))
