"""Target: a shard, that is index and chunks, decoded by the format, by the codec and by a read of an array."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import zarr_s3_async as zs
from zarr_s3_async._types import CodecSpec
from zarr_s3_async.codecs import ChunkSpec, ShardFormat, build_pipeline
from zarr_s3_async.errors import ChunkDecodeError, ConcurrentModification

from .oracles import Run, bounded, named, watching_memory

SHAPE, FILL = (8, 6), -1
_LITTLE = {"name": "bytes", "configuration": {"endian": "little"}}
_BIG = {"name": "bytes", "configuration": {"endian": "big"}}
_CRC, _ZSTD = {"name": "crc32c"}, {"name": "zstd", "configuration": {"level": 0, "checksum": False}}
_INNER = {
    "name": "sharding_indexed",
    "configuration": {"chunk_shape": [1, 3], "codecs": [_LITTLE], "index_codecs": [_LITTLE], "index_location": "start"},
}
LAYOUTS: dict[str, dict[str, Any]] = {
    "end": {"codecs": [_LITTLE, _ZSTD], "index_codecs": [_LITTLE, _CRC]},
    "start": {"codecs": [_LITTLE, _ZSTD], "index_codecs": [_LITTLE, _CRC], "index_location": "start"},
    "bare": {"codecs": [_LITTLE], "index_codecs": [_LITTLE]},
    "bare start": {"codecs": [_LITTLE], "index_codecs": [_LITTLE], "index_location": "start"},
    "big": {"codecs": [_BIG, _CRC], "index_codecs": [_BIG]},
    "nested": {"codecs": [_INNER, _ZSTD], "index_codecs": [_LITTLE]},
}
SHARDING = {
    name: CodecSpec("sharding_indexed", {"chunk_shape": [2, 3], **options}) for name, options in LAYOUTS.items()
}
SPEC = ChunkSpec(SHAPE, np.dtype("<i4"), np.int32(FILL))
FORMATS = {name: ShardFormat.from_spec(codec, SPEC) for name, codec in SHARDING.items()}
CODECS = {name: build_pipeline([codec], SPEC) for name, codec in SHARDING.items()}
REGIONS = (((0, 0), (2, 3)), ((0, 0), (4, 3)), ((1, 1), (6, 5)), ((0, 0), SHAPE))
VALUES = np.arange(48, dtype="<i4").reshape(SHAPE)


class _Arrays:
    """One array per layout, of one shard, in memory."""

    def __init__(self) -> None:
        self._runner = asyncio.Runner()
        self._session = zs.Session()
        self._arrays: dict[str, tuple[zs.MemoryStore, zs.Array]] = {}
        self._runner.run(self._open())

    async def _open(self) -> None:
        await self._session.__aenter__()
        for name, codec in SHARDING.items():
            store = zs.MemoryStore()
            codecs = [{"name": codec.name, "configuration": dict(codec.configuration)}]
            document = {
                "zarr_format": 3, "node_type": "array", "shape": SHAPE, "data_type": "int32", "fill_value": FILL,
                "chunk_grid": {"name": "regular", "configuration": {"chunk_shape": SHAPE}},
                "chunk_key_encoding": {"name": "default"}, "codecs": codecs, "attributes": {},
            }  # fmt: skip
            await store.put("zarr.json", _json(document))
            self._arrays[name] = (store, await self._session.open_array(store))

    def read(self, name: str, data: bytes) -> list[np.ndarray[Any, Any] | zs.ZarrS3Error]:
        """The result of a read of each region: data or an error."""
        return self._runner.run(self._read(name, data))

    async def _read(self, name: str, data: bytes) -> list[np.ndarray[Any, Any] | zs.ZarrS3Error]:
        store, array = self._arrays[name]
        await store.put("c/0/0", data)
        self._session._indexes.forget_below("")
        got: list[np.ndarray[Any, Any] | zs.ZarrS3Error] = []
        for start, stop in REGIONS:
            try:
                got.append(await array.get_slice(start, stop))
            except (ChunkDecodeError, ConcurrentModification) as error:
                got.append(error)
        return got

    def close(self) -> None:
        self._runner.run(self._session.aclose())
        self._runner.close()


def _json(document: dict[str, Any]) -> bytes:
    from json import dumps

    return dumps(document).encode()


@contextmanager
def target() -> Iterator[Run]:
    arrays = _Arrays()
    try:
        for name in LAYOUTS:  # so that modules imported on first use are loaded
            arrays.read(name, bytes(CODECS[name].encode(VALUES)))
        with watching_memory():
            yield lambda data: _run(arrays, data)
    finally:
        arrays.close()


def _run(arrays: _Arrays, data: bytes) -> None:
    name, shard = named(data)
    if name not in LAYOUTS:
        return
    _read_the_index(name, shard)
    whole = _decode(name, shard)
    with bounded(8 * VALUES.nbytes + 8 * len(shard)):
        got = arrays.read(name, shard)
    for (start, stop), part in zip(REGIONS, got, strict=True):
        if isinstance(part, zs.ZarrS3Error):
            assert type(part) is ChunkDecodeError, "no other error is possible without a concurrent writer"
            assert part.key == "c/0/0"
            assert part.chunk is not None
            assert all(0 <= at < count for at, count in zip(part.chunk, (4, 2), strict=True))
            assert whole is None, "a shard that decodes as a whole must decode in parts"
            continue
        assert part.shape == tuple(b - a for a, b in zip(start, stop, strict=True))
        if whole is not None:
            assert np.array_equal(part, whole[start[0] : stop[0], start[1] : stop[1]])


def _read_the_index(name: str, shard: bytes) -> None:
    layout = FORMATS[name].layout
    start = 0 if layout.index_location == "start" else max(0, len(shard) - layout.index_nbytes)
    try:
        index = layout.decode_index(shard[start : start + layout.index_nbytes], len(shard))
    except ChunkDecodeError:
        return
    for slot in range(layout.n_chunks):
        span = layout.span(index, slot)
        assert span is None or 0 <= span.start < span.stop <= len(shard)


def _decode(name: str, shard: bytes) -> np.ndarray[Any, Any] | None:
    with bounded(8 * VALUES.nbytes + 8 * len(shard)):
        try:
            whole = CODECS[name].decode(shard)
        except ChunkDecodeError:
            return None
    assert (whole.shape, whole.dtype) == (SHAPE, VALUES.dtype)
    return whole
