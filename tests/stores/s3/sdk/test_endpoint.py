"""The endpoint is that of botocore's rules, and is resolved without a request."""

import asyncio
import random
from contextlib import asynccontextmanager
from functools import cache

import pytest
from aiobotocore.config import AioConfig
from aiobotocore.session import AioSession
from botocore import UNSIGNED
from botocore.exceptions import NoCredentialsError

from zarr_s3_async.stores.s3.sdk.endpoint import Endpoint, resolve_endpoint

PROXY_VARIABLES = ("http_proxy", "https_proxy", "all_proxy", "no_proxy")


@pytest.fixture(autouse=True)
def _plain_environment(monkeypatch, tmp_path):
    for name in PROXY_VARIABLES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_PROFILE", "AWS_ENDPOINT_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("AWS_CONFIG_FILE", str(tmp_path / "config"))
    monkeypatch.setenv("AWS_SHARED_CREDENTIALS_FILE", str(tmp_path / "credentials"))
    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")


@asynccontextmanager
async def a_client(*, keys=True, region="eu-west-1", endpoint_url=None, **config):
    options = {"aws_access_key_id": "AK", "aws_secret_access_key": "SK"} if keys else {}
    async with _session().create_client(
        "s3", region_name=region, endpoint_url=endpoint_url, config=AioConfig(**config), **options
    ) as client:
        client.meta.events.register("before-send.s3", refuse_to_send)
        yield client


@cache
def _session():
    """One session for all tests: it caches botocore's data files, which take a third of a second to parse."""
    return AioSession()


def refuse_to_send(request, **_):
    raise AssertionError(f"a request for {request.url} would have been sent")


@pytest.mark.parametrize(
    ("options", "bucket", "scheme", "host", "port", "prefix", "region"),
    [
        ({}, "bucket", "https", "bucket.s3.eu-west-1.amazonaws.com", 443, "", "eu-west-1"),
        ({"region": "us-east-1"}, "bucket", "https", "bucket.s3.amazonaws.com", 443, "", "us-east-1"),
        ({}, "dotted.bucket", "https", "s3.eu-west-1.amazonaws.com", 443, "/dotted.bucket", "eu-west-1"),
        (
            {"s3": {"addressing_style": "path"}},
            "bucket",
            "https",
            "s3.eu-west-1.amazonaws.com",
            443,
            "/bucket",
            "eu-west-1",
        ),
        (
            {"s3": {"use_accelerate_endpoint": True}},
            "bucket",
            "https",
            "bucket.s3-accelerate.amazonaws.com",
            443,
            "",
            "eu-west-1",
        ),
        (
            {"use_dualstack_endpoint": True},
            "bucket",
            "https",
            "bucket.s3.dualstack.eu-west-1.amazonaws.com",
            443,
            "",
            "eu-west-1",
        ),
        (
            {"use_fips_endpoint": True, "region": "us-west-2"},
            "bucket",
            "https",
            "bucket.s3-fips.us-west-2.amazonaws.com",
            443,
            "",
            "us-west-2",
        ),
        (
            {"region": "cn-north-1"},
            "bucket",
            "https",
            "bucket.s3.cn-north-1.amazonaws.com.cn",
            443,
            "",
            "cn-north-1",
        ),
        (
            {"endpoint_url": "http://localhost:9000"},
            "bucket",
            "http",
            "localhost",
            9000,
            "/bucket",
            "eu-west-1",
        ),
        (
            {"endpoint_url": "https://store.example/base/"},
            "bucket",
            "https",
            "store.example",
            443,
            "/base/bucket",
            "eu-west-1",
        ),
        ({"endpoint_url": "http://[::1]:9000"}, "bucket", "http", "::1", 9000, "/bucket", "eu-west-1"),
        (
            {"endpoint_url": "https://store.example", "s3": {"addressing_style": "virtual"}},
            "bucket",
            "https",
            "bucket.store.example",
            443,
            "",
            "eu-west-1",
        ),
    ],
)
async def test_the_endpoint_is_that_of_botocores_rules(options, bucket, scheme, host, port, prefix, region):
    """Scheme, host, port, path and region for every shape of address; nothing is sent."""
    async with a_client(**options) as client:
        endpoint = await resolve_endpoint(client, bucket)
    assert endpoint == Endpoint(scheme=scheme, host=host, port=port, path_prefix=prefix, region=region, service="s3")


@pytest.mark.parametrize("mode", ["legacy", "standard", "adaptive"])
async def test_botocore_does_not_retry_the_stopped_request(mode):
    """In every retry mode, botocore does not retry the request that we stop."""
    async with a_client(retries={"mode": mode, "total_max_attempts": 5}) as client:
        seen = []
        client.meta.events.register("before-sign.s3", lambda **kwargs: seen.append(kwargs))
        assert (await resolve_endpoint(client, "bucket")).unsupported is None
    assert len(seen) == 1


async def test_the_endpoint_of_an_anonymous_client_is_resolved():
    """Without a signature, the client's region is used."""
    async with a_client(keys=False, signature_version=UNSIGNED) as client:
        endpoint = await resolve_endpoint(client, "bucket")
    assert (endpoint.region, endpoint.service, endpoint.unsupported) == ("eu-west-1", "s3", None)


async def test_missing_credentials_raise_botocores_error():
    """The caller maps it like every error of the SDK."""
    async with a_client(keys=False) as client:
        with pytest.raises(NoCredentialsError):
            await resolve_endpoint(client, "bucket")


async def a_moment(**_):
    """A handler that delays this request, so that others overtake it."""
    await asyncio.sleep(random.uniform(0.0, 0.02))


async def test_concurrent_resolutions_get_their_own_results():
    """Many buckets resolved concurrently over one client: each result is for its own bucket."""
    async with a_client() as client:
        client.meta.events.register("before-sign.s3", a_moment)
        buckets = [f"bucket-{number}" for number in range(20)]
        endpoints = await asyncio.gather(*[resolve_endpoint(client, bucket) for bucket in buckets])
    assert [endpoint.host.partition(".")[0] for endpoint in endpoints] == buckets


async def test_resolving_does_not_affect_other_requests_of_the_client():
    """A concurrent GetObject of other code is not stopped; afterwards no handler is left registered."""
    async with a_client() as client:
        client.meta.events.register("before-sign.s3", a_moment)

        async def other_request():
            with pytest.raises(AssertionError, match="key-of-other-code would have been sent"):
                await client.get_object(Bucket="bucket", Key="key-of-other-code")

        ours = [resolve_endpoint(client, "bucket") for _ in range(5)]
        await asyncio.gather(*ours, *[other_request() for _ in range(5)])
        await other_request()


@pytest.mark.parametrize(
    ("bucket", "reason"),
    [
        ("name--usw2-az1--x-s3", "S3 Express"),
        ("point--usw2-az1--xa-s3", "S3 Express"),
        ("arn:aws:s3:us-west-2:123456789012:accesspoint/ap", "ARN"),
        ("arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap", "ARN"),
        ("arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-1/accesspoint/ap", "ARN"),
    ],
)
async def test_buckets_of_other_services_are_left_to_the_sdk(bucket, reason):
    """Directory buckets and ARNs are recognised by name: resolving them would send a request or need a library."""
    async with a_client(region="us-west-2") as client:
        endpoint = await resolve_endpoint(client, bucket)
    assert reason in endpoint.unsupported


async def test_clients_with_a_configured_proxy_are_left_to_the_sdk():
    """Proxies of the client's own configuration, for the endpoint's scheme."""
    async with a_client(proxies={"https": "http://proxy.example:3128"}) as client:
        assert "proxy" in (await resolve_endpoint(client, "bucket")).unsupported
    async with a_client(proxies={"http": "http://proxy.example:3128"}) as client:
        assert (await resolve_endpoint(client, "bucket")).unsupported is None


async def test_clients_with_a_proxy_from_the_environment_are_left_to_the_sdk(monkeypatch):
    """The variables are read as botocore reads them, NO_PROXY included."""
    monkeypatch.setenv("https_proxy", "http://proxy.example:3128")
    async with a_client() as client:
        assert "proxy" in (await resolve_endpoint(client, "bucket")).unsupported
        monkeypatch.setenv("no_proxy", ".amazonaws.com")
        assert (await resolve_endpoint(client, "bucket")).unsupported is None


async def test_clients_with_other_signatures_are_left_to_the_sdk():
    """One client signs with version 2, the other has a client certificate."""
    async with a_client(signature_version="s3") as client:
        assert "signature" in (await resolve_endpoint(client, "bucket")).unsupported
    async with a_client(client_cert="/nowhere.pem") as client:
        assert "certificate" in (await resolve_endpoint(client, "bucket")).unsupported


@pytest.mark.parametrize(
    ("scheme", "host", "port", "authority"),
    [
        ("http", "h", 80, "h"),
        ("http", "h", 443, "h:443"),
        ("https", "h", 443, "h"),
        ("https", "::1", 9000, "[::1]:9000"),
    ],
)
def test_the_authority_does_not_contain_the_default_port(scheme, host, port, authority):
    """HTTP clients write the Host header like this, and the signature covers it."""
    assert Endpoint(scheme=scheme, host=host, port=port, path_prefix="", region="us-east-1").authority == authority
