"""Untrusted bytes: every codec returns a chunk of the right kind or a ChunkDecodeError, in bounded memory."""

from __future__ import annotations

import gzip
import random
import tracemalloc

import numcodecs
import numpy as np
import pytest

from zarr_s3_async.errors import ChunkDecodeError

from .chains import BIG, LITTLE, Step, numbers, pipeline

SHAPE = (12, 20)
SHARDING: Step = (
    "sharding_indexed",
    {
        "chunk_shape": [6, 5],
        "codecs": [{"name": "bytes", "configuration": {"endian": "little"}}, {"name": "zstd"}],
        "index_codecs": [{"name": "bytes", "configuration": {"endian": "little"}}],
    },
)
LABELS = {"labels": [str(n) for n in range(100)], "astype": "|u1"}

FIXED: dict[str, list[Step | str]] = {
    "bytes": [BIG],
    "transpose": [("transpose", {"order": [1, 0]}), LITTLE],
    **{
        name: [LITTLE, name]
        for name in (
            "gzip", "zstd", "blosc", "crc32c", "numcodecs.zlib", "numcodecs.bz2", "numcodecs.lzma", "numcodecs.lz4",
            "numcodecs.shuffle", "numcodecs.base64", "numcodecs.adler32", "numcodecs.fletcher32",
        )
    },
    **{
        f"blosc-{cname}-{shuffle}": [LITTLE, ("blosc", {"cname": cname, "shuffle": shuffle, "blocksize": blocksize})]
        for cname in ("blosclz", "lz4", "lz4hc", "zlib", "zstd")
        for shuffle, blocksize in (("noshuffle", 0), ("shuffle", 256), ("bitshuffle", 0))
    },
    "zstd twice": [LITTLE, "zstd", "zstd", "blosc"],
    "delta": [("numcodecs.delta", {"dtype": "<i4", "astype": "<i2"}), "bytes", "zstd"],
    "fixedscaleoffset": [("numcodecs.fixedscaleoffset", {"astype": "<f4", "scale": 3, "offset": 1}), "bytes"],
    "quantize": [("numcodecs.astype", {"encode_dtype": "<f8"}), ("numcodecs.quantize", {"digits": 1}), "bytes"],
    "cast": [("cast_value", {"data_type": "float32", "out_of_range": "clamp"}), LITTLE],
    "scale": [("scale_offset", {"scale": 3}), LITTLE],
    "sharding": [SHARDING],
    "sharding behind": [("transpose", {"order": [0, 1]}), SHARDING, "numcodecs.lz4", "crc32c"],
    "pcodec": ["numcodecs.pcodec"],
}  # fmt: skip
VARIABLE: dict[str, list[Step | str]] = {
    **{
        f"utf8 {name}": ["vlen-utf8", name]
        for name in ("crc32c", "gzip", "zstd", "blosc", "numcodecs.lz4", "numcodecs.lzma")
    },
    "utf8": ["vlen-utf8"],
    "bytes": ["vlen-bytes"],
    "array": [("vlen-array", {"dtype": "<i2"})],
    "categorize": [("numcodecs.categorize", LABELS), "bytes", "numcodecs.zlib"],
}


def mutations(data: bytes, rng: random.Random, count: int):
    """Reproducible damage: flipped bits, removed and repeated parts, words with large numbers."""
    words = [0, 1, 0x7F, 0xFF, 0xFFFF, 2**31 - 1, 2**31, 2**32 - 1, 2**63, 2**64 - 1]
    for _ in range(count):
        damaged = bytearray(data)
        for _ in range(rng.choice((1, 1, 1, 2, 5))):
            at = rng.randrange(max(1, min(len(damaged), rng.choice((8, 32, 10**9)))))
            match rng.randrange(6):
                case 0:
                    damaged[at : at + 1] = bytes([damaged[at] ^ 1 << rng.randrange(8)]) if damaged else b""
                case 1:
                    damaged[at : at + 1] = rng.randbytes(1)
                case 2:
                    word = rng.choice(words).to_bytes(8, "little")[: rng.choice((1, 2, 4, 8))]
                    damaged[at : at + len(word)] = word
                case 3:
                    del damaged[at:]
                case 4:
                    damaged[at:at] = rng.randbytes(rng.randrange(9))
                case 5:
                    damaged += damaged[at:]
        yield bytes(damaged)


def survive(line, data, *, into=True):
    target = np.empty(line.chunk.shape, line.chunk.dtype)
    for out in (None, target) if into else (None,):
        try:
            chunk = line.decode(data, out)
        except ChunkDecodeError:
            continue
        assert chunk.shape == line.chunk.shape
        assert chunk.dtype == line.chunk.dtype
        chunk.copy()


@pytest.mark.parametrize("name", FIXED)
def test_damaged_chunks_of_numbers_are_decoded_or_refused(name):
    if name == "pcodec":
        pytest.importorskip("pcodec")
    rng = random.Random(name)
    line = pipeline(*FIXED[name], shape=SHAPE, dtype="<i4")
    for seed in range(2):
        data = bytes(line.encode(numbers(SHAPE, "<i4", seed) // (1 + 8 * seed) * (3 if name == "scale" else 1)))
        for damaged in mutations(data, rng, 150):
            survive(line, damaged)
        for length in range(0, len(data), max(1, len(data) // 50)):
            survive(line, data[:length])


@pytest.mark.parametrize("name", VARIABLE)
def test_damaged_chunks_of_objects_are_decoded_or_refused(name):
    rng = random.Random(name)
    line = pipeline(*VARIABLE[name], shape=SHAPE, dtype=object, variable_limit=2**20)
    chunk = np.empty(SHAPE, object)
    for at, number in np.ndenumerate(numbers(SHAPE, "<i4")):
        chunk[at] = {"bytes": b"%d" % number, "array": np.arange(number)}.get(name, str(number))
    data = bytes(line.encode(chunk))
    for damaged in mutations(data, rng, 300):
        survive(line, damaged, into=False)


def test_random_bytes_are_refused():
    rng = random.Random(0)
    for steps in FIXED.values():
        if "numcodecs.pcodec" not in steps:
            line = pipeline(*steps, shape=SHAPE, dtype="<i4")
            for length in (0, 1, 4, 16, 100, 959, 960, 961, 1000):
                survive(line, rng.randbytes(length))


NOTHING = bytes(2**26)
BOMBS = {
    "gzip": lambda: gzip.compress(NOTHING, 1),
    "zstd": lambda: numcodecs.Zstd(1).encode(NOTHING),
    "numcodecs.lz4": lambda: numcodecs.LZ4().encode(NOTHING),
    "blosc": lambda: numcodecs.Blosc().encode(NOTHING),
}


def refuse_in_little_memory(line, bomb):
    tracemalloc.start()
    try:
        with pytest.raises(ChunkDecodeError):
            line.decode(bomb)
        assert tracemalloc.get_traced_memory()[1] < 5 * 2**20
    finally:
        tracemalloc.stop()


@pytest.mark.parametrize("name", BOMBS)
@pytest.mark.parametrize("layers", [1, 2])
def test_a_bomb_in_several_layers_takes_no_more_memory_than_the_chunk(name, layers):
    """64 MiB, compressed once and twice, are stored for a chunk of 1 MiB."""
    bomb = BOMBS[name]()
    steps: list[Step | str] = ["bytes", *["gzip"] * (layers - 1), name]
    refuse_in_little_memory(pipeline(*steps, shape=(2**20,), dtype="u1"), bomb)


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_of_strings_takes_no_more_memory_than_the_limit(name):
    bomb = BOMBS[name]()
    refuse_in_little_memory(pipeline("vlen-utf8", name, shape=(4,), dtype=object, variable_limit=2**20), bomb)
