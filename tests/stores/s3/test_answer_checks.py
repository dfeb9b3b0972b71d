"""Every row of the fault table, by operation: the right error or the right retry, never wrong data.

The server counts requests: only our retry layer retries, and no library below it.
"""

from __future__ import annotations

import asyncio

import pytest

from zarr_s3_async._http.body import MAX_SMALL_BODY
from zarr_s3_async._types import Version
from zarr_s3_async.byte_range import Span
from zarr_s3_async.errors import (
    AccessDenied,
    BucketNotFound,
    Conflict,
    CredentialsExpired,
    DeadlineExceeded,
    NetworkError,
    StoreError,
    Throttled,
    UnexpectedResponse,
    Unsupported,
    WrongRegion,
)
from zarr_s3_async.events import RequestDone
from zarr_s3_async.stores.s3.store import S3Store

from ...promises.virtual_time import elapse
from ...servers import faults
from ...servers.faults import Fault
from .rig import Rig
from .verbs import BODY, FOREVER, READS, VERBS, WITH_BODY, Verb, by_verb, failure, version_of, whole_get

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(autouse=True)
def stored(rig: Rig) -> None:
    rig.put("k", BODY)
    rig.forget()


DOCTYPE = b"<!DOCTYPE Error [<!ENTITY a 'NoSuchKey'>]>"


def page(body: bytes) -> Fault:
    """A 404 page that is not from S3."""
    return faults.refuse(404, body=body)


@by_verb(
    ("no bucket", faults.no_such_bucket, BucketNotFound),
    ("html 404", faults.html_404, UnexpectedResponse),
    ("bare 404", faults.bare_404, UnexpectedResponse),
    ("bare 403", faults.bare_403, AccessDenied),
    ("access denied", faults.access_denied, AccessDenied),
    ("wrong key", faults.refuse(403, "SignatureDoesNotMatch"), AccessDenied),
    ("expired", faults.expired_token, CredentialsExpired),
    ("redirect without a region", faults.refuse(301, "PermanentRedirect"), WrongRegion),
    ("teapot", faults.refuse(418), UnexpectedResponse),
    ("not modified", faults.refuse(304), UnexpectedResponse),
)
async def test_a_refused_request_raises_its_error_after_one_request(
    rig: Rig, fault: Fault, error: type[StoreError], verb: Verb
) -> None:
    version = await version_of(rig)
    rig.server.cue(verb.operation, fault, times=FOREVER)
    raised = await failure(verb, rig.store(), version)
    assert type(raised) is error
    assert rig.server.count(verb.operation) == 1
    assert rig.stored("k") == BODY, "nothing was changed"


@by_verb(
    ("not implemented", faults.refuse(501, "NotImplemented"), Unsupported),
    verbs=tuple(verb for verb in VERBS if verb != "delete many"),  # which then deletes key by key
)
async def test_an_unsupported_operation_is_an_error_after_one_request(
    rig: Rig, fault: Fault, error: type[StoreError], verb: Verb
) -> None:
    await test_a_refused_request_raises_its_error_after_one_request(rig, fault, error, verb)


@by_verb(
    ("error in another document", page(b"<a><Error><Code>NoSuchKey</Code></Error></a>"), UnexpectedResponse),
    (
        "error response",
        page(b"<ErrorResponse><Error><Code>NoSuchKey</Code></Error></ErrorResponse>"),
        UnexpectedResponse,
    ),
    ("error by an entity", page(DOCTYPE + b"<Error><Code>&a;</Code></Error>"), UnexpectedResponse),
    ("half an error", page(b"<Error><Code>NoSuchKey</Code>"), UnexpectedResponse),
    ("error of json", page(b'{"Error": {"Code": "NoSuchKey"}}'), UnexpectedResponse),
    ("code in a header", faults.refuse(404, x_amzn_errortype="NoSuchKey"), UnexpectedResponse),
    verbs=("whole get", "ranged get", "put", "delete", "list"),
)
async def test_a_404_that_is_not_from_s3_is_not_read_as_absence(
    rig: Rig, fault: Fault, error: type[StoreError], verb: Verb
) -> None:
    """On either transport: botocore alone would report `NoSuchKey` for most of these."""
    rig.server.cue(verb.operation, fault, times=FOREVER)
    raised = await failure(verb, rig.store(), Version(""))
    assert type(raised) is error
    assert raised.code is None
    assert rig.server.count(verb.operation) == 1


TRANSIENT = (
    ("500", faults.internal_error, UnexpectedResponse),
    ("503", faults.unavailable, Throttled),
    ("slow down", faults.slow_down, Throttled),
    ("429", faults.too_many, Throttled),
    ("request timeout", faults.request_timeout, UnexpectedResponse),
    ("error in 200", faults.error_in_200, UnexpectedResponse),
    ("page in 200", faults.page_in_200, UnexpectedResponse),
    ("reset", faults.reset_before_head, NetworkError),
    ("close", faults.close_before_head, NetworkError),
    ("garbage", faults.garbage, NetworkError),
    ("huge page", faults.huge_page, UnexpectedResponse),
    ("bad gateway", faults.refuse(502, body=b"<html>502</html>", content_type="text/html"), UnexpectedResponse),
    ("gateway timeout", faults.refuse(504), UnexpectedResponse),
)


CLOSING = (faults.reset_before_head, faults.close_before_head)
"""On a reused connection, these faults are retried immediately (test_stale_connections.py)."""


@by_verb(*TRANSIENT)
async def test_a_transient_fault_is_retried_once(rig: Rig, fault: Fault, error: type[StoreError], verb: Verb) -> None:
    version = await version_of(rig)
    rig.server.cue(verb.operation, fault)
    assert await verb.run(rig.store(), version) == verb.right
    assert rig.server.count(verb.operation) == 2
    assert rig.waits == [0.05] or (rig.waits == [0.0] and fault in CLOSING)


@by_verb(*TRANSIENT)
async def test_a_persistent_fault_is_an_error_after_all_attempts(
    rig: Rig, fault: Fault, error: type[StoreError], verb: Verb
) -> None:
    version = await version_of(rig)
    rig.server.cue(verb.operation, fault, times=FOREVER)
    raised = await failure(verb, rig.store(), version)
    assert type(raised) is error
    # A read whose idle connection was closed is tried once more.
    sendings = (3, 4) if fault in CLOSING and verb.operation in ("GetObject", "ListObjectsV2") else (3,)
    assert raised.attempts in sendings
    assert rig.server.count(verb.operation) == raised.attempts
    assert rig.stored("k") == BODY, "nothing was changed"


@by_verb(
    ("lost answer", faults.lost_answer, None),
    ("lost behind an error", faults.lost_error(), None),
    verbs=("put", "delete", "delete many", "conditional put", "conditional delete"),
)
async def test_a_write_with_a_lost_response_is_repeated_and_takes_effect_once(
    rig: Rig, fault: Fault, error: None, verb: Verb
) -> None:
    version = await version_of(rig)
    rig.server.cue(verb.operation, fault)
    assert await verb.run(rig.store(), version) == verb.right
    assert rig.server.count(verb.operation) == 2
    assert rig.stored("k") == (BODY if verb.operation == "PutObject" else None)


BROKEN = (
    ("reset mid-body", faults.reset_mid_body, NetworkError),
    ("close mid-body", faults.close_mid_body, NetworkError),
    ("close before the last chunk", faults.cut_in_chunks, NetworkError),
)


@by_verb(*BROKEN, verbs=WITH_BODY)
async def test_an_incomplete_response_is_retried_once(
    rig: Rig, fault: Fault, error: type[StoreError], verb: Verb
) -> None:
    version = await version_of(rig)
    rig.server.cue(verb.operation, fault)
    assert await verb.run(rig.store(), version) == verb.right
    assert rig.server.count(verb.operation) == 2


@by_verb(*BROKEN, verbs=WITH_BODY)
async def test_an_incomplete_response_is_never_returned(
    rig: Rig, fault: Fault, error: type[StoreError], verb: Verb
) -> None:
    version = await version_of(rig)
    rig.server.cue(verb.operation, fault, times=FOREVER)
    assert type(await failure(verb, rig.store(), version)) is error
    assert rig.server.count(verb.operation) == 3


@by_verb(("no length", faults.close_without_length, (UnexpectedResponse, NetworkError)), verbs=WITH_BODY)
async def test_a_body_of_unknown_length_is_retried(rig: Rig, fault: Fault, error: type[StoreError], verb: Verb) -> None:
    version = await version_of(rig)
    rig.server.cue(verb.operation, fault)
    assert await verb.run(rig.store(), version) == verb.right
    assert rig.server.count(verb.operation) == 2
    rig.server.cue(verb.operation, fault, times=FOREVER)
    assert isinstance(await failure(verb, rig.store(), version), error)


@by_verb(
    ("no content", faults.changed("204 No Content", content_length=None), UnexpectedResponse),
    ("changed by a proxy", faults.changed("203 Non-Authoritative Information"), UnexpectedResponse),
    ("reset content", faults.changed("205 Reset Content"), UnexpectedResponse),
    ("of another protocol", faults.changed("226 IM Used"), UnexpectedResponse),
    ("without an ETag", faults.changed(etag=None), UnexpectedResponse),
    ("of an empty ETag", faults.changed(etag=""), UnexpectedResponse),
    verbs=READS,
)
async def test_a_success_response_without_an_object_is_retried_and_then_an_error(
    rig: Rig, fault: Fault, error: type[StoreError], verb: Verb
) -> None:
    version = await version_of(rig)
    rig.server.cue("GetObject", fault)
    assert await verb.run(rig.store(), version) == verb.right
    assert rig.server.count("GetObject") == 2
    rig.server.forget()
    rig.server.cue("GetObject", fault, times=FOREVER)
    assert type(await failure(verb, rig.store(), version)) is error
    assert rig.server.count("GetObject") == 3


@by_verb(
    ("two ETags", faults.twice('ETag: "other"'), NetworkError),
    ("two Content-Ranges", faults.twice("Content-Range: bytes 5-49/1000"), NetworkError),
    verbs=("ranged get",),
)
async def test_a_response_with_contradictory_headers_is_rejected(
    rig: Rig, fault: Fault, error: type[StoreError], verb: Verb
) -> None:
    rig.server.cue("GetObject", fault)
    assert await verb.run(rig.store(), Version("")) == verb.right
    rig.server.forget()
    rig.server.cue("GetObject", fault, times=FOREVER)
    assert type(await failure(verb, rig.store(), Version(""))) is error
    assert rig.server.count("GetObject") == 3


async def test_a_put_response_without_an_etag_is_not_accepted(rig: Rig) -> None:
    rig.server.cue("PutObject", faults.changed(etag=""), times=FOREVER)
    assert type(await failure(VERBS["put"], rig.store(), Version(""))) is UnexpectedResponse
    assert rig.server.count("PutObject") == 3


async def test_a_conditional_put_without_an_etag_in_its_response_is_verified_by_its_id(rig: Rig) -> None:
    version = await version_of(rig)
    rig.server.cue("PutObject", faults.changed(etag=""), times=FOREVER)
    assert await rig.store().put("k", b"new", when=version) == (await rig.store().get("k")).version
    assert rig.server.count("PutObject") == 2, "the second attempt fails because of the first one"


async def test_a_range_that_was_not_requested_is_not_returned_as_the_object(rig: Rig) -> None:
    partial = faults.changed("206 Partial Content", content_range="bytes 0-999/5000")
    rig.server.cue("GetObject", partial)
    assert await whole_get(rig.store(), Version("")) == VERBS["whole get"].right
    rig.server.forget()
    rig.server.cue("GetObject", partial, times=FOREVER)
    assert type(await failure(VERBS["whole get"], rig.store(), Version(""))) is UnexpectedResponse
    assert rig.server.count("GetObject") == 3


HARMLESS = {
    "in chunks": faults.in_chunks,
    "stored with an encoding": faults.changed(content_encoding="gzip"),
    "a few interim answers": faults.interim(3),
    "a length in another spelling": faults.changed(content_type="text/html; charset=utf-16"),
    "nonsense in the metadata": faults.changed(x_amz_meta_zarr_s3_async_writes=",,x," + "é" * 100),
}


@pytest.mark.parametrize("verb", READS)
@pytest.mark.parametrize("fault", HARMLESS.values(), ids=HARMLESS)
async def test_unusual_but_valid_responses_are_accepted(rig: Rig, fault: Fault, verb: str) -> None:
    rig.server.cue("GetObject", fault)
    assert await VERBS[verb].run(rig.store(), Version("")) == VERBS[verb].right
    assert rig.attempts == 1


@pytest.mark.parametrize("tag", ['W/"1"', "1", '"1'])
@pytest.mark.parametrize("verb", READS)
async def test_any_etag_can_be_a_version(rig: Rig, tag: str, verb: str) -> None:
    rig.server.cue("GetObject", faults.changed(etag=tag))
    blob = await rig.store().get("k", range=None if verb == "whole get" else Span(5, 50))
    assert blob is not None
    assert blob.version == tag


ODD_HEADERS = [
    "Last-Modified: some time ago",
    "x-amz-mp-parts-count: several",
    "x-amz-object-lock-retain-until-date: forever",
    "x-amz-tagging-count: " + "9" * 5000,
]


@pytest.mark.parametrize("line", ODD_HEADERS)
@pytest.mark.parametrize("verb", READS)
async def test_an_invalid_header_raises_no_exception_of_a_library(rig: Rig, line: str, verb: str) -> None:
    """The SDK parses these headers and raises errors of its own; the wire ignores them."""
    rig.server.cue("GetObject", faults.twice(line), times=FOREVER)
    try:
        assert await VERBS[verb].run(rig.store(), Version("")) == VERBS[verb].right
    except UnexpectedResponse:
        assert rig.server.count("GetObject") == 3


@by_verb(
    *((f"endless {status[:3]}", faults.endless_page(status), None) for status in ("403 No", "404 No", "500 Oops")),
    ("endless chunks", faults.endless_page("503 No", "transfer-encoding: chunked"), None),
    ("endless stream", faults.endless_page("502 No", "connection: close"), None),
    verbs=("ranged get", "conditional put", "delete", "list"),
)
async def test_an_endless_error_page_is_read_up_to_64_kib(rig: Rig, fault: Fault, error: None, verb: Verb) -> None:
    """On either transport, for any status and framing, with the right number of attempts."""
    version = await version_of(rig)
    rig.server.cue(verb.operation, fault, times=FOREVER)
    raised = await failure(verb, rig.store(), version)
    assert raised.status in (403, 404, 500, 502, 503)
    assert rig.server.count(verb.operation) == (1 if raised.status < 500 else 3)
    assert all(done.bytes_received <= MAX_SMALL_BODY for done in rig.events if isinstance(done, RequestDone))
    assert rig.server.connections >= rig.server.count(verb.operation), "no connection is used again"


@by_verb(("interim without end", faults.interim(1000), None))
async def test_endless_interim_responses_are_an_error(rig: Rig, fault: Fault, error: None, verb: Verb) -> None:
    version = await version_of(rig)
    rig.server.cue(verb.operation, fault)
    try:
        assert await verb.run(rig.store(), version) == verb.right
    except Conflict:
        assert verb.operation == "DeleteObject", (
            "the delete is repeated after the rejected response, and then finds nothing to delete"
        )
    assert rig.server.count(verb.operation) <= 2
    await _reads_right(rig, rig.store())


@by_verb(("stall before the head", faults.stall_before_head, DeadlineExceeded))
async def test_a_silent_server_ends_the_attempt_at_its_timeout(
    rig: Rig, fault: Fault, error: type[StoreError], verb: Verb
) -> None:
    version = await version_of(rig)
    rig.server.cue(verb.operation, fault, times=FOREVER)
    store = rig.store(attempts=1, attempt_timeout=100.0)
    passes = asyncio.create_task(elapse(100.0, lambda: rig.server.count(verb.operation) > 0))
    raised = await failure(verb, store, version)
    await passes
    assert type(raised) is error
    assert rig.server.count(verb.operation) == 1


@by_verb(
    ("stall mid-body", faults.stall_mid_body, DeadlineExceeded),
    ("trickle", faults.trickle, DeadlineExceeded),
    verbs=READS,
)
async def test_a_body_that_arrives_too_slowly_ends_the_attempt(
    rig: Rig, fault: Fault, error: type[StoreError], verb: Verb
) -> None:
    version = await version_of(rig)
    rig.server.cue(verb.operation, fault, times=FOREVER)
    raised = await failure(verb, rig.store(attempts=1, attempt_timeout=1.2), version)
    assert type(raised) is error
    assert raised.code == "TooSlow", "the body is below the minimum pace long before the attempt's timeout"


@by_verb(("longer than said", faults.longer_than_said, None))
async def test_bytes_after_a_response_are_never_read_as_the_next_response(
    rig: Rig, fault: Fault, error: None, verb: Verb
) -> None:
    version = await version_of(rig)
    store = rig.store()
    rig.server.cue(verb.operation, fault)
    try:
        assert await verb.run(store, version) == verb.right
    except Conflict:
        assert verb.operation == "DeleteObject", (
            "the delete is repeated after the rejected response, and then finds nothing to delete"
        )
    await _reads_right(rig, store)


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
async def test_bytes_on_an_idle_connection_are_never_read_as_a_response(rig: Rig, verb: Verb) -> None:
    version = await version_of(rig)
    store, more = rig.store(), faults.MoreAfterwards()
    rig.server.cue(verb.operation, more)
    assert await verb.run(store, version) == verb.right
    assert await asyncio.to_thread(more.sent.wait, 10)
    await _reads_right(rig, store)


async def _reads_right(rig: Rig, store: S3Store) -> None:
    for number in range(3):
        body = b"the other %d" % number
        rig.put("other", body)
        blob = await store.get("other")
        assert blob is not None
        assert bytes(blob.data) == body
    rig.remove("other")
