"""Cache entries and locks are keyed by location and reader identity, never by a name that two of them share."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs
from tests.servers import faults
from tests.servers.fault_server import FaultServer
from zarr_s3_async.stores.optional import owner_of, place_of

CACHE = zs.CacheSize(chunks=2**24)
LAYOUTS = {
    "plain": {"chunks": (4,)},
    "sharded": {"chunks": (2,), "shards": (8,)},
}
EACH_LAYOUT = pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
TRANSPORTS = pytest.mark.parametrize("transport", ["wire", "sdk"])


@pytest.fixture
def servers() -> Iterator[tuple[FaultServer, FaultServer]]:
    with FaultServer() as first, FaultServer() as second:
        yield first, second


def config_of(server: FaultServer, transport: Any = "wire", key: str = "one") -> zs.S3Config:
    return zs.S3Config(
        endpoint_url=server.endpoint_url,
        region="us-east-1",
        access_key_id=key,
        secret_access_key="secret",  # not checked by the server
        transport=transport,
    )


async def filled(session: zs.Session, store: Any, value: int, **layout: Any) -> zs.Array:
    array = await session.create_array(store, shape=(8,), dtype="i4", **layout)
    await array[:].set(np.full(8, value, "i4"))
    return array


@TRANSPORTS
@EACH_LAYOUT
async def test_two_servers_in_one_session_share_no_cache_entry_and_no_lock(
    servers: tuple[FaultServer, FaultServer], transport: Any, layout: Any
) -> None:
    async with zs.Session(cache=CACHE) as session:
        stores = [session.s3("data", "a", config=config_of(server, transport)) for server in servers]
        assert stores[0].url == stores[1].url
        arrays = [await filled(session, store, value, **layout) for store, value in zip(stores, (1, 2), strict=True)]
        for _ in range(2):
            for array, value in zip(arrays, (1, 2), strict=True):
                assert (await array[:] == value).all()
                assert (await array[0:1] == value).all()
        await arrays[0][2:3].set([9])
        assert (await arrays[0][:]).tolist() == [1, 1, 9, 1, 1, 1, 1, 1]
        assert (await arrays[1][:] == 2).all()
        async with session_locks(session, arrays[0]):
            await arrays[1][2:3].set([8])  # does not wait for the other's lock


class session_locks:  # used like a function
    """Holds the lock of an array's first object, as a merge does."""

    def __init__(self, session: zs.Session, array: zs.Array) -> None:
        key = array._layout.chunks.locate((0,))
        self._held = session._locks.hold(f"{array._runtime.place}/{key}")

    async def __aenter__(self) -> None:
        await self._held.__aenter__()

    async def __aexit__(self, *error: object) -> None:
        await self._held.__aexit__(None, None, None)


@EACH_LAYOUT
async def test_two_memory_stores_of_the_same_name_share_no_cache_entry(layout: Any) -> None:
    async with zs.Session(cache=CACHE) as session:
        arrays = [await filled(session, zs.MemoryStore("same"), value, **layout) for value in (1, 2)]
        for _ in range(2):
            assert [(await array[:]).tolist()[0] for array in arrays] == [1, 2]


@TRANSPORTS
@EACH_LAYOUT
async def test_data_cached_for_one_access_key_is_not_returned_to_another(
    servers: tuple[FaultServer, FaultServer], transport: Any, layout: Any
) -> None:
    server, _ = servers

    def refuse_two(exchange: Any) -> None:
        allowed = "Credential=two/" not in exchange.request.headers["authorization"]
        (exchange.reply if allowed else lambda: faults.access_denied(exchange))()

    async with zs.Session(cache=CACHE) as session:
        mine = await filled(session, session.s3("data", "a", config=config_of(server, transport)), 1, **layout)
        theirs = await session.open_array(session.s3("data", "a", config=config_of(server, transport, key="two")))
        assert (await mine[:] == 1).all()
        server.cue("GetObject", refuse_two, key="c/0", times=10**6)
        for _ in range(2):
            with pytest.raises(zs.AccessDenied):
                await theirs[:]
            with pytest.raises(zs.AccessDenied):
                await theirs[0:1]
            assert (await mine[:4] == 1).all()


@EACH_LAYOUT
@pytest.mark.parametrize("cache", [CACHE, zs.CacheSize()], ids=["cached", "uncached"])
async def test_readers_with_different_access_keys_do_not_share_requests(
    servers: tuple[FaultServer, FaultServer], layout: Any, cache: zs.CacheSize
) -> None:
    server, other = servers

    def refuse_two(exchange: Any) -> None:
        allowed = "Credential=two/" not in exchange.request.headers["authorization"]
        (exchange.reply if allowed else lambda: faults.access_denied(exchange))()

    async with zs.Session(cache=cache) as session:
        mine = await filled(session, session.s3("data", "a", config=config_of(server)), 1, **layout)
        elsewhere = await filled(session, session.s3("data", "a", config=config_of(other)), 2, **layout)
        theirs = await session.open_array(session.s3("data", "a", config=config_of(server, key="two")))
        server.cue("GetObject", refuse_two, key="c/0", times=10**6)
        for region in (np.s_[0:2], np.s_[:]):
            read = [mine[region].get(), theirs[region].get(), elsewhere[region].get(), mine[region].get()]
            first, refused, second, again = await asyncio.gather(*read, return_exceptions=True)
            assert isinstance(refused, zs.AccessDenied)
            assert (first == 1).all()  # type: ignore[union-attr]  # it is an array
            assert (again == 1).all()  # type: ignore[union-attr]  # likewise
            assert (second == 2).all()  # type: ignore[union-attr]  # likewise


async def test_writes_with_one_access_key_are_seen_by_readers_with_another(
    servers: tuple[FaultServer, FaultServer],
) -> None:
    server, _ = servers
    async with zs.Session(cache=CACHE) as session:
        mine = await filled(session, session.s3("data", "a", config=config_of(server)), 1, chunks=(4,))
        theirs = await session.open_array(session.s3("data", "a", config=config_of(server, key="two")))
        assert (await theirs[:] == 1).all()
        await mine[:].set(2)
        assert (await theirs[:] == 2).all()


async def test_a_403_read_as_missing_for_one_reader_is_an_error_for_another(
    servers: tuple[FaultServer, FaultServer],
) -> None:
    server, _ = servers
    async with zs.Session(cache=CACHE) as session:
        strict = config_of(server)
        mine = await filled(session, session.s3("data", "a", config=strict), 1, chunks=(4,))
        lenient = await session.open_array(session.s3("data", "a", config=replace(strict, missing_on_403=True)))
        server.cue("GetObject", faults.access_denied, key="c/0", times=10**6)
        mine._runtime.forget_below("")
        assert (await lenient[:4] == 0).all()
        with pytest.raises(zs.AccessDenied):
            await mine[:4]


@EACH_LAYOUT
async def test_a_newly_opened_array_sees_chunks_that_others_added(layout: Any) -> None:
    store = zs.MemoryStore()
    async with zs.Session(cache=CACHE) as session, zs.Session() as other:
        array = await session.create_array(store, shape=(8,), dtype="i4", **layout)
        await array[0:2].set(1)
        assert (await array[:]).tolist() == [1, 1, 0, 0, 0, 0, 0, 0]
        await (await other.open_array(store))[2:8].set(2)
        again = await session.open_array(store)
        expected = [1, 1, 2, 2, 2, 2, 2, 2] if "shards" in layout else [1, 1, 0, 0, 2, 2, 2, 2]
        assert (await again[4:8]).tolist() == expected[4:]  # were absent; cached chunks that existed may be older
        await array.refresh()
        assert (await array[:]).tolist() == [1, 1, 2, 2, 2, 2, 2, 2]


async def test_an_open_handle_keeps_the_shard_indexes_that_it_has_read() -> None:
    from .counting import Counting

    store = Counting()
    async with zs.Session() as session:
        array = await filled(session, store, 1, **LAYOUTS["sharded"])
        await array[0:1]
        await session.open_array(store)
        store.clear()
        await array[2:3]
        assert len(store.gets) == 1  # no index


SAME = [
    ({}, {}),
    ({"endpoint_url": "http://h:80"}, {"endpoint_url": "http://H/"}),
    ({"endpoint_url": "https://s3.eu-central-1.amazonaws.com"}, {"region": "us-east-1"}),
    ({"endpoint_url": "http://h"}, {"endpoint_url": "http://h", "access_key_id": "k", "secret_access_key": "s"}),
    ({"attempt_timeout": 1.0}, {"transport": "sdk"}),
]
OTHER = [
    ({"endpoint_url": "http://h"}, {}),
    ({"endpoint_url": "http://h"}, {"endpoint_url": "http://i"}),
    ({"endpoint_url": "http://h"}, {"endpoint_url": "https://h"}),
    ({"endpoint_url": "http://h"}, {"endpoint_url": "http://h:8080"}),
    ({"endpoint_url": "http://h/a"}, {"endpoint_url": "http://h/b"}),
    ({"region": "cn-north-1"}, {"region": "us-east-1"}),
]


async def test_cache_keys_distinguish_locations() -> None:
    async with zs.Session() as session:

        def place(options: dict[str, Any], prefix: str = "a/b") -> str:
            return place_of(session.s3("bucket", prefix, config=zs.S3Config(**options)))

        for first, second in SAME:
            assert place(first) == place(second)
        for first, second in OTHER:
            assert place(first) != place(second)
        assert place({}, "a/b") == place({}, "a") + "/b" == place({}, "") + "/a/b"


async def test_cache_keys_contain_the_endpoint_of_the_environment_or_the_profile(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    (tmp_path / "config").write_text(
        "[profile one]\nendpoint_url = http://h\n"
        "[profile two]\nservices = mine\nendpoint_url = http://no\n[services mine]\ns3 =\n  endpoint_url = http://h\n"
        "[default]\nregion = x\n"
    )
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    async with zs.Session() as session:

        def place(**options: Any) -> str:
            return place_of(session.s3("bucket", config=zs.S3Config(**options)))

        by_name, amazon = place(endpoint_url="http://h"), place()
        assert place(profile="one") == place(profile="two") == by_name != amazon
        monkeypatch.setenv("AWS_PROFILE", "one")
        assert place() == by_name
        monkeypatch.setenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS", "true")
        assert place() == amazon
        monkeypatch.delenv("AWS_IGNORE_CONFIGURED_ENDPOINT_URLS")
        monkeypatch.setenv("AWS_ENDPOINT_URL_S3", "http://h2")
        assert place() == place(endpoint_url="http://h2")


async def test_cache_keys_distinguish_readers_and_contain_no_secret() -> None:
    async with zs.Session() as session:

        def owner(**options: Any) -> Any:
            return owner_of(session.s3("bucket", config=zs.S3Config(**options)))

        keys = {"access_key_id": "AKIA", "secret_access_key": "topsecret"}
        assert owner(**keys) == owner(**keys, attempt_timeout=1.0, region="eu-west-1")
        others: list[dict[str, Any]] = [
            {},
            {"anonymous": True},
            {"profile": "p"},
            keys | {"session_token": "t"},
            keys | {"secret_access_key": "s"},
            keys | {"missing_on_403": True},
        ]
        assert all(owner(**keys) != owner(**other) for other in others)
        assert "topsecret" not in repr(owner(**keys))


@EACH_LAYOUT
async def test_a_folder_has_one_cache_key_under_all_its_names(layout: Any, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    async with zs.Session(cache=CACHE) as session:
        array = await filled(session, zs.LocalStore(tmp_path / "real"), 1, **layout)
        assert (await array[...]).tolist() == [1] * 8
        for root in (tmp_path / "link", tmp_path / "real/../link"):
            other = await session.open_array(zs.LocalStore(root))
            await other[0:2].set(2)
            assert (await array[0:3]).tolist() == [2, 2, 1]
            await other[0:2].set(1)
