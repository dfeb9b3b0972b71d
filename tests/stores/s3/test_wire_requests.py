"""Requests on the wire, over real sockets, on asyncio and uvloop: method, path, headers, signature and body."""

from types import SimpleNamespace

import pytest

from zarr_s3_async.errors import ConfigError, Unsupported
from zarr_s3_async.stores.s3.request import Request
from zarr_s3_async.stores.s3.wire import Wire

from .wire_server import GET, ScriptedServer, answering, endpoint_on, keys, response, sent


def test_each_operation_sends_the_request_of_the_s3_api(run):
    """Method, path, query, headers, length and body are compared."""
    upload = {"partNumber": "7", "uploadId": "a+b/c"}
    requests = [
        Request("GetObject", "bucket", "a b/c+d~é//%41", {"range": "bytes=0-3"}),
        Request("HeadObject", "bucket", "k"),
        Request("PutObject", "bucket", "k", {"if-none-match": "*", "x-amz-meta-w": "1"}, payload=b"data"),
        Request("PutObject", "bucket", "empty", payload=b""),
        Request("UploadPart", "bucket", "k", {}, upload, payload=memoryview(b"part")),
        Request("DeleteObject", "bucket", "k", {"if-match": '"e"'}),
    ]
    bodies = []

    def script(peer):
        while True:
            head, body = peer.request()
            bodies.append(body)
            peer.send(response(b"" if head.startswith(("HEAD", "PUT")) else b"body", "206 P"))

    with ScriptedServer(script) as server:
        run(sent(server, *requests))
    lines = [head.split("\r\n") for head in server.requests]
    assert [head[0] for head in lines] == [
        "GET /bucket/a%20b/c%2Bd~%C3%A9//%2541 HTTP/1.1",
        "HEAD /bucket/k HTTP/1.1",
        "PUT /bucket/k HTTP/1.1",
        "PUT /bucket/empty HTTP/1.1",
        "PUT /bucket/k?partNumber=7&uploadId=a%2Bb%2Fc HTTP/1.1",
        "DELETE /bucket/k HTTP/1.1",
    ]
    assert "range: bytes=0-3" in lines[0]
    assert {"if-none-match: *", "x-amz-meta-w: 1", "content-length: 4"} <= set(lines[2])
    assert "content-length: 0" in lines[3]
    assert 'if-match: "e"' in lines[5]
    assert bodies == [b"", b"", b"data", b"", b"part", b""]
    assert all(any(line.startswith("authorization: AWS4-HMAC-SHA256 Credential=AK/") for line in h) for h in lines)
    assert all(f"host: 127.0.0.1:{server.port}" in h for h in lines)
    assert server.connections == 1


def test_requests_without_credentials_are_not_signed(run):
    """Either there is no credentials function, or it returns None."""

    async def none():
        return None

    async def main(server, credentials):
        wire = Wire(server.endpoint(), credentials)
        await wire.send(GET)
        await wire.aclose()

    with ScriptedServer(answering(response())) as server:
        run(main(server, None))
        run(main(server, none))
    assert len(server.requests) == 2
    assert not any("authorization" in head or "x-amz" in head for head in server.requests)


def test_refreshed_credentials_are_used_for_the_next_request(run):
    """Credentials are fetched before every request."""
    names = iter(["first", "second"])

    async def refreshed():
        return SimpleNamespace(access_key=next(names), secret_key="S", token=None)

    async def main(server):
        wire = Wire(server.endpoint(), refreshed)
        await wire.send(GET)
        await wire.send(GET)
        await wire.aclose()

    with ScriptedServer(answering(response())) as server:
        run(main(server))
    assert ["first" in server.requests[0], "second" in server.requests[1]] == [True, True]


@pytest.mark.parametrize("value", ["a\r\nx: y", "a\ny", "a\rb", "a\0b"])
def test_a_header_value_with_a_line_end_is_refused(run, value):
    """It could smuggle another header in, so it is refused before anything is sent."""

    async def main(server):
        wire = server.wire()
        try:
            with pytest.raises(ConfigError):
                await wire.send(Request("PutObject", "bucket", "k", {"x-amz-meta-a": value}, payload=b""))
        finally:
            await wire.aclose()

    with ScriptedServer(answering(response())) as server:
        run(main(server))
    assert server.requests == []


def test_the_wire_refuses_control_operations(run):
    """They are sent over the SDK."""

    async def main():
        wire = Wire(endpoint_on(1), keys)
        with pytest.raises(Unsupported, match="SDK"):
            await wire.send(Request("DeleteObjects", "bucket", ""))
        await wire.aclose()

    run(main())
