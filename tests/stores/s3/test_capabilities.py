"""Capabilities are known for Amazon and probed on other servers, once, when first needed."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

import pytest

import zarr_s3_async as zs
from zarr_s3_async._types import Version
from zarr_s3_async.errors import Conflict, NetworkError, Unsupported
from zarr_s3_async.stores.base import PROBE
from zarr_s3_async.stores.s3.capabilities import _NO_ETAG, Capabilities
from zarr_s3_async.stores.s3.request import Request

from ...servers import faults
from .rig import BUCKET, Rig

pytestmark = pytest.mark.asyncio(loop_scope="module")

CONDITIONS = ("if-match", "if-none-match")


@pytest.fixture(autouse=True)
def empty(rig: Rig) -> None:
    rig.server.ignores = ()
    rig.remove("a/k")


def probes(rig: Rig) -> list[str]:
    return [seen.operation for seen in rig.server.seen if PROBE in seen.request.key]


async def test_a_server_is_probed_once_and_no_probe_object_is_left(rig: Rig) -> None:
    store = rig.probing_store()
    assert probes(rig) == [], "no probe before a capability is needed"
    version = await store.put("a/k", b"1", when="absent")
    assert probes(rig) == ["PutObject", "PutObject", "PutObject", "GetObject", "PutObject", "DeleteObject"]
    version = await store.put("a/k", b"2", when=version)
    assert len(probes(rig)) == 6
    await store.delete("a/k", when=version)
    assert probes(rig)[6:] == ["PutObject", "DeleteObject", "GetObject", "DeleteObject", "DeleteObject"]
    with pytest.raises(Conflict):
        await store.delete("a/k", when=version)
    assert len(probes(rig)) == 11
    listing = await store.list_dir("a")
    assert listing.entries == (), "no probe object is left"


async def test_probe_keys_are_next_to_the_object(rig: Rig) -> None:
    await rig.probing_store().put("a/k", b"1", when="absent")
    keys = {seen.request.key for seen in rig.server.seen if PROBE in seen.request.key}
    assert len(keys) == 1
    assert keys.pop().startswith("root/a/" + PROBE)


async def test_unconditional_writes_send_no_probe(rig: Rig) -> None:
    store = rig.probing_store()
    await store.put("a/k", b"1")
    await store.delete("a/k")
    assert probes(rig) == []


async def test_concurrent_callers_wait_for_one_probe(rig: Rig) -> None:
    store = rig.probing_store()
    await asyncio.gather(*(store.put(f"a/{n}", b"1", when="absent") for n in range(8)))
    assert len(probes(rig)) == 6
    await store.delete_many([f"a/{n}" for n in range(8)])


@pytest.mark.parametrize("when", ["absent", Version('"1"')])
async def test_auto_writes_unconditionally_and_warns_once(rig: Rig, when: Any) -> None:
    rig.server.ignores = CONDITIONS
    store = rig.probing_store()
    with pytest.warns(RuntimeWarning, match="no conditional writes"):
        await store.put("a/k", b"1", when=when)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await store.put("a/k", b"2", when=when)
    assert rig.stored("a/k") == b"2"
    written = rig.server.requests("PutObject", "a/k")
    assert not any(name in seen.request.headers for seen in written for name in CONDITIONS)


@pytest.mark.parametrize("when", ["absent", Version('"1"')])
async def test_require_refuses_to_write(rig: Rig, when: Any) -> None:
    rig.server.ignores = CONDITIONS
    store = rig.probing_store(conditional_writes="require")
    with pytest.raises(Unsupported, match="conditional"):
        await store.put("a/k", b"1", when=when)
    assert rig.stored("a/k") is None
    await store.put("a/k", b"1")
    assert rig.stored("a/k") == b"1"


@pytest.mark.parametrize("mode", ["auto", "require"])
async def test_nothing_is_deleted_on_a_server_that_would_ignore_the_version(rig: Rig, mode: str) -> None:
    rig.server.ignores = CONDITIONS
    rig.put("a/k", b"of others")
    with pytest.raises(Unsupported):
        await rig.probing_store(conditional_writes=mode).delete("a/k", when=Version('"1"'))
    assert rig.stored("a/k") == b"of others"


async def test_off_sends_neither_conditions_nor_probes(rig: Rig) -> None:
    store = rig.probing_store(conditional_writes="off")
    await store.put("a/k", b"1", when=Version('"1"'))
    await store.delete("a/k", when=Version('"1"'))
    assert [seen.operation for seen in rig.server.seen] == ["PutObject", "DeleteObject"]


async def test_each_capability_is_probed_separately(rig: Rig) -> None:
    rig.server.ignores = ("if-match",)
    store = rig.probing_store(conditional_writes="require")
    await store.put("a/k", b"1", when="absent")
    with pytest.raises(Unsupported, match="put-match"):
        await store.put("a/k", b"2", when=Version('"1"'))


REFUSALS = {
    "403": faults.access_denied,
    "bare 403": faults.bare_403,
    "400": faults.refuse(400, "KeyTooLongError"),
    "409": faults.refuse(409, "OperationAborted"),
}
"""Responses that depend on permissions, on the key or on the moment, so they show nothing about the server."""
NTH = pytest.mark.parametrize("nth", [1, 2, 3], ids=["the throwaway", "put-absent", "put-match"])


@NTH
@pytest.mark.parametrize("fault", REFUSALS.values(), ids=REFUSALS)
async def test_writes_stay_conditional_after_a_refused_probe(rig: Rig, fault: faults.Fault, nth: int) -> None:
    """Four writers increment one counter; the server supports conditional writes but refused the probe once."""
    rig.put("a/k", b"0")
    rig.server.cue("PutObject", fault, nth=nth, times=3 if fault is REFUSALS["409"] else 1)
    store = rig.probing_store()
    barrier = asyncio.Barrier(4)

    async def add() -> None:
        blob = await store.get("a/k")
        assert blob is not None
        await barrier.wait()  # so that all of them have read the same state
        while True:
            try:
                await store.put("a/k", b"%d" % (int(bytes(blob.data)) + 1), when=blob.version)
                return
            except Conflict:
                blob = await store.get("a/k")
                assert blob is not None

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        await asyncio.gather(*(add() for _ in range(4)))
    assert rig.stored("a/k") == b"4"
    if nth != 2:  # a write that needs only put-match was never in doubt
        assert [str(w.message) for w in caught if "a probe was refused (PutObject" in str(w.message)] != []
    assert all("if-match" in seen.request.headers for seen in rig.server.requests("PutObject", "a/k"))


@pytest.mark.parametrize(
    ("operation", "nth"),
    [("PutObject", 2), ("PutObject", 3), ("PutObject", 4), ("DeleteObject", 2), ("DeleteObject", 3)],
    ids=["put-absent", "put-match", "accepted put-match", "delete-match", "accepted delete-match"],
)
@pytest.mark.parametrize("absent", [404, 412, 204])
async def test_writes_stay_conditional_if_another_writer_deletes_the_probe_object(
    rig: Rig, operation: str, nth: int, absent: int
) -> None:
    """As a deletion of the whole prefix does. Servers answer differently to a version of an absent key."""
    probed = 0

    def deleted_before(exchange: Any) -> None:
        nonlocal probed
        request = exchange.request
        if PROBE in request.key:
            probed += 1
            if probed == nth:
                rig.server.remove(BUCKET, request.key)
                if "if-match" in request.headers and absent == 412:
                    return faults.refuse(412, "PreconditionFailed")(exchange)
                if operation == "DeleteObject" and absent == 204:
                    exchange.request.headers.pop("if-match")
        return exchange.reply()

    rig.server.cue(operation, deleted_before, times=1000)
    store = rig.probing_store()
    rig.put("a/k", b"0")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", RuntimeWarning)
        first = await store.get("a/k")
        assert first is not None
        version = await store.put("a/k", b"1", when=first.version)
        with pytest.raises(Conflict):
            await store.put("a/k", b"2", when=first.version)
        with pytest.raises(Conflict):
            await store.put("a/k", b"2", when="absent")
        with pytest.raises((Conflict, Unsupported)):
            await store.delete("a/k", when=first.version)
        assert rig.stored("a/k") == b"1"
        await store.delete("a/k", when=version)
    assert rig.stored("a/k") is None


@pytest.mark.parametrize("fault", [REFUSALS["403"], REFUSALS["400"]])
async def test_require_refuses_while_a_probe_is_refused_and_probes_again(rig: Rig, fault: faults.Fault) -> None:
    rig.server.cue("PutObject", fault)
    store = rig.probing_store(conditional_writes="require")
    with pytest.raises(Unsupported, match=r"not known.*answered 40"):
        await store.put("a/k", b"1", when="absent")
    assert rig.stored("a/k") is None
    await store.put("a/k", b"1", when="absent")
    assert rig.stored("a/k") == b"1"


async def test_nothing_is_deleted_after_a_refused_probe(rig: Rig) -> None:
    """If the server ignored the version, it would delete whatever is stored."""
    rig.put("a/k", b"of others")
    rig.server.cue("DeleteObject", faults.access_denied)
    store = rig.probing_store()
    with pytest.raises(Unsupported, match="not known"):
        await store.delete("a/k", when=Version('"1"'))
    with pytest.raises(Conflict):
        await store.delete("a/k", when=Version('"1"'))
    assert rig.stored("a/k") == b"of others"


async def test_probes_that_are_always_refused_are_repeated_ever_less_often(rig: Rig) -> None:
    def denied(exchange: Any) -> None:
        (faults.access_denied if PROBE in exchange.request.key else type(exchange).reply)(exchange)

    rig.server.cue("PutObject", denied, times=1000)
    store = rig.probing_store()
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        for number in range(100):
            await store.put(f"a/{number}", b"1", when="absent")
    assert len(caught) == 1
    assert len(probes(rig)) == 7  # before the writes 1, 2, 4, 8, …
    await store.delete_many([f"a/{number}" for number in range(100)])


@pytest.mark.parametrize(("status", "code"), [(501, "NotImplemented"), (405, ""), (400, "InvalidArgument")])
async def test_a_capability_reported_as_missing_is_not_probed_again(rig: Rig, status: int, code: str) -> None:
    rig.server.cue("PutObject", faults.refuse(status, code), nth=2, times=2)
    store = rig.probing_store()
    with pytest.warns(RuntimeWarning, match="has no conditional writes"):
        await store.put("a/k", b"1", when="absent")
    await store.put("a/k", b"2", when=Version('"1"'))
    assert rig.stored("a/k") == b"2"
    assert probes(rig) == ["PutObject", "PutObject", "PutObject", "DeleteObject"]


async def test_a_server_that_refuses_probes_and_preconditions_is_written_to_without_conditions(rig: Rig) -> None:
    def no_probe_and_no_condition(exchange: Any) -> None:
        request = exchange.request
        if PROBE in request.key:
            faults.access_denied(exchange)
        elif "if-none-match" in request.headers:
            faults.refuse(501, "NotImplemented")(exchange)
        else:
            exchange.reply()

    rig.server.cue("PutObject", no_probe_and_no_condition, times=1000)
    store = rig.probing_store()
    with pytest.warns(RuntimeWarning) as caught:
        await store.put("a/k", b"1", when="absent")
    assert rig.stored("a/k") == b"1"
    assert "has no conditional writes" in str(caught[-1].message)
    rig.remove("a/k")
    store = rig.probing_store(conditional_writes="require")
    with pytest.raises(Unsupported):
        await store.put("a/k", b"1", when="absent")


async def test_a_probe_object_that_cannot_be_deleted_is_reported(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.server.cue("DeleteObject", faults.access_denied)
    await rig.probing_store().put("a/k", b"1", when="absent")
    assert rig.stored("a/k") == b"1"
    assert "a probe's key could not be deleted" in caplog.text
    (left,) = {seen.request.key for seen in rig.server.seen if PROBE in seen.request.key}
    rig.remove(left.removeprefix("root/"))


async def test_a_failed_probe_is_repeated(rig: Rig) -> None:
    store = rig.probing_store(conditional_writes="require")
    rig.server.cue("PutObject", faults.reset_before_head, times=3)
    with pytest.raises(NetworkError):
        await store.put("a/k", b"1", when="absent")
    await store.put("a/k", b"1", when="absent")


@pytest.mark.parametrize(("ignores", "has"), [((), True), (CONDITIONS, False), (CONDITIONS[:1], False)])
async def test_conditions_of_upload_completions_are_probed(rig: Rig, ignores: tuple[str, ...], has: bool) -> None:
    rig.server.ignores = ignores
    retrying, _ = rig.retrying(rig.config)

    async def endpoint_url() -> str:
        return rig.server.endpoint_url

    capabilities = Capabilities(endpoint_url, retrying)
    near = Request("PutObject", BUCKET, "root/a/k")
    assert await capabilities.have("multipart-complete", near) is has
    # An ignored If-None-Match is tried twice: the key may have been deleted by another writer.
    assert [s.request.key for s in rig.server.requests("CompleteMultipartUpload")] == [
        rig.server.seen[0].request.key
    ] * (3 if "if-none-match" in ignores else 2)
    assert (await rig.store().list_dir("a")).entries == ()


async def test_a_probe_object_deleted_before_an_upload_completes_disables_no_capability(rig: Rig) -> None:
    def deleted_before(exchange: Any) -> None:
        rig.server.remove(BUCKET, exchange.request.key)
        exchange.reply()

    rig.server.cue("CompleteMultipartUpload", deleted_before)
    retrying, _ = rig.retrying(rig.config)

    async def endpoint_url() -> str:
        return rig.server.endpoint_url

    assert await Capabilities(endpoint_url, retrying).have(
        "multipart-complete", Request("PutObject", BUCKET, "root/a/k")
    )


@pytest.mark.parametrize("layout", [{"chunks": (4,)}, {"chunks": (2,), "shards": (4,)}], ids=["plain", "sharded"])
async def test_an_emptied_object_is_stored_as_fill_on_a_server_that_ignores_versions(rig: Rig, layout: Any) -> None:
    rig.server.ignores = CONDITIONS
    store = rig.probing_store()
    async with zs.Session() as session:
        await session.delete(store, everything=True)
        with pytest.warns(RuntimeWarning, match="no conditional writes"):
            array = await session.create_array(store, shape=(4,), dtype="i4", **layout)
        await array.set_slice([1], 0)
        await array.set_slice([0], 0)
        assert rig.server.count("DeleteObject", "c/0") == 0
        assert rig.stored("c/0") is not None
        assert (await array.get_slice(0, 4)).tolist() == [0, 0, 0, 0]


@pytest.mark.parametrize(
    ("fault", "times"),
    [
        (faults.lost_answer, 1),
        (faults.refuse(409, "ConditionalRequestConflict"), 1),
        (faults.refuse(409, "ConditionalRequestConflict"), 3),
        (faults.reset_before_head, 1),
    ],
    ids=["lost answer", "409", "three 409s", "reset"],
)
@pytest.mark.parametrize("operation", ["PutObject", "DeleteObject"])
async def test_a_fault_during_the_probe_of_the_right_version_disables_no_capability(
    rig: Rig, operation: str, fault: faults.Fault, times: int
) -> None:
    """If the response to an accepted probe is lost, its retry gets 412 because of our own write, not of the ETags."""
    store = rig.probing_store()
    version = await store.put("a/k", b"1")

    def at_the_right_version(exchange: Any) -> None:
        requested = exchange.request
        if PROBE in requested.key and requested.headers.get("if-match", _NO_ETAG) != _NO_ETAG:
            seen.append(requested)
            if len(seen) <= times:
                fault(exchange)
                return
        exchange.reply()

    seen: list[Any] = []
    rig.server.cue(operation, at_the_right_version, times=1000)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        if operation == "PutObject":
            version = await store.put("a/k", b"2", when=version)
            with pytest.raises(Conflict):
                await store.put("a/k", b"3", when=Version('"another"'))
        else:
            await store.delete("a/k", when=version)
            assert await store.get("a/k") is None
    assert seen
