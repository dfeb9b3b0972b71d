"""`zs.doctor` and `zarr-s3 doctor` name the problem and show no secret."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Literal

import pytest
from typer.testing import CliRunner

import zarr_s3_async as zs
from zarr_s3_async._doctor import Diagnosis
from zarr_s3_async.stores.s3.request import Request, Response
from zarr_s3_async.stores.s3.retry import RetryingTransport
from zarr_s3_async.stores.s3.sdk.describe import masked

from .servers.stand_in import StandIn


def outcomes(found: Diagnosis) -> dict[str, str]:
    return {check.name: check.outcome for check in found.checks}


def check(found: Diagnosis, name: str) -> zs.Check:
    (one,) = (one for one in found.checks if one.name == name)
    return one


@pytest.fixture
def bucket(seaweed: Any) -> Iterator[Any]:
    seaweed.create_bucket("doctors-bucket")
    yield seaweed
    seaweed.delete_bucket("doctors-bucket")


@pytest.mark.integration
async def test_a_working_setup_passes_all_checks_and_every_fact_is_reported(bucket: Any) -> None:
    found = await zs.doctor("s3://doctors-bucket/x", write=True, s3=bucket.s3_config())
    assert found.ok
    names = ["versions", "credentials", "endpoint", "connection", "clock", "bucket", "conditional writes", "node"]
    assert list(outcomes(found)) == names
    assert {name: outcome for name, outcome in outcomes(found).items() if outcome != "ok"} == {"node": "warning"}
    assert bucket.endpoint_url in check(found, "endpoint").detail
    assert bucket.secret_access_key not in str(found)
    assert bucket.access_key_id not in str(found)
    async with zs.Session(s3=bucket.s3_config()) as session:
        left = [entry.key async for entry in session.s3("doctors-bucket").list_prefix()]
    assert left == []


@pytest.mark.integration
async def test_doctor_without_write_writes_nothing(bucket: Any) -> None:
    sent: list[str] = []

    def hook(event: zs.Event) -> None:
        sent.append(getattr(event, "operation", ""))

    async with zs.Session(s3=bucket.s3_config(), hooks=(hook,)) as session:
        found = await zs.doctor("s3://doctors-bucket/x", session=session)
    assert check(found, "conditional writes").outcome == "skipped"
    assert not {operation for operation in sent if operation.startswith(("Put", "Delete"))}


@pytest.mark.integration
async def test_wrong_keys_fail_the_bucket_check_with_advice(bucket: Any) -> None:
    config = bucket.s3_config(secret_access_key="wrong-secret-of-somebody")
    found = await zs.doctor("s3://doctors-bucket/x", write=True, s3=config)
    assert not found.ok
    assert check(found, "bucket").outcome == "failed"
    assert "wrong keys" in check(found, "bucket").advice
    assert "wrong-secret-of-somebody" not in str(found)
    assert check(found, "conditional writes").outcome == "skipped"


@pytest.mark.integration
async def test_doctor_names_a_missing_bucket(bucket: Any) -> None:
    found = await zs.doctor("s3://no-such-bucket-here", s3=bucket.s3_config())
    assert "BucketNotFound" in check(found, "bucket").detail


@pytest.mark.parametrize("transport", ["wire", "sdk"])
async def test_the_bucket_is_checked_over_either_transport(transport: Literal["wire", "sdk"]) -> None:
    async with StandIn() as server:
        config = zs.S3Config(
            endpoint_url=server.endpoint_url,
            access_key_id=server.access_key_id,
            secret_access_key=server.secret_access_key,
            transport=transport,
        )
        found = await zs.doctor(f"s3://{server.bucket}/x", s3=config)
    assert check(found, "bucket").outcome == "ok"


async def test_the_bucket_is_checked_by_a_listing_of_one_key_which_the_requester_pays(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    sent: list[Request] = []

    async def refused(_: RetryingTransport, request: Request) -> tuple[Response, int]:
        sent.append(request)
        return Response(403, {}), 1

    monkeypatch.setattr(RetryingTransport, "send", refused)
    config = zs.S3Config(endpoint_url="http://127.0.0.1:9", anonymous=True, requester_pays=True)
    await zs.doctor("s3://bucket/x", s3=config)
    (listing,) = sent
    assert listing.headers == {"x-amz-request-payer": "requester"}
    assert listing.query == {"prefix": "x/", "max-keys": "1"}


async def test_a_wrong_endpoint_fails_the_connection_check() -> None:
    retry = zs.RetryPolicy(attempts=1)
    config = zs.S3Config(endpoint_url="http://127.0.0.1:9", access_key_id="AKIAIOSFODNN7EXAMPLE", secret_access_key="s")
    found = await zs.doctor("s3://bucket/x", s3=config, retry=retry)
    assert check(found, "connection").outcome == "failed"
    assert "server run" in check(found, "connection").advice
    assert "AKIA\N{HORIZONTAL ELLIPSIS}MPLE" in check(found, "credentials").detail
    assert "node" not in outcomes(found)


@pytest.mark.integration
async def test_an_endpoint_with_a_wrong_or_missing_scheme_gives_advice(
    bucket: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    encrypted = bucket.endpoint_url.replace("http:", "https:")
    found = await zs.doctor("s3://doctors-bucket", s3=bucket.s3_config(endpoint_url=encrypted))
    assert "serves no TLS" in check(found, "connection").advice
    monkeypatch.setenv("AWS_ENDPOINT_URL", bucket.endpoint_url.removeprefix("http://"))
    found = await zs.doctor("s3://doctors-bucket", s3=bucket.s3_config(endpoint_url=None))
    assert "http://" in check(found, "endpoint").advice


@pytest.mark.integration
async def test_a_wrong_clock_is_a_warning(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    import time

    monkeypatch.setattr("zarr_s3_async.stores.s3.diagnosis.time", lambda: time.time() + 3600)
    found = await zs.doctor("s3://doctors-bucket/x", s3=bucket.s3_config())
    clock = check(found, "clock")
    assert clock.outcome == "warning"
    assert "ahead of the server's" in clock.detail


async def test_missing_credentials_are_reported(monkeypatch: pytest.MonkeyPatch, tmp_path: Any) -> None:
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_SESSION_TOKEN", "AWS_PROFILE"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    found = await zs.doctor("s3://bucket/x")
    assert outcomes(found) == {"versions": "ok", "credentials": "failed"}


@pytest.mark.parametrize("source", ["environment", "file"])
async def test_the_source_of_the_credentials_is_named(
    source: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Any
) -> None:
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.delenv("AWS_PROFILE", raising=False)
    monkeypatch.delenv("AWS_ACCESS_KEY_ID", raising=False)
    if source == "environment":
        monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIAIOSFODNN7EXAMPLE")
        monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "secret")
    else:
        keys = "aws_access_key_id = AKIAIOSFODNN7EXAMPLE\naws_secret_access_key = secret\n"
        (tmp_path / "credentials").write_text(f"[default]\n{keys}")
    found = await zs.doctor("s3://bucket/x", endpoint_url="http://127.0.0.1:9", retry=zs.RetryPolicy(attempts=1))
    assert source in check(found, "credentials").detail


async def test_for_other_stores_only_the_node_is_checked() -> None:
    found = await zs.doctor("memory://x")
    assert outcomes(found) == {"versions": "ok", "node": "warning"}
    with pytest.raises(zs.ConfigError):
        await zs.doctor("memory://x", write="yes")  # type: ignore[arg-type]
    async with zs.Session() as session:
        with pytest.raises(zs.ConfigError, match="not both"):
            await zs.doctor("memory://x", session=session, region="eu-west-1")


@pytest.mark.parametrize("key", ["", "short", "AKIAIOSFODNN7EXAMPLE"])
def test_a_masked_key_shows_eight_characters_at_most(key: str) -> None:
    assert len(masked(key).replace("\N{HORIZONTAL ELLIPSIS}", "")) <= 8
    assert not key or masked(key) != key


@pytest.mark.integration
def test_the_command_exits_with_1_if_a_check_fails(bucket: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from zarr_s3_async.cli.app import app

    for name, value in bucket.environment().items():
        monkeypatch.setenv(name, value)
    assert CliRunner().invoke(app, ["doctor", "s3://doctors-bucket", "--write"]).exit_code == 0
    failed = CliRunner().invoke(app, ["doctor", "s3://no-such-bucket-here"])
    assert failed.exit_code == 1
    assert "failed   bucket" in failed.stdout
