"""Shared sessions: one per loop and process; arrays are opened by `await` and by `async with`."""

from __future__ import annotations

import asyncio
import inspect
import os
import subprocess
import sys
import textwrap
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs


async def filled(url: str) -> None:
    async with zs.create_array(url, shape=(4,), dtype="i4") as array:
        await array.set_slice([1, 2, 3, 4], 0)


async def test_an_awaited_array_uses_the_session_shared_by_the_loop(tmp_path: Path) -> None:
    url = tmp_path.as_uri()
    await filled(url)
    array = await zs.open_array(url)
    assert (await array[...]).tolist() == [1, 2, 3, 4]
    again = await zs.open(tmp_path)
    assert isinstance(again, zs.Array)
    assert array._runtime.leases is again._runtime.leases is zs.shared_session()._leases


async def test_an_entered_array_has_its_own_session(tmp_path: Path) -> None:
    await filled(tmp_path.as_uri())
    async with zs.open_array(tmp_path, limits=zs.Limits(requests=3)) as array:
        assert array._runtime.limits.requests == 3
        assert (await array[0:2]).tolist() == [1, 2]
    with pytest.raises(zs.SessionClosed):
        await array[...]


async def test_every_open_function_supports_await_and_async_with(tmp_path: Path) -> None:
    url = tmp_path.as_uri()
    group = await zs.create_group(url, attributes={"a": 1})
    assert isinstance(group, zs.Group)
    array = await zs.create_array(url, path="x", shape=(2,), dtype="u1", fill_value=3)
    assert (await array[...]).tolist() == [3, 3]
    assert (await zs.open_group(url)).attrs == {"a": 1}
    assert isinstance(await zs.open(url), zs.Group)
    assert (await zs.open_array(array.ref)).shape == (2,)
    async with zs.open_group(url) as own, zs.open(url, path="x") as node, zs.create_group(url, path="g") as below:
        assert isinstance(node, zs.Array)
        assert (own.path, below.path) == ("", "g")


async def test_a_failed_opening_leaves_no_session_behind(tmp_path: Path) -> None:
    opening = zs.open_array(tmp_path / "none")
    with pytest.raises(zs.NodeNotFound):
        async with opening:
            pass
    assert opening._session is not None
    assert opening._session.closed


async def test_two_loops_have_separate_shared_sessions(tmp_path: Path) -> None:
    await filled(tmp_path.as_uri())
    mine = zs.shared_session()

    async def in_another_loop() -> zs.Session:
        other = zs.shared_session()
        array = await zs.open_array(tmp_path)
        assert (await array[...]).tolist() == [1, 2, 3, 4]
        assert not other.closed
        return other

    def another() -> zs.Session:
        return asyncio.run(in_another_loop())

    other = await asyncio.to_thread(another)
    assert other is not mine
    assert other.closed, "the session is closed with its loop"
    assert zs.shared_session() is mine
    assert not mine.closed


async def test_a_closed_shared_session_is_replaced_by_a_new_one() -> None:
    first = zs.shared_session()
    async with first:
        assert zs.shared_session() is first
    assert zs.shared_session() is not first


async def test_the_shared_session_has_the_options_of_the_first_call() -> None:
    limits = zs.Limits(requests=7)
    session = zs.shared_session(limits=limits, region="eu-west-1")
    assert zs.shared_session() is session
    assert zs.shared_session(limits=limits, region="eu-west-1") is session
    with pytest.raises(zs.ConfigError, match="limits, region"):
        zs.shared_session(region="eu-west-2")
    with pytest.raises(zs.ConfigError, match="write region="):
        zs.shared_session(region_name="eu-west-2")  # type: ignore[call-arg]  # what boto3 calls it
    await session.aclose()
    with pytest.raises(zs.ConfigError, match="must be True or False"):
        zs.shared_session(anonymous="no")  # type: ignore[arg-type]  # text
    assert zs.shared_session() is not session


def test_the_error_of_a_shared_session_without_a_loop_says_where_to_call_it() -> None:
    with pytest.raises(zs.WrongEventLoop, match="inside a coroutine"):
        zs.shared_session()


async def test_s3_options_of_one_call_apply_only_to_it() -> None:
    store = zs.shared_session().store("s3://bucket", region="eu-west-1", anonymous=True)
    assert isinstance(store, zs.S3Store)
    assert (store.config.region, store.config.anonymous) == ("eu-west-1", True)
    plain = zs.shared_session().store("s3://bucket")
    assert isinstance(plain, zs.S3Store)
    assert plain.config == zs.S3Config()
    with pytest.raises(zs.ConfigError, match="limits is an option of a whole session"):
        await zs.open_array("memory://a", limits=zs.Limits())
    with pytest.raises(zs.ConfigError, match="a Store already has its own"):
        await zs.open_array(zs.MemoryStore(), region="eu-west-1")
    with pytest.raises(zs.ConfigError, match="write region="):
        zs.open_array("memory://a", region_name="x")  # type: ignore[call-arg]  # what boto3 calls it


async def test_a_forgotten_await_of_an_open_function_is_reported() -> None:
    opening: Any = zs.open_array("memory://a")
    with pytest.raises(AttributeError, match="write `await` before it"):
        _ = opening.shape
    with pytest.raises(TypeError, match="use `async with`"), opening:
        pass


def test_open_functions_have_the_signatures_of_the_session() -> None:
    for name in ("open", "open_array", "open_group", "create_array", "create_group"):
        ours = inspect.signature(getattr(zs, name)).parameters
        of_session = inspect.signature(getattr(zs.Session, name)).parameters
        for parameter in list(of_session.values())[1:]:
            if parameter.kind is not parameter.VAR_KEYWORD:
                assert ours[parameter.name].default == parameter.default, (name, parameter.name)
                wanted = "CachePolicy | CacheSize | None" if parameter.name == "cache" else parameter.annotation
                assert ours[parameter.name].annotation == wanted, (name, parameter.name)


async def test_cache_is_the_policy_of_an_array_or_the_size_of_the_session(tmp_path: Path) -> None:
    async with zs.create_array(tmp_path, shape=(8,), chunks=(4,), dtype="i4") as array:
        await array[...].set(7)
    session = zs.shared_session()
    kept = await zs.open_array(tmp_path, cache="immutable")
    await kept[...]
    assert session.usage.cached_chunk_bytes > 0
    for chunk in (tmp_path / "c").iterdir():
        chunk.unlink()
    assert (await (await zs.open_array(tmp_path, cache="immutable"))[...]).tolist() == [7] * 8
    for policy in ("revalidate", None):
        assert (await (await zs.open_array(tmp_path, cache=policy))[...]).tolist() == [0] * 8
    async with zs.open_array(tmp_path, cache=zs.CacheSize(chunks=0)) as own:
        await own[...]
    with pytest.raises(zs.ConfigError, match="cache is an option of a whole session"):
        await zs.open_array(tmp_path, cache=zs.CacheSize(chunks=2**20))
    for wrong in ("always", -1, float("nan"), True, zs.Limits()):
        for call in (zs.open, zs.open_array, zs.open_group):
            with pytest.raises(zs.ConfigError, match="cache"):
                call(tmp_path, cache=wrong)  # type: ignore[arg-type]  # on purpose


NOTEBOOK = """
    import asyncio, os, pathlib, sys
    import zarr_s3_async as zs
    loop = asyncio.new_event_loop()  # as a notebook's, which is never shut down
    async def cell():
        array = await zs.create_array(pathlib.Path(sys.argv[1]), shape=(4,), dtype="i4", overwrite=True)
        await array[...].set(5)
        print(await array[...])
    loop.run_until_complete(cell())
    loop.run_until_complete(cell())
    async def fork():
        mine = zs.shared_session()
        child = os.fork()
        if child == 0:
            async def in_child():
                assert zs.shared_session() is not mine
                print(await (await zs.open_array(pathlib.Path(sys.argv[1])))[...], flush=True)
            import threading
            thread = threading.Thread(target=asyncio.run, args=(in_child(),))
            thread.start()
            thread.join()
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert zs.shared_session() is mine and not mine.closed
    if hasattr(os, "fork"):
        loop.run_until_complete(fork())
    import atexit
    atexit.register(lambda: print("loop open", not loop.is_closed(), flush=True))
"""


def test_the_shared_session_is_closed_silently_at_exit_and_a_fork_has_its_own(tmp_path: Path) -> None:
    done = subprocess.run(
        [
            sys.executable,
            "-X",
            "dev",
            "-W",
            "ignore::DeprecationWarning",
            "-c",
            textwrap.dedent(NOTEBOOK),
            str(tmp_path),
        ],
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout.count("[5 5 5 5]") >= 2
    # The notebook must close the loop itself, so the interpreter may warn only about the loop.
    assert "Session" not in done.stderr, done.stderr
    assert "transport" not in done.stderr, done.stderr


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_fork_waits_for_an_import_in_another_thread(tmp_path: Path) -> None:
    """Otherwise the first import of the same module in the child waits for a thread that does not exist there."""
    (tmp_path / "slow.py").write_text("import time\ntime.sleep(0.5)\n")
    program = f"""
    import os, sys, threading, time
    import zarr_s3_async
    zarr_s3_async.__path__.append({str(tmp_path)!r})
    def load():
        import zarr_s3_async.slow
    thread = threading.Thread(target=load)
    thread.start()
    while "zarr_s3_async.slow" not in sys.modules:
        time.sleep(0.001)
    child = os.fork()
    if not child:
        load()
        os._exit(0)
    thread.join()
    for _ in range(1000):
        ended, status = os.waitpid(child, os.WNOHANG)
        if ended:
            sys.exit(status)
        time.sleep(0.01)
    os.kill(child, 9)
    sys.exit("the child hangs")
    """
    command = [sys.executable, "-W", "ignore::DeprecationWarning", "-c", textwrap.dedent(program)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr


def test_the_error_of_an_array_of_an_ended_loop_says_so(tmp_path: Path) -> None:
    asyncio.run(filled(tmp_path.as_uri()))

    async def opened() -> zs.Array:
        return await zs.open_array(tmp_path)

    array = asyncio.run(opened())

    async def read() -> None:
        await array[...]

    with pytest.raises(zs.SessionClosed, match="ended with its event loop"):
        asyncio.run(read())


async def test_the_error_of_using_an_opening_that_was_not_awaited_says_so(tmp_path: Path) -> None:
    opening: Any = zs.open_array(tmp_path)
    with pytest.raises(TypeError, match="write `array = await"):
        opening[:3]
    with pytest.raises(TypeError, match="not iterable: write `await`"):
        list(opening)
    with pytest.raises(AttributeError, match="write `await` before it"):
        _ = opening.shape


def test_repeated_asyncio_run_leaves_nothing_behind(tmp_path: Path) -> None:
    async def read() -> Any:
        return await (await zs.open_array(tmp_path))[...]

    asyncio.run(filled(tmp_path.as_uri()))
    for _ in range(3):
        assert np.array_equal(asyncio.run(read()), [1, 2, 3, 4])


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        (None, "not None"),
        (5, "of type int"),
        (b"s3://bucket", "of type bytes"),
        (["s3://bucket"], "of type list"),
        ("s3:/bucket/key", "write 's3://bucket/key'"),
        ("s3:bucket/key", "write 's3://bucket/key'"),
        ("S3://bucket/key", "write 's3://bucket/key'"),
        ("s3a://bucket/key", "write 's3://bucket/key'"),
        ("s3n://bucket/key", "write 's3://bucket/key'"),
        ("https://bucket.s3.eu-west-1.amazonaws.com/a/b", "write 's3://bucket/a/b' with region='eu-west-1'"),
        ("https://a.b.s3.amazonaws.com/a%20b", "write 's3://a.b/a b'"),
        ("https://bucket.s3-us-west-2.amazonaws.com/a", "write 's3://bucket/a' with region='us-west-2'"),
        ("https://s3.eu-west-1.amazonaws.com/bucket/a", "write 's3://bucket/a' with region='eu-west-1'"),
        ("https://s3.dualstack.eu-west-1.amazonaws.com/bucket/a", "write 's3://bucket/a' with region='eu-west-1'"),
        ("https://s3.amazonaws.com/bucket", "write 's3://bucket'"),
        ("bucket/key", "has no scheme"),
    ],
)
async def test_the_error_of_a_wrong_url_gives_the_right_one(wrong: Any, message: str) -> None:
    async with zs.Session() as session:
        for call in (session.open_array, session.open_group, session.open, session.exists, session.delete):
            with pytest.raises(zs.ConfigError, match=message) as caught:
                await call(wrong)
            assert caught.value.__cause__ is None
        array = await session.create_array("memory://a", shape=(1,), dtype="u1")
        with pytest.raises(zs.ConfigError, match=r"pass its \.ref"):
            await session.open_array(array)  # type: ignore[arg-type]  # one that is open
