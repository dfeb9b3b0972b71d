"""The SDK clients of a session are created once each, and idle ones are closed when there are many."""

from __future__ import annotations

import asyncio
import gc
import weakref
from dataclasses import replace
from typing import Any

import pytest

from zarr_s3_async.config import S3Config
from zarr_s3_async.errors import SessionClosed
from zarr_s3_async.stores.s3.request import Request
from zarr_s3_async.stores.s3.sdk import clients
from zarr_s3_async.stores.s3.sdk.clients import ClientPool
from zarr_s3_async.stores.s3.sdk.transport import SdkTransport

from ..rig import BUCKET, Rig

pytestmark = pytest.mark.asyncio(loop_scope="module")

GET = Request("GetObject", BUCKET, "root/k")


@pytest.fixture
def few(monkeypatch: pytest.MonkeyPatch) -> int:
    monkeypatch.setattr(clients, "MAX_IDLE_CLIENTS", 2)
    return 2


def of_user(rig: Rig, number: int) -> S3Config:
    return replace(rig.config, access_key_id=f"AKID{number}", transport="sdk")


async def test_only_a_few_clients_are_kept_for_many_identities(rig: Rig, few: int) -> None:
    rig.put("k", b"data")
    pool = ClientPool(4)
    made: list[weakref.ref[Any]] = []
    for number in range(6):
        config = of_user(rig, number)
        assert (await SdkTransport(pool, config).send(GET)).status == 200
        assert (await SdkTransport(pool, config).send(GET)).status == 200
        made.append(weakref.ref(await pool.client(config)))
        assert len(pool._clients) <= few
    gc.collect()
    assert sum(ref() is not None for ref in made) <= few, "nothing else refers to a closed client"
    assert (await SdkTransport(pool, of_user(rig, 0)).send(GET)).status == 200, "a closed client is created again"
    await pool.aclose()


async def test_the_least_recently_used_client_is_closed_first(rig: Rig, few: int) -> None:
    rig.put("k", b"data")
    pool = ClientPool(4)
    first = await pool.client(of_user(rig, 0))
    for number in (0, 1, 0, 2):
        await SdkTransport(pool, of_user(rig, number)).send(GET)
    assert await pool.client(of_user(rig, 0)) is first
    await pool.aclose()


async def test_a_client_in_use_is_not_closed(rig: Rig, few: int) -> None:
    rig.put("k", b"data")
    pool = ClientPool(4)
    rig.server.cue("GetObject", lambda exchange: (exchange.pause(0.2), exchange.reply()), times=6)
    answers = await asyncio.gather(*(SdkTransport(pool, of_user(rig, n)).send(GET) for n in range(6)))
    assert [answer.status for answer in answers] == [200] * 6
    assert len(pool._clients) == few
    assert not pool._uses
    await pool.aclose()


async def test_closing_the_pool_ends_running_requests(rig: Rig) -> None:
    pool = ClientPool(4)
    rig.server.cue("GetObject", lambda exchange: exchange.stall())
    sending = asyncio.create_task(SdkTransport(pool, of_user(rig, 0)).send(GET))
    while rig.server.count("GetObject") == 0:
        await asyncio.sleep(0.001)
    closing = [asyncio.create_task(pool.aclose()) for _ in range(3)]
    await asyncio.sleep(0)
    closing[0].cancel()
    await asyncio.wait(closing)
    await asyncio.gather(*closing[1:])
    with pytest.raises(SessionClosed):
        await sending
    with pytest.raises(SessionClosed):
        await pool.running.sleep(1)


async def test_a_cancelled_attempt_leaves_its_client_idle(rig: Rig, few: int) -> None:
    pool = ClientPool(4)
    rig.server.cue("GetObject", lambda exchange: exchange.stall(), times=3)
    for number in range(3):
        sending = asyncio.create_task(SdkTransport(pool, of_user(rig, number)).send(GET))
        while rig.server.count("GetObject") == number:
            await asyncio.sleep(0.001)
        sending.cancel()
        await asyncio.wait((sending,))
        assert sending.cancelled()
    assert not pool._uses
    assert len(pool._clients) <= few
    await pool.aclose()
