"""Checksums are sent with uploads to Amazon or on request, and verified on downloads on request."""

from __future__ import annotations

import zlib
from base64 import b64encode

import pytest

from zarr_s3_async.byte_range import Span
from zarr_s3_async.errors import ChecksumMismatch
from zarr_s3_async.stores.s3 import checksums as verify
from zarr_s3_async.stores.s3.capabilities import Capabilities
from zarr_s3_async.stores.s3.checksums import checksum_fault
from zarr_s3_async.stores.s3.resume import WORTHWHILE
from zarr_s3_async.stores.s3.store import S3Store

from ...servers import faults
from ...servers.exchange import Exchange, with_header
from .rig import Rig
from .scripted import ScriptedRetries, ok

pytestmark = pytest.mark.asyncio(loop_scope="module")

BODY = b"0123456789" * 10
LONG = bytes(range(256)) * (WORTHWHILE // 256 + 1)


@pytest.fixture(autouse=True)
def stored(rig: Rig) -> None:
    rig.put("k", BODY)


def sums(headers: dict[str, str]) -> dict[str, str]:
    return {name: value for name, value in headers.items() if name.startswith("x-amz-checksum-crc")}


@pytest.mark.parametrize(
    ("checksums", "endpoint", "sent"),
    [
        ("auto", "https://s3.eu-west-3.amazonaws.com", True),
        ("auto", "http://127.0.0.1:9000", False),
        ("on", "http://127.0.0.1:9000", True),
        ("off", "https://s3.eu-west-3.amazonaws.com", False),
    ],
)
async def test_uploads_have_checksums_as_configured(checksums: str, endpoint: str, sent: bool) -> None:
    async def endpoint_url() -> str:
        return endpoint

    retries = ScriptedRetries(ok(b""), checksums=checksums)
    capabilities = Capabilities(endpoint_url, retries.retrying)
    store = S3Store("bucket", transport=retries.retrying, config=retries.config, capabilities=capabilities)
    await store.put("k", BODY)
    found = sums(dict(retries.script.requests[0].headers))
    assert bool(found) is sent
    if found:
        assert checksum_fault(found, BODY) is None
        assert checksum_fault(found, BODY[1:]) is not None


async def test_checksums_reach_the_server_unchanged(rig: Rig) -> None:
    await rig.store(checksums="on").put("k", BODY)
    seen = sums(dict(rig.server.requests("PutObject")[0].request.headers))
    assert len(seen) == 1
    assert checksum_fault(seen, BODY) is None


async def test_checksums_of_downloads_are_requested_only_if_enabled(rig: Rig) -> None:
    rig.server.cue("GetObject", faults.checksum(of=b"else"))
    blob = await rig.store().get("k")
    assert blob is not None
    assert "x-amz-checksum-mode" not in rig.server.requests("GetObject")[0].request.headers


async def test_a_body_with_a_correct_checksum_is_returned(rig: Rig) -> None:
    rig.server.cue("GetObject", faults.checksum())
    blob = await rig.store(checksums="on").get("k")
    assert blob is not None
    assert bytes(blob.data) == BODY
    assert rig.server.requests("GetObject")[0].request.headers["x-amz-checksum-mode"] == "ENABLED"
    assert rig.server.count("GetObject") == 1


async def test_a_body_with_a_wrong_checksum_is_fetched_once_more(rig: Rig) -> None:
    rig.server.cue("GetObject", faults.checksum(of=b"else"))
    blob = await rig.store(checksums="on").get("k")
    assert blob is not None
    assert bytes(blob.data) == BODY
    assert rig.server.count("GetObject") == 2


@pytest.mark.parametrize("inline", [0, 2**20], ids=["in a thread", "inline"])
async def test_a_checksum_that_stays_wrong_is_an_error(rig: Rig, inline: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "_INLINE", inline)
    rig.server.cue("GetObject", faults.checksum(of=b"else"), times=99)
    with pytest.raises(ChecksumMismatch, match="damaged") as caught:
        await rig.store(attempts=5, checksums="on").get("k")
    assert caught.value.key == "root/k"
    assert rig.server.count("GetObject") == 2


async def test_a_range_is_not_compared_with_the_checksum_of_the_object(rig: Rig) -> None:
    rig.server.cue("GetObject", faults.checksum(of=BODY))
    blob = await rig.store(checksums="on").get("k", range=Span(0, 10))
    assert blob is not None
    assert bytes(blob.data) == BODY[:10]


@pytest.mark.parametrize(("of", "right"), [(LONG, True), (b"else", False)], ids=["right", "wrong"])
async def test_the_checksum_of_a_resumed_body_covers_all_of_it(rig: Rig, of: bytes, right: bool) -> None:
    """The checksum is in the first response, the last bytes are in the second."""

    def summed_up_and_broken(exchange: Exchange) -> None:
        answer = exchange.carry_out()
        value = b64encode(zlib.crc32(of).to_bytes(4, "big")).decode()
        head = with_header(answer.head, "x-amz-checksum-crc32", value)
        exchange.write(head + bytes(answer.body)[: len(LONG) // 2])
        exchange.reset()

    rig.put("long", LONG)
    rig.server.cue("GetObject", summed_up_and_broken)
    blob = await rig.store(checksums="on").get("long")
    assert blob is not None
    assert bytes(blob.data) == LONG
    assert "range" in rig.server.requests("GetObject")[1].request.headers
    assert rig.server.count("GetObject") == (2 if right else 3), "after a wrong checksum, the whole body is read again"
