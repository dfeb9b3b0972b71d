"""The S3 stand-in: it is as slow as configured, and it counts requests."""

import asyncio
import sys
import time
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager
from urllib.parse import quote

import pytest

import zarr_s3_async as zs
from zarr_s3_async.byte_range import Span, Suffix

from .stand_in import StandIn

# The latency is measured by another process: its timer and our clock were seen to differ by 0.6 ms on a virtual
# machine. Without a latency the responses take 1 ms.
_CLOCK_SKEW = 0.01


@pytest.fixture(scope="module")
def process() -> Iterator[StandIn]:
    with StandIn() as running:
        yield running


@pytest.fixture
async def server(process: StandIn) -> StandIn:
    """A server in its initial state: no delay, no objects, counters at zero."""
    await process.change(latency=0.0, bandwidth=None, rate=None)
    await process.clear()
    return process


@pytest.fixture
async def session(server: StandIn) -> AsyncIterator[zs.Session]:
    async with session_on(server) as opened:
        yield opened


def session_on(server: StandIn, **options) -> zs.Session:
    config = zs.S3Config(
        endpoint_url=server.endpoint_url,
        region=server.region,
        access_key_id=server.access_key_id,
        secret_access_key=server.secret_access_key,
        conditional_writes=options.pop("conditional_writes", "auto"),
    )
    return zs.Session(s3=config, **options)


async def test_the_stand_in_returns_objects_and_ranges_of_them(server, session):
    store = session.s3(server.bucket)
    data = bytes(range(256)) * 400
    version = await store.put("folder/object", data)
    whole = await store.get("folder/object")
    assert (bytes(whole.data), whole.version, whole.size) == (data, version, len(data))
    part = await store.get("folder/object", range=Span(1000, 1010))
    assert (bytes(part.data), part.size) == (data[1000:1010], len(data))
    assert bytes((await store.get("folder/object", range=Suffix(7))).data) == data[-7:]
    assert await store.get("folder/nothing") is None


async def test_the_stand_in_honours_preconditions(server, session):
    store = session.s3(server.bucket)
    version = await store.put("object", b"1", when="absent")
    with pytest.raises(zs.Conflict):
        await store.put("object", b"2", when="absent")
    newer = await store.put("object", b"2", when=version)
    with pytest.raises(zs.Conflict):
        await store.put("object", b"3", when=version)
    with pytest.raises(zs.Conflict):
        await store.get("object", version=version)
    with pytest.raises(zs.Conflict):
        await store.delete("object", when=version)
    await store.delete("object", when=newer)
    assert await store.get("object") is None


async def test_the_stand_in_accepts_etags_with_and_without_quotes(server, session):
    version = await session.s3(server.bucket).put("object", b"1")
    async with connection(server) as (reader, writer):
        for etag in (version, version.strip('"')):
            writer.write(f"GET /{server.bucket}/object HTTP/1.1\r\nIf-None-Match: {etag}\r\n\r\n".encode())
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 304 ")


async def test_the_stand_in_lists_several_pages_and_single_levels_and_deletes_many_objects(server, session):
    store = session.s3(server.bucket)
    keys = [f"a/{number:04}" for number in range(1001)] + ["a/b/c d", "a&b", "c"]
    async with connection(server) as (reader, writer):
        for key in keys:
            writer.write(f"PUT /{server.bucket}/{quote(key)} HTTP/1.1\r\nContent-Length: 1\r\n\r\nx".encode())
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
    listed = [entry.key async for entry in store.list_prefix()]
    assert listed == sorted(keys)
    level = await store.list_dir("")
    assert (level.dirs, [entry.key for entry in level.entries]) == (("a",), ["a&b", "c"])
    await store.delete_many(keys[:-1])
    assert [entry.key async for entry in store.list_prefix()] == ["c"]


async def test_the_stand_in_distinguishes_a_missing_bucket_from_a_missing_key(server, session):
    with pytest.raises(zs.BucketNotFound):
        await session.s3("not-there").get("key")


async def test_the_stand_in_counts_requests_by_operation_and_bytes_in_both_directions(server):
    async with session_on(server, conditional_writes="off") as session:
        store = session.s3(server.bucket)
        await server.reset()
        await store.put("key", b"12345")
        await store.get("key")
        await store.get("nothing")
        counted = await server.counters()
    assert counted.operations == {"PutObject": 1, "GetObject": 2}
    assert counted.requests == 3
    assert (counted.statuses["200"], counted.statuses["404"]) == (2, 1)
    assert counted.bytes_in == 5
    assert counted.bytes_out >= 5
    assert (await server.reset()).requests == 0


async def test_the_stand_in_delays_concurrent_responses_concurrently(server, session):
    """Concurrent requests wait concurrently: latency models distance, not a slow server."""
    store = session.s3(server.bucket)
    await store.get("warm")
    await server.change(latency=0.2)
    await server.reset()
    start = time.monotonic()
    async with asyncio.TaskGroup() as group:
        for _ in range(16):
            group.create_task(store.get("key"))
    taken = time.monotonic() - start
    assert taken >= 0.2 - _CLOCK_SKEW
    assert (await server.counters()).peak_in_flight > 1


async def test_a_transfer_is_no_faster_than_the_bandwidth_of_its_connection(server, session):
    await server.put_everywhere("big/", bytes(400_000))
    await server.change(bandwidth=2e6)
    store = session.s3(server.bucket)
    start = time.monotonic()
    blob = await store.get("big/object")
    taken = time.monotonic() - start
    start = time.monotonic()
    await store.put("object", bytes(400_000))
    sent = time.monotonic() - start
    assert len(memoryview(blob.data)) == 400_000
    # The socket buffers the first slices at once, so the server measures a slower upload than the client does.
    assert taken >= 0.15
    assert sent >= 0.05


async def test_requests_above_the_rate_get_slow_down(server):
    await server.change(rate=20)
    async with session_on(server, retry=zs.RetryPolicy(attempts=1)) as session:
        store = session.s3(server.bucket)
        answers = await asyncio.gather(*(store.get("key") for _ in range(40)), return_exceptions=True)
        throttled = (await server.counters()).operations["Throttled"]
        await server.change(rate=None)
        await server.reset()
        for _ in range(40):
            await store.get("key")
        assert "Throttled" not in (await server.counters()).operations
    refused = [answer for answer in answers if answer is not None]
    assert all(isinstance(answer, zs.Throttled) for answer in refused)
    assert 0 < len(refused) == throttled < 40


async def test_options_given_at_the_start_apply_and_the_async_form_starts_and_stops_the_server():
    async with StandIn(latency=0.2, buckets=("one", "two")) as server:
        assert server.bucket == "one"
        async with connection(server) as (reader, writer):
            start = time.monotonic()
            writer.write(b"HEAD /two HTTP/1.1\r\n\r\n")
            assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 ")
            assert time.monotonic() - start >= 0.2 - _CLOCK_SKEW
    with pytest.raises(RuntimeError, match="not running"):
        await server.counters()


async def test_put_everywhere_serves_any_number_of_chunks(server, session):
    array = await session.create_array(
        f"s3://{server.bucket}/array", shape=(3000, 10), chunks=(1, 10), dtype="u1", compressor=None
    )
    await server.put_everywhere("array/c/", bytes(range(10)))
    found = await array.get_slice((0, 0), (3000, 10))
    assert (found == list(range(10))).all()


async def test_unknown_settings_of_the_stand_in_are_refused(server):
    with pytest.raises(TypeError, match="no setting speed"):
        await server.change(speed=1.0)


async def test_requests_that_arrive_byte_by_byte_are_parsed(server):
    """Head and body sent byte by byte, two requests on one connection, 100-continue, aws-chunked content."""
    chunked = b"4\r\nabcd\r\n3\r\nefg\r\n0\r\nx-amz-checksum-crc32:AAAAAA==\r\n\r\n"
    head = (
        f"PUT /{server.bucket}/key%20%2B HTTP/1.1\r\nHost: here\r\nExpect: 100-continue\r\n"
        f"x-amz-content-sha256: STREAMING-UNSIGNED-PAYLOAD-TRAILER\r\nContent-Length: {len(chunked)}\r\n\r\n"
    )
    async with connection(server) as (reader, writer):
        for byte in head.encode():
            writer.write(bytes([byte]))
            await writer.drain()
        assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        writer.write(chunked)
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
        writer.write(f"GET /{server.bucket}/key%20%2B HTTP/1.1\r\nHost: here\r\n\r\n".encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 200 OK")
        assert await reader.readexactly(7) == b"abcdefg"


async def test_the_stand_in_ends_with_the_process_that_started_it():
    """No server process is left after the process that started it has crashed."""
    script = (
        "import asyncio, os\n"
        "from tests.servers.stand_in import StandIn\n"
        "async def main():\n"
        "    server = await StandIn().__aenter__()\n"
        "    print(server.endpoint_url.rpartition(':')[2], flush=True)\n"
        "    os._exit(1)\n"
        "asyncio.run(main())\n"
    )
    owner = await asyncio.create_subprocess_exec(sys.executable, "-c", script, stdout=asyncio.subprocess.PIPE)
    port = int((await owner.communicate())[0])
    async with asyncio.timeout(10):
        while True:
            try:
                _, writer = await asyncio.open_connection("127.0.0.1", port)
            except ConnectionRefusedError:
                break
            writer.close()
            await asyncio.sleep(0.05)


@asynccontextmanager
async def connection(server: StandIn) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter]]:
    reader, writer = await asyncio.open_connection("127.0.0.1", int(server.endpoint_url.rpartition(":")[2]))
    try:
        yield reader, writer
    finally:
        writer.close()
        await writer.wait_closed()
