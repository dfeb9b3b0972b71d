"""What the SDK and aiohttp would do below us, and do not: ask again, follow, read without end, stay after the end."""

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
async def test_a_kept_alive_connection_that_breaks_is_not_used_twice_in_silence(
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
    # The server is in this process, and makes 20 MiB of its own.
    assert peak < 21 * 2**20 + 2**20


async def test_an_unknown_header_is_an_error_of_ours(rig: Rig) -> None:
    with pytest.raises(ConfigError, match="x-unknown"):
        await SdkTransport(rig.pool, rig.config).send(Request("GetObject", BUCKET, "k", {"x-unknown": "1"}))


async def test_a_page_where_a_listing_should_be_is_none(rig: Rig) -> None:
    rig.server.cue("ListObjectsV2", faults.page_in_200, times=99)
    with pytest.raises(UnexpectedResponse, match="not a listing"):
        await rig.store().list_dir("")


async def test_after_the_end_there_is_no_new_client() -> None:
    pool = ClientPool(2)
    await pool.aclose()
    await pool.aclose()
    with pytest.raises(SessionClosed):
        await pool.client(S3Config(anonymous=True))


async def test_a_profile_that_is_missing_is_an_error_of_ours() -> None:
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
