"""Configuration read without the SDK equals the SDK's: credentials, region, endpoint, authorities; or none is read."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
from pathlib import Path
from typing import Any
from unittest import mock

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import zarr_s3_async as zs
from zarr_s3_async.config import S3Config
from zarr_s3_async.errors import StoreError, ZarrS3Error
from zarr_s3_async.stores.s3.plain import read_plain
from zarr_s3_async.stores.s3.sdk.clients import ClientPool
from zarr_s3_async.stores.s3.sdk.credentials import credentials_of, sdk_session
from zarr_s3_async.stores.s3.sdk.endpoint import resolve_endpoint

REGIONS = [
    "us-east-1",
    "eu-west-1",
    "ap-southeast-7",
    "mx-central-1",
    "us-gov-west-1",
    "cn-north-1",
    "us-iso-east-1",
    "eu-isoe-west-1",
    "eusc-de-east-1",
    "fips-us-east-1",
    "aws-global",
    "s3-external-1",
    "garage",
    "auto",
    "a_b",
]
ENDPOINTS = [
    "http://localhost:9000",
    "https://minio.example",
    "https://minio.example:443/base/",
    "http://127.0.0.1:80",
    "http://[::1]:9000",
    "https://s3.eu-west-1.amazonaws.com",
    "https://bucket.vpce-1a2b.s3.us-east-1.vpce.amazonaws.com",
    "https://UPPER.example/a%20b",
    "localhost:9000",
    "",
]
BUCKETS = ["bucket", "a-b-c", "123", "with.dots", "Upper", "under_score", "a--b", "xn--bucket", "b" * 63, "x--ol-s3"]
VARIABLES: dict[str, list[str]] = {
    "AWS_REGION": REGIONS,
    "AWS_DEFAULT_REGION": ["", *REGIONS],
    "AWS_ENDPOINT_URL": ENDPOINTS,
    "AWS_ENDPOINT_URL_S3": ENDPOINTS,
    "AWS_ENDPOINT_URL_DYNAMODB": ENDPOINTS,
    "AWS_IGNORE_CONFIGURED_ENDPOINT_URLS": ["true"],
    "AWS_ACCESS_KEY_ID": ["", "ENVAK"],
    "AWS_SECRET_ACCESS_KEY": ["", "ENVSK"],
    "AWS_SESSION_TOKEN": ["", "ENVTOKEN"],
    "AWS_SECURITY_TOKEN": ["", "OLDTOKEN"],
    "AWS_CREDENTIAL_EXPIRATION": ["2099-01-01T00:00:00Z"],
    "AWS_PROFILE": ["", "default", "mine", "absent"],
    "AWS_DEFAULT_PROFILE": ["mine"],
    "AWS_USE_DUALSTACK_ENDPOINT": ["true"],
    "AWS_USE_FIPS_ENDPOINT": ["true"],
    "AWS_S3_US_EAST_1_REGIONAL_ENDPOINT": ["regional"],
    "AWS_CA_BUNDLE": ["/no/such/bundle.pem"],
    "HTTPS_PROXY": ["http://proxy.example:3128"],
    "no_proxy": ["example.com"],
    "AWS_PAGER": ["less"],
}
LINES = [
    "region = eu-west-2",
    "region =",
    "output = json",
    "endpoint_url = http://profile.example",
    "services = mine",
    "s3 =\n  addressing_style = path",
    "s3 =\n  addressing_style = virtual",
    "use_dualstack_endpoint = true",
    "use_fips_endpoint = true",
    "ca_bundle = /no/such/profile.pem",
    "aws_access_key_id = FILEAK",
    "aws_secret_access_key = FILESK",
    "aws_session_token = FILETOKEN",
    "; a comment",
    "nothing",
]
SECTIONS = [
    "default",
    "profile mine",
    "profile  mine",
    'profile "mine"',
    "mine",
    "profile default",
    "preview",
    "DEFAULT",
]
OPTIONS: dict[str, list[Any]] = {
    "region": REGIONS,
    "endpoint_url": [url for url in ENDPOINTS if "://" in url],
    "profile": ["default", "mine", "absent"],
    "anonymous": [True],
    "addressing_style": ["virtual", "path"],
    "dualstack": [True],
    "accelerate": [True],
}


def some(values: dict[str, list[Any]], max_entries: int) -> st.SearchStrategy[dict[str, Any]]:
    names = st.lists(st.sampled_from(sorted(values)), unique=True, max_size=max_entries)
    return names.flatmap(lambda chosen: st.fixed_dictionaries({name: st.sampled_from(values[name]) for name in chosen}))


files = st.lists(st.tuples(st.sampled_from(SECTIONS), st.lists(st.sampled_from(LINES), max_size=4)), max_size=3).map(
    lambda sections: "".join(f"[{name}]\n" + "".join(f"{line}\n" for line in lines) for name, lines in sections)
)


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(
    environment=some(VARIABLES, 4),
    options=some(OPTIONS, 2),
    keys=st.booleans(),
    config_file=files,
    credentials_file=files,
    bucket=st.sampled_from(BUCKETS),
)
def test_configuration_read_without_the_sdk_equals_the_sdks(
    environment: dict[str, str],
    options: dict[str, Any],
    keys: bool,
    config_file: str,
    credentials_file: str,
    bucket: str,
    tmp_path: Path,
) -> None:
    if keys and "anonymous" not in options:
        options |= {"access_key_id": "AK", "secret_access_key": "SK"}
    try:
        config = S3Config(**options)
    except zs.ConfigError:
        return
    (tmp_path / "config").write_text(config_file)
    (tmp_path / "credentials").write_text(credentials_file)
    environment |= {
        "AWS_CONFIG_FILE": str(tmp_path / "config"),
        "AWS_SHARED_CREDENTIALS_FILE": str(tmp_path / "credentials"),
        "AWS_EC2_METADATA_DISABLED": "true",
        "HOME": str(tmp_path),
    }
    with mock.patch.dict(os.environ, environment, clear=True):
        plain = read_plain(config)
        if plain is None:
            return
        ours = plain.endpoint(bucket)
        found = asyncio.run(_asked(config, bucket, ours is not None))
    if plain.keys is not None:
        assert found.keys == plain.keys
    assert found.region == plain.region
    if ours is not None:
        assert found.endpoint == ours
        assert found.ca_bundle == plain.ca_bundle


class _Found:
    keys: Any = None
    region: str
    endpoint: Any = None
    ca_bundle: str | None = None


async def _asked(config: S3Config, bucket: str, resolve: bool) -> _Found:
    """What the SDK finds for the same configuration."""
    found, session = _Found(), sdk_session(config)
    found.region = session.get_config_variable("region")
    try:
        source = await credentials_of(config, session)
    except StoreError:
        source = None  # no keys: then none may have been read without the SDK, which the caller compares
    if source is not None:
        frozen = await source.get_frozen_credentials()
        found.keys = (frozen.access_key, frozen.secret_key, frozen.token)
    if resolve:
        # Keys do not affect the endpoint, and a missing CA bundle prevents the creation of a client.
        bundle = os.environ.pop("AWS_CA_BUNDLE", None)
        pool = ClientPool(1)
        with mock.patch.dict(os.environ, {"AWS_ACCESS_KEY_ID": "x", "AWS_SECRET_ACCESS_KEY": "y"}):
            client = await pool.pooled(config)
        found.endpoint = await resolve_endpoint(client.sdk, bucket)
        found.ca_bundle = bundle or client.ca_bundle
        await pool.aclose()
    return found


@pytest.fixture
def clean(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    for name in [name for name in os.environ if name.startswith("AWS_") or name.lower().endswith("_proxy")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / ".aws").mkdir()
    return tmp_path / ".aws"


@pytest.mark.parametrize(
    ("environment", "config", "credentials", "options"),
    [
        ({}, "", "", {"anonymous": True}),
        ({}, "", "", {"access_key_id": "AK", "secret_access_key": "SK"}),
        ({"AWS_ACCESS_KEY_ID": "AK", "AWS_SECRET_ACCESS_KEY": "SK"}, "[default]\nregion = eu-west-1\n", "", {}),
        ({}, "[default]\nregion = eu-west-1\n", "[default]\naws_access_key_id=AK\naws_secret_access_key=SK\n", {}),
        ({"AWS_PROFILE": "x"}, "[profile x]\nregion=us-west-2\naws_access_key_id=A\naws_secret_access_key=S\n", "", {}),
        ({"AWS_ENDPOINT_URL": "http://localhost:9000"}, "", "", {"access_key_id": "AK", "secret_access_key": "SK"}),
    ],
)
def test_common_configurations_are_read_without_the_sdk(
    environment: dict[str, str],
    config: str,
    credentials: str,
    options: dict[str, Any],
    clean: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in environment.items():
        monkeypatch.setenv(name, value)
    (clean / "config").write_text(config)
    (clean / "credentials").write_text(credentials)
    plain = read_plain(S3Config(**options))
    assert plain is not None
    assert plain.endpoint("bucket") is not None
    assert options.get("anonymous") or plain.keys is not None
    assert "SK" not in repr(plain)


def test_found_credentials_show_no_secret() -> None:
    plain = read_plain(S3Config(access_key_id="AKIA", secret_access_key="s3cr3t", region="us-east-1"), {})
    assert plain is not None
    for text in (repr(plain), repr(plain.keys), str(plain.keys)):
        assert "s3cr3t" not in text
        assert "AKIA" not in text


PROGRAM = """
import asyncio, os, sys
import zarr_s3_async as zs
async def main():
    try:
        await zs.open_array("s3://bucket/array", retry=None, endpoint_url="http://127.0.0.1:9", {options})
    except zs.NetworkError:
        print(*sorted({{"aiobotocore", "botocore", "aiohttp"}} & sys.modules.keys()))
asyncio.run(main())
"""


@pytest.mark.parametrize("options", ["anonymous=True", "access_key_id='a', secret_access_key='b'", "profile='mine'"])
def test_a_read_does_not_import_the_sdk(options: str, clean: Path) -> None:
    (clean / "credentials").write_text("[mine]\naws_access_key_id=AK\naws_secret_access_key=SK\n")
    program = PROGRAM.format(options=options)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, timeout=60, check=True)
    assert done.stdout == "\n", done.stderr


async def test_configuration_that_only_the_sdk_supports_is_left_to_it(clean: Path) -> None:
    for line in ("s3 =\n  addressing_style = path\n", "use_fips_endpoint = true\n", "services = mine\n"):
        (clean / "config").write_text(f"[default]\n{line}")
        assert read_plain(S3Config()) is None
    (clean / "config").write_text("[default]\nregion = eu-west-1\ncredential_process = false\n")
    plain = read_plain(S3Config())
    assert plain is not None
    assert plain.keys is None
    pool = ClientPool(1)
    with pytest.raises(ZarrS3Error, match="no credentials"):
        await pool.way(S3Config(), "bucket")
    await pool.aclose()
