"""Target: the bytes of a chunk, for every codec. The first line of a seed names the chain."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from importlib.util import find_spec
from typing import Any

import numpy as np

from zarr_s3_async.codecs import Pipeline
from zarr_s3_async.codecs.stdlib import _LZMA_MEMORY
from zarr_s3_async.errors import ChunkDecodeError

from ..codecs.chains import BIG, LITTLE, Step, numbers, pipeline
from .oracles import Run, bounded, named, watching_memory

SHAPE = (12, 20)
VARIABLE_LIMIT = 2**18
_LONGEST_MESSAGE = 2000
_BOMB = 6 * 10**6
_LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
_LABELS = {"labels": [str(number) for number in range(100)], "astype": "|u1"}


def _shard(*codecs: Any, **more: Any) -> Step:
    options = {"chunk_shape": [6, 5], "codecs": list(codecs), "index_codecs": [_LITTLE], **more}
    return ("sharding_indexed", options)


NUMBERS: dict[str, list[Step | str]] = {
    "bytes": [BIG],
    "transpose": [("transpose", {"order": [1, 0]}), LITTLE],
    **{
        name: [LITTLE, name]
        for name in (
            *(
                "gzip",
                "zstd",
                "blosc",
                "crc32c",
                "numcodecs.gzip",
                "numcodecs.zstd",
                "numcodecs.blosc",
                "numcodecs.zlib",
            ),
            *("numcodecs.bz2", "numcodecs.lzma", "numcodecs.lz4", "numcodecs.shuffle", "numcodecs.base64"),
            *("numcodecs.adler32", "numcodecs.crc32", "numcodecs.crc32c", "numcodecs.fletcher32"),
            "numcodecs.jenkins_lookup3",
        )
    },
    **{
        f"blosc {cname} {shuffle} {blocksize}": [
            LITTLE,
            ("blosc", {"cname": cname, "shuffle": shuffle, "blocksize": blocksize, "typesize": 4}),
        ]
        for cname in ("blosclz", "lz4", "lz4hc", "zlib", "zstd")
        for shuffle, blocksize in (("noshuffle", 0), ("shuffle", 256), ("bitshuffle", 0))
    },
    "lzma alone": [LITTLE, ("numcodecs.lzma", {"format": 2, "preset": 0})],
    "lzma raw": [LITTLE, ("numcodecs.lzma", {"format": 3, "filters": [{"id": 33, "preset": 0}]})],
    "zstd in zstd in blosc": [LITTLE, "zstd", "zstd", "blosc"],
    "gzip in lz4": [LITTLE, "gzip", "numcodecs.lz4"],
    "astype": [("numcodecs.astype", {"encode_dtype": "<f8"}), "bytes"],
    "bitround": [("numcodecs.astype", {"encode_dtype": "<f4"}), ("numcodecs.bitround", {"keepbits": 20}), "bytes"],
    "bitround of v3": [("cast_value", {"data_type": "float32"}), ("bitround", {"keepbits": 20}), LITTLE],
    "packbits": [("packbits", {"last_bit": 19, "padding_encoding": "last_byte"}), "zstd"],
    "squeeze": [("reshape", {"shape": [-1, 1]}), "zarrs.squeeze", LITTLE],
    "reshape": [("reshape", {"shape": [-1]}), LITTLE, "gzip"],
    "delta": [("numcodecs.delta", {"dtype": "<i4", "astype": "<i2"}), "bytes", "zstd"],
    "fixedscaleoffset": [("numcodecs.fixedscaleoffset", {"astype": "<f4", "scale": 3, "offset": 1}), "bytes"],
    "quantize": [("numcodecs.astype", {"encode_dtype": "<f8"}), ("numcodecs.quantize", {"digits": 1}), "bytes"],
    "cast_value": [("cast_value", {"data_type": "float32", "out_of_range": "clamp"}), LITTLE],
    "scale_offset": [("scale_offset", {"scale": 3}), LITTLE],
    "sharding_indexed": [_shard(_LITTLE, {"name": "zstd"})],
    "sharding start": [_shard(_LITTLE, index_location="start")],
    "sharding behind": [("transpose", {"order": [0, 1]}), _shard(_LITTLE), "numcodecs.lz4", "crc32c"],
    "sharding nested": [
        _shard({"name": "sharding_indexed", "configuration": {**_shard(_LITTLE)[1], "chunk_shape": [3, 5]}})
    ],
}
"""Chains for chunks of <i4."""
if find_spec("pcodec"):
    NUMBERS["numcodecs.pcodec"] = ["numcodecs.pcodec"]
if find_spec("zfpy"):
    NUMBERS["numcodecs.zfpy"] = ["numcodecs.zfpy"]

BOOLS: dict[str, list[Step | str]] = {"numcodecs.packbits": ["numcodecs.packbits", "bytes"]}

OBJECTS: dict[str, list[Step | str]] = {
    **{f"utf8 {name}": ["vlen-utf8", name] for name in ("crc32c", "gzip", "zstd", "blosc", "numcodecs.lz4")},
    "utf8 numcodecs.lzma": ["vlen-utf8", "numcodecs.lzma"],
    "vlen-utf8": ["vlen-utf8"],
    "vlen-bytes": ["vlen-bytes"],
    "json2": ["json2", "zstd"],
    "vlen-array": [("vlen-array", {"dtype": "<i2"})],
    "numcodecs.categorize": [("numcodecs.categorize", _LABELS), "bytes", "numcodecs.zlib"],
}
if find_spec("msgpack"):
    OBJECTS["msgpack2"] = ["msgpack2"]
CHAINS = {**NUMBERS, **BOOLS, **OBJECTS}


@cache
def line_of(name: str) -> Pipeline:
    """The pipeline of a chain."""
    if name in OBJECTS:
        return pipeline(*OBJECTS[name], shape=SHAPE, dtype=object, fill="", variable_limit=VARIABLE_LIMIT)
    return pipeline(*CHAINS[name], shape=SHAPE, dtype="|b1" if name in BOOLS else "<i4")


def chunk_of(name: str, seed: int = 0) -> np.ndarray[Any, Any]:
    """Values that this chain can encode."""
    values = numbers(SHAPE, "<i4", seed)
    if name in BOOLS:
        return values % 2 == 1
    if name not in OBJECTS:
        return values * 3 if name == "scale_offset" else values
    chunk = np.empty(SHAPE, object)
    for at, number in np.ndenumerate(values):
        chunk[at] = {"vlen-bytes": b"%d" % number, "vlen-array": np.arange(number % 5)}.get(name, str(number))
    return chunk


def bomb_of(name: str) -> bytes:
    """Six megabytes of zeros, encoded by this chain."""
    if name in OBJECTS:
        texts = np.full((1,), "" if name in OBJECTS else 0, object)
        texts[0] = {"vlen-bytes": bytes(_BOMB), "vlen-array": np.zeros(_BOMB // 2, "<i2")}.get(name, "0" * _BOMB)
        return bytes(pipeline(*OBJECTS[name], shape=(1,), dtype=object, fill="").encode(texts))
    dtype = np.dtype("|b1" if name in BOOLS else "<i4")
    shape = (600, _BOMB // 600 // dtype.itemsize // 20 * 20)
    return bytes(pipeline(*CHAINS[name], shape=shape, dtype=dtype).encode(np.zeros(shape, dtype)))


@contextmanager
def target() -> Iterator[Run]:
    for name in CHAINS:
        line_of(name).decode(line_of(name).encode(chunk_of(name)))  # so that modules imported on first use are loaded
    with watching_memory():
        yield _run


def _run(data: bytes) -> None:
    name, encoded = named(data)
    if name not in CHAINS:
        return
    line = line_of(name)
    expected = VARIABLE_LIMIT if name in OBJECTS else line.nbytes
    own = _LZMA_MEMORY if "lzma" in name else 0
    outs = [None] if name in OBJECTS else [None, np.empty(line.chunk.shape, line.chunk.dtype)]
    for out in outs:
        with bounded(8 * expected + 8 * len(encoded) + own):
            _decode(line, encoded, out)


def _decode(line: Pipeline, encoded: bytes, out: np.ndarray[Any, Any] | None) -> None:
    try:
        chunk = line.decode(encoded, out)
    except ChunkDecodeError as error:
        refused = error
    else:
        refused = None
    if refused is not None:
        assert refused.codec
        assert len(str(refused)) < _LONGEST_MESSAGE
        return
    assert (chunk.shape, chunk.dtype) == (line.chunk.shape, line.chunk.dtype)
    chunk.copy()
