"""What is sent where: host, path, region and headers of requests, captured after a real TLS handshake."""

from __future__ import annotations

import logging
import os
import threading
from base64 import b64decode
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing, suppress
from hashlib import md5
from pathlib import Path
from socket import create_connection
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest

import zarr_s3_async as zs
from zarr_s3_async.errors import ConfigError, NetworkError, Unsupported

from .amazon import Amazon, Captured, amazon, captured
from .wire_server import Peer, ScriptedServer, response

KEYS = {"access_key_id": "AKIDTEST", "secret_access_key": "secret", "region": "eu-west-1"}
TRANSPORTS = ("wire", "sdk")
NOTHING: Mapping[str, Any] = MappingProxyType({})
ACCESS_POINT = "arn:aws:s3:us-west-2:123456789012:accesspoint/ap"
OUTPOST = "arn:aws:s3-outposts:us-west-2:123456789012:outpost/op-01234567890123456/accesspoint/ap"
EXPRESS = "name--usw2-az1--x-s3"


class Place(NamedTuple):
    """Where requests for a bucket are expected."""

    host: str
    root: str = "/"
    region: str = "eu-west-1"
    bucket: str = "bucket"
    options: Mapping[str, Any] = NOTHING
    variables: Mapping[str, str] = NOTHING


PLACES = {
    "virtual-hosted": Place("bucket.s3.eu-west-1.amazonaws.com"),
    "us-east-1": Place("bucket.s3.amazonaws.com", region="us-east-1", options={"region": "us-east-1"}),
    "path-style": Place("s3.eu-west-1.amazonaws.com", "/bucket/", options={"addressing_style": "path"}),
    "a dotted bucket": Place("s3.eu-west-1.amazonaws.com", "/dotted.bucket/", bucket="dotted.bucket"),
    "accelerate": Place("bucket.s3-accelerate.amazonaws.com", options={"accelerate": True}),
    "dual-stack": Place("bucket.s3.dualstack.eu-west-1.amazonaws.com", options={"dualstack": True}),
    "accelerate, dual-stack": Place(
        "bucket.s3-accelerate.dualstack.amazonaws.com", options={"accelerate": True, "dualstack": True}
    ),
    "dual-stack by variable": Place(
        "bucket.s3.dualstack.eu-west-1.amazonaws.com", variables={"AWS_USE_DUALSTACK_ENDPOINT": "true"}
    ),
    "FIPS": Place(
        "bucket.s3-fips.us-west-2.amazonaws.com",
        region="us-west-2",
        options={"region": "us-west-2"},
        variables={"AWS_USE_FIPS_ENDPOINT": "true"},
    ),
    "FIPS, dual-stack": Place(
        "bucket.s3-fips.dualstack.us-west-2.amazonaws.com",
        region="us-west-2",
        options={"region": "us-west-2", "dualstack": True},
        variables={"AWS_USE_FIPS_ENDPOINT": "true"},
    ),
    "China": Place("bucket.s3.cn-north-1.amazonaws.com.cn", region="cn-north-1", options={"region": "cn-north-1"}),
    "a custom endpoint": Place(
        "store.example", "/base/bucket/", options={"endpoint_url": "https://store.example/base"}
    ),
    "an alias of an access point": Place("ap-abc-s3alias.s3.eu-west-1.amazonaws.com", bucket="ap-abc-s3alias"),
}
BY_SDK = {
    ACCESS_POINT: Place("ap-123456789012.s3-accesspoint.us-west-2.amazonaws.com", bucket=ACCESS_POINT),
    OUTPOST: Place("ap-123456789012.op-01234567890123456.s3-outposts.us-west-2.amazonaws.com", bucket=OUTPOST),
    EXPRESS: Place(f"{EXPRESS}.s3express-usw2-az1.us-west-2.amazonaws.com", bucket=EXPRESS),
}
MULTI_REGION = "arn:aws:s3::123456789012:accesspoint/mfzwi23gnjvgw.mrap"


@pytest.fixture(scope="module")
def shared_amazon(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Amazon]:
    hosts = sorted({place.host for place in (*PLACES.values(), *BY_SDK.values())})
    with amazon(tmp_path_factory.mktemp("amazon"), hosts) as server:
        yield server


@pytest.fixture
def s3(shared_amazon: Amazon, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Amazon:
    return shared_amazon.isolated(monkeypatch, tmp_path / "config")


def config(s3: Amazon, **options: Any) -> zs.S3Config:
    keys = {} if options.get("anonymous") else KEYS
    return zs.S3Config(**{"ca_bundle": str(s3.certificate.authority), "region": "eu-west-1", **keys, **options})


async def everything(store: zs.Store) -> None:
    """One request of each kind."""
    blob = await store.get("a/k 1")
    assert blob is not None
    assert bytes(blob.data) == b"data"
    await store.put("a/k 1", b"payload")
    await store.delete("a/k 1")
    await store.list_dir("a")
    await store.delete_many(["k"])


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("place", PLACES.values(), ids=PLACES)
async def test_requests_go_to_the_right_host_and_path(
    place: Place, transport: str, s3: Amazon, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in place.variables.items():
        monkeypatch.setenv(name, value)
    async with zs.Session(s3=config(s3, transport=transport, **place.options)) as session:
        await everything(session.s3(place.bucket))
    get, put, delete, listing, delete_many = s3.requests
    assert [(requested.method, requested.target.partition("?")[0]) for requested in (get, put, delete)] == [
        (method, f"{place.root}a/k%201") for method in ("GET", "PUT", "DELETE")
    ]
    assert listing.target.startswith((f"{place.root}?", f"{place.root.rstrip('/')}?"))
    assert delete_many.method == "POST"
    assert {requested.headers["host"] for requested in s3.requests} == {place.host}
    assert {requested.scope for requested in s3.requests} == {("AKIDTEST", place.region, "s3")}
    assert set(s3.looked_up) == {place.host}


async def test_a_bulk_delete_on_s3_compatible_servers_has_content_md5(s3: Amazon) -> None:
    """Signed Content-MD5; botocore sends only newer checksums, which Amazon accepts."""
    for options in ({}, {"endpoint_url": "https://store.example"}):
        async with zs.Session(s3=config(s3, **options)) as session:
            await session.s3("bucket").delete_many(["k"])
    amazons, s3_compatible = s3.requests
    assert "content-md5" not in amazons.headers
    assert b64decode(s3_compatible.headers["content-md5"]) == md5(s3.bodies[1], usedforsecurity=False).digest()
    assert "content-md5" in s3_compatible.headers["authorization"]


class Extra(NamedTuple):
    """The headers that an option adds, and to which requests."""

    options: Mapping[str, Any]
    everywhere: Mapping[str, str] = NOTHING
    on_put: Mapping[str, str] = NOTHING


KMS_KEY = "arn:aws:kms:eu-west-1:123456789012:key/0000"
EXTRAS = {
    "nothing": Extra({}),
    "requester pays": Extra({"requester_pays": True}, {"x-amz-request-payer": "requester"}),
    "SSE-S3": Extra({"sse": "AES256"}, on_put={"x-amz-server-side-encryption": "AES256"}),
    "SSE-KMS": Extra(
        {"sse": "aws:kms", "sse_kms_key_id": KMS_KEY},
        on_put={
            "x-amz-server-side-encryption": "aws:kms",
            "x-amz-server-side-encryption-aws-kms-key-id": KMS_KEY,
        },
    ),
    "storage class": Extra({"storage_class": "STANDARD_IA"}, on_put={"x-amz-storage-class": "STANDARD_IA"}),
    "session token": Extra({"session_token": "T0KEN+/="}, {"x-amz-security-token": "T0KEN+/="}),
}
_OURS = ("x-amz-request-payer", "x-amz-server-side", "x-amz-storage", "x-amz-security", "if-")


def extras(requested: Captured) -> dict[str, str]:
    return {name: value for name, value in requested.headers.items() if name.startswith(_OURS)}


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("extra", EXTRAS.values(), ids=EXTRAS)
async def test_every_option_adds_its_headers(extra: Extra, transport: str, s3: Amazon) -> None:
    async with zs.Session(s3=config(s3, transport=transport, **extra.options)) as session:
        await everything(session.s3("bucket"))
    get, put, *others = s3.requests
    assert extras(put) == {**extra.everywhere, **extra.on_put}
    for requested in (get, *others):
        assert extras(requested) == extra.everywhere
    for requested in s3.requests:
        signed = requested.headers["authorization"].partition("SignedHeaders=")[2].partition(",")[0].split(";")
        assert set(extras(requested)) <= set(signed), "all headers sent are signed"


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_anonymous_requests_are_not_signed(transport: str, s3: Amazon, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_ACCESS_KEY_ID", "AKIDENV")
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "s")
    async with zs.Session(s3=config(s3, transport=transport, anonymous=True)) as session:
        await everything(session.s3("bucket"))
    for requested in s3.requests:
        assert "authorization" not in requested.headers
        assert "x-amz-security-token" not in requested.headers
        assert "AKIDENV" not in str(requested)


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_amazon_is_not_probed_for_conditional_writes(transport: str, s3: Amazon) -> None:
    async with zs.Session(s3=config(s3, transport=transport, conditional_writes="require")) as session:
        version = await session.s3("bucket").put("k", b"1", when="absent")
        await session.s3("bucket").put("k", b"2", when=version)
    first, second = s3.requests
    assert first.headers["if-none-match"] == "*"
    assert second.headers["if-match"] == '"e"'


# TLS trust


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_certificate_of_an_unknown_authority_is_refused(transport: str, s3: Amazon) -> None:
    policy = zs.RetryPolicy(attempts=1)
    async with zs.Session(s3=config(s3, transport=transport, ca_bundle=None), retry=policy) as session:
        with pytest.raises(NetworkError, match=r"(?i)certificate.verify.failed"):
            await session.s3("bucket").get("k")
    assert s3.requests == []


def by_profile(s3: Amazon, monkeypatch: pytest.MonkeyPatch) -> None:
    del monkeypatch
    Path(os.environ["AWS_CONFIG_FILE"]).write_text(f"[default]\nca_bundle = {s3.certificate.authority}\n")


def by_variable(name: str) -> Callable[[Amazon, pytest.MonkeyPatch], None]:
    return lambda s3, monkeypatch: monkeypatch.setenv(name, str(s3.certificate.authority))


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize(
    "configure",
    [by_variable("AWS_CA_BUNDLE"), by_variable("REQUESTS_CA_BUNDLE"), by_profile],
    ids=["AWS_CA_BUNDLE", "REQUESTS_CA_BUNDLE", "profile"],
)
async def test_an_authority_may_be_configured_by_profile_or_environment(
    configure: Any, transport: str, s3: Amazon, monkeypatch: pytest.MonkeyPatch
) -> None:
    configure(s3, monkeypatch)
    async with zs.Session(s3=config(s3, transport=transport, ca_bundle=None)) as session:
        assert await session.s3("bucket").get("k")


@pytest.mark.parametrize("transport", TRANSPORTS)
async def test_a_certificate_of_another_host_is_refused(transport: str, s3: Amazon) -> None:
    policy = zs.RetryPolicy(attempts=1)
    async with zs.Session(s3=config(s3, transport=transport), retry=policy) as session:
        with pytest.raises(NetworkError, match=r"(?i)certificate"):
            await session.s3("another-bucket").get("k")
    assert s3.requests == []


# What the wire does not support


@pytest.mark.parametrize("place", BY_SDK.values(), ids=["access point", "outpost", "S3 Express"])
async def test_requests_that_the_wire_does_not_support_use_the_sdk_and_are_logged_once(
    place: Place, s3: Amazon, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO, logger="zarr_s3_async")
    async with zs.Session(s3=config(s3, region="us-west-2")) as session:
        for store in (session.s3(place.bucket, "a"), session.store(f"s3://{place.bucket}/a")):
            blob = await store.get("k 1")
            assert blob is not None
            await store.put("k 1", b"payload")
    requested = [request for request in s3.requests if request.target != "/?session"]
    assert [request.target.partition("?")[0] for request in requested] == ["/a/k%201"] * 4
    assert {request.headers["host"] for request in s3.requests} == {place.host}
    if place.bucket == EXPRESS:
        assert {request.headers["x-amz-s3session-token"] for request in requested} == {"express-token"}
        assert {request.scope for request in requested} == {("ASIAEXPRESS", "us-west-2", "s3express")}
    lines = [record.getMessage() for record in caplog.records if "goes through the SDK" in record.getMessage()]
    assert len(lines) == 1
    assert place.bucket in lines[0]


@pytest.mark.parametrize("bucket", [*BY_SDK, MULTI_REGION])
async def test_transport_wire_refuses_what_it_does_not_support(bucket: str, s3: Amazon) -> None:
    async with zs.Session(s3=config(s3, region="us-west-2", transport="wire")) as session:
        with pytest.raises(Unsupported, match="transport='auto'"):
            await session.s3(bucket).get("k")
    assert s3.looked_up == []


async def test_a_multi_region_access_point_needs_awscrt(s3: Amazon) -> None:
    pytest.importorskip("botocore")
    with suppress(ImportError):
        import awscrt  # noqa: F401

        pytest.skip("awscrt is installed here")
    async with zs.Session(s3=config(s3, region="us-west-2")) as session:
        with pytest.raises(ConfigError, match="crt"):
            await session.s3(MULTI_REGION).get("k")
    assert s3.requests == []


@pytest.mark.parametrize(
    "bucket",
    ["arn:aws:s3:us-west-2:123456789012:bucket/b", "arn:aws:sqs:us-west-2:123456789012:q", "arn:"],
)
async def test_an_arn_of_something_else_is_refused(bucket: str) -> None:
    async with zs.Session(anonymous=True) as session:
        with pytest.raises(ConfigError, match=r"accesspoint/name|no bucket name"):
            session.s3(bucket, "prefix")


# Proxies


class Proxy(ScriptedServer):
    """Tunnels to one local port, and answers plain requests itself."""

    def __init__(self, port: int) -> None:
        super().__init__(self._pass)
        self._behind = port

    def _pass(self, peer: Peer) -> None:
        while True:
            head, _ = peer.request()
            if not head.startswith("CONNECT "):
                peer.send(response(b"by proxy"))
                continue
            peer.send(b"HTTP/1.1 200 Connection established\r\n\r\n")
            with closing(create_connection(("127.0.0.1", self._behind))) as onward:
                back = threading.Thread(target=_pump, args=(onward, peer.sock))
                back.start()
                _pump(peer.sock, onward)
                back.join()
            return


def _pump(source: Any, target: Any) -> None:
    with suppress(OSError):
        while data := source.recv(1 << 16):
            target.sendall(data)
    for end in (source, target):
        with suppress(OSError):
            end.shutdown(2)


@pytest.fixture
def proxy(s3: Amazon) -> Iterator[Proxy]:
    with Proxy(s3.server.port) as server:
        yield server


async def test_https_requests_use_the_tunnel_of_a_proxy(
    s3: Amazon, proxy: Proxy, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """The proxy sees the host name and its own password, but not the signature."""
    caplog.set_level(logging.INFO, logger="zarr_s3_async")
    monkeypatch.setenv("HTTPS_PROXY", f"http://user:word@127.0.0.1:{proxy.port}")
    async with zs.Session(s3=config(s3)) as session:
        await everything(session.s3("bucket"))
    assert len(s3.requests) == 5
    (head,) = set(proxy.requests)
    assert head.startswith("CONNECT bucket.s3.eu-west-1.amazonaws.com:443 ")
    assert "Proxy-Authorization: Basic dXNlcjp3b3Jk" in head
    assert "AKIDTEST" not in head
    assert not any("proxy-authorization" in requested.headers for requested in s3.requests)
    assert len([r for r in caplog.records if "a proxy is configured" in r.getMessage()]) == 1


async def test_http_requests_are_forwarded_by_a_proxy(
    s3: Amazon, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTP_PROXY", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("http_proxy", f"http://127.0.0.1:{proxy.port}")
    async with zs.Session(s3=config(s3, endpoint_url="http://store.example")) as session:
        blob = await session.s3("bucket").get("k")
    assert blob is not None
    assert bytes(blob.data) == b"by proxy"
    (head,) = proxy.requests
    requested = captured(head)
    assert (requested.method, requested.target) == ("GET", "http://store.example/bucket/k")
    assert requested.scope == ("AKIDTEST", "eu-west-1", "s3")


@pytest.mark.parametrize("transport", TRANSPORTS)
@pytest.mark.parametrize("without", ["*", ".amazonaws.com", "s3.eu-west-1.amazonaws.com"])
async def test_no_proxy_in_the_environment_is_respected(
    without: str, transport: str, s3: Amazon, proxy: Proxy, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    monkeypatch.setenv("NO_PROXY", without)
    async with zs.Session(s3=config(s3, transport=transport)) as session:
        await everything(session.s3("bucket"))
    assert proxy.requests == []
    assert len(s3.requests) == 5


async def test_transport_wire_refuses_a_proxy(s3: Amazon, proxy: Proxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HTTPS_PROXY", f"http://127.0.0.1:{proxy.port}")
    async with zs.Session(s3=config(s3, transport="wire")) as session:
        with pytest.raises(Unsupported, match="proxy"):
            await session.s3("bucket").get("k")
    assert proxy.requests == []
    assert s3.requests == []
