"""LatencyProxy forwards messages unchanged, counts them and delays them."""

import asyncio
import contextlib
import gc
import http.client
import socket
import threading
import time

import pytest

from .latency_proxy import Exchange, LatencyProxy

_BODY = bytes(range(256)) * 3000


def _chunked(body: bytes) -> bytes:
    pieces = [body[at : at + 70_000] for at in range(0, len(body), 70_000)]
    lines = [b"%x;note=1\r\n%s\r\n" % (len(piece), piece) for piece in pieces]
    return b"".join([*lines, b"0\r\nx-trailer: 1\r\n\r\n"])


class Behind:
    """A small upstream HTTP server; the target of a request selects its response."""

    def __init__(self) -> None:
        self.received: list[tuple[str, str, bytes, dict]] = []
        self.gate = threading.Semaphore(0)

    async def serve(self, reader, writer) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await self._answer(reader, writer)
        writer.close()

    async def _answer(self, reader, writer) -> None:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
        first, *lines = head.strip().split("\r\n")
        method, target, _ = first.split(" ")
        fields = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
        if fields.get("expect") == "100-continue":
            writer.write(b"HTTP/1.1 100 Continue\r\n\r\n")
        body = b""
        if fields.get("transfer-encoding") == "chunked":
            while size := int((await reader.readuntil(b"\r\n")).strip(), 16):
                body += (await reader.readexactly(size + 2))[:-2]
            await reader.readuntil(b"\r\n")
        else:
            body = await reader.readexactly(int(fields.get("content-length", 0)))
        self.received.append((method, target, body, fields))
        match target:
            case "/length":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(_BODY))
                writer.write(b"" if method == "HEAD" else _BODY)
            case "/chunked":
                writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + _chunked(_BODY))
            case "/none":
                writer.write(b"HTTP/1.1 204 No Content\r\n\r\n")
            case "/until-end":
                writer.write(b"HTTP/1.1 200 OK\r\n\r\n" + _BODY)
                raise ConnectionError
            case "/broken":
                writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
                raise ConnectionError
            case "/garbage":
                writer.write(b"\x00\x01 not HTTP at all\r\n\r\n")
                raise ConnectionError


@pytest.fixture(scope="module")
def behind():
    """The upstream server, in its own thread."""
    server = Behind()
    ready, stop = threading.Event(), asyncio.Event()
    state = {}

    async def main() -> None:
        state["loop"] = asyncio.get_running_loop()
        listener = await asyncio.start_server(server.serve, "127.0.0.1", 0)
        server.url = f"http://127.0.0.1:{listener.sockets[0].getsockname()[1]}"
        ready.set()
        await stop.wait()
        listener.close()

    thread = threading.Thread(target=asyncio.run, args=(main(),))
    thread.start()
    ready.wait()
    yield server
    state["loop"].call_soon_threadsafe(stop.set)
    thread.join()


@pytest.fixture
def proxy(behind):
    behind.received.clear()
    with LatencyProxy(behind.url) as proxy:
        yield proxy


@pytest.fixture
def client(proxy):
    connection = http.client.HTTPConnection(proxy.endpoint_url.removeprefix("http://"), timeout=30)
    yield connection
    connection.close()


def _ask(client, method, target, **options) -> tuple[int, bytes]:
    client.request(method, target, **options)
    response = client.getresponse()
    return response.status, response.read()


def test_responses_are_forwarded_unchanged_on_one_connection(proxy, client):
    for _ in range(2):
        assert _ask(client, "GET", "/length") == (200, _BODY)
        assert _ask(client, "GET", "/chunked") == (200, _BODY)
        assert _ask(client, "HEAD", "/length") == (200, b"")
        assert _ask(client, "DELETE", "/none") == (204, b"")
    assert _ask(client, "GET", "/until-end") == (200, _BODY)
    assert proxy.connections == 1


def test_a_client_is_not_counted_after_its_response(proxy, client):
    """Otherwise a client that immediately sends its next request would count twice, and appear to exceed its limit."""
    for target in ("/length", "/chunked", "/none") * 20:
        _ask(client, "GET", target)
        assert proxy.in_flight == 0
    assert proxy.peak == 1


def test_requests_are_forwarded_unchanged_with_their_host_header(proxy, client, behind):
    _ask(client, "PUT", "/length", body=_BODY)
    _ask(
        client,
        "PUT",
        "/length",
        body=iter([_BODY, b"more"]),
        encode_chunked=True,
        headers={"transfer-encoding": "chunked"},
    )
    (_, _, plain, fields), (_, _, chunked, _) = behind.received
    assert plain == _BODY
    assert chunked == _BODY + b"more"
    assert fields["host"] == proxy.endpoint_url.removeprefix("http://")


def test_the_latency_proxy_forwards_100_continue(proxy):
    host, port = proxy.endpoint_url.removeprefix("http://").split(":")
    with socket.create_connection((host, int(port)), timeout=30) as raw:
        raw.sendall(b"PUT /none HTTP/1.1\r\nHost: x\r\nContent-Length: 4\r\nExpect: 100-continue\r\n\r\n")
        assert raw.recv(100).startswith(b"HTTP/1.1 100")
        raw.sendall(b"body")
        assert raw.recv(100).startswith(b"HTTP/1.1 204")
    assert proxy.count() == 1


def test_requests_are_counted(proxy, client):
    for method, target in (("GET", "/length"), ("PUT", "/none"), ("GET", "/chunked")):
        _ask(client, method, target)
    assert list(proxy.exchanges) == [
        Exchange("GET", "/length"),
        Exchange("PUT", "/none"),
        Exchange("GET", "/chunked"),
    ]
    assert (proxy.count(), proxy.count("GET")) == (3, 2)
    proxy.reset()
    assert proxy.count() == proxy.peak == 0


async def test_the_peak_is_the_largest_number_of_concurrent_requests(proxy):
    """Responses wait until all concurrent requests have arrived; sequential ones are in flight one at a time."""
    host, port = proxy.endpoint_url.removeprefix("http://").split(":")
    proxy.crowd = 20  # not a latency: a slow machine may need longer to send them all

    async def ask() -> None:
        reader, writer = await asyncio.open_connection(host, int(port))
        writer.write(b"GET /none HTTP/1.1\r\nHost: x\r\n\r\n")
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 204")
        writer.close()
        await writer.wait_closed()

    await asyncio.gather(*(ask() for _ in range(20)))
    assert proxy.peak == 20
    assert proxy.in_flight == 0
    proxy.reset()
    proxy.crowd = 0
    for _ in range(50):
        await ask()
    assert proxy.peak == 1


def test_every_response_is_delayed_once_by_the_latency(proxy, client, monkeypatch):
    waited = []
    real = asyncio.sleep

    async def sleep(seconds):
        waited.append(seconds)
        await real(0)

    monkeypatch.setattr(asyncio, "sleep", sleep)
    proxy.latency = 0.25
    for target in ("/length", "/chunked", "/none"):
        _ask(client, "GET", target)
    assert waited == [0.25] * 3


@pytest.mark.parametrize("target", ["/broken", "/garbage"])
def test_a_broken_upstream_connection_breaks_the_clients_connection(proxy, client, target):
    with pytest.raises((http.client.HTTPException, OSError)):
        _ask(client, "GET", target)
    client.close()
    assert _ask(client, "GET", "/length") == (200, _BODY)
    assert proxy.in_flight == 0


def test_a_client_that_disconnects_half_way_is_no_longer_in_flight(proxy, client):
    host, port = proxy.endpoint_url.removeprefix("http://").split(":")
    proxy.latency = 0.05
    with socket.create_connection((host, int(port))) as raw:
        raw.sendall(b"GET /length HTTP/1.1\r\nHost: x\r\n\r\n")
    while proxy.in_flight or not proxy.count():
        time.sleep(0.01)
    assert _ask(client, "GET", "/length")[0] == 200


def test_without_an_upstream_server_connections_are_closed():
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))
        url = f"http://127.0.0.1:{unused.getsockname()[1]}"
        with LatencyProxy(url) as proxy:
            connection = http.client.HTTPConnection(proxy.endpoint_url.removeprefix("http://"), timeout=30)
            with pytest.raises((http.client.HTTPException, OSError)):
                _ask(connection, "GET", "/")
            connection.close()


@pytest.mark.parametrize("url", ["https://127.0.0.1:1", "127.0.0.1:1", "http://"])
def test_the_latency_proxy_supports_only_plain_http(url):
    with pytest.raises(ValueError, match="plain http"):
        LatencyProxy(url)


@pytest.mark.integration
def test_signed_requests_are_forwarded_to_a_real_server(seaweed):
    import botocore.session

    with LatencyProxy(seaweed.endpoint_url) as proxy:
        client = botocore.session.Session().create_client(
            "s3",
            region_name=seaweed.region,
            endpoint_url=proxy.endpoint_url,
            aws_access_key_id=seaweed.access_key_id,
            aws_secret_access_key=seaweed.secret_access_key,
        )
        client.put_object(Bucket=seaweed.bucket, Key="proxied", Body=_BODY)
        assert client.get_object(Bucket=seaweed.bucket, Key="proxied")["Body"].read() == _BODY
        assert (proxy.count("PUT"), proxy.count("GET")) == (1, 1)
        client.close()


@pytest.mark.parametrize("clients", [1, 64])
def test_newly_accepted_connections_are_closed_with_the_proxy(clients: int) -> None:
    """No socket is left to the garbage collector, which would emit ResourceWarning."""
    with socket.create_server(("127.0.0.1", 0), backlog=128) as behind:
        url = f"http://127.0.0.1:{behind.getsockname()[1]}"
        with LatencyProxy(url) as proxy:
            port = int(proxy.endpoint_url.rpartition(":")[2])
            opened = [socket.create_connection(("127.0.0.1", port)) for _ in range(clients)]
        for client in opened:
            client.settimeout(5)
            with contextlib.suppress(ConnectionError):
                assert client.recv(1) == b""
            client.close()
    gc.collect()
