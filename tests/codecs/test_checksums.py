"""codecs/checksums.py: checksums stored with the data."""

from __future__ import annotations

import numcodecs
import numpy as np
import pytest
from numcodecs.checksum32 import CRC32, CRC32C, Adler32, JenkinsLookup3

from zarr_s3_async.errors import ChunkDecodeError, MetadataError

from .chains import LITTLE, numbers, pipeline, same

CHUNK = numbers((5, 7), "<i4")

CASES = [
    ("crc32c", {}, CRC32C()),
    ("numcodecs.crc32c", {}, CRC32C()),
    ("numcodecs.crc32c", {"location": "start"}, CRC32C(location="start")),
    ("numcodecs.crc32", {}, CRC32()),
    ("numcodecs.crc32", {"location": "end"}, CRC32(location="end")),
    ("numcodecs.adler32", {"location": None}, Adler32()),
    ("numcodecs.fletcher32", {}, numcodecs.Fletcher32()),
    ("numcodecs.jenkins_lookup3", {}, JenkinsLookup3()),
    ("numcodecs.jenkins_lookup3", {"initval": 7, "prefix": None}, JenkinsLookup3(initval=7)),
]


@pytest.mark.parametrize(("name", "configuration", "reference"), CASES)
@pytest.mark.parametrize("length", [1, 2, 3, 35, 4096])
def test_checksums_write_the_bytes_of_numcodecs(name, configuration, reference, length):
    chunk = numbers((length,), "u1")
    line = pipeline("bytes", (name, configuration), shape=(length,), dtype="u1")
    data = line.encode(chunk)
    assert bytes(data) == bytes(reference.encode(chunk))
    assert len(data) == line.encoded_nbytes == length + 4
    assert same(line.decode(data), chunk)


@pytest.mark.parametrize(("name", "configuration", "reference"), CASES)
def test_every_changed_bit_is_detected(name, configuration, reference):
    line = pipeline(LITTLE, (name, configuration), shape=CHUNK.shape, dtype="<i4")
    good = bytes(line.encode(CHUNK))
    for at in range(len(good)):
        bad = bytearray(good)
        bad[at] ^= 0x10
        with pytest.raises(ChunkDecodeError, match="the checksum of the data is 0x") as caught:
            line.decode(bad)
        assert caught.value.codec == name


@pytest.mark.parametrize("name", [case[0] for case in CASES])
@pytest.mark.parametrize("length", [0, 3, 4, 143, 145])
def test_a_wrong_length_is_detected_before_the_checksum_is_computed(name, length):
    with pytest.raises(ChunkDecodeError, match="with the checksum"):
        pipeline(LITTLE, name, shape=CHUNK.shape, dtype="<i4").decode(bytes(length))


def test_the_checksum_of_the_iscsi_specification_is_computed():
    """RFC 3720, B.4, gives it for 32 bytes of zeros."""
    data = pipeline("bytes", "crc32c", shape=(32,), dtype="u1").encode(np.zeros(32, "u1"))
    assert bytes(data)[-4:] == bytes.fromhex("aa36918a")


def test_a_checksum_of_compressed_bytes_is_checked_before_they_are_decompressed():
    line = pipeline(LITTLE, "gzip", "crc32c", shape=CHUNK.shape, dtype="<i4")
    data = bytearray(line.encode(CHUNK))
    assert same(line.decode(data), CHUNK)
    data[0] ^= 1
    with pytest.raises(ChunkDecodeError, match="'crc32c'"):
        line.decode(data)


@pytest.mark.parametrize(
    ("name", "configuration"),
    [
        ("crc32c", {"location": "end"}),
        ("numcodecs.crc32", {"location": "middle"}),
        ("numcodecs.jenkins_lookup3", {"initval": -1}),
        ("numcodecs.jenkins_lookup3", {"prefix": "abc"}),
    ],
)
def test_a_wrong_option_is_named(name, configuration):
    with pytest.raises(MetadataError, match=f"'{name}'.*'{next(iter(configuration))}'"):
        pipeline(LITTLE, (name, configuration))
