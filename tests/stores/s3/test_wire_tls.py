"""The wire over TLS: which certificates it trusts, and that everything works as over plain TCP."""

import asyncio
import ssl

import pytest

from zarr_s3_async._http.dial import tls_context
from zarr_s3_async.errors import ConfigError, NetworkError
from zarr_s3_async.stores.s3.request import Request
from zarr_s3_async.testing._certificate import make_certificate

from .wire_server import ScriptedServer, answering, response

GET = Request("GetObject", "bucket", "key")
BIG = bytes(range(256)) * 8192


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    return make_certificate(tmp_path_factory.mktemp("tls"))


@pytest.fixture(scope="module")
def server_side(certificate):
    context = ssl.create_default_context(ssl.Purpose.CLIENT_AUTH)
    context.load_cert_chain(certificate.chain, certificate.key)
    return context


async def ask(server, *requests, **options):
    wire = server.wire(**options)
    try:
        return [await wire.send(request) for request in requests]
    finally:
        await wire.aclose()


def test_bodies_of_all_sizes_are_received_over_one_tls_connection(run, certificate, server_side):
    """They are received into sinks and into buffers; payloads are sent unsigned."""
    memory = bytearray(len(BIG))
    answers = [response(BIG[:10]), response(BIG), response(BIG), response(b"")]
    requests = [
        GET,
        GET,
        Request("GetObject", "bucket", "k", sink=lambda _: memoryview(memory)),
        Request("PutObject", "bucket", "k", payload=memoryview(BIG)),
    ]
    with ScriptedServer(answering(*answers), tls=server_side) as server:
        got = run(ask(server, *requests, ca_bundle=str(certificate.authority)))
    assert [bytes(answer.body) for answer in got] == [BIG[:10], BIG, BIG, b""]
    assert memory == BIG
    assert server.connections == 1
    assert "x-amz-content-sha256: UNSIGNED-PAYLOAD" in server.requests[3]
    assert "x-amz-content-sha256: e3b0c442" in server.requests[0]


def test_an_unknown_authority_is_refused(run, server_side):
    """The system does not trust the test authority; nothing of the request is sent."""
    refused = pytest.raises(NetworkError, match="certificate verify failed")
    with ScriptedServer(answering(response()), tls=server_side) as server, refused:
        run(ask(server, GET))
    assert server.requests == []


def test_a_certificate_of_another_name_is_refused(run, certificate, server_side, monkeypatch):
    """The authority is trusted, but the name is not the endpoint's."""
    with ScriptedServer(answering(response()), tls=server_side) as server:

        def here(*_, **__):
            return [(2, 1, 6, "", ("127.0.0.1", server.port))]

        monkeypatch.setattr("zarr_s3_async._http.dial.socket.getaddrinfo", here)
        endpoint = server.endpoint(host="bucket.s3.amazonaws.com")
        with pytest.raises(NetworkError, match=r"[Hh]ostname mismatch|certificate is not valid"):
            run(ask(server, GET, endpoint=endpoint, ca_bundle=str(certificate.authority)))
    assert server.requests == []


@pytest.mark.parametrize("content", [None, "no certificate"])
def test_an_invalid_ca_bundle_is_a_config_error(run, server_side, tmp_path, content):
    """The file is missing or not PEM; the message names it."""
    bundle = tmp_path / "bundle.pem"
    if content is not None:
        bundle.write_text(content)
    refused = pytest.raises(ConfigError, match=r"bundle\.pem")
    with ScriptedServer(answering(response()), tls=server_side) as server, refused:
        run(ask(server, GET, ca_bundle=str(bundle)))


def test_requests_share_one_tls_context(run, certificate, server_side):
    """It is created once per wire, in a thread, by the given function."""
    made = []

    def make():
        made.append(tls_context(str(certificate.authority)))
        return made[-1]

    async def many(server):
        wire = server.wire(tls=make)
        try:
            return await asyncio.gather(*[wire.send(GET) for _ in range(8)])
        finally:
            await wire.aclose()

    with ScriptedServer(answering(response(b"a")), tls=server_side) as server:
        assert [answer.body for answer in run(many(server))] == [b"a"] * 8
    assert len(made) == 1


def test_faults_over_tls_are_network_errors(run, certificate, server_side):
    """A truncated body, then bytes that are not HTTP: the wire continues to work."""

    def script(peer):
        peer.request()
        if peer.number == 0:
            peer.send(response(BIG)[:1_000_000])
        elif peer.number == 1:
            peer.send(response(b"a") + b"more")
        else:
            peer.send(response(b"fine"))

    async def main(server):
        wire = server.wire(ca_bundle=str(certificate.authority))
        try:
            for _ in range(2):
                with pytest.raises(NetworkError):
                    await wire.send(GET)
            return await wire.send(GET)
        finally:
            await wire.aclose()

    with ScriptedServer(script, tls=server_side) as server:
        assert run(main(server)).body == b"fine"


def test_a_request_cancelled_over_tls_writes_no_more_into_the_sink(run, certificate, server_side):
    """Decrypted bytes still in the TLS layer are discarded."""
    memory = bytearray(len(BIG))

    def script(peer):
        peer.request()
        peer.send(response(BIG)[:1_000_000])
        peer.wait_for_hang_up()

    async def main(server):
        wire = server.wire(ca_bundle=str(certificate.authority))
        request = Request("GetObject", "bucket", "k", sink=lambda _: memoryview(memory))
        task = asyncio.ensure_future(wire.send(request))
        while not any(memory):
            await asyncio.sleep(0.001)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        before = bytes(memory)
        await asyncio.sleep(0.02)
        assert memory == before
        await wire.aclose()

    with ScriptedServer(script, tls=server_side) as server:
        run(main(server))


@pytest.mark.parametrize("turns", range(0, 60, 6))
def test_the_wire_works_after_a_cancelled_handshake(run, certificate, server_side, turns):
    """The request is cancelled in any iteration of the loop; the pool has one connection."""

    async def main(server):
        wire = server.wire(max_connections=1, ca_bundle=str(certificate.authority))
        task = asyncio.ensure_future(wire.send(GET))
        for _ in range(turns):
            await asyncio.sleep(0.0002)
        task.cancel()
        await asyncio.wait([task])
        answer = await wire.send(GET)
        await wire.aclose()
        return answer

    with ScriptedServer(answering(response(b"a")), tls=server_side) as server:
        assert run(main(server)).body == b"a"


def test_authorities_without_key_usage_are_trusted_as_the_sdk_does():
    assert not tls_context().verify_flags & ssl.VERIFY_X509_STRICT
