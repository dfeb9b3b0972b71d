"""Every row of the fault table, by operation: the right error or the right retry, never wrong data.

The server counts requests: only our retry layer retries, and no library below it.
"""

from __future__ import annotations

import asyncio
import pickle
import traceback
from collections.abc import Awaitable, Callable
from typing import Any, NamedTuple

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
    ZarrS3Error,
)
from zarr_s3_async.events import RequestDone
from zarr_s3_async.stores.s3.store import S3Store

from ...servers import faults
from ...servers.faults import Fault
from .rig import SECRET, TOKEN, Rig

pytestmark = pytest.mark.asyncio(loop_scope="module")

BODY = b"0123456789" * 100
FOREVER = 1000


@pytest.fixture(autouse=True)
def stored(rig: Rig) -> None:
    rig.put("k", BODY)
    rig.forget()


class Verb(NamedTuple):
    """One operation of a store, and its result without a fault."""

    operation: str
    run: Callable[[S3Store, Version], Awaitable[Any]]
    right: Any


async def whole_get(store: S3Store, _: Version) -> Any:
    blob = await store.get("k")
    return None if blob is None else (bytes(blob.data), blob.size)


async def ranged_get(store: S3Store, _: Version) -> Any:
    blob = await store.get("k", range=Span(5, 50))
    return None if blob is None else (bytes(blob.data), blob.size)


async def put(store: S3Store, _: Version) -> Any:
    return bool(await store.put("k", BODY))


async def conditional_put(store: S3Store, version: Version) -> Any:
    return bool(await store.put("k", BODY, when=version))


async def delete(store: S3Store, _: Version) -> Any:
    return await store.delete("k")


async def conditional_delete(store: S3Store, version: Version) -> Any:
    return await store.delete("k", when=version)


async def delete_many(store: S3Store, _: Version) -> Any:
    return await store.delete_many(["k", "never"])


async def list_all(store: S3Store, _: Version) -> Any:
    return [entry.key for entry in (await store.list_dir("")).entries]


DOCTYPE = b"<!DOCTYPE Error [<!ENTITY a 'NoSuchKey'>]>"


def page(body: bytes) -> Fault:
    """A 404 page that is not from S3."""
    return faults.refuse(404, body=body)


VERBS = {
    "whole get": Verb("GetObject", whole_get, (BODY, len(BODY))),
    "ranged get": Verb("GetObject", ranged_get, (BODY[5:50], len(BODY))),
    "put": Verb("PutObject", put, True),
    "conditional put": Verb("PutObject", conditional_put, True),
    "delete": Verb("DeleteObject", delete, None),
    "conditional delete": Verb("DeleteObject", conditional_delete, None),
    "delete many": Verb("DeleteObjects", delete_many, None),
    "list": Verb("ListObjectsV2", list_all, ["k"]),
}
READS = ("whole get", "ranged get")
WITH_BODY = (*READS, "list", "delete many")


def by_verb(*rows: tuple[str, Fault, Any], verbs: tuple[str, ...] = tuple(VERBS)) -> Any:
    """Each row with each of these operations."""
    cases = [
        pytest.param(fault, error, VERBS[verb], id=f"{name}-{verb}") for name, fault, error in rows for verb in verbs
    ]
    return pytest.mark.parametrize(("fault", "error", "verb"), cases)


async def version_of(rig: Rig) -> Version:
    blob = await rig.store().get("k")
    assert blob is not None
    rig.forget()
    return blob.version


async def failure(verb: Verb, store: S3Store, version: Version) -> StoreError:
    """The error that the operation raises; checks that it is one of ours, pickles, and contains no secrets."""
    with pytest.raises(ZarrS3Error) as caught:
        await verb.run(store, version)
    error = caught.value
    assert isinstance(error, StoreError)
    assert type(error).__module__ == "zarr_s3_async.errors"
    assert pickle.loads(pickle.dumps(error)).args == error.args
    texts = "".join(traceback.format_exception(error)) + repr(vars(error)) + repr(store)
    assert SECRET not in texts
    assert TOKEN not in texts
    return error


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
async def test_a_refusal_is_its_error_after_one_request(
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
async def test_an_operation_that_the_server_lacks_is_an_error_after_one_request(
    rig: Rig, fault: Fault, error: type[StoreError], verb: Verb
) -> None:
    await test_a_refusal_is_its_error_after_one_request(rig, fault, error, verb)


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
async def test_a_404_that_s3_did_not_write_does_not_concern_the_key(
    rig: Rig, fault: Fault, error: type[StoreError], verb: Verb
) -> None:
    """On either transport: botocore alone would report `NoSuchKey` for most of these."""
    rig.server.cue(verb.operation, fault, times=FOREVER)
    raised = await failure(verb, rig.store(), Version(""))
    assert type(raised) is error
    assert raised.code is None
    assert rig.server.count(verb.operation) == 1


PASSING = (
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
"""Where the connection was used before, an attempt after these comes at once (test_stale_connections.py)."""


@by_verb(*PASSING)
async def test_a_passing_fault_is_retried_once(rig: Rig, fault: Fault, error: type[StoreError], verb: Verb) -> None:
    version = await version_of(rig)
    rig.server.cue(verb.operation, fault)
    assert await verb.run(rig.store(), version) == verb.right
    assert rig.server.count(verb.operation) == 2
    assert rig.waits == [0.05] or (rig.waits == [0.0] and fault in CLOSING)


@by_verb(*PASSING)
async def test_a_lasting_fault_is_an_error_after_all_attempts(
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
async def test_a_write_whose_answer_was_lost_is_repeated_and_has_happened_once(
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
async def test_half_an_answer_is_retried_once(rig: Rig, fault: Fault, error: type[StoreError], verb: Verb) -> None:
    version = await version_of(rig)
    rig.server.cue(verb.operation, fault)
    assert await verb.run(rig.store(), version) == verb.right
    assert rig.server.count(verb.operation) == 2


@by_verb(*BROKEN, verbs=WITH_BODY)
async def test_half_an_answer_is_never_returned(rig: Rig, fault: Fault, error: type[StoreError], verb: Verb) -> None:
    version = await version_of(rig)
    rig.server.cue(verb.operation, fault, times=FOREVER)
    assert type(await failure(verb, rig.store(), version)) is error
    assert rig.server.count(verb.operation) == 3


@by_verb(("no length", faults.close_without_length, (UnexpectedResponse, NetworkError)), verbs=WITH_BODY)
async def test_a_body_of_unknown_length_is_not_trusted(
    rig: Rig, fault: Fault, error: type[StoreError], verb: Verb
) -> None:
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
async def test_an_answer_that_is_no_object_is_retried_and_then_an_error(
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
async def test_headers_that_contradict_each_other_are_no_answer(
    rig: Rig, fault: Fault, error: type[StoreError], verb: Verb
) -> None:
    rig.server.cue("GetObject", fault)
    assert await verb.run(rig.store(), Version("")) == verb.right
    rig.server.forget()
    rig.server.cue("GetObject", fault, times=FOREVER)
    assert type(await failure(verb, rig.store(), Version(""))) is error
    assert rig.server.count("GetObject") == 3


async def test_a_put_without_an_etag_is_not_believed(rig: Rig) -> None:
    rig.server.cue("PutObject", faults.changed(etag=""), times=FOREVER)
    assert type(await failure(VERBS["put"], rig.store(), Version(""))) is UnexpectedResponse
    assert rig.server.count("PutObject") == 3


async def test_a_conditional_write_without_an_etag_is_looked_for_where_it_was_put(rig: Rig) -> None:
    version = await version_of(rig)
    rig.server.cue("PutObject", faults.changed(etag=""), times=FOREVER)
    assert await rig.store().put("k", b"new", when=version) == (await rig.store().get("k")).version
    assert rig.server.count("PutObject") == 2, "its own first try is in the way of the second"


async def test_a_range_that_was_not_requested_is_not_the_object(rig: Rig) -> None:
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
async def test_unusual_but_valid_answers_are_accepted(rig: Rig, fault: Fault, verb: str) -> None:
    rig.server.cue("GetObject", fault)
    assert await VERBS[verb].run(rig.store(), Version("")) == VERBS[verb].right
    assert rig.attempts == 1


@pytest.mark.parametrize("tag", ['W/"1"', "1", '"1'])
@pytest.mark.parametrize("verb", READS)
async def test_any_etag_is_a_version(rig: Rig, tag: str, verb: str) -> None:
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
async def test_of_a_page_without_end_64_kib_are_read(rig: Rig, fault: Fault, error: None, verb: Verb) -> None:
    """On either transport, for any status and framing, with the right number of attempts."""
    version = await version_of(rig)
    rig.server.cue(verb.operation, fault, times=FOREVER)
    raised = await failure(verb, rig.store(), version)
    assert raised.status in (403, 404, 500, 502, 503)
    assert rig.server.count(verb.operation) == (1 if raised.status < 500 else 3)
    assert all(done.bytes_received <= MAX_SMALL_BODY for done in rig.events if isinstance(done, RequestDone))
    assert rig.server.connections >= rig.server.count(verb.operation), "none of them serves again"


@by_verb(("interim without end", faults.interim(1000), None))
async def test_interim_answers_without_end_are_given_up(rig: Rig, fault: Fault, error: None, verb: Verb) -> None:
    version = await version_of(rig)
    rig.server.cue(verb.operation, fault)
    try:
        assert await verb.run(rig.store(), version) == verb.right
    except Conflict:
        assert verb.operation == "DeleteObject", "refused, asked again, and then there was nothing to delete"
    assert rig.server.count(verb.operation) <= 2
    await _reads_right(rig, rig.store())


@by_verb(("stall before the head", faults.stall_before_head, DeadlineExceeded))
async def test_silence_ends_with_the_attempt(rig: Rig, fault: Fault, error: type[StoreError], verb: Verb) -> None:
    version = await version_of(rig)
    rig.server.cue(verb.operation, fault, times=FOREVER)
    raised = await failure(verb, rig.store(attempts=1, attempt_timeout=0.1), version)
    assert type(raised) is error
    assert rig.server.count(verb.operation) == 1


@by_verb(
    ("stall mid-body", faults.stall_mid_body, DeadlineExceeded),
    ("trickle", faults.trickle, DeadlineExceeded),
    verbs=READS,
)
async def test_a_body_that_arrives_too_slowly_is_abandoned(
    rig: Rig, fault: Fault, error: type[StoreError], verb: Verb
) -> None:
    version = await version_of(rig)
    rig.server.cue(verb.operation, fault, times=FOREVER)
    raised = await failure(verb, rig.store(attempts=1, attempt_timeout=1.2), version)
    assert type(raised) is error
    assert raised.code == "TooSlow", "the floor, long before the attempt's end"


@by_verb(("longer than said", faults.longer_than_said, None))
async def test_bytes_after_an_answer_are_never_another_answer(rig: Rig, fault: Fault, error: None, verb: Verb) -> None:
    version = await version_of(rig)
    store = rig.store()
    rig.server.cue(verb.operation, fault)
    try:
        assert await verb.run(store, version) == verb.right
    except Conflict:
        assert verb.operation == "DeleteObject", "refused, asked again, and then there was nothing to delete"
    await _reads_right(rig, store)


@pytest.mark.parametrize("verb", VERBS.values(), ids=VERBS)
async def test_bytes_on_an_idle_connection_are_never_an_answer(rig: Rig, verb: Verb) -> None:
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


# Responses whose meaning depends on the operation


@pytest.mark.parametrize("verb", READS)
async def test_no_such_key_is_absent_to_a_read(rig: Rig, verb: str) -> None:
    rig.server.cue("GetObject", faults.no_such_key)
    assert await VERBS[verb].run(rig.store(), Version("")) is None
    assert rig.attempts == 1


async def test_no_such_key_is_success_for_a_delete(rig: Rig) -> None:
    rig.server.cue("DeleteObject", faults.no_such_key)
    assert await delete(rig.store(), Version("")) is None
    assert rig.attempts == 1


@pytest.mark.parametrize("verb", ["put", "list", "delete many"])
async def test_no_such_key_is_no_answer_to_the_others(rig: Rig, verb: str) -> None:
    rig.server.cue(VERBS[verb].operation, faults.no_such_key)
    assert type(await failure(VERBS[verb], rig.store(), Version(""))) is UnexpectedResponse


@pytest.mark.parametrize("fault", [faults.precondition_failed, faults.conflict, faults.no_such_key])
@pytest.mark.parametrize("verb", ["conditional put", "conditional delete"])
async def test_a_lost_race_is_a_conflict_after_one_request(rig: Rig, fault: Fault, verb: str) -> None:
    rig.server.cue(VERBS[verb].operation, fault)
    assert type(await failure(VERBS[verb], rig.store(), Version('"1"'))) is Conflict
    assert rig.attempts == 1


async def test_a_pinned_read_of_another_version_is_a_conflict(rig: Rig) -> None:
    async def pinned(store: S3Store, version: Version) -> Any:
        return await store.get("k", range=Span(0, 4), version=version)

    verb = Verb("GetObject", pinned, None)
    assert type(await failure(verb, rig.store(), Version('"another"'))) is Conflict
    rig.server.cue("GetObject", faults.no_such_key)
    assert type(await failure(verb, rig.store(), Version('"another"'))) is Conflict


@pytest.mark.parametrize("asked", [Span(0, 4), None], ids=["range", "whole"])
async def test_a_pinned_read_returns_its_version_on_servers_that_ignore_conditions(
    rig: Rig, asked: Span | None
) -> None:
    async def pinned(store: S3Store, version: Version) -> Any:
        return await store.get("k", range=asked, version=version)

    verb = Verb("GetObject", pinned, None)
    for careless in (faults.ignoring("if-match"), faults.ignoring("if-match", "range")):
        rig.server.forget()
        rig.server.cue("GetObject", careless, times=FOREVER)
        raised = await failure(verb, rig.store(), Version('"another"'))
        assert type(raised) is Conflict
        assert rig.server.count("GetObject") == 1
        version = (await rig.store().get("k")).version
        assert (await pinned(rig.store(), version)).version == version
        assert (await pinned(rig.store(), Version(f"W/{version}"))).version == version, "the same, weakly"


async def test_a_whole_answer_to_a_range_is_cut(rig: Rig) -> None:
    rig.server.cue("GetObject", faults.whole_for_range)
    assert await ranged_get(rig.store(), Version("")) == VERBS["ranged get"].right
    assert rig.attempts == 1


WRONG_RANGES = {
    "another": faults.content_range("bytes 4-48/1000"),
    "without size": faults.content_range("bytes 5-49/*"),
    "beyond the object": faults.content_range("bytes 5-49/20"),
    "nonsense": faults.content_range("some of it"),
    "short": faults.short_range,
    "endless": faults.content_range("bytes 5-49/" + "9" * 5000),
    "the same length elsewhere": faults.content_range("bytes 6-50/1000"),
}


@pytest.mark.parametrize("fault", WRONG_RANGES.values(), ids=WRONG_RANGES)
async def test_a_wrong_range_is_retried_and_then_an_error(rig: Rig, fault: Fault) -> None:
    rig.server.cue("GetObject", fault)
    assert await ranged_get(rig.store(), Version("")) == VERBS["ranged get"].right
    assert rig.server.count("GetObject") == 2
    rig.server.cue("GetObject", fault, times=FOREVER)
    assert type(await failure(VERBS["ranged get"], rig.store(), Version(""))) is UnexpectedResponse


async def test_a_short_body_is_reported_as_short_as_it_is(rig: Rig) -> None:
    """If Content-Length matches, only the decoder can detect it."""
    rig.server.cue("GetObject", faults.truncated_at(10))
    assert await whole_get(rig.store(), Version("")) == (BODY[:10], 10)


async def test_a_range_past_the_end_is_empty(rig: Rig) -> None:
    blob = await rig.store().get("k", range=Span(5000, 6000))
    assert blob is not None
    assert (bytes(blob.data), blob.size) == (b"", len(BODY))


async def test_416_for_a_range_that_exists_is_not_believed(rig: Rig) -> None:
    rig.server.cue("GetObject", faults.invalid_range)
    assert await ranged_get(rig.store(), Version("")) == VERBS["ranged get"].right
    rig.server.cue("GetObject", faults.invalid_range, times=FOREVER)
    assert type(await failure(VERBS["ranged get"], rig.store(), Version(""))) is UnexpectedResponse


@pytest.mark.parametrize("fault", [faults.bare_404, faults.bare_403, faults.refuse(301), faults.html_404])
async def test_a_head_never_decides_absence(rig: Rig, fault: Fault) -> None:
    rig.server.cue("HeadObject", fault)
    verb = Verb("GetObject", lambda store, _: store.get("k", range=Span(5000, 6000)), None)
    raised = await failure(verb, rig.store(), Version(""))
    assert raised.status == 416, "the GET's word, asked a second time"
    assert rig.server.count("GetObject") == 2


LISTED = "<Contents><Key>root/k</Key><ETag>1</ETag><Size>3</Size></Contents>"
LISTINGS = {
    "of elsewhere": LISTED.replace("root/", "roof/"),
    "of shorter names": LISTED.replace("root/k", "r"),
    "without names": LISTED.replace("<Key>root/k</Key>", ""),
    "without sizes": LISTED.replace("<Size>3</Size>", ""),
    "without ETags": LISTED.replace("<ETag>1</ETag>", ""),
    "of sizes that are none": LISTED.replace("3", "three"),
    "of endless sizes": LISTED.replace("3", "9" * 5000),
    "of folders elsewhere": "<CommonPrefixes><Prefix>roof/</Prefix></CommonPrefixes>",
    "of folders without names": "<CommonPrefixes></CommonPrefixes>",
    "cut off": "<Contents><Key>root/k</K",
    "without an end": "<IsTruncated>true</IsTruncated>",
    "of no characters": LISTED.replace("root/k", "root/&#0;"),
    "of an entity": LISTED.replace("root/k", "root/&a;"),
}


@pytest.mark.parametrize("listed", LISTINGS.values(), ids=LISTINGS)
async def test_an_invalid_listing_is_retried_and_then_an_error(rig: Rig, listed: str) -> None:
    """Never a wrong or a missing name, never an exception of another library."""
    truncated = "" if "IsTruncated" in listed else "<IsTruncated>false</IsTruncated>"
    body = f"<ListBucketResult>{truncated}{listed}</ListBucketResult>".encode()
    rig.server.cue("ListObjectsV2", faults.refuse(200, body=body))
    assert await list_all(rig.store(), Version("")) == ["k"]
    assert rig.server.count("ListObjectsV2") == 2
    rig.server.cue("ListObjectsV2", faults.refuse(200, body=body), times=FOREVER)
    assert type(await failure(VERBS["list"], rig.store(), Version(""))) is UnexpectedResponse


async def test_a_listing_whose_tokens_repeat_ends(rig: Rig) -> None:
    page = "<IsTruncated>true</IsTruncated><NextContinuationToken>here</NextContinuationToken>"
    round_and_round = faults.refuse(200, body=f"<ListBucketResult>{page}{LISTED}</ListBucketResult>".encode())
    rig.server.cue("ListObjectsV2", round_and_round, times=FOREVER)
    with pytest.raises(UnexpectedResponse, match="same continuation token"):
        await rig.store().list_dir("")
    with pytest.raises(UnexpectedResponse, match="same continuation token"):
        [entry async for entry in rig.store().list_prefix("")]


async def test_retry_after_is_waited(rig: Rig) -> None:
    rig.server.cue("GetObject", faults.retry_after(7))
    await rig.store().get("k")
    assert rig.waits == [7.0]


async def test_keys_that_were_not_deleted_are_retried(rig: Rig) -> None:
    error = b"<Error><Key>root/k</Key><Code>SlowDown</Code><Message>x</Message></Error>"
    partly = faults.refuse(200, body=b"<DeleteResult>" + error + b"</DeleteResult>")
    rig.server.cue("DeleteObjects", partly)
    await rig.store().delete_many(["k"])
    assert rig.server.count("DeleteObjects") == 2
    assert rig.stored("k") is None


# Opt-ins


@pytest.mark.parametrize("fault", [faults.bare_404, faults.html_404])
@pytest.mark.parametrize("verb", READS)
async def test_bare_404s_are_missing_where_the_user_specifies_it(rig: Rig, fault: Fault, verb: str) -> None:
    rig.server.cue("GetObject", fault, times=FOREVER)
    assert await VERBS[verb].run(rig.store(accept_bare_404=True), Version("")) is None
    rig.server.forget()
    rig.server.cue("GetObject", faults.no_such_bucket)
    assert type(await failure(VERBS[verb], rig.store(accept_bare_404=True), Version(""))) is BucketNotFound


@pytest.mark.parametrize("verb", READS)
async def test_missing_on_403_is_for_chunk_reads_alone(rig: Rig, verb: str) -> None:
    rig.server.cue("GetObject", faults.access_denied, times=FOREVER)
    store = rig.store(missing_on_403=True)
    assert await VERBS[verb].run(store.for_chunk_reads, Version("")) is None
    assert type(await failure(VERBS[verb], store, Version(""))) is AccessDenied
    assert type(await failure(VERBS[verb], rig.store().for_chunk_reads, Version(""))) is AccessDenied


@pytest.mark.parametrize("verb", ["put", "delete", "list", "conditional delete"])
async def test_missing_on_403_is_for_reads_alone(rig: Rig, verb: str) -> None:
    rig.server.cue(VERBS[verb].operation, faults.access_denied, times=FOREVER)
    store = rig.store(missing_on_403=True).for_chunk_reads
    assert type(await failure(VERBS[verb], store, Version('"1"'))) is AccessDenied


@pytest.mark.parametrize("fault", [faults.bare_403, faults.refuse(403, "SignatureDoesNotMatch"), faults.no_such_bucket])
async def test_missing_on_403_is_s3s_own_access_denied_alone(rig: Rig, fault: Fault) -> None:
    rig.server.cue("GetObject", fault)
    store = rig.store(missing_on_403=True).for_chunk_reads
    await failure(VERBS["whole get"], store, Version(""))


async def test_missing_on_403_does_not_concern_a_pinned_version(rig: Rig) -> None:
    rig.server.cue("GetObject", faults.access_denied)
    store = rig.store(missing_on_403=True).for_chunk_reads
    verb = Verb("GetObject", lambda store, version: store.get("k", version=version), None)
    assert type(await failure(verb, store, Version('"1"'))) is AccessDenied
