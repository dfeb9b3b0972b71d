"""Arrays on web servers: the guarantees of reads, server faults, and rejected requests."""

from __future__ import annotations

import asyncio
import tracemalloc
from collections.abc import AsyncIterator, Iterator
from contextlib import suppress
from typing import Any

import numpy as np
import pytest
import pytest_asyncio

import zarr_s3_async as zs
from zarr_s3_async._types import Version
from zarr_s3_async.byte_range import Offset, Span, Suffix, resolve
from zarr_s3_async.stores.base import Blob, Entry, Listing, SupportsRef, Unchanged
from zarr_s3_async.stores.http.client import Answer, HttpRequest, _redirected, parse_origin
from zarr_s3_async.stores.http.store import HttpStore
from zarr_s3_async.testing import CHECKS, check_name

from .server import Handler, WebServer, web_server

RETRY = zs.RetryPolicy(attempts=3, base_delay=0.001, max_delay=0.002)


@pytest.fixture
def web() -> Iterator[WebServer]:
    with web_server() as web:
        yield web


@pytest_asyncio.fixture
async def session() -> AsyncIterator[zs.Session]:
    async with zs.Session(retry=RETRY, limits=zs.Limits(requests=8)) as session:
        yield session


class Published:
    """Writes to memory and reads over HTTP, so that the conformance suite can store what it reads."""

    def __init__(self, web: WebServer, reads: zs.Store) -> None:
        self.writes, self.reads = web.store.below("some/path.zarr"), reads
        self.url = reads.url

    async def get(self, key: str, **how: Any) -> Blob | None:
        return await self.reads.get(key, **how)

    async def get_unless(self, key: str, version: Version, **how: Any) -> Any:
        assert isinstance(self.reads, HttpStore)
        return await self.reads.get_unless(key, version, **how)

    async def put(self, key: str, data: Any, *, when: Any = "always") -> Version:
        return Version(f'"{await self.writes.put(key, data, when=when.strip(chr(34)))}"')

    async def delete(self, key: str, *, when: Any = "always") -> None:
        await self.writes.delete(key, when=when.strip('"'))

    async def delete_many(self, keys: Any) -> None:
        await self.writes.delete_many(keys)

    async def list_prefix(self, prefix: str = "") -> AsyncIterator[Entry]:
        async for entry in self.writes.list_prefix(prefix):
            yield entry._replace(version=Version(f'"{entry.version}"'))

    async def list_dir(self, prefix: str = "") -> Listing:
        return await self.writes.list_dir(prefix)


@pytest.mark.parametrize("check", CHECKS, ids=check_name)
async def test_a_web_server_passes_the_conformance_checks_of_reads(
    check: Any, web: WebServer, session: zs.Session
) -> None:
    await check(Published(web, session.store(f"{web.url}/some/path.zarr/")))


async def test_arrays_and_groups_are_read(web: WebServer, session: zs.Session) -> None:
    data = np.arange(600, dtype="f4").reshape(20, 30)
    published = web.store.below("public/run.zarr")
    for name, shards in (("plain", None), ("sharded", (10, 10))):
        array = await session.create_array(
            published, path=name, shape=data.shape, chunks=(5, 5), shards=shards, dtype="f4", fill_value=-1
        )
        await array.set_slice(data, (0, 0))
        await web.store.delete(f"public/run.zarr/{name}/c/1/1")
    for name, size in (("plain", 5), ("sharded", 10)):
        expected = data.copy()
        expected[size : 2 * size, size : 2 * size] = -1
        array = await session.open_array(f"{web.url}/public/run.zarr", path=name)
        assert np.array_equal(await array[...], expected)
        assert np.array_equal(await array[3:17, 4:29], expected[3:17, 4:29])
        assert np.array_equal(await (await session.open_array(array.ref))[1, 2], expected[1, 2])
        with pytest.raises(zs.Unsupported):
            await array.set_slice(0, (0, 0), (1, 1))
    with pytest.raises(zs.NodeNotFound):
        await session.open_array(f"{web.url}/public/none.zarr")


@pytest.mark.parametrize("lacks", ["ranges", "etags", "modified", "etags and modified"])
async def test_servers_without_an_optional_feature_can_be_read(lacks: str, web: WebServer, session: zs.Session) -> None:
    web.ranges = lacks != "ranges"
    web.etags = "" if "etags" in lacks else '"{}"'
    web.modified = "modified" not in lacks
    await web.store.put("x", b"0123456789")
    store = session.store(web.url)
    whole = await store.get("x")
    assert whole is not None
    for wanted, data in ((None, b"0123456789"), (Span(2, 5), b"234"), (Suffix(3), b"789"), (Offset(8), b"89")):
        sink = bytearray(len(data))
        blob = await store.get("x", range=wanted, version=whole.version, sink=lambda n, sink=sink: memoryview(sink)[:n])
        assert blob is not None
        assert (bytes(blob.data), bytes(sink), blob.size, blob.version) == (data, data, 10, whole.version)
    await web.store.put("x", b"another length")
    with pytest.raises(zs.Conflict):
        await store.get("x", range=Span(2, 5), version=whole.version)


@pytest.mark.parametrize("answer", ["405", "no length"])
async def test_a_server_without_head_reports_the_size_by_a_get(
    answer: str, web: WebServer, session: zs.Session
) -> None:
    def script(handler: Handler) -> bool:
        if handler.command != "HEAD":
            return False
        handler.answer(405) if answer == "405" else handler.answer(200, content_length="", transfer_encoding="chunked")
        return True

    web.script = script
    await web.store.put("x", b"0123456789")
    blob = await session.store(web.url).get("x", range=Span(0, 0))
    assert blob is not None
    assert (bytes(blob.data), blob.size) == (b"", 10)
    assert await session.store(web.url).get("y", range=Span(0, 0)) is None


async def test_an_empty_range_receives_no_body_from_a_server_that_ignores_ranges(
    web: WebServer, session: zs.Session
) -> None:
    web.ranges = False
    await web.store.put("x", b"x" * 2**20)
    blob = await session.store(web.url).get("x", range=Span(0, 0))
    assert blob is not None
    assert blob.size == 2**20
    assert session.metrics.bytes_received == 0


WHOLE = bytes(range(256)) * 2**16  # 16 MiB


def whole_for_range(handler: Handler, framing: str, status: int = 200) -> bool:
    """The whole object, whatever range was requested; with chunked framing it never ends."""
    length = {} if framing == "chunks" else {"content_length": str(len(WHOLE))}
    content_range = f"bytes 1000-{999 + len(WHOLE)}/{2 * len(WHOLE)}" if status == 206 else ""
    chunked = {"content_length": "", "transfer_encoding": "chunked"} if framing == "chunks" else length
    handler.answer(status, etag='"1"', content_range=content_range, **chunked)
    handler.close_connection = True
    with suppress(OSError):  # the client closes the connection once it has received its range
        if framing == "length":
            handler.wfile.write(WHOLE)
        while framing == "chunks":
            handler.wfile.write(b"10000\r\n" + WHOLE[: 2**16] + b"\r\n")
    return True


@pytest.mark.parametrize("framing", ["length", "chunks"])
@pytest.mark.parametrize("status", [200, 206])
async def test_a_response_longer_than_the_range_takes_no_memory(status: int, framing: str, web: WebServer) -> None:
    web.script = lambda handler: whole_for_range(handler, framing, status)
    async with zs.Session(retry=zs.RetryPolicy(attempts=2, base_delay=0.001)) as session:
        store = session.store(web.url)
        tracemalloc.start()
        try:
            for wanted in (Span(1000, 5000), Suffix(4000)):
                if (status, framing) == (200, "length"):
                    blob = await store.get("x", range=wanted, max_bytes=4000)
                    assert blob is not None
                    assert (bytes(blob.data), blob.size) == (WHOLE[slice(*resolve(wanted, len(WHOLE)))], len(WHOLE))
                else:
                    with pytest.raises(zs.NetworkError, match="range"):
                        await store.get("x", range=wanted)
            taken = tracemalloc.get_traced_memory()[1]
        finally:
            tracemalloc.stop()
    assert taken < 8 * 2**20


async def test_closing_the_session_ends_the_wait_between_two_attempts(web: WebServer) -> None:
    def later(handler: Handler) -> bool:
        handler.answer(503, retry_after="3600")
        return True

    web.script = later
    session = zs.Session()
    task = asyncio.create_task(session.store(web.url).get("x"))
    while session.metrics.retries == 0:
        await asyncio.sleep(0.001)
    await session.aclose()
    with pytest.raises(zs.SessionClosed):
        await task
    assert len(web.requests) <= 1


async def test_a_read_pinned_to_a_weak_etag_compares_it(web: WebServer, session: zs.Session) -> None:
    web.etags = 'W/"{}"'
    await web.store.put("x", b"0123456789")
    store = session.store(web.url)
    blob = await store.get("x")
    assert blob is not None
    assert await store.get("x", version=blob.version, range=Span(0, 2)) is not None
    assert "if-match" not in web.requests[-1][2]
    await web.store.put("x", b"9876543210")
    with pytest.raises(zs.Conflict):
        await store.get("x", version=blob.version, range=Span(0, 2))


def _once(*answers: Any) -> Any:
    left = list(answers)

    def script(handler: Handler) -> bool:
        if not left:
            return False
        left.pop(0)(handler)
        return True

    return script


def _hang_up(handler: Handler) -> None:
    handler.close_connection = True


def _truncated(handler: Handler) -> None:
    handler.answer(200, b"0123", content_length="10", etag='"1"')
    handler.close_connection = True


TRANSIENT = {
    "500": lambda handler: handler.answer(500, b"oops"),
    "503": lambda handler: handler.answer(503, retry_after="0"),
    "429": lambda handler: handler.answer(429),
    "hang-up": _hang_up,
    "truncated": _truncated,
    "gzip": lambda handler: handler.answer(200, b"x", content_encoding="gzip", etag='"1"'),
    "another range": lambda handler: handler.answer(206, b"89", content_range="bytes 8-9/10", etag='"1"'),
    "an invalid range": lambda handler: handler.answer(206, b"234", content_range="bytes */10", etag='"1"'),
    "a short range": lambda handler: handler.answer(206, b"23", content_range="bytes 2-4/10", etag='"1"'),
}


@pytest.mark.parametrize("fault", TRANSIENT)
async def test_transient_failures_are_retried(fault: str, web: WebServer, session: zs.Session) -> None:
    await web.store.put("x", b"0123456789")
    web.script = _once(TRANSIENT[fault], TRANSIENT[fault])
    blob = await session.store(web.url).get("x", range=Span(2, 5))
    assert blob is not None
    assert bytes(blob.data) == b"234"
    assert session.metrics.retries == 2


@pytest.mark.parametrize("fault", TRANSIENT)
async def test_a_failure_of_all_attempts_is_an_error_and_never_absence(
    fault: str, web: WebServer, session: zs.Session
) -> None:
    web.script = _once(*[TRANSIENT[fault]] * 3)
    with pytest.raises(zs.StoreError) as caught:
        await session.store(web.url).get("x", range=Span(2, 5))
    assert type(caught.value) in (zs.UnexpectedResponse, zs.Throttled, zs.NetworkError)
    assert len(web.requests) == 3


@pytest.mark.parametrize(
    ("status", "error"), [(401, zs.AccessDenied), (403, zs.AccessDenied), (400, zs.UnexpectedResponse)]
)
async def test_refusals_are_errors_without_a_retry(
    status: int, error: Any, web: WebServer, session: zs.Session
) -> None:
    web.script = _once(lambda handler: handler.answer(status))
    with pytest.raises(error, match=str(status)):
        await session.store(web.url).get("x")
    assert len(web.requests) == 1


async def test_403_may_be_read_as_absence_only_for_chunks(web: WebServer) -> None:
    async with zs.Session(missing_on_403=True) as session:
        array = await session.create_array(web.store, path="a", shape=(4,), chunks=(2,), dtype="u1", fill_value=7)
        await array.set_slice([1, 2], 0)

        def forbidden(handler: Handler) -> bool:
            if handler.path.endswith("/c/1"):
                handler.answer(403)
                return True
            return False

        web.script = forbidden
        array = await session.open_array(web.url, path="a")
        assert (await array[...]).tolist() == [1, 2, 7, 7]
        with pytest.raises(zs.AccessDenied):
            await session.store(web.url).get("a/c/1")


async def test_redirects_to_another_server_are_followed(web: WebServer, session: zs.Session) -> None:
    with web_server() as other:
        await other.store.put("moved/x", b"0123456789")
        web.script = _once(
            lambda handler: handler.answer(301, location="/y?token=1"),
            lambda handler: handler.answer(307, location=f"{other.url}/moved/x"),
        )
        blob = await session.store(web.url).get("x", range=Span(2, 5))
        assert blob is not None
        assert bytes(blob.data) == b"234"
        assert [path for _, path, _ in web.requests] == ["/x", "/y?token=1"]


@pytest.mark.parametrize(
    "location", ["", "ftp://127.0.0.1/x", "https://", "http://[::1", "/x\x80", "http://127.0.0.1:99999/x"]
)
async def test_a_redirect_to_nowhere_is_an_error(location: str, web: WebServer, session: zs.Session) -> None:
    web.script = _once(lambda handler: handler.answer(302, location=location))
    with pytest.raises(zs.NetworkError, match="redirect"):
        await session.store(web.url).get("x")


def test_a_redirect_from_https_to_http_is_refused() -> None:
    origin, target = parse_origin("https://host/x")
    ask = HttpRequest("GET", origin, target, "x")
    with pytest.raises(zs.NetworkError, match="from https to http"):
        _redirected(ask, Answer(302, {"location": "http://host/x"}, b"", in_sink=False), 1)
    assert _redirected(ask, Answer(302, {"location": "//other/y"}, b"", in_sink=False), 1).url == "https://other/y"


async def test_a_circle_of_redirects_is_an_error(web: WebServer, session: zs.Session) -> None:
    web.script = _once(*[lambda handler: handler.answer(302, location="/x")] * 100)
    with pytest.raises(zs.NetworkError, match="redirects"):
        await session.store(web.url).get("x")
    assert len(web.requests) < 10


async def test_a_long_object_is_refused_before_it_is_received(web: WebServer, session: zs.Session) -> None:
    web.script = _once(lambda handler: handler.answer(200, b"", content_length=str(10**15), etag='"1"'))
    with pytest.raises(zs.StoreError, match="bytes"):
        await session.store(web.url).get("x", max_bytes=1000)

    def chunked(handler: Handler) -> None:
        handler.answer(200, b"40\r\n" + b"x" * 64 + b"\r\n0\r\n\r\n", content_length="", transfer_encoding="chunked")

    web.script = _once(chunked, chunked)
    with pytest.raises(zs.StoreError, match="bytes"):
        await session.store(web.url).get("x", max_bytes=10)
    web.script = _once(chunked)
    blob = await session.store(web.url).get("x", max_bytes=64)
    assert blob is not None
    assert bytes(blob.data) == b"x" * 64


async def test_requests_to_web_servers_count_against_the_sessions_limit(web: WebServer, session: zs.Session) -> None:
    await web.store.put("x", b"0123456789")
    in_flight = peak = 0

    def count(handler: Handler) -> bool:
        nonlocal in_flight, peak
        in_flight += 1
        peak = max(peak, in_flight)
        handler.serve_object({})
        in_flight -= 1
        return True

    web.script = count
    store = session.store(web.url)
    async with asyncio.TaskGroup() as group:
        for _ in range(64):
            group.create_task(store.get("x"))
    assert peak <= 8
    assert session.metrics.requests["GetObject"] == 64


async def test_a_cancelled_read_writes_nothing_more_into_its_memory(web: WebServer, session: zs.Session) -> None:
    await web.store.put("x", b"\xff" * 2**22)
    memory = bytearray(2**22)
    store = session.store(web.url)
    for cycles in range(0, 40, 3):
        task = asyncio.create_task(store.get("x", sink=lambda n: memoryview(memory)[:n]))
        for _ in range(cycles):
            await asyncio.sleep(0)
        task.cancel()
        await asyncio.wait([task])
        before = bytes(memory)
        await asyncio.sleep(0.01)
        assert memory == before
    blob = await store.get("x")
    assert blob is not None
    assert blob.size == 2**22


async def test_writes_and_listings_on_a_web_server_are_unsupported(web: WebServer, session: zs.Session) -> None:
    store = session.store(web.url)
    for call in (store.put("x", b""), store.delete("x"), store.delete_many(["x"]), store.list_dir()):
        with pytest.raises(zs.Unsupported, match="read-only"):
            await call
    with pytest.raises(zs.Unsupported, match="listings"):
        [entry async for entry in store.list_prefix()]
    assert web.requests == []


@pytest.mark.parametrize(
    "url",
    [
        "https://user:secret@host/x",
        "https://host/x?sig=1",
        "https://host/x#part",
        "https:///x",
        "https://host:port/x",
        "https://host/a b",
        "https://höst/x",
        "https://[::1/x",
    ],
)
async def test_invalid_urls_are_refused(url: str, session: zs.Session) -> None:
    with pytest.raises(zs.ConfigError) as caught:
        session.store(url)
    assert "secret" not in str(caught.value)


@pytest.mark.parametrize("key", ["", "/x", "../x", "a/./b", "a/.."])
async def test_keys_stay_below_the_path(key: str, web: WebServer, session: zs.Session) -> None:
    with pytest.raises(zs.ConfigError):
        await session.store(f"{web.url}/some/path").get(key)
    assert web.requests == []


async def test_a_web_store_shows_its_url(session: zs.Session) -> None:
    store = session.store("https://example.org:443/a%20b/c.zarr/")
    assert isinstance(store, HttpStore)
    assert isinstance(store, SupportsRef)
    assert store.url == store.ref.url == "https://example.org/a%20b/c.zarr"
    assert store == session.store("https://example.org/a%20b/c.zarr")
    assert store != session.store("http://example.org/a%20b/c.zarr")
    above = store.parent()
    assert above is not None
    assert (above[0].url, above[1]) == ("https://example.org/a%20b", "c.zarr")
    assert session.store("http://[::1]:8080/x").url == "http://[::1]:8080/x"


async def test_closing_the_session_ends_running_requests(web: WebServer) -> None:
    session = zs.Session(retry=RETRY)
    store = session.store(web.url)
    arrived = asyncio.Event()
    loop = asyncio.get_running_loop()

    def never(handler: Handler) -> bool:
        loop.call_soon_threadsafe(arrived.set)
        handler.rfile.read(1)
        handler.close_connection = True
        return True

    web.script = never
    task = asyncio.create_task(store.get("x"))
    await arrived.wait()
    await session.aclose()
    with pytest.raises(zs.SessionClosed):
        await task


@pytest.mark.parametrize("cached", [False, True])
async def test_one_handle_reads_403_as_absence_and_another_as_an_error(cached: bool, web: WebServer) -> None:
    """Two handles of one session share no request and no cached chunk if only one reads 403 as absent."""
    async with zs.Session(cache=zs.CacheSize(chunks=2**20 if cached else 0)) as session:
        made = await session.create_array(web.store, path="a", shape=4, chunks=4, dtype="i4", fill_value=9)
        assert made.shape == (4,)

        def forbidden(handler: Handler) -> bool:
            if handler.path == "/a/c/0":
                handler.answer(403)
            return handler.path == "/a/c/0"

        web.script = forbidden
        strict = await session.open_array(f"{web.url}/a")
        lenient = await session.open_array(zs.ArrayRef(url=f"{web.url}/a", config={"missing_on_403": True}))
        for readers in ((strict, lenient), (lenient, strict)):
            answers = await asyncio.gather(*(reader[...].get() for reader in readers), return_exceptions=True)
            of_strict, of_lenient = answers[readers.index(strict)], answers[readers.index(lenient)]
            assert isinstance(of_strict, zs.AccessDenied)
            assert of_lenient.tolist() == [9] * 4


async def test_a_key_that_no_url_can_contain_is_refused(session: zs.Session, web: WebServer) -> None:
    with pytest.raises(zs.ConfigError, match="cannot be a key"):
        await session.store(web.url).get("\ud800")
    with pytest.raises(zs.ConfigError, match="not the URL"):
        session.store("http://host:0/x")
    assert not web.requests


async def test_the_name_of_a_content_coding_is_case_insensitive(session: zs.Session, web: WebServer) -> None:
    def identity(handler: Handler) -> bool:
        handler.answer(200, b"data", content_encoding="Identity")
        return True

    web.script = identity
    blob = await session.store(web.url).get("x")
    assert blob is not None
    assert bytes(blob.data) == b"data"


@pytest.mark.parametrize(("etags", "unchanged"), [('"{}"', 1), ('W/"{}"', 0), ("", 0)], ids=["strong", "weak", "none"])
async def test_an_object_that_has_not_changed_is_not_sent_again(
    session: zs.Session, web: WebServer, etags: str, unchanged: int
) -> None:
    web.etags = etags
    await web.store.put("a/key", b"0123")
    store = session.store(f"{web.url}/a")
    assert isinstance(store, HttpStore)
    blob = await store.get("key")
    assert blob is not None
    again = await store.get_unless("key", blob.version)
    assert web.unchanged == unchanged
    assert again is Unchanged.UNCHANGED or (isinstance(again, Blob) and bytes(again.data) == b"0123")
    assert not session.metrics.errors
