"""Recovery happens once and is remembered: expired credentials, a wrong clock, another region."""

from __future__ import annotations

import asyncio
import pickle
from dataclasses import replace
from datetime import UTC, datetime
from itertools import count
from time import time
from typing import Any, Literal

import pytest

from zarr_s3_async.config import Credentials, S3Config
from zarr_s3_async.errors import AccessDenied, ConfigError, CredentialsExpired, CredentialsNotFound, WrongRegion
from zarr_s3_async.stores.s3.sdk import credentials as identity

from ...servers import faults
from ...servers.exchange import Exchange
from ...servers.fault_server import FaultServer
from .rig import BUCKET, Rig

pytestmark = pytest.mark.asyncio(loop_scope="module")

FOREVER = 1000
USES = count()


@pytest.fixture(autouse=True)
def stored(rig: Rig) -> None:
    rig.put("k", b"data")
    rig.forget()


# Credentials


def expired_but(key: str) -> faults.Fault:
    def fault(exchange: Exchange) -> None:
        if f"Credential={key}/" in exchange.request.headers.get("authorization", ""):
            exchange.reply()
        else:
            faults.expired_token(exchange)

    return fault


@pytest.fixture
def from_chain(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> S3Config:
    """Options without keys; the environment has some."""
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDOLD")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    monkeypatch.setenv("AWS_CONFIG_FILE", "/dev/null")
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", "/dev/null")
    # The pool shares a client, and its keys, between equal options: no two tests have the same.
    options = replace(rig.config, connect_timeout=10.0 + next(USES))
    return replace(options, access_key_id=None, secret_access_key=None, session_token=None)


async def test_expired_credentials_are_renewed_once_for_all_requests(
    rig: Rig, from_chain: S3Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    requested: list[S3Config] = []

    def find(config: S3Config) -> Any:
        requested.append(config)
        return find_credentials(config)

    find_credentials = identity.find_credentials
    monkeypatch.setattr(identity, "find_credentials", find)
    rig.server.cue("GetObject", expired_but("AKIDNEW"), times=FOREVER)
    store = rig.store(config=from_chain)
    await rig.pool.client(from_chain)
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDNEW")
    blobs = await asyncio.gather(*(store.get("k") for _ in range(8)))
    assert [blob and bytes(blob.data) for blob in blobs] == [b"data"] * 8
    assert len(requested) == 1, "one renewal serves all requests"
    assert rig.waits == [], "no request waits before its retry"
    assert rig.server.count("GetObject") == 16
    await store.get("k")
    assert rig.server.count("GetObject") == 17, "the new credentials are kept"


async def test_credentials_that_stay_expired_are_an_error(rig: Rig, from_chain: S3Config) -> None:
    rig.server.cue("GetObject", faults.expired_token, times=FOREVER)
    with pytest.raises(CredentialsExpired):
        await rig.store(config=from_chain).get("k")
    assert rig.server.count("GetObject") == 2


async def test_keys_replaced_right_after_a_refusal_are_found(
    rig: Rig, from_chain: S3Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.server.cue("GetObject", expired_but("AKIDNEW"), times=FOREVER)
    store = rig.store(config=from_chain)
    for _ in range(2):
        with pytest.raises(CredentialsExpired):
            await store.get("k")
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDNEW")
    blob = await store.get("k")
    assert blob is not None
    assert bytes(blob.data) == b"data"


@pytest.mark.parametrize("transport", ["wire", "sdk"])
async def test_a_credentials_function_provides_the_keys(rig: Rig, transport: Literal["wire", "sdk"]) -> None:
    given = iter(["AKIDOLD", "AKIDNEW"])

    async def provide() -> Credentials:
        await asyncio.sleep(0)
        return Credentials(access_key_id=next(given), secret_access_key="s", session_token="t")

    keys = {"access_key_id": None, "secret_access_key": None, "session_token": None}
    config = replace(rig.config, credentials=provide, transport=transport, **keys)
    rig.server.cue("GetObject", expired_but("AKIDNEW"), times=FOREVER)
    store = rig.store(config=config)
    blobs = await asyncio.gather(*(store.get("k") for _ in range(8)))
    assert [blob and bytes(blob.data) for blob in blobs] == [b"data"] * 8
    assert next(given, None) is None, "called once at the start, and once when S3 reported the keys as expired"
    for seen in rig.server.requests("GetObject"):
        assert seen.request.headers["x-amz-security-token"] == "t"


@pytest.mark.parametrize(("lifetime", "refreshed_after"), [(3600.0, 3000.0), (60.0, 30.0)])
async def test_provided_keys_are_requested_again_before_they_expire(lifetime: float, refreshed_after: float) -> None:
    requested: list[float] = []
    clock = [1000.0]

    async def provide() -> Credentials:
        await asyncio.sleep(0)
        requested.append(clock[0])
        end = datetime.fromtimestamp(clock[0] + lifetime, UTC)
        return Credentials(access_key_id=f"AK{len(requested)}", secret_access_key="s", expires_at=end)

    source = identity.Provided(provide, now=lambda: clock[0])
    await asyncio.gather(*(source.get_frozen_credentials() for _ in range(4)))
    clock[0] = 1000.0 + refreshed_after - 1
    assert (await source.get_frozen_credentials()).access_key == "AK1"
    clock[0] = 1000.0 + refreshed_after + 1
    keys = await asyncio.gather(*(source.get_frozen_credentials() for _ in range(4)))
    assert {key.access_key for key in keys} == {"AK2"}


async def test_errors_of_a_credentials_function_are_reported() -> None:
    def nothing_to_await() -> Any:
        return Credentials(access_key_id="a", secret_access_key="s3cr3t")

    async def wrong_type() -> Any:
        return {"access_key_id": "a", "secret_access_key": "s3cr3t"}

    async def failing() -> Any:
        raise LookupError("s3cr3t")

    async def expired() -> Any:
        return Credentials(access_key_id="a", secret_access_key="s3cr3t", expires_at=datetime.fromtimestamp(1, UTC))

    for provide, error, message in (
        (nothing_to_await, ConfigError, "must be an async function"),
        (wrong_type, ConfigError, "must return zs.Credentials, not dict"),
        (failing, CredentialsNotFound, "raised LookupError"),
        (expired, CredentialsExpired, "have expired"),
    ):
        with pytest.raises(error, match=message) as caught:
            await identity.Provided(provide).get_frozen_credentials()
        assert "s3cr3t" not in str(caught.value)
    for options in ({"anonymous": True}, {"profile": "p"}, {"access_key_id": "a", "secret_access_key": "s"}):
        with pytest.raises(ConfigError):
            S3Config(credentials=wrong_type, **options)
    with pytest.raises(ConfigError, match="with a time zone"):
        Credentials(access_key_id="a", secret_access_key="s", expires_at=datetime(2030, 1, 1))  # noqa: DTZ001  # the mistake
    given = Credentials(access_key_id="a", secret_access_key="s3cr3t", session_token="t0ken")
    assert "s3cr3t" not in repr(given)
    assert "t0ken" not in repr(given)
    config = S3Config(credentials=wrong_type)
    assert "credentials" not in config.public()
    for kept in (given, config):
        with pytest.raises(ConfigError, match="cannot be pickled"):
            pickle.dumps(kept)


async def test_a_credentials_source_that_disappeared_is_a_clear_error(
    rig: Rig, from_chain: S3Config, monkeypatch: pytest.MonkeyPatch
) -> None:
    rig.server.cue("GetObject", faults.expired_token, times=FOREVER)
    store = rig.store(config=from_chain)
    await rig.pool.client(from_chain)
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    monkeypatch.delenv("AWS_ACCESS_KEY_ID")
    with pytest.raises(CredentialsExpired, match="no longer available"):
        await store.get("k")


async def test_given_keys_cannot_be_renewed(rig: Rig) -> None:
    rig.server.cue("GetObject", faults.expired_token, times=FOREVER)
    with pytest.raises(CredentialsExpired):
        await rig.store().get("k")
    assert rig.server.count("GetObject") == 1


async def test_the_wire_gets_its_keys_from_the_chain(rig: Rig, from_chain: S3Config) -> None:
    signer = await rig.pool.identity(from_chain)
    credentials = await signer.credentials()
    assert credentials is not None
    assert credentials.access_key == "AKIDOLD"
    assert await (await rig.pool.identity(S3Config(anonymous=True, region="us-east-1"))).credentials() is None


# The clock


async def test_a_wrong_clock_is_corrected_by_the_servers_date(rig: Rig) -> None:
    rig.server.cue("GetObject", faults.skewed_clock(7200.0))
    store = rig.store()
    await store.get("k")
    await store.get("k")
    dates = [seen.request.headers["x-amz-date"] for seen in rig.server.requests("GetObject")]
    seconds = [faults.seconds_of(date) - time() for date in dates]
    assert len(seconds) == 3
    assert seconds == pytest.approx([0, 7200, 7200], abs=60)
    rig.pool.clock(rig.config).offset = 0.0


async def test_a_clock_that_stays_wrong_is_an_error(rig: Rig) -> None:
    rig.server.cue("GetObject", faults.skewed_clock(-7200.0), times=FOREVER)
    with pytest.raises(AccessDenied, match="clock"):
        await rig.store().get("k")
    assert rig.server.count("GetObject") == 2
    rig.pool.clock(rig.config).offset = 0.0


async def test_a_wrong_clock_is_not_corrected_without_a_date(rig: Rig) -> None:
    rig.server.cue("GetObject", faults.refuse(403, "RequestTimeTooSkewed"), times=FOREVER)
    with pytest.raises(AccessDenied):
        await rig.store().get("k")
    assert rig.server.count("GetObject") == 1


# The region


@pytest.mark.parametrize(
    ("status", "code"),
    [(301, "PermanentRedirect"), (400, "AuthorizationHeaderMalformed"), (307, "TemporaryRedirect")],
)
@pytest.mark.parametrize("operation", ["GetObject", "PutObject", "ListObjectsV2"])
async def test_a_request_is_repeated_in_the_buckets_region_once(
    rig: Rig, status: int, code: str, operation: str
) -> None:
    rig.server.cue(operation, faults.wrong_region("eu-west-3", status, code), times=FOREVER)
    store = rig.store()

    async def run() -> object:
        match operation:
            case "GetObject":
                return await store.get("k")
            case "PutObject":
                return await store.put("k", b"data")
        return await store.list_dir("")

    assert await run()
    assert rig.server.count(operation) == 2
    assert await run()
    assert rig.server.count(operation) == 3, "the region is remembered"
    assert rig.waits == []


async def test_a_second_wrong_region_is_an_error(rig: Rig) -> None:
    wrong = faults.refuse(301, "PermanentRedirect", x_amz_bucket_region="eu-west-3")
    rig.server.cue("GetObject", wrong, times=FOREVER)
    with pytest.raises(WrongRegion, match="eu-west-3"):
        await rig.store().get("k")
    assert rig.server.count("GetObject") == 2


@pytest.mark.parametrize("region", ["evil.example", "x/y", "us-east-1.evil", "", "a" * 50, "us east", "1", "us-"])
async def test_an_invalid_region_is_not_followed(rig: Rig, region: str) -> None:
    rig.server.cue("GetObject", faults.refuse(301, "PermanentRedirect", x_amz_bucket_region=region), times=FOREVER)
    with pytest.raises(WrongRegion):
        await rig.store().get("k")
    assert rig.server.count("GetObject") == 1


async def test_no_redirect_sends_credentials_to_another_host(rig: Rig) -> None:
    with FaultServer(buckets=(BUCKET,)) as elsewhere:
        rig.server.cue("GetObject", faults.redirect(elsewhere.endpoint_url + "/data/root/k"), times=FOREVER)
        with pytest.raises(WrongRegion):
            await rig.store().get("k")
        assert elsewhere.seen == []
    assert rig.server.count("GetObject") == 1
