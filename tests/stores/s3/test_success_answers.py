"""What counts as success: S3's own response to this operation on this key, not just any 2xx status."""

from __future__ import annotations

import socket
import threading
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

import pytest

import zarr_s3_async as zs
from zarr_s3_async._types import Version
from zarr_s3_async.errors import UnexpectedResponse
from zarr_s3_async.stores.s3.request import Request
from zarr_s3_async.stores.s3.store import S3Store

from ...servers import faults
from ...servers.faults import Fault
from ...servers.http1 import SocketReader
from .rig import Rig

pytestmark = pytest.mark.asyncio(loop_scope="module")

FOREVER = 1000
ERROR = b'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>InternalError</Code><Message>x</Message></Error>'
BIG = bytes(6 * 2**20)


def with_etag(status: int, body: bytes = b"", content_type: str = "text/html") -> Fault:
    """Answer with an ETag without carrying the request out."""
    return faults.refuse(status, body=body, content_type=content_type, etag='"1"')


def in_chunks(exchange: Any) -> None:
    """A page without Content-Length."""
    head = 'HTTP/1.1 200 OK\r\ncontent-type: text/html\r\netag: "1"\r\ntransfer-encoding: chunked\r\n\r\n'
    exchange.write(head.encode() + b"5\r\n<html\r\n0\r\n\r\n")


PRETENDED = {
    "a page": with_etag(200, b"<html><body>Welcome</body></html>"),
    "a page that is XML": with_etag(200, b"<html/>", "application/xml"),
    "an error document": with_etag(200, ERROR, "application/xml"),
    "a page in chunks": in_chunks,
    **{str(status): with_etag(status) for status in (201, 202, 203, 204, 206, 299)},
}
"""Faults by name; none of these responses shows that the bytes of a PUT are stored."""

WRITES: dict[str, tuple[str, Callable[[S3Store], Awaitable[Any]]]] = {
    "put": ("PutObject", lambda store: store.put("k", b"new")),
    "create": ("PutObject", lambda store: store.put("k", b"new", when="absent")),
    "part": ("UploadPart", lambda store: store.put("k", BIG)),
}


@pytest.fixture(autouse=True)
def empty(rig: Rig) -> None:
    rig.remove("k")
    rig.forget()


@pytest.mark.parametrize("write", WRITES)
@pytest.mark.parametrize("fault", PRETENDED.values(), ids=PRETENDED)
async def test_a_put_succeeds_only_with_s3s_own_response(rig: Rig, write: str, fault: Fault) -> None:
    operation, run = WRITES[write]
    rig.server.cue(operation, fault, times=FOREVER)
    with pytest.raises(UnexpectedResponse, match=operation):
        await run(rig.store(multipart_bytes=5 * 2**20, part_bytes=5 * 2**20))
    assert rig.stored("k") is None
    rig.server.forget()
    rig.server.cue(operation, fault)
    assert await run(rig.store(multipart_bytes=5 * 2**20, part_bytes=5 * 2**20))
    assert rig.stored("k") == (BIG if write == "part" else b"new")


@pytest.mark.parametrize("conditional", [False, True])
@pytest.mark.parametrize("status", [201, 202, 203, 206, 299])
async def test_a_delete_succeeds_only_with_s3s_own_response(rig: Rig, status: int, conditional: bool) -> None:
    rig.put("k", b"old")
    store = rig.store()
    blob = await store.get("k")
    assert blob is not None
    when = blob.version if conditional else "always"
    rig.server.cue("DeleteObject", faults.refuse(status), times=FOREVER)
    with pytest.raises(UnexpectedResponse, match="DeleteObject"):
        await store.delete("k", when=when)
    assert rig.stored("k") == b"old"
    rig.server.forget()
    rig.server.cue("DeleteObject", faults.refuse(status))
    await store.delete("k", when=when)
    assert rig.stored("k") is None


@pytest.mark.parametrize("status", [203, 206, 299])
@pytest.mark.parametrize("operation", ["HeadObject", "ListObjectsV2", "DeleteObjects"])
async def test_other_operations_accept_only_one_success_status(rig: Rig, operation: str, status: int) -> None:
    rig.put("k", b"old")
    rig.server.cue(operation, faults.changed(f"{status} Somebody"), times=FOREVER)
    store = rig.store()
    with pytest.raises(UnexpectedResponse, match=operation):
        await OTHERS[operation](store)


OTHERS: dict[str, Callable[[S3Store], Awaitable[Any]]] = {
    "ListObjectsV2": lambda store: store.list_dir(""),
    "DeleteObjects": lambda store: store.delete_many(["k"]),
    "HeadObject": lambda store: store._transport.send(Request("HeadObject", store.bucket, "root/k")),
}


def no_such(key: str) -> Fault:
    document = f"<Error><Code>NoSuchKey</Code><Message>m</Message><Key>{key}</Key></Error>"
    return faults.refuse(404, body=document.encode())


@pytest.mark.parametrize("key", ["another", "root/k2", "root", "root/", "data/root/k2"])
async def test_no_such_key_about_another_key_is_not_absence(rig: Rig, key: str) -> None:
    rig.put("k", b"stored")
    rig.server.cue("GetObject", no_such(key), times=FOREVER)
    with pytest.raises(UnexpectedResponse, match="another key"):
        await rig.store().get("k")
    rig.server.forget()
    rig.server.cue("GetObject", no_such(key))
    blob = await rig.store().get("k")
    assert blob is not None
    assert bytes(blob.data) == b"stored"


@pytest.mark.parametrize("key", ["", "root/k", "root%2Fk", "/root/k", "data/root/k", "/data/root/k"])
async def test_servers_may_write_the_absent_key_in_their_own_way(rig: Rig, key: str) -> None:
    rig.put("k", b"stored")
    rig.server.cue("GetObject", no_such(key))
    assert await rig.store().get("k") is None


async def test_a_conflict_about_another_key_is_not_a_conflict(rig: Rig) -> None:
    """AWS answers If-Match on an absent key with NoSuchKey; one that names another key means nothing."""
    rig.put("k", b"stored")
    rig.server.cue("PutObject", no_such("another"), times=FOREVER)
    with pytest.raises(UnexpectedResponse, match="another key"):
        await rig.store().put("k", b"new", when=Version('"1"'))


EVIL = b'HTTP/1.1 200 OK\r\nETag: "evil"\r\nContent-Length: 4\r\n\r\nevil'
GOOD = EVIL.replace(b"evil", b"good")


class Late:
    """A server that sends an unsolicited second response when its `release` is set."""

    def __init__(self) -> None:
        self.release = threading.Event()
        self.sent = threading.Event()
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.url = f"http://127.0.0.1:{self._listener.getsockname()[1]}"
        self._threads: list[threading.Thread] = []

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                sock, _ = self._listener.accept()
                thread = threading.Thread(target=self._connection, args=(sock,), daemon=True)
                thread.start()
                self._threads.append(thread)

    def _connection(self, sock: socket.socket) -> None:
        with suppress(OSError, EOFError), sock:
            reader = SocketReader(sock)
            first = not self.sent.is_set()
            while (head := reader.head()) is not None:
                reader.body(head)
                sock.sendall(GOOD)
                if first:
                    first = False
                    self.release.wait(10)
                    sock.sendall(EVIL)
                    self.sent.set()

    def close(self) -> None:
        self.release.set()
        with suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()


@contextmanager
def late_server() -> Iterator[Late]:
    server = Late()
    thread = threading.Thread(target=server.serve, daemon=True)
    thread.start()
    try:
        yield server
    finally:
        server.close()
        thread.join(10)


@pytest.mark.parametrize("transport", ["wire", "sdk"])
async def test_a_response_that_arrives_before_the_next_request_is_not_its_response(transport: str) -> None:
    """It arrives after the idle connection was chosen and before the request was sent on it."""
    with late_server() as server:
        config = zs.S3Config(
            endpoint_url=server.url,
            region="us-east-1",
            access_key_id="AKIDTEST",
            secret_access_key="s",
            transport=transport,  # type: ignore[arg-type]  # "wire" or "sdk"
        )
        async with zs.Session(s3=config) as session:
            store = session.s3("data")
            first = await store.get("k")
            assert first is not None
            with between_choice_and_request(transport, server):
                second = await store.get("k")
        assert second is not None
        assert bytes(second.data) == b"good"


@contextmanager
def between_choice_and_request(transport: str, server: Late) -> Iterator[None]:
    """Make the late response arrive at that moment: over the SDK, after aiohttp has checked the connection."""
    if transport == "wire":
        server.release.set()
        server.sent.wait(10)
        yield  # the wire chooses a connection and writes to it without yielding to the loop
        return
    from zarr_s3_async.stores.s3.sdk import session as sdk_session

    quiet = sdk_session._Quiet
    ask = quiet.is_connected

    def is_connected(self: Any) -> bool:
        connected = ask(self)
        server.release.set()
        server.sent.wait(10)
        return connected

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(quiet, "is_connected", is_connected)
        yield
