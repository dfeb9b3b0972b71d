"""Requests that are carried out after their retry was acknowledged: what they can change and what they cannot.

docs/writers.md states what is promised, and why not more.
"""

from __future__ import annotations

import pytest

from zarr_s3_async._types import Version
from zarr_s3_async.stores.s3.store import S3Store

from ...servers import faults
from .rig import BUCKET, PREFIX, Rig

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(autouse=True)
def stored(rig: Rig) -> None:
    rig.put("k", b"0")
    rig.forget()


@pytest.fixture
def hashed_etags(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(rig.server._objects, "hashed_etags", True)
    rig.put("k", b"0")


async def late_merge(rig: Rig) -> tuple[S3Store, faults.Late, Version]:
    """Replace the stored bytes; the first request is delayed, and its retry succeeds."""
    store, late = rig.store(), faults.Late()
    blob = await store.get("k")
    assert blob is not None
    rig.server.cue("PutObject", late)
    return store, late, await store.put("k", b"0+ours", when=blob.version)


async def late_creation(rig: Rig) -> tuple[S3Store, faults.Late, Version]:
    store, late = rig.store(), faults.Late()
    rig.server.cue("PutObject", late)
    return store, late, await store.put("new", b"ours", when="absent")


async def late_deletion(rig: Rig) -> tuple[S3Store, faults.Late]:
    store, late = rig.store(), faults.Late()
    blob = await store.get("k")
    assert blob is not None
    rig.server.cue("DeleteObject", late)
    await store.delete("k", when=blob.version)
    return store, late


async def test_a_late_put_of_a_merge_does_not_overwrite_later_writes(rig: Rig) -> None:
    store, late, ours = await late_merge(rig)
    await store.put("k", b"0+ours+theirs", when=ours)
    assert late.deliver() == [412]
    assert rig.stored("k") == b"0+ours+theirs"


async def test_a_late_creation_does_not_overwrite_later_writes(rig: Rig) -> None:
    store, late, ours = await late_creation(rig)
    await store.put("new", b"ours+theirs", when=ours)
    assert late.deliver() == [412]
    assert rig.stored("new") == b"ours+theirs"
    rig.remove("new")


async def test_a_late_deletion_of_a_version_does_not_delete_later_writes(rig: Rig) -> None:
    store, late = await late_deletion(rig)
    await store.put("k", b"theirs", when="absent")
    assert late.deliver() == [412]
    assert rig.stored("k") == b"theirs"


async def test_a_late_put_of_a_whole_chunk_without_other_writers_changes_nothing(rig: Rig) -> None:
    """The retry has the same bytes."""
    store, late = rig.store(), faults.Late()
    rig.server.cue("PutObject", late)
    await store.put("k", b"whole")
    assert rig.server.count("PutObject") == 2
    late.deliver()
    assert rig.stored("k") == b"whole"


@pytest.mark.parametrize("write", ["put", "delete"])
async def test_not_promised_a_late_unconditional_write_overwrites_later_writes(rig: Rig, write: str) -> None:
    """The limitation that docs/writers.md states: if this test ever fails, the page may promise more."""
    store, late = rig.store(), faults.Late()
    rig.server.cue("PutObject" if write == "put" else "DeleteObject", late)
    if write == "put":
        await store.put("k", b"whole")
    else:
        await store.delete("k")
    rig.server.put(BUCKET, f"{PREFIX}/k", b"merged by others since")
    late.deliver()
    assert rig.stored("k") == (b"whole" if write == "put" else None)


async def test_not_promised_a_late_condition_holds_if_others_restored_the_old_bytes(
    rig: Rig, hashed_etags: None
) -> None:
    """An ETag is a hash of the bytes: it does not show that they were different in between. See docs/writers.md."""
    store, late, ours = await late_merge(rig)
    await store.put("k", b"0", when=ours)
    assert late.deliver() == [200]
    assert rig.stored("k") == b"0+ours"


async def test_not_promised_a_late_creation_recreates_a_deleted_object(rig: Rig) -> None:
    store, late, ours = await late_creation(rig)
    await store.delete("new", when=ours)
    assert late.deliver() == [200]
    assert rig.stored("new") == b"ours"
    rig.remove("new")


async def test_not_promised_a_late_deletion_deletes_restored_old_bytes(rig: Rig, hashed_etags: None) -> None:
    store, late = await late_deletion(rig)
    await store.put("k", b"0", when="absent")
    assert late.deliver() == [204]
    assert rig.stored("k") is None


async def test_a_merge_with_a_restored_version_is_correct(rig: Rig, hashed_etags: None) -> None:
    """Changes that others made and reverted in between do no harm: the merge replaces the bytes that it has read."""
    store = rig.store()
    read = await store.get("k")
    assert read is not None
    theirs = await store.put("k", b"0+theirs", when=read.version)
    await store.put("k", b"0", when=theirs)
    await store.put("k", b"0+ours", when=read.version)
    assert rig.stored("k") == b"0+ours"


async def test_a_lost_response_is_an_error_if_no_retry_is_allowed(rig: Rig) -> None:
    """With a single attempt, a lost response is an error, so no request can arrive after an acknowledgement."""
    late = faults.Late()
    rig.server.cue("PutObject", late)
    with pytest.raises(ConnectionError):
        await rig.store(attempts=1).put("k", b"whole")
    assert rig.server.count("PutObject") == 1
