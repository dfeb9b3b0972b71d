"""examples/fastapi_slices.py on a real server: bodies, statuses of errors, clients that disconnect."""

from __future__ import annotations

import asyncio
import inspect
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from types import ModuleType
from typing import Any

import httpx
import numpy as np
import pytest
import uvicorn
from fastapi import FastAPI

import zarr_s3_async as zs

from ..servers.stand_in import StandIn

DATA = np.arange(60 * 40, dtype=">i4").reshape(60, 40)


@pytest.fixture
def service(example: Callable[[str], ModuleType]) -> ModuleType:
    return example("fastapi_slices")


@asynccontextmanager
async def client_of(app: FastAPI) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app)
    async with (
        app.router.lifespan_context(app),
        httpx.AsyncClient(transport=transport, base_url="http://app") as client,
    ):
        yield client


async def store(url: str, **options: Any) -> None:
    async with zs.Session(**options) as session:
        array = await session.create_array(url, shape=DATA.shape, chunks=(10, 10), dtype=DATA.dtype)
        await array.set_slice(DATA, start=(0, 0))


# Responses


@pytest.mark.integration
async def test_a_slice_is_sent_as_bytes_with_shape_and_type(service: ModuleType, url: str) -> None:
    await store(f"{url}/deep/array1")
    async with client_of(service.create_app(url)) as client:
        answer = await client.get("/slices/deep/array1", params={"start": "5,7", "stop": "25,37"})
    assert answer.status_code == 200
    shape = tuple(map(int, answer.headers["x-shape"].split(",")))
    block = np.frombuffer(answer.content, answer.headers["x-dtype"]).reshape(shape)
    assert answer.headers["x-dtype"] == "<i4"
    assert np.array_equal(block, DATA[5:25, 7:37])


@pytest.mark.integration
@pytest.mark.parametrize(
    ("path", "start", "stop", "status", "name"),
    [
        ("absent", "0,0", "1,1", 404, "node-not-found"),
        ("array", "0,0", "60,41", 416, "selection-error"),
        ("array", "0", "1", 416, "selection-error"),
        ("array", "0,zero", "1,1", 422, "config-error"),
    ],
)
async def test_an_invalid_request_has_a_client_error_status(
    service: ModuleType, url: str, path: str, start: str, stop: str, status: int, name: str
) -> None:
    await store(f"{url}/array")
    async with client_of(service.create_app(url)) as client:
        answer = await client.get(f"/slices/{path}", params={"start": start, "stop": stop})
    assert answer.status_code == status
    assert answer.json()["type"] == f"urn:zarr-s3-async:{name}"


@pytest.mark.integration
async def test_wrong_credentials_and_a_missing_bucket_have_their_own_status(
    service: ModuleType, url: str, seaweed: Any
) -> None:
    await store(f"{url}/array")
    ask = {"params": {"start": "0,0", "stop": "1,1"}}
    async with client_of(service.create_app(url, access_key_id="AKIAWRONG", secret_access_key="wrong")) as client:
        denied = await client.get("/slices/array", **ask)
    async with client_of(service.create_app("s3://no-such-bucket-here")) as client:
        nowhere = await client.get("/slices/array", **ask)
    assert (denied.status_code, denied.json()["type"]) == (403, "urn:zarr-s3-async:access-denied")
    assert (nowhere.status_code, nowhere.json()["type"]) == (404, "urn:zarr-s3-async:bucket-not-found")


async def test_a_slice_beyond_the_limit_is_refused_before_a_chunk_is_read(
    service: ModuleType, tmp_path: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = tmp_path.as_uri()
    await store(f"{url}/array")
    monkeypatch.setattr(service, "MAX_BYTES", 1000)
    async with client_of(service.create_app(url)) as client:
        refused = await client.get("/slices/array", params={"start": "0,0", "stop": "60,40"})
        small = await client.get("/slices/array", params={"start": "0,0", "stop": "10,10"})
    assert (refused.status_code, small.status_code) == (413, 200)


# Clients that disconnect, on a real server

CHUNKS = 8
BIG = np.random.default_rng(0).integers(0, 256, (CHUNKS, 2**18), dtype="uint8")


@asynccontextmanager
async def served(app: FastAPI) -> AsyncIterator[int]:
    """The port of a uvicorn that serves the application."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        server = uvicorn.Server(uvicorn.Config(app, log_level="warning", timeout_graceful_shutdown=5))
        serving = asyncio.ensure_future(server.serve(sockets=[listening]))
        try:
            await until(lambda: server.started)
            yield listening.getsockname()[1]
        finally:
            server.should_exit = True
            await serving


async def until(condition: Callable[[], Any]) -> None:
    async with asyncio.timeout(20):
        while True:
            met = condition()
            if inspect.isawaitable(met):
                met = await met
            if met:
                return
            await asyncio.sleep(0.01)


async def ask(port: int, query: str) -> asyncio.StreamWriter:
    """Send a request without waiting for its response."""
    _, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET /slices/array?{query} HTTP/1.1\r\nHost: app\r\n\r\n".encode())
    await writer.drain()
    return writer


@pytest.mark.integration
async def test_a_client_that_disconnects_cancels_its_reads_and_the_next_one_is_served(
    service: ModuleType,
) -> None:
    async with StandIn() as far:
        options = {
            "endpoint_url": far.endpoint_url,
            "access_key_id": far.access_key_id,
            "secret_access_key": far.secret_access_key,
        }
        root = f"s3://{far.bucket}"
        async with zs.Session(**options) as session:
            array = await session.create_array(
                f"{root}/array", shape=BIG.shape, chunks=(1, BIG.shape[1]), dtype="uint8", compressor=None
            )
            await array.set_slice(BIG, start=(0, 0))
        app = service.create_app(root, **options)
        async with served(app) as port:
            # Documents are sent quickly, but a chunk takes 16 seconds, so only the cancellation ends the read in time.
            await far.change(bandwidth=16_000.0)
            await far.reset()
            writer = await ask(port, f"start=0,0&stop={CHUNKS},{BIG.shape[1]}")

            async def all_in_flight() -> bool:
                return (await far.counters()).peak_in_flight >= CHUNKS

            await until(all_in_flight)
            writer.close()
            await writer.wait_closed()
            errors = app.state.zarr_s3_async_session.metrics.errors
            await until(lambda: errors["CancelledError"] == CHUNKS)

            await far.change(bandwidth=None)
            async with httpx.AsyncClient(timeout=30) as client:
                answer = await client.get(
                    f"http://127.0.0.1:{port}/slices/array", params={"start": "0,0", "stop": "2,1000"}
                )
        assert answer.status_code == 200
        assert answer.content == BIG[:2, :1000].tobytes()
        assert errors["CancelledError"] == CHUNKS
