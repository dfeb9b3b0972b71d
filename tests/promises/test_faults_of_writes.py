"""`set_slice` under each fault of the fault table: what is stored is old or new, and the outcome states which."""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import pytest

import zarr_s3_async as zs

from ..servers import faults
from ..servers.faults import Fault
from .fault_arrays import BUCKET, FILL, FOREVER, STORED, Bench, Options, bench_of, failing

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Write(NamedTuple):
    """A write to the object whose requests fail."""

    layout: str
    start: int
    stop: int
    merges: bool = False
    """Whether it reads the object before it puts it."""

    async def run(self, array: zs.Array, **options: Any) -> None:
        await array.set_slice(100 + STORED[self.start : self.stop], self.start, **options)

    @property
    def new(self) -> list[int]:
        values = STORED.copy()
        values[self.start : self.stop] += 100
        return values.tolist()


OLD = STORED.tolist()
WRITES = {
    "a whole chunk": Write("zstd", 0, 4),
    "a part of a chunk": Write("zstd", 1, 3, merges=True),
    "a whole shard": Write("shard", 0, 8),
    "a part of a shard": Write("shard", 1, 3, merges=True),
}
MERGES = tuple(name for name, write in WRITES.items() if write.merges)
OUTRIGHT = tuple(name for name, write in WRITES.items() if not write.merges)
HERE = ((0,),)
NOT_WRITTEN = zs.WriteOutcome(not_written=HERE)
UNKNOWN = zs.WriteOutcome(unknown=HERE)


def by_write(*rows: tuple[str, Fault, Any], writes: tuple[str, ...] = tuple(WRITES)) -> Any:
    """Each row with each of these writes over the wire, and with one of each kind over the SDK."""
    kinds = [("wire", write) for write in writes]
    kinds += [("sdk", write) for write in writes if write in ("a whole chunk", "a part of a shard")]
    return pytest.mark.parametrize(
        ("transport", "fault", "error", "write"),
        [
            pytest.param(transport, fault, error, WRITES[write], id=f"{name}-{write}-{transport}")
            for name, fault, error in rows
            for transport, write in kinds
        ],
    )


REFUSALS = (
    ("no bucket", faults.no_such_bucket, zs.BucketNotFound),
    ("html 404", faults.html_404, zs.UnexpectedResponse),
    ("bare 404", faults.bare_404, zs.UnexpectedResponse),
    ("bare 403", faults.bare_403, zs.AccessDenied),
    ("access denied", faults.access_denied, zs.AccessDenied),
    ("expired", faults.expired_token, zs.CredentialsExpired),
    ("another region", faults.refuse(301, "PermanentRedirect"), zs.WrongRegion),
    ("not implemented", faults.refuse(501, "NotImplemented"), zs.Unsupported),
    ("teapot", faults.refuse(418), zs.UnexpectedResponse),
)


@by_write(*REFUSALS)
async def test_a_refused_put_leaves_the_chunk_unchanged(
    bench: Bench, fault: Fault, error: type[zs.ZarrS3Error], write: Write
) -> None:
    array = await bench.array(write.layout)
    bench.cue("PutObject", fault, times=FOREVER)
    raised = await failing(write.run(array))
    assert type(raised) is error
    if error is not zs.Unsupported:  # a 501 may come from any proxy in between
        assert raised.outcome == NOT_WRITTEN
    assert (bench.count("GetObject"), bench.count("PutObject")) == (int(write.merges), 1)
    assert await bench.values() == OLD


TRANSIENT = (
    ("500", faults.internal_error, zs.UnexpectedResponse),
    ("503", faults.unavailable, zs.Throttled),
    ("slow down", faults.slow_down, zs.Throttled),
    ("429", faults.too_many, zs.Throttled),
    ("request timeout", faults.request_timeout, zs.UnexpectedResponse),
    ("huge page", faults.endless_page("500 No"), zs.UnexpectedResponse),
    ("error in 200", faults.error_in_200, zs.UnexpectedResponse),
    ("page in 200", faults.page_in_200, zs.UnexpectedResponse),
    ("reset", faults.reset_before_head, zs.NetworkError),
    ("close", faults.close_before_head, zs.NetworkError),
    ("garbage", faults.garbage, zs.NetworkError),
)


@by_write(*TRANSIENT)
async def test_a_transient_fault_of_a_put_costs_one_more_request(
    bench: Bench, fault: Fault, error: type[zs.ZarrS3Error], write: Write
) -> None:
    array = await bench.array(write.layout)
    bench.cue("PutObject", fault)
    await write.run(array)
    assert bench.count("PutObject") == 2
    assert await bench.values() == write.new


@by_write(*TRANSIENT)
async def test_a_persistent_fault_of_a_put_leaves_the_chunk_old_and_the_outcome_unknown(
    bench: Bench, fault: Fault, error: type[zs.ZarrS3Error], write: Write
) -> None:
    array = await bench.array(write.layout)
    bench.cue("PutObject", fault, times=FOREVER)
    raised = await failing(write.run(array))
    assert type(raised) is error
    assert raised.outcome == UNKNOWN
    assert raised.attempts == 3
    assert await bench.values() == OLD


LOST = (("lost answer", faults.lost_answer, None), ("lost behind an error", faults.lost_error(), None))


@by_write(*LOST)
async def test_a_put_with_a_lost_response_is_carried_out_once(
    bench: Bench, fault: Fault, error: None, write: Write
) -> None:
    array = await bench.array(write.layout)
    bench.cue("PutObject", fault)
    await write.run(array)
    assert await bench.values() == write.new


@by_write(*LOST, writes=OUTRIGHT)
async def test_a_put_without_any_response_has_an_unknown_outcome(
    bench: Bench, fault: Fault, error: None, write: Write
) -> None:
    array = await bench.array(write.layout)
    bench.cue("PutObject", fault, times=FOREVER)
    raised = await failing(write.run(array))
    assert raised.outcome == UNKNOWN
    assert await bench.values() == write.new


@by_write(*((name, then, error) for name, then, error in REFUSALS if name in ("access denied", "no bucket", "expired")))
async def test_a_refusal_after_a_lost_response_has_an_unknown_outcome(
    bench: Bench, fault: Fault, error: type[zs.ZarrS3Error], write: Write
) -> None:
    """The first attempt was carried out; the second one got an error response."""
    array = await bench.array(write.layout)
    bench.cue("PutObject", faults.lost_error())
    bench.cue("PutObject", fault, nth=2, times=FOREVER)
    raised = await failing(write.run(array))
    assert type(raised) is error
    assert raised.outcome == UNKNOWN
    assert await bench.values() == write.new


# Races


@by_write(
    ("412", faults.precondition_failed, None),
    ("409", faults.conflict, None),
    ("404", faults.no_such_key, None),
    writes=MERGES,
)
async def test_a_merge_that_loses_a_race_is_repeated_a_bounded_number_of_times(
    bench: Bench, fault: Fault, error: None, write: Write
) -> None:
    array = await bench.array(write.layout)
    bench.cue("PutObject", fault)
    await write.run(array)
    assert (bench.count("GetObject"), bench.count("PutObject")) == (2, 2)
    assert await bench.values() == write.new
    array = await bench.array(write.layout)
    bench.cue("PutObject", fault, times=FOREVER)
    raised = await failing(write.run(array))
    assert type(raised) is zs.ConcurrentModification
    assert raised.attempts == 4
    assert raised.outcome == NOT_WRITTEN
    assert (bench.count("GetObject"), bench.count("PutObject")) == (4, 4)
    assert await bench.values() == OLD


@pytest.mark.parametrize("write", MERGES)
async def test_a_merge_keeps_what_another_writer_stored_meanwhile(bench: Bench, write: str) -> None:
    """Both values are in the same chunk, so the second attempt has to merge with the other writer's."""
    mine = WRITES[write]
    array = await bench.array(mine.layout)
    await array.set_slice([55], 0)
    other = bench.stored()
    array = await bench.array(mine.layout)

    def beaten(exchange: Any) -> None:
        bench.put(other)
        exchange.reply()

    bench.cue("PutObject", beaten)
    await mine.run(array)
    assert (await bench.values())[:4] == [55, *mine.new[1:4]]


@by_write(("412", faults.precondition_failed, zs.Conflict), ("409", faults.conflict, zs.Conflict), writes=OUTRIGHT)
async def test_a_conflict_response_to_an_unconditional_put_is_an_error(
    bench: Bench, fault: Fault, error: type[zs.ZarrS3Error], write: Write
) -> None:
    array = await bench.array(write.layout)
    bench.cue("PutObject", fault, times=FOREVER)
    raised = await failing(write.run(array))
    assert (type(raised), raised.outcome) == (error, NOT_WRITTEN)
    assert await bench.values() == OLD


# The read of a merge


@by_write(
    *REFUSALS,
    *TRANSIENT[:9],
    ("short", faults.close_mid_body, zs.NetworkError),
    ("204", faults.changed("204 Nothing", content_length=None), zs.UnexpectedResponse),
    ("damaged", faults.truncated_at(3), zs.ChunkDecodeError),
    writes=MERGES,
)
async def test_a_merge_does_not_overwrite_an_object_that_it_could_not_read(
    bench: Bench, fault: Fault, error: type[zs.ZarrS3Error], write: Write
) -> None:
    array = await bench.array(write.layout)
    bench.cue("GetObject", fault, times=FOREVER)
    raised = await failing(write.run(array))
    assert type(raised) is error
    assert raised.outcome == NOT_WRITTEN, "no request of the write had been made"
    assert bench.count("PutObject") == 0
    assert await bench.values() == OLD


@by_write(*TRANSIENT[:9], ("damaged", faults.truncated_at(3), None), writes=MERGES)
async def test_a_transient_fault_of_the_read_of_a_merge_costs_one_more_request(
    bench: Bench, fault: Fault, error: Any, write: Write
) -> None:
    array = await bench.array(write.layout)
    bench.cue("GetObject", fault)
    await write.run(array)
    assert bench.count("PutObject") == 1
    assert await bench.values() == write.new


@pytest.mark.parametrize("write", MERGES)
async def test_a_false_no_such_key_response_overwrites_nothing(bench: Bench, write: str) -> None:
    """A cache in between answers NoSuchKey for an existing object: the conditional put fails."""
    array = await bench.array(WRITES[write].layout)
    bench.cue("GetObject", faults.no_such_key)
    await WRITES[write].run(array)
    assert (bench.count("GetObject"), bench.count("PutObject")) == (2, 2)
    assert await bench.values() == WRITES[write].new


@pytest.mark.parametrize("write", MERGES)
async def test_a_merge_does_not_take_an_empty_object_for_an_absent_one(bench: Bench, write: str) -> None:
    array = await bench.array(WRITES[write].layout)
    bench.put(b"")
    raised = await failing(WRITES[write].run(array))
    assert (type(raised), raised.outcome) == (zs.ChunkDecodeError, NOT_WRITTEN)
    assert bench.stored() == b""


@pytest.mark.parametrize("transport", ["wire", "sdk"])
@pytest.mark.parametrize(
    ("option", "fault", "error"),
    [
        ("missing_on_403", faults.access_denied, zs.AccessDenied),
        ("missing_on_403", faults.bare_403, zs.AccessDenied),
    ],
    ids=["denied", "bare 403"],
)
async def test_missing_on_403_does_not_apply_to_the_read_of_a_merge(
    transport: str, option: str, fault: Fault, error: type[zs.ZarrS3Error]
) -> None:
    async with bench_of(Options(transport), **{option: True}) as lenient:
        for write in (WRITES[name] for name in MERGES):
            array = await lenient.array(write.layout)
            lenient.cue("GetObject", fault, times=FOREVER)
            raised = await failing(write.run(array))
            assert (type(raised), raised.outcome) == (error, NOT_WRITTEN)
            assert lenient.count("PutObject") == 0
            assert await lenient.values() == OLD


@pytest.mark.parametrize("transport", ["wire", "sdk"])
async def test_a_bare_404_that_is_accepted_still_overwrites_nothing(transport: str) -> None:
    """The put requires the object to be absent, and gets a 412."""
    async with bench_of(Options(transport), accept_bare_404=True) as lenient:
        for write in (WRITES[name] for name in MERGES):
            array = await lenient.array(write.layout)
            lenient.cue("GetObject", faults.bare_404)
            await write.run(array)
            assert await lenient.values() == write.new


# Many objects, and deletions


@by_write(
    ("refused", faults.access_denied, zs.WriteOutcome(written=((1,),), not_written=HERE)),
    ("lost", faults.internal_error, zs.WriteOutcome(written=((1,),), unknown=HERE)),
    writes=OUTRIGHT,
)
async def test_the_outcome_of_several_objects_names_the_state_of_each(
    bench: Bench, fault: Fault, error: zs.WriteOutcome, write: Write
) -> None:
    array = await bench.array(write.layout)
    half = write.stop
    bench.cue("PutObject", fault, times=FOREVER)
    raised = await failing(array.set_slice(-STORED[: 2 * half], 0))
    assert raised.outcome == error
    assert await bench.values() == [*OLD[:half], *(-STORED[half : 2 * half]).tolist(), *OLD[2 * half :]]


DELETES = (
    ("refused", faults.access_denied, NOT_WRITTEN, OLD[0]),
    ("500", faults.internal_error, UNKNOWN, OLD[0]),
    ("reset", faults.reset_before_head, UNKNOWN, OLD[0]),
    ("lost", faults.lost_answer, UNKNOWN, FILL),
    ("page in 200", faults.page_in_200, UNKNOWN, OLD[0]),
)


@pytest.mark.parametrize(("fault", "outcome", "left"), [row[1:] for row in DELETES], ids=[row[0] for row in DELETES])
async def test_a_failed_delete_of_a_chunk_of_fill_reports_the_right_outcome(
    bench: Bench, fault: Fault, outcome: zs.WriteOutcome, left: int
) -> None:
    array = await bench.array("zstd")
    bench.cue("DeleteObject", fault, times=FOREVER)
    raised = await failing(array.set_slice(np.full(4, FILL), 0))
    assert raised.outcome == outcome
    assert (await bench.values())[0] == left
    bench.server.forget()
    await array.set_slice(np.full(4, FILL), 0)
    assert bench.server.get(BUCKET, f"{bench.prefix}/c/0") is None


# Time


@pytest.mark.parametrize("transport", ["wire", "sdk"])
async def test_a_put_without_a_response_before_the_deadline_has_an_unknown_outcome(transport: str) -> None:
    async with bench_of(Options(transport, attempts=2), attempt_timeout=0.3) as slow:
        array = await slow.array("zstd")
        slow.cue("PutObject", faults.stall_before_head, times=FOREVER)
        raised = await failing(WRITES["a whole chunk"].run(array))
        assert (type(raised), raised.outcome) == (zs.DeadlineExceeded, UNKNOWN)
        assert slow.count("PutObject") == 2
        assert await slow.values() == WRITES["a whole chunk"].new
