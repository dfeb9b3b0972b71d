"""A session belongs to one loop and one process, checks its options, and closes cleanly."""

from __future__ import annotations

import asyncio
import multiprocessing
import os
import pickle
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs


async def test_a_session_opens_on_first_use_and_cannot_be_used_after_closing() -> None:
    session = zs.Session()
    assert "new" in repr(session)
    array = await session.create_array("memory://a", shape=(4,), dtype="i4")
    assert "open" in repr(session)
    async with session:
        await array.set_slice([1, 2, 3, 4], 0)
        with pytest.raises(zs.SessionClosed, match="create a new one"):
            await session.__aenter__()
    assert session.closed
    for call in (
        lambda: array.get_slice(0, 4),
        lambda: array.set_slice([1], 0),
        lambda: array[0:2].get(),
        lambda: array.resize(5),
        lambda: array.append([1]),
        lambda: array.refresh(),
        lambda: array.update_attributes({}),
        lambda: session.open_array("memory://a"),
    ):
        with pytest.raises(zs.SessionClosed, match="is closed"):
            await call()
    await session.aclose()
    with pytest.raises(zs.SessionClosed, match="create a new one"):
        await session.__aenter__()


async def test_a_session_left_open_warns_and_says_what_to_do() -> None:
    session = zs.Session()
    await session.exists("memory://a")
    with pytest.warns(ResourceWarning, match=r"was left open: use it as `async with .* or end with `await .*aclose"):
        del session
    unused = zs.Session()
    del unused
    closed = zs.Session()
    await closed.exists("memory://a")
    await closed.aclose()
    del closed
    with pytest.raises(zs.ConfigError):
        zs.Session(limits=1)  # type: ignore[arg-type]  # refused, so nothing is left open


def test_the_error_of_a_session_outside_of_a_loop_says_where_to_use_it() -> None:
    session = zs.Session()
    assert session.s3("bucket").url == "s3://bucket"  # no I/O, so no loop is needed
    coroutine = session.open_array("memory://a")
    with pytest.raises(zs.WrongEventLoop, match=r"zs\.blocking"):
        coroutine.send(None)
    with pytest.raises(TypeError, match=r"async with.*zs\.blocking"), session:  # type: ignore[attr-defined]  # untyped
        pass


async def test_open_handles_do_not_pickle_and_the_error_names_references() -> None:
    async with zs.Session() as session:
        array = await session.create_array("memory://a", shape=(4,), dtype="i4")
        group = await session.create_group("memory://b")
        for live, word in (
            (session, "array.ref"),
            (array, "array.ref"),
            (array[0:2], "array.ref"),
            (group, "group.ref"),
        ):
            with pytest.raises(TypeError, match=word):
                pickle.dumps(live)


async def test_a_session_is_refused_on_another_loop() -> None:
    async with zs.Session() as session:
        array = await session.create_array("memory://a", shape=(4,), dtype="i4")
        read = lambda: asyncio.run(array.get_slice(0, 4))  # noqa: E731  # runs in a thread below
        with pytest.raises(zs.WrongEventLoop, match="another event loop"):
            await asyncio.to_thread(read)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*multi-threaded.*fork:DeprecationWarning")
async def test_a_session_is_refused_in_a_forked_child() -> None:
    async with zs.Session() as session:
        array = await session.create_array("memory://a", shape=(4,), dtype="i4")

        def child(outcome: Any) -> None:
            # The child has the parent's loop object as its running one, as a fork in a handler would.
            try:
                array.get_slice(0, 4).send(None)
            except zs.ForkedSession:
                outcome.value = 1
            finally:
                os._exit(0)

        outcome = multiprocessing.get_context("fork").Value("i", 0)
        pid = os.fork()
        if pid == 0:
            child(outcome)
        os.waitpid(pid, 0)
        assert outcome.value == 1


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"regoin": "x"}, "unknown option 'regoin'"),
        ({"region": "a", "s3": zs.S3Config(region="b")}, "given both"),
        ({"endpoint_url": "localhost:9000"}, "must start with http"),
        ({"addressing_style": "sideways"}, "addressing_style must be one of"),
        ({"access_key_id": "only"}, "together"),
        ({"session_token": "only"}, "session_token needs"),
        ({"anonymous": True, "profile": "me"}, "anonymous"),
        ({"accelerate": True, "endpoint_url": "http://x"}, "accelerate"),
        ({"attempt_timeout": 0}, "above zero"),
        ({"sse": "rot13"}, "sse must be one of"),
    ],
)
def test_session_options_are_checked_when_given(options: dict[str, Any], message: str) -> None:
    with pytest.raises(zs.ConfigError, match=message):
        zs.Session(**options)


@pytest.mark.parametrize(
    "make",
    [
        lambda: zs.Limits(requests=0),
        lambda: zs.Limits(bytes=True),
        lambda: zs.RetryPolicy(attempts=0),
        lambda: zs.HedgePolicy(percentile=1.5),
        lambda: zs.CacheSize(chunks=-1),
    ],
)
def test_numbers_in_session_options_are_checked(make: Any) -> None:
    with pytest.raises(zs.ConfigError):
        make()


def test_no_repr_contains_a_secret() -> None:
    config = zs.S3Config(access_key_id="AKIA", secret_access_key="s3cr3t", session_token="t0ken")
    for text in (repr(config), repr(zs.Session(s3=config)), repr(config.public())):
        assert "s3cr3t" not in text
        assert "t0ken" not in text
        assert "AKIA" not in text


async def test_a_ref_opens_the_same_array_elsewhere_and_contains_no_secret(tmp_path: Any) -> None:
    async with zs.Session() as session:
        array = await session.create_array(f"file://{tmp_path}", path="a/b", shape=(4,), dtype="i4")
        await array.set_slice([1, 2, 3, 4], 0)
        ref = pickle.loads(pickle.dumps(array.ref))
    async with zs.Session() as other:
        again = await other.open_array(ref)
        assert np.array_equal(await again[...], [1, 2, 3, 4])
    keys = {"access_key_id": "AKIA", "secret_access_key": "s3cr3t"}
    async with zs.Session(s3=zs.S3Config(**keys, region="eu-west-1")) as session:
        store = session.s3("bucket", "/some//prefix/", endpoint_url="http://localhost:1")
        assert store.url == "s3://bucket/some//prefix"
        assert "s3cr3t" not in repr(store)


async def test_a_location_may_be_a_store_a_url_or_a_ref() -> None:
    store = zs.MemoryStore()
    async with zs.Session() as session:
        array = await session.create_array(store, path="x", shape=(2,), dtype="u1", fill_value=3)
        assert np.array_equal(await (await session.open_array(store, path="x"))[...], [3, 3])
        assert await session.exists(store, path="x")
        assert not await session.exists(store, path="y")
        await session.delete(store, path="x")
        assert not await session.exists(store, path="x")
        with pytest.raises(zs.NodeNotFound):
            await session.open_array(store, path="x")
        assert array.path == "x"


@pytest.mark.parametrize("zarr_format", [2, 3])
async def test_creating_refuses_an_existing_node_without_overwrite(zarr_format: Any) -> None:
    store = zs.MemoryStore()
    async with zs.Session() as session:
        array = await session.create_array(store, shape=(2,), dtype="u1", zarr_format=zarr_format)
        await array.set_slice([1, 2], 0)
        for again in (2, 3):
            with pytest.raises(zs.NodeExists, match="overwrite"):
                await session.create_array(store, shape=(2,), dtype="u1", zarr_format=again)
        fresh = await session.create_array(store, shape=(3,), dtype="u1", zarr_format=5 - zarr_format, overwrite=True)
        assert np.array_equal(await fresh[...], [0, 0, 0])
        assert (await session.open_array(store)).shape == (3,)


async def test_one_of_many_concurrent_creators_wins() -> None:
    store = zs.MemoryStore()
    async with zs.Session() as session:

        async def create(number: int) -> bool:
            try:
                await session.create_array(store, shape=(number + 1,), dtype="u1")
            except zs.NodeExists:
                return False
            return True

        assert sum(await asyncio.gather(*(create(n) for n in range(20)))) == 1


async def test_open_array_has_its_own_session(tmp_path: Any) -> None:
    async with zs.Session() as session:
        await session.create_array(f"file://{tmp_path}", shape=(2,), dtype="u1", fill_value=5)
    async with zs.open_array(f"file://{tmp_path}") as array:
        assert np.array_equal(await array.get_slice(0, 2), [5, 5])
    with pytest.raises(zs.SessionClosed):
        await array.get_slice(0, 2)


async def test_a_hook_that_raises_has_no_effect_and_is_logged_once(caplog: pytest.LogCaptureFixture) -> None:
    heard: list[zs.Event] = []

    def broken(event: zs.Event) -> None:
        raise LookupError(f"of {event}")

    class Contended(zs.MemoryStore):
        lost = 0

        async def put(self, key: str, data: Any, *, when: Any = "always") -> Any:
            if key == "c/0" and when != "always" and self.lost < 2:
                self.lost += 1
                raise zs.Conflict("lost")
            return await super().put(key, data, when=when)

    async with zs.Session(hooks=[broken, heard.append]) as session:
        array = await session.create_array(Contended(), shape=(4,), chunks=(4,), dtype="u1")
        await array.set_slice([7], 1)
    assert len(heard) == 2
    assert [record.exc_info[0] for record in caplog.records if record.exc_info] == [LookupError]


async def test_hooks_receive_events() -> None:
    heard: list[zs.Event] = []

    class Contended(zs.MemoryStore):
        lost = 0

        async def put(self, key: str, data: Any, *, when: Any = "always") -> Any:
            if key == "c/0" and when != "always" and self.lost < 2:
                self.lost += 1
                raise zs.Conflict("lost")
            return await super().put(key, data, when=when)

    async with zs.Session(hooks=[heard.append]) as session:
        array = await session.create_array(Contended(), shape=(4,), chunks=(4,), dtype="u1")
        await array.set_slice([7], 1)
        assert session.metrics.conflicts == 2
    assert heard == [zs.ConflictMet(key="c/0", attempt=1), zs.ConflictMet(key="c/0", attempt=2)]
