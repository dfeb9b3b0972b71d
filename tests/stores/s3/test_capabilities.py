"""What a server can do is known of Amazon's and found out elsewhere, once, when it is first needed."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

import pytest

import zarr_s3_async as zs
from zarr_s3_async._types import Version
from zarr_s3_async.errors import Conflict, NetworkError, Unsupported
from zarr_s3_async.stores.base import PROBE
from zarr_s3_async.stores.s3.capabilities import Capabilities
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


async def test_a_server_that_has_them_is_probed_once_and_left_clean(rig: Rig) -> None:
    store = rig.probing_store()
    assert probes(rig) == [], "not before it is needed"
    version = await store.put("a/k", b"1", when="absent")
    assert probes(rig) == ["PutObject", "PutObject", "PutObject", "DeleteObject"]
    version = await store.put("a/k", b"2", when=version)
    assert len(probes(rig)) == 4
    await store.delete("a/k", when=version)
    assert probes(rig)[4:] == ["PutObject", "DeleteObject", "DeleteObject"]
    with pytest.raises(Conflict):
        await store.delete("a/k", when=version)
    assert len(probes(rig)) == 7
    listing = await store.list_dir("a")
    assert listing.entries == (), "nothing is left behind"


async def test_probes_are_beside_the_object(rig: Rig) -> None:
    await rig.probing_store().put("a/k", b"1", when="absent")
    keys = {seen.request.key for seen in rig.server.seen if PROBE in seen.request.key}
    assert len(keys) == 1
    assert keys.pop().startswith("root/a/" + PROBE)


async def test_unconditional_writes_probe_nothing(rig: Rig) -> None:
    store = rig.probing_store()
    await store.put("a/k", b"1")
    await store.delete("a/k")
    assert probes(rig) == []


async def test_who_asks_at_the_same_time_waits_for_one_probe(rig: Rig) -> None:
    store = rig.probing_store()
    await asyncio.gather(*(store.put(f"a/{n}", b"1", when="absent") for n in range(8)))
    assert len(probes(rig)) == 4
    await store.delete_many([f"a/{n}" for n in range(8)])


@pytest.mark.parametrize("when", ["absent", Version('"1"')])
async def test_auto_writes_all_the_same_and_warns_once(rig: Rig, when: Any) -> None:
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
async def test_nothing_is_deleted_where_the_version_would_be_ignored(rig: Rig, mode: str) -> None:
    rig.server.ignores = CONDITIONS
    rig.put("a/k", b"of others")
    with pytest.raises(Unsupported):
        await rig.probing_store(conditional_writes=mode).delete("a/k", when=Version('"1"'))
    assert rig.stored("a/k") == b"of others"


async def test_off_neither_asks_nor_probes(rig: Rig) -> None:
    store = rig.probing_store(conditional_writes="off")
    await store.put("a/k", b"1", when=Version('"1"'))
    await store.delete("a/k", when=Version('"1"'))
    assert [seen.operation for seen in rig.server.seen] == ["PutObject", "DeleteObject"]


async def test_each_capability_is_its_own(rig: Rig) -> None:
    rig.server.ignores = ("if-match",)
    store = rig.probing_store(conditional_writes="require")
    await store.put("a/k", b"1", when="absent")
    with pytest.raises(Unsupported, match="put-match"):
        await store.put("a/k", b"2", when=Version('"1"'))


@pytest.mark.parametrize("fault", [faults.access_denied, faults.refuse(501, "NotImplemented")])
@pytest.mark.parametrize("nth", [1, 2], ids=["the throwaway", "the condition"])
async def test_a_refused_probe_means_unsupported(rig: Rig, fault: faults.Fault, nth: int) -> None:
    rig.server.cue("PutObject", fault, nth=nth, times=2)
    with pytest.raises(Unsupported):
        await rig.probing_store(conditional_writes="require").put("a/k", b"1", when="absent")


async def test_a_probe_that_fails_decides_nothing(rig: Rig) -> None:
    store = rig.probing_store(conditional_writes="require")
    rig.server.cue("PutObject", faults.reset_before_head, times=3)
    with pytest.raises(NetworkError):
        await store.put("a/k", b"1", when="absent")
    await store.put("a/k", b"1", when="absent")


@pytest.mark.parametrize(("ignores", "has"), [((), True), (CONDITIONS, False), (CONDITIONS[:1], False)])
async def test_completing_an_upload_is_probed(rig: Rig, ignores: tuple[str, ...], has: bool) -> None:
    rig.server.ignores = ignores
    steady, _ = rig.steady(rig.config)

    async def endpoint_url() -> str:
        return rig.server.endpoint_url

    capabilities = Capabilities(endpoint_url, steady)
    near = Request("PutObject", BUCKET, "root/a/k")
    assert await capabilities.have("multipart-complete", near) is has
    assert [s.request.key for s in rig.server.requests("CompleteMultipartUpload")] == [
        rig.server.seen[0].request.key
    ] * 2
    assert (await rig.store().list_dir("a")).entries == ()


@pytest.mark.parametrize("layout", [{"chunks": (4,)}, {"chunks": (2,), "shards": (4,)}], ids=["plain", "sharded"])
async def test_an_emptied_object_stays_as_fill_where_the_version_would_be_ignored(rig: Rig, layout: Any) -> None:
    rig.server.ignores = CONDITIONS
    store = rig.probing_store()
    async with zs.Session() as session:
        await session.delete(store)
        with pytest.warns(RuntimeWarning, match="no conditional writes"):
            array = await session.create_array(store, shape=(4,), dtype="i4", **layout)
        await array.set_slice([1], 0)
        await array.set_slice([0], 0)
        assert rig.server.count("DeleteObject", "c/0") == 0
        assert rig.stored("c/0") is not None
        assert (await array.get_slice(0, 4)).tolist() == [0, 0, 0, 0]
