"""Redirects are not followed: credentials are sent only to hosts of the endpoint rules, whatever a server answers."""

from __future__ import annotations

import asyncio
import dataclasses
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import zarr_s3_async as zs
from zarr_s3_async.errors import StoreError, WrongRegion

from .amazon import Amazon, Captured, amazon
from .wire_server import response

RIGHT = "bucket.s3.eu-west-1.amazonaws.com"
OTHER = "bucket.s3.eu-west-3.amazonaws.com"
TRANSPORTS = ("wire", "sdk")


@pytest.fixture(scope="module")
def shared_amazon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Amazon]:
    with amazon(tmp_path_factory.mktemp("amazon"), [RIGHT, OTHER, "evil.example"]) as server:
        yield server


@pytest.fixture
def s3(shared_amazon: Amazon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Amazon:
    return shared_amazon.isolated(monkeypatch, tmp_path / "none")


def config(s3: Amazon, transport: Any) -> zs.S3Config:
    return zs.S3Config(
        region="eu-west-1",
        access_key_id="AKIDTEST",
        secret_access_key="s",
        session_token="t",
        ca_bundle=str(s3.certificate.authority),
        transport=transport,
    )


def refusal(status: str, code: str, *, where: str = "evil.example", region: str | None = None) -> bytes:
    """A redirect with every field that a client might follow."""
    body = (
        f'<?xml version="1.0" encoding="UTF-8"?><Error><Code>{code}</Code><Message>m</Message>'
        f"<Endpoint>{where}</Endpoint><Bucket>bucket</Bucket></Error>"
    ).encode()
    headers = {"location": f"https://{where}/a/k", "content_type": "application/xml"}
    if region is not None:
        headers["x_amz_bucket_region"] = region
    return response(body, status, etag="", **headers)


async def every_operation(store: zs.Store) -> list[type]:
    """Run every operation. Returns the types of the errors raised."""
    raised = []
    for operation in (
        store.get("k"),
        store.put("k", b"1"),
        store.delete("k"),
        store.list_dir(""),
        store.delete_many(["k"]),
    ):
        with pytest.raises(StoreError) as caught:
            await operation
        raised.append(caught.type)
    return raised


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("status", "code"),
    [
        ("301 Moved Permanently", "PermanentRedirect"),
        ("302 Found", "Found"),
        ("307 Temporary Redirect", "TemporaryRedirect"),
        ("308 Permanent Redirect", "PermanentRedirect"),
        ("400 Bad Request", "AuthorizationHeaderMalformed"),
    ],
)
async def test_a_location_header_is_not_followed(status: str, code: str, transport: str, s3: Amazon) -> None:
    s3.answer = lambda _: refusal(status, code)
    async with zs.Session(s3=config(s3, transport), retry=zs.RetryPolicy(attempts=1)) as session:
        await every_operation(session.s3("bucket"))
    assert set(s3.looked_up) == {RIGHT}
    assert len(s3.requests) == 5


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    "region",
    [
        "evil.example/",
        "evil.example#",
        "us-east-1.evil.example",
        "us-east-1@evil.example",
        "eu-west-3/../evil",
        "eu-west-3:8080",
        "eu-wéest-3",
        "eu-west-3\t",
        "EU-WEST-3",
        "e" * 5000 + "-1",
        "a" + "-a" * 40,
        "",
    ],
)
async def test_an_invalid_region_is_not_followed_to_any_host(region: str, transport: str, s3: Amazon) -> None:
    s3.answer = lambda _: refusal("301 Moved Permanently", "PermanentRedirect", region=region)
    async with zs.Session(s3=config(s3, transport), retry=zs.RetryPolicy(attempts=1)) as session:
        raised = await every_operation(session.s3("bucket"))
    if region != "eu-west-3\t":  # whitespace around a header's value is not part of it
        assert set(raised) == {WrongRegion}
        assert set(s3.looked_up) == {RIGHT}
        assert len(s3.requests) == 5
    assert set(s3.looked_up) <= {RIGHT, OTHER}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    ("region", "host"), [("eu-west-3", OTHER), ("evil-east-1", None), ("cn-evil-1", None), ("us-isob-evil-1", None)]
)
async def test_requests_for_a_region_go_to_amazons_host_for_it(
    region: str, host: str | None, transport: str, s3: Amazon
) -> None:
    """Also for unknown regions: only the region's name is used, and Amazon's endpoint rules give the host."""
    s3.answer = lambda _: refusal("301 Moved Permanently", "PermanentRedirect", region=region)
    async with zs.Session(s3=config(s3, transport), retry=zs.RetryPolicy(attempts=1)) as session:
        with pytest.raises(StoreError):
            await session.s3("bucket").get("k")
    first, second = s3.looked_up
    assert first == RIGHT
    suffixes = ("amazonaws.com", "amazonaws.com.cn", "sc2s.sgov.gov")
    assert second in {f"bucket.s3.{region}.{suffix}" for suffix in suffixes}
    assert host in (None, second)
    assert len(s3.requests) == (2 if host else 1), "without a certificate for the host no request is sent"


@pytest.mark.parametrize(("endpoint_url", "completed"), [(None, False), ("https://evil.example", True)])
async def test_a_cancelled_upload_is_completed_only_where_a_broken_one_may_be_stored(
    s3: Amazon, endpoint_url: str | None, completed: bool
) -> None:
    """Amazon discards a broken upload; other servers may store it. Neither case needs a separate task."""
    options = dataclasses.replace(config(s3, "wire"), endpoint_url=endpoint_url, conditional_writes="off")
    loop, requested, may_answer = asyncio.get_running_loop(), asyncio.Event(), threading.Event()
    started: list[object] = []

    def answer_late(request: Captured) -> bytes:
        loop.call_soon_threadsafe(requested.set)
        assert may_answer.wait(30)
        return response()

    async with zs.Session(s3=options) as session:
        store = session.s3("bucket")
        await store.put("k", b"1")  # opens the connection
        s3.answer = answer_late
        put = asyncio.create_task(store.put("k", b"2"))
        loop.set_task_factory(lambda loop, work, **how: started.append(work) or asyncio.Task(work, loop=loop, **how))
        try:
            await requested.wait()
            put.cancel()
            for _ in range(20):
                await asyncio.sleep(0)
            assert put.done() is not completed
        finally:
            loop.set_task_factory(None)
            may_answer.set()
        with pytest.raises(asyncio.CancelledError):
            await put
    assert s3.bodies == [b"1", b"2"]
    assert started == []
