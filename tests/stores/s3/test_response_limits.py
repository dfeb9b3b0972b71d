"""Endless responses and listings: memory, requests and time are bounded, whatever the framing."""

from __future__ import annotations

import tracemalloc
from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest

import zarr_s3_async as zs
from zarr_s3_async._model.formats import MAX_BYTES
from zarr_s3_async._types import Version
from zarr_s3_async.byte_range import Span, Suffix
from zarr_s3_async.errors import StoreError
from zarr_s3_async.stores.s3.store import S3Store

from ...servers import faults
from .rig import BUCKET, Rig

pytestmark = pytest.mark.asyncio(loop_scope="module")

MIB = 2**20
FOREVER = 1000
BIG = bytes(6 * MIB)


@contextmanager
def at_most(nbytes: int) -> Iterator[None]:
    """Bounds the memory taken meanwhile; the test server is in this process, and takes little."""
    tracemalloc.start()
    try:
        before = tracemalloc.get_traced_memory()[0]
        yield
        taken = tracemalloc.get_traced_memory()[1] - before
    finally:
        tracemalloc.stop()
    assert taken < nbytes, f"{taken / MIB:.0f} MiB"


FRAMINGS = {
    "in chunks": 'etag: "1"\r\ntransfer-encoding: chunked',
    "of a terabyte": 'etag: "1"\r\ncontent-length: 1000000000000',
    "until the connection ends": 'etag: "1"\r\nconnection: close',
}
OPERATIONS: dict[str, Callable[[S3Store], Awaitable[Any]]] = {
    "PutObject": lambda store: store.put("k", b"x"),
    "UploadPart": lambda store: store.put("k", BIG),
    "CreateMultipartUpload": lambda store: store.put("k", BIG),
    "CompleteMultipartUpload": lambda store: store.put("k", BIG),
    "DeleteObject": lambda store: store.delete("k"),
    "DeleteObjects": lambda store: store.delete_many(["k"]),
    "ListObjectsV2": lambda store: store.list_dir(""),
}


@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS)
@pytest.mark.parametrize("status", ["200 OK", "500 No"])
@pytest.mark.parametrize("operation", OPERATIONS)
async def test_an_endless_response_is_an_error_in_bounded_memory(
    rig: Rig, operation: str, status: str, framing: str
) -> None:
    store = rig.store(attempts=2, multipart_bytes=5 * MIB, part_bytes=5 * MIB)
    await store.delete_many(["warm"])  # clients are made outside of what is measured
    rig.server.cue(operation, faults.endless_page(status, framing), times=FOREVER)
    with at_most(48 * MIB), pytest.raises(StoreError):
        await OPERATIONS[operation](store)
    assert rig.server.count(operation) <= 4


@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS)
async def test_endless_metadata_is_an_error_in_bounded_memory(rig: Rig, framing: str) -> None:
    transport: Any = "wire" if rig.is_wire else "sdk"
    rig.server.cue("GetObject", faults.endless_page("200 OK", framing), key="zarr.json", times=FOREVER)
    config = replace(rig.config, transport=transport)
    async with zs.Session(s3=config, retry=zs.RetryPolicy(attempts=2)) as session:
        await session.s3(BUCKET).get("warm")
        with at_most(3 * MAX_BYTES), pytest.raises(zs.ZarrS3Error):
            await session.open_array(f"s3://{BUCKET}/a")
        assert rig.server.count("GetObject", "zarr.json") <= 2


@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS)
@pytest.mark.parametrize("status", ["201 Created", "203 Changed", "226 IM Used"])
@pytest.mark.parametrize("requested", [None, Span(2, 10), Suffix(8)], ids=["whole", "span", "suffix"])
async def test_an_endless_object_with_an_unexpected_status_is_an_error_in_bounded_memory(
    rig: Rig, requested: Any, status: str, framing: str
) -> None:
    store = rig.store(attempts=2)
    await store.get("warm")
    rig.server.cue("GetObject", faults.endless_page(status, framing), times=FOREVER)
    with at_most(8 * MIB), pytest.raises(StoreError):
        await store.get("k", range=requested)
    assert rig.server.count("GetObject") <= 3


# A whole object, or more, instead of a range

OBJECT = bytes(range(256)) * 2**17  # 32 MiB
RANGES = {
    "span": (Span(1000, 5000), OBJECT[1000:5000]),
    "suffix": (Suffix(5000), OBJECT[-5000:]),
    "near the end": (Span(len(OBJECT) - 10, len(OBJECT) + 10), OBJECT[-10:]),
}


@pytest.fixture(scope="module")
def big(shared_rig: Rig) -> None:
    shared_rig.put("big", OBJECT)


@pytest.mark.parametrize(("requested", "right"), RANGES.values(), ids=RANGES)
@pytest.mark.parametrize("with_sink", [False, True])
async def test_a_server_that_ignores_ranges_takes_only_the_memory_of_the_range(
    rig: Rig, big: None, requested: Any, right: bytes, with_sink: bool
) -> None:
    store = rig.store()
    await store.get("big", range=requested)  # clients are made outside of what is measured
    rig.server.cue("GetObject", faults.whole_for_range, times=FOREVER)
    sunk: list[bytearray] = []

    def sink(length: int) -> memoryview:
        sunk.append(bytearray(length))
        return memoryview(sunk[-1])

    # The test server is in this process: it copies the object once to send it.
    with at_most(len(OBJECT) + 3 * MIB):
        blob = await store.get("big", range=requested, sink=sink if with_sink else None)
    assert blob is not None
    assert (bytes(blob.data), blob.size) == (right, len(OBJECT))
    assert not with_sink or bytes(sunk[-1]) == right


async def test_a_range_past_the_end_of_a_whole_object_is_empty(rig: Rig, big: None) -> None:
    rig.server.cue("GetObject", faults.whole_for_range, times=FOREVER)
    blob = await rig.store().get("big", range=Span(len(OBJECT), len(OBJECT) + 5))
    assert blob is not None
    assert (bytes(blob.data), blob.size) == (b"", len(OBJECT))


async def test_a_connection_is_reused_if_little_follows_the_range(rig: Rig) -> None:
    rig.put("small", bytes(1000))
    rig.server.cue("GetObject", faults.whole_for_range, times=FOREVER)
    store = rig.store()
    await store.get("small", range=Span(1, 10))
    before = rig.server.connections
    for _ in range(5):
        await store.get("small", range=Span(1, 10))
    if rig.is_wire:
        assert rig.server.connections == before


async def test_a_short_whole_object_without_a_length_is_accepted_for_a_range(rig: Rig) -> None:
    def whole_in_chunks(exchange: Any) -> None:
        kept = {name: value for name, value in exchange.request.headers.items() if name != "range"}
        exchange.request = exchange.request._replace(headers=kept)
        faults.in_chunks(exchange)

    rig.put("k", OBJECT[:100_000])
    rig.server.cue("GetObject", whole_in_chunks, times=FOREVER)
    blob = await rig.store().get("k", range=Span(5, 10))
    assert blob is not None
    assert (bytes(blob.data), blob.size) == (OBJECT[5:10], 100_000)
    rig.put("k", OBJECT)
    with at_most(2 * len(OBJECT) + 8 * MIB), pytest.raises(zs.UnexpectedResponse, match="whole object for a range"):
        await rig.store(attempts=1).get("k", range=Span(5, 10))


@pytest.mark.parametrize("framing", FRAMINGS.values(), ids=FRAMINGS)
@pytest.mark.parametrize("requested", [Span(0, 1000), Suffix(1000)], ids=["span", "suffix"])
async def test_a_206_longer_than_its_range_is_not_received(rig: Rig, requested: Any, framing: str) -> None:
    rig.put("k", OBJECT[:2000])
    store = rig.store(attempts=2)
    await store.get("k")
    status = "206 Partial\r\ncontent-range: bytes 0-999999999999/1000000000000"
    rig.server.cue("GetObject", faults.endless_page(status, framing), times=FOREVER)
    with at_most(4 * MIB), pytest.raises((zs.UnexpectedResponse, zs.NetworkError)):
        await store.get("k", range=requested)
    assert rig.server.count("GetObject", "k") <= 4


# Listings


def entry(key: str) -> str:
    return f"<Contents><Key>{key}</Key><ETag>1</ETag><Size>1</Size></Contents>"


def folder(name: str) -> str:
    return f"<CommonPrefixes><Prefix>{name}</Prefix></CommonPrefixes>"


def listing(pages: Callable[[int], list[str] | None]) -> faults.Fault:
    """A listing whose n-th page has these elements; None ends it."""
    number = 0

    def page(exchange: Any) -> None:
        nonlocal number
        found = pages(number)
        number += 1
        more = "" if found is None else f"<NextContinuationToken>{number}</NextContinuationToken>"
        truncated = str(found is not None).lower()
        text = (
            f"<ListBucketResult><IsTruncated>{truncated}</IsTruncated>{more}{''.join(found or ())}</ListBucketResult>"
        )
        body = text.encode()
        head = f"HTTP/1.1 200 OK\r\ncontent-type: application/xml\r\ncontent-length: {len(body)}\r\n\r\n"
        exchange.write(head.encode() + body)

    return page


ENDLESS: dict[str, Callable[[int], list[str] | None]] = {
    "the same page": lambda _: [entry("root/a"), entry("root/b")],
    "two pages in turn": lambda n: [entry(f"root/{'ab'[n % 2]}")],
    "backwards": lambda n: [entry(f"root/{10**9 - n}")],
    "empty pages": lambda _: [],
    "the same folder": lambda _: [folder("root/a/")],
    "backwards in both orders in turn": lambda n: [entry(("root/a/x", "root/a-b")[n % 2])],
    "a key per page, without end": lambda n: [entry(f"root/{n:09}")],
}


@pytest.mark.parametrize("pages", ENDLESS.values(), ids=ENDLESS)
@pytest.mark.parametrize("way", ["list_prefix", "list_dir", "list_pages"])
async def test_a_listing_that_does_not_advance_ends_in_an_error(
    rig: Rig, way: str, pages: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("zarr_s3_async.stores.s3.listing.MAX_SPARSE_PAGES", 200)
    rig.server.cue("ListObjectsV2", listing(pages), times=10**6)
    store = rig.store()
    with pytest.raises(zs.UnexpectedResponse, match=r"ListObjectsV2.*page"):
        await listed(store, way)
    assert rig.server.count("ListObjectsV2") <= 202


async def listed(store: S3Store, way: str) -> list[str]:
    match way:
        case "list_prefix":
            return [found.key async for found in store.list_prefix()]
        case "list_dir":
            level = await store.list_dir("")
            return [*level.dirs, *(found.key for found in level.entries)]
    return [found.key async for page in store.list_pages() for found in page]


RIGHT = {
    "by bytes": ["root/a-b", "root/a/x", "root/b"],
    "folder by folder, as a file system lists": ["root/a/x", "root/a-b", "root/b"],
}


@pytest.mark.parametrize("keys", RIGHT.values(), ids=RIGHT)
async def test_listings_in_both_orders_of_servers_are_accepted(rig: Rig, keys: list[str]) -> None:
    rig.server.cue("ListObjectsV2", listing(lambda n: [entry(keys[n])] if n < 3 else None), times=FOREVER)
    assert await listed(rig.store(), "list_prefix") == [key.removeprefix("root/") for key in keys]


async def test_a_few_empty_pages_do_not_end_a_listing(rig: Rig) -> None:
    """S3 may return empty pages if it scans many keys without a match."""
    right = listing(lambda n: [entry("root/a")] if n == 20 else [] if n < 40 else None)
    rig.server.cue("ListObjectsV2", right, times=FOREVER)
    assert await listed(rig.store(), "list_prefix") == ["a"]


async def test_a_long_listing_of_full_pages_is_read_to_its_end(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("zarr_s3_async.stores.s3.listing.MAX_SPARSE_PAGES", 20)
    right = listing(lambda n: [entry(f"root/{n:04}/{i:03}") for i in range(50)] if n < 60 else None)
    rig.server.cue("ListObjectsV2", right, times=FOREVER)
    assert len(await listed(rig.store(), "list_prefix")) == 60 * 50


async def test_entries_have_the_versions_of_the_listing(rig: Rig) -> None:
    right = listing(lambda n: [entry("root/a")] if n == 0 else None)
    rig.server.cue("ListObjectsV2", right, times=FOREVER)
    assert [found.version async for found in rig.store().list_prefix()] == [Version("1")]
