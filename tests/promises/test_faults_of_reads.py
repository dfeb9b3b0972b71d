"""`get_slice` under each fault of the fault table: the right values or the right error, never a fill value."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any, NamedTuple

import numpy as np
import pytest

import zarr_s3_async as zs

from ..servers import faults
from ..servers.faults import Fault
from .fault_arrays import BUCKET, FILL, FOREVER, OBJECT, STORED, Bench, Options, bench_of, failing

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Read(NamedTuple):
    """A read, and which of its requests fails."""

    layout: str
    start: int
    stop: int
    nth: int = 1
    """Which of its GETs fails, from 1."""
    gets: int = 1
    """Number of GETs that it makes if none fails."""

    async def run(self, array: zs.Array, **options: Any) -> list[int]:
        return (await array.get_slice(self.start, self.stop, **options)).tolist()

    @property
    def right(self) -> list[int]:
        return STORED[self.start : self.stop].tolist()


READS = {
    "a raw chunk": Read("raw", 0, 4),
    "a part of a chunk": Read("zstd", 1, 3),
    "a whole shard": Read("shard", 0, 8),
    "a shard's index": Read("shard", 1, 3, nth=1, gets=2),
    "a pinned range": Read("shard", 1, 3, nth=2, gets=2),
}
PINNED = "a pinned range"
RANGED = ("a shard's index", PINNED)
WHOLE = ("a raw chunk", "a part of a chunk", "a whole shard")


def by_read(*rows: tuple[str, Fault, Any], reads: tuple[str, ...] = tuple(READS)) -> Any:
    """Each row with each of these reads over the wire, and with one of each kind over the SDK."""
    kinds = [("wire", read) for read in reads] + [("sdk", read) for read in reads if read in ("a raw chunk", *RANGED)]
    return pytest.mark.parametrize(
        ("transport", "fault", "error", "read"),
        [
            pytest.param(transport, fault, error, READS[read], id=f"{name}-{read}-{transport}")
            for name, fault, error in rows
            for transport, read in kinds
        ],
    )


def page(body: bytes) -> Fault:
    return faults.refuse(404, body=body)


@by_read(
    ("no bucket", faults.no_such_bucket, zs.BucketNotFound),
    ("html 404", faults.html_404, zs.UnexpectedResponse),
    ("bare 404", faults.bare_404, zs.UnexpectedResponse),
    ("an error in a page", page(b"<a><Error><Code>NoSuchKey</Code></Error></a>"), zs.UnexpectedResponse),
    ("half an error", page(b"<Error><Code>NoSuchKey</Code>"), zs.UnexpectedResponse),
    ("bare 403", faults.bare_403, zs.AccessDenied),
    ("access denied", faults.access_denied, zs.AccessDenied),
    ("wrong key", faults.refuse(403, "SignatureDoesNotMatch"), zs.AccessDenied),
    ("expired", faults.expired_token, zs.CredentialsExpired),
    ("another region", faults.refuse(301, "PermanentRedirect"), zs.WrongRegion),
    ("another host", faults.redirect("http://127.0.0.1:9/"), zs.WrongRegion),
    ("not modified", faults.refuse(304), zs.UnexpectedResponse),
    ("teapot", faults.refuse(418), zs.UnexpectedResponse),
)
async def test_a_refused_read_raises_its_error_after_one_request(
    bench: Bench, fault: Fault, error: type, read: Read
) -> None:
    array = await bench.array(read.layout)
    bench.cue("GetObject", fault, nth=read.nth, times=FOREVER)
    out = np.full(read.stop - read.start, 99, "i4")
    raised = await failing(read.run(array, out=out))
    assert type(raised) is error
    assert raised.outcome is None
    assert FILL not in out
    assert bench.count("GetObject") == read.nth


TRANSIENT = (
    ("500", faults.internal_error, zs.UnexpectedResponse),
    ("502", faults.refuse(502), zs.UnexpectedResponse),
    ("503", faults.unavailable, zs.Throttled),
    ("slow down", faults.slow_down, zs.Throttled),
    ("429", faults.too_many, zs.Throttled),
    ("retry after", faults.retry_after(3600), zs.Throttled),
    ("request timeout", faults.request_timeout, zs.UnexpectedResponse),
    ("huge page", faults.endless_page("500 No"), zs.UnexpectedResponse),
    ("error in 200", faults.error_in_200, zs.UnexpectedResponse),
    ("page in 200", faults.page_in_200, zs.UnexpectedResponse),
    ("no ETag", faults.changed(etag=None), zs.UnexpectedResponse),
    ("empty ETag", faults.changed(etag=""), zs.UnexpectedResponse),
    ("203", faults.changed("203 Somebody"), zs.UnexpectedResponse),
    ("204", faults.changed("204 Nothing", content_length=None), zs.UnexpectedResponse),
    ("reset", faults.reset_before_head, zs.NetworkError),
    ("close", faults.close_before_head, zs.NetworkError),
    ("reset mid-body", faults.reset_mid_body, zs.NetworkError),
    ("close mid-body", faults.close_mid_body, zs.NetworkError),
    ("close mid-chunks", faults.cut_in_chunks, zs.NetworkError),
    ("garbage", faults.garbage, zs.NetworkError),
)


@by_read(*TRANSIENT)
async def test_a_transient_fault_costs_one_more_request(bench: Bench, fault: Fault, error: type, read: Read) -> None:
    array = await bench.array(read.layout)
    bench.cue("GetObject", fault, nth=read.nth)
    assert await read.run(array) == read.right
    assert bench.count("GetObject") == read.gets + 1


@by_read(*TRANSIENT)
async def test_a_persistent_fault_raises_its_error_after_all_attempts(
    bench: Bench, fault: Fault, error: type, read: Read
) -> None:
    array = await bench.array(read.layout)
    bench.cue("GetObject", fault, nth=read.nth, times=FOREVER)
    raised = await failing(read.run(array))
    assert type(raised) is error
    # A read on an idle connection that was closed is sent again on a new one: counted as a request, not as an attempt.
    closed = fault in (faults.reset_before_head, faults.close_before_head)
    assert raised.attempts in ((3, 4) if closed else (3,))
    assert bench.count("GetObject") == read.nth - 1 + raised.attempts


@by_read(("no length", faults.close_without_length, None))
async def test_a_body_of_unknown_length_is_never_returned(bench: Bench, fault: Fault, error: None, read: Read) -> None:
    array = await bench.array(read.layout)
    bench.cue("GetObject", fault, nth=read.nth, times=FOREVER)
    assert isinstance(await failing(read.run(array)), zs.UnexpectedResponse | zs.NetworkError)


@by_read(
    ("longer than its length", faults.longer_than_said, None),
    ("in chunks", faults.in_chunks, None),
    ("interim", faults.interim(2), None),
    ("labelled as encoded", faults.changed(content_encoding="gzip"), None),
    ("weak ETag", faults.changed(etag='W/"1"'), None),
)
async def test_unusual_but_valid_responses_give_the_right_values(
    bench: Bench, fault: Fault, error: None, read: Read
) -> None:
    array = await bench.array(read.layout)
    bench.cue("GetObject", fault, nth=read.nth)
    assert await read.run(array) == read.right


# Absence


@pytest.mark.parametrize("read", [name for name in READS if name != PINNED])
async def test_no_such_key_is_the_fill_value_or_an_error_as_requested(bench: Bench, read: str) -> None:
    wanted = READS[read]
    array = await bench.array(wanted.layout)
    bench.cue("GetObject", faults.no_such_key, times=FOREVER)
    assert await wanted.run(array) == [FILL] * len(wanted.right)
    raised = await failing(wanted.run(array, missing="raise"))
    assert type(raised) is zs.ChunkNotFound
    assert (raised.array, raised.chunk) == (array.url, (0,))
    assert bench.count("GetObject") == 2
    strict = await bench.session.open_array(array.url, missing="raise")
    assert type(await failing(wanted.run(strict))) is zs.ChunkNotFound


@pytest.mark.parametrize("read", READS)
async def test_an_empty_object_is_corrupt_and_not_absent(bench: Bench, read: str) -> None:
    wanted = READS[read]
    array = await bench.array(wanted.layout)
    bench.put(b"")
    raised = await failing(wanted.run(array))
    assert type(raised) is zs.ChunkDecodeError
    assert raised.version is not None


# Damage that only the decoder can detect


@by_read(("truncated", faults.truncated_at(3), None), reads=WHOLE)
async def test_a_truncated_object_with_a_matching_length_is_fetched_once_more(
    bench: Bench, fault: Fault, error: None, read: Read
) -> None:
    array = await bench.array(read.layout)
    bench.cue("GetObject", fault)
    assert await read.run(array) == read.right
    assert bench.count("GetObject") == 2


@pytest.mark.parametrize("read", READS)
@pytest.mark.parametrize("damage", [lambda d: d[:3], lambda d: d[:-1], lambda d: b"\xff" * len(d), lambda d: d + d])
async def test_an_object_that_stays_damaged_is_a_decode_error_that_names_it(
    bench: Bench, read: str, damage: Any
) -> None:
    wanted = READS[read]
    array = await bench.array(wanted.layout)
    whole = bench.stored()
    assert whole is not None
    bench.put(damage(whole))
    if wanted.layout == "raw" and len(damage(whole)) == len(whole):
        return  # any bytes of that length are a valid raw chunk
    if wanted.layout == "shard" and damage(whole) == whole + whole:
        assert await wanted.run(array) == wanted.right, "all chunks that the index at the end lists are still there"
        return
    raised = await failing(wanted.run(array))
    assert type(raised) is zs.ChunkDecodeError
    assert raised.key == OBJECT
    assert raised.version is not None
    assert raised.array == array.url
    assert raised.chunk == (0,)
    assert raised.codec
    assert raised.__cause__ is not None
    assert bench.count("GetObject") == 2, "fetched twice"


@pytest.mark.parametrize("read", RANGED)
async def test_one_damaged_chunk_of_a_shard_leaves_the_others_readable(bench: Bench, read: str) -> None:
    array = await bench.array("shard")
    whole = bench.stored()
    assert whole is not None
    bench.put(b"\xff" * 3 + whole[3:])
    assert (await array.get_slice(4, 8)).tolist() == STORED[4:8].tolist()
    raised = await failing(array.get_slice(0, 2))
    assert (type(raised), raised.codec) == (zs.ChunkDecodeError, "zstd")


@pytest.mark.parametrize("size", [0, 1, 67, 68])
async def test_a_truncated_index_at_the_start_of_a_shard_is_a_decode_error(bench: Bench, size: int) -> None:
    array = await bench.array("shard, index first")
    whole = bench.stored()
    assert whole is not None
    bench.put(whole[:size])
    assert type(await failing(array.get_slice(1, 3))) is zs.ChunkDecodeError


# Ranges


@pytest.mark.parametrize("read", RANGED)
async def test_the_requested_range_is_cut_from_a_response_with_the_whole_object(bench: Bench, read: str) -> None:
    array = await bench.array("shard")
    bench.cue("GetObject", faults.whole_for_range, nth=READS[read].nth, times=FOREVER)
    assert await READS[read].run(array) == READS[read].right
    assert bench.count("GetObject") == 2


@by_read(
    ("another", faults.content_range("bytes 3-70/900"), None),
    ("nonsense", faults.content_range("all of it"), None),
    ("without a size", faults.content_range("bytes 0-67/*"), None),
    ("short", faults.short_range, None),
    ("cut", faults.truncated_at(3), None),
    reads=RANGED,
)
async def test_a_wrong_range_is_retried_and_then_an_error(bench: Bench, fault: Fault, error: None, read: Read) -> None:
    array = await bench.array(read.layout)
    bench.cue("GetObject", fault, nth=read.nth)
    assert await read.run(array) == read.right
    assert bench.count("GetObject") == 3
    array = await bench.array(read.layout)
    bench.cue("GetObject", fault, nth=read.nth, times=FOREVER)
    assert type(await failing(read.run(array))) is zs.UnexpectedResponse
    assert bench.count("GetObject") == read.nth - 1 + 3


@pytest.mark.parametrize("read", RANGED)
async def test_416_is_retried_and_then_an_error_for_an_object_that_has_the_range(bench: Bench, read: str) -> None:
    array = await bench.array("shard")
    bench.cue("GetObject", faults.invalid_range, nth=READS[read].nth)
    assert await READS[read].run(array) == READS[read].right
    array = await bench.array("shard")
    bench.cue("GetObject", faults.invalid_range, nth=READS[read].nth, times=FOREVER)
    raised = await failing(READS[read].run(array))
    assert type(raised) is zs.UnexpectedResponse
    assert raised.status == 416


# Shards that are rewritten under a reader


def rewritten(bench: Bench, body: bytes) -> Fault:
    """Replace the shard just before this request is answered."""

    def fault(exchange: Any) -> None:
        bench.put(body)
        exchange.reply()

    return fault


@pytest.mark.parametrize("ignores_if_match", [False, True], ids=["with If-Match", "a server that ignores If-Match"])
async def test_a_shard_rewritten_under_a_reader_is_read_again(bench: Bench, ignores_if_match: bool) -> None:
    array = await bench.array("shard")
    old = bench.stored()
    await array.set_slice(-STORED[:8], 0)
    new = bench.stored()
    assert old is not None
    assert new is not None
    bench.put(old)
    bench.server.forget()
    await array.refresh()
    replace = rewritten(bench, new)

    def fault(exchange: Any) -> None:
        if ignores_if_match:
            bench.put(new)
            faults.ignoring("if-match")(exchange)
        else:
            replace(exchange)

    bench.cue("GetObject", fault, nth=2)
    assert (await array.get_slice(1, 3)).tolist() == [-2, -3], "one state of the shard"
    assert bench.count("GetObject") == 4


@pytest.mark.parametrize(
    "fault", [faults.precondition_failed, faults.no_such_key, faults.conflict], ids=["412", "404", "409"]
)
async def test_a_shard_that_is_always_rewritten_is_read_whole_after_a_bounded_number_of_attempts(
    bench: Bench, fault: Fault
) -> None:
    array = await bench.array("shard")
    for nth in range(2, 40, 2):
        bench.cue("GetObject", fault, nth=nth // 2 + 1)

    def pinned(exchange: Any) -> None:
        (fault if "if-match" in exchange.request.headers else type(exchange).reply)(exchange)

    bench.server.forget()
    bench.cue("GetObject", pinned, times=FOREVER)
    assert (await array.get_slice(1, 3)).tolist() == [2, 3]
    assert bench.count("GetObject") == 2 * 8 + 1


async def test_a_shard_deleted_during_a_read_is_absent(bench: Bench) -> None:
    array = await bench.array("shard")

    def gone(exchange: Any) -> None:
        bench.server.remove(BUCKET, exchange.request.key)
        exchange.reply()

    bench.cue("GetObject", gone, nth=2)
    assert (await array.get_slice(1, 3)).tolist() == [FILL, FILL]
    assert bench.count("GetObject") == 3


# Time


@pytest.mark.parametrize("transport", ["wire", "sdk"])
@pytest.mark.parametrize("fault", [faults.stall_before_head, faults.stall_mid_body, faults.trickle])
async def test_a_silent_server_ends_each_attempt_and_then_the_call(transport: str, fault: Fault) -> None:
    async with bench_of(Options(transport, attempts=2), attempt_timeout=0.4) as slow:
        array = await slow.array("raw")
        slow.cue("GetObject", fault, times=FOREVER)
        raised = await failing(array.get_slice(0, 4))
        assert type(raised) is zs.DeadlineExceeded
        assert slow.count("GetObject") == 2


@pytest.mark.parametrize("transport", ["wire", "sdk"])
async def test_a_stall_is_retried(transport: str) -> None:
    async with bench_of(Options(transport), attempt_timeout=1.5) as slow:
        array = await slow.array("raw")
        slow.cue("GetObject", faults.stall_mid_body)
        assert (await array.get_slice(0, 4)).tolist() == STORED[:4].tolist()
        assert slow.count("GetObject") == 2


# S3 checksums


@pytest.mark.parametrize("transport", ["wire", "sdk"])
async def test_a_body_that_does_not_match_its_checksum_is_fetched_once_more(transport: str) -> None:
    async with bench_of(Options(transport), checksums="on") as careful:
        for read in (READS[name] for name in WHOLE):
            array = await careful.array(read.layout)
            careful.cue("GetObject", faults.checksum())
            assert await read.run(array) == read.right
            careful.server.forget()
            careful.cue("GetObject", faults.checksum(b"other"))
            assert await read.run(array) == read.right
            assert careful.count("GetObject") == 2
            careful.server.forget()
            careful.cue("GetObject", faults.checksum(b"other"), times=FOREVER)
            raised = await failing(read.run(array))
            assert type(raised) is zs.ChecksumMismatch
            assert careful.count("GetObject") == 2


# Opt-ins


@pytest.mark.parametrize("transport", ["wire", "sdk"])
async def test_options_for_missing_objects_apply_to_chunk_reads_only(transport: str) -> None:
    async def both(array: zs.Array) -> Awaitable[list[int]]:
        return (await array.get_slice(1, 3)).tolist()

    for option, fault, error in (
        ("missing_on_403", faults.access_denied, zs.AccessDenied),
        ("accept_bare_404", faults.bare_404, None),
        ("accept_bare_404", faults.html_404, None),
    ):
        async with bench_of(Options(transport), **{option: True}) as lenient:
            for layout in ("raw", "zstd", "shard"):
                array = await lenient.array(layout)
                lenient.cue("GetObject", fault, times=FOREVER)
                assert await both(array) == [FILL, FILL]
                raised = await failing(array.get_slice(1, 3, missing="raise"))
                assert type(raised) is zs.ChunkNotFound
                array = await lenient.array("shard")
                lenient.cue("GetObject", fault, nth=2, times=1)
                if error is None:
                    assert await both(array) == [2, 3], "a pinned range of a replaced object: read again"
                else:
                    assert type(await failing(array.get_slice(1, 3))) is error, (
                        "the shard exists, for its index was read"
                    )
                lenient.server.forget()
                lenient.cue("GetObject", faults.no_such_bucket, times=FOREVER)
                array = await lenient.array(layout)
                lenient.cue("GetObject", faults.no_such_bucket, times=FOREVER)
                assert type(await failing(array.get_slice(1, 3))) is zs.BucketNotFound
