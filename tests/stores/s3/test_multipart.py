"""Multipart uploads of big objects are atomic, happen once, keep their precondition, and leave no open upload."""

from __future__ import annotations

import asyncio
import warnings
from typing import Any

import numpy as np
import pytest

from zarr_s3_async import config as options
from zarr_s3_async.errors import AccessDenied, Conflict, NetworkError, StoreError, Unsupported
from zarr_s3_async.stores.s3 import multipart
from zarr_s3_async.stores.s3.request import Request, Response
from zarr_s3_async.stores.s3.retry import Traced
from zarr_s3_async.stores.s3.store import S3Store
from zarr_s3_async.stores.s3.write_ids import WrittenVersion

from ...servers import faults
from .rig import Rig
from .scripted import ScriptedRetries

pytestmark = pytest.mark.asyncio(loop_scope="module")

PART = 1000
BODY = np.random.default_rng(1).bytes(4 * PART + 500)
"""Five parts, the last one short."""


@pytest.fixture(autouse=True)
def small_parts(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(options, "_MIN_PART_BYTES", 1)
    monkeypatch.setattr(rig, "uploads_before", rig.server.open_uploads(), raising=False)
    rig.server.ignores = ()
    for upload in ("k", "a/k"):
        rig.remove(upload)


def store_of(rig: Rig, **more: Any) -> S3Store:
    return rig.store(multipart_bytes=2 * PART, part_bytes=PART, **more)


def sent(rig: Rig) -> dict[str, int]:
    counts: dict[str, int] = {}
    for seen in rig.server.seen:
        counts[seen.operation] = counts.get(seen.operation, 0) + 1
    return counts


def settled(rig: Rig) -> None:
    """Checks that the test leaves no open upload."""
    assert rig.server.open_uploads() == rig.uploads_before  # type: ignore[attr-defined]  # set by the fixture


@pytest.mark.parametrize("make", [bytes, bytearray, memoryview, lambda b: memoryview(np.frombuffer(b, "<u2"))])
async def test_a_big_object_is_uploaded_in_parts(rig: Rig, make: Any) -> None:
    version = await store_of(rig).put("k", make(BODY))
    assert rig.stored("k") == BODY
    assert sent(rig) == {"CreateMultipartUpload": 1, "UploadPart": 5, "CompleteMultipartUpload": 1}
    blob = await rig.store().get("k")
    assert blob is not None
    assert blob.version == version, "the version is that of the whole object"
    assert await rig.store().put("k", b"next", when=version)
    settled(rig)


async def test_a_small_object_is_uploaded_by_one_put(rig: Rig) -> None:
    await store_of(rig).put("k", BODY[: 2 * PART])
    assert sent(rig) == {"PutObject": 1}


async def test_parts_are_uploaded_concurrently_in_a_slot_each(rig: Rig) -> None:
    held: list[int] = []
    store = store_of(rig)
    slots = store._transport._slots.session
    traced = store._transport._traced
    send = traced.send

    async def noting(request: Any, attempt: int = 1) -> Any:
        held.append(slots.held)
        await asyncio.sleep(0.01)
        return await send(request, attempt)

    class Noting:
        send = staticmethod(noting)

    store._transport._traced = Noting()  # type: ignore[assignment]  # for this test
    await store.put("k", BODY)
    assert max(held) == 5
    assert held[0] == held[-1] == 1


async def test_the_completion_of_an_upload_has_the_precondition(rig: Rig) -> None:
    store = store_of(rig)
    version = await store.put("k", BODY, when="absent")
    assert isinstance(version, WrittenVersion)
    with pytest.raises(Conflict):
        await store.put("k", BODY[::-1], when="absent")
    again = await store.put("k", BODY[::-1], when=version)
    with pytest.raises(Conflict):
        await store.put("k", BODY, when=version)
    assert rig.stored("k") == BODY[::-1]
    assert isinstance(again, WrittenVersion)
    assert again.writes[1:] == version.writes, "the ids of earlier writes are kept"
    rig.remove("k")
    with pytest.raises(Conflict):
        await store.put("k", BODY, when=again)
    settled(rig)


@pytest.mark.parametrize("fault", [faults.lost_answer, faults.lost_error()], ids=["reset", "500"])
@pytest.mark.parametrize("when", ["always", "absent"])
async def test_a_completion_with_a_lost_response_is_recognised(rig: Rig, fault: faults.Fault, when: Any) -> None:
    rig.server.cue("CompleteMultipartUpload", fault)
    version = await store_of(rig).put("k", BODY, when=when)
    assert rig.stored("k") == BODY
    assert sent(rig) == {
        "CreateMultipartUpload": 1,
        "UploadPart": 5,
        "CompleteMultipartUpload": 2,
        "HeadObject": 1,
    }
    blob = await rig.store().get("k")
    assert blob is not None
    assert blob.version == version


async def test_a_race_lost_after_a_lost_completion_is_a_conflict(rig: Rig) -> None:
    async def win() -> None:
        rig.put("k", b"theirs")

    rig.server.cue("CompleteMultipartUpload", faults.internal_error)
    rig.while_waiting = win
    with pytest.raises(Conflict):
        await store_of(rig).put("k", BODY, when="absent")
    assert rig.stored("k") == b"theirs"
    settled(rig)


async def test_an_error_document_in_a_200_completes_nothing(rig: Rig) -> None:
    rig.server.cue("CompleteMultipartUpload", faults.error_in_200)
    await store_of(rig).put("k", BODY)
    assert rig.stored("k") == BODY
    assert sent(rig)["CompleteMultipartUpload"] == 2


async def test_a_refusal_in_a_200_response_is_raised(rig: Rig) -> None:
    rig.server.cue("CompleteMultipartUpload", faults.refuse(200, "PreconditionFailed"), times=9)
    with pytest.raises(Conflict):
        await store_of(rig).put("k", BODY, when="absent")
    assert sent(rig)["CompleteMultipartUpload"] == 1
    settled(rig)


@pytest.mark.parametrize("code", ["ConditionalRequestConflict", "NoSuchUpload"])
async def test_a_409_restarts_the_upload_with_all_its_parts(rig: Rig, code: str) -> None:
    rig.server.cue("CompleteMultipartUpload", faults.refuse(409 if code.startswith("Cond") else 404, code), times=2)
    await store_of(rig).put("k", BODY, when="absent")
    assert rig.stored("k") == BODY
    assert sent(rig) == {
        "CreateMultipartUpload": 3,
        "UploadPart": 15,
        "CompleteMultipartUpload": 3,
        "AbortMultipartUpload": 2,
    }
    settled(rig)


async def test_a_repeated_409_is_a_conflict(rig: Rig) -> None:
    rig.server.cue("CompleteMultipartUpload", faults.conflict, times=99)
    with pytest.raises(Conflict):
        await store_of(rig).put("k", BODY, when="absent")
    assert sent(rig)["CreateMultipartUpload"] == 3
    assert rig.stored("k") is None
    settled(rig)


async def test_an_upload_aborted_by_others_is_started_again(rig: Rig) -> None:
    rig.server.cue("UploadPart", faults.refuse(404, "NoSuchUpload"), nth=3)
    await store_of(rig).put("k", BODY)
    assert rig.stored("k") == BODY
    assert sent(rig)["CreateMultipartUpload"] == 2
    settled(rig)


@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
@pytest.mark.parametrize("fault", [faults.slow_down, faults.reset_before_head, faults.internal_error])
async def test_every_request_of_an_upload_has_its_own_retries(rig: Rig, operation: str, fault: faults.Fault) -> None:
    rig.server.cue(operation, fault, times=2)
    await store_of(rig).put("k", BODY)
    assert rig.stored("k") == BODY
    assert sent(rig)[operation] == {"UploadPart": 7}.get(operation, 3)
    settled(rig)


@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
@pytest.mark.parametrize(
    ("fault", "error"), [(faults.access_denied, AccessDenied), (faults.reset_before_head, NetworkError)]
)
async def test_a_failure_leaves_the_old_object_and_no_upload(
    rig: Rig, operation: str, fault: faults.Fault, error: type[StoreError]
) -> None:
    rig.put("k", b"old")
    rig.server.cue(operation, fault, nth=2 if operation == "UploadPart" else 1, times=99)
    with pytest.raises(error):
        await store_of(rig).put("k", BODY)
    assert rig.stored("k") == b"old"
    assert sent(rig)["AbortMultipartUpload"] if operation != "CreateMultipartUpload" else True
    settled(rig)


async def test_after_a_failed_part_no_further_part_is_started(rig: Rig, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(multipart, "_AT_ONCE", 1)
    rig.server.cue("UploadPart", faults.access_denied, nth=2)
    with pytest.raises(AccessDenied):
        await store_of(rig).put("k", BODY)
    assert sent(rig)["UploadPart"] == 2


async def test_an_upload_that_cannot_be_aborted_is_reported(rig: Rig, caplog: pytest.LogCaptureFixture) -> None:
    rig.server.cue("UploadPart", faults.access_denied)
    rig.server.cue("AbortMultipartUpload", faults.access_denied)
    with pytest.raises(AccessDenied, match="UploadPart"):
        await store_of(rig).put("k", BODY)
    assert "its parts are kept until a lifecycle rule" in caplog.text


async def test_each_request_of_an_upload_has_the_headers_that_s3_requires(rig: Rig) -> None:
    store = store_of(
        rig, sse="aws:kms", sse_kms_key_id="key-1", storage_class="STANDARD_IA", requester_pays=True, checksums="on"
    )
    rig.server.cue("UploadPart", faults.access_denied, nth=1)
    with pytest.raises(AccessDenied):
        await store.put("k", BODY, when="absent")
    await store.put("k", BODY, when="absent")
    (_, begun) = rig.server.requests("CreateMultipartUpload")
    headers = begun.request.headers
    assert headers["x-amz-server-side-encryption"] == "aws:kms"
    assert headers["x-amz-server-side-encryption-aws-kms-key-id"] == "key-1"
    assert headers["x-amz-storage-class"] == "STANDARD_IA"
    assert headers["x-amz-checksum-algorithm"] == "CRC32C"
    for seen in rig.server.seen:
        assert seen.request.headers["x-amz-request-payer"] == "requester", seen.operation
    for seen in rig.server.requests("UploadPart"):
        assert "x-amz-server-side-encryption" not in seen.request.headers
        assert seen.request.headers["x-amz-checksum-crc32c"]
    (completed,) = rig.server.requests("CompleteMultipartUpload")
    assert completed.request.headers["if-none-match"] == "*"
    assert bytes(completed.request.body).count(b"<ChecksumCRC32C>") == 5


@pytest.mark.parametrize("status", [405, 501])
async def test_a_server_without_multipart_uploads_gets_one_put(rig: Rig, status: int) -> None:
    rig.server.cue("CreateMultipartUpload", faults.refuse(status, "NotImplemented"), times=99)
    store = store_of(rig)
    for _ in range(2):
        await store.put("k", BODY)
    assert rig.stored("k") == BODY
    assert sent(rig) == {"CreateMultipartUpload": 1, "PutObject": 2}


# Servers that ignore the completion's precondition


def ignoring(rig: Rig, *names: str) -> None:
    """Make the server ignore these preconditions of completions."""

    def ignored(exchange: Any) -> None:
        headers = {n: v for n, v in exchange.request.headers.items() if n not in names}
        exchange.send(exchange.server.answer(exchange.request._replace(headers=headers)))

    rig.server.cue("CompleteMultipartUpload", ignored, times=99)


async def test_one_conditional_put_is_used_if_completions_ignore_conditions(rig: Rig) -> None:
    store = rig.probing_store(multipart_bytes=2 * PART, part_bytes=PART)
    version = await store.put("k", BODY, when="absent")
    with pytest.raises(Conflict):
        await store.put("k", BODY, when="absent")
    await store.put("k", BODY[::-1], when=version)
    assert rig.stored("k") == BODY[::-1]
    assert rig.server.count("CreateMultipartUpload") == 0


async def test_parts_are_uploaded_with_a_warning_if_no_condition_is_evaluated(rig: Rig) -> None:
    rig.server.ignores = ("if-match", "if-none-match")
    with pytest.warns(RuntimeWarning, match="no conditional writes"):
        await rig.probing_store(multipart_bytes=2 * PART, part_bytes=PART).put("k", BODY, when="absent")
    assert rig.stored("k") == BODY
    assert rig.server.count("UploadPart", "/k") == 5
    settled(rig)


@pytest.mark.parametrize("names", [("if-match",), ("if-none-match",), ("if-match", "if-none-match")], ids=len)
async def test_an_object_too_long_for_one_put_follows_the_option_conditional_writes(
    rig: Rig, monkeypatch: pytest.MonkeyPatch, names: tuple[str, ...]
) -> None:
    monkeypatch.setattr(multipart, "MAX_PUT", 3 * PART)
    ignoring(rig, *names)
    small = {"multipart_bytes": 2 * PART, "part_bytes": PART}
    with pytest.raises(Unsupported, match="multipart-complete"):
        await rig.probing_store(**small, conditional_writes="require").put("k", BODY, when="absent")
    with pytest.warns(RuntimeWarning, match="no conditional writes"):
        await rig.probing_store(**small).put("k", BODY, when="absent")
    assert rig.stored("k") == BODY
    settled(rig)


async def test_without_conditional_writes_objects_are_uploaded_in_parts(rig: Rig) -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        await rig.probing_store(multipart_bytes=2 * PART, part_bytes=PART, conditional_writes="off").put(
            "k", BODY, when="absent"
        )
    assert sent(rig) == {"CreateMultipartUpload": 1, "UploadPart": 5, "CompleteMultipartUpload": 1}


async def test_an_object_too_long_for_one_put_is_completed_under_its_condition(
    rig: Rig, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(multipart, "MAX_PUT", 3 * PART)
    store = rig.probing_store(multipart_bytes=2 * PART, part_bytes=PART)
    version = await store.put("a/k", BODY, when="absent")
    before = sent(rig)["CreateMultipartUpload"]
    assert before == 3, "two of them belong to the probe"
    await store.put("a/k", BODY, when=version)
    assert sent(rig)["CreateMultipartUpload"] == 4, "the probe is not repeated"
    with pytest.raises(Conflict):
        await store.put("a/k", BODY, when=version)
    settled(rig)


# Cancellation


class Turns:
    """A transport that imitates S3 for one upload; it yields to the loop before and after it acts."""

    def __init__(self) -> None:
        self.object = b"old"
        self.uploads: dict[str, dict[int, bytes]] = {}
        self.begun = 0

    async def send(self, request: Request) -> Response:
        await asyncio.sleep(0)
        response = self.act(request)
        await asyncio.sleep(0)
        return response

    def act(self, request: Request) -> Response:
        upload = request.query.get("uploadId", "")
        match request.operation:
            case "CreateMultipartUpload":
                self.begun += 1
                self.uploads[str(self.begun)] = {}
                return Response(200, {}, document={"UploadId": str(self.begun)})
            case "UploadPart":
                self.uploads[upload][int(request.query["partNumber"])] = bytes(request.payload or b"")
                return Response(200, {"etag": '"part"'})
            case "CompleteMultipartUpload":
                self.object = b"".join(data for _, data in sorted(self.uploads.pop(upload).items()))
                return Response(200, {}, document={"ETag": '"new"'})
            case "AbortMultipartUpload":
                del self.uploads[upload]
                return Response(204, {})
        raise AssertionError(request.operation)


@pytest.mark.parametrize("double", [False, True])
async def test_an_upload_cancelled_at_any_await_does_not_stay_open(double: bool) -> None:
    for turns in range(200):
        way = ScriptedRetries(multipart_bytes=2 * PART, part_bytes=PART)
        server = Turns()
        way.retrying._traced = Traced(server, way.events.append)
        put = asyncio.create_task(way.store.put("k", BODY))
        for _ in range(turns):
            await asyncio.sleep(0)
        put.cancel()
        if double:
            await asyncio.sleep(0)
            put.cancel()
        await asyncio.wait([put])
        assert server.uploads == {}
        assert server.object in (b"old", BODY)
        assert way.slots.held == 0
        if not put.cancelled():
            put.result()
            assert server.object == BODY
            assert turns > 8
            return
    raise AssertionError("the upload never completes")


@pytest.mark.parametrize("operation", ["CreateMultipartUpload", "UploadPart", "CompleteMultipartUpload"])
async def test_an_upload_cancelled_during_a_silent_request_does_not_stay_open(
    rig: Rig, operation: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    grace = 2.0 if operation == "UploadPart" else 60.0  # without a response, the whole grace period passes
    monkeypatch.setattr("zarr_s3_async._concurrency.blocking.GRACE", grace)
    rig.put("k", b"old")
    rig.server.cue(operation, faults.stall_before_head if operation == "UploadPart" else late)
    put = asyncio.create_task(store_of(rig).put("k", BODY))
    while not any(seen.fault for seen in rig.server.seen):
        await asyncio.sleep(0.005)
    put.cancel()
    with pytest.raises(asyncio.CancelledError):
        await put
    assert rig.stored("k") == (BODY if operation == "CompleteMultipartUpload" else b"old")
    settled(rig)


def late(exchange: Any) -> None:
    """Carry the request out, and answer after the caller has left."""
    answer = exchange.carry_out()
    exchange.pause(0.05)
    exchange.send(answer)


@pytest.mark.parametrize("double", [False, True])
async def test_an_upload_cancelled_at_any_await_leaves_the_old_or_the_new_object(rig: Rig, double: bool) -> None:
    store = store_of(rig)
    turns, done = 0, False
    while not done:
        rig.put("k", b"old")
        put = asyncio.create_task(store.put("k", BODY))
        for _ in range(turns):
            await asyncio.sleep(0)
        put.cancel()
        if double:
            await asyncio.sleep(0)
            put.cancel()
        await asyncio.wait([put])
        done = not put.cancelled() and bool(put.result())
        assert rig.stored("k") in (b"old", BODY)
        settled(rig)
        turns = turns * 3 // 2 + 1
        assert turns < 100_000
    assert rig.stored("k") == BODY
