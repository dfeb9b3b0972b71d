"""S3Store builds the correct requests and interprets responses correctly: only NoSuchKey means absent."""

from __future__ import annotations

import pytest

from zarr_s3_async._types import Version
from zarr_s3_async.byte_range import Span, Suffix
from zarr_s3_async.errors import (
    AccessDenied,
    BucketNotFound,
    ConfigError,
    Conflict,
    CredentialsExpired,
    NetworkError,
    StoreError,
    Throttled,
    UnexpectedResponse,
    Unsupported,
    WrongRegion,
)
from zarr_s3_async.stores.s3.request import Response
from zarr_s3_async.stores.s3.write_ids import HEADER

from .scripted import NO_SUCH_KEY, ScriptedRetries, failed, ok


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        (failed(404, "NoSuchBucket"), BucketNotFound),
        (failed(404), UnexpectedResponse),
        (failed(404, "NoSuchUpload"), UnexpectedResponse),
        (failed(403, "AccessDenied"), AccessDenied),
        (failed(403), AccessDenied),
        (failed(403, "InvalidAccessKeyId"), AccessDenied),
        (failed(403, "SignatureDoesNotMatch"), AccessDenied),
        (failed(400, "ExpiredToken"), CredentialsExpired),
        (failed(301, "PermanentRedirect", x_amz_bucket_region="eu-west-1"), WrongRegion),
        (failed(400, "AuthorizationHeaderMalformed"), WrongRegion),
        (failed(503, "SlowDown"), Throttled),
        (failed(429), Throttled),
        (failed(501, "NotImplemented"), Unsupported),
        (failed(418), UnexpectedResponse),
        (NetworkError("reset"), NetworkError),
    ],
    ids=str,
)
@pytest.mark.parametrize("verb", ["get", "put", "delete", "list"])
async def test_no_failure_is_read_as_absence(
    answer: Response | BaseException, error: type[StoreError], verb: str
) -> None:
    store = ScriptedRetries(*[answer] * 3).store
    acts = {
        "get": lambda: store.get("k"),
        "put": lambda: store.put("k", b"x"),
        "delete": lambda: store.delete("k"),
        "list": lambda: store.list_dir(""),
    }
    with pytest.raises(error) as caught:
        await acts[verb]()
    if not isinstance(answer, BaseException):
        assert type(caught.value) is error
        assert caught.value.bucket == "bucket"
        assert caught.value.status == answer.status


async def test_the_error_of_a_wrong_region_names_the_right_one() -> None:
    store = ScriptedRetries(failed(301, "PermanentRedirect", x_amz_bucket_region="eu-west-1")).store
    with pytest.raises(WrongRegion, match="eu-west-1"):
        await store.get("k")


async def test_only_no_such_key_is_absent() -> None:
    assert await ScriptedRetries(NO_SUCH_KEY).store.get("k") is None


async def test_keys_are_requested_below_the_prefix() -> None:
    retries = ScriptedRetries(ok())
    await retries.store.get("0.0")
    assert retries.script.requests[0].key == "root/0.0"
    assert retries.store.url == "s3://bucket/root"


@pytest.mark.parametrize(
    ("requested", "header"), [(Span(3, 7), "bytes=3-6"), (Suffix(5), "bytes=-5"), (None, None)], ids=str
)
async def test_ranges_are_requested_by_the_range_header(requested: Span | Suffix | None, header: str | None) -> None:
    whole = b"0123456789"
    retries = ScriptedRetries(ok(whole))
    blob = await retries.store.get("k", range=requested)
    assert retries.script.requests[0].headers.get("range") == header
    # The script ignores the range, as some servers do; the store cuts it out.
    assert blob is not None
    assert bytes(blob.data) == {Span(3, 7): b"3456", Suffix(5): b"56789", None: whole}[requested]
    assert blob.size == 10


async def test_a_partial_response_gives_the_size_of_the_object() -> None:
    blob = await ScriptedRetries(ok(b"3456", status=206, content_range="bytes 3-6/10")).store.get("k", range=Span(3, 7))
    assert blob is not None
    assert (bytes(blob.data), blob.size) == (b"3456", 10)


@pytest.mark.parametrize(
    "wrong", ["bytes 2-5/10", "bytes 3-6/*", "", "bytes 3-5/10", "bytes 3-6/5", "nonsense"], ids=lambda r: r or "none"
)
async def test_a_wrong_content_range_is_retried_and_then_an_error(wrong: str) -> None:
    retries = ScriptedRetries(*[ok(b"3456", status=206, content_range=wrong)] * 3)
    with pytest.raises(UnexpectedResponse):
        await retries.store.get("k", range=Span(3, 7))
    assert len(retries.script.requests) == 3


async def test_a_range_past_the_end_is_empty_and_the_size_is_known() -> None:
    retries = ScriptedRetries(failed(416, "InvalidRange"), Response(200, {"etag": '"7"', "content-length": "10"}))
    blob = await retries.store.get("k", range=Span(50, 60))
    assert blob is not None
    assert (bytes(blob.data), blob.size, blob.version) == (b"", 10, '"7"')


@pytest.mark.parametrize(
    "answer", [failed(412, "PreconditionFailed"), NO_SUCH_KEY, failed(409, "ConditionalRequestConflict")]
)
async def test_every_response_to_a_lost_race_is_a_conflict(answer: Response) -> None:
    for call in (
        lambda store: store.get("k", version=Version('"1"')),
        lambda store: store.put("k", b"x", when=Version('"1"')),
        lambda store: store.delete("k", when=Version('"1"')),
    ):
        with pytest.raises(Conflict):
            await call(ScriptedRetries(answer).store)


async def test_no_such_bucket_is_not_a_conflict() -> None:
    with pytest.raises(BucketNotFound):
        await ScriptedRetries(failed(404, "NoSuchBucket")).store.put("k", b"x", when=Version('"1"'))


@pytest.mark.parametrize(
    ("when", "headers"),
    [("always", {}), ("absent", {"if-none-match": "*"}), (Version('"7"'), {"if-match": '"7"'})],
)
async def test_a_put_sends_its_precondition(when: str, headers: dict[str, str]) -> None:
    retries = ScriptedRetries(ok(b"", etag='"8"'))
    assert await retries.store.put("k", b"x", when=when) == '"8"'  # type: ignore[arg-type]  # all three forms of When
    sent = dict(retries.script.requests[0].headers)
    assert bool(sent.pop(HEADER, "")) == bool(headers), "every write with a precondition has a write id"
    assert sent == headers


async def test_no_precondition_is_sent_if_conditional_writes_are_off() -> None:
    retries = ScriptedRetries(ok(b""), conditional_writes="off")
    await retries.store.put("k", b"x", when=Version('"7"'))
    assert dict(retries.script.requests[0].headers) == {}


async def test_puts_have_the_storage_options() -> None:
    retries = ScriptedRetries(
        ok(b""), requester_pays=True, sse="aws:kms", sse_kms_key_id="key-1", storage_class="GLACIER_IR"
    )
    await retries.store.put("k", b"x")
    assert dict(retries.script.requests[0].headers) == {
        "x-amz-request-payer": "requester",
        "x-amz-server-side-encryption": "aws:kms",
        "x-amz-server-side-encryption-aws-kms-key-id": "key-1",
        "x-amz-storage-class": "GLACIER_IR",
    }


async def test_a_bulk_delete_sends_a_thousand_keys_per_request() -> None:
    keys = [f"k{i}" for i in range(2500)]
    answers = [{"Deleted": [{"Key": f"root/{key}"} for key in keys[at : at + 1000]]} for at in (0, 1000, 2000)]
    retries = ScriptedRetries(*[Response(200, {}, document=answer) for answer in answers])
    await retries.store.delete_many(keys)
    sizes = [len((request.document or {})["Objects"]) for request in retries.script.requests]
    assert sizes == [1000, 1000, 500]


async def test_a_key_that_was_not_deleted_is_an_error() -> None:
    refused = Response(200, {}, document={"Errors": [{"Key": "root/k", "Code": "AccessDenied", "Message": "no"}]})
    with pytest.raises(AccessDenied, match=r"1 key\(s\)"):
        await ScriptedRetries(refused).store.delete_many(["k"])


async def test_a_listing_reads_all_its_pages() -> None:
    def page(keys: list[str], token: str | None) -> Response:
        contents = [{"Key": f"root/{key}", "Size": 1, "ETag": '"1"'} for key in keys]
        more = {"NextContinuationToken": token} if token else {}
        return Response(200, {}, document={"Contents": contents, "IsTruncated": token is not None, **more})

    retries = ScriptedRetries(page(["a", "b"], "t1"), page(["c"], None))
    assert [entry.key async for entry in retries.store.list_prefix("")] == ["a", "b", "c"]
    assert retries.script.requests[1].query["continuation-token"] == "t1"


@pytest.mark.parametrize("key", ["", "k" * 1020])
async def test_keys_too_long_for_s3_are_refused(key: str) -> None:
    with pytest.raises(ConfigError, match="1024 bytes"):
        await ScriptedRetries().store.get(key)


@pytest.mark.parametrize("range_", [None, Span(0, 4)], ids=["whole", "range"])
async def test_a_response_with_another_version_than_requested_is_a_conflict(
    range_: Span | None,
) -> None:
    """On a server that ignores If-Match, a read pinned to a version would otherwise be torn."""
    status = 200 if range_ is None else 206
    answer = ok(etag='"2"', status=status, content_range="bytes 0-3/9")
    with pytest.raises(Conflict, match='it sent version "2"'):
        await ScriptedRetries(answer).store.get("k", version=Version('"1"'), range=range_)


@pytest.mark.parametrize("etag", ['"1"', 'W/"1"', "1"])
async def test_etags_with_and_without_quotes_are_equal(etag: str) -> None:
    blob = await ScriptedRetries(ok(etag=etag)).store.get("k", version=Version('"1"'))
    assert blob is not None
    assert blob.data == b"data"
