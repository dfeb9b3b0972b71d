"""codecs/stdlib.py: the compressors of the standard library."""

from __future__ import annotations

import bz2
import gzip
import lzma
import sys
import tracemalloc
import zlib
from itertools import pairwise

import numcodecs
import numpy as np
import pytest

from zarr_s3_async.codecs import stdlib
from zarr_s3_async.errors import ChunkDecodeError, MetadataError, UnsupportedFeature

from .chains import LITTLE, encodable, numbers, pipeline, same

CHUNK = numbers((50, 40), "<f8")
DATA = CHUNK.tobytes()
BIG = 5 * 2**20 // 8 + 3
"""Number of elements of a chunk that is decoded in several pieces."""

NAMES = ["gzip", "numcodecs.gzip", "numcodecs.zlib", "numcodecs.bz2", "numcodecs.lzma"]
COMPRESS = {
    "gzip": lambda data: gzip.compress(data, 1),
    "numcodecs.zlib": lambda data: zlib.compress(data, 1),
    "numcodecs.bz2": lambda data: bz2.compress(data, 1),
    "numcodecs.lzma": lambda data: lzma.compress(data, preset=0),
}


def line(name, configuration=None, shape=CHUNK.shape):
    return pipeline(LITTLE, (name, configuration or {}), shape=shape, dtype="<f8")


@pytest.mark.parametrize(
    ("name", "configuration", "reference"),
    [
        *(("numcodecs.zlib", {"level": level}, numcodecs.Zlib(level)) for level in (-1, 0, 1, 9)),
        *(("numcodecs.bz2", {"level": level}, numcodecs.BZ2(level)) for level in (1, 9)),
        ("numcodecs.lzma", {"format": 1, "check": -1, "preset": None, "filters": None}, numcodecs.LZMA()),
        ("numcodecs.lzma", {"format": 2, "preset": 1}, numcodecs.LZMA(format=2, preset=1)),
        ("numcodecs.lzma", {"format": 1, "check": 0, "preset": 6}, numcodecs.LZMA(check=0, preset=6)),
        (
            "numcodecs.lzma",
            {"format": 1, "filters": [{"id": 33, "preset": 1}]},
            numcodecs.LZMA(filters=[{"id": 33, "preset": 1}]),
        ),
        (
            "numcodecs.lzma",
            {"format": 3, "filters": [{"id": 3, "dist": 8}, {"id": 33, "preset": 1}]},
            numcodecs.LZMA(format=3, filters=[{"id": 3, "dist": 8}, {"id": 33, "preset": 1}]),
        ),
    ],
)
def test_compressors_write_the_bytes_of_numcodecs(name, configuration, reference):
    codec = line(name, configuration)
    data = codec.encode(CHUNK)
    assert data == reference.encode(CHUNK)
    assert same(codec.decode(data), CHUNK)


@pytest.mark.parametrize("level", [0, 1, 5, 6, 9])
@pytest.mark.parametrize("name", ["gzip", "numcodecs.gzip"])
def test_gzip_writes_the_bytes_of_numcodecs_except_the_time(name, level):
    codec = line(name, {"level": level})
    data = codec.encode(CHUNK)
    reference = numcodecs.GZip(level).encode(CHUNK)
    assert data[:4] + data[8:] == reference[:4] + reference[8:]
    assert data[4:8] == bytes(4)
    assert gzip.decompress(data) == DATA


@pytest.mark.parametrize(("name", "level"), [("gzip", 5), ("numcodecs.gzip", 1)])
def test_gzip_has_the_default_level_of_each_format(name, level):
    assert line(name).encode(CHUNK) == line(name, {"level": level}).encode(CHUNK)


@pytest.mark.parametrize("name", NAMES)
def test_a_chunk_of_many_pieces_is_decoded_into_the_callers_array(name):
    chunk = numbers((BIG,), "<f8")
    codec = line(name, {"preset": 0} if name == "numcodecs.lzma" else {"level": 1}, shape=(BIG,))
    data = codec.encode(chunk)
    out = np.empty_like(chunk)
    assert codec.decode(data, out) is out
    assert same(out, chunk)
    assert same(codec.decode(memoryview(bytearray(data))), chunk)


@pytest.mark.parametrize("name", NAMES)
def test_a_small_chunk_is_decoded_without_a_copy(name):
    codec = line(name)
    out = np.empty_like(CHUNK)
    chunk = codec.decode(codec.encode(CHUNK), out)
    assert chunk is not out
    assert same(chunk, CHUNK)


@pytest.mark.parametrize("name", ["gzip", "numcodecs.bz2", "numcodecs.lzma"])
@pytest.mark.parametrize("parts", [2, 3, 500])
def test_several_members_are_one_chunk(name, parts):
    cuts = np.linspace(0, len(DATA), parts + 1, dtype=int)
    data = b"".join(COMPRESS[name](DATA[a:b]) for a, b in pairwise(cuts))
    assert same(line(name).decode(data), CHUNK)
    assert same(line(name).decode(data + COMPRESS[name](b"")), CHUNK)


def test_zlib_has_one_member():
    with pytest.raises(ChunkDecodeError, match="follow the end"):
        line("numcodecs.zlib").decode(zlib.compress(DATA[:8000]) + zlib.compress(DATA[8000:]))


@pytest.mark.parametrize("name", list(COMPRESS))
@pytest.mark.parametrize("damage", [lambda d: d[:-1], lambda d: d[:-9], lambda d: d[: len(d) // 2], lambda d: b""])
def test_a_truncated_stream_is_refused(name, damage):
    for length in (2000, BIG):
        data = COMPRESS[name](bytes(8 * length))
        with pytest.raises(ChunkDecodeError, match=f"'{name}'"):
            line(name, shape=(length,)).decode(damage(data))


@pytest.mark.parametrize("name", list(COMPRESS))
def test_bytes_after_the_stream_are_refused(name):
    for junk in (b"\0", b"junk" * 5):
        with pytest.raises(ChunkDecodeError, match=f"'{name}'"):
            line(name).decode(COMPRESS[name](DATA) + junk)


@pytest.mark.parametrize("name", list(COMPRESS))
@pytest.mark.parametrize("wrong", [DATA[:-1], DATA + b"x", b"", DATA * 100], ids=["short", "long", "empty", "far"])
def test_a_stream_of_another_size_is_refused(name, wrong):
    with pytest.raises(ChunkDecodeError, match="a chunk has"):
        line(name).decode(COMPRESS[name](wrong))


@pytest.mark.parametrize("name", list(COMPRESS))
def test_a_decompression_bomb_takes_no_more_memory_than_the_chunk(name):
    """64 MiB of zeros for a chunk of 1 MiB. lzma also needs 256 KiB each for its dictionary and its window."""
    bomb = COMPRESS[name](bytes(2**26))
    codec = line(name, shape=(2**17,))
    tracemalloc.start()
    try:
        with pytest.raises(ChunkDecodeError, match="more bytes than"):
            codec.decode(bomb)
        assert tracemalloc.get_traced_memory()[1] < 2**20 * 4
    finally:
        tracemalloc.stop()


def test_decoding_many_tiny_members_takes_linear_time(monkeypatch):
    """The bytes given to decompressors are counted: a copy of the rest for each member would make them quadratic."""
    given = 0
    real = zlib.decompressobj

    class Counting:
        def __init__(self, *options):
            self._real = real(*options)

        def __getattr__(self, name):
            return getattr(self._real, name)

        def decompress(self, data, max_length):
            nonlocal given
            given += len(data)
            return self._real.decompress(data, max_length)

    monkeypatch.setattr(stdlib.zlib, "decompressobj", Counting)
    members = 20_000
    data = gzip.compress(b"") * members + gzip.compress(DATA)
    assert same(line("gzip").decode(data), CHUNK)
    assert given < 3 * len(data) + members * stdlib._SMALL_WINDOW


def test_a_hostile_dictionary_size_is_refused():
    data = bytearray(lzma.compress(DATA, format=lzma.FORMAT_ALONE))
    data[1:5] = (2**31).to_bytes(4, "little")
    with pytest.raises(ChunkDecodeError, match=r"[Mm]emory"):
        line("numcodecs.lzma", {"format": 2}).decode(bytes(data))


@pytest.mark.parametrize("module", ["bz2", "lzma"])
def test_the_error_of_a_missing_standard_library_module_names_it(module, monkeypatch):
    monkeypatch.setitem(sys.modules, module, None)
    with pytest.raises(UnsupportedFeature, match=f"built without {module}"):
        line(f"numcodecs.{module}")


@pytest.mark.parametrize(
    ("name", "configuration", "key"),
    [
        ("gzip", {"level": 10}, "level"),
        ("gzip", {"level": -1}, "level"),
        ("gzip", {"level": "5"}, "level"),
        ("gzip", {"level": False}, "level"),
        ("gzip", {"lvl": 1}, "lvl"),
        ("numcodecs.zlib", {"level": 10}, "level"),
        ("numcodecs.bz2", {"level": 0}, "level"),
        ("numcodecs.lzma", {"format": 4}, "format"),
        ("numcodecs.lzma", {"format": 3}, "filters"),
        ("numcodecs.lzma", {"filters": 5}, "filters"),
        ("numcodecs.lzma", {"format": 3, "filters": [{"id": 33, "dict_size": 2**31}]}, "filters"),
        ("numcodecs.lzma", {"preset": 10}, "preset"),
        ("numcodecs.lzma", {"preset": 1, "filters": [{"id": 33}]}, "filters"),
        ("numcodecs.lzma", {"format": 3, "filters": [{"id": 33, "preset": 1.5}]}, "filters"),
        ("numcodecs.lzma", {"format": 3, "filters": [{"id": 99}]}, "filters"),
        ("numcodecs.lzma", {"format": 2, "check": 4}, "check"),
    ],
)
def test_a_wrong_option_is_named_with_its_codec(name, configuration, key):
    with pytest.raises(MetadataError, match=f"'{name}'.*'{key}'"):
        encodable(line(name, configuration))
