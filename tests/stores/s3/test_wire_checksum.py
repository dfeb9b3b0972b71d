"""S3 checksums: which one is sent with an upload, and which downloads can be verified."""

import base64
import hashlib
import zlib

import pytest

from zarr_s3_async.stores.s3 import checksums as checksum
from zarr_s3_async.stores.s3.checksums import checksum_fault, upload_checksum

BODY = b"123456789"


def b64(data: bytes) -> str:
    return base64.b64encode(data).decode()


SUMS = {
    "crc32c": b64((0xE3069283).to_bytes(4, "big")),  # the check value of CRC-32C's definition (RFC 3720)
    "crc32": b64(zlib.crc32(BODY).to_bytes(4, "big")),
    "sha1": b64(hashlib.sha1(BODY).digest()),
    "sha256": b64(hashlib.sha256(BODY).digest()),
}


@pytest.fixture
def _without_google_crc32c(monkeypatch):
    monkeypatch.setitem(__import__("sys").modules, "google_crc32c", None)
    checksum._algorithms.cache_clear()
    yield
    checksum._algorithms.cache_clear()


def test_an_upload_has_a_crc32c_checksum():
    """It is computed for bytes and for memoryviews."""
    pytest.importorskip("google_crc32c")
    for payload in (BODY, bytearray(BODY), memoryview(BODY), memoryview(b"0" + BODY)[1:]):
        assert upload_checksum(payload) == ("x-amz-checksum-crc32c", SUMS["crc32c"])


@pytest.mark.usefixtures("_without_google_crc32c")
def test_an_upload_has_a_crc32_checksum_if_crc32c_is_slow():
    """S3 accepts either; computing CRC-32C in Python would take longer than the upload."""
    assert upload_checksum(BODY) == ("x-amz-checksum-crc32", SUMS["crc32"])
    assert checksum_fault({"x-amz-checksum-crc32c": SUMS["crc32c"]}, b"other") is None


@pytest.mark.parametrize("name", SUMS)
def test_a_download_is_compared_with_its_checksum(name):
    """With each supported algorithm; the error names it."""
    headers = {f"x-amz-checksum-{name}": SUMS[name], "x-amz-checksum-type": "FULL_OBJECT"}
    assert checksum_fault(headers, BODY) is None
    assert checksum_fault(headers, memoryview(bytearray(BODY))) is None
    assert f"x-amz-checksum-{name}" in checksum_fault(headers, b"123456780")


@pytest.mark.parametrize(
    "headers",
    [
        {},
        {"x-amz-checksum-sha256": "abc=-3"},
        {"x-amz-checksum-sha256": "abc=", "x-amz-checksum-type": "COMPOSITE"},
        {"x-amz-checksum-crc64nvme": "abc="},
    ],
)
def test_a_download_without_a_supported_checksum_is_accepted(headers):
    """The cases: no checksum, the composite checksum of a multipart upload, an unsupported algorithm."""
    assert checksum_fault(headers, BODY) is None
