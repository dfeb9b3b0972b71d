"""The SDK and aiohttp do not retry, follow redirects, read without bound, or outlive the session."""

from __future__ import annotations

import tracemalloc

import pytest

from zarr_s3_async.config import S3Config
from zarr_s3_async.errors import ConfigError, CredentialsNotFound, NetworkError, SessionClosed, UnexpectedResponse
from zarr_s3_async.stores.s3.request import Request
from zarr_s3_async.stores.s3.sdk.clients import ClientPool
from zarr_s3_async.stores.s3.sdk.transport import SdkTransport

from ....servers import faults
from ..rig import BUCKET, SECRET, TOKEN, Rig

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.mark.parametrize("operation", ["PutObject", "GetObject", "DeleteObject"])
@pytest.mark.parametrize("fault", [faults.reset_before_head, faults.close_before_head])
async def test_a_request_on_a_broken_kept_alive_connection_is_not_repeated_silently(
    rig: Rig, operation: str, fault: faults.Fault
) -> None:
    transport = SdkTransport(rig.pool, rig.config)
    rig.put("k", b"data")
    await transport.send(Request("GetObject", BUCKET, "root/k"))
    rig.server.cue(operation, fault, times=99)
    payload = b"x" if operation == "PutObject" else None
    count = rig.server.count(operation)
    with pytest.raises(NetworkError):
        await transport.send(Request(operation, BUCKET, "root/k", payload=payload))  # type: ignore[arg-type]  # a str
    assert rig.server.count(operation) == count + 1


async def test_error_pages_are_read_to_64_kib(rig: Rig) -> None:
    transport = SdkTransport(rig.pool, rig.config)
    rig.put("k", b"data")
    await transport.send(Request("GetObject", BUCKET, "root/k"))
    rig.server.cue("GetObject", faults.huge_page)
    tracemalloc.start()
    response = await transport.send(Request("GetObject", BUCKET, "root/k"))
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert response.status == 500
    # The server is in this process, and allocates 20 MiB itself.
    assert peak < 21 * 2**20 + 2**20


async def test_an_invalid_header_raises_one_of_our_errors(rig: Rig) -> None:
    with pytest.raises(ConfigError, match="x-unknown"):
        await SdkTransport(rig.pool, rig.config).send(Request("GetObject", BUCKET, "k", {"x-unknown": "1"}))


async def test_an_html_page_is_not_a_listing(rig: Rig) -> None:
    rig.server.cue("ListObjectsV2", faults.page_in_200, times=99)
    with pytest.raises(UnexpectedResponse, match="not a listing"):
        await rig.store().list_dir("")


async def test_after_closing_no_client_is_created() -> None:
    pool = ClientPool(2)
    await pool.aclose()
    await pool.aclose()
    with pytest.raises(SessionClosed):
        await pool.client(S3Config(anonymous=True))


async def test_a_missing_profile_raises_one_of_our_errors() -> None:
    pool = ClientPool(2)
    with pytest.raises(CredentialsNotFound, match="no-such-profile"):
        await pool.client(S3Config(profile="no-such-profile"))
    await pool.aclose()


async def test_no_secret_is_shown(rig: Rig) -> None:
    transport = SdkTransport(rig.pool, rig.config)
    signer = await rig.pool.identity(rig.config)
    texts = f"{rig.pool!r} {signer!r} {rig.config!r} {transport!r} {rig.store()!r} {rig.config.public()!r}"
    assert SECRET not in texts
    assert TOKEN not in texts
