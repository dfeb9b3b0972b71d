"""A lost response is distinguished from a lost race by the write's id, also after later writes of others."""

from __future__ import annotations

from typing import Any

import pytest

import zarr_s3_async as zs
from zarr_s3_async._types import Version
from zarr_s3_async.errors import Conflict, NetworkError
from zarr_s3_async.stores.s3.write_ids import WrittenVersion

from ...servers import faults
from .rig import Rig

pytestmark = pytest.mark.asyncio(loop_scope="module")

LOST = {"reset": faults.lost_answer, "500": faults.lost_error(), "503": faults.lost_error(503, "SlowDown")}


@pytest.fixture(autouse=True)
def absent(rig: Rig) -> None:
    rig.remove("k")


async def version_in(rig: Rig, key: str = "k") -> Version:
    blob = await rig.store().get(key)
    assert blob is not None
    return blob.version


@pytest.mark.parametrize("fault", LOST.values(), ids=LOST)
async def test_a_conditional_creation_with_a_lost_response_succeeds(rig: Rig, fault: faults.Fault) -> None:
    rig.server.cue("PutObject", fault)
    version = await rig.store().put("k", b"mine", when="absent")
    assert rig.stored("k") == b"mine"
    assert version == await version_in(rig)
    assert rig.server.count("PutObject") == 2
    assert rig.server.count("HeadObject") == 1, "one request for the metadata"


@pytest.mark.parametrize("fault", LOST.values(), ids=LOST)
async def test_a_conditional_replacement_with_a_lost_response_succeeds(rig: Rig, fault: faults.Fault) -> None:
    store = rig.store()
    base = await store.put("k", b"old", when="absent")
    rig.server.cue("PutObject", fault)
    version = await store.put("k", b"new", when=base)
    assert rig.stored("k") == b"new"
    assert await store.put("k", b"newer", when=version), "the returned version can be used as the next condition"


async def test_a_lost_response_is_recognised_after_later_writes_of_others(rig: Rig) -> None:
    mine, other = rig.store(), rig.store()
    base = await mine.put("k", b"1", when="absent")

    async def write_on_top() -> None:
        for number in range(3):
            blob = await other.get("k")
            assert blob is not None
            await other.put("k", bytes(blob.data) + b"+%d" % number, when=blob.version)

    rig.server.cue("PutObject", faults.lost_answer)
    rig.while_waiting = write_on_top
    version = await mine.put("k", b"2", when=base)
    assert rig.stored("k") == b"2+0+1+2", "no write happened twice, and none was lost"
    with pytest.raises(Conflict):
        await mine.put("k", b"3", when=version)


async def test_a_race_lost_after_a_lost_request_is_a_conflict(rig: Rig) -> None:
    mine, other = rig.store(), rig.store()
    base = await mine.put("k", b"1", when="absent")

    async def win() -> None:
        await other.put("k", b"theirs", when=base)

    rig.server.cue("PutObject", faults.reset_before_head)
    rig.while_waiting = win
    with pytest.raises(Conflict):
        await mine.put("k", b"mine", when=base)
    assert rig.stored("k") == b"theirs"


async def test_a_conflict_of_the_first_attempt_is_raised_without_a_check(rig: Rig) -> None:
    rig.put("k", b"theirs")
    with pytest.raises(Conflict):
        await rig.store().put("k", b"mine", when="absent")
    assert (rig.server.count("PutObject"), rig.server.count("HeadObject")) == (1, 0)


async def test_a_conflict_that_cannot_be_checked_has_an_unknown_outcome(rig: Rig) -> None:
    rig.server.cue("PutObject", faults.lost_answer)
    rig.server.cue("HeadObject", faults.reset_before_head, times=99)
    with pytest.raises(NetworkError):
        await rig.store().put("k", b"mine", when="absent")


@pytest.mark.parametrize(("there", "mine", "wins"), [(b"same", b"same", True), (b"else", b"mine", False)])
async def test_without_write_ids_equal_bytes_are_taken_for_the_own_write(
    rig: Rig, there: bytes, mine: bytes, wins: bool
) -> None:
    async def appear() -> None:
        rig.put("k", there)

    rig.server.cue("PutObject", faults.reset_before_head)
    rig.while_waiting = appear
    if wins:
        assert await rig.store().put("k", mine, when="absent") == await version_in(rig)
    else:
        with pytest.raises(Conflict):
            await rig.store().put("k", mine, when="absent")


@pytest.mark.parametrize("fault", [faults.lost_answer, faults.lost_error()], ids=["reset", "500"])
async def test_a_conditional_delete_with_a_lost_response_succeeds(rig: Rig, fault: faults.Fault) -> None:
    store = rig.store()
    version = await store.put("k", b"1", when="absent")
    rig.server.cue("DeleteObject", fault)
    await store.delete("k", when=version)
    assert rig.stored("k") is None


async def test_deleting_a_version_that_was_replaced_is_a_conflict(rig: Rig) -> None:
    store = rig.store()
    version = await store.put("k", b"1", when="absent")

    async def replace() -> None:
        rig.put("k", b"2")

    rig.server.cue("DeleteObject", faults.reset_before_head)
    rig.while_waiting = replace
    with pytest.raises(Conflict):
        await store.delete("k", when=version)
    assert rig.stored("k") == b"2"


async def test_an_object_created_by_others_after_our_delete_is_kept(rig: Rig) -> None:
    store, other = rig.store(), rig.store()
    version = await store.put("k", b"1", when="absent")

    async def create() -> None:
        await other.put("k", b"2", when="absent")

    rig.server.cue("DeleteObject", faults.lost_answer)
    rig.while_waiting = create
    with pytest.raises(Conflict):
        await store.delete("k", when=version)
    assert rig.stored("k") == b"2"


@pytest.mark.parametrize("layout", [{"chunks": (4,)}, {"chunks": (2,), "shards": (4,)}], ids=["plain", "sharded"])
async def test_a_delete_with_a_lost_response_loses_no_writes_of_others(rig: Rig, layout: Any) -> None:
    rig.remove("c/0")
    mine, other = zs.Session(), zs.Session()
    async with mine, other:
        array = await mine.create_array(rig.store(), shape=(4,), dtype="i4", overwrite=True, **layout)
        theirs = await other.open_array(rig.store())
        await array.set_slice([1], 0)
        rig.server.cue("DeleteObject", faults.lost_answer, key="c/0")
        rig.while_waiting = lambda: theirs.set_slice([2], 3)
        await array.set_slice([0], 0)
        await array.refresh()
        assert (await array[...]).tolist() == [0, 0, 0, 2]
        assert mine.metrics.conflicts == 1


@pytest.mark.parametrize(("others", "between"), [(1, 0), (15, 0), (16, 1)])
async def test_an_append_with_a_lost_response_claims_its_rows_once(rig: Rig, others: int, between: int) -> None:
    """Its id must be among the sixteen that are kept; beyond that, rows of fill may remain in between."""
    async with zs.Session() as session, zs.Session() as other:
        array = await session.create_array(rig.store(), shape=(0,), chunks=(50,), dtype="i4", overwrite=True)
        theirs = await other.open_array(rig.store())

        async def append() -> None:
            for _ in range(others):
                await theirs.append([8])

        rig.server.cue("PutObject", faults.lost_answer, key="zarr.json")
        rig.while_waiting = append
        await array.append([7])
        await array.refresh()
        rows = (await array[...]).tolist()
        assert sorted(rows) == sorted([0] * between + [7] + [8] * others)


async def test_write_ids_are_kept_by_later_reads_and_writes(rig: Rig) -> None:
    store = rig.store()
    version = await store.put("k", b"0", when="absent")
    for number in range(20):
        version = await store.put("k", b"%d" % number, when=version)
    read = await version_in(rig)
    assert isinstance(read, WrittenVersion)
    assert isinstance(version, WrittenVersion)
    assert read.writes == version.writes
    assert len(read.writes) == 16
