"""Keys, tokens and signatures never appear in a repr, a log line, an event, an error, a pickle or a metric."""

from __future__ import annotations

import asyncio
import copy
import logging
import pickle
import re
import socket
import traceback
import warnings
from collections.abc import AsyncIterator, Callable, Iterator
from contextlib import asynccontextmanager, suppress
from dataclasses import replace
from typing import Any
from xml.sax.saxutils import escape

import numpy as np
import pytest

import zarr_s3_async as zs
from zarr_s3_async.stores.s3.service import S3Service

from ..servers import faults
from ..servers.exchange import Exchange
from ..servers.fault_server import FaultServer

SECRET = "wJalrXUtnFEMIDoNotTell/bPxRfiCY+SECRET"
TOKEN = "FwoGZXIvYXdzDoNotTell/TOKEN+" + "x" * 300 + "=="
PASSWORD = "DoNotTellPassword"
_SIGNATURE = re.compile(r"Signature=([0-9a-f]{64})")


class Output:
    """Collects all output of the package as text."""

    def __init__(self) -> None:
        self.texts: list[str] = []

    def add(self, *things: object) -> None:
        """Add the repr and the str of each object."""
        for thing in things:
            self.texts += [repr(thing), str(thing)]

    def add_error(self, error: BaseException) -> None:
        """Add an error with its chain and attributes, as printed in a traceback and as pickled for another process."""
        self.texts.append("".join(traceback.format_exception(error)))
        chain: list[BaseException] = [error]
        while chain:
            link = chain.pop()
            self.add(link, link.args)
            chain += [other for other in (link.__cause__, link.__context__) if other is not None]
        self.texts.append(pickle.dumps(error).decode("latin-1"))
        self.add(*vars(error).values())

    def holds(self, secret: str) -> list[str]:
        """The texts that contain `secret`, shortened."""
        return [text[:300] for text in self.texts if secret in text]


@pytest.fixture
def output(caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch) -> Iterator[Output]:
    """Collects warnings and the DEBUG logs of this library and asyncio; the SDK's loggers are not covered."""
    for name in ("AWS_ACCESS_KEY_ID", "AWS_SECRET_ACCESS_KEY", "AWS_ENDPOINT_URL", "HTTPS_PROXY", "HTTP_PROXY"):
        monkeypatch.delenv(name, raising=False)
    found = Output()
    caplog.set_level(logging.DEBUG, logger="zarr_s3_async")
    caplog.set_level(logging.DEBUG, logger="asyncio")
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        yield found
        found.add(*(warning.message for warning in caught))
    for record in caplog.records:
        found.add(record.getMessage(), record.args)
    for secret in (SECRET, TOKEN, PASSWORD):
        assert found.holds(secret) == []
    assert len(found.texts) > 3


@pytest.fixture(scope="module")
def server() -> Iterator[FaultServer]:
    with FaultServer(buckets=("data",)) as running:
        yield running


@pytest.fixture(params=["wire", "sdk"])
def config(request: pytest.FixtureRequest, server: FaultServer) -> zs.S3Config:
    server.forget()
    return zs.S3Config(
        endpoint_url=server.endpoint_url,
        region="us-east-1",
        access_key_id="AKIDTEST",
        secret_access_key=SECRET,
        session_token=TOKEN,
        transport=request.param,
    )


def signatures(server: FaultServer) -> set[str]:
    sent = [seen.request.headers.get("authorization", "") for seen in server.seen]
    return {match[1] for text in sent if (match := _SIGNATURE.search(text))}


@asynccontextmanager
async def watched(output: Output, config: zs.S3Config, **options: Any) -> AsyncIterator[zs.Session]:
    """A session whose events and components are all collected."""
    async with zs.Session(s3=config, hooks=(output.add,), **options) as session:
        yield session
        output.add(session, session.metrics, config, config.public(), session._context)
        for service in session._context.shared.values():
            output.add(service, *parts_of(service))


def parts_of(service: Any) -> Iterator[object]:
    if isinstance(service, S3Service):
        yield from (service._pool, *service._routed, *service._capabilities.values(), *service._ways.values())
        for client in service._pool._clients.values():
            yield from (client, client.identity, client.sdk)
        for routed in service._routed:
            yield from (route.wire for route in routed._routes.values())
            yield from (route.wire._connections for route in routed._routes.values() if route.wire)


async def test_successful_operations_show_no_secret(output: Output, config: zs.S3Config, server: FaultServer) -> None:
    asyncio.get_running_loop().set_debug(True)
    async with watched(output, config) as session:
        array = await session.create_array("s3://data/well", shape=(8, 8), chunks=(4, 4), dtype="int32")
        await array.set_slice(np.ones((5, 5), "int32"), start=(0, 0))
        view = array[2:7, 2:7]
        await view
        group = await session.open_group("s3://data", path="") if await session.exists("s3://data") else None
        store = session.s3("data", "well")
        output.add(array, array.ref, array.metadata, array.attrs, view, view.explain(), array.explain(np.s_[0:4]))
        output.add(group, store, await store.list_dir(""), await store.get("zarr.json"))
        output.texts.append(pickle.dumps(array.ref).decode("latin-1"))
        await session.delete("s3://data/well")
    assert len(signatures(server)) > 5
    for signature in signatures(server):
        assert output.holds(signature) == []


def echo(exchange: Exchange) -> None:
    """403 with everything that S3 returns for a wrong signature, and what a careless proxy adds."""
    headers = exchange.request.headers
    everything = "\n".join(f"{name}: {value}" for name, value in headers.items())
    parts = {
        "Code": "SignatureDoesNotMatch",
        "Message": f"The request was:\n{everything}",
        "AWSAccessKeyId": "AKIDTEST",
        "CanonicalRequest": everything,
        "SignatureProvided": headers["authorization"].rpartition("=")[2],
        "Token-0": headers["x-amz-security-token"],
    }
    body = "<Error>" + "".join(f"<{name}>{escape(text)}</{name}>" for name, text in parts.items()) + "</Error>"
    faults.refuse(403, body=body.encode())(exchange)


def echo_page(exchange: Exchange) -> None:
    everything = escape("\n".join(f"{name}: {value}" for name, value in exchange.request.headers.items()))
    faults.refuse(502, body=f"<html>{everything}</html>".encode(), content_type="text/html")(exchange)


def garbage(exchange: Exchange) -> None:
    """Bytes that are not HTTP but contain the request's headers."""
    exchange.write(
        "\r\n".join(f"{name}: {value}" for name, value in exchange.request.headers.items()).encode() + b"\r\n"
    )
    exchange.close()


FAULTS: dict[str, faults.Fault] = {
    "wrong signature": echo,
    "error page": echo_page,
    "garbage": garbage,
    "access denied": faults.access_denied,
    "expired": faults.expired_token,
    "unknown key": faults.refuse(403, "InvalidAccessKeyId"),
    "clock": faults.skewed_clock(7200.0),
    "no bucket": faults.no_such_bucket,
    "region": faults.refuse(301, "PermanentRedirect", x_amz_bucket_region="eu-west-3"),
    "redirect": faults.redirect("http://127.0.0.1:1/data/k"),
    "reset": faults.reset_before_head,
    "closed": faults.close_before_head,
    "stall": faults.stall_before_head,
    "throttled": faults.slow_down,
    "broken body": faults.reset_mid_body,
    "huge page": faults.huge_page,
}


@pytest.mark.parametrize("fault", FAULTS.values(), ids=FAULTS)
async def test_failed_requests_show_no_secret(
    output: Output, config: zs.S3Config, server: FaultServer, fault: faults.Fault
) -> None:
    server.put("data", "fails/k", b"data")
    for operation in ("GetObject", "PutObject", "ListObjectsV2", "DeleteObjects"):
        server.cue(operation, fault, times=99)
    policy = zs.RetryPolicy(attempts=2, base_delay=0.001, max_delay=0.001)
    stalls = fault is faults.stall_before_head
    config = replace(config, attempt_timeout=0.2 if stalls else 10.0)
    async with watched(output, config, retry=policy) as session:
        store = session.s3("data", "fails")
        calls: list[Callable[[], Any]] = [lambda: store.get("k"), lambda: store.put("k", b"1")]
        if not stalls:
            calls += [lambda: store.list_dir(""), lambda: store.delete_many(["k"]), lambda: session.open_array(store)]
        failed = 0
        for call in calls:
            try:
                await call()
            except zs.ZarrS3Error as error:
                failed += 1
                output.add_error(error)
        assert failed > 0
    sent = signatures(server)
    assert sent
    for signature in sent:
        assert output.holds(signature) == []


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_an_unreachable_proxy_shows_no_secret(
    output: Output, config: zs.S3Config, scheme: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The proxy's password is a secret, too."""
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, f"http://user:{PASSWORD}@127.0.0.1:{free_port()}")
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    options = config.public() | {"endpoint_url": f"{scheme}://store.example", "transport": "auto"}
    keys = {"access_key_id": "AKIDTEST", "secret_access_key": SECRET, "session_token": TOKEN}
    async with watched(output, zs.S3Config(**options, **keys), retry=zs.RetryPolicy(attempts=1)) as session:
        with pytest.raises(zs.ZarrS3Error) as caught:
            await session.s3("data").get("k")
    output.add_error(caught.value)


@pytest.mark.parametrize("scheme", ["http", "https"])
async def test_a_proxy_that_refuses_shows_no_secret(
    output: Output, config: zs.S3Config, scheme: str, server: FaultServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """407 for a forwarded request and for a tunnel request."""
    for name in ("HTTP_PROXY", "http_proxy", "HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, server.endpoint_url.replace("http://", f"http://user:{PASSWORD}@"))
    for name in ("NO_PROXY", "no_proxy"):
        monkeypatch.delenv(name, raising=False)
    for operation in ("GetObject", ""):  # CONNECT is not an S3 operation
        server.cue(operation, faults.refuse(407, body=b"<html>who are you?</html>"), times=99)
    options = config.public() | {"endpoint_url": f"{scheme}://store.example", "transport": "auto"}
    keys = {"access_key_id": "AKIDTEST", "secret_access_key": SECRET, "session_token": TOKEN}
    async with watched(output, zs.S3Config(**options, **keys), retry=zs.RetryPolicy(attempts=1)) as session:
        with pytest.raises(zs.ZarrS3Error) as caught:
            await session.s3("data").get("k")
    output.add_error(caught.value)
    (seen,) = server.seen
    credentials = seen.request.headers["proxy-authorization"].removeprefix("Basic ")
    assert output.holds(credentials) == []


async def test_a_failed_tls_handshake_shows_no_secret(output: Output, config: zs.S3Config, server: FaultServer) -> None:
    """The server speaks plain HTTP where the client expects TLS."""
    keys = {"access_key_id": "AKIDTEST", "secret_access_key": SECRET, "session_token": TOKEN}
    url = server.endpoint_url.replace("http://", "https://")
    options = config.public() | {"endpoint_url": url, "connect_timeout": 0.3, "attempt_timeout": 0.3}
    async with watched(output, zs.S3Config(**options, **keys), retry=zs.RetryPolicy(attempts=1)) as session:
        with pytest.raises(zs.ZarrS3Error) as caught:
            await session.s3("data").get("k")
    output.add_error(caught.value)


WRONG: list[dict[str, Any]] = [
    {"access_key_id": "AKID"},
    {"access_key_id": "AKID", "secret_access_key": SECRET, "anonymous": True},
    {"secret_access_key": SECRET},
    {"session_token": TOKEN},
    {"access_key_id": "AKID", "secret_access_key": SECRET, "transport": "pigeon"},
    {"access_key_id": "AKID", "secret_access_key": SECRET, "attempt_timeout": -1},
    {"endpoint_url": f"https://user:{PASSWORD}@store.example"},
    {"endpoint_url": f"user:{PASSWORD}@store.example:9000"},
    {"endpoint_url": f"ftp://user:{PASSWORD}@store.example"},
    {"endpoint_url": f"https://store.example/?X-Amz-Security-Token={PASSWORD}"},
    {"endpoint_url": f"https://store.example/#{PASSWORD}"},
    {"endpoint_url": f"https://[{PASSWORD}"},
    {"endpoint_url": f"https://store.example:{PASSWORD}"},
]


@pytest.mark.parametrize("options", WRONG, ids=range(len(WRONG)))
def test_wrong_options_show_no_secret(output: Output, options: dict[str, Any]) -> None:
    with pytest.raises(zs.ConfigError) as caught:
        zs.S3Config(**options)
    output.add_error(caught.value)
    with suppress(zs.ConfigError):
        zs.Session(**options)
        pytest.fail("a session takes what S3Config refuses")


@pytest.mark.parametrize("variable", ["AWS_ENDPOINT_URL", "AWS_ENDPOINT_URL_S3"])
async def test_a_password_in_the_environment_is_not_shown(
    output: Output, variable: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(variable, f"https://user:{PASSWORD}@store.example")
    config = zs.S3Config(access_key_id="AKID", secret_access_key=SECRET)
    async with watched(output, config) as session:
        with pytest.raises(zs.ConfigError, match="environment") as caught:
            await session.s3("data").get("k")
    output.add_error(caught.value)


def test_options_with_keys_do_not_pickle_and_others_do(output: Output) -> None:
    config = zs.S3Config(region="eu-west-1", access_key_id="AKID", secret_access_key=SECRET, session_token=TOKEN)
    for protocol in range(pickle.HIGHEST_PROTOCOL + 1):
        with pytest.raises(zs.ConfigError, match="cannot be pickled") as caught:
            pickle.dumps(config, protocol)
        output.add_error(caught.value)
    public = zs.S3Config(**config.public())
    output.add(public)
    for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
        data = pickle.dumps(public, protocol)
        output.texts.append(data.decode("latin-1"))
        assert pickle.loads(data) == public
    assert copy.copy(config) is config
    assert copy.deepcopy([config])[0] is config
