"""A long broken body is resumed where it broke, from the same version, into the same memory; a short one is not."""

from __future__ import annotations

import pytest

from zarr_s3_async.byte_range import Span
from zarr_s3_async.errors import Conflict, NetworkError
from zarr_s3_async.stores.s3.resume import WORTHWHILE

from ...servers import faults
from ...servers.exchange import Exchange, with_header
from .rig import Rig

pytestmark = pytest.mark.asyncio(loop_scope="module")

LONG = bytes(range(256)) * (WORTHWHILE // 256 + 1)
OTHER = LONG[::-1]


@pytest.fixture(autouse=True)
def stored(rig: Rig) -> None:
    rig.put("k", LONG)
    rig.forget()


class Memory:
    """A sink that counts its calls."""

    def __init__(self) -> None:
        self.memory = bytearray()
        self.calls = 0

    def __call__(self, length: int) -> memoryview:
        self.calls += 1
        self.memory = bytearray(length)
        return memoryview(self.memory)


def ranges(rig: Rig) -> list[str | None]:
    return [seen.request.headers.get("range") for seen in rig.server.requests("GetObject")]


@pytest.mark.parametrize("fault", [faults.reset_mid_body, faults.close_mid_body])
async def test_the_rest_of_a_broken_body_is_requested_by_range_and_version(rig: Rig, fault: faults.Fault) -> None:
    rig.server.cue("GetObject", fault)
    sink = Memory()
    blob = await rig.store().get("k", sink=sink)
    assert blob is not None
    assert (bytes(blob.data), blob.size) == (LONG, len(LONG))
    assert sink.calls == 1, "the rest is received into the same memory"
    assert sink.memory == LONG
    first, rest = rig.server.requests("GetObject")
    assert "range" not in first.request.headers
    start, stop = rest.request.headers["range"].removeprefix("bytes=").split("-")
    assert 0 < int(start) <= len(LONG) // 2
    assert int(stop) == len(LONG) - 1
    assert rest.request.headers["if-match"] == blob.version


async def test_a_body_that_breaks_several_times_is_completed(rig: Rig) -> None:
    rig.server.cue("GetObject", faults.reset_mid_body, times=3)
    blob = await rig.store(attempts=4).get("k")
    assert blob is not None
    assert bytes(blob.data) == LONG
    starts = [int(requested.removeprefix("bytes=").split("-")[0]) for requested in ranges(rig) if requested]
    assert starts == sorted(starts)
    assert len(set(starts)) == 3


async def test_a_stalled_body_is_resumed(rig: Rig) -> None:
    rig.server.cue("GetObject", faults.stall_mid_body)
    blob = await rig.store(attempt_timeout=2.0).get("k")
    assert blob is not None
    assert bytes(blob.data) == LONG
    assert ranges(rig)[1] is not None


async def test_an_object_replaced_during_the_read_is_read_again(rig: Rig) -> None:
    async def replace() -> None:
        rig.put("k", OTHER)

    rig.while_waiting = replace
    rig.server.cue("GetObject", faults.reset_mid_body)
    sink = Memory()
    blob = await rig.store(attempts=4).get("k", sink=sink)
    assert blob is not None
    assert bytes(blob.data) == OTHER, "never a mix of two versions"
    assert sink.memory == OTHER
    assert [requested is None for requested in ranges(rig)] == [True, False, True]


async def test_a_pinned_version_replaced_during_the_read_is_a_conflict(rig: Rig) -> None:
    blob = await rig.store().get("k")
    assert blob is not None

    async def replace() -> None:
        rig.put("k", OTHER)

    rig.while_waiting = replace
    rig.server.cue("GetObject", faults.reset_mid_body)
    with pytest.raises(Conflict):
        await rig.store(attempts=4).get("k", version=blob.version)


async def test_an_object_deleted_during_the_read_is_absent(rig: Rig) -> None:
    async def remove() -> None:
        await rig.store().delete("k")

    rig.while_waiting = remove
    rig.server.cue("GetObject", faults.reset_mid_body)
    assert await rig.store().get("k") is None


@pytest.mark.parametrize(
    "wrong",
    [faults.content_range("bytes 1-2/3"), faults.short_range, faults.whole_for_range, faults.internal_error],
    ids=["another range", "short", "whole", "500"],
)
async def test_a_wrong_rest_is_not_appended(rig: Rig, wrong: faults.Fault) -> None:
    rig.server.cue("GetObject", faults.reset_mid_body)
    rig.server.cue("GetObject", wrong, nth=2)
    sink = Memory()
    blob = await rig.store(attempts=4).get("k", sink=sink)
    assert blob is not None
    assert bytes(blob.data) == LONG


def in_chunks(exchange: Exchange) -> None:
    """Answer without Content-Length, as after a proxy."""
    answer = exchange.carry_out()
    head = with_header(with_header(answer.head, "Content-Length", None), "Transfer-Encoding", "chunked")
    body = bytes(answer.body)
    exchange.write(head + b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n")


async def test_a_rest_in_chunked_framing_is_received_at_its_position(rig: Rig) -> None:
    rig.server.cue("GetObject", faults.reset_mid_body)
    rig.server.cue("GetObject", in_chunks, nth=2)
    sink = Memory()
    blob = await rig.store().get("k", sink=sink)
    assert blob is not None
    assert bytes(blob.data) == LONG
    assert sink.memory == LONG
    assert rig.server.count("GetObject") == 2


def broken_of(body: bytes, status: str = "206 Partial Content", **lines: str) -> faults.Fault:
    """Half of a body that is not the rest of the first one."""

    def fault(exchange: Exchange) -> None:
        etag = exchange.request.headers.get("if-match", "")
        start = int(exchange.request.headers.get("range", "bytes=0-").removeprefix("bytes=").split("-")[0])
        message = {
            "etag": etag,
            "content-length": str(len(body) - start),
            **{n.replace("_", "-"): v for n, v in lines.items()},
        }
        head = f"HTTP/1.1 {status}\r\n" + "".join(f"{name}: {value}\r\n" for name, value in message.items() if value)
        exchange.write(head.encode() + b"\r\n" + body[start : (len(body) + start) // 2])
        exchange.close()

    return fault


@pytest.mark.parametrize(
    "wrong",
    [
        broken_of(OTHER, content_range="bytes 0-9/10"),
        broken_of(OTHER, content_range=""),
        broken_of(OTHER, etag='"other"'),
        broken_of(OTHER, "200 OK"),
        broken_of(OTHER, "200 OK", content_range=f"bytes 0-{len(LONG) - 1}/{len(LONG)}"),
    ],
    ids=["another range", "no range", "another object", "whole", "whole with a range"],
)
async def test_a_broken_response_with_the_wrong_rest_is_not_resumed(rig: Rig, wrong: faults.Fault) -> None:
    rig.server.cue("GetObject", faults.reset_mid_body)
    rig.server.cue("GetObject", wrong, nth=2)
    sink = Memory()
    blob = await rig.store(attempts=4).get("k", sink=sink)
    assert blob is not None
    assert bytes(blob.data) == LONG
    assert sink.memory == LONG


async def test_a_response_with_an_unrequested_range_is_not_resumed(rig: Rig) -> None:
    unasked = broken_of(OTHER, etag='"00000000000000000000000000000001-1"', content_range="bytes 5-9/100")
    rig.server.cue("GetObject", unasked)
    blob = await rig.store().get("k")
    assert blob is not None
    assert bytes(blob.data) == LONG
    assert ranges(rig) == [None, None]


async def test_the_rest_of_another_version_is_never_appended(rig: Rig) -> None:
    """Also with a pinned version on a server that ignores preconditions."""
    blob = await rig.store().get("k")
    assert blob is not None
    rig.server.forget()

    def ignore_if_match(exchange: Exchange) -> None:
        headers = {name: value for name, value in exchange.request.headers.items() if name != "if-match"}
        exchange.send(exchange.server.answer(exchange.request._replace(headers=headers)))

    async def replace() -> None:
        rig.put("k", OTHER)

    rig.while_waiting = replace
    rig.server.cue("GetObject", faults.reset_mid_body)
    rig.server.cue("GetObject", ignore_if_match, nth=2, times=99)
    with pytest.raises(Conflict):
        await rig.store(attempts=4).get("k", version=blob.version)


async def test_a_body_that_always_breaks_is_an_error_without_the_body(rig: Rig) -> None:
    rig.server.cue("GetObject", faults.reset_mid_body, times=99)
    with pytest.raises(NetworkError) as caught:
        await rig.store().get("k")
    assert type(caught.value) is NetworkError
    assert not hasattr(caught.value, "partial")
    assert caught.value.attempts == 3


async def test_short_bodies_and_ranges_are_retried(rig: Rig) -> None:
    rig.put("short", LONG[:1000])
    rig.server.cue("GetObject", faults.reset_mid_body)
    await rig.store().get("short")
    assert ranges(rig) == [None, None]
    rig.server.forget()
    rig.server.cue("GetObject", faults.reset_mid_body)
    blob = await rig.store().get("k", range=Span(10, len(LONG)))
    assert blob is not None
    assert bytes(blob.data) == LONG[10:]
    assert len(set(ranges(rig))) == 1
