"""A store raises only our own errors, whatever a server, a resolver or a text does to the libraries below it."""

from __future__ import annotations

import socket
from typing import Any

import pytest

import zarr_s3_async as zs
from zarr_s3_async._http.dial import Dialer
from zarr_s3_async.stores.s3.store import S3Store

from ...servers import faults
from .rig import BUCKET, Rig

pytestmark = pytest.mark.asyncio(loop_scope="module")

HALF = "\ud800"
ENTRY = "<Key>root/a</Key><ETag>1</ETag><Size>1</Size>"
MULTIPART = {"multipart_bytes": 5 * 2**20, "part_bytes": 5 * 2**20}


def document(name: str, content: str) -> faults.Fault:
    body = f"<{name}>{content}</{name}>".encode()
    return faults.refuse(200, body=body)


LISTINGS = {
    "a key twice": f"<IsTruncated>false</IsTruncated><Contents>{ENTRY}<Key>root/b</Key></Contents>",
    "a size twice": f"<IsTruncated>false</IsTruncated><Contents>{ENTRY}<Size>2</Size></Contents>",
    "a date twice": f"<IsTruncated>false</IsTruncated><Contents>{ENTRY}<LastModified>1</LastModified>"
    "<LastModified>2</LastModified></Contents>",
    "a date out of range": f"<IsTruncated>false</IsTruncated><Contents>{ENTRY}<LastModified>99999-01-01T00:00:00Z"
    "</LastModified></Contents>",
    "a folder without a name": "<IsTruncated>false</IsTruncated><CommonPrefixes></CommonPrefixes>",
    "a folder twice": "<IsTruncated>false</IsTruncated><CommonPrefixes><Prefix>root/a/</Prefix>"
    "<Prefix>root/b/</Prefix></CommonPrefixes>",
    "truncated twice": "<IsTruncated>false</IsTruncated><IsTruncated>true</IsTruncated>",
    "elements in elements": "<IsTruncated><a>false</a></IsTruncated><Contents><Key><b/></Key></Contents>",
    "an invalid size": "<IsTruncated>false</IsTruncated><Contents><Key>root/a</Key><ETag>1</ETag>"
    "<Size>many</Size></Contents>",
    "a token twice": "<IsTruncated>true</IsTruncated><NextContinuationToken>1</NextContinuationToken>"
    "<NextContinuationToken>2</NextContinuationToken>",
}


@pytest.mark.parametrize("content", LISTINGS.values(), ids=LISTINGS)
async def test_an_invalid_listing_raises_one_of_our_errors(rig: Rig, content: str) -> None:
    rig.server.cue("ListObjectsV2", document("ListBucketResult", content), times=1000)
    store = rig.store(attempts=1)
    for listed in (store.list_dir(""), collected(store)):
        try:
            await listed
        except zs.ZarrS3Error:
            continue


async def collected(store: S3Store) -> list[Any]:
    return [found async for found in store.list_prefix()]


RESULTS = {
    "DeleteObjects": ("DeleteResult", "<Deleted><Key>root/k</Key><Key>x</Key></Deleted><Error><Key>1</Key></Error>"),
    "CreateMultipartUpload": ("InitiateMultipartUploadResult", "<UploadId>1</UploadId><UploadId>2</UploadId>"),
    "CompleteMultipartUpload": ("CompleteMultipartUploadResult", "<ETag>1</ETag><ETag>2</ETag>"),
}


@pytest.mark.parametrize("operation", RESULTS)
async def test_an_invalid_result_document_raises_one_of_our_errors(rig: Rig, operation: str) -> None:
    name, content = RESULTS[operation]
    rig.server.cue(operation, document(name, content), times=1000)
    store = rig.store(attempts=1, **MULTIPART)
    with pytest.raises(zs.ZarrS3Error):
        await (store.delete_many(["k"]) if operation == "DeleteObjects" else store.put("k", bytes(6 * 2**20)))


ERRORS = {
    "a code twice": b"<Error><Code>NoSuchKey</Code><Code>AccessDenied</Code></Error>",
    "elements in a code": b"<Error><Code><a>NoSuchKey</a></Code></Error>",
    "two errors": b"<Error><Code>NoSuchKey</Code></Error><Error/>",
    "no text": b"\xff\xfe\x00",
}


@pytest.mark.parametrize("status", [400, 403, 404, 500])
@pytest.mark.parametrize("body", ERRORS.values(), ids=ERRORS)
@pytest.mark.parametrize("operation", ["GetObject", "ListObjectsV2", "PutObject"])
async def test_an_invalid_error_document_raises_one_of_our_errors(
    rig: Rig, operation: str, body: bytes, status: int
) -> None:
    rig.server.cue(operation, faults.refuse(status, body=body), times=1000)
    store = rig.store(attempts=1)
    try:
        match operation:
            case "GetObject":
                assert await store.get("k") is None, "the first code is used, since S3 writes only one"
                assert body == ERRORS["a code twice"]
            case "ListObjectsV2":
                await store.list_dir("")
            case _:
                await store.put("k", b"x")
    except zs.ZarrS3Error:
        return
    assert operation == "GetObject"


@pytest.mark.parametrize("key", [HALF, f"a/{HALF}/b", "\udfff"])
async def test_a_lone_surrogate_in_a_key_or_prefix_is_a_clear_error(rig: Rig, key: str) -> None:
    store = rig.store()
    for call in (
        store.get(key),
        store.put(key, b"x"),
        store.put(key, b"x", when="absent"),
        store.delete(key),
        store.delete_many([key]),
        store.list_dir(key),
    ):
        with pytest.raises(zs.ConfigError, match="surrogate"):
            await call
    with pytest.raises(zs.ConfigError, match="surrogate"):
        store.list_prefix(key)
    assert rig.server.seen == []
    async with zs.Session(s3=rig.config) as session:
        with pytest.raises(zs.ConfigError, match="surrogate"):
            session.s3(BUCKET, key)
        with pytest.raises(zs.ConfigError):
            session.s3(f"buc{HALF}ket", "a")
        with pytest.raises(zs.ConfigError, match="surrogate"):
            await session.open_array(f"s3://{BUCKET}/{key}")


@pytest.mark.parametrize("text", [HALF, "a\nb", "a\r\nx-amz-acl: public-read", "\0"])
@pytest.mark.parametrize("field", ["access_key_id", "secret_access_key", "session_token", "region", "storage_class"])
async def test_options_with_characters_that_headers_cannot_contain_are_refused(field: str, text: str) -> None:
    keys = {"access_key_id": "a", "secret_access_key": "b", "session_token": "c", field: text}
    with pytest.raises(zs.ConfigError, match=field) as caught:
        zs.S3Config(**keys)
    assert repr(text) not in str(caught.value)
    if field in ("access_key_id", "secret_access_key", "session_token"):
        with pytest.raises(zs.ConfigError, match=field):
            zs.Credentials(**{name: keys[name] for name in ("access_key_id", "secret_access_key", "session_token")})


@pytest.mark.parametrize("host", ["a..b", "x" * 70 + ".example"])
async def test_a_host_name_that_no_resolver_accepts_raises_one_of_our_errors(rig: Rig, host: str) -> None:
    transport: Any = "wire" if rig.is_wire else "sdk"
    config = zs.S3Config(
        endpoint_url=f"http://{host}:9",
        region="us-east-1",
        access_key_id="a",
        secret_access_key="b",
        addressing_style="path",
        transport=transport,
    )
    async with zs.Session(s3=config, retry=zs.RetryPolicy(attempts=1)) as session:
        with pytest.raises(zs.ZarrS3Error):
            await session.s3(BUCKET).get("k")


async def test_a_name_without_an_address_is_a_clear_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: [])
    dialer = Dialer("nowhere.example", 80, seconds=5.0, tls=None)
    with pytest.raises(OSError, match="has no address"):
        await dialer.dial(lambda: None)  # type: ignore[arg-type,return-value]  # no protocol is created
