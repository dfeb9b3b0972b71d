"""FaultyProxy: what each outcome does to a request, as seen by the client and by the upstream server."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from typing import Any

import pytest

import zarr_s3_async as zs

from .fault_server import FaultServer
from .faulty_proxy import FaultyProxy

BODY = bytes(range(256)) * 400


@pytest.fixture(scope="module")
def running() -> Iterator[FaultServer]:
    with FaultServer(buckets=("data",)) as server:
        yield server


@pytest.fixture
def behind(running: FaultServer) -> FaultServer:
    running.remove("data", "k")
    running.forget()
    return running


def ask(proxy: FaultyProxy, method: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
    client = http.client.HTTPConnection(proxy.endpoint_url.removeprefix("http://"), timeout=30)
    try:
        client.request(method, "/data/k", body=body, headers=headers)
        response = client.getresponse()
        return response.status, response.read()
    finally:
        client.close()


def breaks(proxy: FaultyProxy, method: str, body: Any = None) -> bool:
    with pytest.raises((http.client.HTTPException, OSError)):
        ask(proxy, method, body)
    return True


def test_without_faults_all_requests_are_forwarded(behind: FaultServer) -> None:
    with FaultyProxy(behind.endpoint_url) as proxy:
        assert ask(proxy, "PUT", BODY)[0] == 200
        assert ask(proxy, "GET") == (200, BODY)
        assert ask(proxy, "HEAD") == (200, b"")
        assert ask(proxy, "DELETE")[0] == 204
        assert ask(proxy, "GET")[0] == 404
        assert proxy.count("passed") == proxy.count() == 5
        assert proxy.count("passed", "GET", "HEAD") == 3


def test_many_requests_are_forwarded_on_one_connection(behind: FaultServer) -> None:
    with FaultyProxy(behind.endpoint_url) as proxy:
        client = http.client.HTTPConnection(proxy.endpoint_url.removeprefix("http://"), timeout=30)
        for _ in range(3):
            client.request("PUT", "/data/k", body=BODY)
            assert client.getresponse().read() == b""
        client.close()
        assert proxy.connections == 1


def test_a_request_with_a_lost_response_is_carried_out(behind: FaultServer) -> None:
    with FaultyProxy(behind.endpoint_url, lost=1) as proxy:
        assert breaks(proxy, "PUT", BODY)
        assert behind.get("data", "k") == BODY
        assert breaks(proxy, "GET")
        assert breaks(proxy, "DELETE")
        assert behind.get("data", "k") is None
        assert (proxy.count("lost", "PUT"), proxy.count("lost"), proxy.count("passed")) == (1, 3, 0)


def test_a_refused_request_is_answered_and_not_forwarded(behind: FaultServer) -> None:
    with FaultyProxy(behind.endpoint_url, refused=1) as proxy:
        answers = {ask(proxy, "PUT", BODY) for _ in range(20)}
        assert {status for status, _ in answers} == {500, 503}
        assert all(b"<Code>" in body for _, body in answers)
        assert ask(proxy, "HEAD")[1] == b""
    assert behind.seen == []


def test_a_reset_request_is_not_forwarded(behind: FaultServer) -> None:
    with FaultyProxy(behind.endpoint_url, reset=1) as proxy:
        assert breaks(proxy, "PUT", BODY)
        assert breaks(proxy, "GET")
        assert proxy.count("reset") == 2
    assert behind.seen == []


def test_only_conditional_writes_get_a_conflict(behind: FaultServer) -> None:
    with FaultyProxy(behind.endpoint_url, conflict=1) as proxy:
        assert ask(proxy, "PUT", BODY)[0] == 200
        behind.forget()
        status, body = ask(proxy, "PUT", b"else", **{"If-None-Match": "*"})
        assert (status, b"<Code>ConditionalRequestConflict</Code>" in body) == (409, True)
        assert ask(proxy, "DELETE", **{"If-Match": '"1"'})[0] == 409
        assert behind.seen == []
        assert ask(proxy, "GET", **{"If-Match": '"1"'})[0] == 412, "S3 never answers a read with 409"
        assert (proxy.count("conflict"), proxy.count("passed")) == (2, 2)


def test_an_incomplete_upload_is_not_forwarded(behind: FaultServer) -> None:
    with FaultyProxy(behind.endpoint_url) as proxy:
        host, port = proxy.endpoint_url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as raw:
            raw.sendall(b"PUT /data/k HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
        assert ask(proxy, "GET")[0] == 404
    assert [seen.operation for seen in behind.seen] == ["GetObject"]


def test_the_faulty_proxy_sends_100_continue(behind: FaultServer) -> None:
    with FaultyProxy(behind.endpoint_url) as proxy:
        host, port = proxy.endpoint_url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as raw:
            raw.sendall(b"PUT /data/k HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
            assert raw.recv(100).startswith(b"HTTP/1.1 100")
            raw.sendall(b"body")
            assert raw.recv(100).startswith(b"HTTP/1.1 200")
    assert behind.get("data", "k") == b"body"


def test_the_outcomes_depend_only_on_the_seed(behind: FaultServer) -> None:
    def statuses_with(seed: int) -> list[int]:
        with FaultyProxy(behind.endpoint_url, lost=0.2, refused=0.2, reset=0.2, seed=seed) as proxy:
            statuses = []
            for _ in range(40):
                try:
                    statuses.append(ask(proxy, "HEAD")[0])
                except (http.client.HTTPException, OSError):
                    statuses.append(0)
            assert proxy.count() == 40
            assert min(proxy.count("lost"), proxy.count("refused"), proxy.count("reset"), proxy.count("passed")) > 0
            return statuses

    assert statuses_with(1) == statuses_with(1) != statuses_with(2)


@pytest.mark.parametrize("rates", [{"lost": -0.1}, {"lost": 0.6, "reset": 0.6}])
def test_rates_that_are_no_fractions_are_refused(rates: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="at most 1"):
        FaultyProxy("http://127.0.0.1:1", **rates)


@pytest.mark.integration
async def test_signed_requests_are_forwarded_to_a_real_server(seaweed: Any, s3_url: str) -> None:
    with FaultyProxy(seaweed.endpoint_url, seed=3, lost=0.1, refused=0.1, reset=0.1) as proxy:
        config = seaweed.s3_config(endpoint_url=proxy.endpoint_url)
        async with zs.Session(s3=config, retry=zs.RetryPolicy(attempts=20, base_delay=0.001)) as session:
            store = session.store(s3_url)
            for number in range(30):
                await store.put(f"k/{number}", b"%d" % number)
            found = [entry.key async for entry in store.list_prefix("k/")]
            assert len(found) == 30
            blob = await store.get("k/7")
            assert blob is not None
            assert bytes(blob.data) == b"7"
        assert proxy.count("lost") > 0
