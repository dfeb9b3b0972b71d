"""Responses whose meaning depends on the operation: absence, conflicts, ranges, listings; and options for them."""

from __future__ import annotations

from typing import Any

import pytest

from zarr_s3_async._types import Version
from zarr_s3_async.byte_range import Span
from zarr_s3_async.errors import AccessDenied, BucketNotFound, Conflict, UnexpectedResponse
from zarr_s3_async.stores.s3.store import S3Store

from ...servers import faults
from ...servers.faults import Fault
from .rig import Rig
from .verbs import BODY, FOREVER, READS, VERBS, Verb, delete, failure, list_all, ranged_get, whole_get

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest.fixture(autouse=True)
def stored(rig: Rig) -> None:
    rig.put("k", BODY)
    rig.forget()


@pytest.mark.parametrize("verb", READS)
async def test_no_such_key_is_absence_for_a_read(rig: Rig, verb: str) -> None:
    rig.server.cue("GetObject", faults.no_such_key)
    assert await VERBS[verb].run(rig.store(), Version("")) is None
    assert rig.attempts == 1


async def test_no_such_key_is_success_for_a_delete(rig: Rig) -> None:
    rig.server.cue("DeleteObject", faults.no_such_key)
    assert await delete(rig.store(), Version("")) is None
    assert rig.attempts == 1


@pytest.mark.parametrize("verb", ["put", "list", "delete many"])
async def test_no_such_key_is_an_unexpected_response_to_other_operations(rig: Rig, verb: str) -> None:
    rig.server.cue(VERBS[verb].operation, faults.no_such_key)
    assert type(await failure(VERBS[verb], rig.store(), Version(""))) is UnexpectedResponse


@pytest.mark.parametrize("fault", [faults.precondition_failed, faults.conflict, faults.no_such_key])
@pytest.mark.parametrize("verb", ["conditional put", "conditional delete"])
async def test_a_lost_race_raises_a_conflict_after_one_request(rig: Rig, fault: Fault, verb: str) -> None:
    rig.server.cue(VERBS[verb].operation, fault)
    assert type(await failure(VERBS[verb], rig.store(), Version('"1"'))) is Conflict
    assert rig.attempts == 1


async def test_a_read_pinned_to_another_version_raises_a_conflict(rig: Rig) -> None:
    async def pinned(store: S3Store, version: Version) -> Any:
        return await store.get("k", range=Span(0, 4), version=version)

    verb = Verb("GetObject", pinned, None)
    assert type(await failure(verb, rig.store(), Version('"another"'))) is Conflict
    rig.server.cue("GetObject", faults.no_such_key)
    assert type(await failure(verb, rig.store(), Version('"another"'))) is Conflict


@pytest.mark.parametrize("requested", [Span(0, 4), None], ids=["range", "whole"])
async def test_a_pinned_read_returns_its_version_on_servers_that_ignore_conditions(
    rig: Rig, requested: Span | None
) -> None:
    async def pinned(store: S3Store, version: Version) -> Any:
        return await store.get("k", range=requested, version=version)

    verb = Verb("GetObject", pinned, None)
    for server_that_ignores_ranges in (faults.ignoring("if-match"), faults.ignoring("if-match", "range")):
        rig.server.forget()
        rig.server.cue("GetObject", server_that_ignores_ranges, times=FOREVER)
        raised = await failure(verb, rig.store(), Version('"another"'))
        assert type(raised) is Conflict
        assert rig.server.count("GetObject") == 1
        version = (await rig.store().get("k")).version
        assert (await pinned(rig.store(), version)).version == version
        assert (await pinned(rig.store(), Version(f"W/{version}"))).version == version, (
            "a weak ETag is compared with the strong one"
        )


async def test_the_requested_range_is_cut_from_a_response_with_the_whole_object(rig: Rig) -> None:
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
async def test_a_response_with_a_wrong_range_is_retried_and_then_an_error(rig: Rig, fault: Fault) -> None:
    rig.server.cue("GetObject", fault)
    assert await ranged_get(rig.store(), Version("")) == VERBS["ranged get"].right
    assert rig.server.count("GetObject") == 2
    rig.server.cue("GetObject", fault, times=FOREVER)
    assert type(await failure(VERBS["ranged get"], rig.store(), Version(""))) is UnexpectedResponse


async def test_a_truncated_object_is_returned_with_its_own_size(rig: Rig) -> None:
    """If Content-Length matches, only the decoder can detect it."""
    rig.server.cue("GetObject", faults.truncated_at(10))
    assert await whole_get(rig.store(), Version("")) == (BODY[:10], 10)


async def test_a_range_past_the_end_is_empty(rig: Rig) -> None:
    blob = await rig.store().get("k", range=Span(5000, 6000))
    assert blob is not None
    assert (bytes(blob.data), blob.size) == (b"", len(BODY))


async def test_416_for_an_existing_range_is_not_accepted(rig: Rig) -> None:
    rig.server.cue("GetObject", faults.invalid_range)
    assert await ranged_get(rig.store(), Version("")) == VERBS["ranged get"].right
    rig.server.cue("GetObject", faults.invalid_range, times=FOREVER)
    assert type(await failure(VERBS["ranged get"], rig.store(), Version(""))) is UnexpectedResponse


@pytest.mark.parametrize("fault", [faults.bare_404, faults.bare_403, faults.refuse(301), faults.html_404])
async def test_absence_is_never_inferred_from_a_head_response(rig: Rig, fault: Fault) -> None:
    rig.server.cue("HeadObject", fault)
    verb = Verb("GetObject", lambda store, _: store.get("k", range=Span(5000, 6000)), None)
    raised = await failure(verb, rig.store(), Version(""))
    assert raised.status == 416, "the error is that of the second GET"
    assert rig.server.count("GetObject") == 2


LISTED = "<Contents><Key>root/k</Key><ETag>1</ETag><Size>3</Size></Contents>"
LISTINGS = {
    "of elsewhere": LISTED.replace("root/", "roof/"),
    "of shorter names": LISTED.replace("root/k", "r"),
    "without names": LISTED.replace("<Key>root/k</Key>", ""),
    "without sizes": LISTED.replace("<Size>3</Size>", ""),
    "without ETags": LISTED.replace("<ETag>1</ETag>", ""),
    "an invalid size": LISTED.replace("3", "three"),
    "a negative size": LISTED.replace("3", "-3"),
    "of endless sizes": LISTED.replace("3", "9" * 5000),
    "of folders elsewhere": "<CommonPrefixes><Prefix>roof/</Prefix></CommonPrefixes>",
    "folders without names": "<CommonPrefixes></CommonPrefixes>",
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


async def test_a_listing_with_repeated_tokens_is_an_error(rig: Rig) -> None:
    page = "<IsTruncated>true</IsTruncated><NextContinuationToken>here</NextContinuationToken>"
    round_and_round = faults.refuse(200, body=f"<ListBucketResult>{page}{LISTED}</ListBucketResult>".encode())
    rig.server.cue("ListObjectsV2", round_and_round, times=FOREVER)
    with pytest.raises(UnexpectedResponse, match="same continuation token"):
        await rig.store().list_dir("")
    with pytest.raises(UnexpectedResponse, match="same continuation token"):
        [entry async for entry in rig.store().list_prefix("")]


async def test_retry_after_is_respected(rig: Rig) -> None:
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
async def test_a_404_without_a_code_is_absence_only_with_the_option(rig: Rig, fault: Fault, verb: str) -> None:
    rig.server.cue("GetObject", fault, times=FOREVER)
    assert await VERBS[verb].run(rig.store(accept_bare_404=True), Version("")) is None
    rig.server.forget()
    rig.server.cue("GetObject", faults.no_such_bucket)
    assert type(await failure(VERBS[verb], rig.store(accept_bare_404=True), Version(""))) is BucketNotFound


@pytest.mark.parametrize("verb", READS)
async def test_missing_on_403_is_used_only_for_chunk_reads(rig: Rig, verb: str) -> None:
    rig.server.cue("GetObject", faults.access_denied, times=FOREVER)
    store = rig.store(missing_on_403=True)
    assert await VERBS[verb].run(store.for_chunk_reads, Version("")) is None
    assert type(await failure(VERBS[verb], store, Version(""))) is AccessDenied
    assert type(await failure(VERBS[verb], rig.store().for_chunk_reads, Version(""))) is AccessDenied


@pytest.mark.parametrize("verb", ["put", "delete", "list", "conditional delete"])
async def test_missing_on_403_is_used_only_for_reads(rig: Rig, verb: str) -> None:
    rig.server.cue(VERBS[verb].operation, faults.access_denied, times=FOREVER)
    store = rig.store(missing_on_403=True).for_chunk_reads
    assert type(await failure(VERBS[verb], store, Version('"1"'))) is AccessDenied


@pytest.mark.parametrize("fault", [faults.bare_403, faults.refuse(403, "SignatureDoesNotMatch"), faults.no_such_bucket])
async def test_missing_on_403_requires_the_code_access_denied(rig: Rig, fault: Fault) -> None:
    rig.server.cue("GetObject", fault)
    store = rig.store(missing_on_403=True).for_chunk_reads
    await failure(VERBS["whole get"], store, Version(""))


async def test_missing_on_403_is_not_used_for_pinned_versions(rig: Rig) -> None:
    rig.server.cue("GetObject", faults.access_denied)
    store = rig.store(missing_on_403=True).for_chunk_reads
    verb = Verb("GetObject", lambda store, version: store.get("k", version=version), None)
    assert type(await failure(verb, store, Version('"1"'))) is AccessDenied
