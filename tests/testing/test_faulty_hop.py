"""FaultyHop: what each fate does to a request, as the client and the server behind see it."""

from __future__ import annotations

import http.client
import socket
from collections.abc import Iterator
from typing import Any

import pytest

import zarr_s3_async as zs
from zarr_s3_async.testing import FaultyHop
from zarr_s3_async.testing.fault_server import FaultServer

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


def ask(hop: FaultyHop, method: str, body: Any = None, **headers: str) -> tuple[int, bytes]:
    client = http.client.HTTPConnection(hop.endpoint_url.removeprefix("http://"), timeout=30)
    try:
        client.request(method, "/data/k", body=body, headers=headers)
        response = client.getresponse()
        return response.status, response.read()
    finally:
        client.close()


def breaks(hop: FaultyHop, method: str, body: Any = None) -> bool:
    with pytest.raises((http.client.HTTPException, OSError)):
        ask(hop, method, body)
    return True


def test_without_faults_everything_passes(behind: FaultServer) -> None:
    with FaultyHop(behind.endpoint_url) as hop:
        assert ask(hop, "PUT", BODY)[0] == 200
        assert ask(hop, "GET") == (200, BODY)
        assert ask(hop, "HEAD") == (200, b"")
        assert ask(hop, "DELETE")[0] == 204
        assert ask(hop, "GET")[0] == 404
        assert hop.count("passed") == hop.count() == 5
        assert hop.count("passed", "GET", "HEAD") == 3


def test_many_requests_pass_on_one_connection(behind: FaultServer) -> None:
    with FaultyHop(behind.endpoint_url) as hop:
        client = http.client.HTTPConnection(hop.endpoint_url.removeprefix("http://"), timeout=30)
        for _ in range(3):
            client.request("PUT", "/data/k", body=BODY)
            assert client.getresponse().read() == b""
        client.close()
        assert hop.connections == 1


def test_a_lost_answer_is_that_of_a_request_that_was_carried_out(behind: FaultServer) -> None:
    with FaultyHop(behind.endpoint_url, lost=1) as hop:
        assert breaks(hop, "PUT", BODY)
        assert behind.get("data", "k") == BODY
        assert breaks(hop, "GET")
        assert breaks(hop, "DELETE")
        assert behind.get("data", "k") is None
        assert (hop.count("lost", "PUT"), hop.count("lost"), hop.count("passed")) == (1, 3, 0)


def test_a_refused_request_is_answered_and_not_passed(behind: FaultServer) -> None:
    with FaultyHop(behind.endpoint_url, refused=1) as hop:
        answers = {ask(hop, "PUT", BODY) for _ in range(20)}
        assert {status for status, _ in answers} == {500, 503}
        assert all(b"<Code>" in body for _, body in answers)
        assert ask(hop, "HEAD")[1] == b""
    assert behind.seen == []


def test_a_reset_request_is_not_passed(behind: FaultServer) -> None:
    with FaultyHop(behind.endpoint_url, reset=1) as hop:
        assert breaks(hop, "PUT", BODY)
        assert breaks(hop, "GET")
        assert hop.count("reset") == 2
    assert behind.seen == []


def test_half_an_upload_is_not_passed(behind: FaultServer) -> None:
    with FaultyHop(behind.endpoint_url) as hop:
        host, port = hop.endpoint_url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as raw:
            raw.sendall(b"PUT /data/k HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\nhalf")
        assert ask(hop, "GET")[0] == 404
    assert [seen.operation for seen in behind.seen] == ["GetObject"]


def test_a_client_that_awaits_100_continue_gets_it(behind: FaultServer) -> None:
    with FaultyHop(behind.endpoint_url) as hop:
        host, port = hop.endpoint_url.removeprefix("http://").split(":")
        with socket.create_connection((host, int(port)), timeout=30) as raw:
            raw.sendall(b"PUT /data/k HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
            assert raw.recv(100).startswith(b"HTTP/1.1 100")
            raw.sendall(b"body")
            assert raw.recv(100).startswith(b"HTTP/1.1 200")
    assert behind.get("data", "k") == b"body"


def test_the_seed_decides_and_nothing_else(behind: FaultServer) -> None:
    def fates(seed: int) -> list[int]:
        with FaultyHop(behind.endpoint_url, lost=0.2, refused=0.2, reset=0.2, seed=seed) as hop:
            told = []
            for _ in range(40):
                try:
                    told.append(ask(hop, "HEAD")[0])
                except (http.client.HTTPException, OSError):
                    told.append(0)
            assert hop.count() == 40
            assert min(hop.count("lost"), hop.count("refused"), hop.count("reset"), hop.count("passed")) > 0
            return told

    assert fates(1) == fates(1) != fates(2)


@pytest.mark.parametrize("rates", [{"lost": -0.1}, {"lost": 0.6, "reset": 0.6}])
def test_rates_are_shares(rates: dict[str, float]) -> None:
    with pytest.raises(ValueError, match="at most 1"):
        FaultyHop("http://127.0.0.1:1", **rates)


@pytest.mark.integration
async def test_signed_requests_pass_to_a_real_server(seaweed: Any, s3_url: str) -> None:
    with FaultyHop(seaweed.endpoint_url, seed=3, lost=0.1, refused=0.1, reset=0.1) as hop:
        config = seaweed.s3_config(endpoint_url=hop.endpoint_url)
        async with zs.Session(s3=config, retry=zs.RetryPolicy(attempts=20, base_delay=0.001)) as session:
            store = session.store(s3_url)
            for number in range(30):
                await store.put(f"k/{number}", b"%d" % number)
            found = [entry.key async for entry in store.list_prefix("k/")]
            assert len(found) == 30
            blob = await store.get("k/7")
            assert blob is not None
            assert bytes(blob.data) == b"7"
        assert hop.count("lost") > 0
