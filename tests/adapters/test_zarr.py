"""zarr-python over our stores: reads return what is stored, errors are not absence, each loop has its own session."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
import subprocess
import sys
import textwrap
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async.testing import FaultyStore
from zarr_s3_async.testing.faulty_store import Fault
from zarr_s3_async.testing.local_s3 import LocalS3

from ..stores.http.server import web_server

zarr = pytest.importorskip("zarr")
from zarr.abc.store import OffsetByteRequest, RangeByteRequest, SuffixByteRequest  # noqa: E402  # behind the skip
from zarr.core.buffer import default_buffer_prototype  # noqa: E402  # likewise

from zarr_s3_async.adapters.zarr import ZarrStore  # noqa: E402  # likewise

PROTOTYPE = default_buffer_prototype()
DATA = np.arange(40 * 30, dtype="i4").reshape(40, 30)
LAYOUTS: dict[str, dict[str, Any]] = {
    "chunks": {"chunks": (8, 7)},
    "shards": {"chunks": (4, 5), "shards": (20, 10)},
    "v2": {"chunks": (8, 7), "zarr_format": 2},
}


def buffer(data: bytes) -> Any:
    return PROTOTYPE.buffer.from_bytes(data)


@pytest.fixture(params=["memory", "local", "s3"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[ZarrStore]:
    if request.param == "memory":
        yield ZarrStore(zs.MemoryStore())
    elif request.param == "local":
        yield ZarrStore(tmp_path / "not made yet")
    else:
        seaweed: LocalS3 = request.getfixturevalue("seaweed")
        yield ZarrStore(request.getfixturevalue("s3_url"), s3=seaweed.s3_config())


@pytest.mark.integration
@pytest.mark.parametrize("layout", LAYOUTS)
def test_zarr_python_reads_what_it_wrote(store: ZarrStore, layout: str) -> None:
    array = zarr.create_array(store, shape=DATA.shape, dtype="i4", **LAYOUTS[layout])
    array[:] = DATA
    array[3:17, 2:29] = DATA[3:17, 2:29] + 1
    expected = DATA.copy()
    expected[3:17, 2:29] += 1
    again = zarr.open_array(store, mode="r")
    assert np.array_equal(again[:], expected)
    assert np.array_equal(again[7:31:3, 5], expected[7:31:3, 5])
    assert np.array_equal(again.oindex[[0, 39, 13], [29, 0]], expected[np.ix_([0, 39, 13], [29, 0])])


@pytest.mark.parametrize("layout", LAYOUTS)
def test_zarr_python_reads_from_a_web_server(layout: str) -> None:
    with web_server() as web:
        array = zarr.create_array(ZarrStore(web.store), name="x", shape=DATA.shape, dtype="i4", **LAYOUTS[layout])
        array[:] = DATA
        array = zarr.open_array(ZarrStore(web.url), path="x", mode="r")
        assert np.array_equal(array[3:17, 2:29], DATA[3:17, 2:29])
        with pytest.raises(zs.Unsupported):
            zarr.open_array(ZarrStore(web.url), path="x", mode="r+")[:] = 0


@pytest.mark.integration
def test_both_libraries_read_each_others_arrays(store: ZarrStore) -> None:
    array = zarr.create_array(store, name="x", shape=DATA.shape, dtype="i4", **LAYOUTS["shards"])
    array[:] = DATA

    async def ours() -> Any:
        ours = await zs.shared_session().open_array(store._place.store(), path="x")
        await ours.set_slice(np.full((3, 3), 7), (1, 1))
        return await ours[...]

    expected = DATA.copy()
    expected[1:4, 1:4] = 7
    assert np.array_equal(asyncio.run(ours()), expected)
    assert np.array_equal(array[:], expected)


@pytest.mark.integration
async def test_groups_are_listed_and_deleted(store: ZarrStore) -> None:
    root = await zarr.api.asynchronous.create_group(store=store)
    for name in ("a", "b/c"):
        await root.create_array(name, shape=(4,), chunks=(2,), dtype="i4")
    assert {name async for name, _ in root.members(max_depth=None)} == {"a", "b", "b/c"}
    assert {name async for name in store.list_dir("")} == {"a", "b", "zarr.json"}
    assert {name async for name in store.list_dir("b/")} == {"c", "zarr.json"}
    sizes = [await store.getsize(key) async for key in store.list()]
    assert await store.getsize_prefix("") == sum(sizes)
    await store.delete_dir("b")
    assert [key async for key in store.list()] == ["a/zarr.json", "zarr.json"]
    assert await store.is_empty("b")
    assert not await store.is_empty("")


RANGES = {
    "span": (RangeByteRequest(2, 5), slice(2, 5)),
    "past the end": (RangeByteRequest(7, 50), slice(7, None)),
    "none": (RangeByteRequest(4, 4), slice(4, 4)),
    "offset": (OffsetByteRequest(3), slice(3, None)),
    "offset at the end": (OffsetByteRequest(10), slice(10, None)),
    "suffix": (SuffixByteRequest(4), slice(-4, None)),
    "long suffix": (SuffixByteRequest(40), slice(None)),
    "whole": (None, slice(None)),
}


@pytest.mark.integration
async def test_all_kinds_of_ranges_are_read(store: ZarrStore) -> None:
    """They are read one by one, together, and all ranges of one object at once."""
    data = b"0123456789"
    await store.set("x", buffer(data))
    for request, part in RANGES.values():
        found = await store.get("x", PROTOTYPE, request)
        assert found.to_bytes() == data[part]
        assert await store.get("absent", PROTOTYPE, request) is None
    requests = [request for request, _ in RANGES.values()]
    found = await store.get_partial_values(PROTOTYPE, [("x", request) for request in requests] + [("absent", None)])
    assert [None if one is None else one.to_bytes() for one in found] == [data[part] for _, part in RANGES.values()] + [
        None
    ]
    groups = [group async for group in store.get_ranges("x", requests, prototype=PROTOTYPE)]
    assert {number: one.to_bytes() for group in groups for number, one in group} == {
        number: data[part] for number, (_, part) in enumerate(RANGES.values())
    }
    with pytest.raises(ExceptionGroup) as caught:
        [group async for group in store.get_ranges("absent", requests, prototype=PROTOTYPE)]
    assert caught.group_contains(FileNotFoundError)


async def test_an_invalid_range_is_a_type_error() -> None:
    store = ZarrStore(zs.MemoryStore())
    with pytest.raises(TypeError, match="Unexpected byte_range"):
        await store.get("x", PROTOTYPE, (0, 2))


# Errors are no absence


def _gone() -> Exception:
    return zs.BucketNotFound("the bucket is gone", bucket="b", code="NoSuchBucket", status=404)


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("selection", [np.s_[:], np.s_[0:3, 0:3]], ids=["whole", "part"])
def test_a_missing_bucket_is_never_read_as_fill(layout: str, selection: Any) -> None:
    inner = zs.MemoryStore()
    array = zarr.create_array(ZarrStore(inner), shape=DATA.shape, dtype="i4", **LAYOUTS[layout])
    array[:] = DATA
    faulty = FaultyStore(inner)
    array = zarr.open_array(ZarrStore(faulty), mode="r")
    for first in (1, 2):  # a read of a part of a shard first reads the index, then the chunks
        faulty.clear()
        faulty.add(Fault(verb="get", nth=first, times=None, error=_gone))
        if first == 2 and not (layout == "shards" and selection != np.s_[:]):
            continue
        with pytest.raises(zs.StoreError, match="the bucket is gone") as caught:
            array[selection]
        assert not isinstance(caught.value, FileNotFoundError)


async def test_no_method_takes_a_missing_bucket_for_absence() -> None:
    faulty = FaultyStore(zs.MemoryStore(), Fault(times=None, error=_gone))
    store = ZarrStore(faulty)

    async def listed(keys: Any) -> list[str]:
        return [key async for key in keys]

    for call in (
        store.get("x", PROTOTYPE),
        store.get_partial_values(PROTOTYPE, [("x", None)]),
        store.exists("x"),
        store.getsize("x"),
        store.getsize_prefix("x"),
        store.is_empty("x"),
        store.set("x", buffer(b"x")),
        store.set_if_not_exists("x", buffer(b"x")),
        store.delete("x"),
        store.delete_dir("x"),
        listed(store.list()),
        listed(store.list_prefix("x")),
        listed(store.list_dir("x")),
    ):
        with pytest.raises(zs.StoreError) as caught:
            await call
        assert not isinstance(caught.value, FileNotFoundError)
        assert (caught.value.bucket, caught.value.code, caught.value.status) == ("b", "NoSuchBucket", 404)
    with pytest.raises(zs.StoreError) as caught:
        await listed(store.get_ranges("x", [None], prototype=PROTOTYPE))
    assert not isinstance(caught.value, FileNotFoundError)


@pytest.mark.skipif(not hasattr(zarr.abc.store.Store, "get_ranges"), reason="this zarr-python reads chunk by chunk")
async def test_a_shard_rewritten_after_its_index_was_read_is_an_error() -> None:
    """zarr-python reads index and chunks by two calls; a shard rewritten in between would give a mix of two states."""
    inner = zs.MemoryStore()
    array = await zarr.api.asynchronous.create_array(
        ZarrStore(inner), shape=(8,), chunks=(2,), shards=(8,), dtype="i4", compressors=None
    )
    await array.setitem(slice(None), np.arange(8))

    async def rewrite() -> None:
        ours = await zs.shared_session().open_array(inner)
        await ours.set_slice(np.arange(8) * 1000 + 1000, 0)

    faulty = FaultyStore(inner)
    slow = await zarr.api.asynchronous.open_array(store=ZarrStore(faulty), mode="r")
    faulty.add(Fault(verb="get", key="c/0", nth=2, meanwhile=rewrite))
    with pytest.raises(zs.ConcurrentModification):
        await slow.getitem(slice(2, 4))
    assert (await slow.getitem(slice(2, 4))).tolist() == [3000, 4000]


async def test_one_of_many_concurrent_creators_succeeds() -> None:
    store = ZarrStore(zs.MemoryStore())
    values = [bytes([number]) * 4 for number in range(16)]
    async with asyncio.TaskGroup() as group:
        for value in values:
            group.create_task(store.set_if_not_exists("k", buffer(value)))
    first = (await store.get("k", PROTOTYPE)).to_bytes()
    assert first in values
    await store.set_if_not_exists("k", buffer(b"later"))
    assert (await store.get("k", PROTOTYPE)).to_bytes() == first


async def test_a_read_only_store_refuses_changes() -> None:
    inner = zs.MemoryStore()
    store = ZarrStore(inner, read_only=True)
    for change in (
        store.set("x", buffer(b"x")),
        store.set_if_not_exists("x", buffer(b"x")),
        store.delete("x"),
        store.delete_dir(""),
        store.clear(),
    ):
        with pytest.raises(ValueError, match="read-only"):
            await change
    writer = store.with_read_only(read_only=False)
    await writer.set("x", buffer(b"x"))
    assert await store.exists("x")
    assert writer != store
    assert writer.with_read_only(read_only=True) == store


# Where it is


@pytest.mark.parametrize(
    ("where", "options"),
    [
        ("s3://bucket/x", {"regoin": "eu-central-1"}),
        ("s3://bucket/x", {"readonly": True}),
        ("s3://bucket/x", {"read_only": "yes"}),
        ("s3://bucket/x", {"limits": 64}),
        ("bucket/x", {}),
        ("nothing://bucket/x", {}),
        ("s3://a", {}),
        (None, {}),
        (zs.MemoryStore("m"), {"region": "eu-central-1"}),
    ],
    ids=["name", "name of ours", "value of ours", "value", "no scheme", "scheme", "bucket", "none", "store and option"],
)
def test_a_mistyped_option_is_refused_when_the_store_is_created(where: Any, options: dict[str, Any]) -> None:
    with pytest.raises(zs.ConfigError):
        ZarrStore(where, **options)


@pytest.mark.integration
def test_a_zarr_store_pickles_as_a_reference_without_keys(
    seaweed: LocalS3, s3_url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The other process uses its own keys."""
    config = seaweed.s3_config()
    store = ZarrStore(s3_url, s3=config)
    zarr.create_array(store, shape=(4,), dtype="i4")[:] = 3
    pickled = pickle.dumps(store)
    for secret in (config.access_key_id, config.secret_access_key):
        assert secret is not None
        assert secret.encode() not in pickled
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", str(config.access_key_id))
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", str(config.secret_access_key))
    again = pickle.loads(pickled)
    assert again == store
    assert zarr.open_array(again, mode="r")[:].tolist() == [3] * 4


def test_a_store_in_memory_does_not_pickle() -> None:
    with pytest.raises(TypeError, match="no reference"):
        pickle.dumps(ZarrStore(zs.MemoryStore()))


def test_stores_of_the_same_location_are_equal(tmp_path: Path) -> None:
    memory = zs.MemoryStore("m")
    assert ZarrStore(memory) == ZarrStore(memory)
    assert ZarrStore(memory) != ZarrStore(zs.MemoryStore("m"))
    assert ZarrStore(tmp_path) == ZarrStore(tmp_path.as_uri() + "/") == ZarrStore(zs.LocalStore(tmp_path))
    assert ZarrStore("s3://bucket/x", region="eu-central-1") != ZarrStore("s3://bucket/x")
    assert ZarrStore("s3://bucket/x", limits=zs.Limits(requests=2)) != ZarrStore("s3://bucket/x")
    assert len({ZarrStore(memory), ZarrStore(memory), ZarrStore(memory, read_only=True)}) == 2


@pytest.mark.integration
def test_each_loop_has_its_own_session(seaweed: LocalS3, s3_url: str) -> None:
    """One store serves zarr-python's thread, several loops one after the other, and a loop whose session was closed."""
    store = ZarrStore(s3_url, s3=seaweed.s3_config())
    zarr.create_array(store, shape=(4,), dtype="i4")[:] = 3

    async def read(*, close: bool = False) -> list[int]:
        array = await zarr.api.asynchronous.open_array(store=store, mode="r")
        if close:
            await zs.shared_session().aclose()
        return list(await array.getitem(slice(None)))

    assert asyncio.run(read()) == asyncio.run(read(close=True)) == zarr.open_array(store, mode="r")[:].tolist()


@pytest.mark.integration
async def test_the_store_of_a_session_is_used_on_its_loop_and_opened_again_on_others(
    seaweed: LocalS3, s3_url: str
) -> None:
    async with zs.Session(s3=seaweed.s3_config()) as session:
        store = ZarrStore(session.store(s3_url))
        array = await zarr.api.asynchronous.create_array(store, shape=(4,), dtype="i4")
        await array.setitem(slice(None), 3)
        used = session.metrics.requests.total()
        assert used > 0
        other = await asyncio.to_thread(lambda: zarr.open_array(store, mode="r")[:].tolist())
        assert other == [3] * 4
        assert session.metrics.requests.total() == used
        await array.getitem(slice(None))
        assert session.metrics.requests.total() > used


@pytest.mark.integration
def test_two_stores_of_one_loop_have_separate_options(seaweed: LocalS3, moto_s3: Any, s3_url: str) -> None:
    stores = [
        ZarrStore(s3_url, s3=seaweed.s3_config()),
        ZarrStore(f"s3://{moto_s3.bucket}/two", s3=moto_s3.s3_config()),
    ]
    arrays = [zarr.create_array(store, shape=(2,), dtype="i4") for store in stores]
    for number, array in enumerate(arrays):
        array[:] = number
    assert [zarr.open_array(store, mode="r")[:].tolist() for store in stores] == [[0, 0], [1, 1]]


def _read(store: ZarrStore, answer: Any) -> None:
    answer.put(zarr.open_array(store, mode="r")[:].tolist())


@pytest.mark.integration
@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_a_forked_child_can_read(seaweed: LocalS3, s3_url: str) -> None:
    store = ZarrStore(s3_url, s3=seaweed.s3_config())
    zarr.create_array(store, shape=(4,), dtype="i4")[:] = 3
    fork = multiprocessing.get_context("fork")
    answer = fork.Queue()
    child = fork.Process(target=_read, args=(store, answer))
    child.start()
    assert answer.get(timeout=60) == [3] * 4
    child.join()
    assert zarr.open_array(store, mode="r")[:].tolist() == [3] * 4


@pytest.mark.integration
def test_a_program_exits_without_warnings(seaweed: LocalS3, s3_url: str) -> None:
    """The sessions of zarr-python's loop are closed at exit: no warning, no destroyed task."""
    config = seaweed.s3_config()
    program = f"""
        import zarr
        from zarr_s3_async.adapters.zarr import ZarrStore

        store = ZarrStore({s3_url!r}, endpoint_url={config.endpoint_url!r})
        zarr.create_array(store, shape=(4,), dtype="i4")[:] = 3
        print(zarr.open_array(store)[:].sum())
    """
    keys = {"AWS_ACCESS_KEY_ID": str(config.access_key_id), "AWS_SECRET_ACCESS_KEY": str(config.secret_access_key)}
    done = subprocess.run(
        [sys.executable, "-W", "always", "-c", textwrap.dedent(program)],
        capture_output=True,
        text=True,
        check=False,
        env={**os.environ, **keys},
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "12\n", "")


async def test_stores_with_the_same_options_share_a_session_and_its_limits(tmp_path: Path) -> None:
    def session_of(**options: Any) -> zs.Session:
        return ZarrStore(tmp_path.as_uri(), **options).place.session()

    few, many = zs.Limits(requests=3), zs.Limits(requests=30)
    assert session_of() is session_of(cache=None) is zs.shared_session()
    assert session_of(limits=few) is session_of(limits=zs.Limits(requests=3))
    assert session_of(limits=few).usage.requests_limit == 3
    assert session_of(limits=many).usage.requests_limit == 30
    assert session_of(limits=few, retry=zs.RetryPolicy()) is not session_of(limits=few)
    assert zs.shared_session().usage.requests_limit == zs.Limits().requests
    store = ZarrStore(tmp_path.as_uri(), limits=few)
    assert pickle.loads(pickle.dumps(store)).place.session() is store.place.session()
    before = store.place.session()
    await before.aclose()
    assert store.place.session() is not before


def test_sessions_of_stores_are_closed_with_their_loop(tmp_path: Path) -> None:
    async def use() -> list[zs.Session]:
        stores = [ZarrStore(tmp_path.as_uri(), limits=zs.Limits(requests=n)) for n in (3, 30)]
        for store in stores:
            assert not await store.exists("zarr.json")
        return [store.place.session() for store in stores]

    for session in asyncio.run(use()):
        assert session.closed
